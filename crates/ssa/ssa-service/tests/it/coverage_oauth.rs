//! The endpoints of OAuth against every wrong caller; see `coverage.rs`.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::json;

use crate::coverage::{ready, routes};
use crate::web::{Browser, REDIRECT, Stack, VERIFIER, service_request};

/// A code of this client for Hanako.
async fn code(stack: &Stack, client: &str) -> String {
    let mut browser = Browser::new(stack);
    let code = browser
        .log_in_for_code(&service_request(client), "hanako")
        .await;
    stack.next_code();
    code
}

// shows: T-USE-CRED-FORGE, T-USE-SAP-REPLAY
#[tokio::test]
async fn what_the_oauth_endpoints_gave_to_one_is_nothing_to_another_and_nothing_twice() {
    for stack in ready().await {
        let exchange = async |client: &str, code: &str| {
            let form = [
                ("grant_type", "authorization_code"),
                ("code", code),
                ("redirect_uri", REDIRECT),
                ("code_verifier", VERIFIER),
                ("client_id", client),
            ];
            let answer = stack.client_form(client, "/oauth2/token", &form).await;
            answer.json()["error"].as_str().map(str::to_owned)
        };
        // token: another client, expired, used; and a grant that isn't this client's.
        let stolen = code(&stack, "app").await;
        assert_eq!(
            exchange("other", &stolen).await.as_deref(),
            Some("invalid_grant")
        );
        assert_eq!(
            exchange("app", &stolen).await.as_deref(),
            Some("invalid_grant")
        );
        let late = code(&stack, "app").await;
        stack.clock.advance(60);
        assert_eq!(
            exchange("app", &late).await.as_deref(),
            Some("invalid_grant")
        );
        let twice = code(&stack, "app").await;
        assert_eq!(exchange("app", &twice).await, None);
        assert_eq!(
            exchange("app", &twice).await.as_deref(),
            Some("invalid_grant")
        );
        let itself = [("grant_type", "client_credentials")];
        let answer = stack.client_form("app", "/oauth2/token", &itself).await;
        assert_eq!(answer.json()["error"], "unauthorized_client");
        // revoke, introspect: another client's token.
        let token = stack.service_token("app", "hanako").await;
        let form = [("token", token.as_str())];
        let answer = stack.client_form("other", "/oauth2/revoke", &form).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        let seen = stack
            .client_form("other", "/oauth2/introspect", &form)
            .await;
        assert_eq!(seen.json(), json!({ "active": false }));
        let seen = stack.client_form("app", "/oauth2/introspect", &form).await;
        assert_eq!(seen.json()["active"], true);
        stack.clock.advance(3600);
        let seen = stack.client_form("app", "/oauth2/introspect", &form).await;
        assert_eq!(seen.json(), json!({ "active": false }), "expired");
        // pushed_authorize: its reference is one client's, once, for a while.
        let push = async |client: &'static str| {
            let form = service_request(client);
            let form: Vec<_> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
            let answer = stack
                .client_form(client, "/oauth2/pushed_authorize", &form)
                .await;
            answer.text("request_uri")
        };
        let open = async |client: &str, uri: &str| {
            let query = crate::web::encode(&[("client_id", client), ("request_uri", uri)]);
            Browser::new(&stack)
                .get(&format!("/oauth2/authorize?{query}"))
                .await
                .status
        };
        let mine = push("app").await;
        assert_eq!(open("other", &mine).await, StatusCode::BAD_REQUEST);
        assert!(open("app", &mine).await.is_redirection());
        assert_eq!(open("app", &mine).await, StatusCode::BAD_REQUEST);
        let late = push("app").await;
        stack.clock.advance(3600);
        assert_eq!(open("app", &late).await, StatusCode::BAD_REQUEST);
        // device_authorization: by contract; another's device code is unknown, and so is an old one.
        let scope = [("scope", "service")];
        let answer = stack
            .client_form("app", "/oauth2/device_authorization", &scope)
            .await;
        assert_eq!(answer.json()["error"], "unauthorized_client");
        let begun = stack
            .client_form("terminal", "/oauth2/device_authorization", &scope)
            .await;
        let device = begun.text("device_code");
        let ask = async |client: &str| {
            let form = [
                ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
                ("device_code", device.as_str()),
            ];
            let answer = stack.client_form(client, "/oauth2/token", &form).await;
            answer.text("error")
        };
        assert_eq!(ask("kiosk").await, "invalid_grant");
        assert_eq!(ask("terminal").await, "authorization_pending");
        stack.clock.advance(3600);
        assert_eq!(ask("terminal").await, "expired_token");
    }
}

/// Endpoints of OAuth that programs call; all others are a browser's, and have `flows.rs`.
#[test]
fn every_oauth_endpoint_is_known_here() {
    let source = include_str!("../../src/oauth/mod.rs");
    let served = routes(source, "fn router()");
    let browsers = [
        "oauth2/authorize",
        "oauth2/continue/{handle}",
        "oauth2/resume/{handle}",
        "oauth2/agree",
    ];
    let everybodys = [
        "oauth2/jwks",
        ".well-known/oauth-authorization-server",
        ".well-known/openid-configuration",
        // Wants a statement instead, and is off by default: `registration.rs`.
        "oauth2/register",
    ];
    let clients = [
        "oauth2/pushed_authorize",
        "oauth2/device_authorization",
        "oauth2/token",
        "oauth2/revoke",
        "revoke",
        "oauth2/introspect",
    ];
    let known = browsers.iter().chain(&everybodys).chain(&clients);
    assert_eq!(served, known.map(|path| (*path).to_owned()).collect());
}

// shows: T-USE-CRED-FORGE, I-7.1.2.1-identify-authenticate-each-user
#[tokio::test]
async fn every_oauth_endpoint_wants_its_client() {
    for stack in ready().await {
        let token = stack.service_token("app", "hanako").await;
        let request = Request::get("/.well-known/oauth-authorization-server");
        let metadata = stack
            .send(request.body(Body::empty()).unwrap())
            .await
            .json();
        let endpoints: BTreeSet<String> = metadata
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| name.ends_with("_endpoint") && *name != "authorization_endpoint")
            .filter_map(|(_, url)| Some(url.as_str()?.strip_prefix(crate::web::BASE)?.to_owned()))
            .collect();
        let covered = [
            "device_authorization",
            "introspect",
            "pushed_authorize",
            "revoke",
            "token",
        ];
        let covered: BTreeSet<String> = covered.map(|n| format!("/oauth2/{n}")).into();
        assert_eq!(endpoints, covered, "an endpoint without its wrong callers");
        for path in &endpoints {
            for (form, error) in [
                (vec![("token", token.as_str())], "invalid_request"),
                (
                    vec![("client_id", "app"), ("token", &token)],
                    "invalid_request",
                ),
                (
                    vec![
                        ("client_id", "app"),
                        ("client_secret", "guess"),
                        ("token", &token),
                    ],
                    "invalid_client",
                ),
                (
                    vec![
                        ("client_id", "nobody"),
                        ("client_secret", "x"),
                        ("token", &token),
                    ],
                    "invalid_client",
                ),
                // Another client's secret.
                (
                    vec![
                        ("client_id", "app"),
                        ("client_secret", stack.clients["other"].as_str()),
                        ("token", &token),
                    ],
                    "invalid_client",
                ),
                (
                    vec![("client_id", "app"), ("client_id", "other")],
                    "invalid_request",
                ),
            ] {
                let request = Request::post(path)
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
                let body = Body::from(crate::web::encode(&form));
                let answer = stack.send(request.body(body).unwrap()).await;
                assert!(answer.status.is_client_error(), "{path} {form:?}");
                assert_eq!(answer.json()["error"], error, "{path} {form:?}");
            }
        }
    }
}
