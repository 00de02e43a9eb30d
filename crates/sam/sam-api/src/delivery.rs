//! What the SAM asks of the courier: a process of its own zone that brings one-time codes to signers by mail or short message,
//! so that the SAM itself speaks with no network but the zones'. The SSA is not on this way.

use core_types::SecretBytes;
use sap::enrol::CodeAddress;
use serde::{Deserialize, Serialize};

use crate::Refusal;
use crate::ssa::Empty;

core_types::methods! {
    refusal = Refusal;
    /// Brings one code to one address, once.
    Deliver: "/courier/v1/deliver", DeliverRequest => Empty;
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
