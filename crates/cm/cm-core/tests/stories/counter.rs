//! The provider's counter-signature: over values that were just made, by a key for that alone.

use cm_api::ceremony::ProviderKey;
use cm_api::order::CounterSign;
use cm_api::{Executed, KeyCreated, OrderKind};
use core_types::{B64, KeyAlg, KeyId};
use futures_util::future::join_all;
use pki::Certificate;
use pki::asn1;
use pki::cms::SignerInfo;

use crate::ceremony::{as_signers, seal_key};
use crate::destroy::KeyRow;
use crate::kit::{NOW, P256, Story, by_act, digest, everywhere, sign};
use crate::switch::Officers;

/// A certificate for this key; the module looks at nothing in it but that.
fn certificate(spki: &[u8]) -> B64 {
    let name = pki::name::encode(&[(pki::oid::COMMON_NAME, "Remote signing service")]).unwrap();
    let alg = pki::alg::encode_sig_alg(P256);
    let tbs = asn1::sequence(&[
        &asn1::tlv(0xa0, &[&asn1::uint(&[2])]),
        &asn1::uint(&[7]),
        &alg,
        &name,
        &asn1::sequence(&[&asn1::time(NOW), &asn1::time(NOW.plus(1000))]),
        &name,
        spki,
    ]);
    B64(asn1::sequence(&[&tbs, &alg, &asn1::bits(&[0; 8])]))
}

fn order(key: &KeyCreated, with: &KeyId, certificate: &B64, what: &str) -> OrderKind {
    let mut kind = sign(key, P256, &[digest(P256, what), digest(P256, "b")]);
    if let OrderKind::Sign { counter_sign, .. } = &mut kind {
        *counter_sign = Some(CounterSign {
            key: with.clone(),
            certificate: certificate.clone(),
        });
    }
    kind
}

/// A module with two officers, and their seal key.
async fn with_seal_key(story: &mut Story) -> (Officers, ProviderKey, B64) {
    let officers = Officers::new();
    story.module = story.again_with(&officers.setup()).await;
    let seal = officers.made(story, seal_key()).await;
    let cert = certificate(&seal.spki.0);
    (officers, seal, cert)
}

/// Signs twice with a new key by this act.
async fn signed(story: &Story, act: u8, seal: &KeyId, cert: &B64) -> Executed {
    let key = story.key(KeyAlg::P256).await;
    let asked = story.order(by_act(act, order(&key, seal, cert, "a")));
    story.module.execute(&asked).await.unwrap()
}

fn counted(done: &Executed) -> bool {
    matches!(done, Executed::CounterSigned { values, counter } if (values.len(), counter.len()) == (2, 2))
}

/// The seal key has signed before: its row says so as the log does, for who runs and for who starts.
// shows: III-A1.8-rssp-counter-signature, III-3-3-key-attribute-integrity
#[tokio::test]
async fn a_seal_key_goes_on_after_the_comparison_with_the_log_and_after_a_restart() {
    everywhere(
        a_seal_key_goes_on_after_the_comparison_with_the_log_and_after_a_restart::ON_TOKENS,
        async |mut story: Story| {
            let (officers, seal, cert) = with_seal_key(&mut story).await;
            for act in 20..23 {
                let done = signed(&story, act, &seal.key, &cert).await;
                assert!(counted(&done), "{act}: {done:?}");
                let found = story.module.scrub().await.unwrap();
                assert!(found.agrees(), "{act}: {found:?}");
                story.module = story.again_with(&officers.setup()).await;
                let found = story.module.scrub().await.unwrap();
                assert!(found.agrees(), "{act}: {found:?}");
            }
            assert_eq!(story.audited("alarm").await, 0);
        },
    )
    .await;
}

// shows: III-A1.8-rssp-counter-signature, T-KEY-ATTR-ALTER, T-KEY-MALFUNCTION
#[tokio::test]
async fn a_seal_key_whose_row_was_set_back_or_altered_costs_no_signature() {
    everywhere(
        a_seal_key_whose_row_was_set_back_or_altered_costs_no_signature::ON_TOKENS,
        async |mut story: Story| {
            let (officers, seal, cert) = with_seal_key(&mut story).await;
            let first = KeyRow::of(&story, &as_signers(&seal)).await;
            assert!(counted(&signed(&story, 20, &seal.key, &cert).await));
            first.replace(&story).await;
            let goes_without = async |story: &Story, act| {
                let alarms = story.audited("cm-not-counter-signed").await;
                let done = signed(story, act, &seal.key, &cert).await;
                assert!(matches!(&done, Executed::Signed(values) if values.len() == 2));
                let told = story.audited("cm-not-counter-signed").await;
                assert_eq!(told, alarms + 1, "{act}");
            };
            goes_without(&story, 21).await;
            story.module = story.again_with(&officers.setup()).await;
            let found = story.module.scrub().await.unwrap();
            assert_eq!(found.set_back, std::slice::from_ref(&seal.key));
            goes_without(&story, 22).await;
            // Another key's row under its name.
            let other = KeyRow::of(&story, &story.key(KeyAlg::P256).await).await;
            first.replace_by(&story, &other).await;
            story.module = story.again_with(&officers.setup()).await;
            goes_without(&story, 23).await;
        },
    )
    .await;
}

// shows: III-A1.8-rssp-counter-signature
#[tokio::test]
async fn orders_at_one_time_count_with_the_seal_key_once_each() {
    everywhere(
        orders_at_one_time_count_with_the_seal_key_once_each::ON_TOKENS,
        async |mut story: Story| {
            let (_, seal, cert) = with_seal_key(&mut story).await;
            let mut orders = Vec::new();
            for act in 20..32 {
                let key = story.key(KeyAlg::P256).await;
                let asked = by_act(act, order(&key, &seal.key, &cert, "a"));
                orders.push(story.order(asked));
            }
            let all = orders.iter().map(|order| story.module.execute(order));
            for done in join_all(all).await {
                assert!(counted(&done.unwrap()));
            }
            let row = KeyRow::of(&story, &as_signers(&seal)).await;
            assert_eq!(
                row.version, 13,
                "one step for each order, however many values"
            );
            let used = "\"signatures\":24";
            assert!(row.attributes.contains(used), "{}", row.attributes);
            assert!(story.module.scrub().await.unwrap().agrees());
        },
    )
    .await;
}

// shows: III-A1.8-rssp-counter-signature, III-3-5-key-purpose-defined, T-KEY-MISUSE
#[tokio::test]
async fn values_are_counter_signed_by_a_key_for_that_alone() {
    everywhere(
        values_are_counter_signed_by_a_key_for_that_alone::ON_TOKENS,
        async |mut story: Story| {
            let (_, seal, cert) = with_seal_key(&mut story).await;
            let key = story.key(KeyAlg::P256).await;
            let used = story.audited("key.used").await;
            let asked = story.order(order(&key, &seal.key, &cert, "a"));
            let done = story.module.execute(&asked).await.unwrap();
            let Executed::CounterSigned { values, counter } = done else {
                panic!("{done:?}");
            };
            assert_eq!((values.len(), counter.len()), (2, 2));
            let cert = Certificate::parse(&cert.0).unwrap();
            for (value, info) in values.iter().zip(&counter) {
                let info = SignerInfo::single(&info.0).unwrap();
                pki::counter::verify(&info, &value.0, &cert).unwrap();
            }
            let swapped = SignerInfo::single(&counter[1].0).unwrap();
            assert!(pki::counter::verify(&swapped, &values[0].0, &cert).is_err());
            assert_eq!(story.audited("key.used").await, used + 2, "both keys' uses");

            // The signer's right isn't lost by what is wrong with the provider's key, and an alarm says so.
            let own = certificate(&key.spki.0);
            let other = certificate(&story.key(KeyAlg::P256).await.spki.0);
            let cert = B64(cert.der().to_vec());
            let missing = KeyId::random(&core_types::random::SystemRandom);
            for (number, (with, cert)) in (10..).zip([
                (&key.key, &own),
                (&seal.key, &other),
                (&seal.key, &B64(vec![0x30, 0])),
                (&missing, &cert),
            ]) {
                let key = story.key(KeyAlg::P256).await;
                let alarms = story.audited("alarm").await;
                let asked = story.order(by_act(number, order(&key, with, cert, "c")));
                let done = story.module.execute(&asked).await.unwrap();
                assert!(
                    matches!(&done, Executed::Signed(values) if values.len() == 2),
                    "{number}: {done:?}"
                );
                assert_eq!(story.audited("alarm").await, alarms + 1, "{number}");
            }
        },
    )
    .await;
}

pkcs11_faults::on_tokens!(
    a_seal_key_goes_on_after_the_comparison_with_the_log_and_after_a_restart,
    a_seal_key_whose_row_was_set_back_or_altered_costs_no_signature,
    orders_at_one_time_count_with_the_seal_key_once_each,
    values_are_counter_signed_by_a_key_for_that_alone,
);
