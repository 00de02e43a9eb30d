//! Calls of the signer's side to the SAM, forwarded by the SIC gateway: `POST /sap/v1/…` with JSON bodies; and an authority's
//! notices, which come this way too.

pub use core_types::rpc::Empty;
use core_types::{B64, Digest32, KeyId, VoucherId};
use jose::Jwk;
use serde::{Deserialize, Serialize};

use crate::enrol::PasskeyRegistration;
use crate::manage::NewFactor;
use crate::proof::{Method, Proof};

/// Why the SAM said no to the signer's side. Coarse on purpose: which check failed stands in the audit log only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SapRefusal {
    /// What the page can do about it.
    pub code: SapRefusalCode,
    /// With a guessable secret: tries left before the method locks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tries_left: Option<u8>,
    /// Where level, key or the end of the service stands against it: the requirement that isn't met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirement: Option<String>,
}

/// Reasons a page may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SapRefusalCode {
    /// The message isn't of the protocol's form.
    Malformed,
    /// No such request, voucher or act, or it isn't this person's.
    NotFound,
    /// Its time has run out.
    Expired,
    /// It was used before.
    Used,
    /// It was refused or withdrawn.
    Withdrawn,
    /// The proof was not accepted.
    Refused,
    /// This method is locked after too many failures.
    Locked,
    /// The key is stopped.
    KeyStopped,
    /// Not now: log, clock or module can't vouch for it.
    NotNow,
    /// A fresh proof is needed before this (officers).
    ProofNeeded,
}

impl SapRefusal {
    /// A refusal without a count of tries.
    pub fn new(code: SapRefusalCode) -> Self {
        Self {
            code,
            tries_left: None,
            requirement: None,
        }
    }
}

core_types::methods! {
    refusal = SapRefusal;
    /// The current `sam-keys` statement.
    Keys: "/sap/v1/keys", Empty => KeysAnswer;
    /// The signer opens a request: mints the act.
    Open: "/sap/v1/open", OpenRequest => OpenAnswer;
    /// The signer approves.
    Approve: "/sap/v1/approve", ApproveRequest => Done;
    /// The signer refuses; kills act and request.
    Refuse: "/sap/v1/refuse", RefuseRequest => Done;
    /// What became of an act, for a page that lost the answer.
    Outcome: "/sap/v1/outcome", OutcomeRequest => OutcomeAnswer;
    /// Asks for a TOTP seed for a `factor` act; it is returned once.
    FactorSeed: "/sap/v1/factor/seed", FactorSeedRequest => EnrolSeedAnswer;
    /// What whoever brings a key needs to seal it: an approved act of kind `import`, and the module's import key.
    ImportKey: "/sap/v1/import/key", ImportKeyRequest => ImportKeyAnswer;
    /// Brings a key under an approved act of kind `import`.
    Import: "/sap/v1/import", ImportRequest => ImportAnswer;
    /// The invited person opens the voucher: mints the enrol act.
    EnrolOpen: "/sap/v1/enrol/open", EnrolOpenRequest => EnrolOpenAnswer;
    /// Asks for a TOTP seed for this enrolment; it is returned once.
    EnrolSeed: "/sap/v1/enrol/seed", EnrolSeedRequest => EnrolSeedAnswer;
    /// Enrols the factors.
    EnrolRegister: "/sap/v1/enrol/register", EnrolRegisterRequest => Done;
    /// Brings an authority's notice about a certificate. It speaks for itself, so anybody may, and no SSA can keep it back.
    BringNotice: "/sap/v1/notice", NoticeRequest => Empty;
}

/// Longest notice in bytes.
pub const MAX_NOTICE: usize = 8 * 1024;

/// Request of [`BringNotice`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoticeRequest {
    /// The notice (`natsuin-notice+jws`), compact JWS by a registered authority.
    pub notice: String,
}

/// Answer of [`Keys`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysAnswer {
    /// Compact JWS, to be checked with [`crate::SamKeys::verify`].
    pub statement: String,
}

/// Request of [`Open`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenRequest {
    /// The request's capability.
    pub rid: Digest32,
}

/// Answer of [`Open`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenAnswer {
    /// The act, compact JWS.
    pub act: String,
    /// Methods this person can use for it.
    pub methods: Vec<Method>,
    /// Signing passkeys of the person, for `allowCredentials`.
    pub passkeys: Vec<PasskeyHint>,
    /// With a new passkey: those the person has already, for `excludeCredentials`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<PasskeyHint>,
    /// With method `idp`: the providers that know the person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<ProviderHint>,
    /// With an account at a provider to be added: the providers whose word would count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub new_providers: Vec<ProviderHint>,
}

/// An identity provider that the page can send the signer to. What it says is untrusted: a token that another provider made, or
/// for somebody else, is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderHint {
    /// Its name.
    pub name: String,
    /// Its issuer identifier.
    pub issuer: String,
    /// Its authorization endpoint.
    pub authorize: String,
    /// The SAM's client id there.
    pub client: String,
    /// Values of `acr` to ask for.
    pub acr: Vec<String>,
}

/// Where a passkey lies, as far as known.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasskeyHint {
    /// Credential id.
    pub id: B64,
    /// Transports as reported at registration.
    pub transports: Vec<String>,
}

/// Request of [`Approve`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApproveRequest {
    /// The proof.
    pub proof: Proof,
    /// With a `factor` act: the new factor, or the new PIN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<NewFactor>,
}

/// It is done; go here.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Done {
    /// Where the page goes now; one of the URIs registered for the SSA.
    #[serde(rename = "return")]
    pub return_uri: String,
}

/// Request of [`Refuse`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefuseRequest {
    /// Digest of the act.
    pub act: Digest32,
    /// The person says that they know nothing of it: the operator is alerted.
    pub unknown: bool,
}

/// Request of [`Outcome`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeRequest {
    /// Digest of the act.
    pub act: Digest32,
}

/// Answer of [`Outcome`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeAnswer {
    /// State of the act.
    pub state: ActOutcome,
    /// Where the page goes, when approved or refused.
    #[serde(rename = "return", default, skip_serializing_if = "Option::is_none")]
    pub return_uri: Option<String>,
}

/// State of an act as a page may know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActOutcome {
    /// Not decided.
    Open,
    /// The proof was accepted.
    Approved,
    /// The person refused.
    Refused,
    /// Too late, superseded or dead.
    Expired,
}

/// Request of [`ImportKey`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportKeyRequest {
    /// Digest of the act.
    pub act: Digest32,
}

/// Answer of [`ImportKey`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportKeyAnswer {
    /// The act, compact JWS.
    pub act: String,
    /// The `sam-keys` statement under which the act was signed, which may be yesterday's.
    pub keys: String,
    /// The import key, a JWS by `K_root` (`sam_keys::import::ImportKey`).
    pub statement: String,
}

/// Request of [`Import`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// Digest of the act.
    pub act: Digest32,
    /// The sealed key (`sam_keys::import::ImportedKey`), or a CA's signature over it (`sam_keys::import::CaImport`).
    pub envelope: String,
}

/// Answer of [`Import`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportAnswer {
    /// The key that came in; it waits for its certificate.
    pub key: KeyId,
}

/// Request of [`EnrolOpen`]. The secret doesn't travel yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolOpenRequest {
    /// The voucher.
    pub voucher: VoucherId,
}

/// Answer of [`EnrolOpen`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolOpenAnswer {
    /// The enrol act, compact JWS.
    pub act: String,
    /// Passkeys the person has already, for `excludeCredentials`.
    pub exclude: Vec<PasskeyHint>,
    /// With method `idp`: the providers whose word counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<ProviderHint>,
}

/// Request of [`EnrolSeed`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolSeedRequest {
    /// Digest of the enrol act.
    pub act: Digest32,
    /// Compact JWE with a [`crate::enrol::SealedEnrolment`] that holds the secret only.
    pub sealed: String,
    /// Key of the page to which the seed is sealed.
    pub key: Jwk,
}

/// Request of [`FactorSeed`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactorSeedRequest {
    /// Digest of the `factor` act.
    pub act: Digest32,
    /// Key of the page to which the seed is sealed.
    pub key: Jwk,
}

/// Answer of [`EnrolSeed`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolSeedAnswer {
    /// Compact JWE with a [`crate::enrol::SealedSeed`], `apu` = digest of the act.
    pub sealed: String,
}

/// Request of [`EnrolRegister`]: a passkey, PIN and TOTP, an identity provider's word, or several of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRegisterRequest {
    /// Digest of the enrol act.
    pub act: Digest32,
    /// Compact JWE with a [`crate::enrol::SealedEnrolment`].
    pub sealed: String,
    /// The new passkey, if one is enrolled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passkey: Option<PasskeyRegistration>,
    /// An ID token whose `nonce` is the digest of the act: its `sub` at its `iss` is bound to the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_token: Option<String>,
}
