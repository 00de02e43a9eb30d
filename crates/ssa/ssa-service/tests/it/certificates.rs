//! Logging in with a certificate: what it takes, what it opens, and who can't.

use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use core_types::random::SeededRandom;
use dev_ca::{DevCa, PERSON_POLICY, Urls};
use pki::Certificate;
use service_kit::PeerCertificates;
use ssa_service::{CertificateRule, Certificates, Config};
use store_kit::{sql, transaction};
use tower::ServiceExt as _;

use crate::web::{Answer, BASE, Browser, START, Stack, credential_request, hash, stacks_with};

pub const ASKING: &str = "https://localhost:4002";

/// Stacks that take certificates of a CA each, which says what was revoked.
pub async fn with_cas(set: impl Fn(&mut Config)) -> (tempfile::TempDir, Vec<Stack>) {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(core_types::clock::ManualClock::at(core_types::UnixTime(
        START,
    )));
    let open = |name: &str| {
        let urls = Urls::under("http://ca");
        let random = Arc::new(SeededRandom::new(7));
        DevCa::open(&dir.path().join(name), urls, clock.clone(), random).unwrap()
    };
    let ready = Mutex::new(vec![open("1"), open("0")]);
    let anchors: Vec<Vec<u8>> = ready
        .lock()
        .unwrap()
        .iter()
        .map(|ca| ca.root().der().to_vec())
        .collect();
    let stacks = stacks_with(|config| {
        let rule = CertificateRule {
            anchors: anchors.clone(),
            intermediates: Vec::new(),
            policies: vec![PERSON_POLICY.to_owned()],
        };
        config.certificates = Some(Certificates {
            url: ASKING.to_owned(),
            login: Some(rule.clone()),
            clients: Some(rule),
        });
        set(config);
    })
    .await;
    for stack in &stacks {
        *stack.net.0.lock().unwrap() = ready.lock().unwrap().pop();
    }
    (dir, stacks)
}

/// A new card of the stack's CA, as its handshake shows it.
pub fn card(stack: &Stack, name: &str) -> PeerCertificates {
    let made = with_ca(stack, |ca| ca.person_cert(name).unwrap());
    shown(&made.chain_pem)
}

pub fn shown(pem: &str) -> PeerCertificates {
    let chain = Certificate::parse_pem(pem).unwrap();
    PeerCertificates(chain.iter().map(|c| c.der().to_vec()).collect())
}

pub fn with_ca<T>(stack: &Stack, look: impl FnOnce(&DevCa) -> T) -> T {
    look(stack.net.0.lock().unwrap().as_ref().unwrap())
}

/// A request to the listener that asks for certificates.
pub async fn at_listener(
    stack: &Stack,
    mut request: Request<Body>,
    card: Option<&PeerCertificates>,
) -> Answer {
    if let Some(card) = card {
        request.extensions_mut().insert(card.clone());
    }
    let response = stack
        .ssa
        .certificate_router()
        .oneshot(request)
        .await
        .unwrap();
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

/// Where the listener sends a browser that shows this card.
async fn show(stack: &Stack, address: &str, card: Option<&PeerCertificates>) -> Answer {
    let path = address.strip_prefix(ASKING).unwrap();
    let request = Request::get(path).body(Body::empty()).unwrap();
    at_listener(stack, request, card).await
}

/// Presses the button of a login page.
async fn press(browser: &mut Browser<'_>, page: &Answer) -> String {
    let (token, flow, next) = (page.field("token"), page.field("flow"), page.field("next"));
    let form = [("token", token.as_str()), ("flow", &flow), ("next", &next)];
    browser.post("/login/certificate", &form).await.location()
}

async fn log_in(
    stack: &Stack,
    browser: &mut Browser<'_>,
    card: Option<&PeerCertificates>,
) -> Answer {
    let page = browser.get("/login").await;
    let there = press(browser, &page).await;
    let back = show(stack, &there, card).await.location();
    browser.get(&back).await
}

async fn bind(stack: &Stack, browser: &mut Browser<'_>, card: &PeerCertificates) -> Answer {
    let page = browser.get("/security").await;
    let token = page.field("token");
    let form = [("token", token.as_str()), ("name", "My card")];
    let there = browser
        .post("/security/certificate", &form)
        .await
        .location();
    let back = show(stack, &there, Some(card)).await.location();
    browser.get(&back).await
}

// shows: I-4.2.2b-authenticate-with-rsc, T-USE-CRED-FORGE,
// I-4.2.2a-rsc-third-party
#[tokio::test]
async fn a_registered_certificate_logs_its_person_in_and_signs_nothing() {
    let (_dir, stacks) = with_cas(|_| {}).await;
    for stack in stacks {
        let card = card(&stack, "hanako");
        let mut browser = Browser::new(&stack);
        // Before it is registered it is nobody's.
        let answer = log_in(&stack, &mut browser, Some(&card)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(
            answer.body.contains("isn&#39;t registered here"),
            "{}",
            answer.body
        );
        browser.log_in("hanako").await;
        assert_eq!(
            bind(&stack, &mut browser, &card).await.location(),
            "/security"
        );
        let page = browser.get("/security").await;
        assert!(page.body.contains("My card") && page.body.contains("CN=hanako"));

        // In another browser it opens the way to the approval page, and not one step further.
        let mut browser = Browser::new(&stack);
        let request = credential_request("app", "key-hanako", &[hash(1)]);
        let page = browser.authorize(&request).await;
        let csp = page.headers["content-security-policy"].to_str().unwrap();
        assert!(csp.contains(ASKING), "{csp}");
        let there = press(&mut browser, &page).await;
        let back = show(&stack, &there, Some(&card)).await.location();
        let answer = browser.get(&back).await;
        let answer = browser.follow(answer).await;
        let (rid, _) = browser.at_sic(&answer);
        let state = stack.sam.with(|s| s.requests[&rid].state);
        assert_eq!(state, sam_api::ssa::RequestState::Open);
        let kinds = stack.audit_kinds().await;
        let count = |kind: &str| kinds.iter().filter(|k| *k == kind).count();
        assert_eq!((count("login.method-added"), count("login.failed")), (1, 1));

        // Taken away, it is nobody's again.
        let page = browser.get("/security").await;
        let id = page.body.split("/links/").nth(1).unwrap();
        let path = format!("/links/{}/remove", id.split('/').next().unwrap());
        let token = page.field("token");
        browser.post(&path, &[("token", &token)]).await;
        let answer = log_in(&stack, &mut Browser::new(&stack), Some(&card)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
    }
}

// shows: T-USE-CRED-FORGE,
// I-4.2.2b-ask-csp
#[tokio::test]
async fn certificates_that_do_not_count_are_refused_for_their_reason() {
    let (_dir, stacks) = with_cas(|_| {}).await;
    for stack in stacks {
        let good = card(&stack, "hanako");
        let mut browser = Browser::new(&stack);
        browser.log_in("hanako").await;
        bind(&stack, &mut browser, &good).await;

        let said = async |card: Option<&PeerCertificates>| {
            let answer = log_in(&stack, &mut Browser::new(&stack), card).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN);
            answer.body
        };
        assert!(said(None).await.contains("No certificate was shown"));
        // A signer's certificate of the same CA; one of a CA that says the same of itself; one with a CA's own.
        let spki = Certificate::parse(&good.0[0]).unwrap().spki().to_vec();
        let subject = pki::name::encode(&[(pki::oid::COMMON_NAME, "hanako")]).unwrap();
        let signer = with_ca(&stack, |ca| ca.issue_for_key(&spki, &subject, 9).unwrap());
        let signer = PeerCertificates(signer.iter().map(|c| c.der().to_vec()).collect());
        assert!(
            said(Some(&signer))
                .await
                .contains("isn&#39;t for logging in")
        );
        let own = tempfile::tempdir().unwrap();
        let clock = stack.clock.clone();
        let random = Arc::new(SeededRandom::new(8));
        let foreign = DevCa::open(own.path(), Urls::under("http://ca"), clock, random).unwrap();
        let foreign = shown(&foreign.person_cert("hanako").unwrap().chain_pem);
        assert!(said(Some(&foreign)).await.contains("of this issuer"));
        let ca = with_ca(&stack, |ca| ca.issuing_ca().der().to_vec());
        said(Some(&PeerCertificates(vec![ca].into()))).await;
        said(Some(&PeerCertificates(vec![vec![0x30, 0]].into()))).await;
        // Nobody can be asked; then somebody says that it was revoked.
        let ca = stack.net.0.lock().unwrap().take();
        assert!(
            said(Some(&good))
                .await
                .contains("can&#39;t be found out now")
        );
        *stack.net.0.lock().unwrap() = ca;
        let entered = log_in(&stack, &mut Browser::new(&stack), Some(&good)).await;
        assert_eq!(entered.location(), "/keys");
        let serial = Certificate::parse(&good.0[0]).unwrap().info().serial;
        with_ca(&stack, |ca| ca.revoke(&serial, 1).unwrap());
        assert!(said(Some(&good)).await.contains("has been revoked"));
        // Its time is over.
        stack.clock.advance(400 * 86_400);
        assert!(
            said(Some(&good))
                .await
                .contains("isn&#39;t valid at this time")
        );
        let kinds = stack.audit_kinds().await;
        let failed = kinds.iter().filter(|k| *k == "login.failed").count();
        assert_eq!(failed, 8);
    }
}

#[tokio::test]
async fn another_policy_is_another_kind_of_certificate() {
    let (_dir, stacks) = with_cas(|config| {
        let login = config.certificates.as_mut().unwrap().login.as_mut();
        login.unwrap().policies = vec!["1.2.3".to_owned()];
    })
    .await;
    for stack in stacks {
        let card = card(&stack, "hanako");
        let answer = log_in(&stack, &mut Browser::new(&stack), Some(&card)).await;
        assert!(
            answer.body.contains("isn&#39;t for logging in"),
            "{}",
            answer.body
        );
    }
}

// shows: T-USE-CAPTURE, T-USE-CRED-FORGE
#[tokio::test]
async fn what_a_card_shows_counts_once_in_the_browser_that_left() {
    let (_dir, stacks) = with_cas(|_| {}).await;
    for stack in stacks {
        let card = card(&stack, "hanako");
        let mut victim = Browser::new(&stack);
        victim.log_in("hanako").await;
        bind(&stack, &mut victim, &card).await;
        stack.next_code();

        // A link that somebody else began is opened by whoever has the card: the other browser gets nothing of it, and the
        // own one isn't led into a login that it didn't ask for.
        let mut attacker = Browser::new(&stack);
        let page = attacker.get("/login").await;
        let link = press(&mut attacker, &page).await;
        let back = show(&stack, &link, Some(&card)).await.location();
        assert_eq!(victim.get(&back).await.status, StatusCode::NOT_FOUND);
        let handle = link.rsplit('/').next().unwrap();
        let guessed = format!("{BASE}/login/certificate/{handle}");
        assert_eq!(attacker.get(&guessed).await.status, StatusCode::NOT_FOUND);
        // The link is used, and so is the way back once it was gone.
        assert_eq!(
            show(&stack, &link, Some(&card)).await.status,
            StatusCode::NOT_FOUND
        );
        let page = victim.get("/login").await;
        let link = press(&mut victim, &page).await;
        let back = show(&stack, &link, Some(&card)).await.location();
        let before = victim.cookie.clone();
        assert_eq!(victim.get(&back).await.location(), "/keys");
        assert_ne!(
            victim.cookie, before,
            "the cookie from before the login isn't used on"
        );
        victim.cookie = before;
        assert_eq!(victim.get(&back).await.status, StatusCode::NOT_FOUND);
        // Too late.
        let page = attacker.get("/login").await;
        let link = press(&mut attacker, &page).await;
        stack.clock.advance(300);
        assert_eq!(
            show(&stack, &link, Some(&card)).await.status,
            StatusCode::NOT_FOUND
        );
        // Forms of other sites begin nothing.
        let forged = [("token", "x"), ("flow", ""), ("next", "")];
        let answer = attacker.post("/login/certificate", &forged).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
    }
}

// shows: T-REG-IMPERSONATE
#[tokio::test]
async fn a_certificate_is_one_persons_until_they_give_it_up_and_the_store_can_not_give_it_away() {
    let (_dir, stacks) = with_cas(|_| {}).await;
    for stack in stacks {
        let mine = card(&stack, "hanako");
        let mut hanako = Browser::new(&stack);
        hanako.log_in("hanako").await;
        bind(&stack, &mut hanako, &mine).await;
        let mut taro = Browser::new(&stack);
        taro.log_in("taro").await;
        assert_eq!(
            bind(&stack, &mut taro, &mine).await.status,
            StatusCode::CONFLICT
        );
        // Long after a login nothing is bound.
        stack.clock.advance(301);
        let page = taro.get("/security").await;
        assert!(!page.body.contains("/security/certificate"));
        let token = page.field("token");
        let late = taro
            .post("/security/certificate", &[("token", &token)])
            .await;
        assert_eq!(late.location(), "/login?next=/security");

        let person = stack.users["taro"].person.clone();
        transaction!(stack.store, "given-away", |tx| {
            let update = sql("UPDATE ssa_link SET person = $1").bind(person.as_str());
            tx.execute(update).await
        })
        .unwrap();
        let answer = log_in(&stack, &mut Browser::new(&stack), Some(&mine)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn without_a_listener_for_certificates_there_is_no_button() {
    for stack in stacks_with(|_| {}).await {
        let mut browser = Browser::new(&stack);
        let page = browser.get("/login").await;
        assert!(!page.body.contains("/login/certificate"));
        let form = [("token", page.field("token"))];
        let form: Vec<(&str, &str)> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let answer = browser.post("/login/certificate", &form).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
    }
}
