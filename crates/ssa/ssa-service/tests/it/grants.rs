//! Codes, tokens and requests in the wrong hands or twice.

use axum::http::StatusCode;
use sam_api::ssa::RequestState;
use serde_json::json;
use store_kit::sql;

use crate::web::{
    Browser, REDIRECT, Stack, VERIFIER, credential_request, hash, service_request, stacks, with,
};

async fn refused(stack: &Stack, client: &str, form: &[(&str, &str)], error: &str) {
    let answer = stack.client_form(client, "/oauth2/token", form).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]),
        (StatusCode::BAD_REQUEST, &json!(error)),
        "{form:?}"
    );
}

fn grant<'a>(
    code: &'a str,
    verifier: &'a str,
    redirect: Option<&'a str>,
) -> Vec<(&'a str, &'a str)> {
    let mut form = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("code_verifier", verifier),
    ];
    form.extend(redirect.map(|uri| ("redirect_uri", uri)));
    form
}

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn a_code_without_its_verifier_redirect_or_client_is_worth_nothing_and_dies() {
    for stack in stacks().await {
        let long = "x".repeat(43);
        let cases: [(&str, &str, Option<&str>, &str); 5] = [
            ("app", &long, Some(REDIRECT), "invalid_grant"),
            ("app", "", Some(REDIRECT), "invalid_request"),
            ("app", VERIFIER, None, "invalid_grant"),
            (
                "app",
                VERIFIER,
                Some("https://app.example/other"),
                "invalid_grant",
            ),
            // Injected into another client's session (mix-up, code injection).
            ("other", VERIFIER, Some(REDIRECT), "invalid_grant"),
        ];
        let mut browser = Browser::new(&stack);
        browser
            .log_in_for_code(&service_request("app"), "hanako")
            .await;
        for (client, verifier, redirect, error) in cases {
            let code = browser
                .authorize(&service_request("app"))
                .await
                .param("code")
                .unwrap();
            refused(&stack, client, &grant(&code, verifier, redirect), error).await;
            if !verifier.is_empty() {
                refused(
                    &stack,
                    "app",
                    &grant(&code, VERIFIER, Some(REDIRECT)),
                    "invalid_grant",
                )
                .await;
            }
        }
        refused(
            &stack,
            "app",
            &grant("unknown", VERIFIER, Some(REDIRECT)),
            "invalid_grant",
        )
        .await;
        let code = browser
            .authorize(&service_request("app"))
            .await
            .param("code")
            .unwrap();
        stack.clock.advance(60);
        refused(
            &stack,
            "app",
            &grant(&code, VERIFIER, Some(REDIRECT)),
            "invalid_grant",
        )
        .await;
        for grant_type in ["client_credentials", "refresh_token", "password", ""] {
            let form = [("grant_type", grant_type), ("refresh_token", "x")];
            let answer = stack.client_form("app", "/oauth2/token", &form).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{grant_type}");
        }
    }
}

// shows: T-USE-SAP-REPLAY
#[tokio::test]
async fn a_code_that_comes_twice_takes_its_token_with_it() {
    for stack in stacks().await {
        let mut browser = Browser::new(&stack);
        let code = browser
            .log_in_for_code(&service_request("app"), "hanako")
            .await;
        let token = stack.exchange("app", &code).await.text("access_token");
        assert_eq!(
            stack.csc("credentials/list", &token, "").await.status,
            StatusCode::OK
        );
        assert_eq!(
            stack.exchange("app", &code).await.json()["error"],
            "invalid_grant"
        );
        let after = stack.csc("credentials/list", &token, "").await;
        assert_eq!(
            (after.status, &after.json()["error"]),
            (StatusCode::UNAUTHORIZED, &json!("expired_token"))
        );
    }
}

// shows: T-USE-SAP-REPLAY
#[tokio::test]
async fn a_code_presented_twenty_times_at_once_gives_one_token_at_most() {
    for stack in stacks().await {
        let stack = std::sync::Arc::new(stack);
        let mut browser = Browser::new(&stack);
        let code = browser
            .approve_for_code(
                &credential_request("app", "key-hanako", &[hash(1)]),
                "hanako",
            )
            .await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (stack, code) = (stack.clone(), code.clone());
            tasks.spawn(async move { stack.exchange("app", &code).await.status });
        }
        let good = tasks
            .join_all()
            .await
            .into_iter()
            .filter(|s| *s == StatusCode::OK)
            .count();
        assert!(good <= 1, "{good} tokens");
        // Whoever came second has shown that the code leaked: no token of it lives.
        let mut tx = stack.store.read("tokens").await.unwrap();
        let live = "SELECT COUNT(*) AS n FROM ssa_token WHERE revoked = 0";
        assert_eq!(tx.fetch_one(sql(live)).await.unwrap().int("n").unwrap(), 0);
        let grants = stack
            .sam
            .with(|s| s.requests.values().filter(|r| r.grant.is_some()).count());
        assert!(grants <= 1);
    }
}

// shows: T-USE-CRED-ALTER
#[tokio::test]
async fn redirects_go_to_registered_addresses_or_nowhere() {
    for stack in stacks().await {
        let mut browser = Browser::new(&stack);
        for uri in [
            "https://evil.example/cb",
            "https://app.example/cb/",
            "https://app.example/cb?x=1",
            "//evil.example",
            "javascript:alert(1)",
        ] {
            let answer = browser
                .authorize(&with(service_request("app"), "redirect_uri", Some(uri)))
                .await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{uri}");
            assert!(
                !answer.headers.contains_key("location") && !answer.body.contains("//evil"),
                "{uri}"
            );
        }
        for form in [
            with(service_request("nobody"), "scope", None),
            with(service_request("app"), "client_id", None),
        ] {
            assert_eq!(
                browser.authorize(&form).await.status,
                StatusCode::BAD_REQUEST
            );
        }
        let mut twice = service_request("app");
        twice.push(("redirect_uri", "https://evil.example/cb".to_owned()));
        assert_eq!(
            browser.authorize(&twice).await.status,
            StatusCode::BAD_REQUEST
        );
    }
}

// shows: T-USE-SAP-REPLAY
#[tokio::test]
async fn a_pushed_request_is_for_one_use_by_its_client() {
    for stack in stacks().await {
        let request = service_request("app");
        let form: Vec<(&str, &str)> = request.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let push = async || {
            let pushed = stack
                .client_form("app", "/oauth2/pushed_authorize", &form)
                .await;
            pushed.text("request_uri")
        };
        let open = |client: &str, uri: &str| {
            vec![
                ("client_id", client.to_owned()),
                ("request_uri", uri.to_owned()),
            ]
        };
        let mut browser = Browser::new(&stack);
        let uri = push().await;
        let foreign = browser.authorize(&open("other", &uri)).await;
        assert_eq!(foreign.status, StatusCode::BAD_REQUEST);
        assert_eq!(
            browser.authorize(&open("app", &uri)).await.status,
            StatusCode::OK
        );
        assert_eq!(
            browser.authorize(&open("app", &uri)).await.status,
            StatusCode::BAD_REQUEST
        );
        let late = push().await;
        stack.clock.advance(90);
        assert_eq!(
            browser.authorize(&open("app", &late)).await.status,
            StatusCode::BAD_REQUEST
        );
        assert_eq!(
            browser
                .authorize(&open("app", "urn:ietf:params:oauth:request_uri:x"))
                .await
                .status,
            StatusCode::BAD_REQUEST
        );
        // Nothing can be smuggled through: another client's id, a reference inside, a foreign redirect.
        for (name, value, status) in [
            ("client_id", "other", StatusCode::UNAUTHORIZED),
            ("request_uri", "x", StatusCode::BAD_REQUEST),
            (
                "redirect_uri",
                "https://evil.example",
                StatusCode::BAD_REQUEST,
            ),
            ("code_challenge_method", "plain", StatusCode::BAD_REQUEST),
        ] {
            let changed: Vec<(&str, &str)> = form
                .iter()
                .copied()
                .filter(|(n, _)| *n != name)
                .chain([(name, value)])
                .collect();
            let answer = stack
                .client_form("app", "/oauth2/pushed_authorize", &changed)
                .await;
            assert_eq!(answer.status, status, "{name}");
        }
    }
}

// shows: T-USE-SAP-BYPASS
#[tokio::test]
async fn what_one_browser_began_no_other_can_finish() {
    for stack in stacks().await {
        let mut hanako = Browser::new(&stack);
        let page = hanako
            .authorize(&credential_request("app", "key-hanako", &[hash(1)]))
            .await;
        let answer = hanako.log_in_here(&page, "hanako").await;
        let (rid, back) = hanako.at_sic(&answer);
        stack.sam.decide(rid, RequestState::Approved);

        // Another person, logged in, and a browser without any cookie.
        let mut taro = Browser::new(&stack);
        taro.log_in("taro").await;
        let mut nobody = Browser::new(&stack);
        for path in [back.clone(), back.replace("resume", "continue")] {
            assert_eq!(taro.get(&path).await.status, StatusCode::NOT_FOUND);
            assert_eq!(nobody.get(&path).await.status, StatusCode::NOT_FOUND);
        }
        // The cookie from before the login is worth nothing after it.
        assert_ne!(hanako.cookie, None);
        let done = hanako.get(&back).await;
        assert!(done.param("code").is_some());
    }
}

// shows: T-USE-SAP-BYPASS, I-3.4-use-auth-and-key-auth
#[tokio::test]
async fn an_approval_of_one_person_is_no_code_for_the_next_in_the_same_browser() {
    for stack in stacks().await {
        let mut browser = Browser::new(&stack);
        let page = browser
            .authorize(&credential_request("app", "key-hanako", &[hash(1)]))
            .await;
        let answer = browser.log_in_here(&page, "hanako").await;
        let (rid, back) = browser.at_sic(&answer);
        stack.sam.decide(rid, RequestState::Approved);
        // Logging in over it as somebody else, with the handle of the authorization: asked for the right person again.
        let (token, code) = (
            browser.get("/keys").await.field("token"),
            stack.code("taro"),
        );
        let handle = back.rsplit('/').next().unwrap();
        let form = [
            ("token", token.as_str()),
            ("flow", handle),
            ("name", "taro"),
            ("password", crate::web::PASSWORD),
            ("code", &code),
        ];
        let over = browser.post("/login", &form).await;
        let over = browser.follow(over).await;
        assert_eq!(
            (over.status, over.field("flow").as_str()),
            (StatusCode::OK, handle)
        );
        stack.next_code();
        let keys = browser.get("/keys").await;
        browser
            .post("/logout", &[("token", &keys.field("token"))])
            .await;
        browser.log_in("taro").await;
        assert_eq!(browser.get(&back).await.status, StatusCode::NOT_FOUND);
        // A request that A began and B answers after logging in over it is B's, with B's keys.
        stack.next_code();
        let page = browser
            .authorize(&with(
                credential_request("app", "key-hanako", &[hash(1)]),
                "prompt",
                Some("login"),
            ))
            .await;
        assert_eq!(page.status, StatusCode::OK);
        let answer = browser.log_in_here(&page, "taro").await;
        assert_eq!(answer.param("error").as_deref(), Some("access_denied"));
    }
}

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn tokens_of_one_kind_client_or_person_are_none_of_another() {
    for stack in stacks().await {
        let sad = stack.credential_token("app", "hanako", &[hash(1)]).await;
        let service = stack.service_token("app", "hanako").await;
        let foreign_client = stack.service_token("other", "hanako").await;
        let foreign_person = stack.service_token("app", "taro").await;
        let body = |sad: &str| {
            json!({ "credentialID": "key-hanako", "SAD": sad, "hashes": [core_types::bytes::b64(hash(1))],
                "signAlgo": "1.2.840.10045.4.3.2" })
            .to_string()
        };
        let sign = async |bearer: &str, sad: &str| {
            stack.csc("signatures/signHash", bearer, &body(sad)).await
        };
        for (bearer, given, text) in [
            (&service, service.as_str(), "Invalid parameter SAD"),
            (&service, "unknown", "Invalid parameter SAD"),
            (
                &service,
                "",
                "Missing (or invalid type) string parameter SAD",
            ),
            (&foreign_client, &sad, "Invalid parameter SAD"),
            (&foreign_person, &sad, "Invalid parameter SAD"),
            (&sad, &service, "Invalid parameter SAD"),
        ] {
            let answer = sign(bearer, given).await;
            assert_eq!(
                (answer.status, &answer.json()["error_description"]),
                (StatusCode::BAD_REQUEST, &json!(text))
            );
        }
        // A right to sign with one key is no right to read about the person's other keys.
        let second = r#"{"credentialID":"key-second"}"#;
        stack.sam.add_key(
            &stack.users["hanako"].person,
            "key-second",
            core_types::KeyAlg::P384,
        );
        let info = stack.csc("credentials/info", &sad, second).await;
        assert_eq!(info.status, StatusCode::BAD_REQUEST);
        let info = stack.csc("credentials/info", &service, second).await;
        assert_eq!(info.status, StatusCode::OK);
        let list = stack.csc("credentials/list", &sad, "{}").await;
        assert_eq!(
            (list.status, &list.json()["error"]),
            (StatusCode::FORBIDDEN, &json!("access_denied"))
        );
        let info = stack
            .csc("credentials/info", &sad, r#"{"credentialID":"key-taro"}"#)
            .await;
        assert_eq!(
            info.json()["error_description"],
            "Invalid parameter credentialID"
        );
        let other = stack
            .csc(
                "credentials/info",
                &service,
                r#"{"credentialID":"key-taro"}"#,
            )
            .await;
        assert_eq!(
            other.json()["error_description"],
            "Invalid parameter credentialID"
        );
        assert!(
            stack.sam.with(|s| s.signed.is_empty()),
            "nothing reached the SAM"
        );
        // The client that the SAM hears of is the token's, whatever anybody says.
        assert_eq!(sign(&sad, &sad).await.status, StatusCode::OK);
        assert_eq!(stack.sam.with(|s| s.signed[0].client.to_string()), "app");
    }
}

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn revoked_and_expired_tokens_open_nothing() {
    for stack in stacks().await {
        let token = stack.service_token("app", "hanako").await;
        let foreign = stack
            .client_form("other", "/oauth2/revoke", &[("token", &token)])
            .await;
        assert_eq!(foreign.status, StatusCode::BAD_REQUEST);
        assert_eq!(
            stack.csc("credentials/list", &token, "").await.status,
            StatusCode::OK
        );
        let hint = [("token", token.as_str()), ("token_type_hint", "code")];
        let hinted = stack.client_form("app", "/oauth2/revoke", &hint).await;
        assert_eq!(
            hinted.json()["error_description"],
            "Invalid parameter token_type_hint"
        );
        assert_eq!(
            stack
                .client_form("app", "/oauth2/revoke", &[("token", &token)])
                .await
                .status,
            StatusCode::NO_CONTENT
        );
        let gone = stack.csc("credentials/list", &token, "").await;
        assert_eq!(
            (gone.status, &gone.json()["error"]),
            (StatusCode::UNAUTHORIZED, &json!("expired_token"))
        );
        assert!(gone.headers.contains_key("www-authenticate"));
        let missing = stack.client_form("app", "/oauth2/revoke", &[]).await;
        assert_eq!(
            missing.json()["error_description"],
            "Missing parameter token"
        );

        let token = stack.service_token("app", "hanako").await;
        stack.clock.advance(3600);
        assert_eq!(
            stack.csc("credentials/list", &token, "").await.json()["error"],
            "expired_token"
        );
    }
}

// shows: T-USE-SAP-BYPASS
#[tokio::test]
async fn an_authorization_dies_with_time_and_its_session() {
    for stack in stacks().await {
        let mut browser = Browser::new(&stack);
        let page = browser
            .authorize(&credential_request("app", "key-hanako", &[hash(1)]))
            .await;
        let answer = browser.log_in_here(&page, "hanako").await;
        let (rid, back) = browser.at_sic(&answer);
        stack.sam.decide(rid, RequestState::Approved);
        stack.clock.advance(15 * 60);
        assert_eq!(browser.get(&back).await.status, StatusCode::NOT_FOUND);
        stack.clock.advance(30 * 60);
        // Idle for too long: logged out.
        assert_eq!(browser.get("/keys").await.location(), "/login?next=/keys");
    }
}
