//! The clock's bound (`sap.md` §9; §14, 59).

use core_types::{Clock as _, KeyAlg};
use sam_api::Refusal;
use sam_core::clock::{ClockEstimate, ClockRule};
use sam_service::SamConfig;
use sap::messages::*;

use crate::kit::*;

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
