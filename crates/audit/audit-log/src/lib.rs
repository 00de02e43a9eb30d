//! The audit log: a closed vocabulary of events, written in the same transaction as their effect.
//!
//! Each node chains its entries with a keyed MAC; one sequencer gives them their place in the zone's single
//! Merkle log (RFC 6962), signs checkpoints and hands them to a witness outside the database. An entry that
//! can't be written aborts its transaction. Must never hold a secret or text from outside: entries consist of
//! identifiers, digests, counts and fixed words. Auditors get the log as C2SP tlog-tiles ([`export`], [`fetch`]);
//! `audit-verify` checks what comes out here and shares no code.
//!
//! ```no_run
//! # use audit_log::{AuditLog, Event}; use core_types::{Digest32, PersonId, Random, SecretBytes, UnixTime}; use std::sync::Arc;
//! # use store_kit::{Store, StoreError, transaction};
//! # async fn example(store: &Store, key: SecretBytes, random: Arc<dyn Random>, person: PersonId, now: UnixTime) -> Result<(), StoreError> {
//! let audit = AuditLog::new("ssa", "node-1", key, random);
//! transaction!(store, "login", |tx| {
//!     // … the effect …
//!     audit.append(tx, Event::TermsAccepted { person: person.clone(), version: Digest32([7; 32]) }, now).await?;
//!     Ok::<_, StoreError>(())
//! })
//! # }
//! ```

mod clock;
mod error;
mod event;
mod export;
mod follow;
mod hashes;
mod late;
mod log;
mod note;
mod person;
mod place;
mod proof;
mod restored;
mod search;
mod sequencer;
mod service;
mod signed;
mod status;
mod tiles;
mod tree;
mod witness;

pub use clock::{ClockSource, ClockWatch, Heard};
pub use error::AuditError;
pub use event::{Class, Code, Event, Outcome, Place, Subject};
pub use export::{LoggedEntry, export};
pub use follow::{Next, Start, follow, since};
pub use log::{AuditLog, EntryRef, TABLES};
pub use note::{LogKey, checkpoint_text, is_origin, signed_checkpoint, verifier_key};
pub use person::{
    ForgetError, Opening, check_over, evidence_about, is_forgotten, opening, row_name, row_of,
    subject_of,
};
pub use proof::{Proofs, about, latest, of_key, of_kind, prove};
pub use restored::Restorers;
pub use search::{BadCursor, Cursor, Found, FoundEntry, MOST_FOUND, Query, search};
pub use sequencer::{
    Archived, Deleted, Deletion, DeletionError, Leaves, LogReader, Lost, ReplayError, Replayed,
    Sequenced, Sequencer, Summary, Told, archived, read_back, replay,
};
pub use service::{Setting, beside, beside_of, has_begun};
pub use status::{ALERTS, Status, alerts, ever_told, newest, status};
pub use tiles::{Resource, checkpoints, fetch};
pub use witness::{Answer, Asking, Carrier, Measure, Witness, Witnesses};
