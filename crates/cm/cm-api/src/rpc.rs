//! The CM's methods and the port through which the SAM calls them.

use std::future::Future;

pub use core_types::rpc::Empty;
use core_types::rpc::Method;
use core_types::{B64, Digest32, FactorId, KeyId, Level, SecretBytes, UnixTime};
use jose::Jwk;
use serde::{Deserialize, Serialize};

use crate::ceremony::{CeremonyRequest, Held};
use crate::endorsement::Endorsement;
use crate::order::Order;

/// Why the CM said no. A refusal is definite: no private-key operation took place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// Order or statement isn't authentic, or from another SAM.
    #[error("order or statement is not authentic")]
    NotAuthentic,
    /// Order or statement is past its time, or too far ahead.
    #[error("order or statement is not valid now")]
    NotNow,
    /// This order was executed before.
    #[error("the order was executed before")]
    Duplicate,
    /// No such key, or its record was tampered with, or version or public key differ.
    #[error("no such key in this version")]
    NoSuchKey,
    /// The key may not be used for this purpose, algorithm or beyond its limits.
    #[error("the key's attributes don't allow this: {0}")]
    NotAllowed(Reason),
    /// Members of the order are wrong.
    #[error("the order is malformed")]
    Malformed,
    /// The module is locked or in its error state, can't write its audit log, or its device is away. Definite too.
    #[error("the module is not operational")]
    NotOperational,
}

/// Which attribute refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Purpose, such as a second CSR.
    #[error("purpose")]
    Purpose,
    /// Algorithm.
    #[error("algorithm")]
    Algorithm,
    /// Number of uses.
    #[error("number of uses")]
    Uses,
    /// Level of the back end.
    #[error("level")]
    Level,
    /// The end of the key's own time.
    #[error("time")]
    Time,
    /// An import at level 3.
    #[error("III-3-15-import-L3: signing keys aren't imported at level 3")]
    ImportL3,
    /// An import at level 2 that no trusted CA signed.
    #[error("III-3-15-import-L2: at level 2 only a trusted CA may send a key")]
    ImportL2,
    /// An import at level 2 from a CA of which nobody declares how it makes keys.
    #[error("I-3.5.1-import-L2-ca-keygen: how the CA makes keys isn't declared")]
    CaKeygen,
    /// The owner isn't confirmed: for another person or act, or without proof of possession.
    #[error("III-3-15-import-L1: the key isn't proven to be this person's")]
    ImportL1,
    /// A key that is stronger than what it travels under.
    #[error("III-A1.2-wrapping-strength: the key is stronger than the import key")]
    WrappingStrength,
    /// What was sent isn't sealed to this module, or isn't the key it is said to be.
    #[error("III-3-9-protected-import-export: not a sealed key for this module")]
    NotThisKey,
    /// The module has or had this key already.
    #[error("I-4.2.2a-existing-key: the key is known already")]
    KnownKey,
    /// The key can be broken, or may be.
    #[error("I-4.2.2a-existing-key: the key is weak")]
    WeakKey,
    /// The key may not leave.
    #[error(
        "III-3-17-retention-L2-no-export, III-3-9-attributed-keys: the key may not leave the module"
    )]
    Export,
    /// A key for one act was ordered to sign by another one, or by an act that may have further steps.
    #[error("the key is for one act")]
    OneTime,
    /// The key under which it is wrapped isn't in the device.
    #[error("the wrapping key is missing")]
    NoWrappingKey,
    /// A value that the back end made with this key was wrong: it isn't used any more.
    #[error("a value of the key was wrong")]
    WrongValue,
    /// The key was handed over.
    #[error("the key was handed over and is of no use here")]
    HandedOver,
    /// The log's last checkpoint was of a larger tree, or of another one of this size.
    #[error("a checkpoint that contradicts this one was signed before")]
    OtherTree,
    /// This act's share of uses or time is used up: the signer has to approve anew (`III-3-6-reauthorization-limits`).
    #[error("re-authorization")]
    Reauthorization,
}

impl Reason {
    /// Its word for the log, as on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Purpose => "purpose",
            Self::Algorithm => "algorithm",
            Self::Uses => "uses",
            Self::Level => "level",
            Self::Time => "time",
            Self::ImportL3 => "import-l3",
            Self::ImportL2 => "import-l2",
            Self::CaKeygen => "ca-keygen",
            Self::ImportL1 => "import-l1",
            Self::WrappingStrength => "wrapping-strength",
            Self::NotThisKey => "not-this-key",
            Self::KnownKey => "known-key",
            Self::WeakKey => "weak-key",
            Self::Export => "export",
            Self::OneTime => "one-time",
            Self::NoWrappingKey => "no-wrapping-key",
            Self::WrongValue => "wrong-value",
            Self::HandedOver => "handed-over",
            Self::OtherTree => "other-tree",
            Self::Reauthorization => "reauthorization",
        }
    }

    /// The requirement that a key which was to come in or to leave doesn't meet, where it is one.
    pub fn requirement(self) -> Option<&'static str> {
        Some(match self {
            Self::ImportL1 => "III-3-15-import-L1",
            Self::ImportL2 => "III-3-15-import-L2",
            Self::ImportL3 => "III-3-15-import-L3",
            Self::CaKeygen => "I-3.5.1-import-L2-ca-keygen",
            Self::WrappingStrength => "III-A1.2-wrapping-strength",
            Self::NotThisKey => "III-3-9-protected-import-export",
            Self::KnownKey | Self::WeakKey => "I-4.2.2a-existing-key",
            Self::Algorithm => "III-3-2-approved-algorithms",
            Self::Level => "I-3.5.1-retention-L2",
            Self::Export => "III-3-9-attributed-keys",
            Self::Purpose
            | Self::OneTime
            | Self::NoWrappingKey
            | Self::Uses
            | Self::Time
            | Self::WrongValue
            | Self::HandedOver
            | Self::Reauthorization
            | Self::OtherTree => return None,
        })
    }
}

/// Answer to [`Root`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootAnswer {
    /// Public half of `K_root`.
    pub root: Jwk,
}

/// Request of [`Statement`]; the CM adds nothing but its signature.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatementRequest {
    /// Name of the SAM; fixed by the first statement.
    pub sam: String,
    /// Epoch of the SAM's store.
    pub epoch: Digest32,
    /// Public `K_act`.
    pub act: Jwk,
    /// Public `K_seal`.
    pub seal: Jwk,
    /// Valid from.
    pub nbf: UnixTime,
    /// Valid until, at most 48 h later.
    pub exp: UnixTime,
    /// The word of earlier act keys for all of this. The module gives a statement without one of a key that it knows for its first SAM, and when
    /// officers let another one follow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endorsements: Vec<Endorsement>,
}

/// Answer to [`ImportKey`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportKeyAnswer {
    /// The import key, a JWS by `K_root` (`sam_keys::import::ImportKey`).
    pub statement: String,
}

/// Answer to [`Statement`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatementAnswer {
    /// The `sam-keys` statement, compact JWS by `K_root`.
    pub statement: String,
}

/// Request of [`RowKey`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowKeyRequest {
    /// The wrapped key, or nothing to make a new one.
    pub wrapped: Option<B64>,
}

/// Answer to [`RowKey`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowKeyAnswer {
    /// `K_row`, 32 bytes, for the SAM's memory only.
    pub key: SecretBytes,
    /// The wrapped form, for the SAM's database.
    pub wrapped: B64,
}

/// Request of [`PinMac`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinMacRequest {
    /// Factor to which the PIN belongs; goes into the MAC.
    pub factor: FactorId,
    /// Argon2id output over the PIN, 32 bytes.
    pub hash: SecretBytes,
}

/// Answer to [`PinMac`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinMacAnswer {
    /// HMAC-SHA-256 with `K_pin`.
    pub mac: SecretBytes,
}

/// Request of [`Execute`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecuteRequest {
    /// Current `sam-keys` statement.
    pub statement: String,
    /// The order.
    pub order: Order,
}

/// Answer to [`Execute`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Executed {
    /// A key was made.
    Created(KeyCreated),
    /// Signature values in the order of the items: RSA as a block of modulus length, ECDSA as DER. Of a checkpoint: one.
    Signed(Vec<B64>),
    /// The same, each value with the provider's counter-signature over it.
    CounterSigned {
        /// Signature values.
        values: Vec<B64>,
        /// SignerInfo (RFC 5652 §11.4, DER) in the order of the values.
        counter: Vec<B64>,
    },
    /// The order is spent, and a value was made that is wrong. All values were destroyed, and the key can't be used any
    /// more.
    WrongValue,
    /// A key was destroyed.
    Destroyed(KeyDestroyed),
    /// A key leaves: a JWE for the receiver (`sam_keys::import::take_over`).
    HandedOver(String),
}

/// A new key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyCreated {
    /// Id.
    pub key: KeyId,
    /// Version of its attributes, 1.
    pub version: u32,
    /// SubjectPublicKeyInfo, DER.
    pub spki: B64,
    /// Back end that holds it, such as `software`.
    pub origin: String,
    /// The origin statement, a JWS by `K_root` (`sam_keys::Origin`).
    pub statement: String,
}

/// The end of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyDestroyed {
    /// Id.
    pub key: KeyId,
    /// *Unusable since*: the module has refused every use from then on.
    pub unusable_since: UnixTime,
    /// *Unrecoverable after*: no copy of the store, of the device or of a backup can bring it back any more. Nothing as
    /// long as the device couldn't be reached for erasing its copy.
    pub unrecoverable_after: Option<UnixTime>,
    /// The certificate for the signer, a JWS by `K_root` (`sam_keys::Destruction`).
    pub certificate: String,
}

/// Request of [`SwitchModule`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchRequest {
    /// Approvals of the same bytes ([`crate::switch::Switch`]) by two officers.
    pub approvals: Vec<String>,
}

/// Request of [`ChangeWrapping`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrappingRequest {
    /// Begin a change, unless one runs; or only tell how far it is.
    pub begin: bool,
}

/// Answer to [`ChangeWrapping`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wrapping {
    /// Whether a change runs.
    pub running: bool,
    /// Keys that it has wrapped anew, or the last one did.
    pub keys: u64,
    /// Wrapping keys that were destroyed at its end: no backup of the module from before gives back a key that was under them.
    pub retired: u32,
}

/// Answer to [`Status`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Whether orders are executed.
    pub operational: bool,
    /// State in words.
    pub state: ModuleState,
    /// Number of the last enabling or disabling; 0 if there was none.
    pub switched: u64,
    /// Back end, such as `software` or `pkcs11`.
    pub backend: String,
    /// Highest level of generation and retention.
    pub ceiling: Level,
    /// Whether keys may be made that their owners can have handed over.
    #[serde(default)]
    pub exports: bool,
    /// What the device says of itself, when keys are made and stay inside one: maker, model and firmware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The evaluation that a ceiling above level 1 rests on, as the operator declares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declaration: Option<String>,
    /// Why nobody who writes to the database writes to the file of its log's witness, as the operator declares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness_declaration: Option<String>,
    /// In the state *error*: when the self-tests passed since then, which officers want to know before they let it go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tested: Option<UnixTime>,
    /// In the state *error*: names the node, its start, and how often something was found wrong since. Officers approve to leave
    /// this error and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its devices and how they are, where it has several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
}

/// One of several devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// What it says of itself: maker, model and firmware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// How it is.
    pub state: MemberState,
}

/// State of one of several devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberState {
    /// It does what is asked.
    Well,
    /// It couldn't be used lately, and is asked again.
    Away,
    /// It didn't answer, and is left alone until it answers a question that costs nothing.
    Resting,
    /// It failed its test, made a wrong value, or came and isn't what is declared: not used any more by this process.
    Out,
    /// It wasn't there at the start, or didn't prove yet that it shares the keys of the others: used when it does.
    Awaited,
}

/// State of the module (`III-3-13-secure-state`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleState {
    /// The device wants a person, such as after a refused PIN: nothing is executed, and nothing is tried again.
    Locked,
    /// Orders are executed.
    Operational,
    /// The device failed lately: orders are tried, and the first that succeeds ends this state. Or one of several can't be used.
    Degraded,
    /// Two officers disabled it: nothing is executed until two officers enable it.
    Disabled,
    /// A test failed or a value was wrong: no private-key operation any more until all tests pass, at a restart or when two
    /// officers let it go on.
    Error,
}

core_types::methods! {
    refusal = Refusal;
    /// The public root key.
    Root: "/cm/v1/root", Empty => RootAnswer;
    /// Signs a `sam-keys` statement.
    Statement: "/cm/v1/statement", StatementRequest => StatementAnswer;
    /// Makes or unwraps the key that seals the SAM's rows.
    RowKey: "/cm/v1/row-key", RowKeyRequest => RowKeyAnswer;
    /// Keyed hash of a PIN.
    PinMac: "/cm/v1/pin-mac", PinMacRequest => PinMacAnswer;
    /// Executes an order once.
    Execute: "/cm/v1/execute", ExecuteRequest => Executed;
    /// The key to which keys from elsewhere are sealed.
    ImportKey: "/cm/v1/import-key", Empty => ImportKeyAnswer;
    /// State of the module.
    Status: "/cm/v1/status", Empty => Health;
    /// Enables or disables the module.
    SwitchModule: "/cm/v1/switch", SwitchRequest => Health;
    /// Makes or ends a key of the provider.
    HoldCeremony: "/cm/v1/ceremony", CeremonyRequest => Held;
    /// Changes the key under which the back end wraps, while keys are used; answers how far that is.
    ChangeWrapping: "/cm/v1/wrapping", WrappingRequest => Wrapping;
    /// Runs the self-tests now; answers the state after them. Alone they never end the state *error*.
    SelfTest: "/cm/v1/self-test", Empty => Health;
}

/// What can become of a call to the CM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModuleError {
    /// Definite: nothing was done.
    #[error("the cryptographic module refused: {0}")]
    Refused(#[from] Refusal),
    /// Nobody knows whether it was done: no answer, or not a whole one.
    #[error("the cryptographic module's answer is unknown")]
    Unknown,
}

/// The SAM's port to the CM. Implemented over mutual TLS by the composition root, and in process by tests.
pub trait CryptoModule: Send + Sync + 'static {
    /// Calls one method.
    ///
    /// # Errors
    /// [`ModuleError`]; only [`ModuleError::Refused`] means that nothing happened.
    fn call<M>(
        &self,
        request: &M::Request,
    ) -> impl Future<Output = Result<M::Response, ModuleError>> + Send
    where
        M: Method<Refusal = Refusal>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_the_words_of_the_wire() {
        for word in [
            "import-l3",
            "ca-keygen",
            "one-time",
            "reauthorization",
            "uses",
        ] {
            let reason: Reason = serde_json::from_str(&format!("\"{word}\"")).unwrap();
            assert_eq!(reason.word(), word);
        }
    }
}
