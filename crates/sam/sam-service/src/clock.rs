//! Watching the clock: whether somebody sets it, what the time daemon says of its error, and what follows (`sap.md` §9).

use std::sync::{Mutex, PoisonError};

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::PeerId;
use sam_core::clock::{Beat, ClockEstimate, ClockState};
use sam_core::state::Phase;
use sam_core::{ActState, Reason};
use store_kit::{StoreError, sql, transaction};

use crate::failed::Failed;
use crate::rows::{self, Noun as _};
use crate::sam::Sam;
use crate::sealer;

/// Acts looked at in one go.
const PAGE: i64 = 500;

/// What the clock is held against, and what is known of it.
pub(crate) struct ClockWatch {
    watched: Mutex<Watched>,
    /// One at a time makes acts void.
    voiding: tokio::sync::Mutex<()>,
}

struct Watched {
    since: Beat,
    was_set: bool,
    estimate: Option<ClockEstimate>,
    recorded: Option<ClockState>,
    sources: Vec<ClockSource>,
}

/// What a source of time says of the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockSource {
    /// Its name in the settings.
    pub name: PeerId,
    /// `agrees`, [`FALSE`], [`NO_MAJORITY`], or why it says nothing.
    pub state: &'static str,
    /// Its clock less ours, in milliseconds.
    pub offset_ms: Option<i64>,
}

/// State of a source that the majority contradicts.
pub const FALSE: &str = "false";
/// State of sources that have no majority.
pub const NO_MAJORITY: &str = "no-majority";

impl ClockWatch {
    pub(crate) fn from(since: Beat) -> Self {
        Self {
            watched: Mutex::new(Watched {
                since,
                was_set: false,
                estimate: None,
                recorded: None,
                sources: Vec::new(),
            }),
            voiding: tokio::sync::Mutex::default(),
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Watched) -> T) -> T {
        look(&mut self.watched.lock().unwrap_or_else(PoisonError::into_inner))
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
        self.clock_watch.with(|watched| watched.estimate = estimate);
        self.watch_clock().await
    }

    /// Takes note of what each source of time says, in the order of the settings. What changed for a source is recorded; one that
    /// the majority contradicts, and a majority that there isn't any more, are alarms (`I-7.1.1.12-synchronised`).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn heed_sources(&self, sources: Vec<ClockSource>) -> Result<(), StoreError> {
        let before = self.clock_watch.with(|watched| watched.sources.clone());
        let was = |name: &PeerId| before.iter().find(|s| s.name == *name).map(|s| s.state);
        let changed: Vec<_> = sources
            .iter()
            .filter(|s| was(&s.name) != Some(s.state))
            .collect();
        let mut events = Vec::new();
        let mut alarms: Vec<&'static str> = Vec::new();
        for source in &changed {
            events.push(Event::ClockSource {
                source: source.name.clone(),
                state: source.state.into(),
            });
            let alarm = match source.state {
                FALSE => "clock-source-false",
                NO_MAJORITY => "clock-no-majority",
                _ => continue,
            };
            tracing::error!(source = %source.name, offset_ms = source.offset_ms, "{alarm}");
            if !alarms.contains(&alarm) {
                alarms.push(alarm);
            }
        }
        events.extend(
            alarms
                .into_iter()
                .map(|what| Event::Alarm { what: what.into() }),
        );
        if !events.is_empty() {
            let now = self.clock.now();
            transaction!(self.store, "clock-sources", |tx| {
                self.audit.append_all(tx, &events, now).await.map(drop)
            })?;
        }
        self.clock_watch.with(|watched| watched.sources = sources);
        Ok(())
    }

    /// What the sources said last.
    pub(crate) fn clock_sources(&self) -> Vec<ClockSource> {
        self.clock_watch.with(|watched| watched.sources.clone())
    }

    /// Makes open acts void if the clock was set, and records its state when it isn't the last recorded one.
    pub(crate) async fn watch_clock(&self) -> Result<(), StoreError> {
        if self.was_set() {
            self.void_open_acts().await?;
        }
        let state = self.clock_state();
        if self
            .clock_watch
            .with(|watched| watched.recorded == Some(state))
        {
            return Ok(());
        }
        if state == ClockState::Beyond {
            tracing::error!(
                "the clock's error is beyond the declared bound: no new acts and no orders"
            );
        }
        let alarm = (state == ClockState::Beyond).then_some("clock-beyond-bound");
        self.tell_clock(state, alarm).await?;
        self.clock_watch
            .with(|watched| watched.recorded = Some(state));
        Ok(())
    }

    /// Whether new acts and orders may be made now.
    pub(crate) fn check_clock(&self) -> Result<(), Reason> {
        self.clock_state().check()
    }

    /// Whether what was open before is what it says: nobody has set the clock since.
    pub(crate) fn check_not_set(&self) -> Result<(), Reason> {
        match self.was_set() {
            true => Err(Reason::Clock),
            false => Ok(()),
        }
    }

    /// The largest error that is possible by the last estimate and its age, in milliseconds.
    pub(crate) fn clock_error(&self) -> Option<u32> {
        let estimate = self.clock_watch.with(|watched| watched.estimate)?;
        let error = estimate.error_at(self.clock.now());
        Some(u32::try_from(error).unwrap_or(u32::MAX))
    }

    pub(crate) fn clock_state(&self) -> ClockState {
        if self.was_set() {
            return ClockState::Stepped;
        }
        let estimate = self.clock_watch.with(|watched| watched.estimate);
        self.config.clock.judge(estimate, self.clock.now())
    }

    fn was_set(&self) -> bool {
        let now = Beat::read(self.clock.as_ref());
        self.clock_watch.with(|watched| {
            watched.was_set |= watched.since.was_set(now);
            watched.was_set
        })
    }

    /// The ends of acts were reckoned by a clock that was set since: whoever still wants to approve opens anew.
    async fn void_open_acts(&self) -> Result<(), StoreError> {
        let _one = self.clock_watch.voiding.lock().await;
        if !self.was_set() {
            return Ok(());
        }
        tracing::error!("the clock was set: open acts are void");
        self.tell_clock(ClockState::Stepped, Some("clock-stepped"))
            .await?;
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
        self.clock_watch.with(|watched| {
            watched.since = now;
            watched.was_set = false;
            watched.recorded = None;
        });
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

    async fn tell_clock(
        &self,
        state: ClockState,
        alarm: Option<&'static str>,
    ) -> Result<(), StoreError> {
        let mut events = vec![Event::ClockState {
            state: state.code().into(),
        }];
        events.extend(alarm.map(|what| Event::Alarm { what: what.into() }));
        let now = self.clock.now();
        transaction!(self.store, "clock-state", |tx| {
            self.audit.append_all(tx, &events, now).await.map(drop)
        })
    }
}
