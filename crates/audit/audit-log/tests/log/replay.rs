//! A store from an older backup gets its lost entries back, exactly as they were, or none.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::path::Path;

use audit_log::{
    AuditError, Event, Lost, Place, ReplayError, Replayed, Sequencer, TABLES, prove, read_back,
    replay,
};
use core_types::{PersonId, UnixTime};
use store_kit::testing::{self, TestStore};
use store_kit::{Store, StoreError, sql, transaction};

use crate::kit::{NOW, key, log, tamper};

/// Entries that are the same each time they are written: nobody is named.
async fn write(store: &Store, nodes: &[&str], from: i64, to: i64) {
    let mut at = from;
    while at < to {
        let count = (to - at).min(20);
        let node = nodes[usize::try_from(at / 20).unwrap() % nodes.len()];
        let event = Event::ClockState {
            state: "unsynchronised".into(),
        };
        let events = vec![event; usize::try_from(count).unwrap()];
        let done: Result<_, StoreError> = transaction!(store, "test", |tx| {
            log(node).append_all(tx, &events, NOW.plus(at)).await
        });
        done.unwrap();
        at += count;
    }
}

async fn open(store: &Store, witness: &Path) -> Result<Sequencer, AuditError> {
    Sequencer::open(log("a"), key(), Some(witness.to_owned()), store).await
}

/// A log of 700 entries by two nodes, its last of a person; and a store that has the first 300.
async fn lived(witness: &Path, whole: &Store, old: &Store) -> Lost {
    let sequencer = open(whole, witness).await.unwrap();
    for (from, to) in [(0, 100), (100, 300), (300, 301), (301, 699)] {
        write(whole, &["a", "b"], from, to).await;
        sequencer.sequence(whole, NOW).await.unwrap();
    }
    let person = PersonId::parse("somebody").unwrap();
    let event = Event::LoginSucceeded {
        person,
        method: "totp".into(),
        session: None,
        from: Place::Unknown,
        credential: None,
    };
    let done: Result<_, StoreError> = transaction!(whole, "test", |tx| {
        log("b").append(tx, event.clone(), NOW.plus(700)).await
    });
    done.unwrap();
    sequencer.sequence(whole, NOW).await.unwrap();

    let before = Sequencer::open(log("a"), key(), None, old).await.unwrap();
    for (from, to) in [(0, 100), (100, 300)] {
        write(old, &["a", "b"], from, to).await;
        before.sequence(old, NOW).await.unwrap();
    }
    export_of(whole).await
}

async fn export_of(whole: &Store) -> Lost {
    let mut lost = Lost::default();
    let mut tx = whole.read("lost").await.unwrap();
    let select = "SELECT seq, body FROM audit_entry WHERE seq IS NOT NULL";
    for row in tx.fetch_all(sql(select)).await.unwrap() {
        let place = u64::try_from(row.int("seq").unwrap()).unwrap();
        lost.entries.insert(place, row.text("body").unwrap());
    }
    let select = "SELECT size, note FROM audit_checkpoint";
    for row in tx.fetch_all(sql(select)).await.unwrap() {
        let size = u64::try_from(row.int("size").unwrap()).unwrap();
        lost.checkpoints.insert(size, row.text("note").unwrap());
    }
    lost
}

async fn put_back(store: &Store, lost: &Lost) -> Result<Replayed, ReplayError> {
    replay(&log("a"), &key(), store, lost, UnixTime(NOW.0 + 800)).await
}

async fn pairs() -> [[TestStore; 2]; 2] {
    let ([one, two], [three, four]) = (
        testing::both(&[TABLES]).await,
        testing::both(&[TABLES]).await,
    );
    [[one, three], [two, four]]
}

// shows: I-7.1.7.1-backup-integrity, I-7.1.4.8-audit-integrity-verifier
#[tokio::test]
async fn a_store_that_is_older_than_its_log_gets_the_lost_entries_back_and_goes_on() {
    for [whole, old] in pairs().await {
        let dir = tempfile::tempdir().unwrap();
        let witness = dir.path().join("witness");
        let lost = lived(&witness, &whole, &old).await;
        let refused = open(&old, &witness).await;
        assert!(
            matches!(refused, Err(AuditError::RolledBack { .. })),
            "{refused:?}"
        );
        let done = put_back(&old, &lost).await.unwrap();
        assert_eq!((done.from, done.size, done.strangers), (300, 700, 1));
        let again = put_back(&old, &lost).await.unwrap();
        assert_eq!((again.from, again.size), (700, 700), "nothing more to do");

        // The witness knows it, everything is proven, and it grows.
        let sequencer = open(&old, &witness).await.unwrap();
        read_back(&log("a"), &old, |_| Ok(())).await.unwrap();
        let (here, there) = (
            prove(&old, &[3, 450]).await.unwrap(),
            prove(&whole, &[3, 450]).await.unwrap(),
        );
        assert_eq!(here, there);
        write(&old, &["a", "b"], 800, 810).await;
        // Whom only the lost rows knew is forgotten, and that the log was brought up is told.
        let added = sequencer.sequence(&old, NOW).await.unwrap();
        assert_eq!(added.size, 712);
        read_back(&log("a"), &old, |_| Ok(())).await.unwrap();
    }
}

/// A backup beside a zone that writes has entries that wait for their place.
// shows: I-7.1.7.1-backup-integrity, I-7.1.7.2-restore-state
#[tokio::test]
async fn a_backup_from_between_two_runs_of_the_sequencer_gets_the_lost_entries_back() {
    for [whole, old] in pairs().await {
        let dir = tempfile::tempdir().unwrap();
        let witness = dir.path().join("witness");
        let lost = lived(&witness, &whole, &old).await;
        // Written before the backup and placed after it: under the next checkpoint, and under the one after that.
        for (from, to) in [(300, 301), (301, 350)] {
            write(&old, &["a", "b"], from, to).await;
        }
        // What is kept beside a text may have been altered meanwhile: it comes out of the text again.
        tamper(
            &old,
            "UPDATE audit_entry SET kind = 'alarm', mac = (SELECT e.mac FROM audit_entry e WHERE e.seq = 0) \
             WHERE seq IS NULL AND node = 'a' AND n = (SELECT min(n) FROM audit_entry WHERE seq IS NULL AND node = 'a')",
        )
        .await;
        let done = put_back(&old, &lost).await.unwrap();
        assert_eq!((done.from, done.size, done.strangers), (300, 700, 1));
        read_back(&log("a"), &old, |_| Ok(())).await.unwrap();
        let sequencer = open(&old, &witness).await.unwrap();
        write(&old, &["a", "b"], 800, 810).await;
        assert_eq!(sequencer.sequence(&old, NOW).await.unwrap().size, 712);
        read_back(&log("a"), &old, |_| Ok(())).await.unwrap();
    }
}

// shows: I-7.1.4.8-audit-integrity-verifier
#[tokio::test]
async fn checkpoints_come_back_with_what_witnesses_signed_under_them() {
    for [whole, old] in pairs().await {
        let dir = tempfile::tempdir().unwrap();
        let mut lost = lived(&dir.path().join("witness"), &whole, &old).await;
        let line = |name: &str, fill: u8, length: usize| {
            let bytes = vec![fill; length];
            format!("\u{2014} {name} {}\n", core_types::bytes::b64(bytes))
        };
        let (one, two) = (line("w1.example", 1, 76), line("w2.example", 2, 76));
        let note = lost.checkpoints.get_mut(&699).unwrap();
        let own = note.clone();
        *note += &[
            one.as_str(),
            &two,
            &line("short.example", 3, 75),
            &line("no+name", 4, 76),
            "something else\n",
            // Once is enough.
            &line("w1.example", 1, 76),
        ]
        .concat();
        let last = lost.checkpoints.get_mut(&700).unwrap();
        let digest = core_types::sha256(&[last.as_bytes()]);
        *last += &one;
        put_back(&old, &lost).await.unwrap();
        // By that an auditor knows whom the bringing up forgot, whoever signed the checkpoint besides.
        let told =
            "SELECT body FROM audit_entry WHERE kind = 'audit.person-forgotten' AND seq IS NULL";
        let told = old.read("told").await.unwrap().fetch_one(sql(told)).await;
        let body = told.unwrap().text("body").unwrap();
        assert!(body.contains(&format!("\"by\":\"{digest}\"")), "{body}");
        let out = dir.path().join("export");
        audit_log::export(&old, &out, &key().public())
            .await
            .unwrap();
        let all = std::fs::read_to_string(out.join("checkpoints.txt")).unwrap();
        let both = [format!("{own}{one}{two}\n"), format!("{own}{two}{one}\n")];
        assert!(both.iter().any(|note| all.contains(note)), "{all}");
        assert_eq!(all.matches(".example ").count(), 3);
    }
}

/// The store knew whom its own entries are about: who is taken out of it between restore and bringing up isn't *forgotten*.
// shows: I-7.1.4.8-audit-integrity-verifier, I-7.1.7.2-restore-state
#[tokio::test]
async fn only_persons_whom_lost_rows_alone_knew_are_forgotten() {
    for [whole, old] in pairs().await {
        let sequencer = Sequencer::open(log("a"), key(), None, &whole)
            .await
            .unwrap();
        let before = Sequencer::open(log("a"), key(), None, &old).await.unwrap();
        let login = async |store: &Store, person: &str, at: i64| {
            let event = Event::LoginSucceeded {
                person: PersonId::parse(person).unwrap(),
                method: "totp".into(),
                session: None,
                from: Place::Unknown,
                credential: None,
            };
            let done: Result<_, StoreError> = transaction!(store, "test", |tx| {
                log("a").append(tx, event.clone(), NOW.plus(at)).await
            });
            done.unwrap();
        };
        // Placed before the backup, deleted from the log before it, and not placed yet when it was made.
        for (at, person) in [(0, "victim"), (1, "archived"), (2, "waiting")] {
            login(&whole, person, at).await;
            let mut tx = whole.read("persons").await.unwrap();
            let select = sql("SELECT person, alias, salt FROM audit_person WHERE person = $1");
            let row = tx.fetch_one(select.bind(person)).await.unwrap();
            drop(tx);
            let known: Result<_, StoreError> = transaction!(old, "test", |tx| {
                let insert = "INSERT INTO audit_person (person, alias, salt) VALUES ($1, $2, $3)";
                let insert = sql(insert)
                    .bind(row.text("person")?)
                    .bind(row.text("alias")?);
                tx.execute(insert.bind(row.blob("salt")?)).await
            });
            known.unwrap();
            login(&old, person, at).await;
            if person == "archived" {
                sequencer.sequence(&whole, NOW).await.unwrap();
                before.sequence(&old, NOW).await.unwrap();
            }
        }
        for person in ["victim", "archived", "waiting", "new"] {
            login(&whole, person, 3).await;
        }
        sequencer.sequence(&whole, NOW).await.unwrap();
        let lost = export_of(&whole).await;
        tamper(&old, "UPDATE audit_entry SET person = NULL WHERE seq = 1").await;
        tamper(&old, "DELETE FROM audit_person").await;
        let done = put_back(&old, &lost).await.unwrap();
        assert_eq!((done.from, done.size, done.strangers), (2, 7, 1));
        let back = "UPDATE audit_entry SET person = (SELECT e.person FROM audit_entry e WHERE e.seq = 4) WHERE seq = 1";
        tamper(&old, back).await;
        let read = read_back(&log("a"), &old, |_| Ok(())).await;
        assert!(matches!(read, Err(AuditError::Person(_))), "{read:?}");
    }
}

/// Another text in the place of one that comes back, and one more than come back.
// shows: I-7.1.4.8-audit-integrity-verifier
#[tokio::test]
async fn an_entry_that_the_export_lacks_means_that_the_zone_has_begun() {
    for [whole, old] in pairs().await {
        let dir = tempfile::tempdir().unwrap();
        let lost = lived(&dir.path().join("witness"), &whole, &old).await;
        for (from, to) in [(300, 301), (301, 350)] {
            write(&old, &["a", "b"], from, to).await;
        }
        for change in [
            "UPDATE audit_entry SET body = replace(body, 'unsynchronised', 'synchronised') WHERE seq IS NULL AND node = 'b'",
            "DELETE FROM audit_entry WHERE seq IS NULL AND node = 'b'",
        ] {
            tamper(&old, change).await;
            let refused = put_back(&old, &lost).await;
            assert!(
                matches!(refused, Err(ReplayError::Begun)),
                "{change}: {refused:?}"
            );
        }
        let placed = audit_log::status(&old).await.unwrap().entries;
        assert_eq!(placed, 300);
    }
}

// shows: I-7.1.4.8-audit-integrity-verifier
#[tokio::test]
async fn nothing_comes_back_that_the_log_did_not_sign() {
    for [whole, old] in pairs().await {
        let dir = tempfile::tempdir().unwrap();
        let lost = lived(&dir.path().join("witness"), &whole, &old).await;
        let size = async || {
            let status = audit_log::status(&old).await.unwrap();
            (status.entries, status.new)
        };
        let mut altered = lost.clone();
        let entry = altered.entries.get_mut(&300).unwrap();
        *entry = entry.replace("unsynchronised", "synchronised");
        let refused = put_back(&old, &altered).await;
        assert!(
            matches!(refused, Err(ReplayError::Other(301))),
            "{refused:?}"
        );
        let mut missing = lost.clone();
        missing.entries.remove(&300);
        let refused = put_back(&old, &missing).await;
        assert!(
            matches!(refused, Err(ReplayError::Entry(300))),
            "{refused:?}"
        );
        let mut swapped = lost.clone();
        let (one, two) = (swapped.entries[&300].clone(), swapped.entries[&302].clone());
        swapped.entries.insert(300, two);
        swapped.entries.insert(302, one);
        assert!(put_back(&old, &swapped).await.is_err());
        let mut forged = lost.clone();
        let note = forged.checkpoints.get_mut(&301).unwrap();
        *note = note.replace("\n301\n", "\n301 \n");
        assert!(put_back(&old, &forged).await.is_err());
        let mut later = lost.clone();
        let entry = later.entries.get_mut(&500).unwrap();
        *entry = entry.replace("unsynchronised", "synchronised");
        let refused = put_back(&old, &later).await;
        assert!(
            matches!(refused, Err(ReplayError::Other(699))),
            "{refused:?}"
        );
        assert_eq!(size().await, (300, 0), "all of it or nothing");
        // Two logs can't be joined.
        write(&old, &["a"], 900, 901).await;
        let refused = put_back(&old, &lost).await;
        assert!(matches!(refused, Err(ReplayError::Begun)), "{refused:?}");
        assert_eq!(size().await, (300, 1));
        // As if that hadn't been: what was tried before leaves nothing behind.
        tamper(&old, "DELETE FROM audit_entry WHERE seq IS NULL").await;
        let head = "UPDATE audit_head SET n = n - 1, mac = (SELECT e.mac FROM audit_entry e WHERE e.node = 'a' \
                    ORDER BY e.n DESC LIMIT 1) WHERE node = 'a'";
        tamper(&old, head).await;
        let done = put_back(&old, &lost).await.unwrap();
        assert_eq!((done.from, done.size, done.strangers), (300, 700, 1));
        assert_eq!(size().await, (700, 2));
        let told = "SELECT body FROM audit_entry WHERE kind = 'audit.log-replayed'";
        let told = old.read("told").await.unwrap().fetch_all(sql(told)).await;
        let told = told.unwrap();
        assert_eq!(told.len(), 1);
        let body = told[0].text("body").unwrap();
        assert!(
            body.contains(r#""detail":{"from":300,"size":700}"#),
            "{body}"
        );
    }
}
