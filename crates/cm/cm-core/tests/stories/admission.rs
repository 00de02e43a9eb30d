//! Which orders are admitted, and what a key is good for: whose, when, how much, and for what.

use cm_api::rpc::Reason;
use cm_api::{ExecuteRequest, KeyCreated, Order, OrderBody, OrderKind, Refusal};
use core_types::{B64, Digest32, HashAlg, KeyAlg, Level, SigAlg, sha256};
use jose::SigningKey;

use crate::kit::{EPOCH, NOW, P256, SAM, by_act, digest, everywhere, generate, refusal, sign};

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

pkcs11_faults::on_tokens!(
    one_act_is_good_for_so_much_and_so_long_and_a_key_for_its_own_time,
    only_the_sams_own_timely_orders_are_admitted,
    attributes_limit_the_use_of_a_key,
);
