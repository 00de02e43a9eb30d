//! The flows of `sap.md` §§5-9: each reads, lets `sam-core` decide, and writes in one transaction with its audit
//! record.

mod approve;
mod certificate;
mod change;
mod counter;
mod ending;
mod enrol;
mod explicit;
mod forget;
mod guard;
mod hand_over;
mod import;
mod keys;
mod new_factor;
mod notices;
mod office;
mod one_time;
mod open;
mod orders;
mod outcome;
mod policies;
mod prepare;
mod receipts;
mod renew;
mod revocation;
mod send_code;
mod sign;
mod stop;
mod taken;
mod voucher;
mod voucher_secret;

pub(crate) use ending::Endings;
pub use forget::NotForgotten;
pub use office::FoundError;
pub(crate) use office::{AlertsTold, Door};
pub(crate) use policies::{IN_FORCE, InForce};
