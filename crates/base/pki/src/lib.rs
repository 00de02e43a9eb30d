//! X.509 certificates, revocation data, time-stamps and CMS structures: parsed, checked, and built where
//! building is deterministic.
//!
//! Everything here is a pure function of bytes, trust anchors and a time that the caller names. Signed parts
//! are kept as the slices that arrived and are hashed as such; nothing received is ever re-encoded. Parsing is
//! strict DER: what is not DER is an error value, never a panic.
//!
//! This crate must never know a zone, hold a private key, or do I/O: bytes from the network come through
//! [`fetch::Fetch`], which somebody else implements.

pub mod alg;
pub mod asn1;
pub mod cert;
pub mod cms;
pub mod counter;
pub mod crl;
pub mod csr;
pub mod fetch;
pub mod name;
pub mod ocsp;
pub mod oid;
pub mod path;
pub mod pem;
pub mod revocation;
pub mod signed_attrs;
pub mod tsp;
#[cfg(test)]
mod wycheproof;

pub use alg::{Signed, Verifier, key_alg, verify_signature};
pub use asn1::DerError;
pub use cert::{CertInfo, Certificate};
pub use path::{Path, PathError, Purpose};
