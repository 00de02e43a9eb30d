//! What may be signed, by whom, and who may ask (`sap.md` §14, 15-21, 33, 36-39, 43).

use axum::body::{Body, to_bytes};
use axum::http::Request;
use core_types::rpc::Method;
use core_types::{B64, ClientId, HashAlg, KeyAlg, SigAlg, sha256};
use pki::asn1;
use sam_api::Refusal;
use sam_api::ssa::*;
use sam_service::{gateway_router, ssa_router};
use sap::messages::{self as sic, OpenRequest, SapRefusalCode};
use service_kit::Peer;
use tower::ServiceExt as _;

use crate::kit::*;

// shows: T-USE-DTBSR-FORGE, T-KEY-MISUSE, II-3.3.1-dtbsr-integrity
#[tokio::test(flavor = "multi_thread")]
async fn only_approved_free_items_with_their_key_client_and_algorithm() {
    for world in worlds().await {
        let mut signer = world
            .enrol("p", false, &[KeyAlg::Rsa3072, KeyAlg::Rsa3072])
            .await;
        let other = world.enrol("q", false, &[KeyAlg::Rsa3072]).await;
        let token = world
            .approved(&mut signer, &[hash(1), hash(2), hash(2)])
            .await;
        let good = world.sign_request(&signer, &token, &[hash(1)]);
        let with = |change: &dyn Fn(&mut SignRequest)| {
            let mut request = good.clone();
            change(&mut request);
            request
        };
        let sha384 = B64(HashAlg::Sha384.digest(b"x"));
        let cases: Vec<(SignRequest, Refusal)> = vec![
            (
                with(&|r| r.hashes = vec![hash(9)]),
                Refusal::HashNotApproved,
            ),
            (
                with(&|r| r.hashes = vec![hash(1), hash(9)]),
                Refusal::HashNotApproved,
            ),
            (
                with(&|r| r.hashes = vec![hash(1), hash(1)]),
                Refusal::HashNotApproved,
            ),
            (with(&|r| r.hashes = vec![]), Refusal::HashNotApproved),
            (
                with(&|r| r.hashes = vec![sha384.clone()]),
                Refusal::HashNotApproved,
            ),
            (
                with(&|r| r.key = other.keys[0].key.clone()),
                Refusal::Mismatch,
            ),
            (
                with(&|r| r.key = signer.keys[1].key.clone()),
                Refusal::Mismatch,
            ),
            (
                with(&|r| r.client = ClientId::parse("client-2").unwrap()),
                Refusal::Mismatch,
            ),
            (
                with(&|r| r.alg = SigAlg::RsaPkcs1(HashAlg::Sha384)),
                Refusal::AlgorithmNotApproved,
            ),
        ];
        for (request, expected) in cases {
            let refused = world.sam.sign(SSA, request.clone()).await.unwrap_err();
            assert_eq!(refused, expected, "{request:?}");
        }
        // Who isn't the service that prepared it, or has no token, learns nothing.
        assert_eq!(
            world
                .sam
                .sign("other-ssa.test", good.clone())
                .await
                .unwrap_err(),
            Refusal::NotFound
        );
        let grant = sha256(&[token.as_bytes()]).to_string();
        assert_eq!(
            world.sign(&signer, &grant, &[hash(1)]).await.unwrap_err(),
            Refusal::NotFound
        );
        // Nine refusals consumed nothing; PSS is among the algorithms of the key.
        let pss = with(&|r| {
            r.hashes = vec![hash(2), hash(1), hash(2)];
            r.alg = SigAlg::RsaPss(HashAlg::Sha256);
        });
        assert_eq!(world.sam.sign(SSA, pss).await.unwrap().signatures.len(), 3);
    }
}

// shows: T-USE-SAP-BYPASS
#[tokio::test(flavor = "multi_thread")]
async fn ten_wrong_calls_kill_the_act() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let token = world.approved(&mut signer, &[hash(1)]).await;
        for _ in 0..10 {
            assert_eq!(
                world.sign(&signer, &token, &[hash(2)]).await.unwrap_err(),
                Refusal::HashNotApproved
            );
        }
        assert_eq!(
            world.sign(&signer, &token, &[hash(1)]).await.unwrap_err(),
            Refusal::Used
        );
    }
}

// shows: III-3-4-authenticate-signer, T-USE-SAP-BYPASS
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_bound_once_after_approval_and_by_the_same_service() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let rid = world.prepare(&signer, &[hash(1)]).await;
        assert_eq!(
            world.bind(rid, "early").await.unwrap_err(),
            Refusal::NotApproved
        );
        let act = world.open(rid).await;
        assert_eq!(
            world.bind(rid, "early").await.unwrap_err(),
            Refusal::NotApproved
        );
        world
            .approve(signer.passkey.prove(act).unwrap())
            .await
            .unwrap();
        let grant = sha256(&[b"token"]);
        let foreign = world
            .sam
            .bind("other-ssa.test", BindRequest { rid, grant })
            .await;
        assert_eq!(foreign.unwrap_err(), Refusal::NotFound);
        let status = world
            .sam
            .status("other-ssa.test", StatusRequest { rid })
            .await;
        assert_eq!(status.unwrap_err(), Refusal::NotFound);
        let first = world.bind(rid, "token").await.unwrap();
        let same = world.bind(rid, "token").await.unwrap();
        assert_eq!((first.sign_until, first.count), (same.sign_until, 1));
        assert_eq!(world.bind(rid, "another").await.unwrap_err(), Refusal::Used);
        assert_eq!(
            world
                .sign(&signer, "another", &[hash(1)])
                .await
                .unwrap_err(),
            Refusal::NotFound
        );
        world.clock.advance(300);
        assert_eq!(
            world.sign(&signer, "token", &[hash(1)]).await.unwrap_err(),
            Refusal::Expired
        );
    }
}

// shows: T-USE-DTBSR-FORGE
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_checked_before_anybody_sees_them() {
    for world in worlds().await {
        let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let other = world.enrol("q", false, &[KeyAlg::P256]).await;
        let good = world.prepare_request(&signer, hash_items(&[hash(1)]));
        let with = |change: &dyn Fn(&mut PrepareRequest)| {
            let mut request = good.clone();
            change(&mut request);
            request
        };
        let invalid = |member: &str| Refusal::Invalid {
            member: member.into(),
        };
        let many = vec![hash(1); 10_001];
        let cases: Vec<(PrepareRequest, Refusal)> = vec![
            (
                with(&|r| r.items[0].h = B64(vec![1; 20])),
                invalid("items.h"),
            ),
            (with(&|r| r.items.clear()), invalid("items")),
            (with(&|r| r.items = hash_items(&many)), invalid("items")),
            (
                with(&|r| r.items[0].ha = HashAlg::Sha384),
                invalid("items.h"),
            ),
            (with(&|r| r.ttl = 0), invalid("ttl")),
            (with(&|r| r.ttl = 86_401), invalid("ttl")),
            (
                with(&|r| r.return_uri = "http://evil.test/".into()),
                invalid("return"),
            ),
            (
                with(&|r| r.key = other.keys[0].key.clone()),
                Refusal::NotFound,
            ),
            (
                with(&|r| r.person = other.person.clone()),
                Refusal::NotFound,
            ),
        ];
        for (request, expected) in cases {
            assert_eq!(world.sam.prepare(SSA, request).await.unwrap_err(), expected);
        }
        let tricky = with(&|r| {
            r.items[0].label = format!("<b>\u{202e}gnp.exe\u{0}{}", "x".repeat(10_000));
            r.client_name = "\u{202e}evil".into();
        });
        let rid = world.sam.prepare(SSA, tricky).await.unwrap().rid;
        let act = shown(&world, rid).await;
        assert!(act.items[0].label().starts_with("<b>gnp.exex"));
        assert_eq!(act.items[0].label().chars().count(), 200);
        // The name is the SAM's own record, not the SSA's word.
        assert_eq!(
            (
                act.client.name.as_str(),
                act.client.known,
                act.client.signed
            ),
            ("Known client", true, false)
        );
        let unknown = with(&|r| r.client = ClientId::parse("client-2").unwrap());
        let rid = world.sam.prepare(SSA, unknown).await.unwrap().rid;
        let act = shown(&world, rid).await;
        assert_eq!(
            (act.client.name.as_str(), act.client.known),
            ("claimed", false)
        );
    }
}

// shows: T-USE-DTBSR-FORGE, II-3.3.1-dtbsr-integrity
#[tokio::test(flavor = "multi_thread")]
async fn signed_attributes_of_a_document_are_judged_by_the_sam() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let other = world.enrol("q", false, &[KeyAlg::P256]).await;
        let document = hash(1);
        let cert = &signer.keys[0].chain[0].0;
        let own = pki::signed_attrs::minimal_signed_attrs(&document.0, cert).unwrap();
        let doc = |attrs: Option<Vec<u8>>| {
            let mut items = hash_items(&[hash(1)]);
            items[0].doc = Some(DocItem {
                signed_attrs: attrs.map(B64),
                ranges: Some([0, 1, 2, 3]),
            });
            items
        };
        let minimal =
            |h: &B64, cert: &[u8]| pki::signed_attrs::minimal_signed_attrs(&h.0, cert).unwrap();
        let mut trailing = own.clone();
        trailing.push(0);
        let mut tagged = own.clone();
        tagged[0] = 0xa0;
        let parts = asn1::Tlv::single(&own, "set")
            .unwrap()
            .open(asn1::SET, "set")
            .unwrap()
            .all("set")
            .unwrap();
        let parts: Vec<Vec<u8>> = parts.iter().map(|p| p.raw.to_vec()).collect();
        let set = |parts: &[Vec<u8>]| {
            asn1::tlv(
                asn1::SET,
                &parts.iter().map(Vec::as_slice).collect::<Vec<_>>(),
            )
        };
        let reversed = set(&[parts[2].clone(), parts[1].clone(), parts[0].clone()]);
        let doubled = set(&[
            parts[0].clone(),
            parts[0].clone(),
            parts[1].clone(),
            parts[2].clone(),
        ]);
        let csr = pki::csr::request_info(&pki::name::encode(&[]).unwrap(), &signer.keys[0].spki.0);
        let bad = [
            minimal(&hash(2), cert),
            minimal(&document, &other.keys[0].chain[0].0),
            set(&parts[..2]),
            set(&parts[1..]),
            trailing,
            tagged,
            reversed,
            doubled,
            csr,
            vec![],
        ];
        for attrs in bad {
            let request = world.prepare_request(&signer, doc(Some(attrs.clone())));
            let refused = world.sam.prepare(SSA, request).await.unwrap_err();
            let expected = Refusal::Invalid {
                member: "items.doc.signed_attrs".into(),
            };
            assert_eq!(refused, expected, "{attrs:02x?}");
        }
        // Given or built, the same bytes are signed; the client may name either hash.
        for (attrs, asked) in [
            (Some(own.clone()), document.clone()),
            (None, B64(HashAlg::Sha256.digest(&own))),
        ] {
            let request = world.prepare_request(&signer, doc(attrs));
            let rid = world.sam.prepare(SSA, request).await.unwrap().rid;
            let act = world.open(rid).await;
            world
                .approve(signer.passkey.prove(act).unwrap())
                .await
                .unwrap();
            let token = random_token();
            world.bind(rid, &token).await.unwrap();
            let values = world
                .sign(&signer, &token, &[asked])
                .await
                .unwrap()
                .signatures;
            assert!(verifies(
                &signer.keys[0],
                &B64(HashAlg::Sha256.digest(&own)),
                &values[0]
            ));
        }
    }
}

// shows: T-INS-OPERATOR
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_requests_pushes_out_only_its_own() {
    for world in worlds().await {
        let signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let mut calm = world.enrol("q", false, &[KeyAlg::P256]).await;
        let waiting = world.prepare(&calm, &[hash(1)]).await;
        let mut rids = Vec::new();
        for n in 0..100 {
            world.clock.advance(1);
            rids.push(world.prepare(&signer, &[hash(n)]).await);
        }
        let mut open = 0;
        for rid in &rids {
            let state = world
                .sam
                .status(SSA, StatusRequest { rid: *rid })
                .await
                .unwrap()
                .state;
            open += usize::from(state == RequestState::Open);
        }
        assert_eq!(open, 64);
        let gone = world
            .sam
            .open(OpenRequest { rid: rids[0] })
            .await
            .unwrap_err();
        assert_eq!(gone.code, SapRefusalCode::Withdrawn);
        let act = world.open(waiting).await;
        world
            .approve(calm.passkey.prove(act).unwrap())
            .await
            .unwrap();
    }
}

// shows: II-3.3.1-sap-endpoint, III-3-4-authenticate-application, I-7.1.4.1-log-all-access-attempts
#[tokio::test(flavor = "multi_thread")]
async fn each_listener_serves_its_own_callers_and_methods_only() {
    for world in worlds().await {
        let (ssa, gateway) = (
            ssa_router(world.sam.inside()),
            gateway_router(world.sam.inside()),
        );
        let about = |router, peer| call::<About>(router, peer, &Empty {});
        let keys = |router, peer| call::<sic::Keys>(router, peer, &sic::Empty {});
        assert_eq!(about(ssa.clone(), SSA).await.0, 200);
        assert_eq!(keys(gateway.clone(), GATEWAY).await.0, 200);
        for peer in [GATEWAY, "", "unknown.test"] {
            assert_eq!(about(ssa.clone(), peer).await.0, 422, "{peer}");
        }
        for peer in [SSA, "", "unknown.test"] {
            assert_eq!(keys(gateway.clone(), peer).await.0, 422, "{peer}");
        }
        // Each of these is an entry, and a flood of them is some.
        let strangers = async || world.audited("access.peer-refused", "unknown.test").await;
        assert_eq!(strangers().await, 2);
        assert_eq!(world.audited("access.peer-refused", "\"unnamed\"").await, 2);
        for _ in 0..30 {
            assert_eq!(about(ssa.clone(), "unknown.test").await.0, 422);
        }
        assert_eq!(strangers().await, 10);
        // The methods of one listener don't exist on the other.
        assert_eq!(about(gateway.clone(), GATEWAY).await.0, 404);
        assert_eq!(about(gateway, SSA).await.0, 404);
        assert_eq!(keys(ssa.clone(), SSA).await.0, 404);
        let unknown = call_raw(ssa, SSA, About::PATH, br#"{"more":1}"#.to_vec()).await;
        assert_eq!(unknown.0, 400);
    }
}

async fn shown(world: &World, rid: core_types::Digest32) -> sap::SignAct {
    let jws = world.sam.open(OpenRequest { rid }).await.unwrap().act;
    let payload = core_types::bytes::from_b64u(jws.split('.').nth(1).unwrap()).unwrap();
    match serde_json::from_slice(&payload).unwrap() {
        sap::Act::Sign(act) => act,
        _ => panic!("sign"),
    }
}

async fn call<M: Method>(router: axum::Router, peer: &str, request: &M::Request) -> (u16, Vec<u8>) {
    call_raw(router, peer, M::PATH, serde_json::to_vec(request).unwrap()).await
}

async fn call_raw(router: axum::Router, peer: &str, path: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
    let mut request = Request::post(path).body(Body::from(body)).unwrap();
    request.extensions_mut().insert(Peer {
        name: peer.into(),
        addr: ([127, 0, 0, 1], 1).into(),
    });
    let answer = router.oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    (
        status,
        to_bytes(answer.into_body(), usize::MAX)
            .await
            .unwrap()
            .to_vec(),
    )
}
