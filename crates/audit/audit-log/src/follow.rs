//! Reading the log on, in its own order: nothing that comes later lies before what was read.

use core_types::UnixTime;
use store_kit::{Store, StoreError, Tx, sql};

use crate::export::{LoggedEntry, entry};
use crate::search::MOST_FOUND;
use crate::tiles::checkpoint;

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Behind this place in the log.
    After(u64),
    /// At the first place whose entry is of this time or later. Times don't rise with places where nodes' clocks differ:
    /// good for a beginning, not for going on.
    Time(UnixTime),
}

/// What comes next in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// In the order of the log.
    pub entries: Vec<LoggedEntry>,
    /// Entries in the log. Where the last place read isn't below it, an old copy of the store was put back, and places that were
    /// read before have other entries.
    pub size: i64,
}

/// The next entries in the order of the log, at most `limit` and [`MOST_FOUND`]; fewer mean that there are no more. Only entries
/// that have their place are there.
///
/// The order of a search is another: by time, node and number. There entries of another node can come in before what was
/// read already.
///
/// # Errors
/// [`StoreError`].
pub async fn follow(store: &Store, start: Start, limit: usize) -> Result<Next, StoreError> {
    let mut tx = store.read("audit-follow").await?;
    let size = checkpoint(&mut tx).await?.map_or(0, |(size, _)| size);
    let first = match start {
        Start::After(place) => i64::try_from(place).ok().and_then(|p| p.checked_add(1)),
        Start::Time(time) => {
            let select =
                "SELECT min(seq) AS first FROM audit_entry WHERE at >= $1 AND seq IS NOT NULL";
            let row = tx.fetch_one(sql(select).bind(time.0)).await?;
            row.maybe_int("first")?
        }
    };
    let Some(first) = first else {
        let entries = Vec::new();
        return Ok(Next { entries, size });
    };
    let limit = i64::try_from(limit.clamp(1, MOST_FOUND)).unwrap_or(i64::MAX);
    let select = "SELECT seq, node, n, at, kind, leaf, body FROM audit_entry WHERE seq >= $1 ORDER BY seq LIMIT $2";
    let rows = tx.fetch_all(sql(select).bind(first).bind(limit)).await?;
    let entries: Result<_, StoreError> = rows.iter().map(entry).collect();
    Ok(Next {
        entries: entries?,
        size,
    })
}

/// Texts of the entries of a type from a time on, also of those that have no place yet; at most `limit`. For bounds that have to
/// hold for all nodes and over restarts: an entry that is taken away from the log stops the zone.
///
/// # Errors
/// [`StoreError`].
pub async fn since(
    tx: &mut Tx,
    kind: &'static str,
    from: UnixTime,
    limit: i64,
) -> Result<Vec<String>, StoreError> {
    let select = "SELECT body FROM audit_entry WHERE kind = $1 AND at >= $2 ORDER BY at LIMIT $3";
    let rows = tx
        .fetch_all(sql(select).bind(kind).bind(from.0).bind(limit))
        .await?;
    rows.iter().map(|row| row.text("body")).collect()
}
