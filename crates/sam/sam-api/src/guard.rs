//! What a guard may ask of the SAM: to stop, and nothing else. A guard is a program that watches the logs
//! (`natsuin audit alert`); it sees nothing here and lets nothing go on.

use core_types::rpc::Method;
use core_types::{Digest32, KeyId};
use serde::{Deserialize, Serialize};

use crate::Refusal;
use crate::ssa::Empty;

/// Stops something. What is stopped already is no error.
#[derive(Debug, Clone, Copy)]
pub struct GuardStop;

impl Method for GuardStop {
    const PATH: &'static str = "/sam/v1/guard/stop";
    type Request = GuardRequest;
    type Response = Empty;
    type Refusal = Refusal;
}

/// What is to be stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stop", rename_all = "kebab-case", deny_unknown_fields)]
pub enum GuardRequest {
    /// A key is suspended; two officers let it go on.
    Key {
        /// Key.
        key: KeyId,
    },
    /// An officer's session ends.
    Session {
        /// Digest that names it in the log (`officer.logged-in`).
        session: Digest32,
    },
}
