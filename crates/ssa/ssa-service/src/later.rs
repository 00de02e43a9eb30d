//! Calls of `signatures/signHash` that don't wait for their values. Such a call is kept, sealed, until its outcome is; whoever
//! finds one that nobody works on takes it up again, with the same key, for which the SAM makes nothing twice.

use core_types::{ClientId, PersonId, UnixTime};
use csc_types::{SecretText, SignHashResponse};
use sam_api::Refusal;
use sam_api::ssa::SignRequest;
use service_kit::CallError;
use store_kit::{Row, StoreError, Tx, sql, transaction};

use crate::csc::signed;
use crate::tokens::{Holder, Token, read_holder};
use crate::{Ssa, crypt, notices};

/// Nobody else takes a call up for so many seconds.
const LEASE: i64 = 150;
/// When the SAM couldn't be asked, it is asked again after so many seconds.
const PAUSE: i64 = 5;

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing yet.
    Open,
    Signed(SignHashResponse),
    Refused(Refusal),
}

struct Later {
    id: String,
    client: ClientId,
    person: Option<PersonId>,
    holder: Option<Holder>,
    outcome: Outcome,
    lease: UnixTime,
    exp: UnixTime,
    /// Sealed request to the SAM; gone when there is an outcome.
    call: Option<Vec<u8>>,
    /// Who is told of the outcome, sealed; gone when it is on its way.
    notice: Option<Vec<u8>>,
    version: i64,
}

/// Keeps a call and begins with it; answers the name by which its client asks.
pub(crate) async fn begin(
    ssa: &Ssa,
    token: &Token,
    mut asked: SignRequest,
    keep: i64,
    response_uri: Option<String>,
) -> Result<Option<SecretText>, StoreError> {
    let name = crypt::draw(ssa.random());
    let id = crypt::digest(name.expose());
    let now = ssa.now();
    if asked.idempotency_key.is_none() {
        asked.idempotency_key = Some(crypt::draw(ssa.random()).expose().to_owned());
    }
    let json = serde_json::to_vec(&asked).map_err(|_| StoreError::Column("call"))?;
    let json = core_types::SecretBytes::new(json);
    let sealed = ssa.sealer().seal(ssa.random(), &place(&id), json.expose());
    let Some(sealed) = sealed else {
        return Ok(None);
    };
    let notice = match response_uri {
        None => None,
        Some(uri) => match notices::sealed(ssa, &id, &name, uri)? {
            None => return Ok(None),
            sealed => sealed,
        },
    };
    let new = Later {
        id,
        notice,
        client: token.client.clone(),
        person: token.person.clone(),
        holder: token.holder,
        outcome: Outcome::Open,
        lease: now.plus(LEASE),
        exp: now.plus(keep),
        call: Some(sealed),
        version: 0,
    };
    transaction!(ssa.store(), "sign-later", |tx| {
        insert(tx, &new, now).await
    })?;
    let ssa = ssa.clone();
    tokio::spawn(async move {
        if let Err(error) = work(&ssa, new).await {
            tracing::error!(%error, "a call that didn't wait could not be finished; asking for it takes it up again");
        }
    });
    Ok(Some(name))
}

/// What became of a call of this token's client and person; `None` when there is none, or none any more.
pub(crate) async fn outcome(
    ssa: &Ssa,
    token: &Token,
    name: &SecretText,
) -> Result<Option<Outcome>, StoreError> {
    let now = ssa.now();
    let mut tx = ssa.store().read("sign-later").await?;
    let found = find(&mut tx, &crypt::digest(name.expose())).await?;
    drop(tx);
    let own = found.filter(|found| {
        found.client == token.client
            && found.holder == token.holder
            && (token.person.is_none() || found.person == token.person)
            && now < found.exp
    });
    let Some(found) = own else {
        return Ok(None);
    };
    if found.outcome != Outcome::Open || now < found.lease {
        return Ok(Some(found.outcome));
    }
    // Whoever worked on it is gone.
    let Some(taken) = take(ssa, found, now).await? else {
        return Ok(Some(Outcome::Open));
    };
    work(ssa, taken).await.map(Some)
}

/// Asks the SAM and keeps the outcome.
async fn work(ssa: &Ssa, later: Later) -> Result<Outcome, StoreError> {
    let sealed = later.call.as_deref().ok_or(StoreError::Column("call"))?;
    let json = ssa.sealer().open(&place(&later.id), sealed);
    let json = json.ok_or(StoreError::Column("call"))?;
    let asked: SignRequest =
        serde_json::from_slice(json.expose()).map_err(|_| StoreError::Column("call"))?;
    let (outcome, lease) = match ssa.sam().sign(&asked).await {
        Ok(answer) => (Outcome::Signed(signed(answer)), later.lease),
        Err(CallError::Refused(Refusal::NotNow) | CallError::Unreachable | CallError::Unknown) => {
            (Outcome::Open, ssa.now().plus(PAUSE))
        }
        Err(CallError::Refused(refusal)) => (Outcome::Refused(refusal), later.lease),
    };
    let open = outcome == Outcome::Open;
    let done = Later {
        call: later.call.filter(|_| open),
        notice: later.notice.clone().filter(|_| open),
        outcome: outcome.clone(),
        lease,
        ..later
    };
    let now = ssa.now();
    let told = later.notice.filter(|_| !open);
    let told = transaction!(ssa.store(), "signed-later", |tx| {
        let mine = update(tx, &done).await?;
        if mine && let Some(notice) = &told {
            notices::insert(tx, &done.id, &done.client, notice, now).await?;
        }
        Ok::<_, StoreError>(mine && told.is_some())
    })?;
    if told {
        notices::soon(ssa);
    }
    Ok(outcome)
}

/// Takes up calls that nobody works on any more and of which somebody wants to be told. Others wait until they are asked for.
pub(crate) async fn resume(ssa: &Ssa) -> Result<(), StoreError> {
    let query = "SELECT id FROM ssa_later WHERE lease <= $1 AND exp > $1 AND call IS NOT NULL AND notice IS NOT NULL \
                 ORDER BY lease LIMIT 20";
    let mut tx = ssa.store().read("resume-later").await?;
    let rows = tx.fetch_all(sql(query).bind(ssa.now().0)).await?;
    let ids: Vec<String> = rows
        .iter()
        .map(|row| row.text("id"))
        .collect::<Result<_, _>>()?;
    let mut left = Vec::new();
    for id in ids {
        left.extend(find(&mut tx, &id).await?);
    }
    drop(tx);
    let tasks: Vec<_> = left
        .into_iter()
        .map(|later| {
            let ssa = ssa.clone();
            // Each by itself, with a lease from when it begins: one that takes long holds up no other.
            tokio::spawn(async move {
                if let Some(taken) = take(&ssa, later, ssa.now()).await? {
                    work(&ssa, taken).await?;
                }
                Ok::<_, StoreError>(())
            })
        })
        .collect();
    let mut outcome = Ok(());
    for task in tasks {
        if let Ok(Err(error)) = task.await {
            outcome = Err(error);
        }
    }
    outcome
}

/// Whether one more call of this client may wait.
pub(crate) async fn has_room(ssa: &Ssa, client: &ClientId) -> Result<bool, StoreError> {
    let query =
        "SELECT COUNT(*) AS n FROM ssa_later WHERE client = $1 AND exp > $2 AND call IS NOT NULL";
    let query = sql(query).bind(client.as_str()).bind(ssa.now().0);
    let mut tx = ssa.store().read("sign-later").await?;
    let waiting = tx.fetch_one(query).await?.int("n")?;
    Ok(waiting < i64::from(ssa.config().most_pending))
}

/// Takes a call up; `None` when somebody else did.
async fn take(ssa: &Ssa, later: Later, now: UnixTime) -> Result<Option<Later>, StoreError> {
    let next = Later {
        lease: now.plus(LEASE),
        ..later
    };
    let mine = transaction!(ssa.store(), "take-later", |tx| { update(tx, &next).await })?;
    Ok(mine.then_some(Later {
        version: next.version + 1,
        ..next
    }))
}

fn place(id: &str) -> String {
    format!("ssa/later/{id}")
}

async fn insert(tx: &mut Tx, new: &Later, now: UnixTime) -> Result<(), StoreError> {
    tx.execute(sql("DELETE FROM ssa_later WHERE exp < $1").bind(now.0))
        .await?;
    let insert = "INSERT INTO ssa_later (id, client, person, cnf, call, outcome, lease, exp, notice, version) \
                  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0)";
    let insert = sql(insert)
        .bind(&new.id)
        .bind(new.client.as_str())
        .bind(new.person.as_ref().map_or("", PersonId::as_str))
        .bind(new.holder.map(|holder| holder.to_string()))
        .bind(new.call.as_deref())
        .bind(written(&new.outcome)?)
        .bind(new.lease.0)
        .bind(new.exp.0)
        .bind(new.notice.as_deref());
    tx.execute(insert).await.map(drop)
}

async fn update(tx: &mut Tx, later: &Later) -> Result<bool, StoreError> {
    let update = "UPDATE ssa_later SET call = $1, outcome = $2, lease = $3, version = $4, notice = $7 \
                  WHERE id = $5 AND version = $6";
    let update = sql(update)
        .bind(later.call.as_deref())
        .bind(written(&later.outcome)?)
        .bind(later.lease.0)
        .bind(later.version + 1)
        .bind(&later.id)
        .bind(later.version)
        .bind(later.notice.as_deref());
    Ok(tx.execute(update).await? == 1)
}

async fn find(tx: &mut Tx, id: &str) -> Result<Option<Later>, StoreError> {
    let query = "SELECT id, client, person, cnf, call, outcome, lease, exp, notice, version FROM ssa_later WHERE id = $1";
    let row = tx.fetch_optional(sql(query).bind(id)).await?;
    row.map(|row| read(&row)).transpose()
}

fn read(row: &Row) -> Result<Later, StoreError> {
    let person = match row.text("person")? {
        none if none.is_empty() => None,
        person => Some(PersonId::parse(person).map_err(|_| StoreError::Column("person"))?),
    };
    Ok(Later {
        id: row.text("id")?,
        client: ClientId::parse(row.text("client")?).map_err(|_| StoreError::Column("client"))?,
        person,
        holder: read_holder(row)?,
        outcome: read_outcome(&row.text("outcome")?)?,
        lease: UnixTime(row.int("lease")?),
        exp: UnixTime(row.int("exp")?),
        call: row.maybe_blob("call")?,
        notice: row.maybe_blob("notice")?,
        version: row.int("version")?,
    })
}

/// Empty while there is none; then one letter and JSON.
fn written(outcome: &Outcome) -> Result<String, StoreError> {
    let json = match outcome {
        Outcome::Open => return Ok(String::new()),
        Outcome::Signed(values) => serde_json::to_string(values).map(|json| format!("s{json}")),
        Outcome::Refused(refusal) => serde_json::to_string(refusal).map(|json| format!("r{json}")),
    };
    json.map_err(|_| StoreError::Column("outcome"))
}

fn read_outcome(text: &str) -> Result<Outcome, StoreError> {
    let outcome = match text.split_at_checked(1) {
        None => Some(Outcome::Open),
        Some(("s", json)) => serde_json::from_str(json).ok().map(Outcome::Signed),
        Some(("r", json)) => serde_json::from_str(json).ok().map(Outcome::Refused),
        Some(_) => None,
    };
    outcome.ok_or(StoreError::Column("outcome"))
}
