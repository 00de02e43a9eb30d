//! What was changed after a signature: every object that a later revision writes must be explained by a rule,
//! or the change counts as [`Level::Other`].
//!
//! Rules: new cross-reference and object streams; new objects that nothing in the signed revision points to;
//! new signature fields with their entry in the form and on a page; filling of empty signature fields; the
//! document security store; document information and metadata. Everything else is unexplained. Each later
//! revision is compared with the signed one, so that a change which is undone again is seen too.

mod graph;
mod rules;

use std::collections::BTreeSet;

use pdf_update::Pdf;

use crate::Result;
use crate::fields::Field;
use crate::locks::Restrictions;

/// Entries of the signed revision that are read at most to find out who points to a changed object.
const MAX_SIGNED_ENTRIES: u64 = 1_000_000;
/// Entries of later revisions that are compared at most.
const MAX_LATER_ENTRIES: u64 = 200_000;
/// Unexplained objects that are listed at most.
const MAX_LISTED: usize = 50;

/// How far changes go, from none to anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing changed.
    None,
    /// Only what long-term validation needs.
    LtaUpdates,
    /// Signature fields were filled or added.
    FormFilling,
    /// Something else.
    Other,
}

impl Level {
    /// Stable name for reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::LtaUpdates => "LTA_UPDATES",
            Self::FormFilling => "FORM_FILLING",
            Self::Other => "OTHER",
        }
    }
}

/// Whether the changes were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evaluated {
    /// All of them.
    Full,
    /// The file is too large or too damaged for it.
    BudgetExceeded,
    /// The signature covers no revision to compare with.
    NotPossible,
}

impl Evaluated {
    /// Stable name for reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::BudgetExceeded => "budget_exceeded",
            Self::NotPossible => "not_possible",
        }
    }
}

/// What was changed after a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modifications {
    /// Whether the rest says anything.
    pub evaluated: Evaluated,
    /// The farthest change.
    pub level: Level,
    /// Revisions after the signed one.
    pub later_revisions: usize,
    /// Names of signature fields that were added or filled.
    pub fields: Vec<String>,
    /// Changes that no rule explains, at most 50.
    pub unexplained: Vec<String>,
}

impl Modifications {
    pub(crate) fn none() -> Self {
        Self {
            evaluated: Evaluated::Full,
            level: Level::None,
            later_revisions: 0,
            fields: Vec::new(),
            unexplained: Vec::new(),
        }
    }

    pub(crate) fn not_evaluated() -> Self {
        Self {
            evaluated: Evaluated::NotPossible,
            level: Level::Other,
            ..Self::none()
        }
    }

    /// Whether a certification `/P` (or none) allows these changes; `None` when they were not evaluated.
    pub(crate) fn allowed_under(&self, doc_mdp: Option<u8>) -> Option<bool> {
        let allowed = if doc_mdp == Some(1) {
            Level::LtaUpdates
        } else {
            Level::FormFilling
        };
        (self.evaluated == Evaluated::Full).then_some(self.level <= allowed)
    }

    fn raise(&mut self, level: Level) {
        self.level = self.level.max(level);
    }

    fn unexplained(&mut self, what: String) {
        self.raise(Level::Other);
        if self.unexplained.len() < MAX_LISTED && !self.unexplained.contains(&what) {
            self.unexplained.push(what);
        }
    }

    fn field(&mut self, name: &str, level: Level) {
        self.raise(level);
        if !self.fields.iter().any(|f| f == name) {
            self.fields.push(name.to_owned());
        }
    }
}

/// Compares the `later` newest revisions of `new` with the signed revision `old`.
pub(crate) fn compare(
    old: &Pdf<'_>,
    new: &Pdf<'_>,
    later: usize,
    fields: &[Field],
    locks: &Restrictions,
) -> Result<Modifications> {
    let mut out = Modifications {
        later_revisions: later,
        ..Modifications::none()
    };
    if new.has_trailing_bytes() {
        out.unexplained("bytes after the end of the file".to_owned());
    }
    let count = new.entry_count().saturating_sub(old.entry_count());
    if count > MAX_LATER_ENTRIES || old.entry_count() > MAX_SIGNED_ENTRIES {
        return Ok(Modifications {
            evaluated: Evaluated::BudgetExceeded,
            level: Level::Other,
            ..out
        });
    }
    if new.is_hybrid() {
        out.unexplained("cross-reference data of two forms".to_owned());
    }
    let written: BTreeSet<u32> = (0..later).flat_map(|i| new.section_numbers(i)).collect();
    let outcome = graph::referrers(old, &written).and_then(|referrers| {
        let mut changed = BTreeSet::new();
        for i in (0..later).rev() {
            changed.extend(new.section_numbers(i));
            let revision = new.at_section(i)?;
            rules::Comparison {
                old,
                new: &revision,
                changed: &changed,
                referrers: &referrers,
                fields,
                locks,
                explained: BTreeSet::new(),
                widgets: BTreeSet::new(),
                out: &mut out,
            }
            .run()?;
        }
        Ok(())
    });
    match outcome {
        Ok(()) => Ok(out),
        Err(pdf_update::Error::Io(e)) => Err(pdf_update::Error::Io(e).into()),
        Err(pdf_update::Error::Limit(_)) => Ok(Modifications {
            evaluated: Evaluated::BudgetExceeded,
            level: Level::Other,
            ..out
        }),
        // What can't be read can't be explained.
        Err(e) => {
            out.unexplained(e.to_string());
            Ok(out)
        }
    }
}
