//! A store as rows, and a blank one filled from them: on either database, from either.

use core_types::random::SystemRandom;
use store_kit::testing::{self, TestStore};
use store_kit::{
    Cell, Dump, Fill, Migration, Migrations, Store, StoreError, StoreUrl, Table, leave_dumped, sql,
    take_dumped, take_filled, transaction,
};

const TABLES: &[Migrations] = &[Migrations {
    component: "notes",
    steps: &[Migration {
        name: "0001",
        sqlite: "CREATE TABLE note (owner TEXT NOT NULL, n INTEGER NOT NULL, body TEXT, sealed BLOB, PRIMARY KEY (owner, n)) WITHOUT ROWID, STRICT;
                 CREATE TABLE empty (id BIGINT PRIMARY KEY);",
        postgres: "CREATE TABLE note (owner TEXT NOT NULL, n BIGINT NOT NULL, body TEXT, sealed BYTEA, PRIMARY KEY (owner, n));
                 CREATE TABLE empty (id BIGINT PRIMARY KEY);",
    }],
}];

async fn put(store: &Store, owners: &[&str], numbers: std::ops::Range<i64>) {
    let done: Result<(), StoreError> = transaction!(store, "put", |tx| {
        for n in numbers.clone() {
            let owner = owners[usize::try_from(n).unwrap_or(0) % owners.len()];
            let body = (n % 3 != 0).then(|| format!("捺印 {n} \u{202e}\"',$1"));
            let sealed = (n % 2 != 0).then(|| vec![0_u8, 255, u8::try_from(n % 251).unwrap_or(0)]);
            let insert = "INSERT INTO note (owner, n, body, sealed) VALUES ($1, $2, $3, $4)";
            let insert = sql(insert).bind(owner).bind(n).bind(body);
            tx.execute(insert.bind(sealed)).await?;
        }
        Ok(())
    });
    done.unwrap();
}

/// Everything, in an order of its own.
async fn all(dump: &mut Dump) -> Vec<(Table, Vec<Vec<Cell>>)> {
    let mut found = Vec::new();
    for table in dump.tables().to_vec() {
        let mut rows: Vec<Vec<Cell>> = Vec::new();
        loop {
            let page = dump.page(&table, rows.last().map(Vec::as_slice)).await;
            let page = page.unwrap();
            if page.is_empty() {
                break;
            }
            rows.extend(page);
        }
        rows.sort_by_key(|row| format!("{row:?}"));
        found.push((table, rows));
    }
    found
}

async fn filled(store: &Store, dump: &mut Dump) -> Fill {
    let migrations = dump.migrations().to_vec();
    let fill = Fill::begin(store.clone(), &migrations).await.unwrap();
    for (table, rows) in all(dump).await {
        let columns: Vec<_> = table.columns.iter().map(|c| c.0.clone()).collect();
        fill.rows(&table.name, &columns, &rows).await.unwrap();
    }
    fill
}

/// Closes it, and opens it again.
async fn again(to: TestStore) -> Result<(), StoreError> {
    to.store.close().await;
    let (url, schema) = (to.url.clone(), to.schema);
    drop(to.store);
    Store::open(&url, schema, TABLES, &SystemRandom)
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_use_is_read_as_it_was_and_fills_a_blank_one_on_either_database() {
    for from in testing::both(TABLES).await {
        put(&from, &["a", "b", "ｃ"], 0..1203).await;
        let open = || Dump::open(&from.url, from.schema);
        let mut dump = open().await.unwrap();
        put(&from, &["later"], 1..2).await;
        let rows = all(&mut dump).await;
        let counts: Vec<_> = rows.iter().map(|(t, r)| (&*t.name, r.len())).collect();
        assert_eq!(counts, [("empty", 0), ("note", 1203)]);
        assert_eq!(all(&mut open().await.unwrap()).await[1].1.len(), 1204);
        for to in testing::both(TABLES).await {
            let epoch = to.epoch_source().await.unwrap();
            filled(&to, &mut dump).await.end("note").await.unwrap();
            let take = async || -> Result<_, StoreError> {
                transaction!(to.store, "take", |tx| { take_filled(tx).await })
            };
            assert_eq!(take().await.unwrap().as_deref(), Some("note"));
            assert_eq!(take().await.unwrap(), None, "told once");
            let mut copy = Dump::open(&to.url, to.schema).await.unwrap();
            assert_ne!(copy.system(), dump.system());
            assert_eq!(all(&mut copy).await, rows);
            assert_ne!(to.epoch_source().await.unwrap(), epoch);
            drop(copy);
            again(to).await.unwrap();
        }
    }
}

/// Nodes that begin or record at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn a_note_is_taken_by_one_of_several_nodes() {
    for store in testing::both(TABLES).await {
        let left: Result<_, StoreError> = transaction!(store.store, "left", |tx| {
            let insert = "INSERT INTO store_meta (key, value) VALUES ('filled', 'restored')";
            tx.execute(sql(insert)).await
        });
        left.unwrap();
        for n in 0..5 {
            let name = n.to_string();
            let left = leave_dumped(&store.url, store.schema, &name, "backup").await;
            left.unwrap();
        }
        let mut nodes = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let store = store.store.clone();
            nodes.spawn(async move {
                let taken: Result<_, StoreError> = transaction!(store, "take", |tx| {
                    let filled = take_filled(tx).await?;
                    Ok((filled, take_dumped(tx).await?))
                });
                taken.unwrap()
            });
        }
        let all = nodes.join_all().await;
        let restored: Vec<_> = all
            .iter()
            .filter_map(|(filled, _)| filled.as_ref())
            .collect();
        assert_eq!(restored, ["restored"]);
        assert_eq!(all.iter().map(|(_, dumped)| dumped.len()).sum::<usize>(), 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_ends_where_its_rows_are_large() {
    for from in testing::both(TABLES).await {
        let done: Result<(), StoreError> = transaction!(from.store, "large", |tx| {
            for (n, size) in [2, 1, 3, 9, 0].into_iter().enumerate() {
                let insert = "INSERT INTO note (owner, n, body, sealed) VALUES ('a', $1, $2, $3)";
                let insert = sql(insert).bind(i64::try_from(n).unwrap_or(0));
                let body = "x".repeat(size << 19);
                tx.execute(insert.bind(body).bind(vec![7_u8; size << 19]))
                    .await?;
            }
            Ok(())
        });
        done.unwrap();
        let mut dump = Dump::open(&from.url, from.schema).await.unwrap();
        let table = dump.tables()[1].clone();
        let (mut pages, mut last) = (Vec::new(), None::<Vec<Cell>>);
        loop {
            let page = dump.page(&table, last.as_deref()).await.unwrap();
            pages.push(page.len());
            match page.into_iter().next_back() {
                Some(row) => last = Some(row),
                None => break,
            }
        }
        assert_eq!(pages, [2, 1, 1, 1, 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_blank_store_of_the_same_tables_is_filled_and_a_half_filled_one_does_not_open() {
    for from in testing::both(TABLES).await {
        put(&from, &["a"], 1..2).await;
        let mut dump = Dump::open(&from.url, from.schema).await.unwrap();
        let migrations = dump.migrations().to_vec();
        let refused = Fill::begin(from.store.clone(), &migrations).await;
        assert!(matches!(refused, Err(StoreError::NotBlank)), "{refused:?}");
        for to in testing::both(TABLES).await {
            let refused = Fill::begin(to.store.clone(), &[]).await;
            assert!(matches!(refused, Err(StoreError::OtherSchema)));
            let fill = filled(&to, &mut dump).await;
            let row = [vec![Cell::Int(1)]];
            for (table, column) in [("nothing", "id"), ("empty", "other"), ("store_meta", "key")] {
                let refused = fill.rows(table, &[column.to_owned()], &row).await;
                assert!(matches!(refused, Err(StoreError::OtherSchema)), "{table}");
            }
            let twice = [vec![Cell::Int(7)], vec![Cell::Int(7)]];
            let refused = fill.rows("empty", &["id".to_owned()], &twice).await;
            assert!(matches!(refused, Err(StoreError::Duplicate(_))));
            drop(fill);
            let refused = again(to).await;
            assert!(
                matches!(refused, Err(StoreError::HalfFilled)),
                "{refused:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_is_another_zone_s_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.db");
    let absent = Dump::open(&StoreUrl::Sqlite(path.clone()), "test").await;
    assert!(matches!(absent, Err(StoreError::File { .. })));
    assert!(!path.exists());
    let absent = Dump::open(&testing::postgres_url(), "nobody").await;
    assert!(matches!(absent, Err(StoreError::NoStore("nobody"))));
    let store = testing::sqlite(TABLES).await;
    let other = Dump::open(&store.url, "sam").await;
    assert!(matches!(other, Err(StoreError::OtherZone { .. })));
}
