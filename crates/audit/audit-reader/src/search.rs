//! Searching an export, which is checked in the same pass.

use std::path::Path;

use audit_verify::{Known, Report, VerifyError, verify_each};
use core_types::UnixTime;

use crate::entry::Entry;

/// What to look for; empty members match everything (`I-7.1.4.5-search`).
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// From this time on.
    pub from: Option<UnixTime>,
    /// Before this time.
    pub until: Option<UnixTime>,
    /// Types, such as `key.used`, or beginnings of types, such as `key.`.
    pub kinds: Vec<String>,
    /// Person it is about, by the name that entries have.
    pub person: Option<String>,
    /// Key it is about.
    pub key: Option<String>,
    /// Outcome.
    pub outcome: Option<String>,
    /// Class.
    pub class: Option<String>,
}

impl Wanted {
    /// Whether the entry is one of those.
    pub fn fits(&self, entry: &Entry) -> bool {
        let kind = |wanted: &String| {
            entry.kind == *wanted
                || (wanted.ends_with('.') && entry.kind.starts_with(wanted.as_str()))
        };
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        self.from.is_none_or(|from| entry.at >= from)
            && self.until.is_none_or(|until| entry.at < until)
            && (self.kinds.is_empty() || self.kinds.iter().any(kind))
            && is(&self.person, entry.alias())
            && is(&self.key, entry.key())
            && is(&self.outcome, Some(&entry.outcome))
            && is(&self.class, Some(&entry.class))
    }
}

/// What an export has of it.
#[derive(Debug)]
pub struct Searched {
    /// In the order of the log.
    pub entries: Vec<Entry>,
    /// Place behind which there is more.
    pub next: Option<u64>,
    /// What the check of the whole export says. Entries of a bad one may be altered.
    pub report: Report,
}

/// Searches the export in `dir` behind the place `after`.
///
/// # Errors
/// [`VerifyError`] when files or keys can't be read.
pub fn search_export(
    dir: &Path,
    known: Known<'_>,
    wanted: &Wanted,
    after: Option<u64>,
    limit: usize,
) -> Result<Searched, VerifyError> {
    let (mut entries, mut next) = (Vec::new(), None);
    let report = verify_each(dir, known, |seq, text| {
        if next.is_some() || after.is_some_and(|after| seq <= after) {
            return;
        }
        let Some(entry) = Entry::parse(seq, text, None).filter(|entry| wanted.fits(entry)) else {
            return;
        };
        if entries.len() == limit {
            next = entries.last().map(|last: &Entry| last.seq);
        } else {
            entries.push(entry);
        }
    })?;
    Ok(Searched {
        entries,
        next,
        report,
    })
}
