//! The clock that is judged, with its fractions of a second.

use std::time::Duration;

use core_types::Clock as _;
use core_types::clock::SystemClock;

/// The machine's clock in more than whole seconds, which is all that [`core_types::Clock`] has: enough for expiry, too coarse
/// to see how far the clock is off.
pub trait FineClock: Send + Sync {
    /// What the clock says, as time since 1970 (UTC).
    fn wall(&self) -> Duration;

    /// Time that has passed since some moment, which nobody can set.
    fn passed(&self) -> Duration;
}

/// The machine's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct MachineClock;

impl FineClock for MachineClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "what is measured is this very clock, with its fraction"
    )]
    fn wall(&self) -> Duration {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.unwrap_or_default()
    }

    fn passed(&self) -> Duration {
        SystemClock.monotonic()
    }
}
