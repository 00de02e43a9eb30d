//! A zone without sealed rows obeys a configuration that two have signed, and nobody's who only writes files or the database.

use audit_log::TABLES;
use core_types::{UnixTime, sha256};
use jose::SigningKey;
use signed_config::{Brought, Files, Manifest, SettingsRefused, TYP_SETTINGS};
use store_kit::testing;
use store_kit::{Store, StoreError, sql, transaction};

use crate::deletion::{append, deletion, leaves};
use crate::kit::{NOW, event, log, open, tamper};

const OF: &str = "ssa here/ssa";

fn files(text: &str) -> Files {
    [("config".to_owned(), sha256(&[text.as_bytes()]))].into()
}

fn unsigned(text: &str) -> Brought {
    Brought {
        files: files(text),
        signatures: Vec::new(),
    }
}

/// The configuration of two nodes under this number, for `signers` to sign the next one, signed by `by`.
fn signed(text: &str, serial: u64, signers: &[&SigningKey], by: &[&SigningKey]) -> Brought {
    let manifest = Manifest {
        v: 2,
        of: OF.into(),
        serial,
        reason: "another witness".into(),
        exp: NOW.plus(60),
        need: u8::try_from(signers.len().min(2)).expect("two"),
        signers: signers.iter().map(|k| k.public().clone()).collect(),
        nodes: ["n1", "n2"].map(|n| (n.to_owned(), files(text))).into(),
    };
    let bytes = manifest.bytes().expect("bytes");
    let sign = |k: &&SigningKey| k.sign(TYP_SETTINGS, &bytes).expect("a signature");
    Brought {
        files: files(text),
        signatures: by.iter().map(sign).collect(),
    }
}

async fn obeys_at(
    store: &Store,
    node: &str,
    demanded: bool,
    brought: &Brought,
    now: UnixTime,
) -> Result<Option<u64>, SettingsRefused> {
    let log = log(node);
    let judged = log.obeys(store, (OF, node), demanded, brought, now).await;
    judged.expect("the store works")
}

async fn obeys(store: &Store, brought: &Brought) -> Result<Option<u64>, SettingsRefused> {
    obeys_at(store, "n1", false, brought, NOW).await
}

async fn told(store: &Store, kind: &str) -> Vec<String> {
    let mut tx = store.read("look").await.expect("a look");
    let select = sql("SELECT body FROM audit_entry WHERE kind = $1 ORDER BY node, n").bind(kind);
    let rows = tx.fetch_all(select).await.expect("entries");
    rows.iter()
        .map(|r| r.text("body").expect("a body"))
        .collect()
}

// shows: II-3.3.2-config-tamper-detected
#[tokio::test]
async fn two_change_the_configuration_and_one_administrator_does_not() {
    let [a, b, thief] = [(); 3].map(|()| SigningKey::generate().expect("a key").0);
    let both = [&a, &b];
    for store in testing::both(&[TABLES]).await {
        // Nobody has signed so far: said, and refused where that is demanded.
        assert_eq!(obeys(&store, &unsigned("one")).await, Ok(None));
        let demanded = obeys_at(&store, "n1", true, &unsigned("one"), NOW).await;
        assert_eq!(demanded, Err(SettingsRefused::Unsigned));
        // One is never enough, also not as the first.
        let alone = signed("one", 1, &[&a], &[&a]);
        assert_eq!(obeys(&store, &alone).await, Err(SettingsRefused::OnePerson));
        let first = signed("one", 1, &both, &both);
        assert_eq!(obeys(&store, &first).await, Ok(Some(1)));
        // The other node, and again when its time for a first start is over.
        let later = NOW.plus(3600);
        let other = obeys_at(&store, "n2", true, &first, later).await;
        assert_eq!(other, Ok(Some(1)));
        let adopted = told(&store, "settings.adopted").await;
        assert_eq!(adopted.len(), 1);
        let evidence = sha256(&[first.evidence().as_bytes()]).to_string();
        for named in [&evidence, &a.public().thumbprint().to_string()] {
            assert!(adopted[0].contains(named.as_str()), "{adopted:?}");
        }
        for (brought, why) in [
            (unsigned("one"), SettingsRefused::Unsigned),
            (
                Brought {
                    files: files("two"),
                    ..first.clone()
                },
                SettingsRefused::Changed,
            ),
            (signed("two", 2, &both, &[&a]), SettingsRefused::Signers),
            (
                signed("two", 2, &[&a, &thief], &[&a, &thief]),
                SettingsRefused::Signers,
            ),
            (signed("two", 1, &both, &both), SettingsRefused::Older),
        ] {
            let before = told(&store, "settings.refused").await.len();
            assert_eq!(obeys(&store, &brought).await, Err(why));
            let refused = told(&store, "settings.refused").await;
            assert_eq!(refused.len(), before + 1);
            assert!(refused.iter().any(|r| r.contains(why.code())), "{why:?}");
        }
        let second = signed("two", 2, &[&a, &thief], &both);
        // What was only judged has no effect: the one before goes on.
        let own = log("n1");
        let judged = own.would_obey(&store, (OF, "n1"), false, &second, NOW);
        assert_eq!(judged.await.expect("the store works"), Ok(Some(2)));
        assert_eq!(obeys(&store, &first).await, Ok(Some(1)));
        assert_eq!(told(&store, "settings.adopted").await.len(), 1);
        assert_eq!(obeys(&store, &second).await, Ok(Some(2)));
        assert!(obeys(&store, &first).await.is_err());
        assert_eq!(obeys(&store, &second).await, Ok(Some(2)));
    }
}

async fn value(store: &Store) -> String {
    let mut tx = store.read("look").await.expect("a look");
    let select = sql("SELECT value FROM audit_setting WHERE name = 'trust'");
    let row = tx.fetch_one(select).await.expect("a note");
    row.text("value").expect("its value")
}

async fn put(store: &Store, value: &str) {
    let done: Result<u64, StoreError> = transaction!(store, "tamper", |tx| {
        let update = sql("UPDATE audit_setting SET value = $1 WHERE name = 'trust'");
        tx.execute(update.bind(value)).await
    });
    assert_eq!(done.expect("a change"), 1);
}

// shows: II-3.3.2-config-tamper-detected, T-INS-OPERATOR
#[tokio::test]
async fn what_is_trusted_is_not_changed_in_the_store() {
    let [a, b, thief] = [(); 3].map(|()| SigningKey::generate().expect("a key").0);
    let both = [&a, &b];
    for store in testing::both(&[TABLES]).await {
        let first = signed("one", 1, &both, &both);
        obeys(&store, &first).await.expect("signed by two");
        let before = value(&store).await;
        let second = signed("two", 2, &both, &both);
        obeys(&store, &second).await.expect("signed by two");
        let stolen = signed("mine", 1, &[&thief, &a], &[&thief, &a]);
        for attack in ["set back", "altered", "gone"] {
            match attack {
                "set back" => put(&store, &before).await,
                "altered" => put(&store, "e30.e30").await,
                _ => tamper(&store, "DELETE FROM audit_setting WHERE name = 'trust'").await,
            }
            for brought in [&stolen, &first, &unsigned("mine")] {
                let refused = obeys(&store, brought).await;
                assert_eq!(refused, Err(SettingsRefused::Record), "{attack}");
            }
            // What the log names last goes on, and is noted anew.
            assert_eq!(obeys(&store, &second).await, Ok(Some(2)), "{attack}");
            let refused = obeys(&store, &stolen).await;
            assert_eq!(refused, Err(SettingsRefused::Signers), "{attack}");
            assert_eq!(told(&store, "settings.adopted").await.len(), 2);
        }
    }
}

const NO_NOTE: &str = "DELETE FROM audit_setting WHERE name = 'trust'";

// shows: II-3.3.2-config-tamper-detected, II-3.3.2-audit-tamper-detected, T-INS-OPERATOR
#[tokio::test]
async fn what_was_obeyed_is_not_taken_out_of_the_log() {
    let [a, b, thief] = [(); 3].map(|()| SigningKey::generate().expect("a key").0);
    let gone = "DELETE FROM audit_entry WHERE kind = 'settings.adopted'";
    let renamed = "UPDATE audit_entry SET kind = 'x' WHERE kind = 'settings.adopted'";
    for (attack, archived) in [
        (gone, false),
        (renamed, false),
        (gone, true),
        (renamed, true),
    ] {
        for store in testing::both(&[TABLES]).await {
            let sequencer = open(&store).await.expect("a log");
            let first = signed("one", 1, &[&a, &b], &[&a, &b]);
            obeys(&store, &first).await.expect("signed by two");
            let more: Vec<_> = (1..600).map(event).collect();
            append(&store, &log("n1"), &more, NOW).await;
            sequencer.sequence(&store, NOW).await.expect("places");
            if archived {
                let (cut, archive) = (deletion(256, 1), leaves(&store).await);
                let done = sequencer
                    .delete_archived(&store, &cut, &archive, &mut (), NOW)
                    .await;
                assert_eq!(done.expect("a deletion").kept, 1);
            }
            tamper(&store, attack).await;
            tamper(&store, NO_NOTE).await;
            let stolen = signed("mine", 1, &[&thief, &a], &[&thief, &a]);
            for brought in [&stolen, &unsigned("mine")] {
                let own = log("n1");
                let judged = own.obeys(&store, (OF, "n1"), false, brought, NOW).await;
                if (attack, archived) == (gone, true) {
                    // What the log keeps of entries that are gone says so too.
                    let judged = judged.expect("a whole log");
                    assert_eq!(judged, Err(SettingsRefused::Record));
                } else {
                    assert!(judged.is_err(), "{attack}: {judged:?}");
                }
            }
            if (attack, archived) == (gone, true) {
                assert_eq!(obeys(&store, &first).await, Ok(Some(1)));
                // And it goes on saying so, over the next deletion.
                let mut archive = leaves(&store).await;
                archive.from = 256;
                let cut = deletion(512, 2);
                let done = sequencer
                    .delete_archived(&store, &cut, &archive, &mut (), NOW)
                    .await;
                done.expect("a deletion");
                tamper(&store, NO_NOTE).await;
                let refused = obeys(&store, &unsigned("mine")).await;
                assert_eq!(refused, Err(SettingsRefused::Record));
                assert_eq!(obeys(&store, &first).await, Ok(Some(1)));
            }
        }
    }
}

// shows: II-3.3.2-config-tamper-detected, T-INS-OPERATOR
#[tokio::test]
async fn an_entry_that_no_key_vouches_for_names_no_configuration() {
    let [a, b, thief] = [(); 3].map(|()| SigningKey::generate().expect("a key").0);
    for store in testing::both(&[TABLES]).await {
        let first = signed("one", 1, &[&a, &b], &[&a, &b]);
        obeys(&store, &first).await.expect("signed by two");
        let sequencer = open(&store).await.expect("a log");
        sequencer.sequence(&store, NOW).await.expect("places");
        let stolen = signed("mine", 9, &[&thief, &a], &[&thief, &a]);
        let claimed = stolen.claims().expect("a manifest");
        let detail = serde_json::json!({ "serial": claimed.serial, "manifest": claimed.manifest });
        let body = serde_json::json!({ "detail": detail }).to_string();
        // Of a node that has no chain, and far behind the last place: nobody who reads the log back comes by.
        let put: Result<u64, StoreError> = transaction!(store, "tamper", |tx| {
            let insert = "INSERT INTO audit_entry (node, n, at, kind, body, leaf, mac, seq) \
                          VALUES ('x', 1, 0, 'settings.adopted', $1, '', $2, 1000)";
            let insert = sql(insert).bind(body.as_str()).bind(&[0_u8][..]);
            tx.execute(insert).await
        });
        assert_eq!(put.expect("an entry"), 1);
        tamper(&store, NO_NOTE).await;
        for brought in [&stolen, &unsigned("mine")] {
            let refused = obeys(&store, brought).await;
            assert_eq!(refused, Err(SettingsRefused::Record));
        }
        tamper(&store, "DELETE FROM audit_entry WHERE node = 'x'").await;
        assert_eq!(obeys(&store, &first).await, Ok(Some(1)));
    }
}
