//! Calls of whoever is nobody here: without a token, with one that was never issued, with a code that isn't there. They are attempts of
//! access and stand in the log (`I-7.1.4.1-log-all-access-attempts`), so that nobody fills it by knocking: the first at once, and those
//! of the minute after it together with the next, or when that minute is over (`Ssa::send_notices`).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use audit_log::Event;
use core_types::{ClientId, UnixTime};
use store_kit::{StoreError, transaction};

use crate::Ssa;

/// Seconds within which calls are one entry.
const MINUTE: i64 = 60;

/// An endpoint, and which client the callers there said to be, if it is one.
type Counted = (&'static str, Option<ClientId>);

/// What was counted on this node.
#[derive(Default)]
pub(crate) struct Strangers(Mutex<BTreeMap<Counted, Seen>>);

struct Seen {
    /// When the last entry was written.
    told: UnixTime,
    /// Calls since then.
    tries: u64,
}

impl Strangers {
    /// Counts one more. Answers how many the entry stands for that has to be written now.
    fn count(&self, counted: &Counted, now: UnixTime) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seen) = all.get_mut(counted) else {
            let told = Seen {
                told: now,
                tries: 0,
            };
            all.insert(counted.clone(), told);
            return Some(1);
        };
        seen.tries = seen.tries.saturating_add(1);
        seen.take(now)
    }

    /// One whose minute is over, and the calls that no entry tells of yet. The same one isn't due twice at a time.
    fn due(&self, now: UnixTime) -> Option<(Counted, u64)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = all
            .iter_mut()
            .filter(|(_, seen)| seen.tries > 0)
            .filter_map(|(counted, seen)| Some((counted.clone(), seen.take(now)?)));
        due.next()
    }

    /// Calls that were taken, and no entry came of it.
    fn put_back(&self, counted: &Counted, tries: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = all.get_mut(counted) {
            seen.tries = seen.tries.saturating_add(tries);
        }
    }
}

impl Seen {
    /// What an entry has to be written of now.
    fn take(&mut self, now: UnixTime) -> Option<u64> {
        let passed = now.0.saturating_sub(self.told.0);
        // A clock that was set back doesn't silence it.
        if (0..MINUTE).contains(&passed) {
            return None;
        }
        self.told = now;
        Some(std::mem::take(&mut self.tries))
    }
}

/// Calls on their way into an entry: they count again if none is written, be it that the store fails or that the caller goes away.
struct Untold<'a> {
    strangers: &'a Strangers,
    counted: Counted,
    tries: u64,
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        self.strangers.put_back(&self.counted, self.tries);
    }
}

impl Ssa {
    /// A call that nobody known made.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be recorded.
    pub(crate) async fn knocked(&self, endpoint: &'static str) -> Result<(), StoreError> {
        self.counted((endpoint, None)).await
    }

    /// The same of a caller who says to be this client and fails too often to be named each time.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be recorded.
    pub(crate) async fn knocked_as(
        &self,
        endpoint: &'static str,
        client: ClientId,
    ) -> Result<(), StoreError> {
        self.counted((endpoint, Some(client))).await
    }

    async fn counted(&self, counted: Counted) -> Result<(), StoreError> {
        match self.strangers().count(&counted, self.now()) {
            Some(tries) => self.tell_knocks(counted, tries).await,
            None => Ok(()),
        }
    }

    /// Writes what was counted and nobody called since.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be recorded; it is due again a minute later.
    pub(crate) async fn tell_strangers(&self) -> Result<(), StoreError> {
        let (now, mut outcome) = (self.now(), Ok(()));
        while let Some((counted, tries)) = self.strangers().due(now) {
            outcome = outcome.and(self.tell_knocks(counted, tries).await);
        }
        outcome
    }

    async fn tell_knocks(&self, counted: Counted, tries: u64) -> Result<(), StoreError> {
        let strangers = self.strangers();
        let mut untold = Untold {
            strangers,
            counted,
            tries,
        };
        let now = self.now();
        transaction!(self.store(), "access-unknown", |tx| {
            let (endpoint, client) = &untold.counted;
            let event = Event::AccessUnknown {
                endpoint: (*endpoint).into(),
                client: client.clone(),
                tries,
            };
            self.audit().append(tx, event, now).await
        })?;
        untold.tries = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_those_after_it_with_the_next() {
        let strangers = Strangers::default();
        let at = |at| strangers.count(&("csc", None), UnixTime(at));
        assert_eq!([at(100), at(100), at(159)], [Some(1), None, None]);
        assert_eq!([at(160), at(161), at(220)], [Some(3), None, Some(2)]);
        let client = ClientId::parse("app").unwrap();
        for other in [("oauth2/token", None), ("csc", Some(client))] {
            assert_eq!(strangers.count(&other, UnixTime(161)), Some(1));
        }
        assert_eq!(at(10), Some(1), "the clock was set back");
    }

    #[test]
    fn what_nobody_follows_up_is_due_when_its_minute_is_over_and_once() {
        let strangers = Strangers::default();
        let due = |at| strangers.due(UnixTime(at));
        for at in [100, 110, 120] {
            strangers.count(&("csc", None), UnixTime(at));
        }
        strangers.count(&("oauth2/token", None), UnixTime(100));
        assert_eq!(
            [due(159), due(160), due(160)],
            [None, Some((("csc", None), 2)), None]
        );
        assert_eq!(due(1000), None, "nothing was counted since");
    }

    #[test]
    fn calls_of_which_no_entry_came_count_again() {
        let strangers = Strangers::default();
        for (at, told) in [(100, Some(1)), (110, None)] {
            assert_eq!(strangers.count(&("csc", None), UnixTime(at)), told);
        }
        let (counted, tries) = strangers.due(UnixTime(160)).unwrap();
        drop(Untold {
            strangers: &strangers,
            counted,
            tries,
        });
        assert_eq!(strangers.due(UnixTime(219)), None);
        assert_eq!(strangers.due(UnixTime(220)), Some((("csc", None), 1)));
    }
}
