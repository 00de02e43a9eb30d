//! The flows of `sap.md` §§5-8: each reads, lets `sam-core` decide, and writes in one transaction with its audit
//! record.

mod approve;
mod certificate;
mod enrol;
mod keys;
mod open;
mod orders;
mod outcome;
mod prepare;
mod sign;
mod voucher;
mod voucher_secret;
