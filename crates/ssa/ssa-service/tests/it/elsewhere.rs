//! Authorization out of band: asked by an application without a browser, found in the portal, decided on the SIC page.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use core_types::bytes::b64;
use core_types::{Clock as _, Digest32, HashAlg};
use sam_api::ssa::RequestState;
use serde_json::{Value, json};
use ssa_service::ClientSettings;

use crate::oauth::client;
use crate::web::{Answer, BASE, Browser, SIC, Stack, hash, stacks, stacks_with, until};

async fn with_terminals(stacks: Vec<Stack>) -> Vec<Stack> {
    let mut all = Vec::new();
    for mut stack in stacks {
        for id in ["terminal", "kiosk"] {
            let settings = ClientSettings {
                out_of_band: true,
                ..ClientSettings::default()
            };
            client(&mut stack, id, settings).await;
        }
        all.push(stack);
    }
    all
}

fn ask(n: u8) -> Value {
    json!({ "credentialID": "key-hanako", "numSignatures": 1, "hashes": [b64(hash(n))],
        "hashAlgorithmOID": HashAlg::Sha256.oid(), "authData": [{ "id": "portal" }], "description": "Lease <b>" })
}

async fn call(stack: &Stack, path: &str, token: &str, body: &Value) -> Answer {
    let request = Request::post(path).header(header::AUTHORIZATION, format!("Bearer {token}"));
    let request = request.body(Body::from(body.to_string()));
    stack.send(request.unwrap()).await
}

async fn authorize(stack: &Stack, token: &str, body: &Value) -> Answer {
    call(stack, "/csc/v2/credentials/authorize", token, body).await
}

async fn handle(stack: &Stack, token: &str, n: u8) -> String {
    let asked = authorize(stack, token, &ask(n)).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{}", asked.body);
    asked.text("handle")
}

async fn check(stack: &Stack, token: &str, handle: &str) -> Answer {
    let body = json!({ "handle": handle });
    call(stack, "/csc/v2/credentials/authorizeCheck", token, &body).await
}

/// Opens the newest request in the portal and decides on the SIC page. Answers the page that the browser comes back to.
pub async fn decide(stack: &Stack, browser: &mut Browser<'_>, state: RequestState) -> Answer {
    let page = browser.get("/requests").await;
    let form = [
        ("token", page.field("token")),
        ("request", page.field("request")),
    ];
    let form: Vec<_> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let away = browser.post("/requests", &form).await;
    let (rid, back) = browser.at_sic(&away);
    stack.sam.decide(rid, state);
    browser.get(&back).await
}

// shows: T-USE-SAP-BYPASS
#[tokio::test]
async fn only_a_program_of_the_persons_own_is_told_where_its_request_lies() {
    for mut stack in with_terminals(stacks().await).await {
        let settings = ClientSettings {
            out_of_band: true,
            own_sic: true,
            users: vec!["hanako".into()],
            ..ClientSettings::default()
        };
        client(&mut stack, "program", settings).await;
        let terminal = stack.service_token("terminal", "hanako").await;
        let asked = authorize(&stack, &terminal, &ask(1)).await.json();
        assert_eq!(asked.get("sicRequest"), None, "{asked}");
        let program = stack.service_token("program", "hanako").await;
        let asked = authorize(&stack, &program, &ask(2)).await;
        assert_eq!(asked.status, StatusCode::ACCEPTED, "{}", asked.body);
        let asked = asked.json();
        let rid = Digest32::parse(asked["sicRequest"].as_str().unwrap()).unwrap();
        // It is told once, and a name has no power: the person's proof decides, and the handle is the client's alone.
        let handle = asked["handle"].as_str().unwrap();
        let waits = check(&stack, &program, handle).await.json();
        assert_eq!(waits.get("sicRequest"), None, "{waits}");
        stack.sam.decide(rid, RequestState::Approved);
        let other = check(&stack, &terminal, handle).await;
        assert_eq!(other.error().1, UNKNOWN);
        let sad = check(&stack, &program, handle).await;
        assert_eq!(sad.status, StatusCode::OK, "{}", sad.body);
    }
}

const UNKNOWN: &str = "Invalid parameter handle";

// shows: T-USE-SAP-BYPASS
#[tokio::test]
async fn the_person_finds_the_request_in_the_portal_and_the_application_gets_its_sad_once() {
    for stack in with_terminals(stacks().await).await {
        let token = stack.service_token("terminal", "hanako").await;
        // How it is authorized depends on who asks.
        let info = json!({ "credentialID": "key-hanako", "authInfo": true });
        let seen = call(&stack, "/csc/v2/credentials/info", &token, &info)
            .await
            .json();
        assert_eq!(seen["auth"]["mode"], "explicit");
        assert_eq!(seen["auth"]["objects"][0]["type"], "ChallengeResponseOOB");
        let seen = call(&stack, "/csc/v1/credentials/info", &token, &info)
            .await
            .json();
        assert_eq!(seen["authMode"], "implicit");
        let app = stack.service_token("app", "hanako").await;
        let seen = call(&stack, "/csc/v2/credentials/info", &app, &info)
            .await
            .json();
        assert_eq!(seen["auth"]["mode"], "oauth2code");
        assert_eq!(
            authorize(&stack, &app, &ask(1)).await.error().1,
            "Invalid parameter credentialID"
        );

        let handle = handle(&stack, &token, 1).await;
        let waits = check(&stack, &token, &handle).await;
        assert_eq!(
            (waits.status, &waits.json()["handle"]),
            (StatusCode::ACCEPTED, &json!(handle))
        );
        let mut browser = Browser::new(&stack);
        let first = browser.get("/requests").await;
        assert_eq!(first.location(), "/login?next=/requests");
        browser.log_in("hanako").await;
        let page = browser.get("/requests").await;
        assert!(
            page.body.contains("terminal &#60;b&#62;") || page.body.contains("terminal"),
            "{}",
            page.body
        );
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains(SIC), "{policy}");
        let page = decide(&stack, &mut browser, RequestState::Approved).await;
        assert!(page.body.contains("You approved"), "{}", page.body);
        let asked = stack
            .sam
            .with(|s| s.requests.values().next().unwrap().asked.clone());
        assert_eq!(
            (asked.items[0].label.as_str(), asked.client.as_str()),
            ("Lease <b>", "terminal")
        );

        let granted = check(&stack, &token, &handle).await;
        assert_eq!(granted.status, StatusCode::OK, "{}", granted.body);
        let sad = granted.text("SAD");
        assert!(granted.json()["expiresIn"].as_u64().unwrap() <= 300);
        assert_eq!(
            check(&stack, &token, &handle).await.error(),
            (400, UNKNOWN.to_owned())
        );
        let sign = json!({ "credentialID": "key-hanako", "SAD": sad, "hashes": [b64(hash(1))],
            "signAlgo": "1.2.840.10045.4.3.2" });
        let signed = call(&stack, "/csc/v2/signatures/signHash", &token, &sign).await;
        assert_eq!(signed.status, StatusCode::OK, "{}", signed.body);
        let again = call(&stack, "/csc/v2/signatures/signHash", &token, &sign).await;
        assert_eq!(again.error().1, "Invalid parameter SAD");
    }
}

// shows: T-USE-SAP-BYPASS,
// I-4.1-same-requirements-all-deployments, I-5.2.2-flow-may-vary
#[tokio::test]
async fn a_handle_is_its_applications_and_a_request_its_persons() {
    for stack in with_terminals(stacks().await).await {
        let token = stack.service_token("terminal", "hanako").await;
        let kiosk = stack.service_token("kiosk", "hanako").await;
        let taro = stack.service_token("terminal", "taro").await;
        let handle = handle(&stack, &token, 1).await;
        let guess = core_types::bytes::b64u([1; 32]);
        for (who, what) in [(&kiosk, &handle), (&taro, &handle), (&token, &guess)] {
            assert_eq!(
                check(&stack, who, what).await.error(),
                (400, UNKNOWN.to_owned())
            );
        }
        let mut hanako = Browser::new(&stack);
        hanako.log_in("hanako").await;
        let label = hanako.get("/requests").await.field("request");
        stack.next_code();
        let mut other = Browser::new(&stack);
        other.log_in("taro").await;
        let page = other.get("/requests").await;
        assert!(
            !page.body.contains(&label) && page.body.contains("Nothing waits"),
            "{}",
            page.body
        );
        let keys = other.get("/keys").await;
        let form = [("token", keys.field("token")), ("request", label.clone())];
        let form: Vec<_> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
        assert_eq!(
            other.post("/requests", &form).await.status,
            StatusCode::NOT_FOUND
        );
        assert_eq!(
            other.get(&format!("/requests/{label}")).await.status,
            StatusCode::NOT_FOUND
        );
        // A form of another site opens nothing.
        let forged = [("token", "x"), ("request", label.as_str())];
        assert_eq!(
            hanako.post("/requests", &forged).await.status,
            StatusCode::FORBIDDEN
        );
        // Without the object that is done elsewhere, and for somebody else's key.
        let mut bare = ask(1);
        bare["authData"] = json!([]);
        let answer = authorize(&stack, &token, &bare).await;
        assert_eq!(answer.json()["error"], "invalid_authentication_data");
        assert_eq!(
            authorize(&stack, &taro, &ask(1)).await.error().1,
            "Invalid parameter credentialID"
        );
        // Too late.
        stack.clock.advance(3600);
        assert_eq!(check(&stack, &token, &handle).await.error().0, 401);
        let token = stack.service_token("terminal", "hanako").await;
        assert_eq!(
            check(&stack, &token, &handle).await.error(),
            (400, UNKNOWN.to_owned())
        );
        let mut hanako = Browser::new(&stack);
        hanako.log_in("hanako").await;
        assert!(hanako.get("/requests").await.body.contains("Nothing waits"));
    }
}

#[tokio::test]
async fn a_contract_says_how_long_a_request_waits() {
    for mut stack in stacks().await {
        let settings = ClientSettings {
            out_of_band: true,
            wait_seconds: 24 * 3600,
            ..ClientSettings::default()
        };
        client(&mut stack, "patient", settings).await;
        let token = stack.service_token("patient", "hanako").await;
        let asked_at = stack.clock.now();
        let handle = handle(&stack, &token, 1).await;
        let ttl = stack
            .sam
            .with(|s| s.requests.values().next().unwrap().asked.ttl);
        assert_eq!(ttl, 24 * 3600, "the SAM keeps it as long");
        stack.clock.advance(23 * 3600);
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        assert!(!browser.get("/requests").await.body.contains("Nothing"));
        stack.next_code();
        let token = stack.service_token("patient", "hanako").await;
        let left = asked_at.0 + 24 * 3600 - stack.clock.now().0;
        stack.clock.advance(left - 1);
        let waits = check(&stack, &token, &handle).await;
        assert_eq!(waits.status, StatusCode::ACCEPTED, "{}", waits.body);
        stack.clock.advance(1);
        let over = check(&stack, &token, &handle).await;
        assert_eq!(over.error(), (400, UNKNOWN.to_owned()));
    }
}

#[tokio::test]
async fn the_page_behind_an_open_request_waits_for_its_person_alone() {
    for stack in with_terminals(stacks().await).await {
        let token = stack.service_token("terminal", "hanako").await;
        handle(&stack, &token, 1).await;
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        let page = browser.get("/requests").await;
        assert!(!page.body.contains("data-waiting"), "{}", page.body);
        let form = [
            ("token", page.field("token")),
            ("request", page.field("request")),
        ];
        let form: Vec<_> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let away = browser.post("/requests", &form).await;
        let (rid, back) = browser.at_sic(&away);
        let asks = format!("{back}/waiting");
        let page = browser.get(&back).await;
        let path = asks.strip_prefix(BASE).unwrap();
        assert!(page.body.contains(path), "{}", page.body);
        assert_eq!(browser.get(&asks).await.json(), json!({ "waits": true }));
        stack.next_code();
        let mut other = Browser::new(&stack);
        let nobody = other.get(&asks).await;
        assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
        other.log_in("taro").await;
        assert_eq!(other.get(&asks).await.status, StatusCode::NOT_FOUND);
        stack.sam.decide(rid, RequestState::Approved);
        assert_eq!(browser.get(&asks).await.json(), json!({ "waits": false }));
        let page = browser.get(&back).await;
        assert!(page.body.contains("You approved"), "{}", page.body);
        assert!(!page.body.contains("data-waiting"), "{}", page.body);
    }
}

// shows: T-USE-CAPTURE
#[tokio::test]
async fn a_page_that_asks_by_itself_keeps_nobody_logged_in() {
    for stack in with_terminals(stacks().await).await {
        let token = stack.service_token("terminal", "hanako").await;
        handle(&stack, &token, 1).await;
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        let label = browser.get("/requests").await.field("request");
        let asks = format!("/requests/{label}/waiting");
        for _ in 0..2 {
            stack.clock.advance(14 * 60);
            assert_eq!(browser.get(&asks).await.json(), json!({ "waits": true }));
        }
        stack.clock.advance(2 * 60);
        let idle = browser.get(&asks).await;
        assert_eq!(idle.status, StatusCode::UNAUTHORIZED);
    }
}

// shows: T-USE-SAP-BYPASS
#[tokio::test]
async fn an_application_floods_nobody() {
    for stack in with_terminals(stacks().await).await {
        let token = stack.service_token("terminal", "hanako").await;
        let kiosk = stack.service_token("kiosk", "hanako").await;
        for n in 0..5 {
            handle(&stack, &token, n).await;
        }
        let sixth = authorize(&stack, &token, &ask(6)).await;
        assert_eq!(
            sixth.status,
            StatusCode::TOO_MANY_REQUESTS,
            "{}",
            sixth.body
        );
        assert!(
            sixth.headers["retry-after"]
                .to_str()
                .unwrap()
                .parse::<u32>()
                .unwrap()
                > 3000
        );
        handle(&stack, &kiosk, 6).await;
        // One decided makes room for one.
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        stack.next_code();
        for _ in 0..2 {
            decide(&stack, &mut browser, RequestState::Refused).await;
        }
        handle(&stack, &token, 7).await;
        let again = authorize(&stack, &token, &ask(8)).await;
        assert_eq!(again.status, StatusCode::TOO_MANY_REQUESTS);
    }
}

// shows: T-USE-SAP-BYPASS
#[tokio::test]
async fn three_refusals_mute_an_application_for_a_day() {
    for stack in with_terminals(stacks().await).await {
        let token = stack.service_token("terminal", "hanako").await;
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        stack.next_code();
        let declined = (403, "The user declined".to_owned());
        for n in 0..2 {
            let handle = handle(&stack, &token, n).await;
            let page = decide(&stack, &mut browser, RequestState::Refused).await;
            assert!(page.body.contains("You refused"), "{}", page.body);
            for _ in 0..2 {
                assert_eq!(check(&stack, &token, &handle).await.error(), declined);
            }
        }
        // An approval forgives two refusals.
        let handle_of_good = handle(&stack, &token, 3).await;
        decide(&stack, &mut browser, RequestState::Approved).await;
        assert_eq!(
            check(&stack, &token, &handle_of_good).await.status,
            StatusCode::OK
        );
        for n in 4..7 {
            handle(&stack, &token, n).await;
            decide(&stack, &mut browser, RequestState::Refused).await;
        }
        let muted = authorize(&stack, &token, &ask(8)).await;
        assert_eq!(muted.error(), declined);
        let kiosk = stack.service_token("kiosk", "hanako").await;
        handle(&stack, &kiosk, 8).await;
        stack.clock.advance(24 * 3600);
        let token = stack.service_token("terminal", "hanako").await;
        handle(&stack, &token, 9).await;
    }
}

/// Some send empty texts for what they have nothing for (habit #2 of `quirks.rs`).
fn v1(n: u8) -> Value {
    json!({ "credentialID": "key-hanako", "numSignatures": 1, "hash": [b64(hash(n))], "PIN": "", "OTP": "",
        "clientData": "" })
}

/// Clients that have no way to send secrets (habit #31 of `quirks.rs`).
#[tokio::test]
async fn version_1_waits_for_the_person() {
    for stack in with_terminals(stacks().await).await {
        let token = stack.service_token("terminal", "hanako").await;
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        for (n, state) in [(1, RequestState::Approved), (2, RequestState::Refused)] {
            let body = v1(n);
            let waiting = call(&stack, "/csc/v1/credentials/authorize", &token, &body);
            let person = async {
                // As soon as it is there.
                until("the request in the portal", async || {
                    let page = browser.get("/requests").await;
                    page.body.contains("name=\"request\"").then_some(())
                })
                .await;
                decide(&stack, &mut browser, state).await
            };
            let (answer, _) = tokio::join!(waiting, person);
            match state {
                RequestState::Approved => {
                    let sad = &answer.json()["SAD"];
                    let sign = json!({ "credentialID": "key-hanako", "SAD": sad, "hash": [b64(hash(n))],
                        "signAlgo": "1.2.840.10045.4.3.2" });
                    let signed = call(&stack, "/csc/v1/signatures/signHash", &token, &sign).await;
                    assert_eq!(signed.status, StatusCode::OK, "{}", signed.body);
                }
                _ => assert_eq!(answer.error(), (403, "The user declined".to_owned())),
            }
        }
    }
}

#[tokio::test]
async fn what_version_1_waited_for_in_vain_is_over() {
    let set = |config: &mut ssa_service::Config| config.longest_call = std::time::Duration::ZERO;
    for stack in with_terminals(stacks_with(set).await).await {
        let token = stack.service_token("terminal", "hanako").await;
        let answer = call(&stack, "/csc/v1/credentials/authorize", &token, &v1(1)).await;
        assert_eq!(
            answer.error(),
            (403, "The user did not decide in time".to_owned())
        );
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        assert!(
            browser
                .get("/requests")
                .await
                .body
                .contains("Nothing waits")
        );
    }
}

#[tokio::test]
async fn a_call_that_waits_asks_for_no_longer_than_it_waits() {
    for stack in with_terminals(stacks().await).await {
        let settings = ClientSettings {
            out_of_band: true,
            wait_seconds: 86_400,
            ..ClientSettings::default()
        };
        stack.contract("terminal", &settings).await;
        let token = stack.service_token("terminal", "hanako").await;
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        let body = v1(1);
        let waiting = call(&stack, "/csc/v1/credentials/authorize", &token, &body);
        let found = until("the request in the portal", async || {
            let page = browser.get("/requests").await;
            page.body.contains("name=\"request\"").then_some(())
        });
        tokio::select! {
            answer = waiting => panic!("{}", answer.body),
            () = found => {}
        }
        // A call of a minute asks for no longer, whatever the contract says of others.
        let ttl = stack
            .sam
            .with(|s| s.requests.values().next().unwrap().asked.ttl);
        assert_eq!(ttl, 65);
    }
}
