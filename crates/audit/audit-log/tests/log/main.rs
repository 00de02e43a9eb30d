//! Writing, sequencing and the attacks on both, on both stores.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod away;
mod deletion;
mod replay;
mod restored;

use std::collections::BTreeSet;

use audit_log::{
    AuditError, AuditLog, Class, Event, LogKey, Outcome, Query, Restorers, Sequencer, Start,
    TABLES, Told, follow, is_forgotten, opening, read_back, row_name, row_of, search,
};
use core_types::{Digest32, KeyId, PersonId, PersonName, SecretBytes, TenantId, UnixTime};
use store_kit::testing::{self, TestStore};
use store_kit::{Seen, Store, StoreError, sql, transaction};

const NOW: UnixTime = UnixTime(1_800_000_000);

fn log(node: &str) -> AuditLog {
    AuditLog::new(
        "sam",
        node,
        SecretBytes::new(vec![1; 32]),
        std::sync::Arc::new(core_types::random::SystemRandom),
    )
}

fn key() -> LogKey {
    LogKey::from_seed("log.example/sam", &SecretBytes::new(vec![2; 32])).expect("a key")
}

fn event(n: i64) -> Event {
    let owner = PersonId::parse(format!("p{n}")).expect("an id");
    Event::KeySuspended {
        key: KeyId::parse("k1").expect("an id"),
        owner,
        reason: "test".into(),
    }
}

async fn write(store: &Store, log: &AuditLog, n: i64) {
    let done: Result<_, StoreError> = transaction!(store, "test", |tx| {
        log.append(tx, event(n), NOW.plus(n)).await
    });
    done.expect("an entry");
}

async fn sequenced(store: &Store) -> u64 {
    let mut tx = store.read("count").await.expect("a snapshot");
    let row = tx.fetch_one(sql(
        "SELECT count(*) AS n FROM audit_entry WHERE seq IS NOT NULL",
    ));
    u64::try_from(row.await.and_then(|r| r.int("n")).expect("a count")).expect("a count")
}

async fn tamper(store: &Store, change: &'static str) {
    let done: Result<_, StoreError> =
        transaction!(store, "tamper", |tx| { tx.execute(sql(change)).await });
    assert!(done.expect("a change") > 0, "{change}");
}

async fn open(store: &Store) -> Result<Sequencer, AuditError> {
    Sequencer::open(log("a"), key(), None, store).await
}

#[tokio::test]
async fn entries_are_sequenced_and_found() {
    for store in testing::both(&[TABLES]).await {
        let sequencer = open(&store).await.unwrap();
        for n in 0..30 {
            write(&store, &log(if n % 3 == 0 { "b" } else { "a" }), n).await;
        }
        let done = sequencer.sequence(&store, NOW).await.unwrap();
        assert_eq!((done.added, done.size), (30, 30));
        assert_eq!(sequencer.sequence(&store, NOW).await.unwrap().added, 0);
        let found = search(&store, &Query::default()).await.unwrap();
        let seqs: BTreeSet<_> = found.entries.iter().map(|e| e.entry.seq).collect();
        assert_eq!(seqs, (0..30).collect());
        let some = Query {
            from: NOW.plus(5),
            until: NOW.plus(8),
            kinds: vec!["key.suspended".to_owned()],
            person: PersonName::parse("p6").ok(),
            ..Query::default()
        };
        let found = search(&store, &some).await.unwrap().entries;
        assert_eq!(found.len(), 1);
        let entry = &found[0].entry;
        assert_eq!((entry.node.as_str(), entry.at), ("b", NOW.plus(6)));
        assert_eq!(found[0].person.as_deref(), Some("p6"));
        assert!(!entry.body.contains("p6"), "{}", entry.body);
        for nothing in [
            Query {
                kinds: vec!["key.used".to_owned()],
                ..some.clone()
            },
            Query {
                until: NOW.plus(6),
                ..some.clone()
            },
            Query {
                outcome: Some(Outcome::Failure),
                ..some.clone()
            },
            Query {
                class: Some(Class::Access),
                ..some.clone()
            },
            Query {
                key: KeyId::parse("k2").ok(),
                ..some.clone()
            },
            Query {
                person: PersonName::parse("nobody").ok(),
                ..some.clone()
            },
        ] {
            let found = search(&store, &nothing).await.unwrap();
            assert!(
                found.entries.is_empty() && found.next.is_none(),
                "{nothing:?}"
            );
        }
    }
}

// shows: I-7.1.4.5-search, I-A5-audit-log-selectable
#[tokio::test]
async fn every_criterion_and_every_pair_finds_exactly_what_fits_page_by_page() {
    for store in testing::both(&[TABLES]).await {
        let sequencer = open(&store).await.unwrap();
        let person = |n: usize| PersonId::parse(format!("p{n}")).unwrap();
        let key = |n: usize| KeyId::parse(format!("k{n}")).unwrap();
        let mut written = Vec::new();
        for n in 0..240_usize {
            let (who, of) = (person(n % 7), key(n % 5));
            let event = match n % 4 {
                0 => Event::KeySuspended {
                    key: of,
                    owner: who,
                    reason: "test".into(),
                },
                1 => Event::KeyErased {
                    key: of,
                    owner: who,
                },
                2 => Event::LoginFailed {
                    person: Some(who),
                    method: "totp".into(),
                    reason: "test".into(),
                },
                _ => Event::Alarm {
                    what: "test".into(),
                },
            };
            // Several in one second, and not in the order of their numbers.
            let at = NOW.plus(i64::try_from((n * 37) % 60).unwrap());
            let own = log(if n % 3 == 0 { "b" } else { "a" });
            let done: Result<_, StoreError> = transaction!(store.store, "test", |tx| {
                own.append(tx, event.clone(), at).await
            });
            let place = done.unwrap();
            written.push((at, place.node, place.n, event));
        }
        sequencer.sequence(&store, NOW).await.unwrap();
        written.sort_by_key(|(at, node, n, _)| (*at, node.clone(), *n));
        let times = [None, Some((NOW.plus(10), NOW.plus(40)))];
        let kinds = [
            vec![],
            vec!["key."],
            vec!["login.failed", "alarm"],
            vec!["key.erased"],
        ];
        for (time, kinds) in times.iter().flat_map(|t| kinds.iter().map(move |k| (t, k))) {
            for (who, of, outcome) in [
                (None, None, None),
                (Some(person(3)), None, None),
                (None, Some(key(2)), None),
                (Some(person(3)), Some(key(2)), None),
                (None, None, Some(Outcome::Failure)),
                (Some(person(3)), None, Some(Outcome::Success)),
            ] {
                let (from, until) = time.unwrap_or((UnixTime(0), UnixTime(i64::MAX)));
                let mut query = Query {
                    from,
                    until,
                    kinds: kinds.iter().map(|k| (*k).to_owned()).collect(),
                    person: who.clone().map(Into::into),
                    key: of.clone(),
                    outcome,
                    limit: 7,
                    ..Query::default()
                };
                let fits = |(at, _, _, event): &&(UnixTime, String, i64, Event)| {
                    let kind = event.kind();
                    let named = |k: &&str| kind == *k || (k.ends_with('.') && kind.starts_with(*k));
                    (from..until).contains(at)
                        && (kinds.is_empty() || kinds.iter().any(named))
                        && who.as_ref().is_none_or(|who| event.person() == Some(who))
                        && of.as_ref().is_none_or(|of| event.key() == Some(of))
                        && outcome.is_none_or(|outcome| event.outcome() == outcome)
                };
                let expected: Vec<_> = written.iter().filter(fits).map(|w| (&w.1, w.2)).collect();
                let mut found = Vec::new();
                loop {
                    let page = search(&store, &query).await.unwrap();
                    assert!(page.entries.len() <= 7);
                    found.extend(page.entries.into_iter().map(|f| (f.entry.node, f.entry.n)));
                    let Some(next) = page.next else { break };
                    query.after = Some(next.to_string().parse().unwrap());
                }
                let found: Vec<_> = found.iter().map(|(node, n)| (node, *n)).collect();
                assert_eq!(found, expected, "{query:?}");
            }
        }
    }
}

/// In a search, entries of a node whose clock is behind, or whose name sorts first, come in before what was read.
#[tokio::test]
async fn reading_on_in_the_order_of_the_log_misses_no_entry_of_any_node() {
    for store in testing::both(&[TABLES]).await {
        let sequencer = open(&store).await.unwrap();
        let (mut read, mut last) = (Vec::new(), None);
        let mut written = 0;
        // In each second both nodes write; what `a` writes is read before `b`, which is also a minute behind at times.
        for round in 0..20 {
            for (node, late) in [("b", 0), ("a", 0), ("a", -60)] {
                write(&store, &log(node), round / 5 + late).await;
                written += 1;
                sequencer.sequence(&store, NOW).await.unwrap();
                let start = last.map_or(Start::Time(NOW.plus(-60)), Start::After);
                for entry in follow(&store, start, 7).await.unwrap().entries {
                    let place = u64::try_from(entry.seq).unwrap();
                    assert!(last.is_none_or(|last| last < place));
                    last = Some(place);
                    read.push((entry.node, entry.n));
                }
            }
        }
        let count = read.len();
        assert_eq!(count, written);
        read.sort();
        read.dedup();
        assert_eq!(read.len(), count, "each once");
        // A beginning takes what is of that time or later, and what stands behind it.
        let none = follow(&store, Start::Time(NOW.plus(1000)), 7)
            .await
            .unwrap();
        assert!(none.entries.is_empty());
        let all = follow(&store, Start::Time(UnixTime(0)), 1000)
            .await
            .unwrap();
        assert_eq!((all.entries.len(), all.size), (count, 60));
        let beyond = follow(&store, Start::After(u64::MAX), 7).await.unwrap();
        assert_eq!((beyond.entries.len(), beyond.size), (0, 60));
    }
}

#[tokio::test]
async fn a_person_is_forgotten_and_the_log_holds() {
    for store in testing::both(&[TABLES]).await {
        let (sequencer, log) = (open(&store).await.unwrap(), log("a"));
        for n in [1, 2, 1] {
            write(&store, &log, n).await;
        }
        let (one, two) = (
            PersonId::parse("p1").unwrap(),
            PersonId::parse("p2").unwrap(),
        );
        let about = async |person: &PersonId| {
            let query = Query {
                person: Some(person.clone().into()),
                ..Query::default()
            };
            search(&store, &query).await.unwrap().entries
        };
        sequencer.sequence(&store, NOW).await.unwrap();
        assert_eq!((about(&one).await.len(), about(&two).await.len()), (2, 1));
        let salt = opening(&store, one.as_str()).await.unwrap().unwrap().salt;
        let forget = async |commit: bool| {
            let done: Result<bool, StoreError> = transaction!(store.store, "forget", |tx| {
                let known = log.forget(tx, &one, Digest32([9; 32]), NOW).await?;
                if commit {
                    Ok(known)
                } else {
                    Err(StoreError::Column("none"))
                }
            });
            done
        };
        assert!(forget(false).await.is_err());
        assert_eq!(about(&one).await.len(), 2, "nothing was done");
        assert!(forget(true).await.unwrap());
        assert!(!forget(true).await.unwrap(), "nobody is known any more");
        assert_eq!((about(&one).await.len(), about(&two).await.len()), (0, 1));
        sequencer.sequence(&store, NOW).await.unwrap();
        read_back(&log, &store, |_| Ok(())).await.unwrap();
        let all = search(&store, &Query::default()).await.unwrap().entries;
        assert_eq!(all.iter().filter(|f| f.person.is_none()).count(), 3);
        // The same person comes again under another name.
        write(&store, &log, 1).await;
        let again = opening(&store, one.as_str()).await.unwrap().unwrap();
        assert_ne!(again.salt, salt);
        sequencer.sequence(&store, NOW).await.unwrap();
        assert_eq!(about(&one).await.len(), 1);
    }
}

// The same name in two tenants is two persons, also for whoever reads the log.
#[tokio::test]
async fn a_tenants_persons_are_named_apart() {
    for store in testing::both(&[TABLES]).await {
        let (sequencer, log) = (open(&store).await.unwrap(), log("a"));
        let acme = log.within(&TenantId::parse("acme").unwrap());
        let event = Event::LoginSucceeded {
            person: PersonId::parse("taro").unwrap(),
            method: "totp".into(),
        };
        let done: Result<(), StoreError> = transaction!(store.store, "two", |tx| {
            log.append(tx, event.clone(), NOW).await?;
            acme.append(tx, event.clone(), NOW).await?;
            acme.append(tx, event.clone(), NOW).await.map(drop)
        });
        done.unwrap();
        sequencer.sequence(&store, NOW).await.unwrap();
        for (name, times) in [("taro", 1), ("acme/taro", 2), ("other/taro", 0)] {
            let query = Query {
                person: PersonName::parse(name).ok(),
                ..Query::default()
            };
            let found = search(&store, &query).await.unwrap().entries;
            assert_eq!(found.len(), times, "{name}");
            let within = |e: &audit_log::FoundEntry| e.entry.body.contains("\"tenant\":\"acme\"");
            assert!(found.iter().all(|e| within(e) == name.starts_with("acme/")));
            assert!(found.iter().all(|e| e.person.as_deref() == Some(name)));
        }
        read_back(&log, &store, |_| Ok(())).await.unwrap();
    }
}

// shows: II-3.3.2-audit-tamper-detected
#[tokio::test]
async fn what_is_read_back_is_what_was_written_or_nothing() {
    for attack in [
        None,
        Some("UPDATE audit_entry SET body = replace(body, 'test', 'tess') WHERE n = 4"),
        Some("UPDATE audit_entry SET body = replace(body, 'test', 'tess') WHERE n = 12"),
        Some("DELETE FROM audit_entry WHERE n = 4"),
        Some("DELETE FROM audit_entry WHERE n = 12"),
        Some("DELETE FROM audit_entry WHERE n = 10"),
        Some("UPDATE audit_entry SET seq = NULL WHERE n = 10"),
        Some("UPDATE audit_entry SET seq = seq + 100 WHERE n = 4"),
        Some("DELETE FROM audit_tree"),
        Some("DELETE FROM audit_head"),
        Some("UPDATE audit_head SET n = n - 1"),
        Some("UPDATE audit_entry SET node = 'b' WHERE n > 10"),
        Some("UPDATE audit_entry SET at = at - 1 WHERE n = 4"),
        Some("UPDATE audit_entry SET kind = 'key.used' WHERE n = 4"),
        Some("UPDATE audit_entry SET person = NULL WHERE n = 4"),
        Some("UPDATE audit_entry SET key_id = 'k2' WHERE n = 4"),
        Some(
            "UPDATE audit_entry SET leaf = (SELECT leaf FROM audit_entry WHERE n = 3) WHERE n = 4",
        ),
        Some("UPDATE audit_checkpoint SET note = replace(note, '10', '11')"),
    ] {
        for store in testing::both(&[TABLES]).await {
            let sequencer = open(&store).await.unwrap();
            for n in 0..13 {
                write(&store, &log("a"), n).await;
                if n == 9 {
                    sequencer.sequence(&store, NOW).await.unwrap();
                }
            }
            if let Some(change) = attack {
                tamper(&store, change).await;
            }
            let mut bodies = 0;
            let own = log("a");
            let read = read_back(&own, &store, |told| {
                let Told::Entry(body) = told else {
                    return Err("a summary");
                };
                bodies += usize::from(body.contains("key.suspended"));
                Ok(())
            });
            let read = read.await;
            match attack {
                None => assert_eq!((read.unwrap(), bodies), (13, 13)),
                Some(attack) => assert!(read.is_err(), "{attack}"),
            }
            let refused = read_back(&own, &store, |_| Err("not this one"));
            assert!(refused.await.is_err());
        }
    }
}

// shows: II-3.3.2-audit-tamper-detected
#[tokio::test]
async fn the_places_of_two_nodes_cannot_be_exchanged() {
    for store in testing::both(&[TABLES]).await {
        let sequencer = open(&store).await.unwrap();
        for n in 0..3 {
            for node in ["a", "b"] {
                write(&store, &log(node), n).await;
                sequencer.sequence(&store, NOW).await.unwrap();
            }
        }
        let read = async || read_back(&log("a"), &store, |_| Ok(())).await;
        assert_eq!(read().await.unwrap(), 6);
        // Neighbours in the log, of two chains: each chain is as it was, only what came first isn't.
        for change in [
            "UPDATE audit_entry SET seq = 99 WHERE node = 'a' AND n = 2",
            "UPDATE audit_entry SET seq = 2 WHERE node = 'b' AND n = 2",
            "UPDATE audit_entry SET seq = 3 WHERE node = 'a' AND n = 2",
        ] {
            tamper(&store, change).await;
        }
        let exchanged = read().await;
        assert!(
            matches!(exchanged, Err(AuditError::Tree(_))),
            "{exchanged:?}"
        );
    }
}

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

// shows: I-7.1.4.8-audit-integrity, III-3-14-audit-protection
#[tokio::test]
async fn what_is_altered_before_sequencing_is_noticed_and_named() {
    let changes = [
        (
            "UPDATE audit_entry SET body = replace(body, 'test', 'tess') WHERE n = 2",
            2,
        ),
        ("DELETE FROM audit_entry WHERE n = 2", 2),
        ("DELETE FROM audit_entry WHERE n = 4", 4),
        (
            "UPDATE audit_entry SET mac = (SELECT mac FROM audit_head) WHERE n = 3",
            3,
        ),
        ("UPDATE audit_entry SET node = 'b', n = 1 WHERE n = 4", 4),
        ("UPDATE audit_entry SET n = n + 1 WHERE n = 4", 4),
        (
            "UPDATE audit_head SET mac = (SELECT mac FROM audit_entry WHERE n = 1)",
            4,
        ),
        ("DELETE FROM audit_head", 0),
    ];
    for (change, first_bad) in changes {
        for store in testing::both(&[TABLES]).await {
            let sequencer = open(&store).await.unwrap();
            let log = log("a");
            if first_bad == 0 {
                write(&store, &log, 0).await;
                sequencer.sequence(&store, NOW).await.unwrap();
            }
            for n in 1..=4 {
                write(&store, &log, n).await;
            }
            tamper(&store, change).await;
            match sequencer.sequence(&store, NOW).await {
                Err(AuditError::Entry { node, n, .. }) => {
                    let expected = if first_bad == 0 { 1 } else { first_bad };
                    assert!(
                        (node == "a" && n == expected) || node == "b",
                        "{change}: {node} #{n}"
                    );
                }
                other => panic!("{change}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn an_altered_tree_or_another_key_is_refused_at_start() {
    for store in testing::both(&[TABLES]).await {
        let sequencer = open(&store).await.unwrap();
        write(&store, &log("a"), 1).await;
        sequencer.sequence(&store, NOW).await.unwrap();
        open(&store).await.unwrap();
        let other = LogKey::from_seed("log.example/sam", &SecretBytes::new(vec![3; 32])).unwrap();
        let opened = Sequencer::open(log("a"), other, None, &store).await;
        assert!(matches!(opened, Err(AuditError::Tree(_))));
        let foreign = AuditLog::new(
            "cm",
            "a",
            SecretBytes::new(vec![1; 32]),
            std::sync::Arc::new(core_types::random::SystemRandom),
        );
        assert!(matches!(
            Sequencer::open(foreign, key(), None, &store).await,
            Err(AuditError::Tree(_))
        ));
        tamper(&store, "UPDATE audit_tree SET version = version + 1").await;
        assert!(matches!(open(&store).await, Err(AuditError::Tree(_))));
        tamper(&store, "DELETE FROM audit_tree").await;
        assert!(matches!(open(&store).await, Err(AuditError::Tree(_))));
    }
}

#[tokio::test]
async fn the_witness_notices_an_old_database_and_heals_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let witness = dir.path().join("witness");
    let with = async |store: &TestStore| {
        Sequencer::open(log("a"), key(), Some(witness.clone()), store).await
    };
    let [store, other] = [
        testing::sqlite(&[TABLES]).await,
        testing::sqlite(&[TABLES]).await,
    ];
    let sequencer = with(&store).await.unwrap();
    for n in 0..3 {
        write(&store, &log("a"), n).await;
        sequencer.sequence(&store, NOW).await.unwrap();
    }
    let whole = std::fs::read_to_string(&witness).unwrap();
    assert_eq!(whole.matches("log.example/sam\n").count(), 3);
    // A crash between commit and witness: the next start tells it.
    std::fs::write(&witness, &whole[..whole.len() - 7]).unwrap();
    with(&store).await.unwrap();
    assert_eq!(std::fs::read_to_string(&witness).unwrap(), whole);
    // Another database, as after putting an old copy in place.
    assert!(matches!(
        with(&other).await,
        Err(AuditError::RolledBack { have: 0, seen: 3 })
    ));
    let ours = Sequencer::open(log("a"), key(), None, &other)
        .await
        .unwrap();
    for n in 5..9 {
        write(&other, &log("a"), n).await;
        ours.sequence(&other, NOW).await.unwrap();
    }
    assert!(matches!(with(&other).await, Err(AuditError::Forked(3))));
    std::fs::remove_file(&witness).unwrap();
    assert!(matches!(
        with(&store).await,
        Err(AuditError::WitnessMissing(_))
    ));
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
        assert!(!bodies[0].contains("rows"));
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
        assert!(!bodies[0].contains("p1"), "{}", bodies[0]);
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
