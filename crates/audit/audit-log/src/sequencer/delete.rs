//! Deleting entries that are archived (`I-7.1.4.3-delete-after-archive`). Their hashes stay, so that the tree, its
//! checkpoints and its proofs go on; a few entries stay that the zone goes on needing.

use std::collections::{BTreeMap, BTreeSet};

use core_types::{Digest32, OfficerId, UnixTime};
use store_kit::{Store, sql, transaction};

use super::cut::{self, Archived, Cut, Told, chained};
use super::read::{LogReader, Passed, sequenced};
use super::state::State;
use super::{Sequencer, signed};
use crate::error::AuditError;
use crate::event::Event;
use crate::hashes::TILE;

/// Rows looked at and deleted in one go; bounds how long writers wait.
const PAGE: i64 = 1000;

/// Types of entries that stay: what receipts of later signatures need to lead back to an enrolment, who was forgotten, how
/// often a node has begun, what was deleted before, which signed configurations were obeyed, what the pages consist of, that a module has officers and knows a SAM, and which restores
/// and backups there were: the note of one counts once.
const KEPT: &[&str] = &[
    "audit.log-deleted",
    "audit.log-replayed",
    "audit.person-forgotten",
    "audit.started",
    "cm.officers-in-force",
    "cm.sam-key-taken",
    "factor.added",
    "pages.declared",
    "person.enrolled",
    "service.backed-up",
    "service.restored",
    "settings.adopted",
];
/// An entry of this type stays if the act added a factor.
const APPROVED: &str = "act.approved";

/// What is deleted, and what that rests on. Whoever makes it has checked archive and approvals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// Entries below this place; a multiple of 256.
    pub size: u64,
    /// Digest that names the archive.
    pub archive: Digest32,
    /// Digest of the proposal.
    pub proposal: Digest32,
    /// Who approved it.
    pub officers: [OfficerId; 2],
    /// Nothing from this time on is deleted.
    pub before: UnixTime,
}

/// Hashes of the entries of an archive that was checked, from the first place that it has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leaves {
    /// First place.
    pub from: u64,
    /// Hash of each entry (RFC 6962 §2.1).
    pub hashes: Vec<Digest32>,
}

impl Leaves {
    fn at(&self, place: u64) -> Option<Digest32> {
        let at = usize::try_from(place.checked_sub(self.from)?).ok()?;
        self.hashes.get(at).copied()
    }
}

/// What a zone has to know of entries after they are gone. It is given what it noted before, then the entries that go.
pub trait Summary: Send {
    /// Takes note.
    ///
    /// # Errors
    /// What is wrong with it.
    fn take(&mut self, told: Told<'_>) -> Result<(), &'static str>;

    /// Everything noted, in texts of a bounded size.
    ///
    /// # Errors
    /// Why it can't be written down; nothing is deleted then.
    fn parts(&self) -> Result<Vec<String>, &'static str>;
}

/// Nothing to note: for a zone that never asks its log what happened.
impl Summary for () {
    fn take(&mut self, _: Told<'_>) -> Result<(), &'static str> {
        Ok(())
    }

    fn parts(&self) -> Result<Vec<String>, &'static str> {
        Ok(Vec::new())
    }
}

/// What a deletion did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// First place that was deleted.
    pub from: u64,
    /// The place behind the last.
    pub size: u64,
    /// Entries of that range that stay.
    pub kept: u64,
}

/// Why nothing was deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeletionError {
    /// The log.
    #[error(transparent)]
    Log(#[from] AuditError),
    /// Deleted before.
    #[error("the log is deleted up to {0} already")]
    Done(u64),
    /// Not a range of whole tiles that have their place.
    #[error("entries are deleted in whole tiles of 256, and at most the {0} that have their place")]
    Range(u64),
    /// The archive has another entry, or none, in a place.
    #[error("the archive doesn't have the entry in place {0} as the log has it")]
    NotArchived(u64),
    /// Too new.
    #[error("the entry in place {0} has to be kept longer")]
    Recent(u64),
    /// What the zone has to know can't be noted.
    #[error("what the zone has to know of the entries can't be noted: {0}")]
    Summary(&'static str),
}

impl From<store_kit::StoreError> for DeletionError {
    fn from(error: store_kit::StoreError) -> Self {
        Self::Log(error.into())
    }
}

impl Sequencer {
    /// Deletes the entries below a place, all of which an archive has, exactly as they are here. First the hashes are
    /// kept, then one transaction records the deletion and what the zone has to know, then that entry gets its place, and
    /// only then rows go. After a crash the log is whole either way; the same call again removes what was left, and says
    /// [`DeletionError::Done`].
    ///
    /// # Errors
    /// [`DeletionError`].
    pub async fn delete_archived(
        &self,
        store: &Store,
        deletion: &Deletion,
        archive: &Leaves,
        summary: &mut dyn Summary,
        now: UnixTime,
    ) -> Result<Deleted, DeletionError> {
        let state = sequenced(&self.log, store).await?;
        let (from, size) = (state.cut, deletion.size);
        if size <= from {
            self.sweep(store, 0, from).await?;
            return Err(DeletionError::Done(from));
        }
        if !size.is_multiple_of(TILE.unsigned_abs()) || size > state.tree.size {
            return Err(DeletionError::Range(state.tree.size));
        }
        let mut each = |told: Told<'_>| summary.take(told);
        let (mut reader, mut tree) = LogReader::begin(&self.log, store, &state, &mut each).await?;
        let mut last = UnixTime(i64::MIN);
        let (mut waiting, mut persons) = (Vec::new(), BTreeMap::new());
        while tree.size() < size {
            let first = tree.size();
            let page = reader.page(store, &mut tree, size, &mut each).await;
            let leaves = match page {
                Ok(leaves) => leaves,
                Err(error) => return Err(self.unless_cut(store, from, error).await),
            };
            for (place, Passed { at, leaf, person }) in (first..).zip(leaves) {
                if archive.at(place) != Some(leaf) {
                    return Err(DeletionError::NotArchived(place));
                }
                if at >= deletion.before {
                    return Err(DeletionError::Recent(place));
                }
                last = last.max(at);
                if let Some(alias) = person {
                    let seen = persons.entry(alias).or_insert(at);
                    *seen = at.max(*seen);
                }
                waiting.push(leaf);
            }
            let end = tree.size() - waiting.len() as u64;
            keep_tiles(store, end, &mut waiting).await?;
        }
        let range = Archived {
            from,
            size,
            last,
            archive: deletion.archive,
            proposal: deletion.proposal,
            at: now,
        };
        let parts = summary.parts().map_err(DeletionError::Summary)?;
        let before = match cut::load(store, &self.log, from).await? {
            Some(cut) => cut.chain,
            None => Digest32([0; 32]),
        };
        let chain = chained(before, &range);
        let cut = Cut {
            roots: tree.roots().to_vec(),
            nodes: reader.state.nodes,
            chain,
            summary: cut::summary_digest(&parts),
            obeyed: reader.obeyed,
            range,
        };
        let [officer, second] = deletion.officers.clone();
        let event = Event::LogDeleted {
            from,
            size,
            archive: deletion.archive,
            proposal: deletion.proposal,
            officer,
            second,
            chain,
        };
        let decided: Result<(), DeletionError> = transaction!(store, "audit-delete", |tx| {
            tx.execute(sql("UPDATE audit_tree SET version = version WHERE id = 1"))
                .await?;
            let mut state = State::load(tx, &self.log)
                .await?
                .ok_or(AuditError::Tree("the sequencer's row is missing"))?;
            if state.cut != from {
                return Err(DeletionError::Done(state.cut));
            }
            cut.insert(tx, &self.log, &parts).await?;
            for (alias, at) in &persons {
                // How long somebody has to be remembered counts from here.
                let update = "UPDATE audit_person SET seen = $1 WHERE alias = $2 AND (seen IS NULL OR seen < $1)";
                tx.execute(sql(update).bind(at.0).bind(alias.as_str()))
                    .await?;
            }
            state.cut = size;
            state.update(tx, &self.log).await?;
            self.log.append(tx, event.clone(), now).await?;
            Ok(())
        });
        decided?;
        // Nothing goes before the entry that says so is under a checkpoint.
        self.sequence(store, now).await?;
        let kept = self.sweep(store, from, size).await?;
        Ok(Deleted { from, size, kept })
    }

    /// Why reading failed: another deletion beside this one is no fault of the log.
    async fn unless_cut(&self, store: &Store, from: u64, error: AuditError) -> DeletionError {
        match sequenced(&self.log, store).await {
            Ok(state) if state.cut > from => DeletionError::Done(state.cut),
            _ => error.into(),
        }
    }

    /// Removes the rows of this range that don't stay; answers how many do.
    async fn sweep(&self, store: &Store, from: u64, size: u64) -> Result<u64, AuditError> {
        let added = adding_acts(store).await?;
        let (mut at, end, mut kept) = (signed(from)?, signed(size)?, 0);
        loop {
            let step: Result<Option<(i64, u64)>, AuditError> = transaction!(
                store,
                "audit-sweep",
                |tx| {
                    let select = "SELECT seq, kind, body FROM audit_entry WHERE seq >= $1 AND seq < $2 ORDER BY seq LIMIT $3";
                    let select = sql(select).bind(at).bind(end).bind(PAGE);
                    let rows = tx.fetch_all(select).await?;
                    let (mut run, mut stay): (Option<(i64, i64)>, u64) = (None, 0);
                    let mut runs = Vec::new();
                    for row in &rows {
                        let (seq, kind) = (row.int("seq")?, row.text("kind")?);
                        let stays = KEPT.contains(&kind.as_str())
                            || (kind == APPROVED && names(&row.text("body")?, &added));
                        if stays {
                            stay += 1;
                            runs.extend(run.take());
                        } else {
                            run = Some((run.map_or(seq, |(first, _)| first), seq));
                        }
                    }
                    runs.extend(run);
                    for (first, last) in runs {
                        let delete = sql("DELETE FROM audit_entry WHERE seq >= $1 AND seq <= $2");
                        tx.execute(delete.bind(first).bind(last)).await?;
                    }
                    let last = rows.last().map(|row| row.int("seq")).transpose()?;
                    Ok::<_, AuditError>(last.map(|last| (last + 1, stay)))
                }
            );
            let Some((next, stay)) = step? else {
                return Ok(kept);
            };
            at = next;
            kept += stay;
        }
    }
}

/// Digests of the acts that added factors.
async fn adding_acts(store: &Store) -> Result<BTreeSet<String>, AuditError> {
    let mut tx = store.read("audit-kept").await?;
    let select = "SELECT body FROM audit_entry WHERE kind = 'factor.added'";
    let rows = tx.fetch_all(sql(select)).await?;
    let mut acts = BTreeSet::new();
    for row in rows {
        acts.extend(act_of(&row.text("body")?));
    }
    Ok(acts)
}

fn names(body: &str, acts: &BTreeSet<String>) -> bool {
    act_of(body).is_some_and(|act| acts.contains(&act))
}

fn act_of(body: &str) -> Option<String> {
    let body: serde_json::Value = serde_json::from_str(body).ok()?;
    Some(body["detail"]["act"].as_str()?.to_owned())
}

/// Writes the hashes of whole tiles; `first` is the place of the first that waits, and of a tile.
async fn keep_tiles(
    store: &Store,
    first: u64,
    waiting: &mut Vec<Digest32>,
) -> Result<(), AuditError> {
    let width = usize::try_from(TILE).unwrap_or(usize::MAX);
    let whole = waiting.len() / width * width;
    let tiles: Vec<Vec<u8>> = waiting[..whole]
        .chunks(width)
        .map(|tile| tile.iter().flat_map(|hash| hash.0).collect())
        .collect();
    let done: Result<(), AuditError> = transaction!(store, "audit-tiles-kept", |tx| {
        for (n, hashes) in (signed(first)? / TILE..).zip(&tiles) {
            let insert = "INSERT INTO audit_tile (n, hashes) VALUES ($1, $2) \
                          ON CONFLICT (n) DO UPDATE SET hashes = excluded.hashes";
            tx.execute(sql(insert).bind(n).bind(hashes.as_slice()))
                .await?;
        }
        Ok::<_, AuditError>(())
    });
    done?;
    waiting.drain(..whole);
    Ok(())
}
