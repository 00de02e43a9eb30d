//! The rules: the guideline's anomalies (Appendix 5) and the service's own.

use std::collections::{BTreeMap, HashMap, VecDeque};

use audit_reader::Entry;
use core_types::UnixTime;
use serde::{Deserialize, Serialize};

/// From when on a rule judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Window of the counting rules, in seconds.
    pub window_seconds: i64,
    /// Locks within the window.
    pub lockouts: usize,
    /// Refused orders and failed signatures within the window.
    pub failures: usize,
    /// Approvals of one person within a minute.
    pub approvals_a_minute: usize,
    /// An officer works on one log-in for longer.
    pub session_seconds: i64,
    /// An officer logs in again so soon without logging out.
    pub doubled_seconds: i64,
    /// A certificate ends within so many days.
    pub certificate_days: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window_seconds: 600,
            lockouts: 5,
            failures: 5,
            approvals_a_minute: 12,
            session_seconds: 4 * 3600,
            doubled_seconds: 600,
            certificate_days: 30,
        }
    }
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Look at it today.
    Warning,
    /// Look at it now.
    Critical,
}

/// Something that somebody has to know of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Which rule, one of [`RULES`].
    pub rule: String,
    /// How much it matters.
    pub severity: Severity,
    /// When.
    pub at: UnixTime,
    /// Zone; empty for what no log says.
    pub zone: String,
    /// Whom or what it is about, by the name that entries have; alerts of one rule about the same are one group.
    pub about: String,
    /// Place in the zone's log.
    pub seq: Option<u64>,
    /// Type of the entry.
    pub kind: String,
}

/// Every rule there is.
pub const RULES: [(&str, Severity); 15] = [
    ("wrong-value", Severity::Critical),
    ("alarm", Severity::Critical),
    ("witness-away", Severity::Critical),
    ("settings-refused", Severity::Critical),
    ("skipped-step", Severity::Critical),
    ("double-session", Severity::Critical),
    ("machine-speed", Severity::Critical),
    ("crashed", Severity::Warning),
    ("clock", Severity::Warning),
    ("lockout-wave", Severity::Warning),
    ("module-trouble", Severity::Critical),
    ("spent-approval", Severity::Warning),
    ("long-session", Severity::Warning),
    ("reading-refused", Severity::Warning),
    ("certificate-ends", Severity::Warning),
];

/// Acts that are remembered, and for how long: a right ends within hours.
const MOST_ACTS: usize = 100_000;
const ACT_LIFE: i64 = 24 * 3600;
const MINUTE: i64 = 60;
/// Persons whose approvals are counted at a time.
const MOST_PERSONS: usize = 100_000;

#[derive(Debug, Clone, Copy)]
struct Act {
    at: UnixTime,
    approved: bool,
    consumed: bool,
}

/// What the rules remember of the entries so far.
#[derive(Debug)]
pub struct Watch {
    limits: Limits,
    /// Nodes that began and didn't end.
    running: BTreeMap<(String, String), bool>,
    locks: BTreeMap<String, VecDeque<UnixTime>>,
    failures: BTreeMap<String, VecDeque<UnixTime>>,
    approvals: HashMap<String, VecDeque<UnixTime>>,
    acts: HashMap<String, Act>,
    sessions: BTreeMap<String, UnixTime>,
    since: Option<UnixTime>,
}

impl Watch {
    /// Begins with nothing seen.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            running: BTreeMap::new(),
            locks: BTreeMap::new(),
            failures: BTreeMap::new(),
            approvals: HashMap::new(),
            acts: HashMap::new(),
            sessions: BTreeMap::new(),
            since: None,
        }
    }

    /// Looks at the next entry, in order of time.
    pub fn see(&mut self, entry: &Entry) -> Vec<Alert> {
        let since = *self.since.get_or_insert(entry.at);
        let text = |name: &str| {
            entry
                .detail
                .get(name)
                .and_then(|v| v.as_str())
                .unwrap_or_default()
        };
        let alert = |rule: &'static str, about: &str| alert(rule, entry, about);
        match entry.kind.as_str() {
            "signature.wrong" => vec![alert("wrong-value", text("key"))],
            "alarm" if text("what").starts_with("clock") => vec![alert("clock", text("what"))],
            "alarm" => vec![alert("alarm", text("what"))],
            "audit.witness-away" => vec![alert("witness-away", text("witness"))],
            "audit.read-refused" => vec![alert("reading-refused", text("reader"))],
            "settings.refused" => vec![alert("settings-refused", text("reason"))],
            "clock.state" if text("state") != "synchronised" => vec![alert("clock", text("state"))],
            "service.started" => {
                let node = (entry.zone.clone(), entry.node.clone());
                let crashed = self.running.insert(node, true) == Some(true);
                crashed
                    .then(|| alert("crashed", &entry.node))
                    .into_iter()
                    .collect()
            }
            "service.stopped" => {
                self.running
                    .insert((entry.zone.clone(), entry.node.clone()), false);
                Vec::new()
            }
            "factor.locked" | "login.locked" => {
                let (window, most) = (self.limits.window_seconds, self.limits.lockouts);
                let times = self.locks.entry(entry.zone.clone()).or_default();
                wave(times, entry.at, window, most)
                    .then(|| alert("lockout-wave", ""))
                    .into_iter()
                    .collect()
            }
            "cm.order-refused" | "signature.failed" => {
                let (window, most) = (self.limits.window_seconds, self.limits.failures);
                let times = self.failures.entry(entry.zone.clone()).or_default();
                wave(times, entry.at, window, most)
                    .then(|| alert("module-trouble", ""))
                    .into_iter()
                    .collect()
            }
            "sap.refused" | "sad.refused" | "office.refused" if text("reason") == "used" => {
                vec![alert(
                    "spent-approval",
                    entry.alias().unwrap_or_else(|| text("client")),
                )]
            }
            "act.minted" => {
                self.remember(text("act"), entry.at);
                Vec::new()
            }
            "act.approved" => self.approved(entry, text("act")),
            "sad.consumed" => {
                let step = match self.acts.get_mut(text("act")) {
                    Some(act) => {
                        act.consumed = true;
                        !act.approved
                    }
                    // From before the watch began, until that can't be.
                    None => entry.at.0 - since.0 > ACT_LIFE,
                };
                step.then(|| alert("skipped-step", text("act")))
                    .into_iter()
                    .collect()
            }
            "signature.made" => {
                let step = match self.acts.get(text("act")) {
                    Some(act) => !(act.approved && act.consumed),
                    None => entry.at.0 - since.0 > ACT_LIFE,
                };
                step.then(|| alert("skipped-step", text("act")))
                    .into_iter()
                    .collect()
            }
            "officer.logged-in" => {
                let doubled = self.limits.doubled_seconds;
                let before = self.sessions.insert(text("account").to_owned(), entry.at);
                let soon = before.is_some_and(|at| entry.at.0 - at.0 < doubled);
                soon.then(|| alert("double-session", text("account")))
                    .into_iter()
                    .collect()
            }
            "officer.logged-out" => {
                self.sessions.remove(text("account"));
                Vec::new()
            }
            "proposal.made" | "proposal.taken" => {
                let long = self.limits.session_seconds;
                let began = self.sessions.get(text("account"));
                let late = began.is_some_and(|at| entry.at.0 - at.0 > long);
                late.then(|| alert("long-session", text("account")))
                    .into_iter()
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    fn approved(&mut self, entry: &Entry, act: &str) -> Vec<Alert> {
        if let Some(act) = self.acts.get_mut(act) {
            act.approved = true;
        }
        let person = entry.alias().unwrap_or_default().to_owned();
        if self.approvals.len() >= MOST_PERSONS {
            self.approvals
                .retain(|_, times| times.back().is_some_and(|at| entry.at.0 - at.0 < MINUTE));
        }
        let times = self.approvals.entry(person.clone()).or_default();
        let fast = wave(times, entry.at, MINUTE, self.limits.approvals_a_minute);
        fast.then(|| alert("machine-speed", entry, &person))
            .into_iter()
            .collect()
    }

    fn remember(&mut self, act: &str, at: UnixTime) {
        if self.acts.len() >= MOST_ACTS {
            self.acts.retain(|_, known| at.0 - known.at.0 < ACT_LIFE);
        }
        if self.acts.len() < MOST_ACTS {
            let minted = Act {
                at,
                approved: false,
                consumed: false,
            };
            self.acts.insert(act.to_owned(), minted);
        }
    }
}

/// Counts one more, and says whether that makes too many within the window; then the count begins anew.
fn wave(times: &mut VecDeque<UnixTime>, at: UnixTime, window: i64, most: usize) -> bool {
    while times.front().is_some_and(|first| at.0 - first.0 >= window) {
        times.pop_front();
    }
    times.push_back(at);
    let many = times.len() >= most.max(1);
    if many {
        times.clear();
    }
    many
}

fn severity(rule: &str) -> Severity {
    let known = RULES.iter().find(|(name, _)| *name == rule);
    known.map_or(Severity::Critical, |(_, severity)| *severity)
}

fn alert(rule: &'static str, entry: &Entry, about: &str) -> Alert {
    Alert {
        rule: rule.to_owned(),
        severity: severity(rule),
        at: entry.at,
        zone: entry.zone.clone(),
        about: about.to_owned(),
        seq: Some(entry.seq),
        kind: entry.kind.clone(),
    }
}

/// A certificate that ends soon. `name`: its file.
pub fn ending(name: &str, ends: UnixTime, limits: Limits, now: UnixTime) -> Option<Alert> {
    let left = ends.0 - now.0;
    (left < limits.certificate_days * 24 * 3600).then(|| Alert {
        rule: "certificate-ends".to_owned(),
        // A week before, somebody has to move.
        severity: if left < 7 * 24 * 3600 {
            Severity::Critical
        } else {
            Severity::Warning
        },
        at: now,
        zone: String::new(),
        about: name.to_owned(),
        seq: None,
        kind: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn entry(at: i64, kind: &str, detail: Value) -> Entry {
        let text = json!({
            "v": 1, "zone": "sam", "node": "a", "n": 1, "at": at, "subject": "service:sam",
            "outcome": "failure", "class": "access", "kind": kind, "detail": detail,
        });
        Entry::parse(u64::try_from(at).unwrap(), &text.to_string(), None).unwrap()
    }

    fn rules(entries: &[(i64, &str, Value)]) -> Vec<String> {
        let mut watch = Watch::new(Limits::default());
        let seen = entries
            .iter()
            .flat_map(|(at, kind, detail)| watch.see(&entry(*at, kind, detail.clone())));
        seen.map(|alert| format!("{}@{}", alert.rule, alert.at.0))
            .collect()
    }

    #[test]
    fn what_is_bad_by_itself_is_told_at_once() {
        for (kind, detail, rule) in [
            ("signature.wrong", json!({"key": "k"}), "wrong-value@5"),
            ("alarm", json!({"what": "sealed-row-tampered"}), "alarm@5"),
            ("alarm", json!({"what": "clock-beyond-bound"}), "clock@5"),
            ("clock.state", json!({"state": "stepped"}), "clock@5"),
            (
                "audit.witness-away",
                json!({"witness": "w"}),
                "witness-away@5",
            ),
            (
                "audit.read-refused",
                json!({"reader": "r"}),
                "reading-refused@5",
            ),
            (
                "settings.refused",
                json!({"reason": "unsigned"}),
                "settings-refused@5",
            ),
            (
                "sad.refused",
                json!({"client": "c", "reason": "used"}),
                "spent-approval@5",
            ),
        ] {
            assert_eq!(rules(&[(5, kind, detail)]), [rule], "{kind}");
        }
        let quiet = [
            (5, "clock.state", json!({"state": "synchronised"})),
            (
                5,
                "sad.refused",
                json!({"client": "c", "reason": "expired"}),
            ),
            (5, "login.succeeded", json!({"person": "p"})),
            (5, "no.such-event", json!({})),
        ];
        assert!(rules(&quiet).is_empty());
    }

    #[test]
    fn waves_are_counted_within_their_window() {
        let lock = |at| {
            (
                at,
                "factor.locked",
                json!({"person": "p", "factor": "f", "until": 9}),
            )
        };
        let slow: Vec<_> = (0..50).map(|n| lock(n * 200)).collect();
        assert!(rules(&slow).is_empty());
        let fast: Vec<_> = (0..9).map(|n| lock(n * 10)).collect();
        assert_eq!(rules(&fast), ["lockout-wave@40"]);
        let failed = |at| (at, "signature.failed", json!({"reason": "device"}));
        let many: Vec<_> = (0..5).map(failed).collect();
        assert_eq!(rules(&many), ["module-trouble@4"]);
    }

    #[test]
    fn a_start_without_an_end_before_it_is_a_crash() {
        let (start, stop) = ("service.started", "service.stopped");
        let none = json!({});
        let orderly = [
            (1, start, none.clone()),
            (2, stop, none.clone()),
            (3, start, none.clone()),
        ];
        assert!(rules(&orderly).is_empty());
        assert_eq!(
            rules(&[(1, start, none.clone()), (3, start, none)]),
            ["crashed@3"]
        );
    }

    #[test]
    fn approvals_at_machine_speed_are_told_and_those_of_several_people_are_not() {
        let approve = |at: i64, who: &str| {
            (
                at,
                "act.approved",
                json!({"act": format!("a{at}"), "person": who}),
            )
        };
        let robot: Vec<_> = (0..12).map(|n| approve(n, "p")).collect();
        assert_eq!(rules(&robot), ["machine-speed@11"]);
        let people: Vec<_> = (0..12)
            .map(|n| approve(n, &format!("p{}", n % 3)))
            .collect();
        assert!(rules(&people).is_empty());
    }

    #[test]
    fn every_step_of_a_signature_has_to_be_there() {
        let step = |at, kind: &'static str| (at, kind, json!({"act": "a", "person": "p"}));
        let (minted, approved) = (step(1, "act.minted"), step(2, "act.approved"));
        let (consumed, made) = (step(3, "sad.consumed"), step(4, "signature.made"));
        let all = [
            minted.clone(),
            approved.clone(),
            consumed.clone(),
            made.clone(),
        ];
        assert!(rules(&all).is_empty());
        assert_eq!(
            rules(&[minted.clone(), consumed.clone(), made.clone()]),
            ["skipped-step@3", "skipped-step@4"]
        );
        assert_eq!(rules(&[minted, approved, made.clone()]), ["skipped-step@4"]);
        // Of acts from before the watch began nothing is known, until that can't be.
        assert!(rules(std::slice::from_ref(&made)).is_empty());
        let later = step(ACT_LIFE + 5, "signature.made");
        assert_eq!(
            rules(&[made, later]),
            [format!("skipped-step@{}", ACT_LIFE + 5)]
        );
    }

    #[test]
    fn sessions_of_officers_that_double_or_last_are_told() {
        let who = json!({"account": "officer.a", "officer": "a", "session": "s"});
        let at = |at, kind: &'static str| (at, kind, who.clone());
        assert_eq!(
            rules(&[at(0, "officer.logged-in"), at(10, "officer.logged-in")]),
            ["double-session@10"]
        );
        assert!(
            rules(&[
                at(0, "officer.logged-in"),
                at(5, "officer.logged-out"),
                at(10, "officer.logged-in")
            ])
            .is_empty()
        );
        assert!(rules(&[at(0, "officer.logged-in"), at(700, "officer.logged-in")]).is_empty());
        assert_eq!(
            rules(&[at(0, "officer.logged-in"), at(15_000, "proposal.made")]),
            ["long-session@15000"]
        );
    }

    #[test]
    fn certificates_are_told_of_before_they_end() {
        let (limits, now) = (Limits::default(), UnixTime(1_800_000_000));
        let day = 24 * 3600;
        assert_eq!(ending("x.pem", now.plus(31 * day), limits, now), None);
        let soon = ending("x.pem", now.plus(20 * day), limits, now).unwrap();
        assert_eq!(
            (soon.severity, soon.about.as_str()),
            (Severity::Warning, "x.pem")
        );
        assert_eq!(
            ending("x.pem", now.plus(day), limits, now)
                .unwrap()
                .severity,
            Severity::Critical
        );
        assert!(ending("x.pem", now.plus(-day), limits, now).is_some());
    }
}
