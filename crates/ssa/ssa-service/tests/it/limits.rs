//! How often somebody may call, and how much may wait.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use futures_util::stream::{self, StreamExt as _};
use service_kit::{Peer, Rate};
use ssa_service::{ClientSettings, Rates};
use store_kit::sql;
use tower::ServiceExt as _;

use crate::oauth::client;
use crate::web::{Answer, Browser, Stack, encode, service_request, stacks_with, until};

const FEW: Rate = Rate {
    burst: 3,
    per_minute: 6,
};

fn rates(set: impl Fn(&mut Rates)) -> impl Fn(&mut ssa_service::Config) {
    move |config| set(&mut config.rates)
}

/// A request from this address.
async fn from(
    stack: &Stack,
    addr: &str,
    request: axum::http::request::Builder,
    body: String,
) -> Answer {
    let addr: IpAddr = addr.parse().unwrap();
    let peer = Peer {
        name: String::new(),
        addr: (addr, 1).into(),
    };
    let request = request.extension(peer).body(Body::from(body)).unwrap();
    stack.send(request).await
}

async fn list(stack: &Stack, version: u8, addr: &str, token: &str) -> Answer {
    let request = Request::post(format!("/csc/v{version}/credentials/list"))
        .header(header::AUTHORIZATION, format!("Bearer {token}"));
    from(stack, addr, request, "{}".to_owned()).await
}

fn assert_waits(answer: &Answer) {
    assert_eq!(
        answer.status,
        StatusCode::TOO_MANY_REQUESTS,
        "{}",
        answer.body
    );
    let seconds: u32 = answer.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=10).contains(&seconds), "{seconds}");
}

// shows: T-USE-SAP-BYPASS
#[tokio::test]
async fn an_address_that_proves_nothing_has_to_wait_and_hears_so_in_the_words_of_what_it_called() {
    for stack in stacks_with(rates(|r| r.address = FEW)).await {
        let bad = "192.0.2.1";
        for _ in 0..3 {
            let wrong = list(&stack, 2, bad, "guess").await;
            assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
        }
        let entries = stack.audit_kinds().await.len();
        for version in [1, 2] {
            let csc = list(&stack, version, bad, "guess").await;
            assert_waits(&csc);
            assert_eq!(csc.json()["error"], "temporarily_unavailable");
            assert_eq!(csc.headers["cache-control"], "no-store");
        }
        let form = encode(&[("client_id", "app"), ("client_secret", "guess")]);
        let request = Request::post("/oauth2/token")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let oauth = from(&stack, bad, request, form).await;
        assert_waits(&oauth);
        assert_eq!(oauth.json()["error"], "temporarily_unavailable");
        let page = Request::get("/login").header(header::ACCEPT_LANGUAGE, "en");
        let page = from(&stack, bad, page, String::new()).await;
        assert_waits(&page);
        assert!(
            page.body
                .contains("Too many requests came from your network"),
            "{}",
            page.body
        );
        assert!(page.headers.contains_key("content-security-policy"));
        assert_eq!(
            stack.audit_kinds().await.len(),
            entries,
            "waiting fills no log"
        );
        // Others go on, and files cost nothing.
        assert_eq!(
            list(&stack, 2, "192.0.2.2", "guess").await.status,
            StatusCode::UNAUTHORIZED
        );
        for _ in 0..5 {
            let file = from(&stack, bad, Request::get("/static/icon.svg"), String::new()).await;
            assert_eq!(file.status, StatusCode::OK);
        }
        stack.clock.advance(10);
        assert_eq!(
            list(&stack, 2, bad, "guess").await.status,
            StatusCode::UNAUTHORIZED
        );
        assert_waits(&list(&stack, 2, bad, "guess").await);
    }
}

#[tokio::test]
async fn whoever_proves_to_be_a_client_is_counted_as_that_client_and_its_person() {
    for mut stack in stacks_with(rates(|r| (r.client, r.person) = (FEW, FEW))).await {
        let settings = ClientSettings {
            rate: Some(Rate::UNLIMITED),
            ..ClientSettings::default()
        };
        client(&mut stack, "busy", settings).await;
        // Each token took a call of its client at the token endpoint.
        let hanako = stack.service_token("app", "hanako").await;
        let taro = stack.service_token("busy", "taro").await;
        let both = stack.service_token("busy", "hanako").await;
        stack.clock.advance(60);
        let good = |answer: &Answer| answer.status == StatusCode::OK;
        for _ in 0..3 {
            assert!(good(&list(&stack, 2, "192.0.2.1", &hanako).await));
        }
        // By whatever address it comes.
        assert_waits(&list(&stack, 2, "192.0.2.7", &hanako).await);
        let form = [("token", hanako.as_str())];
        let answer = stack.client_form("app", "/oauth2/introspect", &form).await;
        assert_waits(&answer);
        // Her calls through another client are hers too; its calls for others go on.
        assert_waits(&list(&stack, 2, "192.0.2.1", &both).await);
        for _ in 0..3 {
            assert!(good(&list(&stack, 1, "192.0.2.1", &taro).await));
        }
        assert_waits(&list(&stack, 1, "192.0.2.1", &taro).await);
        stack.clock.advance(10);
        assert!(good(&list(&stack, 2, "192.0.2.1", &both).await));
    }
}

#[tokio::test]
async fn a_clients_address_is_free_for_good_calls() {
    let set = rates(|r| r.address = FEW);
    for stack in stacks_with(set).await {
        let token = token(&stack).await;
        for _ in 0..10 {
            assert_eq!(
                list(&stack, 2, "198.51.100.1", &token).await.status,
                StatusCode::OK
            );
        }
        // The address is full as before: its own strangers have what there is.
        for _ in 0..3 {
            let wrong = list(&stack, 2, "198.51.100.1", "guess").await;
            assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
        }
        assert_waits(&list(&stack, 2, "198.51.100.1", "guess").await);
    }
}

/// A service token got with pauses.
async fn token(stack: &Stack) -> String {
    let mut browser = Browser::new(stack);
    let page = browser.authorize(&service_request("app")).await;
    stack.clock.advance(60);
    let answer = browser.log_in_here(&page, "hanako").await;
    stack.clock.advance(40);
    let answer = stack.exchange("app", &answer.param("code").unwrap()).await;
    stack.clock.advance(60);
    answer.text("access_token")
}

#[tokio::test]
async fn an_address_behind_our_proxy_is_told_apart() {
    let set = |config: &mut ssa_service::Config| {
        config.rates.address = FEW;
        config.proxies = vec!["10.0.0.1".parse().unwrap()];
    };
    for stack in stacks_with(set).await {
        let call = async |of: &str| {
            let request = Request::get("/login").header("x-forwarded-for", of);
            from(&stack, "10.0.0.1", request, String::new()).await
        };
        for _ in 0..3 {
            assert_eq!(call("203.0.113.1").await.status, StatusCode::OK);
        }
        assert_waits(&call("203.0.113.1").await);
        assert_waits(&call("198.51.100.9, 203.0.113.1").await);
        assert_eq!(call("203.0.113.2").await.status, StatusCode::OK);
    }
}

async fn rows(stack: &Stack, query: &'static str) -> i64 {
    let mut tx = stack.store.read("rows").await.unwrap();
    tx.fetch_one(sql(query)).await.unwrap().int("n").unwrap()
}

#[tokio::test]
async fn what_waits_for_a_client_is_bounded_and_the_newest_stay() {
    let set = |config: &mut ssa_service::Config| config.most_pending = 5;
    for stack in stacks_with(set).await {
        let push = async |client: &str, more: usize| {
            let mut request = service_request(client);
            request.push(("clientData", "x".repeat(more)));
            let form: Vec<(&str, &str)> = request.iter().map(|(n, v)| (*n, v.as_str())).collect();
            let pushed = stack
                .client_form(client, "/oauth2/pushed_authorize", &form)
                .await;
            assert_eq!(pushed.status, StatusCode::CREATED, "{}", pushed.body);
            stack.clock.advance(1);
            pushed.text("request_uri")
        };
        let others = push("other", 1).await;
        let mut uris = Vec::new();
        for _ in 0..8 {
            uris.push(push("app", 1).await);
        }
        let own = "SELECT COUNT(*) AS n FROM ssa_pushed WHERE client = 'app'";
        assert_eq!(rows(&stack, own).await, 5);
        let begin = async |client: &str, uri: &str| {
            let form = vec![
                ("client_id", client.to_owned()),
                ("request_uri", uri.to_owned()),
            ];
            Browser::new(&stack).authorize(&form).await.status
        };
        assert_eq!(
            begin("app", &uris[2]).await,
            StatusCode::BAD_REQUEST,
            "the oldest gave way"
        );
        assert_eq!(begin("app", &uris[3]).await, StatusCode::OK);
        assert_eq!(
            begin("other", &others).await,
            StatusCode::OK,
            "another's stays"
        );
        // By size too: five may have 320 KiB together.
        for _ in 0..4 {
            push("app", 150 << 10).await;
        }
        assert_eq!(rows(&stack, own).await, 2);
        // In browsers: those nobody has begun to answer.
        for _ in 0..8 {
            Browser::new(&stack)
                .authorize(&service_request("app"))
                .await;
            stack.clock.advance(1);
        }
        let flows = "SELECT COUNT(*) AS n FROM ssa_flow WHERE client = 'app'";
        assert_eq!(rows(&stack, flows).await, 5);
    }
}

#[tokio::test]
async fn bodies_that_dont_end_take_room_of_their_address_alone() {
    for stack in crate::web::stacks().await {
        let request = |addr: &str| {
            let peer = Peer {
                name: String::new(),
                addr: (addr.parse::<IpAddr>().unwrap(), 1).into(),
            };
            let basic = core_types::bytes::b64(format!("app:{}", stack.clients["app"]));
            Request::post("/oauth2/pushed_authorize")
                .header(header::AUTHORIZATION, format!("Basic {basic}"))
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .extension(peer)
        };
        let good = async |addr: &str| {
            let form = Body::from(encode(&service_request("app")));
            stack.send(request(addr).body(form).unwrap()).await.status
        };
        // That there is no room is no fault of the call.
        let later = async |path: &str, kind: &str| {
            let mut request = request("192.0.2.1").body(Body::from("{}")).unwrap();
            *request.uri_mut() = path.parse().unwrap();
            let kind = kind.parse().unwrap();
            request.headers_mut().insert(header::CONTENT_TYPE, kind);
            request.headers_mut().remove(header::AUTHORIZATION);
            let answer = stack.send(request).await;
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
            assert!(answer.headers.contains_key(header::RETRY_AFTER), "{path}");
            let told = answer.json();
            assert_eq!(told["error"], "temporarily_unavailable", "{path}");
        };
        let part = axum::body::Bytes::from(vec![b'a'; 1 << 20]);
        let mut slow = Vec::new();
        for _ in 0..16 {
            let came = Arc::new(AtomicBool::new(false));
            let told = came.clone();
            let parts = stream::iter([(); 4].map(|()| Ok::<_, std::io::Error>(part.clone())));
            let rest = stream::poll_fn(move |_| {
                told.store(true, Ordering::Relaxed);
                Poll::Pending
            });
            let body = Body::from_stream(parts.chain(rest));
            let call = stack.ssa.router();
            slow.push(tokio::spawn(
                call.oneshot(request("192.0.2.1").body(body).unwrap()),
            ));
            until("a body's first parts", async || {
                came.load(Ordering::Relaxed).then_some(())
            })
            .await;
        }
        later("/oauth2/token", "application/x-www-form-urlencoded").await;
        later("/csc/v2/info", "application/json").await;
        assert_eq!(good("192.0.2.1").await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(good("192.0.2.2").await, StatusCode::CREATED);
        for call in slow {
            call.abort();
            assert!(call.await.is_err());
        }
        assert_eq!(good("192.0.2.1").await, StatusCode::CREATED);
    }
}

#[tokio::test]
async fn devices_that_wait_are_bounded_and_what_they_asked_for_is_forgotten_in_time() {
    let set = |config: &mut ssa_service::Config| config.most_pending = 5;
    for mut stack in stacks_with(set).await {
        let settings = ClientSettings {
            device: true,
            ..ClientSettings::default()
        };
        client(&mut stack, "terminal", settings).await;
        let begin = async |name: &str, bytes: usize| {
            let value = "x".repeat(bytes);
            let form = [("scope", "service"), (name, &value)];
            let answer = stack
                .client_form("terminal", "/oauth2/device_authorization", &form)
                .await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
            stack.clock.advance(1);
        };
        let count = "SELECT COUNT(*) AS n FROM ssa_device";
        let bytes = "SELECT CAST(SUM(LENGTH(params)) AS BIGINT) AS n FROM ssa_device";
        for _ in 0..8 {
            begin("what_nobody_reads", 100 << 10).await;
        }
        assert_eq!(rows(&stack, count).await, 5);
        assert!(rows(&stack, bytes).await < 5 << 10);
        // By size too: five may have 320 KiB together.
        for _ in 0..4 {
            begin("clientData", 150 << 10).await;
        }
        assert_eq!(rows(&stack, count).await, 2);
        stack.clock.advance(15 * 60);
        begin("clientData", 1).await;
        assert_eq!(rows(&stack, count).await, 3, "old codes are still known");
        assert!(rows(&stack, bytes).await < 1 << 10);
    }
}

#[tokio::test]
async fn trips_to_a_login_elsewhere_are_few_and_small() {
    let (_dir, stacks) = crate::certificates::with_cas(|_| {}).await;
    for stack in stacks {
        let mut browser = Browser::new(&stack);
        let page = browser.get("/login").await;
        let token = page.field("token");
        let mut ways = Vec::new();
        for n in 0..12 {
            let next = format!("/keys{}", "x".repeat(5000 * n));
            let form = [("token", token.as_str()), ("flow", ""), ("next", &next)];
            let away = browser.post("/login/certificate", &form).await;
            ways.push(away.location());
            stack.clock.advance(1);
        }
        let count = "SELECT COUNT(*) AS n FROM ssa_trip";
        assert_eq!(rows(&stack, count).await, 8);
        let longest = "SELECT CAST(MAX(LENGTH(state)) AS BIGINT) AS n FROM ssa_trip";
        assert!(rows(&stack, longest).await < 1 << 10);
        let next = "x".repeat(70 << 10);
        let form = [("token", token.as_str()), ("flow", ""), ("next", &next)];
        let long = browser.post("/login/certificate", &form).await;
        assert_eq!(long.status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn tries_while_a_name_has_to_wait_are_one_entry_each_time() {
    for stack in crate::web::stacks().await {
        let attempt = async |login: &str| {
            let mut browser = Browser::new(&stack);
            let page = browser.get("/login").await;
            browser.submit_login(&page, login, "wrong", "000000").await
        };
        let count = async |kind: &str| {
            let kinds = stack.audit_kinds().await;
            kinds.iter().filter(|k| *k == kind).count()
        };
        for login in ["hanako", "nobody"] {
            let (failed, waited) = (count("login.failed").await, count("login.waited").await);
            for _ in 0..25 {
                attempt(login).await;
            }
            // Five that were compared, and the first of those that were not.
            assert_eq!(count("login.failed").await - failed, 6, "{login}");
            assert_eq!(count("login.waited").await, waited);
            stack.clock.advance(31);
            attempt(login).await;
            assert_eq!(count("login.waited").await - waited, 1, "{login}");
            let body = "SELECT body AS b FROM audit_entry WHERE kind = 'login.waited' ORDER BY n DESC LIMIT 1";
            let mut tx = stack.store.read("entry").await.unwrap();
            let body = tx.fetch_one(sql(body)).await.unwrap().text("b").unwrap();
            assert!(body.contains("\"tries\":20"), "{body}");
            // Tries that nobody followed up are told when the name is forgotten.
            attempt(login).await;
            drop(tx);
            stack.clock.advance(2 * 24 * 60 * 60);
            attempt(login).await;
            assert_eq!(count("login.waited").await - waited, 2, "{login}");
        }
    }
}
