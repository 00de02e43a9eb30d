//! The log through its public door, on both stores: what is written, and what isn't when its effect fails.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod attacks;
mod away;
mod beside;
mod deletion;
mod kit;
mod place;
mod reading;
mod replay;
mod restored;
mod signed;

use audit_log::{
    AuditLog, Restorers, TABLES, Told, is_forgotten, opening, read_back, row_name, row_of,
};
use core_types::{Digest32, PersonId, SecretBytes};
use kit::{NOW, event, log, open, sequenced, tamper, write};
use store_kit::{Seen, StoreError, sql, testing, transaction};

#[tokio::test]
async fn a_failed_effect_leaves_no_entry_and_no_gap() {
    for store in testing::both(&[TABLES]).await {
        let (sequencer, log) = (open(&store).await.unwrap(), log("a"));
        write(&store, &log, 1).await;
        let failed: Result<(), StoreError> = transaction!(store, "fails", |tx| {
            log.append(tx, event(2), NOW).await?;
            Err(StoreError::Column("effect"))
        });
        assert!(failed.is_err());
        write(&store, &log, 3).await;
        assert_eq!(sequencer.sequence(&store, NOW).await.unwrap().size, 2);
    }
}

#[tokio::test]
async fn an_entry_that_cannot_be_written_stops_the_effect() {
    for store in testing::both(&[TABLES]).await {
        write(&store, &log("a"), 1).await;
        // The place of the next entry is taken.
        tamper(&store, "UPDATE audit_head SET n = 0").await;
        let log = log("a");
        let done: Result<(), StoreError> = transaction!(store, "effect", |tx| {
            tx.execute(sql(
                "INSERT INTO audit_head (node, n, mac) SELECT 'effect', 1, mac FROM audit_head",
            ))
            .await?;
            let _ignored = log.append(tx, event(2), NOW).await;
            Ok(())
        });
        assert!(
            matches!(done, Err(StoreError::Doomed("effect"))),
            "{done:?}"
        );
        let mut tx = store.read("look").await.unwrap();
        assert_eq!(
            tx.fetch_all(sql("SELECT node FROM audit_head"))
                .await
                .unwrap()
                .len(),
            1
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_writers_and_sequencers_leave_one_unbroken_log() {
    for store in testing::both(&[TABLES]).await {
        let sequencers = [open(&store).await.unwrap(), open(&store).await.unwrap()];
        let tasks: Vec<_> = (0..16)
            .map(|task| {
                let (store, log) = (
                    store.store.clone(),
                    log(if task % 4 == 0 { "b" } else { "a" }),
                );
                tokio::spawn(async move {
                    for n in 0..10 {
                        write(&store, &log, n).await;
                    }
                })
            })
            .collect();
        let sequencing = sequencers.map(|sequencer| {
            let store = store.store.clone();
            tokio::spawn(async move {
                while sequenced(&store).await < 160 {
                    sequencer
                        .sequence(&store, NOW)
                        .await
                        .expect("an intact log");
                }
            })
        });
        for task in tasks {
            task.await.unwrap();
        }
        for task in sequencing {
            task.await.unwrap();
        }
        assert_eq!(
            open(&store)
                .await
                .unwrap()
                .sequence(&store, NOW)
                .await
                .map(|_| ())
                .map_err(|e| e.to_string()),
            Ok(())
        );
        let mut tx = store.read("count").await.unwrap();
        let row = tx
            .fetch_one(sql(
                "SELECT count(*) AS n, min(seq) AS a, max(seq) AS b FROM audit_entry",
            ))
            .await
            .unwrap();
        assert_eq!(
            [row.int("n"), row.int("a"), row.int("b")].map(Result::unwrap),
            [160, 0, 159]
        );
    }
}

// shows: I-A5-no-secrets-in-logs, I-7.1.4.4-record-date-time
#[tokio::test]
async fn an_entry_has_the_four_fields_and_fixed_words_only() {
    let store = testing::sqlite(&[TABLES]).await;
    write(&store, &log("a"), 1).await;
    let mut tx = store.read("look").await.unwrap();
    let body = tx
        .fetch_one(sql("SELECT body FROM audit_entry"))
        .await
        .unwrap()
        .text("body")
        .unwrap();
    let owner = opening(&store, "p1").await;
    let owner = owner.unwrap().unwrap().alias;
    assert_eq!(
        body,
        r#"{"v":1,"zone":"sam","node":"a","n":1,"at":1800000001,"subject":"service:sam","outcome":"success","class":"transaction","kind":"key.suspended","detail":{"key":"k1","owner":"OWNER","reason":"test"}}"#
            .replace("OWNER", owner.as_str())
    );
}

// shows: I-7.1.4.1-log-audit-start-stop, I-7.1.4.1-log-audit-parameter-change,
// I-7.1.4.1-log-environment-and-key-events
#[tokio::test]
async fn start_end_and_changed_settings_are_recorded() {
    for store in testing::both(&[TABLES]).await {
        let kinds = async || {
            let mut tx = store.read("kinds").await.unwrap();
            let query = sql("SELECT kind FROM audit_entry WHERE node = 'a' ORDER BY n");
            let rows = tx.fetch_all(query).await.unwrap();
            rows.iter()
                .map(|r| r.text("kind").unwrap())
                .collect::<Vec<_>>()
        };
        let run = async |node: &str, policy: u8, witness: u8| {
            let log = log(node);
            let (policy, witness) = (
                [("policy", Digest32([policy; 32]))],
                [("witness", Digest32([witness; 32]))],
            );
            let started: Result<(), StoreError> = transaction!(store.store, "start", |tx| {
                log.starts(tx, "1.0".into(), &policy, &Restorers::default(), NOW)
                    .await
            });
            started.unwrap();
            log.audits_by(&store, &witness, NOW).await.unwrap();
            log.stops(&store, NOW).await.unwrap();
        };
        let (begin, end) = (
            ["audit.started", "service.started"],
            ["service.stopped", "audit.stopped"],
        );
        let mut expected = [begin, end].concat();
        run("a", 1, 1).await;
        assert_eq!(kinds().await, expected, "a first value is no change");
        // Another node has settings of its own.
        run("b", 2, 2).await;
        run("a", 1, 1).await;
        expected.extend([begin, end].concat());
        assert_eq!(kinds().await, expected);
        run("a", 2, 1).await;
        expected.extend(begin);
        expected.push("parameter.changed");
        expected.extend(end);
        assert_eq!(kinds().await, expected);
        run("a", 2, 2).await;
        expected.extend(begin);
        expected.push("audit.parameter-changed");
        expected.extend(end);
        assert_eq!(kinds().await, expected);
    }
}

#[tokio::test]
async fn the_last_of_several_entries_names_the_rows_that_were_written_with_them() {
    for store in testing::both(&[TABLES]).await {
        let seen = Seen::recorded("row");
        let done: Result<(), StoreError> = transaction!(store, "rows", |tx| {
            tx.wrote(&seen, "b", 4);
            tx.wrote(&seen, "a", 7);
            log("a").append_all(tx, &[event(1), event(2)], NOW).await?;
            // Nothing to say is no entry.
            log("a").append_all(tx, &[], NOW).await?;
            tx.wrote(&seen, "b", 5);
            log("a").append(tx, event(3), NOW).await?;
            Ok(())
        });
        done.unwrap();
        let mut bodies = Vec::new();
        let own = log("a");
        let read = read_back(&own, &store, |told| {
            let Told::Entry(body) = told else {
                return Err("a summary");
            };
            bodies.push(body.to_owned());
            Ok(())
        });
        assert_eq!(read.await.unwrap(), 3);
        assert!(!bodies[0].contains("\"rows\""));
        assert!(bodies[1].contains(r#""rows":[["row","a",7],["row","b",4]]"#));
        assert!(bodies[2].contains(r#""rows":[["row","b",5]]"#));
    }
}

#[tokio::test]
async fn rows_that_are_named_after_persons_are_named_by_their_aliases() {
    for store in testing::both(&[TABLES]).await {
        let random = std::sync::Arc::new(core_types::random::SystemRandom);
        let key = SecretBytes::new(vec![1; 32]);
        let log = AuditLog::naming("sam", "a", key, random, Some("person"));
        let (persons, keys) = (Seen::recorded("person"), Seen::recorded("key"));
        let done: Result<(), StoreError> = transaction!(store, "rows", |tx| {
            tx.wrote(&persons, "p1", 4);
            tx.wrote(&keys, "p2", 7);
            log.append(tx, event(1), NOW).await?;
            Ok(())
        });
        done.unwrap();
        let mut bodies = Vec::new();
        let read = read_back(&log, &store, |told| {
            let Told::Entry(body) = told else {
                return Err("a summary");
            };
            bodies.push(body.to_owned());
            Ok(())
        });
        assert_eq!(read.await.unwrap(), 1);
        assert!(!bodies[0].contains(r#""p1""#), "{}", bodies[0]);
        assert!(bodies[0].contains(r#"["key","p2",7]"#));
        let person = PersonId::parse("p1").unwrap();
        let mut tx = store.read("names").await.unwrap();
        let name = row_name(&mut tx, "p1").await.unwrap().unwrap();
        assert!(bodies[0].contains(&format!(r#"["person","{name}",4]"#)));
        assert_eq!(row_of(&mut tx, &name).await.unwrap().unwrap(), "p1");
        assert!(!is_forgotten(&mut tx, &name).await.unwrap());
        drop(tx);
        let done: Result<bool, StoreError> = transaction!(store.store, "forget", |tx| {
            log.forget(tx, &person, Digest32([9; 32]), NOW).await
        });
        assert!(done.unwrap());
        let mut tx = store.read("names").await.unwrap();
        assert_eq!(row_name(&mut tx, "p1").await.unwrap(), None);
        assert_eq!(row_of(&mut tx, &name).await.unwrap(), None);
        assert!(is_forgotten(&mut tx, &name).await.unwrap());
    }
}
