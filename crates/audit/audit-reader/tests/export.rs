//! Exports of the real writer are searched, and altered ones say so.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::path::Path;
use std::sync::Arc;

use audit_log::{AuditLog, Event, LogKey, Place, Sequencer, TABLES, export};
use audit_reader::{Entry, Searched, Wanted, search_export};
use audit_verify::Known;
use core_types::random::SystemRandom;
use core_types::{KeyId, PersonId, SecretBytes, UnixTime};
use store_kit::{StoreError, testing, transaction};

const START: UnixTime = UnixTime(1_800_000_000);

/// A log of 600 entries: logins of `a` and `b` by turns, every tenth one failed; at the end a key that `a` resumes.
async fn exported(dir: &Path) -> String {
    let store = testing::sqlite(&[TABLES]).await;
    let log = AuditLog::new(
        "sam",
        "n",
        SecretBytes::new(vec![1; 32]),
        Arc::new(SystemRandom),
    );
    let key = LogKey::from_seed("log.example/sam", &SecretBytes::new(vec![2; 32])).unwrap();
    let sequencer = Sequencer::open(log.clone(), key, None, &store)
        .await
        .unwrap();
    for n in 0..599_i64 {
        let person = PersonId::parse(if n % 2 == 0 { "a" } else { "b" }).unwrap();
        let event = match n % 10 {
            9 => Event::LoginFailed {
                person: Some(person),
                method: "totp".into(),
                reason: "wrong".into(),
                from: Place::Unknown,
            },
            _ => Event::LoginSucceeded {
                person,
                method: "passkey".into(),
                session: None,
                from: Place::Unknown,
                credential: None,
            },
        };
        append(&store, &log, event, UnixTime(START.0 + n)).await;
    }
    let resumed = Event::KeyResumed {
        key: KeyId::parse("k1").unwrap(),
        owner: PersonId::parse("a").unwrap(),
        act: core_types::Digest32([3; 32]),
    };
    append(&store, &log, resumed, UnixTime(START.0 + 599)).await;
    sequencer
        .sequence(&store, UnixTime(START.0 + 600))
        .await
        .unwrap();
    export(&store, dir, &sequencer.public()).await.unwrap();
    sequencer.public()
}

async fn append(store: &testing::TestStore, log: &AuditLog, event: Event, at: UnixTime) {
    let done: Result<_, StoreError> = transaction!(store.store, "test", |tx| {
        log.append(tx, event.clone(), at).await
    });
    done.unwrap();
}

fn search(dir: &Path, key: &str, wanted: &Wanted, after: Option<u64>, limit: usize) -> Searched {
    let known = Known {
        key,
        ..Known::default()
    };
    search_export(dir, known, wanted, after, limit).unwrap()
}

// shows: I-7.1.4.5-search
#[tokio::test]
async fn an_export_is_searched_by_time_type_person_key_and_outcome_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let key = exported(dir.path()).await;
    let all = |wanted: Wanted| {
        let (mut entries, mut after): (Vec<Entry>, _) = (Vec::new(), None);
        loop {
            let found = search(dir.path(), &key, &wanted, after, 50);
            assert!(found.report.ok && found.entries.len() <= 50);
            entries.extend(found.entries);
            after = found.next;
            if after.is_none() {
                return entries;
            }
        }
    };
    assert_eq!(all(Wanted::default()).len(), 600);
    let failed = all(Wanted {
        outcome: Some("failure".to_owned()),
        ..Wanted::default()
    });
    assert_eq!(failed.len(), 59);
    assert!(
        failed
            .iter()
            .all(|e| e.kind == "login.failed" && e.class == "access")
    );
    let resumed = all(Wanted {
        key: Some("k1".to_owned()),
        ..Wanted::default()
    });
    let [resumed] = &resumed[..] else {
        panic!("{resumed:?}")
    };
    assert_eq!((resumed.seq, resumed.kind.as_str()), (599, "key.resumed"));
    let of_a = all(Wanted {
        person: resumed.alias().map(str::to_owned),
        ..Wanted::default()
    });
    assert_eq!(of_a.len(), 301);
    let (from, until) = (Some(UnixTime(START.0 + 100)), Some(UnixTime(START.0 + 200)));
    let places: Vec<u64> = all(Wanted {
        from,
        until,
        ..Wanted::default()
    })
    .iter()
    .map(|e| e.seq)
    .collect();
    assert_eq!(places, (100..200).collect::<Vec<_>>());
    let kinds = |kind: &str| {
        all(Wanted {
            kinds: vec![kind.to_owned()],
            ..Wanted::default()
        })
        .len()
    };
    assert_eq!(
        (
            kinds("login."),
            kinds("login.failed"),
            kinds("login"),
            kinds("key.")
        ),
        (599, 59, 0, 1)
    );
    let class = Some("transaction".to_owned());
    assert_eq!(
        all(Wanted {
            class,
            ..Wanted::default()
        })
        .len(),
        1
    );
}

#[tokio::test]
async fn what_is_found_in_an_altered_export_is_not_called_good() {
    let dir = tempfile::tempdir().unwrap();
    let key = exported(dir.path()).await;
    let bundle = dir.path().join("tile/entries/000");
    let mut text = std::fs::read(&bundle).unwrap();
    let at = text.windows(12).position(|w| w == b"login.failed").unwrap();
    text[at..at + 12].copy_from_slice(b"login.waited");
    std::fs::write(&bundle, text).unwrap();
    let found = search(dir.path(), &key, &Wanted::default(), None, 5);
    assert!(!found.report.ok);
    assert_eq!(found.report.first_bad.unwrap().seq, Some(9));
}
