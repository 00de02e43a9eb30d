//! Clients that registered themselves: as which software, who used them first, and when last.

use core_types::{ClientId, PersonId, UnixTime};
use store_kit::{Row, StoreError, Tx, sql};

/// Notes of a client that was just registered that it did so itself, as this software.
pub(crate) async fn registered_as(
    tx: &mut Tx,
    client: &ClientId,
    software: &str,
) -> Result<(), StoreError> {
    let update = sql("UPDATE ssa_client SET software = $1, used = 0 WHERE id = $2");
    tx.execute(update.bind(software).bind(client.as_str()))
        .await
        .map(drop)
}

/// How exactly the last use of a client is known, in seconds.
const USED: i64 = 3600;

/// Notes that a client that registered itself got a token; who used it first stays known.
pub(crate) async fn used(
    tx: &mut Tx,
    client: &ClientId,
    person: Option<&PersonId>,
    now: UnixTime,
) -> Result<(), StoreError> {
    let update = "UPDATE ssa_client SET used = $1, person = COALESCE(person, $2) \
                  WHERE id = $3 AND software IS NOT NULL AND used <= $4";
    let update = sql(update)
        .bind(now.0)
        .bind(person.map(PersonId::as_str))
        .bind(client.as_str())
        .bind(now.0 - USED);
    tx.execute(update).await.map(drop)
}

/// Clients of this software that never got a token, and when they registered; the oldest first.
pub(crate) async fn unused(
    tx: &mut Tx,
    software: &str,
) -> Result<Vec<(ClientId, UnixTime)>, StoreError> {
    let select = "SELECT id, created FROM ssa_client WHERE software = $1 AND used = 0 AND state = 'active' ORDER BY created, id";
    let rows = tx.fetch_all(sql(select).bind(software)).await?;
    let read = |row: &Row| Ok::<_, StoreError>((id_of(row)?, UnixTime(row.int("created")?)));
    rows.iter().map(read).collect()
}

/// Of the person who was the first to use more than `share` clients of this software, and has most of them: the one that was used least
/// recently.
pub(crate) async fn beyond_share(
    tx: &mut Tx,
    software: &str,
    share: i64,
) -> Result<Option<ClientId>, StoreError> {
    let select = "SELECT person FROM ssa_client WHERE software = $1 AND state = 'active' AND person IS NOT NULL \
                  GROUP BY person HAVING COUNT(*) > $2 ORDER BY COUNT(*) DESC, person LIMIT 1";
    let row = tx
        .fetch_optional(sql(select).bind(software).bind(share))
        .await?;
    let Some(row) = row else { return Ok(None) };
    let select = "SELECT id FROM ssa_client WHERE software = $1 AND state = 'active' AND person = $2 ORDER BY used, id LIMIT 1";
    let select = sql(select).bind(software).bind(row.text("person")?);
    let row = tx.fetch_optional(select).await?;
    row.as_ref().map(id_of).transpose()
}

fn id_of(row: &Row) -> Result<ClientId, StoreError> {
    ClientId::parse(row.text("id")?).map_err(|_| StoreError::Column("id"))
}

/// Deletes a client.
pub(crate) async fn delete(tx: &mut Tx, client: &ClientId) -> Result<(), StoreError> {
    let delete = sql("DELETE FROM ssa_client WHERE id = $1").bind(client.as_str());
    tx.execute(delete).await.map(drop)
}

/// How many clients of this software may come.
pub(crate) async fn of_software(tx: &mut Tx, software: &str) -> Result<i64, StoreError> {
    let query = "SELECT COUNT(*) AS n FROM ssa_client WHERE software = $1 AND state = 'active'";
    tx.fetch_one(sql(query).bind(software)).await?.int("n")
}
