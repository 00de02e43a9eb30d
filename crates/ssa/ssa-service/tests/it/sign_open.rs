//! CSC SCAL 1: an application whose contract says so asks for signatures without hashes, of keys of level 1, and is told which these are.

use axum::http::StatusCode;
use core_types::bytes::b64;
use core_types::{KeyAlg, Level};
use serde_json::{Value, json};
use ssa_service::ClientSettings;

use crate::fake::MAX_OPEN;
use crate::oauth::client;
use crate::web::{Answer, Browser, Form, Stack, details_request, hash, stacks};

const P256: &str = "1.2.840.10045.4.3.2";

/// With an application that may ask without hashes.
async fn allowing() -> Vec<Stack> {
    let mut all = Vec::new();
    for mut stack in stacks().await {
        let settings = ClientSettings {
            sign_open: true,
            ..ClientSettings::default()
        };
        client(&mut stack, "opener", settings).await;
        all.push(stack);
    }
    all
}

fn request(client: &str, key: &str, count: u32, more: Value) -> Form {
    let mut details = json!({ "type": "credential", "credentialID": key, "numSignatures": count });
    let more = more.as_object().unwrap().clone();
    details.as_object_mut().unwrap().extend(more);
    details_request(client, &json!([details]))
}

/// The error that an authorization ends with, before or after the login.
async fn error(stack: &Stack, form: &Form) -> Option<String> {
    let mut browser = Browser::new(stack);
    let page = browser.authorize(form).await;
    let answer = match page.status.is_redirection() {
        true => page,
        false => {
            let answer = browser.log_in_here(&page, "hanako").await;
            stack.next_code();
            answer
        }
    };
    answer.param("error")
}

async fn told(stack: &Stack, client: &str, key: &str) -> (Value, Value) {
    let token = stack.service_token(client, "hanako").await;
    let body = json!({ "credentialID": key }).to_string();
    let told = stack.csc("credentials/info", &token, &body).await.json();
    (told["SCAL"].clone(), told["multisign"].clone())
}

fn set_level(stack: &Stack, key: &str, level: Level) {
    stack.sam.with(|s| {
        let keys = s.keys.values_mut().flatten();
        keys.filter(|info| info.key.as_str() == key)
            .for_each(|info| info.level.level = level);
    });
}

async fn sign(stack: &Stack, token: &str, n: u8) -> Answer {
    let hashes: Vec<_> = (0..n).map(|n| b64(hash(n))).collect();
    let body = json!({ "credentialID": "key-hanako", "hashes": hashes, "signAlgo": P256 });
    let method = "signatures/signHash";
    stack.csc(method, token, &body.to_string()).await
}

// shows: II-A2-csc-conformance
#[tokio::test]
async fn who_may_ask_without_hashes_is_told_where_and_signs_within_bounds() {
    for stack in allowing().await {
        let most = json!(MAX_OPEN);
        assert_eq!(
            told(&stack, "opener", "key-hanako").await,
            (json!("1"), most)
        );
        let two = (json!("2"), json!(10_000));
        assert_eq!(told(&stack, "app", "key-hanako").await, two);
        let mut browser = Browser::new(&stack);
        let form = request("opener", "key-hanako", 2, json!({}));
        let code = browser.approve_for_code(&form, "hanako").await;
        let asked = stack
            .sam
            .with(|s| s.requests.values().next().unwrap().asked.clone());
        assert_eq!((asked.open, asked.items.len()), (Some(2), 0));
        let answer = stack.exchange("opener", &code).await.json();
        let token = answer["access_token"].as_str().unwrap();
        let more = sign(&stack, token, 3).await;
        assert_eq!(more.status, StatusCode::BAD_REQUEST);
        assert_eq!(
            more.json()["error_description"],
            "Hash is not authorized by the SAD"
        );
        let made = sign(&stack, token, 2).await;
        assert_eq!(made.status, StatusCode::OK, "{}", made.body);
        assert_eq!(
            sign(&stack, token, 1).await.status,
            StatusCode::UNAUTHORIZED
        );
    }
}

// shows: T-USE-DTBSR-FORGE, T-USE-SAP-BYPASS
#[tokio::test]
async fn nobody_else_asks_without_hashes_and_for_no_other_key() {
    for stack in allowing().await {
        let refused = Some("invalid_authorization_details".to_owned());
        let none = json!({});
        // By default no application may.
        let form = request("app", "key-hanako", 1, none.clone());
        assert_eq!(error(&stack, &form).await, refused);
        // More than the SAM allows, or to be renewed.
        let many = request("opener", "key-hanako", MAX_OPEN + 1, none.clone());
        assert_eq!(error(&stack, &many).await, refused);
        let renewed = json!({ "renewableFor": 60 });
        let renewed = request("opener", "key-hanako", 1, renewed);
        assert_eq!(error(&stack, &renewed).await, refused);
        // Keys above level 1, of explicit mode, and those that sign messages.
        let person = stack.users["hanako"].person.clone();
        stack.sam.add_key(&person, "key-2", KeyAlg::P256);
        stack.sam.add_key(&person, "key-3", KeyAlg::P256);
        stack.sam.add_key(&person, "key-explicit", KeyAlg::P256);
        stack.sam.add_key(&person, "key-messages", KeyAlg::Ed25519);
        set_level(&stack, "key-2", Level::Two);
        set_level(&stack, "key-3", Level::Three);
        for key in ["key-2", "key-3", "key-explicit", "key-messages"] {
            let form = request("opener", key, 1, none.clone());
            assert_eq!(error(&stack, &form).await, refused, "{key}");
            assert_eq!(told(&stack, "opener", key).await.0, "2", "{key}");
            stack.next_code();
        }
        // With a list the same application asks as everybody does.
        let listed = json!({ "documentDigests": [{ "hash": b64(hash(1)) }],
            "hashAlgorithmOID": "2.16.840.1.101.3.4.2.1" });
        let form = request("opener", "key-2", 1, listed);
        assert_eq!(error(&stack, &form).await, None);
        assert!(
            stack
                .sam
                .with(|s| s.requests.values().all(|r| r.asked.open.is_none()))
        );
    }
}
