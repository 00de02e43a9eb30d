//! Sessions of people who logged in, and the cookie that stands for a browser before and after.

use audit_log::{Event, Place};
use axum::http::{HeaderMap, HeaderValue, header};
use core_types::{Digest32, PersonId, UnixTime};
use csc_types::SecretText;
use store_kit::{StoreError, Tx, sql};

use crate::crypt::{digest, grant};
use crate::limits::Origin;
use crate::{Ssa, refresh, tokens};

/// A session ends after this long without a request, in seconds.
pub(crate) const IDLE: i64 = 30 * 60;
/// A session ends after this long in any case, in seconds.
pub(crate) const LIFE: i64 = 8 * 60 * 60;

/// A login counts as just now for this long, in seconds.
pub(crate) const RECENT: i64 = 5 * 60;

/// A browser, known by its cookie, and where it calls from; who is logged in there is another question.
#[derive(Debug, Clone)]
pub(crate) struct Browser {
    cookie: SecretText,
    from: Place,
}

impl Browser {
    pub(crate) fn new(cookie: SecretText) -> Self {
        Self {
            cookie,
            from: Place::Unknown,
        }
    }

    /// The same browser with another cookie.
    pub(crate) fn renewed(&self, cookie: SecretText) -> Self {
        Self {
            cookie,
            from: self.from,
        }
    }

    /// The same, calling from there.
    pub(crate) fn at(self, origin: Origin) -> Self {
        Self {
            from: origin.place(),
            ..self
        }
    }

    /// Where it calls from, for the log.
    pub(crate) fn from(&self) -> Place {
        self.from
    }

    /// How the log names a session of this browser.
    pub(crate) fn session(&self) -> Option<Digest32> {
        Digest32::parse(&self.id()).ok()
    }

    /// The browser that sent this request, if it has a cookie of ours.
    pub(crate) fn of(headers: &HeaderMap, https: bool) -> Option<Self> {
        let mut found = None;
        for header in headers.get_all(header::COOKIE) {
            for pair in header.to_str().ok()?.split(';') {
                let (name, value) = pair.trim().split_once('=')?;
                if name == cookie_name(https) {
                    // Two of them: somebody planted one; neither is believed.
                    if found.is_some() || value.len() != 43 {
                        return None;
                    }
                    found = Some(Self::new(SecretText::new(value.to_owned())));
                }
            }
        }
        found
    }

    /// How it is stored.
    pub(crate) fn id(&self) -> String {
        digest(self.cookie.expose())
    }

    /// The token that forms of this browser carry.
    pub(crate) fn form_token(&self) -> String {
        grant(&format!("natsuin-form\n{}", self.cookie.expose())).to_string()
    }

    /// Whether a form came from a page made for this browser.
    pub(crate) fn sent(&self, form_token: &str) -> bool {
        SecretText::new(self.form_token()).ct_eq(form_token)
    }

    /// The header that sets the cookie.
    pub(crate) fn set_cookie(&self, https: bool) -> HeaderValue {
        let secure = if https { "; Secure" } else { "" };
        let name = cookie_name(https);
        let value = self.cookie.expose();
        let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}");
        // Both parts are base64url and constants, which every header takes.
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
    }
}

/// The header that removes the cookie.
pub(crate) fn forget_cookie(https: bool) -> HeaderValue {
    HeaderValue::from_static(if https {
        "__Host-natsuin=; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=0"
    } else {
        "natsuin=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"
    })
}

fn cookie_name(https: bool) -> &'static str {
    if https { "__Host-natsuin" } else { "natsuin" }
}

/// Somebody is logged in.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) person: PersonId,
    pub(crate) created: UnixTime,
    seen: UnixTime,
    /// Where its browser calls from now.
    pub(crate) from: Place,
}

impl Session {
    /// How the log names it.
    pub(crate) fn named(&self) -> Option<Digest32> {
        Digest32::parse(&self.id).ok()
    }

    /// Whether the person proved who they are just now; changing how they log in needs that.
    pub(crate) fn is_recent(&self, now: UnixTime) -> bool {
        now < self.created.plus(RECENT)
    }

    /// Once a minute is often enough to know whether somebody is idle.
    pub(crate) fn wants_touch(&self, now: UnixTime) -> bool {
        now > self.seen.plus(60)
    }
}

/// Begins a session for this browser, whose cookie must be fresh.
pub(crate) async fn begin(
    tx: &mut Tx,
    browser: &Browser,
    person: &PersonId,
    now: UnixTime,
) -> Result<(), StoreError> {
    begin_as_of(tx, browser, person, (now, now)).await
}

/// The same for a person who proved themselves before, somewhere else.
pub(crate) async fn begin_as_of(
    tx: &mut Tx,
    browser: &Browser,
    person: &PersonId,
    (proved, now): (UnixTime, UnixTime),
) -> Result<(), StoreError> {
    let old = now.plus(-LIFE).0;
    tx.execute(sql("DELETE FROM ssa_session WHERE created < $1").bind(old))
        .await?;
    tx.execute(sql("DELETE FROM ssa_consent WHERE at < $1").bind(old))
        .await?;
    let insert = "INSERT INTO ssa_session (id, person, created, seen) VALUES ($1, $2, $3, $4)";
    let insert = sql(insert)
        .bind(browser.id())
        .bind(person.as_str())
        .bind(proved.min(now).0)
        .bind(now.0);
    tx.execute(insert).await.map(drop)
}

/// The live session of this browser.
pub(crate) async fn find(
    tx: &mut Tx,
    browser: &Browser,
    now: UnixTime,
) -> Result<Option<Session>, StoreError> {
    let id = browser.id();
    let query = "SELECT person, created, seen FROM ssa_session WHERE id = $1";
    let Some(row) = tx.fetch_optional(sql(query).bind(&id)).await? else {
        return Ok(None);
    };
    let (created, seen) = (row.int("created")?, row.int("seen")?);
    if now.0 >= created.saturating_add(LIFE) || now.0 >= seen.saturating_add(IDLE) {
        return Ok(None);
    }
    let person = PersonId::parse(row.text("person")?).map_err(|_| StoreError::Column("person"))?;
    Ok(Some(Session {
        id,
        person,
        created: UnixTime(created),
        seen: UnixTime(seen),
        from: browser.from(),
    }))
}

/// Starts the idle time anew.
pub(crate) async fn touch(tx: &mut Tx, session: &str, now: UnixTime) -> Result<(), StoreError> {
    let update = "UPDATE ssa_session SET seen = $1 WHERE id = $2 AND seen < $1";
    tx.execute(sql(update).bind(now.0).bind(session))
        .await
        .map(drop)
}

/// Ends the session of this browser.
pub(crate) async fn end(tx: &mut Tx, browser: &Browser) -> Result<(), StoreError> {
    let id = browser.id();
    tx.execute(sql("DELETE FROM ssa_consent WHERE session = $1").bind(&id))
        .await?;
    tx.execute(sql("DELETE FROM ssa_session WHERE id = $1").bind(&id))
        .await
        .map(drop)
}

/// Ends all sessions of a person but this one. Answers which.
async fn end_others(tx: &mut Tx, session: &Session) -> Result<Vec<String>, StoreError> {
    let consents = "DELETE FROM ssa_consent WHERE session IN \
                    (SELECT id FROM ssa_session WHERE person = $1 AND id <> $2)";
    let person = session.person.as_str();
    tx.execute(sql(consents).bind(person).bind(&session.id))
        .await?;
    let others = "DELETE FROM ssa_session WHERE person = $1 AND id <> $2 RETURNING id";
    let ended = tx.fetch_all(sql(others).bind(person).bind(&session.id));
    ended.await?.iter().map(|row| row.text("id")).collect()
}

impl Ssa {
    /// Ends what else a person's logins opened: other sessions, and the rights of applications to read about their
    /// keys, which have to ask anew.
    pub(crate) async fn end_elsewhere(
        &self,
        tx: &mut Tx,
        session: &Session,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        for ended in end_others(tx, session).await? {
            let event = Event::LoggedOut {
                person: session.person.clone(),
                reason: "everywhere".into(),
                session: Digest32::parse(&ended).ok(),
            };
            self.audit().append(tx, event, now).await?;
        }
        refresh::end_person(tx, &session.person).await?;
        tokens::revoke_person(tx, &session.person).await.map(drop)
    }
}

/// Live sessions of a person.
pub(crate) async fn count(
    tx: &mut Tx,
    person: &PersonId,
    now: UnixTime,
) -> Result<i64, StoreError> {
    let query =
        "SELECT COUNT(*) AS n FROM ssa_session WHERE person = $1 AND created > $2 AND seen > $3";
    let query = sql(query)
        .bind(person.as_str())
        .bind(now.plus(-LIFE).0)
        .bind(now.plus(-IDLE).0);
    tx.fetch_one(query).await?.int("n")
}

/// Remembers for this session that its person let the client see their keys.
pub(crate) async fn consent(
    tx: &mut Tx,
    session: &str,
    client: &str,
    now: UnixTime,
) -> Result<(), StoreError> {
    let insert =
        "INSERT INTO ssa_consent (session, client, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    tx.execute(sql(insert).bind(session).bind(client).bind(now.0))
        .await
        .map(drop)
}

/// Whether it was remembered.
pub(crate) async fn consented(
    tx: &mut Tx,
    session: &str,
    client: &str,
) -> Result<bool, StoreError> {
    let query = "SELECT at FROM ssa_consent WHERE session = $1 AND client = $2";
    let row = tx.fetch_optional(sql(query).bind(session).bind(client));
    Ok(row.await?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookie: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(cookie).unwrap())])
    }

    #[test]
    fn the_cookie_is_found_among_others_and_never_guessed() {
        let value = "a".repeat(43);
        let one = format!("x=1; natsuin={value}");
        assert!(Browser::of(&headers(&one), false).is_some());
        assert!(Browser::of(&headers(&one), true).is_none());
        let two = format!("natsuin={value}; natsuin={value}");
        assert!(Browser::of(&headers(&two), false).is_none());
        assert!(Browser::of(&headers("natsuin=short"), false).is_none());
        assert!(Browser::of(&HeaderMap::new(), false).is_none());
    }

    #[test]
    fn cookie_and_form_token_are_bound_to_the_browser() {
        let a = Browser::new(SecretText::new("a".repeat(43)));
        let b = Browser::new(SecretText::new("b".repeat(43)));
        assert!(a.sent(&a.form_token()));
        assert!(!a.sent(&b.form_token()));
        assert_ne!(a.form_token(), a.id());
        let secure = a.set_cookie(true).to_str().unwrap().to_owned();
        assert!(secure.starts_with("__Host-natsuin=") && secure.ends_with("; Secure"));
    }
}
