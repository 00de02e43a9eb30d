//! Keys made ahead are used once each, and orders don't wait for stock.

use std::collections::HashSet;
use std::sync::Arc;

use cm_core::ahead::Ahead;
use cm_core::backend::{Backend as _, Fault};
use cm_soft::SoftBackend;
use core_types::KeyAlg;

use crate::faulty::Faulty;
use crate::kit::{P256, Story, digest, sign};

#[tokio::test]
async fn every_key_of_the_stock_is_given_out_once_and_more_are_made_when_it_is_empty() {
    let ahead = Ahead::new(Arc::new(SoftBackend), vec![(KeyAlg::P256, 3)]).unwrap();
    assert!(ahead.stock(KeyAlg::P256) >= 1);
    let store = store_kit::testing::sqlite(cm_core::MIGRATIONS).await;
    let story = Story::begin(store, Arc::new(ahead)).await;
    let mut seen = HashSet::new();
    for _ in 0..20 {
        let key = story.key(KeyAlg::P256).await;
        assert!(seen.insert(key.spki.0.clone()), "given out twice");
        let order = story.order(sign(&key, P256, &[digest(P256, "a")]));
        story.module.execute(&order).await.unwrap();
    }
    story.key(KeyAlg::P384).await;
}

#[test]
fn keys_that_would_stay_in_a_token_are_not_made_ahead() {
    let faulty = Faulty::default();
    faulty.plan(|plan| plan.device = true);
    let refused = Ahead::new(Arc::new(faulty.clone()), vec![(KeyAlg::P256, 1)]);
    assert!(matches!(refused.err(), Some(Fault::Unfit(_))));
    faulty.plan(|plan| assert_eq!(plan.erased.len(), 1, "nor is one left behind"));
    faulty.plan(|plan| plan.device = false);
    let ahead = Ahead::new(Arc::new(faulty.clone()), vec![(KeyAlg::P256, 1)]).unwrap();
    let first = ahead.generate(KeyAlg::P256).unwrap();
    assert_eq!(pki::key_alg(&first.spki), Some(KeyAlg::P256));
}
