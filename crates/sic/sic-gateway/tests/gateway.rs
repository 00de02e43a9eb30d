//! The gateway as the network sees it.

#![expect(clippy::unwrap_used, reason = "helpers of a test may panic")]

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use core_types::clock::ManualClock;
use core_types::rpc::Method as _;
use core_types::{UnixTime, sha256};
use jose::SigningKey;
use sap::messages::{Approve, BringNotice, Keys, MAX_NOTICE};
use sap::office::calls::Beside;
use service_kit::Rate;
use sic_gateway::{
    Forward, ForwardError, GatewayConfig, MAX_ANSWER, MAX_REQUEST, Neighbour, router, router_beside,
};
use tower::ServiceExt as _;

/// Paths and bodies.
type Seen = Vec<(String, Vec<u8>)>;
type Answer = Result<(u16, Vec<u8>), ForwardError>;

/// Answers what it is told and remembers what reached it.
#[derive(Clone)]
struct Sam {
    answer: Answer,
    seen: Arc<Mutex<Seen>>,
}

impl Forward for Sam {
    async fn forward(&self, path: &'static str, body: Vec<u8>) -> Answer {
        self.seen.lock().unwrap().push((path.to_owned(), body));
        self.answer.clone()
    }
}

fn gateway(answer: Answer) -> (Router, Sam) {
    let root = SigningKey::generate().unwrap().0.public().clone();
    let mut config = GatewayConfig::new(vec![root], "http://sic.localhost:8402").unwrap();
    config.dev = true;
    config.rate = Rate {
        burst: 5,
        per_minute: 60,
    };
    let sam = Sam {
        answer,
        seen: Arc::default(),
    };
    let clock = Arc::new(ManualClock::at(UnixTime(1000)));
    (router(config, sam.clone(), clock), sam)
}

fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
    request.body(body.into()).unwrap()
}

async fn send(
    router: &Router,
    request: Request<Body>,
) -> (StatusCode, axum::http::HeaderMap, Vec<u8>) {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    (
        parts.status,
        parts.headers,
        to_bytes(body, usize::MAX).await.unwrap().to_vec(),
    )
}

async fn get(router: &Router, path: &str) -> (StatusCode, axum::http::HeaderMap, String) {
    let (status, headers, body) =
        send(router, Request::get(path).body(Body::empty()).unwrap()).await;
    (status, headers, String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn messages_pass_as_they_stand() {
    let (router, sam) = gateway(Ok((422, br#"{"code":"refused"}"#.to_vec())));
    let (status, headers, body) = send(&router, post(Approve::PATH, r#"{"any": "thing"}"#)).await;
    assert_eq!(
        (status, body.as_slice()),
        (
            StatusCode::UNPROCESSABLE_ENTITY,
            br#"{"code":"refused"}"#.as_slice()
        )
    );
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(
        *sam.seen.lock().unwrap(),
        [(Approve::PATH.to_owned(), br#"{"any": "thing"}"#.to_vec())]
    );
}

// shows: T-USE-SAP-BYPASS, II-3.3.1-sap-endpoint
#[tokio::test]
async fn nothing_else_of_the_sam_can_be_reached() {
    let (router, sam) = gateway(Ok((200, b"{}".to_vec())));
    for path in [
        "/sam/v1/prepare",
        "/sam/v1/bind",
        "/sam/v1/sign",
        "/sap/v1/",
        "/sap/v1/keys/..",
        "/sap/v1/Keys",
    ] {
        assert_eq!(
            send(&router, post(path, "{}")).await.0,
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
    assert_eq!(
        get(&router, Keys::PATH).await.0,
        StatusCode::METHOD_NOT_ALLOWED
    );
    let mut foreign = post(Keys::PATH, "{}");
    foreign
        .headers_mut()
        .insert(header::ORIGIN, "http://evil.test".parse().unwrap());
    assert_eq!(send(&router, foreign).await.0, StatusCode::FORBIDDEN);
    let mut form = post(Keys::PATH, "{}");
    form.headers_mut()
        .insert(header::CONTENT_TYPE, "text/plain".parse().unwrap());
    assert_eq!(
        send(&router, form).await.0,
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
    assert!(sam.seen.lock().unwrap().is_empty());
    let mut own = post(Keys::PATH, "{}");
    own.headers_mut()
        .insert(header::ORIGIN, "http://sic.localhost:8402".parse().unwrap());
    assert_eq!(send(&router, own).await.0, StatusCode::OK);
}

/// What another zone shows is asked for only after the SAM has let the account look, and nobody but officers gets there.
// shows: I-7.1.4.6-deny-by-default
#[tokio::test]
async fn another_zone_is_asked_only_when_the_sam_lets_an_officer_look() {
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let at = |who: &str, answer: Answer| Sam {
        answer: answer.map(|(status, body)| (status, [who.as_bytes(), &body].concat())),
        seen: seen.clone(),
    };
    let begin = |office: bool, sam: Answer| {
        let root = SigningKey::generate().unwrap().0.public().clone();
        let mut config = GatewayConfig::new(vec![root], "http://sic.localhost:8402").unwrap();
        config.office = office;
        let beside = vec![
            Neighbour {
                name: "shop".to_owned(),
                clients: Some(at("clients", Ok((200, b"{}".to_vec())))),
                log: Some(at("log", Ok((200, b"{}".to_vec())))),
            },
            Neighbour {
                name: "cm".to_owned(),
                clients: None,
                log: Some(at("cm", Ok((403, Vec::new())))),
            },
        ];
        let clock = Arc::new(ManualClock::at(UnixTime(1000)));
        router_beside(config, at("", sam), beside, clock)
    };
    let asks = |zone: &str, what: &str, search: &str| {
        let session = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let body =
            serde_json::json!({"session": session, "zone": zone, "what": what, "search": search});
        post(Beside::PATH, body.to_string())
    };
    let paths = || {
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        seen.into_iter().map(|(path, _)| path).collect::<Vec<_>>()
    };
    let yes = begin(true, Ok((200, b"{}".to_vec())));
    let (status, headers, body) = send(&yes, asks("shop", "clients", "")).await;
    assert_eq!(
        (status, body.as_slice()),
        (StatusCode::OK, b"clients{}".as_slice())
    );
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(paths(), [Beside::PATH, "/ssa/v1/client/list"]);
    let (status, _, body) = send(&yes, asks("shop", "log", "{\"kinds\":[]}")).await;
    assert_eq!(
        (status, body.as_slice()),
        (StatusCode::OK, b"log{}".as_slice())
    );
    assert_eq!(seen.lock().unwrap()[1].1, b"{\"kinds\":[]}");
    assert_eq!(paths(), [Beside::PATH, "/search"]);
    // How it is has nothing to choose, whatever the page says.
    let (status, ..) = send(&yes, asks("shop", "state", "{\"kinds\":[]}")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(seen.lock().unwrap()[1].1, b"{}");
    assert_eq!(paths(), [Beside::PATH, "/state"]);
    // A zone that refuses the gateway gives no answer.
    let (status, ..) = send(&yes, asks("cm", "log", "{}")).await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
    paths();
    // What isn't there isn't asked for, nor is the SAM.
    for (zone, what) in [
        ("cm", "clients"),
        ("sam", "log"),
        ("shop", "keys"),
        ("a/b", "log"),
    ] {
        let (status, ..) = send(&yes, asks(zone, what, "")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{zone} {what}");
        assert!(paths().is_empty());
    }
    // No and nothing of the SAM are neither of them yes.
    for (answer, told) in [
        (Ok((422, b"{}".to_vec())), StatusCode::UNPROCESSABLE_ENTITY),
        (Ok((503, b"{}".to_vec())), StatusCode::GATEWAY_TIMEOUT),
        (Err(ForwardError::Unknown), StatusCode::GATEWAY_TIMEOUT),
        (
            Err(ForwardError::Unreachable),
            StatusCode::SERVICE_UNAVAILABLE,
        ),
    ] {
        let no = begin(true, answer);
        assert_eq!(send(&no, asks("shop", "clients", "")).await.0, told);
        assert_eq!(paths(), [Beside::PATH]);
    }
    let mut foreign = asks("shop", "clients", "");
    let evil = "http://evil.test".parse().unwrap();
    foreign.headers_mut().insert(header::ORIGIN, evil);
    assert_eq!(send(&yes, foreign).await.0, StatusCode::FORBIDDEN);
    // Signers have no such call.
    let signers = begin(false, Ok((200, b"{}".to_vec())));
    assert_eq!(
        send(&signers, asks("shop", "clients", "")).await.0,
        StatusCode::NOT_FOUND
    );
    assert!(paths().is_empty());
    let (.., config) = get(&yes, "/sic/config.json").await;
    assert!(
        config.contains(r#"{"name":"shop","clients":true,"log":true}"#),
        "{config}"
    );
}

#[tokio::test]
async fn sizes_and_rates_are_limited() {
    let (router, sam) = gateway(Ok((200, b"{}".to_vec())));
    assert_eq!(
        send(&router, post(Keys::PATH, "x".repeat(MAX_REQUEST + 1)))
            .await
            .0,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    assert!(sam.seen.lock().unwrap().is_empty());
    for _ in 0..5 {
        assert_eq!(
            send(&router, post(Keys::PATH, "x".repeat(MAX_REQUEST)))
                .await
                .0,
            StatusCode::OK
        );
    }
    let (status, headers, _) = send(&router, post(Keys::PATH, "{}")).await;
    assert_eq!(
        (status, &headers[header::RETRY_AFTER]),
        (StatusCode::TOO_MANY_REQUESTS, &"1".parse().unwrap())
    );
    let (router, _) = gateway(Ok((200, vec![b' '; MAX_ANSWER + 1])));
    assert_eq!(
        send(&router, post(Keys::PATH, "{}")).await.0,
        StatusCode::GATEWAY_TIMEOUT
    );
}

// shows: I-A4.2-revocation-prompt-destruction
#[tokio::test]
async fn an_authoritys_notice_passes_if_it_is_small_and_comes_by_no_officers_page() {
    let (router, sam) = gateway(Ok((200, b"{}".to_vec())));
    let notice = |length: usize| {
        let text = serde_json::json!({"notice": "x".repeat(length)}).to_string();
        post(BringNotice::PATH, text)
    };
    let (status, _, answer) = send(&router, notice(MAX_NOTICE)).await;
    assert_eq!((status, answer.as_slice()), (StatusCode::OK, &b"{}"[..]));
    assert_eq!(sam.seen.lock().unwrap()[0].0, BringNotice::PATH);
    let (status, ..) = send(&router, notice(MAX_NOTICE + 64)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(sam.seen.lock().unwrap().len(), 1);
    // As often as everything else.
    for _ in 0..4 {
        assert_eq!(send(&router, notice(1)).await.0, StatusCode::OK);
    }
    let (status, ..) = send(&router, notice(1)).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);

    let root = SigningKey::generate().unwrap().0.public().clone();
    let mut config = GatewayConfig::new(vec![root], "http://office.localhost:8403").unwrap();
    config.office = true;
    let clock = Arc::new(ManualClock::at(UnixTime(1000)));
    let office = sic_gateway::router(config, sam, clock);
    let (status, ..) = send(&office, notice(1)).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn not_done_and_unknown_are_told_apart() {
    for (answer, expected) in [
        (
            Err(ForwardError::Unreachable),
            StatusCode::SERVICE_UNAVAILABLE,
        ),
        (Err(ForwardError::Unknown), StatusCode::GATEWAY_TIMEOUT),
        (
            Ok((500, b"a stack trace".to_vec())),
            StatusCode::GATEWAY_TIMEOUT,
        ),
        (Ok((302, vec![])), StatusCode::GATEWAY_TIMEOUT),
    ] {
        let (router, _) = gateway(answer);
        let (status, _, body) = send(&router, post(Keys::PATH, "{}")).await;
        assert_eq!(status, expected);
        assert!(body.is_empty(), "nothing of the zone behind leaks");
    }
}

// shows: T-USE-CAPTURE
#[tokio::test]
async fn pages_carry_the_strict_headers_and_no_cookie() {
    let (router, _) = gateway(Ok((200, b"{}".to_vec())));
    for path in [
        "/a",
        "/e",
        "/nothing",
        "/sic/approve.mjs",
        "/digests.json",
        "/static/ui.css",
    ] {
        let (_, headers, _) = get(&router, path).await;
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        for part in [
            "default-src 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.contains(part), "{path}: {part}");
        }
        assert_eq!(headers[header::REFERRER_POLICY], "no-referrer", "{path}");
        assert_eq!(
            headers["cross-origin-opener-policy"], "same-origin",
            "{path}"
        );
        assert!(!headers.contains_key(header::SET_COOKIE), "{path}");
    }
    let (status, _, html) = get(&router, "/a?lang=en").await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        html.contains("lang=\"en\"") && html.contains("Development."),
        "{html}"
    );
    assert!(
        !html.contains("style=") && !html.contains("onclick"),
        "nothing inline"
    );
    assert_eq!(get(&router, "/nothing").await.0, StatusCode::NOT_FOUND);
}

// shows: T-KEY-DATA-ALTER
#[tokio::test]
async fn what_is_served_has_the_declared_digests() {
    let (router, _) = gateway(Ok((200, b"{}".to_vec())));
    let (_, _, text) = get(&router, "/digests.json").await;
    let declared: std::collections::BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
    for needed in [
        "/a?lang=ja",
        "/e?lang=en",
        "/sic/approve.mjs",
        "/sic/config.json",
        "/sic/messages.ja.json",
    ] {
        assert!(declared.contains_key(needed), "{needed}");
    }
    for (path, digest) in &declared {
        let (status, _, body) = get(&router, path).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert_eq!(sha256(&[body.as_bytes()]).to_string(), *digest, "{path}");
    }
    // Everything a page names is among them, except the icon, which can't do anything.
    let (_, _, html) = get(&router, "/a").await;
    for part in html
        .split('"')
        .filter(|p| p.starts_with('/') && !p.contains('?') && *p != "/static/icon.svg")
    {
        assert!(declared.contains_key(part), "{part}");
    }
}

// shows: T-KEY-DATA-ALTER
#[tokio::test]
async fn what_is_printed_for_officers_to_sign_is_what_is_served() {
    for office in [false, true] {
        let root = SigningKey::generate().unwrap().0.public().clone();
        let mut config = GatewayConfig::new(vec![root], "http://sic.localhost:8402").unwrap();
        config.office = office;
        let sam = Sam {
            answer: Ok((200, b"{}".to_vec())),
            seen: Arc::default(),
        };
        let name = "cm".to_owned();
        let served = Neighbour {
            name: name.clone(),
            clients: None,
            log: Some(sam.clone()),
        };
        let told = Neighbour {
            name,
            clients: None,
            log: Some(()),
        };
        let printed = sic_gateway::digests(config.clone(), &[told]);
        let clock = Arc::new(ManualClock::at(UnixTime(1000)));
        let gateway = router_beside(config, sam, vec![served], clock);
        let (.., text) = get(&gateway, "/digests.json").await;
        let declared: std::collections::BTreeMap<String, String> =
            serde_json::from_str(&text).unwrap();
        assert_eq!(printed, declared, "{office}");
    }
}

// shows: I-7.1.1.5-privileged-unprivileged-separate
#[tokio::test]
async fn officers_and_signers_have_gateways_with_nothing_of_each_others() {
    let (signers, _) = gateway(Ok((200, b"{}".to_vec())));
    let root = SigningKey::generate().unwrap().0.public().clone();
    let mut config = GatewayConfig::new(vec![root], "http://sic.localhost:8403").unwrap();
    config.office = true;
    let sam = Sam {
        answer: Ok((200, b"{}".to_vec())),
        seen: Arc::default(),
    };
    let clock = Arc::new(ManualClock::at(UnixTime(1000)));
    let officers = router(config, sam.clone(), clock);
    let own = ["console", "desk", "log", "measures", "office", "propose"];
    let own = own.map(|name| format!("/sic/{name}.mjs"));
    for path in own.iter().map(String::as_str).chain(["/o"]) {
        assert_eq!(get(&officers, path).await.0, StatusCode::OK, "{path}");
        assert_eq!(get(&signers, path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(get(&officers, "/a").await.0, StatusCode::NOT_FOUND);
    assert_eq!(get(&signers, "/a").await.0, StatusCode::OK);
    let (_, headers, page) = get(&officers, "/o?lang=ja").await;
    assert!(
        page.contains("役職者") && page.contains("/sic/console.mjs"),
        "{page}"
    );
    assert!(headers.contains_key(header::CONTENT_SECURITY_POLICY));
    let texts = |router: Router| async move { get(&router, "/sic/messages.en.json").await.2 };
    assert!(texts(officers.clone()).await.contains("\"office-title\""));
    assert!(!texts(signers.clone()).await.contains("\"office-title\""));
    // The officers' gateway forwards their calls, and no approval of a signer's.
    let audit = sap::office::calls::Audit::PATH;
    assert_eq!(send(&officers, post(audit, "{}")).await.0, StatusCode::OK);
    assert_eq!(
        send(&signers, post(audit, "{}")).await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        send(&officers, post(Approve::PATH, "{}")).await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(sam.seen.lock().unwrap().len(), 1);
}
