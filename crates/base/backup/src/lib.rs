//! Backups of a whole service: what is in one, how it is sealed for the persons who may open it, and who may restore it.
//!
//! A backup is an age file (age-encryption.org/v1) with a POSIX tar archive in it, so that stock tools open it without us. Several
//! recipients may each open it alone; a recipient whose identity was dealt to shares ([`shares`]) is opened by several persons
//! together.
//!
//! | path | is |
//! | --- | --- |
//! | `ZONE/TABLE/N.jsonl` | rows of a zone's store; sealed ones stay sealed |
//! | others | files that were named, such as configuration |
//! | `manifest.json` | the list of all others: when, sizes, SHA-256, and whose approvals a restore takes |
//! | `manifest.sig` | a JWS (ES256, type `natsuin-backup+jws`) over the SHA-256 of `manifest.json`, which is the backup's name |
//!
//! Whoever knows a recipient can seal something for it: what counts is the signature.
//!
//! Knows stores as rows, recipients and shares. Must never know what the rows mean.

mod manifest;
mod read;
mod rows;
mod seal;
mod tar;
mod write;

pub use manifest::{
    Approved, Authority, LONGEST_APPROVAL, Listed, Manifest, Office, Restore, ZoneListed,
};
pub use read::Backup;
pub use seal::{Identity, Recipient, opening, sealing};
pub use write::{Made, Writer};

const MANIFEST: &str = "manifest.json";
const SIGNATURE: &str = "manifest.sig";

/// Why a backup isn't made, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Reading or writing.
    #[error("the file: {0}")]
    File(#[from] std::io::Error),
    /// A store.
    #[error(transparent)]
    Store(#[from] store_kit::StoreError),
    /// Not a recipient's public key.
    #[error("this is no recipient (a line that begins with age1)")]
    Recipient,
    /// Not an identity.
    #[error("this is no identity (a line that begins with AGE-SECRET-KEY-1)")]
    Identity,
    /// Nobody could open it.
    #[error("a backup needs a recipient")]
    NoRecipient,
    /// Sealed for somebody else.
    #[error("it is sealed for other recipients")]
    Foreign,
    /// Somebody else made it.
    #[error("it isn't signed with this key")]
    Signer,
    /// Not an age file, cut off, or altered.
    #[error("it is no backup, or not whole: {0}")]
    Damaged(String),
    /// It would open what is in the backup.
    #[error("{0}")]
    Secret(String),
    /// Not in it.
    #[error("it has no store of {0}")]
    NoZone(String),
    /// Nobody, or one person, could approve a restore.
    #[error("a system operator and a security officer have to be named, and nobody as both")]
    Authority,
    /// Its maker was told of other people than the restorer.
    #[error("it names other operators or officers than those that are given here")]
    OtherAuthority,
    /// Nobody in this office approved it.
    #[error("no {0:?} has approved the restore of this backup into these stores")]
    NotApproved(Office),
    /// Shares that don't fit.
    #[error(transparent)]
    Shares(#[from] shares::ShareError),
}
