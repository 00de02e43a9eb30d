//! What the SAM asks of the courier: a process of its own zone that brings one-time codes and notices to signers by mail or short
//! message, so that the SAM itself speaks with no network but the zones'. The SSA is not on this way.

use core_types::{Digest32, SecretBytes};
use sap::act::Brand;
use sap::enrol::{CodeAddress, NoticeAddress};
use serde::{Deserialize, Serialize};

use crate::Refusal;
use crate::ssa::{Empty, HistoryEntry};

core_types::methods! {
    refusal = Refusal;
    /// Brings one code to one address, once.
    Deliver: "/courier/v1/deliver", DeliverRequest => Empty;
    /// Tells a person what happened to their keys and factors. [`Refusal::Invalid`]: it can't be brought there, now or later.
    Tell: "/courier/v1/tell", TellRequest => Empty;
}

/// Request of [`Deliver`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliverRequest {
    /// Where to, as the registration authority said.
    pub to: CodeAddress,
    /// The code, decimal digits.
    pub code: SecretBytes,
    /// For how many seconds it counts.
    pub life: i64,
    /// Name of the application that asked for it, as the SAM knows it, or its id.
    pub client: String,
}

/// Request of [`Tell`]. No secret, and nothing that its reader could be led with: identifiers, times and words of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TellRequest {
    /// Where to, as the registration authority said.
    pub to: NoticeAddress,
    /// Of whose service it is, if it has a name of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brand: Option<Brand>,
    /// Names the notice; the same when it is tried again.
    pub notice: Digest32,
    /// What happened, in order.
    pub entries: Vec<HistoryEntry>,
}
