//! Every form of the portal, and that of consent, against every wrong sender; see `coverage.rs`. The forms are those of the routers'
//! own text, so that a new one is tried without being named here.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, header};
use sam_api::ssa::KeyState;

use crate::web::{Answer, BASE, Browser, Stack, encode, stacks};

/// Messages that are signed themselves: who brings them doesn't matter (`signing.rs`, `portal.rs`).
const SIGNED: [&str; 2] = ["/notice", "/invitation"];
/// Forms of pages that are there before a login.
const OPEN: [&str; 8] = [
    "/login",
    "/login/passkey",
    "/login/certificate",
    "/login/provider/{id}",
    "/passkeys/begin",
    "/logout",
    "/i/{code}/account",
    "/i/{code}/app",
];

/// Paths of a router that take a form.
fn posts(source: &str) -> BTreeSet<String> {
    let router = source.split("fn router()").nth(1).unwrap();
    let router = router.split("\n}\n").next().unwrap();
    let routes = router.split(".route(").skip(1);
    routes
        .filter(|route| route.contains("post("))
        .map(|route| route.split('"').nth(1).unwrap().to_owned())
        .collect()
}

fn forms() -> Vec<String> {
    let mut all = posts(include_str!("../../src/pages/mod.rs"));
    all.insert("/oauth2/agree".to_owned());
    for name in SIGNED.iter().chain(&OPEN) {
        assert!(all.contains(*name), "{name} isn't served");
    }
    all.retain(|path| !SIGNED.contains(&path.as_str()));
    all.into_iter().collect()
}

/// What any of them reads, about Hanako's key.
fn filled(token: &str) -> String {
    encode(&[
        ("token", token),
        ("flow", "x"),
        ("next", "/"),
        ("name", "x"),
        ("password", "x"),
        ("code", "000000"),
        ("answer", "yes"),
        ("request", "x"),
        ("key", "key-hanako"),
        ("changes", "1"),
        ("do", "destroy"),
        ("what", "destroy"),
        ("of", "key-hanako"),
        ("case", "1-ii"),
        ("receiver", "x"),
        ("ceremony", "register"),
        ("login", "x"),
    ])
}

async fn send(browser: &mut Browser<'_>, path: &str, token: &str, site: &str) -> Answer {
    let parts = path.split('/').map(|part| match part.starts_with('{') {
        true => "x",
        false => part,
    });
    let path = parts.collect::<Vec<_>>().join("/");
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ORIGIN, site)
        .header(
            "sec-fetch-site",
            if site == BASE {
                "same-origin"
            } else {
                "cross-site"
            },
        );
    browser.fetch(request, Body::from(filled(token))).await
}

/// Nothing was done: it is refused, or leads to the login or the beginning of a sign-up.
fn nothing(answer: &Answer, why: &str) {
    let status = answer.status;
    let refused = status.is_client_error() && status.as_u16() != 422;
    let asked = status.is_redirection()
        && ["/login", "/i/"]
            .iter()
            .any(|to| answer.location() == "/" || answer.location().starts_with(to));
    assert!(refused || asked, "{why}: {status} {}", answer.body);
}

/// What Hanako has, and what was asked in anybody's name.
async fn state(stack: &Stack) -> (Vec<KeyState>, usize, usize) {
    let hanako = &stack.users["hanako"].person;
    let (keys, wishes) = stack.sam.with(|s| {
        let keys: Vec<_> = s.keys[hanako].iter().map(|key| key.state).collect();
        let hers = s.wishes.iter().filter(|wish| wish.person == *hanako);
        (keys, hers.count())
    });
    let kinds = stack.audit_kinds().await;
    let ended = kinds.iter().filter(|kind| *kind == "login.ended");
    (keys, wishes, ended.count())
}

// shows: T-USE-CRED-FORGE, T-TERM-NOT-OWNER
#[tokio::test]
async fn every_form_does_nothing_for_a_wrong_sender() {
    let stack = &stacks().await[0];
    let mut hanako = Browser::new(stack);
    hanako.log_in("hanako").await;
    let own = hanako.get("/security").await.field("token");
    let mut taro = Browser::new(stack);
    taro.log_in("taro").await;
    let his = taro.get("/security").await.field("token");
    let mut anybody = Browser::new(stack);
    let anybodys = anybody.get("/login").await.field("token");
    let before = state(stack).await;
    let cookies = (hanako.cookie.clone(), taro.cookie.clone());
    let anybodys_cookie = anybody.cookie.clone();
    for path in forms() {
        let why = |what: &str| format!("{path}: {what}");
        let answer = send(&mut Browser::new(stack), &path, &own, BASE).await;
        nothing(&answer, &why("without the cookie"));
        let answer = send(&mut hanako, &path, &own, "https://evil.example").await;
        nothing(&answer, &why("from another site"));
        let answer = send(&mut hanako, &path, &his, BASE).await;
        nothing(&answer, &why("with another browser's token"));
        let answer = send(&mut hanako, &path, "", BASE).await;
        nothing(&answer, &why("without a token"));
        if !OPEN.contains(&path.as_str()) {
            anybody.cookie.clone_from(&anybodys_cookie);
            let answer = send(&mut anybody, &path, &anybodys, BASE).await;
            nothing(&answer, &why("before the login"));
        }
        // None of them ended a session, either.
        assert_eq!((&hanako.cookie, &taro.cookie), (&cookies.0, &cookies.1));
        let still = hanako.get("/security").await;
        assert_eq!(still.status.as_u16(), 200, "{}", why("the session"));
    }
    assert_eq!(state(stack).await, before);
    // Somebody else, rightly logged in, reaches nothing of hers.
    for path in forms().iter().filter(|path| !path.starts_with("/logout")) {
        let answer = send(&mut taro, path, &his, BASE).await;
        assert!(!answer.status.is_server_error(), "{path}: {}", answer.body);
    }
    assert_eq!(state(stack).await.0, before.0);
    assert_eq!(state(stack).await.1, before.1);
    // A session that ended is none.
    stack.clock.advance(9 * 3600);
    let before = state(stack).await;
    for path in forms() {
        hanako.cookie.clone_from(&cookies.0);
        let answer = send(&mut hanako, &path, &own, BASE).await;
        nothing(&answer, &format!("{path}: after the session's end"));
    }
    assert_eq!(state(stack).await, before);
}

/// The forms above are filled in well enough: from the right page of the right browser each is read.
#[tokio::test]
async fn every_form_is_read_when_its_own_page_sends_it() {
    let stack = &stacks().await[0];
    // What is typed into these is wrong, and said to be.
    let typed = ["/login", "/login/passkey"];
    for path in forms()
        .iter()
        .filter(|path| !typed.contains(&path.as_str()))
    {
        let mut browser = Browser::new(stack);
        browser.log_in("hanako").await;
        stack.next_code();
        let token = browser.get("/security").await.field("token");
        let answer = send(&mut browser, path, &token, BASE).await;
        let status = answer.status.as_u16();
        assert!(status != 403 && status != 422, "{path}: {}", answer.body);
    }
}
