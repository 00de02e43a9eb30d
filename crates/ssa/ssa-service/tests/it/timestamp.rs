//! `signatures/timestamp` through configured authorities.

use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use core_types::HashAlg;
use core_types::bytes::{b64, from_b64};
use core_types::random::SeededRandom;
use dev_ca::{DevCa, Urls};
use pki::cms::SignedData;
use pki::tsp::TstInfo;
use serde_json::{Value, json};
use ssa_service::{Config, TimeStamper};

use crate::web::{Answer, Stack, hash, stacks, stacks_with};

async fn call(stack: &Stack, version: u8, token: &str, body: &Value) -> Answer {
    let request = Request::post(format!("/csc/v{version}/signatures/timestamp"))
        .header(header::AUTHORIZATION, format!("Bearer {token}"));
    stack
        .send(request.body(Body::from(body.to_string())).unwrap())
        .await
}

/// Stacks that ask these authorities, which belong to one CA.
async fn with_authorities(urls: &[&str]) -> (tempfile::TempDir, Vec<Stack>) {
    stamping(urls, |_| {}).await
}

/// The same with other settings.
pub async fn stamping(urls: &[&str], set: impl Fn(&mut Config)) -> (tempfile::TempDir, Vec<Stack>) {
    let dir = tempfile::tempdir().unwrap();
    let anchors = Arc::new(Mutex::new(Vec::new()));
    let mut ready = Vec::new();
    // The CA keeps the time of the first stack.
    let clock = Arc::new(core_types::clock::ManualClock::at(core_types::UnixTime(
        crate::web::START,
    )));
    for n in 0..2 {
        let ca = DevCa::open(
            &dir.path().join(n.to_string()),
            Urls::under("http://ca"),
            clock.clone(),
            Arc::new(SeededRandom::new(7)),
        );
        ready.push(ca.unwrap());
    }
    for ca in &ready {
        anchors.lock().unwrap().push(ca.root().der().to_vec());
    }
    let stacks = stacks_with(|config| {
        set(config);
        config.time_stampers = urls
            .iter()
            .map(|url| TimeStamper {
                url: (*url).to_owned(),
                anchors: anchors.lock().unwrap().clone(),
            })
            .collect();
    })
    .await;
    for (stack, ca) in stacks.iter().zip(ready) {
        *stack.net.0.lock().unwrap() = Some(ca);
    }
    (dir, stacks)
}

#[tokio::test]
async fn the_first_authority_that_tells_the_truth_is_believed() {
    let order = [
        "stamp://down",
        "stamp://liar",
        "stamp://late",
        "stamp://good",
    ];
    let (_dir, stacks) = with_authorities(&order).await;
    for stack in stacks {
        let token = stack.service_token("app", "hanako").await;
        for (version, nonce) in [(1, Some("00fA1b2c")), (2, None)] {
            let body =
                json!({ "hash": b64(hash(1)), "hashAlgo": HashAlg::Sha256.oid(), "nonce": nonce });
            let answer = call(&stack, version, &token, &body).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
            let stamp = from_b64(answer.json()["timestamp"].as_str().unwrap()).unwrap();
            let signed = SignedData::parse(&stamp).unwrap();
            let info = TstInfo::parse(signed.content.as_ref().unwrap()).unwrap();
            assert_eq!(info.imprint, hash(1));
            if nonce.is_some() {
                assert_eq!(info.nonce, Some(vec![0xfa, 0x1b, 0x2c]));
            }
        }
        let info = stack.csc("info", "x", "{}").await;
        assert!(info.body.contains("signatures/timestamp"));
    }
}

#[tokio::test]
async fn faults_have_their_words_and_nobody_is_believed_who_lies() {
    let (_dir, stacks) = with_authorities(&["stamp://liar", "stamp://late", "stamp://down"]).await;
    for stack in stacks {
        let token = stack.service_token("app", "hanako").await;
        let signing = stack.credential_token("app", "hanako", &[hash(1)]).await;
        let good = json!({ "hash": b64(hash(1)), "hashAlgo": HashAlg::Sha256.oid() });
        assert_eq!(
            call(&stack, 2, &token, &good).await.status,
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert_eq!(
            call(&stack, 2, &signing, &good).await.status,
            StatusCode::FORBIDDEN
        );
        assert_eq!(
            call(&stack, 1, "unknown", &good).await.status,
            StatusCode::UNAUTHORIZED
        );
        let cases = [
            (
                "hash",
                Value::Null,
                "Missing (or invalid type) string parameter hash",
            ),
            ("hash", json!(""), "Empty hash parameter"),
            ("hash", json!("AQID"), "Invalid digest value length"),
            ("hash", json!("*"), "Invalid Base64 hash string parameter"),
            (
                "hashAlgo",
                json!("1.3.14.3.2.26"),
                "Invalid parameter hashAlgo",
            ),
            ("nonce", json!("x"), "Invalid parameter nonce"),
        ];
        for version in [1, 2] {
            for (name, value, text) in &cases {
                let mut body = good.clone();
                body[*name] = value.clone();
                let answer = call(&stack, version, &token, &body).await;
                assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
                assert_eq!(
                    answer.json()["error_description"],
                    *text,
                    "v{version} {body}"
                );
            }
        }
    }
}

#[tokio::test]
async fn without_an_authority_there_is_no_such_method() {
    let stack = &stacks().await[0];
    let token = stack.service_token("app", "hanako").await;
    let answer = call(stack, 2, &token, &json!({})).await;
    assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED);
}
