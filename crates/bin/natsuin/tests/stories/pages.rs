//! The host of the approval page in hostile hands: it serves an altered file, to all or to some, or an unchanged one with something
//! beside, and its own list of digests agrees with it. The monitor finds it by the list that the SAM's log names (`sap.md` §14, 44).

use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};

use audit_log::{AuditLog, Event, LogKey, Sequencer, TABLES, export};
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, REFRESH, USER_AGENT};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{Clock as _, SecretBytes, sha256};
use jose::SigningKey;
use serde_json::{Value, json};
use service_kit::{Shutdown, bind, serve};
use sic_gateway::{Forward, ForwardError, GatewayConfig};
use store_kit::{StoreError, testing, transaction};

use crate::kit::{natsuin, run, text};

const ALTERED: &str = "/sic/approve.mjs";

/// What the host does to what it serves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bend {
    Nothing,
    /// Another script, for telephones.
    Phones,
    /// Another script for everybody, and another list of its own.
    Everybody,
    /// The page as it was, which goes somewhere else.
    Away,
    /// One file isn't there.
    Gone,
}

async fn bend(State(how): State<Arc<Mutex<Bend>>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let agent = request.headers().get(USER_AGENT).cloned();
    let agent = agent.and_then(|agent| agent.to_str().map(str::to_owned).ok());
    let phone = agent.is_some_and(|agent| agent.contains("iPhone"));
    let response = next.run(request).await;
    let how = *how.lock().unwrap();
    match (how, path.as_str()) {
        (Bend::Phones, ALTERED) if phone => more(response).await,
        (Bend::Everybody, ALTERED) => more(response).await,
        (Bend::Everybody, "/digests.json") => axum::Json(json!({})).into_response(),
        (Bend::Gone, ALTERED) => StatusCode::NOT_FOUND.into_response(),
        (Bend::Away, "/a") => {
            let (mut parts, body) = response.into_parts();
            let away = HeaderValue::from_static("0; url=https://sign-exarnple.jp/a");
            parts.headers.insert(REFRESH, away);
            Response::from_parts(parts, body)
        }
        _ => response,
    }
}

/// The file with one statement more.
async fn more(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let mut bytes = to_bytes(body, usize::MAX).await.unwrap().to_vec();
    bytes.extend(b"\nfetch('/x');\n");
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(bytes))
}

/// The page alone.
struct Nowhere;

impl Forward for Nowhere {
    async fn forward(&self, _: &'static str, _: Vec<u8>) -> Result<(u16, Vec<u8>), ForwardError> {
        Err(ForwardError::Unreachable)
    }
}

/// The SAM's log as an auditor has it, in which these lists were declared one after the other.
async fn logged(dir: &Path, lists: &[&str]) {
    let store = testing::sqlite(&[TABLES]).await;
    let secret = SecretBytes::new(vec![1; 32]);
    let log = AuditLog::new("sam", "a", secret, Arc::new(SystemRandom));
    let key = LogKey::from_seed("log.example/sam", &SecretBytes::new(vec![2; 32])).unwrap();
    let sequencer = Sequencer::open(log.clone(), key, None, &store)
        .await
        .unwrap();
    let now = SystemClock.now();
    let done: Result<(), StoreError> = transaction!(store.store, "test", |tx| {
        let restorers = audit_log::Restorers::default();
        log.starts(tx, "1".into(), &[], &restorers, now).await?;
        for list in lists {
            let event = Event::PagesDeclared {
                whose: "signers".into(),
                evidence: sha256(&[list.as_bytes()]),
                files: 1,
            };
            log.append(tx, event, now).await?;
        }
        Ok(())
    });
    done.unwrap();
    sequencer.sequence(&store, now).await.unwrap();
    let public = sequencer.public();
    export(&store, &dir.join("sam"), &public).await.unwrap();
}

fn object(said: &Output) -> Value {
    serde_json::from_slice(&said.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(said)))
}

// shows: T-KEY-DATA-ALTER, T-USE-CAPTURE
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_served_otherwise_than_the_log_says_is_found_whomever_it_is_served_to() {
    let root = SigningKey::generate().unwrap().0.public().clone();
    let config = GatewayConfig::new(vec![root], "http://sic.localhost:8402").unwrap();
    let list = sic_gateway::digests::<Nowhere>(config.clone(), &[]);
    let list = serde_json::to_string_pretty(&list).unwrap();
    let how = Arc::new(Mutex::new(Bend::Nothing));
    let (_open, shutdown) = Shutdown::new();
    let router = sic_gateway::router(config, Nowhere, Arc::new(SystemClock));
    let router = router.layer(from_fn_with_state(how.clone(), bend));
    let socket = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let running = serve(socket, router, None, shutdown).unwrap();
    let url = format!("http://127.0.0.1:{}", running.addr.port());

    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("pages.json"), &list).unwrap();
    logged(&at("log"), &["of the release before", &list]).await;
    let look = |url: &str, file: &str, log: &str| {
        let mut command = natsuin();
        command.args(["audit", "pages", "--json", "--url", url, "--digests"]);
        run(command.arg(at(file)).arg("--export").arg(at(log)))
    };
    let good = look(&url, "pages.json", "log");
    assert_eq!(good.status.code(), Some(0), "{}", text(&good));
    assert_eq!(object(&good)["faults"], json!([]));

    let browsers = ["Chrome", "Firefox", "Safari", "iPhone"];
    for (bent, path, what, of) in [
        (Bend::Phones, ALTERED, "other-bytes", &browsers[3..]),
        (Bend::Everybody, ALTERED, "other-bytes", &browsers[..]),
        (
            Bend::Everybody,
            "/digests.json",
            "other-list",
            &browsers[..],
        ),
        (Bend::Away, "/a", "other-headers", &browsers[..]),
        (Bend::Gone, ALTERED, "other-status", &browsers[..]),
    ] {
        *how.lock().unwrap() = bent;
        let found = look(&url, "pages.json", "log");
        assert_eq!(found.status.code(), Some(1), "{}", text(&found));
        let found = object(&found);
        let faults = found["faults"].as_array().unwrap();
        let of_it = |browser: &&str| {
            let fault = json!({"path": path, "browser": browser, "what": what});
            faults.contains(&fault)
        };
        let named: Vec<&str> = browsers.into_iter().filter(of_it).collect();
        assert_eq!(named, of, "{what} {found}");
    }

    // With a list that suits it: the log doesn't name that one, or not as the last.
    *how.lock().unwrap() = Bend::Nothing;
    std::fs::write(at("edited.json"), list.replace("/a?", "/b?")).unwrap();
    logged(&at("newer"), &[&list, "of the next release"]).await;
    for (file, log) in [("edited.json", "log"), ("pages.json", "newer")] {
        let refused = look(&url, file, log);
        assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
        assert_eq!(object(&refused)["code"], "pages", "{file}");
    }
    let nobody = look("http://127.0.0.1:9", "pages.json", "log");
    assert_eq!(nobody.status.code(), Some(4), "{}", text(&nobody));
}
