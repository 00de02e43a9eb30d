//! What stays of entries that were deleted after archiving: their hashes, the codes of the chains where they end, and what
//! the zone noted of them, all under the key of the log.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use core_types::{Digest32, UnixTime, sha256};
use serde::{Deserialize, Serialize};
use store_kit::{Row, Store, StoreError, Tx, sql};

use super::read::{check_root, check_subtrees, checkpoints, fits};
use super::state::Head;
use super::{AuditLog, signed};
use crate::error::AuditError;
use crate::hashes::TILE;
use crate::signed::{Adopted, adopted};
use crate::tree::{Frontier, leaf};

/// Tiles read at a time.
const PAGE: i64 = 64;

/// What a reader of a log is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told<'t> {
    /// A part of what the zone noted of entries before they were deleted, as [`Summary::parts`](crate::Summary::parts) gave it.
    Summary(&'t str),
    /// The text of an entry.
    Entry(&'t str),
    /// Reading begins anew, since entries were deleted after archiving meanwhile: what was told before is told again.
    Again,
}

/// A range of the log that was deleted after archiving. Members are added, never renamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archived {
    /// First place of the range.
    pub from: u64,
    /// The place behind it.
    pub size: u64,
    /// Time of the latest entry in it.
    pub last: UnixTime,
    /// Digest that names the archive.
    pub archive: Digest32,
    /// Digest of the proposal that two officers approved.
    pub proposal: Digest32,
    /// When it was deleted.
    pub at: UnixTime,
}

/// The log where it was cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cut {
    #[serde(flatten)]
    pub(super) range: Archived,
    /// Roots of the complete subtrees of everything below.
    pub(super) roots: Vec<Digest32>,
    /// Where each node's chain goes on.
    pub(super) nodes: BTreeMap<String, Head>,
    /// [`chained`] over this and all deletions before.
    pub(super) chain: Digest32,
    /// Digest over what the zone noted.
    pub(super) summary: Digest32,
    /// The last signed configuration that was obeyed below: its entry stays, but only hashes vouch for what stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) obeyed: Option<Adopted>,
}

/// SHA-256 over the deletions up to this one: `before`, both places, archive, proposal.
pub(super) fn chained(before: Digest32, range: &Archived) -> Digest32 {
    let tag: &[u8] = b"natsuin-audit-deleted-v1\n";
    sha256(&[
        tag,
        &before.0,
        &range.from.to_be_bytes(),
        &range.size.to_be_bytes(),
        &range.archive.0,
        &range.proposal.0,
    ])
}

/// Digest over the parts of a summary, each by its own.
pub(super) fn summary_digest(parts: &[String]) -> Digest32 {
    let each: Vec<u8> = parts
        .iter()
        .flat_map(|part| sha256(&[part.as_bytes()]).0)
        .collect();
    sha256(&[b"natsuin-audit-summary-v1\n", &each])
}

fn sealed(log: &AuditLog, text: &str) -> hmac::Tag {
    let message = format!("cut\n{}\n{text}", log.zone());
    hmac::sign(&log.tree_key(), message.as_bytes())
}

impl Cut {
    /// Writes it, and what the zone noted in place of what it noted before.
    pub(super) async fn insert(
        &self,
        tx: &mut Tx,
        log: &AuditLog,
        parts: &[String],
    ) -> Result<(), AuditError> {
        let text = serde_json::to_string(self)
            .map_err(|_| StoreError::Audit("the cut has no text form"))?;
        let insert = sql("INSERT INTO audit_cut (size, state, mac) VALUES ($1, $2, $3)");
        let insert = insert.bind(signed(self.range.size)?).bind(text.as_str());
        tx.execute(insert.bind(sealed(log, &text).as_ref())).await?;
        tx.execute(sql("DELETE FROM audit_summary")).await?;
        for (n, part) in (0_i64..).zip(parts) {
            let insert = sql("INSERT INTO audit_summary (part, body) VALUES ($1, $2)");
            tx.execute(insert.bind(n).bind(part.as_str())).await?;
        }
        Ok(())
    }
}

/// The cut at this place, which the sequencer's row names; nothing for 0.
pub(super) async fn load(
    store: &Store,
    log: &AuditLog,
    size: u64,
) -> Result<Option<Cut>, AuditError> {
    if size == 0 {
        return Ok(None);
    }
    let mut tx = store.read("audit-cut").await?;
    let select = sql("SELECT state, mac FROM audit_cut WHERE size = $1").bind(signed(size)?);
    let row = tx.fetch_optional(select).await?;
    let row = row.ok_or(AuditError::Tree("what was deleted isn't told any more"))?;
    let text = row.text("state")?;
    let message = format!("cut\n{}\n{text}", log.zone());
    hmac::verify(&log.tree_key(), message.as_bytes(), &row.blob("mac")?)
        .map_err(|_| AuditError::Tree("what is told of deleted entries was altered"))?;
    let cut: Cut = serde_json::from_str(&text)
        .map_err(|_| AuditError::Tree("what is told of deleted entries is unreadable"))?;
    match cut.range.size == size {
        true => Ok(Some(cut)),
        false => Err(AuditError::Tree(
            "what is told of deleted entries is another cut's",
        )),
    }
}

/// What the zone noted of the entries below the cut.
pub(super) async fn summary(store: &Store, cut: &Cut) -> Result<Vec<String>, AuditError> {
    let mut tx = store.read("audit-summary").await?;
    let rows = tx
        .fetch_all(sql("SELECT body FROM audit_summary ORDER BY part"))
        .await?;
    let parts: Vec<String> = rows
        .iter()
        .map(|row| row.text("body"))
        .collect::<Result<_, _>>()?;
    match summary_digest(&parts) == cut.summary {
        true => Ok(parts),
        false => Err(AuditError::Tree(
            "what was noted of deleted entries was altered",
        )),
    }
}

/// Checks that the hashes below the cut are those of the log, with the checkpoints and subtrees over them, and that entries
/// that are still there fit them. Answers the tree up to the cut, and the last configuration that such an entry says was obeyed.
pub(super) async fn check_rest(
    store: &Store,
    cut: &Cut,
) -> Result<(Frontier, Option<Adopted>), AuditError> {
    let (mut tree, mut obeyed) = (Frontier::default(), None::<Adopted>);
    let tiles = signed(cut.range.size)? / TILE;
    let mut first = 0;
    while first < tiles {
        let last = tiles.min(first + PAGE);
        let mut tx = store.read("audit-rest").await?;
        let select = "SELECT hashes FROM audit_tile WHERE n >= $1 AND n < $2 ORDER BY n";
        let rows = tx.fetch_all(sql(select).bind(first).bind(last)).await?;
        let mut hashes = Vec::new();
        for row in &rows {
            let blob = row.blob("hashes")?;
            let (whole, rest) = blob.as_chunks::<32>();
            if !rest.is_empty() || i64::try_from(whole.len()) != Ok(TILE) {
                return Err(AuditError::Tree("a tile of deleted entries was altered"));
            }
            hashes.extend(whole.iter().map(|hash| Digest32(*hash)));
        }
        if i64::try_from(rows.len()) != Ok(last - first) {
            return Err(AuditError::Tree("a tile of deleted entries is missing"));
        }
        let roots = checkpoints(&mut tx, first * TILE, last * TILE).await?;
        let mut complete = Vec::new();
        for hash in &hashes {
            tree.push(*hash, |subtree| complete.push(subtree));
            check_root(&roots, &tree)?;
        }
        check_subtrees(&mut tx, &complete).await?;
        let select = "SELECT seq, node, n, at, kind, person, key_id, body, leaf FROM audit_entry \
                      WHERE seq >= $1 AND seq < $2 ORDER BY seq";
        let select = sql(select).bind(first * TILE).bind(last * TILE);
        for row in tx.fetch_all(select).await? {
            obeyed = obeyed.max(check_kept(&row, first * TILE, &hashes)?);
        }
        first = last;
    }
    match tree.roots() == cut.roots {
        true => Ok((tree, obeyed)),
        false => Err(AuditError::Tree(
            "the hashes of deleted entries were altered",
        )),
    }
}

/// An entry below the cut that is still there is the one that was logged. Answers which configuration it says was obeyed.
fn check_kept(row: &Row, first: i64, hashes: &[Digest32]) -> Result<Option<Adopted>, AuditError> {
    let fault = |why| {
        Ok::<_, StoreError>(AuditError::Entry {
            node: row.text("node")?,
            n: row.int("n")?,
            why,
        })
    };
    let body = match row.text("body") {
        Ok(body) => body,
        Err(_) => return Err(fault("what is kept of it has another type")?),
    };
    let at = usize::try_from(row.int("seq")? - first).unwrap_or(usize::MAX);
    if hashes.get(at) != Some(&leaf(body.as_bytes())) {
        return Err(fault("it isn't the entry that was logged")?);
    }
    match fits(row, &body) {
        Ok(true) => Ok(adopted(&row.text("kind")?, &body)),
        _ => Err(fault("what is kept beside the entry differs from it")?),
    }
}

/// The ranges that were deleted after archiving, oldest first, as the store tells them; [`read_back`](crate::read_back)
/// and `audit-verify` judge whether that is so.
///
/// # Errors
/// [`StoreError`].
pub async fn archived(tx: &mut Tx) -> Result<Vec<Archived>, StoreError> {
    let rows = tx
        .fetch_all(sql("SELECT state FROM audit_cut ORDER BY size"))
        .await?;
    let range = |row: &Row| {
        let text = row.text("state")?;
        serde_json::from_str(&text).map_err(|_| StoreError::Column("state"))
    };
    rows.iter().map(range).collect()
}
