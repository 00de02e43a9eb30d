//! Envelopes whose headers were chosen by an adversary who knows how to seal: everything in them is encrypted and authentic as the
//! header says it is, and only the header is wrong (`sap.md` §4, §14, 9).

use std::sync::atomic::Ordering;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use aws_lc_rs::rand::SystemRandom;
use core_types::bytes::b64u;
use core_types::{Digest32, KeyAlg, SecretBytes, sha256};
use jose::Jwk;
use sap::messages::SapRefusalCode;
use sap::{Proof, SealedProof};
use serde_json::{Value, json};

use crate::kit::*;
use crate::proof::{code_of, one_act};

/// Seals by RFC 7518 §4.6 for this key, under the header that `change` makes of the right one.
fn seal_under(to: &Jwk, act: Digest32, plain: &[u8], change: impl FnOnce(&mut Value)) -> String {
    let random = SystemRandom::new();
    let own = EphemeralPrivateKey::generate(&ECDH_P256, &random).unwrap();
    let epk = Jwk::from_point(own.compute_public_key().unwrap().as_ref()).unwrap();
    let apv = to.thumbprint();
    let mut header = json!({
        "alg": "ECDH-ES", "enc": "A256GCM", "typ": sap::TYP_SEALED, "kid": to.kid(),
        "epk": epk, "apu": act, "apv": apv,
    });
    change(&mut header);
    let protected = b64u(header.to_string());
    let peer = UnparsedPublicKey::new(&ECDH_P256, to.point());
    let key = agree_ephemeral(own, peer, (), |z| {
        let info = [
            &1_u32.to_be_bytes()[..],
            z,
            &7_u32.to_be_bytes(),
            b"A256GCM",
            &32_u32.to_be_bytes(),
            &act.0,
            &32_u32.to_be_bytes(),
            &apv.0,
            &256_u32.to_be_bytes(),
        ];
        Ok(sha256(&info).0)
    });
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key.unwrap()).unwrap());
    let mut sealed = plain.to_vec();
    let nonce = Nonce::assume_unique_for_key([7; 12]);
    let aad = Aad::from(protected.as_bytes());
    let tag = key
        .seal_in_place_separate_tag(nonce, aad, &mut sealed)
        .unwrap();
    format!(
        "{protected}..{}.{}.{}",
        b64u([7; 12]),
        b64u(sealed),
        b64u(tag.as_ref())
    )
}

// shows: T-USE-CAPTURE, T-USE-SAD-FORGE, II-3.3.1-sad-protected-in-transit
#[tokio::test(flavor = "multi_thread")]
async fn secrets_under_any_but_the_one_header_are_counted_and_never_compared() {
    type Change = fn(&mut Value);
    let hostile: [(&str, Change); 16] = [
        ("alg none", |h| h["alg"] = "none".into()),
        ("alg dir", |h| h["alg"] = "dir".into()),
        ("alg of passwords", |h| {
            h["alg"] = "PBES2-HS256+A128KW".into();
            h["p2s"] = "AAAAAAAAAAA".into();
            h["p2c"] = json!(2_147_483_647_u32);
        }),
        ("a count of rounds beside the right alg", |h| {
            h["p2c"] = json!(2_147_483_647_u32)
        }),
        ("wrapped key", |h| h["alg"] = "ECDH-ES+A256KW".into()),
        ("other cipher", |h| h["enc"] = "A128GCM".into()),
        ("cipher of another kind", |h| {
            h["enc"] = "A128CBC-HS256".into()
        }),
        ("compressed", |h| h["zip"] = "DEF".into()),
        ("critical", |h| h["crit"] = json!(["exp"])),
        ("nothing critical", |h| h["crit"] = json!([])),
        ("key by address", |h| {
            h["jku"] = "https://evil.example/keys".into()
        }),
        ("own key", |h| h["jwk"] = h["epk"].clone()),
        ("other curve", |h| h["epk"]["crv"] = "P-384".into()),
        ("off the curve", |h| {
            h["epk"]["x"] = json!(Digest32([7; 32]))
        }),
        ("with its private half", |h| h["epk"]["d"] = "AA".into()),
        ("other type", |h| h["typ"] = sap::TYP_SEED.into()),
    ];
    for world in worlds().await {
        let to = world.seal_key().await;
        for (n, (name, change)) in hostile.into_iter().enumerate() {
            let signer = world.enrol(&format!("p-{n}"), true, &[KeyAlg::P256]).await;
            let seed = signer.seed.clone().unwrap();
            world.clock.advance(60);
            let act = one_act(&world, &signer).await;
            let plain = SealedProof {
                act,
                pin: SecretBytes::from(PIN.to_owned()),
                otp: world.otp(&seed, 0),
            };
            let plain = serde_json::to_vec(&plain).unwrap();
            let compared = world.cm.pins.load(Ordering::SeqCst);
            let sealed = seal_under(&to, act, &plain, change);
            let proof = Proof::PinTotp { act, sealed };
            assert_eq!(
                code_of(&world, proof).await,
                SapRefusalCode::Refused,
                "{name}"
            );
            // Another party's names in it.
            for (member, value) in [("apu", Digest32([9; 32])), ("apv", act), ("kid", act)] {
                let sealed = seal_under(&to, act, &plain, |h| h[member] = json!(value));
                let proof = Proof::PinTotp { act, sealed };
                if n == 0 {
                    assert_eq!(
                        code_of(&world, proof).await,
                        SapRefusalCode::Refused,
                        "{member}"
                    );
                }
            }
            assert_eq!(world.cm.pins.load(Ordering::SeqCst), compared, "{name}");
            // The same without the change is good: nothing else was wrong with it.
            let sealed = seal_under(&to, act, &plain, |_| {});
            world.approve(Proof::PinTotp { act, sealed }).await.unwrap();
        }
    }
}
