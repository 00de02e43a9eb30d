//! What the log tells of the SAM's act keys.

use std::collections::BTreeMap;

use core_types::{Digest32, UnixTime};
use serde::{Deserialize, Serialize};

/// The keys that count by what the log tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SamTold {
    /// Keys of which each follows one before, and when each was taken.
    taken: BTreeMap<Digest32, UnixTime>,
    /// The one with which they began, for which nobody before vouched.
    first: Option<(Digest32, UnixTime)>,
    /// Keys for which a statement was signed: all that a build tells which remembered none.
    signed: BTreeMap<Digest32, UnixTime>,
}

impl SamTold {
    /// A key was taken, on the word of one before or of none.
    pub(super) fn take(&mut self, key: Digest32, at: UnixTime, vouched: bool) {
        if self.first.is_some_and(|(_, since)| at < since) {
            return;
        }
        if !vouched {
            // Those before are nobody's any more.
            self.taken.retain(|_, taken| *taken >= at);
            self.first = Some((key, at));
        }
        self.taken.insert(key, at);
    }

    pub(super) fn sign(&mut self, key: Digest32, at: UnixTime) {
        self.signed.insert(key, at);
    }

    /// The keys that count, the newest last.
    pub(crate) fn keys(&self) -> Vec<Digest32> {
        let told = match self.taken.is_empty() {
            true => &self.signed,
            false => &self.taken,
        };
        let mut keys: Vec<_> = told.iter().map(|(key, at)| (*at, *key)).collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, key)| key).collect()
    }

    /// Whether only an earlier build tells of any.
    pub(crate) fn only_signed(&self) -> bool {
        self.taken.is_empty() && !self.signed.is_empty()
    }

    /// Whether the newest that was taken is among these, or one of the same second.
    pub(crate) fn newest_among(&self, known: &[Digest32]) -> bool {
        let last = self.taken.values().max();
        let mut newest = self.taken.iter().filter(|(_, at)| Some(*at) == last);
        last.is_none() || newest.any(|(key, _)| known.contains(key))
    }

    /// Whether they began anew since these were all.
    pub(crate) fn began_after(&self, known: &[Digest32]) -> bool {
        self.first.is_some_and(|(key, _)| !known.contains(&key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn key(n: u8) -> Digest32 {
        Digest32([n; 32])
    }

    // shows: III-3-4-authenticate-application, T-KEY-ABUSE
    #[test]
    fn keys_before_a_new_beginning_are_nobodys_any_more() {
        let mut told = SamTold::default();
        assert!(told.newest_among(&[]) && !told.only_signed());
        told.sign(key(1), UnixTime(1));
        told.sign(key(2), UnixTime(2));
        assert!(told.only_signed() && told.newest_among(&[]));
        assert_eq!(told.keys(), [key(1), key(2)]);
        told.take(key(2), UnixTime(3), false);
        told.take(key(3), UnixTime(4), true);
        assert_eq!(told.keys(), [key(2), key(3)]);
        assert!(!told.only_signed());
        assert!(told.newest_among(&[key(3)]) && !told.newest_among(&[key(2)]));
        assert!(!told.began_after(&[key(2)]) && told.began_after(&[key(1)]));
        told.take(key(4), UnixTime(5), false);
        assert_eq!(told.keys(), [key(4)]);
        assert!(told.began_after(&[key(2), key(3)]));
        // In another order.
        told.take(key(5), UnixTime(4), true);
        told.take(key(6), UnixTime(4), false);
        assert_eq!(told.keys(), [key(4)]);
    }
}
