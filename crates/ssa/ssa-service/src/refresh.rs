//! Refresh tokens: scope `service` only, each for one use. One that comes a second time has leaked, and takes everything
//! that came of it along (RFC 9700 §4.14.2).

use core_types::{ClientId, PersonId, UnixTime};
use csc_types::SecretText;
use store_kit::{Row, StoreError, Tx, sql};

use crate::crypt::digest;
use crate::tokens::{Holder, read_holder};

/// A refresh token that nobody used ends after this long, in seconds.
const IDLE: i64 = 14 * 24 * 60 * 60;
/// A chain of refresh tokens ends this long after the person logged in, in seconds.
const LIFE: i64 = 90 * 24 * 60 * 60;

/// A refresh token as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Refresh {
    id: String,
    /// Id of the grant that all tokens of this chain belong to.
    pub(crate) grant: String,
    pub(crate) client: ClientId,
    pub(crate) person: PersonId,
    /// Who alone may use it.
    pub(crate) holder: Option<Holder>,
    pub(crate) live: bool,
    /// When the person logged in for it.
    began: UnixTime,
    exp: UnixTime,
    version: i64,
}

impl Refresh {
    /// The first of a chain.
    pub(crate) fn first(
        grant: String,
        client: ClientId,
        person: PersonId,
        holder: Option<Holder>,
        now: UnixTime,
    ) -> Self {
        Self {
            id: String::new(),
            grant,
            client,
            person,
            holder,
            live: true,
            began: now,
            exp: now,
            version: 0,
        }
    }

    pub(crate) fn is_expired(&self, now: UnixTime) -> bool {
        now >= self.exp
    }
}

/// Stores `text` as the next token of the chain that `of` belongs to.
pub(crate) async fn insert(
    tx: &mut Tx,
    text: &SecretText,
    of: &Refresh,
    now: UnixTime,
) -> Result<(), StoreError> {
    // Used tokens are kept as long as their chain could live, so that a second use is recognised.
    let old = now.plus(-LIFE).0;
    tx.execute(sql("DELETE FROM ssa_refresh WHERE began < $1").bind(old))
        .await?;
    let insert = "INSERT INTO ssa_refresh (id, grant_id, client, person, cnf, state, began, exp, version) \
                  VALUES ($1, $2, $3, $4, $5, 'live', $6, $7, 0)";
    let insert = sql(insert)
        .bind(digest(text.expose()))
        .bind(&of.grant)
        .bind(of.client.as_str())
        .bind(of.person.as_str())
        .bind(of.holder.map(|holder| holder.to_string()))
        .bind(of.began.0)
        .bind(now.plus(IDLE).min(of.began.plus(LIFE)).0);
    tx.execute(insert).await.map(drop)
}

/// Finds a refresh token, used ones too.
pub(crate) async fn find(tx: &mut Tx, text: &str) -> Result<Option<Refresh>, StoreError> {
    let query = "SELECT id, grant_id, client, person, cnf, state, began, exp, version FROM ssa_refresh WHERE id = $1";
    let row = tx.fetch_optional(sql(query).bind(digest(text))).await?;
    row.map(|row| read(&row)).transpose()
}

/// Uses a token up; whoever is second starts again from the read.
pub(crate) async fn spend(tx: &mut Tx, token: &Refresh) -> Result<(), StoreError> {
    let update =
        "UPDATE ssa_refresh SET state = 'used', version = $1 WHERE id = $2 AND version = $3";
    let update = sql(update)
        .bind(token.version + 1)
        .bind(&token.id)
        .bind(token.version);
    tx.cas(update).await
}

/// Ends a chain; 0 if it has ended before.
pub(crate) async fn end_grant(tx: &mut Tx, grant: &str) -> Result<u64, StoreError> {
    let update = "UPDATE ssa_refresh SET state = 'dead', version = version + 1 WHERE grant_id = $1 AND state <> 'dead'";
    tx.execute(sql(update).bind(grant)).await
}

/// Ends all chains of a person.
pub(crate) async fn end_person(tx: &mut Tx, person: &PersonId) -> Result<u64, StoreError> {
    let update = "UPDATE ssa_refresh SET state = 'dead', version = version + 1 WHERE person = $1";
    tx.execute(sql(update).bind(person.as_str())).await
}

fn read(row: &Row) -> Result<Refresh, StoreError> {
    Ok(Refresh {
        id: row.text("id")?,
        grant: row.text("grant_id")?,
        client: ClientId::parse(row.text("client")?).map_err(|_| StoreError::Column("client"))?,
        person: PersonId::parse(row.text("person")?).map_err(|_| StoreError::Column("person"))?,
        holder: read_holder(row)?,
        live: row.text("state")? == "live",
        began: UnixTime(row.int("began")?),
        exp: UnixTime(row.int("exp")?),
        version: row.int("version")?,
    })
}
