//! Stops of several that lie on top of each other: each is lifted by whoever made it, and by nobody else. And stops between
//! the orders of one signature.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use core_types::KeyAlg;
use sam_api::Refusal;
use sam_api::guard::GuardRequest;
use sam_api::ssa::*;
use sap::manage::NoticeEffect;
use sap::office::{KeyAction, Measure};
use tokio::sync::Notify;

use crate::cm::{Fault, Refused};
use crate::kit::*;
use crate::life::notice;

async fn told(world: &World, signer: &Signer, effect: NoticeEffect, after: i64) {
    let notice = notice(world, signer, effect, after);
    let notice = world.ra.notice(&notice).unwrap();
    let request = NoticeRequest { notice };
    world.sam.notice(SSA, request).await.unwrap();
}

fn by_officers(signer: &Signer, action: KeyAction) -> Measure {
    let key = signer.keys[0].key.clone();
    Measure::Key { key, action }
}

async fn stopped_by(world: &World, signer: &Signer) -> Option<StopCause> {
    let key = world.key(signer).await;
    assert_eq!(key.stop.is_some(), key.state == KeyState::Suspended);
    key.stop.map(|stop| stop.cause)
}

// shows: T-KEY-MALFUNCTION, T-TERM-NOT-OWNER, I-4.2.2c-termination-causes
#[tokio::test(flavor = "multi_thread")]
async fn what_stopped_a_key_before_a_wrong_value_still_does_when_officers_let_it_go_on() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let token = world.approved(&mut signer, &[hash(1)]).await;
        let waiting = world.approved(&mut signer, &[hash(2)]).await;
        let (late, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        world.cm.delay(late.clone(), release.clone());
        world.cm.next(Fault::BitFlip);
        let (sam, request) = (
            world.sam.clone(),
            world.sign_request(&signer, &token, &[hash(1)]),
        );
        let call = tokio::spawn(async move { sam.sign(SSA, request).await });
        // While the module works, the signer stops the key, and its authority holds it.
        late.notified().await;
        let seen = world.key(&signer).await.changes;
        world.stop(&signer, seen).await.unwrap();
        told(&world, &signer, NoticeEffect::Hold, 1).await;
        release.notify_one();
        assert_eq!(call.await.unwrap().unwrap_err(), Refusal::Lost);
        let wrong = Some(StopCause::WrongValue);
        assert_eq!(stopped_by(&world, &signer).await, wrong);

        let resume = by_officers(&signer, KeyAction::Resume);
        world.decide(resume.clone()).await.unwrap();
        assert_eq!(stopped_by(&world, &signer).await, Some(StopCause::Hold));
        assert_eq!(world.history(&signer).await[0].what, Happened::Suspended);
        assert!(world.decide(resume).await.is_err(), "not theirs");
        let refused = world.sign(&signer, &waiting, &[hash(2)]).await;
        assert_eq!(refused.unwrap_err(), Refusal::KeyNotActive);

        told(&world, &signer, NoticeEffect::Released, 2).await;
        assert_eq!(stopped_by(&world, &signer).await, Some(StopCause::Login));
        let refused = world.sign(&signer, &waiting, &[hash(2)]).await;
        assert_eq!(refused.unwrap_err(), Refusal::KeyNotActive);
        let key = signer.keys[0].key.clone();
        let resume = Wish::Resume { key };
        world.changed(resume, &mut signer).await.unwrap();
        assert_eq!(stopped_by(&world, &signer).await, None);
        assert!(world.sign(&signer, &waiting, &[hash(2)]).await.is_ok());
    }
}

// shows: T-KEY-ABUSE, T-TERM-NOT-OWNER, I-7.1.4.7-alert-starts-countermeasure
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_its_authority_holds_is_stopped_by_officers_and_guard_before_the_release() {
    for world in worlds().await {
        for guard in [false, true] {
            let name = format!("p-{guard}");
            let signer = world.enrol(&name, false, &[KeyAlg::P256]).await;
            told(&world, &signer, NoticeEffect::Hold, 1).await;
            if guard {
                let key = signer.keys[0].key.clone();
                let stop = GuardRequest::Key { key };
                world.sam.guard_stop(GUARD, stop).await.unwrap();
            } else {
                let stop = by_officers(&signer, KeyAction::Suspend);
                world.decide(stop).await.unwrap();
            }
            let provider = Some(StopCause::Provider);
            assert_eq!(stopped_by(&world, &signer).await, provider);
            told(&world, &signer, NoticeEffect::Released, 2).await;
            assert_eq!(stopped_by(&world, &signer).await, provider);
            let resume = by_officers(&signer, KeyAction::Resume);
            world.decide(resume).await.unwrap();
            assert_eq!(stopped_by(&world, &signer).await, None);
            assert_eq!(world.history(&signer).await[0].what, Happened::Resumed);
        }
    }
}

// shows: T-KEY-ABUSE, T-TERM-NOT-OWNER, II-3.3.1-sap-replay-bypass-forgery
#[tokio::test(flavor = "multi_thread")]
async fn no_second_order_is_sent_after_a_stop() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let token = world.approved(&mut signer, &[hash(1)]).await;
        let (late, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        world.cm.delay(late.clone(), release.clone());
        world.cm.next(Fault::Refuse(Refused::NotOperational));
        let (sam, request) = (
            world.sam.clone(),
            world.sign_request(&signer, &token, &[hash(1)]),
        );
        let call = tokio::spawn(async move { sam.sign(SSA, request).await });
        late.notified().await;
        let seen = world.key(&signer).await.changes;
        world.stop(&signer, seen).await.unwrap();
        release.notify_one();
        assert_eq!(call.await.unwrap().unwrap_err(), Refusal::KeyNotActive);
        assert_eq!(world.cm.orders.load(Ordering::SeqCst), 0);
        assert_eq!(world.audited("signature.failed", "not-sent").await, 1);
        // The right is lost, also when the key goes on.
        let key = signer.keys[0].key.clone();
        let resume = Wish::Resume { key };
        world.changed(resume, &mut signer).await.unwrap();
        let again = world.sign(&signer, &token, &[hash(1)]).await.unwrap_err();
        assert!(matches!(again, Refusal::Used | Refusal::Lost), "{again:?}");
        assert!(world.cm.values.lock().unwrap().is_empty());
    }
}

// shows: T-KEY-ABUSE, III-3-6-reauthorization-limits
#[tokio::test(flavor = "multi_thread")]
async fn a_key_for_one_act_has_both_orders_of_it() {
    for world in worlds().await {
        let mut invitation = world.invitation("p", &[KeyAlg::P256]);
        invitation.one_time = true;
        let mut signer = world.enrol_by(invitation, false).await;
        let token = world.approved(&mut signer, &[hash(1)]).await;
        world.cm.next(Fault::Refuse(Refused::NotOperational));
        assert!(world.sign(&signer, &token, &[hash(1)]).await.is_ok());
        assert_eq!(world.cm.orders.load(Ordering::SeqCst), 1);
    }
}
