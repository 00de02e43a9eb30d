//! Why the SAM didn't start, and whether trying again helps.

use audit_log::AuditError;
use cm_api::{ModuleError, Refusal};
use core_types::TenantId;
use core_types::noise::Unhealthy;
use sam_core::Contradiction;
use signed_config::SettingsRefused;
use store_kit::StoreError;

use crate::metadata::MetadataRefused;

/// Why the SAM didn't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The CM can't be asked, or refuses.
    #[error(
        "the cryptographic module doesn't answer: {0}. Start it first, and check its certificate"
    )]
    Module(#[from] ModuleError),
    /// The module's root isn't the pinned one.
    #[error(
        "the module's root key is not the pinned one: this is another module, or it lost its store"
    )]
    OtherRoot,
    /// The levels that are configured can't be true.
    #[error("{0}: correct the declarations, or set policy.ceiling to what is so")]
    Levels(#[from] Contradiction),
    /// The policy isn't the one that its version names.
    #[error(
        "policy.version {version} of {tenant} was another policy before: raise it at each change of the policy, or put the policy of that version back"
    )]
    PolicyNotRaised {
        /// Whose policy.
        tenant: TenantId,
        /// Its version.
        version: u32,
    },
    /// The store.
    #[error("the SAM's store: {0}")]
    Store(#[from] StoreError),
    /// The installation hasn't begun.
    #[error(
        "this installation has no officers yet: begin it with `natsuin-sam init`, once, on an empty store"
    )]
    NotBegun,
    /// The generator of random numbers.
    #[error("{0}: replace the machine or its kernel, and look at what else draws from it")]
    Random(#[from] Unhealthy),
    /// The configuration isn't signed by those who may.
    #[error("{0}. Sign it with `natsuin config sign`, or put the last good one back")]
    Settings(#[from] SettingsRefused),
    /// The FIDO metadata can't be used, or are an earlier issue than was read before.
    #[error("{0}. Fetch the newest issue from its maker, and put it in the place of this file")]
    Metadata(#[from] MetadataRefused),
    /// The audit log isn't what the SAM wrote.
    #[error("the SAM's audit log: {0}")]
    Log(#[from] AuditError),
    /// The store's rows don't open with the module's key, or the settings can't be used.
    #[error("the SAM can't start: {0}")]
    Unusable(&'static str),
}

impl StartError {
    /// Whether it ends by itself, or when somebody makes room or brings database or module back: then it may be tried again.
    pub fn passes(&self) -> bool {
        match self {
            Self::Store(error) => error.is_away(),
            Self::Log(error) => error.passes(),
            // Not there yet, not enabled, its own disk is full, or it went away before it had answered.
            Self::Module(error) => matches!(
                error,
                ModuleError::Refused(Refusal::NotOperational) | ModuleError::Unknown
            ),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_cant_answer_now_is_asked_again_and_one_that_refuses_is_not() {
        let passes = |error| StartError::Module(error).passes();
        assert!(passes(ModuleError::Unknown));
        assert!(passes(ModuleError::Refused(Refusal::NotOperational)));
        assert!(!passes(ModuleError::Refused(Refusal::NotAuthentic)));
        assert!(!StartError::OtherRoot.passes());
    }
}
