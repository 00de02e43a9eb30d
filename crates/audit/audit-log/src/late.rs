//! Whether entries get their places. What stays without one is under no checkpoint: no witness has seen it, and nobody who follows
//! the log gets it. So whoever keeps the sequencer from its work, by a lock or a trigger, must not keep a zone that goes on (I5).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How long the sequencer may take for what waits, its tries together, before nothing more is written; six intervals, if those are
/// longer. A standby is promoted within it, and a database that is away for longer can't be written anyway.
const LATEST: Duration = Duration::from_secs(120);

/// What the writer of a log knows of its sequencer, once that runs. A log without one is never late.
#[derive(Debug, Default)]
pub(crate) struct Late {
    /// When the first run began that gave not everything its place: milliseconds of the monotonic clock, and one; 0: none.
    since: AtomicU64,
    /// Some got theirs, or a witness was asked, since it was last looked.
    moved: AtomicBool,
    is_late: AtomicBool,
}

impl Late {
    /// A run begins. `now`: of a clock that nobody sets.
    pub(crate) fn begins(&self, now: Duration) {
        let now = millis(now).saturating_add(1);
        // An earlier one counts, if it hasn't come to its end.
        let _ = self
            .since
            .compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Some entries got their places, or a witness was asked: with many it takes longer, and nothing is wrong.
    pub(crate) fn moves(&self) {
        self.moved.store(true, Ordering::SeqCst);
    }

    /// Everything that was written before has its place, is in the witness's file, and the witnesses were asked.
    pub(crate) fn ends(&self) {
        self.since.store(0, Ordering::SeqCst);
        self.is_late.store(false, Ordering::SeqCst);
    }

    /// Looks whether it is too late by now. `every`: the interval between runs.
    pub(crate) fn look(&self, now: Duration, every: Duration) -> bool {
        let moved = self.moved.swap(false, Ordering::SeqCst);
        // Once it is late, only a run that comes to its end makes it good: one that hangs behind the places doesn't.
        if moved && !self.is_late() && self.since.load(Ordering::SeqCst) > 0 {
            let now = millis(now).saturating_add(1);
            self.since.store(now, Ordering::SeqCst);
        }
        let since = self.since.load(Ordering::SeqCst);
        let most = millis(patience(every));
        let is_late = since > 0 && millis(now).saturating_sub(since - 1) >= most;
        self.is_late.store(is_late, Ordering::SeqCst);
        is_late
    }

    /// Whether nothing may be written.
    pub(crate) fn is_late(&self) -> bool {
        self.is_late.load(Ordering::SeqCst)
    }
}

/// How long entries may wait, and a run may take. `every`: the interval between runs.
pub(crate) fn patience(every: Duration) -> Duration {
    LATEST.max(every.saturating_mul(6))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFTEN: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_is_late_two_minutes_after_the_first_run_that_did_not_end_well() {
        let late = Late::default();
        assert!(!late.look(at(9_999), OFTEN), "no sequencer");
        late.begins(at(0));
        assert!(!late.look(at(119), OFTEN));
        // Further runs don't put it off.
        late.begins(at(119));
        assert!(!late.is_late());
        assert!(late.look(at(120), OFTEN) && late.is_late());
        late.ends();
        assert!(!late.is_late() && !late.look(at(500), OFTEN));
        // Between two runs nothing waits that the next one doesn't place.
        late.begins(at(9_999));
        assert!(!late.look(at(10_000), OFTEN));
    }

    #[test]
    fn a_run_that_gets_on_may_take_long() {
        let late = Late::default();
        late.begins(at(0));
        for minute in 1..60 {
            late.moves();
            assert!(!late.look(at(60 * minute), OFTEN));
        }
        assert!(!late.look(at(60 * 60), OFTEN));
        assert!(late.look(at(61 * 60), OFTEN), "until it doesn't");
        late.moves();
        assert!(late.look(at(61 * 60), OFTEN), "it has to end well first");
    }

    #[test]
    fn long_intervals_have_longer() {
        let late = Late::default();
        late.begins(at(7));
        assert!(!late.look(at(366), at(60)));
        assert!(late.look(at(367), at(60)));
    }
}
