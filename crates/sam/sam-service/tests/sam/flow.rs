//! The whole way, from invitation to signature.

use core_types::KeyAlg;
use sam_api::ssa::*;
use sap::messages::*;

use crate::kit::*;

// shows: II-3.3.1-sad-verified, II-3.1.1-keygen-via-cm, II-A1-multi-method-1
#[tokio::test(flavor = "multi_thread")]
async fn from_invitation_to_signature_with_a_passkey() {
    for world in worlds().await {
        for alg_ in [KeyAlg::P256, KeyAlg::Rsa3072] {
            let mut signer = world.enrol(&format!("p-{alg_}"), false, &[alg_]).await;
            let key = signer.keys[0].clone();
            assert_eq!(key.state, KeyState::Active);
            let hashes = [hash(1), hash(2), hash(3)];
            let token = world.approved(&mut signer, &hashes).await;
            // The order of the answer is that of the call, not of the act.
            let asked = [hash(3), hash(1)];
            let values = world
                .sign(&signer, &token, &asked)
                .await
                .unwrap()
                .signatures;
            assert_eq!(values.len(), 2);
            assert!(asked.iter().zip(&values).all(|(h, v)| verifies(&key, h, v)));
        }
        assert_eq!(world.audited("signature.made", "").await, 2);
        assert_eq!(world.audited("sad.consumed", "").await, 2);
    }
}

// shows: II-3.2-keyauth-L2-mfa, II-3.3.1-sap-signer-authentication
#[tokio::test(flavor = "multi_thread")]
async fn from_invitation_to_signature_with_pin_and_code() {
    for world in worlds().await {
        let signer = world.enrol("p-pin", true, &[KeyAlg::P256]).await;
        world.clock.advance(60);
        let rid = world.prepare(&signer, &[hash(1)]).await;
        let act = world.open(rid).await;
        let seed = signer.seed.as_ref().unwrap();
        let proof = world.pin_proof(act, PIN, world.otp(seed, 0)).await;
        assert_eq!(world.approve(proof).await.unwrap().return_uri, RETURN);
        let status = world.sam.status(SSA, StatusRequest { rid }).await.unwrap();
        assert_eq!(status.state, RequestState::Approved);
        let outcome = world.sam.outcome(OutcomeRequest { act }).await.unwrap();
        assert_eq!(outcome.state, ActOutcome::Approved);
        world.bind(rid, "token").await.unwrap();
        let values = world
            .sign(&signer, "token", &[hash(1)])
            .await
            .unwrap()
            .signatures;
        assert!(verifies(&signer.keys[0], &hash(1), &values[0]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_is_dead() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let rid = world.prepare(&signer, &[hash(1)]).await;
        let act = world.open(rid).await;
        world
            .sam
            .refuse(RefuseRequest { act, unknown: true })
            .await
            .unwrap();
        let status = world.sam.status(SSA, StatusRequest { rid }).await.unwrap();
        assert_eq!(status.state, RequestState::Refused);
        let refused = world
            .approve(signer.passkey.prove(act).unwrap())
            .await
            .unwrap_err();
        assert_eq!(refused.code, SapRefusalCode::Withdrawn);
        assert_eq!(
            world.sam.open(OpenRequest { rid }).await.unwrap_err().code,
            SapRefusalCode::Withdrawn
        );
        assert_eq!(world.audited("alarm", "request-unknown-to-signer").await, 1);
    }
}
