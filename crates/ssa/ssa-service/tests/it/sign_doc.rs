//! `signatures/signDoc`: the worker gets the call and the caller's token, once the caller is known; what it answers is passed on,
//! and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use core_types::bytes::{b64, b64u};
use core_types::{HashAlg, KeyAlg};
use csc_types::{CscError, WorkerRefusal};
use sam_api::ssa::RequestState;
use serde_json::{Value, json};
use service_kit::CallError;
use ssa_service::ClientSettings;

use tower::ServiceExt as _;

use crate::oauth::client;
use crate::web::{
    Answer, Browser, REDIRECT, Stack, VERIFIER, credential_request, hash, service_request, stacks,
    until, with,
};

fn body(change: impl FnOnce(&mut Value)) -> String {
    let mut body = json!({ "credentialID": "key-hanako", "documents": [
        { "document": "AQID", "signature_format": "C", "signAlgo": "1.2.840.10045.4.3.2" }] });
    change(&mut body);
    body.to_string()
}

async fn call(stack: &Stack, token: &str, body: &str) -> Answer {
    stack.csc("signatures/signDoc", token, body).await
}

// shows: T-USE-SAP-REPLAY
#[tokio::test]
async fn the_worker_gets_the_callers_token_and_body_and_its_answer_is_passed_on() {
    for stack in stacks().await {
        let signing = stack.document_token("app", "hanako", &[hash(1)]).await;
        let signed = call(&stack, &signing, &body(|_| ())).await;
        assert_eq!(signed.status, StatusCode::OK, "{}", signed.body);
        assert_eq!(signed.json(), json!({ "SignatureObject": ["c2ln"] }));
        let asked = stack.worker.asked.lock().unwrap().pop().unwrap();
        assert_eq!(
            (asked.token.expose(), asked.body),
            (signing.as_str(), body(|_| ()))
        );
        assert_eq!(asked.idempotency_key, None);
        let again = call(&stack, &signing, &body(|_| ())).await;
        assert_eq!(again.told().0, 401);
        // The caller's own name for the call is the one at signHash.
        for (key, carried) in [("call-1", true), ("no name", false)] {
            stack.worker.asked.lock().unwrap().clear();
            let request = Request::post("/csc/v2/signatures/signDoc")
                .header(header::AUTHORIZATION, format!("Bearer {signing}"))
                .header("idempotency-key", key);
            stack
                .send(request.body(Body::from(body(|_| ()))).unwrap())
                .await;
            let asked = stack.worker.asked.lock().unwrap().pop();
            let asked = asked.map(|asked| asked.idempotency_key.unwrap());
            assert_eq!(asked.as_deref(), carried.then_some(key));
        }
        // With a service token beside a SAD, too.
        let service = stack.service_token("app", "hanako").await;
        let sad = stack.document_token("app", "hanako", &[hash(1)]).await;
        let with_sad = body(|b| b["SAD"] = json!(sad));
        let signed = call(&stack, &service, &with_sad).await;
        assert_eq!(signed.status, StatusCode::OK, "{}", signed.body);
        let asked = stack.worker.asked.lock().unwrap().pop().unwrap();
        assert_eq!(asked.token.expose(), service);
    }
}

// shows: T-USE-DTBSR-FORGE
#[tokio::test]
async fn faults_are_told_before_the_worker_hears_of_anything() {
    for mut stack in stacks().await {
        let signing = stack.document_token("app", "hanako", &[hash(1)]).await;
        let service = stack.service_token("app", "hanako").await;
        let request = |text: &str| (400, "invalid_request".to_owned(), text.to_owned());
        for (token, body, text) in [
            (
                &signing,
                body(|b| b["credentialID"] = json!("key-taro")),
                "Invalid parameter credentialID",
            ),
            (
                &signing,
                body(|b| b["documents"] = json!([])),
                "Empty documentDigests and documents objects",
            ),
            (
                &signing,
                body(|b| b["documentDigests"] = json!([{}])),
                "Both documentDigests and documents parameters passed",
            ),
            (
                &signing,
                body(|b| b["documents"][0]["document"] = json!("*")),
                "Invalid Base64 documents string parameter",
            ),
            (
                &signing,
                body(|b| b["SAD"] = json!("another")),
                "Invalid parameter SAD",
            ),
            (
                &service,
                body(|b| b["SAD"] = json!("unknown")),
                "Invalid parameter SAD",
            ),
            (
                &service,
                body(|_| ()),
                "Missing (or invalid type) string parameter SAD",
            ),
            (
                &signing,
                "{".to_owned(),
                "The request body must be one JSON object without repeated members",
            ),
        ] {
            let answer = call(&stack, token, &body).await;
            assert_eq!(answer.told(), request(text), "{body}");
        }
        let long = call(&stack, &signing, &" ".repeat((16 << 20) + 1)).await;
        assert_eq!(long.status, StatusCode::PAYLOAD_TOO_LARGE);
        // Of a stranger not even the length matters.
        let stranger = call(&stack, "unknown", &" ".repeat((16 << 20) + 1)).await;
        assert_eq!(stranger.status, StatusCode::UNAUTHORIZED);
        // The contract counts here as everywhere.
        let settings = ClientSettings {
            methods: vec!["signatures/signHash".to_owned()],
            ..ClientSettings::default()
        };
        client(&mut stack, "hashes", settings).await;
        let token = stack.document_token("hashes", "hanako", &[hash(1)]).await;
        let answer = call(&stack, &token, &body(|_| ())).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(stack.worker.asked.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn details_said_again_mean_what_the_contract_makes_of_them() {
    for stack in stacks().await {
        let settings = ClientSettings {
            documents: true,
            ..ClientSettings::default()
        };
        stack.contract("app", &settings).await;
        let form = |kind: &Value, renewable: &Value| {
            let mut form = credential_request("app", "key-hanako", &[hash(1)]);
            let (_, details) = form.last_mut().unwrap();
            let mut value: Value = serde_json::from_str(details).unwrap();
            value[0]["documentDigests"][0]["hashType"] = kind.clone();
            value[0]["renewableFor"] = renewable.clone();
            *details = value.to_string();
            form
        };
        for (kind, renewable, status) in [
            (json!("sdr"), Value::Null, StatusCode::OK),
            (Value::Null, json!(0), StatusCode::OK),
            (json!("dtbsr"), Value::Null, StatusCode::BAD_REQUEST),
            (json!("sdr"), json!(60), StatusCode::BAD_REQUEST),
        ] {
            let first = form(&Value::Null, &Value::Null);
            let code = Browser::new(&stack)
                .approve_for_code(&first, "hanako")
                .await;
            stack.next_code();
            let again = form(&kind, &renewable);
            let said = [
                ("grant_type", "authorization_code"),
                ("code", code.as_str()),
                ("redirect_uri", REDIRECT),
                ("code_verifier", VERIFIER),
                ("authorization_details", again.last().unwrap().1.as_str()),
            ];
            let answer = stack.client_form("app", "/oauth2/token", &said).await;
            assert_eq!(answer.status, status, "{kind} {renewable}: {}", answer.body);
        }
    }
}

/// What a client asks for in explicit mode or, with `portal`, out of band.
fn ask(key: &str, more: &Value) -> String {
    let data = match key {
        "key-explicit" => {
            json!([{ "id": "PIN", "value": "secret pin" }, { "id": "OTP", "value": "123456" }])
        }
        _ => json!([{ "id": "portal" }]),
    };
    let mut body = json!({ "credentialID": key, "numSignatures": 1, "hashes": [b64(hash(1))],
        "hashAlgorithmOID": HashAlg::Sha256.oid(), "authData": data });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

// shows: T-USE-DTBSR-FORGE
#[tokio::test]
async fn documents_are_signed_on_every_way_where_documents_were_approved() {
    const WORDS: &str = "documentDigests or documents are not authorized by the SAD: it is for hashes of data to be signed; \
                         ask with hashType sdr";
    for mut stack in stacks().await {
        let person = stack.users["hanako"].person.clone();
        stack.sam.add_key(&person, "key-explicit", KeyAlg::P256);
        client(&mut stack, "terminal", ClientSettings::default()).await;
        // Each way, by clients whose contract says that what they ask for are documents, and by others.
        for documents in [false, true] {
            for id in ["app", "terminal"] {
                let settings = ClientSettings {
                    documents,
                    out_of_band: id == "terminal",
                    ..ClientSettings::default()
                };
                stack.contract(id, &settings).await;
            }
            let service = stack.service_token("app", "hanako").await;
            let terminal = stack.service_token("terminal", "hanako").await;
            // The bearer token, the SAD beside it, and whether the SAM was asked for a document.
            let mut rights = Vec::new();
            // By OAuth: no hashType in the details, and the parameters without any.
            let mut rich = credential_request("app", "key-hanako", &[hash(1)]);
            let details = rich.last_mut().map(|(_, details)| details).unwrap();
            *details = details.replace("\"DTBSR\"", "null");
            let mut plain = with(service_request("app"), "scope", Some("credential"));
            plain.extend([
                ("credentialID", "key-hanako".to_owned()),
                ("numSignatures", "1".to_owned()),
                ("hashes", b64u(hash(1))),
                ("hashAlgorithmOID", HashAlg::Sha256.oid().to_owned()),
            ]);
            for form in [rich, plain] {
                let code = Browser::new(&stack).approve_for_code(&form, "hanako").await;
                let token = stack.exchange("app", &code).await.text("access_token");
                stack.next_code();
                rights.push((token, None, documents));
            }
            // With collected secrets and out of band: as the contract has it, or as the call says.
            for (said, wanted) in [
                (json!({}), documents),
                (json!({ "hashType": "sdr" }), true),
                (json!({ "hashType": "dtbsr" }), false),
            ] {
                let method = "credentials/authorize";
                let body = ask("key-explicit", &said);
                let granted = stack.csc(method, &service, &body).await;
                rights.push((service.clone(), Some(granted.text("SAD")), wanted));
                let waits = stack
                    .csc(method, &terminal, &ask("key-hanako", &said))
                    .await;
                let handle = json!({ "handle": waits.text("handle") }).to_string();
                stack.sam.with(|s| {
                    let all = s.requests.values_mut();
                    all.for_each(|request| request.state = RequestState::Approved);
                });
                let method = "credentials/authorizeCheck";
                let granted = stack.csc(method, &terminal, &handle).await;
                rights.push((terminal.clone(), Some(granted.text("SAD")), wanted));
            }
            for (n, (bearer, sad, wanted)) in rights.iter().enumerate() {
                let key = if sad.is_some() && *bearer == service {
                    "key-explicit"
                } else {
                    "key-hanako"
                };
                let body = body(|body| {
                    body["credentialID"] = json!(key);
                    body["SAD"] = json!(sad);
                });
                let answer = call(&stack, bearer, &body).await;
                if *wanted {
                    assert_eq!(answer.status, StatusCode::OK, "{n}: {}", answer.body);
                } else {
                    let told = (400, "invalid_request".to_owned(), WORDS.to_owned());
                    assert_eq!(answer.told(), told, "{n}");
                }
            }
        }
        // Version 1 has no such method, so its hashes are never of documents.
        let service = stack.service_token("app", "hanako").await;
        let body = json!({ "credentialID": "key-explicit", "numSignatures": 1, "hash": [b64(hash(7))],
            "PIN": "secret pin", "OTP": "123456", "hashType": "sdr" });
        let request = Request::post("/csc/v1/credentials/authorize")
            .header(header::AUTHORIZATION, format!("Bearer {service}"))
            .body(Body::from(body.to_string()));
        let granted = stack.send(request.unwrap()).await;
        assert_eq!(granted.status, StatusCode::OK, "{}", granted.body);
        let mut plain = with(service_request("app"), "scope", Some("credential"));
        plain.extend([
            ("credentialID", "key-hanako".to_owned()),
            ("numSignatures", "1".to_owned()),
            ("hash", b64u(hash(7))),
        ]);
        Browser::new(&stack)
            .approve_for_code(&plain, "hanako")
            .await;
        let bare = stack.sam.with(|s| {
            let items = s.requests.values().flat_map(|r| &r.asked.items);
            let items = items.filter(|item| item.h.0 == hash(7));
            items.map(|item| item.doc.is_none()).collect::<Vec<_>>()
        });
        assert_eq!(bare, [true, true]);
    }
}

#[tokio::test]
async fn calls_that_wait_with_their_documents_leave_room_to_other_clients() {
    for stack in stacks().await {
        let mut tokens = Vec::new();
        for client in ["app", "app", "app", "other"] {
            let token = stack.document_token(client, "hanako", &[hash(1)]).await;
            tokens.push(token);
        }
        // Two whose documents never come.
        let mut slow = Vec::new();
        for token in &tokens[..2] {
            let asked = Arc::new(AtomicBool::new(false));
            let told = asked.clone();
            let nothing = futures_util::stream::poll_fn(move |_| {
                told.store(true, Ordering::Relaxed);
                Poll::<Option<Result<Vec<u8>, std::io::Error>>>::Pending
            });
            let request = Request::post("/csc/v2/signatures/signDoc")
                .header(header::AUTHORIZATION, format!("Bearer {token}"))
                .body(Body::from_stream(nothing));
            let called = stack.ssa.router().oneshot(request.unwrap());
            slow.push(tokio::spawn(called));
            // Whose body is asked for has its room.
            until("the body to be asked for", async || {
                asked.load(Ordering::Relaxed).then_some(())
            })
            .await;
        }
        let own = call(&stack, &tokens[2], &body(|_| ())).await;
        assert_eq!(own.told().0, 503, "{}", own.body);
        let other = call(&stack, &tokens[3], &body(|_| ())).await;
        assert_eq!(other.status, StatusCode::OK, "{}", other.body);
        for task in slow {
            task.abort();
        }
    }
}

#[tokio::test]
async fn a_worker_speaks_in_errors_of_the_api_or_not_at_all() {
    for stack in stacks().await {
        let odd = |status, error: &str| WorkerRefusal {
            status,
            error: error.to_owned(),
            description: "internal: /srv/worker".to_owned(),
        };
        let mismatch = "Document or documentDigest does not match authorized hash";
        let later = "The service can't answer now; try again later";
        for (answer, status, error, text) in [
            (
                CallError::Refused(CscError::DocumentMismatch.into()),
                403,
                "invalid_hash",
                mismatch,
            ),
            (
                CallError::Refused(odd(400, "whatever")),
                500,
                "server_error",
                "Internal error",
            ),
            (
                CallError::Refused(odd(200, "invalid_request")),
                500,
                "server_error",
                "Internal error",
            ),
            (
                CallError::Unreachable,
                503,
                "temporarily_unavailable",
                later,
            ),
            (
                CallError::Unknown,
                500,
                "server_error",
                csc_types::OUTCOME_LOST,
            ),
        ] {
            let token = stack.document_token("app", "hanako", &[hash(1)]).await;
            stack.worker.told.lock().unwrap().push(answer);
            let refused = call(&stack, &token, &body(|_| ())).await;
            assert_eq!(refused.told(), (status, error.to_owned(), text.to_owned()));
        }
        let info = stack.csc("info", "x", "{}").await.json();
        assert!(
            info["methods"]
                .as_array()
                .unwrap()
                .contains(&json!("signatures/signDoc"))
        );
    }
}
