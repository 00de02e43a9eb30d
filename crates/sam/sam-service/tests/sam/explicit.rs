//! Secrets that an application collects: for keys made for that alone, counted like all others, used once
//! (`sap.md` §10, §14: 10, 48).

use std::sync::atomic::Ordering;

use core_types::{B64, HashAlg, KeyAlg, Level, PersonId, SecretBytes, sha256};
use futures_util::future::join_all;
use sam_api::Refusal;
use sam_api::ssa::*;
use sap::act_digest;
use sap::enrol::CodeAddress;
use sap::messages::*;
use sap::proof::Method;

use crate::kit::*;
use crate::proof::{code_of, one_act};

/// A PIN unlike the one for the SIC.
pub const APP_PIN: &str = "collected-pin-9";

/// Enrols a person's key whose PIN and codes applications collect.
pub async fn enrol(world: &World, person: &str) -> (KeyInfo, SecretBytes) {
    enrol_at(world, person, None).await
}

/// As [`enrol`], with an address for codes.
pub async fn enrol_at(
    world: &World,
    person: &str,
    codes: Option<CodeAddress>,
) -> (KeyInfo, SecretBytes) {
    let mut invitation = world.invitation(person, &[KeyAlg::P256]);
    (invitation.ceiling, invitation.collected) = (Level::One, true);
    invitation.codes = codes;
    let (voucher, secret) = world.invite(invitation).await;
    let open = EnrolOpenRequest {
        voucher: voucher.clone(),
    };
    let jws = world.sam.enrol_open(open).await.unwrap().act;
    let act = act_digest(&jws);
    let seed = world.fetch_seed(act, &secret).await.unwrap();
    let mut sealed = world.secrets(act, &secret);
    sealed.pin = Some(SecretBytes::from(APP_PIN.to_owned()));
    sealed.otp = Some(world.otp(&seed, 0));
    // A passkey has no business here.
    let mut device = passkey();
    let with_passkey = EnrolRegisterRequest {
        act,
        sealed: world.seal(act, &sealed).await,
        passkey: Some(device.register(act).unwrap()),
        id_token: None,
    };
    world.sam.enrol_register(with_passkey).await.unwrap_err();
    let request = EnrolRegisterRequest {
        act,
        sealed: world.seal(act, &sealed).await,
        passkey: None,
        id_token: None,
    };
    world.sam.enrol_register(request).await.unwrap();
    let keys = world.certify(&voucher).await;
    let key = keys.into_iter().find(|key| key.registration == voucher);
    world.clock.advance(60);
    (key.unwrap(), seed)
}

pub fn request(
    person: &str,
    key: &KeyInfo,
    pin: &str,
    otp: SecretBytes,
    token: &str,
) -> ExplicitRequest {
    ExplicitRequest {
        person: PersonId::parse(person).unwrap(),
        key: key.key.clone(),
        client: client(),
        client_name: "claimed".into(),
        items: hash_items(&[hash(1), hash(2)]),
        renew: 0,
        pin: SecretBytes::from(pin.to_owned()),
        otp,
        grant: sha256(&[token.as_bytes()]),
    }
}

pub async fn sign(
    world: &World,
    key: &KeyInfo,
    token: &str,
    hash: B64,
) -> Result<SignAnswer, Refusal> {
    let asked = SignRequest {
        token: SecretBytes::from(token.to_owned()),
        client: client(),
        key: key.key.clone(),
        alg: alg(key),
        hashes: vec![hash],
        idempotency_key: None,
    };
    world.sam.sign(SSA, asked).await
}

// shows: I-3.5.2-L1-key-auth-delegated, T-USE-SAP-REPLAY, T-USE-DTBSR-FORGE
#[tokio::test(flavor = "multi_thread")]
async fn collected_secrets_authorize_these_hashes_once() {
    for world in worlds().await {
        let (key, seed) = enrol(&world, "p").await;
        assert!(key.collected);
        let asked = request("p", &key, APP_PIN, world.otp(&seed, 0), "token");
        let bound = world.sam.explicit(SSA, asked).await.unwrap();
        assert_eq!((&bound.key, bound.count, bound.bare), (&key.key, 2, true));
        let foreign = sign(&world, &key, "token", hash(3)).await;
        assert_eq!(foreign.unwrap_err(), Refusal::HashNotApproved);
        let value = sign(&world, &key, "token", hash(1)).await.unwrap();
        assert!(verifies(&key, &hash(1), &value.signatures[0]));
        let again = sign(&world, &key, "token", hash(2)).await;
        assert_eq!(again.unwrap_err(), Refusal::Used);
        // The evidence says who collected, and no secret stands anywhere.
        let text = world.audit_text().await.join("\n");
        assert!(
            text.contains("\"collected\"") && !text.contains(APP_PIN),
            "{text}"
        );
        // The same code again is no authorization.
        let replayed = request("p", &key, APP_PIN, world.otp(&seed, 0), "other");
        let refused = world.sam.explicit(SSA, replayed).await.unwrap_err();
        assert_eq!(refused, Refusal::SecretWrong);
    }
}

// shows: II-A1-multi-method-2, T-USE-SAP-REPLAY
#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_collected_secrets_goes_on_as_long_as_was_asked() {
    for world in worlds().await {
        let (key, seed) = enrol(&world, "p").await;
        let renewal = |token: &str, next: &str| RenewRequest {
            token: SecretBytes::from(token.to_owned()),
            client: client(),
            key: key.key.clone(),
            hashes: vec![],
            grant: sha256(&[next.as_bytes()]),
        };
        let asked = |renew: i64, token: &str| ExplicitRequest {
            renew,
            ..request("p", &key, APP_PIN, world.otp(&seed, 0), token)
        };
        for bad in [-1, 3601] {
            let refused = world.sam.explicit(SSA, asked(bad, "bad")).await;
            let member = "renew".to_owned();
            assert_eq!(refused.unwrap_err(), Refusal::Invalid { member });
        }
        world.sam.explicit(SSA, asked(700, "1")).await.unwrap();
        sign(&world, &key, "1", hash(1)).await.unwrap();
        let next = world.sam.renew(SSA, renewal("1", "2")).await.unwrap();
        assert_eq!(next.count, 1);
        let dead = sign(&world, &key, "1", hash(2)).await;
        assert_eq!(dead.unwrap_err(), Refusal::NotFound);
        sign(&world, &key, "2", hash(2)).await.unwrap();
        let done = world.sam.renew(SSA, renewal("2", "3")).await;
        assert_eq!(done.unwrap_err(), Refusal::Used);
        // Without a word about it there is none, and none is later than that.
        world.clock.advance(60);
        world.sam.explicit(SSA, asked(0, "4")).await.unwrap();
        let fixed = world.sam.renew(SSA, renewal("4", "5")).await;
        assert_eq!(fixed.unwrap_err(), Refusal::Used);
        world.clock.advance(60);
        world.sam.explicit(SSA, asked(100, "6")).await.unwrap();
        world.clock.advance(101);
        let late = world.sam.renew(SSA, renewal("6", "7")).await;
        assert_eq!(late.unwrap_err(), Refusal::Expired);
    }
}

// shows: II-3.3.1-dtbsr-integrity, T-USE-DTBSR-FORGE
#[tokio::test(flavor = "multi_thread")]
async fn documents_are_bound_by_the_sam_also_where_secrets_are_collected() {
    for world in worlds().await {
        let (key, seed) = enrol(&world, "p").await;
        let mut items = hash_items(&[hash(1), hash(2)]);
        items[0].doc = Some(DocItem {
            signed_attrs: None,
            ranges: None,
        });
        let asked = ExplicitRequest {
            items,
            renew: 600,
            ..request("p", &key, APP_PIN, world.otp(&seed, 0), "token")
        };
        let bound = world.sam.explicit(SSA, asked).await.unwrap();
        assert!(!bound.bare, "one of them is a document");
        let value = sign(&world, &key, "token", hash(1)).await.unwrap();
        let value = &value.signatures[0];
        assert!(!verifies(&key, &hash(1), value), "not the hash itself");
        let attrs = pki::signed_attrs::minimal_signed_attrs(&hash(1).0, &key.chain[0].0).unwrap();
        let signed = B64(HashAlg::Sha256.digest(&attrs));
        assert!(verifies(&key, &signed, value), "what binds the document");
        let next = RenewRequest {
            token: SecretBytes::from("token".to_owned()),
            client: client(),
            key: key.key.clone(),
            hashes: vec![],
            grant: sha256(&[b"next"]),
        };
        assert!(!world.sam.renew(SSA, next).await.unwrap().bare);
    }
}

// shows: T-USE-CRED-FORGE, II-3.2-keyauth-L2-separate
#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_applications_and_of_the_approval_page_never_stand_for_each_other() {
    for world in worlds().await {
        let signer = world.enrol("p", true, &[KeyAlg::P256]).await;
        let (key, seed) = enrol(&world, "p").await;
        let own = &signer.keys[0];
        assert!(!own.collected);
        // The key of the approval page by collected secrets: its own, and the application's.
        let page_seed = signer.seed.as_ref().unwrap();
        for (pin, otp) in [
            (PIN, world.otp(page_seed, 0)),
            (APP_PIN, world.otp(&seed, 0)),
        ] {
            let asked = request("p", own, pin, otp, "token");
            let refused = world.sam.explicit(SSA, asked).await.unwrap_err();
            assert_eq!(refused, Refusal::Mismatch);
        }
        // The application's key by the approval page.
        let prepare = PrepareRequest {
            key: key.key.clone(),
            ..world.prepare_request(&signer, hash_items(&[hash(1)]))
        };
        let refused = world.sam.prepare(SSA, prepare).await.unwrap_err();
        assert_eq!(refused, Refusal::Mismatch);
        // What an application learnt, sealed for the other key.
        let act = one_act(&world, &signer).await;
        let learnt = world.pin_proof(act, APP_PIN, world.otp(&seed, 0)).await;
        assert_eq!(code_of(&world, learnt).await, SapRefusalCode::Refused);
        // And the page's secrets for the application's key.
        let asked = request("p", &key, PIN, world.otp(page_seed, 0), "token");
        let refused = world.sam.explicit(SSA, asked).await.unwrap_err();
        assert_eq!(refused, Refusal::SecretWrong);
        // Somebody else's key, and a person of another.
        let asked = request("q", &key, APP_PIN, world.otp(&seed, 0), "token");
        let refused = world.sam.explicit(SSA, asked).await.unwrap_err();
        assert_eq!(refused, Refusal::NotFound);
    }
}

// shows: I-7.1.2.5-authentication-failure-lockout
#[tokio::test(flavor = "multi_thread")]
async fn guessing_collected_secrets_is_counted_before_it_is_judged() {
    for world in worlds().await {
        let (key, seed) = enrol(&world, "p").await;
        let compared = world.cm.pins.load(Ordering::SeqCst);
        let calls = (0..40).map(|n| {
            let otp = world.otp(&seed, 0);
            let asked = request("p", &key, &format!("wrong-pin-{n}"), otp, "token");
            let sam = world.sam.clone();
            tokio::spawn(async move { sam.explicit(SSA, asked).await })
        });
        for outcome in join_all(calls).await {
            outcome.unwrap().unwrap_err();
        }
        let guesses = world.cm.pins.load(Ordering::SeqCst) - compared;
        assert!((1..=10).contains(&guesses), "{guesses}");
        let right = request("p", &key, APP_PIN, world.otp(&seed, 0), "token");
        let refused = world.sam.explicit(SSA, right).await.unwrap_err();
        assert_eq!(refused, Refusal::Locked);
        assert!(world.audited("factor.locked", "").await >= 1);
    }
}

// shows: II-3.2-keyauth-L2-mfa
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_collected_secrets_stay_at_level_1() {
    for world in worlds().await {
        let mut invitation = world.invitation("p", &[KeyAlg::P256]);
        invitation.collected = true;
        assert_eq!(invitation.ceiling, Level::Three);
        let (invite, _, _) = world.ra.invite(invitation).unwrap();
        let request = VoucherRequest::Ra {
            invite,
            return_uri: RETURN.into(),
        };
        world.sam.voucher(SSA, request).await.unwrap_err();
        let mut invitation = world.invitation("p", &[KeyAlg::P256]);
        (invitation.ceiling, invitation.collected) = (Level::One, true);
        let (voucher, _) = world.invite(invitation).await;
        let open = EnrolOpenRequest { voucher };
        let jws = world.sam.enrol_open(open).await.unwrap().act;
        let payload = jws.split('.').nth(1).unwrap();
        let payload = core_types::bytes::from_b64u(payload).unwrap();
        let sap::Act::Enrol(act) = serde_json::from_slice(&payload).unwrap() else {
            panic!("an enrol act");
        };
        // The page tells by this what the person is about to make.
        assert_eq!(act.methods, [Method::Collected]);
    }
}
