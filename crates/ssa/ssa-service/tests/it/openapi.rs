//! The OpenAPI documents against the service: the same methods, no answer that isn't in them, whatever is sent.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, header};
use core_types::bytes::b64;
use core_types::random::SeededRandom;
use core_types::{HashAlg, KeyAlg, Random};
use csc_types::openapi::document;
use serde_json::{Map, Value, json};
use ssa_service::{ClientSettings, TimeStamper};

use crate::fake::client_id;
use crate::oauth::client;
use crate::web::{Stack, hash, stacks_with};

/// Bodies for each method and caller.
const TRIES: usize = 40;

async fn full() -> Vec<Stack> {
    let set = |config: &mut ssa_service::Config| {
        config.login_client = Some(client_id("basic"));
        config.creations = crate::create::creations();
        config.time_stampers = vec![TimeStamper {
            url: "stamp://down".to_owned(),
            anchors: Vec::new(),
        }];
    };
    let mut all = Vec::new();
    for mut stack in stacks_with(set).await {
        client(
            &mut stack,
            "basic",
            ClientSettings {
                refresh: true,
                ..ClientSettings::default()
            },
        )
        .await;
        let person = stack.users["hanako"].person.clone();
        stack.sam.add_key(&person, "key-explicit", KeyAlg::P256);
        all.push(stack);
    }
    all
}

#[tokio::test]
async fn the_documents_name_what_the_service_names() {
    let stack = &full().await[0];
    for v1 in [true, false] {
        let path = if v1 { "/csc/v1/info" } else { "/csc/v2/info" };
        let info = stack
            .send(Request::post(path).body(Body::empty()).unwrap())
            .await
            .json();
        let named: BTreeSet<String> = info["methods"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|name| Some(format!("/{}", name.as_str()?)))
            .filter(|name| !name.starts_with("/oauth2/"))
            .collect();
        let document = document(v1);
        let paths = document["paths"].as_object().unwrap();
        let mut documented: BTreeSet<String> = paths.keys().cloned().collect();
        // Our own: `info` names what the specification has.
        assert_eq!(documented.remove("/signatures/receipt"), !v1);
        assert_eq!(named, documented);
    }
}

fn pick(random: &SeededRandom, n: usize) -> usize {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    usize::try_from(u64::from_be_bytes(bytes) % n as u64).unwrap()
}

/// A value for a member: often one that makes sense, else anything.
fn value(random: &SeededRandom, name: &str, schema: &Value) -> Value {
    let sensible = match name {
        "credentialID" => json!(["key-hanako", "key-explicit", "key-taro"][pick(random, 3)]),
        "hash" if schema["type"] == "string" => json!(b64(hash(1))),
        "hash" | "hashes" => json!([b64(hash(1))]),
        "hashAlgo" | "hashAlgorithmOID" => json!(HashAlg::Sha256.oid()),
        // A user's token names its user.
        "userID" => Value::Null,
        "signAlgo" => json!("1.2.840.10045.4.3.2"),
        "numSignatures" => json!(1),
        "PIN" => json!("secret pin"),
        "OTP" => json!("123456"),
        "authData" => {
            json!([{ "id": "PIN", "value": "secret pin" }, { "id": "OTP", "value": "123456" }])
        }
        _ => match schema["type"].as_str() {
            Some("boolean") => json!(pick(random, 2) == 0),
            Some("integer") => json!(pick(random, 5)),
            _ => match schema["enum"].as_array() {
                Some(words) => words[pick(random, words.len())].clone(),
                None => json!("text"),
            },
        },
    };
    let odd = [
        json!(null),
        json!(""),
        json!(-1),
        json!(1.5e300),
        json!(true),
        json!([]),
        json!([null, 7, "*", "=", [[[]]]]),
        json!({ "a": { "b": {} } }),
        json!("x".repeat(5000)),
        json!("\u{0}\u{202e}捺印\u{1f58b}"),
        json!("9".repeat(100)),
    ];
    match pick(random, 3) {
        0 => odd[pick(random, odd.len())].clone(),
        _ => sensible,
    }
}

fn body(random: &SeededRandom, schema: &Value) -> Value {
    let mut members = Map::new();
    for (name, schema) in schema["properties"].as_object().unwrap() {
        if pick(random, 6) != 0 {
            members.insert(name.clone(), value(random, name, schema));
        }
    }
    Value::Object(members)
}

/// What of a value isn't as the schema says.
fn fault(at: &str, value: &Value, schema: &Value) -> Option<String> {
    let right = match schema["type"].as_str() {
        None => true,
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64(),
        Some("boolean") => value.is_boolean(),
        Some(other) => panic!("type {other}"),
    };
    if !right {
        return Some(format!("{at} is {value}"));
    }
    if schema["enum"]
        .as_array()
        .is_some_and(|words| !words.contains(value))
    {
        return Some(format!("{at} is {value}"));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        if value.get(name.as_str().unwrap()).is_none() {
            return Some(format!("{at} lacks {name}"));
        }
    }
    for (name, inner) in value.as_object().into_iter().flatten() {
        let Some(schema) = schema["properties"].get(name) else {
            if schema["type"] == "object" {
                return Some(format!("{at}.{name} isn't in the document"));
            }
            continue;
        };
        if let Some(fault) = fault(&format!("{at}.{name}"), inner, schema) {
            return Some(fault);
        }
    }
    for inner in value.as_array().into_iter().flatten() {
        if let Some(fault) = fault(&format!("{at}[]"), inner, &schema["items"]) {
            return Some(fault);
        }
    }
    None
}

// shows: II-A2-csc-conformance, T-USE-SAP-BYPASS
#[tokio::test]
async fn whatever_is_sent_the_answer_is_in_the_document_and_no_fault_of_ours() {
    for stack in full().await {
        let random = SeededRandom::new(11);
        let token = stack.service_token("app", "hanako").await;
        let signing = stack.credential_token("app", "hanako", &[hash(1)]).await;
        let mut good = BTreeSet::new();
        for v1 in [true, false] {
            let document = document(v1);
            let base = document["servers"][0]["url"].as_str().unwrap();
            for (path, operation) in document["paths"].as_object().unwrap() {
                let operation = &operation["post"];
                let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
                for n in 0..TRIES {
                    // A revoked token would end the test.
                    let caller = match (n % 3, path.as_str()) {
                        (0, _) | (_, "/auth/revoke") => None,
                        (1, _) => Some(&token),
                        _ => Some(&signing),
                    };
                    let sent = body(&random, schema);
                    let mut request = Request::post(format!("{base}{path}"));
                    if let Some(caller) = caller {
                        request = request.header(header::AUTHORIZATION, format!("Bearer {caller}"));
                    }
                    let answer = stack
                        .send(request.body(Body::from(sent.to_string())).unwrap())
                        .await;
                    let status = answer.status.as_u16();
                    let why = format!("{base}{path} {sent}: {status} {}", answer.body);
                    // The only authority is down, and says so.
                    let down = status == 503 && path == "/signatures/timestamp";
                    assert!(status < 500 || down, "{why}");
                    let told = &operation["responses"][status.to_string()];
                    assert!(!told.is_null(), "{why}");
                    match told["content"]["application/json"].get("schema") {
                        Some(schema) => {
                            assert_eq!(fault("answer", &answer.json(), schema), None, "{why}");
                            good.insert((v1, path.clone()));
                        }
                        None if status >= 400 => {
                            assert!(answer.json()["error"].is_string(), "{why}")
                        }
                        None => assert!(answer.body.is_empty(), "{why}"),
                    }
                    stack.sam.with(|s| s.explicit = 0);
                }
            }
        }
        // Not only refusals were seen.
        for path in ["/info", "/credentials/list", "/credentials/info"] {
            assert!(good.contains(&(false, path.to_owned())), "{path}");
        }
    }
}
