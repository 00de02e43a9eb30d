//! What follows in the SAM from what is known of the clock (`sap.md` §9).

use audit_log::ClockSource;
use cm_api::CryptoModule;
use core_types::timekeeping::{Beat, ClockEstimate, ClockState};
use sam_core::state::Phase;
use sam_core::{ActState, Reason};
use store_kit::{StoreError, sql, transaction};

use crate::failed::Failed;
use crate::rows::{self, Noun as _};
use crate::sam::Sam;
use crate::sealer;

/// Acts looked at in one go.
const PAGE: i64 = 500;

impl<C: CryptoModule> Sam<C> {
    /// Takes note of what the time daemon says of the clock's error; `None` when it says nothing. With a declared bound
    /// there are no new acts and no orders before this was called, so that the composition root calls it at start and
    /// then every few seconds. A change of state is recorded.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn heed_clock(&self, estimate: Option<ClockEstimate>) -> Result<(), StoreError> {
        self.clock_watch.estimated(estimate);
        self.watch_clock().await
    }

    /// Takes note of what each source of time says, in the order of the settings; what changed is recorded.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn heed_sources(&self, sources: Vec<ClockSource>) -> Result<(), StoreError> {
        let told = self
            .clock_watch
            .tell_sources(sources, &self.audit, &self.store);
        told.await
    }

    /// Makes open acts void if the clock was set, and records its state when it isn't the last recorded one.
    pub(crate) async fn watch_clock(&self) -> Result<(), StoreError> {
        if self.clock_watch.was_set() {
            self.void_open_acts().await?;
        }
        self.clock_watch.tell(&self.audit, &self.store).await
    }

    /// Whether new acts and orders may be made now.
    pub(crate) fn check_clock(&self) -> Result<(), Reason> {
        match self.clock_state().is_good() {
            true => Ok(()),
            false => Err(Reason::Clock),
        }
    }

    /// Whether what was open before is what it says: nobody has set the clock since.
    pub(crate) fn check_not_set(&self) -> Result<(), Reason> {
        match self.clock_watch.was_set() {
            true => Err(Reason::Clock),
            false => Ok(()),
        }
    }

    pub(crate) fn clock_state(&self) -> ClockState {
        self.clock_watch.state()
    }

    /// The ends of acts were reckoned by a clock that was set since: whoever still wants to approve opens anew.
    async fn void_open_acts(&self) -> Result<(), StoreError> {
        let _one = self.voiding.lock().await;
        if !self.clock_watch.was_set() {
            return Ok(());
        }
        tracing::error!("open acts are void");
        self.clock_watch.tell_step(&self.audit, &self.store).await?;
        let now = Beat::read(self.clock.as_ref());
        let mut after = String::new();
        loop {
            let mut tx = self.store.read("void-look").await?;
            let page = sql(ActState::PAGE).bind(after.as_str()).bind(PAGE);
            let page = tx.fetch_all(page).await?;
            drop(tx);
            let Some(last) = page.last() else { break };
            after = last.text("id")?;
            for row in &page {
                // The sealed copy says whether it is open. What doesn't open approves nothing either.
                let open = rows::unseal::<ActState>(&self.sealer, row)
                    .is_ok_and(|act| act.body.phase == Phase::Open);
                let whose = sealer::whose(&row.blob("sealed")?).ok();
                let tenant = whose.and_then(|whose| self.of_row(whose.as_ref()));
                if let Some(tenant) = tenant.filter(|_| open) {
                    let voided = tenant.void(&row.text("id")?).await;
                    self.survive(voided).await?;
                }
            }
        }
        self.clock_watch.begin_again(now);
        Ok(())
    }

    async fn void(&self, id: &str) -> Result<(), Failed> {
        let act = core_types::Digest32::parse(id).map_err(|_| Failed::Tampered("act"))?;
        transaction!(self.store, "void", |tx| {
            if let Some(ended) = self.end_act(tx, Some(act), "clock-stepped").await? {
                self.audit.append(tx, ended, self.clock.now()).await?;
            }
            Ok::<_, Failed>(())
        })
    }
}
