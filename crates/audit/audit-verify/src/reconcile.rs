//! Two logs against each other: what the module did must be what the SAM meant, and the reverse.
//!
//! The SAM records its intent (`sad.consumed`) before it orders, the module what it is going to do (`key.used`) before it signs, and
//! that certainly nothing came of it (`key.gave-nothing`) before it lets the SAM order once more, the SAM what came out
//! (`signature.made`). They meet in act, key and step. Each is there once, with the same number of values; of several orders of
//! one intent all but one came to nothing. The proof by which the module was ordered is the one that the SAM accepted for that act
//! (`act.approved`).

use std::collections::HashMap;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// Seconds at both ends of a log's time in which nothing is said of the other log's entries: clocks of two machines differ, and
/// exports of logs in use are made one after the other.
const MARGIN: i64 = 10;

/// What came of the comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Reconciled {
    /// Whether nothing is wrong.
    pub ok: bool,
    /// Orders that the module executed and the SAM meant.
    pub orders: u64,
    /// Intents that led to no order that was executed: refused by the module, or given up.
    pub unexecuted: u64,
    /// Entries from after the other log's last one or from before its first, or within seconds of them: nothing can be said of
    /// them.
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
    orders: HashMap<Name, Found>,
    cm: Span,
    sam: Span,
    /// Name and key of the module's last order, with the number of its values.
    last: Option<(String, String, u32)>,
    /// Proofs that the SAM accepted, by their acts.
    accepted: HashMap<Name, Name>,
}

/// What a digest or a list of names is known by here.
type Name = [u8; 16];

fn name_of(text: &str) -> Name {
    let mut context = Context::new(&SHA256);
    context.update(text.as_bytes());
    let mut short = [0; 16];
    short.copy_from_slice(&context.finish().as_ref()[..16]);
    short
}

/// When a log's first and last entry were written.
#[derive(Debug, Default)]
struct Span(Option<(i64, i64)>);

#[derive(Debug, Default)]
struct Found {
    intent: Tally,
    used: Tally,
    made: Tally,
    /// Numbers of the module's orders, a bit each.
    attempts: u32,
    /// Those of which certainly nothing came.
    nothing: u32,
    /// An order of which the module has two entries.
    twice: Option<Side>,
    /// By whose proof the module says that it was, and an order that says another one.
    proof: Option<Proof>,
    another: Option<Side>,
}

#[derive(Debug, Clone, Copy)]
struct Proof {
    act: Name,
    proof: Name,
    side: Side,
}

/// Entries of one kind.
#[derive(Debug, Default)]
struct Tally {
    first: Option<Side>,
    second: Option<Side>,
    /// One with another number of values than the first.
    differs: Option<Side>,
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
        self.0.is_some_and(|(first, last)| {
            (first.saturating_add(MARGIN)..=last.saturating_sub(MARGIN)).contains(&at)
        })
    }
}

impl Tally {
    fn take(&mut self, side: Side) {
        if let Some(first) = self.first {
            self.second = self.second.or(Some(side));
            if first.count != side.count {
                self.differs = self.differs.or(Some(side));
            }
        }
        self.first = self.first.or(Some(side));
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
        let text = |name: &str| entry.detail[name].as_str().unwrap_or_default().to_owned();
        let counted = match (zone, entry.kind.as_str()) {
            ("sam", "sad.consumed") => "items",
            ("sam", "signature.made") | ("cm", "key.used") => "count",
            ("cm", "key.gave-nothing") => "",
            ("sam", "act.approved") => {
                let (act, proof) = (name_of(&text("act")), name_of(&text("proof")));
                self.accepted.insert(act, proof);
                return;
            }
            _ => return,
        };
        let number = |name: &str| entry.detail[name].as_u64().unwrap_or(0);
        let side = Side {
            seq,
            at: entry.at,
            count: u32::try_from(number(counted)).unwrap_or(u32::MAX),
        };
        if entry.kind == "key.used" {
            let (order, key) = (text("order"), text("key"));
            // The provider's counter-signature is made by the same order with another key, over as many values.
            let counter = self
                .last
                .take()
                .is_some_and(|(last, of, count)| last == order && of != key && count == side.count);
            if counter && !order.is_empty() {
                return;
            }
            self.last = Some((order, key, side.count));
        }
        let name = format!("{}\n{}\n{}", text("act"), text("key"), number("step"));
        let found = self.orders.entry(name_of(&name)).or_default();
        let attempt = 1 << u32::try_from(number("attempt")).unwrap_or(31).min(31);
        match entry.kind.as_str() {
            "sad.consumed" => found.intent.take(side),
            "signature.made" => found.made.take(side),
            "key.gave-nothing" => found.nothing |= attempt,
            _ => {
                if found.attempts & attempt != 0 {
                    found.twice = found.twice.or(Some(side));
                }
                found.attempts |= attempt;
                found.used.take(side);
                // Entries of older programs don't say it.
                if let Some(proof) = entry.detail["proof"].as_str() {
                    let (act, proof) = (name_of(&text("act")), name_of(proof));
                    let first = *found.proof.get_or_insert(Proof { act, proof, side });
                    if first.proof != proof {
                        found.another = found.another.or(Some(side));
                    }
                }
            }
        }
    }

    /// Compares. Both logs must have been found good.
    #[must_use]
    pub fn judge(&self) -> Reconciled {
        let mut told = Reconciled::default();
        let mut bad: Vec<Unmatched> = Vec::new();
        for found in self.orders.values() {
            self.judge_one(found, &mut told, &mut bad);
        }
        bad.sort_by_key(|b| (b.zone, b.seq));
        told.first_bad = bad.into_iter().next();
        told.ok = told.first_bad.is_none();
        told
    }

    fn judge_one(&self, found: &Found, told: &mut Reconciled, bad: &mut Vec<Unmatched>) {
        let mut name = |zone, kind, side: Option<Side>, what| {
            bad.extend(side.map(|side| Unmatched {
                zone,
                seq: side.seq,
                at: side.at,
                kind,
                what,
            }));
        };
        let (intent, used, made) = (found.intent.first, found.used.first, found.made.first);
        let came = found.attempts & !found.nothing;
        // What one log says of itself.
        let what = "the SAM took one step of an act twice";
        name("sam", "sad.consumed", found.intent.second, what);
        let what = "the SAM has two signatures of one step";
        name("sam", "signature.made", found.made.second, what);
        let what = "the module executed one order twice";
        name("cm", "key.used", found.twice, what);
        if came.count_ones() > 1 {
            let what = "the module executed another order of one step, though something may have come of the first";
            name("cm", "key.used", found.used.second, what);
        }
        // The module's orders beside the SAM's intent.
        let what = "the module was ordered by another proof than the SAM accepted for the act";
        let foreign = found.proof.filter(|p| {
            let accepted = self.accepted.get(&p.act);
            accepted.is_some_and(|accepted| *accepted != p.proof)
        });
        name("cm", "key.used", foreign.map(|p| p.side), what);
        name("cm", "key.used", found.another, what);
        let what = "the module signed another number of values than the SAM meant";
        name("cm", "key.used", found.used.differs, what);
        match (intent, used) {
            (Some(intent), Some(used)) if used.count == intent.count => told.orders += 1,
            (Some(_), Some(used)) => name("cm", "key.used", Some(used), what),
            (None, Some(used)) if self.sam.covers(used.at) => {
                let what = "the module executed an order that the SAM never meant";
                name("cm", "key.used", Some(used), what);
            }
            (None, Some(_)) => told.beyond += 1,
            (Some(intent), None) if made.is_none() => match self.cm.covers(intent.at) {
                true => told.unexecuted += 1,
                false => told.beyond += 1,
            },
            (_, None) => {}
        }
        // The SAM's signatures beside both.
        let Some(made) = made else { return };
        let wrong = match (used, intent) {
            (Some(used), _) if used.count != made.count => {
                "the SAM has another number of signatures than the module made"
            }
            (_, Some(intent)) if intent.count != made.count => {
                "the SAM has another number of signatures than it meant"
            }
            (Some(_), _) if came == 0 => "the SAM has a signature of an order that came to nothing",
            (None, _) if self.cm.covers(made.at) => {
                "the SAM has a signature that the module never made"
            }
            (_, None) if self.sam.covers(made.at) => "the SAM has a signature that it never meant",
            (None, _) => {
                told.beyond += 1;
                return;
            }
            _ => return,
        };
        name("sam", "signature.made", Some(made), wrong);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, at: i64, act: &str, n: (&str, u32), attempt: u32) -> String {
        ordered(kind, at, (act, "k"), n, attempt, "")
    }

    fn ordered(
        kind: &str,
        at: i64,
        (act, key): (&str, &str),
        n: (&str, u32),
        attempt: u32,
        order: &str,
    ) -> String {
        let detail = serde_json::json!({
            "act": act, "key": key, "step": 1, n.0: n.1, "attempt": attempt, "order": order,
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
            entry("sad.consumed", 20, "a", ("items", 3), 0),
            entry("signature.made", 22, "a", ("count", 3), 0),
            entry("sad.consumed", 30, "refused", ("items", 1), 0),
            other(100),
        ];
        let cm = vec![
            other(0),
            entry("key.used", 21, "a", ("count", 3), 0),
            entry("key.gave-nothing", 21, "a", ("", 0), 0),
            entry("key.used", 21, "a", ("count", 3), 1),
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
        let none = without(&without(&without(&cm, 1), 1), 1);
        assert_eq!(named(&judged(&sam, &none)), ("sam", 2, "signature.made"));

        let mut more = cm.clone();
        more[3] = entry("key.used", 21, "a", ("count", 4), 1);
        assert_eq!(named(&judged(&sam, &more)), ("cm", 3, "key.used"));
        let mut twice = cm.clone();
        twice[3] = twice[1].clone();
        assert_eq!(named(&judged(&sam, &twice)), ("cm", 3, "key.used"));
        for strange in [("b", "k"), ("a", "other")] {
            let mut strange_order = cm.clone();
            let order = ordered("key.used", 50, strange, ("count", 1), 0, "o");
            strange_order.insert(4, order);
            assert_eq!(named(&judged(&sam, &strange_order)), ("cm", 4, "key.used"));
        }
    }

    #[test]
    fn nothing_is_there_twice_or_in_another_number() {
        let (sam, cm) = logs();
        for (at, kind) in [(1, "sad.consumed"), (2, "signature.made")] {
            let mut again = sam.clone();
            again.insert(3, sam[at].clone());
            assert_eq!(named(&judged(&again, &cm)), ("sam", 3, kind));
        }
        let mut fewer = sam.clone();
        fewer[2] = entry("signature.made", 22, "a", ("count", 2), 0);
        assert_eq!(named(&judged(&fewer, &cm)), ("sam", 2, "signature.made"));
        let mut silent = cm.clone();
        silent.remove(2);
        assert_eq!(named(&judged(&sam, &silent)), ("cm", 2, "key.used"));
        let mut nothing = cm.clone();
        nothing.insert(4, entry("key.gave-nothing", 22, "a", ("", 0), 1));
        assert_eq!(named(&judged(&sam, &nothing)), ("sam", 2, "signature.made"));
    }

    #[test]
    fn the_proof_of_an_order_is_the_one_that_was_accepted() {
        let by = |kind: &str, at: i64, proof: &str, attempt: u32| {
            let detail = serde_json::json!({
                "act": "p", "key": "k", "step": 0, "count": 1, "items": 1, "attempt": attempt, "proof": proof, "order": at.to_string(),
            });
            serde_json::json!({"at": at, "kind": kind, "detail": detail}).to_string()
        };
        let (mut sam, mut cm) = logs();
        sam.insert(1, by("sad.consumed", 40, "", 0));
        cm.insert(4, by("key.used", 41, "one", 0));
        assert!(judged(&sam, &cm).ok, "its acceptance was archived");
        sam.insert(1, by("act.approved", 39, "one", 0));
        assert!(judged(&sam, &cm).ok);
        cm[4] = by("key.used", 41, "another", 0);
        assert_eq!(named(&judged(&sam, &cm)), ("cm", 4, "key.used"));
        // The module's own log doesn't agree with itself.
        cm[4] = by("key.used", 41, "one", 0);
        cm.insert(5, by("key.gave-nothing", 41, "", 0));
        cm.insert(6, by("key.used", 42, "one", 1));
        assert!(judged(&sam, &cm).ok);
        cm[6] = by("key.used", 42, "another", 1);
        assert_eq!(named(&judged(&sam, &cm)), ("cm", 6, "key.used"));
    }

    #[test]
    fn a_counter_signature_belongs_to_the_order_before_it() {
        let (mut sam, mut cm) = logs();
        sam.insert(4, entry("sad.consumed", 40, "b", ("items", 2), 0));
        let of = |key, count| ordered("key.used", 41, ("b", key), ("count", count), 0, "order");
        cm.splice(4..4, [of("k", 2), of("seal", 2)]);
        let told = judged(&sam, &cm);
        assert_eq!((told.ok, told.orders), (true, 2));
        for (at, stranger) in [(5, of("seal", 3)), (6, of("third", 2))] {
            let mut more = cm.clone();
            more.insert(at, stranger);
            assert_eq!(named(&judged(&sam, &more)).0, "cm");
        }
    }

    #[test]
    fn what_the_other_log_cannot_know_yet_is_no_fault() {
        let (mut sam, mut cm) = logs();
        let later = entry("key.used", 101, "later", ("count", 1), 0);
        cm.push(later);
        let told = judged(&sam, &cm);
        assert_eq!((told.ok, told.beyond), (true, 1));
        // The other machine's clock is some seconds behind, or its export was made a little earlier.
        for at in [91, 99] {
            let mut behind = cm.clone();
            behind[5] = entry("key.used", at, "later", ("count", 1), 0);
            let told = judged(&sam, &behind);
            assert_eq!((told.ok, told.beyond), (true, 1), "{at}");
        }
        cm[5] = entry("key.used", 90, "later", ("count", 1), 0);
        assert_eq!(named(&judged(&sam, &cm)), ("cm", 5, "key.used"));
        sam.push(entry("sad.consumed", 101, "later", ("items", 1), 0));
        sam.push(entry("sad.consumed", 300, "last", ("items", 1), 0));
        let told = judged(&sam, &cm);
        assert_eq!((told.ok, told.orders, told.beyond), (true, 2, 1));
    }
}
