//! A transaction.

use std::sync::Arc;

use sqlx::{Any, AssertSqlSafe, Transaction};

use crate::error::StoreError;
use crate::seen::{Judged, Pending, Seen, Written, moment};
use crate::sql::{Row, Sql, sql};
use crate::sqlite::{self, EpochCell};

/// Which database speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

/// An open transaction; only [`transaction!`](crate::transaction) and [`Store::read`](crate::Store::read) make one.
#[derive(Debug)]
pub struct Tx {
    inner: Inner,
    name: &'static str,
    fate: Fate,
    /// Before anything was read.
    since: u64,
    snapshot: bool,
    pending: Pending,
}

/// Where the statements go.
#[derive(Debug)]
pub(crate) enum Inner {
    Sqlite(sqlite::Open, Arc<EpochCell>),
    Postgres(Transaction<'static, Any>),
}

/// What the statements so far have decided about the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Good,
    Doomed,
    Again,
}

impl Tx {
    pub(crate) fn new(inner: Inner, name: &'static str) -> Self {
        Self {
            inner,
            name,
            fate: Fate::Good,
            since: moment(),
            snapshot: false,
            pending: Pending::default(),
        }
    }

    /// It reads a snapshot that was taken after `since`.
    pub(crate) fn reading(mut self, since: u64) -> Self {
        self.since = since;
        self.snapshot = true;
        self
    }

    /// Whether a row that was read can be the newest one. `false`: this process has seen a newer version of it, so that
    /// somebody has put an older copy back.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when another transaction changed it in this moment: return it to start again.
    pub fn is_newest(&mut self, seen: &Seen, id: &str, version: i64) -> Result<bool, StoreError> {
        if let Some(known) = self.pending.version(seen, id) {
            return Ok(known <= version);
        }
        match seen.judge(id, version, self.since) {
            Judged::Older => return Ok(false),
            Judged::Raced if !self.snapshot => return Err(self.conflict()),
            // The snapshot is from before the change.
            Judged::Raced => {}
            Judged::Newest if self.snapshot => seen.note(id, version),
            Judged::Newest => self.pending.add(seen, id, version),
        }
        Ok(true)
    }

    /// This transaction has written the row in this version.
    pub fn wrote(&mut self, seen: &Seen, id: &str, version: i64) {
        self.pending.wrote(seen, id, version);
    }

    /// Rows of recorded tables ([`Seen::recorded`]) that were written since this was last asked: they must go into the
    /// zone's log with this transaction, which isn't committed otherwise.
    pub fn take_unrecorded(&mut self) -> Vec<Written> {
        self.pending.take_unrecorded()
    }

    /// Does this once the transaction is committed, and never when it isn't: for what a process remembers of rows. It must
    /// not wait for anything.
    pub fn when_committed(&mut self, work: impl FnOnce() + Send + 'static) {
        self.pending.then(work);
    }

    pub(crate) fn take_pending(&mut self) -> Pending {
        std::mem::take(&mut self.pending)
    }

    /// Which database speaks; see [`share_lock!`](crate::share_lock).
    pub fn dialect(&self) -> Dialect {
        match self.inner {
            Inner::Sqlite(..) => Dialect::Sqlite,
            Inner::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Runs a statement and returns the number of rows it changed.
    ///
    /// # Errors
    /// [`StoreError`]; the transaction can't be committed any more.
    pub async fn execute(&mut self, sql: Sql<'_>) -> Result<u64, StoreError> {
        let done = match &mut self.inner {
            Inner::Sqlite(open, _) => open.execute(&sql),
            Inner::Postgres(inner) => {
                let done = sql.into_postgres().execute(&mut **inner).await;
                done.map(|d| d.rows_affected()).map_err(StoreError::from)
            }
        };
        self.judge(done)
    }

    /// Runs an `UPDATE … WHERE id = … AND version = …` that must change exactly one row.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the row has another version or is gone: return it, and the transaction starts
    /// again from its first read. [`StoreError`] otherwise.
    pub async fn cas(&mut self, sql: Sql<'_>) -> Result<(), StoreError> {
        match self.execute(sql).await? {
            1 => Ok(()),
            _ => Err(self.conflict()),
        }
    }

    /// Declares that what was read is out of date; return the error to start again.
    pub fn conflict(&mut self) -> StoreError {
        self.fate = Fate::Again;
        StoreError::Conflict(self.name)
    }

    /// The row, if there is one.
    ///
    /// # Errors
    /// [`StoreError`]; the transaction can't be committed any more.
    pub async fn fetch_optional(&mut self, sql: Sql<'_>) -> Result<Option<Row>, StoreError> {
        let row = match &mut self.inner {
            Inner::Sqlite(open, _) => open.fetch(&sql, 1).map(|mut rows| rows.pop()),
            Inner::Postgres(inner) => {
                let row = sql.into_postgres().fetch_optional(&mut **inner).await;
                row.map(|r| r.map(Row::postgres)).map_err(StoreError::from)
            }
        };
        self.judge(row)
    }

    /// The one row that must be there, such as that of an aggregate or `RETURNING`.
    ///
    /// # Errors
    /// [`StoreError`], also when there is none; the transaction can't be committed any more.
    pub async fn fetch_one(&mut self, sql: Sql<'_>) -> Result<Row, StoreError> {
        let row = self.fetch_optional(sql).await?;
        let row = row.ok_or_else(|| sqlx::Error::RowNotFound.into());
        self.judge(row)
    }

    /// All rows; bound them with `LIMIT`.
    ///
    /// # Errors
    /// [`StoreError`]; the transaction can't be committed any more.
    pub async fn fetch_all(&mut self, sql: Sql<'_>) -> Result<Vec<Row>, StoreError> {
        let rows = match &mut self.inner {
            Inner::Sqlite(open, _) => open.fetch(&sql, usize::MAX),
            Inner::Postgres(inner) => {
                let rows = sql.into_postgres().fetch_all(&mut **inner).await;
                rows.map(|rows| rows.into_iter().map(Row::postgres).collect())
                    .map_err(StoreError::from)
            }
        };
        self.judge(rows)
    }

    /// Bytes that identify the database for the SAP epoch (`sap.md` §9): they change when a backup is restored, a
    /// standby is promoted or an SQLite file is copied. Hash them; acts made under another value are dead.
    ///
    /// Made of the random id from the first migration, the restore counter and, on PostgreSQL, the cluster's
    /// system identifier and current timeline, on SQLite the file's inode and the time it was made. On SQLite they are read
    /// once: the file is this process's alone, and only [`Store::mark_restored`](crate::Store::mark_restored) changes them.
    /// A backup that is copied *into* the file, or restored into the same cluster, shows by nothing here: whoever restores
    /// says so by that call.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn epoch_source(&mut self) -> Result<Vec<u8>, StoreError> {
        if let Inner::Sqlite(_, epoch) = &self.inner
            && let Some(known) = epoch.known()
        {
            return Ok(known);
        }
        self.read_epoch_source().await
    }

    /// The same from the tables, which replaces what was known of an SQLite store.
    pub(crate) async fn read_epoch_source(&mut self) -> Result<Vec<u8>, StoreError> {
        let meta = "SELECT a.value AS id, b.value AS restores FROM store_meta a, store_meta b \
                    WHERE a.key = 'system_id' AND b.key = 'restores'";
        let row = self.fetch_one(sql(meta)).await?;
        let (id, restores) = (row.text("id")?, row.text("restores")?);
        let place = match &self.inner {
            Inner::Sqlite(_, epoch) => epoch.place.clone(),
            Inner::Postgres(_) => {
                let row = self.fetch_one(sql(
                    "SELECT system_identifier AS system, substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS timeline \
                     FROM pg_control_system()",
                ));
                let row = row.await?;
                format!(
                    "system {} timeline {}",
                    row.int("system")?,
                    row.text("timeline")?
                )
            }
        };
        let source = format!("natsuin-epoch\n{id}\n{restores}\n{place}\n").into_bytes();
        if let Inner::Sqlite(_, epoch) = &self.inner {
            epoch.learn(source.clone());
        }
        Ok(source)
    }

    /// Runs several statements without parameters, such as data definitions. Safe for texts of our own only.
    pub(crate) async fn batch(&mut self, text: String) -> Result<(), StoreError> {
        let done = match &mut self.inner {
            Inner::Sqlite(open, _) => open.batch(&text),
            Inner::Postgres(inner) => {
                let done = sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut **inner);
                done.await.map(drop).map_err(StoreError::from)
            }
        };
        self.judge(done)
    }

    pub(crate) fn fate(&self) -> Fate {
        self.fate
    }

    pub(crate) fn into_inner(self) -> Inner {
        self.inner
    }

    /// Notes what a failed statement means for the transaction.
    fn judge<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        result.inspect_err(|error| {
            let again = error.passes() || self.fate == Fate::Again;
            self.fate = if again { Fate::Again } else { Fate::Doomed };
        })
    }
}
