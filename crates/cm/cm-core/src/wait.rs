//! Waiting for a device that is away: an order whose right is spent waits nearly to its end, so that a moment without the
//! device costs seconds and no signature.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use core_types::UnixTime;

/// Seconds that one call of a device may take: so long before its end an order isn't tried again. As much as the SAM waits
/// beyond it.
pub(crate) const ONE_CALL: i64 = 10;

/// The first pause; each one after it is twice as long.
const FIRST: Duration = Duration::from_millis(50);
/// The longest pause: so late at most a device that came back is noticed.
const LONGEST: Duration = Duration::from_secs(1);

/// Lets time pass.
pub trait Pause: Send + Sync + 'static {
    /// Is over after this time.
    fn pause(&self, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// By the machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemPause;

impl Pause for SystemPause {
    fn pause(&self, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(tokio::time::sleep(time))
    }
}

/// Without any time passing; for tests, in which as many tries are made as the time would let.
#[derive(Debug, Clone, Copy, Default)]
pub struct AtOnce;

impl Pause for AtOnce {
    fn pause(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }
}

/// The pauses of one order. Bounded twice: by the clock, and by their own sum in case somebody sets the clock.
pub(crate) struct Pauses {
    last: UnixTime,
    left: Duration,
    next: Duration,
}

impl Pauses {
    /// For an order that ends at `end`.
    pub(crate) fn until(end: UnixTime, now: UnixTime) -> Self {
        let last = end.plus(-ONE_CALL);
        let left = u64::try_from(last.0.saturating_sub(now.0)).unwrap_or(0);
        Self {
            last,
            left: Duration::from_secs(left),
            next: FIRST,
        }
    }

    /// The next one; nothing when a try after it would come too late.
    pub(crate) fn another(&mut self, now: UnixTime) -> Option<Duration> {
        let pause = self.next;
        self.left = self.left.checked_sub(pause)?;
        self.next = (pause * 2).min(LONGEST);
        (now < self.last).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_000);

    #[test]
    fn an_order_is_tried_until_one_call_before_its_end_and_not_without_end() {
        let mut pauses = Pauses::until(NOW.plus(30), NOW);
        let all: Vec<_> = std::iter::from_fn(|| pauses.another(NOW)).collect();
        let millis: Vec<_> = all.iter().map(Duration::as_millis).collect();
        assert_eq!(millis[..6], [50, 100, 200, 400, 800, 1000]);
        // Also where the clock stands still.
        let sum: Duration = all.iter().sum();
        assert!(
            sum <= Duration::from_secs(20) && sum > Duration::from_secs(18),
            "{sum:?}"
        );
        // The tries themselves took the time.
        let mut pauses = Pauses::until(NOW.plus(30), NOW);
        assert!(pauses.another(NOW.plus(19)).is_some());
        assert!(pauses.another(NOW.plus(20)).is_none());
        for end in [0, 9, 10] {
            let mut none = Pauses::until(NOW.plus(end), NOW);
            assert!(none.another(NOW).is_none(), "{end}");
        }
    }
}
