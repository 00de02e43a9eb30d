//! A device that is away for a moment: the order waits, and is executed once all the same or not at all; no item gets two values.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cm_api::{Executed, ModuleError, Refusal};
use cm_core::backend::Fault;
use cm_core::wait::Pause;
use core_types::KeyAlg;
use core_types::clock::ManualClock;
use tokio::sync::Notify;

use crate::destroy::destroy;
use crate::faulty::Faulty;
use crate::kit::{P256, by_act, digest, refusal, sign};

// shows: T-KEY-MALFUNCTION, T-USE-SAP-REPLAY
#[tokio::test]
async fn a_device_that_is_away_for_a_moment_costs_no_signature() {
    let faulty = Faulty::default();
    let story = faulty.story().await;
    let key = story.key(KeyAlg::P256).await;
    for items in [1, 3] {
        let digests: Vec<_> = (0..items).map(|i| digest(P256, &i.to_string())).collect();
        let request = story.order(sign(&key, P256, &digests));
        // More calls than two attempts of one order make, and as many for each thread: one that found the device back while another
        // one doesn't would have made a value.
        faulty.plan(|plan| plan.away = 12);
        let done = story.module.execute(&request).await.unwrap();
        let Executed::Signed(values) = done else {
            panic!("signatures were ordered")
        };
        assert_eq!(values.len(), digests.len());
        for (value, digest) in values.iter().zip(&digests) {
            let signed = pki::Signed::Digest(digest);
            pki::verify_signature(&key.spki.0, P256, signed, &value.0).unwrap();
        }
        // It was one order, and its name is taken.
        let again = refusal(story.module.execute(&request).await);
        assert_eq!(again, Refusal::Duplicate);
    }
    assert_eq!(story.audited("key.used").await, 2);
    assert_eq!(story.audited("key.gave-nothing").await, 0);
    assert_eq!(story.audited("cm-degraded").await, 2, "operators are told");
}

// shows: T-KEY-MALFUNCTION, T-KEY-ABUSE
#[tokio::test]
async fn the_waiting_ends_with_a_definite_no_and_never_follows_a_value() {
    let faulty = Faulty::default();
    let story = faulty.story().await;
    let key = story.key(KeyAlg::P256).await;
    let order = || story.order(sign(&key, P256, &[digest(P256, "a")]));
    faulty.plan(|plan| plan.sign = Some((0, Fault::Unavailable("away for good"))));
    let answer = story.module.execute(&order()).await.unwrap_err();
    assert_eq!(answer, ModuleError::Refused(Refusal::NotOperational));
    let tries = faulty.1.load(Ordering::SeqCst);
    assert!((10..30).contains(&tries), "{tries}");
    assert_eq!(story.audited("key.gave-nothing").await, 1);
    // An order whose time is nearly over isn't waited for.
    faulty.plan(|_| ());
    let late = order();
    story.clock.advance(20);
    let answer = story.module.execute(&late).await.unwrap_err();
    assert_eq!(answer, ModuleError::Refused(Refusal::NotOperational));
    assert_eq!(faulty.1.load(Ordering::SeqCst), 1);
    story.clock.advance(-20);
    // What may have made a value is asked nothing more.
    for fault in [Fault::Unknown("no answer"), Fault::Locked("PIN")] {
        faulty.plan(|plan| plan.sign = Some((0, fault.clone())));
        story.module.execute(&order()).await.unwrap_err();
        assert_eq!(faulty.1.load(Ordering::SeqCst), 1, "{fault:?}");
    }
}

// shows: T-KEY-MALFUNCTION, T-KEY-ABUSE, T-USE-SAP-REPLAY
#[tokio::test]
async fn many_items_go_on_after_a_moment_without_the_device_and_none_gets_two_values() {
    let faulty = Faulty::default();
    let story = faulty.story().await;
    let key = story.key(KeyAlg::P256).await;
    let digests: Vec<_> = (0..20).map(|i| digest(P256, &i.to_string())).collect();
    let signed = || {
        let mut signed = Vec::new();
        faulty.plan(|plan| signed = std::mem::take(&mut plan.signed));
        signed
    };
    faulty.plan(|plan| plan.gap = Some((7, 12)));
    let request = story.order(sign(&key, P256, &digests));
    let done = story.module.execute(&request).await.unwrap();
    let Executed::Signed(values) = done else {
        panic!("signatures were ordered")
    };
    assert_eq!(values.len(), digests.len());
    for (value, digest) in values.iter().zip(&digests) {
        pki::verify_signature(&key.spki.0, P256, pki::Signed::Digest(digest), &value.0).unwrap();
    }
    let (mut wanted, mut once) = (digests.clone(), signed());
    wanted.sort();
    once.sort();
    assert_eq!(once, wanted, "each once");
    let again = refusal(story.module.execute(&request).await);
    assert_eq!((again, signed().len()), (Refusal::Duplicate, 0));
    // For good: some have a value, so that it isn't a definite no, and no other attempt gets them.
    faulty.plan(|plan| plan.gap = Some((7, 100_000)));
    let request = story.order(by_act(9, sign(&key, P256, &digests)));
    let answer = story.module.execute(&request).await.unwrap_err();
    assert_eq!((answer, signed().len()), (ModuleError::Unknown, 7));
    assert_eq!(story.audited("key.gave-nothing").await, 0);
    // Nor is anything tried again once an item may have a value that nobody got.
    faulty.plan(|plan| {
        plan.gap = None;
        plan.sign = Some((7, Fault::Unknown("no answer")));
    });
    let request = story.order(by_act(10, sign(&key, P256, &digests)));
    let answer = story.module.execute(&request).await.unwrap_err();
    assert_eq!(answer, ModuleError::Unknown);
    assert!(signed().len() <= 7 + service_kit::cores());
}

/// In which an order ends.
struct TooLong(Arc<ManualClock>);

impl Pause for TooLong {
    fn pause(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.0.advance(30);
        Box::pin(std::future::ready(()))
    }
}

// shows: T-KEY-MALFUNCTION, T-KEY-ABUSE
#[tokio::test]
async fn no_value_begins_after_the_end_of_its_order() {
    let faulty = Faulty::default();
    let mut story = faulty.story().await;
    let waiting = story.again(7).await.unwrap();
    story.module = waiting.pausing(Arc::new(TooLong(story.clock.clone())));
    let key = story.key(KeyAlg::P256).await;
    let digests: Vec<_> = (0..service_kit::cores() * 4)
        .map(|i| digest(P256, &i.to_string()))
        .collect();
    let request = story.order(sign(&key, P256, &digests[..1]));
    faulty.plan(|plan| plan.away = 1);
    let answer = story.module.execute(&request).await.unwrap_err();
    assert_eq!(answer, ModuleError::Refused(Refusal::NotOperational));
    assert_eq!(faulty.1.load(Ordering::SeqCst), 1);
    assert_eq!(story.audited("key.gave-nothing").await, 1);
    // Each thread has begun one when it is over, and nobody knows of the values.
    let request = story.order(by_act(9, sign(&key, P256, &digests)));
    faulty.plan(|plan| plan.slow = Some((story.clock.clone(), 30)));
    let answer = story.module.execute(&request).await.unwrap_err();
    assert_eq!(answer, ModuleError::Unknown);
    let begun = usize::try_from(faulty.1.load(Ordering::SeqCst)).unwrap();
    assert!((1..=service_kit::cores()).contains(&begun), "{begun}");
}

/// Waits until it is told that the pause is over.
#[derive(Default)]
struct Held {
    reached: Notify,
    over: Notify,
}

struct Holding(Arc<Held>);

impl Pause for Holding {
    fn pause(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.0.reached.notify_one();
        Box::pin(self.0.over.notified())
    }
}

// shows: T-KEY-ABUSE, III-A1.6-destroy-at-end
#[tokio::test]
async fn a_key_that_ends_while_the_device_is_away_signs_nothing_when_it_is_back() {
    let faulty = Faulty::default();
    let mut story = faulty.story().await;
    let other = story.again(7).await.unwrap();
    let held = Arc::new(Held::default());
    let waiting = story.again(7).await.unwrap();
    story.module = waiting.pausing(Arc::new(Holding(held.clone())));
    let key = story.key(KeyAlg::P256).await;
    let spare = story.key(KeyAlg::P256).await;
    let third = story.key(KeyAlg::P256).await;
    let digests: Vec<_> = (0..20).map(|i| digest(P256, &i.to_string())).collect();
    let cases = [(&spare, false, 1), (&key, true, 1), (&third, true, 20)];
    for (n, (key, ends, count)) in (10_u8..).zip(cases) {
        let request = story.order(by_act(n, sign(key, P256, &digests[..count])));
        faulty.plan(|plan| match count {
            1 => plan.away = 1,
            _ => plan.gap = Some((7, 12)),
        });
        let meanwhile = async {
            held.reached.notified().await;
            if ends {
                let order = story.order(destroy(key));
                other.execute(&order).await.unwrap();
            }
            held.over.notify_one();
        };
        let (answer, ()) =
            futures_util::future::join(story.module.execute(&request), meanwhile).await;
        let calls = faulty.1.load(Ordering::SeqCst);
        match (ends, count) {
            (false, _) => assert!(matches!(answer, Ok(Executed::Signed(_))), "{answer:?}"),
            (true, 1) => assert_eq!((refusal(answer), calls), (Refusal::NoSuchKey, 1)),
            // Some have a value: no definite no, after which another attempt might have them.
            (true, _) => assert_eq!(answer.unwrap_err(), ModuleError::Unknown),
        }
    }
}
