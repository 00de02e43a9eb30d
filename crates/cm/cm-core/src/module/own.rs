//! The files that the module runs from, as the program around it sees them (`III-3-12-protect-security-functions`).

use core_types::Digest32;

use super::Module;
use crate::execute::on_thread;

/// Program, configuration, and libraries.
pub trait OwnFiles: Send + Sync + 'static {
    /// Whether they are what they were at the start. Blocks.
    fn unchanged(&self) -> bool;
}

/// Their digests at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunsAs {
    /// SHA-256 of the program.
    pub program: Digest32,
    /// SHA-256 of the configuration.
    pub configuration: Digest32,
    /// SHA-256 of the library that gets the PIN; of several, over theirs one after the other.
    pub library: Option<Digest32>,
}

impl Module {
    /// What would judge the module is itself in doubt when they change: nothing is done until a restart, and officers can't excuse it.
    pub(crate) async fn look_at_own(&self) {
        let Some(own) = self.own.clone() else {
            return;
        };
        let looked = on_thread(move || Ok(own.unchanged())).await;
        if !looked.unwrap_or(false) {
            tracing::error!("program, configuration or library was changed while the module runs");
            self.latch_for_good("program, configuration or library changed")
                .await;
        }
    }
}
