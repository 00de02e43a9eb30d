//! Nothing is executed twice: orders, attempts, items of an act.

use std::sync::Arc;

use cm_api::rpc::Reason;
use cm_api::{ExecuteRequest, KeyCreated, ModuleError, OrderKind, Refusal};
use cm_soft::SoftBackend;
use core_types::{Digest32, KeyAlg};
use store_kit::{sql, transaction};

use crate::kit::{NOW, P256, Story, by_act, digest, everywhere, refusal, sign};

// shows: T-USE-SAP-REPLAY
#[tokio::test]
async fn an_order_is_executed_once_also_when_asked_at_once_and_after_a_restart() {
    everywhere(
        an_order_is_executed_once_also_when_asked_at_once_and_after_a_restart::ON_TOKENS,
        async |story| {
            let key = story.key(KeyAlg::P256).await;
            let request = story.order(sign(&key, P256, &[digest(P256, "a")]));
            let tries = (0..20).map(|_| story.module.execute(&request));
            let done = futures_util::future::join_all(tries).await;
            assert_eq!(done.iter().filter(|r| r.is_ok()).count(), 1);
            assert!(
                done.iter()
                    .all(|r| matches!(r, Ok(_) | Err(ModuleError::Refused(Refusal::Duplicate)))),
                "{done:?}"
            );
            let again = story.again(7).await.unwrap();
            assert_eq!(refusal(again.execute(&request).await), Refusal::Duplicate);
        },
    )
    .await;
}

// shows: T-USE-SAP-REPLAY, T-KEY-ABUSE
#[tokio::test]
async fn an_order_takes_the_names_of_the_attempts_before_it() {
    everywhere(
        an_order_takes_the_names_of_the_attempts_before_it::ON_TOKENS,
        async |story| {
            let key = story.key(KeyAlg::P256).await;
            let place = |at: u32, nth: u32| story.order_of(placed(&key, at, nth, &[at]));
            let refused =
                async |request: ExecuteRequest| refusal(story.module.execute(&request).await);
            // The first attempt was refused before it got here; the second one is executed.
            let first = place(0, 0);
            story.module.execute(&place(0, 1)).await.unwrap();
            assert_eq!(refused(first).await, Refusal::Duplicate);
            assert_eq!(refused(place(0, 1)).await, Refusal::Duplicate);
            // The other way round: the first was executed, whatever the SAM was told since.
            story.module.execute(&place(1, 0)).await.unwrap();
            assert_eq!(refused(place(1, 1)).await, Refusal::Duplicate);
            assert_eq!(refused(place(1, 0)).await, Refusal::Duplicate);

            assert_eq!(refused(place(2, 2)).await, Refusal::Malformed);
            assert_eq!(refused(place(2, u32::MAX)).await, Refusal::Malformed);
            let kind = || sign(&key, P256, &[digest(P256, "a")]);
            let other_name = story.order_named(Digest32([5; 32]), kind());
            assert_eq!(refused(other_name).await, Refusal::Malformed);
            for (ahead, answer) in [(61, Refusal::NotNow), (60, Refusal::Duplicate)] {
                let mut kind = kind();
                if let OrderKind::Sign { approved, .. } = &mut kind {
                    *approved = NOW.plus(ahead);
                }
                assert_eq!(refused(story.order_of(kind)).await, answer, "{ahead}");
            }
        },
    )
    .await;
}

/// An order to sign items of an act that can be renewed, at its place.
fn placed(key: &KeyCreated, at: u32, nth: u32, of: &[u32]) -> OrderKind {
    let mut kind = sign(key, P256, &vec![digest(P256, "a"); of.len()]);
    if let OrderKind::Sign {
        step,
        attempt,
        items,
        ..
    } = &mut kind
    {
        (*step, *attempt) = (at, nth);
        for (item, i) in items.iter_mut().zip(of) {
            item.i = *i;
        }
    }
    kind
}

// shows: T-USE-SAP-REPLAY, T-KEY-ABUSE
#[tokio::test]
async fn an_item_of_an_act_is_signed_once_whatever_the_step() {
    everywhere(
        an_item_of_an_act_is_signed_once_whatever_the_step::ON_TOKENS,
        async |mut story| {
            let key = story.key(KeyAlg::P256).await;
            let of = |act, at, items: &[u32]| by_act(act, placed(&key, at, 0, items));
            let ask = async |story: &Story, kind| {
                let done = story.module.execute(&story.order_of(kind)).await;
                done.map(drop).map_err(|e| refusal::<()>(Err(e)))
            };
            ask(&story, of(1, 0, &[0, 7])).await.unwrap();
            // A SAM that was set back to before the renewal gives another order for what it doesn't know to be signed.
            for (step, items) in [(1, &[0][..]), (1, &[7]), (2, &[6, 7, 8]), (9, &[0, 1])] {
                let twice = ask(&story, of(1, step, items)).await;
                assert_eq!(twice, Err(Refusal::Duplicate), "{step} {items:?}");
            }
            ask(&story, of(1, 1, &[1, 6, 8])).await.unwrap();
            ask(&story, of(2, 0, &[0, 7])).await.unwrap();
            // Also after a restart, and until the act is over.
            story.module = story.again(7).await.unwrap();
            story.clock.advance(3_899);
            assert_eq!(ask(&story, of(1, 3, &[8])).await, Err(Refusal::Duplicate));
            ask(&story, of(1, 3, &[9])).await.unwrap();
            story.clock.advance(1);
            let over = Err(Refusal::NotAllowed(Reason::Reauthorization));
            assert_eq!(ask(&story, of(1, 4, &[8])).await, over);
            // Within one order.
            for items in [&[3, 3][..], &[10_000], &[]] {
                let wrong = ask(&story, of(3, 0, items)).await;
                assert_eq!(wrong, Err(Refusal::Malformed), "{items:?}");
            }
        },
    )
    .await;
}

// shows: T-USE-SAP-REPLAY, T-KEY-ABUSE
#[tokio::test]
async fn a_spent_order_is_called_so_even_if_the_refusal_cannot_be_recorded() {
    for test in store_kit::testing::both(cm_core::MIGRATIONS).await {
        let story = Story::begin(test, Arc::new(SoftBackend)).await;
        let key = story.key(KeyAlg::P256).await;
        let spent = story.order(sign(&key, P256, &[digest(P256, "a")]));
        story.module.execute(&spent).await.unwrap();
        let done: Result<u64, store_kit::StoreError> =
            transaction!(story.test.store, "attack", |tx| {
                tx.execute(sql("ALTER TABLE audit_entry RENAME TO audit_gone"))
                    .await
            });
        done.unwrap();
        let again = refusal(story.module.execute(&spent).await);
        assert_eq!(again, Refusal::Duplicate, "no leave to try again");
        let fresh = story.order(sign(&key, P256, &[digest(P256, "a")]));
        let unrecorded = refusal(story.module.execute(&fresh).await);
        assert_eq!(unrecorded, Refusal::NotOperational);
    }
}

#[tokio::test]
async fn a_key_in_heavy_use_is_not_taken_for_tampered_with() {
    for test in store_kit::testing::both(cm_core::MIGRATIONS).await {
        let story = Story::begin(test, Arc::new(SoftBackend)).await;
        let key = story.key(KeyAlg::P256).await;
        for _ in 0..10 {
            let orders: Vec<_> = (0..12)
                .map(|_| story.order(sign(&key, P256, &[digest(P256, "a")])))
                .collect();
            let calls = orders.iter().map(|order| story.module.execute(order));
            let done = futures_util::future::join_all(calls).await;
            let tampered =
                |d: &Result<_, _>| matches!(d, Err(ModuleError::Refused(Refusal::NoSuchKey)));
            assert!(!done.iter().any(tampered), "{done:?}");
        }
    }
}

pkcs11_faults::on_tokens!(
    an_order_is_executed_once_also_when_asked_at_once_and_after_a_restart,
    an_order_takes_the_names_of_the_attempts_before_it,
    an_item_of_an_act_is_signed_once_whatever_the_step,
);
