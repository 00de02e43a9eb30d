//! Keys for one act: fixed at birth, good for that act and for no other, destroyed before its values leave.

use cm_api::rpc::Reason;
use cm_api::{Executed, KeyCreated, Order, OrderKind, Refusal};
use core_types::{DestroyCause, Digest32, KeyAlg, Level, sha256};
use sam_keys::Origin;
use store_kit::{StoreError, sql, transaction};

use cm_core::backend::Fault;

use crate::destroy::{KeyRow, destroyed, exhume};
use crate::faulty::{Faulty, Plan};
use crate::kit::{P256, Story, by_act, digest, everywhere, generate, sign};

fn one_time(exportable: bool) -> OrderKind {
    let mut kind = generate(KeyAlg::P256, Level::One);
    if let OrderKind::Generate {
        exportable: leaves,
        one_time,
        ..
    } = &mut kind
    {
        (*leaves, *one_time) = (exportable, true);
    }
    kind
}

async fn key(story: &Story) -> KeyCreated {
    let made = story.module.execute(&story.order(one_time(false))).await;
    match made.unwrap() {
        Executed::Created(key) => key,
        other => panic!("a key was ordered: {other:?}"),
    }
}

/// An order by an act that has no further steps.
fn once(act: u8, key: &KeyCreated, texts: &[&str]) -> OrderKind {
    let digests: Vec<_> = texts.iter().map(|text| digest(P256, text)).collect();
    let mut kind = by_act(act, sign(key, P256, &digests));
    if let OrderKind::Sign { renewable, .. } = &mut kind {
        *renewable = false;
    }
    kind
}

async fn attributes(story: &Story, key: &KeyCreated, from: &str, to: &str) {
    let store = &story.test.store;
    let done: Result<u64, StoreError> = transaction!(store, "attack", |tx| {
        let query = "UPDATE cm_key SET attributes = replace(attributes, $1, $2) WHERE id = $3";
        tx.execute(sql(query).bind(from).bind(to).bind(key.key.as_str()))
            .await
    });
    assert_eq!(done.unwrap(), 1);
}

// shows: III-3-6-reauthorization-limits, III-3-3-key-attribute-integrity, III-A1.6-destroy-at-end, T-KEY-ABUSE, T-KEY-ATTR-ALTER
#[tokio::test]
async fn a_key_for_one_act_signs_for_that_act_and_is_destroyed() {
    everywhere(
        a_key_for_one_act_signs_for_that_act_and_is_destroyed::ON_TOKENS,
        async |story| {
            let key = key(&story).await;
            let roots = [story.module.root().clone()];
            let told = Origin::verify(&key.statement, &roots).unwrap();
            assert!(told.one_time && !told.exportable);
            let leaving = story.refused(one_time(true)).await;
            assert_eq!(leaving, Refusal::NotAllowed(Reason::Export));

            let other = Refusal::NotAllowed(Reason::OneTime);
            let steps = by_act(1, sign(&key, P256, &[digest(P256, "a")]));
            assert_eq!(story.refused(steps).await, other, "an act with more steps");
            // Whoever writes the database makes no key for many acts of it.
            let marked = "\"one_time\":true,";
            attributes(&story, &key, marked, "").await;
            let lost = story.refused(once(2, &key, &["a"])).await;
            assert_eq!(lost, Refusal::NoSuchKey);
            attributes(&story, &key, "\"origin\"", &format!("{marked}\"origin\"")).await;

            let row = KeyRow::of(&story, &key).await;
            let order = story.order(once(3, &key, &["a", "b"]));
            let Executed::Signed(values) = story.module.execute(&order).await.unwrap() else {
                panic!("signatures were ordered")
            };
            for (value, text) in values.iter().zip(["a", "b"]) {
                let signed = pki::Signed::Message(text.as_bytes());
                pki::verify_signature(&key.spki.0, P256, signed, &value.0).unwrap();
            }
            assert_eq!(story.audited("key.destroyed").await, 1);
            for again in [once(3, &key, &["c"]), once(4, &key, &["a"])] {
                assert!(story.module.execute(&story.order(again)).await.is_err());
            }
            let (done, told) = destroyed(&story, &key).await;
            assert_eq!((told.cause, told.signatures), (DestroyCause::Used, 2));
            assert_eq!(told.act, Digest32([3; 32]));
            assert!(done.unrecoverable_after.is_some());
            assert_eq!(told.erased.is_some(), story.backend.name() == "pkcs11");
            // Nor does it come back from a copy of the store.
            row.put(&story).await;
            exhume(&story, &key).await;
            assert_eq!(
                story.refused(once(5, &key, &["a"])).await,
                Refusal::NoSuchKey
            );
        },
    )
    .await;
}

// shows: III-3-6-reauthorization-limits, T-KEY-ABUSE, T-KEY-MALFUNCTION
#[tokio::test]
async fn an_attempt_that_came_to_nothing_leaves_the_key_to_the_same_act_only() {
    let faulty = Faulty::default();
    let story = faulty.story().await;
    let key = key(&story).await;
    faulty.plan(|plan| plan.sign = Some((0, Fault::Unavailable("away"))));
    let refused = story.refused(once(1, &key, &["a"])).await;
    assert_eq!(refused, Refusal::NotOperational);
    assert_eq!(story.audited("key.gave-nothing").await, 1);
    faulty.plan(|plan| *plan = Plan::default());
    let other = Refusal::NotAllowed(Reason::OneTime);
    assert_eq!(story.refused(once(2, &key, &["a"])).await, other);
    let mut second = once(1, &key, &["a"]);
    if let OrderKind::Sign { attempt, act, .. } = &mut second {
        *attempt = 1;
        assert_eq!(*act, Digest32([1; 32]));
    }
    let name = Order::name(Digest32([1; 32]), 0, 1);
    let done = story.module.execute(&story.order_named(name, second)).await;
    assert!(matches!(done, Ok(Executed::Signed(_))), "{done:?}");
    assert_eq!(story.audited("key.destroyed").await, 1);

    // Nobody knows whether a value came: the act is over, and so is the key.
    let key = self::key(&story).await;
    faulty.plan(|plan| plan.sign = Some((0, Fault::Unknown("no answer"))));
    let order = story.order(once(3, &key, &["a"]));
    let done = story.module.execute(&order).await;
    assert_eq!(done.unwrap_err(), cm_api::ModuleError::Unknown);
    assert_eq!(
        story.audited("key.gave-nothing").await,
        1,
        "nobody knows that"
    );
    faulty.plan(|plan| *plan = Plan::default());
    assert_eq!(story.audited("key.destroyed").await, 2);
    let spki = sha256(&[&key.spki.0]);
    assert!(story.audited(&spki.to_string()).await >= 1);
    assert_eq!(
        story.refused(once(4, &key, &["a"])).await,
        Refusal::NoSuchKey
    );
}

// shows: III-A1.6-destroy-at-end
#[tokio::test]
async fn values_do_not_wait_for_a_device_that_is_to_forget_their_key() {
    let faulty = Faulty::default();
    let story = faulty.story().await;
    let key = key(&story).await;
    let (go, told) = std::sync::mpsc::channel();
    faulty.plan(|plan| plan.hold_tidy = Some(told));
    let order = story.order(once(1, &key, &["a"]));
    let done = story.module.execute(&order).await;
    assert!(matches!(done, Ok(Executed::Signed(_))), "{done:?}");
    faulty.plan(|plan| assert_eq!(plan.tidied, 0));
    assert_eq!(story.audited("key.destroyed").await, 1);
    go.send(()).unwrap();
}

pkcs11_faults::on_tokens!(a_key_for_one_act_signs_for_that_act_and_is_destroyed,);
