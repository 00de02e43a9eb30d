//! How far it is with ending all keys ([`Measure::EndKeys`](super::Measure::EndKeys)): what officers are told, until the last key is
//! destroyed and afterwards (`I-A4.4-provider-end`).

use core_types::{Digest32, KeyId, SecretBytes, TenantId, UnixTime};
use serde::{Deserialize, Serialize};

use super::EndCause;
use crate::proof::secret_text;

/// Answer of [`ProposalProgress`](super::calls::ProposalProgress).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Because of what.
    pub cause: EndCause,
    /// Of each tenant whose keys ended with this proposal; the provider's own is one of them.
    pub parts: Vec<Part>,
    /// Nothing is left to do: every key that was there is destroyed, and the module has certified it.
    pub complete: bool,
}

/// The keys of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Tenant.
    pub tenant: TenantId,
    /// When they ended: no signature has begun since.
    pub at: UnixTime,
    /// How many there were.
    pub keys: u64,
    /// How many of them are marked as gone, each with an entry of its own in the log.
    pub ended: u64,
    /// How many of these the module has destroyed and certified, with the time from which no copy brings them back.
    pub destroyed: u64,
    /// How many of these wait for the module.
    pub waiting: u64,
    /// How many persons were told in their records, and by mail if an address is known.
    pub told: u64,
    /// Every key was looked at, and none is left to be marked. Those that ended in another way meanwhile aren't in `ended`.
    pub all_seen: bool,
}

/// Request of [`ProposalCertificates`](super::calls::ProposalCertificates).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificatesRequest {
    /// Token of the session.
    #[serde(with = "secret_text")]
    pub session: SecretBytes,
    /// Digest of the proposal's document.
    pub proposal: Digest32,
    /// `next` of the answer before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Answer of [`ProposalCertificates`](super::calls::ProposalCertificates).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificates {
    /// Some of them; there may be none here and more behind `next`.
    pub keys: Vec<Destroyed>,
    /// Where to go on, unless this is all.
    pub next: Option<String>,
}

/// A key that ended with the proposal and is destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destroyed {
    /// Key.
    pub key: KeyId,
    /// The module's certificate of destruction (`natsuin-destruction+jws`), which names the proposal as the act that decided it.
    pub certificate: String,
}
