//! Several devices: spread, fail over, and no second value.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cm_api::rpc::ModuleState;
use cm_api::{ModuleError, Refusal};
use cm_core::backend::{Backend, Fault, NO_SUCH_KEY, NO_WRAPPING_KEY, SILENT};
use cm_core::several::{Device, Several};
use core_types::{KeyAlg, Level};

use crate::faulty::Faulty;
use crate::kit::{P256, Story, digest, generate, refusal, sign};

async fn story(shared: bool) -> (Story, [Faulty; 2]) {
    let devices = [Faulty::default(), Faulty::default()];
    let members = devices
        .iter()
        .map(|d| Arc::new(d.clone()) as Arc<dyn Backend>);
    let several = Several::new(members, shared).unwrap();
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
    assert_eq!(
        (health.operational, health.state),
        (true, ModuleState::Degraded)
    );
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

// shows: T-KEY-MALFUNCTION, III-3-13-secure-state, III-3-14-audit-records
#[tokio::test]
async fn what_becomes_of_a_device_is_told_and_one_that_does_not_answer_is_left_alone() {
    use cm_api::rpc::MemberState::{Away, Out, Resting, Well};
    let (story, [one, two]) = story(true).await;
    let states = |story: &Story| -> Vec<_> {
        let members = story.module.health().members;
        members.into_iter().map(|m| m.state).collect()
    };
    let key = story.key(KeyAlg::P256).await;
    let order = || story.order(sign(&key, P256, &[digest(P256, "a")]));
    for fault in [Fault::Unknown("no answer"), SILENT] {
        one.plan(|plan| {
            plan.sign = Some((0, fault.clone()));
            plan.self_test = Some(SILENT);
        });
        two.plan(|_| {});
        let mut lost = 0;
        for _ in 0..10 {
            lost += u32::from(story.module.execute(&order()).await.is_err());
        }
        let expected = u32::from(fault != SILENT);
        assert_eq!((lost, signed(&one)), (expected, 1), "asked once: {fault:?}");
        assert_eq!(states(&story), [Resting, Well]);
        story.module.tidy().await;
        assert_eq!(states(&story), [Resting, Well], "it doesn't pass its tests");
        one.plan(|plan| (plan.sign, plan.self_test) = (None, None));
        story.module.tidy().await;
        assert_eq!(states(&story), [Well, Well]);
    }
    assert_eq!(story.audited("cm-device-away").await, 2);
    one.plan(|plan| plan.sign = Some((0, Fault::Unavailable("away"))));
    for _ in 0..4 {
        story.module.execute(&order()).await.unwrap();
    }
    assert_eq!(states(&story), [Away, Well]);
    assert_eq!(story.audited("cm-device-away").await, 3, "told once");
    // If nobody else is left, one that doesn't answer is asked all the same.
    one.plan(|plan| (plan.sign, plan.self_test) = (None, Some(SILENT)));
    two.plan(|plan| plan.self_test = Some(Fault::Broken("known answer")));
    let health = story.module.self_test().await.unwrap();
    assert_eq!(health.state, ModuleState::Degraded);
    assert_eq!(states(&story), [Resting, Out]);
    story.module.execute(&order()).await.unwrap();
    assert_eq!(states(&story), [Well, Out]);
    assert_eq!(story.audited("cm-device-out").await, 1);
}

// shows: T-KEY-MALFUNCTION, III-3-14-audit-records
#[tokio::test]
async fn a_key_that_one_device_lacks_is_used_in_another_and_that_is_told() {
    for missing in [NO_SUCH_KEY, NO_WRAPPING_KEY] {
        let (story, [one, two]) = story(true).await;
        let keys = [story.key(KeyAlg::P256).await, story.key(KeyAlg::P256).await];
        let use_of = async |n: usize| {
            let order = story.order(sign(&keys[n], P256, &[digest(P256, "a")]));
            story.module.execute(&order).await
        };
        one.plan(|plan| plan.load = Some(missing.clone()));
        for _ in 0..4 {
            use_of(0).await.unwrap();
        }
        assert_eq!(story.audited("cm-device-lacks-key").await, 1);
        story.module.tidy().await;
        use_of(0).await.unwrap();
        use_of(0).await.unwrap();
        assert_eq!(
            story.audited("cm-device-lacks-key").await,
            2,
            "every minute"
        );
        // Who knows whether the one that is away has it.
        two.plan(|plan| plan.load = Some(Fault::Unavailable("away")));
        assert_eq!(refusal(use_of(1).await), Refusal::NotOperational);
        two.plan(|plan| plan.load = Some(missing.clone()));
        let refused = refusal(use_of(1).await);
        assert_ne!(refused, Refusal::NotOperational, "nobody has it");
        let told = ["cm-key-missing", "cm-wrapping-key-missing"];
        assert_eq!(
            story
                .audited(told[usize::from(missing != NO_SUCH_KEY)])
                .await,
            1
        );
    }
}

#[tokio::test]
async fn devices_that_are_said_to_share_their_keys_have_to() {
    let (one, two) = (Faulty::default(), Faulty::default());
    let members: Vec<Arc<dyn Backend>> = vec![Arc::new(one), Arc::new(two.clone())];
    let several = |shared| Several::new(members.clone(), shared).unwrap();
    several(true).check().unwrap();
    two.plan(|plan| plan.load = Some(NO_SUCH_KEY));
    assert!(matches!(several(true).check(), Err(Fault::Unfit(_))));
    several(false).check().unwrap();
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
    assert!(Several::new(Vec::<Device>::new(), true).is_none());
}

// shows: T-KEY-MALFUNCTION, III-3-13-secure-state
#[tokio::test]
async fn one_device_that_hangs_for_good_does_not_end_the_process_while_another_one_works() {
    for shared in [true, false] {
        let (story, [one, two]) = story(shared).await;
        one.plan(|plan| plan.stuck = true);
        assert!(!story.module.tidy().await, "{shared}");
        two.plan(|plan| plan.stuck = true);
        assert!(story.module.tidy().await, "nothing works: {shared}");
        two.plan(|plan| {
            plan.stuck = false;
            plan.self_test = Some(Fault::Broken("known answer"));
        });
        assert!(!story.module.tidy().await, "{shared}");
        story.module.self_test().await.unwrap();
        assert!(story.module.tidy().await, "the other one is out: {shared}");
    }
}

// shows: T-KEY-MALFUNCTION, III-3-14-audit-records
#[test]
fn a_device_that_opens_keys_and_does_not_sign_is_told_once_a_minute() {
    let one = Faulty::default();
    let members: Vec<Arc<dyn Backend>> = vec![Arc::new(one.clone()), Arc::new(Faulty::default())];
    let several = Several::new(members, false).unwrap();
    let made = several.generate(KeyAlg::P256).unwrap();
    one.plan(|plan| plan.sign = Some((0, Fault::Unavailable("away"))));
    for _ in 0..2 {
        for _ in 0..5 {
            let key = several.load(KeyAlg::P256, &made.material).unwrap();
            assert!(key.sign(P256, &[7; 32]).is_err());
        }
        assert_eq!(several.news(), ["cm-device-away"]);
        several.look();
    }
}

#[test]
fn a_trial_pair_ends_in_all_devices_that_can_be_asked() {
    let (one, two) = (Faulty::default(), Faulty::default());
    let members: Vec<Arc<dyn Backend>> = vec![Arc::new(one.clone()), Arc::new(two.clone())];
    let several = Several::new(members, true).unwrap();
    one.plan(|plan| {
        plan.device = true;
        plan.erase = Some(Fault::Unavailable("away"));
    });
    two.plan(|plan| plan.load = Some(NO_SUCH_KEY));
    // What matters more is said, and the second one is asked all the same.
    assert!(matches!(several.check(), Err(Fault::Unfit(_))));
    two.plan(|plan| {
        assert_eq!(plan.erased.len(), 1);
        plan.load = None;
    });
    one.plan(|plan| plan.erase = None);
    several.check().unwrap();
}
