//! Identities of a person elsewhere that log in here: a certificate, by its issuer and serial number; an account at an OpenID
//! provider, by issuer and subject. A person binds them
//! after logging in another way, each to one person; like every login they open the portal and sign nothing.

use audit_log::{Event, Place};
use core_types::{Digest32, PersonId, SecretBytes, UnixTime};
use serde::{Deserialize, Serialize};
use store_kit::{Row, StoreError, Tx, sql, transaction};

use crate::Ssa;
use crate::session::{self, Browser, Session};
use crate::trips::Shown;

/// Most identities of a person.
pub(crate) const MOST: usize = 10;

/// What kind of identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    Certificate,
    /// A person at an OpenID provider.
    Provider,
}

impl Kind {
    /// As the audit log calls a login with it.
    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Provider => "provider",
        }
    }

    /// The same with the assurance level that was reached.
    pub(crate) fn method_at(self, assurance: u8) -> &'static str {
        match (self, assurance) {
            (Self::Provider, 1) => "provider-1",
            (Self::Provider, 2) => "provider-2",
            (Self::Provider, 3) => "provider-3",
            (kind, _) => kind.method(),
        }
    }
}

/// An identity of a person as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) id: Digest32,
    pub(crate) kind: Kind,
    pub(crate) person: PersonId,
    /// What the person calls it.
    pub(crate) name: String,
    /// What it says of itself.
    pub(crate) text: String,
    pub(crate) created: UnixTime,
    pub(crate) used: Option<UnixTime>,
}

/// What is sealed for row and person: whoever can write to the store can't bind an identity.
#[derive(Serialize, Deserialize)]
struct Record {
    kind: Kind,
    text: String,
}

impl Ssa {
    /// Logs in whoever an identity is bound to, and begins a session for `fresh`, a browser cookie nobody has seen yet.
    /// `None` when it is nobody's.
    pub(crate) async fn log_in_by_link(
        &self,
        tx: &mut Tx,
        kind: Kind,
        method: &'static str,
        shown: &Shown,
        fresh: &Browser,
        (proved, now): (UnixTime, UnixTime),
    ) -> Result<Option<PersonId>, StoreError> {
        let query = "SELECT id, person, name, record, created, used FROM ssa_link WHERE id = $1";
        let row = tx
            .fetch_optional(sql(query).bind(shown.id.to_string()))
            .await?;
        let found = row.map(|row| self.read_link(&row)).transpose()?;
        let Some(link) = found.flatten().filter(|link| link.kind == kind) else {
            let reason = "identity-unknown";
            self.link_refused(tx, kind, None, reason, now).await?;
            return Ok(None);
        };
        let update = sql("UPDATE ssa_link SET used = $1 WHERE id = $2");
        tx.execute(update.bind(now.0).bind(link.id.to_string()))
            .await?;
        session::begin_as_of(tx, fresh, &link.person, (proved, now)).await?;
        let event = Event::LoginSucceeded {
            person: link.person.clone(),
            method: method.into(),
            session: fresh.session(),
            from: fresh.from(),
            credential: Some(link.id),
        };
        self.audit().append(tx, event, now).await?;
        Ok(Some(link.person))
    }

    /// Records a login that failed elsewhere.
    pub(crate) async fn link_refused(
        &self,
        tx: &mut Tx,
        kind: Kind,
        person: Option<PersonId>,
        reason: &'static str,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let event = Event::LoginFailed {
            person,
            method: kind.method().into(),
            reason: reason.into(),
            // Of a login elsewhere nobody is known here; a binding is its session's.
            from: Place::Unknown,
        };
        self.audit().append(tx, event, now).await.map(drop)
    }

    /// Records that an identity wasn't bound to this person.
    pub(crate) async fn bind_refused(
        &self,
        kind: Kind,
        person: PersonId,
        reason: &'static str,
    ) -> Result<(), StoreError> {
        let now = self.now();
        transaction!(self.store(), "bind-refused", |tx| {
            self.link_refused(tx, kind, Some(person.clone()), reason, now)
                .await
        })
    }

    /// Binds an identity to the person of this session. `false`: it is bound already, to whomever, or there are too many.
    pub(crate) async fn add_link(
        &self,
        tx: &mut Tx,
        session: &Session,
        kind: Kind,
        name: &str,
        shown: &Shown,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        let person = &session.person;
        let count = sql("SELECT COUNT(*) AS n FROM ssa_link WHERE person = $1");
        let count = tx.fetch_one(count.bind(person.as_str())).await?;
        if count.int("n")? >= MOST as i64 {
            return Ok(false);
        }
        let record = Record {
            kind,
            text: shown.text.clone(),
        };
        let record = serde_json::to_vec(&record).map_err(|_| StoreError::Column("record"))?;
        let sealed = self
            .sealer()
            .seal(self.random(), &place(shown.id, person), &record);
        let insert = "INSERT INTO ssa_link (id, person, name, record, created) VALUES ($1, $2, $3, $4, $5) \
                      ON CONFLICT DO NOTHING";
        let insert = sql(insert)
            .bind(shown.id.to_string())
            .bind(person.as_str())
            .bind(name)
            .bind(sealed.ok_or(StoreError::Column("record"))?)
            .bind(now.0);
        if tx.execute(insert).await? != 1 {
            return Ok(false);
        }
        let event = Event::LoginMethodAdded {
            person: person.clone(),
            method: kind.method().into(),
            id: shown.id,
        };
        self.audit().append(tx, event, now).await?;
        Ok(true)
    }

    /// The person's identities, oldest first.
    pub(crate) async fn links_of(&self, person: &PersonId) -> Result<Vec<Link>, StoreError> {
        let query = "SELECT id, person, name, record, created, used FROM ssa_link WHERE person = $1 ORDER BY created, id";
        let mut tx = self.store().read("links").await?;
        let rows = tx.fetch_all(sql(query).bind(person.as_str())).await?;
        let all: Result<Vec<_>, _> = rows.iter().map(|row| self.read_link(row)).collect();
        Ok(all?.into_iter().flatten().collect())
    }

    /// Removes an identity of this person; `false` when there is none with this id.
    pub(crate) async fn remove_link(
        &self,
        session: &Session,
        id: &str,
    ) -> Result<bool, StoreError> {
        let Ok(id) = Digest32::parse(id) else {
            return Ok(false);
        };
        let links = self.links_of(&session.person).await?;
        // One that was altered in the store has no kind any more; it goes all the same.
        let kind = links
            .iter()
            .find(|link| link.id == id)
            .map(|link| link.kind);
        let now = self.now();
        transaction!(self.store(), "remove-link", |tx| {
            let delete = sql("DELETE FROM ssa_link WHERE id = $1 AND person = $2");
            let delete = delete.bind(id.to_string()).bind(session.person.as_str());
            if tx.execute(delete).await? != 1 {
                return Ok(false);
            }
            // A card that is taken away may have been lost: what it opened elsewhere ends with it.
            self.end_elsewhere(tx, session, now).await?;
            let event = Event::LoginMethodRemoved {
                person: session.person.clone(),
                method: kind.map_or("unknown", Kind::method).into(),
                id,
            };
            self.audit().append(tx, event, now).await?;
            Ok::<_, StoreError>(true)
        })
    }

    /// `None`, and a line for the operator, when the record isn't the one that was written for this row and person.
    fn read_link(&self, row: &Row) -> Result<Option<Link>, StoreError> {
        let bad = StoreError::Column;
        let person = PersonId::parse(row.text("person")?).map_err(|_| bad("person"))?;
        let id = Digest32::parse(&row.text("id")?).map_err(|_| bad("id"))?;
        let opened = self
            .sealer()
            .open(&place(id, &person), &row.blob("record")?);
        let record =
            opened.and_then(|json: SecretBytes| serde_json::from_slice(json.expose()).ok());
        let Some(Record { kind, text }) = record else {
            tracing::error!(%person, "a bound identity was altered in the store; it is ignored");
            return Ok(None);
        };
        Ok(Some(Link {
            id,
            kind,
            person,
            name: row.text("name")?,
            text,
            created: UnixTime(row.int("created")?),
            used: row.maybe_int("used")?.map(UnixTime),
        }))
    }
}

fn place(id: Digest32, person: &PersonId) -> String {
    format!("ssa_link/record/{id}/{person}")
}
