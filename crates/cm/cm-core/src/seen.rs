//! The newest version of each row that this process has seen: an older copy put back in the database is refused at once
//! (`sap.md` §9). A row that this process has never seen is judged by the comparison with the audit log.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use core_types::KeyId;

/// Most keys remembered, some 10 MB; the one that came first goes first.
const MOST: usize = 100_000;

/// Version of a key that is destroyed.
pub(crate) const DESTROYED: i64 = i64::MAX;

#[derive(Default)]
pub(crate) struct Seen(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    versions: HashMap<KeyId, i64>,
    order: VecDeque<KeyId>,
}

impl Seen {
    /// Whether a row of this version can be the newest one.
    pub(crate) fn allows(&self, key: &KeyId, version: i64) -> bool {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.versions.get(key).is_none_or(|seen| *seen <= version)
    }

    /// Takes note of a version that was read, or written and committed.
    pub(crate) fn note(&self, key: &KeyId, version: i64) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = inner.versions.get_mut(key) {
            *seen = (*seen).max(version);
            return;
        }
        inner.versions.insert(key.clone(), version);
        inner.order.push_back(key.clone());
        if inner.order.len() > MOST
            && let Some(first) = inner.order.pop_front()
        {
            inner.versions.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_version_is_never_taken_again() {
        let (seen, key) = (Seen::default(), KeyId::parse("a").unwrap());
        assert!(seen.allows(&key, 1));
        seen.note(&key, 3);
        seen.note(&key, 2);
        assert!(!seen.allows(&key, 2));
        assert!(seen.allows(&key, 3) && seen.allows(&key, 4));
        seen.note(&key, DESTROYED);
        assert!(!seen.allows(&key, 4));
    }
}
