//! SQLite: transactions that wait for the writer share a commit, and nobody can tell.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use store_kit::testing::{self, TestStore};
use store_kit::{Migration, Migrations, Store, StoreError, sql, transaction};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const TABLES: &[Migrations] = &[Migrations {
    component: "group",
    steps: &[Migration {
        name: "0001",
        // The reference is checked at the commit only: it makes one fail.
        sqlite: "CREATE TABLE counter (id TEXT PRIMARY KEY, n BIGINT NOT NULL);
                 INSERT INTO counter VALUES ('a', 0), ('b', 0);
                 CREATE TABLE child (parent TEXT REFERENCES counter(id) DEFERRABLE INITIALLY DEFERRED);",
        postgres: "SELECT 1",
    }],
}];

type Task = JoinHandle<Result<i64, StoreError>>;

async fn store() -> Arc<TestStore> {
    Arc::new(testing::sqlite(TABLES).await)
}

async fn value(store: &Store, id: &str) -> i64 {
    let mut tx = store.read("value").await.unwrap();
    let row = sql("SELECT n FROM counter WHERE id = $1").bind(id);
    tx.fetch_one(row).await.unwrap().int("n").unwrap()
}

/// Adds one, says that it did, and waits to be let go.
fn slow(
    store: &Arc<TestStore>,
    id: &'static str,
) -> (Task, oneshot::Receiver<()>, oneshot::Sender<()>) {
    let (done, reached) = oneshot::channel();
    let (go, wait) = oneshot::channel::<()>();
    let (store, mut done, mut wait) = (store.clone(), Some(done), Some(wait));
    let task = tokio::spawn(async move {
        transaction!(store, "slow", |tx| {
            tx.execute(sql("UPDATE counter SET n = n + 1 WHERE id = $1").bind(id))
                .await?;
            done.take().unwrap().send(()).unwrap();
            wait.take().unwrap().await.unwrap();
            Ok(0)
        })
    });
    (task, reached, go)
}

fn increment(store: &Arc<TestStore>, id: &'static str) -> Task {
    let store = store.clone();
    tokio::spawn(async move {
        transaction!(store, "increment", |tx| {
            let update = "UPDATE counter SET n = n + 1 WHERE id = $1 RETURNING n";
            tx.fetch_one(sql(update).bind(id)).await?.int("n")
        })
    })
}

/// Reads, then says no.
fn refuse(store: &Arc<TestStore>) -> Task {
    let store = store.clone();
    tokio::spawn(async move {
        transaction!(store, "refuse", |tx| {
            let row = sql("SELECT n FROM counter WHERE id = 'a'");
            tx.fetch_one(row).await?.int("n")?;
            Err(StoreError::Column("refused"))
        })
    })
}

fn orphan(store: &Arc<TestStore>) -> Task {
    let store = store.clone();
    tokio::spawn(async move {
        transaction!(store, "orphan", |tx| {
            tx.execute(sql("INSERT INTO child VALUES ('nobody')"))
                .await?;
            Ok::<_, StoreError>(0)
        })
    })
}

/// Lets every task run until it waits for something. The runtime of these tests has one thread and a fair queue.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Holds the writer while `tasks` are started, so that they queue behind it and share a commit.
async fn together<T>(store: &Arc<TestStore>, tasks: impl FnOnce() -> T) -> T {
    let (holder, reached, go) = slow(store, "b");
    reached.await.unwrap();
    let started = tasks();
    settle().await;
    go.send(()).unwrap();
    holder.await.unwrap().unwrap();
    started
}

#[tokio::test]
async fn a_failed_commit_fails_all_that_share_it_and_nothing_of_theirs_stays() {
    let store = store().await;
    let (first, bad, refused, last) = together(&store, || {
        (
            increment(&store, "a"),
            orphan(&store),
            refuse(&store),
            increment(&store, "a"),
        )
    })
    .await;
    for task in [first, bad, last] {
        let answer = task.await.unwrap();
        assert!(matches!(answer, Err(StoreError::Database(_))), "{answer:?}");
    }
    // Its *no* followed from what didn't last, so that it isn't told either.
    let answer = refused.await.unwrap();
    assert!(matches!(answer, Err(StoreError::Database(_))), "{answer:?}");
    assert_eq!(value(&store, "a").await, 0);
    assert_eq!(increment(&store, "a").await.unwrap().unwrap(), 1);
    assert_eq!(value(&store, "a").await, 1);
}

#[tokio::test]
async fn nobody_gets_an_answer_before_the_shared_commit() {
    let store = store().await;
    let (first, refused, (last, reached, go)) = together(&store, || {
        (increment(&store, "a"), refuse(&store), slow(&store, "a"))
    })
    .await;
    reached.await.unwrap();
    settle().await;
    assert!(!first.is_finished() && !refused.is_finished());
    assert_eq!(value(&store, "a").await, 0, "a snapshot sees no group");
    go.send(()).unwrap();
    assert_eq!(first.await.unwrap().unwrap(), 1);
    assert_eq!(value(&store, "a").await, 2);
    assert!(matches!(
        refused.await.unwrap(),
        Err(StoreError::Column("refused"))
    ));
    last.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_the_database_gives_up_is_lost_for_all_before_it_and_nobody_after() {
    let store = store().await;
    let (first, breaks, after) = together(&store, || {
        let first = increment(&store, "a");
        let shared = store.clone();
        let breaks: Task = tokio::spawn(async move {
            transaction!(shared, "breaks", |tx| {
                let all = sql("INSERT OR ROLLBACK INTO counter VALUES ('a', 5)");
                assert!(tx.execute(all).await.is_err());
                // Would be committed for itself now.
                let more = sql("UPDATE counter SET n = 7 WHERE id = 'b'");
                assert!(tx.execute(more).await.is_err());
                Ok::<_, StoreError>(0)
            })
        });
        (first, breaks, increment(&store, "b"))
    })
    .await;
    assert!(first.await.unwrap().is_err());
    assert!(breaks.await.unwrap().is_err());
    assert_eq!(after.await.unwrap().unwrap(), 2);
    assert_eq!((value(&store, "a").await, value(&store, "b").await), (0, 2));
}

#[tokio::test]
async fn an_error_or_a_caller_that_goes_away_undoes_its_own_part_only() {
    let store = store().await;
    let (first, refused, gone, (hung, reached, _go), last) = together(&store, || {
        (
            increment(&store, "a"),
            refuse(&store),
            increment(&store, "a"),
            slow(&store, "a"),
            increment(&store, "b"),
        )
    })
    .await;
    // One while it waits for the commit, one in the middle of its statements.
    gone.abort();
    reached.await.unwrap();
    hung.abort();
    assert!(hung.await.unwrap_err().is_cancelled());
    assert_eq!(first.await.unwrap().unwrap(), 1);
    assert!(matches!(
        refused.await.unwrap(),
        Err(StoreError::Column("refused"))
    ));
    assert_eq!(last.await.unwrap().unwrap(), 2);
    // The aborted increment was complete, or hadn't begun: all or nothing.
    assert!(matches!(value(&store, "a").await, 1 | 2));
    assert_eq!(value(&store, "b").await, 2);
}

#[tokio::test]
async fn a_closed_store_says_so_after_what_was_under_way() {
    let store = store().await;
    let (one, two) = together(&store, || (increment(&store, "a"), increment(&store, "a"))).await;
    store.close().await;
    assert_eq!(
        (one.await.unwrap().unwrap(), two.await.unwrap().unwrap()),
        (1, 2)
    );
    assert!(matches!(
        increment(&store, "a").await.unwrap(),
        Err(StoreError::Closed)
    ));
    assert!(matches!(store.read("late").await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn a_commit_waits_for_the_disk_on_both_stores() {
    let [sqlite, postgres] = testing::both(TABLES).await;
    let full: Result<i64, StoreError> = transaction!(sqlite, "sync", |tx| {
        tx.fetch_one(sql("PRAGMA synchronous"))
            .await?
            .int("synchronous")
    });
    assert_eq!(full.unwrap(), 2, "FULL");
    let on: Result<String, StoreError> = transaction!(postgres, "sync", |tx| {
        let setting = sql("SELECT current_setting('synchronous_commit') AS s");
        tx.fetch_one(setting).await?.text("s")
    });
    assert_eq!(on.unwrap(), "on");
}
