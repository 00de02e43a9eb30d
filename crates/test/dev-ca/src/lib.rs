//! A certification authority for development and tests: root, issuing CA, OCSP responder, CRLs, time-stamping
//! authority, registration authority, and certificates for services.
//!
//! Every subject says "Natsuin development, no legal effect". Keys lie unprotected in a directory; a real
//! provider has a real CA. This crate must never be part of a production deployment, and never see a signer's
//! key: it gets certification requests only.

mod authority;
mod issue;
mod key;
pub mod ra;
mod responder;
pub mod routes;
mod store;

pub use authority::{DevCa, PERSON_POLICY, Urls};
pub use issue::{Profile, Template};
pub use ra::Ra;

/// Something is wrong with the development CA or with what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum DevCaError {
    /// Its directory can't be used.
    #[error("the development CA can't use {path}: {source}; check the directory or choose another")]
    Io {
        /// Which file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file in its directory is broken.
    #[error("{0} in the development CA's directory is damaged; remove the directory to start anew")]
    Damaged(String),
    /// The cryptographic library refused.
    #[error("the cryptographic library refused to {0}")]
    Crypto(&'static str),
    /// A name or number can't be encoded.
    #[error(transparent)]
    Encoding(#[from] pki::DerError),
    /// Nothing with this serial number was issued.
    #[error("no certificate with the serial number {0} was issued here")]
    NotIssued(String),
}
