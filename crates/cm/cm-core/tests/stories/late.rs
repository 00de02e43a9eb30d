//! One of several devices that isn't there at the start: the others begin, and it is used when it has come and proven itself.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use cm_api::rpc::MemberState::{self, Awaited, Away, Out, Well};
use cm_api::rpc::ModuleState;
use cm_api::{Executed, KeyCreated, Refusal};
use cm_core::backend::{Backend, Fault, NO_WRAPPING_KEY};
use cm_core::several::{self, Declared, Device, NotOpen, Several};
use core_types::{KeyAlg, Level};

use crate::destroy::destroy;
use crate::faulty::Faulty;
use crate::kit::{P256, Story, digest, sign};

/// A device, and why it isn't open yet.
#[derive(Clone)]
struct Late {
    device: Arc<dyn Backend>,
    declared: Level,
    missing: Arc<Mutex<Option<NotOpen>>>,
    tries: Arc<AtomicU32>,
}

impl Late {
    fn new(device: &Faulty, declared: Level) -> Self {
        Self {
            device: Arc::new(device.clone()),
            declared,
            missing: Arc::new(Mutex::new(Some(NotOpen::Away))),
            tries: Arc::default(),
        }
    }

    fn is(&self, missing: Option<NotOpen>) {
        *self.missing.lock().unwrap() = missing;
    }
}

impl several::Awaited for Late {
    fn declared(&self) -> Declared {
        Declared {
            level: self.declared,
            reference: None,
        }
    }

    fn open(&self) -> Result<Arc<dyn Backend>, NotOpen> {
        self.tries.fetch_add(1, Ordering::SeqCst);
        match self.missing.lock().unwrap().clone() {
            Some(missing) => Err(missing),
            None => Ok(self.device.clone()),
        }
    }
}

/// The first device, and the one that comes later.
fn devices(one: &Faulty, late: &Late) -> [Device; 2] {
    let one: Arc<dyn Backend> = Arc::new(one.clone());
    [one.into(), Device::Away(Box::new(late.clone()))]
}

async fn begun(shared: bool) -> (Story, [Faulty; 2], Late) {
    let both = [Faulty::default(), Faulty::default()];
    let late = Late::new(&both[1], Level::One);
    let several = Several::new(devices(&both[0], &late), shared).unwrap();
    several.check().unwrap();
    let store = store_kit::testing::sqlite(cm_core::MIGRATIONS).await;
    (Story::begin(store, Arc::new(several)).await, both, late)
}

fn states(story: &Story) -> Vec<MemberState> {
    let members = story.module.health().members;
    members.into_iter().map(|m| m.state).collect()
}

async fn signs(story: &Story, key: &KeyCreated, times: u32) {
    for _ in 0..times {
        let order = story.order(sign(key, P256, &[digest(P256, "a")]));
        story.module.execute(&order).await.unwrap();
    }
}

fn signed(device: &Faulty) -> u32 {
    device.1.load(Ordering::SeqCst)
}

// shows: T-KEY-MALFUNCTION, III-3-13-secure-state, III-3-14-audit-records
#[tokio::test]
async fn a_device_that_is_away_at_the_start_is_taken_in_when_it_comes() {
    for shared in [true, false] {
        let (story, [one, two], late) = begun(shared).await;
        assert_eq!(states(&story), [Well, Awaited]);
        let health = story.module.health();
        assert_eq!(
            (health.operational, health.state),
            (true, ModuleState::Degraded)
        );
        let key = story.key(KeyAlg::P256).await;
        signs(&story, &key, 4).await;
        for _ in 0..2 {
            story.module.tidy().await;
        }
        assert_eq!(story.audited("cm-device-awaited").await, 1, "told once");
        assert_eq!(late.tries.load(Ordering::SeqCst), 2, "at each look");
        // It has to pass its tests first.
        late.is(None);
        two.plan(|plan| plan.self_test = Some(Fault::Unavailable("away again")));
        story.module.tidy().await;
        assert_eq!((states(&story)[1], signed(&two)), (Awaited, 0));
        two.plan(|plan| plan.self_test = None);
        story.module.tidy().await;
        assert_eq!(states(&story), [Well, Well]);
        assert_eq!(story.module.health().state, ModuleState::Operational);
        assert_eq!(story.audited("cm-device-joined").await, 1);
        let keys = [
            key,
            story.key(KeyAlg::P256).await,
            story.key(KeyAlg::P256).await,
        ];
        one.plan(|_| {});
        for key in &keys {
            signs(&story, key, 2).await;
        }
        assert!(signed(&one) > 0 && signed(&two) > 0, "work is spread");
        assert_eq!(late.tries.load(Ordering::SeqCst), 3, "it is open");
    }
}

// shows: T-KEY-MALFUNCTION, T-KEY-ABUSE, III-3-14-audit-records
#[tokio::test]
async fn what_comes_and_is_not_the_declared_device_is_told_and_never_used() {
    for shared in [true, false] {
        let (story, [_, two], late) = begun(shared).await;
        late.is(Some(NotOpen::Refused("the login".to_owned())));
        story.module.tidy().await;
        assert_eq!(states(&story), [Well, Out]);
        // It would open now, and isn't asked.
        late.is(None);
        story.module.tidy().await;
        assert_eq!(states(&story), [Well, Out]);
        assert_eq!(late.tries.load(Ordering::SeqCst), 1);
        assert_eq!(story.audited("cm-device-refused").await, 1);
        let key = story.key(KeyAlg::P256).await;
        signs(&story, &key, 4).await;
        assert_eq!(signed(&two), 0);
        // Nor one of another kind, or one that fails its tests.
        let (one, two) = (Faulty::default(), Faulty::default());
        let faulty = Late::new(&two, Level::One);
        faulty.is(None);
        let soft = Late {
            device: Arc::new(cm_soft::SoftBackend),
            ..faulty.clone()
        };
        two.plan(|plan| plan.self_test = Some(Fault::Broken("known answer")));
        for (late, told) in [(soft, "cm-device-refused"), (faulty, "cm-device-out")] {
            let several = Several::new(devices(&one, &late), shared).unwrap();
            several.look();
            assert_eq!(several.members()[1].state, Out, "{told}");
            assert_eq!(several.news(), ["cm-device-awaited", told]);
        }
    }
}

// shows: T-KEY-MALFUNCTION, T-KEY-ABUSE, III-3-14-audit-records
#[tokio::test]
async fn a_device_that_does_not_share_the_keys_is_not_used_until_it_does() {
    let (story, [one, two], late) = begun(true).await;
    let key = story.key(KeyAlg::P256).await;
    late.is(None);
    two.plan(|plan| plan.load = Some(NO_WRAPPING_KEY));
    for _ in 0..2 {
        story.module.tidy().await;
        assert_eq!(states(&story), [Well, Awaited]);
    }
    assert_eq!(story.audited("cm-device-refused").await, 1, "told once");
    signs(&story, &key, 4).await;
    assert_eq!(signed(&two), 0);
    // While the other one can't be asked nobody knows.
    two.plan(|plan| plan.load = None);
    one.plan(|plan| plan.load = Some(Fault::Unavailable("away")));
    story.module.tidy().await;
    assert_eq!(states(&story), [Well, Awaited]);
    one.plan(|plan| plan.load = None);
    story.module.tidy().await;
    assert_eq!(states(&story), [Well, Well]);
}

// shows: T-KEY-MALFUNCTION, III-3-13-secure-state
#[tokio::test]
async fn orders_wait_for_a_device_that_has_to_come_and_nothing_of_it_is_taken_for_granted() {
    let (story, [one, two], late) = begun(true).await;
    let key = story.key(KeyAlg::P256).await;
    // What needs all of them is refused.
    let away = |answer: Result<(), Fault>| matches!(answer, Err(Fault::Unavailable(_)));
    assert!(away(story.backend.renew_wrapping()));
    assert!(away(story.backend.retire_wrapping().map(drop)));
    // The one that was there is faulty: with another one to come, that isn't the end.
    one.plan(|plan| plan.self_test = Some(Fault::Broken("known answer")));
    let health = story.module.self_test().await.unwrap();
    assert_eq!(health.state, ModuleState::Degraded);
    assert_eq!(states(&story), [Out, Awaited]);
    let refused = story.refused(sign(&key, P256, &[digest(P256, "a")])).await;
    assert_eq!((refused, signed(&one)), (Refusal::NotOperational, 0));
    late.is(None);
    story.module.tidy().await;
    assert_eq!(states(&story), [Out, Well]);
    signs(&story, &key, 2).await;
    assert_eq!(signed(&two), 2);
    // A key that lives in it waits for it.
    let (one, two) = (Faulty::default(), Faulty::default());
    let both = [&one, &two].map(|d| Arc::new(d.clone()) as Arc<dyn Backend>);
    let both = Several::new(both, false).unwrap();
    let keys = [0; 2].map(|_| both.generate(KeyAlg::P256).unwrap());
    let late = Late::new(&two, Level::One);
    let again = Several::new(devices(&one, &late), false).unwrap();
    let load = |n: usize| again.load(KeyAlg::P256, &keys[n].material).map(drop);
    assert!(load(0).is_ok() && away(load(1)));
    late.is(None);
    again.look();
    assert!(load(0).is_ok() && load(1).is_ok());
}

// shows: III-A1.6-destroy-at-end
#[tokio::test]
async fn a_key_that_ends_is_erased_in_the_device_that_comes_later_too() {
    for shared in [true, false] {
        let both = [Faulty::default(), Faulty::default()];
        for device in &both {
            device.plan(|plan| plan.device = true);
        }
        let there = both
            .each_ref()
            .map(|d| Arc::new(d.clone()) as Arc<dyn Backend>);
        let store = store_kit::testing::sqlite(cm_core::MIGRATIONS).await;
        let several = Several::new(there, shared).unwrap();
        let mut story = Story::begin(store, Arc::new(several)).await;
        let keys = [story.key(KeyAlg::P256).await, story.key(KeyAlg::P256).await];
        let late = Late::new(&both[1], Level::Two);
        story.backend = Arc::new(Several::new(devices(&both[0], &late), shared).unwrap());
        story.module = story.again(7).await.unwrap();
        let mut open = 0;
        for key in &keys {
            let order = story.order(destroy(key));
            let done = story.module.execute(&order).await.unwrap();
            let Executed::Destroyed(done) = done else {
                panic!("a destruction was ordered")
            };
            open += u32::from(done.unrecoverable_after.is_none());
        }
        let erased = || {
            let mut count = [0; 2];
            for (device, count) in both.iter().zip(&mut count) {
                device.plan(|plan| *count = plan.erased.len());
            }
            count
        };
        let at_once = if shared { (2, [2, 0]) } else { (1, [1, 0]) };
        assert_eq!((open, erased()), at_once);
        late.is(None);
        story.module.tidy().await;
        story.module.finish_destructions().await.unwrap();
        assert_eq!(story.audited("key.erased").await, 2);
    }
}

// shows: III-3-17-retention-L2-inside, I-3.5.1-keygen-L2
#[test]
fn no_level_rests_on_a_device_that_was_never_seen() {
    use Level::{One, Three, Two};
    for (there, declared, level) in [
        (One, Three, One),
        (Two, One, One),
        (Two, Two, Two),
        (Two, Three, Two),
    ] {
        let (one, two) = (Faulty::default(), Faulty::default());
        one.plan(|plan| plan.level = Some(there));
        let late = Late::new(&two, declared);
        let several = Several::new(devices(&one, &late), false).unwrap();
        assert_eq!(several.ceiling(), level, "{there} {declared}");
        // What it says when it is there counts, if that is less.
        two.plan(|plan| plan.level = Some(One));
        late.is(None);
        several.look();
        assert_eq!((several.members()[1].state, several.ceiling()), (Well, One));
    }
    let nobody = Late::new(&Faulty::default(), Two);
    let nobody = [Device::Away(Box::new(nobody))];
    assert!(Several::new(nobody, false).is_none(), "nobody is there");
}

// shows: T-KEY-MALFUNCTION
#[test]
fn who_goes_away_or_fails_while_keys_are_tried_keeps_the_others_from_nothing() {
    for (fault, state) in [
        (Fault::Unavailable("away"), Awaited),
        (Fault::Unknown("no answer"), Awaited),
        (Fault::Broken("pairwise test"), Out),
    ] {
        let both = [Faulty::default(), Faulty::default()];
        let there = both
            .each_ref()
            .map(|d| Arc::new(d.clone()) as Arc<dyn Backend>);
        let several = Several::new(there, true).unwrap();
        both[0].plan(|plan| plan.generate = Some(fault.clone()));
        several.check().unwrap();
        let states = |several: &Several| several.members().into_iter().map(|m| m.state);
        assert!(states(&several).eq([state, Well]), "{fault}");
        both[0].plan(|plan| plan.generate = None);
        several.look();
        let back = if state == Awaited { Well } else { Out };
        assert!(states(&several).eq([back, Well]), "{fault}");
        // A person has to see to this.
        both[1].plan(|plan| plan.generate = Some(Fault::Locked("PIN")));
        assert!(matches!(several.check(), Err(Fault::Locked(_))));
        both[1].plan(|plan| plan.generate = Some(fault.clone()));
        both[0].plan(|plan| plan.generate = Some(fault.clone()));
        assert_eq!(several.check(), Err(fault), "nobody is left");
        assert!(states(&several).all(|s| s != Away && s != Well));
    }
}
