//! SQLite in this process: statements run where they are called, since they take microseconds; what waits for the disk
//! runs on a thread of its own. Writers share commits, see [`group`](crate::group).

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rusqlite::types::ToSqlOutput;
use rusqlite::{CachedStatement, Connection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::StoreError;
use crate::group::{Member, Writer};
use crate::sql::{Row, Sql};

/// How long a request waits for a connection before it is told that the store is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An open file.
pub(crate) struct Sqlite {
    pub(crate) writer: Arc<tokio::sync::Mutex<Writer>>,
    pub(crate) readers: Arc<Readers>,
    pub(crate) epoch: Arc<EpochCell>,
    /// Held as long as the store: other processes are kept out.
    pub(crate) _lock: File,
}

/// What identifies the store; see [`Tx::epoch_source`](crate::Tx::epoch_source).
#[derive(Debug)]
pub(crate) struct EpochCell {
    /// Which file it is.
    pub(crate) place: String,
    pub(crate) known: RwLock<Option<Vec<u8>>>,
}

impl EpochCell {
    pub(crate) fn known(&self) -> Option<Vec<u8>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    pub(crate) fn learn(&self, source: Vec<u8>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        *known = Some(source);
    }
}

impl Sqlite {
    pub(crate) async fn begin(&self) -> Result<Open, StoreError> {
        let lock = self.writer.clone().lock_owned();
        let guard = tokio::time::timeout(PATIENCE, lock).await;
        let guard = guard.map_err(|_| StoreError::Busy("no free connection"))?;
        Member::begin(guard).map(Open::Write)
    }

    pub(crate) async fn read(&self) -> Result<Open, StoreError> {
        Snapshot::begin(self.readers.clone()).await.map(Open::Read)
    }

    /// Ends after the transactions in progress; the last connection folds the log into the file.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        let mut writer = self.writer.clone().lock_owned().await;
        while writer.is_busy() {
            drop(writer);
            tokio::task::yield_now().await;
            writer = self.writer.clone().lock_owned().await;
        }
        let closing = tokio::task::spawn_blocking(move || writer.close());
        // A panic in there was reported by the runtime, and the connection is gone all the same.
        let _ = closing.await;
    }
}

/// A transaction.
#[derive(Debug)]
pub(crate) enum Open {
    Write(Member),
    Read(Snapshot),
}

impl Open {
    fn connection(&self) -> Result<&Connection, StoreError> {
        match self {
            Self::Write(member) => member.connection(),
            Self::Read(snapshot) => snapshot.connection(),
        }
    }

    pub(crate) fn execute(&self, sql: &Sql<'_>) -> Result<u64, StoreError> {
        let connection = self.connection()?;
        let mut statement = prepared(connection, sql)?;
        let mut rows = statement.raw_query();
        while rows.next()?.is_some() {}
        drop(rows);
        Ok(connection.changes())
    }

    /// At most `limit` rows.
    pub(crate) fn fetch(&self, sql: &Sql<'_>, limit: usize) -> Result<Vec<Row>, StoreError> {
        let mut statement = prepared(self.connection()?, sql)?;
        let names: Arc<[String]> = statement
            .column_names()
            .into_iter()
            .map(str::to_owned)
            .collect();
        let mut rows = statement.raw_query();
        let mut fetched = Vec::new();
        while fetched.len() < limit
            && let Some(row) = rows.next()?
        {
            let values = (0..names.len())
                .map(|column| row.get(column))
                .collect::<Result<_, _>>()?;
            fetched.push(Row::sqlite(names.clone(), values));
        }
        Ok(fetched)
    }

    pub(crate) fn batch(&self, text: &str) -> Result<(), StoreError> {
        Ok(self.connection()?.execute_batch(text)?)
    }
}

/// The statement with its values bound. SQLite takes `$1` for a name, so its place is asked for.
fn prepared<'c>(
    connection: &'c Connection,
    sql: &Sql<'_>,
) -> Result<CachedStatement<'c>, StoreError> {
    let mut statement = connection.prepare_cached(sql.text())?;
    let mut bound = 0;
    for (number, value) in (1_usize..).zip(sql.values()) {
        let name = format!("${number}");
        let Some(place) = statement.parameter_index(&name)? else {
            return Err(rusqlite::Error::InvalidParameterName(name).into());
        };
        statement.raw_bind_parameter(place, ToSqlOutput::Borrowed(value))?;
        bound += 1;
    }
    // Never NULL instead of what was forgotten.
    match statement.parameter_count() {
        count if count == bound => Ok(statement),
        count => Err(rusqlite::Error::InvalidParameterCount(bound, count).into()),
    }
}

/// Connections that only read.
pub(crate) struct Readers {
    free: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
    count: u32,
}

impl Readers {
    pub(crate) fn new(connections: Vec<Connection>) -> Self {
        Self {
            count: u32::try_from(connections.len()).unwrap_or(u32::MAX),
            permits: Arc::new(Semaphore::new(connections.len())),
            free: Mutex::new(connections),
        }
    }

    async fn close(&self) {
        // Fails only when it was closed before.
        let all = self.permits.acquire_many(self.count).await;
        self.permits.close();
        drop(all);
        let connections = std::mem::take(&mut *self.lock());
        // Nothing of theirs has to be written.
        let _ = tokio::task::spawn_blocking(move || drop(connections)).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A transaction that reads one consistent state, committed by others before it began.
pub(crate) struct Snapshot {
    connection: Option<Connection>,
    readers: Arc<Readers>,
    _permit: OwnedSemaphorePermit,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Snapshot")
    }
}

impl Snapshot {
    pub(crate) async fn begin(readers: Arc<Readers>) -> Result<Self, StoreError> {
        let permit = readers.permits.clone().acquire_owned();
        let permit = tokio::time::timeout(PATIENCE, permit).await;
        let permit = permit
            .map_err(|_| StoreError::Busy("no free connection"))?
            .map_err(|_| StoreError::Closed)?;
        let connection = readers.lock().pop().ok_or(StoreError::Closed)?;
        let snapshot = Self {
            connection: Some(connection),
            readers,
            _permit: permit,
        };
        snapshot
            .connection()?
            .prepare_cached("BEGIN DEFERRED")?
            .raw_execute()?;
        Ok(snapshot)
    }

    fn connection(&self) -> Result<&Connection, StoreError> {
        self.connection.as_ref().ok_or(StoreError::Closed)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        if !connection.is_autocommit()
            && let Err(error) = connection.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "a snapshot could not be ended");
        }
        self.readers.lock().push(connection);
    }
}
