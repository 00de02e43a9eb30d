//! Login passkeys: registered after a login, used instead of password and code, and good for nothing else.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use core_types::random::SeededRandom;
use core_types::{Digest32, bytes::b64u};
use sap::Proof;
use serde_json::Value;
use soft_passkey::{Behaviour, SoftPasskey};
use store_kit::{StoreError, sql, transaction};

use crate::web::{Answer, BASE, Browser, SIC, Stack, encode, service_request, stacks};

fn honest() -> Behaviour {
    Behaviour::honest(BASE, "localhost")
}

/// A device with the user handle that the portal gave it.
struct Device {
    passkey: SoftPasskey,
    user: String,
}

impl Device {
    fn new(behaviour: Behaviour, seed: u64) -> Self {
        let passkey = SoftPasskey::new(behaviour, &SeededRandom::new(seed)).unwrap();
        Self {
            passkey,
            user: String::new(),
        }
    }

    /// Fields of the login form for a challenge.
    fn answer(&mut self, challenge: &str) -> Vec<(&'static str, String)> {
        let proof = self.passkey.prove(Digest32::parse(challenge).unwrap());
        let Proof::Passkey {
            id,
            auth_data,
            client_data,
            sig,
            ..
        } = proof.unwrap()
        else {
            unreachable!()
        };
        vec![
            ("challenge", challenge.to_owned()),
            ("id", b64u(&id.0)),
            ("auth_data", b64u(&auth_data.0)),
            ("client_data", b64u(&client_data.0)),
            ("sig", b64u(&sig.0)),
            ("user", self.user.clone()),
        ]
    }
}

async fn begin(browser: &mut Browser<'_>, page: &Answer, ceremony: &str) -> Answer {
    let token = page.field("token");
    let form = [("token", token.as_str()), ("ceremony", ceremony)];
    browser.post("/passkeys/begin", &form).await
}

async fn challenge(browser: &mut Browser<'_>, page: &Answer) -> String {
    let told = begin(browser, page, "login").await.json();
    told["challenge"].as_str().unwrap().to_owned()
}

async fn send(
    browser: &mut Browser<'_>,
    path: &str,
    page: &Answer,
    fields: &[(&str, String)],
) -> Answer {
    let token = page.field("token");
    let mut form = vec![("token", token.as_str())];
    form.extend(fields.iter().map(|(n, v)| (*n, v.as_str())));
    browser.post(path, &form).await
}

/// What the registration form of a page sends for the options the portal gave.
fn registration(device: &mut Device, told: &Value) -> Vec<(&'static str, String)> {
    let challenge = told["challenge"].as_str().unwrap().to_owned();
    device.user = told["user"].as_str().unwrap().to_owned();
    let made = device
        .passkey
        .register(Digest32::parse(&challenge).unwrap())
        .unwrap();
    vec![
        ("challenge", challenge),
        ("id", b64u(&made.id.0)),
        ("client_data", b64u(&made.client_data.0)),
        ("attestation", b64u(&made.attestation.0)),
        ("transports", made.transports.join(" ")),
        ("name", "iPhone <b>".to_owned()),
    ]
}

/// Registers in a browser that has just logged in.
async fn register(browser: &mut Browser<'_>, device: &mut Device) -> Answer {
    let page = browser.get("/security").await;
    let told = begin(browser, &page, "register").await.json();
    let fields = registration(device, &told);
    send(browser, "/passkeys", &page, &fields).await
}

/// A person with a passkey, not logged in any more.
async fn with_passkey(stack: &Stack, login: &str, behaviour: Behaviour, seed: u64) -> Device {
    let mut browser = Browser::new(stack);
    browser.log_in(login).await;
    let mut device = Device::new(behaviour, seed);
    let done = register(&mut browser, &mut device).await;
    assert_eq!(done.location(), "/security");
    stack.next_code();
    device
}

/// Logs in at a fresh browser's login page; answers what the portal says.
async fn log_in(stack: &Stack, device: &mut Device) -> Answer {
    let mut browser = Browser::new(stack);
    let page = browser.get("/login").await;
    let challenge = challenge(&mut browser, &page).await;
    send(
        &mut browser,
        "/login/passkey",
        &page,
        &device.answer(&challenge),
    )
    .await
}

#[tokio::test]
async fn a_passkey_registered_after_a_login_logs_in_and_is_managed() {
    for stack in stacks().await {
        let mut device = with_passkey(&stack, "hanako", honest(), 1).await;
        let mut browser = Browser::new(&stack);
        let page = browser.get("/login").await;
        assert!(page.body.contains("data-passkey=\"login\"") && page.body.contains("<script"));
        let planted = browser.cookie.clone();
        let first = challenge(&mut browser, &page).await;
        let fields = device.answer(&first);
        let done = send(&mut browser, "/login/passkey", &page, &fields).await;
        assert_eq!(done.location(), "/keys");
        assert_ne!(browser.cookie, planted);
        assert_eq!(browser.get("/keys").await.status, StatusCode::OK);

        let settings = browser.get("/security").await;
        assert!(
            !settings.body.contains("<b>") && settings.body.contains("iPhone"),
            "{}",
            settings.body
        );
        assert!(settings.body.contains("Can be synced"), "{}", settings.body);
        let id = settings.body.split("/passkeys/").nth(1).unwrap();
        let id = id.split('/').next().unwrap().to_owned();
        let name = [("name", " 仕事の電話 ".to_owned())];
        let path = format!("/passkeys/{id}/name");
        send(&mut browser, &path, &settings, &name).await;
        let settings = browser.get("/security").await;
        assert!(settings.body.contains("仕事の電話"), "{}", settings.body);
        // Somebody else can do nothing with it.
        let mut taro = Browser::new(&stack);
        taro.log_in("taro").await;
        let his = taro.get("/security").await;
        for path in [
            format!("/passkeys/{id}/name"),
            format!("/passkeys/{id}/remove"),
        ] {
            let answer = send(&mut taro, &path, &his, &name).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        }
        assert!(log_in(&stack, &mut device).await.status.is_redirection());
        // Whoever found the device is logged in with it, until its passkey is removed.
        let mut finder = Browser::new(&stack);
        let page = finder.get("/login").await;
        let asked = challenge(&mut finder, &page).await;
        let fields = device.answer(&asked);
        send(&mut finder, "/login/passkey", &page, &fields).await;
        assert_eq!(finder.get("/keys").await.status, StatusCode::OK);
        let path = format!("/passkeys/{id}/remove");
        send(&mut browser, &path, &settings, &[]).await;
        assert!(finder.get("/keys").await.location().starts_with("/login"));
        assert_eq!(browser.get("/keys").await.status, StatusCode::OK);
        let gone = log_in(&stack, &mut device).await;
        assert_eq!(gone.status, StatusCode::FORBIDDEN);
        assert!(
            gone.body.contains("didn&#39;t log you in") || gone.body.contains("didn't log you in")
        );
        let kinds = stack.audit_kinds().await;
        for kind in ["login.method-added", "login.method-removed"] {
            assert_eq!(kinds.iter().filter(|k| *k == kind).count(), 1, "{kind}");
        }
    }
}

// shows: T-USE-SAP-BYPASS
#[tokio::test]
async fn a_passkey_login_goes_on_with_the_authorization_that_asked_for_it() {
    for stack in stacks().await {
        let mut device = with_passkey(&stack, "hanako", honest(), 1).await;
        let mut browser = Browser::new(&stack);
        let page = browser.authorize(&service_request("app")).await;
        let challenge = challenge(&mut browser, &page).await;
        let mut fields = device.answer(&challenge);
        fields.push(("flow", page.field("flow")));
        let done = send(&mut browser, "/login/passkey", &page, &fields).await;
        let done = browser.follow(done).await;
        assert!(done.param("code").is_some(), "{}", done.location());
    }
}

// shows: T-USE-CAPTURE, T-USE-CRED-FORGE
#[tokio::test]
async fn an_assertion_counts_once_in_its_browser_for_its_purpose_and_in_its_time() {
    for stack in stacks().await {
        let mut device = with_passkey(&stack, "hanako", honest(), 1).await;
        let refused = |answer: &Answer| assert_eq!(answer.status, StatusCode::FORBIDDEN);

        let mut browser = Browser::new(&stack);
        let page = browser.get("/login").await;
        let first = challenge(&mut browser, &page).await;
        let fields = device.answer(&first);
        // In another browser, with that one's own form.
        let mut other = Browser::new(&stack);
        let others = other.get("/login").await;
        refused(&send(&mut other, "/login/passkey", &others, &fields).await);
        assert!(
            send(&mut browser, "/login/passkey", &page, &fields)
                .await
                .status
                .is_redirection()
        );
        // Again, in the browser before and after.
        let page = browser.get("/login").await;
        refused(&send(&mut browser, "/login/passkey", &page, &fields).await);

        // A challenge of registering.
        browser.log_in("hanako").await;
        let settings = browser.get("/security").await;
        let told = begin(&mut browser, &settings, "register").await.json();
        let fields = device.answer(told["challenge"].as_str().unwrap());
        refused(&send(&mut browser, "/login/passkey", &settings, &fields).await);

        // One that nobody drew, and one that has run out.
        let page = browser.get("/login").await;
        let fields = device.answer(&Digest32([7; 32]).to_string());
        refused(&send(&mut browser, "/login/passkey", &page, &fields).await);
        let late = challenge(&mut browser, &page).await;
        stack.clock.advance(300);
        let fields = device.answer(&late);
        refused(&send(&mut browser, "/login/passkey", &page, &fields).await);
        assert_eq!(
            stack
                .audit_kinds()
                .await
                .iter()
                .filter(|k| *k == "login.failed")
                .count(),
            5
        );
    }
}

// shows: T-USE-CRED-FORGE, I-4.2.2b-authenticate-with-rsc
#[tokio::test]
async fn what_isn_t_this_persons_passkey_at_this_site_with_the_person_verified_is_refused() {
    for stack in stacks().await {
        let mut device = with_passkey(&stack, "hanako", honest(), 1).await;
        let other = with_passkey(&stack, "taro", honest(), 2).await;
        let behaviours = [
            Behaviour {
                user_verified: false,
                ..honest()
            },
            Behaviour {
                user_present: false,
                ..honest()
            },
            // Another application on the same host: RP IDs know no ports, origins do.
            Behaviour {
                origin: "http://localhost:4002".to_owned(),
                ..honest()
            },
            Behaviour {
                origin: SIC.to_owned(),
                rp_id: "sic.localhost".to_owned(),
                ..honest()
            },
            Behaviour {
                rp_id: "sic.localhost".to_owned(),
                ..honest()
            },
            Behaviour {
                cross_origin: Some(true),
                ..honest()
            },
            Behaviour {
                kind: Some("webauthn.create".to_owned()),
                ..honest()
            },
            Behaviour {
                backup_eligible: false,
                backed_up: false,
                ..honest()
            },
            Behaviour {
                trailing: vec![0],
                ..honest()
            },
        ];
        for behaviour in behaviours {
            device.passkey.behaviour = behaviour.clone();
            let answer = log_in(&stack, &mut device).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{behaviour:?}");
            assert!(!answer.headers.contains_key(header::SET_COOKIE));
        }
        device.passkey.behaviour = honest();
        let own = std::mem::replace(&mut device.user, other.user.clone());
        for user in [other.user.clone(), String::new()] {
            device.user = user;
            let answer = log_in(&stack, &mut device).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN);
        }
        device.user = own.clone();
        // A key of somebody's own under the victim's credential id and handle.
        let mut forged = Device::new(honest(), 3);
        (forged.passkey.id, forged.user) = (device.passkey.id.clone(), own);
        let answer = log_in(&stack, &mut forged).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        // None of that locks anybody out.
        assert!(log_in(&stack, &mut device).await.status.is_redirection());
    }
}

// shows: T-INS-OPERATOR
#[tokio::test]
async fn whoever_writes_into_the_database_gives_nobody_a_passkey() {
    for stack in stacks().await {
        let mut device = with_passkey(&stack, "hanako", honest(), 1).await;
        let mut his = with_passkey(&stack, "taro", honest(), 2).await;
        let hanako = stack.users["hanako"].person.clone();
        // Taro's row is made Hanako's.
        let taro = stack.users["taro"].person.clone();
        let moved: Result<u64, StoreError> = transaction!(stack.store.store, "attack", |tx| {
            let update = sql("UPDATE ssa_passkey SET person = $1 WHERE person = $2");
            let update = update.bind(hanako.as_str()).bind(taro.as_str());
            tx.execute(update).await
        });
        assert_eq!(moved.unwrap(), 1);
        his.user.clone_from(&device.user);
        let answer = log_in(&stack, &mut his).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(log_in(&stack, &mut device).await.status.is_redirection());
    }
}

// shows: T-USE-CRED-ALTER
#[tokio::test]
async fn changing_how_one_logs_in_wants_a_login_of_just_now() {
    for stack in stacks().await {
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        let mut device = Device::new(honest(), 1);
        register(&mut browser, &mut device).await;
        let page = browser.get("/security").await;
        let token = page.field("token");
        let told = begin(&mut browser, &page, "register").await.json();
        // The same authenticator isn't asked twice.
        assert_eq!(told["exclude"][0]["id"], b64u(&device.passkey.id));
        let mut second = Device::new(honest(), 2);
        let fields = registration(&mut second, &told);
        stack.clock.advance(301);
        let again = send(&mut browser, "/passkeys", &page, &fields).await;
        assert_eq!(again.location(), "/login?next=/security");
        let id = page.body.split("/passkeys/").nth(1).unwrap();
        let id = id.split('/').next().unwrap().to_owned();
        for action in ["name", "remove"] {
            let path = format!("/passkeys/{id}/{action}");
            let again = browser
                .post(&path, &[("token", &token), ("name", "x")])
                .await;
            assert_eq!(again.location(), "/login?next=/security", "{action}");
        }
        let options = begin(&mut browser, &page, "register").await;
        assert_eq!(options.status, StatusCode::FORBIDDEN);
        let page = browser.get("/security").await;
        assert!(
            page.body.contains("log in once more") && !page.body.contains("data-passkey"),
            "{}",
            page.body
        );
        // By the passkey itself, too; and the way leads back.
        let login = browser.get("/login?next=/security").await;
        assert!(login.body.contains("log in once more"), "{}", login.body);
        let challenge = challenge(&mut browser, &login).await;
        let mut fields = device.answer(&challenge);
        fields.push(("next", login.field("next")));
        let done = send(&mut browser, "/login/passkey", &login, &fields).await;
        assert_eq!(done.location(), "/security");
        assert!(
            browser
                .get("/security")
                .await
                .body
                .contains("data-passkey=\"register\"")
        );
        let count = stack.audit_kinds().await;
        let count = count.iter().filter(|k| *k == "login.method-added");
        assert_eq!(count.count(), 1);
    }
}

// shows: T-USE-CRED-ALTER
#[tokio::test]
async fn nobody_registers_a_passkey_for_somebody_else() {
    for stack in stacks().await {
        let mut hanako = Browser::new(&stack);
        hanako.log_in("hanako").await;
        let page = hanako.get("/security").await;
        let told = begin(&mut hanako, &page, "register").await.json();
        let mut device = Device::new(honest(), 1);
        let fields = registration(&mut device, &told);
        // With the challenge of Hanako's browser in Taro's, and without any login.
        let mut taro = Browser::new(&stack);
        taro.log_in("taro").await;
        let his = taro.get("/security").await;
        let answer = send(&mut taro, "/passkeys", &his, &fields).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        let mut nobody = Browser::new(&stack);
        let login = nobody.get("/login").await;
        let answer = send(&mut nobody, "/passkeys", &login, &fields).await;
        assert_eq!(answer.location(), "/login?next=/security");
        // From another site.
        let mut form = fields.clone();
        form.push(("token", page.field("token")));
        let request = Request::post("/passkeys")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ORIGIN, "https://evil.example")
            .header("sec-fetch-site", "cross-site");
        let answer = hanako.fetch(request, Body::from(encode(&form))).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        // A registration that says it is for another site, or without verification.
        for behaviour in [
            Behaviour {
                rp_id: "sic.localhost".to_owned(),
                ..honest()
            },
            Behaviour {
                user_verified: false,
                ..honest()
            },
        ] {
            let told = begin(&mut hanako, &page, "register").await.json();
            let mut device = Device::new(behaviour, 4);
            let fields = registration(&mut device, &told);
            let answer = send(&mut hanako, "/passkeys", &page, &fields).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        }
        // A credential that somebody has already.
        stack.next_code();
        let told = begin(&mut hanako, &page, "register").await.json();
        let fields = registration(&mut device, &told);
        send(&mut hanako, "/passkeys", &page, &fields).await;
        let told = begin(&mut taro, &his, "register").await.json();
        let fields = registration(&mut device, &told);
        let answer = send(&mut taro, "/passkeys", &his, &fields).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn other_sessions_end_with_one_press_and_this_one_stays() {
    for stack in stacks().await {
        let mut first = Browser::new(&stack);
        first.log_in("hanako").await;
        stack.next_code();
        let mut second = Browser::new(&stack);
        second.log_in("hanako").await;
        let mut taro = Browser::new(&stack);
        taro.log_in("taro").await;
        let page = second.get("/security").await;
        assert!(page.body.contains("one more browser"), "{}", page.body);
        send(&mut second, "/logout/others", &page, &[]).await;
        assert!(first.get("/keys").await.location().starts_with("/login"));
        assert_eq!(second.get("/keys").await.status, StatusCode::OK);
        assert_eq!(taro.get("/keys").await.status, StatusCode::OK);
        assert!(second.get("/security").await.body.contains("Only here."));
    }
}

#[tokio::test]
async fn everything_ends_with_one_press_here_too() {
    for stack in stacks().await {
        let token = stack.service_token("app", "hanako").await;
        let mut first = Browser::new(&stack);
        first.log_in("hanako").await;
        stack.next_code();
        let mut second = Browser::new(&stack);
        second.log_in("hanako").await;
        let mut taro = Browser::new(&stack);
        taro.log_in("taro").await;
        let page = second.get("/security").await;
        assert!(page.body.contains("action=\"/logout/everywhere\""));
        // A cookie that was copied before is worth nothing afterwards.
        let copied = second.cookie.clone();
        let answer = send(&mut second, "/logout/everywhere", &page, &[]).await;
        assert_eq!(answer.location(), "/");
        let mut thief = Browser::new(&stack);
        thief.cookie = copied;
        for browser in [&mut first, &mut second, &mut thief] {
            assert!(browser.get("/keys").await.location().starts_with("/login"));
        }
        let list = stack.csc("credentials/list", &token, "{}").await;
        assert_eq!(list.told().1, "expired_token");
        assert_eq!(taro.get("/keys").await.status, StatusCode::OK);
    }
}
