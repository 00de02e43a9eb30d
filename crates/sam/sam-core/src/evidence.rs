//! Evidence: what a checker needs to judge a signature without us (`sap.md` §7). Never holds a secret.

use core_types::timekeeping::ClockState;
use core_types::{B64, ClientId, Digest32, FactorId, PeerId, PersonId, SigAlg, UnixTime};
use sap::Proof;
use sap::act::ActKey;
use serde::{Deserialize, Serialize};

use crate::Reason;
use crate::enrol::PublicFactor;
use crate::provider::Providers;

/// Evidence of an approval or an enrolment, stored by the digest of its JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "evidence", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Evidence {
    /// A person approved an act.
    Approval(Box<Approval>),
    /// A person enrolled factors.
    Enrolment(Box<Enrolment>),
    /// Values were made.
    Signature(Box<Signature>),
    /// An authority's notice was heeded.
    Notice(Box<Notice>),
    /// What a CA published was heeded.
    Revocation(Box<Revocation>),
    /// A key was stopped without its signer's proof.
    Stop(Box<Stop>),
}

impl Evidence {
    /// The bytes that are stored, and whose SHA-256 is their name.
    ///
    /// # Errors
    /// [`Reason::NotNow`] when they can't be written.
    pub fn bytes(&self) -> Result<Vec<u8>, Reason> {
        serde_json::to_vec(self).map_err(|_| Reason::NotNow)
    }
}

/// Evidence of an approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// The act, compact JWS.
    pub act: String,
    /// The `sam-keys` statement.
    pub statement: String,
    /// The proof without its secrets.
    pub proof: PublicProof,
    /// Public part of the factor.
    pub factor: PublicFactor,
    /// Time.
    pub at: UnixTime,
    /// Policy version.
    pub policy: u32,
    /// Digest of that policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_digest: Option<Digest32>,
    /// With a `factor` act: what was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<MadeFactor>,
    /// State of the SAM's clock then.
    pub clock: ClockState,
    /// Version of this software.
    pub software: String,
}

/// A factor that an approved act added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeFactor {
    /// Its public part.
    pub factor: PublicFactor,
    /// `clientDataJSON` and `attestationObject` of a passkey.
    pub registration: Option<[B64; 2]>,
}

/// Evidence of an authority's notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    /// The notice, compact JWS.
    pub notice: String,
    /// Key of the authority.
    pub authority: jose::Jwk,
    /// Time.
    pub at: UnixTime,
    /// Version of this software.
    pub software: String,
}

/// Evidence of a stop on somebody's word: a service's, that its user is logged in, or a program's that watches the logs. It can't show more
/// than who asked, and when: nothing was proven, and nothing but the key stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Name of the SAM.
    pub sam: String,
    /// The key.
    pub key: ActKey,
    /// Its owner.
    pub person: PersonId,
    /// On what it was asked.
    pub method: StopMethod,
    /// Who asked: name in the certificate.
    pub peer: PeerId,
    /// How often the key's state had changed before.
    pub changes: u32,
    /// Time.
    pub at: UnixTime,
    /// State of the SAM's clock then.
    pub clock: ClockState,
    /// Version of this software.
    pub software: String,
}

/// On what a stop was asked for without a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopMethod {
    /// A login at the service.
    Login,
    /// What a program that watches the logs had found.
    Guard,
}

impl StopMethod {
    /// The word for the audit log.
    pub fn code(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Guard => "guard",
        }
    }
}

/// Evidence of what a CA published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// Certificate of the key, DER.
    pub certificate: B64,
    /// Certificate of the CA, DER.
    pub issuer: B64,
    /// SHA-256 of the CRL or OCSP response.
    pub digest: Digest32,
    /// It itself, DER; nothing when it is longer than [`Self::LONGEST`].
    pub published: Option<B64>,
    /// Time.
    pub at: UnixTime,
    /// Version of this software.
    pub software: String,
}

impl Revocation {
    /// Longest CRL or OCSP response that is kept, in bytes.
    pub const LONGEST: usize = 256 * 1024;
}

/// A proof without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PublicProof {
    /// An assertion is public as a whole.
    Passkey {
        /// The proof.
        proof: Proof,
    },
    /// PIN and one-time code: only the SAM's word remains.
    PinTotp {
        /// Digest of the act.
        act: Digest32,
        /// The factor.
        factor: FactorId,
    },
    /// The device key's signature is public; of the PIN only the SAM's word remains.
    Device {
        /// Digest of the act.
        act: Digest32,
        /// The factor.
        factor: FactorId,
        /// ES256 over `act`: r and s, 64 bytes.
        sig: B64,
    },
    /// An identity provider's word is public as a whole; its key is the one that was configured.
    Idp {
        /// Digest of the act.
        act: Digest32,
        /// The factor.
        factor: FactorId,
        /// The ID token.
        id_token: String,
        /// The provider's key that signed it (JWK), by the SAM's configuration.
        key: serde_json::Value,
    },
    /// PIN and one-time code that the application collected: the person saw no act.
    Collected {
        /// Digest of the act.
        act: Digest32,
        /// The factor.
        factor: FactorId,
        /// The application.
        client: ClientId,
    },
}

impl PublicProof {
    /// The public part of a proof with this factor. `providers` are those that verified it.
    pub fn of(proof: &Proof, factor: &FactorId, providers: &Providers) -> Self {
        match proof {
            Proof::Idp { act, id_token } => Self::Idp {
                act: *act,
                factor: factor.clone(),
                id_token: id_token.clone(),
                key: providers.key_of(id_token),
            },
            Proof::Passkey { .. } => Self::Passkey {
                proof: proof.clone(),
            },
            Proof::PinTotp { act, .. } => Self::PinTotp {
                act: *act,
                factor: factor.clone(),
            },
            Proof::Device { act, sig, .. } => Self::Device {
                act: *act,
                factor: factor.clone(),
                sig: sig.clone(),
            },
        }
    }

    /// Its digest, which goes into the order to the module.
    ///
    /// # Errors
    /// [`Reason::NotNow`] when it can't be written.
    pub fn digest(&self) -> Result<Digest32, Reason> {
        let json = serde_json::to_vec(self).map_err(|_| Reason::NotNow)?;
        Ok(core_types::sha256(&[b"natsuin-proof-v1\n", &json]))
    }
}

/// Evidence of an enrolment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// The enrol act, compact JWS.
    pub act: String,
    /// The `sam-keys` statement.
    pub statement: String,
    /// The invitation: the RA's JWS, or the SSA's JSON.
    pub invite: String,
    /// Public parts of the factors.
    pub factors: Vec<PublicFactor>,
    /// `clientDataJSON` and `attestationObject` of the passkey, if one was registered.
    pub registration: Option<[B64; 2]>,
    /// Time.
    pub at: UnixTime,
    /// State of the SAM's clock then.
    pub clock: ClockState,
    /// Version of this software.
    pub software: String,
}

/// Evidence of signature values. The values themselves aren't in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// Digest of the act.
    pub act: Digest32,
    /// Digest of the evidence of its approval.
    pub approval: Digest32,
    /// Name of the order to the module.
    pub order: Digest32,
    /// Algorithm used.
    pub alg: SigAlg,
    /// Items, in the order asked.
    pub indices: Vec<u32>,
    /// Of an act without items (`sign-open`): what was signed, which nobody was shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filled: Vec<B64>,
    /// SHA-256 of each value.
    pub values: Vec<Digest32>,
    /// Certificates in DER, the signer's first.
    pub certificates: Vec<B64>,
    /// The authority's approval of the first one (`natsuin-certify+jws`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certify: Option<String>,
    /// Epoch of the store.
    pub epoch: Digest32,
    /// Time.
    pub at: UnixTime,
    /// State of the SAM's clock then.
    pub clock: ClockState,
    /// Version of this software.
    pub software: String,
}
