//! Keys made ahead are used once each, and orders don't wait for stock.

use std::collections::HashSet;
use std::sync::Arc;

use cm_api::rpc::ModuleState;
use cm_core::ahead::Ahead;
use cm_core::backend::{Backend as _, Fault};
use cm_soft::SoftBackend;
use core_types::KeyAlg;

use crate::faulty::Faulty;
use crate::kit::{P256, Story, digest, sign};

const BROKEN: Fault = Fault::Broken("known answer");

#[tokio::test]
async fn every_key_of_the_stock_is_given_out_once_and_more_are_made_when_it_is_empty() {
    let ahead = Ahead::new(Arc::new(SoftBackend), vec![(KeyAlg::P256, 3)]).unwrap();
    assert!(ahead.stock(KeyAlg::P256) >= 1);
    let store = store_kit::testing::sqlite(cm_core::MIGRATIONS).await;
    let story = Story::begin(store, Arc::new(ahead)).await;
    let mut seen = HashSet::new();
    for _ in 0..20 {
        let key = story.key(KeyAlg::P256).await;
        assert!(seen.insert(key.spki.0.clone()), "given out twice");
        let order = story.order(sign(&key, P256, &[digest(P256, "a")]));
        story.module.execute(&order).await.unwrap();
    }
    story.key(KeyAlg::P384).await;
}

#[test]
fn keys_that_would_stay_in_a_token_are_not_made_ahead() {
    let faulty = Faulty::default();
    faulty.plan(|plan| plan.device = true);
    let refused = Ahead::new(Arc::new(faulty.clone()), vec![(KeyAlg::P256, 1)]);
    assert!(matches!(refused.err(), Some(Fault::Unfit(_))));
    faulty.plan(|plan| assert_eq!(plan.erased.len(), 1, "nor is one left behind"));
    faulty.plan(|plan| plan.device = false);
    let ahead = Ahead::new(Arc::new(faulty.clone()), vec![(KeyAlg::P256, 1)]).unwrap();
    let first = ahead.generate(KeyAlg::P256).unwrap();
    assert_eq!(pki::key_alg(&first.spki), Some(KeyAlg::P256));
}

/// Keys made ahead over a device that fails when it is told to, and a module over both.
async fn over(faulty: &Faulty) -> (Arc<Ahead>, Story) {
    let ahead = Arc::new(Ahead::new(Arc::new(faulty.clone()), vec![(KeyAlg::P256, 3)]).unwrap());
    let store = store_kit::testing::sqlite(cm_core::MIGRATIONS).await;
    let story = Story::begin(store, ahead.clone()).await;
    (ahead, story)
}

// shows: T-KEY-DERIVE, III-3-13-secure-state, III-3-13-detect-hardware
#[tokio::test]
async fn what_was_made_before_a_fault_was_found_is_given_to_nobody() {
    let faulty = Faulty::default();
    // What a generator gives that nobody has found out yet.
    let bad = SoftBackend.generate(KeyAlg::P256).unwrap();
    faulty.plan(|plan| plan.same = Some((bad.spki.clone(), bad.material)));
    let (ahead, mut story) = over(&faulty).await;
    assert!(ahead.stock(KeyAlg::P256) >= 1);
    faulty.plan(|plan| plan.self_test = Some(BROKEN));
    let health = story.module.self_test().await.unwrap();
    assert_eq!(health.state, ModuleState::Error);
    assert_eq!(ahead.stock(KeyAlg::P256), 0);
    faulty.plan(|plan| (plan.same, plan.self_test) = (None, None));
    story.module.self_test().await.unwrap();
    assert_eq!(ahead.stock(KeyAlg::P256), 0, "nothing is made meanwhile");
    // Nor after a restart on the same back end.
    story.module = story.again(7).await.unwrap();
    assert_eq!(ahead.stock(KeyAlg::P256), 0);
    assert_eq!(story.module.recover_alone().await, Ok(true));
    for _ in 0..5 {
        assert_ne!(story.key(KeyAlg::P256).await.spki.0, bad.spki);
    }
}

// shows: T-KEY-DERIVE, III-3-13-detect-hardware, III-3-13-secure-state
#[tokio::test]
async fn what_is_found_while_keys_are_made_ahead_is_the_modules_affair() {
    let faulty = Faulty::default();
    let (ahead, story) = over(&faulty).await;
    faulty.plan(|plan| plan.generate = Some(BROKEN));
    // If the stock is full, one is missing from here on.
    drop(ahead.generate(KeyAlg::P256));
    while ahead.self_test().is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(ahead.stock(KeyAlg::P256), 0);
    faulty.plan(|plan| plan.generate = None);
    let health = story.module.self_test().await.unwrap();
    assert_eq!(health.state, ModuleState::Error, "also if it works again");
    assert_eq!(story.audited("cm.error-kept").await, 1);
    let health = story.module.self_test().await.unwrap();
    assert!(health.tested.is_some());
    assert_eq!(story.module.recover_alone().await, Ok(true));
    story.key(KeyAlg::P256).await;
}
