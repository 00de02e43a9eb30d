//! Who the module's officers are: the first list comes with the configuration, and every other one takes two officers of the list before
//! (`III-A1.4.2-dual-control`), whatever the configuration says.

use core_types::words::is_reason;
use core_types::{Digest32, sha256};
use jose::{JoseError, Jwk, SigningKey};
use serde::{Deserialize, Serialize};

/// `typ` of an approval.
pub const TYP_OFFICERS: &str = "natsuin-cm-officers+jws";
/// Most officers.
pub const MAX_OFFICERS: usize = 16;

/// What two officers of the list before approve. It has no end of its own: the list before counts once, so another one with this version
/// ends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfficerList {
    /// Name of the SAM whose module it is.
    pub sam: String,
    /// Thumbprint of the module's root key, as its `kid`.
    pub root: String,
    /// One more than the list before has.
    pub version: u64,
    /// Why, [`is_reason`].
    pub reason: String,
    /// The officers' public keys from here on, without doubles.
    pub officers: Vec<Jwk>,
}

impl OfficerList {
    /// Whether it can be used: a reason in plain words, no officer twice, not too many.
    pub fn is_possible(&self) -> bool {
        let listed = distinct(&self.officers);
        is_reason(&self.reason)
            && listed.len() == self.officers.len()
            && listed.len() <= MAX_OFFICERS
    }

    /// An officer's approval.
    ///
    /// # Errors
    /// [`JoseError`] when the key can't sign.
    pub fn approve(&self, officer: &SigningKey) -> Result<String, JoseError> {
        let payload = serde_json::to_vec(self).map_err(|_| JoseError::Malformed)?;
        officer.sign(TYP_OFFICERS, &payload)
    }
}

/// Thumbprints of different officers, in their own order: what makes two lists the same.
pub fn distinct(officers: &[Jwk]) -> Vec<Digest32> {
    let mut all: Vec<Digest32> = officers.iter().map(Jwk::thumbprint).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The name of a list in the audit log: SHA-256 over the thumbprints of [`distinct`], one after the other.
pub fn name_of(officers: &[Jwk]) -> Digest32 {
    let all: Vec<u8> = distinct(officers).iter().flat_map(|d| d.0).collect();
    sha256(&[b"natsuin-cm-officers-v1\n", &all])
}
