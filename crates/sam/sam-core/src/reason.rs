//! Why the SAM said no: precise for the audit log, coarse for everybody else.

use core_types::Level;
use sam_api::Refusal;
use sam_api::refusal::PROVIDER_END;
use sam_api::ssa::LevelPart;
use sap::messages::{SapRefusal, SapRefusalCode};
use sap::office::calls::OfficeRefusal;

use crate::attest::NotVouched;
use crate::level::table::requirement;
use crate::passkey::PasskeyError;

/// A refusal with its exact cause. The cause goes into the audit log only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Not of the protocol's form.
    #[error("malformed message")]
    Malformed,
    /// A member of an SSA's request is wrong.
    #[error("member {0} is not acceptable")]
    Invalid(&'static str),
    /// No such request, act, voucher, person or key, or not of this caller.
    #[error("unknown or foreign")]
    NotFound,
    /// Act, request or voucher is past its time.
    #[error("expired")]
    Expired,
    /// The act was made in another epoch of the store.
    #[error("from another epoch of the store")]
    OtherEpoch,
    /// The policy has changed since the act was made.
    #[error("the policy has changed")]
    PolicyChanged,
    /// It was refused, superseded or killed.
    #[error("withdrawn")]
    Withdrawn,
    /// The right was used before.
    #[error("already used")]
    Used,
    /// Not approved yet.
    #[error("not approved")]
    NotApproved,
    /// The act is for a different kind of thing.
    #[error("act of another kind")]
    OtherKind,
    /// The factor is unknown or another person's.
    #[error("unknown factor, or another person's")]
    ForeignFactor,
    /// The factor waits after failures, or is locked.
    #[error("the method is locked")]
    Locked,
    /// The act has seen too many tries.
    #[error("too many tries on this act")]
    TooManyTries,
    /// PIN or one-time code wrong; which one isn't recorded.
    #[error("secret wrong, {tries_left} tries left")]
    SecretWrong {
        /// Tries left before the method locks.
        tries_left: u8,
    },
    /// The sealed message doesn't open, or holds something else.
    #[error("sealed secrets don't open")]
    SealedWrong,
    /// The passkey's answer is wrong.
    #[error("passkey: {0}")]
    Passkey(#[from] PasskeyError),
    /// The device key's signature is wrong.
    #[error("the device key didn't sign this act")]
    DeviceSignature,
    /// The identity provider's word isn't good.
    #[error("identity provider: {0}")]
    IdToken(#[from] jose::openid::IdTokenFault),
    /// The authenticator isn't vouched for where the level asks for it, or is compromised.
    #[error("authenticator: {0}")]
    NotVouched(#[from] NotVouched),
    /// The new PIN is too short, too long or too common.
    #[error("the new PIN is too weak")]
    WeakPin,
    /// The credential is registered already.
    #[error("credential id is known already")]
    CredentialKnown,
    /// The key isn't active, or has another version.
    #[error("the key is not active")]
    KeyNotActive,
    /// Client, key or person differ from the act's.
    #[error("the approval is for something else")]
    Mismatch,
    /// The hash isn't among the free items.
    #[error("hash is not among the approved items")]
    HashNotApproved,
    /// The algorithm isn't among the act's.
    #[error("algorithm is not among the approved ones")]
    AlgorithmNotApproved,
    /// The key signs messages, and a bare hash isn't one.
    #[error("this key signs messages: ask for documents, not for hashes")]
    BareHash,
    /// The level's rules forbid it; names the requirement.
    #[error("not allowed at this level ({0})")]
    Level(&'static str),
    /// A factor would change a stronger one; names the requirement that the stronger one meets.
    #[error("a weaker factor changes no stronger one ({0})")]
    Weaker(&'static str),
    /// The module wouldn't have a key that was brought; names the requirement.
    #[error("the key doesn't meet {0}")]
    Import(&'static str),
    /// The provider has ended all keys (`I-A4.4-provider-end`): none signs, and none is made.
    #[error("all keys have ended at the provider's side")]
    Ended,
    /// The rules of the kind of act forbid it; says which.
    #[error("not allowed: {0}")]
    NotAllowed(&'static str),
    /// The RA's or CA's statement is wrong.
    #[error("registration authority or certificate: {0}")]
    Registration(&'static str),
    /// The session's proof is too old for something consequential.
    #[error("a fresh proof is needed")]
    ProofTooOld,
    /// The outcome of the order is unknown; the right is lost.
    #[error("the outcome is unknown; the right is lost")]
    Lost,
    /// Log or module can't vouch for it now.
    #[error("not now")]
    NotNow,
    /// The clock may be wrong by more than was declared.
    #[error("the clock's error is beyond the declared bound, or unknown")]
    Clock,
}

impl Reason {
    /// The requirement of the catalogue that stands against it, where a level does.
    pub fn requirement(&self) -> Option<&'static str> {
        match self {
            Self::Level(requirement) | Self::Import(requirement) | Self::Weaker(requirement) => {
                Some(*requirement)
            }
            Self::Ended => Some(PROVIDER_END),
            // What is known to be compromised counts at no level; the others are asked for at level 3 alone.
            Self::NotVouched(NotVouched::Compromised) => None,
            Self::NotVouched(_) => Some(requirement(LevelPart::Authorization, Level::Three)),
            _ => None,
        }
    }

    /// What the signer's page may know.
    pub fn to_sap(&self) -> SapRefusal {
        use SapRefusalCode as Code;
        let code = match self {
            Self::Malformed | Self::Invalid(_) => Code::Malformed,
            Self::NotFound => Code::NotFound,
            Self::Expired | Self::OtherEpoch | Self::PolicyChanged => Code::Expired,
            Self::Withdrawn => Code::Withdrawn,
            Self::Used => Code::Used,
            Self::Locked | Self::TooManyTries => Code::Locked,
            Self::SecretWrong { tries_left } => {
                return SapRefusal {
                    tries_left: Some(*tries_left),
                    ..SapRefusal::new(Code::Refused)
                };
            }
            Self::KeyNotActive => Code::KeyStopped,
            Self::NotNow | Self::Clock | Self::Lost => Code::NotNow,
            Self::ProofTooOld => Code::ProofNeeded,
            Self::NotApproved
            | Self::OtherKind
            | Self::ForeignFactor
            | Self::SealedWrong
            | Self::Passkey(_)
            | Self::DeviceSignature
            | Self::IdToken(_)
            | Self::NotVouched(_)
            | Self::WeakPin
            | Self::CredentialKnown
            | Self::Mismatch
            | Self::HashNotApproved
            | Self::AlgorithmNotApproved
            | Self::BareHash
            | Self::Level(_)
            | Self::Weaker(_)
            | Self::Import(_)
            | Self::Ended
            | Self::NotAllowed(_)
            | Self::Registration(_) => Code::Refused,
        };
        SapRefusal {
            requirement: self.requirement().map(str::to_owned),
            ..SapRefusal::new(code)
        }
    }

    /// What an officer may know: who may not do something is told the rule, who proved wrongly isn't told why.
    pub fn to_office(&self) -> OfficeRefusal {
        let rule = match self {
            Self::Invalid(_) | Self::NotAllowed(_) | Self::Level(_) | Self::Ended => {
                Some(self.code().to_owned())
            }
            _ => None,
        };
        OfficeRefusal {
            code: self.to_sap().code,
            rule,
        }
    }

    /// What the SSA may know.
    pub fn to_ssa(&self) -> Refusal {
        if let Some(requirement) = self.requirement() {
            return Refusal::Level {
                requirement: requirement.to_owned(),
            };
        }
        match self {
            Self::Malformed => Refusal::Invalid {
                member: "body".to_owned(),
            },
            Self::Invalid(member) | Self::NotAllowed(member) => Refusal::Invalid {
                member: (*member).to_owned(),
            },
            Self::Expired | Self::OtherEpoch | Self::PolicyChanged | Self::Withdrawn => {
                Refusal::Expired
            }
            Self::Used => Refusal::Used,
            Self::NotApproved => Refusal::NotApproved,
            Self::KeyNotActive => Refusal::KeyNotActive,
            Self::HashNotApproved => Refusal::HashNotApproved,
            Self::AlgorithmNotApproved => Refusal::AlgorithmNotApproved,
            Self::BareHash => Refusal::BareHash,
            Self::Registration(_) => Refusal::RegistrationRefused,
            Self::Lost => Refusal::Lost,
            Self::NotNow | Self::Clock => Refusal::NotNow,
            Self::NotFound => Refusal::NotFound,
            Self::OtherKind
            | Self::ForeignFactor
            | Self::SealedWrong
            | Self::Passkey(_)
            | Self::DeviceSignature
            | Self::IdToken(_)
            | Self::NotVouched(_)
            | Self::WeakPin
            | Self::CredentialKnown
            | Self::ProofTooOld
            // These have a requirement.
            | Self::Level(_)
            | Self::Weaker(_)
            | Self::Import(_)
            | Self::Ended
            | Self::Mismatch => Refusal::Mismatch,
            Self::Locked | Self::TooManyTries => Refusal::Locked,
            Self::SecretWrong { .. } => Refusal::SecretWrong,
        }
    }

    /// The fixed word for the audit log.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Invalid(member) => member,
            Self::NotFound => "not-found",
            Self::Expired => "expired",
            Self::OtherEpoch => "other-epoch",
            Self::PolicyChanged => "policy-changed",
            Self::Withdrawn => "withdrawn",
            Self::Used => "used",
            Self::NotApproved => "not-approved",
            Self::OtherKind => "other-kind",
            Self::ForeignFactor => "foreign-factor",
            Self::Locked => "locked",
            Self::TooManyTries => "too-many-tries",
            Self::SecretWrong { .. } => "secret-wrong",
            Self::SealedWrong => "sealed-wrong",
            Self::Passkey(error) => error.code(),
            Self::DeviceSignature => "device-signature",
            Self::IdToken(fault) => fault.code(),
            Self::NotVouched(cause) => cause.code(),
            Self::WeakPin => "weak-pin",
            Self::CredentialKnown => "credential-known",
            Self::KeyNotActive => "key-not-active",
            Self::Mismatch => "mismatch",
            Self::HashNotApproved => "hash-not-approved",
            Self::AlgorithmNotApproved => "algorithm-not-approved",
            Self::BareHash => "bare-hash",
            Self::Level(requirement) | Self::Import(requirement) => requirement,
            Self::Weaker(_) => "weaker-factor",
            Self::Ended => "service-ended",
            Self::NotAllowed(rule) => rule,
            Self::Registration(check) => check,
            Self::ProofTooOld => "proof-too-old",
            Self::Lost => "lost",
            Self::NotNow => "not-now",
            Self::Clock => "clock-beyond-bound",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_hears_the_requirement_and_the_tries_and_nothing_else() {
        let told = Reason::Level("I-3.5.1-retention-L2").to_sap();
        assert_eq!(told.requirement.as_deref(), Some("I-3.5.1-retention-L2"));
        assert_eq!(told.tries_left, None);
        let ended = Reason::Ended.to_sap();
        assert_eq!(ended.requirement.as_deref(), Some("I-A4.4-provider-end"));
        let wrong = Reason::SecretWrong { tries_left: 4 }.to_sap();
        assert_eq!((wrong.tries_left, wrong.requirement), (Some(4), None));
        let proof = Reason::NotAllowed("role").to_sap();
        assert_eq!((proof.tries_left, proof.requirement), (None, None));
        let unmet = |cause| Reason::NotVouched(cause).to_sap().requirement;
        for cause in [NotVouched::Synced, NotVouched::Missing, NotVouched::Stale] {
            assert_eq!(unmet(cause).as_deref(), Some("I-3.5.1-keyauth-L3"));
        }
        assert_eq!(unmet(NotVouched::Compromised), None, "at every level");
    }

    // shows: I-3.5.1-keyauth-L2, I-3.5.1-keyauth-L3
    #[test]
    fn whatever_is_refused_for_its_level_names_the_requirement_to_whoever_asked() {
        let three = "I-3.5.1-keyauth-L3";
        for (reason, named) in [
            (Reason::Level("I-3.5.1-keyauth-L2"), "I-3.5.1-keyauth-L2"),
            (Reason::Weaker("I-3.5.1-keyauth-L2"), "I-3.5.1-keyauth-L2"),
            (Reason::Import("I-3.5.1-import-L3"), "I-3.5.1-import-L3"),
            (Reason::Ended, PROVIDER_END),
            (NotVouched::Synced.into(), three),
            (NotVouched::Missing.into(), three),
            (NotVouched::Model.into(), three),
            (NotVouched::Root.into(), three),
            (NotVouched::Software.into(), three),
            (NotVouched::Stale.into(), three),
        ] {
            let page = reason.to_sap();
            assert_eq!(page.requirement.as_deref(), Some(named), "{reason:?}");
            assert_eq!(page.code, SapRefusalCode::Refused, "{reason:?}");
            let requirement = named.to_owned();
            assert_eq!(reason.to_ssa(), Refusal::Level { requirement });
        }
        for reason in [
            Reason::NotVouched(NotVouched::Compromised),
            Reason::ForeignFactor,
            Reason::NotAllowed("last-factor"),
        ] {
            assert_eq!(reason.requirement(), None, "{reason:?}");
            assert_eq!(reason.to_sap().requirement, None);
        }
    }

    #[test]
    fn an_officer_hears_the_rule_and_never_why_a_proof_failed() {
        let rule = |reason: Reason| reason.to_office().rule;
        for reason in [
            Reason::NotAllowed("role"),
            Reason::Invalid("until"),
            Reason::Level("I-3.5.1-retention-L2"),
        ] {
            assert_eq!(rule(reason.clone()).as_deref(), Some(reason.code()));
        }
        assert_eq!(rule(Reason::DeviceSignature), None);
        assert_eq!(rule(Reason::NotFound), None);
    }
}
