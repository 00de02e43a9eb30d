//! Proofs that entries are in the log (RFC 6962 §2.1.1), for receipts.

use std::collections::BTreeMap;

use core_types::Digest32;
use store_kit::{Store, StoreError, Tx, sql};

use crate::export::{LoggedEntry, entry};
use crate::tree::Frontier;

/// Leaves read in one go.
const PAGE: i64 = 10_000;
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
                  WHERE person = $1 AND seq IS NOT NULL AND body LIKE $2 ORDER BY at, seq LIMIT $3";
    let select = sql(select).bind(person).bind(format!("%\"{digest}\"%"));
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
                  WHERE person = $1 AND kind = $2 AND seq IS NOT NULL ORDER BY at DESC, seq DESC LIMIT $3";
    let select = sql(select).bind(person).bind(kind).bind(most);
    let rows = tx.fetch_all(select).await?;
    rows.iter().map(entry).collect()
}

/// Proves entries at these places with the first checkpoint that covers them all; nothing while there is none. Reads
/// every leaf before the checkpoint once: meant for receipts, not for the path of a signature.
///
/// # Errors
/// [`StoreError`].
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
    let mut roots: BTreeMap<(i64, i64), Digest32> = BTreeMap::new();
    let mut paths = Vec::with_capacity(places.len());
    for place in places {
        let mut ranges = Vec::new();
        siblings(*place, 0, size, &mut ranges);
        let mut path = Vec::with_capacity(ranges.len());
        for range in ranges {
            let root = match roots.get(&range) {
                Some(root) => *root,
                None => root_of(&mut tx, range).await?,
            };
            roots.insert(range, root);
            path.push(root);
        }
        paths.push(path);
    }
    Ok(Some(Proofs { checkpoint, paths }))
}

/// The subtrees beside the way from leaf `at` to the root of the leaves `from..to`, from the leaf upward.
fn siblings(at: i64, from: i64, to: i64, out: &mut Vec<(i64, i64)>) {
    let count = to - from;
    if count <= 1 {
        return;
    }
    let half = 1 << (63 - (count - 1).leading_zeros());
    let middle = from + half;
    if at < middle {
        siblings(at, from, middle, out);
        out.push((middle, to));
    } else {
        siblings(at, middle, to, out);
        out.push((from, middle));
    }
}

async fn root_of(tx: &mut Tx, (from, to): (i64, i64)) -> Result<Digest32, StoreError> {
    let mut tree = Frontier::default();
    let mut next = from;
    while next < to {
        let select = "SELECT leaf FROM audit_entry WHERE seq >= $1 AND seq < $2 ORDER BY seq";
        let end = to.min(next + PAGE);
        let rows = tx.fetch_all(sql(select).bind(next).bind(end)).await?;
        if i64::try_from(rows.len()) != Ok(end - next) {
            return Err(StoreError::Audit("entries of the log are missing"));
        }
        for row in rows {
            let leaf = Digest32::parse(&row.text("leaf")?);
            tree.push(leaf.map_err(|_| StoreError::Column("leaf"))?);
        }
        next = end;
    }
    Ok(tree.root())
}
