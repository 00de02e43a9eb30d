//! Where a key was made and how it got to the module: signed by `K_root` when it happened, verifiable offline.

use core_types::{Digest32, KeyAlg, KeyId, Level, OriginCase, PersonId, UnixTime};
use jose::Jwk;
use serde::{Deserialize, Serialize};

use crate::{StatementError, signed_by};

/// `typ` of the statement.
pub const TYP_ORIGIN: &str = "natsuin-origin+jws";

/// Payload of the statement (`III-A1.8-origin-distinguishable`, `III-A1.8-origin-immutable`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Name of the SAM that ordered it.
    pub sam: String,
    /// Key.
    pub key: KeyId,
    /// Version of its attributes.
    pub version: u32,
    /// SHA-256 of its SubjectPublicKeyInfo: what a verifier compares with the certificate.
    pub spki: Digest32,
    /// Its owner.
    pub owner: PersonId,
    /// Kind.
    pub alg: KeyAlg,
    /// The guideline's case. Case 1-i rests on what the operator declares of the device.
    pub case: OriginCase,
    /// Back end that holds it, such as `software` or `pkcs11`.
    pub backend: String,
    /// The evaluation that the level rests on, as the operator declares it.
    pub declaration: Option<String>,
    /// Level of generation or import, and of retention.
    pub level: Level,
    /// Whether its owner may have it handed over.
    pub exportable: bool,
    /// Whether it is for one act of its owner, and destroyed after it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_time: bool,
    /// Digest of the act that led to it.
    pub act: Digest32,
    /// When it came into being here.
    pub created: UnixTime,
}

impl Origin {
    /// Checks a statement with pinned roots. It has no end of life.
    ///
    /// # Errors
    /// [`StatementError`], saying which check failed.
    pub fn verify(jws: &str, roots: &[Jwk]) -> Result<Self, StatementError> {
        let told: Self = signed_by(jws, TYP_ORIGIN, roots)?;
        let too_high = match told.case {
            OriginCase::ProviderDevice => false,
            // What can't exist isn't believed, whoever signed it: no import at level 3, no level 2 without a device or a CA.
            OriginCase::CaDirect => told.level > Level::Two,
            _ => told.level > Level::One,
        };
        if too_high || (told.exportable && (told.level > Level::One || told.one_time)) {
            return Err(StatementError::Malformed);
        }
        Ok(told)
    }
}
