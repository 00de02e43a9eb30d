//! Keys that come back with a restore, and the device that can't use them.

use cm_core::MIGRATIONS;
use cm_core::backend::{Fault, NO_SUCH_KEY, NO_WRAPPING_KEY};
use core_types::KeyAlg;

use crate::backup::{backup_of, ledger, restore_on, root};
use crate::destroy::destroy;
use crate::faulty::Faulty;
use crate::kit::everywhere;

// shows: III-3-10-backup, III-A1.6-backup-keys, I-7.1.7.2-restore-state
#[tokio::test]
async fn a_key_that_the_device_lost_since_the_backup_is_not_called_usable() {
    everywhere(
        a_key_that_the_device_lost_since_the_backup_is_not_called_usable::ON_TOKENS,
        async |mut story| {
            let (lost, other) = (story.key(KeyAlg::P256).await, story.key(KeyAlg::P256).await);
            let (file, _) = backup_of(&story).await;
            let known = ledger(&story).await;
            let mut gone = match story.backend.name() {
                // Every blob of the backup is under a wrapping key that is gone.
                "pkcs11-wrapped" => {
                    story.module.change_wrapping().await.unwrap();
                    vec![lost.key.clone(), other.key.clone()]
                }
                "pkcs11" => {
                    let order = story.order(destroy(&lost));
                    story.module.execute(&order).await.unwrap();
                    vec![lost.key.clone()]
                }
                // The row is the key.
                _ => Vec::new(),
            };
            let to = store_kit::testing::sqlite(MIGRATIONS).await;
            let backend = story.backend.clone();
            let again = (&known, &[][..]);
            let report = restore_on(backend.as_ref(), &to, &file, &root(7), again).await;
            let report = report.unwrap();
            let mut unusable = report.unusable.clone();
            unusable.sort_unstable_by_key(|key| key.as_str().to_owned());
            gone.sort_unstable_by_key(|key| key.as_str().to_owned());
            assert_eq!((unusable, report.unasked), (gone.clone(), 0));
            assert_eq!((report.keys, report.usable()), (2, 2 - gone.len() as u64));
            if story.backend.name() == "pkcs11-wrapped" {
                // One that was made after the change gives back all.
                let (file, _) = backup_of(&story).await;
                let known = ledger(&story).await;
                let to = store_kit::testing::sqlite(MIGRATIONS).await;
                let again = (&known, &[][..]);
                let report = restore_on(backend.as_ref(), &to, &file, &root(7), again).await;
                assert_eq!(report.unwrap().usable(), 2);
            }
            story.test = to;
            let told = story.audited("cm-restored-keys-unusable").await;
            assert_eq!(told, usize::from(!gone.is_empty()));
        },
    )
    .await;
}

// shows: III-3-10-backup, T-KEY-MALFUNCTION
#[tokio::test]
async fn what_a_device_does_not_say_is_not_made_up() {
    let faulty = Faulty::default();
    let story = faulty.story().await;
    for _ in 0..3 {
        story.key(KeyAlg::P256).await;
    }
    let (file, _) = backup_of(&story).await;
    let known = ledger(&story).await;
    for (fault, told) in [
        (None, (3, 0, 0)),
        (Some(NO_SUCH_KEY), (0, 3, 0)),
        (Some(NO_WRAPPING_KEY), (0, 3, 0)),
        (Some(Fault::Unavailable("away")), (0, 0, 3)),
        (Some(Fault::Broken("test")), (0, 0, 3)),
    ] {
        faulty.plan(|plan| plan.load = fault.clone());
        let to = store_kit::testing::sqlite(MIGRATIONS).await;
        let done = restore_on(&faulty, &to, &file, &root(7), (&known, &[])).await;
        let report = done.unwrap();
        let said = (report.usable(), report.unusable.len(), report.unasked);
        assert_eq!((report.keys, said), (3, told), "{fault:?}");
    }
}

pkcs11_faults::on_tokens!(a_key_that_the_device_lost_since_the_backup_is_not_called_usable);
