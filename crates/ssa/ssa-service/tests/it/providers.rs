//! Logging in at OpenID providers: what it takes, and answers that are forged, replayed, mixed up or too weak.

use std::sync::Arc;

use axum::http::{StatusCode, header};
use core_types::Clock as _;
use core_types::bytes::b64u;
use dev_provider::DevProvider;
use serde_json::{Value, json};
use ssa_service::{Endpoints, Provider};
use url::Url;

use crate::web::{Answer, BASE, Browser, Stack, credential_request, hash, stacks_with};

const GOOD: &str = "https://op.example";
const OTHER: &str = "https://other.example";

fn provider(id: &str, issuer: &str) -> Provider {
    Provider {
        id: id.to_owned(),
        name: format!("{id} <b>"),
        issuer: issuer.to_owned(),
        client_id: "natsuin".to_owned(),
        client_secret: None,
        endpoints: None,
        assurance: [("high".to_owned(), 2), ("low".to_owned(), 1)].into(),
        least: 2,
    }
}

/// Stacks that know two providers.
async fn with_providers() -> Vec<(Stack, Arc<DevProvider>, Arc<DevProvider>)> {
    let stacks = stacks_with(|config| {
        config.providers = vec![provider("good", GOOD), provider("other", OTHER)];
    });
    let mut all = Vec::new();
    for stack in stacks.await {
        let open =
            |issuer| Arc::new(DevProvider::new(issuer, "natsuin", stack.clock.clone()).unwrap());
        let (good, other) = (open(GOOD), open(OTHER));
        good.seat("sub-hanako");
        *stack.net.1.lock().unwrap() = vec![good.clone(), other.clone()];
        all.push((stack, good, other));
    }
    all
}

/// Presses a provider's button; answers where the page leads.
async fn press(browser: &mut Browser<'_>, page: &Answer, id: &str) -> Url {
    let (token, flow, next) = (page.field("token"), page.field("flow"), page.field("next"));
    let form = [("token", token.as_str()), ("flow", &flow), ("next", &next)];
    let answer = browser.post(&format!("/login/provider/{id}"), &form).await;
    leads(&answer)
}

fn leads(answer: &Answer) -> Url {
    let refresh = answer.headers.get(header::REFRESH);
    let refresh = refresh.unwrap_or_else(|| panic!("{} {}", answer.status, answer.body));
    let to = refresh.to_str().unwrap().strip_prefix("0; url=").unwrap();
    Url::parse(to).unwrap()
}

async fn log_in(browser: &mut Browser<'_>, at: &DevProvider) -> Answer {
    let page = browser.get("/login").await;
    let there = press(browser, &page, "good").await;
    let back = at.authorize(&there).unwrap();
    browser.get(back.as_str()).await
}

async fn bind(browser: &mut Browser<'_>, at: &DevProvider) -> Answer {
    let page = browser.get("/security").await;
    let token = page.field("token");
    let left = browser
        .post("/security/provider/good", &[("token", &token)])
        .await;
    let there = leads(&left);
    assert!(
        there
            .query_pairs()
            .any(|(n, v)| n == "prompt" && v == "login")
    );
    let back = at.authorize(&there).unwrap();
    browser.get(back.as_str()).await
}

// shows: I-4.2.2b-authenticate-with-rsc, T-USE-CRED-FORGE,
// I-4.2.2a-rsc-third-party, I-5.2.4.2-federated-login
#[tokio::test]
async fn an_account_at_a_provider_logs_in_whoever_bound_it_and_signs_nothing() {
    for (stack, good, _) in with_providers().await {
        let mut browser = Browser::new(&stack);
        let stranger = log_in(&mut browser, &good).await;
        assert_eq!(stranger.status, StatusCode::FORBIDDEN);
        assert!(
            stranger.body.contains("isn&#39;t registered here"),
            "{}",
            stranger.body
        );
        browser.log_in("hanako").await;
        assert_eq!(bind(&mut browser, &good).await.location(), "/security");
        let page = browser.get("/security").await;
        assert!(page.body.contains("sub-hanako") && page.body.contains("good &#60;b&#62;"));

        let mut browser = Browser::new(&stack);
        let request = credential_request("app", "key-hanako", &[hash(1)]);
        let page = browser.authorize(&request).await;
        let there = press(&mut browser, &page, "good").await;
        let back = good.authorize(&there).unwrap();
        let answer = browser.get(back.as_str()).await;
        let answer = browser.follow(answer).await;
        let (rid, _) = browser.at_sic(&answer);
        let state = stack.sam.with(|s| s.requests[&rid].state);
        assert_eq!(state, sam_api::ssa::RequestState::Open);

        // One account is one person's.
        let mut taro = Browser::new(&stack);
        taro.log_in("taro").await;
        assert_eq!(bind(&mut taro, &good).await.status, StatusCode::CONFLICT);
        let kinds = stack.audit_kinds().await;
        assert_eq!(kinds.iter().filter(|k| *k == "login.failed").count(), 2);
        good.seat("sub-taro");
        let answer = log_in(&mut Browser::new(&stack), &good).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
    }
}

// shows: T-USE-CRED-FORGE, T-USE-CAPTURE,
// I-5.2.4.2-federated-login, I-A8-fal
#[tokio::test]
async fn tokens_that_are_not_for_this_login_are_refused() {
    for (stack, good, other) in with_providers().await {
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        bind(&mut browser, &good).await;
        let now = crate::web::START;
        let none = |claims: Value| {
            let part = |value: Value| b64u(value.to_string());
            format!("{}.{}.", part(json!({ "alg": "none" })), part(claims))
        };
        for bent in [
            json!({ "nonce": "another" }),
            json!({ "nonce": null }),
            json!({ "aud": "another" }),
            json!({ "aud": ["natsuin", "another"] }),
            json!({ "iss": OTHER }),
            json!({ "exp": now - 1 }),
            json!({ "iat": now - 10_000 }),
            json!({ "auth_time": now - 3600 }),
            json!({ "auth_time": null }),
            json!({ "acr": "low" }),
            json!({ "acr": null }),
            json!({ "sub": null }),
        ] {
            good.bend(bent.clone());
            let answer = log_in(&mut Browser::new(&stack), &good).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{bent}");
        }
        good.bend(json!({}));
        // A token without a signature, and one of another provider's key, where the provider's would come.
        let page = browser.get("/login").await;
        for forged in [
            none(json!({ "iss": GOOD, "aud": "natsuin", "sub": "sub-hanako" })),
            other.id_token("n"),
        ] {
            let there = press(&mut browser, &page, "good").await;
            let back = good.authorize(&there).unwrap();
            let answer = json!({ "id_token": forged }).to_string().into_bytes();
            *stack.net.2.lock().unwrap() = Some(answer);
            let answer = browser.get(back.as_str()).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{forged}");
            *stack.net.2.lock().unwrap() = None;
        }
        let entered = log_in(&mut Browser::new(&stack), &good).await;
        assert_eq!(entered.location(), "/keys");
    }
}

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn a_session_at_the_provider_is_no_fresh_login_where_one_is_wanted() {
    for (stack, good, _) in with_providers().await {
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        bind(&mut browser, &good).await;
        let asks = |there: &Url, anew: bool| {
            let pairs: Vec<(String, String)> = there.query_pairs().into_owned().collect();
            let has =
                |name: &str, value: &str| pairs.contains(&(name.to_owned(), value.to_owned()));
            assert_eq!(has("prompt", "login"), anew, "{there}");
            assert!(has("max_age", if anew { "0" } else { "300" }), "{there}");
        };
        for (page, anew) in [("/login", false), ("/login?next=/security", true)] {
            let page = browser.get(page).await;
            asks(&press(&mut browser, &page, "good").await, anew);
        }
        // Whatever the provider makes of it: what it says was proved before the request came isn't a login for it.
        let request = crate::web::with(
            credential_request("app", "key-hanako", &[hash(1)]),
            "prompt",
            Some("login"),
        );
        let now = stack.clock.now().0;
        // The provider's clock may be a little behind.
        for (proved, enough) in [
            (now - 100, false),
            (now - 31, false),
            (now - 30, true),
            (now, true),
        ] {
            let mut browser = Browser::new(&stack);
            let page = browser.authorize(&request).await;
            let there = press(&mut browser, &page, "good").await;
            asks(&there, true);
            good.bend(json!({ "auth_time": proved }));
            let back = good.authorize(&there).unwrap();
            let answer = browser.get(back.as_str()).await;
            let answer = browser.follow(answer).await;
            assert_eq!(answer.status.is_redirection(), enough, "{}", answer.body);
            let told = answer.body.contains("without asking again");
            assert_ne!(told, enough, "whoever has to log in once more learns why");
        }
    }
}

// shows: T-USE-CAPTURE, T-USE-CRED-FORGE
#[tokio::test]
async fn an_answer_counts_once_in_its_browser_and_for_its_provider() {
    for (stack, good, other) in with_providers().await {
        let mut victim = Browser::new(&stack);
        victim.log_in("hanako").await;
        bind(&mut victim, &good).await;

        // Somebody else's state, a made-up one, and one that was used.
        let mut attacker = Browser::new(&stack);
        let page = attacker.get("/login").await;
        let there = press(&mut attacker, &page, "good").await;
        let back = good.authorize(&there).unwrap();
        assert_eq!(
            victim.get(back.as_str()).await.status,
            StatusCode::NOT_FOUND
        );
        let made_up = format!("{BASE}/login/provider/good/back?code=x&state=y&iss={GOOD}");
        assert_eq!(attacker.get(&made_up).await.status, StatusCode::NOT_FOUND);
        let mut own = Browser::new(&stack);
        let page = own.get("/login").await;
        let there = press(&mut own, &page, "good").await;
        let back = good.authorize(&there).unwrap();
        let cookie = own.cookie.clone();
        assert_eq!(own.get(back.as_str()).await.location(), "/keys");
        own.cookie = cookie;
        assert_eq!(own.get(back.as_str()).await.status, StatusCode::NOT_FOUND);

        // Mix-up: the way out was to another provider than the one that answers, or than it says.
        other.seat("sub-hanako");
        let page = attacker.get("/login").await;
        let there = press(&mut attacker, &page, "other").await;
        let mut swapped = there.clone();
        let own = format!("{BASE}/login/provider/good/back");
        let pairs: Vec<(String, String)> = there.query_pairs().into_owned().collect();
        swapped
            .query_pairs_mut()
            .clear()
            .extend_pairs(pairs.iter().map(|(n, v)| {
                (
                    n.as_str(),
                    if n == "redirect_uri" {
                        own.as_str()
                    } else {
                        v.as_str()
                    },
                )
            }));
        let back = good.authorize(&swapped).unwrap();
        assert_eq!(
            attacker.get(back.as_str()).await.status,
            StatusCode::FORBIDDEN
        );
        for names_itself in [true, false] {
            let there = press(&mut attacker, &page, "good").await;
            // It says that it names itself, and then another, or none.
            good.names_itself(names_itself);
            let back = good.authorize(&there).unwrap();
            good.names_itself(true);
            let text = back.as_str().replace(
                "iss=https%3A%2F%2Fop.example",
                "iss=https%3A%2F%2Fother.example",
            );
            assert_eq!(
                attacker.get(&text).await.status,
                StatusCode::FORBIDDEN,
                "{text}"
            );
        }
        // A code that another verifier began, and one of another session of the same browser.
        let first = press(&mut attacker, &page, "good").await;
        let second = press(&mut attacker, &page, "good").await;
        let (code, state) = (
            good.authorize(&first).unwrap(),
            good.authorize(&second).unwrap(),
        );
        let param = |url: &Url, name: &str| {
            url.query_pairs()
                .find(|(n, _)| n == name)
                .unwrap()
                .1
                .into_owned()
        };
        let mixed = format!(
            "{BASE}/login/provider/good/back?code={}&state={}&iss={GOOD}",
            param(&code, "code"),
            param(&state, "state")
        );
        assert_eq!(attacker.get(&mixed).await.status, StatusCode::FORBIDDEN);
        // The provider says no.
        let there = press(&mut attacker, &page, "good").await;
        let state = param(&there, "state");
        let no =
            format!("{BASE}/login/provider/good/back?error=access_denied&state={state}&iss={GOOD}");
        let answer = attacker.get(&no).await;
        assert!(answer.body.contains("was given up"), "{}", answer.body);
        // Too late.
        let there = press(&mut attacker, &page, "good").await;
        let back = good.authorize(&there).unwrap();
        stack.clock.advance(300);
        assert_eq!(
            attacker.get(back.as_str()).await.status,
            StatusCode::NOT_FOUND
        );
    }
}

#[tokio::test]
async fn a_provider_that_is_down_or_another_says_so_and_keys_may_be_pinned() {
    for (stack, good, _) in with_providers().await {
        let mut browser = Browser::new(&stack);
        let page = browser.get("/login").await;
        let (token, flow, next) = (page.field("token"), page.field("flow"), page.field("next"));
        let form = [("token", token.as_str()), ("flow", &flow), ("next", &next)];
        stack.net.1.lock().unwrap().clear();
        let answer = browser.post("/login/provider/good", &form).await;
        assert!(
            answer.body.contains("can&#39;t be reached now"),
            "{}",
            answer.body
        );
        // What lies at its address says that it is another.
        let liar = DevProvider::new(OTHER, "natsuin", stack.clock.clone()).unwrap();
        let metadata = liar.metadata().to_string().into_bytes();
        *stack.net.2.lock().unwrap() = Some(metadata);
        let answer = browser.post("/login/provider/good", &form).await;
        assert!(
            answer.body.contains("can&#39;t be reached now"),
            "{}",
            answer.body
        );
        *stack.net.2.lock().unwrap() = None;
        // New keys are fetched when a token names one, once a minute.
        let fresh = Arc::new(DevProvider::new(GOOD, "natsuin", stack.clock.clone()).unwrap());
        fresh.seat("sub-hanako");
        *stack.net.1.lock().unwrap() = vec![good.clone()];
        browser.log_in("hanako").await;
        assert_eq!(bind(&mut browser, &good).await.location(), "/security");
        *stack.net.1.lock().unwrap() = vec![fresh.clone()];
        let early = log_in(&mut Browser::new(&stack), &fresh).await;
        assert_eq!(early.status, StatusCode::FORBIDDEN);
        stack.clock.advance(61);
        let entered = log_in(&mut Browser::new(&stack), &fresh).await;
        assert_eq!(entered.location(), "/keys");
    }
    let clock = Arc::new(core_types::clock::ManualClock::at(core_types::UnixTime(
        crate::web::START,
    )));
    let pinned = Arc::new(DevProvider::new(GOOD, "natsuin", clock).unwrap());
    let keys = pinned.jwks()["keys"].as_array().unwrap().clone();
    let stacks = stacks_with(|config| {
        config.providers = vec![Provider {
            endpoints: Some(Endpoints {
                authorization: format!("{GOOD}/authorize"),
                token: format!("{GOOD}/token"),
                keys: keys.clone(),
            }),
            ..provider("good", GOOD)
        }];
    })
    .await;
    for stack in stacks {
        pinned.seat("sub-hanako");
        *stack.net.1.lock().unwrap() = vec![pinned.clone()];
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        assert_eq!(bind(&mut browser, &pinned).await.location(), "/security");
    }
}
