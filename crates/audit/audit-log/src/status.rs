//! How a log is, in a few numbers, and its newest entries of some types.

use core_types::UnixTime;
use store_kit::{Row, Store, StoreError, Tx, sql};

use crate::export::{LoggedEntry, entry};

/// Types of entries that somebody has to look at, in the log of any zone.
pub const ALERTS: [&str; 8] = [
    "alarm",
    "audit.witness-away",
    "audit.read-refused",
    "factor.locked",
    "login.locked",
    "officer.passkey-ordered",
    "settings.refused",
    "signature.wrong",
];
/// So many of each are shown.
const MOST_ALERTS: usize = 10;

/// How a log is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Entries under the last checkpoint.
    pub entries: i64,
    /// Entries that wait for their place.
    pub new: i64,
    /// When the last checkpoint was made.
    pub checkpoint: Option<UnixTime>,
    /// How many witnesses cosigned it over the network.
    pub cosigned: i64,
    /// Nodes with the time of their last entry.
    pub nodes: Vec<(String, UnixTime)>,
}

/// Looks at a log. Reads a few rows, whatever its size.
///
/// # Errors
/// [`StoreError`].
pub async fn status(store: &Store) -> Result<Status, StoreError> {
    let mut tx = store.read("audit-status").await?;
    let select = "SELECT size, at FROM audit_checkpoint ORDER BY size DESC LIMIT 1";
    let last = tx.fetch_optional(sql(select)).await?;
    let new = "SELECT COUNT(*) AS n FROM audit_entry WHERE seq IS NULL";
    let mut status = Status {
        new: tx.fetch_one(sql(new)).await?.int("n")?,
        ..Status::default()
    };
    if let Some(row) = last {
        status.entries = row.int("size")?;
        status.checkpoint = Some(UnixTime(row.int("at")?));
        let count = sql("SELECT COUNT(*) AS n FROM audit_cosignature WHERE size = $1");
        status.cosigned = tx.fetch_one(count.bind(status.entries)).await?.int("n")?;
    }
    let select = "SELECT h.node, e.at FROM audit_head h JOIN audit_entry e ON e.node = h.node AND e.n = h.n ORDER BY h.node";
    let rows = tx.fetch_all(sql(select)).await?;
    let node = |row: &Row| Ok((row.text("node")?, UnixTime(row.int("at")?)));
    status.nodes = rows.iter().map(node).collect::<Result<_, StoreError>>()?;
    Ok(status)
}

/// The newest entries of [`ALERTS`], the newest first. Of each type some, so that whoever can make one kind often hides no other.
///
/// # Errors
/// [`StoreError`].
pub async fn alerts(store: &Store) -> Result<Vec<LoggedEntry>, StoreError> {
    newest(store, &ALERTS, MOST_ALERTS).await
}

/// The newest entries of these types, at most so many of each, the newest first.
///
/// # Errors
/// [`StoreError`].
pub async fn newest(
    store: &Store,
    kinds: &[&str],
    limit: usize,
) -> Result<Vec<LoggedEntry>, StoreError> {
    let mut tx = store.read("audit-newest").await?;
    let mut found = Vec::new();
    for kind in kinds {
        let select = "SELECT seq, node, n, at, kind, leaf, body FROM audit_entry WHERE kind = $1 AND seq IS NOT NULL \
                      ORDER BY at DESC, node DESC, n DESC LIMIT $2";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = tx.fetch_all(sql(select).bind(*kind).bind(limit)).await?;
        for row in &rows {
            found.push(entry(row)?);
        }
    }
    found.sort_by_key(|entry: &LoggedEntry| std::cmp::Reverse((entry.at, entry.seq)));
    Ok(found)
}

/// Whether the log tells of something of this type, of which entries stay when others are deleted after archiving.
///
/// # Errors
/// [`StoreError`].
pub async fn ever_told(tx: &mut Tx, kind: &str) -> Result<bool, StoreError> {
    let entry = sql("SELECT 1 AS n FROM audit_entry WHERE kind = $1 LIMIT 1").bind(kind);
    Ok(tx.fetch_optional(entry).await?.is_some())
}
