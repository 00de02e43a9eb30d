//! The auditor's witness (C2SP tlog-witness): cosigns a log's checkpoint only if it extends the last one that it
//! cosigned, so that a log can't be set back or shown in two forms, and has time-stamps made over what it cosigned.
//!
//! Runs on a machine of the auditor's. Believes no log: what it decides is `audit_verify::witness`, and it must never
//! know the log's writer. Its files can be given to `natsuin audit verify` as they are.

mod anchor;
mod keeper;
mod key;
mod serve;

pub use anchor::{Anchor, AnchorFault, Tsa, anchors};
pub use keeper::{Keeper, KeeperError};
pub use key::CosignKey;
pub use serve::router;
