//! Notices to clients whose calls didn't wait (`response_uri`): to addresses of the contract alone, signed, sent again, and never
//! into a network that the client can't name.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::post;
use core_types::bytes::{b64, from_b64};
use core_types::{Clock as _, SecretBytes, UnixTime};
use notify::webhook::signature;
use serde_json::{Value, json};
use service_kit::CallError;
use ssa_service::calls::ClientResponseSecret;
use ssa_service::{ClientSettings, Config};
use store_kit::{StoreError, sql, transaction};
use tokio::net::TcpListener;

use crate::manage::{SECURITY, call, named, set};
use crate::oauth::client;
use crate::web::{Stack, hash, stacks, stacks_with, until};

#[derive(Default)]
struct Seen {
    notices: Mutex<Vec<(HeaderMap, Bytes)>>,
    inside: Mutex<u32>,
    answer: Mutex<StatusCode>,
}

/// A client's receiver: takes notices, or answers what it is told to; `/moved` leads somewhere else.
async fn receiver() -> (String, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let take = async |State(seen): State<Arc<Seen>>, headers: HeaderMap, body: Bytes| {
        seen.notices.lock().unwrap().push((headers, body));
        *seen.answer.lock().unwrap()
    };
    let inside = async |State(seen): State<Arc<Seen>>| {
        *seen.inside.lock().unwrap() += 1;
    };
    let moved = async || {
        let to = [(header::LOCATION, "/inside")];
        (StatusCode::TEMPORARY_REDIRECT, to).into_response()
    };
    let router = Router::new()
        .route("/done", post(take))
        .route("/moved", post(moved))
        .route("/inside", post(inside).get(inside))
        .with_state(seen.clone());
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", socket.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(socket, router).await });
    (base, seen)
}

/// A client that may be told at these addresses, and a token of it that signs.
async fn told_at(stack: &mut Stack, uris: &[String]) -> String {
    let settings = ClientSettings {
        response_uris: uris.to_vec(),
        ..ClientSettings::default()
    };
    client(stack, "told", settings).await;
    stack.credential_token("told", "hanako", &[hash(1)]).await
}

async fn begin(stack: &Stack, token: &str, uri: &str) -> Value {
    let body = json!({ "credentialID": "key-hanako", "hashes": [b64(hash(1))], "signAlgo": "1.2.840.10045.4.3.2",
        "operationMode": "A", "response_uri": uri });
    let answer = stack
        .csc("signatures/signHash", token, &body.to_string())
        .await;
    answer.json()
}

/// Failures of the notices that wait, and when they are sent again.
async fn waiting(stack: &Stack) -> Vec<(i64, i64)> {
    let mut tx = stack.store.read("notices").await.unwrap();
    let rows = tx.fetch_all(sql("SELECT failures, next FROM ssa_notice"));
    let rows = rows.await.unwrap();
    let row = |row: &store_kit::Row| (row.int("failures").unwrap(), row.int("next").unwrap());
    rows.iter().map(row).collect()
}

/// Waits until the call has its outcome, and the first try with its notice is over.
async fn settled(stack: &Stack) -> Vec<(i64, i64)> {
    until("the notice's first try", async || {
        let mut tx = stack.store.read("later").await.unwrap();
        let open = sql("SELECT count(*) AS n FROM ssa_later WHERE notice IS NOT NULL");
        let open = tx.fetch_one(open).await.unwrap().int("n").unwrap();
        drop(tx);
        let waiting = waiting(stack).await;
        let tried = waiting.iter().all(|(failures, _)| *failures > 0);
        (open == 0 && tried).then_some(waiting)
    })
    .await
}

// shows: T-USE-CAPTURE
#[tokio::test]
async fn a_notice_names_the_call_is_signed_and_holds_no_value() {
    for mut stack in stacks().await {
        let (base, seen) = receiver().await;
        let uri = format!("{base}/done");
        let token = told_at(&mut stack, std::slice::from_ref(&uri)).await;
        let begun = begin(&stack, &token, &uri).await;
        assert!(settled(&stack).await.is_empty());
        let (headers, body) = seen.notices.lock().unwrap().pop().unwrap();
        let notice: Value = serde_json::from_slice(&body).unwrap();
        let expected = json!({ "type": "signatures.ready", "responseID": begun["responseID"] });
        assert_eq!(notice, expected);
        // By the secret that security officers hand out, and by no other client's.
        let secret = |id: &'static str| {
            let stack = &stack;
            async move {
                let told = call::<ClientResponseSecret>(stack, SECURITY, &named(id)).await;
                let text = told.unwrap().secret.expose().to_owned();
                let text = text.strip_prefix("whsec_").unwrap().to_owned();
                SecretBytes::new(from_b64(&text).unwrap())
            }
        };
        let text = |name: &str| headers[name].to_str().unwrap();
        let at = UnixTime(text("webhook-timestamp").parse().unwrap());
        let by = |secret: &SecretBytes| signature(secret, text("webhook-id"), at, &body);
        let own = secret("told").await;
        assert_eq!(text("webhook-signature"), by(&own));
        assert_ne!(text("webhook-signature"), by(&secret("app").await));
        set(&stack, "told", |s| s.response_serial += 1)
            .await
            .unwrap();
        assert!(!secret("told").await.ct_eq(own.expose()));
        // The client fetches the values as ever.
        let poll = json!({ "requestID": begun["responseID"] }).to_string();
        let values = stack.csc("signatures/signPolling", &token, &poll).await;
        assert_eq!(values.status, StatusCode::OK, "{}", values.body);
    }
}

#[tokio::test]
async fn what_was_not_delivered_is_sent_again_and_given_up_when_the_receiver_says_so() {
    for mut stack in stacks().await {
        let (base, seen) = receiver().await;
        let uri = format!("{base}/done");
        let token = told_at(&mut stack, std::slice::from_ref(&uri)).await;
        *seen.answer.lock().unwrap() = StatusCode::INTERNAL_SERVER_ERROR;
        begin(&stack, &token, &uri).await;
        let now = stack.clock.now().0;
        assert_eq!(settled(&stack).await, [(1, now + 10)]);
        // Not before its time, and with the same name.
        stack.ssa.send_notices().await.unwrap();
        assert_eq!(seen.notices.lock().unwrap().len(), 1);
        stack.clock.advance(10);
        stack.ssa.send_notices().await.unwrap();
        assert_eq!(waiting(&stack).await, [(2, now + 70)]);
        stack.clock.advance(60);
        *seen.answer.lock().unwrap() = StatusCode::GONE;
        stack.ssa.send_notices().await.unwrap();
        assert!(waiting(&stack).await.is_empty());
        let ids: Vec<_> = seen
            .notices
            .lock()
            .unwrap()
            .iter()
            .map(|(h, _)| h["webhook-id"].clone())
            .collect();
        assert_eq!(ids.len(), 3);
        assert!(ids.iter().all(|id| *id == ids[0]));
    }
}

// shows: I-7.1.3.1-access-control
#[tokio::test]
async fn addresses_outside_the_contract_redirects_and_silence_lead_nowhere() {
    for mut stack in stacks().await {
        let (base, seen) = receiver().await;
        // Takes connections and never answers.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hanging = format!("http://{}/", silent.local_addr().unwrap());
        let uris = [
            format!("{base}/moved"),
            hanging.clone(),
            format!("{base}/done"),
        ];
        let token = told_at(&mut stack, &uris).await;
        for other in [
            format!("{base}/inside"),
            format!("{base}/done?x"),
            format!("{base}/done#x"),
            format!("{base}/DONE"),
            "https://app.example/cb".to_owned(),
            "javascript:alert(1)".to_owned(),
        ] {
            let refused = begin(&stack, &token, &other).await;
            let words = &refused["error_description"];
            assert_eq!(words, "Invalid parameter response_uri", "{other}");
        }
        assert!(
            stack.sam.with(|s| s.signed.is_empty()),
            "nothing was signed"
        );
        // A redirect isn't followed.
        begin(&stack, &token, &uris[0]).await;
        assert_eq!(settled(&stack).await.len(), 1);
        assert_eq!(*seen.inside.lock().unwrap(), 0);
        // Who doesn't answer is left after a while, and the call itself never waited.
        stack.sam.with(|s| s.sign_refusals.clear());
        let token = stack.credential_token("told", "hanako", &[hash(1)]).await;
        begin(&stack, &token, &hanging).await;
        assert_eq!(settled(&stack).await.len(), 2);
        // An address that left the contract meanwhile isn't called any more.
        set(&stack, "told", |s| s.response_uris.clear())
            .await
            .unwrap();
        stack.clock.advance(60);
        stack.ssa.send_notices().await.unwrap();
        assert!(waiting(&stack).await.is_empty());
        assert!(seen.notices.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn nothing_inside_is_called_for_a_client() {
    let outside = |config: &mut Config| config.development = false;
    for mut stack in stacks_with(outside).await {
        let (base, seen) = receiver().await;
        let inward = base.replace("http://", "https://");
        let uris = [format!("{base}/done"), format!("{inward}/done")];
        for uri in &uris {
            let token = match stack.clients.contains_key("told") {
                true => stack.credential_token("told", "hanako", &[hash(1)]).await,
                false => told_at(&mut stack, &uris).await,
            };
            begin(&stack, &token, uri).await;
            assert!(settled(&stack).await.is_empty(), "{uri}: given up");
        }
        assert!(seen.notices.lock().unwrap().is_empty());
    }
}

// shows: T-USE-SAP-REPLAY
#[tokio::test]
async fn a_call_that_lost_its_worker_is_finished_although_nobody_asks() {
    for mut stack in stacks().await {
        let (base, seen) = receiver().await;
        let uri = format!("{base}/done");
        let token = told_at(&mut stack, std::slice::from_ref(&uri)).await;
        stack
            .sam
            .with(|s| s.sign_refusals = vec![CallError::Unreachable]);
        begin(&stack, &token, &uri).await;
        until("the SAM's first call", async || {
            stack.sam.with(|s| (s.signed.len() == 1).then_some(()))
        })
        .await;
        until("the notice", async || {
            stack.clock.advance(150);
            stack.ssa.send_notices().await.unwrap();
            (!seen.notices.lock().unwrap().is_empty()).then_some(())
        })
        .await;
        assert!(settled(&stack).await.is_empty());
        let keys = stack.sam.with(|s| {
            let keys = s.signed.iter().map(|s| s.idempotency_key.clone());
            keys.collect::<Vec<_>>()
        });
        assert!(keys.len() >= 2 && keys.iter().all(|key| *key == keys[0]));
    }
}

#[tokio::test]
async fn one_clients_backlog_holds_up_no_other_client_and_calls_that_wait_are_bounded() {
    let set = |config: &mut Config| config.most_pending = 3;
    for mut stack in stacks_with(set).await {
        let (base, seen) = receiver().await;
        let uri = format!("{base}/done");
        let token = told_at(&mut stack, std::slice::from_ref(&uri)).await;
        let begun = begin(&stack, &token, &uri).await;
        assert!(begun["responseID"].is_string(), "{begun}");
        assert!(settled(&stack).await.is_empty());
        seen.notices.lock().unwrap().clear();
        // A round takes a few of each client, however many one has.
        let backlog = |client: &'static str, n: usize| {
            let store = &stack.store;
            async move {
                transaction!(store, "backlog", |tx| {
                    for n in 0..n {
                        let insert = "INSERT INTO ssa_notice (id, client, notice, failures, next, version) \
                                      VALUES ($1, $2, $3, 0, 0, 0)";
                        let insert = sql(insert).bind(format!("{client}-{n}")).bind(client);
                        tx.execute(insert.bind(&b"x"[..])).await?;
                    }
                    Ok::<_, StoreError>(())
                })
                .unwrap();
            }
        };
        backlog("a-hangs", 50).await;
        backlog("told", 2).await;
        stack.ssa.send_notices().await.unwrap();
        let left =
            sql("SELECT client, COUNT(*) AS n FROM ssa_notice GROUP BY client ORDER BY client");
        let mut tx = stack.store.read("left").await.unwrap();
        let left = tx.fetch_all(left).await.unwrap();
        let left: Vec<_> = left
            .iter()
            .map(|row| (row.text("client").unwrap(), row.int("n").unwrap()))
            .collect();
        assert_eq!(left, [("a-hangs".to_owned(), 46)]);
        drop(tx);
        // Calls whose outcome isn't there yet.
        stack.sam.with(|s| {
            s.sign_refusals = std::iter::repeat_with(|| CallError::Unreachable)
                .take(20)
                .collect();
        });
        let token = stack.credential_token("told", "hanako", &[hash(1)]).await;
        for _ in 0..3 {
            let begun = begin(&stack, &token, &uri).await;
            assert!(begun["responseID"].is_string(), "{begun}");
        }
        let full = begin(&stack, &token, &uri).await;
        assert_eq!(full["error"], "temporarily_unavailable", "{full}");
    }
}
