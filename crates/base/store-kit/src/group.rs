//! One durable commit for several write transactions of an SQLite store.
//!
//! SQLite has one writer, and a commit waits for the disk, which takes longer than all statements before it. So
//! transactions that wait for the writer at the same time share a commit: each is a part of one transaction of the
//! database, undone by a savepoint if need be. Nothing of it shows outside:
//!
//! - Nobody gets an answer before the shared commit is durable, not even a *no*: it may follow from what a transaction
//!   before it in the group did. If the commit fails, all of the group fail.
//! - A transaction that ends with an error is rolled back to its savepoint; the others go on.
//! - Snapshots see what is committed, never a group in progress.
//! - If the database gives up the whole transaction by itself, all that were in it fail.
//!
//! The commit itself stands in the fair queue for the writer, behind those that were waiting when the group began. So
//! a group ends without anybody counting, also when a waiting caller goes away.

use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

use crate::error::StoreError;

/// What became of a group.
type Outcome = Result<(), Arc<rusqlite::Error>>;

/// The only connection that writes.
pub(crate) struct Writer {
    connection: Option<Connection>,
    group: Option<Group>,
    groups: u64,
}

/// Transactions that share a commit.
struct Group {
    number: u64,
    /// Transactions that ended well so far.
    members: usize,
    /// The sender is with whoever commits: should they vanish, nobody waits in vain.
    outcome: watch::Receiver<Option<Outcome>>,
}

impl Writer {
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            connection: Some(connection),
            group: None,
            groups: 0,
        }
    }

    fn connection(&self) -> Result<&Connection, StoreError> {
        self.connection.as_ref().ok_or(StoreError::Closed)
    }

    /// Whether a group waits for its commit.
    pub(crate) fn is_busy(&self) -> bool {
        self.group.as_ref().is_some_and(Group::lives)
    }

    pub(crate) fn close(&mut self) {
        self.group = None;
        self.connection = None;
    }

    /// Number of the group that the next transaction joins: the open one, or a new one.
    fn join(&mut self, writer: &Arc<Mutex<Self>>) -> Result<(), StoreError> {
        let open = !self.connection()?.is_autocommit();
        if open && self.group.as_ref().is_some_and(Group::lives) {
            return Ok(());
        }
        // Either the database has given up the transaction, and its members must not be mixed up with those of the
        // next; or nobody is left who would commit it.
        self.group = None;
        if open {
            run(self.connection()?, "ROLLBACK")?;
        }
        run(self.connection()?, "BEGIN IMMEDIATE")?;
        self.groups += 1;
        let (sender, outcome) = watch::channel(None);
        let number = self.groups;
        self.group = Some(Group {
            number,
            members: 0,
            outcome,
        });
        let queue = writer.clone().lock_owned();
        tokio::spawn(async move {
            let mut writer = queue.await;
            let committing = tokio::task::spawn_blocking(move || {
                let outcome = writer.commit(number);
                drop(writer);
                // Nobody waits when all of them were dropped.
                let _ = sender.send(Some(outcome));
            });
            // A panic in there drops the sender, which those who wait notice.
            let _ = committing.await;
        });
        Ok(())
    }

    /// Commits this group, if it is still what is open.
    fn commit(&mut self, number: u64) -> Outcome {
        if self.group.take_if(|g| g.number == number).is_none() {
            return Err(Arc::new(rolled_back()));
        }
        let connection = self
            .connection
            .as_ref()
            .ok_or_else(|| Arc::new(rolled_back()))?;
        // If the database has given up the group's transaction, it refuses: there is nothing to commit.
        let done = run(connection, "COMMIT");
        if !connection.is_autocommit() {
            tracing::error!("a commit failed; all that shared it are rolled back");
            run(connection, "ROLLBACK")?;
        }
        Ok(done?)
    }
}

impl Group {
    fn lives(&self) -> bool {
        self.outcome.has_changed().is_ok()
    }
}

fn rolled_back() -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT_ROLLBACK);
    rusqlite::Error::SqliteFailure(code, None)
}

fn run(connection: &Connection, text: &'static str) -> Result<(), rusqlite::Error> {
    connection.prepare_cached(text)?.raw_execute().map(drop)
}

/// A write transaction in a group.
pub(crate) struct Member {
    /// The writer, until the transaction has ended.
    writer: Option<OwnedMutexGuard<Writer>>,
    /// Whether others of the group ended well before it: it may have seen what isn't durable yet, and has a savepoint
    /// of its own. The first has the whole transaction for itself, which saves SQLite a copy of every page it changes.
    follows: bool,
    outcome: watch::Receiver<Option<Outcome>>,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Member")
    }
}

impl Member {
    pub(crate) fn begin(mut guard: OwnedMutexGuard<Writer>) -> Result<Self, StoreError> {
        let writer = OwnedMutexGuard::mutex(&guard).clone();
        guard.join(&writer)?;
        let group = guard.group.as_ref().ok_or(StoreError::Closed)?;
        let (follows, outcome) = (group.members > 0, group.outcome.clone());
        if follows {
            run(guard.connection()?, "SAVEPOINT member")?;
        }
        Ok(Self {
            follows,
            outcome,
            writer: Some(guard),
        })
    }

    /// The connection, as long as the transaction is open: SQLite may have rolled it back, and statements after that
    /// would each be committed for themselves.
    pub(crate) fn connection(&self) -> Result<&Connection, StoreError> {
        let connection = self
            .writer
            .as_ref()
            .ok_or(StoreError::Closed)?
            .connection()?;
        if connection.is_autocommit() {
            return Err(rolled_back().into());
        }
        Ok(connection)
    }

    /// Ends well, and waits until the group's commit is durable.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        let Some(mut writer) = self.writer.take() else {
            return Err(StoreError::Closed);
        };
        // A transaction that the database has given up has no savepoint any more, and no members.
        let ended = match self.follows {
            true => run(writer.connection()?, "RELEASE member"),
            false if writer.connection()?.is_autocommit() => Err(rolled_back()),
            false => Ok(()),
        };
        if let Err(error) = ended {
            self.writer = Some(writer);
            drop(self);
            return Err(error.into());
        }
        if let Some(group) = &mut writer.group {
            group.members += 1;
        }
        drop(writer);
        durable(self.outcome.clone()).await
    }

    /// Undoes what this transaction did. What follows from others' work is waited for.
    pub(crate) async fn roll_back(mut self) -> Result<(), StoreError> {
        let follows = self.follows;
        let outcome = self.outcome.clone();
        self.undo();
        drop(self);
        if follows {
            durable(outcome).await
        } else {
            Ok(())
        }
    }

    /// Back to the savepoint, or, if that can't be done, nothing of the group is kept.
    fn undo(&mut self) {
        let Some(writer) = self.writer.take() else {
            return;
        };
        let Ok(connection) = writer.connection() else {
            return;
        };
        if connection.is_autocommit() {
            return;
        }
        if self.follows {
            let undone = run(connection, "ROLLBACK TO member")
                .and_then(|()| run(connection, "RELEASE member"));
            let Err(error) = undone else { return };
            tracing::warn!(%error, "a transaction could not be undone alone; those that share its commit fail too");
        }
        // The first of a group has no savepoint: so far the whole transaction is its own.
        if let Err(error) = run(connection, "ROLLBACK") {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }
}

/// A transaction whose caller went away leaves nothing behind.
impl Drop for Member {
    fn drop(&mut self) {
        self.undo();
    }
}

async fn durable(mut outcome: watch::Receiver<Option<Outcome>>) -> Result<(), StoreError> {
    let known = outcome.wait_for(Option::is_some).await;
    match known.as_deref() {
        Ok(Some(Ok(()))) => Ok(()),
        Ok(Some(Err(error))) => Err(error.clone().into()),
        // Whoever was to commit is gone, such as when the program ends.
        _ => Err(StoreError::Closed),
    }
}
