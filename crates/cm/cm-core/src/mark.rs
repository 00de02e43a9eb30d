//! Marks that only go forward, each in a sealed row of its own. A row that was set back or taken away is found by what the
//! audit log says, before anybody is served ([`crate::Module::scrub`]).

use core_types::{B64, Random, SecretBytes};
use serde::Serialize;
use serde::de::DeserializeOwned;
use store_kit::{Tx, sql};

use crate::store::Failed;
use crate::vault::Vault;

/// The table of algorithms that was last in force ([`crate::policy::Held`]).
pub(crate) const ALGORITHMS: &str = "algorithms";

/// What was found wrong, and whether somebody has ended it ([`crate::kept::KeptErrors`]).
pub(crate) const ERRORS: &str = "errors";

/// The officers ([`crate::office::Office`]).
pub(crate) const OFFICERS: &str = "officers";

/// The SAM's keys ([`crate::sam`]).
pub(crate) const SAM: &str = "sam";

/// The time before which no order is admitted any more ([`crate::prune`]).
pub(crate) const ORDERS: &str = "orders";

fn place(id: &str, version: i64) -> Vec<u8> {
    format!("natsuin-cm-mark-v1\n{id}\n{version}").into_bytes()
}

/// Reads a mark, and the version of its row; nothing before it was first written.
pub(crate) async fn read<T: DeserializeOwned>(
    tx: &mut Tx,
    vault: &Vault,
    id: &'static str,
) -> Result<Option<(T, i64)>, Failed> {
    let query = sql("SELECT version, sealed FROM cm_mark WHERE id = $1").bind(id);
    let Some(row) = tx.fetch_optional(query).await? else {
        return Ok(None);
    };
    let version = row.int("version")?;
    let body = open(vault, id, version, &row.blob("sealed")?)?;
    Ok(Some((body, version)))
}

fn open<T: DeserializeOwned>(
    vault: &Vault,
    id: &str,
    version: i64,
    sealed: &[u8],
) -> Result<T, Failed> {
    let opened = vault.open(sealed, &place(id, version));
    let opened = opened.map_err(|_| Failed::Tampered)?;
    serde_json::from_slice(opened.expose()).map_err(|_| Failed::Tampered)
}

/// Writes the successor of a mark. `before`: version of the row that was read; nothing if there was none.
pub(crate) async fn write<T: Serialize>(
    tx: &mut Tx,
    vault: &Vault,
    random: &dyn Random,
    id: &'static str,
    body: &T,
    before: Option<i64>,
) -> Result<(), Failed> {
    let version = before.unwrap_or(0) + 1;
    let json = serde_json::to_vec(body).map_err(|_| Failed::Tampered)?;
    let sealed = vault.seal(&SecretBytes::new(json), &place(id, version), random);
    let sealed = sealed.map_err(|_| Failed::Tampered)?;
    if before.is_some() {
        let query = "UPDATE cm_mark SET version = $1, sealed = $2 WHERE id = $3 AND version = $4";
        let query = sql(query).bind(version).bind(sealed).bind(id);
        return Ok(tx.cas(query.bind(before.unwrap_or(0))).await?);
    }
    // Another node may write the first one at the same time.
    let query =
        "INSERT INTO cm_mark (id, version, sealed) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    let query = sql(query).bind(id).bind(version).bind(sealed);
    Ok(tx.cas(query).await?)
}

/// The marks as their rows have them, for a backup. Not that of time: a restore has the names of all orders from the log.
pub(crate) async fn all(tx: &mut Tx) -> Result<Vec<(String, i64, B64)>, Failed> {
    let query = "SELECT id, version, sealed FROM cm_mark WHERE id <> $1 ORDER BY id";
    let rows = tx.fetch_all(sql(query).bind(ORDERS)).await?;
    let read = rows.iter().map(|row| {
        let sealed = B64(row.blob("sealed")?);
        Ok((row.text("id")?, row.int("version")?, sealed))
    });
    read.collect()
}

/// Puts back what [`all`] gave.
pub(crate) async fn put(tx: &mut Tx, id: &str, version: i64, sealed: &B64) -> Result<(), Failed> {
    let query = "INSERT INTO cm_mark (id, version, sealed) VALUES ($1, $2, $3)";
    let query = sql(query).bind(id).bind(version);
    tx.execute(query.bind(sealed.0.as_slice())).await?;
    Ok(())
}
