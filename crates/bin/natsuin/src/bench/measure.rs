//! Clocks, counters and statistics of all measurements.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Name of the threads that stand for everybody outside the service; the kernel keeps 15 characters.
pub(super) const CLIENT_THREADS: &str = "bench-client";

#[expect(clippy::disallowed_methods, reason = "a benchmark measures")]
pub(super) fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a benchmark are small"
)]
pub(super) fn f64_of(count: usize) -> f64 {
    count as f64
}

pub(super) fn per_second(count: usize, elapsed: Duration) -> f64 {
    f64_of(count) / elapsed.as_secs_f64().max(1e-9)
}

pub(super) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

pub(super) fn percentile(mut all: Vec<Duration>, percent: usize) -> f64 {
    all.sort_unstable();
    let at = (all.len() * percent / 100).min(all.len().saturating_sub(1));
    all.get(at).map_or(0.0, |d| millis(*d))
}

/// Sets the high-water mark of this process's memory to what it uses now (proc(5), `clear_refs`).
pub(super) fn reset_peak() -> Result<()> {
    std::fs::write("/proc/self/clear_refs", "5")
        .context("the memory mark can't be reset on this system")
}

pub(super) fn peak_kib() -> Result<u64> {
    memory("VmHWM:")
}

pub(super) fn resident_kib() -> Result<u64> {
    memory("VmRSS:")
}

fn memory(name: &'static str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|l| l.starts_with(name)).context(name)?;
    Ok(line
        .split_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "memory in KiB is far below 2^52"
)]
pub(super) fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// CPU time, user and system, since the process began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cpu {
    /// Of everything that isn't a client.
    pub(super) service: Duration,
    /// Of the threads called [`CLIENT_THREADS`].
    pub(super) client: Duration,
}

impl Cpu {
    /// CPU time until now.
    pub(super) fn so_far() -> Result<Self> {
        let whole = ticks("/proc/self/stat")?;
        let mut client = Duration::ZERO;
        for task in std::fs::read_dir("/proc/self/task")? {
            let task = task?.path();
            // A thread may end while the list is read; its time then stays with the service.
            let name = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
            if name.trim_end() == CLIENT_THREADS {
                client += ticks(&task.join("stat").to_string_lossy()).unwrap_or_default();
            }
        }
        Ok(Self {
            service: whole.saturating_sub(client),
            client,
        })
    }

    /// What was used after `before`.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            service: self.service.saturating_sub(before.service),
            client: self.client.saturating_sub(before.client),
        }
    }
}

/// CPU time of a process or thread (proc(5): fields 14 and 15, in hundredths of a second).
fn ticks(path: &str) -> Result<Duration> {
    let stat = std::fs::read_to_string(path).context("CPU time can't be read on this system")?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |i: usize| {
        fields
            .get(i)
            .and_then(|f| f.parse::<u64>().ok())
            .unwrap_or(0)
    };
    Ok(Duration::from_millis((ticks(11) + ticks(12)) * 10))
}
