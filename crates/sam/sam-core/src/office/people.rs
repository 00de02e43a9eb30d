//! Officers, as they are kept.

use core_types::words::is_plain;
use core_types::{Digest32, OfficerId, PersonId, UnixTime};
use sap::office::{MAX_WORDS, Office, Role, Training, is_account};
use serde::{Deserialize, Serialize};

use super::roles::Roles;
use crate::Reason;

/// Longest appointment in seconds: three years, then somebody has to think about it again.
pub const MAX_TERM: i64 = 3 * 366 * 24 * 3600;
/// An appointment or training that ends within this time is due, in seconds.
pub const DUE: i64 = 30 * 24 * 3600;
/// How many security officers every decision leaves.
pub const FEWEST: usize = 2;
/// With how many an installation begins, and down to how many it isn't opened again: one asks and two others approve.
pub const ENOUGH: usize = 3;

/// One that ends within this time is pressing, in seconds.
const PRESSING: i64 = 7 * 24 * 3600;

/// That an appointment or training ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reminder {
    /// The first end of the two.
    pub until: UnixTime,
    /// How near it is.
    pub urgency: Urgency,
}

/// How near an end is: each is told of once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Within a month.
    Soon,
    /// Within a week.
    Pressing,
    /// It was.
    Over,
}

/// A natural person who holds or held an office.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Officer {
    /// Id.
    pub id: OfficerId,
    /// Name.
    pub name: String,
    /// What tells this person from all others, as a commitment.
    pub identity: Digest32,
    /// The office.
    pub office: Office,
    /// Who named them: the persons who approved; empty for founders (`I-7.1.1.8`).
    pub named_by: Vec<OfficerId>,
    /// The proposal, genesis record or reopening that says so.
    pub by: Digest32,
    /// Since when.
    pub since: UnixTime,
    /// When they were removed. The row stays, so that nobody comes back under another name.
    pub ended: Option<UnixTime>,
}

impl Officer {
    /// Roles at `now`: none once removed, or after the end of the appointment.
    pub fn roles(&self, now: UnixTime) -> Option<Roles> {
        let usable = self.ended.is_none() && now < self.office.until;
        Roles::of(&self.office.roles, self.office.both)
            .ok()
            .filter(|_| usable)
    }

    /// Whether this person may act as a security officer at `now`.
    pub fn is_security_officer(&self, now: UnixTime) -> bool {
        self.roles(now)
            .is_some_and(|r| r.has(Role::SecurityOfficer))
    }

    /// Whether somebody should be reminded: of the end of appointment or training, or that no training is recorded.
    pub fn is_due(&self, now: UnixTime) -> bool {
        self.reminder(now).is_some() || self.is_untrained(now)
    }

    /// Whether this person is in office at `now` and no training of theirs is recorded (`I-7.1.1.8-appointed-and-trained`).
    pub fn is_untrained(&self, now: UnixTime) -> bool {
        self.roles(now).is_some() && self.office.training.is_none()
    }

    /// Of which end somebody should be reminded, if of any.
    pub fn reminder(&self, now: UnixTime) -> Option<Reminder> {
        let training = self.office.training.map_or(self.office.until, |t| t.until);
        let until = self.office.until.min(training);
        let urgency = match until.0.saturating_sub(now.0) {
            left if left > DUE => return None,
            left if left > PRESSING => Urgency::Soon,
            left if left > 0 => Urgency::Pressing,
            _ => Urgency::Over,
        };
        self.ended.is_none().then_some(Reminder { until, urgency })
    }

    /// The word for the store's constraint.
    pub fn word(&self) -> &'static str {
        match Roles::of(&self.office.roles, self.office.both) {
            Ok(roles) if self.ended.is_none() => roles.word(),
            _ => "none",
        }
    }
}

/// Checks an office that begins at `now`.
///
/// # Errors
/// As [`Roles::of`]; [`Reason::Invalid`] for times that can't be.
pub fn check_office(office: &Office, now: UnixTime) -> Result<Roles, Reason> {
    let roles = Roles::of(&office.roles, office.both)?;
    if office.until <= now || office.until > now.plus(MAX_TERM) {
        return Err(Reason::Invalid("until"));
    }
    check_training(office.training, now)?;
    Ok(roles)
}

/// Checks a training that is recorded at `now`: it lies behind, and holds for some time.
///
/// # Errors
/// [`Reason::Invalid`].
pub fn check_training(training: Option<Training>, now: UnixTime) -> Result<(), Reason> {
    match training {
        Some(t) if t.at > now || t.until <= t.at => Err(Reason::Invalid("training")),
        _ => Ok(()),
    }
}

/// Checks the id of a privileged account.
///
/// # Errors
/// [`Reason::Invalid`] for an id that could be a signer's.
pub fn check_account(account: &PersonId) -> Result<(), Reason> {
    match is_account(account) {
        true => Ok(()),
        false => Err(Reason::Invalid("account")),
    }
}

/// Checks words that go to other people's screens: visible, of one line, not empty.
///
/// # Errors
/// [`Reason::Invalid`] naming the member.
pub fn check_words(text: &str, member: &'static str) -> Result<(), Reason> {
    match is_plain(text, MAX_WORDS) {
        true => Ok(()),
        false => Err(Reason::Invalid(member)),
    }
}

/// Whether enough security officers are left.
///
/// # Errors
/// [`Reason::NotAllowed`].
pub fn check_enough(left: usize) -> Result<(), Reason> {
    if left >= FEWEST {
        Ok(())
    } else {
        Err(Reason::NotAllowed("too-few-officers"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn office() -> Office {
        Office {
            roles: vec![Role::SecurityOfficer],
            both: false,
            until: UnixTime(2000),
            training: None,
        }
    }

    fn officer(office: Office) -> Officer {
        Officer {
            id: OfficerId::parse("a").unwrap(),
            name: "A".into(),
            identity: Digest32([1; 32]),
            office,
            named_by: vec![],
            by: Digest32([2; 32]),
            since: UnixTime(1),
            ended: None,
        }
    }

    #[test]
    fn an_office_ends_to_the_second_and_with_removal() {
        let one = officer(office());
        assert!(one.is_security_officer(UnixTime(1999)));
        assert!(!one.is_security_officer(UnixTime(2000)));
        assert_eq!(one.word(), "security-officer");
        let gone = Officer {
            ended: Some(UnixTime(5)),
            ..one
        };
        assert!(!gone.is_security_officer(UnixTime(10)));
        assert_eq!(gone.word(), "none");
    }

    #[test]
    fn ends_of_appointment_and_training_are_reminded_of() {
        let now = UnixTime(1_000_000_000);
        let until = |appointment: i64, training: Option<i64>| {
            officer(Office {
                until: now.plus(appointment),
                training: training.map(|t| Training {
                    at: UnixTime(1),
                    until: now.plus(t),
                }),
                ..office()
            })
            .is_due(now)
        };
        assert!(!until(DUE + 1, Some(DUE + 1)));
        assert!(until(DUE, Some(MAX_TERM)));
        assert!(until(MAX_TERM, Some(DUE)));
        assert!(!until(MAX_TERM, Some(DUE + 1)));
        // A training that nobody recorded is due as long as there is an office for it.
        assert!(until(MAX_TERM, None));
        let gone = Officer {
            ended: Some(UnixTime(5)),
            ..officer(office())
        };
        assert!(officer(office()).is_untrained(UnixTime(1999)));
        assert!(!officer(office()).is_untrained(UnixTime(2000)));
        assert!(!gone.is_untrained(UnixTime(10)));
    }

    #[test]
    fn terms_ids_and_words_have_bounds() {
        let now = UnixTime(1000);
        let with = |until| Office {
            until: UnixTime(until),
            ..office()
        };
        assert!(check_office(&with(1001), now).is_ok());
        assert!(check_office(&with(1000), now).is_err());
        assert!(check_office(&with(1000 + MAX_TERM), now).is_ok());
        assert!(check_office(&with(1001 + MAX_TERM), now).is_err());
        let id = |text: &str| check_account(&PersonId::parse(text).unwrap());
        assert!(id("officer.a").is_ok());
        assert!(id("a").is_err());
        for bad in ["", " a", "a\u{202e}b", "a\nb", &"x".repeat(MAX_WORDS + 1)] {
            assert!(check_words(bad, "name").is_err(), "{bad:?}");
        }
        assert!(check_words("髙橋 花子", "name").is_ok());
        assert!(check_enough(1).is_err() && check_enough(2).is_ok());
    }
}
