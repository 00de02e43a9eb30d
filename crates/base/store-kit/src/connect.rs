//! Opening pools: files, locks, and the settings every connection gets.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use rusqlite::{Connection, OpenFlags};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyPool, AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};
use url::Url;

use crate::error::{StoreError, code};
use crate::group::Writer;
use crate::sqlite::{EpochCell, PATIENCE, Readers, Sqlite};

/// Connections per process to PostgreSQL; readers per process on SQLite.
const CONNECTIONS: u32 = 16;
const READERS: usize = 8;
/// Prepared statements kept by each connection; there are fewer texts than that.
const STATEMENTS: usize = 512;

const SQLITE_SETTINGS: &str = "
PRAGMA busy_timeout = 5000; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;
PRAGMA cell_size_check = ON; PRAGMA wal_autocheckpoint = 4000;";

/// Opens an SQLite store, and creates it if need be.
pub(crate) async fn sqlite(path: &Path) -> Result<Sqlite, StoreError> {
    let path = path.to_owned();
    let opening = tokio::task::spawn_blocking(move || sqlite_file(&path));
    opening.await.map_err(|_| StoreError::Closed)?
}

fn sqlite_file(path: &Path) -> Result<Sqlite, StoreError> {
    let place = prepare_file(path)?;
    let lock = lock_file(path)?;
    check_header(path)?;
    let damage = |error| name_damage(error, path);
    let writer = sqlite_connection(path, false).map_err(damage)?;
    if !wal_and_health(&writer).map_err(damage)? {
        return Err(StoreError::Corrupt(path.to_owned()));
    }
    let readers: Result<Vec<_>, _> = (0..READERS)
        .map(|_| sqlite_connection(path, true))
        .collect();
    Ok(Sqlite {
        writer: Arc::new(tokio::sync::Mutex::new(Writer::new(writer))),
        readers: Arc::new(Readers::new(readers.map_err(damage)?)),
        epoch: Arc::new(EpochCell {
            place,
            known: RwLock::new(None),
        }),
        _lock: lock,
    })
}

pub(crate) async fn postgres(url: &Url, schema: &'static str) -> Result<AnyPool, StoreError> {
    let options = quiet(
        AnyConnectOptions::from_url(url).map_err(|_| StoreError::BadUrl("it doesn't parse"))?,
    );
    // Asked once outside the pool, which would knock at a closed door until its patience ends.
    let probe = sqlx::AnyConnection::connect_with(&options).await;
    probe
        .map_err(StoreError::Unreachable)?
        .close()
        .await
        .map_err(StoreError::Unreachable)?;
    let pool = AnyPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(PATIENCE)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                // Nothing may cancel a commit that waits for a standby: no timeouts. The schema is [a-z0-9_].
                let settings = format!(
                    "SET search_path TO {schema}; SET statement_timeout TO 0; SET lock_timeout TO 0; \
                     SELECT set_config('synchronous_commit', 'on', false) \
                     WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')"
                );
                sqlx::raw_sql(AssertSqlSafe(settings)).execute(connection).await.map(drop)
            })
        })
        .connect_with(options)
        .await
        .map_err(StoreError::Unreachable)?;
    refuse_unsafe(&pool).await?;
    Ok(pool)
}

async fn refuse_unsafe(pool: &AnyPool) -> Result<(), StoreError> {
    let query = "SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS pages, \
                 CAST(pg_is_in_recovery() AS text) AS standby, current_setting('server_encoding') AS encoding";
    let row = sqlx::query(query).fetch_one(pool).await?;
    let is = |column, value: &str| row.try_get::<String, _>(column).is_ok_and(|v| v == value);
    if !is("fsync", "on") {
        return Err(StoreError::Unsafe("fsync is off, so a crash loses commits"));
    }
    if !is("pages", "on") {
        return Err(StoreError::Unsafe(
            "full_page_writes is off, so a crash can tear pages",
        ));
    }
    if !is("standby", "false") {
        return Err(StoreError::Unsafe(
            "it is a standby, which can't be written",
        ));
    }
    if !is("encoding", "UTF8") {
        return Err(StoreError::Unsafe("its encoding isn't UTF8"));
    }
    Ok(())
}

/// Creates directory and file with rights for this user only, and says which file it is: its inode, and when it was made,
/// since a file that was put in another's place may get its inode.
fn prepare_file(path: &Path) -> Result<String, StoreError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::of_file(&path, source)
    };
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(at(parent))?;
    }
    let file = open_or_make(path)?;
    let meta = file.metadata().map_err(at(path))?;
    if !meta.is_file() {
        return Err(at(path)(std::io::Error::from(
            std::io::ErrorKind::InvalidInput,
        )));
    }
    let made = meta.created().ok();
    let made = made.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    let made = made.map_or_else(|| "unknown".to_owned(), |t| t.as_nanos().to_string());
    Ok(format!("inode {} made {made}", meta.ino()))
}

/// Opens a file with rights for this user only, and makes it if need be. Root makes none in another user's folder: that user's
/// daemon couldn't open it.
fn open_or_make(path: &Path) -> Result<File, StoreError> {
    let fault = |source| StoreError::of_file(path, source);
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    let made = match options.clone().create_new(true).open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return options.open(path).map_err(fault);
        }
        made => made.map_err(fault)?,
    };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    let folder = fs::metadata(folder.unwrap_or(Path::new("."))).map_err(fault)?;
    if made.metadata().map_err(fault)?.uid() == 0 && folder.uid() != 0 {
        fs::remove_file(path).map_err(fault)?;
        return Err(StoreError::NotOurs(path.to_owned()));
    }
    Ok(made)
}

fn lock_file(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let file = open_or_make(&name)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(StoreError::of_file(&name, source)),
    }
}

/// A file that isn't empty must begin like an SQLite database; said before anything could be written to it.
fn check_header(path: &Path) -> Result<(), StoreError> {
    let fault = |source| StoreError::File {
        path: path.to_owned(),
        source,
    };
    let mut start = Vec::new();
    File::open(path)
        .map_err(fault)?
        .take(16)
        .read_to_end(&mut start)
        .map_err(fault)?;
    if start.is_empty() || start == b"SQLite format 3\0" {
        return Ok(());
    }
    Err(StoreError::Corrupt(path.to_owned()))
}

/// A connection that only reads, beside the process that owns the file. Makes nothing where nothing is.
pub(crate) fn sqlite_reader(path: &Path) -> Result<Connection, StoreError> {
    check_header(path)?;
    let connection = sqlite_connection(path, true);
    connection.map_err(|error| name_damage(error, path))
}

/// Writes one row with two texts beside the process that owns the file, which waits for it as for any reader.
pub(crate) fn sqlite_word(
    path: &Path,
    insert: &'static str,
    key: &str,
    value: &str,
) -> Result<(), StoreError> {
    check_header(path)?;
    let word = || {
        let connection = sqlite_connection(path, false)?;
        connection.execute(insert, (key, value)).map(drop)
    };
    word().map_err(|error| name_damage(error, path))
}

fn sqlite_connection(path: &Path, read_only: bool) -> Result<Connection, rusqlite::Error> {
    // One thread at a time uses a connection, as its type has it, so SQLite needs no locks of its own.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.execute_batch(SQLITE_SETTINGS)?;
    if read_only {
        connection.execute_batch("PRAGMA query_only = ON")?;
    }
    Ok(connection)
}

/// Turns the write-ahead log on and lets SQLite check the file's structure.
fn wal_and_health(writer: &Connection) -> Result<bool, rusqlite::Error> {
    let ask = |text| writer.query_row(text, [], |row| row.get::<_, String>(0));
    Ok(ask("PRAGMA journal_mode = WAL")? == "wal" && ask("PRAGMA quick_check(1)")? == "ok")
}

/// SQLITE_CORRUPT and SQLITE_NOTADB, with their extensions, by name; and what SQLite says when a disk is full or read-only
/// (SQLITE_READONLY, SQLITE_IOERR, SQLITE_FULL): whether the file is ours was seen before.
fn name_damage(error: rusqlite::Error, path: &Path) -> StoreError {
    match code(&error).map(|c| c & 0xff) {
        Some(11 | 26) => StoreError::Corrupt(path.to_owned()),
        Some(8 | 10 | 13) => StoreError::Disk {
            path: path.to_owned(),
            source: std::io::Error::other(error.to_string()),
        },
        Some(14) => StoreError::File {
            path: path.to_owned(),
            source: std::io::Error::other(error.to_string()),
        },
        _ => error.into(),
    }
}

/// Statements are not logged: parameters never are, and the texts would flood the log.
fn quiet(options: AnyConnectOptions) -> AnyConnectOptions {
    options.disable_statement_logging()
}
