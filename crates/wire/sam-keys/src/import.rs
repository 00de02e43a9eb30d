//! How a signing key made elsewhere gets into the module, and how one gets out: always sealed to a key that proves
//! itself (`III-3-9-protected-import-export`).
//!
//! The module's import key is vouched for by `K_root`. Whoever sends a key seals an [`ImportedKey`] to it; a CA signs
//! that envelope together with the person it is for ([`CaImport`]).

use core_types::{B64, Digest32, PersonId, Random, SecretBytes, UnixTime};
use jose::{JoseError, JweContext, Jwk, SealKey, SigningKey, seal};
use serde::{Deserialize, Serialize};

use crate::{StatementError, signed_by};

/// `typ` of the statement about the import key.
pub const TYP_IMPORT_KEY: &str = "natsuin-import-key+jws";
/// `typ` of a CA's signature over key and person.
pub const TYP_CA_IMPORT: &str = "natsuin-ca-import+jws";
/// `typ` of a sealed key on its way in.
pub const TYP_SEALED_KEY: &str = "natsuin-key+jwe";
/// `typ` of a sealed key on its way out.
pub const TYP_HANDED_KEY: &str = "natsuin-handover+jwe";
/// Longest sealed key in characters: RSA of 4096 bits takes a third of it.
const LONGEST: usize = 16 * 1024;
/// Longest life of a statement about the import key in seconds.
pub const MAX_IMPORT_KEY_LIFE: i64 = 24 * 3600;

/// The module's import key, signed by `K_root`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportKey {
    /// Name of the SAM whose module it is.
    pub sam: String,
    /// The key to seal to.
    pub key: Jwk,
    /// Valid from.
    pub nbf: UnixTime,
    /// Valid until, exclusive.
    pub exp: UnixTime,
}

impl ImportKey {
    /// Checks the statement with pinned roots at `now`.
    ///
    /// # Errors
    /// [`StatementError`], saying which check failed.
    pub fn verify(jws: &str, roots: &[Jwk], now: UnixTime) -> Result<Self, StatementError> {
        let told: Self = signed_by(jws, TYP_IMPORT_KEY, roots)?;
        let Self { nbf, exp, .. } = told;
        if exp <= nbf || exp > nbf.plus(MAX_IMPORT_KEY_LIFE) {
            return Err(StatementError::Malformed);
        }
        if now < nbf || now >= exp {
            return Err(StatementError::NotNow { now, nbf, exp });
        }
        Ok(told)
    }
}

/// A private key on its way in, and for whom. Sealed as a whole, so that nobody can give it to another person or use
/// it for another act.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportedKey {
    /// Name of the SAM.
    pub sam: String,
    /// Owner.
    pub owner: PersonId,
    /// Digest of the act with which the owner agreed to the import.
    pub act: Digest32,
    /// The private key, PKCS#8 (RFC 5208) in DER.
    pub pkcs8: SecretBytes,
    /// Its SubjectPublicKeyInfo in DER.
    pub spki: B64,
    /// Proof of possession: the key's own signature over [`Self::binding`].
    pub proof: B64,
}

impl ImportedKey {
    /// What the key signs to prove that its sender has it, for this person and act.
    pub fn binding(sam: &str, owner: &PersonId, act: Digest32, spki: Digest32) -> Vec<u8> {
        format!("natsuin-import-v1\n{sam}\n{owner}\n{act}\n{spki}").into_bytes()
    }

    /// Seals it for the module.
    ///
    /// # Errors
    /// [`JoseError`] when the import key isn't one.
    pub fn seal(&self, to: &ImportKey, random: &dyn Random) -> Result<String, JoseError> {
        let json = serde_json::to_vec(self).map_err(|_| JoseError::Malformed)?;
        let context = context(TYP_SEALED_KEY, self.act);
        seal(&SecretBytes::new(json), &to.key, context, random)
    }

    /// Opens it, in the module.
    ///
    /// # Errors
    /// [`JoseError`] when it isn't for this key and act, or not of the prescribed form.
    pub fn open(jwe: &str, act: Digest32, key: &SealKey) -> Result<Self, JoseError> {
        let json = key.open_up_to(jwe, context(TYP_SEALED_KEY, act), LONGEST)?;
        serde_json::from_slice(json.expose()).map_err(|_| JoseError::Malformed)
    }
}

/// A CA's word that this sealed key belongs to this person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaImport {
    /// Name of the SAM.
    pub sam: String,
    /// Owner, whom the CA has identified.
    pub owner: PersonId,
    /// Digest of the act with which the owner agreed.
    pub act: Digest32,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub spki: Digest32,
    /// The sealed [`ImportedKey`].
    pub key: String,
    /// Not accepted at or after this time.
    pub exp: UnixTime,
}

impl CaImport {
    /// Signs it.
    ///
    /// # Errors
    /// [`JoseError`] when the CA's key can't sign.
    pub fn sign(&self, by: &SigningKey) -> Result<String, JoseError> {
        let json = serde_json::to_vec(self).map_err(|_| JoseError::Malformed)?;
        by.sign(TYP_CA_IMPORT, &json)
    }

    /// Checks it with the keys of the CAs that are trusted.
    ///
    /// # Errors
    /// [`StatementError`], saying which check failed.
    pub fn verify(jws: &str, cas: &[Jwk]) -> Result<Self, StatementError> {
        signed_by(jws, TYP_CA_IMPORT, cas)
    }
}

/// Seals a key for whoever its owner has it handed over to; `act`: the owner's.
///
/// # Errors
/// [`JoseError`] when the receiver's key isn't one.
pub fn hand_over(
    pkcs8: &SecretBytes,
    receiver: &Jwk,
    act: Digest32,
    random: &dyn Random,
) -> Result<String, JoseError> {
    seal(pkcs8, receiver, context(TYP_HANDED_KEY, act), random)
}

/// Opens a key that was handed over, PKCS#8 in DER.
///
/// # Errors
/// [`JoseError`] when it isn't for this key and act.
pub fn take_over(jwe: &str, act: Digest32, key: &SealKey) -> Result<SecretBytes, JoseError> {
    key.open_up_to(jwe, context(TYP_HANDED_KEY, act), LONGEST)
}

fn context(typ: &str, apu: Digest32) -> JweContext<'_> {
    JweContext { typ, apu }
}
