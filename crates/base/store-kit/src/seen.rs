//! The newest version of each row that this process has seen: an older copy put back in the database is refused at
//! once (`sap.md` §9). A row that this process has never seen is judged by nothing here.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use core_types::sha256;

/// Most rows of one memory, some 6 MB; the one that came first goes first. One that lasts has no bound: a million rows take
/// 69 MB, twice that while it grows to them.
const MOST: usize = 100_000;

/// Orders what is noted and what is read: whatever was noted before a read began, that read must show.
static MOMENTS: AtomicU64 = AtomicU64::new(0);

pub(crate) fn moment() -> u64 {
    MOMENTS.load(Ordering::SeqCst)
}

/// Memory of one table. Cheap to clone; all clones share it.
///
/// Judge rows with [`Tx::is_newest`](crate::Tx::is_newest) and tell of those written with
/// [`Tx::wrote`](crate::Tx::wrote): what a transaction reads and writes is noted when it is committed.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    inner: Arc<Mutex<Inner>>,
    recorded: Option<&'static str>,
}

/// A row that a transaction wrote, for the log: table, id, version.
pub type Written = (&'static str, String, i64);

/// What a row is remembered by: half a SHA-256 over its id, which no two ids share by chance or by intent.
type Name = [u8; 16];

fn name(id: &str) -> Name {
    let mut name = Name::default();
    let digest = sha256(&[id.as_bytes()]);
    name.copy_from_slice(&digest.0[..16]);
    name
}

#[derive(Debug, Default)]
struct Inner {
    rows: HashMap<Name, Noted>,
    /// In which order they came; nothing where none is forgotten.
    order: VecDeque<Name>,
    lasts: bool,
}

#[derive(Debug, Clone, Copy)]
struct Noted {
    version: i64,
    at: u64,
}

/// What this memory says of a row that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    /// No newer one is known.
    Newest,
    /// A newer one was noted after the read began: it may have been older rightly.
    Raced,
    /// A newer one was known before the read began.
    Older,
}

impl Seen {
    /// A version that no row has: a row noted with it is never taken for the newest again.
    pub const NEVER: i64 = i64::MAX;

    /// Memory of a table of which the zone's log tells every change: a transaction that writes to it and doesn't hand
    /// [`Tx::take_unrecorded`](crate::Tx::take_unrecorded) to the log is not committed.
    pub fn recorded(table: &'static str) -> Self {
        Self {
            recorded: Some(table),
            ..Self::default()
        }
    }

    /// Memory that forgets no row, for a table of which every row is noted at the start: whatever is put back after that is
    /// refused at once, however many rows there are.
    pub fn lasting() -> Self {
        let inner = Inner {
            lasts: true,
            ..Inner::default()
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            recorded: None,
        }
    }

    /// Takes note of a version that was written and committed.
    pub fn note(&self, id: &str, version: i64) {
        let name = name(id);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let at = MOMENTS.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(seen) = inner.rows.get_mut(&name) {
            if seen.version < version {
                *seen = Noted { version, at };
            }
            return;
        }
        inner.rows.insert(name, Noted { version, at });
        if inner.lasts || version == Self::NEVER {
            return;
        }
        inner.order.push_back(name);
        if inner.order.len() > MOST
            && let Some(first) = inner.order.pop_front()
            // What must not be used again is never forgotten.
            && inner.rows.get(&first).is_some_and(|n| n.version != Self::NEVER)
        {
            inner.rows.remove(&first);
        }
    }

    pub(crate) fn judge(&self, id: &str, version: i64, since: u64) -> Judged {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match inner.rows.get(&name(id)) {
            Some(seen) if seen.version <= version => Judged::Newest,
            Some(seen) if seen.at > since => Judged::Raced,
            Some(_) => Judged::Older,
            None => Judged::Newest,
        }
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

/// What a transaction read or wrote and will have seen once it is committed, and what else is to be done then.
#[derive(Default)]
pub(crate) struct Pending {
    known: HashMap<String, Vec<(Seen, i64)>>,
    unrecorded: BTreeMap<(&'static str, String), i64>,
    after: Vec<Box<dyn FnOnce() + Send>>,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pending({} rows)", self.known.len())
    }
}

impl Pending {
    /// The version this transaction knows of the row.
    pub(crate) fn version(&self, seen: &Seen, id: &str) -> Option<i64> {
        let of = self.known.get(id)?.iter().filter(|(s, _)| s.is(seen));
        of.map(|(_, version)| *version).max()
    }

    pub(crate) fn add(&mut self, seen: &Seen, id: &str, version: i64) {
        let known = self.known.entry(id.to_owned()).or_default();
        known.push((seen.clone(), version));
    }

    pub(crate) fn wrote(&mut self, seen: &Seen, id: &str, version: i64) {
        self.add(seen, id, version);
        if let Some(table) = seen.recorded {
            self.unrecorded.insert((table, id.to_owned()), version);
        }
    }

    pub(crate) fn take_unrecorded(&mut self) -> Vec<Written> {
        let written = std::mem::take(&mut self.unrecorded).into_iter();
        written
            .map(|((table, id), version)| (table, id, version))
            .collect()
    }

    pub(crate) fn is_recorded(&self) -> bool {
        self.unrecorded.is_empty()
    }

    pub(crate) fn then(&mut self, work: impl FnOnce() + Send + 'static) {
        self.after.push(Box::new(work));
    }

    pub(crate) fn note(self) {
        for (id, known) in self.known {
            for (seen, version) in known {
                seen.note(&id, version);
            }
        }
        for work in self.after {
            work();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_version_is_never_taken_again() {
        let seen = Seen::default();
        assert_eq!(seen.judge("a", 1, moment()), Judged::Newest);
        let before = moment();
        seen.note("a", 3);
        seen.note("a", 2);
        assert_eq!(seen.judge("a", 2, moment()), Judged::Older);
        // A read that began before may have met the older row rightly; the memory can't tell.
        assert_eq!(seen.judge("a", 2, before), Judged::Raced);
        assert_eq!(seen.judge("a", 3, moment()), Judged::Newest);
        assert_eq!(seen.judge("a", 4, moment()), Judged::Newest);
        assert_eq!(seen.judge("b", 1, moment()), Judged::Newest);
        seen.note("a", Seen::NEVER);
        assert_eq!(seen.judge("a", 4, moment()), Judged::Older);
    }

    #[test]
    fn the_memory_is_bounded_and_the_oldest_goes_first() {
        let seen = Seen::default();
        for n in 0..=MOST {
            seen.note(&n.to_string(), 5);
        }
        assert_eq!(seen.judge("0", 1, moment()), Judged::Newest);
        assert_eq!(seen.judge("1", 1, moment()), Judged::Older);
        assert_eq!(seen.inner.lock().unwrap().rows.len(), MOST);
    }

    #[test]
    fn a_memory_that_lasts_forgets_no_row() {
        let seen = Seen::lasting();
        for n in 0..=MOST {
            seen.note(&n.to_string(), 5);
        }
        for n in 0..=MOST {
            assert_eq!(seen.judge(&n.to_string(), 4, moment()), Judged::Older);
        }
        let inner = seen.inner.lock().unwrap();
        assert_eq!((inner.rows.len(), inner.order.len()), (MOST + 1, 0));
    }

    #[test]
    fn what_must_not_be_used_again_is_never_forgotten() {
        let seen = Seen::default();
        seen.note("late", 1);
        seen.note("late", Seen::NEVER);
        seen.note("never", Seen::NEVER);
        for n in 0..=MOST {
            seen.note(&n.to_string(), 5);
        }
        for id in ["late", "never"] {
            assert_eq!(seen.judge(id, 9, moment()), Judged::Older, "{id}");
        }
    }
}
