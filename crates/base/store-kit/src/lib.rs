//! One way to reach a database: SQLite or PostgreSQL behind the same calls.
//!
//! Knows connections, transactions, migrations, what identifies a database and which versions of rows were seen. Must never know what the
//! zones store: no table of theirs, no seal, no secret. Rows reach it sealed.
//!
//! ```no_run
//! use store_kit::{Migration, Migrations, Store, StoreError, StoreUrl, sql, transaction};
//!
//! const TABLES: Migrations = Migrations {
//!     component: "doc",
//!     steps: &[Migration {
//!         name: "0001-act",
//!         sqlite: "CREATE TABLE act (id TEXT PRIMARY KEY, version BIGINT NOT NULL, sealed BLOB NOT NULL)",
//!         postgres: "CREATE TABLE act (id TEXT PRIMARY KEY, version BIGINT NOT NULL, sealed BYTEA NOT NULL)",
//!     }],
//! };
//!
//! #[derive(Debug)]
//! enum Refused { Unknown, Store(StoreError) }
//! impl From<StoreError> for Refused { fn from(e: StoreError) -> Self { Self::Store(e) } }
//!
//! async fn example(random: &dyn core_types::Random) -> Result<(), Refused> {
//!     let url = StoreUrl::parse("sqlite:/var/lib/natsuin/sam.db")?;
//!     let store = Store::open(&url, "sam", &[TABLES], random).await?;
//!     let id = "a1".to_owned();
//!     // The block runs again after a conflict: borrow what it needs, clone what it uses up.
//!     transaction!(store, "spend-act", |tx| {
//!         let row = tx.fetch_optional(sql("SELECT version, sealed FROM act WHERE id = $1").bind(&id)).await?;
//!         let row = row.ok_or(Refused::Unknown)?;
//!         let version = row.int("version")?;
//!         let successor = row.blob("sealed")?; // check the seal, decide, seal anew with version + 1
//!         tx.cas(
//!             sql("UPDATE act SET sealed = $1, version = $2 WHERE id = $3 AND version = $4")
//!                 .bind(successor).bind(version + 1).bind(&id).bind(version),
//!         ).await?; // somebody was faster: rolled back, the block starts again from its read
//!         Ok::<_, Refused>(())
//!     })?;
//!     let mut tx = store.read("look").await?; // a snapshot; dropped when done
//!     let row = tx.fetch_one(sql("SELECT version FROM act WHERE id = $1").bind(&id)).await?;
//!     assert_eq!(row.int("version")?, 1);
//!     Ok(())
//! }
//! ```
//!
//! # Rules
//! - SQL is a constant text with `$1` parameters that both databases understand. Column types: `TEXT`, `BIGINT`,
//!   `BLOB`/`BYTEA`. Times are integers, booleans 0/1, JSON text. `sum()` and literals need a cast on PostgreSQL.
//! - Every `UPDATE` that follows from something read is a compare-and-swap on `version` ([`Tx::cas`]); what must
//!   merely not change meanwhile is read with [`share_lock!`], and what many transactions change at one time is read with
//!   [`update_lock!`] first, so that they queue instead of starting again. PostgreSQL runs *READ COMMITTED*, so an update without
//!   either can lose another's. (SERIALIZABLE was weighed: every transaction updates the head of its audit chain,
//!   so all but one of each concurrent set would have to start again, where row locks let them queue.)
//! - `INSERT` that may collide: `ON CONFLICT DO NOTHING` and look at the count. A statement that fails inside a
//!   transaction dooms it on both databases ([`StoreError::Doomed`]), because PostgreSQL would turn the commit
//!   silently into a rollback.
//! - Nothing slow and nothing outside the database inside the block: on SQLite all writers queue behind it.
//!   Never open a transaction inside another.
//! - Commit is durable when [`transaction!`] is done (`synchronous=FULL`, `synchronous_commit=on`). On SQLite the
//!   transactions that wait for the writer share one commit; if it fails, they all fail, and none of them has
//!   answered before, whether *yes* or *no*. PostgreSQL does the like by itself.

mod connect;
mod dump;
mod error;
mod group;
mod migrate;
mod seen;
mod sql;
mod sqlite;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod tx;
mod url;

pub use dump::{
    Dump, Fill, Table, leave_dumped, store_names, take_dumped, take_filled, was_dumped,
};
pub use error::{DatabaseError, StoreError, disk_is_away};
pub use migrate::{Migration, Migrations};
pub use seen::{Seen, Written};
pub use sql::{Cell, Kind, Row, Sql, sql};
#[doc(hidden)]
pub use store::Attempts;
pub use store::Store;
pub use tx::{Dialect, Tx};
pub use url::StoreUrl;

/// The query with a share lock on the rows it reads (`sap.md` R6): `FOR SHARE` on PostgreSQL, unchanged on
/// SQLite, where the immediate transaction already excludes other writers. The text must be a literal.
#[macro_export]
macro_rules! share_lock {
    ($tx:expr, $sql:literal) => {
        $crate::sql(match $tx.dialect() {
            $crate::Dialect::Sqlite => $sql,
            $crate::Dialect::Postgres => concat!($sql, " FOR SHARE"),
        })
    };
}

/// The query with a lock on the rows it reads that holds off all who would change them: `FOR UPDATE` on PostgreSQL, unchanged on
/// SQLite. Read the row once more after it: then it is the newest, and its compare-and-swap meets nobody. Rows are locked
/// before the head of the audit chain, as every transaction does it. The text must be a literal.
#[macro_export]
macro_rules! update_lock {
    ($tx:expr, $sql:literal) => {
        $crate::sql(match $tx.dialect() {
            $crate::Dialect::Sqlite => $sql,
            $crate::Dialect::Postgres => concat!($sql, " FOR UPDATE"),
        })
    };
}

/// `transaction!(store, "name", |tx| { … Ok(value) })`: runs the block in a write transaction, commits it durably
/// when it ends with `Ok`, and gives the block's `Result<T, E>` with `E: From<StoreError>`. `tx` is a
/// [`&mut Tx`](Tx). Inside, `?` and `return` leave the block, not the function.
///
/// After a conflict (a compare-and-swap that found a newer version, a deadlock, a busy database) everything is
/// rolled back and the block runs again from its start, up to 12 times with growing, varied pauses; then the last
/// error is the result. Any other error rolls back and is the result. If the surrounding future is dropped, the
/// outcome is all or nothing, unknown to the caller.
///
/// A macro, because a future made by an `async` closure that borrows isn't provably `Send` in today's Rust.
#[macro_export]
macro_rules! transaction {
    ($store:expr, $name:literal, |$tx:ident| $body:block) => {{
        let mut attempts = $crate::Store::attempts(&$store, $name);
        loop {
            let mut open = match attempts.begin().await {
                ::core::result::Result::Ok(open) => open,
                ::core::result::Result::Err(error) => {
                    break ::core::result::Result::Err(::core::convert::From::from(error));
                }
            };
            let result = {
                let $tx = &mut open;
                async { $body }.await
            };
            if let ::core::ops::ControlFlow::Break(result) = attempts.end(open, result).await {
                break result;
            }
        }
    }};
}
