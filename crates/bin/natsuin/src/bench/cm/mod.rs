//! `natsuin bench cm`: what the cryptographic module costs beside its back end alone.
//!
//! *Alone* is the library itself for software, and bare sessions of the PKCS#11 library for tokens. The *daemon* stands behind its
//! socket with mutual TLS, in this process, on SQLite with durable commits: admission of the order, seals, the key's counters, the
//! audit row, the commit and the way there and back.

mod bare;
mod daemon;
mod drill;
mod scale;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cm_api::KeyCreated;
use cm_core::backend::{Backend, Fault, PrivateKey};
use cm_pkcs11::{Options, Pkcs11Backend, WrappedKeys};
use cm_soft::SoftBackend;
use core_types::{KeyAlg, SecretBytes, SigAlg};
use serde::Serialize;

use self::bare::Bare;
use self::daemon::Daemon;
use self::drill::Recovery;
use self::scale::Scale;
use super::measure::{millis, now, per_second, percentile};
use crate::output::Out;

/// So many kinds are measured at full length when nobody names any; more of them share that time.
const AT_FULL_LENGTH: u32 = 4;
/// Signatures of one order, when many are ordered at once.
const BATCH: usize = 100;
/// More keys than a session holds unwrapped, so that each order meets one that isn't there.
const MANY: usize = 40;
/// The token's label, and its PIN.
const LABEL: &str = "natsuin-bench";

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct CmArgs {
    /// PKCS#11 module, such as SoftHSM2's: its token is measured too, with keys in it and wrapped by it. A token with the
    /// label natsuin-bench is made if there is none. May be given more than once.
    #[arg(long, value_name = "MODULE")]
    pub pkcs11: Vec<PathBuf>,
    /// The module of the tests that misbehaves on order (libpkcs11_faults.so): how long each fault of the tokens lasts.
    #[arg(long, value_name = "MODULE", requires = "pkcs11")]
    pub faults: Option<PathBuf>,
    /// Kinds of key, such as p-256,rsa-3072: each measurement then takes --seconds. Without it every kind that is to be had, and as much
    /// less for each as makes all of them take as long as four.
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind, conflicts_with = "keys")]
    pub kinds: Vec<KeyAlg>,
    /// Kinds that are experimental too (ML-DSA).
    #[arg(long, conflicts_with = "keys")]
    pub experimental: bool,
    /// Only this: make so many keys of P-256 in software, and measure one order at 1, 1,000 and 1,000,000 of them.
    #[arg(long, value_name = "N", conflicts_with = "pkcs11")]
    pub keys: Option<usize>,
    /// The store for --keys, a PostgreSQL database that is empty (its address, or `@FILE` with it); without it SQLite.
    #[arg(long, value_name = "URL", requires = "keys")]
    pub store: Option<String>,
    /// The drill itself, with its control file; for the process that the command starts.
    #[arg(long, hide = true, requires = "pkcs11")]
    pub drill: Option<PathBuf>,
}

/// A kind of key by its name.
fn kind(name: &str) -> Result<KeyAlg, String> {
    let known = KeyAlg::ALL.into_iter().find(|alg| alg.name() == name);
    known.ok_or_else(|| format!("kinds are {}", KeyAlg::ALL.map(KeyAlg::name).join(", ")))
}

impl CmArgs {
    /// Which kinds are measured, and how long each measurement takes.
    fn plan(&self, span: Duration) -> Plan {
        let experimental = self.experimental;
        if !self.kinds.is_empty() {
            return Plan {
                kinds: self.kinds.clone(),
                span,
                experimental,
            };
        }
        let all = KeyAlg::ALL.into_iter();
        let kinds: Vec<_> = all
            .filter(|alg| experimental || !alg.experimental())
            .collect();
        let count = u32::try_from(kinds.len()).unwrap_or(u32::MAX);
        Plan {
            kinds,
            span: span * AT_FULL_LENGTH / count.max(AT_FULL_LENGTH),
            experimental,
        }
    }
}

/// What is measured of each back end.
struct Plan {
    kinds: Vec<KeyAlg>,
    span: Duration,
    experimental: bool,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Results {
    All {
        schema: &'static str,
        cores: usize,
        /// How long each measurement took.
        seconds: f64,
        rows: Vec<Row>,
        drill: Vec<Recovery>,
    },
    Scale {
        schema: &'static str,
        cores: usize,
        scale: Scale,
    },
    Drill(Vec<Recovery>),
}

const SCHEMA: &str = "natsuin.bench-cm/3";

/// One back end and kind of key. Rates are signatures a second, times milliseconds of one order from request to answer.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    backend: String,
    key: KeyAlg,
    /// The back end alone, in one thread or session.
    alone_one: f64,
    /// In as many as the machine has cores.
    alone_all: f64,
    /// Orders of one signature, one after the other.
    daemon_one: f64,
    /// Four of them for each core at a time.
    daemon_all: f64,
    /// Orders of 100 signatures, two at a time.
    daemon_batch: f64,
    /// One order, one after the other.
    p50_ms: f64,
    p99_ms: f64,
    /// One order, four for each core at a time.
    loaded_p50_ms: f64,
    loaded_p99_ms: f64,
    /// The daemon's orders of one, and its batches, beside the back end alone, all on all cores.
    ratio_one: f64,
    ratio_batch: f64,
    /// One order when every one is for another of many keys: what unwrapping costs, or finding a key in the token. P-256 only.
    other_key_p50_ms: Option<f64>,
    generate_ms: f64,
}

/// Measures, and prints as it goes.
pub(super) async fn run(span: Duration, args: CmArgs, out: Out) -> Result<Results> {
    let cores = service_kit::cores();
    let scratch = tempfile::Builder::new()
        .prefix("natsuin-bench-")
        .tempdir()?;
    let dir = scratch.path();
    if let (Some(control), Some(library)) = (&args.drill, args.pkcs11.first()) {
        let rows = drill::here(dir, control, library.clone()).await?;
        return Ok(Results::Drill(rows));
    }
    if let Some(keys) = args.keys {
        let store = args.store.as_deref().map(crate::stores::address);
        let store = store.transpose()?;
        let scale = scale::run(dir, keys.max(1), store.as_deref(), span, out).await?;
        return Ok(Results::Scale {
            schema: SCHEMA,
            cores,
            scale,
        });
    }
    let plan = args.plan(span);
    let seconds = plan.span.as_secs_f64();
    out.say(&format!(
        "{cores} cores; the daemon behind its socket, mutual TLS over loopback; SQLite, durable commits; batches of {BATCH}; {seconds:.1} s for \
         each measurement"
    ));
    let mut rows = Vec::new();
    let software = |alg, threads| Ok(Some(alone_in_software(alg, threads, plan.span)?));
    let backend: Arc<dyn Backend> = Arc::new(SoftBackend);
    all_kinds(dir, "software", backend, &software, &plan, out, &mut rows).await?;
    for library in &args.pkcs11 {
        let options = token(library.clone());
        Pkcs11Backend::initialise(&options)?;
        let name = short_name(library);
        let bare = Bare::open(library, LABEL, LABEL)?;
        let alone = |alg, sessions| bare.rate(alg, sessions, plan.span);
        let backend = Arc::new(Pkcs11Backend::open(&options)?);
        let named = format!("{name} token");
        all_kinds(dir, &named, backend, &alone, &plan, out, &mut rows).await?;
        let named = format!("{name} wrapped");
        let wrapped = match WrappedKeys::open(Pkcs11Backend::open(&options)?, None) {
            Ok(wrapped) => wrapped,
            Err(Fault::Unfit(why)) => {
                out.say(&format!("{named:<17} not to be had: {why}"));
                continue;
            }
            Err(fault) => return Err(fault.into()),
        };
        all_kinds(
            dir,
            &named,
            Arc::new(wrapped),
            &alone,
            &plan,
            out,
            &mut rows,
        )
        .await?;
    }
    let mut recoveries = Vec::new();
    if let Some(faulty) = &args.faults {
        for library in &args.pkcs11 {
            out.say(&format!("faults of {}", short_name(library)));
            recoveries.extend(drill::run(faulty, library, out)?);
        }
    }
    Ok(Results::All {
        schema: SCHEMA,
        cores,
        seconds,
        rows,
        drill: recoveries,
    })
}

/// The token that is measured.
fn token(library: PathBuf) -> Options {
    Options {
        module: library,
        label: LABEL.to_owned(),
        serial: None,
        pin: SecretBytes::from(LABEL.to_owned()),
        declaration: None,
    }
}

/// What a library's file is called, without what all are called.
fn short_name(library: &Path) -> String {
    let name = library.file_stem().unwrap_or_default().to_string_lossy();
    let name = name.strip_prefix("lib").unwrap_or(&name);
    name.strip_suffix("_pkcs11").unwrap_or(name).to_owned()
}

type Alone<'a> = dyn Fn(KeyAlg, usize) -> Result<Option<f64>> + 'a;

async fn all_kinds(
    dir: &Path,
    name: &str,
    backend: Arc<dyn Backend>,
    alone: &Alone<'_>,
    plan: &Plan,
    out: Out,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let dir = dir.join(name.replace(' ', "-"));
    let daemon = Daemon::start(&dir, backend, None, plan.experimental).await?;
    for alg in plan.kinds.iter().copied() {
        let Some(row) = row(&daemon, name, alg, alone, plan.span).await? else {
            out.say(&format!("{name:<17} {:<9} not to be had", alg.name()));
            continue;
        };
        out.say(&format!(
            "{name:<17} {:<9} alone {:>7.0}/s, all cores {:>7.0}/s   orders of one {:>6.0}/s, p50 {:>6.2} ms, p99 {:>6.2} ms; all \
             cores {:>6.0}/s, p50 {:>6.2} ms, p99 {:>6.2} ms, ratio {:>4.2}   batches {:>7.0}/s, ratio {:>4.2}   generate {:>7.1} ms",
            alg.name(),
            row.alone_one,
            row.alone_all,
            row.daemon_one,
            row.p50_ms,
            row.p99_ms,
            row.daemon_all,
            row.loaded_p50_ms,
            row.loaded_p99_ms,
            row.ratio_one,
            row.daemon_batch,
            row.ratio_batch,
            row.generate_ms
        ));
        if let Some(other) = row.other_key_p50_ms {
            out.say(&format!(
                "{name:<17} {:<9} the same key {:>6.2} ms, every order another key {other:>6.2} ms (p50)",
                alg.name(),
                row.p50_ms
            ));
        }
        rows.push(row);
    }
    daemon.stop().await;
    Ok(())
}

async fn row(
    daemon: &Daemon,
    name: &str,
    alg: KeyAlg,
    alone: &Alone<'_>,
    span: Duration,
) -> Result<Option<Row>> {
    let cores = service_kit::cores();
    let begun = now();
    let Some(key) = daemon.key(alg).await? else {
        return Ok(None);
    };
    let generate_ms = millis(begun.elapsed());
    let sig = alg.csr_alg();
    let one = alone(alg, 1)?.context("the back end alone makes no such key")?;
    let all = alone(alg, cores)?.context("the back end alone makes no such key")?;
    let key = [key];
    let (daemon_one, times) = daemon.rate(&key, sig, 1, 1, span).await?;
    let (daemon_all, loaded) = daemon.rate(&key, sig, 1, cores * 4, span).await?;
    let (daemon_batch, _) = daemon.rate(&key, sig, BATCH, 2, span).await?;
    let other_key_p50_ms = match alg {
        KeyAlg::P256 => Some(every_order_another(daemon, sig, span).await?),
        _ => None,
    };
    Ok(Some(Row {
        backend: name.to_owned(),
        key: alg,
        alone_one: one,
        alone_all: all,
        daemon_one,
        daemon_all,
        daemon_batch,
        p50_ms: percentile(times.clone(), 50),
        p99_ms: percentile(times, 99),
        loaded_p50_ms: percentile(loaded.clone(), 50),
        loaded_p99_ms: percentile(loaded, 99),
        ratio_one: daemon_all / all.max(1e-9),
        ratio_batch: daemon_batch / all.max(1e-9),
        other_key_p50_ms,
        generate_ms,
    }))
}

/// One order after the other, each for the next of [`MANY`] keys.
async fn every_order_another(daemon: &Daemon, sig: SigAlg, span: Duration) -> Result<f64> {
    let mut keys: Vec<KeyCreated> = Vec::new();
    for _ in 0..MANY {
        keys.push(daemon.key(KeyAlg::P256).await?.context("a key of P-256")?);
    }
    let (_, times) = daemon.rate(&keys, sig, 1, 1, span).await?;
    Ok(percentile(times, 50))
}

/// The library's own signing.
fn alone_in_software(alg: KeyAlg, threads: usize, span: Duration) -> Result<f64> {
    let made = SoftBackend.generate(alg)?;
    let key: Arc<dyn PrivateKey> = Arc::from(SoftBackend.load(alg, &made.material)?);
    let sig = alg.csr_alg();
    let begun = now();
    let threads: Vec<_> = (0..threads)
        .map(|_| {
            let key = key.clone();
            std::thread::spawn(move || {
                let mut count = 0_usize;
                while begun.elapsed() < span {
                    let message = sig.dtbs(&count.to_be_bytes());
                    if key.sign(sig, &message).is_err() {
                        break;
                    }
                    count += 1;
                }
                count
            })
        })
        .collect();
    let count = threads.into_iter().filter_map(|t| t.join().ok()).sum();
    Ok(per_second(count, begun.elapsed()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        cm: CmArgs,
    }

    #[test]
    fn every_kind_is_measured_in_the_time_of_four_and_named_ones_at_full_length() {
        let span = Duration::from_secs(7);
        let plan = |args: &[&str]| {
            let args = std::iter::once("cm").chain(args.iter().copied());
            Only::try_parse_from(args).map(|only| only.cm.plan(span))
        };
        let all = plan(&[]).unwrap();
        assert_eq!(all.kinds.len(), 7);
        assert!(all.kinds.iter().all(|alg| !alg.experimental()));
        assert_eq!(all.span, Duration::from_secs(4));
        let more = plan(&["--experimental"]).unwrap();
        assert_eq!(more.kinds, KeyAlg::ALL);
        let named = plan(&["--kinds", "rsa-4096,ed25519"]).unwrap();
        assert_eq!(named.kinds, [KeyAlg::Rsa4096, KeyAlg::Ed25519]);
        assert_eq!(named.span, span);
        assert!(plan(&["--kinds", "dsa"]).is_err());
    }
}
