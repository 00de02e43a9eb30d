//! A hundred manipulations by somebody who can write to one node's database and to its exports, but has neither the keys
//! of the zone nor the auditor's files. Each is found, by the zone's own checks or by the auditor's, and named.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use audit_log::{AuditError, Sequencer, TABLES, export, read_back};
use audit_verify::{Known, verify};
use core_types::random::SystemRandom;
use core_types::{PersonId, UnixTime, sha256};
use store_kit::{Store, StoreError, StoreUrl, sql, transaction};
use tempfile::TempDir;

use crate::kit::{self, START, Stamp};

mod hands;

use hands::{IN_DATABASE, IN_EXPORT, in_the_database, in_the_export};

/// Entries in the log: those of two nodes by turns, and one that forgets a person.
const ENTRIES: i64 = 560;
/// What was there when the earlier copy was taken.
const EARLIER: i64 = 300;
/// Entries that have no place in the log yet.
const NEW: i64 = 20;
const LATER: i64 = START + 5000;

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
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

/// The files of a node, and what the auditor has.
struct Node {
    dir: TempDir,
    stamp: Stamp,
}

impl Node {
    /// `first`: which person the first entry is about.
    async fn made(first: i64) -> Self {
        let node = Self {
            dir: TempDir::new().expect("a directory"),
            stamp: Stamp::new(),
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
        copy(
            &node.dir.path().join("db"),
            &node.dir.path().join("earlier-db"),
        );
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
    fn copied(&self) -> Self {
        let dir = TempDir::new().expect("a directory");
        copy(self.dir.path(), dir.path());
        Self {
            dir,
            stamp: self.stamp.clone(),
        }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("db/node.db")
    }

    fn witness(&self) -> PathBuf {
        self.dir.path().join("witness")
    }

    async fn store(&self) -> Store {
        let url = StoreUrl::Sqlite(self.file());
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
        if let Err(error) = self.own_checks(&store).await {
            return error.to_string();
        }
        let dir = self.dir.path().join("export");
        export(&store, &dir, &kit::log_key().public())
            .await
            .expect("an export");
        self.judged(&dir)
    }

    /// What the auditor finds in an export.
    fn judged(&self, dir: &Path) -> String {
        let (key, witness) = (kit::log_key().public(), self.witness());
        let known = Known {
            key: &key,
            witness: Some(&witness),
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
                node.judged(&dir),
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

// shows: I-7.1.4.8-audit-integrity, I-7.1.4.3-no-unauthorised-deletion, T-INS-OPERATOR,
// I-7.1.4.3-append-only
#[tokio::test]
async fn a_hundred_manipulations_are_found_and_named() {
    let (whole, fork) = (Node::made(0).await, Node::made(1).await);
    copy(
        &fork.dir.path().join("export"),
        &whole.dir.path().join("fork"),
    );
    assert_eq!(whole.copied().found().await, "", "the intact log is good");
    assert_eq!(whole.judged(&whole.dir.path().join("export")), "");
    let mut dice = Dice(0);
    for round in 0..100 {
        let node = whole.copied();
        let kind = round % (IN_DATABASE + IN_EXPORT + IN_MACHINE);
        let (what, hits, found) = if kind < IN_DATABASE {
            let (what, hits) = in_the_database(&node, kind, &mut dice).await;
            let found = node.found().await;
            (what, hits, found)
        } else if kind < IN_DATABASE + IN_EXPORT {
            let (what, hits) = in_the_export(&node, kind - IN_DATABASE, &mut dice);
            let found = node.judged(&node.dir.path().join("export"));
            (what, hits, found)
        } else {
            in_the_machine(&node, kind - IN_DATABASE - IN_EXPORT, &mut dice).await
        };
        assert!(
            hits.iter().any(|hit| found.contains(hit.as_str())),
            "round {round}, kind {kind}: {what}\n  found: {found:?}\n  expected one of: {hits:?}"
        );
    }
}
