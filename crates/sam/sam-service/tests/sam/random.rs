//! A generator that fails while the SAM runs: nothing that it gave has an effect.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use core_types::random::SystemRandom;
use core_types::{KeyAlg, Random};
use sam_api::Refusal;
use sam_service::{SamConfig, StartError};
use sap::messages::*;

use crate::kit::*;

/// A good generator that gets stuck when it is told to.
#[derive(Default)]
struct Sticky(AtomicBool);

impl Random for Sticky {
    fn fill(&self, out: &mut [u8]) {
        if self.0.load(Ordering::SeqCst) {
            out.fill(7);
        } else {
            SystemRandom.fill(out);
        }
    }
}

// shows: II-3.3.2-random-quality, T-USE-SAD-FORGE, T-KEY-DERIVE
#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_generator_ends_all_work_of_its_node_until_a_restart_with_a_good_one() {
    for world in worlds().await {
        let mut signer = world.enrol("p", false, &[KeyAlg::P256]).await;
        let token = world.approved(&mut signer, &[hash(1)]).await;
        let waiting = world.prepare(&signer, &[hash(2)]).await;
        let (voucher, _) = world.invite(world.invitation("q", &[KeyAlg::P256])).await;
        let config = SamConfig {
            node: "sam-stuck".into(),
            ..world.config.clone()
        };
        let random = Arc::new(Sticky::default());
        let start = || world.node_drawing(config.clone(), random.clone());
        let node = start().await.unwrap();

        random.0.store(true, Ordering::SeqCst);
        // An act with the nonce that it gave isn't kept, so that nobody can approve it later.
        let opened = node.open(OpenRequest { rid: waiting }).await;
        assert_eq!(opened.unwrap_err().code, SapRefusalCode::NotNow);
        assert_eq!(world.audited("alarm", "sam-random-failed").await, 1);
        random.0.store(false, Ordering::SeqCst);
        let opened = EnrolOpenRequest { voucher };
        let opened = node.enrol_open(opened).await;
        assert_eq!(opened.unwrap_err().code, SapRefusalCode::NotNow);
        let request = world.sign_request(&signer, &token, &[hash(1)]);
        let signed = node.sign(SSA, request.clone()).await;
        assert_eq!(signed.unwrap_err(), Refusal::NotNow);
        node.maintain().await.unwrap();
        assert_eq!(world.audited("alarm", "sam-random-failed").await, 1);

        random.0.store(true, Ordering::SeqCst);
        assert!(matches!(start().await, Err(StartError::Random(_))));
        random.0.store(false, Ordering::SeqCst);
        // Nothing was spent by being refused.
        let node = start().await.unwrap();
        node.sign(SSA, request).await.unwrap();
        node.open(OpenRequest { rid: waiting }).await.unwrap();
    }
}
