//! A disk without room: what can't be written isn't there, and what was written is.

use std::sync::Arc;

use store_kit::{Store, StoreError, sql, testing, transaction};

use crate::TABLES;

async fn pragma(store: &Store, text: String) -> i64 {
    let text: &'static str = Box::leak(text.into_boxed_str());
    let done: Result<i64, StoreError> = transaction!(store, "pragma", |tx| {
        let row = tx.fetch_one(sql(text)).await?;
        row.int("page_count").or_else(|_| row.int("max_page_count"))
    });
    done.unwrap()
}

async fn insert(store: &Store, n: usize) -> Result<(), StoreError> {
    transaction!(store, "insert", |tx| {
        let insert = "INSERT INTO counter (id, n, version, note) VALUES ($1, 0, 0, $2)";
        let insert = sql(insert).bind(format!("row {n}"));
        tx.execute(insert.bind(vec![7; 5000])).await?;
        Ok(())
    })
}

async fn count(store: &Store) -> i64 {
    let mut tx = store.read("count").await.unwrap();
    let query = sql("SELECT count(*) AS n FROM counter WHERE id LIKE 'row %'");
    tx.fetch_one(query).await.unwrap().int("n").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_nothing_is_half_written_and_with_room_it_goes_on() {
    let store = Arc::new(testing::sqlite(TABLES).await);
    let pages = pragma(&store, "PRAGMA page_count".into()).await;
    pragma(&store, format!("PRAGMA max_page_count = {}", pages + 12)).await;
    let tasks: Vec<_> = (0..40)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { insert(&store, n).await })
        })
        .collect();
    let mut written = 0;
    let mut refused = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => written += 1,
            Err(StoreError::Database(_)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 0, "there was room for all of it");
    assert_eq!(count(&store).await, written);
    pragma(&store, format!("PRAGMA max_page_count = {}", pages + 1000)).await;
    insert(&store, 100).await.unwrap();
    assert_eq!(count(&store).await, written + 1);
}
