//! What a CA publishes about the certificates of keys: the SSA looks there, the SAM judges what it brings. A CRL or an OCSP response
//! is signed by the CA or its responder, so it speaks for itself.

use core_types::{B64, KeyId};
use serde::{Deserialize, Serialize};

/// Request of [`crate::ssa::Watched`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchedRequest {
    /// Goes on after this key.
    pub after: Option<KeyId>,
}

/// Answer of [`crate::ssa::Watched`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchedAnswer {
    /// Certificates of keys that can be used, or are stopped for a while; of the caller's own persons.
    pub certificates: Vec<WatchedCertificate>,
    /// After which key the next ones come; nothing when these were the last.
    pub next: Option<KeyId>,
}

/// A certificate whose revocation matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchedCertificate {
    /// The key.
    pub key: KeyId,
    /// Its certificate and that of the CA that issued it, DER.
    pub chain: Vec<B64>,
    /// Its CA has put it on hold, by what it published.
    pub held: bool,
}

/// Request of [`crate::ssa::Revocation`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationRequest {
    /// The key.
    pub key: KeyId,
    /// What the CA published.
    pub published: Published,
}

/// What a CA publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Published {
    /// A revocation list, DER.
    Crl(B64),
    /// An OCSP response, DER.
    Ocsp(B64),
}
