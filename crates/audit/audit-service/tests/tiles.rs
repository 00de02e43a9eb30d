//! Auditors read the log over the network; nobody else does, and each reading is recorded.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use audit_log::{AuditLog, Event, LogKey, Place, Sequencer, TABLES, export};
use audit_service::{Reading, SearchAnswer, StateAnswer, router};
use axum::body::Body;
use axum::http::Request;
use core_types::clock::ManualClock;
use core_types::{PeerId, PersonId, SecretBytes, UnixTime};
use http_body_util::BodyExt as _;
use service_kit::Peer;
use store_kit::testing::{self, TestStore};
use store_kit::{StoreError, sql, transaction};
use tower::ServiceExt as _;

const NOW: UnixTime = UnixTime(1_800_000_000);

fn log() -> AuditLog {
    AuditLog::new(
        "sam",
        "a",
        SecretBytes::new(vec![1; 32]),
        std::sync::Arc::new(core_types::random::SystemRandom),
    )
}

async fn get(router: &axum::Router, name: &str, path: &str) -> (u16, Vec<u8>) {
    let peer = Peer {
        name: name.to_owned(),
        addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
    };
    let request = Request::get(path)
        .extension(peer)
        .body(Body::empty())
        .unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, body.to_vec())
}

async fn count(store: &TestStore, kind: &str) -> i64 {
    let mut tx = store.read("count").await.unwrap();
    let query = sql("SELECT count(*) AS n FROM audit_entry WHERE kind = $1").bind(kind);
    tx.fetch_one(query).await.unwrap().int("n").unwrap()
}

fn files(root: &Path, dir: &Path, into: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(root, &path, into);
        } else {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            into.push((name, std::fs::read(&path).unwrap()));
        }
    }
}

// shows: T-INS-AUDITOR
#[tokio::test]
async fn auditors_get_what_an_export_has_and_others_get_nothing() {
    for store in testing::both(&[TABLES]).await {
        let key = LogKey::from_seed("log.example/sam", &SecretBytes::new(vec![2; 32])).unwrap();
        let sequencer = Sequencer::open(log(), key, None, &store).await.unwrap();
        let event = Event::LoginSucceeded {
            person: PersonId::parse("p").unwrap(),
            method: "totp".into(),
            session: None,
            from: Place::Unknown,
            credential: None,
        };
        let events = vec![event; 600];
        let done: Result<_, StoreError> = transaction!(store.store, "test", |tx| {
            log().append_all(tx, &events, NOW).await
        });
        done.unwrap();
        sequencer.sequence(&store, NOW).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        export(&store, dir.path(), &sequencer.public())
            .await
            .unwrap();
        let mut exported = Vec::new();
        files(dir.path(), dir.path(), &mut exported);
        let router = router(Reading {
            log: log(),
            store: store.store.clone(),
            public: sequencer.public(),
            auditors: vec![PeerId::parse("auditor.example").unwrap()],
            clock: Arc::new(ManualClock::at(NOW)),
        });
        let beside = ["log.pub", "checkpoints.txt"];
        let resources = exported
            .iter()
            .filter(|(name, _)| !beside.contains(&name.as_str()));
        let resources: Vec<_> = resources.collect();
        assert_eq!(resources.len(), 1 + 3 + 3 + 1, "{resources:?}");
        for (name, bytes) in &resources {
            let path = format!("/{name}");
            let (status, body) = get(&router, "auditor.example", &path).await;
            assert!((status, &body) == (200, bytes), "{name}");
            for other in ["sam.example", "", "bad name"] {
                let (status, body) = get(&router, other, &path).await;
                assert_eq!((status, body.len()), (403, 0), "{other:?} {name}");
            }
        }
        // What an export has beside; the checkpoints come in pages.
        let file = |name: &str| {
            let found = exported.iter().find(|(known, _)| known == name);
            found.map(|(_, bytes)| String::from_utf8(bytes.clone()).unwrap())
        };
        let (status, key) = get(&router, "auditor.example", "/log.pub").await;
        assert_eq!(
            (status, String::from_utf8(key).ok()),
            (200, file("log.pub"))
        );
        let (status, page) = get(&router, "auditor.example", "/checkpoints/0").await;
        let notes: Vec<String> = serde_json::from_slice(&page).unwrap();
        let text: String = notes.iter().map(|note| format!("{note}\n")).collect();
        assert_eq!(
            (status, notes.len(), Some(text)),
            (200, 2, file("checkpoints.txt"))
        );
        let (status, page) = get(&router, "auditor.example", "/checkpoints/500").await;
        let rest: Vec<String> = serde_json::from_slice(&page).unwrap();
        assert_eq!((status, &rest[..]), (200, &notes[1..]));
        let (_, page) = get(&router, "auditor.example", "/checkpoints/600").await;
        assert_eq!(page, b"[]");
        let (_, ranges) = get(&router, "auditor.example", "/archived.json").await;
        assert_eq!(ranges, b"[]");
        for path in ["/log.pub", "/checkpoints/0", "/archived.json"] {
            let (status, body) = get(&router, "", path).await;
            assert_eq!((status, body.len()), (403, 0), "{path}");
        }
        assert_eq!(count(&store, "audit.read").await, 3);
        let refused = i64::try_from(resources.len()).unwrap();
        assert_eq!(count(&store, "audit.read-refused").await, refused);
        // A flood of them is a few entries, and others' are told still.
        for _ in 0..30 {
            assert_eq!(get(&router, "sam.example", "/checkpoint").await.0, 403);
            assert_eq!(post(&router, "sam.example", "{}").await.0, 403);
        }
        assert_eq!(count(&store, "audit.read-refused").await, 10);
        assert_eq!(get(&router, "ssa.example", "/checkpoint").await.0, 403);
        assert_eq!(count(&store, "audit.read-refused").await, 11);
        for path in [
            "/tile/0/003",
            "/tile/0/002",
            "/tile/0/002.p/89",
            "/tile/2/000",
            "/tile/entries/002.p/200",
            "/tile/0/0",
            "/tile/x",
            "/checkpoints/-1",
            "/checkpoints/x",
        ] {
            assert_eq!(get(&router, "auditor.example", path).await.0, 404, "{path}");
        }
    }
}

async fn post(router: &axum::Router, name: &str, body: &str) -> (u16, Vec<u8>) {
    ask(router, name, "/search", body).await
}

async fn ask(router: &axum::Router, name: &str, path: &str, body: &str) -> (u16, Vec<u8>) {
    let peer = Peer {
        name: name.to_owned(),
        addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
    };
    let request = Request::post(path).extension(peer);
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, body.to_vec())
}

// shows: I-7.1.4.6-deny-by-default
#[tokio::test]
async fn only_auditors_search_and_each_search_is_an_entry() {
    for store in testing::both(&[TABLES]).await {
        let key = LogKey::from_seed("log.example/sam", &SecretBytes::new(vec![2; 32])).unwrap();
        let sequencer = Sequencer::open(log(), key, None, &store).await.unwrap();
        let person = PersonId::parse("p").unwrap();
        let event = Event::LoginSucceeded {
            person: person.clone(),
            method: "totp".into(),
            session: None,
            from: Place::Unknown,
            credential: None,
        };
        let done: Result<_, StoreError> = transaction!(store.store, "test", |tx| {
            log().append_all(tx, &vec![event.clone(); 5], NOW).await
        });
        done.unwrap();
        sequencer.sequence(&store, NOW).await.unwrap();
        let router = router(Reading {
            log: log(),
            store: store.store.clone(),
            public: sequencer.public(),
            auditors: vec![PeerId::parse("auditor.example").unwrap()],
            clock: Arc::new(ManualClock::at(NOW)),
        });
        for other in ["sam.example", "ssa.example", "", "AUDITOR.example"] {
            let (status, body) = post(&router, other, "{}").await;
            assert_eq!((status, body.len()), (403, 0), "{other:?}");
        }
        assert_eq!(count(&store, "audit.read-refused").await, 3);
        let about = r#"{"kinds":["login."],"person":"p","limit":3}"#;
        let (status, body) = post(&router, "auditor.example", about).await;
        let answer: SearchAnswer = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, answer.entries.len()), (200, 3));
        assert_eq!(answer.entries[0].person.as_deref(), Some("p"));
        let next = answer.next.unwrap();
        let rest = format!(r#"{{"kinds":["login."],"person":"p","after":"{next}"}}"#);
        let (_, body) = post(&router, "auditor.example", &rest).await;
        let answer: SearchAnswer = serde_json::from_slice(&body).unwrap();
        assert_eq!((answer.entries.len(), answer.next), (2, None));
        assert_eq!(count(&store, "audit.read").await, 2);
        for bad in [
            "",
            r#"{"kind":"x"}"#,
            r#"{"kinds":["key.none"]}"#,
            r#"{"outcome":"yes"}"#,
            r#"{"class":"all"}"#,
            r#"{"after":"x"}"#,
            r#"{"person":"a b"}"#,
        ] {
            assert_eq!(post(&router, "auditor.example", bad).await.0, 400, "{bad}");
        }
    }
}

/// How a zone is: its nodes, their clocks, and what somebody has to look at, whatever is made to hide it.
// shows: I-7.1.4.6-deny-by-default
#[tokio::test]
async fn a_zone_says_how_it_is_and_a_flood_hides_no_alarm() {
    for store in testing::both(&[TABLES]).await {
        let key = LogKey::from_seed("log.example/sam", &SecretBytes::new(vec![2; 32])).unwrap();
        let sequencer = Sequencer::open(log(), key, None, &store).await.unwrap();
        let state = |word: &'static str| Event::ClockState { state: word.into() };
        let locked = Event::LoginLocked {
            person: PersonId::parse("hanako").unwrap(),
            until: NOW.plus(60),
        };
        let alarm = Event::Alarm {
            what: "backup-late".into(),
        };
        let write = async |events: Vec<Event>, at: UnixTime| {
            let done: Result<_, StoreError> = transaction!(store.store, "test", |tx| {
                log().append_all(tx, &events, at).await
            });
            done.unwrap();
            sequencer.sequence(&store, at).await.unwrap();
        };
        write(vec![state("unsynchronised"), alarm], NOW).await;
        write(vec![state("synchronised")], NOW.plus(1)).await;
        write(vec![locked; 100], NOW.plus(2)).await;
        let router = router(Reading {
            log: log(),
            store: store.store.clone(),
            public: sequencer.public(),
            auditors: vec![PeerId::parse("console.example").unwrap()],
            clock: Arc::new(ManualClock::at(NOW.plus(3))),
        });
        let (status, body) = ask(&router, "console.example", "/state", "{}").await;
        let answer: StateAnswer = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, answer.nodes.len()), (200, 1));
        let node = &answer.nodes[0];
        assert_eq!((node.node.as_str(), node.at), ("a", NOW.plus(2)));
        assert_eq!(node.clock.as_deref(), Some("synchronised"));
        assert_eq!(answer.log.checkpoint, Some(NOW.plus(2)));
        let found = answer
            .alerts
            .iter()
            .filter(|a| a.body.contains("backup-late"));
        assert_eq!((found.count(), answer.alerts.len()), (1, 11));
        let text = String::from_utf8(body).unwrap();
        assert!(!text.contains("hanako"), "{text}");
        // It is a reading, and nobody else's.
        assert_eq!(count(&store, "audit.read").await, 1);
        let (status, body) = ask(&router, "signer.example", "/state", "{}").await;
        assert_eq!((status, body.len()), (403, 0));
        let (status, _) = ask(&router, "console.example", "/state", r#"{"kinds":[]}"#).await;
        assert_eq!(status, 400);
    }
}
