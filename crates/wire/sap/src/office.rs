//! Officers: persons in privileged roles, and the proposals that take two of them (`sap.md` §9, part I 7.1.1).
//!
//! An *officer* is a natural person. What logs in and approves is an *account* of an officer, whose id begins with
//! [`ACCOUNT`]; nobody else's does. A *proposal* is a [`Measure`] with a reason, fixed as a
//! [`Document`]; each approver proves an act of kind `officer` that names the document by its digest.

pub mod calls;
pub mod ending;
mod separation;

use core_types::{ClientId, Digest32, KeyId, OfficerId, PersonId, TenantId, UnixTime, VoucherId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::act::Version1;
use crate::level::KeyAssurance;
pub use separation::excluded;

/// `typ` of the record with which an installation begins, signed by its recovery key.
pub const TYP_GENESIS: &str = "natsuin-genesis+jws";
/// `typ` of what opens an installation again, signed by its recovery key.
pub const TYP_REOPEN: &str = "natsuin-reopen+jws";
/// What ids of privileged accounts begin with, so that none can be a signer's (`I-7.1.1.5`).
pub const ACCOUNT: &str = "officer.";
/// Longest name and reason in characters.
pub const MAX_WORDS: usize = 200;
/// `what` of the act with which somebody logs in.
pub const LOG_IN: &str = "log-in";

/// Whether this is the id of a privileged account.
pub fn is_account(id: &PersonId) -> bool {
    id.as_str().starts_with(ACCOUNT)
}

/// A privileged role (`I-7.1.1.2`). The list is the guideline's and can't be reduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Answers for the security policy, manages what is relevant to security.
    SecurityOfficer,
    /// Installs, configures, maintains.
    SystemAdministrator,
    /// Runs the service, backs it up, recovers it.
    SystemOperator,
    /// Reads archives and audit logs.
    SystemAuditor,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::SecurityOfficer,
        Self::SystemAdministrator,
        Self::SystemOperator,
        Self::SystemAuditor,
    ];
}

/// An office: roles for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Office {
    /// Roles, without doubles.
    pub roles: Vec<Role>,
    /// Declares that administrator and operator are one person here, which should not be (`I-7.1.1.4`). No other pair can be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub both: bool,
    /// The appointment ends here, exclusive.
    pub until: UnixTime,
    /// The training it rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<Training>,
}

/// A training that somebody had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// When.
    pub at: UnixTime,
    /// When it has to be repeated.
    pub until: UnixTime,
}

/// What officers can propose. The vocabulary is closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "measure", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Measure {
    /// Appoint a person to an office, with a first account.
    Appoint {
        /// Id of the person.
        officer: OfficerId,
        /// Name.
        name: String,
        /// Commitment to what tells this person from all others, such as a staff number: nobody is appointed twice.
        identity: Digest32,
        /// The office.
        office: Office,
        /// First account.
        account: PersonId,
        /// SHA-256 of the 16-byte secret with which the person enrols a passkey for it.
        secret: Digest32,
    },
    /// Give an officer another account; or, for an account they have, a new invitation. If the account has a passkey that counts,
    /// the invitation comes after a waiting time, and the passkey ends when it is used.
    Account {
        /// The officer.
        officer: OfficerId,
        /// The account.
        account: PersonId,
        /// As above.
        secret: Digest32,
    },
    /// Say that the passkey of an account, enrolled by a link, is its officer's. The account itself asks for it, and does nothing
    /// else before.
    Confirm {
        /// The officer.
        officer: OfficerId,
        /// The account.
        account: PersonId,
        /// Fingerprint of the passkey, as its owner reads it out from their own page.
        passkey: String,
    },
    /// Change roles, renew an appointment, record a training.
    Office {
        /// The officer.
        officer: OfficerId,
        /// The office from here on.
        office: Office,
    },
    /// Remove an officer with all accounts.
    Dismiss {
        /// The officer.
        officer: OfficerId,
    },
    /// Stop a signer's key, let it go on, or destroy it.
    Key {
        /// Key.
        key: KeyId,
        /// What.
        action: KeyAction,
    },
    /// Let a signer whose factors are lost enrol a new one for the keys they have, after a waiting time.
    Factors {
        /// The signer.
        person: PersonId,
        /// The registration.
        registration: VoucherId,
        /// SHA-256 of the 16-byte secret that reaches the signer on a channel that isn't the SSA's.
        secret: Digest32,
    },
    /// Register an application at the SAM: the name that signers see, and keys with which it signs its requests.
    Client {
        /// Client.
        client: ClientId,
        /// Name.
        name: String,
        /// Public keys (JWK). With one here, no unsigned request of the client is taken.
        keys: Vec<Value>,
    },
    /// Remove an application from the SAM's records.
    ForgetClient {
        /// Client.
        client: ClientId,
    },
    /// Admit settings, which take effect at the next start.
    Settings {
        /// Which.
        part: Part,
        /// SHA-256 of the settings, as the daemon computes and reports it.
        digest: Digest32,
    },
    /// Enable or disable the cryptographic module. Each approval needs the officer's own signature for the module too.
    Module {
        /// To be usable, or not.
        enabled: bool,
    },
    /// Delete from the log what an archive has.
    DeleteArchived {
        /// Of which zone.
        zone: Zone,
        /// SHA-256 of the archive's list.
        archive: Digest32,
        /// Entries below this place; a multiple of 256.
        size: u64,
    },
    /// Forget who somebody was, in all zones, once nothing has to be kept of them any more.
    ForgetPerson {
        /// Commitment to the person with a salt, which whoever has to know is told otherwise: what is approved is kept, and
        /// must name nobody.
        subject: Digest32,
    },
    /// End all keys there are, for good (`I-A4.4-provider-end`): none signs from then on, none is made any more, and all are
    /// destroyed.
    EndKeys {
        /// Of this tenant; absent = of the whole service.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<TenantId>,
        /// Because of what.
        cause: EndCause,
    },
}

/// Because of what all keys end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndCause {
    /// The service ends. What an owner had approved to be handed over before goes to its receiver first.
    EndOfService,
    /// Something happened, such as a leak. Nothing is waited for.
    Incident,
}

impl EndCause {
    /// The word for it, as in the member `cause`.
    pub fn code(self) -> &'static str {
        match self {
            Self::EndOfService => "end-of-service",
            Self::Incident => "incident",
        }
    }
}

/// What the provider does to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyAction {
    /// It stops for a while.
    Suspend,
    /// What the provider or the platform stopped may go on.
    Resume,
    /// It is gone for good.
    Destroy,
}

/// Settings that take two officers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Policy of levels, and which authenticators are vouched for.
    Policy,
    /// Parameters of the audit function.
    Audit,
}

/// `typ` of a [`Warrant`].
pub const TYP_WARRANT: &str = "natsuin-warrant+jws";

/// The SAM's word to whoever carries out an approved proposal, signed by `K_act`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warrant {
    /// Format version, 1.
    pub v: Version1,
    /// SAM.
    pub sam: String,
    /// Epoch of its store.
    pub epoch: Digest32,
    /// Digest of the [`Document`].
    pub proposal: Digest32,
    /// Digest of the evidence of each approval.
    pub evidence: Vec<Digest32>,
    /// Who approved, in the same order.
    pub officers: Vec<OfficerId>,
    /// When it was taken.
    pub at: UnixTime,
    /// Not carried out at or after this time.
    pub exp: UnixTime,
}

/// A zone with a store of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Zone {
    /// Cryptographic module.
    Cm,
    /// Signature activation module.
    Sam,
    /// Server application.
    Ssa,
}

impl Measure {
    /// The word for it, as in the member `measure`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Appoint { .. } => "appoint",
            Self::Account { .. } => "account",
            Self::Confirm { .. } => "confirm",
            Self::Office { .. } => "office",
            Self::Dismiss { .. } => "dismiss",
            Self::Key { .. } => "key",
            Self::Factors { .. } => "factors",
            Self::Client { .. } => "client",
            Self::ForgetClient { .. } => "forget-client",
            Self::Settings { .. } => "settings",
            Self::Module { .. } => "module",
            Self::DeleteArchived { .. } => "delete-archived",
            Self::ForgetPerson { .. } => "forget-person",
            Self::EndKeys { .. } => "end-keys",
        }
    }

    /// The officer it is about, who approves it never, and asks for it only to have the own passkey confirmed.
    pub fn subject(&self) -> Option<&OfficerId> {
        match self {
            Self::Appoint { officer, .. }
            | Self::Account { officer, .. }
            | Self::Confirm { officer, .. }
            | Self::Office { officer, .. }
            | Self::Dismiss { officer } => Some(officer),
            _ => None,
        }
    }
}

/// A proposal as it is approved: exact bytes, the same for everybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Format version, 1.
    pub v: Version1,
    /// SAM.
    pub sam: String,
    /// Tenant.
    pub tenant: TenantId,
    /// 32 random bytes.
    pub nonce: Digest32,
    /// What.
    pub measure: Measure,
    /// What the SAM knew of it when it was asked for.
    pub facts: Facts,
    /// Why, in the words of who asks.
    pub reason: String,
    /// Who asks.
    pub requester: Requester,
    /// When.
    pub at: UnixTime,
    /// Not approved at or after this time.
    pub exp: UnixTime,
}

/// What approvers have to know beside the measure.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The tenant whose key or person it affects; absent = the provider's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// Person it affects: id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<PersonId>,
    /// Name of the officer or signer it affects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Subject of the key's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Of a key: its level, why it isn't higher, and where it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assurance: Option<KeyAssurance>,
    /// How often the state of key or factors had changed: the proposal is void when it changes again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<u32>,
    /// Digest of the registration's keys and factors, or of what the passkey of an account was enrolled with, as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Digest32>,
    /// Who asked for the account whose passkey is to be confirmed, which somebody else does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<OfficerId>,
    /// How many keys there were that would end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<u64>,
    /// The exact bytes that each approver signs for the module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<String>,
    /// When it takes effect at the earliest, if there is a waiting time: seconds after the last approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<i64>,
}

impl Facts {
    /// Whom it affects, as a sentence says it: another tenant's person with the tenant's name behind.
    pub fn whom(&self) -> String {
        let name = self.name.as_deref().unwrap_or_default();
        match &self.tenant {
            Some(tenant) => format!("{name} ({tenant})"),
            None => name.to_owned(),
        }
    }
}

/// Who makes a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requester {
    /// Account.
    pub account: PersonId,
    /// Person.
    pub officer: OfficerId,
    /// Name.
    pub name: String,
}

/// The record with which an installation begins. Payload of `natsuin-genesis+jws`, signed by the recovery key that is named in
/// it and that nobody holds: it is dealt to shares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// Format version, 1.
    pub v: Version1,
    /// SAM.
    pub sam: String,
    /// Tenant.
    pub tenant: TenantId,
    /// The module's root key.
    pub root: jose::Jwk,
    /// Public half of the recovery key.
    pub recovery: jose::Jwk,
    /// How many shares bring it back.
    pub need: u8,
    /// How many there are.
    pub of: u8,
    /// The security officers that are made together.
    pub officers: Vec<Founder>,
    /// Settings in force: name and digest.
    pub settings: Vec<(Part, Digest32)>,
    /// 32 random bytes.
    pub nonce: Digest32,
    /// When.
    pub at: UnixTime,
}

/// A security officer of the first hour, or of an installation that is opened again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Founder {
    /// Id of the person.
    pub officer: OfficerId,
    /// Name.
    pub name: String,
    /// As in [`Measure::Appoint`].
    pub identity: Digest32,
    /// Account.
    pub account: PersonId,
    /// The appointment ends here.
    pub until: UnixTime,
    /// The training it rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<Training>,
    /// Voucher with which the passkey is enrolled.
    pub voucher: VoucherId,
    /// SHA-256 of the voucher's secret.
    pub secret: Digest32,
    /// The voucher ends here.
    pub exp: UnixTime,
}

/// What opens an installation again that has fewer than three usable security officers. Payload of `natsuin-reopen+jws`, signed
/// by the recovery key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reopen {
    /// Format version, 1.
    pub v: Version1,
    /// Digest of the genesis record.
    pub genesis: Digest32,
    /// One more than the last one's; counts from 1.
    pub serial: u32,
    /// Security officers, new or known.
    pub officers: Vec<Founder>,
    /// When.
    pub at: UnixTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    // shows: T-USE-SAP-BYPASS
    #[test]
    fn measures_are_told_apart_by_their_word_and_nothing_is_added() {
        let key = KeyId::parse("k").unwrap();
        let measure = Measure::Key {
            key,
            action: KeyAction::Destroy,
        };
        let json = serde_json::to_value(&measure).unwrap();
        assert_eq!(json["measure"], measure.code());
        assert_eq!(
            serde_json::from_value::<Measure>(json.clone()).unwrap(),
            measure
        );
        for member in ["measure", "key", "action"] {
            let mut less = json.clone();
            less.as_object_mut().unwrap().remove(member);
            assert!(serde_json::from_value::<Measure>(less).is_err(), "{member}");
        }
        let mut more = json;
        more["also"] = "that".into();
        assert!(serde_json::from_value::<Measure>(more).is_err());
    }
}
