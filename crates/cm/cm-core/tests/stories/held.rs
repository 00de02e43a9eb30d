//! Errors that outlast the process: what was found wrong isn't over because somebody started the module again.

use std::sync::Arc;

use cm_api::rpc::{ModuleState, SwitchRequest};
use cm_api::switch::Switch;
use cm_api::{KeyCreated, OrderKind, Refusal};
use cm_core::backend::Fault;
use cm_core::{MIGRATIONS, Module, ModuleConfig, NotStarted, not_started};
use core_types::random::SystemRandom;
use core_types::{KeyAlg, Level};
use store_kit::{StoreError, sql, transaction};

use crate::backup::{backup_of, ledger, restore_on, root};
use crate::destroy::attack;
use crate::faulty::Faulty;
use crate::kit::{P256, SAM, Story, digest, refusal, sign};
use crate::switch::{Officers, to};

const BROKEN: Fault = Fault::Broken("known answer");

/// A module with three officers, over a device that fails when it is told to.
struct Held {
    story: Story,
    faulty: Faulty,
    officers: Officers,
    key: KeyCreated,
}

impl Held {
    async fn on(test: store_kit::testing::TestStore) -> Self {
        let faulty = Faulty::default();
        let mut story = Story::begin(test, Arc::new(faulty.clone())).await;
        let officers = Officers::new();
        story.module = story.again_with(&officers.setup()).await;
        let key = story.key(KeyAlg::P256).await;
        Self {
            story,
            faulty,
            officers,
            key,
        }
    }

    fn sign(&self) -> OrderKind {
        sign(&self.key, P256, &[digest(P256, "a")])
    }

    /// A failed self-test.
    async fn fail(&self) {
        self.faulty.plan(|plan| plan.self_test = Some(BROKEN));
        let health = self.story.module.self_test().await.unwrap();
        assert_eq!(health.state, ModuleState::Error);
        self.faulty.plan(|plan| plan.self_test = None);
    }

    /// Starts again.
    async fn restart(&mut self) -> ModuleState {
        self.story.module = self.story.again_with(&self.officers.setup()).await;
        self.story.module.health().state
    }

    /// What officers approve who see the error as it is.
    fn recover(&self, serial: u64) -> SwitchRequest {
        let wanted = Switch {
            recover: true,
            error: self.story.module.health().error,
            ..to(&self.story, true, serial)
        };
        self.officers.approve(&[0, 1], &wanted)
    }

    /// A node with this name on the same store.
    async fn node(&self, name: &str) -> Module {
        let config = ModuleConfig {
            officers: self.officers.setup().officers,
            ..ModuleConfig::new(SAM, name, 1000)
        };
        let (backend, store) = (self.story.backend.clone(), self.story.test.store.clone());
        let (clock, random) = (self.story.clock.clone(), Arc::new(SystemRandom));
        let root = root(7);
        let started = Module::start(config, backend, store, &root, clock, random);
        started.await.unwrap()
    }
}

// shows: III-3-13-secure-state, III-A1.4.2-dual-control, III-3-14-audit-records, T-KEY-MALFUNCTION
#[tokio::test]
async fn an_error_is_there_after_every_restart_until_two_officers_end_it() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let mut held = Held::on(test).await;
        held.fail().await;
        let error = held.story.module.health().error;
        for _ in 0..2 {
            assert_eq!(held.restart().await, ModuleState::Error);
            assert_eq!(held.story.module.health().error, error, "the same one");
            let refused = held.story.refused(held.sign()).await;
            assert_eq!(refused, Refusal::NotOperational);
        }
        assert_eq!(held.story.audited("cm.error-kept").await, 1);
        assert_eq!(held.story.audited("cm-error-held").await, 2);
        // Not before the tests have passed in this process, nor by one person, whoever it is.
        let early = held.story.module.switch(&held.recover(1)).await;
        assert_eq!(early.unwrap_err(), Refusal::NotNow);
        held.story.module.self_test().await.unwrap();
        let alone = held.story.module.recover_alone().await;
        assert_eq!(alone, Err(Refusal::NotAuthentic), "there are officers");
        // Nor is it over if it fails once more when they decide.
        held.faulty.plan(|plan| plan.self_test = Some(BROKEN));
        let failed = held.story.module.switch(&held.recover(1)).await;
        assert_eq!(failed.unwrap_err(), Refusal::NotOperational);
        held.faulty.plan(|plan| plan.self_test = None);
        assert_eq!(held.restart().await, ModuleState::Error);
        held.story.module.self_test().await.unwrap();
        let done = held.story.module.switch(&held.recover(1)).await.unwrap();
        assert_eq!(done.state, ModuleState::Operational);
        assert_eq!(held.story.audited("cm.error-ended").await, 1);
        held.story
            .module
            .execute(&held.story.order(held.sign()))
            .await
            .unwrap();
        assert_eq!(held.restart().await, ModuleState::Operational);
        held.story.module.scrub().await.unwrap();
        // The next one is another one.
        held.fail().await;
        assert_eq!(held.restart().await, ModuleState::Error);
        assert_ne!(held.story.module.health().error, None);
        assert_eq!(held.story.audited("cm.error-kept").await, 2);
    }
}

// shows: III-3-13-secure-state, III-3-13-detect-hardware, T-KEY-MALFUNCTION
#[tokio::test]
async fn a_start_that_failed_its_tests_is_not_forgotten_by_one_that_passes() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let mut held = Held::on(test).await;
        // A device that is away is nobody's affair.
        for away in [Fault::Unavailable("away"), Fault::Unknown("no answer")] {
            held.faulty.plan(|plan| plan.self_test = Some(away.clone()));
            let setup = held.officers.setup();
            assert!(held.story.try_again_with(&setup).await.is_err());
            let health = held.story.module.self_test().await.unwrap();
            assert_eq!(health.state, ModuleState::Degraded);
            held.faulty.plan(|plan| plan.self_test = None);
            assert_eq!(held.restart().await, ModuleState::Operational);
        }
        for _ in 0..2 {
            held.faulty.plan(|plan| plan.self_test = Some(BROKEN));
            let setup = held.officers.setup();
            assert!(held.story.try_again_with(&setup).await.is_err());
        }
        held.faulty.plan(|plan| plan.self_test = None);
        assert_eq!(held.story.audited("cm-start-self-test").await, 3);
        assert_eq!(held.restart().await, ModuleState::Error);
        held.story.module.self_test().await.unwrap();
        held.story.module.switch(&held.recover(1)).await.unwrap();
        assert_eq!(held.restart().await, ModuleState::Operational);
    }
}

// shows: III-3-13-secure-state, T-INS-OPERATOR
#[tokio::test]
async fn another_name_of_the_node_ends_no_error_and_holds_no_other_node_up() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let mut held = Held::on(test).await;
        // Two nodes that were there before.
        assert_eq!(
            held.node("cm-2").await.health().state,
            ModuleState::Operational
        );
        held.fail().await;
        for _ in 0..2 {
            let renamed = held.node("cm-3").await;
            assert_eq!(renamed.health().state, ModuleState::Error);
        }
        assert_eq!(
            held.node("cm-2").await.health().state,
            ModuleState::Operational,
            "each node has its own device"
        );
        // Commands beside a node are as the node is.
        for command in ["cm-1.command", "cm-4.command"] {
            let beside = held.node(command).await;
            assert_eq!(beside.health().state, ModuleState::Error, "{command}");
        }
        // Ended for the one, and not for the name that was to do without it.
        held.story.module.self_test().await.unwrap();
        held.story.module.switch(&held.recover(1)).await.unwrap();
        assert_eq!(held.restart().await, ModuleState::Operational);
        let renamed = held.node("cm-3").await;
        assert_eq!(renamed.health().state, ModuleState::Error);
    }
}

async fn mark(held: &Held) -> (i64, Vec<u8>) {
    let mut tx = held.story.test.store.read("look").await.unwrap();
    let query = sql("SELECT version, sealed FROM cm_mark WHERE id = 'errors'");
    let row = tx.fetch_one(query).await.unwrap();
    (row.int("version").unwrap(), row.blob("sealed").unwrap())
}

// shows: III-3-13-secure-state, III-3-3-key-attribute-integrity, T-INS-OPERATOR
#[tokio::test]
async fn whoever_can_write_the_database_ends_no_error() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let mut held = Held::on(test).await;
        held.fail().await;
        held.story.module.self_test().await.unwrap();
        held.story.module.switch(&held.recover(1)).await.unwrap();
        let (version, sealed) = mark(&held).await;
        // Another one, a second later: names of errors have the time of their process.
        held.story.clock.advance(1);
        held.restart().await;
        held.fail().await;
        for set_back in [false, true] {
            attack(&held.story, "DELETE FROM cm_mark WHERE id = 'errors'").await;
            if set_back {
                let store = &held.story.test.store;
                let done: Result<u64, StoreError> = transaction!(store, "attack", |tx| {
                    let put = "INSERT INTO cm_mark (id, version, sealed) VALUES ('errors', $1, $2)";
                    tx.execute(sql(put).bind(version).bind(sealed.clone()))
                        .await
                });
                done.unwrap();
            }
            // A process that has seen nothing finds it in the log, before it serves.
            assert_eq!(held.restart().await, ModuleState::Operational);
            let compared = held.story.module.scrub().await;
            assert_eq!(compared, Err(Refusal::NotOperational));
            assert_eq!(held.story.module.health().state, ModuleState::Error);
            // And it is there again from then on.
            assert_eq!(held.restart().await, ModuleState::Error);
            held.story.module.scrub().await.unwrap();
        }
        assert_eq!(held.story.audited("cm-errors-altered").await, 2);
        held.story.module.self_test().await.unwrap();
        held.story.module.switch(&held.recover(2)).await.unwrap();
        assert_eq!(held.restart().await, ModuleState::Operational);
        held.story.module.scrub().await.unwrap();
    }
}

// shows: III-3-13-secure-state
#[tokio::test]
async fn an_error_that_cannot_be_written_is_written_as_soon_as_it_can() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let mut held = Held::on(test).await;
        let rename = async |story: &Story, statement: &'static str| {
            let done: Result<u64, StoreError> = transaction!(story.test.store, "away", |tx| {
                tx.execute(sql(statement)).await
            });
            done.unwrap();
        };
        rename(&held.story, "ALTER TABLE cm_mark RENAME TO cm_away").await;
        held.fail().await;
        let refused = held.story.refused(held.sign()).await;
        assert_eq!(refused, Refusal::NotOperational, "in this process it holds");
        assert_eq!(held.story.audited("cm.error-kept").await, 0);
        rename(&held.story, "ALTER TABLE cm_away RENAME TO cm_mark").await;
        held.story.module.tidy().await;
        held.story.module.tidy().await;
        assert_eq!(held.story.audited("cm.error-kept").await, 1);
        assert_eq!(held.restart().await, ModuleState::Error);
    }
}

// shows: III-3-13-secure-state, III-3-10-backup, I-7.1.7.2-restore-state
#[tokio::test]
async fn a_restore_ends_no_error() {
    let stores = store_kit::testing::both(MIGRATIONS).await;
    let empty = store_kit::testing::both(MIGRATIONS).await;
    for (test, to) in stores.into_iter().zip(empty) {
        let faulty = Faulty::default();
        let mut story = Story::begin(test, Arc::new(faulty.clone())).await;
        let key = story.key(KeyAlg::P256).await;
        let (before, _) = backup_of(&story).await;
        faulty.plan(|plan| plan.self_test = Some(BROKEN));
        story.module.self_test().await.unwrap();
        faulty.plan(|plan| plan.self_test = None);
        let known = ledger(&story).await;
        let restored = restore_on(&faulty, &to, &before, &root(7), (&known, &[])).await;
        assert_eq!(restored.unwrap().keys, 1);
        story.test = to;
        for _ in 0..2 {
            story.module = story.again(7).await.unwrap();
            story.module.scrub().await.unwrap();
            assert_eq!(story.module.health().state, ModuleState::Error);
        }
        let kind = || sign(&key, P256, &[digest(P256, "a")]);
        let refused = refusal(story.module.execute(&story.order(kind())).await);
        assert_eq!(refused, Refusal::NotOperational);
        assert_eq!(story.module.recover_alone().await, Ok(true));
        let health = story.module.health();
        assert_eq!((health.ceiling, health.operational), (Level::One, true));
    }
}

// shows: III-3-13-secure-state, T-KEY-MALFUNCTION
#[tokio::test]
async fn a_running_node_goes_by_what_others_write_of_its_errors() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let mut held = Held::on(test).await;
        // A command beside it meets a device that isn't what it must be.
        let store = held.story.test.store.clone();
        let (secret, clock) = (root(7), held.story.clock.clone());
        let why = NotStarted {
            what: "cm-start-self-test",
            broken: true,
        };
        let random = Arc::new(SystemRandom);
        let told = not_started("cm-1.command", &store, &secret, clock.as_ref(), random, why);
        told.await.unwrap();
        assert_eq!(
            held.story.module.health().state,
            ModuleState::Operational,
            "it hasn't looked yet"
        );
        held.story.module.tidy().await;
        assert_eq!(held.story.module.health().state, ModuleState::Error);
        let refused = held.story.refused(held.sign()).await;
        assert_eq!(refused, Refusal::NotOperational);
        assert_eq!(held.story.audited("cm.error-kept").await, 1);
        // Another process of the node ends it, and this one fails once more: that is written again.
        let again = held.story.again_with(&held.officers.setup()).await;
        let running = std::mem::replace(&mut held.story.module, again);
        held.story.module.self_test().await.unwrap();
        held.story.module.switch(&held.recover(1)).await.unwrap();
        running.tidy().await;
        held.faulty.plan(|plan| plan.self_test = Some(BROKEN));
        running.self_test().await.unwrap();
        held.faulty.plan(|plan| plan.self_test = None);
        assert_eq!(held.story.audited("cm.error-kept").await, 2);
        assert_eq!(held.restart().await, ModuleState::Error);
    }
}
