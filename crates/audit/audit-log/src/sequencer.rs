//! The sequencer: checks the nodes' chains, gives entries their place in the zone's one log, signs checkpoints.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use core_types::{Clock, Digest32, UnixTime};
use store_kit::{Store, StoreError, Tx, sql, transaction};
use tokio::sync::Mutex;

use crate::error::AuditError;
use crate::event::Event;
use crate::hashes::Hashes;
use crate::late::patience;
use crate::log::AuditLog;
use crate::note::LogKey;
use crate::tree::{Frontier, Subtree, leaf};
use crate::witness::WitnessFile;

mod cut;
mod delete;
mod read;
mod replay;
mod state;
mod watch;

pub use cut::{Archived, Told, archived};
pub use delete::{Deleted, Deletion, DeletionError, Leaves, Summary};
pub use read::{LogReader, read_back};
pub use replay::{Lost, ReplayError, Replayed, replay};
use state::{State, Tree, check_link, heads, signed};
use watch::Watch;

/// Entries per transaction and checkpoint; bounds how long other writers wait.
const BATCH: i64 = 500;

impl AuditLog {
    /// Whether the log in this store is under this key, before anything is written: an entry under another one would stop the whole
    /// zone.
    ///
    /// # Errors
    /// [`AuditError::OtherKey`], and what [`Sequencer::open`] finds of the sequencer's row.
    pub async fn check_key(&self, store: &Store) -> Result<(), AuditError> {
        let mut tx = store.read("audit-key").await?;
        State::load(&mut tx, self).await.map(drop)
    }
}

/// Puts a zone's entries into its log. One per database does the work; several don't harm each other.
#[derive(Debug)]
pub struct Sequencer {
    log: AuditLog,
    key: LogKey,
    file: Option<WitnessFile>,
    watch: Mutex<Watch>,
}

/// What a run of the sequencer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequenced {
    /// Entries added.
    pub added: u64,
    /// Entries in the log.
    pub size: u64,
}

impl Sequencer {
    /// Opens the log of a store: its own state, its last checkpoint and the witness must agree.
    ///
    /// `witness` is a file outside the database, best on the auditor's side; without one an old copy of the whole
    /// database isn't noticed.
    ///
    /// # Errors
    /// [`AuditError`]; the zone must not start.
    pub async fn open(
        log: AuditLog,
        key: LogKey,
        witness: Option<PathBuf>,
        store: &Store,
    ) -> Result<Self, AuditError> {
        let state: Result<State, AuditError> = transaction!(store, "audit-open", |tx| {
            if let Some(state) = State::load(tx, &log).await? {
                return Ok(state);
            }
            let row = tx
                .fetch_one(sql("SELECT count(*) AS n FROM audit_checkpoint"))
                .await?;
            if row.int("n")? != 0 {
                return Err(AuditError::Tree("the sequencer's row is missing"));
            }
            let state = State::first();
            state.insert(tx, &log).await?;
            Ok(state)
        });
        let state = state?;
        let file = witness
            .map(|path| WitnessFile::open(path, state.tree.size))
            .transpose()?;
        let watch = Mutex::new(Watch::begin(store, state.tree.size).await?);
        let sequencer = Self {
            log,
            key,
            file,
            watch,
        };
        sequencer
            .newest(&mut store.read("audit-check").await?)
            .await?;
        if !state.tiled {
            sequencer.tile(store).await?;
        }
        sequencer.check_tree(store).await?;
        sequencer.catch_up(store).await?;
        Ok(sequencer)
    }

    /// The log's public key, for auditors.
    pub fn public(&self) -> String {
        self.key.public()
    }

    /// Sequences every `every` until that fails; gives the error with which the zone must stop acting (I5).
    ///
    /// A database that is away is waited for. If entries get no place for two minutes, or six intervals, nothing more is written
    /// ([`StoreError::Unplaced`]), so the zone does nothing, until they do: then that is told, and flows go on. A run that takes so
    /// long without getting on is given up for another. The next run after an absence compares what the database holds with the witnesses, and a contradiction stops the zone then.
    pub async fn keep(&self, store: &Store, clock: &dyn Clock, every: Duration) -> AuditError {
        let (mut away, mut late) = (false, false);
        loop {
            tokio::time::sleep(every).await;
            let begun = clock.monotonic();
            self.log.late().begins(begun);
            let done = {
                let mut run = std::pin::pin!(self.sequence(store, clock.now()));
                loop {
                    tokio::select! {
                        done = &mut run => break done,
                        () = tokio::time::sleep(every) => late |= self.is_late(clock, every, late),
                    }
                    // It may wait for a lock, or for a server that is gone: another one may get on.
                    let taken = clock.monotonic().saturating_sub(begun);
                    if self.log.late().is_late() && taken >= patience(every) {
                        break Err(StoreError::Unplaced.into());
                    }
                }
            };
            match done {
                Ok(_) => {
                    if away {
                        tracing::info!("the audit log can be written again");
                    }
                    away = false;
                    late = late && self.tell_late(store, clock.now()).await.is_err();
                }
                Err(error) if error.is_away() => {
                    if !away {
                        tracing::error!(%error, "entries of the audit log get no place for now. Make room on the store's disk, or bring the database back");
                    }
                    away = true;
                    late |= self.is_late(clock, every, late);
                }
                Err(error) => return error,
            }
        }
    }

    fn is_late(&self, clock: &dyn Clock, every: Duration, known: bool) -> bool {
        let is_late = self.log.late().look(clock.monotonic(), every);
        if is_late && !known {
            tracing::error!(
                "entries of the audit log get no place for too long: nothing is done until they do"
            );
        }
        is_late
    }

    /// Records that nothing could be done for a while.
    async fn tell_late(&self, store: &Store, now: UnixTime) -> Result<(), StoreError> {
        tracing::info!("entries of the audit log get their places again");
        transaction!(store, "audit-late", |tx| {
            let what = "checkpoint-late".into();
            self.log.append(tx, Event::Alarm { what }, now).await?;
            Ok(())
        })
    }

    /// Sequences everything written so far, in bounded steps, compares the log with what the witnesses know, and tells
    /// them what is new.
    ///
    /// # Errors
    /// [`AuditError`]; a zone that gets one must stop acting.
    pub async fn sequence(&self, store: &Store, now: UnixTime) -> Result<Sequenced, AuditError> {
        self.log.notes_backups(store, now).await?;
        let mut added = 0;
        let mut size = 0;
        while self.has_work(store).await? {
            let step: Result<_, AuditError> =
                transaction!(store, "audit-sequence", |tx| { self.step(tx, now).await });
            let (count, total) = step?;
            added += count;
            size = total;
            if count == 0 {
                break;
            }
            self.log.late().moves();
        }
        self.catch_up(store).await?;
        self.ask_witnesses(store, now, false).await?;
        // What waits for a witness, or for what is kept of it, waits still.
        self.log.late().ends();
        Ok(Sequenced { added, size })
    }

    /// Whether any node's chain is longer, or shorter, than what was sequenced.
    async fn has_work(&self, store: &Store) -> Result<bool, AuditError> {
        let mut tx = store.read("audit-look").await?;
        let state = State::load(&mut tx, &self.log)
            .await?
            .ok_or(AuditError::Tree("the sequencer's row is missing"))?;
        Ok(heads(&mut tx).await? != state.heads())
    }

    async fn step(&self, tx: &mut Tx, now: UnixTime) -> Result<(u64, u64), AuditError> {
        // Locks the row, so that another node's sequencer waits and then sees what this one did.
        tx.execute(sql("UPDATE audit_tree SET version = version WHERE id = 1"))
            .await?;
        let mut state = State::load(tx, &self.log)
            .await?
            .ok_or(AuditError::Tree("the sequencer's row is missing"))?;
        let mut tree = state.frontier()?;
        let first = tree.size();
        // Heads before rows: a row below a head seen here must be there.
        let heads = heads(tx).await?;
        state.check_not_behind(&heads)?;
        let select = "SELECT node, n, at, body, mac FROM audit_entry WHERE seq IS NULL ORDER BY node, n LIMIT $1";
        let rows = tx.fetch_all(sql(select).bind(BATCH)).await?;
        let whole = i64::try_from(rows.len()).is_ok_and(|n| n < BATCH);
        let mut chains = BTreeMap::new();
        let mut run: Option<Run> = None;
        let mut complete = Vec::new();
        for row in rows {
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
            let chain = chains
                .entry(node.clone())
                .or_insert_with(|| self.log.key_of(&node));
            check_link(chain, &mut state, &node, n, &body, &mac)?;
            let place = signed(tree.size())?;
            match &mut run {
                // Numbers without gaps, as was just checked.
                Some(run) if run.node == node => run.last = n,
                other => {
                    let next = Run {
                        node,
                        first: n,
                        last: n,
                        place,
                    };
                    if let Some(done) = other.replace(next) {
                        done.write(tx).await?;
                    }
                }
            }
            tree.push(leaf(body.as_bytes()), |subtree| complete.push(subtree));
        }
        if let Some(done) = run {
            done.write(tx).await?;
        }
        if whole {
            state.check_reached(&heads)?;
        }
        let added = tree.size() - first;
        if added == 0 {
            return Ok((0, first));
        }
        state.tree = Tree {
            size: tree.size(),
            roots: tree.roots().to_vec(),
        };
        state.update(tx, &self.log).await?;
        keep_subtrees(tx, &complete).await?;
        let note = self.key.checkpoint(tree.size(), &tree.root());
        let insert = "INSERT INTO audit_checkpoint (size, at, note) VALUES ($1, $2, $3)";
        tx.execute(
            sql(insert)
                .bind(signed(tree.size())?)
                .bind(now.0)
                .bind(&note),
        )
        .await?;
        Ok((added, tree.size()))
    }

    /// Size and text of the newest checkpoint. It and the state must be the same tree, signed by this key: by itself a row is
    /// nobody's word.
    async fn newest(&self, tx: &mut Tx) -> Result<Option<(i64, String)>, AuditError> {
        let state = State::load(tx, &self.log)
            .await?
            .ok_or(AuditError::Tree("the sequencer's row is missing"))?;
        let select = "SELECT size, note FROM audit_checkpoint ORDER BY size DESC LIMIT 1";
        let row = tx.fetch_optional(sql(select)).await?;
        let tree = state.frontier()?;
        let last = match row {
            None => None,
            Some(row) => Some((row.int("size")?, row.text("note")?)),
        };
        let own = match tree.size() {
            0 => None,
            size => Some((signed(size)?, self.key.checkpoint(size, &tree.root()))),
        };
        if last == own {
            return Ok(last);
        }
        let text = |of: &Option<(i64, String)>| {
            let note = of.as_ref().map(|(_, note)| note.split("\n\n").next());
            note.flatten().map(str::to_owned)
        };
        Err(match text(&last) == text(&own) {
            true => AuditError::OtherKey("its last checkpoint is signed with another one"),
            false => AuditError::Tree("the last checkpoint isn't that of the entries"),
        })
    }

    /// The parts of the tree that are kept must lead to the same root.
    async fn check_tree(&self, store: &Store) -> Result<(), AuditError> {
        let mut tx = store.read("audit-check").await?;
        let state = State::load(&mut tx, &self.log)
            .await?
            .ok_or(AuditError::Tree("the sequencer's row is missing"))?;
        let tree = state.frontier()?;
        if tree.size() == 0 {
            return Ok(());
        }
        let whole = (0, signed(tree.size())?);
        let root = Hashes::default().root(&mut tx, whole).await;
        match root {
            Ok(root) if root == tree.root() => Ok(()),
            Ok(_) => Err(AuditError::Tree("its parts don't lead to its root")),
            Err(StoreError::Audit(why)) => Err(AuditError::Tree(why)),
            Err(error) => Err(error.into()),
        }
    }

    /// A log from before parts of the tree were kept gets them now.
    async fn tile(&self, store: &Store) -> Result<(), AuditError> {
        transaction!(store, "audit-tile", |tx| {
            let mut state = State::load(tx, &self.log)
                .await?
                .ok_or(AuditError::Tree("the sequencer's row is missing"))?;
            let (mut tree, mut complete) = (Frontier::default(), Vec::new());
            while tree.size() < state.tree.size {
                let select = "SELECT leaf FROM audit_entry WHERE seq >= $1 AND seq < $2 ORDER BY seq LIMIT 1000";
                let select = sql(select).bind(signed(tree.size())?);
                let rows = tx.fetch_all(select.bind(signed(state.tree.size)?)).await?;
                if rows.is_empty() {
                    return Err(AuditError::Tree("entries are missing"));
                }
                for row in rows {
                    let leaf = Digest32::parse(&row.text("leaf")?);
                    let leaf = leaf.map_err(|_| AuditError::Tree("a leaf isn't a hash"))?;
                    tree.push(leaf, |subtree| complete.push(subtree));
                }
            }
            keep_subtrees(tx, &complete).await?;
            state.tiled = true;
            state.update(tx, &self.log).await
        })
    }
}

async fn keep_subtrees(tx: &mut Tx, subtrees: &[Subtree]) -> Result<(), AuditError> {
    for subtree in subtrees {
        let insert = "INSERT INTO audit_subtree (level, n, root) VALUES ($1, $2, $3)";
        let insert = sql(insert).bind(i64::from(subtree.level));
        let insert = insert.bind(signed(subtree.n)?);
        tx.execute(insert.bind(subtree.root.to_string())).await?;
    }
    Ok(())
}

/// Entries of one node that follow each other, and so get places that do.
struct Run {
    node: String,
    first: i64,
    last: i64,
    /// Of the first.
    place: i64,
}

impl Run {
    /// Gives the entries their places; each must be there and have none yet.
    async fn write(self, tx: &mut Tx) -> Result<(), AuditError> {
        let update = "UPDATE audit_entry SET seq = n + $1 WHERE node = $2 AND n BETWEEN $3 AND $4 AND seq IS NULL";
        let update = sql(update).bind(self.place - self.first).bind(&self.node);
        let count = tx.execute(update.bind(self.first).bind(self.last)).await?;
        if i64::try_from(count) == Ok(self.last - self.first + 1) {
            Ok(())
        } else {
            Err(tx.conflict().into())
        }
    }
}
