//! Archives of exported logs, and deleting from a live log what one of them has.
//!
//! An archive is a directory:
//!
//! | file | is |
//! | --- | --- |
//! | `log/ZONE/…` | the export, as `natsuin audit verify` reads it |
//! | `archive.json` | when and from what it was made: each log's number of entries, each file's length and SHA-256 |
//! | `archive.sig` | a JWS (ES256, type `natsuin-archive+jws`) over the SHA-256 of `archive.json`, which is the archive's name |
//!
//! Beside it, since it goes by the same approvals: [`Forgetting`], by which a zone forgets who somebody was.
//!
//! [`delete`] believes neither the archive nor the order: it checks the signature and every file, the log in it with the
//! checker that shares no code with the writer, every entry against the live log, and the approvals against the root key.

mod archive;
mod delete;
mod forget;
mod lost;

pub use archive::{Archive, Unusable};
pub use delete::{Files, LEAST_KEPT, NotDeleted, Order, delete};
pub use forget::{Forget, Forgetting, LEAST_REMEMBERED, NotForgotten};
pub use lost::{NotBroughtUp, Source, bring_up};
