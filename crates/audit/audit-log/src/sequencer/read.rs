//! Reading a zone's own log back, believing nothing that its keys don't vouch for.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use core_types::{Digest32, UnixTime};
use serde::Deserialize;
use store_kit::{Row, Store, StoreError, Tx, sql};

use super::cut::{self, Told};
use super::{State, Tree, check_link, heads, signed};
use crate::error::AuditError;
use crate::log::AuditLog;
use crate::note::{root_of, size_of};
use crate::person;
use crate::signed::{Adopted, adopted};
use crate::tree::{Frontier, Subtree, leaf};

/// Rows read at a time.
const PAGE: i64 = 1000;

/// Gives out every entry in the log of this store, sequenced or not, and says how many there were. Of entries that were
/// deleted after archiving it gives out what the zone noted of them instead, first of all; if some are deleted while it reads, it
/// begins anew and says so ([`Told::Again`]).
///
/// Each entry's chain code is computed anew, and the Merkle tree up to the last checkpoint. Reading takes time in
/// proportion to the log; what is written meanwhile is read too. Whether the newest entries and the last checkpoints are
/// there, only the witness can say.
///
/// # Errors
/// [`AuditError`] when an entry, or the order of entries, isn't as it was written, or `each` says what is wrong with one.
/// What was given out before is not to be used then.
pub async fn read_back(
    log: &AuditLog,
    store: &Store,
    mut each: impl FnMut(Told<'_>) -> Result<(), &'static str>,
) -> Result<u64, AuditError> {
    let mut reader = LogReader::sequenced(log, store, &mut each).await?;
    let mut tx = store.read("audit-read").await?;
    reader.newer(&mut tx, &mut each).await?;
    Ok(reader.read)
}

/// An entry that was read.
pub(super) struct Passed {
    pub(super) at: UnixTime,
    pub(super) leaf: Digest32,
    /// Alias of whom it is about.
    pub(super) person: Option<String>,
}

/// Reads a log in two parts: what has its place, and then, as often as wanted, what was written since.
#[derive(Debug)]
pub struct LogReader<'l> {
    log: &'l AuditLog,
    chains: BTreeMap<String, hmac::Key>,
    pub(super) state: State,
    /// The last signed configuration that was obeyed, by what was read and by the cut.
    pub(crate) obeyed: Option<Adopted>,
    read: u64,
}

impl<'l> LogReader<'l> {
    /// Reads what has its place in the log, as [`read_back`] does.
    ///
    /// # Errors
    /// As [`read_back`].
    pub async fn sequenced(
        log: &'l AuditLog,
        store: &Store,
        mut each: impl FnMut(Told<'_>) -> Result<(), &'static str>,
    ) -> Result<Self, AuditError> {
        let mut done = sequenced(log, store).await?;
        loop {
            let error = match Self::all(log, store, &done, &mut each).await {
                Err(error) if !matches!(error, AuditError::Store(_)) => error,
                read => return read,
            };
            // A deletion beside this takes entries away page by page, and says so first in the sequencer's row.
            let now = sequenced(log, store).await?;
            if now.cut <= done.cut {
                return Err(error);
            }
            each(Told::Again).map_err(AuditError::Tree)?;
            done = now;
        }
    }

    async fn all(
        log: &'l AuditLog,
        store: &Store,
        done: &State,
        each: &mut impl FnMut(Told<'_>) -> Result<(), &'static str>,
    ) -> Result<Self, AuditError> {
        let (mut reader, mut tree) = Self::begin(log, store, done, each).await?;
        while tree.size() < done.tree.size {
            reader.page(store, &mut tree, done.tree.size, each).await?;
        }
        reader.state.tree = Tree {
            size: tree.size(),
            roots: tree.roots().to_vec(),
        };
        if reader.state.tree != done.tree || reader.state.nodes != done.nodes {
            return Err(AuditError::Tree(
                "the entries aren't those of the last checkpoint",
            ));
        }
        Ok(reader)
    }

    /// Begins behind what was deleted after archiving: checks what is left of that, and gives out what the zone noted.
    pub(super) async fn begin(
        log: &'l AuditLog,
        store: &Store,
        done: &State,
        each: &mut impl FnMut(Told<'_>) -> Result<(), &'static str>,
    ) -> Result<(Self, Frontier), AuditError> {
        let mut reader = Self {
            log,
            chains: BTreeMap::new(),
            state: State::default(),
            obeyed: None,
            read: 0,
        };
        let Some(cut) = cut::load(store, log, done.cut).await? else {
            return Ok((reader, Frontier::default()));
        };
        let (tree, kept) = cut::check_rest(store, &cut).await?;
        for part in cut::summary(store, &cut).await? {
            each(Told::Summary(&part)).map_err(AuditError::Tree)?;
        }
        // Cuts of older programs don't say so; entries that stay do.
        reader.obeyed = cut.obeyed.max(kept);
        reader.state.nodes = cut.nodes;
        Ok((reader, tree))
    }

    /// Reads the next page of what has its place, up to `to`; answers what a deletion wants to know of each entry.
    pub(super) async fn page(
        &mut self,
        store: &Store,
        tree: &mut Frontier,
        to: u64,
        each: &mut impl FnMut(Told<'_>) -> Result<(), &'static str>,
    ) -> Result<Vec<Passed>, AuditError> {
        let mut tx = store.read("audit-read").await?;
        let from = signed(tree.size())?;
        let select = "SELECT seq, node, n, at, kind, person, key_id, body, leaf, mac FROM audit_entry \
                      WHERE seq >= $1 AND seq < $2 ORDER BY seq LIMIT $3";
        let select = sql(select).bind(from).bind(signed(to)?).bind(PAGE);
        let rows = tx.fetch_all(select).await?;
        if rows.is_empty() {
            return Err(AuditError::Missing(tree.size()));
        }
        let roots = checkpoints(&mut tx, from, from + PAGE).await?;
        let (mut complete, mut leaves) = (Vec::new(), Vec::with_capacity(rows.len()));
        for row in &rows {
            if row.int("seq")? != signed(tree.size())? {
                return Err(AuditError::Missing(tree.size()));
            }
            let body = self.entry(row, each)?;
            let leaf = leaf(body.as_bytes());
            leaves.push(Passed {
                at: UnixTime(row.int("at")?),
                leaf,
                person: row.maybe_text("person")?,
            });
            tree.push(leaf, |subtree| complete.push(subtree));
            check_root(&roots, tree)?;
        }
        check_subtrees(&mut tx, &complete).await?;
        Ok(leaves)
    }

    /// Reads what was written since, as this transaction's snapshot has it: after that, log and rows can be compared in it.
    ///
    /// # Errors
    /// As [`read_back`].
    pub async fn newer(
        &mut self,
        tx: &mut Tx,
        mut each: impl FnMut(Told<'_>) -> Result<(), &'static str>,
    ) -> Result<(), AuditError> {
        let heads = heads(tx).await?;
        self.state.check_not_behind(&heads)?;
        let nodes = tx
            .fetch_all(sql(
                "SELECT DISTINCT node FROM audit_entry WHERE seq IS NULL",
            ))
            .await?;
        for row in nodes {
            let node = row.text("node")?;
            if !heads.contains_key(&node) {
                let (n, why) = (1, "the chain's head was removed");
                return Err(AuditError::Entry { node, n, why });
            }
        }
        for node in heads.keys() {
            loop {
                let after = self.state.nodes.get(node).map_or(0, |head| head.n);
                let select = "SELECT node, n, at, kind, person, key_id, body, leaf, mac FROM audit_entry \
                              WHERE node = $1 AND n > $2 ORDER BY n LIMIT $3";
                let select = sql(select).bind(node.as_str()).bind(after).bind(PAGE);
                let rows = tx.fetch_all(select).await?;
                if rows.is_empty() {
                    break;
                }
                for row in &rows {
                    self.entry(row, &mut each)?;
                }
            }
        }
        self.state.check_not_behind(&heads)?;
        self.state.check_reached(&heads)?;
        person::check(tx).await
    }

    fn entry(
        &mut self,
        row: &Row,
        each: &mut impl FnMut(Told<'_>) -> Result<(), &'static str>,
    ) -> Result<String, AuditError> {
        let (node, n) = (row.text("node")?, row.int("n")?);
        let typed = |_| AuditError::Entry {
            node: node.clone(),
            n,
            why: "what is kept of it has another type",
        };
        let (body, mac) = (
            row.text("body").map_err(typed)?,
            row.blob("mac").map_err(typed)?,
        );
        let fitting = fits(row, &body).map_err(typed)?;
        let chain = self.chains.entry(node.clone());
        let chain = chain.or_insert_with(|| self.log.key_of(&node));
        check_link(chain, &mut self.state, &node, n, &body, &mac)?;
        let why = match fitting {
            true => each(Told::Entry(&body)).err(),
            false => Some("what is kept beside the entry differs from it"),
        };
        if let Some(why) = why {
            return Err(AuditError::Entry { node, n, why });
        }
        self.obeyed = self.obeyed.max(adopted(&row.text("kind")?, &body));
        self.read += 1;
        Ok(body)
    }
}

/// What the sequencer has done, by its own authenticated row.
pub(super) async fn sequenced(log: &AuditLog, store: &Store) -> Result<State, AuditError> {
    let mut tx = store.read("audit-read").await?;
    if let Some(state) = State::load(&mut tx, log).await? {
        return Ok(state);
    }
    let query = "SELECT (SELECT count(*) FROM audit_checkpoint) + (SELECT count(*) FROM audit_entry WHERE seq IS NOT NULL) AS n";
    if tx.fetch_one(sql(query)).await?.int("n")? == 0 {
        Ok(State::default())
    } else {
        Err(AuditError::Tree("the sequencer's row is missing"))
    }
}

/// The tree must be that of the checkpoint of its size, if there is one.
pub(super) fn check_root(
    roots: &BTreeMap<i64, Option<Digest32>>,
    tree: &Frontier,
) -> Result<(), AuditError> {
    match roots.get(&signed(tree.size())?) {
        Some(root) if *root != Some(tree.root()) => {
            Err(AuditError::Tree("a checkpoint isn't that of the entries"))
        }
        _ => Ok(()),
    }
}

/// The roots that the checkpoints of these sizes state.
pub(super) async fn checkpoints(
    tx: &mut Tx,
    after: i64,
    to: i64,
) -> Result<BTreeMap<i64, Option<Digest32>>, AuditError> {
    let select = "SELECT size, note FROM audit_checkpoint WHERE size > $1 AND size <= $2";
    let rows = tx.fetch_all(sql(select).bind(after).bind(to)).await?;
    let root = |row: &Row| {
        let (size, note) = (row.int("size")?, row.text("note")?);
        let right = size_of(&note).is_some_and(|told| i64::try_from(told) == Ok(size));
        Ok((size, root_of(&note).filter(|_| right)))
    };
    rows.iter().map(root).collect()
}

pub(super) async fn check_subtrees(tx: &mut Tx, subtrees: &[Subtree]) -> Result<(), AuditError> {
    for subtree in subtrees {
        let select = "SELECT root FROM audit_subtree WHERE level = $1 AND n = $2";
        let select = sql(select).bind(i64::from(subtree.level));
        let row = tx.fetch_optional(select.bind(signed(subtree.n)?)).await?;
        let root = row.map(|row| row.text("root")).transpose()?;
        if root != Some(subtree.root.to_string()) {
            return Err(AuditError::Tree("a part of it isn't that of the entries"));
        }
    }
    Ok(())
}

/// What is kept in columns for searching.
#[derive(Deserialize)]
struct Kept {
    at: i64,
    kind: String,
    detail: KeptDetail,
}

#[derive(Deserialize)]
pub(super) struct KeptDetail {
    person: Option<String>,
    owner: Option<String>,
    account: Option<String>,
    key: Option<String>,
}

impl KeptDetail {
    /// Whom the entry is about.
    pub(super) fn about(&self) -> Option<&str> {
        let told = self.person.as_deref().or(self.owner.as_deref());
        told.or(self.account.as_deref())
    }

    /// Which key the entry is about.
    pub(super) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

/// Whether the columns of an entry say what its text says.
pub(super) fn fits(row: &Row, body: &str) -> Result<bool, StoreError> {
    let Ok(kept) = serde_json::from_str::<Kept>(body) else {
        return Ok(false);
    };
    Ok(row.int("at")? == kept.at
        && row.text("kind")? == kept.kind
        && row.maybe_text("person")?.as_deref() == kept.detail.about()
        && row.maybe_text("key_id")?.as_deref() == kept.detail.key()
        && row.text("leaf")? == leaf(body.as_bytes()).to_string())
}
