//! The store and its two kinds of transaction.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use core_types::Random;
use sqlx::AnyPool;

use crate::connect;
use crate::error::StoreError;
use crate::migrate::{Migrations, migrate};
use crate::seen::moment;
use crate::sql::sql;
use crate::sqlite::{Open, Sqlite};
use crate::transaction;
use crate::tx::{self, Dialect, Fate, Tx};
use crate::url::StoreUrl;

/// How often a write transaction is tried in all.
const ATTEMPTS: u32 = 12;

/// An open database of one zone. Cheap to clone; all clones share the connections.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    database: Database,
    schema: &'static str,
    /// Varies the waiting times; spread, not secrecy, is what they need.
    jitter: AtomicU64,
}

enum Database {
    Sqlite(Sqlite),
    Postgres(AnyPool),
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
        admit(schema)?;
        let database = match url {
            StoreUrl::Sqlite(path) => Database::Sqlite(connect::sqlite(path).await?),
            StoreUrl::Postgres(url) => {
                sqlx::any::install_default_drivers();
                Database::Postgres(connect::postgres(url, schema).await?)
            }
        };
        let jitter = AtomicU64::new(u64::from(std::process::id()));
        let inner = Inner {
            database,
            schema,
            jitter,
        };
        let store = Self(Arc::new(inner));
        migrate(&store, schema, migrations, random).await?;
        store.epoch_source().await?;
        Ok(store)
    }

    /// Which database it is.
    pub fn dialect(&self) -> Dialect {
        match self.0.database {
            Database::Sqlite(_) => Dialect::Sqlite,
            Database::Postgres(_) => Dialect::Postgres,
        }
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
        let since = moment();
        let inner = match &self.0.database {
            Database::Sqlite(sqlite) => {
                tx::Inner::Sqlite(sqlite.read().await?, sqlite.epoch.clone())
            }
            Database::Postgres(pool) => {
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                tx::Inner::Postgres(pool.begin_with(begin).await?)
            }
        };
        Ok(Tx::new(inner, name).reading(since))
    }

    async fn write(&self, name: &'static str) -> Result<Tx, StoreError> {
        let inner = match &self.0.database {
            Database::Sqlite(sqlite) => {
                tx::Inner::Sqlite(sqlite.begin().await?, sqlite.epoch.clone())
            }
            Database::Postgres(pool) => {
                let begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
                tx::Inner::Postgres(pool.begin_with(begin).await?)
            }
        };
        Ok(Tx::new(inner, name))
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

    /// See [`Tx::epoch_source`]; as of a moment ago. What is written under it compares it again in its transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read_epoch_source(&self) -> Result<Vec<u8>, StoreError> {
        if let Database::Sqlite(sqlite) = &self.0.database
            && let Some(known) = sqlite.epoch.known()
        {
            return Ok(known);
        }
        self.read("epoch").await?.epoch_source().await
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
        let marked = transaction!(self, "mark-restored", |tx| {
            tx.cas(sql(update)).await?;
            tx.read_epoch_source().await.map(drop)
        });
        if marked.is_err() {
            self.read("epoch").await?.read_epoch_source().await?;
        }
        marked
    }

    /// Closes all connections and, on SQLite, folds the log into the file. Transactions in progress end first.
    /// The file stays locked until the last clone of the store is dropped.
    pub async fn close(&self) {
        match &self.0.database {
            Database::Sqlite(sqlite) => sqlite.close().await,
            Database::Postgres(pool) => pool.close().await,
        }
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
        write!(f, "Store({:?}, {})", self.dialect(), self.0.schema)
    }
}

/// Names of schemas go into statements.
pub(crate) fn admit(schema: &str) -> Result<(), StoreError> {
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
    Ok(())
}

async fn commit(tx: tx::Inner) -> Result<(), StoreError> {
    match tx {
        tx::Inner::Sqlite(Open::Write(member), _) => member.commit().await,
        tx::Inner::Sqlite(Open::Read(_), _) => Ok(()),
        tx::Inner::Postgres(inner) => Ok(inner.commit().await?),
    }
}

async fn roll_back(tx: tx::Inner) -> Result<(), StoreError> {
    match tx {
        tx::Inner::Sqlite(Open::Write(member), _) => member.roll_back().await,
        tx::Inner::Sqlite(Open::Read(_), _) => Ok(()),
        tx::Inner::Postgres(inner) => {
            if let Err(error) = inner.rollback().await {
                tracing::warn!(%error, "rollback failed; the connection is dropped");
            }
            Ok(())
        }
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
        loop {
            self.made += 1;
            let error = match self.store.write(self.name).await {
                Ok(tx) => return Ok(tx),
                Err(error) => error,
            };
            if !error.passes() || !self.may_go_on().await {
                return Err(error);
            }
        }
    }

    /// Commits after `Ok`, rolls back after `Err`, and says whether to start again.
    pub async fn end<T, E>(&mut self, mut tx: Tx, result: Result<T, E>) -> ControlFlow<Result<T, E>>
    where
        E: From<StoreError>,
    {
        let fate = tx.fate();
        let pending = tx.take_pending();
        let (error, again) = match result {
            Ok(done) if fate == Fate::Good && pending.is_recorded() => {
                match commit(tx.into_inner()).await {
                    Ok(()) => {
                        pending.note();
                        return ControlFlow::Break(Ok(done));
                    }
                    Err(error) => {
                        let again = error.passes();
                        (error.into(), again)
                    }
                }
            }
            result => {
                let unsaid = (fate == Fate::Good && result.is_ok()).then_some(StoreError::Audit(
                    "rows were changed without an entry in the log",
                ));
                if let Err(error) = roll_back(tx.into_inner()).await {
                    // What the block said may follow from what didn't last.
                    tracing::warn!(transaction = self.name, %error, "a rollback failed");
                    return ControlFlow::Break(Err(error.into()));
                }
                (
                    result
                        .err()
                        .unwrap_or_else(|| unsaid.unwrap_or(StoreError::Doomed(self.name)).into()),
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
