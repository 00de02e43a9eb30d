//! Acts about a registration: a person's keys and factors of one voucher (`sap.md` §§4, 9).
//!
//! The same bytes, signature, digest and proof as an act to sign; what differs is what is shown and what happens.

use core_types::{
    Digest32, FactorId, KeyAlg, KeyId, Level, OriginCase, SecretBytes, TenantId, UnixTime,
    VoucherId,
};
use jose::Jwk;
use serde::{Deserialize, Serialize};

use crate::act::{ActHead, ActKey, Brand, Person, Since, Version1};
use crate::enrol::PasskeyRegistration;
use crate::proof::{Method, optional_secret_text};

/// Most keys named in one act of this module.
pub const MAX_KEYS: usize = 64;

macro_rules! act {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// Format version, 1.
            pub v: Version1,
            /// Issuing SAM.
            pub sam: String,
            /// Tenant.
            pub tenant: TenantId,
            /// How the tenant is shown; absent = by no name.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub brand: Option<Brand>,
            /// 32 random bytes.
            pub nonce: Digest32,
            /// Issued at.
            pub iat: UnixTime,
            /// Expires at, at most [`crate::act::MAX_LIFE`] after `iat`.
            pub exp: UnixTime,
            /// Store epoch.
            pub epoch: Digest32,
            /// Policy version.
            pub policy: u32,
            /// Level at which the proof has to count.
            pub level: Level,
            /// Who has to approve.
            pub person: Person,
            $($(#[$field_doc])* pub $field: $type,)*
            /// What the person should remember.
            pub since: Since,
            /// Where the page goes afterwards.
            #[serde(rename = "return")]
            pub return_uri: String,
        }

        impl $name {
            pub(crate) fn head(&self) -> ActHead<'_> {
                ActHead {
                    sam: &self.sam,
                    tenant: &self.tenant,
                    brand: self.brand.as_ref(),
                    nonce: self.nonce,
                    iat: self.iat,
                    exp: self.exp,
                    epoch: self.epoch,
                    policy: self.policy,
                    level: self.level,
                    person: &self.person,
                    return_uri: &self.return_uri,
                }
            }
        }
    };
}

act! {
    /// An act of kind `suspend`, `resume` or `destroy`: about one key.
    KeyAct {
        /// The key; `cert` is all zeros and `subject` empty before it has a certificate.
        key: ActKey,
        /// Kind of key.
        alg: KeyAlg,
    }
}

act! {
    /// An act of kind `leave`: the registration ends, its keys are destroyed and its factors removed.
    LeaveAct {
        /// The registration, by the voucher that began it.
        registration: VoucherId,
        /// Keys that will be destroyed, at most [`MAX_KEYS`].
        keys: Vec<ActKey>,
        /// Factors that will be removed.
        factors: Vec<FactorId>,
    }
}

act! {
    /// An act of kind `factor`: the factors of a registration change.
    FactorAct {
        /// The registration, by the voucher that began it.
        registration: VoucherId,
        /// What changes.
        change: FactorChange,
        /// WebAuthn RP ID for a new passkey: the SIC host.
        rp_id: String,
    }
}

act! {
    /// An act of kind `import`: the key with this public half may come in, once, for this person (`III-3-15-import-*`).
    /// It is brought afterwards, sealed to the module and bound to the digest of this act.
    ImportAct {
        /// The registration whose factors will authorize it.
        registration: VoucherId,
        /// Kind of key.
        alg: KeyAlg,
        /// SHA-256 of its SubjectPublicKeyInfo.
        spki: Digest32,
        /// Where it was made, and who brings it.
        case: OriginCase,
        /// Until when it may be brought, exclusive.
        until: UnixTime,
    }
}

act! {
    /// An act of kind `hand-over`: the key leaves, sealed to this receiver, and is of no use here any more.
    HandOverAct {
        /// The key.
        key: ActKey,
        /// Kind of key.
        alg: KeyAlg,
        /// Key of the receiver. Its thumbprint is what the person compares.
        receiver: Jwk,
    }
}

act! {
    /// An act of kind `officer`: what has to be approved by persons of an office, each with a proof of their own over
    /// an act of their own that names the same bytes. An RA officer's approval of a certificate has this form too.
    OfficerAct {
        /// What is approved, as a code such as `certify`, `provider-stop`, `restore`.
        what: String,
        /// SHA-256 of the exact bytes that are approved.
        document: Digest32,
        /// One line that says in words what it is, at most [`crate::act::MAX_LABEL`] characters.
        text: String,
        /// How many persons have to approve; 1 to 9.
        needs: u8,
    }
}

/// A change of factors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FactorChange {
    /// A new one, no stronger than the one that proves.
    Add {
        /// Its method.
        method: Method,
    },
    /// A device key, of which the act names the public half: the person compares it with what their own program shows.
    AddDevice {
        /// The key.
        key: Jwk,
    },
    /// One less.
    Remove {
        /// Which.
        factor: FactorId,
        /// Its method.
        method: Method,
    },
    /// Another PIN; the one-time codes stay.
    Pin {
        /// Which.
        factor: FactorId,
    },
    /// A factor that was locked after failures counts again. Proved with another one.
    Unlock {
        /// Which.
        factor: FactorId,
    },
}

impl FactorChange {
    /// The factor it is about, unless it is new.
    pub fn factor(&self) -> Option<&FactorId> {
        match self {
            Self::Add { .. } | Self::AddDevice { .. } => None,
            Self::Remove { factor, .. } | Self::Pin { factor } | Self::Unlock { factor } => {
                Some(factor)
            }
        }
    }
}

/// The new part of a `factor` act, sent along with the proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
pub enum NewFactor {
    /// A passkey whose challenge is the digest of the act.
    Passkey {
        /// The registration.
        registration: PasskeyRegistration,
    },
    /// An account at an identity provider: its word for the act, as a proof's.
    Idp {
        /// The ID token.
        id_token: String,
    },
    /// PIN and one-time code, or a new PIN alone (also that of a device key), sealed for the SAM.
    PinTotp {
        /// Compact JWE with a [`SealedFactor`].
        sealed: String,
    },
}

/// What is inside `sealed` of a [`NewFactor`].
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedFactor {
    /// Digest of the act.
    pub act: Digest32,
    /// The new PIN.
    #[serde(with = "crate::proof::secret_text")]
    pub new_pin: SecretBytes,
    /// First one-time code of the new seed; not with a new PIN alone.
    #[serde(
        default,
        with = "optional_secret_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub otp: Option<SecretBytes>,
}

/// A registration authority's or CA's notice about a certificate. Payload of `natsuin-notice+jws`, signed by a key
/// registered at the SAM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevocationNotice {
    /// The SAM it is for.
    pub sam: String,
    /// Tenant.
    pub tenant: TenantId,
    /// The key.
    pub key: KeyId,
    /// SHA-256 of its certificate.
    pub cert: Digest32,
    /// What it means for the key.
    pub effect: NoticeEffect,
    /// When it was made. A hold or release about a key is later than the notice before, or it changes nothing; a
    /// revocation counts always.
    pub iat: UnixTime,
}

/// What a notice means for the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeEffect {
    /// The certificate is revoked for good: the key is destroyed.
    Revoked,
    /// The certificate is on hold: the key stops until it is released.
    Hold,
    /// The hold is over.
    Released,
}

#[cfg(test)]
mod tests {
    use core_types::PersonId;

    use super::*;
    use crate::Act;

    fn key_act() -> KeyAct {
        KeyAct {
            v: Version1,
            sam: "sam.test".into(),
            tenant: TenantId::parse("t").unwrap(),
            brand: None,
            nonce: Digest32([1; 32]),
            iat: UnixTime(1000),
            exp: UnixTime(1300),
            epoch: Digest32([2; 32]),
            policy: 1,
            level: Level::One,
            person: Person {
                id: PersonId::parse("p").unwrap(),
                name: "髙橋 花子".into(),
            },
            key: ActKey {
                id: KeyId::parse("k").unwrap(),
                version: 1,
                spki: Digest32([3; 32]),
                cert: Digest32([4; 32]),
                subject: "CN=髙橋 花子".into(),
            },
            alg: KeyAlg::P256,
            since: Since::default(),
            return_uri: "http://ssa.test/".into(),
        }
    }

    // shows: T-USE-SAP-BYPASS
    #[test]
    fn kinds_are_told_apart_by_their_own_member_and_nothing_is_added() {
        let kinds = [
            ("suspend", Act::Suspend(key_act())),
            ("resume", Act::Resume(key_act())),
            ("destroy", Act::Destroy(key_act())),
        ];
        for (kind, act) in kinds {
            let json = serde_json::to_value(&act).unwrap();
            assert_eq!(json["kind"], kind);
            assert_eq!(serde_json::from_value::<Act>(json.clone()).unwrap(), act);
            let members: Vec<String> = json.as_object().unwrap().keys().cloned().collect();
            for member in members {
                let mut less = json.clone();
                less.as_object_mut().unwrap().remove(&member);
                assert!(serde_json::from_value::<Act>(less).is_err(), "{member}");
            }
            let mut more = json;
            more["items"] = serde_json::json!([]);
            assert!(serde_json::from_value::<Act>(more).is_err());
        }
    }
}
