//! What `K_root` signs (`sap.md` §3): the `sam-keys` statement, which keys the SAM acts with now; and what the module
//! says of a key of a signer, such as its destruction.
//!
//! A crate of its own because the CM signs it and every other zone checks it, and the CM must know no other message
//! of the protocol.

pub mod destruction;
pub mod import;
pub mod origin;

use core_types::{Digest32, UnixTime};
use jose::{JoseError, Jwk};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use destruction::{Destruction, TYP_DESTRUCTION};
pub use origin::{Origin, TYP_ORIGIN};

/// `typ` of the statement.
pub const TYP_KEYS: &str = "natsuin-keys+jws";

/// Longest life of a statement in seconds.
pub const MAX_STATEMENT_LIFE: i64 = 48 * 3600;

/// Payload of the statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamKeys {
    /// Name of the SAM, as in acts.
    pub sam: String,
    /// Store epoch.
    pub epoch: Digest32,
    /// Key that signs acts and orders.
    pub act: Jwk,
    /// Key that opens sealed secrets.
    pub seal: Jwk,
    /// Valid from.
    pub nbf: UnixTime,
    /// Valid until, exclusive.
    pub exp: UnixTime,
}

/// Why a statement was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// No pinned root signed it.
    #[error("the statement isn't signed by a pinned root key")]
    NotPinned,
    /// Form or signature is wrong.
    #[error("the statement is not authentic: {0}")]
    Jose(#[from] JoseError),
    /// Members are wrong.
    #[error("the statement's members are not as prescribed")]
    Malformed,
    /// Outside its time.
    #[error("the statement is not valid at {now}: from {nbf} until {exp}")]
    NotNow {
        /// Time of the check.
        now: UnixTime,
        /// Start.
        nbf: UnixTime,
        /// End.
        exp: UnixTime,
    },
}

impl SamKeys {
    /// Checks a statement with pinned roots at `now`.
    ///
    /// # Errors
    /// [`StatementError`], saying which check failed.
    pub fn verify(jws: &str, roots: &[Jwk], now: UnixTime) -> Result<Self, StatementError> {
        let keys: Self = signed_by(jws, TYP_KEYS, roots)?;
        if keys.exp <= keys.nbf || keys.exp > keys.nbf.plus(MAX_STATEMENT_LIFE) {
            return Err(StatementError::Malformed);
        }
        if now < keys.nbf || now >= keys.exp {
            return Err(StatementError::NotNow {
                now,
                nbf: keys.nbf,
                exp: keys.exp,
            });
        }
        Ok(keys)
    }
}

/// The payload of a JWS of this type, if a pinned root signed it.
fn signed_by<T: DeserializeOwned>(
    jws: &str,
    typ: &str,
    roots: &[Jwk],
) -> Result<T, StatementError> {
    let kid = jose::kid_of(jws, typ)?;
    let root = roots
        .iter()
        .find(|r| r.kid() == kid)
        .ok_or(StatementError::NotPinned)?;
    let payload = jose::verify(jws, typ, root)?;
    serde_json::from_slice(&payload).map_err(|_| StatementError::Malformed)
}

#[cfg(test)]
mod tests {
    use jose::{SealKey, SigningKey};

    use super::*;
    use crate::import::{ImportKey, TYP_IMPORT_KEY};

    // shows: T-USE-SAP-BYPASS
    #[test]
    fn no_life_is_too_long_to_be_measured() {
        let root = SigningKey::generate().unwrap().0;
        let roots = [root.public().clone()];
        let seal = SealKey::generate().unwrap().0.public().clone();
        let signed = |typ, payload: Vec<u8>| root.sign(typ, &payload).unwrap();
        let now = UnixTime(1_800_000_000);
        for (nbf, exp, good) in [
            (now.0, now.0 + MAX_STATEMENT_LIFE, true),
            (now.0, now.0 + MAX_STATEMENT_LIFE + 1, false),
            (i64::MIN, i64::MAX, false),
            (i64::MIN, now.0 + 1, false),
            (-1, i64::MAX, false),
        ] {
            let (nbf, exp) = (UnixTime(nbf), UnixTime(exp));
            let keys = SamKeys {
                sam: "sam.test".into(),
                epoch: Digest32([1; 32]),
                act: root.public().clone(),
                seal: seal.clone(),
                nbf,
                exp,
            };
            let jws = signed(TYP_KEYS, serde_json::to_vec(&keys).unwrap());
            assert_eq!(SamKeys::verify(&jws, &roots, now).is_ok(), good, "{nbf:?}");
            let (sam, key) = ("sam.test".into(), seal.clone());
            let key = ImportKey { sam, key, nbf, exp };
            let jws = signed(TYP_IMPORT_KEY, serde_json::to_vec(&key).unwrap());
            assert!(ImportKey::verify(&jws, &roots, now).is_err(), "{nbf:?}");
        }
    }
}
