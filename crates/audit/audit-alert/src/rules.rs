//! The rules: the guideline's anomalies (Appendix 5) and the service's own.

use std::collections::{BTreeMap, HashMap, VecDeque};

use audit_reader::Entry;
use core_types::{ClientId, Digest32, KeyId, UnixTime};
use serde::{Deserialize, Serialize};

use crate::acting::Target;

mod acts;

use acts::{Acts, Step};

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
    /// An officer logs in again so soon after the last deed of a session that wasn't ended.
    pub doubled_seconds: i64,
    /// A certificate ends within so many days.
    pub certificate_days: i64,
    /// For so many seconds a log can't be read.
    pub unread_seconds: i64,
    /// Between which hours officers work, such as `[8, 20]`; `[22, 6]` is a night. Without it every hour is usual.
    pub usual_hours: Option<[i64; 2]>,
    /// Whose hours: those of a place so many hours ahead of UTC.
    pub utc_offset_hours: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window_seconds: 600,
            lockouts: 5,
            failures: 5,
            approvals_a_minute: 12,
            session_seconds: 2 * 3600,
            doubled_seconds: 600,
            certificate_days: 30,
            unread_seconds: 300,
            usual_hours: None,
            utc_offset_hours: 9,
        }
    }
}

impl Limits {
    /// Whether officers work at this time.
    fn is_usual(&self, at: UnixTime) -> bool {
        let Some([from, until]) = self.usual_hours else {
            return true;
        };
        let hour = (at.0.div_euclid(3600) + self.utc_offset_hours).rem_euclid(24);
        match from <= until {
            true => (from..until).contains(&hour),
            false => hour >= from || hour < until,
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
    /// What of it can be stopped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Target>,
}

/// Every rule there is.
pub const RULES: [(&str, Severity); 24] = [
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
    ("unusual-hours", Severity::Warning),
    ("officer-due", Severity::Warning),
    ("officer-passkey", Severity::Critical),
    ("certificate-ends", Severity::Warning),
    ("log-unread", Severity::Critical),
    ("log-read-again", Severity::Warning),
    ("entry-unread", Severity::Critical),
    ("stopped", Severity::Critical),
    ("held-back", Severity::Critical),
    ("stop-refused", Severity::Critical),
];

/// The zone whose log tells of acts and officers.
pub(crate) const SAM: &str = "sam";
/// Beginnings of the types that only the SAM has.
const OF_THE_SAM: [&str; 7] = [
    "act.",
    "sad.",
    "sap.",
    "signature.",
    "office.",
    "officer.",
    "proposal.",
];
/// So many persons within the window whose spent approvals come from one application: it is the application, and not them.
const SPENT_PERSONS: usize = 10;
/// Applications that are counted at a time.
const MOST_CLIENTS: usize = 1_000;
const MINUTE: i64 = 60;
/// Persons whose approvals are counted at a time.
const MOST_PERSONS: usize = 100_000;

/// What the rules remember of the entries so far.
#[derive(Debug)]
pub struct Watch {
    limits: Limits,
    /// Nodes that began and didn't end.
    running: BTreeMap<(String, String), bool>,
    locks: BTreeMap<String, VecDeque<UnixTime>>,
    failures: BTreeMap<String, VecDeque<UnixTime>>,
    approvals: HashMap<String, VecDeque<UnixTime>>,
    acts: Acts,
    /// Who used spent approvals lately, by application.
    spent: BTreeMap<String, VecDeque<(UnixTime, String)>>,
    /// The last session of each account.
    sessions: BTreeMap<String, Session>,
}

/// A session of an officer.
#[derive(Debug, Clone, Copy)]
struct Session {
    begun: UnixTime,
    /// The last deed in it, as far as the log knows.
    last: UnixTime,
    name: Option<Digest32>,
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
            acts: Acts::new(),
            spent: BTreeMap::new(),
            sessions: BTreeMap::new(),
        }
    }

    /// Looks at the next entry, in the order of its zone's log.
    pub fn see(&mut self, entry: &Entry) -> Vec<Alert> {
        let mut alerts = self.judge(entry);
        alerts.extend(self.unusual(entry));
        alerts
    }

    /// What officers do is told when nobody is there to do it (Appendix 5: beyond usual hours).
    fn unusual(&self, entry: &Entry) -> Option<Alert> {
        let deeds = [
            "officer.logged-in",
            "proposal.made",
            "proposal.approved",
            "proposal.taken",
            "client.changed",
        ];
        if !deeds.contains(&entry.kind.as_str()) || self.limits.is_usual(entry.at) {
            return None;
        }
        let who = |name: &str| entry.detail.get(name).and_then(|who| who.as_str());
        let who = who("account").or_else(|| who("officer"));
        Some(alert("unusual-hours", entry, who.unwrap_or_default()))
    }

    fn judge(&mut self, entry: &Entry) -> Vec<Alert> {
        let text = |name: &str| {
            entry
                .detail
                .get(name)
                .and_then(|v| v.as_str())
                .unwrap_or_default()
        };
        let alert = |rule: &'static str, about: &str| alert(rule, entry, about);
        let sams = OF_THE_SAM.iter().any(|of| entry.kind.starts_with(of));
        if sams && entry.zone != SAM {
            // Whoever runs another zone doesn't speak as the SAM.
            return vec![alert("alarm", "entry-of-another-zone")];
        }
        if entry.zone == SAM {
            self.acts.begin(entry.at);
        }
        match entry.kind.as_str() {
            "signature.wrong" => {
                let wrong = alert("wrong-value", text("key"));
                vec![wrong.naming(key(text("key")))]
            }
            // `clock.source` says which.
            "alarm" if text("what") == "clock-source-false" => Vec::new(),
            "alarm" if text("what").starts_with("clock") => vec![alert("clock", text("what"))],
            "alarm" => vec![alert("alarm", text("what"))],
            "audit.witness-away" => vec![alert("witness-away", text("witness"))],
            "audit.read-refused" => vec![alert("reading-refused", text("reader"))],
            "settings.refused" => vec![alert("settings-refused", text("reason"))],
            "officer.due" | "officer.untrained" => vec![alert("officer-due", text("officer"))],
            "officer.passkey-ordered" => vec![alert("officer-passkey", text("account"))],
            "clock.source" if text("state") == "false" => vec![alert("clock", text("source"))],
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
                let who = entry.alias().unwrap_or_else(|| text("client"));
                let client = self.spends(text("client"), who, entry.at);
                vec![
                    alert("spent-approval", who)
                        .naming(client.map(|client| Target::Client { client })),
                ]
            }
            "act.minted" => {
                let key = KeyId::parse(text("key")).ok();
                let full = self.acts.minted(text("act"), key, entry.at);
                full.then(|| alert("alarm", "acts-not-followed"))
                    .into_iter()
                    .collect()
            }
            "act.ended" | "act.refused" | "sad.ended" => {
                self.acts.ended(text("act"), entry.at);
                Vec::new()
            }
            "act.approved" => self.approved(entry, text("act")),
            "sad.consumed" => self.step(entry, text("act"), Step::Consumed),
            "signature.made" => self.step(entry, text("act"), Step::Made),
            "officer.logged-in" => {
                let session = Digest32::parse(text("session")).ok();
                let account = text("account").to_owned();
                let new = Session {
                    begun: entry.at,
                    last: entry.at,
                    name: session,
                };
                let before = self.sessions.insert(account, new);
                let doubled = self.limits.doubled_seconds;
                let soon = before.filter(|before| entry.at.0 - before.last.0 < doubled);
                // Which of the two is the officer's own, the log doesn't know.
                let double = |other: Session| {
                    let double = alert("double-session", text("account"));
                    double
                        .naming(other.name.map(ending_of))
                        .naming(session.map(ending_of))
                };
                soon.map(double).into_iter().collect()
            }
            "officer.logged-out" => {
                // Another session of the account goes on; two without a name aren't the same.
                let ended = Digest32::parse(text("session")).ok();
                let last = self.sessions.get(text("account"));
                if ended.is_some() && last.is_some_and(|last| last.name == ended) {
                    self.sessions.remove(text("account"));
                }
                Vec::new()
            }
            "proposal.made" | "proposal.approved" | "proposal.ended" | "proposal.taken"
            | "officer.looked" => {
                let account = text("account");
                let mut alerts = Vec::new();
                if let Some(session) = self.sessions.get_mut(account) {
                    session.last = entry.at;
                    if entry.at.0 - session.begun.0 > self.limits.session_seconds {
                        let long = alert("long-session", account);
                        alerts.push(long.naming(session.name.map(ending_of)));
                    }
                }
                // Who reads may turn pages quickly.
                let reads = entry.kind == "officer.looked";
                if !reads && self.too_fast(account, entry.at) {
                    alerts.push(alert("machine-speed", account));
                }
                alerts
            }
            _ => Vec::new(),
        }
    }

    fn approved(&mut self, entry: &Entry, act: &str) -> Vec<Alert> {
        let until = entry.detail.get("sign_until").and_then(|v| v.as_i64());
        let key = self.acts.approved(act, until.map(UnixTime));
        let person = entry.alias().unwrap_or_default().to_owned();
        let fast = self.too_fast(&person, entry.at);
        let fast = fast.then(|| alert("machine-speed", entry, &person));
        let named = key.map(|key| Target::Key { key });
        fast.map(|alert| alert.naming(named)).into_iter().collect()
    }

    /// Whether somebody does more in a minute than a person reads.
    fn too_fast(&mut self, who: &str, at: UnixTime) -> bool {
        if self.approvals.len() >= MOST_PERSONS {
            self.approvals
                .retain(|_, times| times.back().is_some_and(|last| at.0 - last.0 < MINUTE));
        }
        let times = self.approvals.entry(who.to_owned()).or_default();
        wave(times, at, MINUTE, self.limits.approvals_a_minute)
    }

    /// A step, which is told if the one before it is missing.
    fn step(&mut self, entry: &Entry, act: &str, step: Step) -> Vec<Alert> {
        let stated = entry.detail.get("key").and_then(|key| key.as_str());
        let stated = stated.and_then(|key| KeyId::parse(key).ok());
        let key = stated.or_else(|| self.acts.key(act));
        let skipped = alert("skipped-step", entry, act);
        let skipped = skipped.naming(key.map(|key| Target::Key { key }));
        self.acts.step(act, step, skipped).into_iter().collect()
    }

    /// The zone's log was read to its end: what seemed to be missing the time before, and still is, is told.
    pub fn settle(&mut self, zone: &str) -> Vec<Alert> {
        match zone {
            SAM => self.acts.settle(),
            _ => Vec::new(),
        }
    }

    /// Counts a spent approval. One signer can send their own again as often as they like: an application is named only when
    /// those of many persons come from it.
    fn spends(&mut self, client: &str, who: &str, at: UnixTime) -> Option<ClientId> {
        let window = self.limits.window_seconds;
        if self.spent.len() >= MOST_CLIENTS {
            self.spent.retain(|_, lately| {
                lately
                    .back()
                    .is_some_and(|(last, _)| at.0 - last.0 < window)
            });
        }
        let known = self.spent.contains_key(client);
        if !known && self.spent.len() >= MOST_CLIENTS {
            return None;
        }
        let lately = self.spent.entry(client.to_owned()).or_default();
        lately.retain(|(then, other)| at.0 - then.0 < window && other != who);
        lately.push_back((at, who.to_owned()));
        if lately.len() < SPENT_PERSONS {
            return None;
        }
        self.spent.remove(client);
        ClientId::parse(client).ok()
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

pub(crate) fn severity(rule: &str) -> Severity {
    let known = RULES.iter().find(|(name, _)| *name == rule);
    known.map_or(Severity::Critical, |(_, severity)| *severity)
}

fn key(text: &str) -> Option<Target> {
    KeyId::parse(text).ok().map(|key| Target::Key { key })
}

fn ending_of(session: Digest32) -> Target {
    Target::Session { session }
}

impl Alert {
    /// The same, with what of it can be stopped.
    fn naming(mut self, target: Option<Target>) -> Self {
        self.targets.extend(target);
        self
    }
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
        targets: Vec::new(),
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
        targets: Vec::new(),
    })
}

#[cfg(test)]
mod tests;
