//! What was found.

use serde::Serialize;

/// Result of a verification. Members are added within a schema number, never renamed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `natsuin.audit-verify/1`.
    pub schema: &'static str,
    /// Whether nothing is wrong.
    pub ok: bool,
    /// Entries of the log, with those of which there are the hashes alone.
    pub entries: u64,
    /// Checkpoints in the export.
    pub checkpoints: u64,
    /// Size of the last checkpoint up to which everything was proven.
    pub proven: u64,
    /// Witnesses that were given, and that agree.
    pub witnesses: Witnesses,
    /// The first thing that is wrong, in the order of the log.
    pub first_bad: Option<Bad>,
    /// Ranges that were deleted from the log after archiving, oldest first.
    pub archived: Vec<Archived>,
    /// Worth knowing, but no fault. At most 100; [`Report::remarks_total`] counts all.
    pub remarks: Vec<Remark>,
    /// Number of remarks.
    pub remarks_total: u64,
}

/// A range that was deleted after archiving, as an entry of the log itself says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Archived {
    /// First place.
    pub from: u64,
    /// The place behind the last.
    pub size: u64,
    /// Digest that names the archive: SHA-256 of its list, base64url.
    pub archive: String,
    /// Digest of the proposal that two officers approved.
    pub proposal: String,
    /// Whether every entry of it was read, from an archive that was given. If not, the tree vouches for their hashes alone.
    pub read: bool,
}

/// How many witnesses agree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Witnesses {
    /// Witnesses whose checkpoints are all in the log, and witnesses that cosigned a checkpoint of it.
    pub agreeing: u32,
    /// Witnesses given.
    pub given: u32,
    /// Size of the log at the last checkpoint in the witness's file; none without a file, or in an empty one.
    pub filed: Option<u64>,
    /// The last that each cosigned.
    pub cosigned: Vec<Cosigned>,
}

/// What a witness cosigned last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cosigned {
    /// The witness.
    pub name: String,
    /// Size of the checkpoint.
    pub size: u64,
    /// When, by the witness's clock; seconds since 1970 UTC.
    pub at: i64,
}

/// What is wrong and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bad {
    /// Which file.
    pub place: Place,
    /// Place in the log of the entry, from 0; for a checkpoint its size, when it is readable.
    pub seq: Option<u64>,
    /// The fault lies in the entries from `seq` up to here; only where the entry itself can't be told.
    pub until: Option<u64>,
    /// Node of the entry.
    pub node: Option<String>,
    /// Number of the entry in its node.
    pub n: Option<u64>,
    /// Time of the entry, seconds since 1970 UTC.
    pub at: Option<i64>,
    /// Type of the entry.
    pub kind: Option<String>,
    /// File of the export, where that isn't plain from the place.
    pub file: Option<String>,
    /// Why, as a code.
    pub reason: Reason,
    /// Why, in words.
    pub what: &'static str,
}

/// Where something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// An entry bundle.
    Entry,
    /// A tile of hashes.
    Tile,
    /// `checkpoints.txt` or `checkpoint`.
    Checkpoint,
    /// The witness's file.
    Witness,
    /// `log.pub`.
    Key,
    /// A file that isn't of the log.
    File,
}

/// Why something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The bytes aren't an entry.
    Unreadable,
    /// There is no entry in this place.
    Missing,
    /// Entries are missing, and no entry tells that they were deleted after archiving.
    NotDeleted,
    /// The node's numbers leave a gap or repeat.
    NodeGap,
    /// The entry is another log's.
    MemberDiffers,
    /// The text isn't the one that was logged, or its hash isn't.
    LeafDiffers,
    /// The entry's time isn't one at which witnesses could have seen it: back-dated, or the clock was wrong.
    TimeDiffers,
    /// A tile isn't that of the entries.
    TileDiffers,
    /// An entry since the last good checkpoint isn't the one that was logged.
    RootDiffers,
    /// Entries that a checkpoint covers are missing at the end.
    Truncated,
    /// A checkpoint isn't in the one form.
    CheckpointUnreadable,
    /// A checkpoint wasn't signed by the log's key.
    CheckpointSignature,
    /// A checkpoint is smaller than the one before it.
    CheckpointOrder,
    /// `checkpoint` isn't the last of `checkpoints.txt`.
    LatestDiffers,
    /// A witness's signature under a checkpoint is wrong.
    CosignatureWrong,
    /// A checkpoint that the witness has is missing.
    CheckpointMissing,
    /// Witness and export have different trees of the same size.
    Forked,
    /// The export names another key than the one given.
    KeyDiffers,
    /// A file of the export is missing, or isn't a plain file.
    FileMissing,
    /// A file lies among those of the log and isn't one of them: nothing vouches for what it says.
    Stray,
}

impl Reason {
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Unreadable => "the bytes aren't an entry",
            Self::Missing => "the entry is missing",
            Self::NotDeleted => {
                "entries are missing, and no entry of the log tells that they were deleted after archiving"
            }
            Self::NodeGap => "the node's numbering has a gap or repeats",
            Self::MemberDiffers => "the entry is another log's",
            Self::LeafDiffers => "leaf hash differs",
            Self::TimeDiffers => {
                "the entry's time isn't one at which the witness could have seen it: back-dated, or the clock was wrong"
            }
            Self::TileDiffers => "a tile of the tree isn't that of the entries",
            Self::RootDiffers => {
                "an entry since the last good checkpoint was changed, put in or removed"
            }
            Self::Truncated => {
                "entries are missing at the end: cut off, or exported before this checkpoint was made"
            }
            Self::CheckpointUnreadable => "not a checkpoint of this log in its one form",
            Self::CheckpointSignature => "the checkpoint wasn't signed by the log's key",
            Self::CheckpointOrder => "the checkpoint isn't larger than the one before it",
            Self::LatestDiffers => "the latest checkpoint isn't the last of the list",
            Self::CosignatureWrong => "a witness's signature under the checkpoint is wrong",
            Self::CheckpointMissing => "the witness has seen a checkpoint that is missing here",
            Self::Forked => "the witness has seen another tree of the same size",
            Self::KeyDiffers => "the export names another key than the one given",
            Self::FileMissing => "the file is missing, or isn't a plain file",
            Self::Stray => "the file isn't one of the log; nothing vouches for what it says",
        }
    }
}

/// Worth knowing, but no fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// Place in the log.
    pub seq: Option<u64>,
    /// What, as a code: `time-went-back`, `no-witness`, `witness-torn`, `witness-empty`, `not-cosigned` (by a witness that
    /// was given), `not-cosigned-to-the-end` (its last cosignature is at this place).
    pub code: &'static str,
}

impl Bad {
    pub(crate) fn at(place: Place, seq: Option<u64>, reason: Reason) -> Self {
        Self {
            place,
            seq,
            until: None,
            node: None,
            n: None,
            at: None,
            kind: None,
            file: None,
            reason,
            what: reason.what(),
        }
    }
}
