//! What every zone relies on, on both stores.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod dump;
mod full;
mod group;

use std::sync::Arc;

use core_types::random::SystemRandom;
use store_kit::testing::{self, TestStore};
use store_kit::{
    Dialect, Migration, Migrations, Seen, Store, StoreError, Tx, share_lock, sql, transaction,
    update_lock,
};

const TABLES: &[Migrations] = &[Migrations {
    component: "counter",
    steps: &[Migration {
        name: "0001",
        sqlite: "CREATE TABLE counter (id TEXT PRIMARY KEY, n BIGINT NOT NULL, version BIGINT NOT NULL, note BLOB);
                 INSERT INTO counter VALUES ('a', 0, 0, NULL), ('b', 0, 0, NULL);",
        postgres: "CREATE TABLE counter (id TEXT PRIMARY KEY, n BIGINT NOT NULL, version BIGINT NOT NULL, note BYTEA);
                 INSERT INTO counter VALUES ('a', 0, 0, NULL), ('b', 0, 0, NULL);",
    }],
}];

async fn read(tx: &mut Tx, id: &str) -> Result<(i64, i64), StoreError> {
    let row = tx
        .fetch_one(sql("SELECT n, version FROM counter WHERE id = $1").bind(id))
        .await?;
    Ok((row.int("n")?, row.int("version")?))
}

async fn increment(store: &Store, id: &str) -> Result<i64, StoreError> {
    transaction!(store, "increment", |tx| {
        let (n, version) = read(tx, id).await?;
        let update = "UPDATE counter SET n = $1, version = $2 WHERE id = $3 AND version = $4";
        let update = sql(update)
            .bind(n + 1)
            .bind(version + 1)
            .bind(id)
            .bind(version);
        tx.cas(update).await?;
        Ok(n + 1)
    })
}

async fn value(store: &Store, id: &str) -> i64 {
    let mut tx = store.read("value").await.expect("a snapshot");
    read(&mut tx, id).await.expect("the counter").0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_compare_and_swap_loses_nothing() {
    for store in testing::both(TABLES).await {
        let shared = Arc::new(store);
        // Spawned: the future of a transaction must be Send with borrowed captures.
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let store = Arc::clone(&shared);
                tokio::spawn(async move {
                    let id = String::from("a");
                    let mut done = 0;
                    for _ in 0..2 {
                        // Under this contention a caller may be told to try again; nobody may be lied to.
                        while increment(&store, &id).await.is_err() {}
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        let mut total = 0;
        for task in tasks {
            total += task.await.unwrap();
        }
        assert_eq!(
            (total, value(&shared, "a").await),
            (200, 200),
            "{:?}",
            shared.store
        );
    }
}

#[tokio::test]
async fn an_error_rolls_back() {
    for store in testing::both(TABLES).await {
        let result: Result<(), StoreError> = transaction!(store, "fails", |tx| {
            tx.execute(sql("UPDATE counter SET n = 7 WHERE id = 'a'"))
                .await?;
            Err(StoreError::Column("none"))
        });
        assert!(matches!(result, Err(StoreError::Column("none"))));
        assert_eq!(value(&store, "a").await, 0, "{:?}", store.store);
    }
}

#[tokio::test]
async fn a_swallowed_failure_is_not_committed() {
    for store in testing::both(TABLES).await {
        let result: Result<(), StoreError> = transaction!(store, "swallows", |tx| {
            tx.execute(sql("UPDATE counter SET n = 7 WHERE id = 'a'"))
                .await?;
            let insert = sql("INSERT INTO counter VALUES ('a', 1, 1, NULL)");
            assert!(matches!(
                tx.execute(insert).await,
                Err(StoreError::Duplicate(_))
            ));
            Ok(())
        });
        assert!(
            matches!(result, Err(StoreError::Doomed("swallows"))),
            "{result:?}"
        );
        assert_eq!(value(&store, "a").await, 0);
        // The connection is fit for use again.
        assert_eq!(increment(&store, "a").await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_conflict_runs_the_closure_again_and_ends() {
    for store in testing::both(TABLES).await {
        let mut runs = 0;
        let result: Result<(), StoreError> = transaction!(store, "stale", |tx| {
            runs += 1;
            tx.execute(sql("UPDATE counter SET n = n + 1 WHERE id = 'b'"))
                .await?;
            tx.cas(sql(
                "UPDATE counter SET n = 9 WHERE id = 'a' AND version = 77",
            ))
            .await
        });
        assert!(matches!(result, Err(StoreError::Conflict("stale"))));
        assert_eq!(runs, 12);
        assert_eq!((value(&store, "a").await, value(&store, "b").await), (0, 0));
    }
}

#[tokio::test]
async fn a_reader_cannot_write() {
    for store in testing::both(TABLES).await {
        let mut tx = store.read("sneaky").await.unwrap();
        let result = tx.execute(sql("UPDATE counter SET n = 7")).await;
        drop(tx);
        assert!(result.is_err(), "{:?}", store.store);
        assert_eq!(value(&store, "a").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_lock_holds_off_a_writer_until_the_commit() {
    for store in testing::both(TABLES).await {
        let seen: Result<_, StoreError> = transaction!(store, "holds", |tx| {
            tx.fetch_one(share_lock!(tx, "SELECT n FROM counter WHERE id = 'b'"))
                .await?;
            let writer = store.store.clone();
            let suspend = tokio::spawn(async move { increment(&writer, "b").await });
            // Until the writer waits for the lock, or has got past it.
            while !suspend.is_finished() && !is_waiting(&store).await {}
            let finished_early = suspend.is_finished();
            Ok((read(tx, "b").await?.0, finished_early, suspend))
        });
        let (n, finished_early, suspend) = seen.unwrap();
        assert_eq!((n, finished_early), (0, false), "{:?}", store.store);
        assert_eq!(suspend.await.unwrap().unwrap(), 1);
    }
}

const NEXT: &str = "UPDATE counter SET n = $1, version = $2 WHERE id = 'a' AND version = $3";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_locks_a_row_first_changes_it_without_starting_again() {
    for store in testing::both(TABLES).await {
        let shared = Arc::new(store);
        let tasks: Vec<_> = (0..40)
            .map(|_| {
                let store = Arc::clone(&shared);
                tokio::spawn(async move {
                    let mut runs = 0;
                    let done: Result<(), StoreError> = transaction!(store, "queues", |tx| {
                        runs += 1;
                        let lock = update_lock!(tx, "SELECT version FROM counter WHERE id = 'a'");
                        tx.fetch_one(lock).await?;
                        let (n, version) = read(tx, "a").await?;
                        let next = sql(NEXT).bind(n + 1).bind(version + 1);
                        tx.cas(next.bind(version)).await
                    });
                    done.unwrap();
                    runs
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), 1, "{:?}", shared.store);
        }
        assert_eq!(value(&shared, "a").await, 40);
    }
}

/// Whether a statement waits for a row; on SQLite the queue for the only writer can't be seen from outside.
async fn is_waiting(store: &Store) -> bool {
    if store.dialect() == Dialect::Sqlite {
        return true;
    }
    let mut tx = store.read("locks").await.expect("a snapshot");
    let locks = sql(
        "SELECT count(*) AS n FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')",
    );
    tx.fetch_one(locks)
        .await
        .and_then(|row| row.int("n"))
        .expect("a count")
        > 0
}

#[tokio::test]
async fn values_come_back_as_they_went_in() {
    for store in testing::both(TABLES).await {
        let bytes: Vec<u8> = (0..=255).collect();
        let rows: Result<_, StoreError> = transaction!(store, "values", |tx| {
            let update = "UPDATE counter SET note = $1, n = $2 WHERE id = 'a'";
            tx.execute(sql(update).bind(&bytes).bind(i64::MIN)).await?;
            tx.execute(sql("UPDATE counter SET note = $1 WHERE id = 'b'").bind(None::<Vec<u8>>))
                .await?;
            tx.fetch_all(sql("SELECT id, note, n FROM counter ORDER BY id"))
                .await
        });
        let rows = rows.unwrap();
        assert_eq!(
            (rows[0].blob("note").unwrap(), rows[0].int("n").unwrap()),
            (bytes, i64::MIN)
        );
        assert_eq!(rows[1].maybe_blob("note").unwrap(), None);
        assert!(matches!(
            rows[1].blob("note"),
            Err(StoreError::Column("note"))
        ));
        assert!(matches!(rows[1].int("id"), Err(StoreError::Column("id"))));
        assert!(matches!(
            rows[1].text("absent"),
            Err(StoreError::Column("absent"))
        ));
    }
}

#[tokio::test]
async fn a_known_schema_opens_again_and_a_strange_one_is_refused() {
    for store in testing::both(TABLES).await {
        let TestStore {
            store, url, schema, ..
        } = &store;
        increment(store, "a").await.unwrap();
        let epoch = store.epoch_source().await.unwrap();
        store.close().await;
        if store.dialect() == Dialect::Sqlite {
            let again = Store::open(url, schema, TABLES, &SystemRandom).await;
            assert!(
                matches!(again, Err(StoreError::InUse(_))),
                "a second owner got in"
            );
            continue;
        }
        let again = Store::open(url, schema, TABLES, &SystemRandom)
            .await
            .unwrap();
        assert_eq!(
            (
                value(&again, "a").await,
                again.epoch_source().await.unwrap()
            ),
            (1, epoch)
        );
        refuses_strange_schemas(url, schema).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let url = store_kit::StoreUrl::Sqlite(dir.path().join("x.db"));
    drop_store(
        Store::open(&url, "sam", TABLES, &SystemRandom)
            .await
            .unwrap(),
    )
    .await;
    let reopened = Store::open(&url, "sam", TABLES, &SystemRandom)
        .await
        .unwrap();
    drop_store(reopened).await;
    assert!(matches!(
        Store::open(&url, "cm", TABLES, &SystemRandom).await,
        Err(StoreError::OtherZone { .. })
    ));
    refuses_strange_schemas(&url, "sam").await;
}

/// What root makes in a daemon's folder the daemon can't open.
#[tokio::test]
async fn root_makes_no_store_in_another_users_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("zone");
    std::fs::create_dir(&folder).unwrap();
    // Who isn't root can't give a folder away, and makes nothing in another's.
    if std::os::unix::fs::chown(&folder, Some(4321), None).is_err() {
        return;
    }
    let path = folder.join("zone.db");
    let url = store_kit::StoreUrl::Sqlite(path.clone());
    let refused = Store::open(&url, "zone", TABLES, &SystemRandom).await;
    assert_eq!(refused.err().unwrap().code(), "store-not-ours");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    // What is the daemon's own can be looked at; the file beside it isn't made either.
    std::fs::write(&path, "").unwrap();
    std::os::unix::fs::chown(&path, Some(4321), None).unwrap();
    let refused = Store::open(&url, "zone", TABLES, &SystemRandom).await;
    assert_eq!(refused.err().unwrap().code(), "store-not-ours");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
}

async fn drop_store(store: Store) {
    store.close().await;
}

async fn refuses_strange_schemas(url: &store_kit::StoreUrl, schema: &'static str) {
    let none = Migrations {
        component: "counter",
        steps: &[],
    };
    let newer = Store::open(url, schema, &[none], &SystemRandom).await;
    assert!(matches!(newer, Err(StoreError::Newer { .. })), "{newer:?}");
    let step = Migration {
        name: "0001",
        sqlite: "SELECT 1",
        postgres: "SELECT 1",
    };
    let edited = Migrations {
        component: "counter",
        steps: Box::leak(Box::new([step])),
    };
    let edited = Store::open(url, schema, &[edited], &SystemRandom).await;
    assert!(
        matches!(edited, Err(StoreError::Edited { .. })),
        "{edited:?}"
    );
}

#[tokio::test]
async fn a_restored_or_copied_store_has_another_epoch() {
    for store in testing::both(TABLES).await {
        let before = store.epoch_source().await.unwrap();
        assert_eq!(before, store.epoch_source().await.unwrap());
        store.mark_restored().await.unwrap();
        assert_ne!(before, store.epoch_source().await.unwrap());
    }
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one.db"), dir.path().join("two.db"));
    let first = Store::open(
        &store_kit::StoreUrl::Sqlite(one.clone()),
        "sam",
        TABLES,
        &SystemRandom,
    )
    .await
    .unwrap();
    let epoch = first.epoch_source().await.unwrap();
    first.close().await;
    drop(first);
    std::fs::copy(&one, &two).unwrap();
    // In its place a file that may well have its inode, made later than it by the clock of the file system, which ticks slowly.
    let made = || std::fs::metadata(&one).unwrap().created().ok();
    let before = made();
    loop {
        std::fs::remove_file(&one).unwrap();
        std::fs::copy(&two, &one).unwrap();
        if before.is_none() || made() != before {
            break;
        }
    }
    let back = Store::open(
        &store_kit::StoreUrl::Sqlite(one),
        "sam",
        TABLES,
        &SystemRandom,
    )
    .await
    .unwrap();
    assert_ne!(epoch, back.epoch_source().await.unwrap());
    let copy = Store::open(
        &store_kit::StoreUrl::Sqlite(two),
        "sam",
        TABLES,
        &SystemRandom,
    )
    .await
    .unwrap();
    assert_ne!(epoch, copy.epoch_source().await.unwrap());
}

#[tokio::test]
async fn an_unusable_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let open = async |path: std::path::PathBuf| {
        Store::open(
            &store_kit::StoreUrl::Sqlite(path),
            "sam",
            TABLES,
            &SystemRandom,
        )
        .await
        .unwrap_err()
        .code()
    };
    let garbage = dir.path().join("garbage.db");
    std::fs::write(&garbage, vec![7; 5000]).unwrap();
    assert_eq!(open(garbage).await, "store-corrupt");
    assert_eq!(open(dir.path().to_owned()).await, "store-file");
    std::fs::write(dir.path().join("file"), "x").unwrap();
    assert_eq!(open(dir.path().join("file/x.db")).await, "store-file");
    let damaged = dir.path().join("damaged.db");
    let good = store_kit::StoreUrl::Sqlite(damaged.clone());
    Store::open(&good, "sam", TABLES, &SystemRandom)
        .await
        .unwrap()
        .close()
        .await;
    let mut bytes = std::fs::read(&damaged).unwrap();
    for byte in &mut bytes[4096..4200] {
        *byte ^= 0xff;
    }
    std::fs::write(&damaged, bytes).unwrap();
    assert_eq!(open(damaged).await, "store-corrupt");
}

#[tokio::test]
async fn an_unreachable_server_is_named_without_its_password() {
    let url = store_kit::StoreUrl::parse("postgres://u:hunter2@127.0.0.1:1/x").unwrap();
    let error = Store::open(&url, "sam", TABLES, &SystemRandom)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "store-unreachable");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_row_of_a_recorded_table_is_not_written_without_its_record() {
    for store in testing::both(TABLES).await {
        let seen = Seen::recorded("counter");
        let write = async |record: bool| -> Result<(), StoreError> {
            transaction!(store, "recorded", |tx| {
                for version in [1, 2] {
                    let update = "UPDATE counter SET n = n + 1, version = $1 WHERE id = 'a'";
                    tx.execute(sql(update).bind(version)).await?;
                    tx.wrote(&seen, "a", version);
                }
                tx.wrote(&Seen::default(), "b", 9);
                if record {
                    let written = tx.take_unrecorded();
                    assert_eq!(written, [("counter", "a".to_owned(), 2)]);
                    assert!(tx.take_unrecorded().is_empty());
                }
                Ok(())
            })
        };
        assert!(matches!(write(false).await, Err(StoreError::Audit(_))));
        assert_eq!(value(&store, "a").await, 0);
        write(true).await.unwrap();
        assert_eq!(value(&store, "a").await, 2);
    }
}
