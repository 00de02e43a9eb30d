//! What the audit log costs: appends with durable commit beside a bare insert, proofs and searches in a large log, an auditor's
//! check of it, and a backup of keys with their log.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::backup::{Authority, Backup, Identity, Writer};
use anyhow::{Context as _, Result, ensure};
use audit_log::{AuditLog, Event, LogKey, Place, Query, Sequencer};
use core_types::random::SystemRandom;
use core_types::{Digest32, HashAlg, KeyId, PersonId, Random as _, SecretBytes, SigAlg, UnixTime};
use jose::SigningKey;
use serde::Serialize;
use store_kit::{Dump, Migration, Migrations, Store, StoreError, StoreUrl, sql, transaction};

use super::measure::{now, per_second, percentile};
use crate::output::Out;

const BARE: Migrations = Migrations {
    component: "bare",
    steps: &[Migration {
        name: "0001",
        sqlite: "CREATE TABLE bare (task BIGINT NOT NULL, n BIGINT NOT NULL, PRIMARY KEY (task, n)) WITHOUT ROWID",
        postgres: "CREATE TABLE bare (task BIGINT NOT NULL, n BIGINT NOT NULL, PRIMARY KEY (task, n))",
    }],
};
/// Entries in one transaction while the log is filled.
const FILL: usize = 500;
/// Persons and keys that the entries are about.
const PERSONS: usize = 10_000;
/// Begins at this time; ten entries a second.
const BEGIN: i64 = 1_700_000_000;
/// How often a proof or a search is measured.
const TIMES: u32 = 200;
/// Tables of a signer's key, and bytes of a sealed row: about what the SAM keeps.
const KEY_TABLES: [&str; 3] = ["person", "factor", "signing_key"];
const SEALED: usize = 1200;

/// How large.
#[derive(Debug, Clone, clap::Args)]
pub struct AuditArgs {
    /// Entries of the log that is searched and checked.
    #[arg(long, default_value_t = 100_000)]
    entries: usize,
    /// Signers with a key that are backed up with it; 0: no backup.
    #[arg(long, default_value_t = 10_000)]
    keys: usize,
    /// An empty PostgreSQL database to measure on, beside SQLite: its address, or `@FILE` with it.
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
}

/// All results.
#[derive(Debug, Serialize)]
pub(super) struct Audit {
    schema: &'static str,
    stores: Vec<OnStore>,
    verify_seconds_per_million: f64,
}

#[derive(Debug, Serialize)]
struct OnStore {
    store: &'static str,
    appends: Vec<Appends>,
    fill_per_second: f64,
    sequence_per_second: f64,
    entries: usize,
    proof_p50_ms: f64,
    proof_p99_ms: f64,
    searches: Vec<Search>,
    backup: Option<Backed>,
}

/// A backup of so many keys and the log.
#[derive(Debug, Serialize)]
struct Backed {
    keys: usize,
    backup_seconds: f64,
    restore_seconds: f64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Appends {
    tasks: i64,
    bare_per_second: f64,
    appends_per_second: f64,
    ratio: f64,
}

#[derive(Debug, Serialize)]
struct Search {
    by: &'static str,
    /// Entries of the answer that had most.
    found: usize,
    p50_ms: f64,
    p99_ms: f64,
}

pub(super) async fn run(span: Duration, args: AuditArgs, dir: &Path, out: Out) -> Result<Audit> {
    let sqlite = StoreUrl::Sqlite(dir.join("sam.db"));
    let mut urls = vec![("SQLite", sqlite)];
    if let Some(url) = &args.postgres {
        urls.push((
            "PostgreSQL",
            StoreUrl::parse(&crate::stores::address(url)?)?,
        ));
    }
    let (mut stores, mut verify) = (Vec::new(), 0.0);
    for (name, url) in urls {
        let (store, seconds) = on(name, &url, span, &args, dir, out).await?;
        stores.push(store);
        // The export is the same, whatever the store.
        verify = seconds;
    }
    Ok(Audit {
        schema: "natsuin.bench-audit/1",
        stores,
        verify_seconds_per_million: verify,
    })
}

fn tables() -> Vec<Migrations> {
    [sam_service::MIGRATIONS, &[BARE]].concat()
}

async fn on(
    name: &'static str,
    url: &StoreUrl,
    span: Duration,
    args: &AuditArgs,
    dir: &Path,
    out: Out,
) -> Result<(OnStore, f64)> {
    let store = Store::open(url, "sam", &tables(), &SystemRandom).await?;
    let seed = SecretBytes::new(vec![1; 32]);
    let log = AuditLog::new("sam", "bench", seed.clone(), Arc::new(SystemRandom));
    let key = LogKey::from_seed("bench.example/sam", &seed)?;
    let sequencer = Sequencer::open(log.clone(), key, None, &store).await?;
    let mut all = Vec::new();
    for tasks in [1, 16] {
        let bare = rate(span, tasks, |task, n| {
            insert(store.clone(), (100 * tasks + task) * 1_000_000_000 + n)
        })
        .await?;
        let with = rate(span, tasks, |_, n| append(store.clone(), log.clone(), n)).await?;
        out.say(&format!(
            "{name:<10} {tasks:>2} at once: INSERT + commit {bare:>7.0}/s   append + commit {with:>7.0}/s   {:.2}",
            with / bare
        ));
        all.push(Appends {
            tasks,
            bare_per_second: bare,
            appends_per_second: with,
            ratio: with / bare,
        });
    }
    let begun = now();
    fill(&store, &log, args.entries).await?;
    let filled = per_second(args.entries, begun.elapsed());
    let begun = now();
    let sequenced = sequencer.sequence(&store, UnixTime(BEGIN)).await?;
    let sequence = per_second(usize::try_from(sequenced.added)?, begun.elapsed());
    let size = i64::try_from(sequenced.size)?;
    let (proof_p50_ms, proof_p99_ms) = proofs(&store, size).await?;
    out.say(&format!(
        "{name:<10} {size} entries, sequenced {sequence:.0}/s: proof p50 {proof_p50_ms:.2} ms, p99 {proof_p99_ms:.2} ms"
    ));
    let searches = searches(&store, args.entries).await?;
    for s in &searches {
        out.say(&format!(
            "{name:<10} search by {:<24} p50 {:>7.2} ms   p99 {:>7.2} ms   ({} found)",
            s.by, s.p50_ms, s.p99_ms, s.found
        ));
    }
    let verify = verified(&store, &sequencer, &dir.join("export"), size).await?;
    out.say(&format!(
        "{name:<10} natsuin audit verify: {verify:.1} s per million entries"
    ));
    keys(&store, args.keys).await?;
    store.close().await;
    let backup = match args.keys {
        0 => None,
        keys => Some(backup(url, dir, name, keys, out).await?),
    };
    let entries = usize::try_from(size)?;
    let measured = OnStore {
        store: name,
        appends: all,
        fill_per_second: filled,
        sequence_per_second: sequence,
        entries,
        proof_p50_ms,
        proof_p99_ms,
        searches,
        backup,
    };
    Ok((measured, verify))
}

/// How often a second so many tasks get it done.
async fn rate<F, W>(span: Duration, tasks: i64, work: W) -> Result<f64>
where
    W: Fn(i64, i64) -> F,
    F: Future<Output = Result<(), StoreError>> + Send + 'static,
{
    let begun = now();
    let counts = (0..tasks).map(|task| {
        let work = &work;
        async move {
            let mut count = 0;
            while begun.elapsed() < span {
                tokio::spawn(work(task, count)).await??;
                count += 1;
            }
            Ok::<i64, anyhow::Error>(count)
        }
    });
    let counts = futures_util::future::try_join_all(counts).await?;
    Ok(per_second(
        usize::try_from(counts.iter().sum::<i64>())?,
        begun.elapsed(),
    ))
}

async fn insert(store: Store, n: i64) -> Result<(), StoreError> {
    transaction!(store, "bare", |tx| {
        let insert = "INSERT INTO bare (task, n) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        tx.execute(sql(insert).bind(n / 1_000_000_000).bind(n))
            .await?;
        Ok(())
    })
}

async fn append(store: Store, log: AuditLog, n: i64) -> Result<(), StoreError> {
    let event = event(usize::try_from(n).unwrap_or(0));
    transaction!(store, "append", |tx| {
        log.append(tx, event.clone(), UnixTime(BEGIN)).await?;
        Ok(())
    })
}

/// One event in sequence: intents, signatures and log-ins of many persons.
fn event(n: usize) -> Event {
    let who = n / 3 % PERSONS;
    let (Ok(person), Ok(key)) = (
        PersonId::parse(format!("person-{who}")),
        KeyId::parse(format!("key-{who}")),
    ) else {
        unreachable!("plain names")
    };
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&n.to_be_bytes());
    let act = Digest32(digest);
    let Ok(client) = core_types::ClientId::parse("bench") else {
        unreachable!("a plain name")
    };
    match n % 3 {
        0 => Event::LoginSucceeded {
            person,
            method: "passkey".into(),
            session: None,
            from: Place::Unknown,
            credential: None,
        },
        1 => Event::SadConsumed {
            act,
            client,
            person,
            key,
            step: 1,
            items: 1,
            call: act,
        },
        _ => Event::SignatureMade {
            act,
            client,
            person,
            key,
            certificate: act,
            alg: SigAlg::Ecdsa(HashAlg::Sha256),
            step: 1,
            count: 1,
            values: act,
            evidence: act,
        },
    }
}

async fn fill(store: &Store, log: &AuditLog, entries: usize) -> Result<()> {
    let mut n = 0;
    while n < entries {
        let some: Vec<Event> = (n..entries.min(n + FILL)).map(event).collect();
        let at = UnixTime(BEGIN + i64::try_from(n / 10)?);
        let done: Result<_, StoreError> =
            transaction!(store, "fill", |tx| { log.append_all(tx, &some, at).await });
        n += done?.len();
    }
    Ok(())
}

fn spread(n: u32, size: i64) -> i64 {
    i64::from(n).wrapping_mul(2_654_435_761) % size
}

async fn proofs(store: &Store, size: i64) -> Result<(f64, f64)> {
    let mut took = Vec::new();
    for n in 0..TIMES {
        let begun = now();
        let proof = audit_log::prove(store, &[spread(n, size)]).await?;
        took.push(begun.elapsed());
        ensure!(proof.is_some(), "an entry has no proof");
    }
    Ok((percentile(took.clone(), 50), percentile(took, 99)))
}

async fn searches(store: &Store, entries: usize) -> Result<Vec<Search>> {
    let seconds = i64::try_from(entries / 10)?.max(1);
    let middle = UnixTime(BEGIN + seconds / 2);
    let who = |n: u32| PersonId::parse(format!("person-{}", spread(n, 1000)));
    let key = |n: u32| KeyId::parse(format!("key-{}", spread(n, 1000)));
    let mut found = Vec::new();
    for by in [
        "time",
        "type",
        "rare type",
        "person",
        "key",
        "key, from the middle on",
        "outcome",
        "next page deep inside",
    ] {
        let mut took = Vec::new();
        let mut most = 0;
        for n in 0..TIMES {
            let from = UnixTime(BEGIN + spread(n, seconds));
            let base = Query::default();
            let query = match by {
                "time" => Query { from, ..base },
                "type" => Query {
                    from,
                    kinds: vec!["signature.made".into()],
                    ..base
                },
                "rare type" => Query {
                    kinds: vec!["alarm".into()],
                    ..base
                },
                "person" => Query {
                    person: Some(who(n)?.into()),
                    ..base
                },
                "key" => Query {
                    key: Some(key(n)?),
                    ..base
                },
                "outcome" => Query {
                    from,
                    outcome: Some(audit_log::Outcome::Intent),
                    ..base
                },
                "key, from the middle on" => Query {
                    key: Some(key(n)?),
                    from: middle,
                    ..base
                },
                _ => {
                    let at = BEGIN + spread(n, seconds);
                    Query {
                        after: Some(format!("{at}/1/bench").parse()?),
                        ..base
                    }
                }
            };
            let begun = now();
            let entries = audit_log::search(store, &query).await?.entries;
            took.push(begun.elapsed());
            most = entries.len().max(most);
        }
        found.push(Search {
            by,
            found: most,
            p50_ms: percentile(took.clone(), 50),
            p99_ms: percentile(took, 99),
        });
    }
    Ok(found)
}

/// Seconds per million entries, the export not included.
async fn verified(store: &Store, sequencer: &Sequencer, dir: &Path, size: i64) -> Result<f64> {
    audit_log::export(store, dir, &sequencer.public()).await?;
    let public = sequencer.public();
    let known = audit_verify::Known {
        key: &public,
        ..audit_verify::Known::default()
    };
    let begun = now();
    let report = audit_verify::verify(dir, known)?;
    let took = begun.elapsed();
    ensure!(report.ok, "the log isn't good: {:?}", report.first_bad);
    Ok(took.as_secs_f64() * 1e6 / per_second(usize::try_from(size)?, Duration::from_secs(1)))
}

async fn keys(store: &Store, keys: usize) -> Result<()> {
    let mut sealed = [0; SEALED];
    SystemRandom.fill(&mut sealed);
    let mut from = 0;
    while from < keys {
        let until = keys.min(from + FILL);
        let done: Result<(), StoreError> = transaction!(store, "keys", |tx| {
            for n in from..until {
                for insert in [
                    "INSERT INTO person (id, version, sealed, owner, link, state, stamp) VALUES ($1, 1, $2, $1, $1, '', 0)",
                    "INSERT INTO factor (id, version, sealed, owner, link, state, stamp) VALUES ($1, 1, $2, $1, $1, '', 0)",
                    "INSERT INTO signing_key (id, version, sealed, owner, link, state, stamp) VALUES ($1, 1, $2, $1, $1, '', 0)",
                ] {
                    let insert = sql(insert).bind(format!("row-{n}"));
                    tx.execute(insert.bind(&sealed[..])).await?;
                }
            }
            Ok(())
        });
        done?;
        from = until;
    }
    Ok(())
}

/// A backup, its check, and its restore into a new store of the same kind.
async fn backup(url: &StoreUrl, dir: &Path, name: &str, keys: usize, out: Out) -> Result<Backed> {
    let identity = Identity::generate();
    let [signer, operator, officer] = [(); 3].map(|()| SigningKey::generate());
    let (signer, operator, officer) = (signer?.0, operator?.0, officer?.0);
    let path = dir.join(format!("{name}.age"));
    let begun = now();
    let file = std::io::BufWriter::new(std::fs::File::create(&path)?);
    let mut writer = Writer::begin(&[identity.recipient()], file)?;
    writer.zone("sam", Dump::open(url, "sam").await?).await?;
    let authority = Authority {
        operators: vec![operator.public().clone()],
        officers: vec![officer.public().clone()],
    };
    let made = writer.finish(UnixTime(BEGIN), authority, &signer)?;
    made.out
        .into_inner()
        .map_err(|e| e.into_error())?
        .sync_all()?;
    let wrote = begun.elapsed();
    for table in KEY_TABLES {
        ensure!(
            made.manifest.zones["sam"].rows.contains_key(table),
            "no {table}"
        );
    }
    let begun = now();
    let backup = Backup::open(&path, &identity, signer.public())?;
    let (target, schema) = match url {
        StoreUrl::Sqlite(_) => (StoreUrl::Sqlite(dir.join("restored.db")), "sam"),
        // Beside the one that it came from, on the same server.
        StoreUrl::Postgres(_) => (url.clone(), "sam_restored"),
    };
    let store = Store::open(&target, schema, &tables(), &SystemRandom).await?;
    let filled = backup
        .fill([("sam".to_owned(), store)].into(), None)
        .await?;
    filled.get("sam").context("no store")?.close().await;
    let bytes = std::fs::metadata(&path)?.len();
    let (backup_seconds, restore_seconds) = (wrote.as_secs_f64(), begun.elapsed().as_secs_f64());
    out.say(&format!(
        "{name:<10} backup of {keys} keys and the log: {backup_seconds:.1} s, {} MiB; check and restore into {name} {restore_seconds:.1} s",
        bytes >> 20
    ));
    Ok(Backed {
        keys,
        backup_seconds,
        restore_seconds,
        bytes,
    })
}
