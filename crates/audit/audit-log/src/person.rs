//! Persons in the log. An entry names a person by a salted commitment; which one it is stands in a table beside, and can
//! be forgotten without touching an entry.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use core_types::{Digest32, PersonId, Random, sha256};
use store_kit::{Store, StoreError, Tx, sql};

/// Most persons that a process remembers; then it begins anew.
const MOST: usize = 50_000;

/// What links a person to their entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// As entries have it.
    pub alias: PersonId,
    /// 32 random bytes of this person in this zone.
    pub salt: Vec<u8>,
}

/// The name in entries: base64url(SHA-256("natsuin-audit-person\n" ‖ salt ‖ person)).
pub(crate) fn commitment(salt: &[u8], person: &PersonId) -> Digest32 {
    sha256(&[b"natsuin-audit-person\n", salt, person.as_str().as_bytes()])
}

/// Persons whose commitments were committed.
pub(crate) struct Persons {
    random: Arc<dyn Random>,
    known: Arc<Mutex<HashMap<PersonId, PersonId>>>,
}

impl Persons {
    pub(crate) fn new(random: Arc<dyn Random>) -> Self {
        Self {
            random,
            known: Arc::default(),
        }
    }

    /// The name of a person in this zone's entries; a new one gets it now.
    pub(crate) async fn alias(
        &self,
        tx: &mut Tx,
        person: &PersonId,
    ) -> Result<PersonId, StoreError> {
        let known = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(person).cloned()
        };
        if let Some(alias) = known {
            return Ok(alias);
        }
        if find(tx, person).await?.is_none() {
            let mut salt = vec![0; 32];
            self.random.fill(&mut salt);
            let insert = "INSERT INTO audit_person (person, alias, salt) VALUES ($1, $2, $3) \
                          ON CONFLICT (person) DO NOTHING";
            let alias = commitment(&salt, person).to_string();
            let insert = sql(insert).bind(person.as_str()).bind(alias);
            tx.execute(insert.bind(salt)).await?;
        }
        let found = find(tx, person).await?;
        let alias = found
            .ok_or(StoreError::Audit("a person can't be named"))?
            .alias;
        let (known, of, named) = (self.known.clone(), person.clone(), alias.clone());
        tx.when_committed(move || {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(of, named);
        });
        Ok(alias)
    }

    /// Forgets who it is. Answers the name that entries keep.
    pub(crate) async fn forget(
        &self,
        tx: &mut Tx,
        person: &PersonId,
    ) -> Result<Option<PersonId>, StoreError> {
        let Some(opening) = find(tx, person).await? else {
            return Ok(None);
        };
        let delete = sql("DELETE FROM audit_person WHERE person = $1");
        tx.execute(delete.bind(person.as_str())).await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(person);
        Ok(Some(opening.alias))
    }
}

async fn find(tx: &mut Tx, person: &PersonId) -> Result<Option<Opening>, StoreError> {
    let select = sql("SELECT alias, salt FROM audit_person WHERE person = $1");
    let row = tx.fetch_optional(select.bind(person.as_str())).await?;
    row.map(|row| {
        let alias = PersonId::parse(row.text("alias")?);
        Ok(Opening {
            alias: alias.map_err(|_| StoreError::Column("alias"))?,
            salt: row.blob("salt")?,
        })
    })
    .transpose()
}

/// What links a person to their entries, for their own evidence and for auditors; nothing when no entry is about them, or
/// it was forgotten.
///
/// # Errors
/// [`StoreError`].
pub async fn opening(store: &Store, person: &PersonId) -> Result<Option<Opening>, StoreError> {
    let mut tx = store.read("audit-person").await?;
    find(&mut tx, person).await
}
