//! Persons in the log. An entry names a person by a salted commitment; which one it is stands in a table beside, and can
//! be forgotten without touching an entry. A person of a tenant stands in that table under [`TenantId::name`]; the commitment
//! is over the name that the tenant itself uses, which is the one in acts: the salt tells the same names of two tenants apart.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use core_types::{Digest32, PersonId, PersonName, Random, TenantId, UnixTime, sha256};
use store_kit::{Store, StoreError, Tx, sql};

use crate::error::AuditError;
use crate::place;

/// Most persons that a process remembers; then it begins anew.
const MOST: usize = 50_000;
/// Persons read at a time.
const PAGE: i64 = 1000;

/// What links a person to their entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// As entries have it.
    pub alias: PersonId,
    /// 32 random bytes of this person in this zone.
    pub salt: Vec<u8>,
}

/// The name in entries: base64url(SHA-256("natsuin-audit-person\n" ‖ salt ‖ person)).
pub(crate) fn commitment(salt: &[u8], person: &str) -> Digest32 {
    let own = TenantId::own_name(person);
    sha256(&[b"natsuin-audit-person\n", salt, own.as_bytes()])
}

/// Persons whose commitments were committed.
pub(crate) struct Persons {
    random: Arc<dyn Random>,
    known: Arc<Mutex<HashMap<String, Opening>>>,
}

impl Persons {
    pub(crate) fn new(random: Arc<dyn Random>) -> Self {
        Self {
            random,
            known: Arc::default(),
        }
    }

    /// The name of a person in this zone's entries; a new one gets it now.
    pub(crate) async fn alias(&self, tx: &mut Tx, person: &str) -> Result<PersonId, StoreError> {
        Ok(self.opening(tx, person).await?.alias)
    }

    /// The same, with what it is made of.
    pub(crate) async fn opening(&self, tx: &mut Tx, person: &str) -> Result<Opening, StoreError> {
        let known = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(person).cloned()
        };
        if let Some(opening) = known {
            return Ok(opening);
        }
        if find(tx, person).await?.is_none() {
            let mut salt = vec![0; 32];
            self.random.fill(&mut salt);
            let insert = "INSERT INTO audit_person (person, alias, salt) VALUES ($1, $2, $3) \
                          ON CONFLICT (person) DO NOTHING";
            let alias = commitment(&salt, person).to_string();
            let insert = sql(insert).bind(person).bind(alias);
            tx.execute(insert.bind(salt)).await?;
        }
        let found = find(tx, person).await?;
        let opening = found.ok_or(StoreError::Audit("a person can't be named"))?;
        let (known, of, named) = (self.known.clone(), person.to_owned(), opening.clone());
        tx.when_committed(move || {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(of, named);
        });
        Ok(opening)
    }

    /// Forgets who it is. Answers the name that entries keep.
    pub(crate) async fn forget(
        &self,
        tx: &mut Tx,
        person: &str,
    ) -> Result<Option<PersonId>, StoreError> {
        let Some(opening) = find(tx, person).await? else {
            return Ok(None);
        };
        let delete = sql("DELETE FROM audit_person WHERE person = $1");
        tx.execute(delete.bind(person)).await?;
        place::forget(tx, &opening).await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(person);
        Ok(Some(opening.alias))
    }
}

async fn find(tx: &mut Tx, person: &str) -> Result<Option<Opening>, StoreError> {
    let select = sql("SELECT alias, salt FROM audit_person WHERE person = $1");
    let row = tx.fetch_optional(select.bind(person)).await?;
    row.map(|row| {
        let alias = PersonId::parse(row.text("alias")?);
        Ok(Opening {
            alias: alias.map_err(|_| StoreError::Column("alias"))?,
            salt: row.blob("salt")?,
        })
    })
    .transpose()
}

/// Checks that every alias belongs to its person, and that every alias in the entries has one or was forgotten by an
/// entry that says so. Entries from before there were aliases name persons themselves.
///
/// # Errors
/// [`AuditError::Person`]: the first that doesn't fit.
pub(crate) async fn check(tx: &mut Tx) -> Result<(), AuditError> {
    let mut after = String::new();
    loop {
        let select = "SELECT person, alias, salt FROM audit_person WHERE person > $1 ORDER BY person LIMIT $2";
        let rows = tx.fetch_all(sql(select).bind(&after).bind(PAGE)).await?;
        let Some(last) = rows.last() else { break };
        after = last.text("person")?;
        for row in &rows {
            let alias = row.text("alias")?;
            if !is_of(&row.text("person")?, &alias, &row.blob("salt")?) {
                return Err(AuditError::Person(alias));
            }
        }
    }
    let select = "SELECT body FROM audit_entry WHERE kind = 'audit.person-forgotten'";
    let rows = tx.fetch_all(sql(select)).await?;
    let forgotten = rows.iter().map(|row| {
        let body: serde_json::Value = serde_json::from_str(&row.text("body")?).unwrap_or_default();
        Ok(body["detail"]["alias"]
            .as_str()
            .unwrap_or_default()
            .to_owned())
    });
    let forgotten: BTreeSet<String> = forgotten.collect::<Result<_, StoreError>>()?;
    let mut after = String::new();
    loop {
        let select = "SELECT DISTINCT e.person AS alias FROM audit_entry e WHERE e.person > $1 \
                      AND NOT EXISTS (SELECT 1 FROM audit_person p WHERE p.alias = e.person) \
                      ORDER BY e.person LIMIT $2";
        let rows = tx.fetch_all(sql(select).bind(&after).bind(PAGE)).await?;
        let Some(last) = rows.last() else {
            return Ok(());
        };
        after = last.text("alias")?;
        for row in &rows {
            let alias = row.text("alias")?;
            if Digest32::parse(&alias).is_ok() && !forgotten.contains(&alias) {
                return Err(AuditError::Person(alias));
            }
        }
    }
}

/// What officers approve in place of a person's name: SHA-256("natsuin-forget-person-v1\n" ‖ salt ‖ name), where the name of another
/// tenant's person is TENANT/ID.
pub fn subject_of(salt: &[u8], person: &PersonName) -> Digest32 {
    sha256(&[
        b"natsuin-forget-person-v1\n",
        salt,
        person.as_str().as_bytes(),
    ])
}

/// Why a person isn't forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// Something was recorded about them too short a time ago.
    #[error("the last entry about this person is of {}, and has to be kept longer", .0.rfc3339())]
    Kept(UnixTime),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Checks that nothing was recorded about a person at `before` or later, entries that were deleted after archiving
/// included. `person`: of a tenant by [`TenantId::name`].
///
/// # Errors
/// [`ForgetError`].
pub async fn check_over(tx: &mut Tx, person: &str, before: UnixTime) -> Result<(), ForgetError> {
    let select = "SELECT seen, (SELECT max(at) FROM audit_entry e WHERE e.person = p.alias) AS last \
                  FROM audit_person p WHERE person = $1";
    let row = tx.fetch_optional(sql(select).bind(person)).await?;
    let Some(row) = row else { return Ok(()) };
    let last = row.maybe_int("seen")?.max(row.maybe_int("last")?);
    match last.map(UnixTime).filter(|last| *last >= before) {
        Some(last) => Err(ForgetError::Kept(last)),
        None => Ok(()),
    }
}

/// Names of evidence in the entries about a person, who is named as in [`check_over`].
///
/// # Errors
/// [`StoreError`].
pub async fn evidence_about(tx: &mut Tx, person: &str) -> Result<Vec<Digest32>, StoreError> {
    let select = "SELECT e.body FROM audit_entry e JOIN audit_person p ON p.alias = e.person WHERE p.person = $1";
    let rows = tx.fetch_all(sql(select).bind(person)).await?;
    let mut found = Vec::new();
    for row in rows {
        let body: serde_json::Value = serde_json::from_str(&row.text("body")?).unwrap_or_default();
        let named = body["detail"]["evidence"].as_str();
        found.extend(named.and_then(|name| Digest32::parse(name).ok()));
    }
    Ok(found)
}

/// Whether the person has this alias with this salt.
pub(crate) fn is_of(person: &str, alias: &str, salt: &[u8]) -> bool {
    let parts = person.split_once('/');
    let named = match parts {
        Some((tenant, own)) => TenantId::parse(tenant).is_ok() && PersonId::parse(own).is_ok(),
        None => PersonId::parse(person).is_ok(),
    };
    named && commitment(salt, person).to_string() == alias
}

/// By what name entries tell of a person's row, as this transaction sees it; nothing when no entry does, or it was forgotten.
///
/// # Errors
/// [`StoreError`].
pub async fn row_name(tx: &mut Tx, person: &str) -> Result<Option<String>, StoreError> {
    let found = find(tx, person).await?;
    Ok(found.map(|opening| opening.alias.as_str().to_owned()))
}

/// Whose row entries tell of by this name: the reverse of [`row_name`].
///
/// # Errors
/// [`StoreError`].
pub async fn row_of(tx: &mut Tx, name: &str) -> Result<Option<String>, StoreError> {
    let select = sql("SELECT person FROM audit_person WHERE alias = $1");
    let row = tx.fetch_optional(select.bind(name)).await?;
    row.map(|row| row.text("person")).transpose()
}

/// Whether entries name this person's rows no more, because an entry says that the person was forgotten.
///
/// # Errors
/// [`StoreError`].
pub async fn is_forgotten(tx: &mut Tx, name: &str) -> Result<bool, StoreError> {
    let select = "SELECT 1 AS found FROM audit_entry WHERE kind = 'audit.person-forgotten' AND body LIKE $1 LIMIT 1";
    let select = sql(select).bind(format!("%\"alias\":\"{name}\"%"));
    Ok(tx.fetch_optional(select).await?.is_some())
}

/// What links a person to their entries, for their own evidence and for auditors; nothing when no entry is about them, or
/// it was forgotten. `person`: of a tenant by [`TenantId::name`].
///
/// # Errors
/// [`StoreError`].
pub async fn opening(store: &Store, person: &str) -> Result<Option<Opening>, StoreError> {
    let mut tx = store.read("audit-person").await?;
    find(&mut tx, person).await
}
