//! What is under way: pushed requests (RFC 9126), authorizations in a browser, and codes.
//!
//! Each is a row that is there and says so; using it up deletes it or moves its state by compare-and-swap.

use core_types::{ClientId, Digest32, PersonId, UnixTime};
use csc_types::SecretText;
use store_kit::{Row, StoreError, Tx, share_lock, sql};

use crate::crypt::digest;
use crate::tokens::{KeyFacts, read_facts};

/// Life of a pushed request in seconds.
pub(crate) const PUSHED_LIFE: i64 = 90;
/// Life of an authorization in a browser in seconds.
pub(crate) const FLOW_LIFE: i64 = 15 * 60;
/// Life of a code in seconds.
pub(crate) const CODE_LIFE: i64 = 60;

/// Most pushed requests, and most authorizations in browsers, of one client at a time; the oldest give way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) most: i64,
    pub(crate) bytes: i64,
}

/// Parameters as received, in their order.
pub(crate) type Pairs = Vec<(String, String)>;

/// A parameter that is there once at most, as was checked before they were stored; an empty one counts as absent.
pub(crate) fn given<'p>(pairs: &'p Pairs, name: &str) -> Option<&'p str> {
    let found = pairs.iter().find(|(given, _)| given == name);
    found
        .map(|(_, value)| value.as_str())
        .filter(|value| !value.is_empty())
}

/// Stores a pushed request.
pub(crate) async fn push(
    tx: &mut Tx,
    reference: &SecretText,
    client: &ClientId,
    pairs: &Pairs,
    bound: Option<Bound>,
    now: UnixTime,
) -> Result<(), StoreError> {
    tx.execute(sql("DELETE FROM ssa_pushed WHERE exp <= $1").bind(now.0))
        .await?;
    let params = to_json(pairs);
    let insert =
        "INSERT INTO ssa_pushed (id, client, params, exp, size) VALUES ($1, $2, $3, $4, $5)";
    let insert = sql(insert)
        .bind(digest(reference.expose()))
        .bind(client.as_str())
        .bind(params.as_str())
        .bind(now.plus(PUSHED_LIFE).0)
        .bind(size(&params));
    tx.execute(insert).await?;
    let keep = "DELETE FROM ssa_pushed WHERE client = $1 AND id NOT IN (SELECT id FROM (SELECT id, \
                ROW_NUMBER() OVER (ORDER BY exp DESC, id) AS n, SUM(size) OVER (ORDER BY exp DESC, id) AS bytes \
                FROM ssa_pushed WHERE client = $1) AS newest WHERE n <= $2 AND bytes <= $3)";
    hold(tx, keep, client, bound).await
}

/// Bytes of stored parameters.
pub(crate) fn size(params: &str) -> i64 {
    i64::try_from(params.len()).unwrap_or(i64::MAX)
}

/// Deletes, with this statement, what is more than a client may have under way.
pub(crate) async fn hold(
    tx: &mut Tx,
    keep: &'static str,
    client: &ClientId,
    bound: Option<Bound>,
) -> Result<(), StoreError> {
    let Some(Bound { most, bytes }) = bound else {
        return Ok(());
    };
    tx.execute(sql(keep).bind(client.as_str()).bind(most).bind(bytes))
        .await
        .map(drop)
}

/// Takes a pushed request of this client out of the store: it is there for one use.
pub(crate) async fn take_pushed(
    tx: &mut Tx,
    reference: &str,
    client: &str,
    now: UnixTime,
) -> Result<Option<Pairs>, StoreError> {
    let delete =
        "DELETE FROM ssa_pushed WHERE id = $1 AND client = $2 AND exp > $3 RETURNING params";
    let delete = sql(delete).bind(digest(reference)).bind(client).bind(now.0);
    let row = tx.fetch_optional(delete).await?;
    row.map(|row| from_json(&row)).transpose()
}

/// How far an authorization in a browser is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlowState {
    /// Nobody was asked yet, or the person has to log in or to agree.
    Begun,
    /// The signer decides on the SIC page.
    Asked,
    /// Answered to the client.
    Done,
}

impl FlowState {
    fn name(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Asked => "asked",
            Self::Done => "done",
        }
    }
}

/// An authorization in a browser.
#[derive(Debug, Clone)]
pub(crate) struct Flow {
    pub(crate) id: String,
    /// Id of the browser's cookie, and of its session once somebody has logged in.
    pub(crate) browser: String,
    pub(crate) client: ClientId,
    pub(crate) pairs: Pairs,
    /// Registered URI that the answer goes to.
    pub(crate) redirect: String,
    pub(crate) state: FlowState,
    pub(crate) person: Option<PersonId>,
    pub(crate) facts: Option<KeyFacts>,
    /// Sealed handle of the SAM's request.
    pub(crate) rid: Option<Vec<u8>>,
    /// The device that waits for it, if it isn't this browser that goes back to its client.
    pub(crate) device: Option<String>,
    pub(crate) created: UnixTime,
    version: i64,
}

impl Flow {
    pub(crate) fn new(
        handle: &SecretText,
        browser: String,
        client: ClientId,
        pairs: Pairs,
        redirect: String,
        created: UnixTime,
    ) -> Self {
        Self {
            id: digest(handle.expose()),
            browser,
            client,
            pairs,
            redirect,
            state: FlowState::Begun,
            person: None,
            facts: None,
            rid: None,
            device: None,
            created,
            version: 0,
        }
    }

    /// A parameter, as it was checked when it came.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        given(&self.pairs, name)
    }

    /// Whether it asks for signatures and not for scope `service`.
    pub(crate) fn signs(&self) -> bool {
        self.given("authorization_details").is_some() || self.given("scope") == Some("credential")
    }

    /// Whether it asks in the words of version 1.
    pub(crate) fn is_v1(&self) -> bool {
        csc_types::v1::asks(|name| self.given(name).is_some())
    }

    /// Whether it asks for a new credential.
    pub(crate) fn creates(&self) -> bool {
        creates(self.given("authorization_details"))
    }

    /// Whether it asks for a deletion.
    pub(crate) fn deletes(&self) -> bool {
        deletes(self.given("authorization_details"))
    }

    /// Whether a login counts only if it came since, because the client or the matter wants that. A new key is made by whoever sits
    /// there, without any factor of the person's.
    pub(crate) fn wants_fresh_login(&self) -> bool {
        self.creates() || self.given("prompt") == Some("login")
    }
}

fn creates(details: Option<&str>) -> bool {
    details.is_some_and(|text| matches!(csc_types::create::creation(text), Ok(Some(_))))
}

fn deletes(details: Option<&str>) -> bool {
    details.is_some_and(|text| matches!(csc_types::details::deletion(text), Ok(Some(_))))
}

/// Stores a new authorization.
pub(crate) async fn insert(
    tx: &mut Tx,
    flow: &Flow,
    bound: Option<Bound>,
) -> Result<(), StoreError> {
    let old = flow.created.plus(-FLOW_LIFE).0;
    tx.execute(sql("DELETE FROM ssa_flow WHERE created <= $1").bind(old))
        .await?;
    let params = to_json(&flow.pairs);
    let insert = "INSERT INTO ssa_flow (id, browser, client, params, redirect, state, person, created, size, device, version) \
                  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0)";
    let insert = sql(insert)
        .bind(&flow.id)
        .bind(&flow.browser)
        .bind(flow.client.as_str())
        .bind(params.as_str())
        .bind(&flow.redirect)
        .bind(flow.state.name())
        .bind(flow.person.as_ref().map(PersonId::as_str))
        .bind(flow.created.0)
        .bind(size(&params))
        .bind(flow.device.as_deref());
    tx.execute(insert).await?;
    // Those that a signer is looking at stay: strangers can't begin them.
    let keep = "DELETE FROM ssa_flow WHERE client = $1 AND state <> 'asked' AND id NOT IN (SELECT id FROM (SELECT id, \
                ROW_NUMBER() OVER (ORDER BY created DESC, id) AS n, SUM(size) OVER (ORDER BY created DESC, id) AS bytes \
                FROM ssa_flow WHERE client = $1 AND state <> 'asked') AS newest WHERE n <= $2 AND bytes <= $3)";
    hold(tx, keep, &flow.client, bound).await
}

/// Finds a living authorization of this browser; that of another browser doesn't exist.
pub(crate) async fn find(
    tx: &mut Tx,
    handle: &str,
    browser: &str,
    now: UnixTime,
) -> Result<Option<Flow>, StoreError> {
    let query = "SELECT id, browser, client, params, redirect, state, person, key, alg, not_after, rid, device, created, version \
                 FROM ssa_flow WHERE id = $1 AND browser = $2 AND created > $3";
    let query = sql(query)
        .bind(digest(handle))
        .bind(browser)
        .bind(now.plus(-FLOW_LIFE).0);
    let row = tx.fetch_optional(query).await?;
    row.map(|row| read_flow(&row)).transpose()
}

/// Whether an authorization lives, in whichever browser.
pub(crate) async fn lives(tx: &mut Tx, handle: &str, now: UnixTime) -> Result<bool, StoreError> {
    let query = "SELECT id FROM ssa_flow WHERE id = $1 AND created > $2";
    let query = sql(query).bind(digest(handle)).bind(now.plus(-FLOW_LIFE).0);
    Ok(tx.fetch_optional(query).await?.is_some())
}

fn read_flow(row: &Row) -> Result<Flow, StoreError> {
    let state = row.text("state")?;
    let states = [FlowState::Begun, FlowState::Asked, FlowState::Done];
    let state = states.into_iter().find(|s| s.name() == state);
    let person = row.maybe_text("person")?.map(PersonId::parse).transpose();
    Ok(Flow {
        id: row.text("id")?,
        browser: row.text("browser")?,
        client: ClientId::parse(row.text("client")?).map_err(|_| StoreError::Column("client"))?,
        pairs: from_json(row)?,
        redirect: row.text("redirect")?,
        state: state.ok_or(StoreError::Column("state"))?,
        person: person.map_err(|_| StoreError::Column("person"))?,
        facts: read_facts(row)?,
        rid: row.maybe_blob("rid")?,
        device: row.maybe_text("device")?,
        created: UnixTime(row.int("created")?),
        version: row.int("version")?,
    })
}

/// Writes what may change of an authorization, if nobody was faster; the row is read again otherwise.
pub(crate) async fn update(tx: &mut Tx, flow: &Flow) -> Result<bool, StoreError> {
    let update = "UPDATE ssa_flow SET browser = $1, state = $2, person = $3, key = $4, alg = $5, not_after = $6, rid = $7, \
                  version = $8 WHERE id = $9 AND version = $10";
    let facts = flow.facts.as_ref();
    let update = sql(update)
        .bind(&flow.browser)
        .bind(flow.state.name())
        .bind(flow.person.as_ref().map(PersonId::as_str))
        .bind(facts.map(|f| f.key.as_str()))
        .bind(facts.map(|f| f.alg.name()))
        .bind(facts.map(|f| f.not_after.0))
        .bind(flow.rid.as_deref())
        .bind(flow.version + 1)
        .bind(&flow.id)
        .bind(flow.version);
    Ok(tx.execute(update).await? == 1)
}

/// An authorization code and what it stands for.
#[derive(Debug, Clone)]
pub(crate) struct Code {
    /// SHA-256 of its text; also the id of the grant.
    pub(crate) id: String,
    pub(crate) live: bool,
    pub(crate) client: ClientId,
    pub(crate) redirect: String,
    /// Whether the authorization request named the redirect URI; then the token request must too.
    pub(crate) redirect_given: bool,
    pub(crate) challenge: String,
    /// Thumbprint of the only key that may present it (RFC 9449 §10).
    pub(crate) jkt: Option<Digest32>,
    /// `authorization_details` as received.
    pub(crate) details: Option<String>,
    /// Asked for in the words of version 1.
    pub(crate) v1: bool,
    pub(crate) person: PersonId,
    pub(crate) facts: Option<KeyFacts>,
    pub(crate) rid: Option<Vec<u8>>,
    pub(crate) exp: UnixTime,
}

impl Code {
    /// Whether it stands for a deletion.
    pub(crate) fn deletes(&self) -> bool {
        deletes(self.details.as_deref())
    }

    /// Whether it stands for a new credential.
    pub(crate) fn creates(&self) -> bool {
        creates(self.details.as_deref())
    }
}

/// Stores a new code.
pub(crate) async fn insert_code(tx: &mut Tx, code: &Code, now: UnixTime) -> Result<(), StoreError> {
    // Used codes are kept for a day, so that a second use is recognised.
    let old = now.plus(-24 * 60 * 60).0;
    tx.execute(sql("DELETE FROM ssa_code WHERE exp < $1").bind(old))
        .await?;
    let insert = "INSERT INTO ssa_code (id, state, client, redirect, redirect_given, challenge, details, person, key, alg, \
                  not_after, rid, exp, jkt, v1, version) VALUES ($1, 'live', $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, \
                  $14, 0)";
    let facts = code.facts.as_ref();
    let insert = sql(insert)
        .bind(&code.id)
        .bind(code.client.as_str())
        .bind(&code.redirect)
        .bind(i64::from(code.redirect_given))
        .bind(&code.challenge)
        .bind(code.details.as_deref())
        .bind(code.person.as_str())
        .bind(facts.map(|f| f.key.as_str()))
        .bind(facts.map(|f| f.alg.name()))
        .bind(facts.map(|f| f.not_after.0))
        .bind(code.rid.as_deref())
        .bind(code.exp.0)
        .bind(code.jkt.map(|jkt| jkt.to_string()))
        .bind(i64::from(code.v1));
    tx.execute(insert).await.map(drop)
}

/// Spends a code: whoever gets it back with `live` set is the only one who ever does.
pub(crate) async fn spend_code(tx: &mut Tx, text: &str) -> Result<Option<Code>, StoreError> {
    let query = "SELECT id, state, client, redirect, redirect_given, challenge, details, person, key, alg, not_after, rid, \
                 exp, jkt, v1, version FROM ssa_code WHERE id = $1";
    let Some(row) = tx.fetch_optional(sql(query).bind(digest(text))).await? else {
        return Ok(None);
    };
    let code = read_code(&row)?;
    if code.live {
        let version = row.int("version")?;
        let update =
            "UPDATE ssa_code SET state = 'spent', version = $1 WHERE id = $2 AND version = $3";
        tx.cas(sql(update).bind(version + 1).bind(&code.id).bind(version))
            .await?;
    }
    Ok(Some(code))
}

/// Marks a code as leaked: nothing is issued for it any more.
pub(crate) async fn code_leaked(tx: &mut Tx, id: &str) -> Result<(), StoreError> {
    let update = "UPDATE ssa_code SET state = 'leaked', version = version + 1 WHERE id = $1";
    tx.execute(sql(update).bind(id)).await.map(drop)
}

/// Whether a code was spent and has not leaked since; it stays so until this transaction ends.
pub(crate) async fn code_is_spent(tx: &mut Tx, id: &str) -> Result<bool, StoreError> {
    let query = share_lock!(tx, "SELECT state FROM ssa_code WHERE id = $1");
    let row = tx.fetch_optional(query.bind(id)).await?;
    Ok(row.map(|row| row.text("state")).transpose()?.as_deref() == Some("spent"))
}

fn read_code(row: &Row) -> Result<Code, StoreError> {
    Ok(Code {
        id: row.text("id")?,
        live: row.text("state")? == "live",
        client: ClientId::parse(row.text("client")?).map_err(|_| StoreError::Column("client"))?,
        redirect: row.text("redirect")?,
        redirect_given: row.int("redirect_given")? != 0,
        challenge: row.text("challenge")?,
        jkt: row
            .maybe_text("jkt")?
            .map(|jkt| Digest32::parse(&jkt))
            .transpose()
            .map_err(|_| StoreError::Column("jkt"))?,
        details: row.maybe_text("details")?,
        v1: row.int("v1")? != 0,
        person: PersonId::parse(row.text("person")?).map_err(|_| StoreError::Column("person"))?,
        facts: read_facts(row)?,
        rid: row.maybe_blob("rid")?,
        exp: UnixTime(row.int("exp")?),
    })
}

pub(crate) fn to_json(pairs: &Pairs) -> String {
    serde_json::json!(pairs).to_string()
}

pub(crate) fn from_json(row: &Row) -> Result<Pairs, StoreError> {
    serde_json::from_str(&row.text("params")?).map_err(|_| StoreError::Column("params"))
}
