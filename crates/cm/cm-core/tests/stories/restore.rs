//! What a restore takes, and what doesn't come in with one: approvals twice, trees that were signed over, foreign keys.

use std::sync::Arc;

use cm_api::restore::Restore;
use cm_api::rpc::Reason;
use cm_api::{Executed, KeyCreated, ModuleError, Refusal};
use cm_core::MIGRATIONS;
use cm_core::backup::{BackupError, target};
use cm_soft::SoftBackend;
use core_types::{Digest32, KeyAlg, Level, UnixTime, sha256};
use sam_keys::Origin;
use store_kit::testing::TestStore;

use crate::backup::{backup_of, ledger, restore, restore_on, root};
use crate::ceremony::{as_signers, checkpoint, held, log_key, seal_key};
use crate::destroy::{KeyRow, attack};
use crate::faulty::Faulty;
use crate::kit::{NOW, P256, SAM, Story, digest, generate, refusal, sign};
use crate::switch::Officers;

/// When the restores of these stories take place.
const THEN: UnixTime = UnixTime(NOW.0 + 7);

pub async fn stores() -> impl Iterator<Item = (TestStore, TestStore, TestStore)> {
    let more = store_kit::testing::both(MIGRATIONS).await;
    let most = store_kit::testing::both(MIGRATIONS).await;
    let first = store_kit::testing::both(MIGRATIONS).await.into_iter();
    first.zip(more).zip(most).map(|((a, b), c)| (a, b, c))
}

// shows: III-A1.4.2-dual-control, I-7.1.7.2-privileged-restore, T-INS-OPERATOR
#[tokio::test]
async fn a_restore_uses_up_what_two_officers_approved() {
    for (test, to, elsewhere) in stores().await {
        let officers = Officers::new();
        let mut story = Story::begin(test, Arc::new(SoftBackend)).await;
        story.module = story.again_with(&officers.setup()).await;
        story.key(KeyAlg::P256).await;
        let (file, made) = backup_of(&story).await;
        let ledger = ledger(&story).await;
        let wanted = Restore {
            sam: SAM.into(),
            root: story.module.root().kid(),
            backup: made.id,
            target: target(&to.store).await.unwrap(),
            reason: "the disk failed".into(),
            exp: THEN.plus(86_400),
        };
        let approve = |officers: &Officers, who: &[usize], of: &Restore| -> Vec<String> {
            let sign = |i: &usize| of.approve(&officers.0[*i]).unwrap();
            who.iter().map(sign).collect()
        };
        let ask = async |into: &TestStore, approvals: &[String]| {
            restore_on(&SoftBackend, into, &file, &root(7), (&ledger, approvals)).await
        };
        let other = |change: fn(&mut Restore)| {
            let mut other = wanted.clone();
            change(&mut other);
            approve(&officers, &[0, 1], &other)
        };
        for (what, approvals) in [
            ("none", Vec::new()),
            ("one", approve(&officers, &[0], &wanted)),
            ("one twice", approve(&officers, &[0, 0], &wanted)),
            ("strangers", approve(&Officers::new(), &[0, 1], &wanted)),
            ("another backup", other(|r| r.backup = Digest32([1; 32]))),
            ("another store", other(|r| r.target = Digest32([1; 32]))),
            ("another module", other(|r| r.root = "other".to_owned())),
            ("of another SAM", other(|r| r.sam = "other".to_owned())),
            ("no reason", other(|r| r.reason = String::new())),
            ("too late", other(|r| r.exp = THEN)),
            ("too long", other(|r| r.exp = THEN.plus(86_401))),
        ] {
            let refused = ask(&to, &approvals).await;
            assert!(matches!(refused, Err(BackupError::NotApproved)), "{what}");
        }
        let two = approve(&officers, &[2, 0], &wanted);
        assert_eq!(ask(&to, &two).await.unwrap().keys, 1);
        // Good once: neither here, nor elsewhere, nor here after somebody emptied the store.
        let again = ask(&to, &two).await;
        assert!(matches!(again, Err(BackupError::NotEmpty)));
        let again = ask(&elsewhere, &two).await;
        assert!(matches!(again, Err(BackupError::NotApproved)));
        story.test = to;
        assert_eq!(story.audited("cm.restore-approved").await, 1);
        for emptied in [
            "DELETE FROM cm_key",
            "DELETE FROM cm_secret",
            "DELETE FROM cm_switch",
            "DELETE FROM cm_public_key",
        ] {
            attack(&story, emptied).await;
        }
        let again = ask(&story.test, &two).await;
        assert!(matches!(again, Err(BackupError::NotApproved)));
    }
}

// shows: III-3-10-backup, T-KEY-MISUSE, T-KEY-ABUSE
#[tokio::test]
async fn a_log_key_that_was_restored_signs_no_other_history() {
    for (test, to, last) in stores().await {
        let officers = Officers::new();
        let mut story = Story::begin(test, Arc::new(SoftBackend)).await;
        story.module = story.again_with(&officers.setup()).await;
        let key = officers.made(&story, log_key()).await;
        let spki = sha256(&[&key.spki.0]);
        let ask = async |story: &Story, size, root| {
            let order = story.order(checkpoint(&key.key, spki, size, root));
            match story.module.execute(&order).await {
                Ok(Executed::Signed(values)) => Ok(values),
                Ok(other) => panic!("a checkpoint was ordered: {other:?}"),
                Err(ModuleError::Refused(refusal)) => Err(refusal),
                Err(ModuleError::Unknown) => panic!("unknown"),
            }
        };
        ask(&story, 5, 1).await.unwrap();
        let (old, made) = backup_of(&story).await;
        let before = KeyRow::of(&story, &as_signers(&key)).await;
        let signed = ask(&story, 9, 3).await.unwrap();
        // Held after the backup: the log knows that its approval is spent.
        let late = officers.approved(&[0, 1], &held(&story, seal_key()));
        story.module.ceremony(&late).await.unwrap();
        let known = ledger(&story).await;
        let two = |module: &cm_core::Module, backup, target| -> Vec<String> {
            let wanted = Restore {
                sam: SAM.into(),
                root: module.root().kid(),
                backup,
                target,
                reason: "the disk failed".into(),
                exp: THEN.plus(60),
            };
            (0..2)
                .map(|i| wanted.approve(&officers.0[i]).unwrap())
                .collect()
        };
        let approvals = two(&story.module, made.id, target(&to.store).await.unwrap());
        let done = restore_on(&SoftBackend, &to, &old, &root(7), (&known, &approvals)).await;
        assert_eq!(done.unwrap().set_forward, std::slice::from_ref(&key.key));
        story.test = to;
        let other = Err(Refusal::NotAllowed(Reason::OtherTree));
        let goes_on = async |story: &Story| {
            for (size, root) in [(6, 2), (9, 4), (8, 3), (5, 1)] {
                assert_eq!(ask(story, size, root).await, other, "{size} {root}");
            }
            assert_eq!(
                ask(story, 9, 3).await.unwrap(),
                signed,
                "the last one again"
            );
        };
        story.module = story.again_with(&officers.setup()).await;
        goes_on(&story).await;
        let again = story.module.ceremony(&late).await;
        assert_eq!(refusal(again), Refusal::Duplicate);
        // What officers signed comes along: of the ceremony before the backup, and of the restore itself.
        let kept = story.module.approvals().await.unwrap();
        assert_eq!(kept.len(), 2);
        assert!(kept.iter().any(|k| k.signed == approvals));
        // The new log alone says it to the next restore, and about the row of before.
        let (file, made) = backup_of(&story).await;
        let known = ledger(&story).await;
        let approvals = two(&story.module, made.id, target(&last.store).await.unwrap());
        let done = restore_on(&SoftBackend, &last, &file, &root(7), (&known, &approvals)).await;
        done.unwrap();
        story.test = last;
        story.module = story.again_with(&officers.setup()).await;
        goes_on(&story).await;
        let good = KeyRow::of(&story, &as_signers(&key)).await;
        before.replace(&story).await;
        story.module = story.again_with(&officers.setup()).await;
        let found = story.module.scrub().await.unwrap();
        assert_eq!(found.set_back, std::slice::from_ref(&key.key));
        assert_eq!(ask(&story, 11, 4).await, Err(Refusal::NoSuchKey));
        good.replace(&story).await;
        story.module = story.again_with(&officers.setup()).await;
        ask(&story, 10, 4).await.unwrap();
    }
}

// shows: III-3-15-import-L3, III-3-10-backup, T-REG-IMP-FOREIGN-KEY, T-REG-IMP-UNAUTH
#[tokio::test]
async fn no_key_of_level_three_comes_in_with_a_foreign_backup() {
    for (test, to, third) in stores().await {
        let declared = Faulty::default();
        let backend = Arc::new(declared.clone());
        // Somebody else's module, with a key of theirs.
        let theirs = store_kit::testing::sqlite(MIGRATIONS).await;
        let theirs = Story::begin_with(theirs, backend.clone(), 8).await;
        let mut story = Story::begin(test, backend).await;
        // Without officers, so that nothing but what is tested here refuses a restore.
        declared.plan(|plan| plan.level = Some(Level::Three));
        let key = at_level_three(&theirs).await;
        let (foreign, _) = backup_of(&theirs).await;
        let known = ledger(&theirs).await;

        let own = at_level_three(&story).await;
        let (file, made) = backup_of(&story).await;
        let own_known = ledger(&story).await;
        let ask = async |into: &TestStore, file: &[u8], secret: u8, known| {
            restore(into, file, &root(secret), known)
                .await
                .map(|r| r.keys)
        };
        let refused = ask(&story.test, &foreign, 8, &known).await;
        assert!(matches!(refused, Err(BackupError::NotEmpty)), "{refused:?}");
        let refused = ask(&to, &foreign, 7, &known).await;
        assert!(
            matches!(refused, Err(BackupError::WrongRoot)),
            "{refused:?}"
        );
        // A row of it among the own ones, and the own head and end around it.
        let (theirs_text, text) = (lines(&foreign), lines(&file));
        let [head, first, rest @ ..] = text.as_slice() else {
            panic!("a backup")
        };
        let rest = rest.iter().map(String::as_str).collect::<Vec<_>>();
        let among = [&[head.as_str(), &theirs_text[1], first], rest.as_slice()].concat();
        let instead = [&[head.as_str(), &theirs_text[1]], rest.as_slice()].concat();
        let mut around: Vec<_> = theirs_text.iter().map(String::as_str).collect();
        around[0] = head;
        for mixed in [among, instead, around] {
            let mixed = format!("{}\n", mixed.join("\n"));
            let refused = ask(&to, mixed.as_bytes(), 7, &own_known).await;
            assert!(refused.is_err(), "{refused:?}");
        }
        // A row of it in the store.
        KeyRow::of(&theirs, &key).await.put(&story).await;
        assert_eq!(story.refused(use_of(&key)).await, Refusal::NoSuchKey);
        let found = story.module.scrub().await.unwrap();
        assert_eq!(found.set_back, std::slice::from_ref(&key.key));
        // A whole module of theirs is one that nobody here knows: its origins are by another root key.
        assert_eq!(ask(&to, &foreign, 8, &known).await.unwrap(), 1);
        let own_root = [story.module.root().clone()];
        assert!(Origin::verify(&key.statement, &own_root).is_err());
        Origin::verify(&own.statement, &own_root).unwrap();
        // The own backup on a device of which nothing is declared: its keys are there, and of no use.
        assert_eq!(made.keys, 1);
        assert_eq!(ask(&third, &file, 7, &own_known).await.unwrap(), 1);
        declared.plan(|plan| plan.level = None);
        story.test = third;
        story.module = story.again(7).await.unwrap();
        let level = Refusal::NotAllowed(Reason::Level);
        assert_eq!(story.refused(use_of(&own)).await, level);
    }
}

async fn at_level_three(story: &Story) -> KeyCreated {
    let order = story.order(generate(KeyAlg::P256, Level::Three));
    match story.module.execute(&order).await {
        Ok(Executed::Created(key)) => key,
        other => panic!("{:?}", refusal(other)),
    }
}

fn use_of(key: &KeyCreated) -> cm_api::OrderKind {
    crate::kit::by_act(8, sign(key, P256, &[digest(P256, "a")]))
}

fn lines(file: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(file).unwrap();
    text.lines().map(str::to_owned).collect()
}
