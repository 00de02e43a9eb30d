//! Enabling and disabling the module, and its way out of the state *error*: an act of two officers (`III-A1.4.2-dual-control`), and of nobody else.
//!
//! Each officer signs the same bytes with a key of their own that the module's operator has registered. Everything else
//! about the module needs no second person (`III-A1.4.2-other-work-single`).

use core_types::UnixTime;
use jose::{JoseError, SigningKey};
use serde::{Deserialize, Serialize};

/// `typ` of an approval.
pub const TYP_SWITCH: &str = "natsuin-cm-switch+jws";
/// Longest life of an approval in seconds.
pub const MAX_SWITCH_LIFE: i64 = 3600;
/// How many officers have to approve.
pub const OFFICERS: usize = 2;

/// What the officers approve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// Name of the SAM whose module it is.
    pub sam: String,
    /// Thumbprint of the module's root key, as its `kid`.
    pub root: String,
    /// To be usable, or not to be.
    pub enabled: bool,
    /// To leave the state *error*: the self-tests have passed on demand, and pass once more now. Only together with `enabled`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recover: bool,
    /// With `recover`, and only then: [`crate::rpc::Health::error`] as the officers saw it. An approval is for this node and for
    /// what was found wrong until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// One more than the module's last one (`Health::switched`): an approval is good once.
    pub serial: u64,
    /// Not accepted at or after this time.
    pub exp: UnixTime,
}

impl Switch {
    /// An officer's approval.
    ///
    /// # Errors
    /// [`JoseError`] when the key can't sign.
    pub fn approve(&self, officer: &SigningKey) -> Result<String, JoseError> {
        let payload = serde_json::to_vec(self).map_err(|_| JoseError::Malformed)?;
        officer.sign(TYP_SWITCH, &payload)
    }
}
