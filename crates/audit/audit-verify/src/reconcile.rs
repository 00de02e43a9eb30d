//! Two logs against each other: what the module did must be what the SAM meant, and the reverse.
//!
//! The SAM records its intent (`sad.consumed`) before it orders, the module what it is going to do (`key.used`) before it signs, the
//! SAM what came out (`signature.made`). They meet in act, key and step.

use std::collections::HashMap;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// What came of the comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Reconciled {
    /// Whether nothing is wrong.
    pub ok: bool,
    /// Orders that the module executed and the SAM meant.
    pub orders: u64,
    /// Intents that led to no order that was executed: refused by the module, or given up.
    pub unexecuted: u64,
    /// Entries from after the other log's last one, or from before its first: nothing can be said of them.
    pub beyond: u64,
    /// The first thing that is wrong, in the order of the log that has it.
    pub first_bad: Option<Unmatched>,
}

/// An entry without its counterpart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unmatched {
    /// Zone of the log that has it.
    pub zone: &'static str,
    /// Its place there, from 0.
    pub seq: u64,
    /// Its time, seconds since 1970 UTC.
    pub at: i64,
    /// Its type.
    pub kind: &'static str,
    /// Why, in words.
    pub what: &'static str,
}

/// Takes the entries of both logs, in any order of the logs, each in its own order.
#[derive(Debug, Default)]
pub struct Reconciler {
    /// By a digest of act, key and step.
    orders: HashMap<[u8; 16], Found>,
    cm: Span,
    sam: Span,
}

/// When a log's first and last entry were written.
#[derive(Debug, Default)]
struct Span(Option<(i64, i64)>);

#[derive(Debug, Default)]
struct Found {
    intent: Option<Side>,
    used: Option<Side>,
    made: Option<Side>,
    /// Numbers of the module's orders, a bit each.
    attempts: u32,
    /// An order of which the module has two entries.
    twice: Option<Side>,
}

#[derive(Debug, Clone, Copy)]
struct Side {
    seq: u64,
    at: i64,
    count: u32,
}

#[derive(Deserialize)]
struct Entry {
    at: i64,
    kind: String,
    detail: serde_json::Value,
}

impl Span {
    fn take(&mut self, at: i64) {
        let (first, last) = self.0.unwrap_or((at, at));
        self.0 = Some((first.min(at), last.max(at)));
    }

    /// Whether this log can say something of what happened at that time.
    fn covers(&self, at: i64) -> bool {
        self.0
            .is_some_and(|(first, last)| (first..=last).contains(&at))
    }
}

impl Reconciler {
    /// Takes an entry of a zone's log: its place and text, as [`verify_each`](crate::verify_each) gives them out.
    pub fn take(&mut self, zone: &str, seq: u64, text: &str) {
        let span = match zone {
            "cm" => &mut self.cm,
            "sam" => &mut self.sam,
            _ => return,
        };
        let Ok(entry) = serde_json::from_str::<Entry>(text) else {
            return;
        };
        span.take(entry.at);
        let counted = match (zone, entry.kind.as_str()) {
            ("sam", "sad.consumed") => "items",
            ("sam", "signature.made") | ("cm", "key.used") => "count",
            _ => return,
        };
        let text = |name: &str| entry.detail[name].as_str().unwrap_or_default().to_owned();
        let number = |name: &str| entry.detail[name].as_u64().unwrap_or(0);
        let mut name = Context::new(&SHA256);
        name.update(format!("{}\n{}\n{}", text("act"), text("key"), number("step")).as_bytes());
        let mut short = [0; 16];
        short.copy_from_slice(&name.finish().as_ref()[..16]);
        let found = self.orders.entry(short).or_default();
        let side = Side {
            seq,
            at: entry.at,
            count: u32::try_from(number(counted)).unwrap_or(u32::MAX),
        };
        match entry.kind.as_str() {
            "sad.consumed" => found.intent = found.intent.or(Some(side)),
            "signature.made" => found.made = found.made.or(Some(side)),
            _ => {
                let attempt = u32::try_from(number("attempt")).unwrap_or(31).min(31);
                if found.attempts & (1 << attempt) != 0 {
                    found.twice = found.twice.or(Some(side));
                }
                found.attempts |= 1 << attempt;
                found.used = match found.used {
                    // Every order of one intent has all its items.
                    Some(before) if before.count >= side.count => Some(before),
                    _ => Some(side),
                };
            }
        }
    }

    /// Compares. Both logs must have been found good.
    #[must_use]
    pub fn judge(&self) -> Reconciled {
        let mut told = Reconciled::default();
        let mut bad: Vec<Unmatched> = Vec::new();
        for found in self.orders.values() {
            let mut name = |zone, side: Side, kind, what| {
                bad.push(Unmatched {
                    zone,
                    seq: side.seq,
                    at: side.at,
                    kind,
                    what,
                });
            };
            if let Some(twice) = found.twice {
                name(
                    "cm",
                    twice,
                    "key.used",
                    "the module executed one order twice",
                );
            }
            match (found.intent, found.used) {
                (Some(intent), Some(used)) if used.count == intent.count => told.orders += 1,
                (Some(_), Some(used)) => {
                    let what = "the module signed another number of values than the SAM meant";
                    name("cm", used, "key.used", what);
                }
                (None, Some(used)) if self.sam.covers(used.at) => {
                    let what = "the module executed an order that the SAM never meant";
                    name("cm", used, "key.used", what);
                }
                (None, Some(_)) => told.beyond += 1,
                (_, None) => {}
            }
            match (found.made, found.used, found.intent) {
                (Some(made), None, _) if self.cm.covers(made.at) => {
                    let what = "the SAM has a signature that the module never made";
                    name("sam", made, "signature.made", what);
                }
                (Some(_), None, _) => told.beyond += 1,
                (None, None, Some(intent)) if self.cm.covers(intent.at) => told.unexecuted += 1,
                (None, None, Some(_)) => told.beyond += 1,
                (Some(made), Some(_), None) if self.sam.covers(made.at) => {
                    let what = "the SAM has a signature that it never meant";
                    name("sam", made, "signature.made", what);
                }
                _ => {}
            }
        }
        bad.sort_by_key(|b| (b.zone, b.seq));
        told.first_bad = bad.into_iter().next();
        told.ok = told.first_bad.is_none();
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, at: i64, act: &str, n: (&str, u32), attempt: u32) -> String {
        let detail = serde_json::json!({
            "act": act, "key": "k", "step": 1, n.0: n.1, "attempt": attempt,
        });
        serde_json::json!({"at": at, "kind": kind, "detail": detail}).to_string()
    }

    fn judged(sam: &[String], cm: &[String]) -> Reconciled {
        let mut reconciler = Reconciler::default();
        for (zone, log) in [("cm", cm), ("sam", sam)] {
            for (seq, text) in log.iter().enumerate() {
                reconciler.take(zone, seq as u64, text);
            }
        }
        reconciler.judge()
    }

    fn logs() -> (Vec<String>, Vec<String>) {
        let other = |at| entry("service.started", at, "", ("count", 0), 0);
        let sam = vec![
            other(0),
            entry("sad.consumed", 10, "a", ("items", 3), 0),
            entry("signature.made", 12, "a", ("count", 3), 0),
            entry("sad.consumed", 20, "refused", ("items", 1), 0),
            other(100),
        ];
        let cm = vec![
            other(0),
            entry("key.used", 11, "a", ("count", 3), 0),
            entry("key.used", 11, "a", ("count", 3), 1),
            other(100),
        ];
        (sam, cm)
    }

    fn named(told: &Reconciled) -> (&'static str, u64, &'static str) {
        let bad = told.first_bad.clone().unwrap();
        assert!(!told.ok);
        (bad.zone, bad.seq, bad.kind)
    }

    #[test]
    fn what_was_meant_was_done_and_nothing_else() {
        let (sam, cm) = logs();
        let told = judged(&sam, &cm);
        assert_eq!(
            (told.ok, told.orders, told.unexecuted, told.beyond),
            (true, 1, 1, 0)
        );

        let without = |log: &[String], at: usize| {
            let mut log = log.to_vec();
            log.remove(at);
            log
        };
        assert_eq!(
            named(&judged(&without(&sam, 1), &cm)),
            ("cm", 1, "key.used")
        );
        let none = without(&without(&cm, 1), 1);
        assert_eq!(named(&judged(&sam, &none)), ("sam", 2, "signature.made"));

        let mut more = cm.clone();
        more[2] = entry("key.used", 11, "a", ("count", 4), 1);
        assert_eq!(named(&judged(&sam, &more)), ("cm", 2, "key.used"));
        let mut twice = cm.clone();
        twice[2] = twice[1].clone();
        assert_eq!(named(&judged(&sam, &twice)), ("cm", 2, "key.used"));
        for strange in [("b", "k"), ("a", "other")] {
            let mut strange_order = cm.clone();
            let detail = serde_json::json!({"act": strange.0, "key": strange.1, "step": 2, "count": 1, "attempt": 0});
            let order = serde_json::json!({"at": 50, "kind": "key.used", "detail": detail});
            strange_order.insert(3, order.to_string());
            assert_eq!(named(&judged(&sam, &strange_order)), ("cm", 3, "key.used"));
        }
    }

    #[test]
    fn what_the_other_log_cannot_know_yet_is_no_fault() {
        let (mut sam, mut cm) = logs();
        cm.push(entry("key.used", 101, "later", ("count", 1), 0));
        let told = judged(&sam, &cm);
        assert_eq!((told.ok, told.beyond), (true, 1));
        sam.push(entry("sad.consumed", 101, "later", ("items", 1), 0));
        sam.push(entry("sad.consumed", 300, "last", ("items", 1), 0));
        let told = judged(&sam, &cm);
        assert_eq!((told.ok, told.orders, told.beyond), (true, 2, 1));
    }
}
