//! A hundred manipulations by somebody who can write to one node's database and to its exports, without the keys of the zone or the
//! auditor's files; each is found, by the zone's own checks or by the auditor's, and named. What somebody can do who has the node's keys
//! too, and its way to the witness's file, is in `keys`.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use audit_log::{AuditError, Sequencer, TABLES, export, read_back};
use audit_verify::{Known, verify};
use core_types::random::SystemRandom;
use core_types::{PersonId, UnixTime, sha256};
use store_kit::testing::{postgres_copy, postgres_database, postgres_drop};
use store_kit::{Store, StoreError, StoreUrl, sql, transaction};
use tempfile::TempDir;

use crate::kit::{self, START, Stamp};

mod hands;
mod keys;

use hands::{IN_DATABASE, IN_EXPORT, in_the_database, in_the_export};

/// Entries in the log: those of two nodes by turns, and one that forgets a person.
const ENTRIES: i64 = 560;
/// What was there when the earlier copy was taken.
const EARLIER: i64 = 300;
/// Entries that have no place in the log yet.
const NEW: i64 = 20;
const LATER: i64 = START + 5000;

/// Numbers that look random and are the same each time, unless `NATSUIN_DRILL` names others.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let named = std::env::var("NATSUIN_DRILL").ok();
        Self(named.and_then(|number| number.parse().ok()).unwrap_or(0))
    }

    fn below(&mut self, end: i64) -> i64 {
        self.0 += 1;
        let bytes = sha256(&[b"drill", &self.0.to_be_bytes()]).0;
        let drawn = bytes
            .first_chunk()
            .map_or(0, |b| u64::from_be_bytes(*b) >> 1);
        i64::try_from(drawn).expect("63 bits") % end
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(i64::try_from(of.len()).expect("short"))).expect("short")]
    }
}

/// The files of a node, its database, and what the auditor has.
struct Node {
    dir: TempDir,
    stamp: Stamp,
    database: Database,
}

/// Where the entries lie.
#[derive(Clone)]
enum Database {
    /// In the folder `db`, and as they were earlier in `earlier-db`.
    Files,
    /// On a server of PostgreSQL.
    Server { now: StoreUrl, earlier: StoreUrl },
}

impl Database {
    async fn server() -> Self {
        let now = postgres_database().await;
        let earlier = now.clone();
        Self::Server { now, earlier }
    }
}

impl Node {
    /// `first`: which person the first entry is about.
    async fn made(first: i64, database: Database) -> Self {
        let mut node = Self {
            dir: TempDir::new().expect("a directory"),
            stamp: Stamp::new(),
            database,
        };
        std::fs::create_dir(node.dir.path().join("db")).expect("a directory");
        let store = node.store().await;
        let opened = Sequencer::open(
            kit::log("node-1"),
            kit::log_key(),
            Some(node.witness()),
            &store,
        )
        .await;
        let watched =
            opened
                .expect("a log")
                .watched_by(node.stamp.watches(), &store, UnixTime(START));
        let sequencer = watched.await.expect("a watched log");
        node.start(&store, 1, START).await;
        for at in 0..EARLIER {
            write(&store, at, first).await;
        }
        forget(&store, "p7").await;
        node.sequence(&sequencer, &store, START + EARLIER).await;
        close(store).await;
        node.keep_earlier().await;
        let store = node.store().await;
        export(
            &store,
            &node.dir.path().join("earlier"),
            &sequencer.public(),
        )
        .await
        .expect("an export");
        for at in EARLIER..ENTRIES {
            write(&store, at, first).await;
            if at % 60 == 0 {
                node.sequence(&sequencer, &store, START + at).await;
            }
        }
        node.sequence(&sequencer, &store, START + ENTRIES).await;
        export(&store, &node.dir.path().join("export"), &sequencer.public())
            .await
            .expect("an export");
        for at in ENTRIES..ENTRIES + NEW {
            write(&store, at, first).await;
        }
        close(store).await;
        node
    }

    /// A copy to be manipulated.
    async fn copied(&self) -> Self {
        let dir = TempDir::new().expect("a directory");
        copy(self.dir.path(), dir.path());
        let database = match &self.database {
            Database::Files => Database::Files,
            Database::Server { now, earlier } => Database::Server {
                now: postgres_copy(now).await,
                earlier: earlier.clone(),
            },
        };
        Self {
            dir,
            stamp: self.stamp.clone(),
            database,
        }
    }

    /// Nobody wants it any more.
    async fn gone(self) {
        if let Database::Server { now, .. } = &self.database {
            postgres_drop(now).await;
        }
    }

    async fn keep_earlier(&mut self) {
        match &mut self.database {
            Database::Files => copy(
                &self.dir.path().join("db"),
                &self.dir.path().join("earlier-db"),
            ),
            Database::Server { now, earlier } => *earlier = postgres_copy(now).await,
        }
    }

    /// The database as it was earlier.
    async fn put_back(&mut self) {
        match &mut self.database {
            Database::Files => {
                let db = self.dir.path().join("db");
                std::fs::remove_dir_all(&db).expect("a folder");
                copy(&self.dir.path().join("earlier-db"), &db);
            }
            Database::Server { now, earlier } => {
                postgres_drop(now).await;
                *now = postgres_copy(earlier).await;
            }
        }
    }

    fn is_file(&self) -> bool {
        matches!(self.database, Database::Files)
    }

    fn witness(&self) -> PathBuf {
        self.dir.path().join("witness")
    }

    async fn store(&self) -> Store {
        let url = match &self.database {
            Database::Files => StoreUrl::Sqlite(self.dir.path().join("db/node.db")),
            Database::Server { now, .. } => now.clone(),
        };
        Store::open(&url, "sam", &[TABLES], &SystemRandom)
            .await
            .expect("a store")
    }

    async fn start(&self, store: &Store, setting: u8, at: i64) {
        let settings = [("policy", sha256(&[&[setting]]))];
        let done: Result<(), StoreError> = transaction!(store, "start", |tx| {
            kit::log("node-1")
                .starts(
                    tx,
                    "1".into(),
                    &settings,
                    &audit_log::Restorers::default(),
                    UnixTime(at),
                )
                .await
        });
        done.expect("a start");
    }

    async fn sequence(&self, sequencer: &Sequencer, store: &Store, at: i64) {
        self.stamp.now.store(at, Ordering::SeqCst);
        sequencer
            .sequence(store, UnixTime(at))
            .await
            .expect("an intact log");
    }

    /// The checks of a zone that starts and sequences what is new.
    async fn own_checks(&self, store: &Store) -> Result<(), AuditError> {
        let log = kit::log("node-1");
        read_back(&log, store, |_| Ok(())).await?;
        let opened = Sequencer::open(log, kit::log_key(), Some(self.witness()), store).await?;
        self.stamp.now.store(LATER, Ordering::SeqCst);
        let watched = opened
            .watched_by(self.stamp.watches(), store, UnixTime(LATER))
            .await?;
        watched.sequence(store, UnixTime(LATER)).await.map(drop)
    }

    /// What is found in the database: by the zone itself, or else in an export of it.
    async fn found(&self) -> String {
        let store = self.store().await;
        let found = self.own_checks(&store).await.err();
        let dir = self.dir.path().join("export");
        if found.is_none() {
            export(&store, &dir, &kit::log_key().public())
                .await
                .expect("an export");
        }
        close(store).await;
        match found {
            Some(error) => error.to_string(),
            None => self.judged(&dir, &self.witness()),
        }
    }

    /// What the auditor finds in an export, by this file of checkpoints.
    fn judged(&self, dir: &Path, witness: &Path) -> String {
        let key = kit::log_key().public();
        let known = Known {
            key: &key,
            witness: Some(witness),
            cosigners: &[&self.stamp.key],
            zone: Some("sam"),
            ..Known::default()
        };
        let report = verify(dir, known).expect("an export");
        match report.first_bad {
            Some(bad) => format!(
                "{:?} {:?} from {} to {} node {} #{} file {}: {}",
                bad.place,
                bad.reason,
                bad.seq.map_or(-1, |seq| i64::try_from(seq).expect("small")),
                bad.until
                    .or(bad.seq)
                    .map_or(-1, |seq| i64::try_from(seq).expect("small")),
                bad.node.unwrap_or_default(),
                bad.n.unwrap_or_default(),
                bad.file.unwrap_or_default(),
                bad.what
            ),
            None if report.witnesses.agreeing < report.witnesses.given => {
                "a witness is silent".to_owned()
            }
            None => String::new(),
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, target).expect("a copy");
        }
    }
}

/// A store is in use until it is let go.
async fn close(store: Store) {
    store.close().await;
}

/// One entry, by the nodes in turn, about one of fifty persons.
async fn write(store: &Store, at: i64, first: i64) {
    let log = kit::log(if at % 2 == 0 { "node-1" } else { "node-2" });
    let event = kit::event(usize::try_from((at + first).rem_euclid(50)).expect("small"));
    let done: Result<_, StoreError> = transaction!(store, "write", |tx| {
        log.append(tx, event.clone(), UnixTime(START + at)).await
    });
    done.expect("an entry");
}

async fn forget(store: &Store, person: &str) {
    let person = PersonId::parse(person).expect("an id");
    let done: Result<bool, StoreError> = transaction!(store, "forget", |tx| {
        kit::log("node-1")
            .forget(
                tx,
                &person,
                core_types::Digest32([7; 32]),
                UnixTime(START + EARLIER),
            )
            .await
    });
    assert!(done.expect("forgotten"));
}

/// Statements by somebody with a console at the database.
async fn by_hand(store: &Store, statements: &[String]) {
    let done: Result<(), StoreError> = transaction!(store, "by-hand", |tx| {
        for statement in statements {
            tx.execute(sql(statement.clone().leak())).await?;
        }
        Ok(())
    });
    done.unwrap_or_else(|e| panic!("{statements:?}: {e}"));
}

async fn number(store: &Store, query: &str) -> i64 {
    let mut tx = store.read("look").await.expect("a transaction");
    let found = tx
        .fetch_one(sql(query.to_owned().leak()))
        .await
        .expect("a row");
    found.int("x").expect("a number")
}

async fn word(store: &Store, query: &str) -> String {
    let mut tx = store.read("look").await.expect("a transaction");
    let found = tx
        .fetch_one(sql(query.to_owned().leak()))
        .await
        .expect("a row");
    found.text("x").expect("a text")
}

/// The clock is wrong while entries are written; settings change and the note of the last ones is made to fit; what a
/// running node wrote last is removed.
async fn in_the_machine(
    node: &Node,
    kind: usize,
    dice: &mut Dice,
) -> (String, Vec<String>, String) {
    let store = node.store().await;
    let log = kit::log("node-1");
    let opened = Sequencer::open(log.clone(), kit::log_key(), Some(node.witness()), &store).await;
    node.stamp.now.store(LATER, Ordering::SeqCst);
    let watched = opened
        .expect("a log")
        .watched_by(node.stamp.watches(), &store, UnixTime(LATER));
    let sequencer = watched.await.expect("a watched log");
    node.sequence(&sequencer, &store, LATER).await;
    match kind {
        0 => {
            let jump = dice.pick(&[-3000, -86_400, 86_400, 600]);
            let size = number(&store, "SELECT max(seq) + 1 AS x FROM audit_entry").await;
            write(&store, LATER - START + jump, 0).await;
            node.sequence(&sequencer, &store, LATER + 60).await;
            let dir = node.dir.path().join("export");
            export(&store, &dir, &sequencer.public())
                .await
                .expect("an export");
            let hit = format!("TimeDiffers from {size} to {size} ");
            (
                format!("the clock jumps by {jump}"),
                vec![hit],
                node.judged(&dir, &node.witness()),
            )
        }
        1 => {
            let hide = dice.pick(&[
                "DELETE FROM audit_setting",
                "UPDATE audit_setting SET value = 'VALUE' || substr(value, 44)",
                "UPDATE audit_setting SET value = 'VALUE'",
            ]);
            let hide = hide.replace("VALUE", &sha256(&[&[2]]).to_string());
            by_hand(&store, std::slice::from_ref(&hide)).await;
            node.start(&store, 2, LATER).await;
            let query =
                "SELECT kind AS x FROM audit_entry WHERE node = 'node-1' ORDER BY n DESC LIMIT 1";
            let last = word(&store, query).await;
            (hide, vec!["parameter.changed".to_owned()], last)
        }
        _ => {
            let write = async || {
                let event = kit::event(1);
                let done: Result<_, StoreError> = transaction!(store, "write", |tx| {
                    log.append(tx, event.clone(), UnixTime(LATER)).await
                });
                done
            };
            for _ in 0..=dice.below(3) + 1 {
                write().await.expect("an entry");
            }
            let before = "(SELECT max(n) - 1 FROM audit_entry WHERE node = 'node-1')";
            let statements = [
                format!("UPDATE audit_head SET n = {before}, mac = (SELECT mac FROM audit_entry WHERE node = 'node-1' AND n = {before}) WHERE node = 'node-1'"),
                "DELETE FROM audit_entry WHERE node = 'node-1' AND n > (SELECT n FROM audit_head WHERE node = 'node-1')".to_owned(),
            ];
            by_hand(&store, &statements).await;
            let found = write().await.expect_err("the end is gone").to_string();
            (
                "the newest entry is removed".to_owned(),
                vec!["entries of this node were removed".to_owned()],
                found,
            )
        }
    }
}

const IN_MACHINE: usize = 3;

/// Does something of this kind to a copy of the node, which has to be found and named.
async fn round(whole: &Node, kind: usize, dice: &mut Dice) {
    let mut node = whole.copied().await;
    let (what, hits, found) = if kind < IN_DATABASE {
        let (what, hits) = in_the_database(&mut node, kind, dice).await;
        let found = node.found().await;
        (what, hits, found)
    } else if kind < IN_DATABASE + IN_EXPORT {
        let (what, hits) = in_the_export(&node, kind - IN_DATABASE, dice);
        let found = node.judged(&node.dir.path().join("export"), &node.witness());
        (what, hits, found)
    } else {
        in_the_machine(&node, kind - IN_DATABASE - IN_EXPORT, dice).await
    };
    assert!(
        hits.iter().any(|hit| found.contains(hit.as_str())),
        "kind {kind}: {what}\n  found: {found:?}\n  expected one of: {hits:?}"
    );
    node.gone().await;
}

// shows: I-7.1.4.8-audit-integrity, I-7.1.4.3-no-unauthorised-deletion, T-INS-OPERATOR,
// I-7.1.4.3-append-only
#[tokio::test]
async fn a_hundred_manipulations_are_found_and_named() {
    let [whole, fork] = [
        Node::made(0, Database::Files).await,
        Node::made(1, Database::Files).await,
    ];
    copy(
        &fork.dir.path().join("export"),
        &whole.dir.path().join("fork"),
    );
    assert_eq!(
        whole.copied().await.found().await,
        "",
        "the intact log is good"
    );
    let export = whole.dir.path().join("export");
    assert_eq!(whole.judged(&export, &whole.witness()), "");
    let mut dice = Dice::new();
    for number in 0..100 {
        let kind = number % (IN_DATABASE + IN_EXPORT + IN_MACHINE);
        round(&whole, kind, &mut dice).await;
    }
}

/// What is done to exports is the same there.
// shows: I-7.1.4.8-audit-integrity, I-7.1.4.3-no-unauthorised-deletion, T-INS-OPERATOR
#[tokio::test]
async fn what_is_done_to_a_database_is_found_on_a_server_too() {
    let whole = Node::made(0, Database::server().await).await;
    let copied = whole.copied().await;
    assert_eq!(copied.found().await, "", "the intact log is good");
    copied.gone().await;
    let mut dice = Dice::new();
    let in_the_machine = IN_DATABASE + IN_EXPORT..IN_DATABASE + IN_EXPORT + IN_MACHINE;
    let kinds: Vec<usize> = (0..IN_DATABASE).chain(in_the_machine).collect();
    for kind in kinds.repeat(2) {
        round(&whole, kind, &mut dice).await;
    }
}
