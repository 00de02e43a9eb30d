//! Login passkeys: registered in the portal after a login, on the portal's own RP ID. They open the portal and nothing
//! else; a signing passkey belongs to the SIC page's host, and the SSA never sees one (`sap.md` §11).

use audit_log::Event;
use core_types::{B64, Digest32, PersonId, SecretBytes, UnixTime, sha256};
use store_kit::{Row, StoreError, Tx, sql, transaction};
use webauthn::{
    Assertion, Passkey, Registration, RelyingParty, verify_assertion, verify_registration,
};

use crate::Ssa;
use crate::crypt::digest;
use crate::session::{self, Browser, Session};

/// Most passkeys of a person.
pub(crate) const MOST: usize = 10;
/// Longest name of a passkey in characters.
pub(crate) const NAME: usize = 40;
/// Life of a challenge in seconds.
pub(crate) const CHALLENGE_LIFE: i64 = 300;

/// How people log in, as the audit log calls it.
const METHOD: &str = "passkey";

/// What a challenge is for. One for logging in registers nothing, and the reverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ceremony {
    LogIn,
    Register,
}

impl Ceremony {
    fn name(self) -> &'static str {
        match self {
            Self::LogIn => "login",
            Self::Register => "register",
        }
    }
}

/// A passkey of a person as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct LoginPasskey {
    /// Digest of the credential id.
    pub(crate) id: String,
    pub(crate) person: PersonId,
    pub(crate) name: String,
    pub(crate) passkey: Passkey,
    pub(crate) created: UnixTime,
    pub(crate) used: Option<UnixTime>,
    version: i64,
}

/// An assertion with the challenge it answers.
pub(crate) struct Shown {
    pub(crate) challenge: Digest32,
    pub(crate) id: Vec<u8>,
    pub(crate) auth_data: Vec<u8>,
    pub(crate) client_data: Vec<u8>,
    pub(crate) sig: Vec<u8>,
    /// Whose passkey the authenticator says it is.
    pub(crate) user: Vec<u8>,
}

/// A new passkey with the challenge it answers.
pub(crate) struct Made {
    pub(crate) challenge: Digest32,
    pub(crate) id: Vec<u8>,
    pub(crate) client_data: Vec<u8>,
    pub(crate) attestation: Vec<u8>,
    pub(crate) transports: Vec<String>,
}

impl Ssa {
    /// The portal as WebAuthn sees it; `None` where browsers offer no passkeys: IP addresses, and HTTP that isn't
    /// loopback.
    pub(crate) fn relying_party(&self) -> Option<RelyingParty> {
        let config = self.config();
        let url = url::Url::parse(&config.base_url).ok()?;
        let host = url.domain()?.to_owned();
        let local = host == "localhost" || host.ends_with(".localhost");
        (config.https() || local).then(|| RelyingParty {
            origin: config.base_url.clone(),
            rp_id: host,
        })
    }

    /// Draws a challenge for this browser.
    pub(crate) async fn new_challenge(
        &self,
        browser: &Browser,
        ceremony: Ceremony,
    ) -> Result<Digest32, StoreError> {
        let challenge = self.random().digest32();
        let now = self.now();
        transaction!(self.store(), "challenge", |tx| {
            tx.execute(sql("DELETE FROM ssa_challenge WHERE exp <= $1").bind(now.0))
                .await?;
            let insert =
                "INSERT INTO ssa_challenge (id, browser, ceremony, exp) VALUES ($1, $2, $3, $4)";
            let insert = sql(insert)
                .bind(digest(&challenge.to_string()))
                .bind(browser.id())
                .bind(ceremony.name())
                .bind(now.plus(CHALLENGE_LIFE).0);
            tx.execute(insert).await.map(drop)
        })?;
        Ok(challenge)
    }

    /// Logs in, and begins a session for `fresh`, a browser cookie nobody has seen yet. `false` tells nothing about
    /// what was wrong.
    pub(crate) async fn log_in_with_passkey(
        &self,
        browser: &Browser,
        shown: &Shown,
        fresh: &Browser,
    ) -> Result<bool, StoreError> {
        let now = self.now();
        transaction!(self.store(), "login-passkey", |tx| {
            let judged = self.judge(tx, browser, shown, now).await?;
            let (mut found, asserted) = match judged {
                Ok(good) => good,
                Err((person, reason)) => {
                    let event = Event::LoginFailed {
                        person,
                        method: METHOD.into(),
                        reason: reason.into(),
                        from: browser.from(),
                    };
                    self.audit().append(tx, event, now).await?;
                    return Ok(false);
                }
            };
            if asserted.counter_went_back {
                let what = "login-passkey-counter".into();
                self.audit().append(tx, Event::Alarm { what }, now).await?;
            }
            found.passkey.counter = asserted.counter;
            found.used = Some(now);
            self.write_passkey(tx, &found).await?;
            session::begin(tx, fresh, &found.person, now).await?;
            let event = Event::LoginSucceeded {
                person: found.person.clone(),
                method: METHOD.into(),
                session: fresh.session(),
                from: fresh.from(),
                credential: Digest32::parse(&row_id(&shown.id)).ok(),
            };
            self.audit().append(tx, event, now).await?;
            Ok::<_, StoreError>(true)
        })
    }

    async fn judge(
        &self,
        tx: &mut Tx,
        browser: &Browser,
        shown: &Shown,
        now: UnixTime,
    ) -> Result<Result<(LoginPasskey, webauthn::Asserted), Failure>, StoreError> {
        let Some(rp) = self.relying_party() else {
            return Ok(Err((None, "passkey-off")));
        };
        let challenge = shown.challenge;
        if !take_challenge(tx, challenge, browser, Ceremony::LogIn, now).await? {
            return Ok(Err((None, "passkey-challenge")));
        }
        let query = "SELECT id, person, name, record, created, used, version FROM ssa_passkey WHERE id = $1";
        let row = tx
            .fetch_optional(sql(query).bind(row_id(&shown.id)))
            .await?;
        let found = row.map(|row| self.read_passkey(&row)).transpose()?;
        let Some(found) = found.flatten() else {
            return Ok(Err((None, "passkey-unknown")));
        };
        let person = Some(found.person.clone());
        if shown.user != user_handle(&found.person).0 {
            return Ok(Err((person, "passkey-user")));
        }
        let assertion = Assertion {
            id: &shown.id,
            auth_data: &shown.auth_data,
            client_data: &shown.client_data,
            sig: &shown.sig,
        };
        let verified = verify_assertion(&rp, challenge, &found.passkey, assertion);
        Ok(match verified {
            Ok(asserted) => Ok((found, asserted)),
            Err(error) => Err((person, error.code())),
        })
    }

    /// Registers a passkey for the person of this session. `false`: it could not be accepted, or there are too many.
    pub(crate) async fn add_passkey(
        &self,
        browser: &Browser,
        session: &Session,
        name: &str,
        made: &Made,
    ) -> Result<bool, StoreError> {
        let Some(rp) = self.relying_party() else {
            return Ok(false);
        };
        let now = self.now();
        transaction!(self.store(), "add-passkey", |tx| {
            if !take_challenge(tx, made.challenge, browser, Ceremony::Register, now).await? {
                return Ok(false);
            }
            let registration = Registration {
                id: &made.id,
                client_data: &made.client_data,
                attestation: &made.attestation,
                transports: &made.transports,
            };
            let passkey = match verify_registration(&rp, made.challenge, registration) {
                Ok(passkey) => passkey,
                Err(error) => {
                    tracing::info!(%error, "a login passkey was not accepted");
                    return Ok(false);
                }
            };
            let count = "SELECT COUNT(*) AS n FROM ssa_passkey WHERE person = $1";
            let count = tx.fetch_one(sql(count).bind(session.person.as_str()));
            if count.await?.int("n")? >= MOST as i64 {
                return Ok(false);
            }
            let new = LoginPasskey {
                id: row_id(&passkey.id.0),
                person: session.person.clone(),
                name: name.to_owned(),
                passkey,
                created: now,
                used: None,
                version: 0,
            };
            let insert = "INSERT INTO ssa_passkey (id, person, name, record, created, version) \
                          VALUES ($1, $2, $3, $4, $5, 0) ON CONFLICT DO NOTHING";
            let insert = sql(insert)
                .bind(&new.id)
                .bind(new.person.as_str())
                .bind(&new.name)
                .bind(self.seal_passkey(&new)?)
                .bind(now.0);
            if tx.execute(insert).await? != 1 {
                return Ok(false);
            }
            let event = Event::LoginMethodAdded {
                person: new.person.clone(),
                method: METHOD.into(),
                id: sha256(&[&new.passkey.id.0]),
            };
            self.audit().append(tx, event, now).await?;
            Ok::<_, StoreError>(true)
        })
    }

    /// The person's passkeys, oldest first.
    pub(crate) async fn passkeys_of(
        &self,
        person: &PersonId,
    ) -> Result<Vec<LoginPasskey>, StoreError> {
        let query = "SELECT id, person, name, record, created, used, version FROM ssa_passkey \
                     WHERE person = $1 ORDER BY created, id";
        let mut tx = self.store().read("passkeys").await?;
        let rows = tx.fetch_all(sql(query).bind(person.as_str())).await?;
        let all: Result<Vec<_>, _> = rows.iter().map(|row| self.read_passkey(row)).collect();
        Ok(all?.into_iter().flatten().collect())
    }

    /// Gives a passkey of this person another name; `false` when there is none with this id.
    pub(crate) async fn rename_passkey(
        &self,
        person: &PersonId,
        id: &str,
        name: &str,
    ) -> Result<bool, StoreError> {
        transaction!(self.store(), "rename-passkey", |tx| {
            let update = "UPDATE ssa_passkey SET name = $1, version = version + 1 WHERE id = $2 AND person = $3";
            let update = sql(update).bind(name).bind(id).bind(person.as_str());
            Ok::<_, StoreError>(tx.execute(update).await? == 1)
        })
    }

    /// Removes a passkey of this person; `false` when there is none with this id.
    pub(crate) async fn remove_passkey(
        &self,
        session: &Session,
        id: &str,
    ) -> Result<bool, StoreError> {
        let now = self.now();
        transaction!(self.store(), "remove-passkey", |tx| {
            let delete = "DELETE FROM ssa_passkey WHERE id = $1 AND person = $2";
            let delete = sql(delete).bind(id).bind(session.person.as_str());
            if tx.execute(delete).await? != 1 {
                return Ok(false);
            }
            // A passkey that is taken away may have been lost: what it opened elsewhere ends with it.
            self.end_elsewhere(tx, session, now).await?;
            let event = Event::LoginMethodRemoved {
                person: session.person.clone(),
                method: METHOD.into(),
                id: Digest32::parse(id).map_err(|_| StoreError::Column("id"))?,
            };
            self.audit().append(tx, event, now).await?;
            Ok::<_, StoreError>(true)
        })
    }

    async fn write_passkey(&self, tx: &mut Tx, passkey: &LoginPasskey) -> Result<(), StoreError> {
        let update = "UPDATE ssa_passkey SET record = $1, used = $2, version = $3 WHERE id = $4 AND version = $5";
        let update = sql(update)
            .bind(self.seal_passkey(passkey)?)
            .bind(passkey.used.map(|used| used.0))
            .bind(passkey.version + 1)
            .bind(&passkey.id)
            .bind(passkey.version);
        tx.cas(update).await
    }

    fn seal_passkey(&self, passkey: &LoginPasskey) -> Result<Vec<u8>, StoreError> {
        let json = serde_json::to_vec(&passkey.passkey);
        let json = SecretBytes::new(json.map_err(|_| StoreError::Column("record"))?);
        let place = place(&passkey.id, &passkey.person);
        let sealed = self.sealer().seal(self.random(), &place, json.expose());
        sealed.ok_or(StoreError::Column("record"))
    }

    /// `None`, and a line for the operator, when the record isn't the one that was written for this row and person.
    fn read_passkey(&self, row: &Row) -> Result<Option<LoginPasskey>, StoreError> {
        let person =
            PersonId::parse(row.text("person")?).map_err(|_| StoreError::Column("person"))?;
        let id = row.text("id")?;
        let opened = self
            .sealer()
            .open(&place(&id, &person), &row.blob("record")?);
        let passkey = opened.and_then(|json| serde_json::from_slice(json.expose()).ok());
        let Some(passkey) = passkey else {
            tracing::error!(%person, "a login passkey was altered in the store; it is ignored");
            return Ok(None);
        };
        Ok(Some(LoginPasskey {
            id,
            person,
            name: row.text("name")?,
            passkey,
            created: UnixTime(row.int("created")?),
            used: row.maybe_int("used")?.map(UnixTime),
            version: row.int("version")?,
        }))
    }
}

/// Whom a refused login was about, if that is known, and why.
type Failure = (Option<PersonId>, &'static str);

/// Takes a challenge out of the store: it is there for one use, in the browser and for the ceremony it was drawn for.
async fn take_challenge(
    tx: &mut Tx,
    challenge: Digest32,
    browser: &Browser,
    ceremony: Ceremony,
    now: UnixTime,
) -> Result<bool, StoreError> {
    let delete =
        "DELETE FROM ssa_challenge WHERE id = $1 AND browser = $2 AND ceremony = $3 AND exp > $4";
    let delete = sql(delete)
        .bind(digest(&challenge.to_string()))
        .bind(browser.id())
        .bind(ceremony.name())
        .bind(now.0);
    Ok(tx.execute(delete).await? == 1)
}

fn row_id(credential: &[u8]) -> String {
    sha256(&[credential]).to_string()
}

fn place(id: &str, person: &PersonId) -> String {
    format!("ssa_passkey/record/{id}/{person}")
}

/// `user.id` of a person's login passkeys: says nothing about them to whoever reads an authenticator.
pub(crate) fn user_handle(person: &PersonId) -> Digest32 {
    sha256(&[b"natsuin-login-user-v1\n", person.as_str().as_bytes()])
}

/// A name as it is kept: cleaned, at most [`NAME`] characters; `fallback` when nothing is left.
pub(crate) fn tidy_name(text: &str, fallback: &str) -> String {
    let name: String = web_ui::clean(text.trim()).chars().take(NAME).collect();
    if name.is_empty() {
        fallback.to_owned()
    } else {
        name
    }
}

/// Ids and transports, so that an authenticator isn't registered twice.
pub(crate) fn hints(passkeys: &[LoginPasskey]) -> Vec<(&B64, &[String])> {
    passkeys
        .iter()
        .map(|p| (&p.passkey.id, p.passkey.transports.as_slice()))
        .collect()
}
