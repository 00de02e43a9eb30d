//! What a node says in its log of its clock: whether it is within what is declared, whether somebody set it, and what each source of
//! time says. The times of its entries are worth as much as that.

use std::sync::{Arc, Mutex, PoisonError};

use core_types::timekeeping::{Beat, ClockEstimate, ClockRule, ClockState};
use core_types::{Clock, PeerId};
use store_kit::{Store, StoreError, transaction};

use crate::event::Event;
use crate::log::AuditLog;

/// What a source of time says of the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockSource {
    /// Its name in the settings.
    pub name: PeerId,
    /// `agrees`, [`Self::FALSE`], [`Self::NO_MAJORITY`], or why it says nothing.
    pub state: &'static str,
    /// Its clock less ours, in milliseconds.
    pub offset_ms: Option<i64>,
}

impl ClockSource {
    /// State of one that the majority contradicts.
    pub const FALSE: &'static str = "false";
    /// State of those that have no majority.
    pub const NO_MAJORITY: &'static str = "no-majority";
}

/// What is known of the clock at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// How far it may be off; nothing while nobody knows.
    pub estimate: Option<ClockEstimate>,
    /// What each source of time says, in the order of the settings, where several are asked.
    pub sources: Vec<ClockSource>,
}

/// What the clock is held against, and what is known of it.
pub struct ClockWatch {
    rule: ClockRule,
    clock: Arc<dyn Clock>,
    watched: Mutex<Watched>,
}

struct Watched {
    since: Beat,
    was_set: bool,
    estimate: Option<ClockEstimate>,
    recorded: Option<ClockState>,
    sources: Vec<ClockSource>,
}

impl ClockWatch {
    /// Begins to watch this clock, of which so much is declared. With a bound, nobody knows how it is before the first estimate.
    pub fn new(rule: ClockRule, clock: Arc<dyn Clock>) -> Self {
        let watched = Mutex::new(Watched {
            since: Beat::read(clock.as_ref()),
            was_set: false,
            estimate: None,
            recorded: None,
            sources: Vec::new(),
        });
        Self {
            rule,
            clock,
            watched,
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Watched) -> T) -> T {
        look(&mut self.watched.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes note of an estimate, in memory.
    pub fn estimated(&self, estimate: Option<ClockEstimate>) {
        self.with(|watched| watched.estimate = estimate);
    }

    /// What the sources said last.
    pub fn sources(&self) -> Vec<ClockSource> {
        self.with(|watched| watched.sources.clone())
    }

    /// The largest error that is possible by the last estimate and its age, in milliseconds.
    pub fn error_ms(&self) -> Option<u32> {
        let estimate = self.with(|watched| watched.estimate)?;
        let error = estimate.error_at(self.clock.now());
        Some(u32::try_from(error).unwrap_or(u32::MAX))
    }

    /// Whether the clock was set since [`Self::begin_again`].
    pub fn was_set(&self) -> bool {
        let now = Beat::read(self.clock.as_ref());
        self.with(|watched| {
            watched.was_set |= watched.since.was_set(now);
            watched.was_set
        })
    }

    /// What follows from its having been set is done: from this moment on it is held against that.
    pub fn begin_again(&self, since: Beat) {
        self.with(|watched| {
            watched.since = since;
            watched.was_set = false;
            watched.recorded = None;
        });
    }

    /// Its state by the last estimate, whether or not it was set.
    pub fn judged(&self) -> ClockState {
        let estimate = self.with(|watched| watched.estimate);
        self.rule.judge(estimate, self.clock.now())
    }

    /// Its state.
    pub fn state(&self) -> ClockState {
        match self.was_set() {
            true => ClockState::Stepped,
            false => self.judged(),
        }
    }

    /// Takes note of all that is known, for a zone in which nothing else follows from a clock that was set: what changed is recorded.
    ///
    /// # Errors
    /// [`StoreError`]; what wasn't recorded is with the next call.
    pub async fn heed(
        &self,
        heard: Heard,
        log: &AuditLog,
        store: &Store,
    ) -> Result<(), StoreError> {
        self.estimated(heard.estimate);
        if self.was_set() {
            let since = Beat::read(self.clock.as_ref());
            self.tell_step(log, store).await?;
            self.begin_again(since);
        }
        self.tell(log, store).await?;
        self.tell_sources(heard.sources, log, store).await
    }

    /// Records the state when it isn't the last recorded one; beyond the bound it is an alarm.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tell(&self, log: &AuditLog, store: &Store) -> Result<(), StoreError> {
        let state = self.state();
        if self.with(|watched| watched.recorded == Some(state)) {
            return Ok(());
        }
        let beyond = state == ClockState::Beyond;
        if beyond {
            tracing::error!("the clock's error is beyond the declared bound, or nobody knows it");
        }
        let alarm = beyond.then_some("clock-beyond-bound");
        self.write(state, alarm, log, store).await?;
        self.with(|watched| watched.recorded = Some(state));
        Ok(())
    }

    /// Records that somebody set the clock, which is an alarm.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tell_step(&self, log: &AuditLog, store: &Store) -> Result<(), StoreError> {
        tracing::error!("the clock was set");
        let alarm = Some("clock-stepped");
        self.write(ClockState::Stepped, alarm, log, store).await
    }

    async fn write(
        &self,
        state: ClockState,
        alarm: Option<&'static str>,
        log: &AuditLog,
        store: &Store,
    ) -> Result<(), StoreError> {
        let mut events = vec![Event::ClockState {
            state: state.code().into(),
        }];
        events.extend(alarm.map(|what| Event::Alarm { what: what.into() }));
        let now = self.clock.now();
        transaction!(store, "clock-state", |tx| {
            log.append_all(tx, &events, now).await.map(drop)
        })
    }

    /// Takes note of what each source says. What changed for a source is recorded; one that the majority contradicts, and a majority
    /// that there isn't any more, are alarms (`I-7.1.1.12-synchronised`).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tell_sources(
        &self,
        sources: Vec<ClockSource>,
        log: &AuditLog,
        store: &Store,
    ) -> Result<(), StoreError> {
        let before = self.sources();
        let was = |name: &PeerId| before.iter().find(|s| s.name == *name).map(|s| s.state);
        let changed = sources.iter().filter(|s| was(&s.name) != Some(s.state));
        let mut events = Vec::new();
        let mut alarms: Vec<&'static str> = Vec::new();
        for source in changed {
            events.push(Event::ClockSource {
                source: source.name.clone(),
                state: source.state.into(),
            });
            let alarm = match source.state {
                ClockSource::FALSE => "clock-source-false",
                ClockSource::NO_MAJORITY => "clock-no-majority",
                _ => continue,
            };
            tracing::error!(source = %source.name, offset_ms = source.offset_ms, "{alarm}");
            if !alarms.contains(&alarm) {
                alarms.push(alarm);
            }
        }
        let alarms = alarms.into_iter();
        events.extend(alarms.map(|what| Event::Alarm { what: what.into() }));
        if !events.is_empty() {
            let now = self.clock.now();
            transaction!(store, "clock-sources", |tx| {
                log.append_all(tx, &events, now).await.map(drop)
            })?;
        }
        self.with(|watched| watched.sources = sources);
        Ok(())
    }
}
