//! More attacks of `sap.md` §14: other kinds of act with the same proof, mixed-up users, a log that can't be written.

use core_types::KeyAlg;
use sam_api::Refusal;
use sam_api::ssa::*;
use sap::messages::*;
use sap::proof::Method;

use crate::kit::*;
use crate::proof::moved;

async fn run(world: &World, statement: &'static str) {
    let done: Result<u64, store_kit::StoreError> =
        store_kit::transaction!(world.store, "attack", |tx| {
            tx.execute(store_kit::sql(statement)).await
        });
    done.unwrap();
}

fn wishes(signer: &Signer) -> Vec<Wish> {
    let (key, registration) = (
        signer.keys[0].key.clone(),
        signer.keys[0].registration.clone(),
    );
    vec![
        Wish::Suspend { key: key.clone() },
        Wish::Destroy { key },
        Wish::Leave {
            registration: registration.clone(),
        },
        Wish::AddFactor {
            registration,
            method: Method::Passkey,
        },
    ]
}

// shows: T-USE-SAP-BYPASS, T-USE-SAD-FORGE, T-TERM-NOT-OWNER
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_of_one_kind_of_act_is_none_of_another() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let mut other = world.enrol("q", false, &[KeyAlg::P256]).await;
        let mut acts = vec![world.open(world.prepare(&signer, &[hash(1)]).await).await];
        for wish in wishes(&signer) {
            acts.push(world.change(&signer, wish).await);
        }
        for from in &acts {
            let proof = signer.passkey.prove(*from).unwrap();
            for to in acts.iter().filter(|to| *to != from) {
                assert!(world.approve(moved(proof.clone(), *to)).await.is_err());
            }
            // Somebody else's passkey, over the right act.
            let foreign = other.passkey.prove(*from).unwrap();
            assert!(world.approve(foreign).await.is_err());
        }
        assert_eq!(world.key(&signer).await.state, KeyState::Active);
        assert_eq!(world.audited("act.approved", "").await, 0);
    }
}

// shows: T-USE-SAP-REPLAY, T-USE-SAP-BYPASS
#[tokio::test(flavor = "multi_thread")]
async fn an_act_of_any_kind_ends_to_the_second_and_dies_with_a_later_one() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        for wish in wishes(&signer) {
            let rid = world.ask(&signer, wish.clone()).await.unwrap();
            let first = world.open(rid).await;
            let second = world.open(rid).await;
            let old = signer.passkey.prove(first).unwrap();
            assert_eq!(
                world.approve(old).await.unwrap_err().code,
                SapRefusalCode::Withdrawn
            );
            world.clock.advance(300);
            let late = signer.passkey.prove(second).unwrap();
            assert_eq!(
                world.approve(late).await.unwrap_err().code,
                SapRefusalCode::Expired
            );
            // Refused once, refused for good.
            let rid = world.ask(&signer, wish).await.unwrap();
            let act = world.open(rid).await;
            let refuse = RefuseRequest {
                act,
                unknown: false,
            };
            world.sam.refuse(refuse).await.unwrap();
            let proof = signer.passkey.prove(act).unwrap();
            assert_eq!(
                world.approve(proof).await.unwrap_err().code,
                SapRefusalCode::Withdrawn
            );
            assert!(world.sam.open(OpenRequest { rid }).await.is_err());
        }
        // Acts of another epoch are dead.
        let wish = wishes(&signer).remove(1);
        let act = world.change(&signer, wish).await;
        let proof = signer.passkey.prove(act).unwrap();
        world.store.mark_restored().await.unwrap();
        assert_eq!(
            world.approve(proof).await.unwrap_err().code,
            SapRefusalCode::Expired
        );
        assert_eq!(world.key(&signer).await.state, KeyState::Active);
    }
}

// shows: T-INS-OPERATOR, T-USE-SAP-BYPASS
#[tokio::test(flavor = "multi_thread")]
async fn users_and_services_are_not_mixed_up() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let mut other = world.enrol("q", false, &[KeyAlg::P256]).await;
        // A request of one, opened in the other's browser: only the first can approve it.
        let rid = world.prepare(&signer, &[hash(1)]).await;
        let act = world.open(rid).await;
        assert!(
            world
                .approve(other.passkey.prove(act).unwrap())
                .await
                .is_err()
        );
        world
            .approve(signer.passkey.prove(act).unwrap())
            .await
            .unwrap();
        world.bind(rid, "token").await.unwrap();
        let mut request = world.sign_request(&other, "token", &[hash(1)]);
        assert_eq!(
            world.sam.sign(SSA, request.clone()).await.unwrap_err(),
            Refusal::Mismatch
        );
        request.key = signer.keys[0].key.clone();
        request.client = core_types::ClientId::parse("client-2").unwrap();
        assert_eq!(
            world.sam.sign(SSA, request).await.unwrap_err(),
            Refusal::Mismatch
        );
        // Wishes of another service's request, and for another's factors.
        let wish = Wish::RemoveFactor {
            factor: world.factors(&signer).await[0].factor.clone(),
        };
        assert_eq!(
            world.ask(&other, wish).await.unwrap_err(),
            Refusal::NotFound
        );
        let rid = world.ask(&signer, wishes(&signer).remove(0)).await.unwrap();
        let status = world
            .sam
            .status("other-ssa.test", StatusRequest { rid })
            .await;
        assert_eq!(status.unwrap_err(), Refusal::NotFound);
    }
}

// shows: I-7.1.4.9-audit-timing
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_recorded_stops_destroys_and_renews_nothing() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let token = world.renewable(&mut signer, &[hash(1), hash(2)], 900).await;
        let act = world.change(&signer, wishes(&signer).remove(1)).await;
        let proof = signer.passkey.prove(act).unwrap();
        let before = world.key(&signer).await;
        run(&world, "ALTER TABLE audit_entry RENAME TO audit_gone").await;
        assert_eq!(
            world.approve(proof.clone()).await.unwrap_err().code,
            SapRefusalCode::NotNow
        );
        assert_eq!(
            world.stop(&signer, before.changes).await.unwrap_err(),
            Refusal::NotNow
        );
        assert_eq!(
            world.renew(&signer, &token, "next").await.unwrap_err(),
            Refusal::NotNow
        );
        run(&world, "ALTER TABLE audit_gone RENAME TO audit_entry").await;
        let after = world.key(&signer).await;
        assert_eq!(
            (after.state, after.changes),
            (KeyState::Active, before.changes)
        );
        assert!(world.sign(&signer, &token, &[hash(1)]).await.is_ok());
        world.approve(proof).await.unwrap();
        assert_eq!(world.key(&signer).await.state, KeyState::Destroyed);
    }
}

// shows: T-USE-CRED-ALTER, II-3.1.1-signer-data-protected
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_key_is_not_revived_by_editing_its_row() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let token = world.approved(&mut signer, &[hash(1)]).await;
        world
            .stop(&signer, world.key(&signer).await.changes)
            .await
            .unwrap();
        run(&world, "UPDATE signing_key SET state = 'active'").await;
        assert_eq!(
            world.sign(&signer, &token, &[hash(1)]).await.unwrap_err(),
            Refusal::KeyNotActive,
            "the plain column decides nothing"
        );
        run(&world, "UPDATE signing_key SET version = version - 1").await;
        assert_eq!(
            world.sign(&signer, &token, &[hash(1)]).await.unwrap_err(),
            Refusal::NotNow
        );
        assert!(world.audited("alarm", "sealed-row-tampered").await > 0);
    }
}
