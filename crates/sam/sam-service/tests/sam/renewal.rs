//! Many signatures with one approval: renewed tokens (`sap.md` §7; §14, 24; `sad_method` 2).

use std::sync::atomic::Ordering;

use core_types::KeyAlg;
use futures_util::future::join_all;
use sam_api::Refusal;
use sap::Act;
use sap::messages::OpenRequest;

use crate::cm::Fault;
use crate::kit::*;

// shows: II-A1-multi-method-2, II-A1-sad-once
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_signs_what_was_fixed_at_approval_and_not_one_more() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let hashes = [hash(1), hash(2), hash(3)];
        let mut token = world.renewable(&mut signer, &hashes, 1800).await;
        for n in 1..=3 {
            let values = world
                .sign(&signer, &token, &[hash(n)])
                .await
                .unwrap()
                .signatures;
            assert!(verifies(&signer.keys[0], &hash(n), &values[0]));
            assert_eq!(
                world
                    .sign(&signer, &token, &[hash(n % 3 + 1)])
                    .await
                    .unwrap_err(),
                Refusal::Used
            );
            let next = random_token();
            let renewed = world.renew(&signer, &token, &next).await;
            if n == 3 {
                assert_eq!(renewed.unwrap_err(), Refusal::Used);
                break;
            }
            assert_eq!(renewed.unwrap().count, 3 - n);
            // The old one is dead for everything, the new one signs nothing that is done.
            let dead = world
                .sign(&signer, &token, &[hash(n + 1)])
                .await
                .unwrap_err();
            assert_eq!(dead, Refusal::NotFound);
            let other = random_token();
            assert_eq!(
                world.renew(&signer, &token, &other).await.unwrap_err(),
                Refusal::NotFound
            );
            let again = world.sign(&signer, &next, &[hash(n)]).await.unwrap_err();
            assert_eq!(again, Refusal::HashNotApproved);
            token = next;
        }
        assert_eq!(world.cm.orders.load(Ordering::SeqCst), 3);
        assert_eq!(world.audited("sad.renewed", "").await, 2);
        assert_eq!(world.audited("act.approved", "").await, 1);
    }
}

// shows: II-A1-multi-method-2, T-USE-SAP-BYPASS
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_ends_in_time_and_belongs_to_its_client_key_and_service() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let other = world.enrol("q", false, &[KeyAlg::P256]).await;
        let fixed = world.approved(&mut signer, &[hash(1), hash(2)]).await;
        let refused = world.renew(&signer, &fixed, "next").await.unwrap_err();
        assert_eq!(refused, Refusal::Used, "the act says nothing of renewing");

        let token = world
            .renewable(&mut signer, &[hash(3), hash(4), hash(5)], 700)
            .await;
        let good = world.renew_request(&signer, &token, "next-1");
        let mut wrong = good.clone();
        wrong.client = core_types::ClientId::parse("client-2").unwrap();
        assert_eq!(
            world.sam.renew(SSA, wrong).await.unwrap_err(),
            Refusal::Mismatch
        );
        let mut wrong = good.clone();
        wrong.key = other.keys[0].key.clone();
        assert_eq!(
            world.sam.renew(SSA, wrong).await.unwrap_err(),
            Refusal::Mismatch
        );
        let elsewhere = world.sam.renew("other-ssa.test", good.clone()).await;
        assert_eq!(elsewhere.unwrap_err(), Refusal::NotFound);
        let mut wrong = good.clone();
        wrong.hashes = vec![hash(3), hash(3)];
        assert_eq!(
            world.sam.renew(SSA, wrong).await.unwrap_err(),
            Refusal::HashNotApproved
        );
        let mut same = good.clone();
        same.grant = core_types::sha256(&[token.as_bytes()]);
        assert_eq!(
            world.sam.renew(SSA, same).await.unwrap_err(),
            Refusal::NotFound
        );

        // Unused tokens are renewed too. Each lasts 300 seconds, none beyond the chain.
        world.clock.advance(299);
        let mut asked = good;
        asked.hashes = vec![hash(3), hash(5)];
        let first = world.sam.renew(SSA, asked).await.unwrap();
        assert_eq!(first.sign_until, START.plus(599));
        world.clock.advance(299);
        let second = world.renew(&signer, "next-1", "next-2").await.unwrap();
        assert_eq!(second.sign_until, START.plus(700));
        world.sign(&signer, "next-2", &[hash(3)]).await.unwrap();
        world.clock.advance(102);
        let late = world.renew(&signer, "next-2", "next-3").await.unwrap_err();
        assert_eq!(late, Refusal::Expired);

        // An expired token isn't renewed, though the chain would go on.
        let token = world
            .renewable(&mut signer, &[hash(6), hash(7)], 3600)
            .await;
        world.clock.advance(300);
        assert_eq!(
            world.renew(&signer, &token, "n").await.unwrap_err(),
            Refusal::Expired
        );
        // Nor with a stopped key.
        let token = world
            .renewable(&mut signer, &[hash(8), hash(9)], 3600)
            .await;
        world
            .stop(&signer, world.key(&signer).await.changes)
            .await
            .unwrap();
        assert_eq!(
            world.renew(&signer, &token, "m").await.unwrap_err(),
            Refusal::KeyNotActive
        );
        let mut request = world.prepare_request(&signer, hash_items(&[hash(1)]));
        request.renew = 3601;
        assert!(world.sam.prepare(SSA, request).await.is_err());
    }
}

// shows: II-A1-multi-method-2, II-3.3.1-sap-replay-bypass-forgery
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_renewal_is_answered_the_same_and_a_race_has_one_winner() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let token = world
            .renewable(&mut signer, &[hash(1), hash(2), hash(3)], 1800)
            .await;
        let nodes = [world.sam.clone(), world.node("sam-2").await];
        let calls = (0..20).map(|n| {
            let sam = nodes[n % 2].clone();
            let request = world.renew_request(&signer, &token, &format!("race-{n}"));
            tokio::spawn(async move { sam.renew(SSA, request).await })
        });
        let outcomes = join_all(calls).await;
        let won: Vec<_> = (0..20)
            .filter(|n| outcomes[*n].as_ref().unwrap().is_ok())
            .collect();
        assert_eq!(won.len(), 1);
        let winner = format!("race-{}", won[0]);
        // The answer got lost: the same call again.
        let again = world.renew(&signer, &token, &winner).await.unwrap();
        assert_eq!(again.count, 3);
        assert_eq!(world.audited("sad.renewed", "").await, 1);
        world.sign(&signer, &winner, &[hash(1)]).await.unwrap();
        assert_eq!(
            world.renew(&signer, &token, &winner).await.unwrap_err(),
            Refusal::NotFound,
            "not after it was used"
        );
    }
}

// shows: II-A1-multi-method-1, II-A1-multi-method-2, II-A1-multi-combined
#[tokio::test(flavor = "multi_thread")]
async fn lists_and_chains_together_survive_a_lost_order() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let all: Vec<_> = (0..40).map(hash).collect();
        let token = world.renewable(&mut signer, &all, 1800).await;
        let values = world
            .sign(&signer, &token, &all[..15])
            .await
            .unwrap()
            .signatures;
        assert_eq!(values.len(), 15);
        world.renew(&signer, &token, "second").await.unwrap();
        // The second order gets lost: its items are gone, the rest can be renewed.
        world.cm.next(Fault::LostAfter);
        assert_eq!(
            world
                .sign(&signer, "second", &all[15..30])
                .await
                .unwrap_err(),
            Refusal::Lost
        );
        let left = world.renew(&signer, "second", "third").await.unwrap();
        assert_eq!(left.count, 10);
        assert_eq!(
            world
                .sign(&signer, "third", &all[15..16])
                .await
                .unwrap_err(),
            Refusal::HashNotApproved
        );
        let mut request = world.sign_request(&signer, "third", &all[30..]);
        request.idempotency_key = Some("k".into());
        let first = world
            .sam
            .sign(SSA, request.clone())
            .await
            .unwrap()
            .signatures;
        assert_eq!(
            world.sam.sign(SSA, request).await.unwrap().signatures,
            first
        );
        assert!(world.renew(&signer, "third", "fourth").await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_sees_how_long_a_chain_may_run() {
    for world in worlds().await {
        let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let mut request = world.prepare_request(&signer, hash_items(&[hash(1)]));
        request.renew = 900;
        let rid = world.sam.prepare(SSA, request).await.unwrap().rid;
        world.clock.advance(100);
        let jws = world.sam.open(OpenRequest { rid }).await.unwrap().act;
        let payload = core_types::bytes::from_b64u(jws.split('.').nth(1).unwrap()).unwrap();
        let Act::Sign(act) = serde_json::from_slice(&payload).unwrap() else {
            panic!("another kind")
        };
        assert_eq!(act.renew, START.plus(1000).0);
    }
}
