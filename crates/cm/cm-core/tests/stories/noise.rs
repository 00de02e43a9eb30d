//! Generators that fail while the module runs: no private key is used any more, and the way back is a good generator.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cm_api::rpc::ModuleState;
use cm_api::{Executed, Refusal};
use cm_core::backend::Fault;
use cm_core::{MIGRATIONS, Module, ModuleConfig, RootSecret, StartError};
use cm_soft::SoftBackend;
use core_types::random::SystemRandom;
use core_types::{KeyAlg, Level, Random, SecretBytes};

use crate::faulty::Faulty;
use crate::kit::{NOW, P256, SAM, Story, by_act, digest, generate, sign};
use crate::switch::{Officers, to};

/// A good generator that gets stuck when it is told to.
#[derive(Default)]
struct Sticky(AtomicBool);

impl Random for Sticky {
    fn fill(&self, out: &mut [u8]) {
        if self.0.load(Ordering::SeqCst) {
            out.fill(7);
        } else {
            SystemRandom.fill(out);
        }
    }
}

// shows: III-3-11-random, III-3-13-detect-hardware, III-3-13-secure-state, T-KEY-DERIVE
#[tokio::test]
async fn a_generator_that_gets_stuck_ends_all_work_until_somebody_lets_a_good_one_go_on() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let mut story = Story::begin(test, Arc::new(SoftBackend)).await;
        let random = Arc::new(Sticky::default());
        story.module = story.again_drawing_from(random.clone()).await.unwrap();
        let key = story.key(KeyAlg::P256).await;
        let of = |act| by_act(act, sign(&key, P256, &[digest(P256, "a")]));
        story.module.execute(&story.order(of(1))).await.unwrap();

        random.0.store(true, Ordering::SeqCst);
        // Whose row is sealed with what it gave isn't signed for either.
        assert_eq!(story.refused(of(2)).await, Refusal::NotOperational);
        assert_eq!(story.audited("cm-random-failed").await, 1);
        random.0.store(false, Ordering::SeqCst);
        for kind in [of(3), generate(KeyAlg::P256, Level::One)] {
            assert_eq!(story.refused(kind).await, Refusal::NotOperational);
        }
        let health = story.module.self_test().await.unwrap();
        assert!(!health.operational, "no test ends it");
        random.0.store(true, Ordering::SeqCst);
        let started = story.again_drawing_from(random).await;
        assert!(matches!(started, Err(StartError::SelfTest(_))));
        story.module = story.again(7).await.unwrap();
        story.module.scrub().await.unwrap();
        assert_eq!(story.refused(of(4)).await, Refusal::NotOperational);
        assert_eq!(story.module.recover_alone().await, Ok(true));
        story.module.execute(&story.order(of(4))).await.unwrap();
        assert_eq!(story.audited("cm-random-failed").await, 1);
    }
}

// shows: III-3-11-random, III-3-13-detect-hardware, III-3-13-secure-state
#[tokio::test]
async fn a_generator_that_fails_while_the_module_is_in_error_is_not_forgotten() {
    let faulty = Faulty::default();
    let mut story = faulty.story().await;
    let (random, officers) = (Arc::new(Sticky::default()), Officers::new());
    let root = RootSecret::new(SecretBytes::new(vec![7; 32])).unwrap();
    let started = Module::start(
        ModuleConfig {
            officers: officers.setup().officers,
            ..ModuleConfig::new(SAM, "cm-1", 1000)
        },
        story.backend.clone(),
        story.test.store.clone(),
        &root,
        story.clock.clone(),
        random.clone(),
    );
    story.module = started.await.unwrap();
    let broken = Fault::Broken("known answer");
    faulty.plan(|plan| plan.self_test = Some(broken.clone()));
    story.module.self_test().await.unwrap();
    faulty.plan(|plan| plan.self_test = None);
    let tested = story.module.self_test().await.unwrap();
    assert_eq!(tested.tested, Some(NOW));

    // It is stuck while officers enable the module, which draws, and good again when somebody tests it.
    random.0.store(true, Ordering::SeqCst);
    let enable = officers.approve(&[0, 1], &to(&story, true, 1));
    let _ = story.module.switch(&enable).await;
    random.0.store(false, Ordering::SeqCst);
    let again = story.module.self_test().await.unwrap();
    assert_eq!(again.tested, Some(NOW));
    assert_ne!(
        again.error, tested.error,
        "what was approved before fits no more"
    );
    assert_eq!(story.audited("cm-random-failed").await, 1);
}

// shows: III-3-13-detect-hardware, III-3-13-secure-state, T-KEY-DERIVE, T-KEY-MALFUNCTION
#[tokio::test]
async fn a_nonce_that_is_used_twice_stops_key_and_module_and_no_value_leaves() {
    let faulty = Faulty::default();
    let mut story = faulty.story().await;
    let key = story.key(KeyAlg::P256).await;
    let of = |act, texts: &[&str]| {
        let digests: Vec<_> = texts.iter().map(|text| digest(P256, text)).collect();
        by_act(act, sign(&key, P256, &digests))
    };
    faulty.plan(|plan| plan.same_nonce = true);
    // One value gives nothing away, also when it is made again.
    for act in 1..=2 {
        let done = story.module.execute(&story.order(of(act, &["a"]))).await;
        assert!(matches!(done, Ok(Executed::Signed(_))), "{done:?}");
    }
    let done = story.module.execute(&story.order(of(3, &["b"]))).await;
    assert!(matches!(done, Ok(Executed::WrongValue)), "{done:?}");
    assert_eq!(story.audited("cm-nonce-repeated").await, 1);
    assert_eq!(story.refused(of(4, &["c"])).await, Refusal::NotOperational);
    faulty.plan(|plan| plan.same_nonce = false);
    story.module = story.again(7).await.unwrap();
    assert_eq!(story.refused(of(5, &["d"])).await, Refusal::NotOperational);
    assert_eq!(story.module.recover_alone().await, Ok(true));
    let wrong = Refusal::NotAllowed(cm_api::rpc::Reason::WrongValue);
    assert_eq!(story.refused(of(7, &["d"])).await, wrong, "the key is lost");
    let health = story.module.self_test().await.unwrap();
    assert_eq!(health.state, ModuleState::Operational);
    // Within one order as well.
    let key = story.key(KeyAlg::P256).await;
    faulty.plan(|plan| plan.same_nonce = true);
    let both = sign(&key, P256, &[digest(P256, "a"), digest(P256, "b")]);
    let done = story.module.execute(&story.order(by_act(6, both))).await;
    assert!(matches!(done, Ok(Executed::WrongValue)), "{done:?}");
}
