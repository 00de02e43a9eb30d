//! The store and its two kinds of transaction.

use std::fmt;
use std::fs::File;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use core_types::Random;
use sqlx::AnyPool;

use crate::connect;
use crate::error::StoreError;
use crate::migrate::{Migrations, migrate};
use crate::transaction;
use crate::tx::{Dialect, Fate, Tx, sql};
use crate::url::StoreUrl;

/// How often a write transaction is tried in all.
const ATTEMPTS: u32 = 12;

/// An open database of one zone. Cheap to clone; all clones share the connections.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    writer: AnyPool,
    reader: AnyPool,
    dialect: Dialect,
    schema: &'static str,
    inode: u64,
    /// Varies the waiting times; spread, not secrecy, is what they need.
    jitter: AtomicU64,
    _lock: Option<File>,
}

impl Store {
    /// Opens the store of the zone `schema` (`sam`, `cm`, …), creates it if need be, and migrates it.
    ///
    /// `schema` is 1 to 40 characters of `a-z 0-9 _`; on PostgreSQL it is the schema that holds the tables.
    /// `random` gives the id of a new store.
    ///
    /// # Errors
    /// [`StoreError`]: the file can't be used, is in use or damaged, the store is another zone's or made by a newer
    /// program, the server is unreachable or unsafe.
    pub async fn open(
        url: &StoreUrl,
        schema: &'static str,
        migrations: &[Migrations],
        random: &dyn Random,
    ) -> Result<Self, StoreError> {
        let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if schema.is_empty()
            || schema.len() > 40
            || !schema.chars().all(named)
            || schema.starts_with("pg_")
        {
            return Err(StoreError::BadUrl(
                "the schema's name must be 1 to 40 of a-z, 0-9 and _",
            ));
        }
        sqlx::any::install_default_drivers();
        let jitter = AtomicU64::new(u64::from(std::process::id()));
        let inner = match url {
            StoreUrl::Sqlite(path) => {
                let open = connect::sqlite(path).await?;
                let (writer, reader, inode) = (open.writer, open.reader, open.inode);
                Inner {
                    writer,
                    reader,
                    dialect: Dialect::Sqlite,
                    schema,
                    inode,
                    jitter,
                    _lock: Some(open.lock),
                }
            }
            StoreUrl::Postgres(url) => {
                let pool = connect::postgres(url, schema).await?;
                let (reader, dialect) = (pool.clone(), Dialect::Postgres);
                Inner {
                    writer: pool,
                    reader,
                    dialect,
                    schema,
                    inode: 0,
                    jitter,
                    _lock: None,
                }
            }
        };
        let store = Self(Arc::new(inner));
        migrate(&store, schema, migrations, random).await?;
        Ok(store)
    }

    /// Which database it is.
    pub fn dialect(&self) -> Dialect {
        self.0.dialect
    }

    /// The zone's name, as given to [`Store::open`].
    pub fn schema(&self) -> &'static str {
        self.0.schema
    }

    /// Opens a consistent snapshot to read from; it ends when the value is dropped, and nothing done in it is kept.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read(&self, name: &'static str) -> Result<Tx, StoreError> {
        let begin = match self.0.dialect {
            Dialect::Sqlite => "BEGIN DEFERRED",
            Dialect::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        let inner = self.0.reader.begin_with(begin).await?;
        Ok(Tx::new(inner, self.0.dialect, name, self.0.inode))
    }

    /// What [`transaction!`](crate::transaction) is made of; use the macro.
    #[doc(hidden)]
    pub fn attempts(&self, name: &'static str) -> Attempts<'_> {
        Attempts {
            store: self,
            name,
            made: 0,
        }
    }

    /// See [`Tx::epoch_source`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn epoch_source(&self) -> Result<Vec<u8>, StoreError> {
        // A write transaction, so that PostgreSQL answers for the primary and not for a standby.
        transaction!(self, "epoch", |tx| { tx.epoch_source().await })
    }

    /// Counts a restore from backup, which begins a new epoch: every act from before is dead.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mark_restored(&self) -> Result<(), StoreError> {
        let update = "UPDATE store_meta SET value = CAST(CAST(value AS BIGINT) + 1 AS TEXT) WHERE key = 'restores'";
        transaction!(self, "mark-restored", |tx| { tx.cas(sql(update)).await })
    }

    /// Closes all connections and, on SQLite, folds the log into the file. Transactions in progress end first.
    /// The file stays locked until the last clone of the store is dropped.
    pub async fn close(&self) {
        self.0.reader.close().await;
        self.0.writer.close().await;
    }

    /// 1 to 2 ms at first, doubling up to 128 to 256 ms.
    fn pause(&self, attempt: u32) -> Duration {
        let base = 1000_u64 << attempt.saturating_sub(1).min(7);
        let seed = self
            .0
            .jitter
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (seed ^ (seed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Duration::from_micros(base + (mixed >> 20) % base)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({:?}, {})", self.0.dialect, self.0.schema)
    }
}

/// The tries of one write transaction.
#[doc(hidden)]
#[derive(Debug)]
pub struct Attempts<'s> {
    store: &'s Store,
    name: &'static str,
    made: u32,
}

impl Attempts<'_> {
    /// Begins a try.
    ///
    /// # Errors
    /// [`StoreError`] when there is no connection, or the database stays busy.
    pub async fn begin(&mut self) -> Result<Tx, StoreError> {
        let begin = match self.store.0.dialect {
            Dialect::Sqlite => "BEGIN IMMEDIATE",
            Dialect::Postgres => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
        };
        loop {
            self.made += 1;
            let error = match self.store.0.writer.begin_with(begin).await {
                Ok(inner) => {
                    return Ok(Tx::new(
                        inner,
                        self.store.0.dialect,
                        self.name,
                        self.store.0.inode,
                    ));
                }
                Err(error) => StoreError::from(error),
            };
            if !error.passes() || !self.may_go_on().await {
                return Err(error);
            }
        }
    }

    /// Commits after `Ok`, rolls back after `Err`, and says whether to start again.
    pub async fn end<T, E>(&mut self, tx: Tx, result: Result<T, E>) -> ControlFlow<Result<T, E>>
    where
        E: From<StoreError>,
    {
        let fate = tx.fate();
        let (error, again) = match result {
            Ok(done) if fate == Fate::Good => match tx.into_inner().commit().await {
                Ok(()) => return ControlFlow::Break(Ok(done)),
                Err(error) => {
                    let error = StoreError::from(error);
                    let again = error.passes();
                    (error.into(), again)
                }
            },
            result => {
                if let Err(error) = tx.into_inner().rollback().await {
                    tracing::warn!(transaction = self.name, %error, "rollback failed; the connection is dropped");
                }
                (
                    result
                        .err()
                        .unwrap_or_else(|| StoreError::Doomed(self.name).into()),
                    fate == Fate::Again,
                )
            }
        };
        if again && self.may_go_on().await {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(Err(error))
        }
    }

    /// Waits before the next try, unless there were enough.
    async fn may_go_on(&self) -> bool {
        if self.made >= ATTEMPTS {
            tracing::warn!(
                transaction = self.name,
                attempts = self.made,
                "gave up after conflicts"
            );
            return false;
        }
        tracing::debug!(
            transaction = self.name,
            attempts = self.made,
            "conflict; trying again"
        );
        tokio::time::sleep(self.store.pause(self.made)).await;
        true
    }
}
