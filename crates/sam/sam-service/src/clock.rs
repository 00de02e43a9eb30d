//! Watching the clock: what the time daemon says of its error, and what follows (`sap.md` §9).

use std::sync::{Mutex, PoisonError};

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::UnixTime;
use sam_core::Reason;
use sam_core::clock::{ClockEstimate, ClockState};
use store_kit::{StoreError, transaction};

use crate::sam::Sam;

/// What was said last, and what was recorded last.
#[derive(Default)]
pub(crate) struct ClockWatch(Mutex<(Option<ClockEstimate>, Option<ClockState>)>);

impl ClockWatch {
    fn with<T>(
        &self,
        look: impl FnOnce(&mut (Option<ClockEstimate>, Option<ClockState>)) -> T,
    ) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<C: CryptoModule> Sam<C> {
    /// Takes note of what the time daemon says of the clock's error; `None` when it says nothing. With a declared bound
    /// there are no new acts and no orders before this was called, so that the composition root calls it at start and
    /// then every few seconds. A change of state is recorded.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn heed_clock(&self, estimate: Option<ClockEstimate>) -> Result<(), StoreError> {
        self.clock_watch.with(|watch| watch.0 = estimate);
        self.watch_clock().await
    }

    /// Records the clock's state when it isn't the last recorded one.
    pub(crate) async fn watch_clock(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let state = self.clock_state(now);
        if self.clock_watch.with(|watch| watch.1 == Some(state)) {
            return Ok(());
        }
        let mut events = vec![Event::ClockState {
            state: state.code().into(),
        }];
        if state == ClockState::Beyond {
            tracing::error!(
                "the clock's error is beyond the declared bound: no new acts and no orders"
            );
            events.push(Event::Alarm {
                what: "clock-beyond-bound".into(),
            });
        }
        let told: Result<(), StoreError> = transaction!(self.store, "clock-state", |tx| {
            self.audit.append_all(tx, &events, now).await.map(drop)
        });
        told?;
        self.clock_watch.with(|watch| watch.1 = Some(state));
        Ok(())
    }

    /// Whether new acts and orders may be made now.
    pub(crate) fn check_clock(&self) -> Result<(), Reason> {
        self.clock_state(self.clock.now()).check()
    }

    fn clock_state(&self, now: UnixTime) -> ClockState {
        let estimate = self.clock_watch.with(|watch| watch.0);
        self.config.clock.judge(estimate, now)
    }
}
