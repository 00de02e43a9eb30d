//! `credentials/extendTransaction`: the next token, and its errors.

use axum::http::StatusCode;
use core_types::bytes::b64;
use serde_json::{Value, json};

use crate::web::{Browser, Stack, credential_request, hash, stacks};

const METHOD: &str = "credentials/extendTransaction";

/// A credential token whose authorization may be renewed.
async fn renewable(stack: &Stack, hashes: &[Vec<u8>]) -> String {
    let mut form = credential_request("app", "key-hanako", hashes);
    for (name, value) in &mut form {
        if *name == "authorization_details" {
            let mut details: Value = serde_json::from_str(value).unwrap();
            details[0]["renewableFor"] = json!(900);
            *value = details.to_string();
        }
    }
    let mut browser = Browser::new(stack);
    let code = browser.approve_for_code(&form, "hanako").await;
    let answer = stack.exchange("app", &code).await;
    stack.next_code();
    answer.text("access_token")
}

fn sign(n: u8, sad: Option<&str>) -> String {
    let mut body = json!({ "credentialID": "key-hanako", "hashes": [b64(hash(n))],
        "signAlgo": "1.2.840.10045.4.3.2" });
    if let Some(sad) = sad {
        body["SAD"] = json!(sad);
    }
    body.to_string()
}

// shows: II-A1-multi-method-2
#[tokio::test]
async fn the_next_token_takes_the_place_of_the_one_before() {
    for stack in &stacks().await {
        let token = renewable(stack, &[hash(1), hash(2)]).await;
        let asked = stack
            .sam
            .with(|s| s.requests.values().next().unwrap().asked.renew);
        assert_eq!(
            asked, 900,
            "what the client asks for reaches the signer's page"
        );
        assert_eq!(
            stack
                .csc("signatures/signHash", &token, &sign(1, None))
                .await
                .status,
            StatusCode::OK
        );
        let body = json!({ "credentialID": "key-hanako", "SAD": token, "hashes": [b64(hash(2))] });
        let answer = stack.csc(METHOD, &token, &body.to_string()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        let next = answer.json();
        assert!(
            (1..=300).contains(&next["expiresIn"].as_i64().unwrap()),
            "{next}"
        );
        let next = next["SAD"].as_str().unwrap().to_owned();
        assert_ne!(next, token);
        // The new one is a bearer token and a SAD; the old one is neither.
        let signed = stack
            .csc("signatures/signHash", &next, &sign(2, Some(&next)))
            .await;
        assert_eq!(signed.status, StatusCode::OK, "{}", signed.body);
        for call in ["signatures/signHash", METHOD] {
            assert_eq!(
                stack.csc(call, &token, &body.to_string()).await.status,
                StatusCode::UNAUTHORIZED
            );
        }
        // As SAD beside a service token.
        let service = stack.service_token("app", "hanako").await;
        let old = json!({ "credentialID": "key-hanako", "SAD": token });
        let answer = stack.csc(METHOD, &service, &old.to_string()).await;
        assert_eq!(answer.json()["error_description"], "SAD expired");
        let current = json!({ "credentialID": "key-hanako", "SAD": next });
        let answer = stack.csc(METHOD, &service, &current.to_string()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    }
}

#[tokio::test]
async fn faults_have_the_words_of_sign_hash() {
    for stack in &stacks().await {
        let service = stack.service_token("app", "hanako").await;
        let token = renewable(stack, &[hash(1), hash(2)]).await;
        let fixed = stack.credential_token("app", "hanako", &[hash(3)]).await;
        let good = json!({ "credentialID": "key-hanako", "SAD": token });
        let with = |name: &str, value: Value| {
            let mut body = good.clone();
            body[name] = value;
            body.to_string()
        };
        let cases = [
            (
                service.as_str(),
                with("SAD", Value::Null),
                "Missing (or invalid type) string parameter SAD",
            ),
            (
                service.as_str(),
                with("SAD", json!("nobody's")),
                "Invalid parameter SAD",
            ),
            (
                service.as_str(),
                with("credentialID", json!("other")),
                "Invalid parameter credentialID",
            ),
            (
                service.as_str(),
                with("hashes", json!(["%"])),
                "Invalid Base64 hash string parameter",
            ),
            (
                service.as_str(),
                with("hashes", json!([b64(hash(9))])),
                "Hash is not authorized by the SAD",
            ),
            (
                service.as_str(),
                with("SAD", json!(fixed)),
                "Invalid parameter SAD",
            ),
            (
                token.as_str(),
                with("SAD", json!("another")),
                "Invalid parameter SAD",
            ),
        ];
        for (bearer, body, words) in cases {
            let answer = stack.csc(METHOD, bearer, &body).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
            assert_eq!(answer.json()["error_description"], words, "{body}");
        }
        assert_eq!(
            stack.csc(METHOD, "nobody", &good.to_string()).await.status,
            StatusCode::UNAUTHORIZED
        );
        let info = stack.csc("info", "x", "{}").await;
        assert!(info.body.contains(METHOD));
    }
}
