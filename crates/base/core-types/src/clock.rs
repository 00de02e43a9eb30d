//! Time as an argument. UTC seconds since 1970; used for expiry only, never for single use.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// UTC seconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(pub i64);

impl UnixTime {
    /// This time moved by `seconds`, saturating at the ends of the range.
    #[must_use]
    pub fn plus(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Reads the form that [`UnixTime::rfc3339`] writes.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let format = &time::format_description::well_known::Rfc3339;
        time::OffsetDateTime::parse(text, format)
            .ok()
            .map(|t| Self(t.unix_timestamp()))
    }

    /// RFC 3339 in UTC, such as `2026-11-22T05:05:12Z`.
    pub fn rfc3339(self) -> String {
        let format =
            time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
        time::OffsetDateTime::from_unix_timestamp(self.0)
            .ok()
            .and_then(|t| t.format(&format).ok())
            .unwrap_or_else(|| format!("@{}", self.0))
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// The current time.
    fn now(&self) -> UnixTime;

    /// Time that has passed since some moment, which nobody can set: what [`Self::now`] is held against to see that it
    /// was set. It may stand still while the machine sleeps.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock; only composition roots name it.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the wall clock"
    )]
    fn now(&self) -> UnixTime {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        UnixTime(since.map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX)))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the monotonic clock"
    )]
    fn monotonic(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
}

/// A clock that stands still until it is moved; for tests.
#[derive(Debug)]
pub struct ManualClock {
    wall: AtomicI64,
    passed: AtomicU64,
}

impl ManualClock {
    /// Starts at `time`.
    pub fn at(time: UnixTime) -> Self {
        Self {
            wall: AtomicI64::new(time.0),
            passed: AtomicU64::new(0),
        }
    }

    /// Lets `seconds` pass; if negative, as [`Self::set`].
    pub fn advance(&self, seconds: i64) {
        self.set(seconds);
        let passed = u64::try_from(seconds).unwrap_or(0);
        self.passed.fetch_add(passed, Ordering::SeqCst);
    }

    /// Somebody sets the clock by `seconds`, forward or back, while no time passes.
    pub fn set(&self, seconds: i64) {
        self.wall.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixTime {
        UnixTime(self.wall.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.passed.load(Ordering::SeqCst))
    }
}
