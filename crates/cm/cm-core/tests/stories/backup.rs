//! Backup and restore: sealed, whole or nothing, and no way back for what ended since.

use std::sync::Arc;

use cm_api::rpc::Reason;
use cm_api::{KeyCreated, ModuleError, Refusal};
use cm_core::backend::Backend;
use cm_core::backup::{self, BackupError, BackupReport, RestoreReport, Restoring};
use cm_core::{Ledger, MIGRATIONS, RootSecret};
use cm_soft::SoftBackend;
use core_types::random::SystemRandom;
use core_types::{Digest32, KeyAlg, Level, SecretBytes, sha256};
use jose::SigningKey;
use shares::{deal, join};
use store_kit::sql;
use store_kit::testing::TestStore;

use crate::destroy::{Altered, KeyRow, destroy};
use crate::faulty::Faulty;
use crate::kit::{NOW, P256, Story, digest, refusal, sign};

pub fn root(byte: u8) -> RootSecret {
    RootSecret::new(SecretBytes::new(vec![byte; 32])).unwrap()
}

pub async fn backup_of(story: &Story) -> (Vec<u8>, BackupReport) {
    let mut out = Vec::new();
    let report = story.module.backup(&mut out).await.unwrap();
    (out, report)
}

/// What the whole log says now.
pub async fn ledger(story: &Story) -> Ledger {
    let mut tx = story.test.store.read("look").await.unwrap();
    let mut ledger = Ledger::default();
    for row in tx
        .fetch_all(sql("SELECT body FROM audit_entry"))
        .await
        .unwrap()
    {
        ledger.read(&row.text("body").unwrap()).unwrap();
    }
    ledger
}

pub async fn restore(
    to: &TestStore,
    from: &[u8],
    secret: &RootSecret,
    ledger: &Ledger,
) -> Result<RestoreReport, BackupError> {
    restore_on(&SoftBackend, to, from, secret, (ledger, &[])).await
}

pub async fn restore_on(
    backend: &dyn Backend,
    to: &TestStore,
    mut from: &[u8],
    secret: &RootSecret,
    (ledger, approvals): (&Ledger, &[String]),
) -> Result<RestoreReport, BackupError> {
    let with = Restoring {
        node: "cm-2",
        now: NOW.plus(7),
        copies_kept_days: 90,
        backend,
        random: &SystemRandom,
        approvals,
    };
    backup::restore(&to.store, &mut from, secret, ledger, &with).await
}

pub fn use_of(key: &KeyCreated) -> cm_api::OrderKind {
    sign(key, P256, &[digest(P256, "a")])
}

// shows: III-3-10-backup, III-A1.6-backup-keys, III-A1.4.1-protect-change-loss, I-7.1.7.2-restore-state
#[tokio::test]
async fn a_restore_brings_back_what_lives_and_nothing_that_ended() {
    for (test, to) in store_kit::testing::both(MIGRATIONS)
        .await
        .into_iter()
        .zip(store_kit::testing::both(MIGRATIONS).await)
    {
        let mut story = Story::begin(test, Arc::new(SoftBackend)).await;
        let (lives, ends) = (
            story.key(KeyAlg::P256).await,
            story.key(KeyAlg::Ed25519).await,
        );
        let before = story.key(KeyAlg::P256).await;
        story
            .module
            .execute(&story.order(destroy(&before)))
            .await
            .unwrap();
        let (file, made) = backup_of(&story).await;
        assert_eq!(made.keys, 2);
        let (old_lives, old_ends) = (
            KeyRow::of(&story, &lives).await,
            KeyRow::of(&story, &ends).await,
        );

        // Life goes on after the backup.
        let spent = story.order(use_of(&lives));
        story.module.execute(&spent).await.unwrap();
        story
            .module
            .execute(&story.order(destroy(&ends)))
            .await
            .unwrap();
        let late = story.key(KeyAlg::P256).await;
        let ledger = ledger(&story).await;

        // The officers' shares bring the root secret to a new machine.
        let dealt = deal(&SecretBytes::new(vec![7; 32]), 2, 3, &SystemRandom).unwrap();
        let secret = RootSecret::new(join(&dealt[1..]).unwrap()).unwrap();
        let report = restore(&to, &file, &secret, &ledger).await.unwrap();
        assert_eq!(report.keys, 1);
        assert_eq!(report.refused_destroyed, std::slice::from_ref(&ends.key));
        assert_eq!(report.set_forward, std::slice::from_ref(&lives.key));
        assert_eq!(report.lost, [late.key.as_str()]);
        assert!(matches!(
            restore(&to, &file, &secret, &ledger).await,
            Err(BackupError::NotEmpty)
        ));

        let root = story.module.root().kid();
        story.test = to;
        story.module = story.again(7).await.unwrap();
        assert_eq!(story.module.root().kid(), root, "the same module");
        assert_eq!(
            refusal(story.module.execute(&spent).await),
            Refusal::Duplicate
        );
        // Which items of its act were signed after the backup isn't known, so that it is good for none.
        story.clock.advance(67);
        let chain = story.order(crate::kit::by_act(9, use_of(&lives)));
        let again = Refusal::NotAllowed(Reason::Reauthorization);
        assert_eq!(refusal(story.module.execute(&chain).await), again);
        story.clock.advance(1);
        for key in [&ends, &before, &late] {
            let alg = pki::key_alg(&key.spki.0).unwrap().csr_alg();
            let kind = sign(key, alg, &[digest(alg, "a")]);
            assert_eq!(story.refused(kind).await, Refusal::NoSuchKey);
        }
        // Of 1000 uses one is spent since the backup, by the log.
        let many = vec![digest(P256, "a"); 500];
        for act in 5..=6 {
            let kind = crate::kit::by_act(act, sign(&lives, P256, &many));
            let done = story.module.execute(&story.order(kind)).await;
            assert_eq!(done.is_ok(), act == 5, "{done:?}");
        }
        let (told, _) = crate::destroy::destroyed(&story, &before).await;
        assert_eq!(told.unusable_since, NOW, "its certificate is there still");
        // What was destroyed after the backup has one too, by what the log says.
        let (told, certificate) = crate::destroy::destroyed(&story, &ends).await;
        assert_eq!((told.unusable_since, told.key), (NOW, ends.key.clone()));
        assert_eq!(told.unrecoverable_after, Some(NOW.plus(7 + 90 * 86_400)));
        assert_eq!(certificate.act, Digest32([4; 32]));
        assert_eq!(story.audited("cm.backup-restored").await, 1);

        // Rows as they were before the restore still open; the new log knows better.
        old_lives.replace(&story).await;
        old_ends.put(&story).await;
        crate::destroy::exhume(&story, &ends).await;
        story.module = story.again(7).await.unwrap();
        let found = story.module.scrub().await.unwrap();
        assert_eq!(found.set_back, std::slice::from_ref(&lives.key));
        assert_eq!(found.revived, std::slice::from_ref(&ends.key));
        let refused = story.refused(use_of(&lives)).await;
        assert_eq!(refused, Refusal::NoSuchKey);
    }
}

// shows: III-3-10-backup, I-7.1.7.1-backup-integrity, I-7.1.7.1-backup-confidentiality, T-KEY-DISCLOSE
#[tokio::test]
async fn a_backup_is_sealed_and_altered_or_foreign_ones_are_refused() {
    let store = store_kit::testing::sqlite(MIGRATIONS).await;
    let story = Story::begin(store, Arc::new(SoftBackend)).await;
    let key = story.key(KeyAlg::P256).await;
    let other = story.key(KeyAlg::P256).await;
    let (file, _) = backup_of(&story).await;
    let text = String::from_utf8(file.clone()).unwrap();
    assert!(!text.contains("hanako") && !text.contains(key.key.as_str()));
    let check = |bytes: &[u8], byte| {
        let mut from = bytes;
        backup::check(&mut from, &root(byte))
    };
    assert_eq!(check(&file, 7).unwrap().keys, 2);
    assert!(matches!(check(&file, 8), Err(BackupError::WrongRoot)));
    let lines: Vec<&str> = text.lines().collect();
    let join = |lines: &[&str]| format!("{}\n", lines.join("\n"));
    let (end, rows) = lines.split_last().unwrap();
    let mut swapped = rows.to_vec();
    swapped.swap(1, 2);
    swapped.push(end);
    let without = [&rows[..1], &rows[2..], &[*end]].concat();
    let cut = &lines[..lines.len() - 1];
    let twice = [rows, &[rows[1], end]].concat();
    let longer = [lines.as_slice(), &[rows[1]]].concat();
    for (what, bad) in [
        ("rows exchanged", join(&swapped)),
        ("a row left out", join(&without)),
        ("cut off", join(cut)),
        ("a row twice", join(&twice)),
        ("more after the end", join(&longer)),
        ("without its last line's end", text.trim_end().to_owned()),
        ("empty", String::new()),
    ] {
        assert!(check(bad.as_bytes(), 7).is_err(), "{what}");
    }
    for at in [20, text.len() / 2, text.len() - 20] {
        let mut bytes = file.clone();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        assert!(check(&bytes, 7).is_err(), "byte {at}");
    }
    // Cut off, and signed by somebody who can sign and has no root secret.
    let (stranger, _) = SigningKey::generate().unwrap();
    let mut head: serde_json::Value = serde_json::from_str(rows[0]).unwrap();
    head["root"] = serde_json::to_value(stranger.public()).unwrap();
    let head = head.to_string();
    let told = backup::check(&mut file.as_slice(), &root(7)).unwrap();
    for kept in 1..rows.len() {
        let kept = [&[head.as_str()], &rows[1..kept]].concat();
        let told = BackupReport {
            rows: kept.len() as u64 - 1,
            sha256: sha256(&[join(&kept).as_bytes()]),
            ..told.clone()
        };
        let payload = serde_json::to_vec(&told).unwrap();
        let end = stranger.sign("natsuin-backup+jws", &payload).unwrap();
        let end = format!("{{\"end\":\"{end}\"}}");
        let bad = join(&[kept.as_slice(), &[end.as_str()]].concat());
        assert!(check(bad.as_bytes(), 7).is_err(), "{} rows", told.rows);
    }
    // The log tells of other rows under this name.
    let to = store_kit::testing::sqlite(MIGRATIONS).await;
    let mut other_rows = Ledger::default();
    let entry = format!(
        r#"{{"zone":"cm","at":7,"kind":"cm.backup-made","detail":{{"backup":"{}","rows":1,"digest":"{}"}}}}"#,
        told.id,
        Digest32([5; 32])
    );
    other_rows.read(&entry).unwrap();
    let refused = restore(&to, &file, &root(7), &other_rows).await;
    assert!(matches!(refused, Err(BackupError::Malformed(_))));
    // A log that ends before the backup can't say what happened since.
    let to = store_kit::testing::sqlite(MIGRATIONS).await;
    let early = Ledger::default();
    let refused = restore(&to, &file, &root(7), &early).await;
    assert!(matches!(refused, Err(BackupError::OldLog)));
    // What doesn't open isn't carried on.
    let row = KeyRow::of(&story, &other).await;
    KeyRow::of(&story, &key)
        .await
        .replace_by(&story, &row)
        .await;
    let failed = story.module.backup(&mut Vec::new()).await;
    assert!(matches!(failed, Err(BackupError::Tampered)));
}

// shows: T-KEY-ATTR-ALTER, III-3-3-key-attribute-integrity, III-A1.6-backup-keys
#[tokio::test]
async fn the_comparison_with_the_log_finds_what_was_set_back_while_nobody_looked() {
    for test in store_kit::testing::both(MIGRATIONS).await {
        let mut story = Story::begin(test, Arc::new(SoftBackend)).await;
        let altered = Altered::begin(&story).await;
        altered.are_found(&mut story).await;
        for what in ["cm-row-set-back", "cm-row-revived", "cm-row-missing"] {
            assert_eq!(story.audited(what).await, 1, "{what}");
        }
        let order = story.order(use_of(&altered.good));
        let done: Result<_, ModuleError> = story.module.execute(&order).await;
        done.unwrap();
    }
}

// shows: T-KEY-ATTR-ALTER, III-3-3-key-attribute-integrity, II-3.3.2-audit-tamper-detected
#[tokio::test]
async fn a_log_that_was_altered_stops_the_module() {
    for attack in [
        // A use that never was, and one that isn't told of.
        "UPDATE audit_entry SET body = replace(body, '\"count\":1,', '\"count\":0,') WHERE kind = 'key.used'",
        "UPDATE audit_entry SET body = 'not an entry' WHERE kind = 'key.used'",
        // Only what is kept for searching.
        "UPDATE audit_entry SET kind = 'alarm' WHERE kind = 'key.used'",
        "DELETE FROM audit_entry WHERE kind = 'key.used'",
        "UPDATE audit_entry SET n = n + 100 WHERE kind = 'key.used'",
        "DELETE FROM audit_head",
        "INSERT INTO cm_key (id, version, attributes, sealed) SELECT 'no name', version, attributes, sealed FROM cm_key",
    ] {
        for test in store_kit::testing::both(MIGRATIONS).await {
            let mut story = Story::begin(test, Arc::new(SoftBackend)).await;
            let key = story.key(KeyAlg::P256).await;
            let order = story.order(use_of(&key));
            story.module.execute(&order).await.unwrap();
            let last = story.order(use_of(&key));
            story.module.execute(&last).await.unwrap();
            story.module.scrub().await.unwrap();
            crate::destroy::attack(&story, attack).await;
            let found = story.module.scrub().await;
            assert_eq!(found, Err(Refusal::NotOperational), "{attack}");
            let refused = story.refused(use_of(&key)).await;
            assert_eq!(refused, Refusal::NotOperational, "{attack}");
            // And not only once: a restart doesn't make it good.
            if let Ok(again) = story.again(7).await {
                story.module = again;
                assert!(story.module.scrub().await.is_err(), "{attack}");
            }
        }
    }
}

// shows: III-A1.6-destroy-at-end, III-A1.6-backup-keys
#[tokio::test]
async fn a_device_that_was_restored_erases_what_was_destroyed_since() {
    let faulty = Faulty::default();
    let mut story = faulty.story().await;
    faulty.plan(|plan| (plan.device, plan.level) = (true, Some(Level::One)));
    let key = story.key(KeyAlg::P256).await;
    let (file, _) = backup_of(&story).await;
    let order = story.order(destroy(&key));
    story.module.execute(&order).await.unwrap();
    let ledger = ledger(&story).await;
    faulty.plan(|plan| plan.erased.clear());
    let to = store_kit::testing::sqlite(MIGRATIONS).await;
    let done = restore_on(&faulty, &to, &file, &root(7), (&ledger, &[])).await;
    assert_eq!(
        done.unwrap().refused_destroyed,
        std::slice::from_ref(&key.key)
    );
    story.test = to;
    story.module = story.again(7).await.unwrap();
    faulty.plan(|plan| assert!(plan.erased.is_empty()));
    story.module.finish_destructions().await.unwrap();
    faulty.plan(|plan| assert_eq!(plan.erased.len(), 1));
    let (told, _) = crate::destroy::destroyed(&story, &key).await;
    assert!(told.unrecoverable_after.is_some());
}
