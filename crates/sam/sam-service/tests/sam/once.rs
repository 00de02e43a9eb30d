//! Once and never twice: double spending, replays, retries, crashes (`sap.md` §14, 5, 15-26).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use cm_core::backend::{Backend, Fault as BackendFault, NewKey, PrivateKey};
use cm_soft::SoftBackend;
use core_types::{B64, KeyAlg, Level, SecretBytes, SigAlg};
use futures_util::future::join_all;
use sam_api::Refusal;
use sam_api::ssa::*;
use sam_core::Policy;

use crate::cm::{Fault, Refused};
use crate::kit::*;

// shows: II-A1-sad-once, T-USE-SAP-REPLAY, II-3.3.1-sap-replay-bypass-forgery
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_double_spends_on_two_nodes_make_one_signature() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let token = world.approved(&mut signer, &[hash(1)]).await;
        let nodes = [world.sam.clone(), world.node("sam-2").await];
        let request = world.sign_request(&signer, &token, &[hash(1)]);
        let tries = (0..100).map(|n| {
            let (sam, request) = (nodes[n % 2].clone(), request.clone());
            tokio::spawn(async move { sam.sign(SSA, request).await })
        });
        let outcomes = join_all(tries).await;
        let outcomes: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
        assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
        let no = |r: &Refusal| matches!(r, Refusal::Used | Refusal::NotNow);
        assert!(
            outcomes.iter().all(|o| o.as_ref().err().is_none_or(no)),
            "{outcomes:?}"
        );
        assert_eq!(world.cm.orders.load(Ordering::SeqCst), 1);
        assert_eq!(world.audited("signature.made", "").await, 1);
    }
}

// shows: T-USE-SAP-REPLAY
#[tokio::test(flavor = "multi_thread")]
async fn the_same_proof_a_hundred_times_on_two_nodes_is_one_approval() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let rid = world.prepare(&signer, &[hash(1)]).await;
        let act = world.open(rid).await;
        let proof = signer.passkey.prove(act).unwrap();
        let nodes = [world.sam.clone(), world.node("sam-2").await];
        let tries = (0..100).map(|n| {
            let (sam, proof) = (nodes[n % 2].clone(), proof.clone());
            tokio::spawn(async move {
                sam.approve(sap::messages::ApproveRequest { proof, new: None })
                    .await
            })
        });
        let approved = join_all(tries)
            .await
            .into_iter()
            .filter(|o| o.as_ref().unwrap().is_ok())
            .count();
        assert_eq!(approved, 1);
        assert_eq!(world.audited("act.approved", "").await, 1);
    }
}

// shows: II-A1-sad-once, II-A1-multi-method-1
#[tokio::test(flavor = "multi_thread")]
async fn items_left_over_are_not_reachable_with_a_used_token() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let token = world.approved(&mut signer, &[hash(1), hash(2)]).await;
        world.sign(&signer, &token, &[hash(1)]).await.unwrap();
        assert_eq!(
            world.sign(&signer, &token, &[hash(2)]).await.unwrap_err(),
            Refusal::Used
        );
        assert_eq!(
            world.sign(&signer, &token, &[hash(1)]).await.unwrap_err(),
            Refusal::Used
        );
        assert_eq!(world.cm.orders.load(Ordering::SeqCst), 1);
    }
}

// shows: II-3.3.1-sap-replay-bypass-forgery
#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_gives_the_stored_values_to_the_identical_call_only() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let token = world.approved(&mut signer, &[hash(1), hash(2)]).await;
        let mut request = world.sign_request(&signer, &token, &[hash(2), hash(1)]);
        request.idempotency_key = Some("key-1".into());
        let first = world
            .sam
            .sign(SSA, request.clone())
            .await
            .unwrap()
            .signatures;
        let again = world
            .sam
            .sign(SSA, request.clone())
            .await
            .unwrap()
            .signatures;
        assert_eq!(first, again);
        assert_eq!(world.audited("signature.repeated", "").await, 1);
        let mut other = request.clone();
        other.hashes.swap(0, 1);
        assert_eq!(world.sam.sign(SSA, other).await.unwrap_err(), Refusal::Used);
        let mut other = request.clone();
        other.client = core_types::ClientId::parse("client-2").unwrap();
        assert_eq!(world.sam.sign(SSA, other).await.unwrap_err(), Refusal::Used);
        let mut other = request.clone();
        other.idempotency_key = Some("key-2".into());
        assert_eq!(world.sam.sign(SSA, other).await.unwrap_err(), Refusal::Used);
        world.clock.advance(300);
        assert_eq!(
            world.sam.sign(SSA, request).await.unwrap_err(),
            Refusal::Expired
        );
        assert_eq!(world.cm.orders.load(Ordering::SeqCst), 1);
    }
}

// shows: T-KEY-ABUSE, T-KEY-MALFUNCTION
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_loses_the_right_and_never_doubles_it() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        for fault in [
            Fault::LostBefore,
            Fault::LostAfter,
            Fault::Refuse(Refused::Duplicate),
        ] {
            let token = world.approved(&mut signer, &[hash(1)]).await;
            let before = world.cm.orders.load(Ordering::SeqCst);
            world.cm.next(fault);
            assert_eq!(
                world.sign(&signer, &token, &[hash(1)]).await.unwrap_err(),
                Refusal::Lost
            );
            let again = world.sign(&signer, &token, &[hash(1)]).await.unwrap_err();
            assert!(matches!(again, Refusal::Used | Refusal::Lost), "{again:?}");
            assert!(world.cm.orders.load(Ordering::SeqCst) - before <= 1);
        }
    }
}

// shows: T-KEY-ABUSE
#[tokio::test(flavor = "multi_thread")]
async fn a_definite_no_of_the_module_allows_one_more_order_in_the_same_call() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let token = world.approved(&mut signer, &[hash(1)]).await;
        world.cm.next(Fault::Refuse(Refused::NotOperational));
        let values = world
            .sign(&signer, &token, &[hash(1)])
            .await
            .unwrap()
            .signatures;
        assert!(verifies(&signer.keys[0], &hash(1), &values[0]));
        let token = world.approved(&mut signer, &[hash(2)]).await;
        world.cm.next(Fault::Refuse(Refused::NotOperational));
        world.cm.next(Fault::Refuse(Refused::NotOperational));
        assert_eq!(
            world.sign(&signer, &token, &[hash(2)]).await.unwrap_err(),
            Refusal::Lost
        );
    }
}

// shows: T-USE-SAP-REPLAY, T-KEY-ABUSE
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_while_the_module_works_leaves_nothing_to_spend() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        for fault in [Fault::NeverArrives, Fault::NeverAnswers] {
            let token = world.approved(&mut signer, &[hash(1)]).await;
            let mut request = world.sign_request(&signer, &token, &[hash(1)]);
            request.idempotency_key = Some("key".into());
            let made = world.audited("signature.made", "").await;
            world.cm.next(fault);
            die_while(&world, world.sam.inside().sign(SSA, request.clone())).await;
            // Until the order has passed its time nobody can tell; then it is lost, on whichever node.
            let node = world.node("sam-after-crash").await;
            assert_eq!(
                node.sign(SSA, request.clone()).await.unwrap_err(),
                Refusal::NotNow
            );
            let mut bare = request.clone();
            bare.idempotency_key = None;
            assert_eq!(node.sign(SSA, bare).await.unwrap_err(), Refusal::Used);
            world.clock.advance(31);
            node.maintain().await.unwrap();
            assert_eq!(
                node.sign(SSA, request.clone()).await.unwrap_err(),
                Refusal::Lost
            );
            assert_eq!(world.audited("signature.made", "").await, made);
            assert!(world.audited("sad.ended", "lost").await >= 1);
        }
        // A value exists in the module only once for each hash asked there.
        let values = world.cm.values.lock().unwrap().clone();
        assert_eq!(values.len(), 1);
    }
}

// shows: T-KEY-ABUSE
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_after_the_right_was_given_up_is_not_used() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let token = world.approved(&mut signer, &[hash(1)]).await;
        let (late, release) = (
            Arc::new(tokio::sync::Notify::new()),
            Arc::new(tokio::sync::Notify::new()),
        );
        world.cm.delay(late.clone(), release.clone());
        let (sam, request) = (
            world.sam.clone(),
            world.sign_request(&signer, &token, &[hash(1)]),
        );
        let call = tokio::spawn(async move { sam.sign(SSA, request).await });
        late.notified().await;
        world.clock.advance(31);
        world.node("sam-2").await.maintain().await.unwrap();
        release.notify_one();
        assert_eq!(call.await.unwrap().unwrap_err(), Refusal::Lost);
        assert_eq!(world.audited("signature.made", "").await, 0);
    }
}

// shows: II-3.3.1-signature-unaltered-inside, T-KEY-MALFUNCTION, T-USE-SIG-MODIFY
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_value_never_leaves_and_stops_the_key() {
    for world in worlds().await {
        for (n, fault) in [Fault::BitFlip, Fault::TooFew, Fault::Swapped]
            .into_iter()
            .enumerate()
        {
            for kind in [KeyAlg::P256, KeyAlg::Rsa3072] {
                let mut signer = world.enrol(&format!("p-{n}-{kind}"), false, &[kind]).await;
                let waiting = world.approved(&mut signer, &[hash(3)]).await;
                let token = world.approved(&mut signer, &[hash(1), hash(2)]).await;
                world.cm.values.lock().unwrap().clear();
                world.cm.next(fault);
                let refused = world
                    .sign(&signer, &token, &[hash(1), hash(2)])
                    .await
                    .unwrap_err();
                assert_eq!(refused, Refusal::Lost, "{fault:?}");
                let keys = world
                    .sam
                    .keys(KeysRequest {
                        person: signer.person.clone(),
                    })
                    .await
                    .unwrap()
                    .keys;
                assert_eq!(keys[0].state, KeyState::Suspended);
                // An approval from before doesn't help, and no log holds the value.
                let refused = world.sign(&signer, &waiting, &[hash(3)]).await.unwrap_err();
                assert_eq!(refused, Refusal::KeyNotActive);
                let log = world.audit_text().await.concat();
                for (_, value) in world.cm.values.lock().unwrap().iter() {
                    assert!(!log.contains(&core_types::bytes::b64u(&value.0)));
                }
            }
        }
        assert_eq!(world.audited("signature.wrong", "").await, 6);
    }
}

// shows: II-3.3.1-signature-unaltered-inside, T-KEY-MALFUNCTION
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_value_that_comes_too_late_stops_the_key_all_the_same() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let token = world.approved(&mut signer, &[hash(1)]).await;
        let (late, release) = (
            Arc::new(tokio::sync::Notify::new()),
            Arc::new(tokio::sync::Notify::new()),
        );
        world.cm.delay(late.clone(), release.clone());
        world.cm.next(Fault::BitFlip);
        let (sam, request) = (
            world.sam.clone(),
            world.sign_request(&signer, &token, &[hash(1)]),
        );
        let call = tokio::spawn(async move { sam.sign(SSA, request).await });
        late.notified().await;
        // Another node has given the right up meanwhile.
        world.clock.advance(31);
        world.node("sam-2").await.maintain().await.unwrap();
        release.notify_one();
        assert_eq!(call.await.unwrap().unwrap_err(), Refusal::Lost);
        assert_eq!(world.key(&signer).await.state, KeyState::Suspended);
        assert_eq!(world.audited("signature.wrong", "").await, 1);
    }
}

/// Software keys; told to, it finds its next signature wrong, as a back end does that verifies what its device made, or is away
/// for so many calls.
#[derive(Clone, Default)]
struct Doubtful(Arc<AtomicBool>, Arc<AtomicU32>);

impl Backend for Doubtful {
    fn name(&self) -> &'static str {
        "doubtful"
    }

    fn ceiling(&self) -> Level {
        Level::One
    }

    fn self_test(&self) -> Result<(), BackendFault> {
        Ok(())
    }

    fn generate(&self, alg: KeyAlg) -> Result<NewKey, BackendFault> {
        SoftBackend.generate(alg)
    }

    fn load(
        &self,
        alg: KeyAlg,
        material: &SecretBytes,
    ) -> Result<Box<dyn PrivateKey>, BackendFault> {
        let key = SoftBackend.load(alg, material)?;
        Ok(Box::new(DoubtfulKey(self.clone(), key)))
    }

    fn elsewhere(&self, _: &SecretBytes) -> Option<SecretBytes> {
        None
    }

    fn erase(&self, _: &SecretBytes) -> Result<(), BackendFault> {
        Ok(())
    }
}

struct DoubtfulKey(Doubtful, Box<dyn PrivateKey>);

impl PrivateKey for DoubtfulKey {
    fn spki(&self) -> &[u8] {
        self.1.spki()
    }

    fn sign(&self, alg: SigAlg, dtbs: &[u8]) -> Result<Vec<u8>, BackendFault> {
        if self.0.0.swap(false, Ordering::SeqCst) {
            return Err(BackendFault::Broken("a wrong value"));
        }
        let fewer = |left: u32| left.checked_sub(1);
        let (set, fetch) = (Ordering::SeqCst, Ordering::SeqCst);
        if self.0.1.fetch_update(set, fetch, fewer).is_ok() {
            return Err(BackendFault::Unavailable("the token was taken out"));
        }
        self.1.sign(alg, dtbs)
    }
}

// shows: II-3.3.1-signature-unaltered-inside, T-KEY-MALFUNCTION
#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_the_module_finds_wrong_stops_the_key() {
    for store in store_kit::testing::both(sam_service::MIGRATIONS).await {
        let backend = Doubtful::default();
        let world = World::with(store, Arc::new(backend.clone()), Policy::default()).await;
        // Once the module's answer arrives, once it is lost and the next order tells.
        for (n, fault) in [None, Some(Fault::LostAfter)].into_iter().enumerate() {
            let mut signer = world.enrol(&format!("p-{n}"), false, &[KeyAlg::P256]).await;
            let tokens = [
                world.approved(&mut signer, &[hash(1)]).await,
                world.approved(&mut signer, &[hash(2)]).await,
                world.approved(&mut signer, &[hash(3)]).await,
            ];
            backend.0.store(true, Ordering::SeqCst);
            fault.iter().for_each(|f| world.cm.next(*f));
            let refused = world.sign(&signer, &tokens[0], &[hash(1)]).await;
            assert_eq!(refused.unwrap_err(), Refusal::Lost);
            if fault.is_some() {
                let refused = world.sign(&signer, &tokens[1], &[hash(2)]).await;
                assert_eq!(refused.unwrap_err(), Refusal::Lost);
            }
            assert_eq!(world.key(&signer).await.state, KeyState::Suspended);
            let stop = world.key(&signer).await.stop.unwrap();
            assert_eq!(stop.cause, StopCause::WrongValue);
            let refused = world.sign(&signer, &tokens[2], &[hash(3)]).await;
            assert_eq!(refused.unwrap_err(), Refusal::KeyNotActive);
            assert_eq!(world.audited("signature.wrong", "").await, n + 1);
        }
        assert!(world.cm.values.lock().unwrap().is_empty());
    }
}

// shows: T-KEY-MALFUNCTION, T-USE-SAP-REPLAY
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_away_for_a_moment_costs_the_signer_no_approval() {
    for store in store_kit::testing::both(sam_service::MIGRATIONS).await {
        let backend = Doubtful::default();
        let world = World::with(store, Arc::new(backend.clone()), Policy::default()).await;
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let hashes = [hash(1), hash(2)];
        let token = world.approved(&mut signer, &hashes).await;
        let before = world.cm.orders.load(Ordering::SeqCst);
        // For longer than two orders that give up at once.
        backend.1.store(12, Ordering::SeqCst);
        let signed = world.sign(&signer, &token, &hashes).await.unwrap();
        let mut all = hashes.iter().zip(&signed.signatures);
        assert!(all.all(|(h, v)| verifies(&signer.keys[0], h, v)));
        assert_eq!(world.cm.orders.load(Ordering::SeqCst) - before, 1);
        let again = world.sign(&signer, &token, &hashes).await.unwrap_err();
        assert!(matches!(again, Refusal::Used | Refusal::Lost), "{again:?}");
        // For good: two orders, and the signer has to approve anew.
        let token = world.approved(&mut signer, &[hash(3)]).await;
        backend.1.store(u32::MAX, Ordering::SeqCst);
        let lost = world.sign(&signer, &token, &[hash(3)]).await.unwrap_err();
        assert_eq!(lost, Refusal::Lost);
        assert_eq!(world.cm.orders.load(Ordering::SeqCst) - before, 3);
        backend.1.store(0, Ordering::SeqCst);
        let again = world.sign(&signer, &token, &[hash(3)]).await.unwrap_err();
        assert!(matches!(again, Refusal::Used | Refusal::Lost), "{again:?}");
        assert_eq!(world.cm.values.lock().unwrap().len(), 2);
    }
}

// shows: II-A1-multi-method-1, I-4.2.2b-sad-per-document-or-batch
#[tokio::test(flavor = "multi_thread")]
async fn a_large_batch_is_signed_in_one_call() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let hashes: Vec<B64> = (0..1000).map(hash).collect();
        let token = world.approved(&mut signer, &hashes).await;
        let values = world
            .sign(&signer, &token, &hashes)
            .await
            .unwrap()
            .signatures;
        assert!(
            hashes
                .iter()
                .zip(&values)
                .all(|(h, v)| verifies(&signer.keys[0], h, v))
        );
    }
}

/// Lets a call run until it waits for the module for ever, and drops it there.
pub async fn die_while<T>(world: &World, call: impl Future<Output = T>) {
    tokio::select! {
        _ = call => panic!("the call was to die"),
        () = world.cm.hanging.notified() => {}
    }
}
