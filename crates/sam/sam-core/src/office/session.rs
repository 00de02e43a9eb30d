//! Sessions of officers: short, and never a substitute for a proof (`I-7.1.2.4`).

use core_types::{OfficerId, PersonId, UnixTime};
use serde::{Deserialize, Serialize};

use crate::Reason;
use crate::state::CLOCKS_DIFFER;

/// Longest time without a call that can be configured, in seconds.
pub const MAX_IDLE: i64 = 3600;
/// Longest session that can be configured, in seconds.
pub const MAX_SESSION: i64 = 12 * 3600;
/// For so long after its beginning a session may ask for consequential things, in seconds.
pub const FRESH: i64 = 300;
/// A session's last call is noted at most this often, in seconds.
const NOTED: i64 = 15;

/// How long sessions last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    idle: i64,
    whole: i64,
}

impl Limits {
    /// Seconds without a call, and in all.
    ///
    /// # Errors
    /// [`Reason::Invalid`] for none, or more than [`MAX_IDLE`] and [`MAX_SESSION`]: there is no session without an end.
    pub fn new(idle: i64, whole: i64) -> Result<Self, Reason> {
        if !(60..=MAX_IDLE).contains(&idle) {
            return Err(Reason::Invalid("idle"));
        }
        if !(idle..=MAX_SESSION).contains(&whole) {
            return Err(Reason::Invalid("session"));
        }
        Ok(Self { idle, whole })
    }

    /// Seconds without a call.
    pub fn idle(self) -> i64 {
        self.idle
    }
}

/// A session of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Account.
    pub account: PersonId,
    /// Whose it is.
    pub officer: OfficerId,
    /// When it began, with a proof.
    pub began: UnixTime,
    /// The last call, to within some seconds.
    pub seen: UnixTime,
    /// It ends at this time.
    pub until: UnixTime,
    /// Somebody logged out.
    pub ended: bool,
}

impl Session {
    /// A session that begins with a proof.
    pub fn begin(account: PersonId, officer: OfficerId, limits: Limits, now: UnixTime) -> Self {
        Self {
            account,
            officer,
            began: now,
            seen: now,
            until: now.plus(limits.whole),
            ended: false,
        }
    }

    /// Whether it is still one.
    ///
    /// # Errors
    /// [`Reason::Expired`] after its end, [`Reason::NotNow`] when the clock must have been set back.
    pub fn check(&self, limits: Limits, now: UnixTime) -> Result<(), Reason> {
        let idle = now.0 - self.seen.0;
        if self.ended || now >= self.until || idle >= limits.idle {
            return Err(Reason::Expired);
        }
        if idle < -CLOCKS_DIFFER || self.until.0 - now.0 > MAX_SESSION {
            return Err(Reason::NotNow);
        }
        Ok(())
    }

    /// Whether it began lately, as consequential calls want it: otherwise a new one is begun with a new proof (step-up).
    ///
    /// # Errors
    /// [`Reason::ProofTooOld`].
    pub fn check_fresh(&self, now: UnixTime) -> Result<(), Reason> {
        if now.0 - self.began.0 < FRESH {
            Ok(())
        } else {
            Err(Reason::ProofTooOld)
        }
    }

    /// After a call at `now`, if that has to be noted.
    pub fn called(&self, now: UnixTime) -> Option<Self> {
        (now.0 - self.seen.0 >= NOTED).then(|| Self {
            seen: now,
            ..self.clone()
        })
    }

    /// After somebody logged out.
    #[must_use]
    pub fn ended(&self) -> Self {
        Self {
            ended: true,
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // shows: I-7.1.2.4-privileged-session-limit
    #[test]
    fn a_session_ends_idle_and_in_any_case_and_none_is_without_end() {
        let limits = Limits::new(600, 3600).unwrap();
        let begin = UnixTime(1_000_000);
        let account = PersonId::parse("officer.a").unwrap();
        let officer = OfficerId::parse("a").unwrap();
        let mut session = Session::begin(account, officer, limits, begin);
        assert!(session.check(limits, begin.plus(599)).is_ok());
        assert_eq!(session.check(limits, begin.plus(600)), Err(Reason::Expired));
        for minute in 1..=59 {
            let now = begin.plus(60 * minute);
            assert!(session.check(limits, now).is_ok(), "{minute}");
            session = session.called(now).unwrap();
        }
        assert!(session.check(limits, begin.plus(3599)).is_ok());
        let end = begin.plus(3600);
        assert_eq!(session.check(limits, end), Err(Reason::Expired));
        assert_eq!(session.check(limits, begin.plus(-60)), Err(Reason::NotNow));
        let now = begin.plus(3590);
        assert_eq!(session.ended().check(limits, now), Err(Reason::Expired));
        for (idle, whole) in [
            (0, 3600),
            (600, 0),
            (600, 599),
            (MAX_IDLE + 1, MAX_SESSION),
            (600, MAX_SESSION + 1),
            (i64::MAX, i64::MAX),
        ] {
            assert!(Limits::new(idle, whole).is_err(), "{idle} {whole}");
        }
    }

    #[test]
    fn what_is_consequential_wants_a_fresh_proof() {
        let limits = Limits::new(600, 3600).unwrap();
        let account = PersonId::parse("officer.a").unwrap();
        let officer = OfficerId::parse("a").unwrap();
        let session = Session::begin(account, officer, limits, UnixTime(1000));
        let called = session.called(UnixTime(1100)).unwrap();
        assert!(called.check_fresh(UnixTime(1000 + FRESH - 1)).is_ok());
        assert!(called.check_fresh(UnixTime(1000 + FRESH)).is_err());
        assert!(session.called(UnixTime(1014)).is_none());
    }
}
