//! The provider's counter-signature: over values that were just made, by a key for that alone.

use cm_api::order::CounterSign;
use cm_api::{Executed, KeyCreated, OrderKind};
use core_types::{B64, KeyAlg, KeyId};
use pki::Certificate;
use pki::asn1;
use pki::cms::SignerInfo;

use crate::ceremony::seal_key;
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

// shows: III-A1.8-rssp-counter-signature, III-3-5-key-purpose-defined, T-KEY-MISUSE
#[tokio::test]
async fn values_are_counter_signed_by_a_key_for_that_alone() {
    everywhere(
        values_are_counter_signed_by_a_key_for_that_alone::ON_TOKENS,
        async |mut story: Story| {
            let officers = Officers::new();
            story.module = story.again_with(&officers.setup()).await;
            let seal = officers.made(&story, seal_key()).await;
            let cert = certificate(&seal.spki.0);
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

pkcs11_faults::on_tokens!(values_are_counter_signed_by_a_key_for_that_alone);
