//! How the module is: what it says of itself, its self-tests, and what a fault does to it.

use std::sync::atomic::Ordering;

use audit_log::Event;
use cm_api::rpc::{Health, MemberState};
use cm_api::{ModuleState, Refusal};

use super::{Module, self_tests};
use crate::backend::Fault;
use crate::state::Report;

impl Module {
    /// What the module says of itself; for whoever may ask.
    pub fn health(&self) -> Health {
        let members = self.backend.members();
        let state = match self.state() {
            // The others do the work of one that can't be used: orders don't show it.
            ModuleState::Operational if members.iter().any(|m| m.state != MemberState::Well) => {
                ModuleState::Degraded
            }
            state => state,
        };
        Health {
            operational: self.operational().is_ok(),
            state,
            switched: self.switch.now().serial,
            backend: self.backend.name().to_owned(),
            ceiling: self.backend.ceiling(),
            exports: self.backend.exports(),
            device: self.backend.device(),
            declaration: self.backend.declaration(),
            witness_declaration: self.config.witness_declaration.clone(),
            tested: self.state.tested(),
            error: self.state.error(),
            members,
        }
    }

    /// The state, with what two officers have decided.
    fn state(&self) -> ModuleState {
        match self.state.get() {
            ModuleState::Operational | ModuleState::Degraded if !self.switch.now().enabled => {
                ModuleState::Disabled
            }
            state => state,
        }
    }

    /// Refuses in the states *locked*, *disabled* and *error* (`III-3-13-secure-state`).
    pub(crate) fn operational(&self) -> Result<(), Refusal> {
        match self.state() {
            _ if self.random.failed() => Err(Refusal::NotOperational),
            ModuleState::Operational | ModuleState::Degraded => Ok(()),
            ModuleState::Locked | ModuleState::Disabled | ModuleState::Error => {
                Err(Refusal::NotOperational)
            }
        }
    }

    /// Takes note that the back end did what was asked.
    pub(crate) fn well(&self) {
        if self.state.note(Report::Well).is_some() {
            tracing::info!("the back end works again; the module is operational");
        }
    }

    /// Takes note of a fault: another state, an alarm in the audit log when it changes. One that belongs into the state *error* outlasts
    /// this process.
    pub(crate) async fn note(&self, fault: &Fault) {
        let Some(report) = Report::of(fault) else {
            return;
        };
        tracing::error!(%fault, "the back end failed");
        let changed = self.state.note(report);
        if report == Report::Broken {
            self.backend.hold(true);
            self.state.keep();
            self.keep_error().await;
        }
        self.changed(changed).await;
    }

    async fn changed(&self, state: Option<ModuleState>) {
        let Some(state) = state else {
            return;
        };
        tracing::error!(?state, "the cryptographic module is in another state");
        self.alarm(match state {
            ModuleState::Error => "cm-error",
            ModuleState::Locked => "cm-locked",
            ModuleState::Degraded | ModuleState::Operational | ModuleState::Disabled => {
                "cm-degraded"
            }
        })
        .await;
    }

    /// Records an alarm. The state holds also when the record can't be written: then nothing else can be either.
    pub(crate) async fn alarm(&self, what: &'static str) {
        if self
            .record(Event::Alarm { what: what.into() })
            .await
            .is_err()
        {
            tracing::error!(what, "an alarm couldn't be recorded");
        }
    }

    /// Stops every private-key operation until a restart: the program around the module isn't what it was
    /// (`III-3-12-protect-security-functions`).
    pub(crate) async fn latch_for_good(&self, what: &'static str) {
        self.state.for_good();
        self.latch_here(what).await;
    }

    /// Stops every private-key operation until officers let it go on.
    pub(crate) async fn latch(&self, what: &'static str) {
        self.note(&Fault::Broken(what)).await;
        self.let_all_go().await;
    }

    /// Stops every private-key operation until a restart, which finds what was found here if it is still so, or until officers let it
    /// go on.
    pub(crate) async fn latch_here(&self, what: &'static str) {
        tracing::error!(what, "no private key is used any more");
        self.backend.hold(true);
        self.changed(self.state.note(Report::Broken)).await;
        self.let_all_go().await;
    }

    async fn let_all_go(&self) {
        self.cache.clear();
        self.let_go().await;
    }

    /// A generator that has failed ends all work, as any failed test does; also one that fails in the state *error*.
    pub(crate) async fn look_at_random(&self) {
        if self.random.failed() && !self.random_told.swap(true, Ordering::SeqCst) {
            self.alarm("cm-random-failed").await;
            self.latch("random generator").await;
        }
    }

    /// Runs the self-tests now, of the module's own files too; their failure is noted like any other fault. In the state *error* they end
    /// nothing: that they passed is what officers want to know before they do ([`Self::switch`]).
    ///
    /// # Errors
    /// [`Refusal::NotOperational`] in the states *locked* and *disabled*, in which the device isn't touched.
    pub async fn self_test(&self) -> Result<Health, Refusal> {
        self.look_at_random().await;
        self.look_at_own().await;
        if self.state.get() != ModuleState::Error {
            self.operational()?;
        }
        match self.tests().await {
            Ok(()) => {
                self.state.passed(self.clock.now());
                self.well();
            }
            Err(fault) => self.note(&fault).await,
        }
        self.tell_news().await;
        Ok(self.health())
    }

    /// All tests of a start, without consequences. In the state *error* the generator is tested as if it were new.
    pub(crate) async fn tests(&self) -> Result<(), Fault> {
        if self.state.get() == ModuleState::Error {
            // What it forgets is an error all the same: what officers approved before isn't for it.
            self.look_at_random().await;
            self.random.begin_again();
            self.random_told.store(false, Ordering::SeqCst);
        }
        self_tests(self.backend.clone(), self.random.clone()).await?;
        match self.random.failed() {
            true => Err(Fault::Broken("random generator")),
            false => Ok(()),
        }
    }
}
