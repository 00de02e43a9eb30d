//! Deleting from a live log what an archive has (`I-7.1.4.3-delete-after-archive`).

use std::path::Path;

use audit_log::{Deleted, Deletion, DeletionError, Leaves, Sequencer, Summary};
use audit_verify::{EvidenceFault, Known, verify_deletion, verify_each};
use core_types::{Digest32, OfficerId, UnixTime, sha256};
use jose::Jwk;
use store_kit::Store;

use crate::archive::Archive;

/// No setting lets anything younger go, in days.
pub const LEAST_KEPT: u32 = 31;
const DAY: i64 = 86_400;

/// What a zone is told to delete, and by whose leave.
#[derive(Debug, Clone, Copy)]
pub struct Order<'o> {
    /// The zone: `cm`, `sam` or `ssa`.
    pub zone: &'static str,
    /// Directory of the archive.
    pub archive: &'o Path,
    /// Key that archives are signed with, known from before.
    pub archive_key: &'o Jwk,
    /// What an officer took from the SAM (JSON).
    pub taken: &'o [u8],
    /// `K_root` as a JWK (JSON), known from before.
    pub root: &'o str,
    /// How long entries are kept at least, in days; never less than [`LEAST_KEPT`].
    pub keep_days: u32,
}

/// An order, as a daemon's command has it: names of files.
#[derive(Debug, Clone, Copy)]
pub struct Files<'o> {
    /// As in [`Order`].
    pub zone: &'static str,
    /// Directory of the archive.
    pub archive: &'o Path,
    /// File with the key (JWK) that archives are signed with.
    pub archive_key: &'o Path,
    /// File with what an officer took from the SAM.
    pub taken: &'o Path,
    /// As in [`Order`].
    pub root: &'o str,
    /// As in [`Order`].
    pub keep_days: u32,
}

impl Files<'_> {
    /// Deletes; answers what was done, in words.
    ///
    /// # Errors
    /// [`NotDeleted`]; the log is as it was.
    pub async fn delete(
        &self,
        sequencer: &Sequencer,
        store: &Store,
        summary: &mut dyn Summary,
        now: UnixTime,
    ) -> Result<String, NotDeleted> {
        let read = |path: &Path| {
            let read = std::fs::read(path);
            read.map_err(|e| NotDeleted::File(format!("{}: {e}", path.display())))
        };
        let archive_key = serde_json::from_slice(&read(self.archive_key)?);
        let archive_key = archive_key
            .map_err(|e| NotDeleted::File(format!("{}: {e}", self.archive_key.display())))?;
        let order = Order {
            zone: self.zone,
            archive: self.archive,
            archive_key: &archive_key,
            taken: &read(self.taken)?,
            root: self.root,
            keep_days: self.keep_days,
        };
        let done = delete(order, sequencer, store, summary, now).await?;
        Ok(format!(
            "entries {} to {} are deleted from the log; {} of them stay, which are needed",
            done.from,
            done.size - 1,
            done.kept
        ))
    }
}

impl NotDeleted {
    /// What to do.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::File(_) => "check the path and what is in the file",
            Self::Archive(_) | Self::Log(_) => "use another copy of the archive",
            Self::Approval(_) | Self::Other(_) => {
                "have two officers approve this archive, zone and range, and take the proposal within a day"
            }
            Self::Short(_) => "archive the log anew, and have that approved",
            Self::Live(DeletionError::Log(_)) => {
                "keep the store as evidence, and run `natsuin audit verify` on an export"
            }
            Self::Live(_) => "propose a range that the archive has and that is old enough",
        }
    }
}

/// Why nothing was deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotDeleted {
    /// A file can't be used.
    #[error("{0}")]
    File(String),
    /// The archive isn't what was signed.
    #[error("the archive isn't what was signed: {0}")]
    Archive(String),
    /// The log in it doesn't pass its check.
    #[error("the log in the archive doesn't pass its check: {0}")]
    Log(String),
    /// The approvals don't hold.
    #[error(transparent)]
    Approval(#[from] EvidenceFault),
    /// They are for another zone or archive.
    #[error("two officers approved something else: another {0}")]
    Other(&'static str),
    /// The archive ends before the range.
    #[error("the archive has {0} entries of this log, fewer than are to be deleted")]
    Short(u64),
    /// The live log says no, or can't.
    #[error(transparent)]
    Live(#[from] DeletionError),
}

/// Checks everything, then deletes. `summary`: what the zone has to know of the entries afterwards.
///
/// # Errors
/// [`NotDeleted`]; the log is as it was.
pub async fn delete(
    order: Order<'_>,
    sequencer: &Sequencer,
    store: &Store,
    summary: &mut dyn Summary,
    now: UnixTime,
) -> Result<Deleted, NotDeleted> {
    let archive = Archive::open(order.archive, order.archive_key).map_err(NotDeleted::Archive)?;
    let approved = verify_deletion(order.taken, order.root, now.0)?;
    if approved.zone != order.zone {
        return Err(NotDeleted::Other("zone"));
    }
    if approved.archive != archive.name().to_string() {
        return Err(NotDeleted::Other("archive"));
    }
    let leaves = leaves(&archive.log(order.zone), order.zone, &sequencer.public())?;
    let end = leaves.from + leaves.hashes.len() as u64;
    if end < approved.size {
        return Err(NotDeleted::Short(end));
    }
    let digest = |text: &str| Digest32::parse(text).map_err(|_| NotDeleted::Other("digest"));
    let officer = |id: &String| OfficerId::parse(id.as_str());
    let [one, two] = &approved.officers;
    let officers = match (officer(one), officer(two)) {
        (Ok(one), Ok(two)) => [one, two],
        _ => return Err(NotDeleted::Other("officer")),
    };
    let kept = i64::from(order.keep_days.max(LEAST_KEPT)) * DAY;
    let deletion = Deletion {
        size: approved.size,
        archive: archive.name(),
        proposal: digest(&approved.proposal)?,
        officers,
        before: now.plus(-kept),
    };
    let done = sequencer.delete_archived(store, &deletion, &leaves, summary, now);
    Ok(done.await?)
}

/// Hashes of the entries of an archived log, once all of it is found good. What it lacks itself, because it was deleted
/// before, comes first.
fn leaves(dir: &Path, zone: &str, key: &str) -> Result<Leaves, NotDeleted> {
    let known = Known {
        key,
        zone: Some(zone),
        ..Known::default()
    };
    let mut leaves: Option<Leaves> = None;
    let mut whole = true;
    let report = verify_each(dir, known, |seq, text| {
        let leaves = leaves.get_or_insert_with(|| Leaves {
            from: seq,
            hashes: Vec::new(),
        });
        whole &= seq == leaves.from + leaves.hashes.len() as u64;
        leaves.hashes.push(sha256(&[&[0], text.as_bytes()]));
    });
    let report = report.map_err(|e| NotDeleted::Log(e.to_string()))?;
    match report.first_bad {
        Some(bad) => Err(NotDeleted::Log(bad.what.to_owned())),
        None if !whole => Err(NotDeleted::Log("it has a gap".to_owned())),
        None => Ok(leaves.unwrap_or_default()),
    }
}
