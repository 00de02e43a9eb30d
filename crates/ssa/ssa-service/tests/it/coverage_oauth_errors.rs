//! Every error of the OAuth endpoints that programs call, reached: a code of the specifications (RFC 6749 §5.2, 7009 §2.2.1, 7662 §2.3,
//! 8628 §3.5, 9101 §6, 9126 §2.3, 9396 §5, 9449 §5) without a case, or an answer that isn't in the table, fails. What the
//! service says as a whole (429, 500, 503) stands in `limits.rs` and `flows.rs`.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, header};
use core_types::bytes::b64;
use serde_json::{Value, json};
use ssa_service::ClientSettings;

use crate::coverage::ready;
use crate::oauth::client;
use crate::web::{Browser, REDIRECT, Stack, VERIFIER, encode, service_request, with};

const TOKEN: &str = "token";
const PUSH: &str = "pushed_authorize";
const REVOKE: &str = "revoke";
const INTROSPECT: &str = "introspect";
const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Endpoints with their errors: code and description.
const TABLE: &[(&str, &[&str])] = &[
    (
        TOKEN,
        &[
            "invalid_request: Missing parameter client_id",
            "invalid_request: Client authorization required",
            "invalid_request: A parameter was given more than once",
            "invalid_request: Missing parameter grant_type",
            "invalid_request: Missing parameter code",
            "invalid_request: Missing parameter code_verifier",
            "invalid_request: Invalid parameter code_verifier",
            "invalid_request: Missing parameter refresh_token",
            "invalid_request: Missing parameter device_code",
            "invalid_request: Invalid parameter authorization_details",
            "invalid_client: Client authentication failed",
            "invalid_client: Invalid authorization header",
            "invalid_grant: Authorization code is invalid or expired",
            "invalid_grant: redirect_uri differs from the one in the authorization request",
            "invalid_grant: Invalid parameter refresh_token",
            "invalid_grant: Refresh token expired",
            "unauthorized_client: This client may not use this grant",
            "unsupported_grant_type: Invalid parameter grant_type",
            "invalid_scope: Ask for exactly one of the scopes service and credential",
            "invalid_authorization_details: authorization_details: unknown type",
            "invalid_dpop_proof: The DPoP proof is missing or can't be accepted",
            "authorization_pending: The user has not decided yet",
            "slow_down: Wait five seconds longer between two questions",
            "access_denied: The user or the service denied the request",
            "expired_token: The device code expired",
        ],
    ),
    (
        PUSH,
        &[
            "invalid_request: Missing parameter client_id",
            "invalid_request: Client authorization required",
            "invalid_request: A parameter was given more than once",
            "invalid_request: Missing parameter response_type",
            "invalid_request: PKCE is required: send code_challenge with code_challenge_method S256",
            "invalid_request: Invalid parameter code_challenge",
            "invalid_request: Invalid parameter request_uri",
            "invalid_request: Invalid parameter redirect_uri",
            "invalid_request: Invalid parameter state",
            "invalid_request: Invalid parameter dpop_jkt",
            "invalid_client: Client authentication failed",
            "invalid_client: Invalid authorization header",
            "unauthorized_client: This client may not use this grant",
            "unsupported_response_type: response_type must be code",
            "invalid_scope: Ask for exactly one of the scopes service and credential",
            "invalid_authorization_details: authorization_details: unknown type",
            "invalid_request_object: The signed request is missing or can't be accepted",
            "invalid_dpop_proof: The DPoP proof is missing or can't be accepted",
        ],
    ),
    (
        REVOKE,
        &[
            "invalid_request: Missing parameter client_id",
            "invalid_request: Client authorization required",
            "invalid_request: A parameter was given more than once",
            "invalid_request: Missing parameter token",
            "invalid_request: Invalid parameter token",
            "invalid_request: Invalid parameter token_type_hint",
            "invalid_client: Client authentication failed",
            "invalid_client: Invalid authorization header",
        ],
    ),
    (
        INTROSPECT,
        &[
            "invalid_request: Missing parameter client_id",
            "invalid_request: Client authorization required",
            "invalid_request: A parameter was given more than once",
            "invalid_request: Missing parameter token",
            "invalid_client: Client authentication failed",
            "invalid_client: Invalid authorization header",
            "unauthorized_client: This client may not use this grant",
        ],
    ),
];

struct Listener<'s> {
    stack: &'s Stack,
    heard: BTreeSet<(&'static str, String)>,
}

impl Listener<'_> {
    async fn send(&mut self, endpoint: &'static str, headers: &[(&str, &str)], body: String) {
        let mut request = Request::post(format!("/oauth2/{endpoint}"))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self
            .stack
            .send(request.body(Body::from(body)).unwrap())
            .await;
        let told: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
        let (code, words) = (text("error"), text("error_description"));
        let status = if code == "invalid_client" { 401 } else { 400 };
        assert_eq!(
            answer.status.as_u16(),
            status,
            "{endpoint}: {}",
            answer.body
        );
        assert_eq!(answer.headers["cache-control"], "no-store");
        self.heard.insert((endpoint, format!("{code}: {words}")));
    }

    /// By a client with its secret.
    async fn by(&mut self, client: &str, endpoint: &'static str, form: &[(&str, &str)]) {
        let basic = b64(format!("{client}:{}", self.stack.clients[client]));
        let basic = format!("Basic {basic}");
        let headers = [("authorization", basic.as_str())];
        self.send(endpoint, &headers, encode(form)).await;
    }

    /// What every endpoint says to callers that aren't clients.
    async fn strangers(&mut self, endpoint: &'static str) {
        for form in [
            &[][..],
            &[("client_id", "app")],
            &[("client_id", "app"), ("client_secret", "guess")],
            &[("client_id", "app"), ("client_id", "app")],
        ] {
            self.send(endpoint, &[], encode(form)).await;
        }
        let malformed = [("authorization", "Basic *")];
        self.send(endpoint, &malformed, String::new()).await;
    }
}

fn as_text(form: &crate::web::Form) -> Vec<(&str, &str)> {
    form.iter().map(|(n, v)| (*n, v.as_str())).collect()
}

async fn tokens(listener: &mut Listener<'_>) {
    let stack = listener.stack;
    let code = ("grant_type", "authorization_code");
    let verifier = ("code_verifier", VERIFIER);
    let details = |text: &'static str| ("authorization_details", text);
    for form in [
        &[][..],
        &[("grant_type", "password")],
        &[code],
        &[code, ("code", "x")],
        &[code, ("code", "x"), ("code_verifier", "short")],
        &[code, ("code", "x"), verifier],
        &[code, ("code", "x"), verifier, details("x")],
        &[code, ("code", "x"), verifier, details(r#"{"type":"x"}"#)],
        &[("grant_type", "refresh_token")],
        &[("grant_type", "refresh_token"), ("refresh_token", "x")],
        &[
            ("grant_type", "refresh_token"),
            ("refresh_token", "x"),
            ("scope", "credential"),
        ],
        &[("grant_type", "client_credentials")],
        &[("grant_type", DEVICE)],
    ] {
        listener.by("app", TOKEN, form).await;
    }
    let mut browser = Browser::new(stack);
    let good = browser
        .log_in_for_code(&service_request("app"), "hanako")
        .await;
    stack.next_code();
    let elsewhere = ("redirect_uri", "https://app.example/other");
    listener
        .by("app", TOKEN, &[code, ("code", &good), verifier, elsewhere])
        .await;
    let basic = b64(format!("app:{}", stack.clients["app"]));
    let basic = format!("Basic {basic}");
    let headers = [("authorization", basic.as_str()), ("dpop", "forged")];
    let form = [("grant_type", "client_credentials")];
    listener.send(TOKEN, &headers, encode(&form)).await;
    devices(listener).await;
    // A refresh token that nobody used for too long.
    let mut browser = Browser::new(stack);
    let code = browser
        .log_in_for_code(&service_request("basic"), "hanako")
        .await;
    stack.next_code();
    let kept = stack.exchange("basic", &code).await.json();
    let kept = kept["refresh_token"].as_str().unwrap();
    stack.clock.advance(15 * 24 * 60 * 60);
    let form = [("grant_type", "refresh_token"), ("refresh_token", kept)];
    listener.by("basic", TOKEN, &form).await;
}

async fn devices(listener: &mut Listener<'_>) {
    let stack = listener.stack;
    let begin = async || {
        let form = [("scope", "service")];
        let path = "/oauth2/device_authorization";
        stack.client_form("terminal", path, &form).await.json()
    };
    let code = |begun: &Value| begun["device_code"].as_str().unwrap().to_owned();
    let waiting = code(&begin().await);
    let form = [("grant_type", DEVICE), ("device_code", waiting.as_str())];
    for _ in 0..2 {
        listener.by("terminal", TOKEN, &form).await;
    }
    stack.clock.advance(3600);
    listener.by("terminal", TOKEN, &form).await;
    let begun = begin().await;
    let mut browser = Browser::new(stack);
    let page = browser
        .get(begun["verification_uri_complete"].as_str().unwrap())
        .await;
    let page = browser.follow(page).await;
    browser.log_in_here(&page, "hanako").await;
    stack.next_code();
    let page = browser.get("/device").await;
    let typed = begun["user_code"].as_str().unwrap();
    let form = [("token", page.field("token")), ("code", typed.to_owned())];
    let form: Vec<_> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let page = browser.post("/device", &form).await;
    let page = browser.follow(page).await;
    let (token, flow) = (page.field("token"), page.field("flow"));
    let form = [("token", token.as_str()), ("flow", &flow), ("answer", "no")];
    browser.post("/oauth2/agree", &form).await;
    let declined = code(&begun);
    let form = [("grant_type", DEVICE), ("device_code", declined.as_str())];
    listener.by("terminal", TOKEN, &form).await;
}

async fn pushes(listener: &mut Listener<'_>) {
    let good = service_request("app");
    let long = "x".repeat(256);
    for (name, value) in [
        ("response_type", None),
        ("response_type", Some("token")),
        ("code_challenge", None),
        ("code_challenge", Some("short")),
        ("request_uri", Some("urn:x")),
        ("redirect_uri", Some("https://other.example/")),
        ("state", Some(long.as_str())),
        ("dpop_jkt", Some("x")),
        ("scope", Some("openid")),
        ("authorization_details", Some(r#"{"type":"x"}"#)),
        ("request", Some("a.b.c")),
    ] {
        let mut form = good.clone();
        if name == "authorization_details" {
            form.retain(|(name, _)| *name != "scope");
        }
        let form = with(form, name, value);
        listener.by("app", PUSH, &as_text(&form)).await;
    }
    let form = service_request("reader");
    let form = with(form, "scope", None);
    let details = json!([{ "type": "credential_deletion", "credentialID": "k" }]);
    let form = with(form, "authorization_details", Some(&details.to_string()));
    listener.by("reader", PUSH, &as_text(&form)).await;
    let basic = b64(format!("app:{}", listener.stack.clients["app"]));
    let basic = format!("Basic {basic}");
    let headers = [("authorization", basic.as_str()), ("dpop", "forged")];
    listener.send(PUSH, &headers, encode(&as_text(&good))).await;
}

// shows: II-A2-csc-conformance, T-USE-CRED-FORGE
#[tokio::test]
async fn every_error_of_the_oauth_endpoints_is_reached() {
    for mut stack in ready().await {
        let settings = ClientSettings {
            scopes: vec!["service".to_owned()],
            ..ClientSettings::default()
        };
        client(&mut stack, "reader", settings).await;
        let everybodys = ssa_service::NewClient {
            id: crate::fake::client_id("everybody"),
            name: "everybody".to_owned(),
            redirect_uris: vec![REDIRECT.to_owned()],
            native: false,
            public: true,
            settings: ClientSettings::default(),
        };
        stack.ssa.create_client(&everybodys).await.unwrap();
        let mut listener = Listener {
            stack: &stack,
            heard: BTreeSet::new(),
        };
        for (endpoint, _) in TABLE {
            listener.strangers(endpoint).await;
        }
        tokens(&mut listener).await;
        pushes(&mut listener).await;
        for form in [
            &[][..],
            &[("token", "x")],
            &[("token", "x"), ("token_type_hint", "other")],
        ] {
            listener.by("app", REVOKE, form).await;
        }
        listener.by("app", INTROSPECT, &[]).await;
        let form = [("client_id", "everybody"), ("token", "x")];
        listener.send(INTROSPECT, &[], encode(&form)).await;
        let rows = TABLE.iter();
        let wanted: BTreeSet<_> = rows
            .flat_map(|(at, words)| words.iter().map(|words| (*at, (*words).to_owned())))
            .collect();
        let missing: Vec<_> = wanted.difference(&listener.heard).collect();
        let more: Vec<_> = listener.heard.difference(&wanted).collect();
        assert!(
            missing.is_empty() && more.is_empty(),
            "not reached {missing:#?}, not in the table {more:#?}"
        );
    }
}
