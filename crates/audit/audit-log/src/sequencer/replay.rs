//! The way on for a store that came out of a backup older than its log: the entries that it lacks, from an export that the
//! witness knows. Their chain codes can be computed again, since a node's code rests on nothing but the log's key and the
//! texts; whoever hasn't the key can't, and a text that isn't the one that was logged leads to another checkpoint.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use core_types::{B64, Digest32, UnixTime, sha256};
use serde::Deserialize;
use store_kit::{Store, StoreError, Tx, sql, transaction};

use super::read::KeptDetail;
use super::state::{Head, State, heads};
use super::{AuditLog, Tree, keep_subtrees, signed};
use crate::error::AuditError;
use crate::event::Event;
use crate::log::{link, start_of};
use crate::note::LogKey;
use crate::tree::leaf;

/// What an export has, once it was checked against its witness.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lost {
    /// Texts of entries, by their place.
    pub entries: BTreeMap<u64, String>,
    /// Sizes of the log's checkpoints, and each as the log signed it.
    pub checkpoints: BTreeMap<u64, String>,
}

/// Why entries aren't put back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The log.
    #[error(transparent)]
    Log(#[from] AuditError),
    /// The zone has written since the restore: two logs can't be joined.
    #[error(
        "the zone has written entries of its own since the restore; restore again, and bring the log up first"
    )]
    Begun,
    /// The export isn't of this log, or lacks an entry.
    #[error("the entry in place {0} is missing in the export, or isn't this log's")]
    Entry(u64),
    /// The entries lead to another tree.
    #[error("up to {0} the export and the store aren't one log")]
    Other(u64),
}

impl From<StoreError> for ReplayError {
    fn from(error: StoreError) -> Self {
        Self::Log(error.into())
    }
}

/// What was put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// Entries that the store had.
    pub from: u64,
    /// Entries that it has now, under checkpoints.
    pub size: u64,
    /// Persons named in entries of whom the store doesn't know who they are.
    pub strangers: u64,
}

/// An entry as it is put back.
#[derive(Deserialize)]
struct Text {
    zone: String,
    node: String,
    n: i64,
    at: i64,
    kind: String,
    detail: KeptDetail,
}

/// Puts entries back, checkpoint by checkpoint: each must come out as the log signed it. To be done before the zone starts,
/// which then compares its rows with the whole log, and names every one that is older. Persons whom only lost rows knew are
/// forgotten, as an entry says for each. All of it is one transaction: a crash leaves the store as it was.
///
/// # Errors
/// [`ReplayError`]; nothing is kept then.
pub async fn replay(
    log: &AuditLog,
    key: &LogKey,
    store: &Store,
    lost: &Lost,
    now: UnixTime,
) -> Result<Replayed, ReplayError> {
    let texts: BTreeSet<&str> = lost.entries.values().map(String::as_str).collect();
    transaction!(store, "audit-replay", |tx| {
        tx.execute(sql("UPDATE audit_tree SET version = version WHERE id = 1"))
            .await?;
        let mut state = State::load(tx, log)
            .await?
            .ok_or(AuditError::Tree("the sequencer's row is missing"))?;
        let from = state.tree.size;
        let newer = lost.checkpoints.range(from.saturating_add(1)..);
        let Some((size, _)) = newer.clone().next_back() else {
            return Ok(Replayed {
                from,
                size: from,
                strangers: 0,
            });
        };
        check_not_begun(tx, &state, &texts).await?;
        let before = strangers(tx).await?;
        let mut changed = BTreeSet::new();
        for checkpoint in newer {
            put_back(tx, (log, key), &mut state, &mut changed, lost, checkpoint).await?;
        }
        for node in &changed {
            let Some(head) = state.nodes.get(node) else {
                continue;
            };
            let put = "INSERT INTO audit_head (node, n, mac) VALUES ($1, $2, $3) \
                       ON CONFLICT (node) DO UPDATE SET n = excluded.n, mac = excluded.mac WHERE audit_head.n <= excluded.n";
            let put = sql(put).bind(node.as_str()).bind(head.n);
            tx.execute(put.bind(head.mac.0.as_slice())).await?;
        }
        state.update(tx, log).await?;
        // As the log alone signed it: witnesses may sign later.
        let tree = state.frontier()?;
        let own = key.checkpoint(tree.size(), &tree.root());
        let by = sha256(&[own.as_bytes()]);
        let new = strangers(tx).await?;
        let new = new.difference(&before).copied().collect();
        let new = unnamed_below(lost, from, new);
        let mut events: Vec<_> = new
            .into_iter()
            .map(|alias| Event::PersonForgotten { alias, by })
            .collect();
        let strangers = events.len() as u64;
        events.push(Event::LogReplayed { from, size: *size });
        log.append_all(tx, &events, now).await?;
        Ok(Replayed {
            from,
            size: *size,
            strangers,
        })
    })
}

/// What has no place yet must be among what comes back: a backup beside a zone that writes has its newest entries so. Anything
/// else is of a zone that has begun again.
async fn check_not_begun(
    tx: &mut Tx,
    state: &State,
    texts: &BTreeSet<&str>,
) -> Result<(), ReplayError> {
    let mut ends = state.heads();
    let select = "SELECT node, n, body, mac FROM audit_entry WHERE seq IS NULL ORDER BY node, n";
    for row in tx.fetch_all(sql(select)).await? {
        if !texts.contains(row.text("body")?.as_str()) {
            return Err(ReplayError::Begun);
        }
        let head = Head {
            n: row.int("n")?,
            mac: B64(row.blob("mac")?),
        };
        ends.insert(row.text("node")?, head);
    }
    match heads(tx).await? == ends {
        true => Ok(()),
        false => Err(ReplayError::Begun),
    }
}

/// Puts the entries up to one checkpoint back, and notes of which nodes some were.
async fn put_back(
    tx: &mut Tx,
    (log, key): (&AuditLog, &LogKey),
    state: &mut State,
    changed: &mut BTreeSet<String>,
    lost: &Lost,
    (size, note): (&u64, &String),
) -> Result<(), ReplayError> {
    let size = *size;
    let mut tree = state.frontier()?;
    let (mut complete, mut at) = (Vec::new(), 0);
    while tree.size() < size {
        let place = tree.size();
        let body = lost.entries.get(&place).ok_or(ReplayError::Entry(place))?;
        let text: Text = serde_json::from_str(body).map_err(|_| ReplayError::Entry(place))?;
        let chain = log.key_of(&text.node);
        let head = state
            .nodes
            .entry(text.node.clone())
            .or_insert_with(|| Head {
                n: 0,
                mac: B64(start_of(&chain)),
            });
        if text.zone != log.zone() || text.n != head.n + 1 {
            return Err(ReplayError::Entry(place));
        }
        let mac = link(&chain, &head.mac.0, body);
        let hash = leaf(body.as_bytes());
        // One that is there without a place gets it, and nothing else may stand there.
        let insert = "INSERT INTO audit_entry (node, n, at, kind, person, key_id, body, leaf, mac, seq) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
                      ON CONFLICT (node, n) DO UPDATE SET at = excluded.at, kind = excluded.kind, person = excluded.person, \
                          key_id = excluded.key_id, leaf = excluded.leaf, mac = excluded.mac, seq = excluded.seq \
                      WHERE audit_entry.seq IS NULL AND audit_entry.body = excluded.body";
        let insert = sql(insert).bind(text.node.as_str()).bind(text.n);
        let insert = insert.bind(text.at).bind(text.kind.as_str());
        let insert = insert.bind(text.detail.about()).bind(text.detail.key());
        let insert = insert.bind(body.as_str()).bind(hash.to_string());
        let insert = insert.bind(mac.as_slice()).bind(signed(place)?);
        if tx.execute(insert).await? != 1 {
            return Err(ReplayError::Begun);
        }
        *head = Head {
            n: text.n,
            mac: B64(mac),
        };
        at = text.at;
        changed.insert(text.node);
        tree.push(hash, |subtree| complete.push(subtree));
    }
    let own = key.checkpoint(tree.size(), &tree.root());
    let Some(witnesses) = note.strip_prefix(&*own) else {
        return Err(ReplayError::Other(size));
    };
    state.tree = Tree {
        size: tree.size(),
        roots: tree.roots().to_vec(),
    };
    keep_subtrees(tx, &complete).await?;
    let insert = sql("INSERT INTO audit_checkpoint (size, at, note) VALUES ($1, $2, $3)");
    let insert = insert.bind(signed(size)?).bind(at);
    tx.execute(insert.bind(own.as_str())).await?;
    for line in witnesses.lines() {
        let Some(witness) = cosigner(line) else {
            continue;
        };
        let insert = "INSERT INTO audit_cosignature (size, witness, line) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        let insert = sql(insert).bind(signed(size)?).bind(witness.to_string());
        tx.execute(insert.bind(format!("{line}\n"))).await?;
    }
    Ok(())
}

/// Whose cosignature this line is: a digest over the witness's name and key id, which is all that it says of the key. What isn't
/// one stays away. It is the auditor's to check; the log asks its witnesses anew where they are.
fn cosigner(line: &str) -> Option<Digest32> {
    let (name, encoded) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let bytes = STANDARD.decode(encoded).ok()?;
    let (id, rest) = bytes.split_first_chunk::<4>()?;
    // Time and Ed25519 signature.
    let whole = rest.len() == 8 + 64 && crate::note::is_origin(name);
    whole.then(|| sha256(&[b"natsuin-cosigner\n", name.as_bytes(), b"\n", id]))
}

/// Those whom no entry below this place is about, deleted ones included that an archive has: the store knew all others, and whoever
/// took that out of it isn't helped by an entry which says that they were forgotten.
fn unnamed_below(lost: &Lost, from: u64, mut aliases: BTreeSet<Digest32>) -> BTreeSet<Digest32> {
    if aliases.is_empty() {
        return aliases;
    }
    for body in lost.entries.range(..from).map(|(_, body)| body) {
        let text = serde_json::from_str::<Text>(body).ok();
        let about = text.as_ref().and_then(|text| text.detail.about());
        if let Some(alias) = about.and_then(|alias| Digest32::parse(alias).ok()) {
            aliases.remove(&alias);
        }
    }
    aliases
}

/// Aliases in entries of whom nobody knows who they are, and no entry says that this was forgotten.
async fn strangers(tx: &mut Tx) -> Result<BTreeSet<Digest32>, StoreError> {
    let select = "SELECT DISTINCT e.person AS alias FROM audit_entry e WHERE e.person IS NOT NULL \
                  AND NOT EXISTS (SELECT 1 FROM audit_person p WHERE p.alias = e.person) ORDER BY e.person";
    let rows = tx.fetch_all(sql(select)).await?;
    let mut unknown = BTreeSet::new();
    for row in rows {
        let alias = row.text("alias")?;
        let Ok(digest) = Digest32::parse(&alias) else {
            continue;
        };
        if !crate::person::is_forgotten(tx, &alias).await? {
            unknown.insert(digest);
        }
    }
    Ok(unknown)
}
