//! Calls of `signatures/signHash` that don't wait, and `signatures/signPolling`.

use axum::http::StatusCode;
use core_types::bytes::b64;
use sam_api::Refusal;
use serde_json::{Value, json};
use service_kit::CallError;
use store_kit::sql;

use crate::web::{Answer, Stack, hash, stacks, until};

fn body(members: &Value) -> String {
    let mut body = json!({ "credentialID": "key-hanako", "hashes": [b64(hash(1))],
        "signAlgo": "1.2.840.10045.4.3.2", "operationMode": "A" });
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

async fn begin(stack: &Stack, token: &str, members: &Value) -> Answer {
    stack
        .csc("signatures/signHash", token, &body(members))
        .await
}

/// Waits until whoever works on the only call has written down how far it is.
pub async fn worked(stack: &Stack) {
    until("the call's first step", async || {
        let mut tx = stack.store.read("later").await.unwrap();
        let row = tx.fetch_one(sql("SELECT version FROM ssa_later")).await;
        (row.unwrap().int("version").unwrap() > 0).then_some(())
    })
    .await;
}

fn id(answer: &Answer) -> String {
    let told = answer.json();
    assert!(told.get("signatures").is_none(), "{}", answer.body);
    told["responseID"].as_str().unwrap().to_owned()
}

async fn poll(stack: &Stack, token: &str, id: &str) -> Answer {
    let body = json!({ "requestID": id }).to_string();
    stack.csc("signatures/signPolling", token, &body).await
}

/// Asks until there is an outcome.
async fn outcome(stack: &Stack, token: &str, id: &str) -> Answer {
    until("an outcome", async || {
        let answer = poll(stack, token, id).await;
        (answer.status != StatusCode::ACCEPTED).then_some(answer)
    })
    .await
}

// shows: T-USE-SAP-REPLAY
#[tokio::test]
async fn values_come_later_to_whom_they_belong_and_are_made_once() {
    for stack in stacks().await {
        let signing = stack.credential_token("app", "hanako", &[hash(1)]).await;
        let service = stack.service_token("app", "hanako").await;
        let begun = begin(&stack, &signing, &json!({})).await;
        assert_eq!(begun.status, StatusCode::OK, "{}", begun.body);
        let id = id(&begun);
        for token in [&signing, &service] {
            let got = outcome(&stack, token, &id).await;
            assert_eq!(got.status, StatusCode::OK, "{}", got.body);
            assert_eq!(got.json()["signatures"].as_array().unwrap().len(), 1);
        }
        assert_eq!(stack.sam.with(|s| s.signed.len()), 1);
        // The right is used up, in either mode.
        let again = begin(&stack, &signing, &json!({})).await;
        let again = outcome(&stack, &service, &self::id(&again)).await;
        assert_eq!(again.json()["error_description"], "Invalid parameter SAD");
        // Nobody else sees it, nor finds the request in the store.
        let taro = stack.service_token("app", "taro").await;
        let other = stack.service_token("other", "hanako").await;
        for token in [&taro, &other] {
            let wrong = poll(&stack, token, &id).await;
            assert_eq!(
                wrong.json()["error_description"],
                "Invalid parameter requestID"
            );
        }
        let mut tx = stack.store.read("later").await.unwrap();
        let rows = tx
            .fetch_all(sql("SELECT call FROM ssa_later"))
            .await
            .unwrap();
        assert!(
            rows.iter()
                .all(|row| row.maybe_blob("call").unwrap().is_none())
        );
        drop(tx);
        stack.clock.advance(3600);
        let late = poll(&stack, &stack.service_token("app", "hanako").await, &id).await;
        assert_eq!(
            late.json()["error_description"],
            "Invalid parameter requestID"
        );
    }
}

#[tokio::test]
async fn a_call_that_lost_its_worker_is_taken_up_with_the_same_key() {
    for stack in stacks().await {
        let signing = stack.credential_token("app", "hanako", &[hash(1)]).await;
        let service = stack.service_token("app", "hanako").await;
        stack
            .sam
            .with(|s| s.sign_refusals = vec![CallError::Unreachable]);
        let begun = begin(&stack, &signing, &json!({ "validity_period": 60_000 })).await;
        let id = id(&begun);
        worked(&stack).await;
        let open = poll(&stack, &service, &id).await;
        assert_eq!(open.status, StatusCode::ACCEPTED);
        assert_eq!(open.json()["error"], "accepted_request");
        stack.clock.advance(5);
        let got = outcome(&stack, &service, &id).await;
        assert_eq!(got.status, StatusCode::OK, "{}", got.body);
        let keys = stack.sam.with(|s| {
            let keys = s.signed.iter().map(|s| s.idempotency_key.clone());
            keys.collect::<Vec<_>>()
        });
        assert_eq!(keys.len(), 2);
        assert!(keys[0].is_some() && keys[0] == keys[1]);
    }
}

#[tokio::test]
async fn a_refusal_comes_later_too_and_nobody_is_called_back_without_a_contract() {
    for stack in stacks().await {
        let signing = stack.credential_token("app", "hanako", &[hash(1)]).await;
        let service = stack.service_token("app", "hanako").await;
        stack
            .sam
            .with(|s| s.sign_refusals = vec![CallError::Refused(Refusal::KeyNotActive)]);
        let begun = begin(&stack, &signing, &json!({})).await;
        let refused = outcome(&stack, &service, &id(&begun)).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.body);
        for (members, words) in [
            // No contract allows it.
            (
                json!({ "response_uri": "https://app.example/done" }),
                "Invalid parameter response_uri",
            ),
            (
                json!({ "validity_period": 0 }),
                "Out of bounds parameter validity_period",
            ),
            (
                json!({ "operationMode": "B" }),
                "Invalid parameter operationMode",
            ),
        ] {
            let answer = begin(&stack, &signing, &members).await;
            assert_eq!(answer.json()["error_description"], words);
        }
    }
}
