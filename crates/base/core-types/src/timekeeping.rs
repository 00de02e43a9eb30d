//! Whether the clock is good enough for new acts and orders (`sap.md` §9), by the same rule in every zone. Time decides expiry only,
//! so that nothing that was made before is touched by this.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{Clock, UnixTime};

/// How fast an ordinary quartz may run away once nobody corrects it, in milliseconds an hour (100 ppm).
const DRIFT: i64 = 360;
/// From this difference on, in milliseconds, the clock was set and didn't merely run: it is read in whole seconds.
const STEP: i64 = 2000;
/// How far an estimate may lie ahead of the clock, in seconds: further, and the clock was set back since.
const AHEAD: i64 = 1;

/// What the operator declares of the machine's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClockRule {
    /// Nobody keeps it right: for development. Acts and orders are made all the same.
    #[default]
    Unsynchronised,
    /// The largest error that is tolerated, in milliseconds.
    BoundMs(u32),
}

/// What the time daemon says of the clock's error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockEstimate {
    /// Largest error in milliseconds.
    pub error_ms: u32,
    /// When it was estimated.
    pub at: UnixTime,
}

/// The clock and the time that nobody can set, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// What the clock said.
    pub wall: UnixTime,
    /// What had passed.
    pub passed: Duration,
}

impl Beat {
    /// Reads both.
    pub fn read(clock: &dyn Clock) -> Self {
        Self {
            wall: clock.now(),
            passed: clock.monotonic(),
        }
    }

    /// Whether the clock was set between this moment and a later one. Small steps add up, as long as they are held
    /// against the same moment.
    pub fn was_set(self, later: Self) -> bool {
        let passed = later.passed.saturating_sub(self.passed).as_millis();
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        let shown = later
            .wall
            .0
            .saturating_sub(self.wall.0)
            .saturating_mul(1000);
        shown.saturating_sub(passed).saturating_abs() >= STEP
    }
}

/// State of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClockState {
    /// Declared as nobody's.
    Unsynchronised,
    /// Within the declared bound.
    Synchronised,
    /// Beyond it, or nobody knows: no new acts and no orders.
    #[serde(rename = "beyond-bound")]
    Beyond,
    /// It was set, and acts that were open then aren't void yet: nothing is made or approved until they are.
    Stepped,
}

impl ClockEstimate {
    /// Reads what an operator's script writes: the largest error in milliseconds, a blank, the time of the estimate in
    /// seconds since 1970. `None`: something else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let error_ms = words.next()?.parse().ok()?;
        let at = UnixTime(words.next()?.parse().ok()?);
        words.next().is_none().then_some(Self { error_ms, at })
    }

    /// The largest error at `now`, in milliseconds: nobody has corrected the clock since.
    pub fn error_at(self, now: UnixTime) -> i64 {
        let age = now.0.saturating_sub(self.at.0).max(0);
        i64::from(self.error_ms).saturating_add(age.saturating_mul(DRIFT) / 3600)
    }
}

impl ClockRule {
    /// What is declared, in milliseconds; nothing when nobody keeps the clock right.
    pub fn bound_ms(self) -> Option<u32> {
        match self {
            Self::Unsynchronised => None,
            Self::BoundMs(bound) => Some(bound),
        }
    }

    /// The state at `now`. An estimate gets worse with its age, so that a lost time server leaves hours, not days.
    pub fn judge(self, estimate: Option<ClockEstimate>, now: UnixTime) -> ClockState {
        let bound = match self {
            Self::Unsynchronised => return ClockState::Unsynchronised,
            Self::BoundMs(bound) => i64::from(bound),
        };
        let within = estimate
            .is_some_and(|e| now.0.saturating_sub(e.at.0) >= -AHEAD && e.error_at(now) <= bound);
        match within {
            true => ClockState::Synchronised,
            false => ClockState::Beyond,
        }
    }
}

impl ClockState {
    /// Whether new acts and orders may be made.
    pub fn is_good(self) -> bool {
        match self {
            Self::Unsynchronised | Self::Synchronised => true,
            Self::Beyond | Self::Stepped => false,
        }
    }

    /// The word for the audit log.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unsynchronised => "unsynchronised",
            Self::Synchronised => "synchronised",
            Self::Beyond => "beyond-bound",
            Self::Stepped => "stepped",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_000_000);

    fn judge(bound: u32, error_ms: u32, age: i64) -> ClockState {
        let at = NOW.plus(-age);
        ClockRule::BoundMs(bound).judge(Some(ClockEstimate { error_ms, at }), NOW)
    }

    #[test]
    fn a_bound_holds_to_the_millisecond_and_an_estimate_ages() {
        use ClockState::{Beyond, Synchronised};
        assert_eq!(judge(1000, 1000, 0), Synchronised);
        assert_eq!(judge(1000, 1001, 0), Beyond);
        // 100 ppm: 360 ms an hour.
        assert_eq!(judge(1000, 640, 3600), Synchronised);
        assert_eq!(judge(1000, 641, 3600), Beyond);
        assert_eq!(judge(1000, 0, 24 * 3600), Beyond);
        // Set back below the estimate.
        assert_eq!(judge(1000, 0, -1), Synchronised);
        assert_eq!(judge(1000, 0, -2), Beyond);
        assert_eq!(judge(u32::MAX, u32::MAX, i64::MAX), Beyond);
    }

    #[test]
    fn without_an_estimate_a_bound_is_not_met_and_development_goes_on() {
        let bound = ClockRule::BoundMs(u32::MAX);
        assert_eq!(bound.bound_ms(), Some(u32::MAX));
        assert_eq!(ClockRule::Unsynchronised.bound_ms(), None);
        assert_eq!(bound.judge(None, NOW), ClockState::Beyond);
        assert!(!bound.judge(None, NOW).is_good() && !ClockState::Stepped.is_good());
        let state = ClockRule::default().judge(None, NOW);
        assert_eq!(state, ClockState::Unsynchronised);
        assert!(state.is_good() && ClockState::Synchronised.is_good());
    }

    #[test]
    fn a_clock_that_was_set_differs_from_what_passed() {
        let start = Beat {
            wall: NOW,
            passed: Duration::from_secs(50),
        };
        let later = |shown: i64, passed: u64| Beat {
            wall: NOW.plus(shown),
            passed: start.passed + Duration::from_millis(passed),
        };
        for (shown, passed) in [(0, 0), (0, 1999), (1, 0), (3, 1001), (10_000, 10_000_000)] {
            assert!(!start.was_set(later(shown, passed)), "{shown} {passed}");
        }
        for (shown, passed) in [(0, 2000), (2, 0), (-2, 0), (3, 1000), (i64::MAX, 0)] {
            assert!(start.was_set(later(shown, passed)), "{shown} {passed}");
        }
    }

    #[test]
    fn an_estimate_is_two_numbers() {
        let read = ClockEstimate::parse("12 1000000\n");
        assert_eq!(
            read,
            Some(ClockEstimate {
                error_ms: 12,
                at: NOW
            })
        );
        for bad in ["", "12", "-1 5", "1 2 3", "a b", "1.5 2", "99999999999 1"] {
            assert_eq!(ClockEstimate::parse(bad), None, "{bad}");
        }
    }
}
