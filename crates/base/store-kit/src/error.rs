//! What can go wrong with a store, and what to do about it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A failure of the store. No text in it contains a password or a stored value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The URL has a form that isn't understood. The operator's fault.
    #[error("the store's URL isn't usable: {0}. Use sqlite:PATH or postgres://USER@HOST/DATABASE")]
    BadUrl(&'static str),
    /// The directory or file can't be created, read or written. The operator's fault.
    #[error(
        "cannot use the store file {path}: {source}. Check that the directory exists and belongs to this user"
    )]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The disk of the store's file is full, or can't be written. Nothing is known against what it holds.
    #[error(
        "the store file {path} can't be written for now: {source}. Make room on its disk, or mount it for writing"
    )]
    Disk {
        /// The file or directory.
        path: PathBuf,
        /// What the system or SQLite said.
        source: std::io::Error,
    },
    /// Another process has the SQLite file open. The operator's fault.
    #[error(
        "the store {0} is in use by another process. Stop it first: one process owns an SQLite store"
    )]
    InUse(PathBuf),
    /// Root was about to make a file of the store in another user's folder. The operator's fault.
    #[error(
        "{0} would be root's in the folder of another user, whose daemon couldn't open it. Run the command as that user; nothing was made"
    )]
    NotOurs(PathBuf),
    /// The file is no SQLite database or is damaged.
    #[error(
        "the store {0} is damaged or no SQLite database. Put it aside and restore a backup; nothing was changed"
    )]
    Corrupt(PathBuf),
    /// The store belongs to another zone. The operator's fault.
    #[error(
        "this store belongs to {found:?}, not to {expected:?}. Each zone needs a store of its own"
    )]
    OtherZone {
        /// The zone that was about to open it.
        expected: String,
        /// The zone that made it.
        found: String,
    },
    /// The schema was made by a newer program. The operator's fault.
    #[error(
        "the store has the unknown migration {component}/{name}: a newer version made it. Start that version, or restore a backup"
    )]
    Newer {
        /// Component whose schema it is.
        component: String,
        /// The migration this program doesn't know.
        name: String,
    },
    /// A migration that was applied has another text now. The developer's fault.
    #[error(
        "the migration {component}/{name} differs from the one that made this store. Start the version that made it"
    )]
    Edited {
        /// Component whose schema it is.
        component: String,
        /// The migration.
        name: String,
    },
    /// PostgreSQL can't be reached or refuses the login.
    #[error(
        "cannot connect to the database: {0}. Check that it runs, and its host, user and password"
    )]
    Unreachable(#[source] sqlx::Error),
    /// PostgreSQL is set up so that a commit may be lost. The operator's fault.
    #[error("the database isn't safe for signatures: {0}. Change its configuration")]
    Unsafe(&'static str),
    /// No connection became free in time, or the database stayed busy after several tries.
    #[error("the database is too busy ({0}). Try again later")]
    Busy(&'static str),
    /// A compare-and-swap met a newer version and still did after several tries.
    #[error("another request changed the same data ({0}). Try again")]
    Conflict(&'static str),
    /// The transaction was to be committed although a statement in it had failed. The developer's fault.
    #[error("transaction {0} was not committed: a statement in it had failed")]
    Doomed(&'static str),
    /// A unique key exists already.
    #[error("the key exists already")]
    Duplicate(#[source] DatabaseError),
    /// An audit entry can't be written, so the transaction must not be either.
    #[error("the audit log can't be written: {0}. Nothing was done")]
    Audit(&'static str),
    /// What was written into the audit log gets no place in it, so nothing more is written until it does.
    #[error(
        "entries of the audit log get no place in it. Nothing is done until they do: look for locks and triggers on its tables, and for space"
    )]
    Unplaced,
    /// A stored value has another type than expected, or is missing.
    #[error("column {0} of the store has no usable value")]
    Column(&'static str),
    /// There is no store of this zone.
    #[error("there is no store of {0}. Check the address")]
    NoStore(&'static str),
    /// Rows are in the store already.
    #[error("the store has rows already. Restore into a new one")]
    NotBlank,
    /// Tables or columns are others than this program's.
    #[error("the tables are those of another version. Use the version that made them")]
    OtherSchema,
    /// A restore into this store didn't come to its end.
    #[error("a restore into this store did not end. Remove the store, and restore anew")]
    HalfFilled,
    /// Any other failure of the database.
    #[error("the database failed: {0}{advice}", advice = advice(.0))]
    Database(#[source] DatabaseError),
    /// The store was closed, or the program ends: nothing was done.
    #[error("the store is closed. Start the program again")]
    Closed,
}

/// What a database said.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite. Shared, because several transactions can fail by one commit.
    #[error(transparent)]
    Sqlite(Arc<rusqlite::Error>),
    /// PostgreSQL.
    #[error(transparent)]
    Postgres(Arc<sqlx::Error>),
}

impl StoreError {
    /// Stable code for messages and logs, such as `store-in-use`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadUrl(_) => "store-url",
            Self::File { .. } => "store-file",
            Self::Disk { .. } => "store-disk",
            Self::InUse(_) => "store-in-use",
            Self::NotOurs(_) => "store-not-ours",
            Self::Corrupt(_) => "store-corrupt",
            Self::OtherZone { .. } => "store-other-zone",
            Self::Newer { .. } => "store-newer",
            Self::Edited { .. } => "store-edited",
            Self::Unreachable(_) => "store-unreachable",
            Self::Unsafe(_) => "store-unsafe",
            Self::Busy(_) => "store-busy",
            Self::Conflict(_) => "store-conflict",
            Self::Doomed(_) => "store-doomed",
            Self::Duplicate(_) => "store-duplicate",
            Self::Audit(_) => "store-audit",
            Self::Unplaced => "store-unplaced",
            Self::Column(_) => "store-column",
            Self::NoStore(_) => "store-none",
            Self::NotBlank => "store-not-blank",
            Self::OtherSchema => "store-other-schema",
            Self::HalfFilled => "store-half-filled",
            Self::Database(_) => "store-database",
            Self::Closed => "store-closed",
        }
    }

    /// Whether the database, or the log in it, is gone, full or can't be written for now. Nothing is known against what it holds, so a program
    /// that does nothing meanwhile may wait for it.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Unreachable(_)
            | Self::Busy(_)
            | Self::Conflict(_)
            | Self::Disk { .. }
            | Self::Unplaced => true,
            Self::Database(DatabaseError::Sqlite(error)) => matches!(
                code(error).unwrap_or(0) & 0xff,
                BUSY | LOCKED | READ_ONLY | IO | FULL | CANT_OPEN
            ),
            Self::Database(DatabaseError::Postgres(error)) => match &**error {
                sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
                sqlx::Error::WorkerCrashed => true,
                sqlx::Error::Database(e) => e.code().is_some_and(|c| is_away(&c)),
                _ => false,
            },
            _ => false,
        }
    }

    /// What it means that the system refused this file or directory.
    pub(crate) fn of_file(path: &Path, source: std::io::Error) -> Self {
        let path = path.to_owned();
        match disk_is_away(&source) {
            true => Self::Disk { path, source },
            false => Self::File { path, source },
        }
    }

    /// Whether running the transaction again from its first read may succeed.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Conflict(_) => true,
            Self::Database(DatabaseError::Sqlite(error)) => {
                matches!(code(error).unwrap_or(0) & 0xff, BUSY | LOCKED)
            }
            Self::Database(DatabaseError::Postgres(error)) => match &**error {
                sqlx::Error::Database(e) => e.code().is_some_and(|c| is_transient(&c)),
                _ => false,
            },
            _ => false,
        }
    }
}

/// What to do, where it is known.
fn advice(error: &DatabaseError) -> &'static str {
    let no_room = match error {
        DatabaseError::Sqlite(error) => {
            matches!(code(error).unwrap_or(0) & 0xff, READ_ONLY | IO | FULL)
        }
        DatabaseError::Postgres(error) => match &**error {
            // Disk full; an I/O error of the system under it.
            sqlx::Error::Database(e) => e.code().is_some_and(|c| c == "53100" || c == "58030"),
            _ => false,
        },
    };
    match no_room {
        true => ". Make room on its disk, and see that it can be written",
        false => "",
    }
}

/// Whether a file can't be written because its disk is full or mounted for reading only, or because of a limit: that passes when
/// somebody makes room, and says nothing against what the file holds.
pub fn disk_is_away(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(
        error.kind(),
        StorageFull | QuotaExceeded | FileTooLarge | ReadOnlyFilesystem
    )
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(e) if e.is_unique_violation() => {
                Self::Duplicate(DatabaseError::Postgres(Arc::new(error)))
            }
            sqlx::Error::PoolTimedOut => Self::Busy("no free connection"),
            sqlx::Error::PoolClosed => Self::Closed,
            _ => Self::Database(DatabaseError::Postgres(Arc::new(error))),
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Arc::new(error).into()
    }
}

impl From<Arc<rusqlite::Error>> for StoreError {
    fn from(error: Arc<rusqlite::Error>) -> Self {
        match code(&error) {
            Some(DUPLICATE | DUPLICATE_KEY) => Self::Duplicate(DatabaseError::Sqlite(error)),
            _ => Self::Database(DatabaseError::Sqlite(error)),
        }
    }
}

const BUSY: i32 = rusqlite::ffi::SQLITE_BUSY;
const LOCKED: i32 = rusqlite::ffi::SQLITE_LOCKED;
const READ_ONLY: i32 = rusqlite::ffi::SQLITE_READONLY;
const IO: i32 = rusqlite::ffi::SQLITE_IOERR;
const FULL: i32 = rusqlite::ffi::SQLITE_FULL;
const CANT_OPEN: i32 = rusqlite::ffi::SQLITE_CANTOPEN;
const DUPLICATE: i32 = rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE;
const DUPLICATE_KEY: i32 = rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY;

/// SQLite's extended result code.
pub(crate) fn code(error: &rusqlite::Error) -> Option<i32> {
    match error {
        rusqlite::Error::SqliteFailure(error, _) => Some(error.extended_code),
        _ => None,
    }
}

/// PostgreSQL: serialization failure, deadlock, lock not available.
fn is_transient(code: &str) -> bool {
    matches!(code, "40001" | "40P01" | "55P03")
}

/// PostgreSQL: the connection, resources, an operator (shutdown, promotion), the system under it; and a standby's refusal of
/// writes, while an address still leads to one.
fn is_away(code: &str) -> bool {
    let class = ["08", "53", "57P", "58"];
    is_transient(code) || code == "25006" || class.iter().any(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_may_come_back_is_told_from_one_that_holds_something_wrong() {
        for code in [
            "08006", "53300", "53100", "57P01", "57P03", "58030", "25006", "40001",
        ] {
            assert!(is_away(code), "{code}");
        }
        for code in ["23505", "42P01", "57014", "XX001", "22P02", ""] {
            assert!(!is_away(code), "{code}");
        }
        let sqlite = |code| {
            let failure = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            StoreError::from(failure).is_away()
        };
        for code in [5, 6, 8, 10, 13, 14, 778, 1032] {
            assert!(sqlite(code), "{code}");
        }
        for code in [1, 11, 19, 26, 2067] {
            assert!(!sqlite(code), "{code}");
        }
        assert!(StoreError::from(sqlx::Error::PoolTimedOut).is_away());
        assert!(StoreError::from(sqlx::Error::WorkerCrashed).is_away());
        assert!(StoreError::Unplaced.is_away() && !StoreError::Unplaced.passes());
        assert!(!StoreError::from(sqlx::Error::RowNotFound).is_away());
        assert!(!StoreError::Column("version").is_away());
        assert!(!StoreError::Audit("it was altered").is_away());
    }

    #[test]
    fn a_disk_that_is_full_or_read_only_is_told_from_a_file_that_is_not_ours() {
        // ENOSPC, EFBIG, EROFS, EDQUOT; then ENOENT, EACCES, EISDIR.
        for (errno, away) in [
            (28, true),
            (27, true),
            (30, true),
            (122, true),
            (2, false),
            (13, false),
            (21, false),
        ] {
            let source = std::io::Error::from_raw_os_error(errno);
            let error = StoreError::of_file(Path::new("/x/y.db"), source);
            assert_eq!(error.is_away(), away, "{error}");
            assert_eq!(error.code() == "store-disk", away, "{error}");
            assert!(error.to_string().contains("/x/y.db"));
        }
    }

    #[test]
    fn only_passing_failures_are_retried() {
        for code in ["40001", "40P01", "55P03"] {
            assert!(is_transient(code), "{code}");
        }
        for code in ["23505", "42601", "57014", "00005", "5", ""] {
            assert!(!is_transient(code), "{code}");
        }
        let sqlite = |code| {
            let failure = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
            StoreError::from(failure).passes()
        };
        for code in [5, 6, 261, 517, 262] {
            assert!(sqlite(code), "{code}");
        }
        for code in [1, 11, 19, 516, 2067] {
            assert!(!sqlite(code), "{code}");
        }
    }
}
