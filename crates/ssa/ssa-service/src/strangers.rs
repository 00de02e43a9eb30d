//! Calls of whoever is nobody here: without a token, with one that was never issued, with a code that isn't there. They are attempts of
//! access and stand in the log (`I-7.1.4.1-log-all-access-attempts`), so that nobody fills it by knocking: the first at once, and those
//! of the minute after it together with the next.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use audit_log::Event;
use core_types::UnixTime;
use store_kit::{StoreError, transaction};

use crate::Ssa;

/// Seconds within which calls are one entry.
const MINUTE: i64 = 60;

/// What was counted on this node, by endpoint.
#[derive(Default)]
pub(crate) struct Strangers(Mutex<BTreeMap<&'static str, Seen>>);

struct Seen {
    /// When the last entry was written.
    told: UnixTime,
    /// Calls since then.
    tries: u64,
}

impl Strangers {
    /// Counts one more. Answers how many the entry stands for that has to be written now.
    fn count(&self, endpoint: &'static str, now: UnixTime) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seen) = all.get_mut(endpoint) else {
            let told = Seen {
                told: now,
                tries: 0,
            };
            all.insert(endpoint, told);
            return Some(1);
        };
        seen.tries = seen.tries.saturating_add(1);
        let passed = now.0.saturating_sub(seen.told.0);
        // A clock that was set back doesn't silence it.
        if (0..MINUTE).contains(&passed) {
            return None;
        }
        seen.told = now;
        Some(std::mem::take(&mut seen.tries))
    }
}

impl Ssa {
    /// A call that nobody known made.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be recorded.
    pub(crate) async fn knocked(&self, endpoint: &'static str) -> Result<(), StoreError> {
        let now = self.now();
        let Some(tries) = self.strangers().count(endpoint, now) else {
            return Ok(());
        };
        transaction!(self.store(), "access-unknown", |tx| {
            let endpoint = endpoint.into();
            let event = Event::AccessUnknown { endpoint, tries };
            self.audit().append(tx, event, now).await.map(drop)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_those_after_it_with_the_next() {
        let strangers = Strangers::default();
        let at = |at| strangers.count("csc", UnixTime(at));
        assert_eq!([at(100), at(100), at(159)], [Some(1), None, None]);
        assert_eq!([at(160), at(161), at(220)], [Some(3), None, Some(2)]);
        assert_eq!(strangers.count("oauth2/token", UnixTime(161)), Some(1));
        assert_eq!(at(10), Some(1), "the clock was set back");
    }
}
