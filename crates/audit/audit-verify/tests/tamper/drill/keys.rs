//! By somebody who has all that the node has: its database, the keys of its chain and of its checkpoints, and its way to the witness's
//! file. The zone can't tell that work from its own. Whoever cosigned the log can, and the auditor with a copy of the file.

use std::sync::{Arc, Mutex};

use audit_log::{
    Answer, Asking, AuditError, Carrier, Measure, Sequencer, Witness, Witnesses, export, read_back,
};
use audit_verify::witness::{Log, Request, State, Verdict};
use core_types::UnixTime;
use store_kit::Store;

use super::{Database, ENTRIES, LATER, NEW, Node, START, by_hand, close, copy, number, write};
use crate::kit::{self, Stamp};

/// A witness that cosigns what extends the last that it saw, as `natsuin audit witness` decides it.
#[derive(Clone)]
struct Keeper {
    stamp: Stamp,
    log: Arc<Log>,
    known: Arc<Mutex<Option<State>>>,
}

impl Keeper {
    /// One that has cosigned what this node's last export has.
    fn of(node: &Node) -> Self {
        let checkpoint = node.dir.path().join("export/checkpoint");
        let checkpoint = std::fs::read_to_string(checkpoint).expect("a checkpoint");
        let log = Log::parse(&kit::log_key().public()).expect("a key");
        let known = log.state(&checkpoint).expect("its own checkpoint");
        node.stamp
            .now
            .store(LATER, std::sync::atomic::Ordering::SeqCst);
        Self {
            stamp: node.stamp.clone(),
            log: Arc::new(log),
            known: Arc::new(Mutex::new(Some(known))),
        }
    }

    fn watches(&self) -> Witnesses {
        let witness = Witness::new(&self.stamp.key, Box::new(self.clone())).expect("a witness");
        Witnesses {
            cosigners: vec![witness],
            patience: 60,
            measure: Measure::Stop,
        }
    }

    fn judge(&self, body: &str) -> Verdict {
        let mut known = self.known.lock().expect("nobody panics");
        let request = Request::parse(body).expect("a request");
        let verdict = request.judge(&self.log, *known);
        if let Verdict::Cosign(state) = verdict {
            *known = Some(state);
        }
        verdict
    }
}

impl Carrier for Keeper {
    fn add_checkpoint(&self, body: String) -> Asking<'_> {
        let (status, said) = match self.judge(&body) {
            Verdict::Cosign(_) => return self.stamp.add_checkpoint(body),
            Verdict::Knows(size) => (409, size.to_string()),
            Verdict::Contradicts => (422, String::new()),
            Verdict::Malformed | Verdict::Forbidden => (400, String::new()),
        };
        let body = said.into_bytes();
        Box::pin(async move { Some(Answer { status, body }) })
    }
}

/// The zone's own checks, with this witness or with none beside the file.
async fn starts(node: &Node, keeper: Option<&Keeper>) -> Result<(), AuditError> {
    let store = node.store().await;
    let done = checked(node, &store, keeper).await;
    close(store).await;
    done
}

async fn checked(node: &Node, store: &Store, keeper: Option<&Keeper>) -> Result<(), AuditError> {
    let log = kit::log("node-1");
    read_back(&log, store, |_| Ok(())).await?;
    let opened = Sequencer::open(log, kit::log_key(), Some(node.witness()), store).await?;
    let watched = match keeper {
        Some(keeper) => {
            opened
                .watched_by(keeper.watches(), store, UnixTime(LATER))
                .await?
        }
        None => opened,
    };
    watched.sequence(store, UnixTime(LATER)).await.map(drop)
}

/// The witness's file with nothing but the checkpoint of this export.
fn file_of(node: &Node, export: &str) {
    let checkpoint = node.dir.path().join(export).join("checkpoint");
    let checkpoint = std::fs::read_to_string(checkpoint).expect("a checkpoint");
    let own: Vec<&str> = checkpoint.lines().take(5).collect();
    std::fs::write(node.witness(), own.join("\n") + "\n\n").expect("a file");
}

/// The witnesses' signatures are the only thing that can't be made anew.
async fn without_cosignatures(node: &Node) {
    let store = node.store().await;
    by_hand(&store, &["DELETE FROM audit_cosignature".to_owned()]).await;
    close(store).await;
}

/// What is done with the keys; whether the zone's own checks are deceived, and what the cosigner's answer makes of it.
async fn with_the_keys(node: &mut Node, fork: &Node, kind: usize) -> (&'static str, &'static str) {
    match kind {
        0 => {
            // Another history of the same length, in every row that the zone keeps.
            let theirs = fork.copied().await;
            let db = node.dir.path().join("db");
            std::fs::remove_dir_all(&db).expect("a folder");
            copy(&theirs.dir.path().join("db"), &db);
            node.database = theirs.database.clone();
            std::fs::copy(theirs.witness(), node.witness()).expect("a file");
            without_cosignatures(node).await;
            ("the log is another one", "isn't this log's")
        }
        1 => {
            // The end is cut off while the node is stopped.
            node.put_back().await;
            file_of(node, "earlier");
            ("the log ends earlier", "was set back")
        }
        2 => {
            // The same, and then something else happened.
            node.put_back().await;
            file_of(node, "earlier");
            without_cosignatures(node).await;
            let store = node.store().await;
            let opened = Sequencer::open(
                kit::log("node-1"),
                kit::log_key(),
                Some(node.witness()),
                &store,
            );
            let sequencer = opened.await.expect("a log");
            for at in 0..ENTRIES {
                write(&store, ENTRIES + NEW + at, 7).await;
                if at % 100 == 0 {
                    let sequenced = sequencer.sequence(&store, UnixTime(START + at));
                    sequenced.await.expect("a log");
                }
            }
            let sequenced = sequencer.sequence(&store, UnixTime(START + ENTRIES));
            sequenced.await.expect("a log");
            close(store).await;
            (
                "the log goes on from an earlier point in another way",
                "isn't this log's",
            )
        }
        _ => {
            // Of the entries only: heads and codes follow from them.
            let store = node.store().await;
            let new = "SELECT count(*) AS x FROM audit_entry WHERE seq IS NULL";
            assert_eq!(number(&store, new).await, NEW);
            let last = "SELECT mac FROM audit_entry e WHERE e.node = audit_head.node AND e.seq IS NOT NULL ORDER BY n DESC LIMIT 1";
            let last_n = last.replacen("mac", "n", 1);
            by_hand(
                &store,
                &[
                    format!("UPDATE audit_head SET n = ({last_n}), mac = ({last})"),
                    "DELETE FROM audit_entry WHERE seq IS NULL".to_owned(),
                ],
            )
            .await;
            close(store).await;
            ("what nobody has seen yet is removed", "")
        }
    }
}

const KINDS: usize = 4;

/// A file that the same hands can reach tells them nothing new; a copy of it, and a witness elsewhere, do. What was written within the
/// last interval and has no place yet can be removed unseen while the node is stopped: nobody outside has heard of it.
// shows: T-INS-OPERATOR, I-7.1.4.3-append-only, I-7.1.4.8-audit-integrity
#[tokio::test]
async fn what_is_done_with_the_nodes_own_keys_only_those_who_watch_it_find() {
    for server in [false, true] {
        let database = async || match server {
            true => Database::server().await,
            false => Database::Files,
        };
        let whole = Node::made(0, database().await).await;
        let fork = Node::made(1, database().await).await;
        for kind in 0..KINDS {
            let mut node = whole.copied().await;
            let keeper = Keeper::of(&node);
            let (what, cosigner) = with_the_keys(&mut node, &fork, kind).await;
            let alone = starts(&node, None).await;
            assert!(alone.is_ok(), "{what}: {alone:?}");
            let watched = starts(&node, Some(&keeper)).await;
            match (watched, cosigner) {
                (Ok(()), "") => {}
                (Err(error), named) if !named.is_empty() => {
                    let said = error.to_string();
                    assert!(said.contains(named), "{what}: {said}");
                }
                (other, _) => panic!("{what}: {other:?}"),
            }
            // The auditor has an own copy of the file.
            let store = node.store().await;
            let dir = node.dir.path().join("export");
            std::fs::remove_dir_all(&dir).expect("a folder");
            let exported = export(&store, &dir, &kit::log_key().public()).await;
            exported.expect("an export");
            close(store).await;
            let found = node.judged(&dir, &whole.witness());
            assert_eq!(found.is_empty(), cosigner.is_empty(), "{what}: {found}");
            node.gone().await;
        }
    }
}

/// The node is stopped, the database put back, and the file that would tell is emptied or taken away.
// shows: T-INS-OPERATOR
#[tokio::test]
async fn a_witness_that_has_forgotten_everything_is_found() {
    let whole = Node::made(0, Database::Files).await;
    for back in [false, true] {
        let mut node = whole.copied().await;
        if back {
            // Further than its first checkpoint, which may have met a crash before the file was told.
            node.put_back().await;
            file_of(&node, "earlier");
            let store = node.store().await;
            let (log, key) = (kit::log("node-1"), kit::log_key());
            let opened = Sequencer::open(log, key, Some(node.witness()), &store).await;
            let sequencer = opened.expect("a log");
            write(&store, ENTRIES + NEW, 7).await;
            let sequenced = sequencer.sequence(&store, UnixTime(LATER)).await;
            sequenced.expect("a log");
            close(store).await;
        }
        std::fs::write(node.witness(), "").expect("a file");
        let emptied = starts(&node, None).await;
        assert!(
            matches!(emptied, Err(AuditError::WitnessEmptied(_))),
            "{emptied:?}"
        );
        std::fs::remove_file(node.witness()).expect("a file");
        let missing = starts(&node, None).await;
        assert!(
            matches!(missing, Err(AuditError::WitnessMissing(_))),
            "{missing:?}"
        );
    }
}
