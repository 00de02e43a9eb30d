//! The life of keys and factors as the SSA may ask about it: stopping, leaving, changing factors, what happened.

use core_types::{
    B64, ClientId, Digest32, FactorId, KeyId, Level, OriginCase, PersonId, UnixTime, VoucherId,
};
use jose::Jwk;
pub use sap::messages::NoticeRequest;
use sap::proof::Method;
use serde::{Deserialize, Serialize};

/// Request of [`crate::ssa::Ask`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskRequest {
    /// The person, as logged in at the SSA.
    pub person: PersonId,
    /// What they want.
    pub wish: Wish,
    /// Where the page goes afterwards; as in [`crate::ssa::PrepareRequest`].
    #[serde(rename = "return")]
    pub return_uri: String,
    /// Life of the request in seconds, at most 24 h.
    pub ttl: i64,
}

/// What a person wants to change. Every wish becomes an act that they prove on the SIC page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Wish {
    /// Stop a key for a while; any factor of its registration will do.
    Suspend {
        /// Key.
        key: KeyId,
    },
    /// Let a stopped key be used again.
    Resume {
        /// Key.
        key: KeyId,
    },
    /// Destroy a key for good.
    Destroy {
        /// Key.
        key: KeyId,
    },
    /// End a registration: its keys are destroyed, its factors removed.
    Leave {
        /// Registration.
        registration: VoucherId,
    },
    /// Add a factor.
    AddFactor {
        /// Registration.
        registration: VoucherId,
        /// Method of the new factor.
        method: Method,
    },
    /// Add a device key with a PIN.
    AddDevice {
        /// Registration.
        registration: VoucherId,
        /// Public half of the device key.
        key: Jwk,
    },
    /// Remove a factor.
    RemoveFactor {
        /// Factor.
        factor: FactorId,
    },
    /// Change the PIN of a factor.
    ChangePin {
        /// Factor.
        factor: FactorId,
    },
    /// Unlock a factor that was locked after failures.
    UnlockFactor {
        /// Factor.
        factor: FactorId,
    },
    /// Bring a key that was made elsewhere.
    Import {
        /// Registration whose factors will authorize it.
        registration: VoucherId,
        /// SubjectPublicKeyInfo of the key, DER.
        spki: B64,
        /// Where it was made, and who brings it.
        case: OriginCase,
        /// Level that it is to have.
        level: Level,
    },
    /// Have a key handed over; it is of no use here any more.
    HandOver {
        /// Key.
        key: KeyId,
        /// Key of the receiver.
        receiver: Jwk,
    },
}

/// Request of [`crate::ssa::Stop`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// Owner, as logged in at the SSA.
    pub person: PersonId,
    /// Key.
    pub key: KeyId,
    /// [`crate::ssa::KeyInfo::changes`] as the person saw it: a call from before the last change does nothing.
    pub changes: u32,
}

/// Why a key stopped (`termination_cause` of the guideline, and what the platform itself finds).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopCause {
    /// The signer, by an act with their proof.
    Signer,
    /// Somebody logged in as the signer. Can be undone by the signer's proof only.
    Login,
    /// A registered authority put the certificate on hold.
    Hold,
    /// The certificate was revoked.
    Revoked,
    /// The certificate expired.
    Expired,
    /// The signer left.
    Left,
    /// All factors were lost; the person enrolled anew.
    FactorsLost,
    /// The module made a value that doesn't verify.
    WrongValue,
    /// Its owner had it handed over.
    HandedOver,
    /// The provider, by two officers.
    Provider,
    /// It was made for one act, and that act is over.
    Used,
}

impl StopCause {
    /// The text of it in the message files; `destroyed`: the key is gone for good.
    pub fn message(self, destroyed: bool) -> &'static str {
        match self {
            Self::Signer if destroyed => "portal-destroyed-by-you",
            Self::Signer => "portal-stopped-signer",
            Self::Login => "portal-stopped-login",
            Self::Hold => "portal-stopped-hold",
            Self::Revoked => "portal-stopped-revoked",
            Self::Expired => "portal-stopped-expired",
            Self::Left => "portal-stopped-left",
            Self::FactorsLost => "portal-stopped-factors-lost",
            Self::HandedOver if destroyed => "portal-handed-over",
            Self::HandedOver => "portal-handing-over",
            Self::WrongValue => "portal-stopped-wrong-value",
            Self::Provider => "portal-stopped-provider",
            Self::Used => "portal-stopped-used",
        }
    }
}

/// Why and since when a key is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopInfo {
    /// Why.
    pub cause: StopCause,
    /// Since when it can't be used.
    pub at: UnixTime,
    /// Of a destroyed key: no copy can bring it back after this time, once the module has said so.
    pub unrecoverable_after: Option<UnixTime>,
    /// Of a destroyed key: the module's certificate of it (`natsuin-destruction+jws`).
    pub certificate: Option<String>,
}

/// Request of [`crate::ssa::Factors`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactorsRequest {
    /// The person.
    pub person: PersonId,
}

/// Answer of [`crate::ssa::Factors`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactorsAnswer {
    /// Factors of the person, oldest first.
    pub factors: Vec<FactorInfo>,
}

/// A factor as the SSA may know it: nothing that proves anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactorInfo {
    /// Id.
    pub factor: FactorId,
    /// Registration it belongs to.
    pub registration: VoucherId,
    /// Method.
    pub method: Method,
    /// Highest level at which it counts.
    pub level: Level,
    /// Made at.
    pub created: UnixTime,
    /// Whether it is locked, and until when; a far future means until it is unlocked.
    pub locked_until: Option<UnixTime>,
}

/// Request of [`crate::ssa::History`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryRequest {
    /// The person.
    pub person: PersonId,
}

/// Answer of [`crate::ssa::History`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryAnswer {
    /// What happened, newest first; the SAM keeps the last 100.
    pub entries: Vec<HistoryEntry>,
    /// Whether the SAM tells the person of it by mail, too.
    #[serde(default)]
    pub mailed: bool,
}

/// Something that happened to a person's keys or factors: the notice to the signer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryEntry {
    /// When.
    pub at: UnixTime,
    /// What.
    pub what: Happened,
    /// The key, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    /// The factor, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<FactorId>,
    /// What a receipt shows: digest of the act that was approved, of the notice that was heeded, or of the evidence of what a CA
    /// published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Digest32>,
    /// Digest of the proposal, where officers decided it. Its evidence names them, and is given out by officers only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposal: Option<Digest32>,
    /// Why, if a key stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<StopCause>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Happened {
    /// A key was stopped for a while.
    Suspended,
    /// A key may be used again.
    Resumed,
    /// A key was destroyed.
    Destroyed,
    /// A registration ended.
    Left,
    /// A person enrolled.
    Enrolled,
    /// A factor was added.
    FactorAdded,
    /// A factor was removed.
    FactorRemoved,
    /// A PIN was changed.
    PinChanged,
    /// A factor was locked after failures.
    FactorLocked,
    /// A factor was unlocked.
    FactorUnlocked,
    /// That a key may be brought was approved.
    ImportApproved,
    /// A key that was made elsewhere came in.
    Imported,
    /// A key was handed over.
    HandedOver,
    /// Officers approved that new factors take the place of lost ones, after a waiting time.
    FactorsOrdered,
    /// The certificate of a key is about to end.
    CertificateEnding,
}

impl Happened {
    /// The text of it in the message files.
    pub fn message(self) -> &'static str {
        match self {
            Self::Suspended => "portal-happened-suspended",
            Self::Resumed => "portal-happened-resumed",
            Self::Destroyed => "portal-happened-destroyed",
            Self::Left => "portal-happened-left",
            Self::Enrolled => "portal-happened-enrolled",
            Self::FactorAdded => "portal-happened-factor-added",
            Self::FactorRemoved => "portal-happened-factor-removed",
            Self::PinChanged => "portal-happened-pin-changed",
            Self::FactorLocked => "portal-happened-factor-locked",
            Self::FactorUnlocked => "portal-happened-factor-unlocked",
            Self::ImportApproved => "portal-happened-import-approved",
            Self::Imported => "portal-happened-imported",
            Self::HandedOver => "portal-happened-handed-over",
            Self::FactorsOrdered => "portal-happened-factors-ordered",
            Self::CertificateEnding => "portal-happened-certificate-ending",
        }
    }
}

/// Request of [`crate::ssa::HandedOver`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandedOverRequest {
    /// The person.
    pub person: PersonId,
    /// Digest of the act with which they had the key handed over.
    pub act: Digest32,
}

/// Answer of [`crate::ssa::HandedOver`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandedOverAnswer {
    /// The key.
    pub key: KeyId,
    /// The sealed private key, a JWE for the receiver (`sam_keys::import::take_over`).
    pub sealed: String,
    /// Kept until then.
    pub until: UnixTime,
}

/// Request of [`crate::ssa::Signatures`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignaturesRequest {
    /// The person.
    pub person: PersonId,
}

/// Answer of [`crate::ssa::Signatures`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignaturesAnswer {
    /// At most 50, newest first.
    pub entries: Vec<SignedEntry>,
}

/// Signatures that were made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedEntry {
    /// When.
    pub at: UnixTime,
    /// Digest of the act.
    pub act: Digest32,
    /// Client that asked.
    pub client: ClientId,
    /// Key.
    pub key: KeyId,
    /// Number of values.
    pub count: u32,
}

/// Request of [`crate::ssa::Receipt`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptRequest {
    /// The person.
    pub person: PersonId,
    /// Digest of the act.
    pub act: Digest32,
}

/// Request of [`crate::ssa::ReceiptOf`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptOfRequest {
    /// The client that got the signature: it sees no other's.
    pub client: ClientId,
    /// The person, if the client's token is theirs.
    pub person: Option<PersonId>,
    /// Key.
    pub key: KeyId,
    /// SHA-256 of the signature value.
    pub value: Digest32,
}

/// Answer of [`crate::ssa::Receipt`] and [`crate::ssa::ReceiptOf`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptAnswer {
    /// The bundle, JSON; checked offline by `natsuin evidence verify`.
    pub bundle: String,
}
