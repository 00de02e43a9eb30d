//! The cryptographic module (CM): the one place where signers' private keys have a type.
//!
//! Executes each order of the SAM at most once, under attributes that were fixed when the key was made and are
//! sealed together with it (`III-3-3-key-attribute-integrity`). Admits nobody but the SAM: by the certificate of the connection, by the
//! `sam-keys` statement that its own root key signed, and by the SAM's signature on each order (`III-3-4-authenticate-application`).
//! It must never know a client, a token, a document or a proof, and never calls outward.

mod admit;
pub mod ahead;
mod approvals;
mod attributes;
pub mod backend;
pub mod backup;
mod cache;
mod ceremony;
mod checkpoint;
mod counter;
mod destroy;
mod execute;
mod forget;
mod handed;
mod http;
mod import;
mod items;
mod kept;
mod known;
pub mod ledger;
mod mark;
mod module;
mod nonces;
mod not_started;
mod office;
mod officers;
pub mod policy;
mod prune;
mod rewrap;
mod running;
mod sam;
mod selftest;
pub mod several;
mod sign;
mod state;
mod store;
mod switch;
mod tidy;
mod vault;
pub mod wait;
pub mod weak;

/// Members of `natsuin-cm`'s configuration that name files which are signed with it: not those that are secret or renewed by
/// themselves.
pub const SIGNED_FILES: &[&str] = &[
    "officers.*",
    "officer_changes",
    "import_cas.*.key",
    "algorithms",
    "tls.ca",
    "audit.witnesses.cosigners.*.key",
];

pub use approvals::KeptApproval;
pub use attributes::{KeyAttributes, KeyUse, Purpose};
pub use forget::NotForgotten;
pub use http::router;
pub use ledger::{Ledger, Scrubbed};
pub use module::{ImportCa, Module, ModuleConfig, OwnFiles, RunsAs, StartError};
pub use not_started::{NotStarted, log_of, not_started};
pub use office::OfficersError;
pub use policy::Policy;
pub use rewrap::Rewrapped;
pub use vault::RootSecret;

/// Tables of the CM, for opening its store.
pub const MIGRATIONS: &[store_kit::Migrations] = &[store::TABLES, audit_log::TABLES];
