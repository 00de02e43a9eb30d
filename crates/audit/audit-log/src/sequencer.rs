//! The sequencer: checks the nodes' chains, gives entries their place in the zone's one log, signs checkpoints.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use aws_lc_rs::hmac;
use core_types::{B64, Clock, Digest32, UnixTime};
use serde::{Deserialize, Serialize};
use store_kit::{Store, StoreError, Tx, sql, transaction};
use tokio::sync::Mutex;

use crate::error::AuditError;
use crate::log::{AuditLog, start_of};
use crate::note::LogKey;
use crate::tree::{Frontier, leaf};
use crate::witness::Witness;

mod read;

pub use read::read_back;

/// Entries per transaction and checkpoint; bounds how long other writers wait.
const BATCH: i64 = 500;

/// Puts a zone's entries into its log. One per database does the work; several don't harm each other.
#[derive(Debug)]
pub struct Sequencer {
    log: AuditLog,
    key: LogKey,
    witness: Option<Mutex<Witness>>,
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
            let state = State::default();
            state.insert(tx, &log).await?;
            Ok(state)
        });
        let size = state?.tree.size;
        let witness = witness
            .map(|path| Witness::open(path, size))
            .transpose()?
            .map(Mutex::new);
        let sequencer = Self { log, key, witness };
        sequencer.check_last(store).await?;
        sequencer.catch_up(store).await?;
        Ok(sequencer)
    }

    /// The log's public key, for auditors.
    pub fn public(&self) -> String {
        self.key.public()
    }

    /// Sequences every `every` until that fails; gives the error with which the zone must stop acting (I5).
    pub async fn keep(&self, store: &Store, clock: &dyn Clock, every: Duration) -> AuditError {
        loop {
            tokio::time::sleep(every).await;
            if let Err(error) = self.sequence(store, clock.now()).await {
                return error;
            }
        }
    }

    /// Sequences everything written so far, in bounded steps, and tells the witness.
    ///
    /// # Errors
    /// [`AuditError`]; a zone that gets one must stop acting.
    pub async fn sequence(&self, store: &Store, now: UnixTime) -> Result<Sequenced, AuditError> {
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
        }
        if added > 0 {
            self.catch_up(store).await?;
        }
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
        for row in rows {
            let (node, n, body) = (row.text("node")?, row.int("n")?, row.text("body")?);
            let chain = chains
                .entry(node.clone())
                .or_insert_with(|| self.log.key_of(&node));
            check_link(chain, &mut state, &node, n, &body, &row.blob("mac")?)?;
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
            tree.push(leaf(body.as_bytes()));
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

    /// State and last checkpoint must be the same tree, signed by this key.
    async fn check_last(&self, store: &Store) -> Result<(), AuditError> {
        let mut tx = store.read("audit-check").await?;
        let state = State::load(&mut tx, &self.log)
            .await?
            .ok_or(AuditError::Tree("the sequencer's row is missing"))?;
        let row = tx
            .fetch_optional(sql(
                "SELECT note FROM audit_checkpoint ORDER BY size DESC LIMIT 1",
            ))
            .await?;
        let tree = state.frontier()?;
        match row {
            None if tree.size() == 0 => Ok(()),
            Some(row) if row.text("note")? == self.key.checkpoint(tree.size(), &tree.root()) => {
                Ok(())
            }
            _ => Err(AuditError::Tree(
                "the last checkpoint isn't that of the entries",
            )),
        }
    }

    /// Compares the witness's last checkpoint with the log, then appends the newer ones.
    async fn catch_up(&self, store: &Store) -> Result<(), AuditError> {
        let Some(witness) = &self.witness else {
            return Ok(());
        };
        let witness = witness.lock().await;
        let last = blocking(&witness, |w| w.last()).await?;
        let mut tx = store.read("audit-witness").await?;
        let mut seen = 0;
        if let Some((size, note)) = last {
            seen = signed(size)?;
            let have = tx
                .fetch_one(sql(
                    "SELECT COALESCE(max(size), 0) AS n FROM audit_checkpoint",
                ))
                .await?
                .int("n")?;
            if have < seen {
                return Err(AuditError::RolledBack {
                    have: u64::try_from(have).unwrap_or(0),
                    seen: size,
                });
            }
            let row = tx
                .fetch_optional(sql("SELECT note FROM audit_checkpoint WHERE size = $1").bind(seen))
                .await?;
            if row.map(|r| r.text("note")).transpose()?.as_ref() != Some(&note) {
                return Err(AuditError::Forked(size));
            }
        }
        loop {
            let select =
                "SELECT size, note FROM audit_checkpoint WHERE size > $1 ORDER BY size LIMIT 1000";
            let rows = tx.fetch_all(sql(select).bind(seen)).await?;
            let Some(end) = rows.last() else {
                return Ok(());
            };
            seen = end.int("size")?;
            let notes = rows
                .iter()
                .map(|row| row.text("note"))
                .collect::<Result<Vec<_>, _>>()?;
            blocking(&witness, move |w| w.append(&notes)).await?;
        }
    }
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

/// An entry must be the next of its node and carry the MAC over its body and predecessor.
fn check_link(
    chain: &hmac::Key,
    state: &mut State,
    node: &str,
    n: i64,
    body: &str,
    mac: &[u8],
) -> Result<(), AuditError> {
    let fault = |n, why| AuditError::Entry {
        node: node.to_owned(),
        n,
        why,
    };
    let head = state.nodes.entry(node.to_owned()).or_insert_with(|| Head {
        n: 0,
        mac: B64(start_of(chain)),
    });
    if n != head.n + 1 {
        return Err(fault(head.n + 1, "the entry is missing"));
    }
    let message = [head.mac.0.as_slice(), body.as_bytes()].concat();
    if hmac::verify(chain, &message, mac).is_err() {
        return Err(fault(n, "its chain code is wrong"));
    }
    *head = Head {
        n,
        mac: B64(mac.to_vec()),
    };
    Ok(())
}

/// The sequencer's row: tree and the last sequenced entry of each node, under a MAC.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    #[serde(skip)]
    version: i64,
    tree: Tree,
    nodes: BTreeMap<String, Head>,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tree {
    size: u64,
    roots: Vec<Digest32>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    n: i64,
    mac: B64,
}

impl State {
    async fn load(tx: &mut Tx, log: &AuditLog) -> Result<Option<Self>, AuditError> {
        let select = "SELECT version, state, mac FROM audit_tree WHERE id = 1";
        let Some(row) = tx.fetch_optional(sql(select)).await? else {
            return Ok(None);
        };
        let (version, text) = (row.int("version")?, row.text("state")?);
        let message = sealed_text(log, version, &text);
        hmac::verify(&log.tree_key(), message.as_bytes(), &row.blob("mac")?)
            .map_err(|_| AuditError::Tree("the sequencer's row was altered"))?;
        let state: Self = serde_json::from_str(&text)
            .map_err(|_| AuditError::Tree("the sequencer's row is unreadable"))?;
        Ok(Some(Self { version, ..state }))
    }

    async fn insert(&self, tx: &mut Tx, log: &AuditLog) -> Result<(), AuditError> {
        let (text, mac) = self.sealed(log, self.version)?;
        let insert = "INSERT INTO audit_tree (id, version, state, mac) VALUES (1, $1, $2, $3) ON CONFLICT (id) DO NOTHING";
        tx.cas(sql(insert).bind(self.version).bind(text).bind(mac))
            .await?;
        Ok(())
    }

    async fn update(&self, tx: &mut Tx, log: &AuditLog) -> Result<(), AuditError> {
        let (text, mac) = self.sealed(log, self.version + 1)?;
        let update = "UPDATE audit_tree SET version = $1, state = $2, mac = $3 WHERE id = 1 AND version = $4";
        tx.cas(
            sql(update)
                .bind(self.version + 1)
                .bind(text)
                .bind(mac)
                .bind(self.version),
        )
        .await?;
        Ok(())
    }

    fn sealed(&self, log: &AuditLog, version: i64) -> Result<(String, Vec<u8>), StoreError> {
        let text = serde_json::to_string(self)
            .map_err(|_| StoreError::Audit("the tree has no text form"))?;
        let mac = hmac::sign(&log.tree_key(), sealed_text(log, version, &text).as_bytes());
        Ok((text, mac.as_ref().to_vec()))
    }

    fn frontier(&self) -> Result<Frontier, AuditError> {
        Frontier::restore(self.tree.size, self.tree.roots.clone())
            .ok_or(AuditError::Tree("its subtrees don't fit"))
    }

    fn heads(&self) -> BTreeMap<String, Head> {
        self.nodes
            .iter()
            .map(|(node, h)| {
                (
                    node.clone(),
                    Head {
                        n: h.n,
                        mac: h.mac.clone(),
                    },
                )
            })
            .collect()
    }

    /// No chain may be shorter than what was sequenced of it.
    fn check_not_behind(&self, heads: &BTreeMap<String, Head>) -> Result<(), AuditError> {
        for (node, done) in &self.nodes {
            let intact = heads
                .get(node)
                .is_some_and(|head| head.n > done.n || head == done);
            if !intact {
                let why = "the chain's head was set back, altered or removed";
                return Err(AuditError::Entry {
                    node: node.clone(),
                    n: done.n,
                    why,
                });
            }
        }
        Ok(())
    }

    /// Every chain must have been followed to its head, and end there with the same MAC.
    fn check_reached(&self, heads: &BTreeMap<String, Head>) -> Result<(), AuditError> {
        for (node, head) in heads {
            let fault = |n, why| AuditError::Entry {
                node: node.clone(),
                n,
                why,
            };
            let reached = self.nodes.get(node).map_or(0, |done| done.n);
            if reached < head.n {
                return Err(fault(reached + 1, "the entry is missing"));
            }
            if self
                .nodes
                .get(node)
                .is_some_and(|done| done.n == head.n && done != head)
            {
                return Err(fault(head.n, "the chain's head was altered"));
            }
        }
        Ok(())
    }
}

fn sealed_text(log: &AuditLog, version: i64, text: &str) -> String {
    format!("{}\n{version}\n{text}", log.zone())
}

/// The heads of all chains that have entries.
async fn heads(tx: &mut Tx) -> Result<BTreeMap<String, Head>, AuditError> {
    let rows = tx
        .fetch_all(sql("SELECT node, n, mac FROM audit_head WHERE n > 0"))
        .await?;
    rows.iter()
        .map(|row| {
            Ok((
                row.text("node")?,
                Head {
                    n: row.int("n")?,
                    mac: B64(row.blob("mac")?),
                },
            ))
        })
        .collect()
}

fn signed(size: u64) -> Result<i64, StoreError> {
    i64::try_from(size).map_err(|_| StoreError::Audit("the log is full"))
}

/// File work off the threads that serve requests.
async fn blocking<T: Send + 'static>(
    witness: &Witness,
    work: impl FnOnce(&Witness) -> Result<T, AuditError> + Send + 'static,
) -> Result<T, AuditError> {
    let witness = witness.clone();
    let done = tokio::task::spawn_blocking(move || work(&witness)).await;
    done.unwrap_or(Err(AuditError::Store(StoreError::Audit(
        "the witness couldn't be asked",
    ))))
}
