//! Attacks on entries, on the tree and on the whole database.

use audit_log::{AuditError, AuditLog, LogKey, Sequencer, TABLES, Told, read_back};
use core_types::SecretBytes;
use store_kit::sql;
use store_kit::testing::{self, TestStore};

use crate::deletion::append;
use crate::kit::{NOW, event, key, log, open, tamper, write};

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
        assert!(matches!(opened, Err(AuditError::OtherKey(_))));
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

/// Whoever was given another key is told that, and not that somebody altered the store; the other nodes notice nothing.
#[tokio::test]
async fn a_node_with_another_key_is_no_attack_and_writes_nothing() {
    for store in testing::both(&[TABLES]).await {
        let sequencer = open(&store).await.unwrap();
        let key_of = |node: &str, byte| {
            let key = SecretBytes::new(vec![byte; 32]);
            let random = std::sync::Arc::new(core_types::random::SystemRandom);
            AuditLog::new("sam", node, key, random)
        };
        for (node, n) in [("a", 0), ("b", 0), ("b", 1)] {
            write(&store, &log(node), n).await;
        }
        sequencer.sequence(&store, NOW).await.unwrap();
        let strange = key_of("c", 9);
        let told = strange.check_key(&store).await;
        assert!(matches!(told, Err(AuditError::OtherKey(_))), "{told:?}");
        let opened = Sequencer::open(strange, key(), None, &store).await;
        assert!(matches!(opened, Err(AuditError::OtherKey(_))));
        let own = key_of("c", 1);
        own.check_key(&store).await.unwrap();
        write(&store, &own, 0).await;
        assert_eq!(sequencer.sequence(&store, NOW).await.unwrap().size, 4);
        // With the right key an altered row is one.
        tamper(&store, "UPDATE audit_tree SET version = version + 1").await;
        let told = own.check_key(&store).await;
        assert!(matches!(told, Err(AuditError::Tree(_))), "{told:?}");
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

/// Nor does it become one with the rows of the checkpoints that it was told of.
// shows: T-INS-OPERATOR, I-7.1.4.3-append-only
#[tokio::test]
async fn a_witness_is_no_new_one_because_rows_of_checkpoints_are_gone() {
    for store in testing::both(&[TABLES]).await {
        let dir = tempfile::tempdir().unwrap();
        let witness = dir.path().join("witness");
        let start = async || Sequencer::open(log("a"), key(), Some(witness.clone()), &store).await;
        let sequencer = start().await.unwrap();
        let events: Vec<_> = (0..501).map(event).collect();
        append(&store, &log("a"), &events, NOW).await;
        sequencer.sequence(&store, NOW).await.unwrap();
        drop(sequencer);
        tamper(
            &store,
            "DELETE FROM audit_checkpoint WHERE size < (SELECT max(size) FROM audit_checkpoint)",
        )
        .await;
        std::fs::write(&witness, "").unwrap();
        let refused = start().await.err();
        assert!(
            matches!(refused, Some(AuditError::WitnessEmptied(_))),
            "{refused:?}"
        );
    }
}

/// Whoever puts an old database in place may also reach the auditor's file: what it has known, it doesn't come to know anew.
// shows: T-INS-OPERATOR, I-7.1.4.3-append-only
#[tokio::test]
async fn a_witness_that_was_emptied_is_no_new_one() {
    for store in testing::both(&[TABLES]).await {
        let dir = tempfile::tempdir().unwrap();
        let witness = dir.path().join("witness");
        let start = async || Sequencer::open(log("a"), key(), Some(witness.clone()), &store).await;
        let emptied = |error: Option<AuditError>| matches!(error, Some(AuditError::WitnessEmptied(path)) if path == witness);
        let sequencer = start().await.unwrap();
        write(&store, &log("a"), 0).await;
        sequencer.sequence(&store, NOW).await.unwrap();
        let first = std::fs::read_to_string(&witness).unwrap();
        // While the zone runs, and also when the file is gone.
        std::fs::write(&witness, "").unwrap();
        assert!(emptied(sequencer.sequence(&store, NOW).await.err()));
        std::fs::remove_file(&witness).unwrap();
        assert!(emptied(sequencer.sequence(&store, NOW).await.err()));
        // The first checkpoint of all may have met a crash before it was told.
        let refused = start().await.err();
        assert!(refused.is_none(), "{refused:?}");
        assert_eq!(std::fs::read_to_string(&witness).unwrap(), first);
        let sequencer = start().await.unwrap();
        for n in 1..3 {
            write(&store, &log("a"), n).await;
            sequencer.sequence(&store, NOW).await.unwrap();
        }
        drop(sequencer);
        std::fs::write(&witness, "").unwrap();
        assert!(emptied(start().await.err()));
        std::fs::remove_file(&witness).unwrap();
        assert!(matches!(start().await, Err(AuditError::WitnessMissing(_))));
        // One that begins later begins with a checkpoint that the auditor has verified.
        let mut tx = store.read("look").await.unwrap();
        let select = "SELECT note FROM audit_checkpoint ORDER BY size DESC LIMIT 1";
        let note = tx.fetch_one(sql(select)).await.unwrap();
        drop(tx);
        let note = note.text("note").unwrap();
        assert_eq!(note.lines().count(), 5);
        std::fs::write(&witness, format!("{note}\n")).unwrap();
        let sequencer = start().await.unwrap();
        write(&store, &log("a"), 3).await;
        sequencer.sequence(&store, NOW).await.unwrap();
        let told = std::fs::read_to_string(&witness).unwrap();
        assert_eq!(told.matches("log.example/sam\n").count(), 2);
    }
}
