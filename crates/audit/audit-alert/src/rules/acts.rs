//! Acts as the SAM's log tells of them: whether each step of a signature has the one before it.
//!
//! Nodes' entries get their places in the log in batches, so that a step can stand before the one it rests on. What seems to be
//! missing is waited for; only what is still missing when the log was read to its end once more is a skipped step.

use std::collections::{BTreeSet, HashMap};

use core_types::{KeyId, UnixTime};
use serde::{Deserialize, Serialize};

use super::Alert;

/// Acts that are remembered at a time.
pub(super) const MOST_ACTS: usize = if cfg!(test) { 1_000 } else { 100_000 };
/// An act that nothing tells an end of is remembered for so long: a right ends within hours.
pub(super) const ACT_LIFE: i64 = 24 * 3600;
/// An act is remembered for so long after its right ended: clocks of nodes differ, and entries come in batches.
const GRACE: i64 = 900;
/// Steps that wait for the one before them. Beyond that they are told at once, and nothing is stopped for them.
const MOST_WAITING: usize = 10_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Act {
    approved: bool,
    consumed: bool,
    key: Option<KeyId>,
    /// Remembered until then.
    until: UnixTime,
}

/// A step whose predecessor wasn't read yet.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Waiting {
    alert: Alert,
    act: String,
    step: Step,
    /// Whether the log was read to its end since.
    whole: bool,
}

/// A step that rests on others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Step {
    /// The use of an approval.
    Consumed,
    /// A signature.
    Made,
}

/// What is remembered of acts.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Acts {
    known: HashMap<String, Act>,
    ends: BTreeSet<(UnixTime, String)>,
    waiting: Vec<Waiting>,
    /// Of an act that isn't known nothing is said until then: it may be from before the watch began, or have found no room.
    blind_until: Option<UnixTime>,
    /// That there was no room was told, and holds until then.
    full_until: Option<UnixTime>,
}

impl Acts {
    /// The log is read from this time on: the first entry's, unless that is known already.
    pub(super) fn begin(&mut self, at: UnixTime) {
        self.blind_until.get_or_insert(at.plus(ACT_LIFE));
    }

    /// Remembers a new act; answers whether it is the first for which there is no room.
    pub(super) fn minted(&mut self, act: &str, key: Option<KeyId>, at: UnixTime) -> bool {
        while let Some((until, _)) = self.ends.first()
            && *until < at
            && let Some((_, over)) = self.ends.pop_first()
        {
            self.known.remove(&over);
        }
        if self.known.contains_key(act) {
            return false;
        }
        let until = at.plus(ACT_LIFE);
        if self.known.len() >= MOST_ACTS {
            self.blind_until = self.blind_until.max(Some(until));
            let first = self.full_until.is_none_or(|full| full < at);
            self.full_until = Some(until);
            return first;
        }
        let minted = Act {
            approved: false,
            consumed: false,
            key,
            until,
        };
        self.ends.insert((until, act.to_owned()));
        self.known.insert(act.to_owned(), minted);
        false
    }

    /// The act was approved, with a right until then. Its key, if the act is known.
    pub(super) fn approved(&mut self, act: &str, until: Option<UnixTime>) -> Option<KeyId> {
        let known = self.known.get_mut(act)?;
        known.approved = true;
        let key = known.key.clone();
        if let Some(until) = until {
            self.keep(act, until);
        }
        key
    }

    /// The act ended, or its right did.
    pub(super) fn ended(&mut self, act: &str, at: UnixTime) {
        self.keep(act, at);
    }

    /// The act is forgotten soon after `until`.
    fn keep(&mut self, act: &str, until: UnixTime) {
        let Some(known) = self.known.get_mut(act) else {
            return;
        };
        self.ends.remove(&(known.until, act.to_owned()));
        known.until = until.plus(GRACE);
        self.ends.insert((known.until, act.to_owned()));
    }

    pub(super) fn key(&self, act: &str) -> Option<KeyId> {
        self.known.get(act)?.key.clone()
    }

    /// Takes a step that rests on others; `skipped` says what is told if they are missing. Answers it at once only when too
    /// many wait.
    pub(super) fn step(&mut self, act: &str, step: Step, skipped: Alert) -> Option<Alert> {
        if step == Step::Consumed
            && let Some(known) = self.known.get_mut(act)
        {
            known.consumed = true;
        }
        if !self.is_missing(act, step, skipped.at) {
            return None;
        }
        if self.waiting.len() >= MOST_WAITING {
            return Some(Alert {
                targets: Vec::new(),
                ..skipped
            });
        }
        self.waiting.push(Waiting {
            alert: skipped,
            act: act.to_owned(),
            step,
            whole: false,
        });
        None
    }

    fn is_missing(&self, act: &str, step: Step, at: UnixTime) -> bool {
        match (self.known.get(act), step) {
            (Some(act), Step::Consumed) => !act.approved,
            (Some(act), Step::Made) => !(act.approved && act.consumed),
            (None, _) => self.blind_until.is_some_and(|until| at > until),
        }
    }

    /// The log was read to its end: what waits and is still missing what waited the time before is skipped.
    pub(super) fn settle(&mut self) -> Vec<Alert> {
        let mut skipped = Vec::new();
        for mut waiting in std::mem::take(&mut self.waiting) {
            if !self.is_missing(&waiting.act, waiting.step, waiting.alert.at) {
                continue;
            }
            if waiting.whole {
                skipped.push(waiting.alert);
            } else {
                waiting.whole = true;
                self.waiting.push(waiting);
            }
        }
        skipped
    }
}
