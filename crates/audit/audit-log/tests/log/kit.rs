//! A log, its key, and entries for it.

use audit_log::{AuditError, AuditLog, Event, LogKey, Sequencer};
use core_types::{KeyId, PersonId, SecretBytes, UnixTime};
use store_kit::{Store, StoreError, sql, transaction};

pub const NOW: UnixTime = UnixTime(1_800_000_000);

pub fn log(node: &str) -> AuditLog {
    AuditLog::new(
        "sam",
        node,
        SecretBytes::new(vec![1; 32]),
        std::sync::Arc::new(core_types::random::SystemRandom),
    )
}

pub fn key() -> LogKey {
    LogKey::from_seed("log.example/sam", &SecretBytes::new(vec![2; 32])).expect("a key")
}

pub fn event(n: i64) -> Event {
    let owner = PersonId::parse(format!("p{n}")).expect("an id");
    Event::KeySuspended {
        key: KeyId::parse("k1").expect("an id"),
        owner,
        reason: "test".into(),
    }
}

pub async fn write(store: &Store, log: &AuditLog, n: i64) {
    let done: Result<_, StoreError> = transaction!(store, "test", |tx| {
        log.append(tx, event(n), NOW.plus(n)).await
    });
    done.expect("an entry");
}

pub async fn sequenced(store: &Store) -> u64 {
    let mut tx = store.read("count").await.expect("a snapshot");
    let row = tx.fetch_one(sql(
        "SELECT count(*) AS n FROM audit_entry WHERE seq IS NOT NULL",
    ));
    u64::try_from(row.await.and_then(|r| r.int("n")).expect("a count")).expect("a count")
}

pub async fn tamper(store: &Store, change: &'static str) {
    let done: Result<_, StoreError> =
        transaction!(store, "tamper", |tx| { tx.execute(sql(change)).await });
    assert!(done.expect("a change") > 0, "{change}");
}

pub async fn open(store: &Store) -> Result<Sequencer, AuditError> {
    Sequencer::open(log("a"), key(), None, store).await
}
