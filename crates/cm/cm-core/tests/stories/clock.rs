//! The module executes nothing while its clock is beyond what is declared of it, and its log says how the clock is.

use std::sync::Arc;

use audit_log::Heard;
use cm_api::{Executed, Refusal};
use cm_core::MIGRATIONS;
use cm_soft::SoftBackend;
use core_types::timekeeping::{ClockEstimate, ClockRule};
use core_types::{Clock as _, KeyAlg, Level};

use crate::kit::{P256, Setup, Story, by_act, digest, generate, refusal, sign};

// shows: I-7.1.1.12-synchronised, I-7.1.1.12-audit-time-source
#[tokio::test]
async fn beyond_its_bound_the_clock_lets_no_order_through() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let story = Story::begin(test, Arc::new(SoftBackend)).await;
        // Development: nobody keeps the clock, which the log says, and it signs.
        story.module.heed_clock(Heard::default()).await.unwrap();
        assert_eq!(story.audited("\"unsynchronised\"").await, 1);
        let key = story.key(KeyAlg::P256).await;

        let bounded = Setup {
            clock: ClockRule::BoundMs(500),
            ..Setup::default()
        };
        let module = story.again_with(&bounded).await;
        let error = |error_ms| Heard {
            estimate: Some(ClockEstimate {
                error_ms,
                at: story.clock.now(),
            }),
            sources: Vec::new(),
        };
        let signing = story.order(sign(&key, P256, &[digest(P256, "a")]));
        let making = story.order(generate(KeyAlg::P256, Level::One));
        // Before anybody said how it is, when nobody knows, and when it is too far off.
        for heard in [None, Some(Heard::default()), Some(error(501))] {
            if let Some(heard) = heard {
                module.heed_clock(heard).await.unwrap();
            }
            for order in [&signing, &making] {
                assert_eq!(refusal(module.execute(order).await), Refusal::NotNow);
            }
        }
        // Said once for each change.
        assert_eq!(story.audited("\"beyond-bound\"").await, 1);
        assert_eq!(story.audited("clock-beyond-bound").await, 1);

        // Nothing was spent by it.
        module.heed_clock(error(500)).await.unwrap();
        assert_eq!(story.audited("\"synchronised\"").await, 1);
        let values = module.execute(&signing).await.unwrap();
        assert!(matches!(values, Executed::Signed(..)), "{values:?}");
        module.execute(&making).await.unwrap();

        // The estimate ages, also while nobody brings another one.
        module.heed_clock(error(0)).await.unwrap();
        story.clock.advance(5_010);
        let late = story.order(by_act(3, sign(&key, P256, &[digest(P256, "b")])));
        assert_eq!(refusal(module.execute(&late).await), Refusal::NotNow);
        module.heed_clock(error(0)).await.unwrap();
        module.execute(&late).await.unwrap();

        // Somebody set it: that is told, and the order's own times hold.
        story.clock.set(20);
        module.heed_clock(error(0)).await.unwrap();
        assert_eq!(story.audited("clock-stepped").await, 1);
        assert_eq!(story.audited("\"stepped\"").await, 1);
        let next = story.order(by_act(4, sign(&key, P256, &[digest(P256, "c")])));
        module.execute(&next).await.unwrap();
    }
}
