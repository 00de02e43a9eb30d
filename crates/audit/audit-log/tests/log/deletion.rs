//! Deleting entries that are archived: what goes, what stays, what goes on working, and every way it must not happen.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::collections::BTreeMap;

use audit_log::{
    AuditError, AuditLog, Deletion, DeletionError, Event, ForgetError, Leaves, Query, Resource,
    Sequencer, Setting, Summary, TABLES, Told, export, fetch, is_forgotten, prove, read_back,
    search,
};
use core_types::{Digest32, FactorId, OfficerId, PersonId, UnixTime, sha256};
use store_kit::testing;
use store_kit::{Store, StoreError, sql, transaction};

use crate::kit::{NOW, event, key, log, open, tamper, write};

/// Entries before the cut, of which the last is the 700th.
const WRITTEN: i64 = 700;

/// Counts entries by type, as a zone might.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
struct Counts(BTreeMap<String, u64>);

impl Summary for Counts {
    fn take(&mut self, told: Told<'_>) -> Result<(), &'static str> {
        match told {
            Told::Summary(part) => {
                let noted: BTreeMap<String, u64> = serde_json::from_str(part).map_err(|_| "bad")?;
                self.0.extend(noted);
            }
            Told::Entry(body) => {
                let body: serde_json::Value = serde_json::from_str(body).map_err(|_| "bad")?;
                let kind = body["kind"].as_str().unwrap_or_default().to_owned();
                *self.0.entry(kind).or_default() += 1;
            }
            Told::Again => self.0.clear(),
        }
        Ok(())
    }

    fn parts(&self) -> Result<Vec<String>, &'static str> {
        Ok(vec![serde_json::to_string(&self.0).map_err(|_| "bad")?])
    }
}

fn digest(n: u8) -> Digest32 {
    Digest32([n; 32])
}

pub(crate) fn deletion(size: u64, archive: u8) -> Deletion {
    Deletion {
        size,
        archive: digest(archive),
        proposal: digest(archive + 100),
        officers: ["o1", "o2"].map(|id| OfficerId::parse(id).unwrap()),
        before: NOW.plus(10_000),
    }
}

pub(crate) async fn leaves(store: &Store) -> Leaves {
    let mut tx = store.read("leaves").await.unwrap();
    let rows = tx
        .fetch_all(sql(
            "SELECT body FROM audit_entry WHERE seq IS NOT NULL ORDER BY seq",
        ))
        .await
        .unwrap();
    let hash = |body: String| sha256(&[&[0], body.as_bytes()]);
    Leaves {
        from: 0,
        hashes: rows.iter().map(|r| hash(r.text("body").unwrap())).collect(),
    }
}

async fn count(store: &Store, query: &'static str) -> i64 {
    let mut tx = store.read("count").await.unwrap();
    tx.fetch_one(sql(query)).await.unwrap().int("n").unwrap()
}

pub(crate) async fn append(store: &Store, log: &AuditLog, events: &[Event], at: UnixTime) {
    let done: Result<_, StoreError> =
        transaction!(store, "test", |tx| { log.append_all(tx, events, at).await });
    done.unwrap();
}

async fn counted(store: &Store) -> Result<Counts, AuditError> {
    let mut counts = Counts::default();
    read_back(&log("a"), store, |told| counts.take(told)).await?;
    Ok(counts)
}

/// A log of two nodes with what has to stay near its beginning, and a reader's count of it.
async fn filled(store: &Store) -> (Sequencer, Counts) {
    let sequencer = open(store).await.unwrap();
    let person = PersonId::parse("p-forgotten").unwrap();
    let act = digest(77);
    let factor = FactorId::parse("f1").unwrap();
    let first = [
        Event::StoreRestored {
            backup: digest(20),
            target: digest(21),
            operator: digest(22),
            officer: digest(23),
            approvals: digest(24),
        },
        Event::LogReplayed { from: 0, size: 1 },
        Event::AuditStarted {},
        Event::Enrolled {
            person: person.clone(),
            factor: factor.clone(),
            method: "passkey".into(),
            act: digest(76),
            evidence: digest(1),
        },
        Event::ActApproved {
            act,
            person: person.clone(),
            proof: digest(2),
            evidence: digest(3),
            sign_until: NOW,
        },
        Event::FactorAdded {
            person: person.clone(),
            factor,
            method: "passkey".into(),
            act,
            evidence: digest(4),
        },
        Event::ActApproved {
            act: digest(78),
            person: person.clone(),
            proof: digest(5),
            evidence: digest(6),
            sign_until: NOW,
        },
        Event::StoreBackedUp {
            backup: digest(24),
            signer: digest(25),
        },
    ];
    append(store, &log("a"), &first, NOW).await;
    let forgotten: Result<_, StoreError> = transaction!(store, "test", |tx| {
        log("a").forget(tx, &person, digest(9), NOW).await
    });
    assert!(forgotten.unwrap());
    let all: Vec<i64> = (9..WRITTEN).collect();
    for (n, some) in all.chunks(25).enumerate() {
        let events: Vec<_> = some.iter().map(|n| event(*n)).collect();
        let node = if n % 3 == 0 { "b" } else { "a" };
        append(store, &log(node), &events, NOW.plus(some[0])).await;
    }
    sequencer.sequence(store, NOW).await.unwrap();
    let counts = counted(store).await.unwrap();
    (sequencer, counts)
}

// shows: I-7.1.4.3-delete-after-archive
#[tokio::test]
async fn what_is_archived_goes_and_the_log_goes_on() {
    for store in testing::both(&[TABLES]).await {
        let (sequencer, counts) = filled(&store).await;
        let archive = leaves(&store).await;
        let before = prove(&store, &[3, 600]).await.unwrap().unwrap();
        let mut noted = Counts::default();
        let done = sequencer
            .delete_archived(&store, &deletion(512, 1), &archive, &mut noted, NOW)
            .await
            .unwrap();
        // Restored, brought up, started, enrolled, the act that added a factor, that it was added, backed up, who was forgotten.
        assert_eq!((done.from, done.size, done.kept), (0, 512, 8));
        let left = "SELECT count(*) AS n FROM audit_entry WHERE seq < 512";
        assert_eq!(count(&store, left).await, 8);
        assert_eq!(noted.0.values().sum::<u64>(), 512);

        // Reading counts on from what was noted; who was forgotten is still told; starts are still counted.
        let after = counted(&store).await.unwrap();
        let mut wanted = counts.clone();
        wanted.0.insert("audit.log-deleted".to_owned(), 1);
        assert_eq!(after, wanted);
        let mut tx = store.read("test").await.unwrap();
        let alias = "SELECT body FROM audit_entry WHERE kind = 'audit.person-forgotten'";
        let body = tx.fetch_one(sql(alias)).await.unwrap();
        let body: serde_json::Value = serde_json::from_str(&body.text("body").unwrap()).unwrap();
        let alias = body["detail"]["alias"].as_str().unwrap();
        assert!(is_forgotten(&mut tx, alias).await.unwrap());
        drop(tx);
        let setting: Setting = ("one", digest(1));
        log("a").audits_by(&store, &[setting], NOW).await.unwrap();
        sequencer.sequence(&store, NOW.plus(1)).await.unwrap();

        // Proofs are the same as before, of what went too; tiles of hashes are there, bundles of entries aren't.
        let again = prove(&store, &[3, 600]).await.unwrap().unwrap();
        assert_eq!(again.paths, before.paths);
        let resource = |path: &str| Resource::parse(path).unwrap();
        let tile = fetch(&store, resource("tile/0/001"))
            .await
            .unwrap()
            .unwrap();
        let hashes: Vec<u8> = archive.hashes[256..512].iter().flat_map(|h| h.0).collect();
        assert_eq!(tile, hashes);
        let bundle = fetch(&store, resource("tile/entries/001")).await.unwrap();
        assert_eq!(bundle, None);
        let whole = fetch(&store, resource("tile/entries/002.p/100")).await;
        assert!(whole.unwrap().is_some());

        // A search says what it can't see.
        let found = search(&store, &Query::default()).await.unwrap();
        assert_eq!(found.archived.len(), 1);
        let part = &found.archived[0];
        assert_eq!((part.size, part.archive), (512, digest(1)));
        let later = Query {
            from: part.last.plus(1),
            ..Query::default()
        };
        assert!(search(&store, &later).await.unwrap().archived.is_empty());

        // A zone that starts again finds all in order, and the log grows over the next cut.
        let sequencer = open(&store).await.unwrap();
        let mut more: Vec<_> = (WRITTEN..1_100).map(event).collect();
        more[0] = Event::PagesDeclared {
            whose: "signers".into(),
            evidence: digest(30),
            files: 3,
        };
        append(&store, &log("b"), &more, NOW.plus(WRITTEN)).await;
        sequencer.sequence(&store, NOW.plus(2)).await.unwrap();
        let mut archive = leaves(&store).await;
        // The second archive begins where the first ended.
        archive.hashes.drain(..8);
        archive.from = 512;
        let mut noted = Counts::default();
        let next = sequencer
            .delete_archived(&store, &deletion(1_024, 2), &archive, &mut noted, NOW)
            .await
            .unwrap();
        // The entry of the first deletion stays, and what a monitor holds the pages against.
        assert_eq!((next.from, next.size, next.kept), (512, 1_024, 2));
        let pages = "SELECT count(*) AS n FROM audit_entry WHERE kind = 'pages.declared'";
        assert_eq!(count(&store, pages).await, 1);
        let end = counted(&store).await.unwrap();
        assert_eq!(end.0["audit.log-deleted"], 2);
        open(&store).await.unwrap();
        let found = search(&store, &Query::default()).await.unwrap();
        assert_eq!(found.archived.len(), 2);
        let dir = tempfile::tempdir().unwrap();
        let public = key().public();
        export(&store, dir.path(), &public).await.unwrap();
        assert!(!dir.path().join("tile/entries/003").exists());
        assert!(dir.path().join("tile/0/003").exists());
        assert!(dir.path().join("archived.json").exists());
    }
}

/// Nodes go on comparing their rows with the log while an officer's command takes entries away.
// shows: I-7.1.4.3-delete-after-archive, I-7.1.4.8-audit-integrity-verifier
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_beside_a_reader_is_not_taken_for_tampering() {
    for store in testing::both(&[TABLES]).await {
        let (sequencer, _) = filled(&store).await;
        // A reader takes a thousand entries at a time.
        let more: Vec<_> = (WRITTEN..1_400).map(event).collect();
        append(&store, &log("a"), &more, NOW.plus(WRITTEN)).await;
        sequencer.sequence(&store, NOW).await.unwrap();
        let mut wanted = counted(&store).await.unwrap();
        let archive = leaves(&store).await;
        let runtime = tokio::runtime::Handle::current();
        let (mut counts, mut again) = (Counts::default(), 0);
        for size in [1_024, 1_280] {
            let (mut first, own) = (true, log("a"));
            let read = read_back(&own, &store, |told| {
                if std::mem::take(&mut first) {
                    let mut noted = Counts::default();
                    let deletion = deletion(size, 1);
                    let done =
                        sequencer.delete_archived(&store, &deletion, &archive, &mut noted, NOW);
                    let done = tokio::task::block_in_place(|| runtime.block_on(done));
                    assert_eq!(done.unwrap().size, size);
                }
                again += u32::from(told == Told::Again);
                counts.take(told)
            });
            read.await.unwrap();
            *wanted.0.entry("audit.log-deleted".to_owned()).or_default() += 1;
            assert_eq!(counts, wanted);
            counts = Counts::default();
        }
        assert_eq!(again, 2, "each time it began anew");
        // An entry that nobody deleted is missing.
        tamper(&store, "DELETE FROM audit_entry WHERE seq = 1390").await;
        let read = read_back(&log("a"), &store, |_| Ok(())).await;
        assert!(matches!(read, Err(AuditError::Missing(1_390))), "{read:?}");
    }
}

// shows: I-7.1.4.3-delete-after-archive
#[tokio::test]
async fn nothing_goes_that_an_archive_lacks_or_that_is_young() {
    for store in testing::both(&[TABLES]).await {
        let (sequencer, counts) = filled(&store).await;
        let archive = leaves(&store).await;
        let try_it = async |deletion: Deletion, archive: &Leaves| {
            let mut noted = Counts::default();
            let done = sequencer.delete_archived(&store, &deletion, archive, &mut noted, NOW);
            done.await.unwrap_err()
        };
        let short = Leaves {
            hashes: archive.hashes[..511].to_vec(),
            from: 0,
        };
        let shifted = Leaves {
            from: 1,
            ..archive.clone()
        };
        let mut altered = archive.clone();
        altered.hashes[300] = digest(0);
        let wrong = |error| match error {
            DeletionError::NotArchived(place) => place,
            other => panic!("{other:?}"),
        };
        assert_eq!(wrong(try_it(deletion(512, 1), &short).await), 511);
        assert_eq!(wrong(try_it(deletion(512, 1), &shifted).await), 0);
        assert_eq!(wrong(try_it(deletion(512, 1), &altered).await), 300);
        let recent = Deletion {
            before: NOW.plus(200),
            ..deletion(512, 1)
        };
        let error = try_it(recent, &archive).await;
        assert!(matches!(error, DeletionError::Recent(_)), "{error:?}");
        for size in [1, 255, 513, 768, 1_024] {
            let error = try_it(deletion(size, 1), &archive).await;
            assert!(matches!(error, DeletionError::Range(700)), "{error:?}");
        }
        let error = try_it(deletion(0, 1), &archive).await;
        assert!(matches!(error, DeletionError::Done(0)), "{error:?}");
        // A log that isn't what was written isn't made shorter.
        tamper(
            &store,
            "UPDATE audit_entry SET kind = 'alarm' WHERE seq = 40",
        )
        .await;
        let error = try_it(deletion(512, 1), &archive).await;
        assert!(
            matches!(error, DeletionError::Log(AuditError::Entry { .. })),
            "{error:?}"
        );
        tamper(
            &store,
            "UPDATE audit_entry SET kind = 'key.suspended' WHERE seq = 40",
        )
        .await;
        let all = "SELECT count(*) AS n FROM audit_entry";
        assert_eq!(count(&store, all).await, WRITTEN);
        assert_eq!(counted(&store).await.unwrap(), counts);

        let mut noted = Counts::default();
        sequencer
            .delete_archived(&store, &deletion(256, 1), &archive, &mut noted, NOW)
            .await
            .unwrap();
        let error = try_it(deletion(256, 1), &archive).await;
        assert!(matches!(error, DeletionError::Done(256)), "{error:?}");
    }
}

// shows: I-7.1.4.3-delete-after-archive, I-7.1.4.8-audit-integrity-verifier
#[tokio::test]
async fn what_stays_of_deleted_entries_cannot_be_altered() {
    for (n, (change, back)) in [
        (
            "UPDATE audit_tile SET hashes = (SELECT t.hashes FROM audit_tile t WHERE t.n = 0) WHERE n = 1",
            None,
        ),
        ("DELETE FROM audit_tile WHERE n = 1", None),
        (
            "UPDATE audit_summary SET body = '{\"key.suspended\":1}'",
            None,
        ),
        ("DELETE FROM audit_summary", None),
        ("DELETE FROM audit_cut", None),
        (
            "UPDATE audit_cut SET state = replace(state, '\"size\":512', '\"size\":256')",
            None,
        ),
        (
            "UPDATE audit_cut SET state = replace(state, '\"last\":', '\"last\":1')",
            None,
        ),
        ("UPDATE audit_cut SET size = 256", None),
        // An entry that stays, altered; and one that was put in the place of one that went.
        (
            "UPDATE audit_entry SET body = replace(body, 'passkey', 'passkez') WHERE kind = 'factor.added'",
            None,
        ),
        (
            "UPDATE audit_entry SET person = NULL WHERE kind = 'person.enrolled'",
            None,
        ),
        (
            "UPDATE audit_entry SET seq = 9 WHERE kind = 'person.enrolled'",
            Some("UPDATE audit_entry SET seq = 3 WHERE kind = 'person.enrolled'"),
        ),
        // More goes than was decided.
        ("DELETE FROM audit_entry WHERE seq = 512", None),
        ("DELETE FROM audit_entry WHERE kind = 'audit.log-deleted'", None),
        (
            "UPDATE audit_tree SET state = replace(state, '\"cut\":512', '\"cut\":256')",
            None,
        ),
        (
            "DELETE FROM audit_checkpoint WHERE size = 700",
            None,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        // One store a manipulation, by turns.
        let store = match n % 2 {
            0 => testing::sqlite(&[TABLES]).await,
            _ => testing::postgres(&[TABLES]).await,
        };
        let (sequencer, _) = filled(&store).await;
        let archive = leaves(&store).await;
        let mut noted = Counts::default();
        sequencer
            .delete_archived(&store, &deletion(512, 1), &archive, &mut noted, NOW)
            .await
            .unwrap();
        counted(&store).await.unwrap();
        tamper(&store, change).await;
        let read = counted(&store).await;
        if change.contains("audit_checkpoint") {
            // The witness's affair, as ever: the list of checkpoints isn't needed to read.
            assert!(read.is_ok(), "{change}");
            continue;
        }
        assert!(read.is_err(), "{change}");
        if let Some(back) = back {
            tamper(&store, back).await;
            counted(&store).await.unwrap();
        }
    }
}

#[tokio::test]
async fn nobody_is_forgotten_while_entries_about_them_have_to_be_kept() {
    for store in testing::both(&[TABLES]).await {
        let sequencer = open(&store).await.unwrap();
        let filling = Event::ClockState {
            state: "unsynchronised".into(),
        };
        for (n, count) in [(20, 250), (280, 40)] {
            append(&store, &log("a"), &vec![filling.clone(); count], NOW).await;
            write(&store, &log("a"), n).await;
        }
        sequencer.sequence(&store, NOW).await.unwrap();
        let forget = async |person: &str, before: i64| {
            let person = PersonId::parse(person).unwrap();
            let (by, before) = (digest(9), NOW.plus(before));
            let log = log("a");
            let done = log.forget_person(&store, &person, by, before, NOW.plus(9_000));
            done.await
        };
        let kept = |done: Result<bool, ForgetError>| match done {
            Err(ForgetError::Kept(at)) => at,
            other => panic!("{other:?}"),
        };
        assert_eq!(kept(forget("p20", 20).await), NOW.plus(20));
        let archive = leaves(&store).await;
        sequencer
            .delete_archived(&store, &deletion(256, 1), &archive, &mut (), NOW)
            .await
            .unwrap();
        // Entries that are gone count as well.
        assert_eq!(kept(forget("p20", 20).await), NOW.plus(20));
        assert_eq!(kept(forget("p280", 280).await), NOW.plus(280));
        assert!(forget("p20", 21).await.unwrap());
        assert!(forget("p280", 281).await.unwrap());
        assert!(!forget("p20", 21).await.unwrap(), "once");
        assert!(!forget("nobody", 0).await.unwrap());
        counted(&store).await.unwrap();
        let told = "SELECT count(*) AS n FROM audit_entry WHERE kind = 'audit.person-forgotten'";
        assert_eq!(count(&store, told).await, 2);
    }
}

/// A crash between the decision and the end of the removal.
#[tokio::test]
async fn what_a_crash_left_of_deleted_entries_is_removed_by_asking_again() {
    for store in testing::both(&[TABLES]).await {
        let (sequencer, _) = filled(&store).await;
        let archive = leaves(&store).await;
        let copy = [
            "CREATE TABLE then_entry AS SELECT * FROM audit_entry WHERE seq < 400",
            "INSERT INTO audit_entry SELECT * FROM then_entry t WHERE NOT EXISTS (SELECT 1 FROM audit_entry e WHERE e.node = t.node AND e.n = t.n)",
        ];
        let run = async |text: &'static str| {
            let done: Result<_, StoreError> =
                transaction!(store, "test", |tx| { tx.execute(sql(text)).await });
            done.unwrap();
        };
        run(copy[0]).await;
        let mut noted = Counts::default();
        sequencer
            .delete_archived(&store, &deletion(512, 1), &archive, &mut noted, NOW)
            .await
            .unwrap();
        let whole = counted(&store).await.unwrap();
        run(copy[1]).await;
        let left = "SELECT count(*) AS n FROM audit_entry WHERE seq < 512";
        assert_eq!(count(&store, left).await, 400);
        // As after the crash: the log reads the same, and an export still has whole bundles.
        assert_eq!(counted(&store).await.unwrap(), whole);
        let sequencer = open(&store).await.unwrap();
        let again = sequencer
            .delete_archived(&store, &deletion(512, 1), &archive, &mut noted, NOW)
            .await;
        assert!(matches!(again, Err(DeletionError::Done(512))));
        assert_eq!(count(&store, left).await, 8);
        assert_eq!(counted(&store).await.unwrap(), whole);
    }
}
