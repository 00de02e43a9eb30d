//! What a store says of its own restore, and what of it is believed.

use audit_log::{Restorers, Sequencer, TABLES};
use core_types::{Digest32, sha256};
use jose::SigningKey;
use serde_json::{Value, json};
use store_kit::testing::{self, TestStore};
use store_kit::{Store, StoreError, sql, transaction};

use crate::deletion::{deletion, leaves};
use crate::kit::{self, NOW, event, log, open, sequenced};

fn key() -> SigningKey {
    SigningKey::generate().unwrap().0
}

fn signed(key: &SigningKey, typ: &str, payload: &Value) -> String {
    key.sign(typ, payload.to_string().as_bytes()).unwrap()
}

/// Starts, and gives what it recorded of the store and its restore.
async fn start(store: &Store, restorers: &Restorers) -> Vec<Value> {
    let done: Result<(), StoreError> = transaction!(store, "start", |tx| {
        log("a").starts(tx, "1.0".into(), &[], restorers, NOW).await
    });
    done.unwrap();
    let mut tx = store.read("entries").await.unwrap();
    let query = sql("SELECT body FROM audit_entry ORDER BY n DESC");
    let rows = tx.fetch_all(query).await.unwrap();
    let entries = rows
        .iter()
        .map(|row| serde_json::from_str::<Value>(&row.text("body").unwrap()).unwrap());
    entries
        .take_while(|entry| entry["kind"] != "service.started")
        .collect()
}

async fn put(store: &Store, note: &str) {
    let done: Result<_, StoreError> = transaction!(store, "put", |tx| {
        let insert = "INSERT INTO store_meta (key, value) VALUES ('filled', $1)";
        tx.execute(sql(insert).bind(note)).await
    });
    done.unwrap();
}

// shows: I-7.1.7.2-privileged-restore
#[tokio::test]
async fn a_store_says_that_it_was_restored_and_two_people_have_to_say_so_too() {
    let (signer, operator, officer, other) = (key(), key(), key(), key());
    let public = |key: &SigningKey| vec![key.public().clone()];
    let known = Restorers {
        backups: public(&signer),
        operators: public(&operator),
        officers: public(&officer),
    };
    let backup = Digest32([7; 32]);
    for store in testing::both(&[TABLES]).await {
        assert_eq!(start(&store, &known).await, Vec::<Value>::new());
        let mut tx = store.read("names").await.unwrap();
        let name = store_kit::store_names(&mut tx).await.unwrap().pop();
        drop(tx);
        let stores = format!("ssa {backup}\nsam {}\n", name.unwrap());
        store.mark_restored().await.unwrap();
        let note = |by: [&SigningKey; 3], stores: &str| {
            let target = sha256(&[stores.as_bytes()]);
            let yes = |key, office| {
                let told = json!({"backup": backup, "target": target, "office": office, "reason": "the disk failed", "exp": 1});
                signed(key, "natsuin-restore+jws", &told)
            };
            let list = json!({ "manifest": backup });
            json!({
                "backup": backup, "stores": stores,
                "signature": signed(by[0], "natsuin-backup+jws", &list),
                "approvals": [yes(by[1], "system-operator"), yes(by[2], "security-officer")],
            })
            .to_string()
        };
        let silent = note([&signer, &operator, &officer], &stores);
        let mut silent: Value = serde_json::from_str(&silent).unwrap();
        let told = json!({
            "backup": backup, "target": sha256(&[stores.as_bytes()]),
            "office": "security-officer", "reason": "", "exp": 1,
        });
        silent["approvals"][1] = signed(&officer, "natsuin-restore+jws", &told).into();
        let both = [&signer, &operator, &officer];
        let good = note(both, &stores);

        // Without a note it is another store all the same.
        let told = start(&store, &known).await;
        assert_eq!(told.len(), 1);
        assert_eq!(
            (&told[0]["kind"], &told[0]["detail"]["parameter"]),
            (&"parameter.changed".into(), &"store".into())
        );
        for (note, reason) in [
            ("null".to_owned(), "unreadable"),
            (json!({ "backup": backup }).to_string(), "unreadable"),
            (
                note([&other, &operator, &officer], &stores),
                "backup-unsigned",
            ),
            (note([&signer, &other, &officer], &stores), "no-operator"),
            (note([&signer, &operator, &other], &stores), "no-officer"),
            (note([&signer, &operator, &operator], &stores), "no-officer"),
            (note([&signer, &officer, &operator], &stores), "no-operator"),
            (silent.to_string(), "no-officer"),
            (note(both, &format!("sam {backup}\n")), "other-store"),
            (
                note(both, &stores.replace("\nsam ", "\ncm ")),
                "other-store",
            ),
            (good.replace("ssa ", "ssb "), "no-operator"),
        ] {
            put(&store, &note).await;
            let told = start(&store, &known).await;
            assert_eq!(told.len(), 2, "{reason}");
            assert_eq!(told[0]["kind"], "alarm");
            assert_eq!(told[1]["kind"], "service.restored-unapproved");
            assert_eq!(told[1]["detail"]["reason"], reason);
        }
        put(&store, &good).await;
        let told = start(&store, &Restorers::default()).await;
        assert_eq!(told[1]["detail"]["reason"], "backup-unsigned");
        put(&store, &good).await;
        let told = start(&store, &known).await;
        assert_eq!(told[0]["kind"], "service.restored");
        let thumbprint = operator.public().thumbprint().to_string();
        assert_eq!(told[0]["detail"]["operator"], thumbprint);
        let note: Value = serde_json::from_str(&good).unwrap();
        let both: Vec<_> = note["approvals"].as_array().unwrap().iter().collect();
        let both = both.iter().map(|a| a.as_str().unwrap()).collect::<Vec<_>>();
        let kept = sha256(&[both.join("\n").as_bytes()]).to_string();
        assert_eq!(told[0]["detail"]["approvals"], kept);
        // It happened once.
        put(&store, &good).await;
        let told = start(&store, &known).await;
        assert_eq!(told[1]["detail"]["reason"], "again");
        assert_eq!(start(&store, &known).await, Vec::<Value>::new());
        // And once for good: its entry stays when those around it are deleted after archiving.
        let sequencer = open(&store).await.unwrap();
        let many: Vec<_> = (0..256).map(event).collect();
        let done: Result<_, StoreError> = transaction!(store, "test", |tx| {
            log("a").append_all(tx, &many, NOW).await
        });
        done.unwrap();
        sequencer.sequence(&store, NOW).await.unwrap();
        let archive = leaves(&store).await;
        let deletion = deletion(256, 1);
        let deleted = sequencer
            .delete_archived(&store, &deletion, &archive, &mut (), NOW)
            .await;
        assert_eq!(deleted.unwrap().size, 256);
        put(&store, &good).await;
        let told = start(&store, &known).await;
        assert_eq!(told[1]["detail"]["reason"], "again");
    }
}

/// The kinds of entries, and the newest with its detail, after word was left in the store.
async fn left(store: &TestStore, sequencer: &Sequencer, note: &Value) -> Vec<Value> {
    let before = sequenced(store).await;
    let name = sha256(&[note.to_string().as_bytes(), &before.to_be_bytes()]).to_string();
    let done = store_kit::leave_dumped(&store.url, store.schema, &name, &note.to_string()).await;
    done.unwrap();
    sequencer.sequence(store, NOW).await.unwrap();
    let mut tx = store.read("entries").await.unwrap();
    let query = sql("SELECT body FROM audit_entry WHERE n > $1 ORDER BY n");
    let query = query.bind(i64::try_from(before).unwrap());
    let rows = tx.fetch_all(query).await.unwrap();
    let entries = rows
        .iter()
        .map(|row| serde_json::from_str::<Value>(&row.text("body").unwrap()).unwrap());
    entries.collect()
}

// shows: I-7.1.7.1-backup-integrity
#[tokio::test]
async fn a_backup_is_told_of_by_the_key_that_signed_it_and_once() {
    let (signer, other) = (key(), key());
    for store in testing::both(&[TABLES]).await {
        let own = log("a");
        let sequencer = Sequencer::open(own.clone(), kit::key(), None, &store).await;
        let sequencer = sequencer.unwrap();
        let signature = |by: &SigningKey, backup: Digest32| {
            signed(by, "natsuin-backup+jws", &json!({ "manifest": backup }))
        };
        let note = |n: u8, by: &SigningKey| {
            let backup = Digest32([n; 32]);
            json!({"backup": backup, "key": by.public(), "signature": signature(by, backup)})
        };
        let mut by_another = note(1, &signer);
        by_another["key"] = serde_json::to_value(other.public()).unwrap();
        let mut of_another = note(1, &signer);
        of_another["backup"] = note(2, &signer)["backup"].clone();
        let mut unsigned = note(1, &signer);
        unsigned["signature"] = "".into();
        let unreadable =
            json!({"backup": Digest32([1; 32]), "signer": signer.public().thumbprint()});
        for (bad, why) in [
            (by_another, "backup-note-unsigned"),
            (of_another, "backup-note-unsigned"),
            (unsigned, "backup-note-unsigned"),
            (unreadable, "backup-note-unreadable"),
            (Value::Null, "backup-note-unreadable"),
        ] {
            let told = left(&store, &sequencer, &bad).await;
            let whats: Vec<_> = told.iter().map(|e| &e["detail"]["what"]).collect();
            assert_eq!(whats, [why], "{bad}");
        }
        let told = left(&store, &sequencer, &note(1, &signer)).await;
        assert_eq!(
            (told.len(), &told[0]["kind"]),
            (1, &"service.backed-up".into())
        );
        let thumbprint = signer.public().thumbprint().to_string();
        assert_eq!(told[0]["detail"]["signer"], thumbprint);
        let told = left(&store, &sequencer, &note(1, &signer)).await;
        assert_eq!(told[0]["detail"]["what"], "backup-note-again");

        // A zone that knows who makes backups says when it is somebody else.
        let known = Restorers {
            backups: vec![signer.public().clone()],
            ..Restorers::default()
        };
        let done: Result<(), StoreError> = transaction!(store, "start", |tx| {
            own.starts(tx, "1.0".into(), &[], &known, NOW).await
        });
        done.unwrap();
        sequencer.sequence(&store, NOW).await.unwrap();
        assert_eq!(left(&store, &sequencer, &note(2, &signer)).await.len(), 1);
        let told = left(&store, &sequencer, &note(3, &other)).await;
        let kinds: Vec<_> = told.iter().map(|e| &e["kind"]).collect();
        assert_eq!(kinds, ["service.backed-up", "alarm"]);
        assert_eq!(told[1]["detail"]["what"], "backup-by-unknown-key");
    }
}

/// A command that gives entries their place beside the daemon enters the notes of backups, too, and each note once.
#[tokio::test]
async fn a_backup_by_somebody_else_is_told_of_by_a_command_that_starts_nothing() {
    let (signer, other) = (key(), key());
    for store in testing::both(&[TABLES]).await {
        let own = log("a");
        own.knows_makers(&Restorers {
            backups: vec![signer.public().clone()],
            ..Restorers::default()
        });
        let sequencer = Sequencer::open(own, kit::key(), None, &store).await;
        let sequencer = sequencer.unwrap();
        let backup = Digest32([1; 32]);
        let signature = signed(&other, "natsuin-backup+jws", &json!({ "manifest": backup }));
        let note = json!({"backup": backup, "key": other.public(), "signature": signature});
        let told = left(&store, &sequencer, &note).await;
        let kinds: Vec<_> = told.iter().map(|e| &e["kind"]).collect();
        assert_eq!(kinds, ["service.backed-up", "alarm"]);
        assert_eq!(told[1]["detail"]["what"], "backup-by-unknown-key");
    }
}
