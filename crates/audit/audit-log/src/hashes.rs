//! Reading the tree from the store: any complete part of it with a few queries, whatever the size of the log.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use core_types::Digest32;
use store_kit::{StoreError, Tx, sql};

use crate::tree::{TILE_HEIGHT, join, node};

/// Hashes in a tile.
pub(crate) const TILE: i64 = 1 << TILE_HEIGHT;

/// Hashes of the tree, tile by tile; a tile is read once.
#[derive(Debug, Default)]
pub(crate) struct Hashes(BTreeMap<(i64, i64), BTreeMap<i64, Digest32>>);

impl Hashes {
    /// Root of the leaves `from..to`; `from` is a multiple of the greatest power of two in their number.
    pub(crate) async fn root(
        &mut self,
        tx: &mut Tx,
        (from, to): (i64, i64),
    ) -> Result<Digest32, StoreError> {
        let mut parts = Vec::new();
        let mut at = from;
        while at < to {
            let height = (to - at).ilog2();
            parts.push(self.complete(tx, height, at >> height).await?);
            at += 1 << height;
        }
        let mut parts = parts.into_iter().rev();
        let last = parts.next().ok_or(StoreError::Audit("an empty subtree"))?;
        Ok(parts.fold(last, |right, left| node(&left, &right)))
    }

    /// Root of the complete subtree of this height with this number.
    async fn complete(&mut self, tx: &mut Tx, height: u32, n: i64) -> Result<Digest32, StoreError> {
        let (level, within) = (i64::from(height / TILE_HEIGHT), height % TILE_HEIGHT);
        let (first, count) = (n << within, 1 << within);
        let tile = self.tile(tx, level, first / TILE).await?;
        let hashes: Option<Vec<_>> = (first..first + count)
            .map(|n| tile.get(&n).copied())
            .collect();
        hashes
            .and_then(join)
            .ok_or(StoreError::Audit("parts of the log's tree are missing"))
    }

    /// The hashes of a tile that are there, by their number within the level.
    pub(crate) async fn tile(
        &mut self,
        tx: &mut Tx,
        level: i64,
        n: i64,
    ) -> Result<&BTreeMap<i64, Digest32>, StoreError> {
        match self.0.entry((level, n)) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => Ok(new.insert(read(tx, level, n).await?)),
        }
    }
}

async fn read(tx: &mut Tx, level: i64, n: i64) -> Result<BTreeMap<i64, Digest32>, StoreError> {
    let range = (n * TILE, (n + 1) * TILE);
    let rows = if level == 0 {
        let select = "SELECT seq AS n, leaf AS hash FROM audit_entry WHERE seq >= $1 AND seq < $2";
        tx.fetch_all(sql(select).bind(range.0).bind(range.1))
            .await?
    } else {
        let select =
            "SELECT n, root AS hash FROM audit_subtree WHERE level = $1 AND n >= $2 AND n < $3";
        let select = sql(select).bind(level).bind(range.0).bind(range.1);
        tx.fetch_all(select).await?
    };
    let mut hashes = BTreeMap::new();
    // Of entries that were deleted after archiving the hashes stand here; entries that are there speak for themselves.
    if level == 0 && i64::try_from(rows.len()).is_ok_and(|n| n < TILE) {
        let select = sql("SELECT hashes FROM audit_tile WHERE n = $1").bind(n);
        if let Some(row) = tx.fetch_optional(select).await? {
            let kept = row.blob("hashes").unwrap_or_default();
            let (kept, _) = kept.as_chunks::<32>();
            hashes.extend((range.0..range.1).zip(kept.iter().map(|hash| Digest32(*hash))));
        }
    }
    for row in rows {
        // What isn't a hash is missing: an export has to show a damaged log too.
        let text = row.text("hash").unwrap_or_default();
        if let Ok(hash) = Digest32::parse(&text) {
            hashes.insert(row.int("n")?, hash);
        }
    }
    Ok(hashes)
}
