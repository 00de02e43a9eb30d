//! Backups of a module that goes on working.

use std::io::Write;
use std::sync::Arc;

use cm_api::Refusal;
use cm_core::MIGRATIONS;
use cm_soft::SoftBackend;
use core_types::KeyAlg;

use crate::backup::{backup_of, ledger, restore, root, use_of};
use crate::destroy::{KeyRow, destroy, destroyed};
use crate::kit::Story;

/// A file; when its first row is there, something happens.
struct During<F> {
    bytes: Vec<u8>,
    then: Option<F>,
}

impl<F: FnOnce()> Write for During<F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        let lines = self.bytes.iter().filter(|byte| **byte == b'\n').count();
        if lines == 2
            && let Some(then) = self.then.take()
        {
            then();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// shows: III-3-10-backup, III-A1.6-backup-keys, I-7.1.7.2-restore-state
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_destroyed_while_a_backup_is_made_is_no_obstacle_to_its_restore() {
    for (test, to) in store_kit::testing::both(MIGRATIONS)
        .await
        .into_iter()
        .zip(store_kit::testing::both(MIGRATIONS).await)
    {
        let mut story = Story::begin(test, Arc::new(SoftBackend)).await;
        let (lives, ends) = (story.key(KeyAlg::P256).await, story.key(KeyAlg::P256).await);
        let order = story.order(destroy(&ends));
        let runtime = tokio::runtime::Handle::current();
        let mut out = During {
            bytes: Vec::new(),
            // Keys have been read, and tombstones haven't.
            then: Some(|| {
                let ending = story.module.execute(&order);
                let ended = tokio::task::block_in_place(|| runtime.block_on(ending));
                ended.unwrap();
            }),
        };
        let made = story.module.backup(&mut out).await.unwrap();
        let file = out.bytes;
        assert_eq!((made.keys, story.audited("key.destroyed").await), (2, 1));
        let known = ledger(&story).await;
        let report = restore(&to, &file, &root(7), &known).await.unwrap();
        assert_eq!(report.keys, 1);
        assert_eq!(report.refused_destroyed, std::slice::from_ref(&ends.key));
        story.test = to;
        story.module = story.again(7).await.unwrap();
        assert!(story.module.scrub().await.unwrap().agrees());
        assert_eq!(story.refused(use_of(&ends)).await, Refusal::NoSuchKey);
        let (told, _) = destroyed(&story, &ends).await;
        assert_eq!(told.key, ends.key, "its certificate");
        story.clock.advance(68);
        let order = story.order(crate::kit::by_act(9, use_of(&lives)));
        story.module.execute(&order).await.unwrap();
    }
}

/// As a backup has it that read keys and tombstones at two moments, or whose store somebody wrote to.
// shows: III-3-10-backup, III-A1.6-destroy-at-end
#[tokio::test]
async fn of_a_key_that_a_backup_has_alive_and_destroyed_the_tombstone_counts() {
    for (test, to) in store_kit::testing::both(MIGRATIONS)
        .await
        .into_iter()
        .zip(store_kit::testing::both(MIGRATIONS).await)
    {
        let mut story = Story::begin(test, Arc::new(SoftBackend)).await;
        let key = story.key(KeyAlg::P256).await;
        let row = KeyRow::of(&story, &key).await;
        let (before, _) = destroyed(&story, &key).await;
        row.put(&story).await;
        let (file, made) = backup_of(&story).await;
        assert_eq!(made.keys, 1);
        let known = ledger(&story).await;
        let report = restore(&to, &file, &root(7), &known).await.unwrap();
        assert_eq!(report.keys, 0);
        assert_eq!(report.refused_destroyed, std::slice::from_ref(&key.key));
        story.test = to;
        story.module = story.again(7).await.unwrap();
        assert!(story.module.scrub().await.unwrap().agrees());
        assert_eq!(story.refused(use_of(&key)).await, Refusal::NoSuchKey);
        let (after, _) = destroyed(&story, &key).await;
        assert_eq!(after.certificate, before.certificate);
    }
}
