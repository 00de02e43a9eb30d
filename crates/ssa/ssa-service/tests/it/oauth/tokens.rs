//! Tokens beside the code's: a client's own, those that name an account, and what is told about any.

use axum::http::StatusCode;
use core_types::bytes::{b64, b64u};
use core_types::{Clock as _, sha256};
use serde_json::{Value, json};
use ssa_service::ClientSettings;

use super::{client, error, post};
use crate::web::{Browser, Stack, hash, service_request, stacks, with};

// shows: T-USE-SAP-BYPASS
#[tokio::test]
async fn a_clients_own_token_reads_about_the_people_of_its_contract_and_signs_nothing() {
    for mut stack in stacks().await {
        let settings = ClientSettings {
            users: vec!["hanako".to_owned()],
            ..ClientSettings::default()
        };
        client(&mut stack, "archive", settings).await;
        let form = [("grant_type", "client_credentials"), ("scope", "service")];
        let refused = stack.client_form("app", "/oauth2/token", &form).await;
        assert_eq!(error(&refused), "unauthorized_client");
        let answer = stack.client_form("archive", "/oauth2/token", &form).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        let token = answer.text("access_token");
        assert!(answer.json().get("refresh_token").is_none());
        let form = [form[0], ("scope", "credential")];
        let wider = stack.client_form("archive", "/oauth2/token", &form).await;
        assert_eq!(error(&wider), "invalid_scope");

        let list = async |body: &str| stack.csc("credentials/list", &token, body).await;
        let good = list(r#"{"userID":"hanako"}"#).await;
        assert_eq!(good.json()["credentialIDs"], json!(["key-hanako"]));
        for body in ["{}", r#"{"userID":"taro"}"#, r#"{"userID":"nobody"}"#] {
            let refused = list(body).await.json();
            assert_eq!(
                refused["error_description"], "Invalid parameter userID",
                "{body}"
            );
        }
        let info = async |key: &str| {
            let body = json!({ "credentialID": key }).to_string();
            stack.csc("credentials/info", &token, &body).await.status
        };
        assert_eq!(info("key-hanako").await, StatusCode::OK);
        assert_eq!(info("key-taro").await, StatusCode::BAD_REQUEST);
        let body = json!({ "credentialID": "key-hanako", "hashes": [b64(hash(1))], "signAlgo": "1.2.840.10045.4.3.2" });
        let signed = stack
            .csc("signatures/signHash", &token, &body.to_string())
            .await;
        assert_eq!(signed.status, StatusCode::BAD_REQUEST);
        assert!(stack.sam.with(|s| s.signed.is_empty()));
        let kinds = stack.audit_kinds().await;
        assert!(kinds.iter().any(|k| k == "token.issued-client"));
    }
}

pub fn account_token(stack: &Stack, secret: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut claims = json!({ "sub": "hanako", "iat": stack.clock.now(), "jti": "1", "azp": "app", "iss": "App" });
    change(&mut claims);
    let signed = format!(
        "{}.{}",
        b64u(r#"{"typ":"JWT","alg":"HS256"}"#),
        b64u(claims.to_string())
    );
    let key = sha256(&[secret.as_bytes()]);
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key.0);
    let mac = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", b64u(mac.as_ref()))
}

// shows: T-USE-SAP-BYPASS
#[tokio::test]
async fn an_account_token_keeps_everybody_else_out() {
    for stack in stacks().await {
        let secret = stack.clients["app"].clone();
        let open = async |token: &str| {
            let form = with(service_request("app"), "account_token", Some(token));
            let mut browser = Browser::new(&stack);
            let page = browser.authorize(&form).await;
            (browser, page)
        };
        let good = account_token(&stack, &secret, |_| ());
        let (mut browser, page) = open(&good).await;
        // Somebody else's login leads back to the login.
        let again = browser.log_in_here(&page, "taro").await;
        assert_eq!(again.status, StatusCode::OK);
        assert!(again.body.contains("name=\"password\""), "{}", again.body);
        let done = browser.log_in_here(&again, "hanako").await;
        assert!(done.param("code").is_some());
        stack.next_code();

        let now = stack.clock.now();
        let change = |name: &str, value: Value| {
            account_token(&stack, &secret, |c| {
                c["jti"] = json!(name);
                c[name] = value;
            })
        };
        for (case, token) in [
            ("again", good),
            ("another client's", change("azp", json!("other"))),
            ("another secret", account_token(&stack, "guess", |_| ())),
            ("old", change("iat", json!(now.plus(-300)))),
            ("from the future", change("iat", json!(now.plus(120)))),
            ("of nobody", change("sub", json!("nobody"))),
            ("without id", change("jti", Value::Null)),
            ("alg none", format!("{}.e30.", b64u(r#"{"alg":"none"}"#))),
        ] {
            let (_, answer) = open(&token).await;
            let error = answer.param("error");
            assert_eq!(error.as_deref(), Some("invalid_request"), "{case}");
        }
    }
}

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn introspection_tells_a_client_about_its_own_tokens_only() {
    for stack in stacks().await {
        let ask = async |client: &str, token: &str| {
            let form = [("token", token)];
            stack.client_form(client, "/oauth2/introspect", &form).await
        };
        let signing = stack.credential_token("app", "hanako", &[hash(1)]).await;
        let own = ask("app", &signing).await.json();
        assert_eq!(own["credentialID"], "key-hanako");
        let token = stack.service_token("app", "hanako").await;
        let own = ask("app", &token).await.json();
        assert_eq!(
            (&own["active"], &own["scope"], &own["client_id"]),
            (&json!(true), &json!("service"), &json!("app"))
        );
        assert_eq!(own["sub"], json!(stack.users["hanako"].person));
        let nothing = json!({ "active": false });
        assert_eq!(ask("other", &token).await.json(), nothing);
        assert_eq!(ask("app", "unknown").await.json(), nothing);
        stack.clock.advance(3600);
        assert_eq!(ask("app", &token).await.json(), nothing);
        let anonymous = post(&stack, "/oauth2/introspect", &[], &[("token", &token)]).await;
        assert_eq!(anonymous.status, StatusCode::BAD_REQUEST);
    }
}

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn a_token_that_signs_revokes_itself_and_no_other() {
    for stack in stacks().await {
        let service = stack.service_token("app", "hanako").await;
        let signing = stack.credential_token("app", "hanako", &[hash(1)]).await;
        let other = stack.credential_token("app", "hanako", &[hash(2)]).await;
        let revoke = async |bearer: &str, token: &str| {
            let body = json!({ "token": token }).to_string();
            stack.csc("auth/revoke", bearer, &body).await.status
        };
        for token in [&service, &other] {
            assert_eq!(revoke(&signing, token).await, StatusCode::FORBIDDEN);
        }
        assert_eq!(revoke(&signing, &signing).await, StatusCode::NO_CONTENT);
        assert_eq!(revoke(&signing, &signing).await, StatusCode::UNAUTHORIZED);
        // What reads may end what signs.
        assert_eq!(revoke(&service, &other).await, StatusCode::NO_CONTENT);
        let list = stack.csc("credentials/list", &service, "{}").await;
        assert_eq!(list.status, StatusCode::OK);
    }
}
