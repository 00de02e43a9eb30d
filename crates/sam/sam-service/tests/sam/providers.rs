//! An identity provider's word about an act: enrolled, good once for its act, and refused when anything of it is another's
//! (`sap.md` §4, §6, §11, §14, 13).

use std::sync::atomic::{AtomicU32, Ordering};

use audit_verify::{EvidenceFault, TrustedProvider};
use core_types::{Clock as _, Digest32, KeyAlg, Level};
use jose::{ForeignKey, SigningKey};
use sam_api::ssa::{Happened, Wish};
use sam_core::Policy;
use sam_core::provider::{Provider, Providers};
use sam_service::SamConfig;
use sap::messages::*;
use sap::proof::Method;
use sap::{Proof, act_digest};
use serde_json::{Value, json};

use crate::kit::*;
use crate::levels::worlds_at;

const ISSUER: &str = "https://op.example";

/// Names of nodes, each for once.
static NODES: AtomicU32 = AtomicU32::new(100);

fn provider(key: &SigningKey, multi_factor: bool) -> Provider {
    let public = serde_json::to_value(key.public()).unwrap();
    Provider {
        name: "OP".into(),
        issuer: ISSUER.into(),
        client: "sam.test".into(),
        authorize: "https://op.example/authorize".into(),
        keys: vec![ForeignKey::parse_of_provider(&public).unwrap()],
        acr: vec!["high".into()],
        amr: vec!["hwk".into()],
        multi_factor,
    }
}

/// What the provider says about an act, with some members said otherwise; `null`: not at all.
fn token(world: &World, key: &SigningKey, act: Digest32, sub: &str, bent: &Value) -> String {
    let now = world.clock.now().0;
    let mut claims = json!({
        "iss": ISSUER, "aud": "sam.test", "sub": sub, "nonce": act, "iat": now, "exp": now + 300,
        "auth_time": now, "acr": "high", "amr": ["pwd", "hwk"],
    });
    for (name, value) in bent.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    key.sign("JWT", claims.to_string().as_bytes()).unwrap()
}

/// The world with a node that believes these providers.
async fn believing(mut world: World, providers: Vec<Provider>) -> World {
    let config = SamConfig {
        providers: Providers(providers),
        node: format!("sam-{}", NODES.fetch_add(1, Ordering::SeqCst)),
        ..world.config.clone()
    };
    world.go_on_with(config).await;
    world
}

/// Enrols somebody whom the provider knows, and nobody else does.
async fn enrol(
    world: &World,
    key: &SigningKey,
    person: &str,
    ceiling: Level,
) -> Result<Signer, SapRefusal> {
    let mut invitation = world.invitation(person, &[KeyAlg::P256]);
    invitation.ceiling = ceiling;
    let (voucher, secret) = world.invite(invitation).await;
    let open = EnrolOpenRequest {
        voucher: voucher.clone(),
    };
    let act = act_digest(&world.sam.enrol_open(open).await?.act);
    let request = EnrolRegisterRequest {
        act,
        sealed: world.seal(act, &world.secrets(act, &secret)).await,
        passkey: None,
        id_token: Some(token(world, key, act, &format!("sub-{person}"), &json!({}))),
    };
    world.sam.enrol_register(request).await?;
    let keys = world.certify(&voucher).await;
    Ok(Signer {
        person: core_types::PersonId::parse(person).unwrap(),
        passkey: passkey(),
        seed: None,
        keys,
    })
}

fn proof(act: Digest32, id_token: String) -> Proof {
    Proof::Idp { act, id_token }
}

// shows: I-3.5.1-keyauth-L1, II-A1-sad-once
#[tokio::test(flavor = "multi_thread")]
async fn a_providers_word_for_this_act_signs_once_and_anybody_can_check_it() {
    for world in worlds().await {
        let (key, _) = SigningKey::generate().unwrap();
        let world = believing(world, vec![provider(&key, true)]).await;
        let signer = enrol(&world, &key, "p", Level::One).await.unwrap();
        let rid = world.prepare(&signer, &[hash(1)]).await;
        let opened = world.sam.open(OpenRequest { rid }).await.unwrap();
        assert_eq!(opened.methods, [Method::Idp]);
        assert_eq!(opened.providers, [provider(&key, true).hint()]);
        let act = act_digest(&opened.act);
        let good = token(&world, &key, act, "sub-p", &json!({}));
        world.approve(proof(act, good.clone())).await.unwrap();
        world.approve(proof(act, good)).await.unwrap_err();
        world.bind(rid, "token").await.unwrap();
        let signed = world.sign(&signer, "token", &[hash(1)]).await.unwrap();
        assert!(verifies(&signer.keys[0], &hash(1), &signed.signatures[0]));

        let shown = world.shown(&signer, act).await;
        assert_eq!((shown.method.as_str(), shown.by_word), ("idp", true));
        let unknown = "the-providers-key-unknown";
        assert!(shown.remarks.contains(&unknown), "{:?}", shown.remarks);
        // Whoever has the provider's key from the provider needs the SAM's word no more, and sees what isn't as it must be.
        let trusted = |key: &SigningKey| TrustedProvider {
            issuer: ISSUER.into(),
            client: "sam.test".into(),
            keys: vec![provider(key, true).keys[0].to_jwk()],
            acr: vec!["high".into()],
            amr: vec!["hwk".into()],
        };
        let known = trusted(&key);
        let shown = world
            .shown_to(std::slice::from_ref(&known), &signer, act)
            .await;
        let shown = shown.unwrap();
        assert!(!shown.by_word && shown.remarks.contains(&"the-providers-word"));
        let (other, _) = SigningKey::generate().unwrap();
        for bent in [
            trusted(&other),
            TrustedProvider {
                client: "another".into(),
                ..known.clone()
            },
            TrustedProvider {
                acr: vec!["higher".into()],
                ..known.clone()
            },
            TrustedProvider {
                amr: vec!["face".into()],
                ..known
            },
        ] {
            let shown = world.shown_to(&[bent], &signer, act).await;
            assert!(matches!(shown, Err(EvidenceFault::Broken(_))), "{shown:?}");
        }
    }
}

// shows: T-USE-SAD-FORGE, T-USE-SAP-REPLAY, T-USE-SAP-BYPASS, II-3.3.1-sad-verified
#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_is_not_the_providers_about_this_person_and_act_is_refused() {
    for world in worlds().await {
        let (key, _) = SigningKey::generate().unwrap();
        let (other, _) = SigningKey::generate().unwrap();
        let world = believing(world, vec![provider(&key, true)]).await;
        let signer = enrol(&world, &key, "p", Level::One).await.unwrap();
        enrol(&world, &key, "q", Level::One).await.unwrap();
        let (rid, neighbour) = (
            world.prepare(&signer, &[hash(1)]).await,
            world.prepare(&signer, &[hash(2)]).await,
        );
        let (act, of_other) = (world.open(rid).await, world.open(neighbour).await);
        let now = world.clock.now().0;
        let say = |bent: Value| token(&world, &key, act, "sub-p", &bent);
        let cases = [
            (say(json!({ "nonce": of_other })), "id-token-nonce"),
            (say(json!({ "nonce": null })), "id-token-nonce"),
            (say(json!({ "aud": "other" })), "id-token-audience"),
            (
                say(json!({ "aud": ["sam.test", "other"] })),
                "id-token-audience",
            ),
            (
                say(json!({ "iss": "https://other.example" })),
                "foreign-factor",
            ),
            (say(json!({ "acr": "low" })), "id-token-context"),
            (say(json!({ "acr": null })), "id-token-context"),
            (say(json!({ "amr": ["pwd"] })), "id-token-context"),
            (say(json!({ "exp": now })), "id-token-time"),
            (say(json!({ "exp": null })), "id-token-time"),
            (say(json!({ "iat": now + 61 })), "id-token-time"),
            (say(json!({ "iat": now - 600 })), "id-token-time"),
            // They were logged in there anyway.
            (say(json!({ "auth_time": now - 3600 })), "id-token-stale"),
            (say(json!({ "auth_time": null })), "id-token-stale"),
            // Somebody else's proof, also of a person whom the SAM knows.
            (say(json!({ "sub": "sub-q" })), "foreign-factor"),
            (say(json!({ "sub": "sub-x" })), "foreign-factor"),
            (
                token(&world, &other, act, "sub-p", &json!({})),
                "id-token-signature",
            ),
            (format!("{}x", say(json!({}))), "malformed"),
            (
                say(json!({})).rsplit_once('.').unwrap().0.to_owned() + ".",
                "id-token-signature",
            ),
            ("a.b".to_owned(), "malformed"),
            ("x".repeat(17_000), "malformed"),
        ];
        for (id_token, reason) in cases {
            let before = world.audited("sap.refused", reason).await;
            let refused = world.approve(proof(act, id_token)).await.unwrap_err();
            assert!(
                matches!(
                    refused.code,
                    SapRefusalCode::Refused | SapRefusalCode::Malformed
                ),
                "{reason}"
            );
            assert_eq!(refused.tries_left, None);
            let after = world.audited("sap.refused", reason).await;
            assert_eq!(after, before + 1, "{reason}");
        }
        // Nothing of that locked or spent anything; the good word for the other act is none for this one.
        let foreign = token(&world, &key, of_other, "sub-p", &json!({}));
        world
            .approve(proof(act, foreign.clone()))
            .await
            .unwrap_err();
        world.approve(proof(of_other, foreign)).await.unwrap();
        world.approve(proof(act, say(json!({})))).await.unwrap();
        assert_eq!(world.audited("act.approved", "").await, 2);
    }
}

/// Of an act whose life its request cuts short, too: a log-in from before it is none for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_from_before_a_short_act_is_no_will() {
    for world in worlds().await {
        let (key, _) = SigningKey::generate().unwrap();
        let world = believing(world, vec![provider(&key, true)]).await;
        let signer = enrol(&world, &key, "p", Level::One).await.unwrap();
        let mut request = world.prepare_request(&signer, hash_items(&[hash(1)]));
        request.ttl = 60;
        let rid = world.sam.prepare(SSA, request).await.unwrap().rid;
        let act = world.open(rid).await;
        let now = world.clock.now().0;
        let say = |at: i64| token(&world, &key, act, "sub-p", &json!({ "auth_time": at }));
        let before = world.audited("sap.refused", "id-token-stale").await;
        world.approve(proof(act, say(now - 150))).await.unwrap_err();
        let after = world.audited("sap.refused", "id-token-stale").await;
        assert_eq!(after, before + 1);
        world.approve(proof(act, say(now))).await.unwrap();
    }
}

// shows: II-3.2-keyauth-L2-mfa, I-3.5.1-keyauth-L2, I-3.5.2-L3-pattern
#[tokio::test(flavor = "multi_thread")]
async fn how_much_a_word_counts_is_the_operators_policy_and_never_level_three() {
    for world in worlds_at(Level::Three).await {
        let (key, _) = SigningKey::generate().unwrap();
        let off = world.config.policy.clone();
        let on = Policy {
            version: 2,
            provider_at_level_2: true,
            ..off.clone()
        };
        let mut world = world;
        for (policy, multi_factor, ceiling, good) in [
            (&off, true, Level::One, true),
            (&off, true, Level::Two, false),
            (&on, false, Level::One, true),
            (&on, false, Level::Two, false),
            (&on, true, Level::Two, true),
            (&on, true, Level::Three, false),
        ] {
            world.config.policy = policy.clone();
            world = believing(world, vec![provider(&key, multi_factor)]).await;
            let person = format!("p{}", NODES.fetch_add(1, Ordering::SeqCst));
            let made = enrol(&world, &key, &person, ceiling).await;
            assert_eq!(made.is_ok(), good, "{multi_factor} {ceiling:?}");
            let Ok(signer) = made else { continue };
            assert_eq!(signer.keys[0].level.level, ceiling);
        }
        // A key of level 2, made while the policy allowed it: not any more.
        world.config.policy = on;
        world = believing(world, vec![provider(&key, true)]).await;
        let signer = enrol(&world, &key, "late", Level::Two).await.unwrap();
        world.config.policy = off;
        world = believing(world, vec![provider(&key, true)]).await;
        let rid = world.prepare(&signer, &[hash(1)]).await;
        let opened = world.sam.open(OpenRequest { rid }).await.unwrap();
        assert_eq!((opened.methods.len(), opened.providers.len()), (0, 0));
        let act = act_digest(&opened.act);
        let word = token(&world, &key, act, "sub-late", &json!({}));
        let refused = world.approve(proof(act, word)).await.unwrap_err();
        assert_eq!(refused.requirement.as_deref(), Some("I-3.5.1-keyauth-L2"));
        // A provider that isn't configured any more.
        let world = believing(world, Vec::new()).await;
        let word = token(&world, &key, act, "sub-late", &json!({}));
        world.approve(proof(act, word)).await.unwrap_err();
    }
}

// shows: T-REG-IMPERSONATE
#[tokio::test(flavor = "multi_thread")]
async fn enrolling_takes_the_vouchers_secret_and_a_word_about_the_enrolment() {
    for world in worlds().await {
        let (key, _) = SigningKey::generate().unwrap();
        let world = believing(world, vec![provider(&key, true)]).await;
        let mut invitation = world.invitation("p", &[KeyAlg::P256]);
        invitation.ceiling = Level::One;
        let (voucher, secret) = world.invite(invitation).await;
        let open = EnrolOpenRequest {
            voucher: voucher.clone(),
        };
        let opened = world.sam.enrol_open(open).await.unwrap();
        assert_eq!(opened.providers.len(), 1);
        let act = act_digest(&opened.act);
        let wrong = core_types::SecretBytes::new(vec![1; 16]);
        let register = async |secret: &core_types::SecretBytes, id_token: String| {
            let request = EnrolRegisterRequest {
                act,
                sealed: world.seal(act, &world.secrets(act, secret)).await,
                passkey: None,
                id_token: Some(id_token),
            };
            world.sam.enrol_register(request).await
        };
        let good = token(&world, &key, act, "sub-p", &json!({}));
        register(&wrong, good.clone()).await.unwrap_err();
        for bent in [
            json!({ "nonce": Digest32([7; 32]) }),
            json!({ "aud": "other" }),
            json!({ "acr": "low" }),
            json!({ "auth_time": null }),
        ] {
            let bad = token(&world, &key, act, "sub-p", &bent);
            register(&secret, bad).await.unwrap_err();
        }
        register(&secret, good.clone()).await.unwrap();
        register(&secret, good).await.unwrap_err();
    }
}

// shows: I-3.5.1-keyauth-L1, T-USE-CRED-FORGE, T-USE-SAP-REPLAY
#[tokio::test(flavor = "multi_thread")]
async fn an_account_at_a_provider_is_added_by_a_proof_and_its_own_fresh_word_and_removed_again() {
    for world in worlds().await {
        let (key, _) = SigningKey::generate().unwrap();
        let (foreign, _) = SigningKey::generate().unwrap();
        let world = believing(world, vec![provider(&key, false)]).await;
        let mut invitation = world.invitation("p", &[KeyAlg::P256]);
        invitation.ceiling = Level::One;
        let mut signer = world.enrol_by(invitation, false).await;
        let none = json!({});
        let wanted = Wish::AddFactor {
            registration: signer.keys[0].registration.clone(),
            method: Method::Idp,
        };
        let rid = world.ask(&signer, wanted.clone()).await.unwrap();
        let opened = world.sam.open(OpenRequest { rid }).await.unwrap();
        assert!(opened.providers.is_empty(), "none can prove yet");
        assert_eq!(opened.new_providers[0].issuer, ISSUER);
        let act = act_digest(&opened.act);
        // Nothing, a word about another act, of another's key, and one that is old: refused, with the best of proofs.
        let other = Digest32([9; 32]);
        let stale = json!({ "auth_time": world.clock.now().0 - 4000 });
        for word in [
            None,
            Some(token(&world, &key, other, "hanako", &none)),
            Some(token(&world, &foreign, act, "hanako", &none)),
            Some(token(&world, &key, act, "hanako", &stale)),
        ] {
            let proof = signer.passkey.prove(act).unwrap();
            let new = word.map(|id_token| sap::NewFactor::Idp { id_token });
            world.approve_with(proof, new).await.unwrap_err();
        }
        assert_eq!(world.factors(&signer).await.len(), 1);
        // The provider's word alone adds nothing: it is no proof of this person yet.
        let word = token(&world, &key, act, "hanako", &none);
        let alone = Proof::Idp {
            act,
            id_token: word.clone(),
        };
        let new = || {
            Some(sap::NewFactor::Idp {
                id_token: word.clone(),
            })
        };
        world.approve_with(alone, new()).await.unwrap_err();
        let proof = signer.passkey.prove(act).unwrap();
        world.approve_with(proof.clone(), new()).await.unwrap();
        world.approve_with(proof, new()).await.unwrap_err();
        let factors = world.factors(&signer).await;
        assert_eq!(factors.len(), 2);
        let added = factors.iter().find(|f| f.method == Method::Idp).unwrap();
        assert_eq!(world.history(&signer).await[0].what, Happened::FactorAdded);

        // It proves from now on, as that account and no other.
        let act = world.open(world.prepare(&signer, &[hash(1)]).await).await;
        for (sub, good) in [("taro", false), ("hanako", true)] {
            let id_token = token(&world, &key, act, sub, &none);
            let done = world.approve(Proof::Idp { act, id_token }).await;
            assert_eq!(done.is_ok(), good, "{sub}");
        }
        // The same account again is refused.
        let act = world.change(&signer, wanted).await;
        let proof = signer.passkey.prove(act).unwrap();
        let again = sap::NewFactor::Idp {
            id_token: token(&world, &key, act, "hanako", &none),
        };
        world.approve_with(proof, Some(again)).await.unwrap_err();
        let remove = Wish::RemoveFactor {
            factor: added.factor.clone(),
        };
        world.changed(remove, &mut signer).await.unwrap();
        let act = world.open(world.prepare(&signer, &[hash(2)]).await).await;
        let id_token = token(&world, &key, act, "hanako", &none);
        world
            .approve(Proof::Idp { act, id_token })
            .await
            .unwrap_err();
    }
}
