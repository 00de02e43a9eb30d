//! Sessions of browsers: a random cookie, kept here as its hash only.

use std::collections::HashMap;

use core_types::{Digest32, Random, UnixTime, sha256};
use csc_types::SecretText;

/// Most sessions at once; the oldest goes when another comes.
const MAX_SESSIONS: usize = 10_000;

/// Names a session inside this program; never leaves it.
pub(crate) type SessionId = Digest32;

/// What is kept for one browser.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// Goes into every form and comes back with it.
    pub(crate) csrf: String,
    pub(crate) expires: UnixTime,
    /// Service-scope token of the signer who logged in, and its end.
    pub(crate) service: Option<(SecretText, UnixTime)>,
    /// Hash of the cookie.
    cookie: Digest32,
}

impl Session {
    /// The service-scope token, while it lives.
    pub(crate) fn reading(&self, now: UnixTime) -> Option<SecretText> {
        let living = self.service.as_ref().filter(|(_, until)| *until > now);
        living.map(|(token, _)| token.clone())
    }
}

#[derive(Default)]
pub(crate) struct Sessions {
    by_cookie: HashMap<Digest32, SessionId>,
    sessions: HashMap<SessionId, Session>,
}

impl Sessions {
    /// The session of a cookie, if it lives.
    pub(crate) fn find(&self, cookie: &str, now: UnixTime) -> Option<SessionId> {
        let id = self.by_cookie.get(&sha256(&[cookie.as_bytes()]))?;
        self.sessions
            .get(id)
            .filter(|s| s.expires > now)
            .map(|_| *id)
    }

    /// Opens a session; gives the cookie's value.
    pub(crate) fn open(
        &mut self,
        random: &dyn Random,
        now: UnixTime,
        life: i64,
    ) -> (SessionId, String) {
        let over: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, s)| s.expires <= now)
            .map(|(id, _)| *id)
            .collect();
        over.iter().for_each(|id| self.close(id));
        if self.sessions.len() >= MAX_SESSIONS
            && let Some(oldest) = self
                .sessions
                .iter()
                .min_by_key(|(_, s)| s.expires)
                .map(|(id, _)| *id)
        {
            self.close(&oldest);
        }
        let id = random.digest32();
        let cookie = random.digest32().to_string();
        let hash = sha256(&[cookie.as_bytes()]);
        let csrf = random.digest32().to_string();
        self.by_cookie.insert(hash, id);
        self.sessions.insert(
            id,
            Session {
                csrf,
                expires: now.plus(life),
                service: None,
                cookie: hash,
            },
        );
        (id, cookie)
    }

    /// Gives the session another cookie; the old one finds nothing any more. Done when somebody logs in, so that
    /// a cookie planted before is worth nothing after.
    pub(crate) fn rotate(&mut self, id: &SessionId, random: &dyn Random) -> Option<String> {
        let session = self.sessions.get_mut(id)?;
        let cookie = random.digest32().to_string();
        self.by_cookie.remove(&session.cookie);
        session.cookie = sha256(&[cookie.as_bytes()]);
        self.by_cookie.insert(session.cookie, *id);
        Some(cookie)
    }

    pub(crate) fn get(&self, id: &SessionId) -> Option<&Session> {
        self.sessions.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &SessionId) -> Option<&mut Session> {
        self.sessions.get_mut(id)
    }

    fn close(&mut self, id: &SessionId) {
        if let Some(session) = self.sessions.remove(id) {
            self.by_cookie.remove(&session.cookie);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core_types::random::SeededRandom;

    #[test]
    fn a_session_is_found_by_its_cookie_until_it_ends() {
        let (mut sessions, random) = (Sessions::default(), SeededRandom::new(1));
        let (id, cookie) = sessions.open(&random, UnixTime(0), 10);
        assert_eq!(sessions.find(&cookie, UnixTime(9)), Some(id));
        assert_eq!(sessions.find(&cookie, UnixTime(10)), None);
        assert_eq!(
            sessions.find(&id.to_string(), UnixTime(0)),
            None,
            "the stored value is no cookie"
        );
        let (_, second) = sessions.open(&random, UnixTime(11), 10);
        assert_ne!(cookie, second);
        assert!(sessions.get(&id).is_none(), "ended sessions are gone");
    }

    #[test]
    fn a_token_is_used_until_it_ends() {
        let (mut sessions, random) = (Sessions::default(), SeededRandom::new(1));
        let (id, _) = sessions.open(&random, UnixTime(0), 10);
        let session = sessions.get_mut(&id).unwrap();
        assert!(session.reading(UnixTime(0)).is_none());
        session.service = Some((SecretText::new("reads".to_owned()), UnixTime(5)));
        assert_eq!(session.reading(UnixTime(4)).unwrap().expose(), "reads");
        assert!(session.reading(UnixTime(5)).is_none());
    }

    #[test]
    fn a_cookie_planted_before_login_is_worth_nothing_after() {
        let (mut sessions, random) = (Sessions::default(), SeededRandom::new(1));
        let (id, planted) = sessions.open(&random, UnixTime(0), 10);
        let fresh = sessions.rotate(&id, &random).unwrap();
        assert_eq!(sessions.find(&planted, UnixTime(0)), None);
        assert_eq!(sessions.find(&fresh, UnixTime(0)), Some(id));
    }
}
