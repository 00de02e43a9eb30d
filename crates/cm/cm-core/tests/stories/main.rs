//! Stories of the module through its public door, on every back end and on both stores.
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod ahead;
mod algorithms;
mod backup;
mod ceremony;
mod counter;
mod deletion;
mod destroy;
mod faulty;
mod import;
mod kit;
mod noise;
mod one_time;
mod orders;
mod restore;
mod several;
mod switch;
mod wrapped;

use std::sync::Arc;

use cm_api::rpc::{ModuleState, Reason};
use cm_api::{
    ExecuteRequest, Executed, KeyCreated, ModuleError, Order, OrderBody, OrderKind, Refusal,
    SignItem,
};
use cm_core::Policy;
use cm_soft::SoftBackend;
use core_types::{B64, Digest32, HashAlg, KeyAlg, Level, OriginCase, SigAlg, sha256};
use jose::SigningKey;
use sam_keys::Origin;
use store_kit::{sql, transaction};

use kit::{
    EPOCH, NOW, P256, SAM, Setup, Story, by_act, digest, everywhere, generate, refusal, sign,
};

// shows: III-3-2-approved-algorithms, III-A1.1-safe-algorithm, III-A1.4-approved-algorithms, III-A1-cm-logical
#[tokio::test]
async fn keys_are_made_and_sign_what_is_ordered() {
    everywhere(
        keys_are_made_and_sign_what_is_ordered::ON_TOKENS,
        async |story| {
            for alg in [
                KeyAlg::P256,
                KeyAlg::P384,
                KeyAlg::P521,
                KeyAlg::Ed25519,
                KeyAlg::Rsa2048,
                KeyAlg::Rsa3072,
            ] {
                if alg == KeyAlg::Ed25519 && story.backend.name() == "pkcs11-wrapped" {
                    let refused = story.refused(generate(alg, Level::One)).await;
                    assert_eq!(refused, Refusal::NotAllowed(Reason::Algorithm));
                    continue;
                }
                let key = story.key(alg).await;
                for sig in alg.sig_algs() {
                    let texts: Vec<_> = (0..5).map(|i| format!("document {i}")).collect();
                    let dtbs: Vec<_> = texts.iter().map(|t| digest(sig, t)).collect();
                    let order = story.order(sign(&key, sig, &dtbs));
                    let done = story.module.execute(&order).await.unwrap();
                    let Executed::Signed(values) = done else {
                        panic!("signatures were ordered")
                    };
                    assert_eq!(values.len(), texts.len());
                    for (value, text) in values.iter().zip(&texts) {
                        let signed = pki::Signed::Message(text.as_bytes());
                        pki::verify_signature(&key.spki.0, sig, signed, &value.0).unwrap();
                    }
                }
            }
        },
    )
    .await;
}

// shows: III-3-2-approved-algorithms, III-3-16-keygen-L1
#[tokio::test]
async fn experimental_algorithms_want_their_switch_and_stay_at_level_one() {
    let store = store_kit::testing::sqlite(cm_core::MIGRATIONS).await;
    let mut story = Story::begin(store, Arc::new(SoftBackend)).await;
    let algorithm = Refusal::NotAllowed(Reason::Algorithm);
    for alg in [KeyAlg::MlDsa65, KeyAlg::MlDsa87] {
        assert_eq!(story.refused(generate(alg, Level::One)).await, algorithm);
    }
    let setup = Setup {
        policy: Policy::built_in().unwrap().experiments(true),
        ..Setup::default()
    };
    story.module = story.again_with(&setup).await;
    for alg in [KeyAlg::MlDsa65, KeyAlg::MlDsa87] {
        let key = story.key(alg).await;
        let order = story.order(sign(&key, alg.csr_alg(), &[b"message".to_vec()]));
        let Executed::Signed(values) = story.module.execute(&order).await.unwrap() else {
            panic!("a signature was ordered")
        };
        let signed = pki::Signed::Message(b"message");
        pki::verify_signature(&key.spki.0, alg.csr_alg(), signed, &values[0].0).unwrap();
        let hashed = OrderKind::Sign {
            key: key.key.clone(),
            version: 1,
            spki: sha256(&[&key.spki.0]),
            alg: alg.csr_alg(),
            items: vec![SignItem::digest(0, vec![0; 64])],
            act: Digest32([2; 32]),
            proof: Digest32([3; 32]),
            approved: NOW,
            renewable: false,
            step: 0,
            attempt: 0,
            counter_sign: None,
        };
        assert_eq!(
            story.refused(hashed).await,
            Refusal::Malformed,
            "no digest for a message"
        );
    }
}

// shows: III-3-6-reauthorization-limits, T-KEY-ABUSE
#[tokio::test]
async fn one_act_is_good_for_so_much_and_so_long_and_a_key_for_its_own_time() {
    everywhere(
        one_act_is_good_for_so_much_and_so_long_and_a_key_for_its_own_time::ON_TOKENS,
        async |mut story| {
            let key = story.key(KeyAlg::P256).await;
            let by = |act, n| by_act(act, sign(&key, P256, &vec![digest(P256, "a"); n]));
            let again = Refusal::NotAllowed(Reason::Reauthorization);
            assert_eq!(story.refused(by(1, 601)).await, again);
            story.module.execute(&story.order(by(1, 3))).await.unwrap();
            assert_eq!(
                story.refused(by(1, 598)).await,
                again,
                "counted over orders"
            );
            story.clock.advance(3_899);
            story.module.execute(&story.order(by(1, 1))).await.unwrap();
            story.clock.advance(1);
            assert_eq!(story.refused(by(1, 1)).await, again, "its time is over");
            story
                .module
                .execute(&story.order(by(2, 599)))
                .await
                .unwrap();
            story.module.execute(&story.order(by(3, 1))).await.unwrap();
            assert_eq!(
                story.refused(by(2, 2)).await,
                again,
                "another act doesn't have it counted from zero"
            );
            story.module.execute(&story.order(by(2, 1))).await.unwrap();
            // As many acts as are remembered; one that has no further steps needs no place among them.
            for act in 4..66 {
                story
                    .module
                    .execute(&story.order(by(act, 1)))
                    .await
                    .unwrap();
            }
            assert_eq!(story.refused(by(66, 1)).await, again);
            let mut last = by(67, 1);
            if let OrderKind::Sign { renewable, .. } = &mut last {
                *renewable = false;
            }
            story
                .module
                .execute(&story.order(last.clone()))
                .await
                .unwrap();
            assert_eq!(
                story.refused(last).await,
                Refusal::Malformed,
                "a second step"
            );
            story.clock.advance(3_900);
            story.module.execute(&story.order(by(68, 1))).await.unwrap();
            story.clock.advance(1826 * 86_400);
            story.renew().await;
            let time = Refusal::NotAllowed(Reason::Time);
            assert_eq!(story.refused(by(69, 1)).await, time);
        },
    )
    .await;
}

// shows: III-A1.8-origin-distinguishable, III-A1.8-origin-immutable, III-A1.8-origin-matters, III-A1.1-attributes-at-generation,
// I-4.2.2a-no-import-if-rssp-generates
#[tokio::test]
async fn where_a_key_was_made_is_signed_when_it_is_made() {
    everywhere(
        where_a_key_was_made_is_signed_when_it_is_made::ON_TOKENS,
        async |story| {
            let key = story.key(KeyAlg::P256).await;
            let roots = [story.module.root().clone()];
            let told = Origin::verify(&key.statement, &roots).unwrap();
            assert_eq!(told.spki, sha256(&[&key.spki.0]));
            assert_eq!((&told.key, told.owner.as_str()), (&key.key, "hanako"));
            // Nothing is declared of the device, so that it doesn't count as one.
            assert_eq!(told.case, OriginCase::ProviderSoftware);
            assert_eq!(told.backend, story.backend.name());
            assert_eq!((told.level, told.created), (Level::One, NOW));
            let (stranger, _) = SigningKey::generate().unwrap();
            assert!(Origin::verify(&key.statement, &[stranger.public().clone()]).is_err());
        },
    )
    .await;
}

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

// shows: II-1-sam-role, III-1-cm-role, III-3-4-authenticate-application, III-A1.4-authentication-to-use, T-USE-SAP-BYPASS
#[tokio::test]
async fn only_the_sams_own_timely_orders_are_admitted() {
    everywhere(
        only_the_sams_own_timely_orders_are_admitted::ON_TOKENS,
        async |story| {
            let key = story.key(KeyAlg::P256).await;
            let kind = || sign(&key, P256, &[digest(P256, "a")]);
            let refused =
                async |request: ExecuteRequest| refusal(story.module.execute(&request).await);

            let (stranger, _) = SigningKey::generate().unwrap();
            let body = |exp| OrderBody {
                sam: SAM.into(),
                order: kind().name().unwrap(),
                epoch: EPOCH,
                exp,
                kind: kind(),
            };
            let forged = Order::seal(&body(NOW.plus(30)), &stranger).unwrap();
            let request = ExecuteRequest {
                statement: story.statement.clone(),
                order: forged,
            };
            assert_eq!(refused(request).await, Refusal::NotAuthentic);

            let forged = stranger.sign(sam_keys::TYP_KEYS, b"{}").unwrap();
            let order = Order::seal(&body(NOW.plus(30)), &stranger).unwrap();
            assert_eq!(
                refused(ExecuteRequest {
                    statement: forged,
                    order
                })
                .await,
                Refusal::NotAuthentic
            );

            for exp in [NOW, NOW.plus(31)] {
                let order = Order::seal(&body(exp), &story.act).unwrap();
                assert_eq!(
                    refused(ExecuteRequest {
                        statement: story.statement.clone(),
                        order
                    })
                    .await,
                    Refusal::NotNow
                );
            }
            let other_epoch = OrderBody {
                epoch: Digest32([8; 32]),
                ..body(NOW.plus(30))
            };
            let order = Order::seal(&other_epoch, &story.act).unwrap();
            assert_eq!(
                refused(ExecuteRequest {
                    statement: story.statement.clone(),
                    order
                })
                .await,
                Refusal::NotAuthentic
            );

            story.clock.advance(48 * 3600);
            assert_eq!(
                refused(story.order(kind())).await,
                Refusal::NotNow,
                "the statement ran out"
            );
        },
    )
    .await;
}

// shows: III-3-5-key-purpose-defined, III-A1.3-limited-purpose, T-KEY-MISUSE, T-KEY-ABUSE
#[tokio::test]
async fn attributes_limit_the_use_of_a_key() {
    everywhere(
        attributes_limit_the_use_of_a_key::ON_TOKENS,
        async |story| {
            let refused = async |kind| story.refused(kind).await;
            let key = story.key(KeyAlg::P256).await;
            let rsa = SigAlg::RsaPkcs1(HashAlg::Sha256);
            assert_eq!(
                refused(sign(&key, rsa, &[digest(rsa, "a")])).await,
                Refusal::NotAllowed(Reason::Algorithm)
            );
            assert_eq!(
                refused(sign(&key, P256, &[vec![0; 20]])).await,
                Refusal::Malformed
            );
            // A DigestInfo from outside, as long as it is, is no digest.
            let rsa_key = story.key(KeyAlg::Rsa2048).await;
            let info = [&[0x30, 0x31][..], &[0; 17], &digest(rsa, "a")].concat();
            assert_eq!(
                refused(sign(&rsa_key, rsa, &[info])).await,
                Refusal::Malformed
            );
            assert_eq!(refused(sign(&key, P256, &[])).await, Refusal::Malformed);
            let many = vec![digest(P256, "a"); 1001];
            assert_eq!(
                refused(sign(&key, P256, &many)).await,
                Refusal::NotAllowed(Reason::Uses)
            );
            assert_eq!(
                refused(generate(KeyAlg::P256, Level::Two)).await,
                Refusal::NotAllowed(Reason::Level)
            );

            let other = story.key(KeyAlg::P256).await;
            let mixed = KeyCreated {
                spki: other.spki.clone(),
                ..key.clone()
            };
            assert_eq!(
                refused(sign(&mixed, P256, &[digest(P256, "a")])).await,
                Refusal::NoSuchKey
            );
            let csr = |key: &KeyCreated, info: &[u8]| OrderKind::SignCsr {
                key: key.key.clone(),
                version: 1,
                spki: sha256(&[&key.spki.0]),
                info: B64(info.to_vec()),
            };
            let info = csr_info(&key.spki.0, &[0x30, 0]);
            assert_eq!(
                refused(csr(&other, &info)).await,
                Refusal::Malformed,
                "a request for another key"
            );
            assert_eq!(
                refused(csr(&key, b"not a request")).await,
                Refusal::Malformed
            );
            // The same once more for whoever lost the answer, and no other.
            for _ in 0..2 {
                let order = story.order(csr(&key, &info));
                story.module.execute(&order).await.unwrap();
            }
            let second = csr_info(&key.spki.0, &[0x30, 2, 0x31, 0]);
            assert_eq!(
                refused(csr(&key, &second)).await,
                Refusal::NotAllowed(Reason::Purpose),
                "only once"
            );
        },
    )
    .await;
}

/// CertificationRequestInfo for this key with this subject and no attributes (RFC 2986 §4.1).
fn csr_info(spki: &[u8], subject: &[u8]) -> Vec<u8> {
    let mut body = vec![2, 1, 0];
    body.extend_from_slice(subject);
    body.extend_from_slice(spki);
    body.extend_from_slice(&[0xa0, 0]);
    let mut out = vec![0x30, u8::try_from(body.len()).unwrap()];
    out.extend(body);
    out
}

// shows: T-KEY-ATTR-ALTER, III-3-3-key-attribute-integrity, III-A1.3-attributes-bound
#[tokio::test]
async fn a_row_that_was_changed_swapped_or_set_back_is_not_used() {
    everywhere(a_row_that_was_changed_swapped_or_set_back_is_not_used::ON_TOKENS, async |story| {
        let (a, b) = (story.key(KeyAlg::P256).await, story.key(KeyAlg::P256).await);
        let store = &story.test.store;
        let use_of = async |key: &KeyCreated| {
            let request = story.order(sign(key, P256, &[digest(P256, "x")]));
            story.module.execute(&request).await.map(|_| ())
        };
        let row = async |key: &KeyCreated| {
            let mut tx = store.read("look").await.unwrap();
            let query = sql("SELECT version, attributes, sealed FROM cm_key WHERE id = $1")
                .bind(key.key.as_str());
            let row = tx.fetch_one(query).await.unwrap();
            (
                row.int("version").unwrap(),
                row.text("attributes").unwrap(),
                row.blob("sealed").unwrap(),
            )
        };
        let put = async |key: &KeyCreated,
                         (version, attributes, sealed): (i64, String, Vec<u8>)| {
            let done: Result<u64, store_kit::StoreError> = transaction!(store, "attack", |tx| {
                let text =
                    "UPDATE cm_key SET version = $1, attributes = $2, sealed = $3 WHERE id = $4";
                let query = sql(text)
                    .bind(version)
                    .bind(&attributes)
                    .bind(&sealed)
                    .bind(key.key.as_str());
                tx.execute(query).await
            });
            assert_eq!(done.unwrap(), 1);
        };
        let (before_a, before_b) = (row(&a).await, row(&b).await);
        use_of(&a).await.unwrap();
        let after_a = row(&a).await;
        for (attack, (version, attributes, sealed)) in [
            (
                "owner",
                (
                    after_a.0,
                    after_a.1.replace("hanako", "mallory"),
                    after_a.2.clone(),
                ),
            ),
            (
                "limit",
                (
                    after_a.0,
                    after_a.1.replace("\"max_uses\":1000", "\"max_uses\":9000"),
                    after_a.2.clone(),
                ),
            ),
            (
                "version",
                (after_a.0 + 1, after_a.1.clone(), after_a.2.clone()),
            ),
            ("another key's row", before_b.clone()),
            (
                "old blob under the new version",
                (after_a.0, after_a.1.clone(), before_a.2.clone()),
            ),
        ] {
            put(&a, (version, attributes, sealed)).await;
            assert_eq!(refusal(use_of(&a).await), Refusal::NoSuchKey, "{attack}");
        }
        put(&a, after_a).await;
        use_of(&a).await.unwrap();
    })
    .await;
}

// shows: III-3-1-no-plaintext-private-key, T-KEY-DISCLOSE
#[tokio::test]
async fn another_root_secret_opens_nothing() {
    everywhere(
        another_root_secret_opens_nothing::ON_TOKENS,
        async |story| {
            let error = story.again(8).await.err();
            assert!(
                matches!(error, Some(cm_core::StartError::WrongRoot)),
                "{error:?}"
            );
            let again = story.again(7).await.unwrap();
            assert_eq!(
                again.root().kid(),
                story.module.root().kid(),
                "the root key survives a restart"
            );
        },
    )
    .await;
}

// shows: III-3-2-approved-algorithms, III-3-16-keygen-L1
#[tokio::test]
async fn no_key_is_made_or_used_after_its_approval_ended() {
    everywhere(
        no_key_is_made_or_used_after_its_approval_ended::ON_TOKENS,
        async |mut story| {
            let key = story.key(KeyAlg::P256).await;
            story.clock.advance(2_240_611_200 - NOW.0);
            story.renew().await;
            let algorithm = Refusal::NotAllowed(Reason::Algorithm);
            let order = sign(&key, P256, &[digest(P256, "a")]);
            assert_eq!(story.refused(order).await, algorithm);
            let order = generate(KeyAlg::P256, Level::One);
            assert_eq!(story.refused(order).await, algorithm);
            story.key(KeyAlg::P384).await;
        },
    )
    .await;
}

/// A generator that has got stuck.
struct Stuck;

impl core_types::Random for Stuck {
    fn fill(&self, out: &mut [u8]) {
        out.fill(7);
    }
}

// shows: III-3-11-random, III-3-13-detect-hardware, T-KEY-DERIVE
#[tokio::test]
async fn a_module_whose_generator_is_stuck_does_not_start() {
    let store = store_kit::testing::sqlite(cm_core::MIGRATIONS).await;
    let story = Story::begin(store, Arc::new(SoftBackend)).await;
    let stuck = story.again_drawing_from(Arc::new(Stuck)).await;
    assert!(matches!(stuck, Err(cm_core::StartError::SelfTest(_))));
    // Of the generator in use: as many ones as zeros, and no byte preferred (limits of six standard deviations).
    let mut drawn = vec![0; 1 << 20];
    core_types::Random::fill(&core_types::random::SystemRandom, &mut drawn);
    let ones: u32 = drawn.iter().map(|b| b.count_ones()).sum();
    assert!(
        (4_194_304 - 8_688..4_194_304 + 8_688).contains(&ones),
        "{ones}"
    );
    let mut counts = [0_u32; 256];
    for byte in &drawn {
        counts[usize::from(*byte)] += 1;
    }
    assert!(counts.iter().all(|n| (4096 - 384..4096 + 384).contains(n)));
}

// shows: III-A1.7-log-key-generation, III-3-14-audit-records, I-7.1.4.1-log-environment-and-key-events
#[tokio::test]
async fn every_key_is_in_the_log_with_its_owner_from_its_making_on() {
    everywhere(
        every_key_is_in_the_log_with_its_owner_from_its_making_on::ON_TOKENS,
        async |story| {
            let key = story.key(KeyAlg::P256).await;
            let order = story.order(sign(&key, P256, &[digest(P256, "a")]));
            story.module.execute(&order).await.unwrap();
            story.module.execute(&order).await.unwrap_err();
            for what in ["key.generated", "key.used", "cm.order-refused"] {
                assert_eq!(story.audited(what).await, 1, "{what}");
            }
            assert_eq!(story.audited(key.key.as_str()).await, 2);
            // Entries name the owner by a commitment; who it is stands beside the log.
            assert_eq!(story.audited("hanako").await, 0);
            assert_eq!(story.audited(&story.alias("hanako").await).await, 2);
        },
    )
    .await;
}

// shows: III-3-13-detect-software, III-3-14-audit-records
#[tokio::test]
async fn self_tests_run_at_start_and_on_demand() {
    everywhere(
        self_tests_run_at_start_and_on_demand::ON_TOKENS,
        async |story| {
            let health = story.module.self_test().await.unwrap();
            assert_eq!(health.state, ModuleState::Operational);
            assert!(health.operational);
            assert_eq!(story.audited("service.started").await, 1);
            assert_eq!(story.audited("alarm").await, 0);
        },
    )
    .await;
}

pkcs11_faults::on_tokens!(
    keys_are_made_and_sign_what_is_ordered,
    one_act_is_good_for_so_much_and_so_long_and_a_key_for_its_own_time,
    where_a_key_was_made_is_signed_when_it_is_made,
    an_order_is_executed_once_also_when_asked_at_once_and_after_a_restart,
    an_order_takes_the_names_of_the_attempts_before_it,
    an_item_of_an_act_is_signed_once_whatever_the_step,
    only_the_sams_own_timely_orders_are_admitted,
    attributes_limit_the_use_of_a_key,
    a_row_that_was_changed_swapped_or_set_back_is_not_used,
    another_root_secret_opens_nothing,
    no_key_is_made_or_used_after_its_approval_ended,
    every_key_is_in_the_log_with_its_owner_from_its_making_on,
    self_tests_run_at_start_and_on_demand,
);
