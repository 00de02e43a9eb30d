//! How a zone is, for whoever looks after it: its nodes and clocks, its log in a few numbers, and the newest entries that somebody has
//! to look at. Nothing is searched, and nobody is named.

use std::collections::BTreeMap;

use audit_log::{ALERTS, alerts, newest, status};
use core_types::{UnixTime, sha256};
use serde::{Deserialize, Serialize};
use store_kit::{Store, StoreError};

use crate::question::{Answered, Question};

/// Path of the question how the zone is.
pub const STATE: &str = "/state";
/// Words of clocks that are looked at: those of all nodes, unless there are very many.
const CLOCKS: usize = 50;

/// How is the zone? There is nothing to choose.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateRequest {}

/// How the zone is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateAnswer {
    /// Nodes that have written to the log.
    pub nodes: Vec<NodeState>,
    /// The log.
    pub log: LogState,
    /// Entries that somebody has to look at, newest first.
    pub alerts: Vec<StateAlert>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeState {
    /// Its name.
    pub node: String,
    /// Time of its last entry in the log.
    pub at: UnixTime,
    /// State of its clock, such as `synchronised`, by its last word of it.
    pub clock: Option<String>,
}

/// The log in a few numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogState {
    /// Entries under the last checkpoint.
    pub entries: i64,
    /// Entries that wait for their place.
    pub new: i64,
    /// When the last checkpoint was made.
    pub checkpoint: Option<UnixTime>,
    /// How many witnesses cosigned it.
    pub cosigned: i64,
}

/// An entry at its place. Whom it is about isn't told: its text has an alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateAlert {
    /// Place in the zone's log.
    pub seq: i64,
    /// Its text (JSON).
    pub body: String,
}

impl Question for StateRequest {
    const NAME: &'static str = "state";
    const MALFORMED: &'static str = "not the question how the zone is";
    type Query = ();
    type Answer = StateAnswer;

    fn query(self) -> Result<(), &'static str> {
        Ok(())
    }

    async fn answer((): (), store: &Store) -> Result<Answered<StateAnswer>, StoreError> {
        let log = status(store).await?;
        let clocks = clocks(store).await?;
        let nodes = log.nodes.into_iter().map(|(node, at)| NodeState {
            clock: clocks.get(&node).cloned(),
            node,
            at,
        });
        let alerts = alerts(store).await?.into_iter().map(|entry| StateAlert {
            seq: entry.seq,
            body: entry.body,
        });
        let alerts: Vec<_> = alerts.collect();
        Ok(Answered {
            query: sha256(&[ALERTS.join("\n").as_bytes()]),
            entries: alerts.len(),
            answer: StateAnswer {
                nodes: nodes.collect(),
                log: LogState {
                    entries: log.entries,
                    new: log.new,
                    checkpoint: log.checkpoint,
                    cosigned: log.cosigned,
                },
                alerts,
            },
        })
    }
}

/// What each node said last of its clock.
async fn clocks(store: &Store) -> Result<BTreeMap<String, String>, StoreError> {
    let mut clocks = BTreeMap::new();
    for entry in newest(store, &["clock.state"], CLOCKS).await? {
        let text: serde_json::Value = serde_json::from_str(&entry.body).unwrap_or_default();
        if let Some(state) = text["detail"]["state"].as_str() {
            clocks.entry(entry.node).or_insert_with(|| state.to_owned());
        }
    }
    Ok(clocks)
}
