//! Where calls came from: named for each person apart, readable beside the log, and gone with the person.

use std::net::IpAddr;

use audit_log::{Event, Place, Query, TABLES, read_back, search};
use core_types::{Digest32, PersonId, PersonName};
use store_kit::{Store, StoreError, sql, testing, transaction};

use crate::kit::{NOW, log, open, tamper};

fn login(person: &str, from: &str) -> Event {
    Event::LoginSucceeded {
        person: PersonId::parse(person).unwrap(),
        method: "totp".into(),
        session: Some(Digest32([9; 32])),
        from: from
            .parse::<IpAddr>()
            .map_or(Place::Unknown, Place::Address),
        credential: None,
    }
}

async fn found(store: &Store, person: &str) -> Vec<(Option<String>, Option<String>)> {
    let query = Query {
        person: PersonName::parse(person).ok(),
        ..Query::default()
    };
    let found = search(store, &query).await.unwrap().entries;
    let named = |body: &str| {
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        body["detail"]["from"].as_str().map(str::to_owned)
    };
    found
        .into_iter()
        .map(|one| (named(&one.entry.body), one.from))
        .collect()
}

// shows: I-A5-audit-detects-impersonation, I-A5-no-secrets-in-logs
#[tokio::test]
async fn a_place_is_named_by_its_person_and_forgotten_with_them() {
    for store in testing::both(&[TABLES]).await {
        let (sequencer, log) = (open(&store).await.unwrap(), log("a"));
        let (here, there) = ("203.0.113.5", "2001:db8::");
        let events = [
            login("hanako", here),
            login("hanako", there),
            login("hanako", here),
            login("hanako", "nobody saw"),
            login("taro", here),
        ];
        let done: Result<_, StoreError> = transaction!(store.store, "test", |tx| {
            log.append_all(tx, &events, NOW).await
        });
        done.unwrap();
        sequencer.sequence(&store, NOW).await.unwrap();
        let hers = found(&store, "hanako").await;
        let told: Vec<_> = hers.iter().map(|(_, from)| from.as_deref()).collect();
        assert_eq!(told, [Some(here), Some(there), Some(here), None]);
        // The same place has one name in her entries, and another one in his.
        assert_eq!(hers[0].0, hers[2].0);
        assert_ne!(hers[0].0, hers[1].0);
        assert_eq!(hers[3].0, None);
        let his = found(&store, "taro").await;
        assert_eq!(his[0].1.as_deref(), Some(here));
        assert_ne!(his[0].0, hers[0].0);
        let written = async |like: &str| {
            let mut tx = store.read("look").await.unwrap();
            let select = "SELECT count(*) AS n FROM audit_entry WHERE body LIKE $1";
            let row = tx.fetch_one(sql(select).bind(format!("%{like}%"))).await;
            row.unwrap().int("n").unwrap()
        };
        assert_eq!((written(here).await, written(there).await), (0, 0));

        // What doesn't fit its name isn't told.
        tamper(
            &store,
            "UPDATE audit_address SET address = '198.51.100.1' WHERE address = '2001:db8::'",
        )
        .await;
        assert_eq!(found(&store, "hanako").await[1].1, None);

        let hanako = PersonId::parse("hanako").unwrap();
        let forgotten: Result<_, StoreError> = transaction!(store.store, "forget", |tx| {
            log.forget(tx, &hanako, Digest32([1; 32]), NOW).await
        });
        assert!(forgotten.unwrap());
        let mut tx = store.read("look").await.unwrap();
        let left = "SELECT count(*) AS n FROM audit_address";
        assert_eq!(tx.fetch_one(sql(left)).await.unwrap().int("n").unwrap(), 1);
        drop(tx);
        assert_eq!(found(&store, "taro").await[0].1.as_deref(), Some(here));
        sequencer.sequence(&store, NOW).await.unwrap();
        read_back(&log, &store, |_| Ok(())).await.unwrap();
    }
}
