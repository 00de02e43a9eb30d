//! What the SAM gets without an order, and whoever has its certificate: recorded, counted, bounded.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use cm_api::Refusal;
use cm_api::rpc::{PinMac, PinMacRequest, RowKey, RowKeyAnswer, RowKeyRequest};
use cm_core::MIGRATIONS;
use cm_soft::SoftBackend;
use core_types::rpc::Method;
use core_types::{B64, FactorId, SecretBytes};
use tower::ServiceExt as _;

use crate::kit::Story;

/// A call with the SAM's certificate.
async fn call<M: Method>(router: &Router, request: &M::Request) -> Result<M::Response, M::Refusal> {
    let body = Body::from(serde_json::to_vec(request).unwrap());
    let mut http = Request::post(M::PATH).body(body).unwrap();
    http.headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    http.extensions_mut().insert(service_kit::Peer {
        name: "sam.test".into(),
        addr: "127.0.0.1:1".parse().unwrap(),
    });
    let answer = router.clone().oneshot(http).await.unwrap();
    let status = answer.status();
    let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    match status {
        StatusCode::OK => Ok(serde_json::from_slice(&body).unwrap()),
        StatusCode::UNPROCESSABLE_ENTITY => Err(serde_json::from_slice(&body).unwrap()),
        other => panic!("{other}"),
    }
}

fn pin(factor: &str) -> PinMacRequest {
    PinMacRequest {
        factor: FactorId::parse(factor).unwrap(),
        hash: SecretBytes::new(vec![1; 32]),
    }
}

// shows: III-3-4-authenticate-application, III-3-14-audit-records, T-INS-OPERATOR
#[tokio::test]
async fn each_row_key_that_leaves_is_in_the_log() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let story = Story::begin(test, Arc::new(SoftBackend)).await;
        let module = story.again(7).await.unwrap();
        let router = cm_core::router(Arc::new(module), "sam.test");
        let asked = RowKeyRequest { wrapped: None };
        let made: RowKeyAnswer = call::<RowKey>(&router, &asked).await.unwrap();
        let asked = RowKeyRequest {
            wrapped: Some(made.wrapped.clone()),
        };
        let opened = call::<RowKey>(&router, &asked).await.unwrap();
        assert!(opened.key.ct_eq(made.key.expose()));
        assert_eq!(story.audited("cm.row-key-given").await, 2);
        for told in [
            "\"what\":\"made\",\"count\":1",
            "\"what\":\"opened\",\"count\":2",
        ] {
            assert_eq!(story.audited(told).await, 1, "{told}");
        }
        let mut other = made.wrapped.0;
        other[20] ^= 1;
        let asked = RowKeyRequest {
            wrapped: Some(B64(other)),
        };
        let refused = call::<RowKey>(&router, &asked).await;
        assert_eq!(refused.unwrap_err(), Refusal::NotAuthentic);
        assert_eq!(story.audited("row-key-not-authentic").await, 1);
        assert_eq!(story.audited("cm.row-key-given").await, 2);
    }
}

// shows: T-USE-CRED-FORGE, III-3-14-audit-records, T-INS-OPERATOR
#[tokio::test]
async fn pins_are_hashed_as_often_as_an_honest_sam_asks_and_no_oftener() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let story = Story::begin(test, Arc::new(SoftBackend)).await;
        let module = Arc::new(story.again(7).await.unwrap());
        let router = cm_core::router(module.clone(), "sam.test");
        let tried = async |factor: &str| call::<PinMac>(&router, &pin(factor)).await;
        for _ in 0..300 {
            tried("one").await.unwrap();
        }
        for _ in 0..5 {
            assert_eq!(tried("one").await.unwrap_err(), Refusal::NotNow);
        }
        assert_eq!(story.audited("cm-pins-too-many").await, 1, "told once");
        tried("another").await.unwrap();
        // Counted once an hour, whether it was much or little.
        module.tidy().await;
        assert_eq!(story.audited("cm.pins-hashed").await, 0);
        story.clock.advance(3_600);
        module.tidy().await;
        let told = "\"count\":301,\"refused\":5";
        assert_eq!(story.audited(told).await, 1);
        module.tidy().await;
        assert_eq!(story.audited("cm.pins-hashed").await, 1);
        // An hour gives back an hour's share, and so it goes on.
        for _ in 0..300 {
            tried("one").await.unwrap();
        }
        assert_eq!(tried("one").await.unwrap_err(), Refusal::NotNow);
        assert_eq!(story.audited("cm-pins-too-many").await, 2);
        module.tell_pins().await;
        assert_eq!(story.audited("cm.pins-hashed").await, 2, "at the end too");
    }
    // One guess for everybody isn't had either.
    let test = store_kit::testing::sqlite(MIGRATIONS).await;
    let story = Story::begin(test, Arc::new(SoftBackend)).await;
    let router = cm_core::router(Arc::new(story.module), "sam.test");
    let mut hashed = 0;
    for n in 0..12_100 {
        let answer = call::<PinMac>(&router, &pin(&format!("f-{}", n % 100))).await;
        hashed += u32::from(answer.is_ok());
    }
    assert_eq!(hashed, 12_000);
}

// shows: T-USE-CRED-FORGE, III-3-4-authenticate-application
#[tokio::test]
async fn a_bound_of_one_factor_is_no_other_factors() {
    let test = store_kit::testing::sqlite(MIGRATIONS).await;
    let story = Story::begin(test, Arc::new(SoftBackend)).await;
    let router = cm_core::router(Arc::new(story.module), "sam.test");
    let tried = async |factor: &str| call::<PinMac>(&router, &pin(factor)).await;
    // However many sign in one minute.
    for n in 0..12_000 {
        tried(&format!("f-{n}")).await.unwrap();
    }
    // What all of them may not is charged to nobody.
    for _ in 0..400 {
        assert_eq!(tried("late").await.unwrap_err(), Refusal::NotNow);
    }
    story.clock.advance(60);
    for _ in 0..300 {
        tried("late").await.unwrap();
    }
    // Nor is what one may not charged to all.
    for _ in 0..12_000 {
        assert_eq!(tried("late").await.unwrap_err(), Refusal::NotNow);
    }
    tried("f-1").await.unwrap();
}
