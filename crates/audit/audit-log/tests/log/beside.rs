//! A command's sequencer beside the daemon's, with the same witnesses over the network.

use std::sync::{Arc, Mutex};

use audit_log::{
    Answer, Asking, AuditError, Carrier, Measure, Sequencer, TABLES, Witness, Witnesses,
};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use core_types::bytes::hex;
use core_types::sha256;
use store_kit::{Store, sql, testing};

use crate::kit::{NOW, log, open, tamper, write};

/// A witness that believes every proof.
struct Cosigner {
    name: &'static str,
    pair: Ed25519KeyPair,
    /// Size of the checkpoint that it knows.
    size: Mutex<i64>,
}

impl Cosigner {
    fn new(name: &'static str) -> Arc<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap();
        let size = Mutex::new(0);
        Arc::new(Self { name, pair, size })
    }

    fn typed(&self) -> Vec<u8> {
        [&[4_u8][..], self.pair.public_key().as_ref()].concat()
    }

    fn id(&self) -> Vec<u8> {
        let digest = sha256(&[self.name.as_bytes(), b"\n", &self.typed()]);
        digest.0[..4].to_vec()
    }

    /// Its key, as it is written in settings.
    fn vkey(&self) -> String {
        let (id, key) = (hex(self.id()), STANDARD.encode(self.typed()));
        format!("{}+{id}+{key}", self.name)
    }

    fn answer(&self, body: &str) -> Answer {
        let (before, note) = body.split_once("\n\n").unwrap();
        let old = before.lines().next().unwrap();
        let mut size = self.size.lock().unwrap();
        if old != format!("old {size}") {
            let body = format!("{size}\n").into_bytes();
            return Answer { status: 409, body };
        }
        *size = note.lines().nth(1).unwrap().parse().unwrap();
        let (text, _) = note.split_once("\n\n").unwrap();
        let message = format!("cosignature/v1\ntime {}\n{text}\n", NOW.0);
        let signature = self.pair.sign(message.as_bytes());
        let time = NOW.0.to_be_bytes();
        let bytes = [&self.id()[..], &time[..], signature.as_ref()].concat();
        let line = format!("\u{2014} {} {}\n", self.name, STANDARD.encode(bytes));
        Answer {
            status: 200,
            body: line.into_bytes(),
        }
    }
}

/// What happens in the store before a request arrives.
enum Turn {
    /// A command writes an entry and sequences.
    Command(Box<Sequencer>, Store),
    /// Somebody puts a checkpoint there of which the entries aren't.
    Row(Store),
}

/// The way to a witness; before the first request arrives, somebody else has a turn.
struct Way {
    to: Arc<Cosigner>,
    turn: Mutex<Option<Turn>>,
}

impl Carrier for Way {
    fn add_checkpoint(&self, body: String) -> Asking<'_> {
        Box::pin(async move {
            let turn = self.turn.lock().unwrap().take();
            match turn {
                Some(Turn::Command(command, store)) => {
                    write(&store, &log("b"), 1).await;
                    command.sequence(&store, NOW).await.unwrap();
                }
                Some(Turn::Row(store)) => tamper(&store, BEYOND).await,
                None => {}
            }
            Some(self.to.answer(&body))
        })
    }
}

/// A checkpoint that no entries of the store lead to.
const BEYOND: &str = "INSERT INTO audit_checkpoint (size, at, note) VALUES (9, 0, 'log.example/sam\n9\nROOT\n\n\u{2014} log.example/sam VALUE\n')";

/// A sequencer with both witnesses; `turn` is before the first one is asked.
async fn watched(store: &Store, by: &[Arc<Cosigner>; 2], mut turn: Option<Turn>) -> Sequencer {
    let cosigners = by.iter().map(|cosigner| {
        let way = Way {
            to: cosigner.clone(),
            turn: Mutex::new(turn.take()),
        };
        Witness::new(&cosigner.vkey(), Box::new(way)).unwrap()
    });
    let witnesses = Witnesses {
        cosigners: cosigners.collect(),
        patience: 60,
        measure: Measure::Stop,
    };
    let sequencer = open(store).await.unwrap();
    let watched = sequencer.watched_by(witnesses, store, NOW).await;
    watched.unwrap()
}

/// What one has cosigned for the command the daemon's next question finds out by the answer, and of the other one in the store.
// shows: I-7.1.4.3-no-unauthorised-deletion
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_faster_than_the_daemon_is_no_rollback_and_a_rollback_is_found() {
    for store in testing::both(&[TABLES]).await {
        let witnesses = [Cosigner::new("one.example"), Cosigner::new("two.example")];
        let sizes = || witnesses.each_ref().map(|w| *w.size.lock().unwrap());
        let command = watched(&store, &witnesses, None).await;
        let turn = Turn::Command(Box::new(command), store.store.clone());
        let daemon = watched(&store, &witnesses, Some(turn)).await;
        write(&store, &log("a"), 0).await;
        let done = daemon.sequence(&store, NOW).await.unwrap();
        assert_eq!((done.size, sizes()), (1, [2, 2]));
        write(&store, &log("a"), 2).await;
        let done = daemon.sequence(&store, NOW).await.unwrap();
        assert_eq!((done.size, sizes()), (3, [3, 3]), "both are asked again");
        let mut tx = store.read("count").await.unwrap();
        let count = sql("SELECT count(*) AS n FROM audit_cosignature");
        assert_eq!(tx.fetch_one(count).await.unwrap().int("n").unwrap(), 4);
        drop(tx);

        // What no checkpoint of the store reaches was taken from it.
        *witnesses[1].size.lock().unwrap() = 9;
        write(&store, &log("a"), 3).await;
        let error = daemon.sequence(&store, NOW).await.unwrap_err();
        let rolled_back = matches!(error, AuditError::RolledBack { have: 4, seen: 9 });
        assert!(rolled_back, "{error}");
    }
}

/// What an old store lacks isn't there by the row of a checkpoint alone, whenever that was put there.
// shows: I-7.1.4.3-no-unauthorised-deletion, I-7.1.4.8-audit-integrity
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_beyond_the_entries_hides_no_rollback() {
    for store in testing::both(&[TABLES]).await {
        let witnesses = [Cosigner::new("one.example"), Cosigner::new("two.example")];
        let turn = Turn::Row(store.store.clone());
        let daemon = watched(&store, &witnesses, Some(turn)).await;
        write(&store, &log("a"), 0).await;
        *witnesses[0].size.lock().unwrap() = 9;
        // The first time while the witness is asked, then before the run.
        for _ in 0..2 {
            let error = daemon.sequence(&store, NOW).await.unwrap_err();
            assert!(matches!(error, AuditError::Tree(_)), "{error}");
        }
        tamper(&store, "DELETE FROM audit_checkpoint WHERE size = 9").await;
        let error = daemon.sequence(&store, NOW).await.unwrap_err();
        let rolled_back = matches!(error, AuditError::RolledBack { have: 1, seen: 9 });
        assert!(rolled_back, "{error}");
    }
}
