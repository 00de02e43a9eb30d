//! Proofs that must not be accepted (`sap.md` §14, 3-12).

use std::sync::atomic::Ordering;

use core_types::random::SystemRandom;
use core_types::{B64, Digest32, KeyAlg, SecretBytes};
use futures_util::future::join_all;
use jose::{JweContext, SealKey};
use sam_core::Policy;
use sam_service::SamConfig;
use sap::messages::*;
use sap::{Proof, SealedProof, TYP_SEALED};
use soft_passkey::Behaviour;
use store_kit::{StoreError, sql, transaction};

use crate::cm::Fault;
use crate::kit::*;
use crate::once::die_while;

async fn code_of(world: &World, proof: Proof) -> SapRefusalCode {
    world.approve(proof).await.unwrap_err().code
}

async fn one_act(world: &World, signer: &Signer) -> Digest32 {
    let rid = world.prepare(signer, &[hash(1)]).await;
    world.open(rid).await
}

fn moved(proof: Proof, to: Digest32) -> Proof {
    match proof {
        Proof::Passkey {
            id,
            auth_data,
            client_data,
            sig,
            ..
        } => Proof::Passkey {
            act: to,
            id,
            auth_data,
            client_data,
            sig,
        },
        Proof::PinTotp { sealed, .. } => Proof::PinTotp { act: to, sealed },
    }
}

// shows: T-USE-SAD-FORGE, T-USE-SAP-BYPASS, II-3.3.1-sap-sad-integrity
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_counts_for_its_own_act_and_person_only() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let mut other = world.enrol("q", false, &[KeyAlg::P256]).await;
        let (a, b) = (
            one_act(&world, &signer).await,
            one_act(&world, &signer).await,
        );
        let proof = signer.passkey.prove(a).unwrap();
        assert_eq!(
            code_of(&world, moved(proof, b)).await,
            SapRefusalCode::Refused
        );
        assert_eq!(
            code_of(&world, other.passkey.prove(a).unwrap()).await,
            SapRefusalCode::Refused
        );
        let unknown = signer.passkey.prove(Digest32([9; 32])).unwrap();
        assert_eq!(code_of(&world, unknown).await, SapRefusalCode::NotFound);
        // An act of another kind.
        let (voucher, _) = world.invite(world.invitation("r", &[KeyAlg::P256])).await;
        let enrol = world
            .sam
            .enrol_open(EnrolOpenRequest { voucher })
            .await
            .unwrap()
            .act;
        let enrol = signer.passkey.prove(sap::act_digest(&enrol)).unwrap();
        assert_eq!(code_of(&world, enrol).await, SapRefusalCode::Refused);
        let sealed = world
            .seal(a, &world.secrets(a, &SecretBytes::new(vec![0; 16])))
            .await;
        let passkey = Some(passkey().register(a).unwrap());
        let request = EnrolRegisterRequest {
            act: a,
            sealed,
            passkey,
        };
        assert!(world.sam.enrol_register(request).await.is_err());
        // Nothing of this harmed the act.
        world
            .approve(signer.passkey.prove(a).unwrap())
            .await
            .unwrap();
    }
}

// shows: T-USE-SAP-REPLAY
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_counts_before_the_end_of_its_act_and_not_for_a_superseded_one() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let act = one_act(&world, &signer).await;
        let proof = signer.passkey.prove(act).unwrap();
        world.clock.advance(300);
        assert_eq!(
            code_of(&world, proof.clone()).await,
            SapRefusalCode::Expired
        );
        world.clock.advance(1);
        assert_eq!(
            code_of(&world, proof.clone()).await,
            SapRefusalCode::Expired
        );
        world.clock.advance(-400);
        assert_eq!(code_of(&world, proof.clone()).await, SapRefusalCode::NotNow);
        world.clock.advance(398);
        world.approve(proof).await.unwrap();

        let rid = world.prepare(&signer, &[hash(1)]).await;
        let first = world.open(rid).await;
        let second = world.open(rid).await;
        let proof = signer.passkey.prove(first).unwrap();
        assert_eq!(code_of(&world, proof).await, SapRefusalCode::Withdrawn);
        world
            .approve(signer.passkey.prove(second).unwrap())
            .await
            .unwrap();
    }
}

// shows: T-USE-SAP-BYPASS, II-3.3.1-privileged-data-changes
#[tokio::test(flavor = "multi_thread")]
async fn no_approval_after_a_stop_a_removal_or_a_change_of_policy() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let act = one_act(&world, &signer).await;
        let proof = signer.passkey.prove(act).unwrap();
        let policy = Policy {
            version: 2,
            ..Policy::default()
        };
        let stricter = world
            .node_with(SamConfig {
                policy,
                node: "sam-2".into(),
                ..world.config.clone()
            })
            .await;
        let refused = stricter
            .approve(ApproveRequest {
                proof: proof.clone(),
            })
            .await
            .unwrap_err();
        assert_eq!(refused.code, SapRefusalCode::Expired);

        let token = world.approved(&mut signer, &[hash(2)]).await;
        world.cm.next(Fault::BitFlip);
        world.sign(&signer, &token, &[hash(2)]).await.unwrap_err();
        assert_eq!(code_of(&world, proof).await, SapRefusalCode::KeyStopped);

        let mut removed = world.enrol("q", false, &[KeyAlg::P256]).await;
        let act = one_act(&world, &removed).await;
        let proof = removed.passkey.prove(act).unwrap();
        let gone: Result<u64, StoreError> = transaction!(world.store.store, "remove", |tx| {
            tx.execute(sql("DELETE FROM factor WHERE owner = $1").bind("q"))
                .await
        });
        assert_eq!(gone.unwrap(), 1);
        assert_eq!(code_of(&world, proof).await, SapRefusalCode::Refused);
    }
}

// shows: T-USE-CRED-FORGE, T-INS-ACTIVATION, II-3.3.1-sap-signer-authentication
#[tokio::test(flavor = "multi_thread")]
async fn assertions_of_other_origins_kinds_and_flags_are_refused() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let act = one_act(&world, &signer).await;
        let good = Behaviour::honest(ORIGIN, RP_ID);
        let origin = |o: &str| Behaviour {
            origin: o.into(),
            ..good.clone()
        };
        let bad = [
            origin("http://ssa.localhost:8443"),
            origin("https://sic.localhost:8443"),
            origin("http://sic.localhost:8444"),
            origin("http://a.sic.localhost:8443"),
            origin("http://sic.localhost:8443/"),
            Behaviour {
                rp_id: "ssa.localhost".into(),
                ..good.clone()
            },
            Behaviour {
                kind: Some("webauthn.create".into()),
                ..good.clone()
            },
            Behaviour {
                cross_origin: Some(true),
                ..good.clone()
            },
            Behaviour {
                more_members: r#","topOrigin":"http://ssa.localhost:1""#.into(),
                ..good.clone()
            },
            Behaviour {
                more_members: r#","type":"webauthn.get""#.into(),
                ..good.clone()
            },
            Behaviour {
                user_present: false,
                ..good.clone()
            },
            Behaviour {
                user_verified: false,
                ..good.clone()
            },
            Behaviour {
                backup_eligible: false,
                backed_up: false,
                ..good.clone()
            },
            Behaviour {
                backup_eligible: false,
                backed_up: true,
                ..good.clone()
            },
            Behaviour {
                trailing: vec![0],
                ..good.clone()
            },
            Behaviour {
                extensions: Some(vec![0xa0, 0xa0]),
                ..good.clone()
            },
            Behaviour {
                extensions: Some(vec![0x01]),
                ..good.clone()
            },
        ];
        for behaviour in bad {
            signer.passkey.behaviour = behaviour.clone();
            let proof = signer.passkey.prove(act).unwrap();
            assert_eq!(
                code_of(&world, proof).await,
                SapRefusalCode::Refused,
                "{behaviour:?}"
            );
        }
        signer.passkey.behaviour = good.clone();
        let Proof::Passkey {
            act: a,
            id,
            auth_data,
            client_data,
            mut sig,
        } = signer.passkey.prove(act).unwrap()
        else {
            unreachable!()
        };
        sig.0[20] ^= 1;
        let forged = Proof::Passkey {
            act: a,
            id,
            auth_data,
            client_data,
            sig,
        };
        assert_eq!(code_of(&world, forged).await, SapRefusalCode::Refused);
        // Members that browsers add, and extensions nobody asked for, do no harm.
        signer.passkey.behaviour = Behaviour {
            more_members: r#","other":{"x":[1,null]}"#.into(),
            extensions: Some(vec![0xa1, 0x61, b'x', 0xf5]),
            cross_origin: None,
            ..good
        };
        world
            .approve(signer.passkey.prove(act).unwrap())
            .await
            .unwrap();
    }
}

// shows: I-7.1.4.7-alert-security-relevant
#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_goes_back_is_an_alert_and_no_refusal() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        for (counter, alerts) in [(10, 0), (12, 0), (11, 1), (12, 2), (13, 2)] {
            signer.passkey.behaviour.counter = counter;
            let act = one_act(&world, &signer).await;
            world
                .approve(signer.passkey.prove(act).unwrap())
                .await
                .unwrap();
            assert_eq!(
                world.audited("alarm", "passkey-counter-went-back").await,
                alerts,
                "{counter}"
            );
        }
    }
}

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
        assert_eq!(code_of(&world, large).await, SapRefusalCode::Refused);
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
                sam.approve(ApproveRequest { proof }).await
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
                    sam.approve(ApproveRequest { proof }).await
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

// shows: I-7.1.2.5-authentication-failure-lockout
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
            die_while(&world, world.sam.approve(ApproveRequest { proof })).await;
        }
        let node = world.node("sam-after-crash").await;
        let proof = world
            .pin_proof(act, "wrong-pin-2", world.otp(&seed, 0))
            .await;
        let refused = node.approve(ApproveRequest { proof }).await.unwrap_err();
        assert_eq!(
            (refused.code, refused.tries_left),
            (SapRefusalCode::Refused, Some(0))
        );
        let proof = world.pin_proof(act, PIN, world.otp(&seed, 0)).await;
        let refused = node.approve(ApproveRequest { proof }).await.unwrap_err();
        assert_eq!(refused.code, SapRefusalCode::Locked);
    }
}

// shows: T-USE-CAPTURE, II-3.3.1-sap-sad-confidentiality
#[tokio::test(flavor = "multi_thread")]
async fn which_of_pin_and_code_was_wrong_is_not_told() {
    for world in worlds().await {
        let mut answers = Vec::new();
        for (n, (pin, otp)) in [
            (PIN, "000000"),
            ("wrong-pin-1", ""),
            ("wrong-pin-1", "000000"),
        ]
        .into_iter()
        .enumerate()
        {
            let signer = world.enrol(&format!("p-{n}"), true, &[KeyAlg::P256]).await;
            world.clock.advance(60);
            let act = one_act(&world, &signer).await;
            let seed = signer.seed.as_ref().unwrap();
            let otp = if otp.is_empty() {
                world.otp(seed, 0)
            } else {
                SecretBytes::from(otp.to_owned())
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

#[tokio::test(flavor = "multi_thread")]
async fn the_next_act_shows_what_happened_since() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let since = |jws: String| {
            let payload = core_types::bytes::from_b64u(jws.split('.').nth(1).unwrap()).unwrap();
            let sap::Act::Sign(act) = serde_json::from_slice(&payload).unwrap() else {
                panic!("sign")
            };
            act.since
        };
        let rid = world.prepare(&signer, &[hash(1)]).await;
        let first = world.sam.open(OpenRequest { rid }).await.unwrap().act;
        assert_eq!(since(first.clone()).act, None);
        assert_eq!(since(first.clone()).factors, Some(START));
        world.clock.advance(10);
        let proof = signer.passkey.prove(sap::act_digest(&first)).unwrap();
        world.approve(proof).await.unwrap();
        let rid = world.prepare(&signer, &[hash(1)]).await;
        let second = world.sam.open(OpenRequest { rid }).await.unwrap().act;
        assert_eq!(since(second).act, Some(START.plus(10)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proofs_of_a_wrong_form_are_refused() {
    let digest = Digest32([1; 32]);
    let proof = Proof::Passkey {
        act: digest,
        id: B64(vec![1]),
        auth_data: B64(vec![2]),
        client_data: B64(vec![3]),
        sig: B64(vec![4]),
    };
    let good = serde_json::to_string(&proof).unwrap();
    assert!(serde_json::from_str::<Proof>(&good).is_ok());
    let bad = [
        good.replacen('{', r#"{"more":1,"#, 1),
        good.replacen(r#""id""#, r#""id":"AQ","id""#, 1),
        good.replacen(r#""id":"AQ","#, "", 1),
        good.replacen(r#""AQ""#, r#""AQ==""#, 1),
        good.replacen(r#""AQ""#, "7", 1),
        good.replacen("passkey", "device", 1),
    ];
    for text in bad {
        assert!(serde_json::from_str::<Proof>(&text).is_err(), "{text}");
    }
}
