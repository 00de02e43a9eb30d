//! Backups of a whole service: how they are sealed for the persons who may open them.
//!
//! A backup is an age file (age-encryption.org/v1), so that the stock `age` tool opens it without us. Several recipients may each
//! open it alone; a recipient whose identity was dealt to shares ([`shares`]) is opened by several persons together.
//!
//! Knows files, recipients and shares. Must never know what a zone keeps.

mod seal;

pub use seal::{Identity, Recipient, opening, sealing};

/// Why a backup isn't made or read.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Reading or writing.
    #[error("the file: {0}")]
    File(#[from] std::io::Error),
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
    /// Not an age file, cut off, or altered.
    #[error("it is no backup, or not whole: {0}")]
    Damaged(String),
    /// Shares that don't fit.
    #[error(transparent)]
    Shares(#[from] shares::ShareError),
}
