//! Why the SAM said no to the SSA. Mapped to CSC and OAuth errors in one file of the SSA.

use serde::{Deserialize, Serialize};

/// Requirement that [`Refusal::Level`] names when the provider has ended all keys: none signs, and none is made.
pub const PROVIDER_END: &str = "I-A4.4-provider-end";

/// A definite refusal: no signature was made by this call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum Refusal {
    /// No such person, key, request, act or voucher, or not of this caller.
    #[error("not found, or not yours")]
    NotFound,
    /// A member is wrong; says which.
    #[error("member {member} is not acceptable")]
    Invalid {
        /// Name of the member.
        member: String,
    },
    /// Not approved (yet).
    #[error("not approved")]
    NotApproved,
    /// Its time has run out.
    #[error("expired")]
    Expired,
    /// The right was used.
    #[error("already used")]
    Used,
    /// The approval, the key, the client or the person don't belong together.
    #[error("the approval is for something else")]
    Mismatch,
    /// A hash isn't among the approved and unused items.
    #[error("hash is not among the approved items")]
    HashNotApproved,
    /// The algorithm isn't among the approved ones.
    #[error("algorithm is not among the approved ones")]
    AlgorithmNotApproved,
    /// The key signs messages (Ed25519, ML-DSA): documents have to be named, not bare hashes.
    #[error("this key signs messages: ask for documents, not for hashes")]
    BareHash,
    /// The key is not active.
    #[error("the key is not active")]
    KeyNotActive,
    /// The level asked for isn't reached; names the requirement.
    #[error("not allowed at this level ({requirement})")]
    Level {
        /// Requirement id of the catalogue.
        requirement: String,
    },
    /// The proof of an RA or CA isn't acceptable.
    #[error("the registration authority's statement is not acceptable")]
    RegistrationRefused,
    /// The signature can't be had: it may or may not have been made, and is lost. The signer must approve anew.
    #[error("the outcome is unknown; the right is lost")]
    Lost,
    /// PIN or one-time code that an application collected is wrong; which one isn't told.
    #[error("PIN or one-time code wrong")]
    SecretWrong,
    /// Too many failures with them: they wait, or are locked.
    #[error("locked after failures")]
    Locked,
    /// Log, clock or module can't vouch for it now; nothing happened.
    #[error("not now")]
    NotNow,
}
