//! What a rule may do besides telling: have something stopped that its entry names. Off unless the operator says so, rule by rule,
//! and never more than so much in an hour: whoever can make noise must not be able to stop everybody with it.

use std::collections::{BTreeMap, VecDeque};

use core_types::{ClientId, Digest32, KeyId, UnixTime};
use serde::{Deserialize, Serialize};

use crate::rules::{Alert, SAM, severity};

/// What can be stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stop", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Target {
    /// A signer's key is suspended.
    Key {
        /// Key.
        key: KeyId,
    },
    /// An application is suspended.
    Client {
        /// Client.
        client: ClientId,
    },
    /// An officer's session ends.
    Session {
        /// Digest that names it.
        session: Digest32,
    },
}

/// A kind of [`Target`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// The key.
    Key,
    /// The application.
    Client,
    /// The session.
    Session,
}

/// What each rule's entries name. What isn't here can't be configured: a wave of locks names those who are attacked.
pub const STOPS: [(&str, Stop); 6] = [
    ("wrong-value", Stop::Key),
    ("skipped-step", Stop::Key),
    ("machine-speed", Stop::Key),
    ("spent-approval", Stop::Client),
    ("double-session", Stop::Session),
    ("long-session", Stop::Session),
];

/// What the operator wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acting {
    rules: BTreeMap<String, Stop>,
    per_hour: usize,
}

/// Why rules can't act as they are told to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActingError {
    /// The rule names nothing of the kind.
    #[error("rule {0} names nothing of that kind that could be stopped")]
    Rule(String),
    /// No bound, or one that is none.
    #[error("{0} an hour is no bound: 1 to 20")]
    PerHour(usize),
}

/// Seconds in which actions count together.
const HOUR: i64 = 3600;
/// Most actions in an hour that can be configured.
const MOST: usize = 20;
/// Nothing is stopped again for so many seconds: whoever let it go on had a reason.
const AGAIN: i64 = 24 * 3600;

impl Acting {
    /// Checks what is configured.
    ///
    /// # Errors
    /// [`ActingError`].
    pub fn new(rules: BTreeMap<String, Stop>, per_hour: usize) -> Result<Self, ActingError> {
        if !(1..=MOST).contains(&per_hour) {
            return Err(ActingError::PerHour(per_hour));
        }
        let known = |rule: &str, stop: Stop| STOPS.contains(&(rule, stop));
        match rules.iter().find(|(rule, stop)| !known(rule, **stop)) {
            Some((rule, _)) => Err(ActingError::Rule(rule.clone())),
            None => Ok(Self { rules, per_hour }),
        }
    }
}

/// What was done lately; kept over restarts, or a restart would be a fresh hour.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Brake {
    /// What was chosen when; nothing where it came to nothing, which still counts for the bound.
    done: VecDeque<(UnixTime, Option<Target>)>,
}

impl Brake {
    /// What is stopped because of this alert. What would be too much is told instead, and left to people.
    pub fn choose(&mut self, alert: &Alert, acting: &Acting, now: UnixTime) -> Chosen {
        self.done.retain(|(at, _)| now.0 - at.0 < AGAIN);
        let mut chosen = Chosen::default();
        if alert.zone != SAM {
            // The other zones' logs say what those zones want: nobody is stopped by their word.
            return chosen;
        }
        let Some(stop) = acting.rules.get(&alert.rule) else {
            return chosen;
        };
        for target in alert.targets.iter().filter(|t| t.kind() == *stop) {
            if self
                .done
                .iter()
                .any(|(_, known)| known.as_ref() == Some(target))
            {
                continue;
            }
            let lately = self.done.iter().filter(|(at, _)| now.0 - at.0 < HOUR);
            if lately.count() >= acting.per_hour {
                chosen.held_back = Some(held_back(alert, now));
                break;
            }
            self.done.push_back((now, Some(target.clone())));
            chosen.stop.push(target.clone());
        }
        chosen
    }

    /// The stop was refused, or nobody answered: it wasn't done, so that the next alert may ask for it again.
    pub fn came_to_nothing(&mut self, target: &Target) {
        for (_, known) in &mut self.done {
            *known = known.take().filter(|known| known != target);
        }
    }
}

/// What follows from an alert.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// To be stopped now.
    pub stop: Vec<Target>,
    /// That there would have been more.
    pub held_back: Option<Alert>,
}

impl Target {
    fn kind(&self) -> Stop {
        match self {
            Self::Key { .. } => Stop::Key,
            Self::Client { .. } => Stop::Client,
            Self::Session { .. } => Stop::Session,
        }
    }

    /// Its name in the log.
    pub fn name(&self) -> String {
        match self {
            Self::Key { key } => key.to_string(),
            Self::Client { client } => client.to_string(),
            Self::Session { session } => session.to_string(),
        }
    }
}

/// Tells that something was stopped, or that whoever should have stopped it refused.
pub fn told(target: &Target, done: bool, now: UnixTime) -> Alert {
    let rule = if done { "stopped" } else { "stop-refused" };
    own(rule, target.name(), now)
}

fn held_back(alert: &Alert, now: UnixTime) -> Alert {
    own("held-back", alert.rule.clone(), now)
}

fn own(rule: &'static str, about: String, now: UnixTime) -> Alert {
    Alert {
        rule: rule.to_owned(),
        severity: severity(rule),
        at: now,
        zone: String::new(),
        about,
        seq: None,
        kind: String::new(),
        targets: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Severity;

    fn alert(rule: &str, clients: &[&str]) -> Alert {
        let client = |id: &&str| Target::Client {
            client: ClientId::parse(*id).unwrap(),
        };
        Alert {
            severity: Severity::Warning,
            zone: SAM.to_owned(),
            targets: clients.iter().map(client).collect(),
            ..own("stopped", String::new(), UnixTime(0))
        }
        .of(rule)
    }

    impl Alert {
        fn of(self, rule: &str) -> Self {
            Self {
                rule: rule.to_owned(),
                ..self
            }
        }
    }

    fn acting(rules: &[(&str, Stop)], per_hour: usize) -> Result<Acting, ActingError> {
        let rules = rules.iter().map(|(rule, stop)| ((*rule).to_owned(), *stop));
        Acting::new(rules.collect(), per_hour)
    }

    #[test]
    fn nothing_is_stopped_that_nobody_asked_for() {
        let off = acting(&[], 3).unwrap();
        let mut brake = Brake::default();
        let spent = alert("spent-approval", &["a"]);
        assert_eq!(brake.choose(&spent, &off, UnixTime(0)), Chosen::default());
        let other = acting(&[("double-session", Stop::Session)], 3).unwrap();
        assert_eq!(brake.choose(&spent, &other, UnixTime(0)), Chosen::default());
    }

    // shows: I-7.1.4.7-alert-starts-countermeasure
    #[test]
    fn noise_stops_no_more_than_the_bound_and_says_so() {
        let acting = acting(&[("spent-approval", Stop::Client)], 2).unwrap();
        let mut brake = Brake::default();
        let mut stop = |id: &str, at| {
            let chosen = brake.choose(&alert("spent-approval", &[id]), &acting, UnixTime(at));
            (chosen.stop.len(), chosen.held_back.is_some())
        };
        assert_eq!(stop("a", 0), (1, false));
        assert_eq!(stop("a", 10), (0, false), "once");
        assert_eq!(stop("b", 20), (1, false));
        for (n, id) in ["c", "d", "e"].into_iter().enumerate() {
            assert_eq!(stop(id, 30 + n as i64), (0, true));
        }
        // The bound is of an hour, and what was let go on again stays so for a day.
        assert_eq!(stop("c", HOUR + 15), (1, false));
        assert_eq!(stop("a", HOUR + 30), (0, false));
        assert_eq!(stop("a", AGAIN + 30), (1, false));
    }

    #[test]
    fn a_stop_that_came_to_nothing_is_asked_for_again_and_counts_for_the_bound() {
        let acting = acting(&[("spent-approval", Stop::Client)], 2).unwrap();
        let mut brake = Brake::default();
        let spent = alert("spent-approval", &["a"]);
        let first = brake.choose(&spent, &acting, UnixTime(0)).stop;
        assert_eq!(first.len(), 1);
        brake.came_to_nothing(&first[0]);
        let again = brake.choose(&spent, &acting, UnixTime(10)).stop;
        assert_eq!(again, first);
        brake.came_to_nothing(&again[0]);
        let more = brake.choose(&spent, &acting, UnixTime(20));
        assert!(more.stop.is_empty() && more.held_back.is_some());
    }

    #[test]
    fn nobody_is_stopped_by_the_word_of_another_zone() {
        let acting = acting(&[("spent-approval", Stop::Client)], 2).unwrap();
        let mut spent = alert("spent-approval", &["a"]);
        for zone in ["ssa", "cm", ""] {
            spent.zone = zone.to_owned();
            let chosen = Brake::default().choose(&spent, &acting, UnixTime(0));
            assert_eq!(chosen, Chosen::default(), "{zone}");
        }
    }

    #[test]
    fn a_restart_begins_no_fresh_hour() {
        let acting = acting(&[("spent-approval", Stop::Client)], 1).unwrap();
        let mut brake = Brake::default();
        brake.choose(&alert("spent-approval", &["a"]), &acting, UnixTime(0));
        let kept = serde_json::to_string(&brake).unwrap();
        let mut brake: Brake = serde_json::from_str(&kept).unwrap();
        let next = brake.choose(&alert("spent-approval", &["b"]), &acting, UnixTime(60));
        assert!(next.stop.is_empty() && next.held_back.is_some());
    }

    #[test]
    fn only_what_a_rules_entries_name_can_be_configured() {
        for (rule, stop) in STOPS {
            assert!(acting(&[(rule, stop)], 3).is_ok(), "{rule}");
        }
        for (rule, stop) in [
            ("lockout-wave", Stop::Key),
            ("spent-approval", Stop::Key),
            ("alarm", Stop::Client),
            ("", Stop::Session),
        ] {
            let refused = acting(&[(rule, stop)], 3).unwrap_err();
            assert_eq!(refused, ActingError::Rule(rule.to_owned()));
        }
        assert_eq!(acting(&[], 0), Err(ActingError::PerHour(0)));
        assert_eq!(acting(&[], 21), Err(ActingError::PerHour(21)));
    }
}
