//! The SAM's shell: its store, its keys, the flows of `sap.md` §§5-8 around the decisions of `sam-core`, and its two
//! listeners.
//!
//! The only caller of the CM, through the port of `cm-api`. Must never know an account, a session, a token other
//! than by its digest, or an implementation of the CM.

mod audit;
mod backups;
mod clock;
mod config;
mod courier;
mod failed;
mod flows;
mod http;
mod metadata;
mod pages;
mod receipt;
mod records;
mod reminders;
mod remote;
mod ring;
mod rows;
mod sam;
mod scrub;
mod sealer;
mod searches;
mod settings;
mod start_error;
mod tenants;
mod verify;

pub use backups::BackupWatch;
pub use config::{CounterSigner, KnownClient, OfficeConfig, SamConfig, TenantConfig};
pub use courier::{Courier, Delivering, Undelivered};
pub use flows::{FoundError, NotForgotten};
pub use http::{gateway_router, office_router, ssa_router};
pub use metadata::{MetadataFile, MetadataRefused};
pub use pages::{DeclaredPages, Whose};
pub use receipt::{ReceiptError, bundle, proposal_bundle};
pub use remote::RemoteModule;
pub use rows::MIGRATIONS;
pub use sam::Sam;
pub use scrub::{LogSummary, Scrubbed};
pub use settings::{SIGNED_FILES, SettingsSource};
pub use start_error::StartError;
