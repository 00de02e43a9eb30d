//! `auth/login`: name, password and one-time code without OAuth.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use core_types::bytes::{b64, b64u};
use core_types::sha256;
use serde_json::{Value, json};
use service_kit::Rate;
use ssa_service::{ClientCertificate, ClientSettings};

use crate::fake::client_id;
use crate::oauth::client;
use crate::web::{Answer, PASSWORD, Stack, stacks, stacks_with};

async fn with_contract() -> Vec<Stack> {
    with_settings(|_| {}).await
}

async fn with_settings(set: fn(&mut ClientSettings)) -> Vec<Stack> {
    let mut all = Vec::new();
    for mut stack in stacks_with(|config| config.login_client = Some(client_id("basic"))).await {
        let mut settings = ClientSettings {
            refresh: true,
            ..ClientSettings::default()
        };
        set(&mut settings);
        client(&mut stack, "basic", settings).await;
        all.push(stack);
    }
    all
}

async fn login(stack: &Stack, version: u8, header: Option<&str>, body: &Value) -> Answer {
    let mut request = Request::post(format!("/csc/v{version}/auth/login"));
    if let Some(value) = header {
        request = request.header(header::AUTHORIZATION, value);
    }
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    stack.send(request.body(Body::from(body)).unwrap()).await
}

fn basic(text: &str) -> String {
    format!("Basic {}", b64(text))
}

#[tokio::test]
async fn a_login_gives_a_token_that_reads_and_a_refresh_token_if_one_is_wanted() {
    for stack in with_contract().await {
        for version in [1, 2] {
            let typed = || basic(&format!("hanako:{PASSWORD}{}", stack.code("hanako")));
            let answer = login(&stack, version, Some(&typed()), &Value::Null).await;
            assert_eq!(answer.json()["expires_in"], 3600, "{}", answer.body);
            assert!(answer.json().get("refresh_token").is_none());
            let list = stack
                .csc("credentials/list", &answer.text("access_token"), "{}")
                .await;
            assert_eq!(list.json(), json!({ "credentialIDs": ["key-hanako"] }));
            // The code counts once.
            let again = login(&stack, version, Some(&typed()), &Value::Null).await;
            assert_eq!(again.told().1, "authentication_error");
            stack.next_code();
            let remember = json!({ "rememberMe": true, "clientData": "x" });
            let answer = login(&stack, version, Some(&typed()), &remember).await;
            let first = answer.text("refresh_token");
            stack.next_code();
            // Kept as long as no new one is wanted, used up when one is.
            for _ in 0..2 {
                let body = json!({ "refresh_token": first });
                let answer = login(&stack, version, None, &body).await;
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
                assert!(answer.json().get("refresh_token").is_none());
            }
            let body = json!({ "refresh_token": first, "rememberMe": true });
            let answer = login(&stack, version, None, &body).await;
            let (second, access) = (answer.text("refresh_token"), answer.text("access_token"));
            // The old one again: it has leaked, and takes everything along.
            let leaked = login(&stack, version, None, &body).await;
            assert_eq!(leaked.told().2, "Invalid refresh_token");
            let body = json!({ "refresh_token": second });
            assert_eq!(
                login(&stack, version, None, &body).await.told().2,
                "Invalid refresh_token"
            );
            let list = stack.csc("credentials/list", &access, "{}").await;
            assert_eq!(list.status, StatusCode::UNAUTHORIZED);
        }
        let info = stack.csc("info", "x", "{}").await.json();
        assert!(
            info["methods"]
                .as_array()
                .unwrap()
                .contains(&json!("auth/login"))
        );
        assert!(
            info["authType"]
                .as_array()
                .unwrap()
                .contains(&json!("basic"))
        );
    }
}

#[tokio::test]
async fn logins_count_as_calls_of_the_client_whose_contract_holds() {
    let few = |settings: &mut ClientSettings| {
        settings.rate = Some(Rate {
            burst: 3,
            per_minute: 6,
        });
    };
    for stack in with_settings(few).await {
        let typed = |login: &str| basic(&format!("{login}:{PASSWORD}{}", stack.code(login)));
        // Guesses are nobody's.
        for _ in 0..3 {
            let guess = basic(&format!("hanako:{PASSWORD}000000"));
            let answer = login(&stack, 2, Some(&guess), &Value::Null).await;
            assert_eq!(answer.told().1, "authentication_error");
        }
        let remember = json!({ "rememberMe": true });
        let first = login(&stack, 2, Some(&typed("hanako")), &remember).await;
        let refresh = json!({ "refresh_token": first.text("refresh_token") });
        let again = login(&stack, 1, None, &refresh).await;
        assert_eq!(again.status, StatusCode::OK, "{}", again.body);
        let token = again.text("access_token");
        let list = stack.csc("credentials/list", &token, "{}").await;
        assert_eq!(list.status, StatusCode::OK, "{}", list.body);
        for answer in [
            login(&stack, 2, Some(&typed("taro")), &Value::Null).await,
            login(&stack, 1, None, &refresh).await,
            stack.csc("credentials/list", &token, "{}").await,
        ] {
            assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
            assert!(answer.headers.contains_key(header::RETRY_AFTER));
        }
        // The refresh token wasn't used up by that.
        stack.clock.advance(10);
        let later = json!({ "refresh_token": refresh["refresh_token"], "rememberMe": true });
        let later = login(&stack, 2, None, &later).await;
        assert_eq!(later.status, StatusCode::OK, "{}", later.body);
    }
}

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn faults_have_their_words_and_a_failed_login_tells_nothing() {
    for stack in with_contract().await {
        let code = stack.code("hanako");
        let header = |text: &str| Some(basic(text));
        let bad = |text: &str| (400, "invalid_request".to_owned(), text.to_owned());
        let malformed = "Malformed authentication parameter";
        for (value, status) in [
            (None, 401),
            (Some("Basic *".to_owned()), 401),
            (Some("Bearer x".to_owned()), 401),
        ] {
            let answer = login(&stack, 2, value.as_deref(), &Value::Null).await;
            assert_eq!(
                answer.told(),
                (status, "invalid_request".to_owned(), malformed.to_owned())
            );
            assert_eq!(
                answer.headers["www-authenticate"],
                "Basic realm=\"natsuin\""
            );
        }
        let answer = login(&stack, 2, header("nopassword").as_deref(), &Value::Null).await;
        assert_eq!(answer.told(), bad("Malformed username-password"));
        for (body, text) in [
            (
                json!({ "refresh_token": 1 }),
                "Invalid string parameter: refresh_token",
            ),
            (
                json!({ "refresh_token": b64u([1; 32]) }),
                "Invalid refresh_token",
            ),
            (
                json!({ "rememberMe": "true" }),
                "Invalid parameter rememberMe",
            ),
        ] {
            assert_eq!(login(&stack, 1, None, &body).await.told(), bad(text));
        }
        let failed = (
            400,
            "authentication_error".to_owned(),
            "An error occurred during authentication process".to_owned(),
        );
        for text in [
            format!("hanako:{PASSWORD}000000"),
            format!("hanako:wrong{code}"),
            format!("nobody:{PASSWORD}{code}"),
            format!("hanako:{PASSWORD}"),
        ] {
            let answer = login(&stack, 1, header(&text).as_deref(), &Value::Null).await;
            assert_eq!(answer.told(), failed, "{text}");
        }
        // The same counter as on the page: after five tries even the right one waits.
        for _ in 0..4 {
            login(
                &stack,
                2,
                header("hanako:wrong123456").as_deref(),
                &Value::Null,
            )
            .await;
        }
        let right = format!("hanako:{PASSWORD}{code}");
        assert_eq!(
            login(&stack, 2, header(&right).as_deref(), &Value::Null)
                .await
                .told(),
            failed
        );
        assert!(stack.audited("login.locked").await);
    }
}

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn nobody_gets_here_what_the_token_endpoint_gives_for_a_key_or_a_secret() {
    for stack in with_contract().await {
        // A refresh token that a client got with its secret is worth nothing without.
        let mut browser = crate::web::Browser::new(&stack);
        let request = crate::web::service_request("basic");
        let code = browser.log_in_for_code(&request, "hanako").await;
        stack.next_code();
        let refresh = stack.exchange("basic", &code).await.text("refresh_token");
        let body = json!({ "refresh_token": refresh });
        let answer = login(&stack, 2, None, &body).await;
        assert_eq!(answer.told().2, "Invalid refresh_token");
        // And it wasn't spent.
        let form = [("grant_type", "refresh_token"), ("refresh_token", &refresh)];
        let good = stack.client_form("basic", "/oauth2/token", &form).await;
        assert_eq!(good.status, StatusCode::OK, "{}", good.body);
    }
    // A client that gets only bound tokens gets none here.
    let set: [fn(&mut ClientSettings); 3] = [
        |s| s.bound_tokens = true,
        |s| s.certificate = Some(ClientCertificate::Thumbprints(vec![sha256(&[])])),
        |s| {
            (s.fapi, s.certificate) = (
                true,
                Some(ClientCertificate::Thumbprints(vec![sha256(&[])])),
            )
        },
    ];
    for set in set {
        for stack in with_settings(set).await {
            let typed = basic(&format!("hanako:{PASSWORD}{}", stack.code("hanako")));
            let answer = login(&stack, 2, Some(&typed), &Value::Null).await;
            assert_eq!(answer.told().1, "access_denied", "{}", answer.body);
        }
    }
}

// shows: I-7.1.4.1-log-all-access-attempts
#[tokio::test]
async fn what_the_contract_leaves_out_is_said_as_elsewhere_and_stands_in_the_log() {
    type Change = fn(&mut ClientSettings);
    let set: [(Change, &str); 3] = [
        (
            |s| s.methods = vec!["credentials/info".to_owned()],
            "unauthorized_client",
        ),
        (
            |s| s.scopes = vec!["credential".to_owned()],
            "unauthorized_client",
        ),
        (|s| s.people = vec!["taro".to_owned()], "access_denied"),
    ];
    for (set, wanted) in set {
        for stack in with_settings(set).await {
            let typed = basic(&format!("hanako:{PASSWORD}{}", stack.code("hanako")));
            let answer = login(&stack, 2, Some(&typed), &Value::Null).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN);
            assert_eq!(answer.told().1, wanted, "{}", answer.body);
            let told = stack.audit_bodies("access.denied").await;
            let [entry] = told.as_slice() else {
                panic!("{told:?}");
            };
            assert!(entry.contains("auth/login") && entry.contains("contract"));
        }
    }
    for stack in with_contract().await {
        let typed = basic(&format!("hanako:{PASSWORD}{}", stack.code("hanako")));
        let remember = json!({ "rememberMe": true });
        let first = login(&stack, 2, Some(&typed), &remember).await;
        let first = json!({ "refresh_token": first.text("refresh_token") });
        let guess = json!({ "refresh_token": b64u([1; 32]) });
        for (seconds, body) in [(0, &guess), (15 * 24 * 3600, &first)] {
            stack.clock.advance(seconds);
            let answer = login(&stack, 2, None, body).await;
            assert_eq!(answer.told().2, "Invalid refresh_token");
        }
        let told = stack.audit_bodies("access.unknown").await.concat();
        assert!(told.contains("auth/login"), "{told}");
        let told = stack.audit_bodies("access.denied").await.concat();
        assert!(told.contains("refresh-expired"), "{told}");
    }
}

// shows: I-7.1.4.1-log-all-access-attempts
#[tokio::test]
async fn a_leak_that_ends_a_grant_has_its_entry_however_much_was_refused_before() {
    for stack in with_contract().await {
        let named = async || {
            let told = stack.audit_bodies("access.denied").await;
            told.iter().filter(|e| e.contains("refresh-reused")).count()
        };
        let mut used = Vec::new();
        for _ in 0..2 {
            let typed = basic(&format!("hanako:{PASSWORD}{}", stack.code("hanako")));
            let remember = json!({ "rememberMe": true });
            let first = login(&stack, 2, Some(&typed), &remember).await;
            let first = json!({ "refresh_token": first.text("refresh_token"), "rememberMe": true });
            let next = login(&stack, 2, None, &first).await;
            assert_eq!(next.status, StatusCode::OK, "{}", next.body);
            stack.next_code();
            used.push(first);
        }
        // The one that ends its grant, and sixty that only come again.
        for _ in 0..70 {
            login(&stack, 2, None, &used[0]).await;
        }
        assert_eq!(named().await, 61);
        for _ in 0..2 {
            login(&stack, 2, None, &used[1]).await;
        }
        assert_eq!(named().await, 62);
    }
}

#[tokio::test]
async fn without_a_contract_there_is_no_such_method() {
    let stack = &stacks().await[0];
    let text = format!("hanako:{PASSWORD}{}", stack.code("hanako"));
    let answer = login(stack, 2, Some(&basic(&text)), &Value::Null).await;
    assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED);
    let info = stack.csc("info", "x", "{}").await;
    assert!(!info.body.contains("auth/login") && !info.body.contains("\"basic\""));
}
