//! Logging in: guessing, replay, forged forms, planted cookies.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};

use crate::web::{BASE, Browser, PASSWORD, Stack, encode, stacks, totp};

async fn attempt(stack: &Stack, login: &str, password: &str, code: &str) -> (StatusCode, String) {
    let mut browser = Browser::new(stack);
    let page = browser.get("/login").await;
    let answer = browser.submit_login(&page, login, password, code).await;
    // Everything but the form token and the name typed must be the same for everybody.
    let body = answer
        .body
        .replace(&page.field("token"), "TOKEN")
        .replace(&format!("name=\"name\" value=\"{login}\""), "NAME");
    (answer.status, body)
}

// shows: T-USE-CRED-FORGE, I-4.2.2b-authenticate-with-rsc
#[tokio::test]
async fn a_failed_login_tells_nothing_about_the_account() {
    for stack in stacks().await {
        let code = stack.code("hanako");
        let wrong = totp(&stack.users["taro"].seed, 1);
        let answers = [
            attempt(&stack, "hanako", "wrong password", &code).await,
            attempt(&stack, "hanako", PASSWORD, &wrong).await,
            attempt(&stack, "hanako", "wrong password", &wrong).await,
            attempt(&stack, "nobody", PASSWORD, &code).await,
            attempt(&stack, "", "", "").await,
        ];
        for answer in &answers {
            assert_eq!(answer, &answers[0]);
            assert_eq!(answer.0, StatusCode::FORBIDDEN);
        }
        let kinds = stack.audit_kinds().await;
        assert_eq!(kinds.iter().filter(|k| *k == "login.failed").count(), 5);
    }
}

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn a_failed_login_is_the_same_work_whether_or_not_the_account_is_there() {
    for stack in stacks().await {
        let code = stack.code("hanako");
        let mut costs = Vec::new();
        for (login, password) in [
            ("hanako", "wrong password"),
            ("nobody", "wrong password"),
            ("nobody", PASSWORD),
            ("", ""),
        ] {
            let before = stack.ssa.passwords_derived();
            let (status, _) = attempt(&stack, login, password, &code).await;
            assert_eq!(status, StatusCode::FORBIDDEN);
            costs.push(stack.ssa.passwords_derived() - before);
        }
        assert_eq!(costs, [1; 4]);
    }
}

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn guessing_is_counted_before_it_is_judged_for_known_and_unknown_names() {
    for stack in stacks().await {
        let stack = std::sync::Arc::new(stack);
        let mut pages = Vec::new();
        for login in ["hanako", "nobody"] {
            let mut tasks = tokio::task::JoinSet::new();
            for n in 0..30 {
                let stack = stack.clone();
                tasks.spawn(async move {
                    attempt(&stack, login, "wrong password", &format!("{n:06}"))
                        .await
                        .1
                });
            }
            let bodies = tasks.join_all().await;
            let compared = bodies
                .iter()
                .filter(|body| body.contains("is wrong"))
                .count();
            assert!(compared <= 5, "{compared} tries were compared for {login}");
            // Now even the right answer has to wait, and the page is the same.
            let code = stack.code("hanako");
            pages.push(attempt(&stack, login, PASSWORD, &code).await);
        }
        assert_eq!(pages[0], pages[1]);
        assert!(
            pages[0].1.contains("Too many wrong tries"),
            "{}",
            pages[0].1
        );
        stack.clock.advance(31);
        let (status, _) = attempt(&stack, "hanako", PASSWORD, &stack.code("hanako")).await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        assert!(stack.audited("login.locked").await);
    }
}

// shows: T-USE-CAPTURE
#[tokio::test]
async fn a_one_time_code_works_once_also_in_two_places_at_once() {
    for stack in stacks().await {
        let stack = std::sync::Arc::new(stack);
        let code = stack.code("hanako");
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (stack, code) = (stack.clone(), code.clone());
            tasks.spawn(async move { attempt(&stack, "hanako", PASSWORD, &code).await.0 });
        }
        let entered = tasks
            .join_all()
            .await
            .into_iter()
            .filter(|s| *s == StatusCode::SEE_OTHER)
            .count();
        assert_eq!(entered, 1);
        assert_eq!(
            attempt(&stack, "hanako", PASSWORD, &code).await.0,
            StatusCode::FORBIDDEN
        );
    }
}

// shows: T-USE-SAP-BYPASS
#[tokio::test]
async fn forms_of_other_sites_and_browsers_do_nothing() {
    for stack in stacks().await {
        let mut browser = Browser::new(&stack);
        let page = browser.get("/login").await;
        let code = stack.code("hanako");
        let token = page.field("token");
        let form = |token: &str| {
            encode(&[
                ("token", token),
                ("name", "hanako"),
                ("password", PASSWORD),
                ("code", code.as_str()),
            ])
        };
        let other = Browser::new(&stack).get("/login").await.field("token");
        for (origin, site, token) in [
            (Some("https://evil.example"), None, token.as_str()),
            (Some("null"), None, &token),
            (Some(BASE), Some("cross-site"), &token),
            (Some(BASE), Some("same-site"), &token),
            (None, Some("none"), &token),
            (Some(BASE), Some("same-origin"), &other),
            (Some(BASE), Some("same-origin"), ""),
        ] {
            let mut request = Request::post("/login")
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            for (name, value) in [("origin", origin), ("sec-fetch-site", site)] {
                if let Some(value) = value {
                    request = request.header(name, value);
                }
            }
            let answer = browser.fetch(request, Body::from(form(token))).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{origin:?} {site:?}");
            assert!(!answer.headers.contains_key("set-cookie"));
        }
        let kinds = stack.audit_kinds().await;
        assert!(!kinds.iter().any(|k| k.starts_with("login.")), "{kinds:?}");
        // No cookie at all: the form of nobody.
        let answer = Browser::new(&stack)
            .post("/login", &[("token", token.as_str())])
            .await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
    }
}

// shows: T-USE-SAP-BYPASS
#[tokio::test]
async fn a_cookie_from_before_the_login_is_no_session() {
    for stack in stacks().await {
        let mut victim = Browser::new(&stack);
        let page = victim.get("/login").await;
        let planted = victim.cookie.clone();
        victim.log_in_here(&page, "hanako").await;
        assert_ne!(victim.cookie, planted);
        assert_eq!(victim.get("/keys").await.status, StatusCode::OK);
        let mut attacker = Browser::new(&stack);
        attacker.cookie = planted;
        assert!(attacker.get("/keys").await.location().starts_with("/login"));
    }
}

#[tokio::test]
async fn sessions_end_by_logging_out_idling_and_age() {
    for stack in stacks().await {
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        let keys = browser.get("/keys").await;
        let old = browser.cookie.clone();
        browser
            .post("/logout", &[("token", &keys.field("token"))])
            .await;
        browser.cookie = old;
        assert!(browser.get("/keys").await.location().starts_with("/login"));

        stack.next_code();
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        for _ in 0..17 {
            stack.clock.advance(29 * 60);
            if browser.get("/keys").await.status != StatusCode::OK {
                break;
            }
        }
        // Never idle, but more than eight hours old.
        assert!(browser.get("/keys").await.location().starts_with("/login"));

        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        stack.clock.advance(30 * 60);
        assert!(browser.get("/keys").await.location().starts_with("/login"));
    }
}

#[tokio::test]
async fn a_login_leads_only_to_our_own_pages() {
    let stack = &stacks().await[0];
    for next in [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
    ] {
        let mut browser = Browser::new(stack);
        let page = browser
            .get(&format!("/login?{}", encode(&[("next", next)])))
            .await;
        assert_eq!(page.field("next"), "", "{next}");
        let (token, code) = (page.field("token"), stack.code("hanako"));
        let form = [
            ("token", token.as_str()),
            ("next", next),
            ("name", "hanako"),
            ("password", PASSWORD),
            ("code", &code),
        ];
        assert_eq!(browser.post("/login", &form).await.location(), "/keys");
        stack.next_code();
    }
}
