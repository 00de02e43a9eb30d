//! Keys for one act: the first act that signs is the only one, and the key ends with it.

use std::sync::atomic::Ordering;

use core_types::{DestroyCause, KeyAlg};
use futures_util::future::join_all;
use sam_api::Refusal;
use sam_api::ssa::*;
use sam_keys::Destruction;

use crate::cm::{Fault, Refused};
use crate::kit::*;

async fn one_time(world: &World, name: &str) -> Signer {
    let mut invitation = world.invitation(name, &[KeyAlg::P256]);
    invitation.one_time = true;
    let signer = world.enrol_by(invitation, false).await;
    assert!(signer.keys[0].one_time);
    signer
}

/// The key is destroyed, in the module too, and says why.
async fn is_used_up(world: &World, signer: &Signer) -> Destruction {
    // The SAM has it destroyed in the background as well.
    let stop = until("the module to destroy it", async || {
        world.sam.maintain().await.unwrap();
        let key = world.key(signer).await;
        assert_eq!(key.state, KeyState::Destroyed);
        key.stop.filter(|stop| stop.certificate.is_some())
    })
    .await;
    assert_eq!(stop.cause, StopCause::Used);
    let request = world.prepare_request(signer, hash_items(&[hash(9)]));
    let refused = world.sam.prepare(SSA, request).await.unwrap_err();
    assert_eq!(refused, Refusal::KeyNotActive);
    let roots = [world.sam.root().clone()];
    let told = Destruction::verify(&stop.certificate.unwrap(), &roots).unwrap();
    assert_eq!(told.cause, DestroyCause::Used);
    let history = world.history(signer).await;
    assert!(history.iter().any(|h| h.what == Happened::Destroyed));
    told
}

// shows: III-3-6-reauthorization-limits, III-A1.6-destroy-at-end, T-KEY-ABUSE, T-USE-SAP-REPLAY
#[tokio::test(flavor = "multi_thread")]
async fn a_key_for_one_act_signs_what_that_act_says_and_nothing_more() {
    for world in worlds().await {
        let mut signer = one_time(&world, "p").await;
        let mut request = world.prepare_request(&signer, hash_items(&[hash(1)]));
        request.renew = 60;
        let renewed = world.sam.prepare(SSA, request).await;
        assert!(renewed.is_err(), "an act with more steps");
        // Two acts are approved before either is used.
        let first = world.approved(&mut signer, &[hash(1), hash(2)]).await;
        let second = world.approved(&mut signer, &[hash(3)]).await;
        let mut request = world.sign_request(&signer, &first, &[hash(2), hash(1)]);
        request.idempotency_key = Some("key-1".into());
        let values = world.sam.sign(SSA, request.clone()).await.unwrap();
        for (hash, value) in [hash(2), hash(1)].iter().zip(&values.signatures) {
            assert!(verifies(&signer.keys[0], hash, value));
        }
        let refused = world.sign(&signer, &second, &[hash(3)]).await.unwrap_err();
        assert_eq!(refused, Refusal::KeyNotActive);
        let again = world.sam.sign(SSA, request).await.unwrap();
        assert_eq!(again.signatures, values.signatures, "no new values");
        assert_eq!(world.cm.orders.load(Ordering::SeqCst), 1);
        let told = is_used_up(&world, &signer).await;
        assert_eq!(told.signatures, 2);
        assert_eq!(world.audited("key.ended", "used").await, 1);
        assert_eq!(world.audited("key.destroyed", "used").await, 1);
    }
}

// shows: III-3-6-reauthorization-limits, T-KEY-ABUSE
#[tokio::test(flavor = "multi_thread")]
async fn of_acts_that_sign_at_once_on_two_nodes_one_gets_the_key() {
    for world in worlds().await {
        let mut signer = one_time(&world, "p").await;
        let nodes = [world.sam.clone(), world.node("sam-2").await];
        let mut tries = Vec::new();
        for n in 0..6 {
            let token = world.approved(&mut signer, &[hash(n)]).await;
            let request = world.sign_request(&signer, &token, &[hash(n)]);
            tries.push((nodes[n as usize % 2].clone(), request));
        }
        let tries = tries
            .into_iter()
            .map(|(sam, request)| tokio::spawn(async move { sam.sign(SSA, request).await }));
        let outcomes = join_all(tries).await;
        let good = outcomes.iter().filter(|o| matches!(o, Ok(Ok(_)))).count();
        assert_eq!(good, 1, "{outcomes:?}");
        assert_eq!(world.cm.orders.load(Ordering::SeqCst), 1);
        is_used_up(&world, &signer).await;
    }
}

// shows: III-3-6-reauthorization-limits, T-KEY-ABUSE, T-KEY-MALFUNCTION
#[tokio::test(flavor = "multi_thread")]
async fn whatever_comes_of_its_act_the_key_is_used_up() {
    for world in worlds().await {
        // The module says no for good; the answer is lost; the node dies while it waits.
        for (n, faults) in [
            &[Fault::Refuse(Refused::NotOperational); 2][..],
            &[Fault::LostAfter],
            &[Fault::LostBefore],
            &[Fault::NeverAnswers],
            &[Fault::NeverArrives],
        ]
        .into_iter()
        .enumerate()
        {
            let mut signer = one_time(&world, &format!("p-{n}")).await;
            let token = world.approved(&mut signer, &[hash(1)]).await;
            let other = world.approved(&mut signer, &[hash(2)]).await;
            faults.iter().for_each(|fault| world.cm.next(*fault));
            let request = world.sign_request(&signer, &token, &[hash(1)]);
            if matches!(faults[0], Fault::NeverAnswers | Fault::NeverArrives) {
                let sam = world.sam.inside();
                let task = tokio::spawn(async move { sam.sign(SSA, request).await });
                world.cm.hanging.notified().await;
                task.abort();
                let refused = world.sign(&signer, &other, &[hash(2)]).await.unwrap_err();
                assert_eq!(refused, Refusal::KeyNotActive, "{faults:?}");
                world.sam.maintain().await.unwrap();
                assert_eq!(world.key(&signer).await.state, KeyState::Active);
                world.clock.advance(31);
            } else {
                let refused = world.sam.sign(SSA, request).await.unwrap_err();
                assert_eq!(refused, Refusal::Lost, "{faults:?}");
                let refused = world.sign(&signer, &other, &[hash(2)]).await.unwrap_err();
                assert_eq!(refused, Refusal::KeyNotActive, "{faults:?}");
            }
            is_used_up(&world, &signer).await;
        }
    }
}
