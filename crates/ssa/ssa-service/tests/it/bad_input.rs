//! One table of bad input over every method of both versions, as the OpenAPI documents name them: wrong media types and methods, texts that
//! aren't the JSON they should be, doubled members, deep nesting, control characters, wrong types, and the same thing said twice.

use axum::body::Body;
use axum::http::{Method, Request, header};
use core_types::bytes::b64;
use core_types::{HashAlg, KeyAlg};
use csc_types::openapi::document;
use serde_json::{Value, json};

use crate::coverage::ready;
use crate::web::{Answer, PASSWORD, Stack, hash};

/// A method under test: its path, its schema, and how a good caller authorizes.
struct Target {
    path: String,
    name: String,
    schema: Value,
    authorization: Option<String>,
}

/// What a good caller would send.
fn good(name: &str, v1: bool) -> Value {
    let hashes = if v1 { "hash" } else { "hashes" };
    let algorithm = if v1 { "hashAlgo" } else { "hashAlgorithmOID" };
    let oid = HashAlg::Sha256.oid();
    let key = "key-hanako";
    match name {
        "credentials/info" => json!({ "credentialID": key }),
        "credentials/authorize" => json!({ "credentialID": "key-explicit", "numSignatures": 1,
            hashes: [b64(hash(1))], algorithm: oid, "PIN": "secret pin", "OTP": "123456",
            "authData": [{ "id": "PIN", "value": "secret pin" }, { "id": "OTP", "value": "123456" }] }),
        "credentials/extendTransaction" | "signatures/signHash" => {
            json!({ "credentialID": key, "SAD": "x", hashes: [b64(hash(1))], "signAlgo": "1.2.840.10045.4.3.2" })
        }
        "signatures/signDoc" => json!({ "credentialID": key, "SAD": "x", "documents": [
            { "document": "AQID", "signature_format": "C", "signAlgo": "1.2.840.10045.4.3.2" }] }),
        "signatures/timestamp" => json!({ "hash": b64(hash(1)), "hashAlgo": oid }),
        "signatures/signPolling" => json!({ "requestID": "x" }),
        "signatures/receipt" => json!({ "credentialID": key, "signature": "AQID" }),
        // A policy that its certificate doesn't have: nothing is used up.
        "credentials/create" => {
            json!({ "credentialCreationRequest": { "certificatePolicy": "1.2.3" } })
        }
        "credentials/delete" => json!({ "credentialDeletionRequest": { "credentialID": key } }),
        "credentials/getChallenge" => {
            json!({ "credentialID": "coded-explicit", "authObjectID": "OTP" })
        }
        "credentials/sendOTP" => json!({ "credentialID": "coded-explicit" }),
        "credentials/authorizeCheck" => json!({ "handle": "x" }),
        "auth/revoke" => json!({ "token": "x" }),
        _ => json!({}),
    }
}

async fn targets(stack: &Stack, v1: bool) -> Vec<Target> {
    let service = stack.service_token("app", "hanako").await;
    let created = crate::create::token(stack, "app", "hanako", "key-made").await;
    let deleted = crate::delete::token(stack, "app", "taro", "key-taro").await;
    let document = document(v1);
    let base = document["servers"][0]["url"].as_str().unwrap().to_owned();
    let paths = document["paths"].as_object().unwrap().clone();
    let targets = paths.into_iter().map(|(path, operations)| {
        let name = path.trim_start_matches('/').to_owned();
        let schema = &operations["post"]["requestBody"]["content"]["application/json"]["schema"];
        let authorization = match name.as_str() {
            "info" => None,
            "auth/login" => Some(format!("Basic {}", b64(format!("nobody:{PASSWORD}000000")))),
            "credentials/create" => Some(format!("Bearer {created}")),
            "credentials/delete" => Some(format!("Bearer {deleted}")),
            _ => Some(format!("Bearer {service}")),
        };
        Target {
            path: format!("{base}{path}"),
            name,
            schema: schema.clone(),
            authorization,
        }
    });
    targets.collect()
}

async fn send(
    stack: &Stack,
    target: &Target,
    (method, kinds): (Method, &[&str]),
    query: &str,
    body: impl Into<Body>,
) -> Answer {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{}{query}", target.path));
    for kind in kinds {
        request = request.header(header::CONTENT_TYPE, *kind);
    }
    if let Some(authorization) = &target.authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let answer = stack.send(request.body(body.into()).unwrap()).await;
    stack.sam.with(|s| s.explicit = 0);
    answer
}

const JSON: (Method, &[&str]) = (Method::POST, &["application/json"]);

/// An error as the specification has it, which tells nothing of what is behind.
fn refused(answer: &Answer, status: u16, why: &str) {
    let body = &answer.body;
    assert_eq!(answer.status.as_u16(), status, "{why}: {body}");
    let told: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{why}: {body}"));
    assert!(told["error"].is_string(), "{why}: {body}");
    assert_eq!(answer.headers["content-type"], "application/json", "{why}");
    assert_eq!(answer.headers["cache-control"], "no-store", "{why}");
    for inner in ["serde", "column", "line ", "panicked", "sqlx", ".rs"] {
        assert!(!body.contains(inner), "{why}: {body}");
    }
}

// shows: II-A2-csc-conformance, T-USE-SAP-BYPASS
#[tokio::test]
async fn other_methods_and_media_types_are_refused_by_every_method() {
    for stack in ready().await {
        for v1 in [true, false] {
            for target in targets(&stack, v1).await {
                for method in ["GET", "PUT", "PATCH", "DELETE"] {
                    if (method, target.path.as_str()) == ("GET", "/csc/v2/info") {
                        continue;
                    }
                    let why = format!("{method} {}", target.path);
                    let other = Method::from_bytes(method.as_bytes()).unwrap();
                    let answer = send(&stack, &target, (other, JSON.1), "", "{}").await;
                    refused(&answer, 405, &why);
                    let allow = answer.headers[header::ALLOW].to_str().unwrap();
                    assert!(allow.contains("POST"), "{why}: {allow}");
                }
                let body = good(&target.name, v1).to_string();
                for kinds in [
                    &["text/plain"][..],
                    &["application/x-www-form-urlencoded"],
                    &["multipart/form-data; boundary=x"],
                    &["application/xml"],
                    &["application/jsonx"],
                    &["text/plain; application/json"],
                    &["application/json, text/plain"],
                    &["application/json", "text/plain"],
                    &["text/plain", "application/json"],
                    &[""],
                ] {
                    let why = format!("{} {kinds:?}", target.path);
                    let answer = send(&stack, &target, (Method::POST, kinds), "", body.clone());
                    refused(&answer.await, 400, &why);
                }
                // What clients really send is taken, and says the same thing.
                let plain = send(&stack, &target, JSON, "", body.clone()).await;
                for kinds in [
                    &[][..],
                    &["application/json;charset=UTF-8"],
                    &["Application/JSON ; charset=utf-8"],
                ] {
                    if target.name != "info" && plain.status.is_success() {
                        // It does something each time; one of these calls is enough.
                        continue;
                    }
                    let answer = send(&stack, &target, (Method::POST, kinds), "", body.clone());
                    assert_eq!(
                        answer.await.status,
                        plain.status,
                        "{} {kinds:?}",
                        target.path
                    );
                }
            }
        }
    }
}

// shows: II-A2-csc-conformance, T-USE-SAP-BYPASS
#[tokio::test]
async fn texts_that_are_not_one_plain_object_are_refused_by_every_method() {
    let deep =
        |open: &str, close: &str| format!("{{\"x\":{}1{}}}", open.repeat(5000), close.repeat(5000));
    let texts: Vec<(&str, Vec<u8>)> = vec![
        ("broken off", b"{".to_vec()),
        ("more behind", b"{}x".to_vec()),
        ("two of them", b"{}{}".to_vec()),
        ("a list", b"[]".to_vec()),
        ("a list of one", b"[{}]".to_vec()),
        ("a number", b"1".to_vec()),
        ("a text", b"\"x\"".to_vec()),
        ("nothing", b"null".to_vec()),
        ("no UTF-8", b"{\"x\":\"\xff\xfe\"}".to_vec()),
        ("half a surrogate", b"{\"x\":\"\\ud800\"}".to_vec()),
        ("a raw control character", b"{\"x\":\"\x00\"}".to_vec()),
        ("a raw line break", b"{\"x\":\"a\nb\"}".to_vec()),
        ("a mark of bytes' order", b"\xef\xbb\xbf{}".to_vec()),
        ("a form", b"credentialID=key-hanako&SAD=x".to_vec()),
        ("doubled", b"{\"lang\":\"en\",\"lang\":\"ja\"}".to_vec()),
        (
            "doubled by escapes",
            b"{\"lang\":\"en\",\"l\\u0061ng\":\"ja\"}".to_vec(),
        ),
        ("doubled inside", b"{\"x\":[{\"y\":1,\"y\":2}]}".to_vec()),
        ("deep lists", deep("[", "]").into_bytes()),
        ("deep objects", deep("{\"x\":", "}").into_bytes()),
        ("numbers beyond all bounds", b"{\"x\":1e999}".to_vec()),
    ];
    for stack in ready().await {
        for v1 in [true, false] {
            for target in targets(&stack, v1).await {
                for (what, text) in &texts {
                    let why = format!("{} {what}", target.path);
                    refused(
                        &send(&stack, &target, JSON, "", text.clone()).await,
                        400,
                        &why,
                    );
                }
                // A method for documents takes more; `sign_doc.rs`.
                if target.name != "signatures/signDoc" {
                    let long = json!({ "clientData": "x".repeat(3 << 20) }).to_string();
                    let answer = send(&stack, &target, JSON, "", long).await;
                    refused(&answer, 413, &target.path);
                }
            }
        }
    }
}

/// Members that take anything: other types in them are no fault.
fn is_free(schema: &Value) -> bool {
    schema.get("type").is_none()
}

fn is_of(schema: &Value, value: &Value) -> bool {
    match schema["type"].as_str().unwrap() {
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("type {other}"),
    }
}

// shows: II-A2-csc-conformance, T-USE-SAP-BYPASS
#[tokio::test]
async fn members_of_other_types_and_with_control_characters_are_no_way_in() {
    let others = [
        json!(7),
        json!(-1),
        json!(1.5),
        json!(true),
        json!("1"),
        json!("true"),
        json!([[]]),
        json!({ "x": 1 }),
    ];
    let texts = [
        "\u{0}",
        "a\u{0}b",
        "\r\nSet-Cookie: x=1",
        "\u{1b}[2J",
        "\u{202e}\u{2066}",
        "\u{feff}",
        "' OR 1=1 --",
    ];
    for stack in ready().await {
        for v1 in [true, false] {
            for target in targets(&stack, v1).await {
                let right = good(&target.name, v1);
                for (member, schema) in target.schema["properties"].as_object().unwrap() {
                    let with = |value: &Value| {
                        let mut body = right.clone();
                        body[member] = value.clone();
                        body.to_string()
                    };
                    let wrong = others
                        .iter()
                        .filter(|value| !is_free(schema) && !is_of(schema, value));
                    for value in wrong {
                        let why = format!("{} {member} = {value}", target.path);
                        let answer = send(&stack, &target, JSON, "", with(value)).await;
                        // Who can't log in is told that and nothing else.
                        refused(&answer, 400, &why);
                    }
                    for text in texts.iter().filter(|_| schema["type"] == "string") {
                        let why = format!("{} {member} = {text:?}", target.path);
                        let answer = send(&stack, &target, JSON, "", with(&json!(text))).await;
                        let status = answer.status.as_u16();
                        let down = status == 503 && target.name == "signatures/timestamp";
                        assert!(status < 500 || down, "{why}: {status} {}", answer.body);
                        let raw =
                            |c: char| c.is_control() || "\u{202e}\u{2066}\u{feff}".contains(c);
                        assert!(!answer.body.contains(raw), "{why}: {}", answer.body);
                        assert!(answer.headers.get("set-cookie").is_none(), "{why}");
                    }
                }
            }
        }
    }
}

// shows: II-A2-csc-conformance, T-USE-SAP-BYPASS, T-USE-CRED-ALTER
#[tokio::test]
async fn what_is_said_twice_is_heard_once_or_refused() {
    for stack in ready().await {
        for v1 in [true, false] {
            for target in targets(&stack, v1).await {
                // In the address: nobody listens there.
                let query = "?credentialID=key-taro&SAD=x&token=x&userID=taro&hash=AA&lang=ja";
                let plain = send(&stack, &target, JSON, "", "{}").await;
                let polluted = send(&stack, &target, JSON, query, "{}").await;
                if target.name != "info" {
                    refused_alike(&plain, &polluted, &target.path);
                }
                // Two authorizations, in either order.
                let Some(good) = &target.authorization else {
                    continue;
                };
                for pair in [[good.as_str(), "Bearer x"], ["Bearer x", good.as_str()]] {
                    let mut request = Request::post(&target.path);
                    for one in pair {
                        request = request.header(header::AUTHORIZATION, one);
                    }
                    let answer = stack.send(request.body(Body::from("{}")).unwrap()).await;
                    let status = if target.name == "auth/login" {
                        401
                    } else {
                        400
                    };
                    refused(&answer, status, &format!("{} {pair:?}", target.path));
                }
            }
        }
        // Members of the other version beside one's own don't count (`credentials/info` of both).
        let service = stack.service_token("app", "hanako").await;
        let body = json!({ "credentialID": "key-hanako", "credentialId": "key-taro", "CredentialID": "key-taro" });
        let told = stack
            .csc("credentials/info", &service, &body.to_string())
            .await;
        assert_eq!(
            told.json()["key"]["len"],
            256,
            "Hanako's, which is on P-256"
        );
    }
    // The endpoints of OAuth: a parameter that comes twice is refused, wherever it stands twice.
    for stack in ready().await {
        let person = stack.users["hanako"].person.clone();
        stack.sam.add_key(&person, "key-2", KeyAlg::P256);
        for path in [
            "token",
            "pushed_authorize",
            "revoke",
            "introspect",
            "device_authorization",
        ] {
            for form in [
                [("client_id", "app"), ("client_id", "app")],
                [("scope", "service"), ("scope", "credential")],
            ] {
                let answer = stack
                    .client_form("app", &format!("/oauth2/{path}"), &form)
                    .await;
                let words = answer.json()["error_description"].clone();
                assert_eq!(words, "A parameter was given more than once", "{path}");
            }
            // One in the address isn't one of the form.
            let address = format!(
                "/oauth2/{path}?client_id=app&client_secret={}",
                stack.clients["app"]
            );
            let request = Request::post(address).body(Body::empty()).unwrap();
            let answer = stack.send(request).await;
            assert_eq!(
                answer.json()["error_description"],
                "Missing parameter client_id"
            );
        }
    }
}

fn refused_alike(plain: &Answer, polluted: &Answer, why: &str) {
    assert_eq!(plain.status, polluted.status, "{why}: {}", polluted.body);
    assert_eq!(plain.body, polluted.body, "{why}");
}
