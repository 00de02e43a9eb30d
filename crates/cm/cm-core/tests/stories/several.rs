//! Several devices: spread, fail over, and no second value.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cm_api::rpc::ModuleState;
use cm_api::{ModuleError, Refusal};
use cm_core::backend::{Backend, Fault};
use cm_core::several::Several;
use core_types::{KeyAlg, Level};

use crate::faulty::Faulty;
use crate::kit::{P256, Story, digest, generate, sign};

async fn story(shared: bool) -> (Story, [Faulty; 2]) {
    let devices = [Faulty::default(), Faulty::default()];
    let members = devices
        .iter()
        .map(|d| Arc::new(d.clone()) as Arc<dyn Backend>);
    let several = Several::new(members.collect(), shared).unwrap();
    let store = store_kit::testing::sqlite(cm_core::MIGRATIONS).await;
    (Story::begin(store, Arc::new(several)).await, devices)
}

fn signed(device: &Faulty) -> u32 {
    device.1.load(Ordering::SeqCst)
}

// shows: T-KEY-MALFUNCTION, T-KEY-ABUSE
#[tokio::test]
async fn work_is_spread_and_goes_on_without_the_device_that_is_away() {
    let (story, [one, two]) = story(true).await;
    let key = story.key(KeyAlg::P256).await;
    let order = || story.order(sign(&key, P256, &[digest(P256, "a")]));
    for _ in 0..10 {
        story.module.execute(&order()).await.unwrap();
    }
    assert_eq!((signed(&one), signed(&two)), (5, 5));
    for fault in [Fault::Unavailable("away"), Fault::Locked("PIN")] {
        one.plan(|plan| plan.sign = Some((0, fault.clone())));
        two.plan(|_| {});
        for _ in 0..10 {
            story.module.execute(&order()).await.unwrap();
        }
        assert_eq!(signed(&two), 10, "{fault:?}");
    }
    let health = story.module.self_test().await.unwrap();
    assert_eq!(health.state, ModuleState::Operational);
    one.plan(|plan| plan.sign = None);
    two.plan(|plan| plan.sign = None);
    for _ in 0..10 {
        story.module.execute(&order()).await.unwrap();
    }
    assert_eq!((signed(&one), signed(&two)), (5, 5), "back again by itself");
    // Nobody knows whether the first one signed: the other isn't asked.
    for device in [&one, &two] {
        device.plan(|plan| plan.sign = Some((0, Fault::Unknown("no answer"))));
    }
    let unknown = story.module.execute(&order()).await;
    assert_eq!(unknown.unwrap_err(), ModuleError::Unknown);
    assert_eq!(signed(&one) + signed(&two), 1);
}

// shows: T-KEY-MALFUNCTION, III-3-13-detect-hardware
#[tokio::test]
async fn a_device_that_fails_its_test_is_left_out_and_all_of_them_stop_the_module() {
    let (story, [one, two]) = story(true).await;
    let key = story.key(KeyAlg::P256).await;
    let kind = || sign(&key, P256, &[digest(P256, "a")]);
    one.plan(|plan| plan.self_test = Some(Fault::Broken("known answer")));
    let health = story.module.self_test().await.unwrap();
    assert_eq!(health.state, ModuleState::Operational);
    one.plan(|plan| plan.self_test = None);
    two.plan(|_| {});
    for _ in 0..4 {
        story.module.execute(&story.order(kind())).await.unwrap();
    }
    assert_eq!(
        (signed(&one), signed(&two)),
        (0, 4),
        "also when it is well again"
    );
    two.plan(|plan| plan.self_test = Some(Fault::Broken("known answer")));
    let health = story.module.self_test().await.unwrap();
    assert_eq!(health.state, ModuleState::Error);
    assert_eq!(story.refused(kind()).await, Refusal::NotOperational);
}

#[tokio::test]
async fn a_key_that_lives_in_one_device_waits_for_it_and_new_ones_are_made_in_another() {
    let (story, [one, two]) = story(false).await;
    let mut keys = Vec::new();
    for _ in 0..4 {
        keys.push(story.key(KeyAlg::P256).await);
    }
    one.plan(|plan| {
        plan.sign = Some((0, Fault::Unavailable("away")));
        plan.generate = Some(Fault::Unavailable("away"));
    });
    two.plan(|_| {});
    let mut waiting = 0;
    for key in &keys {
        let order = story.order(sign(key, P256, &[digest(P256, "a")]));
        waiting += u32::from(story.module.execute(&order).await.is_err());
    }
    assert_eq!((waiting, signed(&two)), (2, 2));
    let order = story.order(generate(KeyAlg::P256, Level::One));
    story.module.execute(&order).await.unwrap();
    one.plan(|plan| *plan = crate::faulty::Plan::default());
    for key in &keys {
        let order = story.order(sign(key, P256, &[digest(P256, "a")]));
        story.module.execute(&order).await.unwrap();
    }
    let mixed: Vec<Arc<dyn Backend>> = vec![Arc::new(one), Arc::new(cm_soft::SoftBackend)];
    assert!(Several::new(mixed, true).is_none(), "of one kind only");
    assert!(Several::new(Vec::new(), true).is_none());
}
