//! Device authorization (RFC 8628).

use axum::http::StatusCode;
use serde_json::{Value, json};
use ssa_service::ClientSettings;

use sam_api::ssa::RequestState;

use crate::oauth::client;
use crate::web::{Answer, BASE, Browser, Stack, credential_request, hash, stacks};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

async fn with_terminal() -> Vec<Stack> {
    let mut all = Vec::new();
    for mut stack in stacks().await {
        let settings = ClientSettings {
            device: true,
            ..ClientSettings::default()
        };
        client(&mut stack, "terminal", settings).await;
        all.push(stack);
    }
    all
}

async fn begin(stack: &Stack, form: &[(&str, &str)]) -> Value {
    let answer = stack
        .client_form("terminal", "/oauth2/device_authorization", form)
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.headers["cache-control"], "no-store");
    answer.json()
}

async fn poll(stack: &Stack, client: &str, codes: &Value) -> Answer {
    let code = codes["device_code"].as_str().unwrap();
    let form = [
        ("grant_type", GRANT),
        ("device_code", code),
        ("client_id", client),
    ];
    stack.client_form(client, "/oauth2/token", &form).await
}

fn error(answer: &Answer) -> String {
    answer.json()["error"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Types the code in a browser that is logged in.
pub async fn type_code(browser: &mut Browser<'_>, code: &str) -> Answer {
    let page = browser.get("/device").await;
    let token = page.field("token");
    let next = browser
        .post("/device", &[("token", &token), ("code", code)])
        .await;
    browser.follow(next).await
}

async fn agree(browser: &mut Browser<'_>, page: &Answer, answer: &str) -> Answer {
    let (token, flow) = (page.field("token"), page.field("flow"));
    let form = [
        ("token", token.as_str()),
        ("flow", &flow),
        ("answer", answer),
    ];
    browser.post("/oauth2/agree", &form).await
}

// shows: T-USE-SAP-BYPASS
#[tokio::test]
async fn agreeing_on_our_page_never_stands_for_an_approval() {
    for stack in with_terminal().await {
        let request = credential_request("terminal", "key-hanako", &[hash(1)]);
        let deletion = json!([{ "type": "credential_deletion", "credentialID": "key-hanako" }]);
        let deletion = [("authorization_details", deletion.to_string())];
        let signing: Vec<_> = request
            .iter()
            .filter(|(name, _)| matches!(*name, "scope" | "authorization_details"))
            .map(|(name, value)| (*name, value.clone()))
            .collect();
        for form in [&signing[..], &deletion] {
            let form: Vec<(&str, &str)> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
            let codes = begin(&stack, &form).await;
            let mut browser = Browser::new(&stack);
            browser.log_in("hanako").await;
            stack.next_code();
            let page = browser.get("/device").await;
            let token = page.field("token");
            let code = codes["user_code"].as_str().unwrap();
            let form = [("token", token.as_str()), ("code", code)];
            let next = browser.post("/device", &form).await.location();
            let flow = next.rsplit('/').next().unwrap();
            // Before the approval page was opened, and after.
            for _ in 0..2 {
                let form = [("token", token.as_str()), ("flow", flow), ("answer", "yes")];
                let agreed = browser.post("/oauth2/agree", &form).await;
                assert_eq!(agreed.location(), next);
                let on = browser.get(&next).await;
                assert!(on.location().contains("/a#"), "{}", on.location());
                stack.clock.advance(10);
                let waits = poll(&stack, "terminal", &codes).await;
                assert_eq!(error(&waits), "authorization_pending");
            }
        }
    }
}

// shows: I-7.1.4.1-log-all-access-attempts
#[tokio::test]
async fn codes_and_refresh_tokens_that_are_nobodys_count_in_the_log() {
    for stack in with_terminal().await {
        let codes = begin(&stack, &[("scope", "service")]).await;
        let guess = json!({ "device_code": "a".repeat(43) });
        for (client, codes) in [("app", &codes), ("terminal", &guess)] {
            let answer = poll(&stack, client, codes).await;
            assert_eq!(error(&answer), "invalid_grant");
        }
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", "no-such-token"),
        ];
        let answer = stack.client_form("app", "/oauth2/token", &form).await;
        assert_eq!(error(&answer), "invalid_grant");
        stack.clock.advance(61);
        stack.ssa.send_notices().await.unwrap();
        let told = stack.audit_bodies("access.unknown").await;
        assert_eq!(told.len(), 2);
        for (entry, tries) in told.iter().zip([r#""tries":1"#, r#""tries":2"#]) {
            let good = entry.contains("oauth2/token") && entry.contains(tries);
            assert!(good, "{entry}");
        }
    }
}

#[tokio::test]
async fn a_terminal_gets_its_token_after_its_user_agreed_elsewhere() {
    for stack in with_terminal().await {
        let codes = begin(&stack, &[("scope", "service")]).await;
        assert_eq!(
            (&codes["interval"], &codes["expires_in"]),
            (&json!(5), &json!(900))
        );
        assert_eq!(codes["verification_uri"], format!("{BASE}/device"));
        assert_eq!(
            error(&poll(&stack, "terminal", &codes).await),
            "authorization_pending"
        );
        assert_eq!(error(&poll(&stack, "terminal", &codes).await), "slow_down");
        stack.clock.advance(10);
        assert_eq!(
            error(&poll(&stack, "terminal", &codes).await),
            "authorization_pending"
        );

        // The link with the code leads through the login and back.
        let mut browser = Browser::new(&stack);
        let link = codes["verification_uri_complete"].as_str().unwrap();
        let login = browser.get(link).await;
        let login = browser.follow(login).await;
        let page = browser.log_in_here(&login, "hanako").await;
        let code = codes["user_code"].as_str().unwrap();
        assert!(page.body.contains(code), "{}", page.body);
        // Agreeing to another client's, or to this one's earlier, opens nothing here: it is asked each time.
        for (n, answer) in [(0, "yes"), (1, "no")] {
            let codes = if n == 0 {
                codes.clone()
            } else {
                begin(&stack, &[]).await
            };
            let code = codes["user_code"].as_str().unwrap().to_lowercase();
            let page = type_code(&mut browser, &code).await;
            assert!(page.body.contains("value=\"no\""), "{}", page.body);
            let done = agree(&mut browser, &page, answer).await;
            assert_eq!(done.status, StatusCode::OK, "{}", done.body);
            stack.clock.advance(10);
            let answer = poll(&stack, "terminal", &codes).await;
            if n == 0 {
                let token = answer.text("access_token");
                let list = stack.csc("credentials/list", &token, "{}").await;
                assert_eq!(list.json(), json!({ "credentialIDs": ["key-hanako"] }));
                assert_eq!(
                    error(&poll(&stack, "terminal", &codes).await),
                    "invalid_grant",
                    "once"
                );
            } else {
                assert_eq!(error(&answer), "access_denied");
            }
            // Decided is decided.
            let page = type_code(&mut browser, &code).await;
            assert!(page.body.contains("No device waits"), "{}", page.body);
        }
    }
}

#[tokio::test]
async fn a_terminal_may_ask_for_a_signature_that_is_approved_on_the_sic_page() {
    for stack in with_terminal().await {
        let request = credential_request("terminal", "key-hanako", &[hash(1)]);
        let details = request
            .iter()
            .find(|(n, _)| *n == "authorization_details")
            .unwrap();
        let codes = begin(&stack, &[("authorization_details", &details.1)]).await;
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        let away = type_code(&mut browser, codes["user_code"].as_str().unwrap()).await;
        let (rid, back) = browser.at_sic(&away);
        stack.sam.decide(rid, RequestState::Approved);
        let done = browser.get(&back).await;
        assert!(done.body.contains("goes on by itself"), "{}", done.body);
        let tokens = poll(&stack, "terminal", &codes).await.json();
        assert_eq!(tokens["credentialID"], "key-hanako");
        let body = json!({ "credentialID": "key-hanako", "signAlgo": "1.2.840.10045.4.3.2",
            "hashes": [core_types::bytes::b64(hash(1))] });
        let token = tokens["access_token"].as_str().unwrap();
        let signed = stack
            .csc("signatures/signHash", token, &body.to_string())
            .await;
        assert_eq!(signed.status, StatusCode::OK, "{}", signed.body);
    }
}

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn codes_are_their_clients_end_and_are_not_guessed() {
    for stack in with_terminal().await {
        // A contract is needed, and a request that makes sense.
        let form = [("scope", "service")];
        let none = stack
            .client_form("app", "/oauth2/device_authorization", &form)
            .await;
        assert_eq!(error(&none), "unauthorized_client");
        let form = [("scope", "everything")];
        let wrong = stack
            .client_form("terminal", "/oauth2/device_authorization", &form)
            .await;
        assert_eq!(error(&wrong), "invalid_scope");

        let codes = begin(&stack, &[]).await;
        assert_eq!(error(&poll(&stack, "app", &codes).await), "invalid_grant");
        let guess = json!({ "device_code": core_types::bytes::b64u([1; 32]) });
        assert_eq!(
            error(&poll(&stack, "terminal", &guess).await),
            "invalid_grant"
        );
        // The device's code is no authorization code.
        let answer = stack
            .exchange("terminal", codes["device_code"].as_str().unwrap())
            .await;
        assert_eq!(error(&answer), "invalid_grant");

        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        for n in 0..5 {
            let page = type_code(&mut browser, "BBBB-BBBB").await;
            assert!(page.body.contains("No device waits"), "{n}: {}", page.body);
        }
        let user_code = codes["user_code"].as_str().unwrap();
        let full = type_code(&mut browser, user_code).await;
        assert_eq!(
            full.status,
            StatusCode::TOO_MANY_REQUESTS,
            "even the right one"
        );
        stack.clock.advance(60);
        let page = type_code(&mut browser, user_code).await;
        // Another's browser can't answer in this one's place.
        stack.next_code();
        let mut thief = Browser::new(&stack);
        thief.log_in("taro").await;
        let page_of_thief = thief.get("/device").await;
        let flow = page.field("flow");
        let form = [
            ("token", page_of_thief.field("token")),
            ("flow", flow),
            ("answer", "yes".to_owned()),
        ];
        let form: Vec<_> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
        assert_eq!(
            thief.post("/oauth2/agree", &form).await.status,
            StatusCode::NOT_FOUND
        );
        // And too late is too late.
        stack.clock.advance(900);
        assert_eq!(
            error(&poll(&stack, "terminal", &codes).await),
            "expired_token"
        );
        let page = agree(&mut browser, &page, "yes").await;
        assert_ne!(page.status, StatusCode::OK);
        assert_eq!(
            error(&poll(&stack, "terminal", &codes).await),
            "expired_token"
        );
    }
}
