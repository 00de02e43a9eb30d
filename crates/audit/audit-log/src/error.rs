//! Why the log can't go on. Each of these stops the audit function, and with it the zone.

use std::path::PathBuf;

use store_kit::{StoreError, disk_is_away};

/// A failure of sequencer, witness or export.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entry was edited, removed or put in after it was written.
    #[error(
        "the audit log was tampered with at {node} #{n}: {why}. Stop the zone, keep the store as evidence, run `natsuin audit verify` on an export"
    )]
    Entry {
        /// Node.
        node: String,
        /// Number of the entry in the node's chain.
        n: i64,
        /// What is wrong.
        why: &'static str,
    },
    /// There is no entry in this place of the log, from 0.
    #[error(
        "the audit log was tampered with: the entry in place {0} is missing. Stop the zone, keep the store as evidence, run `natsuin audit verify` on an export"
    )]
    Missing(u64),
    /// Which person an alias in the entries is was altered or removed beside the log, and no entry says so.
    #[error(
        "who {0} in the audit log is was altered or removed. Stop the zone, keep the store as evidence"
    )]
    Person(String),
    /// The sequencer's own row or a checkpoint doesn't fit the rest.
    #[error(
        "the audit log's tree was tampered with, or belongs to another log key: {0}. Keep the store as evidence"
    )]
    Tree(&'static str),
    /// This node was given another key than the zone's. By itself nothing is known against the store.
    #[error(
        "the audit log was written under another key than the one given here: {0}. If it is the key of the zone's other nodes, or of the \
         backup that was restored, the store was altered: keep it as evidence"
    )]
    OtherKey(&'static str),
    /// The database is older than the witness.
    #[error(
        "the audit log has {have} entries, but its witness has seen {seen}: the database was set back. Restore the current one"
    )]
    RolledBack {
        /// Entries in the log.
        have: u64,
        /// Entries that the witness has seen.
        seen: u64,
    },
    /// The witness has a checkpoint that the log doesn't contain.
    #[error(
        "the witness's checkpoint at {0} entries isn't this log's. It is the witness of another log, or the log was rewritten"
    )]
    Forked(u64),
    /// The witness is gone.
    #[error(
        "the witness {0} is missing although the log has entries. Bring it back; if there never was one, let the auditor begin it with the checkpoint of an export that was verified: its first five lines and an empty one"
    )]
    WitnessMissing(PathBuf),
    /// The witness has forgotten everything.
    #[error(
        "the witness {0} is empty although the log has checkpoints: somebody emptied it, and may have set the database back. Bring the auditor's copy of it"
    )]
    WitnessEmptied(PathBuf),
    /// A witness that cosigns over the network isn't there, and the operator has decided that the zone stops then.
    #[error(
        "the witness {0} doesn't cosign. Bring it back, or decide that the zone goes on without (audit.measure = \"alert\")"
    )]
    WitnessAway(String),
    /// A witness's public key has another form.
    #[error("the witness's key must be NAME+HASH+KEY of the type cosignature/v1 (Ed25519): {0}")]
    BadWitness(String),
    /// A file can't be read or written.
    #[error("cannot use {path}: {source}. Check the directory, its owner and the free space")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The log key has another form.
    #[error("the log key must be 32 bytes, its name 1 to 100 characters without spaces or '+'")]
    BadKey,
}

impl AuditError {
    /// Whether only the database is away ([`StoreError::is_away`]): nothing is known against the log.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_away())
    }

    /// Whether it ends when somebody makes room or brings the database back: a zone that stopped for it may be started
    /// again by its service manager until it stays. That goes for the witness's file on a full disk too: what the zone would do
    /// meanwhile would have no anchor, so it must not go on, but nothing has been found against the log. And it goes for a cosigner
    /// that isn't there: a start asks it before anything is done.
    pub fn passes(&self) -> bool {
        match self {
            Self::File { source, .. } => disk_is_away(source),
            Self::WitnessAway(_) => true,
            _ => self.is_away(),
        }
    }
}
