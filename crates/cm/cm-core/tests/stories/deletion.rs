//! Deletion of archived entries from the module's log: what the module knows of its keys stays known.

use std::sync::Arc;

use audit_log::{Deletion, Event, Leaves, LogKey, Sequencer};
use cm_api::Refusal;
use cm_core::{Ledger, MIGRATIONS, OfficersError, StartError};
use cm_soft::SoftBackend;
use core_types::{Clock as _, Digest32, OfficerId, SecretBytes, sha256};
use store_kit::{StoreError, sql, transaction};

use crate::backup::use_of;
use crate::destroy::{Altered, attack};
use crate::kit::Story;

async fn sequencer(story: &Story) -> Sequencer {
    let key = LogKey::from_seed("cm.test/log", &SecretBytes::new(vec![5; 32])).unwrap();
    let opened = Sequencer::open(story.module.audit().clone(), key, None, &story.test.store);
    opened.await.unwrap()
}

/// The hashes of the log as an archive has them, and how many whole tiles there are.
async fn archived(story: &Story) -> (Leaves, u64) {
    let mut tx = story.test.store.read("leaves").await.unwrap();
    let select = "SELECT body AS t FROM audit_entry WHERE seq IS NOT NULL ORDER BY seq";
    let rows = tx.fetch_all(sql(select)).await.unwrap();
    let hash = |text: String| sha256(&[&[0], text.as_bytes()]);
    let hashes: Vec<_> = rows.iter().map(|r| hash(r.text("t").unwrap())).collect();
    let size = hashes.len() as u64 / 256 * 256;
    (Leaves { from: 0, hashes }, size)
}

// shows: I-7.1.4.3-delete-after-archive, T-KEY-ATTR-ALTER, III-3-3-key-attribute-integrity
#[tokio::test]
async fn keys_are_compared_with_what_was_noted_of_entries_that_are_gone() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let mut story = Story::begin(test, Arc::new(SoftBackend)).await;
        let altered = Altered::begin(&story).await;
        let filling = vec![
            Event::ClockState {
                state: "unsynchronised".into()
            };
            300
        ];
        let now = story.clock.now();
        let done: Result<_, StoreError> = transaction!(story.test.store, "fill", |tx| {
            story.module.audit().append_all(tx, &filling, now).await
        });
        done.unwrap();
        let sequencer = sequencer(&story).await;
        sequencer.sequence(&story.test.store, now).await.unwrap();
        let (leaves, size) = archived(&story).await;
        let deletion = Deletion {
            size,
            archive: Digest32([1; 32]),
            proposal: Digest32([2; 32]),
            officers: ["o1", "o2"].map(|id| OfficerId::parse(id).unwrap()),
            before: now.plus(1),
        };
        let mut noted = Ledger::default();
        let done =
            sequencer.delete_archived(&story.test.store, &deletion, &leaves, &mut noted, now);
        done.await.unwrap();
        assert_eq!(story.audited("key.used").await, 0, "the entries are gone");

        // All in order, for who runs and for who starts; keys go on being used and counted.
        let found = story.module.scrub().await.unwrap();
        assert!(
            found.set_back.is_empty() && found.revived.is_empty(),
            "{found:?}"
        );
        assert!(found.missing.is_empty(), "{found:?}");
        story.module = story.again(7).await.unwrap();
        let order = story.order(use_of(&altered.good));
        story.module.execute(&order).await.unwrap();
        story.module.scrub().await.unwrap();

        altered.are_found(&mut story).await;

        // What was noted, altered: nothing can be told any more.
        let change =
            "UPDATE audit_summary SET body = replace(body, '\"signatures\":1', '\"signatures\":0')";
        attack(&story, change).await;
        let refused = story.module.scrub().await;
        assert_eq!(refused, Err(Refusal::NotOperational));

        // A list of officers that was taken away is missed also after a deletion; a store of a build that kept none begins one.
        attack(&story, "DELETE FROM cm_mark WHERE id = 'officers'").await;
        let gone = story.again(7).await.err();
        let told = matches!(gone, Some(StartError::Officers(OfficersError::Gone)));
        assert!(told, "{gone:?}");
        let told = "DELETE FROM audit_entry WHERE kind = 'cm.officers-in-force'";
        attack(&story, told).await;
        story.again(7).await.unwrap();
    }
}
