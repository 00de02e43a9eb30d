//! CAdES and PAdES signatures as CMS: what gets signed, how the result is put together, and whether it holds
//! (EN 319 122-1, EN 319 142-1, EN 319 102-1).
//!
//! Everything is a pure function of bytes, trust and time; only [`gather`] asks the network, through a
//! [`pki::fetch::Fetch`] it is given. This crate must never know a private key, the SAM or the CSC API: the
//! signature value comes from outside and is verified before it is built in.

mod counter;
mod create;
mod report;
mod verify;

pub use create::{
    BuildError, add_counter_signature, add_timestamp, build_enveloping, build_signed_data,
    signature_value, signed_attrs, signed_attrs_at, size_estimate, to_be_signed,
};
pub use report::{
    CertStatus, CmsReport, CounterReport, Reason, Revocation, TimeStampReport, Verdict,
};
pub use verify::{Trust, gather, verify, verify_timestamp};
