//! Restoring a backup: approved by two officers (`III-A1.4.2-dual-control`) beside the persons who bring their shares.

use core_types::{Digest32, UnixTime};
use jose::{JoseError, SigningKey};
use serde::{Deserialize, Serialize};

/// `typ` of an approval.
pub const TYP_RESTORE: &str = "natsuin-cm-restore+jws";
/// Longest life of an approval in seconds: share holders have to come together.
pub const MAX_RESTORE_LIFE: i64 = 86_400;

/// What the officers approve. It is good for one store, which is empty once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// Name of the SAM whose module it is.
    pub sam: String,
    /// Thumbprint of the module's root key, as its `kid`.
    pub root: String,
    /// Name of the backup.
    pub backup: Digest32,
    /// The store that it goes into.
    pub target: Digest32,
    /// Why, [`core_types::words::is_reason`].
    pub reason: String,
    /// Not accepted at or after this time.
    pub exp: UnixTime,
}

impl Restore {
    /// An officer's approval.
    ///
    /// # Errors
    /// [`JoseError`] when the key can't sign.
    pub fn approve(&self, officer: &SigningKey) -> Result<String, JoseError> {
        let payload = serde_json::to_vec(self).map_err(|_| JoseError::Malformed)?;
        officer.sign(TYP_RESTORE, &payload)
    }
}
