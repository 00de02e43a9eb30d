//! Requests signed by the application, and an SSA that would rather have others (`sap.md` §14, 17).

use std::sync::Arc;

use core_types::{B64, ClientId, KeyAlg};
use jose::{ForeignKey, SigningKey};
use sam_api::Refusal;
use sam_api::ssa::*;
use sam_core::client_jws::TYP_REQUEST;
use sam_service::{KnownClient, SamConfig};
use sap::messages::OpenRequest;
use sap::{Act, SignAct};
use serde_json::{Value, json};

use crate::kit::*;

fn signing_client() -> ClientId {
    ClientId::parse("signs").unwrap()
}

/// The world with a node that knows the key of one application.
async fn with_key(mut world: World, key: &SigningKey) -> World {
    let mut config = SamConfig {
        node: "sam-2".into(),
        ..world.config.clone()
    };
    let known = KnownClient {
        name: "みなと商事".into(),
        keys: vec![ForeignKey::parse(&serde_json::to_value(key.public()).unwrap()).unwrap()],
    };
    config.clients.insert(signing_client(), known);
    world.go_on_with(config).await;
    world
}

fn claims(world: &World, signer: &Signer, hashes: &[B64]) -> Value {
    let now = core_types::Clock::now(world.clock.as_ref()).0;
    let digests: Vec<_> = hashes
        .iter()
        .map(|h| {
            json!({ "hash": core_types::bytes::b64(&h.0), "label": "契約書.pdf", "hashType": "dtbsr" })
        })
        .collect();
    json!({
        "iss": "signs", "client_id": "signs", "aud": RETURN, "iat": now, "exp": now + 300,
        "response_type": "code", "state": "x",
        "authorization_details": [{
            "type": "credential", "credentialID": signer.keys[0].key.as_str(),
            "hashAlgorithmOID": core_types::HashAlg::Sha256.oid(), "documentDigests": digests,
        }],
    })
}

fn sign(key: &SigningKey, claims: &Value) -> Option<String> {
    Some(
        key.sign(TYP_REQUEST, claims.to_string().as_bytes())
            .unwrap(),
    )
}

async fn opened(world: &World, request: PrepareRequest) -> SignAct {
    let rid = world.sam.prepare(SSA, request).await.unwrap().rid;
    let act = world.sam.open(OpenRequest { rid }).await.unwrap().act;
    let payload = core_types::bytes::from_b64u(act.split('.').nth(1).unwrap()).unwrap();
    match serde_json::from_slice(&payload).unwrap() {
        Act::Sign(act) => act,
        other => panic!("{other:?}"),
    }
}

// shows: T-USE-DTBSR-FORGE, T-INS-OPERATOR, I-6.1-document-intended
#[tokio::test(flavor = "multi_thread")]
async fn an_ssa_cannot_exchange_what_the_application_signed() {
    let key = Arc::new(SigningKey::generate().unwrap().0);
    let other = SigningKey::generate().unwrap().0;
    for world in worlds().await {
        let world = with_key(world, &key).await;
        let signer = world.enrol("p", false, &[KeyAlg::P256, KeyAlg::P256]).await;
        let hashes = [hash(1), hash(2)];
        let good = PrepareRequest {
            client: signing_client(),
            client_jws: sign(&key, &claims(&world, &signer, &hashes)),
            ..world.prepare_request(&signer, hash_items(&hashes))
        };
        let act = opened(&world, good.clone()).await;
        assert!(act.client.signed && act.client.known);
        assert_eq!((act.items[1].digest(), act.renew), (&hash(2), 0));
        let mut renewable = claims(&world, &signer, &hashes);
        renewable["authorization_details"][0]["renewableFor"] = json!(600);
        let act = PrepareRequest {
            client_jws: sign(&key, &renewable),
            renew: 600,
            ..good.clone()
        };
        assert_eq!(opened(&world, act).await.renew, START.plus(600).0);

        let swapped = |change: &dyn Fn(&mut PrepareRequest)| {
            let mut request = good.clone();
            change(&mut request);
            request
        };
        let claimed = |change: &dyn Fn(&mut Value)| {
            let mut value = claims(&world, &signer, &hashes);
            change(&mut value);
            swapped(&|r| r.client_jws = sign(&key, &value))
        };
        let doc = DocItem {
            signed_attrs: None,
            ranges: None,
        };
        let refused = [
            ("another hash", swapped(&|r| r.items[0].h = hash(9))),
            ("another order", swapped(&|r| r.items.reverse())),
            (
                "another name",
                swapped(&|r| r.items[0].label = "覚書.pdf".into()),
            ),
            ("one less", swapped(&|r| drop(r.items.pop()))),
            ("one more", swapped(&|r| r.items.push(r.items[0].clone()))),
            (
                "another form",
                swapped(&|r| r.items[0].doc = Some(doc.clone())),
            ),
            (
                "another key",
                swapped(&|r| r.key = signer.keys[1].key.clone()),
            ),
            ("a right of an hour", swapped(&|r| r.renew = 3600)),
            (
                "a longer right",
                claimed(&|c| c["authorization_details"][0]["renewableFor"] = json!(600)),
            ),
            ("no signature at all", swapped(&|r| r.client_jws = None)),
            (
                "another application's signature",
                swapped(&|r| r.client_jws = sign(&other, &claims(&world, &signer, &hashes))),
            ),
            (
                "for another server",
                claimed(&|c| c["aud"] = json!("https://other.example")),
            ),
            (
                "from another issuer",
                claimed(&|c| c["iss"] = json!("client-1")),
            ),
            ("expired", claimed(&|c| c["exp"] = c["iat"].clone())),
            (
                "too long a life",
                claimed(&|c| c["exp"] = json!(START.0 + 7200)),
            ),
            (
                "from the future",
                claimed(&|c| c["iat"] = json!(START.0 + 120)),
            ),
            (
                "two authorizations",
                claimed(&|c| {
                    let one = c["authorization_details"][0].clone();
                    c["authorization_details"] = json!([one.clone(), one]);
                }),
            ),
        ];
        let count = refused.len();
        for (what, request) in refused {
            let answer = world.sam.prepare(SSA, request).await;
            let member = "client_jws".to_owned();
            assert_eq!(answer.unwrap_err(), Refusal::Invalid { member }, "{what}");
        }
        assert_eq!(world.audited("request.refused", "client_jws").await, count);

        // In the name of an application without a key: nobody's signature confirms the list, and the act says so.
        let other = opened(&world, swapped(&|r| r.client = client()))
            .await
            .client;
        assert!(!other.signed && other.name == "Known client");
        let plain = world.prepare_request(&signer, hash_items(&hashes));
        assert!(!opened(&world, plain).await.client.signed);
    }
}
