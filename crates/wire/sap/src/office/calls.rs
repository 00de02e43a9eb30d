//! Calls of officers to the SAM: `POST /sap/v1/office/…` with JSON bodies, at the gateway of the officers' origin only.

use core_types::{
    Digest32, KeyId, OfficerId, PeerId, PersonId, PersonName, SecretBytes, TenantId, UnixTime,
};
use serde::{Deserialize, Serialize};

use super::ending::{Certificates, CertificatesRequest, Progress};
use super::{Measure, Office};
use crate::act::Brand;
use crate::messages::{Empty, PasskeyHint, SapRefusalCode};
use crate::proof::{Proof, secret_text};

/// Why the SAM said no to an officer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfficeRefusal {
    /// What the page can do about it.
    pub code: SapRefusalCode,
    /// The rule or member that stands against it, such as `requester-approves`. Nothing about proofs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

core_types::methods! {
    refusal = OfficeRefusal;
    /// Mints the act with which an account logs in.
    LogInOpen: "/sap/v1/office/log-in/open", LogInOpenRequest => OfficeAct;
    /// Logs in by a proof over that act.
    LogIn: "/sap/v1/office/log-in", ProofRequest => LoggedIn;
    /// Ends the session.
    LogOut: "/sap/v1/office/log-out", SessionRequest => Empty;
    /// Asks for a proposal. It has no power until others have approved it.
    Propose: "/sap/v1/office/propose", ProposeRequest => ProposalInfo;
    /// Proposals: all that aren't over, then the newest of the others.
    Proposals: "/sap/v1/office/proposals", SessionRequest => ProposalsAnswer;
    /// Mints the act with which this officer approves a proposal; an older one of theirs dies.
    ProposalOpen: "/sap/v1/office/proposal/open", ProposalRequest => OfficeAct;
    /// Approves a proposal by a proof over that act.
    ProposalApprove: "/sap/v1/office/proposal/approve", ProofRequest => ProposalInfo;
    /// Ends a proposal: by who asked, or by who could have approved.
    ProposalEnd: "/sap/v1/office/proposal/end", ProposalRequest => ProposalInfo;
    /// Takes an approved proposal that the SAM doesn't carry out itself: once, by who asked, with the evidence.
    ProposalTake: "/sap/v1/office/proposal/take", ProposalRequest => TakenProposal;
    /// The evidence of all approvals of a proposal, to be judged offline; for whoever may see proposals.
    EvidenceOfProposal: "/sap/v1/office/proposal/evidence", ProposalRequest => ProposalEvidence;
    /// How far it is with ending all keys.
    ProposalProgress: "/sap/v1/office/proposal/progress", ProposalRequest => Progress;
    /// The module's certificates of the keys that were destroyed with it, some at a time.
    ProposalCertificates: "/sap/v1/office/proposal/certificates", CertificatesRequest => Certificates;
    /// Officers, their roles and accounts.
    People: "/sap/v1/office/people", SessionRequest => PeopleAnswer;
    /// How the SAM is.
    State: "/sap/v1/office/state", SessionRequest => StateAnswer;
    /// Searches the SAM's audit log. The search is an entry of it.
    Audit: "/sap/v1/office/audit", AuditRequest => AuditAnswer;
    /// Whether the account may look at what another zone shows; recorded. The officers' gateway asks before it asks that zone, whose
    /// answer the SAM doesn't hear.
    Beside: "/sap/v1/office/beside", BesideRequest => Empty;
}

/// Request of [`LogInOpen`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogInOpenRequest {
    /// Account.
    pub account: PersonId,
}

/// An act to be proved.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfficeAct {
    /// The act, compact JWS.
    pub act: String,
    /// The document that the act names by its digest; empty for a log-in.
    pub document: String,
    /// Passkeys of the account, for `allowCredentials`.
    pub passkeys: Vec<PasskeyHint>,
}

/// A proof over an act of kind `officer`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofRequest {
    /// The proof.
    pub proof: Proof,
    /// With a proposal about the module: the officer's own signature for the module (`natsuin-cm-switch+jws`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<String>,
}

/// Answer of [`LogIn`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggedIn {
    /// Token of the session; kept in memory only.
    #[serde(with = "secret_text")]
    pub session: SecretBytes,
    /// Who it is.
    pub officer: OfficerId,
    /// Name.
    pub name: String,
    /// The office.
    pub office: Office,
    /// The session ends after so many seconds without a call.
    pub idle: i64,
    /// It ends at this time in any case.
    pub until: UnixTime,
    /// Fingerprint of the passkey, as long as nobody has confirmed whose it is: the session is good for asking for that only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unconfirmed: Option<String>,
}

/// A request with nothing but a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRequest {
    /// Token of the session.
    #[serde(with = "secret_text")]
    pub session: SecretBytes,
}

/// A request about a proposal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposalRequest {
    /// Token of the session.
    #[serde(with = "secret_text")]
    pub session: SecretBytes,
    /// Digest of the proposal's document.
    pub proposal: Digest32,
}

/// Request of [`Ask`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposeRequest {
    /// Token of the session, whose last proof is minutes old.
    #[serde(with = "secret_text")]
    pub session: SecretBytes,
    /// What.
    pub measure: Measure,
    /// Why; 1 to [`super::MAX_WORDS`] characters.
    pub reason: String,
    /// Seconds for which it can be approved.
    pub ttl: i64,
}

/// A proposal as officers see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposalInfo {
    /// Digest of the document.
    pub proposal: Digest32,
    /// The document.
    pub document: String,
    /// Where it stands.
    pub state: ProposalState,
    /// How many persons have to approve.
    pub needs: u8,
    /// Who has.
    pub approvals: Vec<ApprovalInfo>,
    /// When it takes effect, if it waits for that.
    pub due: Option<UnixTime>,
    /// Whether this officer may approve it now.
    pub yours: bool,
}

/// An approval as officers see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalInfo {
    /// Person.
    pub officer: OfficerId,
    /// Name.
    pub name: String,
    /// When.
    pub at: UnixTime,
    /// Digest of the evidence.
    pub evidence: Digest32,
}

/// Where a proposal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProposalState {
    /// Waits for approvals.
    Open,
    /// Approved by all, and its time hasn't come yet.
    Waiting,
    /// Approved by all; somebody has to carry it out.
    Approved,
    /// Done.
    Done,
    /// Somebody said no, or what it is about has changed.
    Ended,
    /// Its time ran out.
    Expired,
}

/// Answer of [`Proposals`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposalsAnswer {
    /// All that are open, waiting or approved, then at most 100 that are over; newest first of each.
    pub proposals: Vec<ProposalInfo>,
}

/// Answer of [`ProposalTake`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakenProposal {
    /// The document.
    pub document: String,
    /// Evidence of each approval, as stored.
    pub approvals: Vec<String>,
    /// A [`Warrant`](super::Warrant) over both (JWS).
    pub warrant: String,
    /// The statement of `K_root` about the key that signed it.
    pub statement: String,
}

/// Answer of [`EvidenceOfProposal`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposalEvidence {
    /// `natsuin-proposal/1`, JSON: `proposal` (digest) and `approvals` (a bundle `natsuin-evidence/1` of each).
    pub bundle: String,
}

/// Answer of [`People`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeopleAnswer {
    /// Everybody who holds or held an office.
    pub officers: Vec<OfficerInfo>,
    /// How many security officers could approve now.
    pub usable: u32,
    /// Officers of whom a row, or that of an account, isn't as it was written, so that it is refused.
    pub refused: Vec<OfficerId>,
}

/// An officer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfficerInfo {
    /// Id.
    pub officer: OfficerId,
    /// Name.
    pub name: String,
    /// The office.
    pub office: Office,
    /// Who named them: persons; empty for the founders.
    pub named_by: Vec<OfficerId>,
    /// Since when.
    pub since: UnixTime,
    /// When they were removed.
    pub ended: Option<UnixTime>,
    /// Whether appointment or training ends within a month, or has ended, or no training is recorded.
    pub due: bool,
    /// Accounts.
    pub accounts: Vec<AccountInfo>,
}

/// An account of an officer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountInfo {
    /// Id.
    pub account: PersonId,
    /// Whether it has a passkey and can be used.
    pub active: bool,
    /// Nobody has confirmed yet whose passkey it is: it asks for that and does nothing else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unconfirmed: bool,
    /// Time of its last accepted act.
    pub last_act: Option<UnixTime>,
}

/// Answer of [`State`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateAnswer {
    /// Name of the SAM.
    pub sam: String,
    /// Name of the node that answers.
    pub node: String,
    /// Version of the software.
    pub version: String,
    /// Highest level of the service.
    pub ceiling: core_types::Level,
    /// Whether the clock can be vouched for.
    pub clock: bool,
    /// Largest error of the clock in milliseconds that is declared; nothing: it is declared as unsynchronised.
    pub clock_bound_ms: Option<u32>,
    /// What the time daemon said last of the clock's error, in milliseconds, with its age; nothing when it said nothing.
    pub clock_error_ms: Option<u32>,
    /// What each source of time said last, if this node asks several itself.
    pub clock_sources: Vec<ClockSourceInfo>,
    /// What is reported of backups; nothing when nobody watches them.
    pub backups: Option<BackupsInfo>,
    /// How mail to signers goes.
    pub mail: MailInfo,
    /// State of the module, or nothing when it doesn't answer.
    pub module: Option<String>,
    /// How many security officers could approve now.
    pub usable: u32,
    /// Proposals that wait for approval.
    pub open: u32,
    /// Settings in force, by their digests.
    pub settings: Vec<(super::Part, Digest32)>,
    /// Nodes that have written to the log.
    pub nodes: Vec<NodeInfo>,
    /// How the log is.
    pub log: LogInfo,
    /// Entries of the log that somebody has to look at, newest first.
    pub alerts: Vec<AuditEntry>,
    /// How many signers' keys are in which state; for whoever has to do with keys.
    pub keys: Vec<(String, u32)>,
    /// There are more keys than were counted.
    pub keys_more: bool,
    /// How many living keys have which level, when this node last compared all its rows with the log; for the same.
    pub levels: Option<LevelsInfo>,
    /// Keys whose certificates end within a month, the first ones first; for the same.
    pub ending: Vec<KeyEnds>,
    /// Officers whose appointment or training ends within a month, or has ended, or whose training isn't recorded; for whoever renews
    /// them.
    pub due: u32,
    /// Tenants beside the provider's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<TenantInfo>,
}

/// Levels of all keys that aren't destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelsInfo {
    /// When they were counted.
    pub at: UnixTime,
    /// Level and number, lowest first; levels that no key has are left out.
    pub keys: Vec<(core_types::Level, u64)>,
}

/// A tenant that this SAM serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantInfo {
    /// Its name in vouchers, acts and orders.
    pub tenant: TenantId,
    /// How it is shown to its signers.
    pub brand: Brand,
    /// Highest level of its keys.
    pub ceiling: core_types::Level,
}

/// A source of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockSourceInfo {
    /// Its name in the settings.
    pub source: PeerId,
    /// `agrees`, `false` for one that the majority contradicts, `no-majority`, or why it says nothing.
    pub state: String,
    /// Its clock less the node's, in milliseconds.
    pub offset_ms: Option<i64>,
}

/// What is reported of backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupsInfo {
    /// When the last one was made.
    pub made: Option<UnixTime>,
    /// Whether that is too long ago, or never.
    pub made_late: bool,
    /// When a backup was last restored for trial and found whole.
    pub tried: Option<UnixTime>,
    /// When that backup was made.
    pub tried_made: Option<UnixTime>,
    /// Whether that is too long ago, or never.
    pub tried_late: bool,
}

/// How mail to signers goes: notices and one-time codes. Whom they are for is nothing for the console.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailInfo {
    /// Whether this node has a courier; without one nothing goes out.
    pub courier: bool,
    /// Notices that wait to be sent, of at most 1000 that are looked at.
    pub waiting: u32,
    /// Those of them that were tried without success, and are tried again.
    pub failed: u32,
    /// When the first of what they tell happened.
    pub oldest: Option<UnixTime>,
    /// Notices that were given up in the last seven days, at most 1000.
    pub given_up: u32,
    /// One-time codes that didn't go out in the last seven days, at most 1000.
    pub codes: u32,
}

/// A key whose certificate ends soon. Whose it is, is nothing for the console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEnds {
    /// Key.
    pub key: KeyId,
    /// End of the certificate.
    pub at: UnixTime,
}

/// A node of the SAM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeInfo {
    /// Its name.
    pub node: String,
    /// Time of its last entry in the log.
    pub at: UnixTime,
}

/// How the SAM's log is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogInfo {
    /// Entries under the last checkpoint.
    pub entries: u64,
    /// Entries that wait for their place.
    pub new: u64,
    /// When the last checkpoint was made.
    pub checkpoint: Option<UnixTime>,
    /// How many witnesses cosigned it.
    pub cosigned: u32,
}

/// Request of [`Beside`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BesideRequest {
    /// Token of the session.
    #[serde(with = "secret_text")]
    pub session: SecretBytes,
    /// What the gateway calls the zone.
    pub zone: PeerId,
    /// What is looked at.
    pub what: Looked,
    /// Of a log: what is searched, as that zone's listener takes it. The SAM records its digest.
    #[serde(default)]
    pub search: String,
}

/// What another zone shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Looked {
    /// Clients of an SSA.
    Clients,
    /// Its audit log.
    Log,
}

/// Request of [`Audit`]; what is empty or missing matches everything.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRequest {
    /// Token of the session.
    #[serde(with = "secret_text")]
    pub session: SecretBytes,
    /// From this time on.
    pub from: Option<UnixTime>,
    /// Before this time.
    pub until: Option<UnixTime>,
    /// Types, such as `key.used`, or beginnings of types, such as `key.`; at most [`MAX_KINDS`].
    pub kinds: Vec<String>,
    /// Person it is about.
    pub person: Option<PersonName>,
    /// Key it is about.
    pub key: Option<KeyId>,
    /// `success`, `failure` or `intent`.
    pub outcome: Option<String>,
    /// `next` of the answer before.
    pub after: Option<String>,
}

/// Most types in one search.
pub const MAX_KINDS: usize = 50;

/// Answer of [`Audit`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditAnswer {
    /// In order of time.
    pub entries: Vec<AuditEntry>,
    /// Where to go on, unless this is all.
    pub next: Option<String>,
    /// Archives that have entries of the time asked for, which were deleted from the log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub archived: Vec<InArchive>,
}

/// What lies in an archive and not in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InArchive {
    /// Digest that names the archive.
    pub archive: Digest32,
    /// Time of the latest entry.
    pub last: UnixTime,
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditEntry {
    /// Place in the SAM's log.
    pub seq: i64,
    /// Whom it is about, for auditors; the text has an alias.
    pub person: Option<String>,
    /// Its text (JSON).
    pub body: String,
}
