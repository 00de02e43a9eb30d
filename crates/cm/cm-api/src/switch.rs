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
    /// Why, [`core_types::words::is_reason`].
    pub reason: String,
    /// One more than the module's last one (`Health::switched`): an approval is good once.
    pub serial: u64,
    /// Not accepted at or after this time.
    pub exp: UnixTime,
}

impl Switch {
    /// What is approved, in a sentence for whoever signs it.
    pub fn sentence(&self) -> String {
        let what = match (self.enabled, &self.error) {
            (true, Some(error)) => format!("leaves its error {error} and goes on"),
            (true, None) if self.recover => "leaves its error and goes on".to_owned(),
            (true, None) => "is enabled".to_owned(),
            (false, _) => "is disabled".to_owned(),
        };
        let Self {
            sam,
            root,
            serial,
            reason,
            ..
        } = self;
        let exp = self.exp.rfc3339();
        format!(
            "The module of {sam} with the root key {root} {what} (number {serial}, to be brought before {exp}), because: {reason}"
        )
    }

    /// An officer's approval.
    ///
    /// # Errors
    /// [`JoseError`] when the key can't sign.
    pub fn approve(&self, officer: &SigningKey) -> Result<String, JoseError> {
        let payload = serde_json::to_vec(self).map_err(|_| JoseError::Malformed)?;
        officer.sign(TYP_SWITCH, &payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // shows: III-A1.4.2-dual-control
    #[test]
    fn whoever_signs_reads_which_module_what_and_why() {
        let of = |enabled, error: Option<&str>| Switch {
            sam: "sign.example.jp".into(),
            root: "kid".into(),
            enabled,
            recover: error.is_some(),
            error: error.map(str::to_owned),
            reason: "HSMの交換".into(),
            serial: 3,
            exp: UnixTime(1_790_000_000),
        };
        for (switch, what) in [
            (of(true, None), "is enabled"),
            (of(false, None), "is disabled"),
            (
                of(true, Some("cm-1/7/1")),
                "leaves its error cm-1/7/1 and goes on",
            ),
        ] {
            let said = switch.sentence();
            for part in [
                "sign.example.jp",
                "kid",
                what,
                "number 3",
                "2026-",
                "HSMの交換",
            ] {
                assert!(said.contains(part), "{said}");
            }
        }
        let without = r#"{"sam":"s","root":"r","enabled":true,"serial":1,"exp":9}"#;
        assert!(
            serde_json::from_str::<Switch>(without).is_err(),
            "no reason"
        );
    }
}
