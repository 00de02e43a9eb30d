//! The CSC API's errors, in the words of the specification.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use core_types::KeyAlg;
use core_types::bytes::b64;
use futures_util::stream::{self, StreamExt as _};
use sam_api::Refusal;
use sam_api::ssa::KeyState;
use serde_json::{Value, json};
use service_kit::CallError;

use crate::web::{Answer, LogLines, Stack, hash, stacks};

const P256: &str = "1.2.840.10045.4.3.2";

fn sign_body(change: impl FnOnce(&mut Value)) -> String {
    let mut body =
        json!({ "credentialID": "key-hanako", "hashes": [b64(hash(1))], "signAlgo": P256 });
    change(&mut body);
    body.to_string()
}

fn bad(text: &str) -> (u16, String, String) {
    (400, "invalid_request".to_owned(), text.to_owned())
}

// shows: I-4.2.2b-hash-only, I-5.2.2-request-carries-hash, I-4.2.2b-choose-data-key-instruct
#[tokio::test]
async fn sign_hash_faults_have_their_words_and_never_reach_the_sam() {
    for stack in stacks().await {
        let token = stack.credential_token("app", "hanako", &[hash(1)]).await;
        let cases: Vec<(String, &str)> = vec![
            (
                "{".to_owned(),
                "The request body must be one JSON object without repeated members",
            ),
            (
                "[]".to_owned(),
                "The request body must be one JSON object without repeated members",
            ),
            (
                r#"{"credentialID":"a","credentialID":"b"}"#.to_owned(),
                "The request body must be one JSON object without repeated members",
            ),
            (
                "{}".to_owned(),
                "Missing (or invalid type) string parameter credentialID",
            ),
            (
                sign_body(|b| b["credentialID"] = json!(7)),
                "Missing (or invalid type) string parameter credentialID",
            ),
            (
                sign_body(|b| b["credentialID"] = json!("key-taro")),
                "Invalid parameter credentialID",
            ),
            (
                sign_body(|b| b["SAD"] = json!(7)),
                "Missing (or invalid type) string parameter SAD",
            ),
            (
                sign_body(|b| b["hashes"] = Value::Null),
                "Missing (or invalid type) array parameter hash",
            ),
            (sign_body(|b| b["hashes"] = json!([])), "Empty hash array"),
            (
                sign_body(|b| b["hashes"] = json!(["*"])),
                "Invalid Base64 hash string parameter",
            ),
            (
                sign_body(|b| b["hashes"] = json!([b64([1; 20])])),
                "Invalid digest value length",
            ),
            (
                sign_body(|b| b["hashes"] = json!([b64([1; 48])])),
                "Invalid digest value length",
            ),
            (
                sign_body(|b| b["signAlgo"] = Value::Null),
                "Missing (or invalid type) string parameter signAlgo",
            ),
            (
                sign_body(|b| b["signAlgo"] = json!("1.2.3")),
                "Invalid parameter signAlgo",
            ),
            (
                sign_body(|b| b["signAlgo"] = json!("1.2.840.113549.1.1.11")),
                "Invalid parameter signAlgo",
            ),
            (
                sign_body(|b| b["signAlgo"] = json!("1.2.840.10045.2.1")),
                "Missing (or invalid type) string parameter hashAlgorithmOID",
            ),
            (
                sign_body(|b| b["hashAlgorithmOID"] = json!("1.3.14.3.2.26")),
                "Invalid parameter hashAlgorithmOID",
            ),
            (
                sign_body(|b| b["operationMode"] = json!("B")),
                "Invalid parameter operationMode",
            ),
        ];
        // A line that another test's thread is the first to write while one listens is lost to whoever listens.
        stack.csc("signatures/signHash", &token, "{").await;
        let (lines, _guard) = LogLines::begin();
        for (body, text) in cases {
            let answer = stack.csc("signatures/signHash", &token, &body).await;
            assert_eq!(answer.told(), bad(text), "{body}");
            // The operator reads endpoint and error, and nothing that was sent.
            let line = lines.take();
            let wanted = ["a call was refused", "/csc/v2/signatures/signHash", text];
            assert!(wanted.iter().all(|part| line.contains(part)), "{line}");
            assert!(!line.contains(&token) && !line.contains("1.2.3"), "{line}");
        }
        assert!(stack.sam.with(|s| s.signed.is_empty()));
        // A hash that isn't in the act is the SAM's to refuse.
        let other = sign_body(|b| b["hashes"] = json!([b64(hash(2))]));
        let answer = stack.csc("signatures/signHash", &token, &other).await;
        assert_eq!(answer.told(), bad("Hash is not authorized by the SAD"));
        // None of that used the token up.
        let good = stack
            .csc("signatures/signHash", &token, &sign_body(|_| ()))
            .await;
        assert_eq!(good.status, StatusCode::OK);
        assert!(stack.audited("access.denied").await);
    }
}

// shows: I-7.1.4.1-log-all-access-attempts
#[tokio::test]
async fn every_call_that_is_refused_for_its_token_is_an_entry_or_counts_in_one() {
    for stack in crate::web::stacks().await {
        let entries = async |kind: &'static str| stack.audit_bodies(kind).await;
        let nobody = async || {
            let answer = stack.csc("credentials/list", "no-such-token", "{}");
            assert_eq!(answer.await.status, StatusCode::UNAUTHORIZED);
        };
        // Whoever is nobody: the first at once, those of the minute after it with the next.
        for _ in 0..4 {
            nobody().await;
        }
        assert_eq!(entries("access.unknown").await.len(), 1);
        stack.clock.advance(61);
        nobody().await;
        let told = entries("access.unknown").await;
        assert_eq!(told.len(), 2);
        assert!(told[1].contains(r#""tries":4"#), "{}", told[1]);
        // Of what nobody follows up, when that minute is over.
        for _ in 0..3 {
            nobody().await;
        }
        for (seconds, wanted) in [(0, 2), (61, 3), (61, 3)] {
            stack.clock.advance(seconds);
            stack.ssa.send_notices().await.unwrap();
            assert_eq!(entries("access.unknown").await.len(), wanted);
        }
        let last = entries("access.unknown").await.remove(2);
        assert!(last.contains(r#""tries":3"#), "{last}");
        // Whoever was somebody, each time and by name.
        let token = stack.credential_token("app", "hanako", &[hash(1)]).await;
        stack.clock.advance(24 * 3600);
        let before = entries("access.denied").await.len();
        let answer = stack.csc("credentials/list", &token, "{}").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        let told = entries("access.denied").await;
        assert_eq!(told.len(), before + 1);
        let last = &told[before];
        assert!(last.contains("expired") && last.contains("app"), "{last}");
    }
}

// shows: I-7.1.4.1-log-all-access-attempts
#[tokio::test]
async fn one_dead_token_fills_no_log() {
    for stack in crate::web::stacks().await {
        let dead = stack.credential_token("app", "hanako", &[hash(1)]).await;
        let other = stack.credential_token("other", "hanako", &[hash(2)]).await;
        stack.clock.advance(3600);
        let before = stack.audit_bodies("access.denied").await.len();
        for _ in 0..70 {
            let answer = stack.csc("credentials/list", &dead, "{}").await;
            assert_eq!(answer.json()["error"], "expired_token");
        }
        let named = stack.audit_bodies("access.denied").await.len() - before;
        assert_eq!(named, 60, "by name while they are few");
        stack.clock.advance(61);
        stack.ssa.send_notices().await.unwrap();
        let told = stack.audit_bodies("access.unknown").await;
        assert_eq!(told.len(), 2);
        assert!(told[0].contains(r#""tries":1"#), "{}", told[0]);
        assert!(told[1].contains(r#""tries":9"#), "{}", told[1]);
        // That costs no other client its entries.
        let answer = stack.csc("credentials/list", &other, "{}").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        let last = stack.audit_bodies("access.denied").await.pop().unwrap();
        assert!(last.contains("other") && last.contains("expired"), "{last}");
    }
}

#[tokio::test]
async fn what_the_sam_refuses_becomes_a_csc_error() {
    let stack = &stacks().await[0];
    let token = stack.credential_token("app", "hanako", &[hash(1)]).await;
    let cases = [
        (CallError::Refused(Refusal::Used), 401, "invalid_token"),
        (CallError::Refused(Refusal::Expired), 401, "expired_token"),
        (
            CallError::Refused(Refusal::KeyNotActive),
            400,
            "invalid_request",
        ),
        (
            CallError::Refused(Refusal::AlgorithmNotApproved),
            400,
            "invalid_request",
        ),
        (CallError::Refused(Refusal::Lost), 500, "server_error"),
        (
            CallError::Refused(Refusal::NotNow),
            503,
            "temporarily_unavailable",
        ),
        (CallError::Unreachable, 503, "temporarily_unavailable"),
        (CallError::Unknown, 500, "server_error"),
    ];
    for (refusal, status, error) in cases {
        let name = format!("{refusal:?}");
        stack.sam.with(|s| s.sign_refusals.push(refusal));
        let answer = stack
            .csc("signatures/signHash", &token, &sign_body(|_| ()))
            .await;
        let (got, code, _) = answer.told();
        assert_eq!((got, code.as_str()), (status, error), "{name}");
    }
}

#[tokio::test]
async fn the_idempotency_key_is_passed_on_or_refused() {
    let stack = &stacks().await[0];
    let token = stack.credential_token("app", "hanako", &[hash(1)]).await;
    let long = "k".repeat(129);
    for (key, good) in [
        ("k-1", true),
        ("", false),
        ("a b", false),
        (long.as_str(), false),
    ] {
        let request = Request::post("/csc/v2/signatures/signHash")
            .header(header::AUTHORIZATION, format!("bearer {token}"))
            .header("Idempotency-Key", key);
        let answer = stack
            .send(request.body(Body::from(sign_body(|_| ()))).unwrap())
            .await;
        assert_eq!(
            answer.status == StatusCode::OK,
            good,
            "{key:?} {}",
            answer.body
        );
    }
    let keys = stack.sam.with(|s| {
        s.signed
            .iter()
            .map(|r| r.idempotency_key.clone())
            .collect::<Vec<_>>()
    });
    assert_eq!(keys, [Some("k-1".to_owned())]);
}

async fn raw(stack: &Stack, authorization: Option<&str>, body: Body) -> Answer {
    let mut request = Request::post("/csc/v2/credentials/list");
    if let Some(value) = authorization {
        request = request.header(header::AUTHORIZATION, value);
    }
    stack.send(request.body(body).unwrap()).await
}

#[tokio::test]
async fn bodies_and_headers_are_bounded_and_checked() {
    let stack = &stacks().await[0];
    let token = stack.service_token("app", "hanako").await;
    for value in [
        None,
        Some("Bearer"),
        Some("Bearer "),
        Some("Basic YTpi"),
        Some("Bearer a b"),
    ] {
        let answer = raw(stack, value, Body::empty()).await;
        assert_eq!(
            answer.told(),
            bad("Malformed authorization header"),
            "{value:?}"
        );
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    let unknown = raw(stack, Some("Bearer unknown"), Body::empty()).await;
    assert_eq!(
        (unknown.status, &unknown.json()["error"]),
        (StatusCode::UNAUTHORIZED, &json!("invalid_token"))
    );
    let bearer = format!("Bearer {token}");
    let huge = raw(stack, Some(&bearer), Body::from(vec![b' '; (2 << 20) + 1])).await;
    assert_eq!(huge.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(huge.json()["error"], "invalid_request");
    let deep = "[".repeat(100_000);
    assert_eq!(
        raw(stack, Some(&bearer), Body::from(deep)).await.status,
        StatusCode::BAD_REQUEST
    );
    let user = stack
        .csc("credentials/list", &token, r#"{"userID":"x"}"#)
        .await;
    assert_eq!(user.told(), bad("userID parameter MUST be null"));
    let certificates = stack
        .csc("credentials/list", &token, r#"{"certificates":"all"}"#)
        .await;
    assert_eq!(certificates.told(), bad("Invalid parameter certificates"));
    let method = stack.csc("signatures/signNothing", &token, "{}").await;
    assert_eq!(
        (method.status, &method.json()["error"]),
        (
            StatusCode::NOT_IMPLEMENTED,
            &json!("not_implemented_method")
        )
    );
    let missing = stack.csc("credentials/info", &token, "{}").await;
    assert_eq!(
        missing.told(),
        bad("Missing (or invalid type) string parameter credentialID")
    );
}

#[tokio::test]
async fn ten_thousand_hashes_fit_into_one_call() {
    let stack = &stacks().await[0];
    let token = stack.credential_token("app", "hanako", &[hash(1)]).await;
    let many: Vec<String> = vec![b64(hash(1)); 10_000];
    let answer = stack
        .csc(
            "signatures/signHash",
            &token,
            &sign_body(|b| b["hashes"] = json!(many)),
        )
        .await;
    assert_eq!(
        answer.json()["signatures"].as_array().map(Vec::len),
        Some(10_000)
    );
}

#[tokio::test]
async fn a_credential_has_every_member_that_clients_insist_on() {
    let stack = &stacks().await[0];
    let token = stack.service_token("app", "hanako").await;
    let body = r#"{"credentialInfo":true,"certificates":"chain","certInfo":true,"authInfo":true,"onlyValid":true,"lang":null}"#;
    let list = stack.csc("credentials/list", &token, body).await.json();
    assert_eq!(list["onlyValid"], true);
    let one = &list["credentialInfos"][0];
    assert_eq!(one["credentialID"], "key-hanako");
    assert_eq!(
        one["key"],
        json!({
            "status": "enabled", "algo": [P256, "1.2.840.10045.2.1"], "len": 256, "curve": "1.2.840.10045.3.1.7",
            "natsuinOrigin": { "case": "1-ii", "statement": "statement" }
        })
    );
    assert_eq!(one["auth"], json!({ "mode": "oauth2code", "objects": [] }));
    assert_eq!(
        (&one["SCAL"], &one["multisign"]),
        (&json!("2"), &json!(10_000))
    );
    assert_eq!(
        one["jt2aLevel"],
        json!({
            "level": 1, "origin": "software", "because": "retention",
            "needs": ["I-3.5.1-retention-L2"], "declared": []
        })
    );
    let cert = &one["cert"];
    assert_eq!(cert["certificates"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        (&cert["status"], &cert["validFrom"], &cert["validTo"]),
        (
            &json!("valid"),
            &json!("20000101000000Z"),
            &json!("21000101000000Z")
        )
    );
    assert_eq!(cert["subjectDN"], "CN=髙橋 花子,C=JP");
    assert!(
        cert["serialNumber"]
            .as_str()
            .unwrap()
            .chars()
            .all(|c| c.is_ascii_hexdigit())
    );

    let info = async |body: &str| stack.csc("credentials/info", &token, body).await.json();
    let bare = info(r#"{"credentialID":"key-hanako","certificates":"none"}"#).await;
    assert!(
        bare["cert"].is_object()
            && bare["cert"].get("certificates").is_none()
            && bare.get("credentialID").is_none()
    );
    let single = info(r#"{"credentialID":"key-hanako"}"#).await;
    assert_eq!(
        single["cert"]["certificates"].as_array().map(Vec::len),
        Some(1)
    );
    assert!(single["cert"].get("subjectDN").is_none());
    // What the certificate says of its issuer's service, and words in the language that was asked for.
    let policy = json!([crate::create::POLICY]);
    assert!(cert.get("policy").is_none() && single["cert"].get("policy").is_none());
    assert_eq!(
        (&one["lang"], &single["lang"]),
        (&json!("en"), &json!("en"))
    );
    let told = info(r#"{"credentialID":"key-hanako","certInfo":true,"lang":"ja-JP"}"#).await;
    assert_eq!(
        (&told["lang"], &told["cert"]["policy"]),
        (&json!("ja"), &policy)
    );
    let person = &stack.users["taro"].person;
    stack.sam.add_key(person, "taro-explicit", KeyAlg::P256);
    stack.next_code();
    let taro = stack.service_token("app", "taro").await;
    for (lang, tag, label) in [("ja", "ja", "暗証番号"), ("fr", "en", "PIN")] {
        let body =
            json!({ "credentialID": "taro-explicit", "authInfo": true, "lang": lang }).to_string();
        let told = stack.csc("credentials/info", &taro, &body).await.json();
        assert_eq!(told["lang"], tag);
        assert_eq!(told["auth"]["objects"][0]["label"], label);
    }

    // A stopped key is listed as such, and not among the valid ones; one without certificate isn't a credential.
    stack.sam.with(|s| {
        s.keys
            .values_mut()
            .flatten()
            .for_each(|k| k.state = KeyState::Suspended)
    });
    let stopped = info(r#"{"credentialID":"key-hanako"}"#).await;
    assert_eq!(stopped["key"]["status"], "disabled");
    assert_eq!(stopped["cert"]["status"], "suspended");
    assert_eq!(
        stack
            .csc("credentials/list", &token, r#"{"onlyValid":true}"#)
            .await
            .json()["credentialIDs"],
        json!([])
    );
    assert_eq!(
        stack.csc("credentials/list", &token, "").await.json()["credentialIDs"],
        json!(["key-hanako"])
    );
    stack.sam.with(|s| {
        s.keys
            .values_mut()
            .flatten()
            .for_each(|k| (k.state, k.chain) = (KeyState::Pending, Vec::new()))
    });
    assert_eq!(
        stack.csc("credentials/list", &token, "").await.json()["credentialIDs"],
        json!([])
    );
}

#[tokio::test]
async fn while_the_sam_is_away_callers_of_info_dont_call_for_it_in_turn() {
    for stack in stacks().await {
        let about = |away| {
            stack.sam.with(|s| {
                s.away = away;
                std::mem::take(&mut s.abouts)
            })
        };
        let info = async || {
            let answer = stack.csc("info", "x", "{}").await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
            let mut told = answer.json();
            // What was said of the clock counts for a shorter time.
            told["jt2aService"]["time"].take();
            told
        };
        about(true);
        let without = info().await;
        for _ in 0..5 {
            assert_eq!(info().await, without);
        }
        assert_eq!(about(false), 1);
        assert_eq!(info().await, without);
        stack.clock.advance(10);
        let with = info().await;
        assert_ne!(with, without);
        assert_eq!(about(true), 1);
        // What it said counts for a while, and as long as nothing else is heard.
        for _ in 0..3 {
            assert_eq!(info().await, with);
            stack.clock.advance(61);
        }
        assert!((1..=2).contains(&about(false)));
    }
}

#[tokio::test]
async fn of_whoever_shows_no_token_little_is_read() {
    for stack in stacks().await {
        let token = stack.service_token("app", "hanako").await;
        let told = async |token: Option<&str>, body: Body| {
            let mut request = Request::post("/csc/v2/credentials/list");
            if let Some(token) = token {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            stack.send(request.body(body).unwrap()).await.status
        };
        for (token, status) in [
            (None, StatusCode::PAYLOAD_TOO_LARGE),
            (Some("unknown"), StatusCode::UNAUTHORIZED),
        ] {
            // Begins, and would never end: whoever waits for it waits for ever.
            let begun = stream::iter([Ok::<_, std::io::Error>(vec![b' '; 80 << 10])]);
            let endless = Body::from_stream(begun.chain(stream::pending()));
            assert_eq!(told(token, endless).await, status);
        }
        let long = format!("{{}}{}", " ".repeat(80 << 10));
        assert_eq!(told(Some(&token), Body::from(long)).await, StatusCode::OK);
    }
}
