//! PIN and one-time code: opened for their act only, counted before they are compared (`sap.md` §14, 9-12).

use std::sync::atomic::Ordering;

use core_types::random::SystemRandom;
use core_types::{KeyAlg, SecretBytes};
use futures_util::future::join_all;
use jose::{JweContext, SealKey};
use sap::messages::*;
use sap::{Proof, SealedProof, TYP_SEALED};

use crate::cm::Fault;
use crate::kit::*;
use crate::once::die_while;
use crate::proof::{code_of, moved, one_act};

// shows: T-USE-CAPTURE, II-3.3.1-sap-sad-confidentiality
#[tokio::test(flavor = "multi_thread")]
async fn sealed_secrets_open_for_their_act_and_key_only() {
    for world in worlds().await {
        let signer = world.enrol("p", true, &[KeyAlg::P256]).await;
        let seed = signer.seed.clone().unwrap();
        world.clock.advance(60);
        let (a, b) = (
            one_act(&world, &signer).await,
            one_act(&world, &signer).await,
        );
        let compared = world.cm.pins.load(Ordering::SeqCst);
        // Moved to another act; made for another act inside; for a key that isn't the SAM's; far too large.
        let proof = world.pin_proof(a, PIN, world.otp(&seed, 0)).await;
        assert_eq!(
            code_of(&world, moved(proof, b)).await,
            SapRefusalCode::Refused
        );
        let inner = SealedProof {
            act: a,
            pin: SecretBytes::from(PIN.to_owned()),
            otp: world.otp(&seed, 0),
        };
        let crossed = Proof::PinTotp {
            act: b,
            sealed: world.seal(b, &inner).await,
        };
        assert_eq!(code_of(&world, crossed).await, SapRefusalCode::Refused);
        let (foreign, _) = SealKey::generate().unwrap();
        let plain = SecretBytes::new(serde_json::to_vec(&inner).unwrap());
        let context = JweContext {
            typ: TYP_SEALED,
            apu: a,
        };
        let sealed = jose::seal(&plain, foreign.public(), context, &SystemRandom).unwrap();
        assert_eq!(
            code_of(&world, Proof::PinTotp { act: a, sealed }).await,
            SapRefusalCode::Refused
        );
        let large = Proof::PinTotp {
            act: b,
            sealed: "x".repeat(1 << 20),
        };
        // The door takes nothing of that length; behind it, it is refused all the same.
        let request = ApproveRequest {
            proof: large,
            new: None,
        };
        let refused = world.sam.inside().approve(request).await.unwrap_err();
        assert_eq!(refused.code, SapRefusalCode::Malformed);
        assert_eq!(world.cm.pins.load(Ordering::SeqCst), compared);
    }
}

// shows: T-USE-SAP-REPLAY, T-USE-CAPTURE
#[tokio::test(flavor = "multi_thread")]
async fn a_code_counts_once_also_on_two_nodes_at_once() {
    for world in worlds().await {
        let signer = world.enrol("p", true, &[KeyAlg::P256]).await;
        let seed = signer.seed.clone().unwrap();
        world.clock.advance(60);
        let nodes = [world.sam.clone(), world.node("sam-2").await];
        let mut calls = Vec::new();
        for sam in nodes.clone() {
            let act = one_act(&world, &signer).await;
            let proof = world.pin_proof(act, PIN, world.otp(&seed, 0)).await;
            calls.push(tokio::spawn(async move {
                sam.approve(ApproveRequest { proof, new: None }).await
            }));
        }
        let approved = join_all(calls)
            .await
            .into_iter()
            .filter(|o| o.as_ref().unwrap().is_ok())
            .count();
        assert_eq!(approved, 1);
        let act = one_act(&world, &signer).await;
        let again = world.pin_proof(act, PIN, world.otp(&seed, 0)).await;
        assert_eq!(code_of(&world, again).await, SapRefusalCode::Refused);
        let next = world.pin_proof(act, PIN, world.otp(&seed, 1)).await;
        world.approve(next).await.unwrap();
    }
}

// shows: I-7.1.2.5-authentication-failure-lockout, T-USE-CAPTURE
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_wrong_pins_in_parallel_are_not_a_hundred_guesses() {
    for world in worlds().await {
        let signer = world.enrol("p", true, &[KeyAlg::P256]).await;
        let seed = signer.seed.clone().unwrap();
        world.clock.advance(60);
        let compared = world.cm.pins.load(Ordering::SeqCst);
        let mut calls = Vec::new();
        for _ in 0..5 {
            let act = one_act(&world, &signer).await;
            for n in 0..20 {
                let proof = world
                    .pin_proof(act, &format!("wrong-pin-{n}"), world.otp(&seed, 0))
                    .await;
                let sam = world.sam.clone();
                calls.push(tokio::spawn(async move {
                    sam.approve(ApproveRequest { proof, new: None }).await
                }));
            }
        }
        assert!(
            join_all(calls)
                .await
                .into_iter()
                .all(|o| o.unwrap().is_err())
        );
        let guesses = world.cm.pins.load(Ordering::SeqCst) - compared;
        assert!((1..=10).contains(&guesses), "{guesses}");
        // Even the right PIN has to wait now.
        let act = one_act(&world, &signer).await;
        let right = world.pin_proof(act, PIN, world.otp(&seed, 0)).await;
        assert_eq!(code_of(&world, right).await, SapRefusalCode::Locked);
        assert!(world.audited("factor.locked", "").await >= 1);
    }
}

// shows: I-7.1.2.5-authentication-failure-lockout, I-7.1.4.1-log-sap-authentication
#[tokio::test(flavor = "multi_thread")]
async fn a_try_stands_when_the_node_dies_before_it_is_judged() {
    for world in worlds().await {
        let signer = world.enrol("p", true, &[KeyAlg::P256]).await;
        let seed = signer.seed.clone().unwrap();
        world.clock.advance(60);
        let act = one_act(&world, &signer).await;
        for _ in 0..4 {
            world.cm.next(Fault::PinHangs);
            let proof = world
                .pin_proof(act, "wrong-pin-1", world.otp(&seed, 0))
                .await;
            die_while(
                &world,
                world
                    .sam
                    .inside()
                    .approve(ApproveRequest { proof, new: None }),
            )
            .await;
        }
        let node = world.node("sam-after-crash").await;
        let proof = world
            .pin_proof(act, "wrong-pin-2", world.otp(&seed, 0))
            .await;
        let refused = node
            .approve(ApproveRequest { proof, new: None })
            .await
            .unwrap_err();
        assert_eq!(
            (refused.code, refused.tries_left),
            (SapRefusalCode::Refused, Some(0))
        );
        let proof = world.pin_proof(act, PIN, world.otp(&seed, 0)).await;
        let refused = node
            .approve(ApproveRequest { proof, new: None })
            .await
            .unwrap_err();
        assert_eq!(refused.code, SapRefusalCode::Locked);
    }
}

// shows: T-USE-CAPTURE, II-3.3.1-sap-sad-confidentiality
#[tokio::test(flavor = "multi_thread")]
async fn which_of_pin_and_code_was_wrong_is_not_told() {
    for world in worlds().await {
        let mut answers = Vec::new();
        for (n, (pin, right)) in [(PIN, false), ("wrong-pin-1", true), ("wrong-pin-1", false)]
            .into_iter()
            .enumerate()
        {
            let signer = world.enrol(&format!("p-{n}"), true, &[KeyAlg::P256]).await;
            world.clock.advance(60);
            let act = one_act(&world, &signer).await;
            let seed = signer.seed.as_ref().unwrap();
            let otp = match right {
                true => world.otp(seed, 0),
                false => world.no_otp(seed),
            };
            let compared = world.cm.pins.load(Ordering::SeqCst);
            answers.push(
                world
                    .approve(world.pin_proof(act, pin, otp).await)
                    .await
                    .unwrap_err(),
            );
            // The slow part is done in every case.
            assert_eq!(world.cm.pins.load(Ordering::SeqCst), compared + 1);
        }
        assert!(answers.iter().all(|a| *a == answers[0]), "{answers:?}");
        assert_eq!(answers[0].tries_left, Some(4));
    }
}
