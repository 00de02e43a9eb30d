//! What persons are told of their keys and factors by mail, past the SSA: when, and until when it is tried.

use core_types::retry::next_try;
use core_types::{KeyId, PersonId, UnixTime};
use sam_api::ssa::{Happened, HistoryEntry, StopCause};
use sap::enrol::NoticeAddress;
use serde::{Deserialize, Serialize};

/// No other node sends a notice that was taken for so many seconds.
const LEASE: i64 = 120;
/// A certificate of a short life is told of when this part of its life is left.
const PART: i64 = 3;

/// A notice that waits to be sent, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    /// To whom.
    pub person: PersonId,
    /// Of what.
    pub about: About,
    /// Failures so far.
    pub failures: u32,
    /// Not before this time.
    pub next: UnixTime,
}

/// Of what a notice tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "kebab-case", deny_unknown_fields)]
pub enum About {
    /// What happened.
    News {
        /// Where to: as it was when it happened, so that whoever changes the address later can't hide it.
        to: NoticeAddress,
        /// What, in order.
        entries: Vec<HistoryEntry>,
    },
    /// The certificate of a key is about to end. Whether it still is, and where to, is seen when it is due.
    Ending {
        /// The key.
        key: KeyId,
    },
}

impl Notice {
    /// News, to be sent at once.
    pub fn news(
        person: PersonId,
        to: NoticeAddress,
        entries: Vec<HistoryEntry>,
        now: UnixTime,
    ) -> Self {
        Self {
            person,
            about: About::News { to, entries },
            failures: 0,
            next: now,
        }
    }

    /// The end of a certificate, to be told of at `at`.
    pub fn ending(person: PersonId, key: KeyId, at: UnixTime) -> Self {
        Self {
            person,
            about: About::Ending { key },
            failures: 0,
            next: at,
        }
    }

    /// Whether it is time.
    pub fn is_due(&self, now: UnixTime) -> bool {
        now >= self.next
    }

    /// This node sends it: no other does for a while.
    #[must_use]
    pub fn taken(&self, now: UnixTime) -> Self {
        Self {
            next: now.plus(LEASE),
            ..self.clone()
        }
    }

    /// It wasn't delivered; nothing when it is given up.
    pub fn failed(&self, now: UnixTime) -> Option<Self> {
        let failures = self.failures.saturating_add(1);
        Some(Self {
            failures,
            next: next_try(failures, now)?,
            ..self.clone()
        })
    }
}

/// Whether a person is told of this by mail. Not of the end of a key that was made for the one act which they have just approved.
pub fn is_news(entry: &HistoryEntry) -> bool {
    !(entry.what == Happened::Destroyed && entry.cause == Some(StopCause::Used))
}

/// Whether this is the stop or the end of a key, which takes place also where it can't be noted.
pub fn is_stop(entry: &HistoryEntry) -> bool {
    matches!(entry.what, Happened::Suspended | Happened::Destroyed)
}

/// When the owner of a key is told that its certificate ends at `until`, being accepted at `now`: `lead` seconds before, or when a
/// third of a short life is left. Nothing when nobody is to be told.
pub fn remind_at(now: UnixTime, until: UnixTime, lead: i64) -> Option<UnixTime> {
    let life = until.0.saturating_sub(now.0);
    let lead = lead.min(life / PART);
    (lead > 0).then(|| until.plus(-lead))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;

    // shows: I-A4.1-expiry-notice
    #[test]
    fn the_end_is_told_of_in_time_also_of_short_lives() {
        let now = UnixTime(1_000_000);
        let at = |life, lead| remind_at(now, now.plus(life), lead).map(|at| at.0 - now.0);
        assert_eq!(at(365 * DAY, 30 * DAY), Some(335 * DAY));
        assert_eq!(at(30 * DAY, 30 * DAY), Some(20 * DAY));
        assert_eq!(at(365 * DAY, 0), None);
        assert_eq!(at(-1, 30 * DAY), None);
    }

    #[test]
    fn a_notice_is_tried_with_growing_pauses_and_given_up() {
        let entry = HistoryEntry {
            at: UnixTime(5),
            what: Happened::Suspended,
            key: None,
            factor: None,
            act: None,
            proposal: None,
            cause: Some(StopCause::Login),
        };
        assert!(is_news(&entry) && is_stop(&entry));
        let resumed = HistoryEntry {
            what: Happened::Resumed,
            ..entry.clone()
        };
        assert!(!is_stop(&resumed), "whoever is not told gets nothing back");
        let used = HistoryEntry {
            what: Happened::Destroyed,
            cause: Some(StopCause::Used),
            ..entry.clone()
        };
        assert!(!is_news(&used));
        let to = NoticeAddress {
            mail: "hanako@example.jp".into(),
            lang: None,
        };
        let person = PersonId::parse("p").unwrap();
        let mut notice = Notice::news(person, to, vec![entry], UnixTime(10));
        assert!(notice.is_due(UnixTime(10)) && !notice.is_due(UnixTime(9)));
        assert!(!notice.taken(UnixTime(10)).is_due(UnixTime(100)));
        for _ in 0..8 {
            let next = notice.failed(UnixTime(100)).unwrap();
            assert!(next.next > UnixTime(100) && next.failures == notice.failures + 1);
            notice = next;
        }
        assert_eq!(notice.failed(UnixTime(100)), None);
    }
}
