//! What keeps a public key from coming in twice is a table without a seal: the log says what it has to hold.

use std::sync::Arc;

use cm_api::rpc::Reason;
use cm_api::{KeyCreated, OrderKind, Refusal};
use cm_core::MIGRATIONS;
use cm_soft::SoftBackend;
use core_types::{KeyAlg, Level};

use crate::backup::{backup_of, ledger, restore, root, use_of};
use crate::destroy::{KeyRow, attack, destroy};
use crate::import::{Outside, SIGNER, import, imported};
use crate::kit::Story;
use crate::restore::stores;

const KNOWN: Refusal = Refusal::NotAllowed(Reason::KnownKey);

fn whole(story: &Story, key: &Outside) -> OrderKind {
    import(key, Level::One, SIGNER, key.sealed(story))
}

async fn ended(story: &Story, key: &KeyCreated) {
    let order = story.order(destroy(key));
    story.module.execute(&order).await.unwrap();
}

// shows: T-REG-IMP-DUPLICATE, III-3-15-import-L1
#[tokio::test]
async fn a_public_key_that_somebody_takes_out_of_the_table_is_in_it_again_after_the_comparison() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let mut story = Story::begin(test, Arc::new(SoftBackend)).await;
        let outside = Outside::new(KeyAlg::P256);
        let (key, _) = imported(&story, whole(&story, &outside)).await;
        ended(&story, &key).await;
        let lives = story.key(KeyAlg::P256).await;
        for taken in [
            "DELETE FROM cm_public_key",
            "UPDATE cm_public_key SET key = 'nobody'",
            "UPDATE cm_public_key SET spki = 'none' || spki",
        ] {
            attack(&story, taken).await;
            story.module = story.again(7).await.unwrap();
            let found = story.module.scrub().await.unwrap();
            assert_eq!(found.unlisted, 2, "{taken}");
            assert!(!found.agrees() && found.twice.is_empty(), "{found:?}");
            assert_eq!(story.refused(whole(&story, &outside)).await, KNOWN);
            let found = story.module.scrub().await.unwrap();
            assert!(found.agrees(), "{taken}: {found:?}");
        }
        assert_eq!(story.audited("cm-public-key-missing").await, 3);
        let order = story.order(use_of(&lives));
        story.module.execute(&order).await.unwrap();
    }
}

/// Between two comparisons a row that is gone isn't missed; the next one finds both keys.
// shows: T-REG-IMP-DUPLICATE, T-REG-IMP-FOREIGN-KEY
#[tokio::test]
async fn two_keys_with_one_public_half_are_both_stopped() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let mut story = Story::begin(test, Arc::new(SoftBackend)).await;
        let outside = Outside::new(KeyAlg::P256);
        let (first, _) = imported(&story, whole(&story, &outside)).await;
        attack(&story, "DELETE FROM cm_public_key").await;
        let (second, _) = imported(&story, whole(&story, &outside)).await;
        assert_ne!(first.key, second.key);
        for again in [false, true] {
            if again {
                story.module = story.again(7).await.unwrap();
            }
            let found = story.module.scrub().await.unwrap();
            let mut twice = found.twice.clone();
            twice.sort_unstable_by_key(|key| key.as_str().to_owned());
            let mut both = [first.key.clone(), second.key.clone()];
            both.sort_unstable_by_key(|key| key.as_str().to_owned());
            assert_eq!(twice, both);
            for key in [&first, &second] {
                assert_eq!(story.refused(use_of(key)).await, Refusal::NoSuchKey);
            }
        }
        assert_eq!(story.audited("cm-public-key-twice").await, 2);
    }
}

// shows: T-REG-IMP-DUPLICATE, III-3-10-backup, III-A1.6-destroy-at-end
#[tokio::test]
async fn a_key_that_came_and_ended_after_the_backup_comes_in_again_by_no_way() {
    for (test, to, last) in stores().await {
        let mut story = Story::begin(test, Arc::new(SoftBackend)).await;
        let lives = story.key(KeyAlg::P256).await;
        let (file, _) = backup_of(&story).await;
        let (outside, left) = (Outside::new(KeyAlg::P256), Outside::new(KeyAlg::P256));
        let (key, _) = imported(&story, whole(&story, &outside)).await;
        let (lost, _) = imported(&story, whole(&story, &left)).await;
        let row = KeyRow::of(&story, &key).await;
        ended(&story, &key).await;
        let known = ledger(&story).await;
        let report = restore(&to, &file, &root(7), &known).await.unwrap();
        assert_eq!(report.lost, [lost.key.as_str()]);
        story.test = to;
        story.module = story.again(7).await.unwrap();
        // What the new log says is enough for the next restore.
        let (file, _) = backup_of(&story).await;
        let known = ledger(&story).await;
        let report = restore(&last, &file, &root(7), &known).await.unwrap();
        assert!(report.lost.is_empty() && report.keys == 1, "{report:?}");
        let stays_out = async |story: &Story| {
            let found = story.module.scrub().await.unwrap();
            assert!(found.agrees(), "{found:?}");
            for outside in [&outside, &left] {
                assert_eq!(story.refused(whole(story, outside)).await, KNOWN);
            }
        };
        stays_out(&story).await;
        story.test = last;
        story.module = story.again(7).await.unwrap();
        stays_out(&story).await;
        assert_eq!(story.audited("key.not-restored").await, 2);
        // Nor does its row, which opens still.
        row.put(&story).await;
        let found = story.module.scrub().await.unwrap();
        assert_eq!(found.revived, std::slice::from_ref(&key.key));
        assert_eq!(story.refused(use_of(&key)).await, Refusal::NoSuchKey);
        story.clock.advance(68);
        let order = story.order(crate::kit::by_act(9, use_of(&lives)));
        story.module.execute(&order).await.unwrap();
    }
}
