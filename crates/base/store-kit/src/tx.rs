//! A transaction and the rows it yields.

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{Any, Decode, Row as _, Transaction, Type, ValueRef as _};

use crate::error::StoreError;

/// A statement with its parameters: `sql("… $1 …").bind(value)`, for `i64`, `&str`, `String`, `&[u8]`, `Vec<u8>`
/// and `Option`s of them.
pub type Sql<'q> = sqlx::query::Query<'q, Any, AnyArguments>;

/// Starts a statement from a constant text.
pub fn sql<'q>(text: &'static str) -> Sql<'q> {
    sqlx::query(text)
}

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
    inner: Transaction<'static, Any>,
    dialect: Dialect,
    name: &'static str,
    inode: u64,
    fate: Fate,
}

/// What the statements so far have decided about the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Good,
    Doomed,
    Again,
}

impl Tx {
    pub(crate) fn new(
        inner: Transaction<'static, Any>,
        dialect: Dialect,
        name: &'static str,
        inode: u64,
    ) -> Self {
        Self {
            inner,
            dialect,
            name,
            inode,
            fate: Fate::Good,
        }
    }

    /// Which database speaks; see [`share_lock!`](crate::share_lock).
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Runs a statement and returns the number of rows it changed.
    ///
    /// # Errors
    /// [`StoreError`]; the transaction can't be committed any more.
    pub async fn execute(&mut self, sql: Sql<'_>) -> Result<u64, StoreError> {
        let done = sql.execute(&mut *self.inner).await;
        self.judge(done).map(|d| d.rows_affected())
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
        let row = sql.fetch_optional(&mut *self.inner).await;
        self.judge(row).map(|r| r.map(Row))
    }

    /// The one row that must be there, such as that of an aggregate or `RETURNING`.
    ///
    /// # Errors
    /// [`StoreError`], also when there is none; the transaction can't be committed any more.
    pub async fn fetch_one(&mut self, sql: Sql<'_>) -> Result<Row, StoreError> {
        let row = sql.fetch_one(&mut *self.inner).await;
        self.judge(row).map(Row)
    }

    /// All rows; bound them with `LIMIT`.
    ///
    /// # Errors
    /// [`StoreError`]; the transaction can't be committed any more.
    pub async fn fetch_all(&mut self, sql: Sql<'_>) -> Result<Vec<Row>, StoreError> {
        let rows = sql.fetch_all(&mut *self.inner).await;
        self.judge(rows)
            .map(|rows| rows.into_iter().map(Row).collect())
    }

    /// Bytes that identify the database for the SAP epoch (`sap.md` §9): they change when a backup is restored, a
    /// standby is promoted or an SQLite file is copied. Hash them; acts made under another value are dead.
    ///
    /// Made of the random id from the first migration, the restore counter and, on PostgreSQL, the cluster's
    /// system identifier and current timeline, on SQLite the file's inode.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn epoch_source(&mut self) -> Result<Vec<u8>, StoreError> {
        let meta = "SELECT value FROM store_meta WHERE key = $1";
        let id = self
            .fetch_one(sql(meta).bind("system_id"))
            .await?
            .text("value")?;
        let restores = self
            .fetch_one(sql(meta).bind("restores"))
            .await?
            .text("value")?;
        let place = match self.dialect {
            Dialect::Sqlite => format!("inode {}", self.inode),
            Dialect::Postgres => {
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
        Ok(format!("natsuin-epoch\n{id}\n{restores}\n{place}\n").into_bytes())
    }

    pub(crate) fn fate(&self) -> Fate {
        self.fate
    }

    pub(crate) fn into_inner(self) -> Transaction<'static, Any> {
        self.inner
    }

    pub(crate) fn connection(&mut self) -> &mut sqlx::AnyConnection {
        &mut self.inner
    }

    /// Notes what a failed statement means for the transaction.
    pub(crate) fn judge<T>(&mut self, result: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        result.map_err(|error| {
            let error = StoreError::from(error);
            let again = error.passes() || self.fate == Fate::Again;
            self.fate = if again { Fate::Again } else { Fate::Doomed };
            error
        })
    }
}

/// A row; columns are read by name. A value that is `NULL` or of another type is an error, never a default.
pub struct Row(AnyRow);

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Row({} columns)", self.0.len())
    }
}

impl Row {
    /// A text column.
    ///
    /// # Errors
    /// [`StoreError::Column`].
    pub fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.get(column)
    }

    /// An integer column.
    ///
    /// # Errors
    /// [`StoreError::Column`].
    pub fn int(&self, column: &'static str) -> Result<i64, StoreError> {
        self.get(column)
    }

    /// A column of bytes.
    ///
    /// # Errors
    /// [`StoreError::Column`].
    pub fn blob(&self, column: &'static str) -> Result<Vec<u8>, StoreError> {
        self.get(column)
    }

    /// A text column that may be `NULL`.
    ///
    /// # Errors
    /// [`StoreError::Column`].
    pub fn maybe_text(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        self.maybe(column)
    }

    /// An integer column that may be `NULL`.
    ///
    /// # Errors
    /// [`StoreError::Column`].
    pub fn maybe_int(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        self.maybe(column)
    }

    /// A column of bytes that may be `NULL`.
    ///
    /// # Errors
    /// [`StoreError::Column`].
    pub fn maybe_blob(&self, column: &'static str) -> Result<Option<Vec<u8>>, StoreError> {
        self.maybe(column)
    }

    fn get<T: for<'r> Decode<'r, Any> + Type<Any>>(
        &self,
        column: &'static str,
    ) -> Result<T, StoreError> {
        self.maybe(column)?.ok_or(StoreError::Column(column))
    }

    fn maybe<T: for<'r> Decode<'r, Any> + Type<Any>>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        let value = self
            .0
            .try_get_raw(column)
            .map_err(|_| StoreError::Column(column))?;
        if value.is_null() {
            return Ok(None);
        }
        T::decode(value)
            .map(Some)
            .map_err(|_| StoreError::Column(column))
    }
}
