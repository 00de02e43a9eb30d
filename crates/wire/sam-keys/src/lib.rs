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
        if keys.exp <= keys.nbf || keys.exp.0 - keys.nbf.0 > MAX_STATEMENT_LIFE {
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
