//! The certificate of a key's destruction, for its owner: signed by `K_root`, verifiable offline.

use core_types::{DestroyCause, Digest32, KeyId, PersonId, UnixTime};
use jose::Jwk;
use serde::{Deserialize, Serialize};

use crate::{StatementError, signed_by};

/// `typ` of the certificate.
pub const TYP_DESTRUCTION: &str = "natsuin-destruction+jws";

/// Payload of the certificate (`III-A1.6-destroy-at-end`, `III-A1.6-backup-keys`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destruction {
    /// Name of the SAM that ordered it.
    pub sam: String,
    /// Key.
    pub key: KeyId,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub spki: Digest32,
    /// Its owner.
    pub owner: PersonId,
    /// Digest of the act that decided it.
    pub act: Digest32,
    /// Why.
    pub cause: DestroyCause,
    /// Signatures that were ordered with the key in its life.
    pub signatures: u64,
    /// The module has refused every use from then on.
    pub unusable_since: UnixTime,
    /// When the device erased its copy, for a key that lived in one. Nothing for a key that did not, or as long as the
    /// device couldn't be reached.
    pub erased: Option<UnixTime>,
    /// From then on no copy of store, device or backup can bring the key back, provided that the operator keeps copies
    /// no longer than declared. Nothing as long as the device's copy isn't erased.
    pub unrecoverable_after: Option<UnixTime>,
}

impl Destruction {
    /// Checks a certificate with pinned roots. It has no end of life.
    ///
    /// # Errors
    /// [`StatementError`], saying which check failed.
    pub fn verify(jws: &str, roots: &[Jwk]) -> Result<Self, StatementError> {
        let told: Self = signed_by(jws, TYP_DESTRUCTION, roots)?;
        let before = |end: Option<UnixTime>| end.is_some_and(|t| t < told.unusable_since);
        if before(told.erased) || before(told.unrecoverable_after) {
            return Err(StatementError::Malformed);
        }
        Ok(told)
    }
}
