//! The sequencer's own row, and the chains of the nodes as far as they were sequenced.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use core_types::{B64, Digest32};
use serde::{Deserialize, Serialize};
use store_kit::{StoreError, Tx, sql};

use crate::error::AuditError;
use crate::log::{AuditLog, start_of};
use crate::tree::Frontier;

/// An entry must be the next of its node and carry the MAC over its body and predecessor.
pub(super) fn check_link(
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
pub(super) struct State {
    #[serde(skip)]
    version: i64,
    pub(super) tree: Tree,
    /// The tree's parts are kept in the store; they weren't always.
    #[serde(default)]
    pub(super) tiled: bool,
    /// Entries below this place were deleted after archiving. Left out while there are none, as older programs write it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) cut: u64,
    pub(super) nodes: BTreeMap<String, Head>,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tree {
    pub(super) size: u64,
    pub(super) roots: Vec<Digest32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    pub(super) n: i64,
    pub(super) mac: B64,
}

impl State {
    /// Of an empty log.
    pub(super) fn first() -> Self {
        Self {
            tiled: true,
            ..Self::default()
        }
    }

    pub(super) async fn load(tx: &mut Tx, log: &AuditLog) -> Result<Option<Self>, AuditError> {
        let select = "SELECT version, state, mac FROM audit_tree WHERE id = 1";
        let Some(row) = tx.fetch_optional(sql(select)).await? else {
            return Ok(None);
        };
        let (version, text) = (row.int("version")?, row.text("state")?);
        let message = sealed_text(log, version, &text);
        let mac = row.blob("mac")?;
        if hmac::verify(&log.tree_key(), message.as_bytes(), &mac).is_err() {
            return Err(match is_under_another_key(tx, log).await? {
                true => AuditError::OtherKey("none of its entries is under it"),
                false => AuditError::Tree("the sequencer's row was altered"),
            });
        }
        let state: Self = serde_json::from_str(&text)
            .map_err(|_| AuditError::Tree("the sequencer's row is unreadable"))?;
        Ok(Some(Self { version, ..state }))
    }

    pub(super) async fn insert(&self, tx: &mut Tx, log: &AuditLog) -> Result<(), AuditError> {
        let (text, mac) = self.sealed(log, self.version)?;
        let insert = "INSERT INTO audit_tree (id, version, state, mac) VALUES (1, $1, $2, $3) ON CONFLICT (id) DO NOTHING";
        tx.cas(sql(insert).bind(self.version).bind(text).bind(mac))
            .await?;
        Ok(())
    }

    pub(super) async fn update(&self, tx: &mut Tx, log: &AuditLog) -> Result<(), AuditError> {
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

    pub(super) fn sealed(
        &self,
        log: &AuditLog,
        version: i64,
    ) -> Result<(String, Vec<u8>), StoreError> {
        let text = serde_json::to_string(self)
            .map_err(|_| StoreError::Audit("the tree has no text form"))?;
        let mac = hmac::sign(&log.tree_key(), sealed_text(log, version, &text).as_bytes());
        Ok((text, mac.as_ref().to_vec()))
    }

    pub(super) fn frontier(&self) -> Result<Frontier, AuditError> {
        Frontier::restore(self.tree.size, self.tree.roots.clone())
            .ok_or(AuditError::Tree("its subtrees don't fit"))
    }

    pub(super) fn heads(&self) -> BTreeMap<String, Head> {
        self.nodes.clone()
    }

    /// No chain may be shorter than what was sequenced of it.
    pub(super) fn check_not_behind(
        &self,
        heads: &BTreeMap<String, Head>,
    ) -> Result<(), AuditError> {
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
    pub(super) fn check_reached(&self, heads: &BTreeMap<String, Head>) -> Result<(), AuditError> {
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

fn is_zero(place: &u64) -> bool {
    *place == 0
}

pub(super) fn sealed_text(log: &AuditLog, version: i64, text: &str) -> String {
    format!("{}\n{version}\n{text}", log.zone())
}

/// The heads of all chains that have entries.
pub(super) async fn heads(tx: &mut Tx) -> Result<BTreeMap<String, Head>, AuditError> {
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

/// Whether there are entries that end a chain, and none of them is under this log's key.
async fn is_under_another_key(tx: &mut Tx, log: &AuditLog) -> Result<bool, AuditError> {
    let mut strange = false;
    for (node, head) in heads(tx).await? {
        let chain = log.key_of(&node);
        let select =
            "SELECT n, body, mac FROM audit_entry WHERE node = $1 AND n >= $2 ORDER BY n LIMIT 2";
        let last = tx.fetch_all(sql(select).bind(&node).bind(head.n - 1));
        let mut before = (head.n == 1).then(|| start_of(&chain));
        for row in last.await? {
            let mac = row.blob("mac")?;
            if let Some(before) = before.filter(|_| row.int("n").is_ok_and(|n| n == head.n)) {
                let message = [before.as_slice(), row.text("body")?.as_bytes()].concat();
                if hmac::verify(&chain, &message, &mac).is_ok() {
                    return Ok(false);
                }
                strange = true;
            }
            before = Some(mac);
        }
    }
    Ok(strange)
}

pub(super) fn signed(size: u64) -> Result<i64, StoreError> {
    i64::try_from(size).map_err(|_| StoreError::Audit("the log is full"))
}
