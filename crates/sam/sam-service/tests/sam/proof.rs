//! Proofs that must not be accepted (`sap.md` §14, 3-12).

use core_types::{B64, Digest32, KeyAlg, SecretBytes};
use sam_core::Policy;
use sam_service::SamConfig;
use sap::Proof;
use sap::messages::*;
use soft_passkey::Behaviour;
use store_kit::{StoreError, sql, transaction};

use crate::cm::Fault;
use crate::kit::*;

pub async fn code_of(world: &World, proof: Proof) -> SapRefusalCode {
    world.approve(proof).await.unwrap_err().code
}

pub async fn one_act(world: &World, signer: &Signer) -> Digest32 {
    let rid = world.prepare(signer, &[hash(1)]).await;
    world.open(rid).await
}

pub fn moved(proof: Proof, to: Digest32) -> Proof {
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
        Proof::Device {
            key, sig, sealed, ..
        } => Proof::Device {
            act: to,
            key,
            sig,
            sealed,
        },
        Proof::Idp { id_token, .. } => Proof::Idp { act: to, id_token },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_is_too_long_is_refused_before_anything_is_counted() {
    for world in worlds().await {
        let mut signer = world.enrol("p", true, &[KeyAlg::P256]).await;
        let act = one_act(&world, &signer).await;
        let before = world.audited("sap.attempt", "").await;
        let sealed = "x".repeat(sap::proof::MAX_PROOF + 1);
        let mut passkey = signer.passkey.prove(act).unwrap();
        if let Proof::Passkey { client_data, .. } = &mut passkey {
            client_data.0 = vec![b' '; sap::proof::MAX_PROOF * 3 / 4];
        }
        for proof in [Proof::PinTotp { act, sealed }, passkey] {
            assert_eq!(code_of(&world, proof).await, SapRefusalCode::Malformed);
        }
        assert_eq!(world.audited("sap.attempt", "").await, before);
    }
}

// shows: T-USE-SAD-FORGE, T-USE-SAP-BYPASS, II-3.3.1-sap-sad-integrity, I-3.5.1-only-signer-activates,
// I-3.3-confirm-instructing-person
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
            id_token: None,
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
        world.clock.advance(299);
        world.approve(proof).await.unwrap();
        let act = one_act(&world, &signer).await;
        let proof = signer.passkey.prove(act).unwrap();
        for wait in [300, 1] {
            world.clock.advance(wait);
            assert_eq!(
                code_of(&world, proof.clone()).await,
                SapRefusalCode::Expired
            );
        }

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

// shows: T-USE-SAP-BYPASS
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
                new: None,
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
