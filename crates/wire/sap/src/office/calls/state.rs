//! How the SAM is, as officers see it.

use core_types::{Digest32, KeyId, Level, PeerId, TenantId, UnixTime};
use serde::{Deserialize, Serialize};

use super::AuditEntry;
use crate::act::Brand;
use crate::level::{Declared, KeyAssurance};
use crate::office::Part;

/// Answer of [`State`](super::State).
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
    pub ceiling: Level,
    /// What of levels rests on the operator's word: which evaluations are declared, also for tenants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub declared: Vec<Declared>,
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
    /// The module, or nothing when it doesn't answer.
    pub module: Option<ModuleInfo>,
    /// How many security officers could approve now.
    pub usable: u32,
    /// Proposals that wait for approval.
    pub open: u32,
    /// Settings in force, by their digests.
    pub settings: Vec<(Part, Digest32)>,
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

/// How the module is, as it tells the SAM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleInfo {
    /// Its state, such as `operational`.
    pub state: String,
    /// What its device says of itself: maker, model and firmware.
    pub device: Option<String>,
    /// Its devices, where it has several, in the order of its configuration.
    pub members: Vec<MemberInfo>,
}

/// One of the module's devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberInfo {
    /// What it says of itself: maker, model and firmware.
    pub device: Option<String>,
    /// `well`, `away`, `resting` or `out`.
    pub state: String,
}

/// Levels of all keys that aren't destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelsInfo {
    /// When they were counted.
    pub at: UnixTime,
    /// Level and number, lowest first; levels that no key has are left out.
    pub keys: Vec<(Level, u64)>,
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
    pub ceiling: Level,
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
    /// Its level, why it isn't higher, and where it comes from; nothing if its row is refused, or its tenant isn't served here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assurance: Option<KeyAssurance>,
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
