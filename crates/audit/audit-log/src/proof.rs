//! Proofs over the log: that entries are in it (RFC 6962 §2.1.1), for receipts, and that it only grew (§2.1.2), for
//! witnesses.

use core_types::{Digest32, KeyId, UnixTime};
use store_kit::{Store, StoreError, Tx, sql};

use crate::export::{LoggedEntry, entry};
use crate::hashes::Hashes;
use crate::note::root_of;
use crate::tiles::cosigned;
use crate::tree::node;

/// Most entries about one thing.
const MOST: i64 = 200;

/// Entries with their way to the root of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proofs {
    /// The checkpoint, a signed note.
    pub checkpoint: String,
    /// For each entry asked for, in the same order: the hashes from the leaf to the root.
    pub paths: Vec<Vec<Digest32>>,
}

/// Entries about a person whose text contains `digest`, oldest first, at most 200.
///
/// # Errors
/// [`StoreError`].
pub async fn about(
    store: &Store,
    person: &str,
    digest: Digest32,
) -> Result<Vec<LoggedEntry>, StoreError> {
    let mut tx = store.read("audit-about").await?;
    let select = "SELECT seq, node, n, at, kind, leaf, body FROM audit_entry \
                  WHERE person = (SELECT alias FROM audit_person WHERE person = $1) AND seq IS NOT NULL AND body LIKE $2 ORDER BY at, seq LIMIT $3";
    let select = sql(select).bind(person).bind(format!("%\"{digest}\"%"));
    let rows = tx.fetch_all(select.bind(MOST)).await?;
    rows.iter().map(entry).collect()
}

/// Entries of a kind whose text contains `digest`, oldest first, at most 200.
///
/// # Errors
/// [`StoreError`].
pub async fn of_kind(
    store: &Store,
    kind: &str,
    digest: Digest32,
) -> Result<Vec<LoggedEntry>, StoreError> {
    let mut tx = store.read("audit-of-kind").await?;
    let select = "SELECT seq, node, n, at, kind, leaf, body FROM audit_entry \
                  WHERE kind = $1 AND seq IS NOT NULL AND body LIKE $2 ORDER BY at, seq LIMIT $3";
    let select = sql(select).bind(kind).bind(format!("%\"{digest}\"%"));
    let rows = tx.fetch_all(select.bind(MOST)).await?;
    rows.iter().map(entry).collect()
}

/// The latest entries of a kind about a person, newest first.
///
/// # Errors
/// [`StoreError`].
pub async fn latest(
    store: &Store,
    person: &str,
    kind: &str,
    most: i64,
) -> Result<Vec<LoggedEntry>, StoreError> {
    let mut tx = store.read("audit-latest").await?;
    let select = "SELECT seq, node, n, at, kind, leaf, body FROM audit_entry \
                  WHERE person = (SELECT alias FROM audit_person WHERE person = $1) AND kind = $2 AND seq IS NOT NULL ORDER BY at DESC, seq DESC LIMIT $3";
    let select = sql(select).bind(person).bind(kind).bind(most);
    let rows = tx.fetch_all(select).await?;
    rows.iter().map(entry).collect()
}

/// The latest entries of a kind about a key, newest first; `before`: only those before an entry of this time and place.
///
/// # Errors
/// [`StoreError`].
pub async fn of_key(
    tx: &mut Tx,
    key: &KeyId,
    kind: &str,
    before: Option<(UnixTime, i64)>,
    most: i64,
) -> Result<Vec<LoggedEntry>, StoreError> {
    let select = "SELECT seq, node, n, at, kind, leaf, body FROM audit_entry \
                  WHERE key_id = $1 AND kind = $2 AND seq IS NOT NULL AND (at < $3 OR (at = $3 AND seq < $4)) \
                  ORDER BY at DESC, seq DESC LIMIT $5";
    let (at, seq) = before.unwrap_or((UnixTime(i64::MAX), i64::MAX));
    let select = sql(select).bind(key.as_str()).bind(kind).bind(at.0);
    let rows = tx.fetch_all(select.bind(seq).bind(most)).await?;
    rows.iter().map(entry).collect()
}

/// Proves entries at these places with the first checkpoint that covers them all; nothing while there is none. The cost
/// grows with the logarithm of the log's size.
///
/// # Errors
/// [`StoreError`], also when the tree in the store doesn't lead to its checkpoint.
pub async fn prove(store: &Store, places: &[i64]) -> Result<Option<Proofs>, StoreError> {
    let Some(last) = places.iter().max() else {
        return Ok(None);
    };
    let mut tx = store.read("audit-prove").await?;
    let select = "SELECT size, note FROM audit_checkpoint WHERE size > $1 ORDER BY size LIMIT 1";
    let Some(row) = tx.fetch_optional(sql(select).bind(*last)).await? else {
        return Ok(None);
    };
    let (size, checkpoint) = (row.int("size")?, row.text("note")?);
    let root = root_of(&checkpoint);
    let checkpoint = cosigned(&mut tx, size, checkpoint).await?;
    let mut hashes = Hashes::default();
    let mut paths = Vec::with_capacity(places.len());
    for place in places {
        let mut ranges = Vec::new();
        siblings(*place, 0, size, &mut ranges);
        let path = roots(&mut tx, &mut hashes, &ranges).await?;
        let leaf = hashes.root(&mut tx, (*place, place + 1)).await?;
        let led = ranges
            .iter()
            .zip(&path)
            .fold(leaf, |hash, (range, beside)| {
                let right = range.0 > *place;
                if right {
                    node(&hash, beside)
                } else {
                    node(beside, &hash)
                }
            });
        if Some(led) != root {
            return Err(StoreError::Audit(
                "the log's tree doesn't lead to its checkpoint",
            ));
        }
        paths.push(path);
    }
    Ok(Some(Proofs { checkpoint, paths }))
}

/// Proves that the tree of `old` leaves is the beginning of that of `new` leaves; `0 < old ≤ new`, both in the log.
///
/// # Errors
/// [`StoreError`].
pub(crate) async fn grown(tx: &mut Tx, old: i64, new: i64) -> Result<Vec<Digest32>, StoreError> {
    let mut ranges = Vec::new();
    consistency(old, (0, new), true, &mut ranges);
    roots(tx, &mut Hashes::default(), &ranges).await
}

async fn roots(
    tx: &mut Tx,
    hashes: &mut Hashes,
    ranges: &[(i64, i64)],
) -> Result<Vec<Digest32>, StoreError> {
    let mut path = Vec::with_capacity(ranges.len());
    for range in ranges {
        path.push(hashes.root(tx, *range).await?);
    }
    Ok(path)
}

/// Where the leaves `from..to` are split: behind the greatest power of two that is less than their number.
fn split((from, to): (i64, i64)) -> i64 {
    from + (1 << (to - from - 1).ilog2())
}

/// The subtrees beside the way from leaf `at` to the root of the leaves `from..to`, from the leaf upward.
fn siblings(at: i64, from: i64, to: i64, out: &mut Vec<(i64, i64)>) {
    if to - from <= 1 {
        return;
    }
    let middle = split((from, to));
    if at < middle {
        siblings(at, from, middle, out);
        out.push((middle, to));
    } else {
        siblings(at, middle, to, out);
        out.push((from, middle));
    }
}

/// The subtrees of a consistency proof (RFC 6962 §2.1.2, SUBPROOF): `known` says that whoever checks has the root of the
/// leaves up to `old` already.
fn consistency(old: i64, (from, to): (i64, i64), known: bool, out: &mut Vec<(i64, i64)>) {
    if old == to {
        if !known {
            out.push((from, to));
        }
        return;
    }
    let middle = split((from, to));
    if old <= middle {
        consistency(old, (from, middle), known, out);
        out.push((middle, to));
    } else {
        consistency(old, (middle, to), false, out);
        out.push((from, middle));
    }
}
