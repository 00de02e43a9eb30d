//! How long one order takes when the store has grown, and what start and comparison with the log take then.
//!
//! Every key is made by an order of its own, with its row, its public key, its order's name and its entries in the log: the store is
//! what as many signers would leave behind. Only the socket is left out while it grows.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cm_api::KeyCreated;
use cm_core::backend::Backend;
use cm_soft::SoftBackend;
use core_types::{KeyAlg, Random as _, random::SystemRandom};
use serde::Serialize;

use super::super::measure::{mib, now, peak_kib, per_second, percentile, reset_peak};
use super::daemon::Daemon;
use crate::output::Out;

/// Keys among which the one to sign with is chosen anew for each order.
const CHOICE: usize = 2000;
/// How often, and how many times, a store is tried that is in use yet.
const TRY_EVERY: Duration = Duration::from_millis(50);
const TRIES: u32 = 100;
/// Orders for keys under way at a time.
const ASKERS: usize = 512;

/// What one order takes beside so many keys, and what the daemon's start takes.
#[derive(Debug, Serialize)]
pub(in crate::bench) struct Scale {
    store: &'static str,
    latency: Vec<Latency>,
    /// From opening the store to a module that takes orders, the comparison of every row with the log left out.
    start_seconds: f64,
    /// That comparison, which runs before the daemon serves and then now and then.
    compare_seconds: f64,
    /// Memory of the process at its most meanwhile, MiB.
    compare_peak_mib: f64,
    /// Orders while it runs, milliseconds.
    meanwhile_p50_ms: f64,
    meanwhile_p99_ms: f64,
}

/// One order, keys chosen at random from all ages.
#[derive(Debug, Serialize)]
struct Latency {
    keys: usize,
    p50_ms: f64,
    p99_ms: f64,
    /// How fast the keys since the last line were made.
    keys_per_second: f64,
}

/// Fills a store with so many keys and measures on the way.
pub(super) async fn run(
    dir: &Path,
    keys: usize,
    postgres: Option<&str>,
    span: Duration,
    out: Out,
) -> Result<Scale> {
    let backend: Arc<dyn Backend> = Arc::new(SoftBackend);
    let store = if postgres.is_some() {
        "PostgreSQL"
    } else {
        "SQLite"
    };
    let daemon = Daemon::start(dir, backend.clone(), postgres, false).await?;
    let alg = KeyAlg::P256.csr_alg();
    let (mut some, mut there): (Vec<KeyCreated>, usize) = (Vec::new(), 0);
    let mut latency = Vec::new();
    for wanted in marks(keys) {
        let begun = now();
        let made = fill(&daemon, wanted - there, CHOICE.min(wanted)).await?;
        let rate = per_second(wanted - there, begun.elapsed());
        there = wanted;
        // Old ones and new ones.
        some.truncate(CHOICE / 2);
        some.extend(made);
        shuffle(&mut some);
        let (_, times) = daemon.rate(&some, alg, 1, 1, span).await?;
        let line = Latency {
            keys: there,
            p50_ms: percentile(times.clone(), 50),
            p99_ms: percentile(times, 99),
            keys_per_second: rate,
        };
        out.say(&format!(
            "{store} with {:>9} keys: one order p50 {:>6.2} ms, p99 {:>6.2} ms   (made {:>6.0} keys/s)",
            line.keys, line.p50_ms, line.p99_ms, line.keys_per_second
        ));
        latency.push(line);
    }
    daemon.stop().await;
    let (daemon, start_seconds) = start_again(dir, &backend, postgres).await?;
    reset_peak()?;
    let begun = now();
    let compared = daemon.module.scrub().await;
    let compare_seconds = begun.elapsed().as_secs_f64();
    let compare_peak_mib = mib(peak_kib()?);
    let compared = compared.context("the comparison with the log")?;
    if compared.keys != keys as u64 || !compared.agrees() {
        bail!("the store isn't what was put in: {compared:?}");
    }
    let times = beside(&daemon, &some, span).await?;
    let scale = Scale {
        store,
        latency,
        start_seconds,
        compare_seconds,
        compare_peak_mib,
        meanwhile_p50_ms: percentile(times.clone(), 50),
        meanwhile_p99_ms: percentile(times, 99),
    };
    out.say(&format!(
        "{store} with {keys} keys: start {:.1} s, every row compared with the log {:.1} s ({:.0} MiB at most); an order meanwhile p50 \
         {:.2} ms, p99 {:.2} ms",
        scale.start_seconds,
        scale.compare_seconds,
        scale.compare_peak_mib,
        scale.meanwhile_p50_ms,
        scale.meanwhile_p99_ms
    ));
    daemon.stop().await;
    Ok(scale)
}

/// Starts it on its old store, and how long that took: the store is free a moment after the last connection has let go of it.
async fn start_again(
    dir: &Path,
    backend: &Arc<dyn Backend>,
    postgres: Option<&str>,
) -> Result<(Daemon, f64)> {
    let mut tries = 0;
    loop {
        let begun = now();
        match Daemon::start(dir, backend.clone(), postgres, false).await {
            Ok(daemon) => return Ok((daemon, begun.elapsed().as_secs_f64())),
            Err(error) if tries == TRIES => return Err(error),
            Err(_) => tries += 1,
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
}

/// Orders while every row is compared with the log.
async fn beside(daemon: &Daemon, keys: &[KeyCreated], span: Duration) -> Result<Vec<Duration>> {
    let module = daemon.module.clone();
    let compare = tokio::spawn(async move { module.scrub().await.map(drop) });
    let mut times = Vec::new();
    while times.is_empty() || !compare.is_finished() {
        let step = span.min(Duration::from_millis(500));
        let (_, some) = daemon
            .rate(keys, KeyAlg::P256.csr_alg(), 1, 1, step)
            .await?;
        times.extend(some);
    }
    compare.await?.context("the comparison with the log")?;
    Ok(times)
}

/// 1, 1,000, 1,000,000 and the number itself.
fn marks(keys: usize) -> Vec<usize> {
    let mut marks: Vec<usize> = [1, 1000, 1_000_000]
        .into_iter()
        .filter(|m| *m < keys)
        .collect();
    marks.push(keys);
    marks
}

/// Makes so many keys, and answers some of them.
async fn fill(daemon: &Daemon, keys: usize, some: usize) -> Result<Vec<KeyCreated>> {
    let left = Arc::new(AtomicUsize::new(keys));
    let every = (keys / some.max(1)).max(1);
    let askers: Vec<_> = (0..ASKERS.min(keys))
        .map(|_| {
            let (left, module, sam) = (left.clone(), daemon.module.clone(), daemon.sam.clone());
            tokio::spawn(async move {
                let one = |n: usize| n.checked_sub(1);
                let mut kept = Vec::new();
                while let Ok(number) = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one)
                {
                    let key = sam.key_without_socket(&module, KeyAlg::P256).await?;
                    if number % every == 0 {
                        kept.push(key);
                    }
                }
                anyhow::Ok(kept)
            })
        })
        .collect();
    let mut kept = Vec::new();
    for asker in askers {
        kept.extend(asker.await??);
    }
    Ok(kept)
}

fn shuffle(keys: &mut [KeyCreated]) {
    for i in (1..keys.len()).rev() {
        let mut drawn = [0; 8];
        SystemRandom.fill(&mut drawn);
        let bound = i as u64 + 1;
        let j = usize::try_from(u64::from_le_bytes(drawn) % bound).unwrap_or(0);
        keys.swap(i, j);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_read_at_one_a_thousand_and_a_million() {
        assert_eq!(marks(1), [1]);
        assert_eq!(marks(500), [1, 500]);
        assert_eq!(marks(1_000_000), [1, 1000, 1_000_000]);
        assert_eq!(marks(2_000_000), [1, 1000, 1_000_000, 2_000_000]);
    }
}
