//! A database that goes away under a zone, and comes back as its standby.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use audit_log::{Asking, AuditLog, Carrier, Measure, Sequencer, TABLES, Witness, Witnesses};
use core_types::clock::ManualClock;
use core_types::{Clock, UnixTime};
use store_kit::testing::{self, Replicated};
use store_kit::{Store, StoreError, sql, transaction};

use crate::kit::{NOW, event, key, log, open, write};

/// A clock that stands.
struct Standing;

impl Clock for Standing {
    fn now(&self) -> UnixTime {
        NOW
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

// shows: I-7.1.4.3-no-unauthorised-deletion
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_waited_for_and_nothing_is_lost() {
    let mut database = Replicated::start();
    let random = core_types::random::SystemRandom;
    let opened = Store::open(database.url(), "audit", &[TABLES], &random).await;
    let store = opened.unwrap();
    let sequencer = open(&store).await.unwrap();
    write(&store, &log("a"), 0).await;
    let often = Duration::from_millis(1);
    let keep = sequencer.keep(&store, &Standing, often);
    let outage = async {
        let shown = |count| {
            let store = store.clone();
            async move {
                // A call on a connection to the server that is gone fails: the next has another.
                loop {
                    let Ok(mut tx) = store.read("count").await else {
                        continue;
                    };
                    let row = tx.fetch_one(sql(
                        "SELECT count(*) AS n FROM audit_entry WHERE seq IS NOT NULL",
                    ));
                    if row.await.and_then(|row| row.int("n")).ok() == Some(count) {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
        };
        shown(1).await;
        let database = tokio::task::spawn_blocking(move || {
            database.fail_over();
            database
        });
        let database = database.await.unwrap();
        shown(1).await;
        write(&store, &log("a"), 1).await;
        shown(2).await;
        drop(database);
    };
    let ended = tokio::select! {
        error = keep => Some(error),
        done = tokio::time::timeout(Duration::from_secs(60), outage) => {
            done.unwrap();
            None
        }
    };
    assert!(ended.is_none(), "{ended:?}");
}

/// An entry, unless it is refused.
async fn append(store: &Store, log: &AuditLog, n: i64) -> Result<(), StoreError> {
    transaction!(store, "test", |tx| {
        log.append(tx, event(n), NOW).await.map(drop)
    })
}

/// Lets time pass until nothing more is written; answers how many entries were.
async fn until_refused(store: &Store, log: &AuditLog, clock: &ManualClock) -> i64 {
    let mut written = 0;
    let error = loop {
        match append(store, log, written).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        clock.advance(30);
    };
    assert!(matches!(error, StoreError::Unplaced), "{error}");
    assert!(error.is_away(), "nobody ends for it");
    written
}

async fn change(store: &Store, statements: &[&'static str]) {
    let done: Result<(), StoreError> = transaction!(store, "change", |tx| {
        for statement in statements {
            tx.execute(sql(statement)).await?;
        }
        Ok(())
    });
    done.unwrap();
}

async fn counted(store: &Store, query: &'static str) -> i64 {
    let mut tx = store.read("count").await.unwrap();
    tx.fetch_one(sql(query)).await.unwrap().int("n").unwrap()
}

const UNPLACED: &str = "SELECT count(*) AS n FROM audit_entry WHERE seq IS NULL";

/// Whoever administers the database lets the zone write, and keeps the sequencer from its work: with a trigger that looks like a full
/// disk, and with a lock.
// shows: I-7.1.4.3-no-unauthorised-deletion
#[tokio::test(flavor = "multi_thread")]
async fn who_keeps_the_sequencer_from_its_work_ends_all_work_until_it_gets_on() {
    let store = testing::postgres(&[TABLES]).await;
    let (own, clock) = (log("a"), ManualClock::at(NOW));
    let opened = Sequencer::open(own.clone(), key(), None, &store).await;
    let sequencer = opened.unwrap();
    // What no sequencer follows is never late.
    append(&store, &own, 0).await.unwrap();
    clock.advance(9_999);
    append(&store, &own, 0).await.unwrap();
    let keep = sequencer.keep(&store, &clock, Duration::from_millis(1));
    let story = async {
        let goes_on = async |alarms: i64| {
            // The refusal ends by itself.
            while append(&store, &own, 0).await.is_err() {
                tokio::task::yield_now().await;
            }
            let told = "SELECT count(*) AS n FROM audit_entry WHERE kind = 'alarm' AND body LIKE '%checkpoint-late%'";
            while counted(&store, told).await < alarms || counted(&store, UNPLACED).await > 0 {
                tokio::task::yield_now().await;
            }
            assert_eq!(counted(&store, told).await, alarms, "told once");
        };
        change(
            &store,
            &[
                "CREATE FUNCTION stuck() RETURNS trigger LANGUAGE plpgsql AS \
                 'BEGIN RAISE EXCEPTION ''no space left on device'' USING ERRCODE = ''53100''; END'",
                "CREATE TRIGGER stuck BEFORE UPDATE ON audit_tree FOR EACH ROW EXECUTE FUNCTION stuck()",
            ],
        )
        .await;
        let written = until_refused(&store, &own, &clock).await;
        assert!(
            written >= 4,
            "some minutes are left to a database: {written}"
        );
        assert!(counted(&store, UNPLACED).await >= 4);
        change(&store, &["DROP TRIGGER stuck ON audit_tree"]).await;
        goes_on(1).await;

        let locked: Result<(), StoreError> = transaction!(store, "lock", |tx| {
            tx.execute(sql("LOCK TABLE audit_tree IN ACCESS EXCLUSIVE MODE"))
                .await?;
            until_refused(&store, &own, &clock).await;
            Ok(())
        });
        locked.unwrap();
        goes_on(2).await;
    };
    let ended = tokio::select! {
        error = keep => Some(error),
        done = tokio::time::timeout(Duration::from_secs(60), story) => {
            done.unwrap();
            None
        }
    };
    assert!(ended.is_none(), "{ended:?}");
}

/// A witness that isn't reached; notes that it was tried.
struct Unreached(Arc<AtomicBool>);

impl Carrier for Unreached {
    fn add_checkpoint(&self, _: String) -> Asking<'_> {
        self.0.store(true, Ordering::SeqCst);
        Box::pin(async { None })
    }
}

/// The key of some witness, as it is written in settings.
fn witness_key() -> String {
    use base64::Engine as _;
    let key = [&[4_u8][..], &[9; 32]].concat();
    let digest = core_types::sha256(&[b"w.example\n", &key]);
    let id = core_types::bytes::hex(&digest.0[..4]);
    let key = base64::engine::general_purpose::STANDARD.encode(key);
    format!("w.example+{id}+{key}")
}

/// Entries that get places while nobody may tell the witnesses of them are no better than those without places.
// shows: I-7.1.4.3-no-unauthorised-deletion
#[tokio::test(flavor = "multi_thread")]
async fn who_keeps_the_sequencer_from_the_witnesses_ends_all_work_until_it_gets_on() {
    let store = testing::postgres(&[TABLES]).await;
    let (own, clock) = (log("a"), ManualClock::at(NOW));
    let asked = Arc::new(AtomicBool::new(false));
    let carrier = Box::new(Unreached(asked.clone()));
    let witnesses = Witnesses {
        cosigners: vec![Witness::new(&witness_key(), carrier).unwrap()],
        patience: 60,
        measure: Measure::Alert,
    };
    let opened = Sequencer::open(own.clone(), key(), None, &store).await;
    // The log is empty: the witness isn't asked yet.
    let watched = opened.unwrap().watched_by(witnesses, &store, NOW).await;
    let sequencer = watched.unwrap();
    let keep = sequencer.keep(&store, &clock, Duration::from_millis(1));
    let story = async {
        append(&store, &own, 0).await.unwrap();
        while !asked.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        let locked: Result<(), StoreError> = transaction!(store, "lock", |tx| {
            tx.execute(sql("LOCK TABLE audit_cosignature IN ACCESS EXCLUSIVE MODE"))
                .await?;
            until_refused(&store, &own, &clock).await;
            // The run that hung was given up, and the next one gives places: that alone is no reason to go on.
            while counted(&store, UNPLACED).await > 0 {
                tokio::task::yield_now().await;
            }
            assert!(append(&store, &own, 0).await.is_err());
            Ok(())
        });
        locked.unwrap();
        // Neither does the witness, which is away, keep the log from its end.
        while append(&store, &own, 0).await.is_err() {
            tokio::task::yield_now().await;
        }
        for told in [
            "SELECT count(*) AS n FROM audit_entry WHERE kind = 'alarm' AND body LIKE '%checkpoint-late%'",
            "SELECT count(*) AS n FROM audit_entry WHERE kind = 'audit.witness-away'",
        ] {
            while counted(&store, told).await == 0 {
                tokio::task::yield_now().await;
            }
            assert_eq!(counted(&store, told).await, 1, "told once");
        }
    };
    let ended = tokio::select! {
        error = keep => Some(error),
        done = tokio::time::timeout(Duration::from_secs(60), story) => {
            done.unwrap();
            None
        }
    };
    assert!(ended.is_none(), "{ended:?}");
}
