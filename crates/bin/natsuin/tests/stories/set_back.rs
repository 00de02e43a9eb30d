//! Databases of a stopped stack, kept and given back as they were.

use std::path::{Path, PathBuf};

use core_types::random::SystemRandom;
use natsuin::stack::StoreChoice;
use store_kit::{Dump, Migrations, Store, StoreError, StoreUrl, sql, transaction};

use crate::kit::files;

/// Gives folders and files of a stopped stack the contents they have in a copy. Files stay the same files: another inode
/// would be another epoch, in which old acts are dead anyway.
pub fn set_back(copy: &Path, data: &Path, names: &[&str]) {
    for name in names {
        let (from, to) = (copy.join(name), data.join(name));
        if from.is_dir() {
            std::fs::create_dir_all(&to).unwrap();
            let there = |file: &PathBuf| from.join(file.strip_prefix(&to).unwrap()).exists();
            for file in files(&to).iter().filter(|f| !there(f)) {
                std::fs::remove_file(file).unwrap();
            }
            for file in files(&from) {
                std::fs::copy(&file, to.join(file.strip_prefix(&from).unwrap())).unwrap();
            }
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}

/// Zones whose rows are kept, and where copies of them lie in PostgreSQL.
const ZONES: [(&str, &str, &[Migrations]); 2] = [
    ("sam", "kept_sam", sam_service::MIGRATIONS),
    ("ssa", "kept_ssa", ssa_service::MIGRATIONS),
];

/// Keeps the rows of SAM and SSA, if they lie in PostgreSQL; those of SQLite are files.
pub async fn keep_rows(store: &StoreChoice) {
    each_zone(store, |kept, tables| {
        let copies = tables
            .iter()
            .map(|table| format!("CREATE TABLE {kept}.{table} AS TABLE {table}"));
        let made = [format!("CREATE SCHEMA {kept}")];
        made.into_iter().chain(copies).collect()
    })
    .await;
}

/// Gives them back. The store stays the same, so that its epoch does.
pub async fn give_rows_back(store: &StoreChoice) {
    each_zone(store, |kept, tables| {
        let copies = tables
            .iter()
            .map(|table| format!("INSERT INTO {table} SELECT * FROM {kept}.{table}"));
        let emptied = [format!("TRUNCATE {}", tables.join(", "))];
        emptied.into_iter().chain(copies).collect()
    })
    .await;
}

/// Runs the statements that are made of each zone's place and its tables.
async fn each_zone(store: &StoreChoice, statements: impl Fn(&str, &[String]) -> Vec<String>) {
    let StoreChoice::Postgres(url) = store else {
        return;
    };
    let url = StoreUrl::parse(url).unwrap();
    for (zone, kept, migrations) in ZONES {
        let dump = Dump::open(&url, zone).await.unwrap();
        let mut tables: Vec<String> = dump.tables().iter().map(|t| t.name.clone()).collect();
        // What the store knows of itself is no part of a dump.
        tables.push("store_meta".to_owned());
        drop(dump);
        // Statements are constant texts everywhere else.
        let statements: Vec<&'static str> = statements(kept, &tables)
            .into_iter()
            .map(|statement| &*statement.leak())
            .collect();
        let opened = Store::open(&url, zone, migrations, &SystemRandom).await;
        let opened = opened.unwrap();
        let done: Result<(), StoreError> = transaction!(opened, "set-back", |tx| {
            for statement in statements.iter().copied() {
                tx.execute(sql(statement)).await?;
            }
            Ok(())
        });
        done.unwrap();
        opened.close().await;
    }
}
