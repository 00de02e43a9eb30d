//! Clients that register themselves (RFC 7591): with whose word, as what, and how many.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use core_types::Clock as _;
use jose::SigningKey;
use serde_json::{Value, json};
use service_kit::Peer;
use ssa_service::calls::{ClientRefusal, ClientRotate, ClientShow, ClientSuspend, RotateRequest};
use ssa_service::{ClientSettings, Publisher, Registration};
use store_kit::sql;

use crate::manage::{SECURITY, call, named};
use crate::oauth::client;
use crate::web::{
    Answer, BASE, Browser, REDIRECT, START, Stack, VERIFIER, encode, service_request, stacks,
    stacks_with,
};

const PUBLISHER: &str = "https://publisher.example";

fn public(key: &SigningKey) -> Value {
    serde_json::to_value(key.public()).unwrap()
}

async fn open_to(key: &SigningKey) -> Vec<Stack> {
    open_to_under(key, false, 2).await
}

async fn open_to_under(key: &SigningKey, fapi: bool, most: u32) -> Vec<Stack> {
    stacks_with(|config| {
        config.fapi = fapi;
        config.registration = Some(Registration {
            publishers: vec![Publisher {
                issuer: PUBLISHER.to_owned(),
                keys: vec![public(key)],
            }],
            contract: ClientSettings {
                scopes: vec!["service".to_owned()],
                ..ClientSettings::default()
            },
            most,
        });
    })
    .await
}

fn claims() -> Value {
    json!({
        "iss": PUBLISHER, "iat": START, "exp": START + 86_400, "software_id": "viewer",
        "client_name": "Viewer", "redirect_uris": [REDIRECT, "https://app.example/other"],
    })
}

fn statement(key: &SigningKey, claims: &Value) -> String {
    key.sign("JWT", claims.to_string().as_bytes()).unwrap()
}

async fn register(stack: &Stack, body: &Value) -> Answer {
    let request =
        Request::post("/oauth2/register").header(header::CONTENT_TYPE, "application/json");
    stack
        .send(request.body(Body::from(body.to_string())).unwrap())
        .await
}

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn a_client_registers_with_its_publishers_word_and_is_what_that_says() {
    let (publisher, _) = SigningKey::generate().unwrap();
    for stack in open_to(&publisher).await {
        let word = statement(&publisher, &claims());
        // What it says beside the statement doesn't count.
        let body = json!({
            "software_statement": word, "client_name": "Bank", "redirect_uris": [REDIRECT],
            "scope": "credential", "token_endpoint_auth_method": "none",
        });
        let made = register(&stack, &body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        let made = made.json();
        assert_eq!(
            (&made["client_name"], &made["redirect_uris"]),
            (&json!("Viewer"), &json!([REDIRECT]))
        );
        let (id, secret) = (
            made["client_id"].as_str().unwrap(),
            made["client_secret"].as_str().unwrap(),
        );
        let code = Browser::new(&stack)
            .log_in_for_code(&service_request(id), "hanako")
            .await;
        let basic = core_types::bytes::b64(format!("{id}:{secret}"));
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
        ];
        let request = Request::post("/oauth2/token")
            .header(header::AUTHORIZATION, format!("Basic {basic}"))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let token = stack
            .send(request.body(Body::from(encode(&form))).unwrap())
            .await;
        assert_eq!(token.status, StatusCode::OK, "{}", token.body);

        // With keys in the statement it has no secret, and its own keys are none.
        let (own, _) = SigningKey::generate().unwrap();
        let mut with_keys = claims();
        with_keys["jwks"] = json!({ "keys": [public(&own)] });
        let body = json!({
            "software_statement": statement(&publisher, &with_keys),
            "jwks": { "keys": [public(&publisher)] },
        });
        let made = register(&stack, &body).await.json();
        assert_eq!(made["jwks"]["keys"], json!([public(&own)]));
        assert_eq!(
            (&made["client_secret"], &made["token_endpoint_auth_method"]),
            (&Value::Null, &json!("private_key_jwt"))
        );
        // Two of one software, and no more when both are used; that is in the log.
        let body = json!({ "software_statement": word });
        let second = register(&stack, &body).await.json();
        stack.next_code();
        use_it(&stack, &second, "taro").await;
        let third = register(&stack, &body).await;
        assert_eq!(third.json()["error"], "unapproved_software_statement");
        let kinds = stack.audit_kinds().await;
        assert_eq!(kinds.iter().filter(|k| *k == "client.refused").count(), 1);
        let kinds = stack.audit_kinds().await;
        assert_eq!(
            kinds
                .iter()
                .filter(|k| *k == "client.registered-itself")
                .count(),
            3
        );
        let request = Request::get("/.well-known/oauth-authorization-server");
        let metadata = stack
            .send(request.body(Body::empty()).unwrap())
            .await
            .json();
        assert_eq!(
            metadata["registration_endpoint"],
            format!("{BASE}/oauth2/register")
        );
    }
}

/// Gets a token as this person with a client that was just registered.
async fn use_it(stack: &Stack, made: &Value, login: &str) {
    let (id, secret) = (made["client_id"].as_str().unwrap(), &made["client_secret"]);
    let code = Browser::new(stack)
        .log_in_for_code(&service_request(id), login)
        .await;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("client_id", id),
        ("client_secret", secret.as_str().unwrap()),
    ];
    let request = Request::post("/oauth2/token")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let token = stack
        .send(request.body(Body::from(encode(&form))).unwrap())
        .await;
    assert_eq!(token.status, StatusCode::OK, "{}", token.body);
    stack.next_code();
}

async fn is_known(stack: &Stack, made: &Value) -> bool {
    let mut tx = stack.store.read("client").await.unwrap();
    let query = sql("SELECT COUNT(*) AS n FROM ssa_client WHERE id = $1");
    let query = query.bind(made["client_id"].as_str().unwrap());
    tx.fetch_one(query).await.unwrap().int("n").unwrap() == 1
}

async fn gave_way(stack: &Stack) -> usize {
    let kinds = stack.audit_kinds().await;
    kinds.iter().filter(|k| *k == "client.gave-way").count()
}

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn who_got_no_token_in_an_hour_gives_way() {
    let (publisher, _) = SigningKey::generate().unwrap();
    for stack in open_to_under(&publisher, false, 6).await {
        let body = json!({ "software_statement": statement(&publisher, &claims()) });
        let used = register(&stack, &body).await.json();
        use_it(&stack, &used, "hanako").await;
        let idle = register(&stack, &body).await.json();
        stack.clock.advance(3599);
        let young = register(&stack, &body).await.json();
        assert!(is_known(&stack, &idle).await, "there is room");
        assert_eq!(gave_way(&stack).await, 0);
        stack.clock.advance(1);
        let status = register(&stack, &body).await.status;
        assert_eq!(status, StatusCode::CREATED);
        assert!(is_known(&stack, &used).await && !is_known(&stack, &idle).await);
        assert!(is_known(&stack, &young).await);
        assert_eq!(gave_way(&stack).await, 1);
    }
}

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn whoever_has_a_statement_and_no_account_throws_out_no_working_client_and_keeps_nobody_out()
{
    let (publisher, _) = SigningKey::generate().unwrap();
    for stack in open_to_under(&publisher, false, 5).await {
        let body = json!({ "software_statement": statement(&publisher, &claims()) });
        let one_more = async || {
            stack.clock.advance(1);
            let made = register(&stack, &body).await;
            assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
            made.json()
        };
        let mut working = Vec::new();
        for _ in 0..2 {
            let own = one_more().await;
            use_it(&stack, &own, "hanako").await;
            working.push(own);
        }
        for _ in 0..6 {
            one_more().await;
        }
        let own = one_more().await;
        one_more().await;
        use_it(&stack, &own, "taro").await;
        working.push(own);
        for _ in 0..6 {
            one_more().await;
        }
        for own in &working {
            assert!(is_known(&stack, own).await, "{own}");
        }
    }
}

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn one_account_with_a_copy_of_a_statement_keeps_nobody_out() {
    let (publisher, _) = SigningKey::generate().unwrap();
    for stack in open_to(&publisher).await {
        let body = json!({ "software_statement": statement(&publisher, &claims()) });
        let first = register(&stack, &body).await.json();
        use_it(&stack, &first, "hanako").await;
        stack.clock.advance(2 * 3600);
        let second = register(&stack, &body).await.json();
        use_it(&stack, &second, "hanako").await;
        // The one used least recently of whoever has more than a share.
        let own = register(&stack, &body).await;
        assert_eq!(own.status, StatusCode::CREATED, "{}", own.body);
        let own = own.json();
        assert!(!is_known(&stack, &first).await && is_known(&stack, &second).await);
        assert_eq!(gave_way(&stack).await, 1);
        use_it(&stack, &own, "taro").await;
        // Nobody has more than a share now: what is used stays.
        let none = register(&stack, &body).await;
        assert_eq!(none.json()["error"], "unapproved_software_statement");
        assert!(is_known(&stack, &second).await && is_known(&stack, &own).await);
        assert_eq!(gave_way(&stack).await, 1);
        // An officer's way to make room.
        let id = second["client_id"].as_str().unwrap();
        call::<ClientSuspend>(&stack, SECURITY, &named(id))
            .await
            .unwrap();
        let made = register(&stack, &body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    }
}

#[tokio::test]
async fn where_the_profile_holds_for_all_nobody_registers_without_keys() {
    let (publisher, _) = SigningKey::generate().unwrap();
    for mut stack in open_to_under(&publisher, true, 2).await {
        let body = json!({ "software_statement": statement(&publisher, &claims()) });
        let answer = register(&stack, &body).await;
        assert_eq!(answer.json()["error"], "invalid_client_metadata");
        let (own, _) = SigningKey::generate().unwrap();
        let mut with_keys = claims();
        with_keys["jwks"] = json!({ "keys": [public(&own)] });
        let body = json!({ "software_statement": statement(&publisher, &with_keys) });
        let answer = register(&stack, &body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
        // Nor is one made with a secret, by whomever.
        let new = ssa_service::NewClient {
            id: crate::fake::client_id("secret"),
            name: "secret".to_owned(),
            redirect_uris: vec![REDIRECT.to_owned()],
            native: false,
            public: false,
            settings: ClientSettings::default(),
        };
        assert!(stack.ssa.create_client(&new).await.is_err());
        let settings = ClientSettings {
            keys: vec![public(&own)],
            ..ClientSettings::default()
        };
        client(&mut stack, "keyed", settings).await;
        let info = call::<ClientShow>(&stack, SECURITY, &named("keyed"))
            .await
            .unwrap();
        let rotate = RotateRequest {
            client: info.client,
            version: info.version,
            overlap: 0,
            keys: Vec::new(),
            certificate: None,
        };
        let refused = call::<ClientRotate>(&stack, SECURITY, &rotate).await;
        let member = "keys".to_owned();
        assert_eq!(refused.unwrap_err(), ClientRefusal::Invalid { member });
    }
}

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn statements_and_members_that_do_not_count_register_nothing() {
    let (publisher, _) = SigningKey::generate().unwrap();
    let (other, _) = SigningKey::generate().unwrap();
    for stack in open_to(&publisher).await {
        let now = stack.clock.now().0;
        let bent = |member: &str, value: Value| {
            let mut claims = claims();
            claims[member] = value;
            statement(&publisher, &claims)
        };
        let none = {
            let part = |value: Value| core_types::bytes::b64u(value.to_string());
            format!("{}.{}.", part(json!({ "alg": "none" })), part(claims()))
        };
        for (word, error) in [
            (statement(&other, &claims()), "invalid_software_statement"),
            (none, "invalid_software_statement"),
            ("x".to_owned(), "invalid_software_statement"),
            (
                bent("iss", json!("https://evil.example")),
                "unapproved_software_statement",
            ),
            (bent("exp", json!(now)), "invalid_software_statement"),
            (
                bent("exp", json!(now + 400 * 86_400)),
                "invalid_software_statement",
            ),
            (bent("iat", json!(now + 61)), "invalid_software_statement"),
            (
                bent("software_id", Value::Null),
                "invalid_software_statement",
            ),
            (
                bent("client_name", json!("x".repeat(101))),
                "invalid_software_statement",
            ),
            (
                bent("client_name", json!("a\nb")),
                "invalid_client_metadata",
            ),
            (bent("redirect_uris", json!([])), "invalid_redirect_uri"),
            (bent("redirect_uris", json!("x")), "invalid_redirect_uri"),
            (
                bent("redirect_uris", json!(["http://app.example/cb"])),
                "invalid_redirect_uri",
            ),
            (
                bent("jwks", json!({ "keys": [{ "kty": "oct", "k": "AA" }] })),
                "invalid_client_metadata",
            ),
            (
                publisher
                    .sign("at+jwt", claims().to_string().as_bytes())
                    .unwrap(),
                "invalid_software_statement",
            ),
        ] {
            let answer = register(&stack, &json!({ "software_statement": word })).await;
            assert_eq!(
                (answer.status, &answer.json()["error"]),
                (StatusCode::BAD_REQUEST, &json!(error)),
                "{word}"
            );
        }
        let word = statement(&publisher, &claims());
        let elsewhere =
            json!({ "software_statement": word, "redirect_uris": ["https://evil.example/cb"] });
        assert_eq!(
            register(&stack, &elsewhere).await.json()["error"],
            "invalid_redirect_uri"
        );
        for body in [json!({}), json!([]), json!({ "software_statement": 7 })] {
            assert_eq!(
                register(&stack, &body).await.json()["error"],
                "invalid_client_metadata"
            );
        }
        let large = json!({ "software_statement": "x".repeat(70_000) });
        assert_eq!(
            register(&stack, &large).await.status,
            StatusCode::BAD_REQUEST
        );
        let kinds = stack.audit_kinds().await;
        assert!(!kinds.iter().any(|k| k == "client.registered-itself"));
    }
}

// shows: I-7.1.4.1-log-all-access-attempts
#[tokio::test]
async fn registrations_that_are_refused_fill_no_log() {
    let (publisher, _) = SigningKey::generate().unwrap();
    for stack in open_to(&publisher).await {
        let body = json!({ "software_statement": "x" });
        for _ in 0..70 {
            let answer = register(&stack, &body).await;
            assert_eq!(answer.json()["error"], "invalid_software_statement");
        }
        let named = stack.audit_bodies("client.refused").await;
        assert_eq!(named.len(), 60, "with the reason while they are few");
        // One address silences no other.
        let elsewhere = Peer {
            name: String::new(),
            addr: ([192, 0, 2, 7], 1).into(),
        };
        let request = Request::post("/oauth2/register").extension(elsewhere);
        let request = request.body(Body::from(body.to_string())).unwrap();
        stack.send(request).await;
        assert_eq!(stack.audit_bodies("client.refused").await.len(), 61);
        stack.clock.advance(61);
        stack.ssa.send_notices().await.unwrap();
        let told = stack.audit_bodies("access.unknown").await;
        assert_eq!(told.len(), 2);
        for (entry, tries) in told.iter().zip([r#""tries":1"#, r#""tries":9"#]) {
            let good = entry.contains("oauth2/register") && entry.contains(tries);
            assert!(good, "{entry}");
        }
    }
}

#[tokio::test]
async fn unless_somebody_vouches_nobody_registers() {
    for stack in stacks().await {
        let answer = register(&stack, &json!({ "software_statement": "x" })).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
    }
}
