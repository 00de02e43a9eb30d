//! Keys that belong to the provider and to no signer: made and ended by two officers' approvals of the same bytes
//! (`III-A1.4.2-dual-control`), for one purpose each (`III-3-5-key-purpose-defined`).

use core_types::Digest32;
use core_types::{B64, KeyAlg, KeyId, Level, UnixTime};
use jose::{JoseError, SigningKey};
use serde::{Deserialize, Serialize};

use crate::rpc::KeyDestroyed;

/// `typ` of an approval.
pub const TYP_CEREMONY: &str = "natsuin-cm-ceremony+jws";
/// Longest life of an approval in seconds.
pub const MAX_CEREMONY_LIFE: i64 = 3600;

/// What the officers approve. The same bytes are good once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceremony {
    /// Name of the SAM whose module it is.
    pub sam: String,
    /// Thumbprint of the module's root key, as its `kid`.
    pub root: String,
    /// Why, [`core_types::words::is_reason`].
    pub reason: String,
    /// Not accepted at or after this time.
    pub exp: UnixTime,
    /// What is to be done.
    pub what: Wanted,
}

/// What a ceremony is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Wanted {
    /// Make a key of purpose *seal*: it counter-signs signature values that this module has just made, and signs one
    /// certification request, at its birth.
    SealKey {
        /// Kind of key.
        alg: KeyAlg,
        /// Level of generation and retention.
        level: Level,
        /// Who the certificate is to name.
        subject: Subject,
        /// Not used at or after this time.
        not_after: UnixTime,
    },
    /// Make a key of purpose *log* (Ed25519): it signs checkpoints of one log and nothing else.
    LogKey {
        /// Origin of the log, such as `sign.example.jp/sam`; can't change.
        origin: String,
        /// Level of generation and retention.
        level: Level,
        /// Not used at or after this time.
        not_after: UnixTime,
    },
    /// Let a SAM follow that has lost the keys of the one before: within the hour the next keys count without their word.
    NewSam {},
    /// Destroy a key of either purpose.
    Destroy {
        /// Key.
        key: KeyId,
        /// SHA-256 of its SubjectPublicKeyInfo.
        spki: Digest32,
    },
}

/// Name of the provider in the certificate of its seal key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// countryName: two capital letters.
    pub country: String,
    /// organizationName, 1 to 64 characters.
    pub organization: String,
    /// commonName, 1 to 64 characters.
    pub name: String,
}

impl Ceremony {
    /// What is approved, in a sentence for whoever signs it.
    pub fn sentence(&self) -> String {
        let what = match &self.what {
            Wanted::SealKey {
                alg,
                level,
                subject,
                not_after,
            } => {
                let Subject {
                    country,
                    organization,
                    name,
                } = subject;
                let until = not_after.rfc3339();
                format!(
                    "makes a seal key ({alg}, level {level}) for {name}, {organization}, {country}, good until {until}"
                )
            }
            Wanted::LogKey {
                origin,
                level,
                not_after,
            } => {
                let until = not_after.rfc3339();
                format!("makes a key (level {level}) for the log {origin}, good until {until}")
            }
            Wanted::NewSam {} => {
                "takes the next keys that come with the SAM's certificate without the word of those before".to_owned()
            }
            Wanted::Destroy { key, spki } => format!("destroys key {key} (SHA-256 {spki})"),
        };
        let Self {
            sam, root, reason, ..
        } = self;
        let exp = self.exp.rfc3339();
        format!(
            "The module of {sam} with the root key {root} {what} (to be brought before {exp}), because: {reason}"
        )
    }

    /// An officer's approval.
    ///
    /// # Errors
    /// [`JoseError`] when the key can't sign.
    pub fn approve(&self, officer: &SigningKey) -> Result<String, JoseError> {
        let payload = serde_json::to_vec(self).map_err(|_| JoseError::Malformed)?;
        officer.sign(TYP_CEREMONY, &payload)
    }
}

/// What a ceremony led to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// A key was made.
    Made(ProviderKey),
    /// A key was destroyed.
    Destroyed(KeyDestroyed),
    /// Another SAM may follow until then.
    Open(UnixTime),
}

/// A key of the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderKey {
    /// Id.
    pub key: KeyId,
    /// SubjectPublicKeyInfo, DER.
    pub spki: B64,
    /// Of a *seal* key: its certification request (RFC 2986), DER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<B64>,
}

/// Request of [`crate::rpc::HoldCeremony`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CeremonyRequest {
    /// Approvals of the same bytes ([`Ceremony`]) by two officers.
    pub approvals: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    // shows: III-A1.4.2-dual-control
    #[test]
    fn whoever_signs_reads_which_key_and_why() {
        let at = UnixTime(1_790_000_000);
        let seal = Wanted::SealKey {
            alg: KeyAlg::P256,
            level: Level::Two,
            subject: Subject {
                country: "JP".into(),
                organization: "Example".into(),
                name: "Signing".into(),
            },
            not_after: at,
        };
        let log = Wanted::LogKey {
            origin: "sign.example.jp/sam".into(),
            level: Level::One,
            not_after: at,
        };
        for (what, parts) in [
            (seal, vec!["p-256", "level 2", "Signing, Example, JP"]),
            (log, vec!["level 1", "the log sign.example.jp/sam"]),
        ] {
            let said = Ceremony {
                sam: "sign.example.jp".into(),
                root: "kid".into(),
                reason: "renewal".into(),
                exp: at,
                what,
            };
            let said = said.sentence();
            for part in parts.into_iter().chain(["kid", "because: renewal"]) {
                assert!(said.contains(part), "{said}");
            }
        }
    }
}
