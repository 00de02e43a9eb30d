//! Not chatty: of a group the first is told, and the others once its quiet period is over.

use std::collections::BTreeMap;

use core_types::UnixTime;
use serde::{Deserialize, Serialize};

use crate::logs::{AGAIN, UNREAD};
use crate::rules::Alert;

/// An alert that is told, with how many of its group there were since the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    /// The newest.
    pub alert: Alert,
    /// Others of the group that weren't told by themselves.
    pub more: u64,
}

/// What was told when.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quiet {
    groups: BTreeMap<String, Group>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    told: UnixTime,
    waiting: Option<Alert>,
    more: u64,
}

/// Groups that are remembered; beyond that, what nothing waits in is forgotten, and then nothing is held back any more.
const MOST: usize = 10_000;

impl Quiet {
    /// Whether this alert is told now; if not, it is told by [`Quiet::due`] later.
    pub fn pass(&mut self, alert: Alert, seconds: i64, now: UnixTime) -> Option<Notice> {
        if let Some(other) = opposite(&alert.rule) {
            // What no longer holds isn't told later.
            self.groups.remove(&name(other, &alert));
        }
        let name = name(&alert.rule, &alert);
        if let Some(group) = self.groups.get_mut(&name) {
            group.more += u64::from(group.waiting.is_some());
            group.waiting = Some(alert);
            return None;
        }
        if self.groups.len() >= MOST {
            self.groups
                .retain(|_, group| group.waiting.is_some() || now.0 - group.told.0 < seconds);
        }
        if self.groups.len() < MOST {
            let group = Group {
                told: now,
                waiting: None,
                more: 0,
            };
            self.groups.insert(name, group);
        }
        Some(Notice { alert, more: 0 })
    }

    /// What waited long enough. A group in which nothing happened for the whole period begins anew.
    pub fn due(&mut self, seconds: i64, now: UnixTime) -> Vec<Notice> {
        let over = |group: &Group| now.0 - group.told.0 >= seconds;
        self.groups
            .retain(|_, group| group.waiting.is_some() || !over(group));
        let ready = self.groups.values_mut().filter(|group| over(group));
        let told = ready.filter_map(|group| {
            let alert = group.waiting.take()?;
            let more = std::mem::take(&mut group.more);
            group.told = now;
            Some(Notice { alert, more })
        });
        told.collect()
    }
}

/// The rule that says the opposite.
fn opposite(rule: &str) -> Option<&'static str> {
    match rule {
        UNREAD => Some(AGAIN),
        AGAIN => Some(UNREAD),
        _ => None,
    }
}

/// Name of the group that `rule` has about the same as `alert`.
fn name(rule: &str, alert: &Alert) -> String {
    format!("{rule}\n{}\n{}", alert.zone, alert.about)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Severity;

    fn alert(about: &str) -> Alert {
        Alert {
            rule: "alarm".to_owned(),
            severity: Severity::Critical,
            at: UnixTime(1),
            zone: "sam".to_owned(),
            about: about.to_owned(),
            seq: Some(1),
            kind: "alarm".to_owned(),
            targets: Vec::new(),
        }
    }

    #[test]
    fn of_a_group_the_first_is_told_and_the_rest_together() {
        let mut quiet = Quiet::default();
        let mut pass =
            |about: &str, now| quiet.pass(alert(about), 100, UnixTime(now)).map(|n| n.more);
        assert_eq!(pass("a", 0), Some(0));
        assert_eq!(pass("b", 1), Some(0), "another group isn't held back");
        for at in 2..50 {
            assert_eq!(pass("a", at), None);
        }
        assert!(quiet.due(100, UnixTime(99)).is_empty());
        let told = quiet.due(100, UnixTime(100));
        assert_eq!(
            told.iter()
                .map(|n| (n.alert.about.as_str(), n.more))
                .collect::<Vec<_>>(),
            [("a", 47)]
        );
        assert!(quiet.due(100, UnixTime(101)).is_empty());
        // The period begins again with what was told; after one in which nothing happened the next is told at once.
        assert_eq!(quiet.pass(alert("a"), 100, UnixTime(150)), None);
        assert_eq!(quiet.due(100, UnixTime(200)).len(), 1);
        assert!(quiet.due(100, UnixTime(300)).is_empty());
        assert!(quiet.pass(alert("a"), 100, UnixTime(301)).is_some());
    }

    #[test]
    fn many_groups_hold_nothing_back_and_take_no_more_memory() {
        let mut quiet = Quiet::default();
        for n in 0..MOST + 500 {
            assert!(
                quiet
                    .pass(alert(&n.to_string()), 100, UnixTime(0))
                    .is_some()
            );
        }
        assert_eq!(quiet.groups.len(), MOST);
    }
}
