//! The witness with the real log: growth is cosigned, and a log that was set back, rewritten or shown in two forms is
//! found, at the start of the zone and while it runs. On both stores.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use audit_log::{
    Answer, Asking, AuditError, AuditLog, Carrier, Event, LogKey, Measure, Place, Sequencer,
    TABLES, Witness, Witnesses, export,
};
use audit_verify::{Known, verify};
use audit_witness::{CosignKey, Keeper, KeeperError, Tsa, anchors, router};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use core_types::clock::ManualClock;
use core_types::random::SeededRandom;
use core_types::{Clock as _, PersonId, SecretBytes, UnixTime};
use dev_ca::{DevCa, Urls};
use http_body_util::BodyExt as _;
use pki::fetch::{Fetch, FetchError, Fetching};
use store_kit::testing::{self, TestStore};
use store_kit::{StoreError, sql, transaction};
use tempfile::TempDir;
use tower::ServiceExt as _;

const NOW: UnixTime = UnixTime(1_800_000_000);

fn log_key() -> LogKey {
    LogKey::from_seed("log.example/sam", &SecretBytes::new(vec![2; 32])).unwrap()
}

fn log() -> AuditLog {
    AuditLog::new(
        "sam",
        "a",
        SecretBytes::new(vec![1; 32]),
        std::sync::Arc::new(core_types::random::SystemRandom),
    )
}

fn witness_key() -> CosignKey {
    CosignKey::from_seed("witness.example", &SecretBytes::new(vec![3; 32])).unwrap()
}

async fn write(store: &TestStore, word: &'static str, count: usize) {
    let event = Event::LoginSucceeded {
        person: PersonId::parse("p").unwrap(),
        method: word.into(),
        session: None,
        from: Place::Unknown,
        credential: None,
    };
    let events = vec![event; count];
    let done: Result<_, StoreError> = transaction!(store.store, "test", |tx| {
        log().append_all(tx, &events, NOW).await
    });
    done.unwrap();
}

/// The witness behind no socket, which can be taken away.
#[derive(Clone)]
struct Reached {
    router: Router,
    there: Arc<AtomicBool>,
}

impl Reached {
    fn new(dir: &Path) -> Self {
        let keeper = Keeper::open(dir, witness_key(), &[log_key().public()]).unwrap();
        let clock = Arc::new(ManualClock::at(NOW));
        Self {
            router: router(Arc::new(keeper), clock),
            there: Arc::new(AtomicBool::new(true)),
        }
    }

    async fn post(&self, body: String) -> (u16, Vec<u8>) {
        let request = Request::post("/add-checkpoint")
            .body(Body::from(body))
            .unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, body.to_vec())
    }

    fn watches(&self, measure: Measure) -> Witnesses {
        let carrier = Box::new(self.clone());
        Witnesses {
            cosigners: vec![Witness::new(&witness_key().public(), carrier).unwrap()],
            patience: 60,
            measure,
        }
    }
}

impl Carrier for Reached {
    fn add_checkpoint(&self, body: String) -> Asking<'_> {
        Box::pin(async move {
            if !self.there.load(Ordering::SeqCst) {
                return None;
            }
            let (status, body) = self.post(body).await;
            Some(Answer { status, body })
        })
    }
}

async fn open(
    store: &TestStore,
    witness: &Reached,
    measure: Measure,
) -> Result<Sequencer, AuditError> {
    let sequencer = Sequencer::open(log(), log_key(), None, store).await?;
    sequencer
        .watched_by(witness.watches(measure), store, NOW)
        .await
}

const AUDIT: [&str; 6] = [
    "entry",
    "head",
    "tree",
    "checkpoint",
    "subtree",
    "cosignature",
];

/// Runs a statement on each table of the log, with the table's name for `@`.
async fn on_all(store: &TestStore, statement: &str) {
    for table in AUDIT {
        let text = statement.replace('@', table);
        let text: &'static str = Box::leak(text.into_boxed_str());
        let done: Result<_, StoreError> =
            transaction!(store.store, "tamper", |tx| { tx.execute(sql(text)).await });
        done.unwrap();
    }
}

// shows: I-7.1.4.8-audit-integrity
#[tokio::test]
async fn a_log_that_grows_is_cosigned_and_one_that_was_put_back_is_found() {
    for store in testing::both(&[TABLES]).await {
        let dir = TempDir::new().unwrap();
        let witness = Reached::new(dir.path());
        let sequencer = open(&store, &witness, Measure::Stop).await.unwrap();
        // Sizes around the borders of tiles and batches.
        for count in [1, 1, 5, 248, 1, 1, 254, 600, 3] {
            write(&store, "totp", count).await;
            sequencer.sequence(&store, NOW).await.unwrap();
        }
        let out = TempDir::new().unwrap();
        export(&store, out.path(), &sequencer.public())
            .await
            .unwrap();
        let (key, cosigner) = (log_key().public(), witness_key().public());
        let files = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().path());
        let folder = files.into_iter().find(|p| p.is_dir()).unwrap();
        let file = folder.join("checkpoints.txt");
        let known = Known {
            key: &key,
            witness: Some(&file),
            cosigners: &[&cosigner],
            ..Known::default()
        };
        let report = verify(out.path(), known).unwrap();
        assert!(report.ok, "{:?}", report.first_bad);
        assert_eq!((report.proven, report.witnesses.agreeing), (1114, 2));

        // The whole log as it was before the last entries, put back while the zone runs and before it starts.
        on_all(&store, "CREATE TABLE old_@ AS SELECT * FROM audit_@").await;
        write(&store, "totp", 7).await;
        sequencer.sequence(&store, NOW).await.unwrap();
        on_all(&store, "DELETE FROM audit_@").await;
        on_all(&store, "INSERT INTO audit_@ SELECT * FROM old_@").await;
        let rolled_back = |result: Result<(), AuditError>| {
            assert!(
                matches!(
                    result,
                    Err(AuditError::RolledBack {
                        have: 1114,
                        seen: 1121
                    })
                ),
                "{result:?}"
            );
        };
        rolled_back(sequencer.sequence(&store, NOW).await.map(drop));
        rolled_back(open(&store, &witness, Measure::Alert).await.map(drop));
        // Somebody goes on from there, until the log is longer than it was.
        let alone = Sequencer::open(log(), log_key(), None, &store)
            .await
            .unwrap();
        write(&store, "none", 20).await;
        alone.sequence(&store, NOW).await.unwrap();
        let forked = open(&store, &witness, Measure::Alert).await.map(drop);
        assert!(
            matches!(forked, Err(AuditError::Forked(1121))),
            "{forked:?}"
        );
    }
}

#[tokio::test]
async fn two_forms_of_one_log_are_found_by_the_witness_of_both() {
    for stores in [
        [
            testing::sqlite(&[TABLES]).await,
            testing::sqlite(&[TABLES]).await,
        ],
        [
            testing::postgres(&[TABLES]).await,
            testing::postgres(&[TABLES]).await,
        ],
    ] {
        for (first, second) in [(3, 3), (3, 9), (300, 301)] {
            let dir = TempDir::new().unwrap();
            let witness = Reached::new(dir.path());
            for (store, word, count) in [(&stores[0], "totp", first), (&stores[1], "none", second)]
            {
                on_all(store, "DELETE FROM audit_@").await;
                write(store, word, count).await;
            }
            let shown = open(&stores[0], &witness, Measure::Alert).await.unwrap();
            shown.sequence(&stores[0], NOW).await.unwrap();
            let other = open(&stores[1], &witness, Measure::Alert).await.unwrap();
            let forked = other.sequence(&stores[1], NOW).await.map(drop);
            assert!(
                matches!(forked, Err(AuditError::Forked(_))),
                "{first} {second}: {forked:?}"
            );
        }
    }
}

async fn kinds(store: &TestStore) -> Vec<String> {
    let mut tx = store.read("kinds").await.unwrap();
    let query = "SELECT kind FROM audit_entry WHERE kind LIKE 'audit.witness%' ORDER BY n";
    let rows = tx.fetch_all(sql(query)).await.unwrap();
    rows.iter().map(|r| r.text("kind").unwrap()).collect()
}

// shows: I-7.1.4.2-external-transfer-failure
#[tokio::test]
async fn a_witness_that_stays_away_is_recorded_once_or_stops_the_zone_and_nothing_is_lost() {
    for store in testing::both(&[TABLES]).await {
        let dir = TempDir::new().unwrap();
        let witness = Reached::new(dir.path());
        let sequencer = open(&store, &witness, Measure::Alert).await.unwrap();
        write(&store, "totp", 3).await;
        sequencer.sequence(&store, NOW).await.unwrap();
        witness.there.store(false, Ordering::SeqCst);
        for (seconds, recorded) in [(10, 0), (60, 0), (70, 1), (80, 1), (500, 1)] {
            write(&store, "totp", 1).await;
            sequencer.sequence(&store, NOW.plus(seconds)).await.unwrap();
            assert_eq!(kinds(&store).await.len(), recorded, "{seconds}");
        }
        let stopping = open(&store, &witness, Measure::Stop).await;
        // Nothing is known against the log: whoever starts the zone tries again.
        let stopping = stopping.err().unwrap();
        assert!(matches!(stopping, AuditError::WitnessAway(_)) && stopping.passes());
        // What came meanwhile is cosigned when it is back.
        witness.there.store(true, Ordering::SeqCst);
        sequencer.sequence(&store, NOW.plus(510)).await.unwrap();
        sequencer.sequence(&store, NOW.plus(520)).await.unwrap();
        let said = kinds(&store).await;
        assert_eq!(said.first().map(String::as_str), Some("audit.witness-away"));
        assert_eq!(said.last().map(String::as_str), Some("audit.witness-back"));
        let mut tx = store.read("count").await.unwrap();
        let query = "SELECT (SELECT max(size) FROM audit_cosignature) - (SELECT max(size) FROM audit_checkpoint) AS n";
        assert_eq!(tx.fetch_one(sql(query)).await.unwrap().int("n").unwrap(), 0);
        drop(tx);

        let sequencer = open(&store, &witness, Measure::Stop).await.unwrap();
        witness.there.store(false, Ordering::SeqCst);
        sequencer.sequence(&store, NOW.plus(600)).await.unwrap();
        let stopped = sequencer.sequence(&store, NOW.plus(660)).await;
        assert!(
            matches!(stopped, Err(AuditError::WitnessAway(_))),
            "{stopped:?}"
        );
    }
}

#[tokio::test]
async fn what_the_protocol_refuses_is_refused_with_its_status() {
    let dir = TempDir::new().unwrap();
    let store = testing::sqlite(&[TABLES]).await;
    let sequencer = Sequencer::open(log(), log_key(), None, &store)
        .await
        .unwrap();
    let mut notes = Vec::new();
    for _ in 0..3 {
        write(&store, "totp", 4).await;
        sequencer.sequence(&store, NOW).await.unwrap();
        let note = audit_log::fetch(&store, audit_log::Resource::Checkpoint)
            .await
            .unwrap();
        notes.push(String::from_utf8(note.unwrap()).unwrap());
    }
    let witness = Reached::new(dir.path());
    let status = async |body: String| witness.post(body).await.0;
    for malformed in [
        "",
        "old 0",
        "old 00\n\n",
        "old 0\nAA\n\n",
        "new 0\n\n",
        "old 0\n\nlog\n",
    ] {
        assert_eq!(status(malformed.to_owned()).await, 400, "{malformed:?}");
    }
    let first = format!("old 0\n\n{}", notes[0]);
    assert_eq!(status(format!("old 9\n\n{}", notes[0])).await, 400);
    assert_eq!(
        status(first.replace("log.example/sam", "log.example/cm")).await,
        404
    );
    // A root that the log didn't sign.
    let lines: Vec<&str> = notes[0].lines().collect();
    let other = notes[1].lines().nth(2).unwrap();
    assert_eq!(status(first.replace(lines[2], other)).await, 403);
    let hash = other;
    assert_eq!(status(format!("old 0\n{hash}\n\n{}", notes[0])).await, 422);
    assert_eq!(status(first.clone()).await, 200);
    assert_eq!(status(first.clone()).await, 409);
    let (conflict, size) = witness.post(first).await;
    assert_eq!((conflict, size.as_slice()), (409, b"4\n".as_slice()));
    // The same again under its own size is cosigned again.
    assert_eq!(status(format!("old 4\n\n{}", notes[0])).await, 200);
    assert_eq!(status(format!("old 4\n\n{}", notes[1])).await, 422);
    assert_eq!(status(format!("old 4\n{hash}\n\n{}", notes[1])).await, 422);
    let long = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n".repeat(64);
    assert_eq!(status(format!("old 4\n{long}\n{}", notes[1])).await, 400);

    let folder = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().path());
    let folder = folder.into_iter().find(|p| p.is_dir()).unwrap();
    let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
    let get = async |path: String| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = witness.router.clone().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        (
            status,
            answer.into_body().collect().await.unwrap().to_bytes(),
        )
    };
    let (found, note) = get(format!("/{name}/checkpoint")).await;
    assert!(found == 200 && note.starts_with(notes[0].as_bytes()));
    assert_eq!(get("/none/checkpoint".to_owned()).await.0, 404);
}

#[tokio::test]
async fn the_witness_remembers_and_is_alone_in_its_directory() {
    let dir = TempDir::new().unwrap();
    let store = testing::sqlite(&[TABLES]).await;
    {
        let witness = Reached::new(dir.path());
        let sequencer = open(&store, &witness, Measure::Stop).await.unwrap();
        write(&store, "totp", 4).await;
        sequencer.sequence(&store, NOW).await.unwrap();
        let second = Keeper::open(dir.path(), witness_key(), &[log_key().public()]);
        assert!(matches!(second, Err(KeeperError::InUse(_))));
    }
    let witness = Reached::new(dir.path());
    let (status, size) = witness
        .post({
            let note = audit_log::fetch(&store, audit_log::Resource::Checkpoint)
                .await
                .unwrap();
            format!("old 0\n\n{}", String::from_utf8(note.unwrap()).unwrap())
        })
        .await;
    assert_eq!((status, size.as_slice()), (409, b"4\n".as_slice()));
    drop(witness);
    let files = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().path());
    let file = files
        .into_iter()
        .find(|p| p.is_dir())
        .unwrap()
        .join("checkpoints.txt");
    let text = std::fs::read_to_string(&file)
        .unwrap()
        .replace("\n4\n", "\n3\n");
    std::fs::write(&file, text).unwrap();
    let opened = Keeper::open(dir.path(), witness_key(), &[log_key().public()]);
    assert!(matches!(opened, Err(KeeperError::Foreign(_))));
}

/// The development CA's time-stamps without sockets.
struct Stamps(DevCa);

impl Fetch for Stamps {
    fn get<'a>(&'a self, url: &'a str, _: usize) -> Fetching<'a> {
        let fault = FetchError {
            url: url.to_owned(),
            reason: "not here".to_owned(),
            answered: false,
        };
        Box::pin(std::future::ready(Err(fault)))
    }

    fn post<'a>(&'a self, _: &'a str, _: &'a str, body: Vec<u8>, _: usize) -> Fetching<'a> {
        Box::pin(std::future::ready(Ok(self.0.time_stamp(&body))))
    }
}

#[tokio::test]
async fn checkpoints_are_time_stamped_and_the_stamps_are_checked() {
    let (dir, ca_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let clock = Arc::new(ManualClock::at(NOW));
    let random = Arc::new(SeededRandom::new(7));
    let ca = DevCa::open(
        ca_dir.path(),
        Urls::under("http://ca"),
        clock.clone(),
        random.clone(),
    );
    let stamps = Stamps(ca.unwrap());
    let tsa = Tsa {
        url: "http://ca/tsa".to_owned(),
        anchors: vec![stamps.0.root().der().to_vec()],
    };
    let store = testing::sqlite(&[TABLES]).await;
    let keeper = Arc::new(Keeper::open(dir.path(), witness_key(), &[log_key().public()]).unwrap());
    let witness = Reached {
        router: router(keeper.clone(), clock.clone()),
        there: Arc::new(AtomicBool::new(true)),
    };
    let sequencer = open(&store, &witness, Measure::Stop).await.unwrap();
    for _ in 0..2 {
        write(&store, "totp", 4).await;
        sequencer.sequence(&store, clock.now()).await.unwrap();
        assert_eq!(
            keeper.anchor(&tsa, &stamps, random.as_ref()).await.unwrap(),
            1
        );
        assert_eq!(
            keeper.anchor(&tsa, &stamps, random.as_ref()).await.unwrap(),
            0
        );
        clock.advance(60);
    }
    let (_, name) = keeper.folders().next().unwrap();
    let folder = dir.path().join(name);
    let found = anchors(&folder, &tsa.anchors).unwrap();
    let found: Vec<_> = found.iter().map(|a| (a.size, a.at)).collect();
    assert_eq!(found, [(4, NOW), (8, NOW.plus(60))]);

    assert!(anchors(&folder, &[]).is_err(), "nobody is trusted");
    std::fs::copy(folder.join("4.tst"), folder.join("8.tst")).unwrap();
    assert!(
        anchors(&folder, &tsa.anchors).is_err(),
        "over another checkpoint"
    );
    std::fs::rename(folder.join("4.tst"), folder.join("5.tst")).unwrap();
    assert!(
        anchors(&folder, &tsa.anchors).is_err(),
        "over no checkpoint"
    );
}
