//! Durable appends beside a bare durable insert on the same store: what the audit log costs.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark measures and prints"
)]

use std::time::Instant;

use audit_log::{AuditLog, Event, LogKey, Sequencer, TABLES};
use core_types::{KeyId, PersonId, SecretBytes, UnixTime};
use store_kit::testing::{self, TestStore};
use store_kit::{Migration, Migrations, Store, StoreError, sql, transaction};

const BARE: Migrations = Migrations {
    component: "bare",
    steps: &[Migration {
        name: "0001",
        sqlite: "CREATE TABLE bare (n BIGINT NOT NULL)",
        postgres: "CREATE TABLE bare (n BIGINT NOT NULL)",
    }],
};
const ROUNDS: i64 = 2000;

fn event() -> Option<Event> {
    let (key, owner) = (
        KeyId::parse("key-1").ok()?,
        PersonId::parse("person-1").ok()?,
    );
    Some(Event::KeySuspended {
        key,
        owner,
        reason: "benchmark".into(),
    })
}

async fn bare(store: &Store) -> Result<(), StoreError> {
    for n in 0..ROUNDS {
        let done: Result<_, StoreError> = transaction!(store, "bare", |tx| {
            tx.execute(sql("INSERT INTO bare (n) VALUES ($1)").bind(n))
                .await
        });
        done?;
    }
    Ok(())
}

async fn appends(
    store: &Store,
    log: &AuditLog,
    event: &Event,
    per_transaction: i64,
) -> Result<(), StoreError> {
    for n in 0..ROUNDS / per_transaction {
        let events = vec![event.clone(); usize::try_from(per_transaction).unwrap_or(1)];
        let done: Result<_, StoreError> = transaction!(store, "append", |tx| {
            log.append_all(tx, &events, UnixTime(n)).await
        });
        done?;
    }
    Ok(())
}

fn rate(start: Instant) -> f64 {
    f64::from(u32::try_from(ROUNDS).unwrap_or(1)) / start.elapsed().as_secs_f64()
}

async fn measure(store: &TestStore, event: &Event) -> Result<(), Box<dyn std::error::Error>> {
    let log = AuditLog::new(
        "bench",
        "node",
        SecretBytes::new(vec![1; 32]),
        std::sync::Arc::new(core_types::random::SystemRandom),
    );
    let key = LogKey::from_seed("bench", &SecretBytes::new(vec![2; 32]))?;
    let sequencer = Sequencer::open(log.clone(), key, None, store).await?;
    let start = Instant::now();
    bare(store).await?;
    let base = rate(start);
    println!("{:?}: bare durable inserts {base:.0}/s", store.dialect());
    for per_transaction in [1, 3] {
        let start = Instant::now();
        appends(store, &log, event, per_transaction).await?;
        let appended = rate(start);
        println!(
            "  appends, {per_transaction} a transaction: {appended:.0}/s ({:.2} of bare)",
            appended / base
        );
    }
    let start = Instant::now();
    let done = sequencer.sequence(store, UnixTime(0)).await?;
    println!(
        "  sequenced {} at {:.0}/s",
        done.added,
        rate(start) * f64::from(u32::try_from(done.added)?) / 2000.0
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let event = event().ok_or("identifiers")?;
    for store in testing::both(&[TABLES, BARE]).await {
        measure(&store, &event).await?;
    }
    Ok(())
}
