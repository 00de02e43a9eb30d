//! What is told of the logs themselves: one that can't be read, is shorter than it was, or gives out what isn't its own.

use std::collections::BTreeMap;

use core_types::UnixTime;
use serde::{Deserialize, Serialize};

use crate::rules::{Alert, severity};

/// Rule of a log that can't be read for a time.
pub(crate) const UNREAD: &str = "log-unread";
/// Rule of a log that can be read again.
pub(crate) const AGAIN: &str = "log-read-again";

/// A zone's log gave an entry of another zone out. `zone`: whose log it is.
pub fn foreign(zone: &str, now: UnixTime) -> Alert {
    of_a_log("alarm", zone, "entry-of-another-zone", now)
}

/// A zone's log is shorter than it was: an old copy of its store was put back.
pub fn set_back(zone: &str, now: UnixTime) -> Alert {
    of_a_log("alarm", zone, "log-set-back", now)
}

/// An entry of a zone's log isn't one: no rule has judged it. `seq`: its place in the log.
pub fn entry_unread(zone: &str, seq: u64, now: UnixTime) -> Alert {
    Alert {
        seq: Some(seq),
        ..of_a_log("entry-unread", zone, "", now)
    }
}

/// Logs that can't be read now, by their addresses. Whoever runs a zone could shut its log; that is told, too.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Silences {
    logs: BTreeMap<String, Silence>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Silence {
    since: UnixTime,
    told: bool,
}

impl Silences {
    /// The log at `url` couldn't be read. Told with every round, once that has been so for `seconds`.
    pub fn unread(&mut self, zone: &str, url: &str, seconds: i64, now: UnixTime) -> Option<Alert> {
        let log = self.logs.entry(url.to_owned()).or_insert(Silence {
            since: now,
            told: false,
        });
        if now.0.saturating_sub(log.since.0) < seconds {
            return None;
        }
        log.told = true;
        Some(of_a_log(UNREAD, zone, url, now))
    }

    /// The log at `url` was read. Told if it was told that it couldn't be.
    pub fn read(&mut self, zone: &str, url: &str, now: UnixTime) -> Option<Alert> {
        let before = self.logs.remove(url)?;
        before.told.then(|| of_a_log(AGAIN, zone, url, now))
    }
}

fn of_a_log(rule: &str, zone: &str, about: &str, now: UnixTime) -> Alert {
    Alert {
        rule: rule.to_owned(),
        severity: severity(rule),
        at: now,
        zone: zone.to_owned(),
        about: about.to_owned(),
        seq: None,
        kind: String::new(),
        targets: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Quiet;

    const URL: &str = "https://sam.example:8451";

    #[test]
    fn a_log_that_stays_unread_is_told_and_so_is_its_end() {
        let mut silences = Silences::default();
        let rule = |alert: Option<Alert>| alert.map(|alert| (alert.rule, alert.about));
        assert!(
            silences.read("sam", URL, UnixTime(0)).is_none(),
            "nothing was wrong"
        );
        // A short one is nobody's concern, and has no end to tell of.
        assert!(silences.unread("sam", URL, 300, UnixTime(10)).is_none());
        assert!(silences.unread("sam", URL, 300, UnixTime(309)).is_none());
        assert!(silences.read("sam", URL, UnixTime(310)).is_none());
        // It counts from the last time it was read, also over a restart.
        assert!(silences.unread("sam", URL, 300, UnixTime(320)).is_none());
        let kept = serde_json::to_string(&silences).unwrap();
        let mut silences: Silences = serde_json::from_str(&kept).unwrap();
        for at in [620, 650] {
            let told = rule(silences.unread("sam", URL, 300, UnixTime(at)));
            assert_eq!(told, Some((UNREAD.to_owned(), URL.to_owned())));
        }
        let other = silences.unread("sam", "https://other.example", 300, UnixTime(650));
        assert!(other.is_none(), "each log for itself");
        let over = rule(silences.read("sam", URL, UnixTime(660)));
        assert_eq!(over, Some((AGAIN.to_owned(), URL.to_owned())));
        assert!(silences.read("sam", URL, UnixTime(670)).is_none(), "once");
    }

    #[test]
    fn it_is_repeated_while_it_lasts_and_not_when_it_is_over() {
        let (mut silences, mut quiet) = (Silences::default(), Quiet::default());
        let mut told = Vec::new();
        let mut round = |readable: bool, at: i64| {
            let now = UnixTime(at);
            let alert = match readable {
                true => silences.read("sam", URL, now),
                false => silences.unread("sam", URL, 60, now),
            };
            let notices = alert.and_then(|alert| quiet.pass(alert, 900, now));
            told.extend(
                notices
                    .into_iter()
                    .chain(quiet.due(900, now))
                    .map(|notice| {
                        let rule = notice.alert.rule;
                        format!("{rule}@{at}")
                    }),
            );
        };
        for at in (0..1_000).step_by(30) {
            round(false, at);
        }
        // Something waits in the group when the log is read again: that would be told late, and wrong.
        round(true, 1_000);
        for at in (1_010..3_000).step_by(30) {
            round(true, at);
        }
        // Shut and opened again soon: neither word is held back by the other.
        for at in [3_000, 3_060] {
            round(false, at);
        }
        round(true, 3_070);
        for at in [3_080, 3_140] {
            round(false, at);
        }
        let expected = [
            "log-unread@60",
            "log-unread@960",
            "log-read-again@1000",
            "log-unread@3060",
            "log-read-again@3070",
            "log-unread@3140",
        ];
        assert_eq!(told, expected);
    }
}
