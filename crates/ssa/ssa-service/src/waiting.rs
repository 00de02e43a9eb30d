//! Requests of applications without a browser: they wait until their person finds them in the portal, decides on the SIC
//! page, and the application asks again. Neither a row here nor its handle has any power.

use core_types::{ClientId, Digest32, PersonId, UnixTime};
use csc_types::SecretText;
use sam_api::Refusal;
use sam_api::ssa::{RequestState, StatusRequest};
use service_kit::CallError;
use store_kit::{Row, StoreError, Tx, sql, transaction};

use crate::Ssa;
use crate::crypt::digest;
use crate::tokens::{Holder, KeyFacts, read_facts, read_holder};

/// Life in seconds where the contract says nothing.
const LIFE: u32 = 60 * 60;
/// How long a contract may have it, in seconds: the SAM keeps nothing longer that nobody has decided.
pub(crate) const BOUNDS: std::ops::RangeInclusive<u32> = 60..=24 * 60 * 60;
/// Most that one application may have waiting for one person.
pub(crate) const MOST: usize = 5;
/// After so many refusals within [`MUTED`] an application isn't heard.
const REFUSALS: i64 = 3;
/// For so many seconds.
const MUTED: i64 = 24 * 60 * 60;

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The person has not decided, as far as we know.
    Open,
    /// The person refused.
    Refused,
    /// It ran out, or its application doesn't wait any more.
    Over,
    /// Its application has what it asked for.
    Taken,
}

impl State {
    const ALL: [Self; 4] = [Self::Open, Self::Refused, Self::Over, Self::Taken];

    fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Refused => "refused",
            Self::Over => "over",
            Self::Taken => "taken",
        }
    }
}

/// A request as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    id: String,
    /// Its name in the portal; opens nothing without its person's login.
    pub(crate) label: String,
    pub(crate) client: ClientId,
    pub(crate) person: PersonId,
    pub(crate) facts: KeyFacts,
    /// Who alone may use the application's token.
    pub(crate) holder: Option<Holder>,
    pub(crate) items: i64,
    /// Sealed handle of the SAM's request.
    pub(crate) rid: Vec<u8>,
    pub(crate) state: State,
    pub(crate) created: UnixTime,
    pub(crate) exp: UnixTime,
    version: i64,
}

/// Life of a request in seconds, by what its contract says (`wait_seconds`; 0 = nothing).
pub(crate) fn life(agreed: u32) -> i64 {
    match agreed {
        0 => LIFE.into(),
        seconds => seconds.into(),
    }
}

impl Waiting {
    pub(crate) fn new(
        handle: &SecretText,
        label: &SecretText,
        asked: (ClientId, PersonId, KeyFacts),
        holder: Option<Holder>,
        items: usize,
        rid: Vec<u8>,
        (now, exp): (UnixTime, UnixTime),
    ) -> Self {
        let (client, person, facts) = asked;
        Self {
            id: digest(handle.expose()),
            label: label.expose().to_owned(),
            client,
            person,
            facts,
            holder,
            items: i64::try_from(items).unwrap_or(i64::MAX),
            rid,
            state: State::Open,
            created: now,
            exp,
            version: 0,
        }
    }

    pub(crate) fn lives(&self, now: UnixTime) -> bool {
        self.state == State::Open && now < self.exp
    }
}

/// Why an application may not ask its person now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// The person refused too often.
    Muted,
    /// Too many wait already; the first one ends in so many seconds.
    Full { seconds: i64 },
}

/// Whether another request may be put before this person. Whoever asks for the same pair waits for this transaction.
pub(crate) async fn admit(
    tx: &mut Tx,
    client: &ClientId,
    person: &PersonId,
    now: UnixTime,
) -> Result<Result<(), Held>, StoreError> {
    let old = now.plus(-MUTED).0;
    tx.execute(sql("DELETE FROM ssa_waiting WHERE exp < $1").bind(old))
        .await?;
    let first = "INSERT INTO ssa_mute (client, person, refusals, since, until, version) \
                 VALUES ($1, $2, 0, 0, 0, 0) ON CONFLICT DO NOTHING";
    let pair = |text| sql(text).bind(client.as_str()).bind(person.as_str());
    tx.execute(pair(first)).await?;
    let lock = "UPDATE ssa_mute SET version = version + 1 WHERE client = $1 AND person = $2";
    tx.execute(pair(lock)).await?;
    let until = "SELECT until FROM ssa_mute WHERE client = $1 AND person = $2";
    if now.0 < tx.fetch_one(pair(until)).await?.int("until")? {
        return Ok(Err(Held::Muted));
    }
    let open = "SELECT exp FROM ssa_waiting WHERE client = $1 AND person = $2 AND state = 'open' AND exp > $3 ORDER BY exp";
    let open = tx.fetch_all(pair(open).bind(now.0)).await?;
    match open.first() {
        Some(first) if open.len() >= MOST => Ok(Err(Held::Full {
            seconds: first.int("exp")? - now.0,
        })),
        _ => Ok(Ok(())),
    }
}

/// Stores a new request.
pub(crate) async fn insert(tx: &mut Tx, new: &Waiting) -> Result<(), StoreError> {
    let insert = "INSERT INTO ssa_waiting (id, label, client, person, key, alg, not_after, cnf, items, rid, state, created, \
                  exp, version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 0)";
    let insert = sql(insert)
        .bind(&new.id)
        .bind(&new.label)
        .bind(new.client.as_str())
        .bind(new.person.as_str())
        .bind(new.facts.key.as_str())
        .bind(new.facts.alg.name())
        .bind(new.facts.not_after.0)
        .bind(new.holder.map(|holder| holder.to_string()))
        .bind(new.items)
        .bind(new.rid.as_slice())
        .bind(new.state.name())
        .bind(new.created.0)
        .bind(new.exp.0);
    tx.execute(insert).await.map(drop)
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, label, client, person, key, alg, not_after, cnf, items, rid, state, created, exp, version \
             FROM ssa_waiting WHERE ",
            $rest
        )
    };
}

/// The request with this handle.
pub(crate) async fn find(tx: &mut Tx, handle: &str) -> Result<Option<Waiting>, StoreError> {
    let query = sql(select!("id = $1")).bind(digest(handle));
    let row = tx.fetch_optional(query).await?;
    row.map(|row| read(&row)).transpose()
}

/// A request of this person by its name in the portal.
pub(crate) async fn of_person(
    tx: &mut Tx,
    label: &str,
    person: &PersonId,
) -> Result<Option<Waiting>, StoreError> {
    let query = sql(select!("label = $1 AND person = $2"))
        .bind(label)
        .bind(person.as_str());
    let row = tx.fetch_optional(query).await?;
    row.map(|row| read(&row)).transpose()
}

/// What waits for this person, newest first.
pub(crate) async fn open(
    tx: &mut Tx,
    person: &PersonId,
    now: UnixTime,
) -> Result<Vec<Waiting>, StoreError> {
    let query = sql(select!(
        "person = $1 AND state = 'open' AND exp > $2 ORDER BY created DESC, id"
    ))
    .bind(person.as_str())
    .bind(now.0);
    let rows = tx.fetch_all(query).await?;
    rows.iter().map(read).collect()
}

/// Moves an open request on; `false` when somebody else did.
pub(crate) async fn end(tx: &mut Tx, waiting: &Waiting, to: State) -> Result<bool, StoreError> {
    let update = "UPDATE ssa_waiting SET state = $1, version = $2 WHERE id = $3 AND version = $4 AND state = 'open'";
    let update = sql(update)
        .bind(to.name())
        .bind(waiting.version + 1)
        .bind(&waiting.id)
        .bind(waiting.version);
    Ok(tx.execute(update).await? == 1)
}

/// The person said no, or yes, to a request of this application: refusals add up, and an approval forgives them.
pub(crate) async fn answered(
    tx: &mut Tx,
    waiting: &Waiting,
    yes: bool,
    now: UnixTime,
) -> Result<(), StoreError> {
    let pair = |text| {
        sql(text)
            .bind(waiting.client.as_str())
            .bind(waiting.person.as_str())
    };
    let row =
        "SELECT refusals, since, until, version FROM ssa_mute WHERE client = $1 AND person = $2";
    let Some(row) = tx.fetch_optional(pair(row)).await? else {
        return Ok(());
    };
    let (refusals, since, until) = (row.int("refusals")?, row.int("since")?, row.int("until")?);
    let recent = now.0 < since.saturating_add(MUTED);
    let (refusals, since, until) = match (yes, recent) {
        (true, _) => (0, 0, until),
        (false, true) if refusals + 1 >= REFUSALS => (0, 0, now.plus(MUTED).0),
        (false, true) => (refusals + 1, since, until),
        (false, false) => (1, now.0, until),
    };
    let version = row.int("version")?;
    let update = "UPDATE ssa_mute SET refusals = $3, since = $4, until = $5, version = $6 \
                  WHERE client = $1 AND person = $2 AND version = $7";
    let update = pair(update)
        .bind(refusals)
        .bind(since)
        .bind(until)
        .bind(version + 1)
        .bind(version);
    tx.cas(update).await
}

impl Ssa {
    /// Asks the SAM what became of a request, and keeps a refusal or the end. `None` when it gives no answer.
    pub(crate) async fn settle(
        &self,
        waiting: &Waiting,
    ) -> Result<Option<RequestState>, StoreError> {
        let Some(rid) = self.rid_of(waiting) else {
            return Ok(None);
        };
        let state = match self.sam().status(&StatusRequest { rid }).await {
            Ok(answer) => answer.state,
            Err(CallError::Refused(Refusal::NotFound | Refusal::Expired)) => RequestState::Expired,
            Err(_) => return Ok(None),
        };
        let over = match state {
            RequestState::Refused => State::Refused,
            RequestState::Expired => State::Over,
            RequestState::Open | RequestState::Approved => return Ok(Some(state)),
        };
        let now = self.now();
        transaction!(self.store(), "waiting-over", |tx| {
            if end(tx, waiting, over).await? && over == State::Refused {
                answered(tx, waiting, false, now).await?;
            }
            Ok::<_, StoreError>(())
        })?;
        Ok(Some(state))
    }

    /// Handle of the SAM's request, as it is stored.
    pub(crate) fn seal_rid(&self, label: &SecretText, rid: Digest32) -> Option<Vec<u8>> {
        let place = rid_place(label.expose());
        self.sealer().seal(self.random(), &place, &rid.0)
    }

    /// The same opened.
    pub(crate) fn rid_of(&self, waiting: &Waiting) -> Option<Digest32> {
        let rid = self
            .sealer()
            .open(&rid_place(&waiting.label), &waiting.rid)?;
        Some(Digest32(rid.expose().try_into().ok()?))
    }
}

fn rid_place(label: &str) -> String {
    format!("ssa/waiting/{label}")
}

fn read(row: &Row) -> Result<Waiting, StoreError> {
    let state = row.text("state")?;
    let state = State::ALL.into_iter().find(|s| s.name() == state);
    Ok(Waiting {
        id: row.text("id")?,
        label: row.text("label")?,
        client: ClientId::parse(row.text("client")?).map_err(|_| StoreError::Column("client"))?,
        person: PersonId::parse(row.text("person")?).map_err(|_| StoreError::Column("person"))?,
        facts: read_facts(row)?.ok_or(StoreError::Column("key"))?,
        holder: read_holder(row)?,
        items: row.int("items")?,
        rid: row.blob("rid")?,
        state: state.ok_or(StoreError::Column("state"))?,
        created: UnixTime(row.int("created")?),
        exp: UnixTime(row.int("exp")?),
        version: row.int("version")?,
    })
}
