//! Enabling and disabling: two officers over the same bytes, once; nothing else wants two.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cm_api::rpc::{ModuleState, SwitchRequest};
use cm_api::switch::{Switch, TYP_SWITCH};
use cm_api::{OrderKind, Refusal};
use cm_core::OwnFiles;
use cm_core::backend::Fault;
use core_types::{KeyAlg, sha256};
use jose::SigningKey;
use store_kit::{StoreError, sql, transaction};

use crate::faulty::Faulty;
use crate::kit::{NOW, P256, SAM, Setup, Story, digest, everywhere, sign};

pub struct Officers(pub Vec<SigningKey>);

impl Officers {
    pub fn new() -> Self {
        Self((0..3).map(|_| SigningKey::generate().unwrap().0).collect())
    }

    pub fn setup(&self) -> Setup {
        Setup {
            officers: self.0.iter().map(|o| o.public().clone()).collect(),
            ..Setup::default()
        }
    }

    pub fn approve(&self, who: &[usize], wanted: &Switch) -> SwitchRequest {
        let sign = |i: &usize| wanted.approve(&self.0[*i]).unwrap();
        SwitchRequest {
            approvals: who.iter().map(sign).collect(),
        }
    }
}

pub fn to(story: &Story, enabled: bool, serial: u64) -> Switch {
    Switch {
        sam: SAM.into(),
        root: story.module.root().kid(),
        enabled,
        recover: false,
        error: None,
        reason: "人事異動".into(),
        serial,
        exp: NOW.plus(600),
    }
}

// shows: III-A1.4.2-dual-control, III-A1.4.2-separate-control, III-A1.4.2-other-work-single, III-3-4-authenticate-administrator
// shows: III-A1.7-log-hsm-settings, T-INS-OPERATOR
#[tokio::test]
async fn the_module_is_switched_by_two_officers_and_by_nobody_else() {
    everywhere(
        the_module_is_switched_by_two_officers_and_by_nobody_else::ON_TOKENS,
        async |mut story| {
            let officers = Officers::new();
            story.module = story.again_with(&officers.setup()).await;
            // Making and using a key wants no second person.
            let key = story.key(KeyAlg::P256).await;
            let kind = || sign(&key, P256, &[digest(P256, "a")]);
            let off = to(&story, false, 1);
            let refused =
                async |request: SwitchRequest| story.module.switch(&request).await.unwrap_err();

            for who in [&[][..], &[0], &[0, 0]] {
                let request = officers.approve(who, &off);
                assert_eq!(refused(request).await, Refusal::NotAuthentic, "{who:?}");
            }
            let stranger = Officers::new();
            let mut mixed = officers.approve(&[0], &off);
            mixed
                .approvals
                .extend(stranger.approve(&[0], &off).approvals);
            assert_eq!(refused(mixed).await, Refusal::NotAuthentic);
            let later = Switch {
                exp: NOW.plus(601),
                ..off.clone()
            };
            let mut two_acts = officers.approve(&[0], &off);
            two_acts
                .approvals
                .extend(officers.approve(&[1], &later).approvals);
            assert_eq!(
                refused(two_acts).await,
                Refusal::NotAuthentic,
                "not the same bytes"
            );
            for (wanted, answer) in [
                (
                    Switch {
                        sam: "another".into(),
                        ..off.clone()
                    },
                    Refusal::NotAuthentic,
                ),
                (
                    Switch {
                        root: "another".into(),
                        ..off.clone()
                    },
                    Refusal::NotAuthentic,
                ),
                (
                    Switch {
                        exp: NOW,
                        ..off.clone()
                    },
                    Refusal::NotNow,
                ),
                (
                    Switch {
                        exp: NOW.plus(3601),
                        ..off.clone()
                    },
                    Refusal::NotNow,
                ),
                (
                    Switch {
                        serial: 0,
                        ..off.clone()
                    },
                    Refusal::NotNow,
                ),
                (
                    Switch {
                        serial: 2,
                        ..off.clone()
                    },
                    Refusal::NotNow,
                ),
                (
                    Switch {
                        reason: String::new(),
                        ..off.clone()
                    },
                    Refusal::Malformed,
                ),
                (
                    Switch {
                        reason: "a\u{202e}b".into(),
                        ..off.clone()
                    },
                    Refusal::Malformed,
                ),
            ] {
                assert_eq!(
                    refused(officers.approve(&[0, 1], &wanted)).await,
                    answer,
                    "{wanted:?}"
                );
            }
            story.module.execute(&story.order(kind())).await.unwrap();

            let health = story
                .module
                .switch(&officers.approve(&[2, 0], &off))
                .await
                .unwrap();
            assert_eq!((health.state, health.switched), (ModuleState::Disabled, 1));
            assert!(!health.operational);
            let no = Refusal::NotOperational;
            assert_eq!(story.refused(kind()).await, no);
            assert_eq!(
                story
                    .refused(crate::kit::generate(KeyAlg::P256, core_types::Level::One))
                    .await,
                no
            );
            assert_eq!(story.refused(crate::destroy::destroy(&key)).await, no);
            story.module = story.again_with(&officers.setup()).await;
            assert_eq!(story.refused(kind()).await, no, "after a restart too");
            let again = officers.approve(&[2, 0], &off);
            let replayed = story.module.switch(&again).await.unwrap_err();
            assert_eq!(replayed, Refusal::NotNow, "an approval is good once");

            let on = to(&story, true, 2);
            let health = story
                .module
                .switch(&officers.approve(&[0, 1], &on))
                .await
                .unwrap();
            assert_eq!(health.state, ModuleState::Operational);
            story.module.execute(&story.order(kind())).await.unwrap();
            assert_eq!(story.audited("cm.switched").await, 2);
            assert!(story.audited("switch-not-").await > 8);
            // What they signed is kept, with their reason, under the digest that the log has.
            let kept = story.module.approvals().await.unwrap();
            assert_eq!(kept.len(), 2);
            for (switch, who) in [(&off, [2, 0]), (&on, [0, 1])] {
                let bytes = serde_json::to_vec(switch).unwrap();
                let approval = sha256(&[b"natsuin-cm-switch-v1\n", &bytes]);
                let told = format!("\"approval\":\"{approval}\"");
                assert_eq!(story.audited(&told).await, 1, "{told}");
                let kept = kept.iter().find(|k| k.approval == approval).unwrap();
                for (signed, officer) in kept.signed.iter().zip(who) {
                    let of = officers.0[officer].public();
                    assert_eq!(jose::verify(signed, TYP_SWITCH, of).unwrap(), bytes);
                }
                assert_eq!(kept.signed.len(), 2);
            }
        },
    )
    .await;
}

/// The module's own files, as they are said to be.
struct Files(Arc<AtomicBool>);

impl OwnFiles for Files {
    fn unchanged(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

// shows: III-3-13-secure-state, III-3-12-protect-security-functions, III-A1.4.2-dual-control, III-3-14-audit-records, T-KEY-MALFUNCTION
#[tokio::test]
async fn two_officers_end_the_error_state_after_a_test_that_passed() {
    let officers = Officers::new();
    for test in store_kit::testing::both(cm_core::MIGRATIONS).await {
        let faulty = Faulty::default();
        let mut story = Story::begin(test, Arc::new(faulty.clone())).await;
        let unchanged = Arc::new(AtomicBool::new(true));
        let files = Arc::new(Files(unchanged.clone()));
        story.module = story.again_with(&officers.setup()).await.watching(files);
        let key = story.key(KeyAlg::P256).await;
        let kind = || sign(&key, P256, &[digest(P256, "a")]);
        // By officers who see the error as it is.
        let recover = |serial| Switch {
            recover: true,
            error: story.module.health().error,
            ..to(&story, true, serial)
        };
        let self_test = async || story.module.self_test().await.unwrap();
        let switch = async |who: &[usize], wanted: &Switch| {
            let asked = story.module.switch(&officers.approve(who, wanted)).await;
            asked.map(|health| health.state)
        };
        assert_eq!(
            switch(&[0, 1], &recover(1)).await,
            Err(Refusal::NotNow),
            "there is no error"
        );
        let broken = Fault::Broken("known answer");
        faulty.plan(|plan| plan.self_test = Some(broken.clone()));
        let health = self_test().await;
        assert_eq!((health.state, health.tested), (ModuleState::Error, None));
        // Enabling isn't it, nor is an approval before the tests have passed.
        assert_eq!(
            switch(&[0, 1], &to(&story, true, 1)).await,
            Ok(ModuleState::Error)
        );
        faulty.plan(|plan| plan.self_test = None);
        assert_eq!(switch(&[0, 1], &recover(2)).await, Err(Refusal::NotNow));
        let health = self_test().await;
        assert_eq!(
            (health.state, health.tested, health.operational),
            (ModuleState::Error, Some(NOW), false),
            "no test ends it"
        );
        assert_eq!(story.refused(kind()).await, Refusal::NotOperational);
        for who in [&[0][..], &[0, 0]] {
            let alone = switch(who, &recover(2)).await;
            assert_eq!(alone, Err(Refusal::NotAuthentic));
        }
        let off = Switch {
            enabled: false,
            ..recover(2)
        };
        assert_eq!(switch(&[0, 1], &off).await, Err(Refusal::Malformed));
        assert_eq!(switch(&[0, 1], &recover(3)).await, Err(Refusal::NotNow));
        // Another node's error, a later or an earlier one, and none.
        let named = story.module.health().error.unwrap();
        for error in [
            Some(format!("other-{named}")),
            Some(format!("{named}1")),
            None,
        ] {
            let other = Switch {
                error,
                ..recover(2)
            };
            assert_eq!(switch(&[0, 1], &other).await, Err(Refusal::NotNow));
        }
        let odd = Switch {
            recover: false,
            ..recover(2)
        };
        assert_eq!(switch(&[0, 1], &odd).await, Err(Refusal::Malformed));
        // What fails again when they decide.
        faulty.plan(|plan| plan.self_test = Some(broken.clone()));
        let failed = switch(&[0, 1], &recover(2)).await;
        assert_eq!(failed, Err(Refusal::NotOperational));
        assert_eq!(story.audited("switch-tests-failed").await, 1);
        faulty.plan(|plan| plan.self_test = None);
        let before = recover(2);
        assert_eq!(
            switch(&[0, 1], &recover(2)).await,
            Err(Refusal::NotNow),
            "to be tested again"
        );
        // What officers approved before isn't for what was found since, though the tests pass now.
        faulty.plan(|plan| plan.self_test = Some(broken.clone()));
        self_test().await;
        faulty.plan(|plan| plan.self_test = None);
        self_test().await;
        assert_eq!(switch(&[0, 1], &before).await, Err(Refusal::NotNow));
        let done = switch(&[0, 1], &recover(2)).await;
        assert_eq!(done, Ok(ModuleState::Operational));
        assert_eq!(story.audited("\"to\":\"recovered\"").await, 1);
        story.module.execute(&story.order(kind())).await.unwrap();
        assert_eq!(switch(&[0, 1], &recover(2)).await, Err(Refusal::NotNow));
        // A program that isn't what it was is a matter for a restart, and found by whoever has the tests run.
        unchanged.store(false, Ordering::SeqCst);
        let health = self_test().await;
        assert_eq!(health.state, ModuleState::Error);
        unchanged.store(true, Ordering::SeqCst);
        self_test().await;
        assert_eq!(switch(&[0, 1], &recover(3)).await, Err(Refusal::NotNow));
        let fresh = story.again_with(&officers.setup()).await;
        fresh.scrub().await.unwrap();
        fresh.execute(&story.order(kind())).await.unwrap();
    }
}

// shows: III-A1.4.2-dual-control, T-INS-OPERATOR
#[tokio::test]
async fn whoever_can_write_the_database_cannot_enable() {
    let officers = Officers::new();
    let mut story = Faulty::default().story().await;
    story.module = story.again_with(&officers.setup()).await;
    let key = story.key(KeyAlg::P256).await;
    let kind = || -> OrderKind { sign(&key, P256, &[digest(P256, "a")]) };
    let row = {
        let mut tx = story.test.store.read("look").await.unwrap();
        let row = tx
            .fetch_one(sql("SELECT version, sealed FROM cm_switch"))
            .await
            .unwrap();
        (row.int("version").unwrap(), row.blob("sealed").unwrap())
    };
    let off = officers.approve(&[0, 1], &to(&story, false, 1));
    let other = story.again_with(&officers.setup()).await;
    story.module.switch(&off).await.unwrap();
    // Another node hears of it within seconds.
    story.clock.advance(5);
    let refused = crate::kit::refusal(other.execute(&story.order(kind())).await);
    assert_eq!(refused, Refusal::NotOperational);
    let store = &story.test.store;
    let done: Result<u64, StoreError> = transaction!(store, "attack", |tx| {
        let query = sql("UPDATE cm_switch SET version = $1, sealed = $2");
        tx.execute(query.bind(row.0).bind(row.1.clone())).await
    });
    assert_eq!(done.unwrap(), 1);
    story.clock.advance(5);
    assert_eq!(story.refused(kind()).await, Refusal::NotOperational);
    assert_eq!(story.audited("cm-switch-set-back").await, 1);
    // A process that has seen nothing finds it in the log.
    let fresh = story.again_with(&officers.setup()).await;
    fresh.scrub().await.unwrap();
    let refused = crate::kit::refusal(fresh.execute(&story.order(kind())).await);
    assert_eq!(refused, Refusal::NotOperational);
    let done: Result<u64, StoreError> = transaction!(store, "attack", |tx| {
        tx.execute(sql("DELETE FROM cm_switch")).await
    });
    assert_eq!(done.unwrap(), 1);
    assert!(
        story.try_again_with(&officers.setup()).await.is_err(),
        "without the row nothing starts"
    );
    drop(Arc::new(fresh));
}

// shows: III-3-4-authenticate-administrator, III-3-4-authenticate-application, T-INS-OPERATOR
#[tokio::test]
async fn the_administrator_asks_and_brings_approvals_and_neither_does_what_the_other_may() {
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use cm_api::ceremony::CeremonyRequest;
    use cm_api::rpc::{
        ChangeWrapping, Empty, Execute, HoldCeremony, RowKey, RowKeyRequest, SelfTest, Status,
        SwitchModule, WrappingRequest,
    };
    use core_types::rpc::Method;
    use tower::ServiceExt as _;

    let story = Faulty::default().story().await;
    let key = story.key(KeyAlg::P256).await;
    let order = story.order(sign(&key, P256, &[digest(P256, "a")]));
    let (module, test) = (Arc::new(story.module), &story.test);
    let router = cm_core::router(module, "sam.test");
    let ask = async |path: &str, body: Vec<u8>, peer: &str| {
        let mut http = Request::post(path).body(Body::from(body)).unwrap();
        http.headers_mut()
            .insert("content-type", "application/json".parse().unwrap());
        http.extensions_mut().insert(service_kit::Peer {
            name: peer.into(),
            addr: "127.0.0.1:1".parse().unwrap(),
        });
        router.clone().oneshot(http).await.unwrap().status()
    };
    let (good, refused) = (StatusCode::OK, StatusCode::UNPROCESSABLE_ENTITY);
    for (path, body, administrator, sam) in [
        (Status::PATH, json(&Empty {}), good, good),
        (SelfTest::PATH, json(&Empty {}), good, refused),
        (Execute::PATH, json(&order), refused, good),
        (
            RowKey::PATH,
            json(&RowKeyRequest { wrapped: None }),
            refused,
            good,
        ),
        (
            ChangeWrapping::PATH,
            json(&WrappingRequest { begin: false }),
            good,
            refused,
        ),
    ] {
        assert_eq!(
            ask(path, body.clone(), "admin.test").await,
            administrator,
            "{path}"
        );
        assert_eq!(ask(path, body.clone(), "ssa.test").await, refused, "{path}");
        assert_eq!(ask(path, body, "sam.test").await, sam, "{path}");
    }
    // Approvals are brought by either, and refused for what they are; keys of the provider are the administrator's alone.
    let switch = SwitchRequest {
        approvals: Vec::new(),
    };
    let ceremony = CeremonyRequest {
        approvals: Vec::new(),
    };
    for (path, body, judged) in [
        (SwitchModule::PATH, json(&switch), "switch-not-approved"),
        (HoldCeremony::PATH, json(&ceremony), "ceremony-not-approved"),
    ] {
        for peer in ["admin.test", "sam.test"] {
            assert_eq!(ask(path, body.clone(), peer).await, refused, "{path}");
        }
        let heard = match path == SwitchModule::PATH {
            true => 2,
            false => 1,
        };
        assert_eq!(told(test, judged).await, heard, "{path}");
    }
    for (peer, refusals) in [("ssa.test", 5), ("admin.test", 2), ("sam.test", 3)] {
        let entry = format!("\"peer\":\"{peer}\"");
        assert_eq!(told(test, &entry).await, refusals, "each is in the log");
    }
    assert_eq!(told(test, "cm.row-key-given").await, 1);
}

/// How many entries of the log contain these words.
async fn told(test: &store_kit::testing::TestStore, words: &str) -> usize {
    let mut tx = test.store.read("look").await.unwrap();
    let rows = tx.fetch_all(sql("SELECT body AS t FROM audit_entry"));
    let texts = rows.await.unwrap();
    let texts = texts.iter().map(|row| row.text("t").unwrap());
    texts.filter(|text| text.contains(words)).count()
}

fn json<T: serde::Serialize>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).unwrap()
}

pkcs11_faults::on_tokens!(the_module_is_switched_by_two_officers_and_by_nobody_else,);
