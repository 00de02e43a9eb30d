//! The clock's bound (`sap.md` §9; §14, 59).

use audit_log::ClockSource;
use core_types::timekeeping::{ClockEstimate, ClockRule};
use core_types::{Clock as _, KeyAlg, PeerId};
use sam_api::Refusal;
use sam_api::ssa::*;
use sam_service::SamConfig;
use sap::messages::*;

use crate::kit::*;

// shows: I-7.1.1.12-synchronised, I-7.1.1.12-audit-time-source
#[tokio::test(flavor = "multi_thread")]
async fn beyond_its_bound_the_clock_makes_no_act_and_no_order() {
    for world in worlds().await {
        // Development: nobody keeps the clock, which the log says, and it signs.
        assert_eq!(world.audited("clock.state", "unsynchronised").await, 1);
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let token = world.approved(&mut signer, &[hash(1)]).await;
        let waiting = world.prepare(&signer, &[hash(2)]).await;
        let (voucher, _) = world.invite(world.invitation("q", &[KeyAlg::P256])).await;
        let node = world
            .node_with(SamConfig {
                node: "sam-bound".into(),
                clock: ClockRule::BoundMs(500),
                ..world.config.clone()
            })
            .await;
        let estimate = |error_ms| {
            Some(ClockEstimate {
                error_ms,
                at: world.clock.now(),
            })
        };
        let request = world.sign_request(&signer, &token, &[hash(1)]);
        for bad in [None, estimate(501)] {
            node.heed_clock(bad).await.unwrap();
            let opened = node.open(OpenRequest { rid: waiting }).await;
            assert_eq!(opened.unwrap_err().code, SapRefusalCode::NotNow);
            let opened = EnrolOpenRequest {
                voucher: voucher.clone(),
            };
            let opened = node.enrol_open(opened).await;
            assert_eq!(opened.unwrap_err().code, SapRefusalCode::NotNow);
            let signed = node.sign(SSA, request.clone()).await;
            assert_eq!(signed.unwrap_err(), Refusal::NotNow);
        }
        // Said once for each change.
        assert_eq!(world.audited("clock.state", "beyond-bound").await, 1);
        assert_eq!(world.audited("alarm", "clock-beyond-bound").await, 1);

        // The right wasn't spent by being refused.
        node.heed_clock(estimate(500)).await.unwrap();
        let about = node.about().await.unwrap().clock;
        assert_eq!((about.bound_ms, about.error_ms), (Some(500), Some(500)));
        assert_eq!(about.state, "synchronised");
        assert_eq!(
            world.sam.about().await.unwrap().clock.state,
            "unsynchronised"
        );
        assert_eq!(world.audited("clock.state", "\"synchronised").await, 1);
        node.sign(SSA, request).await.unwrap();
        node.open(OpenRequest { rid: waiting }).await.unwrap();
        // Nobody corrects it any more: the estimate ages, and maintenance notices.
        node.heed_clock(estimate(0)).await.unwrap();
        world.clock.advance(5000);
        node.maintain().await.unwrap();
        assert_eq!(world.audited("clock.state", "\"synchronised").await, 1);
        world.clock.advance(10);
        node.maintain().await.unwrap();
        assert_eq!(world.audited("alarm", "clock-beyond-bound").await, 2);
    }
}

/// What several sources say is in the log by their names, each change once; a liar and a majority that is gone are alarms.
// shows: I-7.1.1.12-synchronised
#[tokio::test(flavor = "multi_thread")]
async fn sources_of_time_that_lie_are_named() {
    for world in worlds().await {
        let says = |states: [&'static str; 3]| {
            let named =
                ["a.example", "b.example", "c.example"].map(|name| PeerId::parse(name).unwrap());
            let sources = named
                .into_iter()
                .zip(states)
                .map(|(name, state)| ClockSource {
                    name,
                    state,
                    offset_ms: None,
                });
            sources.collect::<Vec<_>>()
        };
        for _ in 0..2 {
            world.sam.heed_sources(says(["agrees"; 3])).await.unwrap();
        }
        assert_eq!(world.audited("clock.source", "agrees").await, 3);
        for _ in 0..2 {
            let lying = says(["agrees", ClockSource::FALSE, "silent"]);
            world.sam.heed_sources(lying).await.unwrap();
        }
        assert_eq!(
            world
                .audited("clock.source", "b.example\",\"state\":\"false")
                .await,
            1
        );
        assert_eq!(
            world
                .audited("clock.source", "c.example\",\"state\":\"silent")
                .await,
            1
        );
        assert_eq!(world.audited("alarm", "clock-source-false").await, 1);
        let lost = says([ClockSource::NO_MAJORITY, ClockSource::NO_MAJORITY, "silent"]);
        world.sam.heed_sources(lost).await.unwrap();
        assert_eq!(world.audited("alarm", "clock-no-majority").await, 1);
        assert_eq!(world.audited("clock.source", "a.example").await, 2);
    }
}

// shows: T-USE-SAP-REPLAY
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_set_makes_open_acts_void_and_gives_no_second_use() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let (voucher, secret) = world.invite(world.invitation("q", &[KeyAlg::P256])).await;
        for by in [1800, -1800, 2, -2, -200] {
            let spent = world.approved(&mut signer, &[hash(1)]).await;
            world.sign(&signer, &spent, &[hash(1)]).await.unwrap();
            let rid = world.prepare(&signer, &[hash(2)]).await;
            let act = world.open(rid).await;
            let proof = signer.passkey.prove(act).unwrap();
            let opened = EnrolOpenRequest {
                voucher: voucher.clone(),
            };
            let enrol = world.sam.enrol_open(opened).await.unwrap().act;
            let enrol = sap::act_digest(&enrol);
            let registration = passkey().register(enrol).unwrap();
            let request = EnrolRegisterRequest {
                act: enrol,
                sealed: world.seal(enrol, &world.secrets(enrol, &secret)).await,
                passkey: Some(registration),
                id_token: None,
            };
            let alarms = world.audited("alarm", "clock-stepped").await;
            let voided = world.audited("act.ended", "clock-stepped").await;

            world.clock.set(by);
            // Without any maintenance: whoever comes first finds it.
            let refused = world.approve(proof).await.unwrap_err();
            assert_eq!(refused.code, SapRefusalCode::Withdrawn, "{by}");
            let refused = world.sam.enrol_register(request).await.unwrap_err();
            assert_eq!(refused.code, SapRefusalCode::Withdrawn, "{by}");
            assert!(world.sign(&signer, &spent, &[hash(1)]).await.is_err());
            assert_eq!(world.audited("alarm", "clock-stepped").await, alarms + 1);
            assert_eq!(
                world.audited("act.ended", "clock-stepped").await,
                voided + 2
            );
            // The request is still there, unless its own time is over by the new clock.
            if by < 600 {
                let act = world.open(rid).await;
                world
                    .approve(signer.passkey.prove(act).unwrap())
                    .await
                    .unwrap();
            }
        }
        // Time that passes is no step, however long.
        let act = world.open(world.prepare(&signer, &[hash(3)]).await).await;
        world.clock.advance(250);
        world
            .approve(signer.passkey.prove(act).unwrap())
            .await
            .unwrap();
        assert_eq!(world.cm.values.lock().unwrap().len(), 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_ordered_before_open_acts_are_void() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let token = world.approved(&mut signer, &[hash(1)]).await;
        world.clock.set(30);
        // A call that doesn't look after the clock itself.
        assert_eq!(
            world.sign(&signer, &token, &[hash(1)]).await.unwrap_err(),
            Refusal::NotNow
        );
        world.sam.maintain().await.unwrap();
        // What was approved isn't lost by it.
        world.sign(&signer, &token, &[hash(1)]).await.unwrap();
        assert_eq!(world.audited("clock.state", "stepped").await, 1);
        let rid = world.prepare(&signer, &[hash(2)]).await;
        let status = world.sam.status(SSA, StatusRequest { rid }).await.unwrap();
        assert_eq!(status.state, RequestState::Open);
    }
}
