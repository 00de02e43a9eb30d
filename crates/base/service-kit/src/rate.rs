//! Calls by caller: a bucket of tokens that refills with time.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use core_types::UnixTime;
use serde::{Deserialize, Serialize};

/// Most callers that are told apart at a time, if nothing else is said; all others share one bucket.
const MAX_CALLERS: usize = 10_000;
/// Tokens of one call, so that a second's share is a whole number.
const CALL: u64 = 60;

/// How often one caller may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Calls at once.
    pub burst: u32,
    /// Calls per minute in the long run.
    pub per_minute: u32,
}

impl Rate {
    /// As often as the machine can.
    pub const UNLIMITED: Self = Self {
        burst: u32::MAX,
        per_minute: u32::MAX,
    };

    fn full(self) -> u64 {
        u64::from(self.burst) * CALL
    }
}

/// How often one caller may do what should be rare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HourlyRate {
    /// Calls at once.
    pub burst: u32,
    /// Calls per hour in the long run.
    pub per_hour: u32,
}

/// Counts calls by caller, such as an address, a client or a person.
#[derive(Debug)]
pub struct RateLimit<K>(Mutex<Buckets<K>>);

#[derive(Debug)]
struct Buckets<K> {
    most: usize,
    by_caller: HashMap<K, Bucket>,
    others: Option<Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    rate: Rate,
    tokens: u64,
    at: UnixTime,
}

impl Bucket {
    fn full(rate: Rate, now: UnixTime) -> Self {
        Self {
            rate,
            tokens: rate.full(),
            at: now,
        }
    }

    fn refilled(self, now: UnixTime) -> Self {
        // A clock that went back refills nothing.
        let seconds = u64::try_from(now.0.saturating_sub(self.at.0)).unwrap_or(0);
        let share = seconds.saturating_mul(u64::from(self.rate.per_minute));
        Self {
            tokens: self.tokens.saturating_add(share).min(self.rate.full()),
            at: now,
            ..self
        }
    }
}

impl<K> Default for RateLimit<K> {
    fn default() -> Self {
        Self::telling_apart(MAX_CALLERS)
    }
}

impl<K> RateLimit<K> {
    /// One that tells so many callers apart at a time; all others share one bucket.
    pub fn telling_apart(most: usize) -> Self {
        Self(Mutex::new(Buckets {
            most,
            by_caller: HashMap::new(),
            others: None,
        }))
    }
}

impl<K: Eq + Hash + Clone> RateLimit<K> {
    /// Counts one call of a caller who may call at this rate.
    ///
    /// # Errors
    /// Seconds to wait, when the caller has used up its calls.
    pub fn take(&self, caller: &K, rate: Rate, now: UnixTime) -> Result<(), u32> {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let buckets = &mut *guard;
        let known = buckets.by_caller.contains_key(caller);
        if buckets.by_caller.len() >= buckets.most && !known {
            buckets
                .by_caller
                .retain(|_, b| b.refilled(now).tokens < b.rate.full());
        }
        let full = Bucket::full(rate, now);
        let bucket = if known || buckets.by_caller.len() < buckets.most {
            buckets.by_caller.entry(caller.clone()).or_insert(full)
        } else {
            buckets.others.get_or_insert(full)
        };
        bucket.rate = rate;
        *bucket = bucket.refilled(now);
        if bucket.tokens < CALL {
            let missing = CALL - bucket.tokens;
            let wait = missing.div_ceil(u64::from(rate.per_minute).max(1));
            return Err(u32::try_from(wait).unwrap_or(u32::MAX));
        }
        bucket.tokens -= CALL;
        Ok(())
    }

    /// A call that was counted doesn't count after all.
    pub fn give_back(&self, caller: &K) {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let buckets = &mut *guard;
        let bucket = buckets.by_caller.get_mut(caller);
        if let Some(bucket) = bucket.or(buckets.others.as_mut()) {
            bucket.tokens = (bucket.tokens + CALL).min(bucket.rate.full());
        }
    }
}

/// Counts what should be rare, as [`RateLimit`] does, over hours.
#[derive(Debug)]
pub struct HourlyLimit<K>(RateLimit<K>);

impl<K> Default for HourlyLimit<K> {
    fn default() -> Self {
        Self(RateLimit::default())
    }
}

impl<K> HourlyLimit<K> {
    /// As [`RateLimit::telling_apart`].
    pub fn telling_apart(most: usize) -> Self {
        Self(RateLimit::telling_apart(most))
    }
}

impl<K: Eq + Hash + Clone> HourlyLimit<K> {
    /// Counts one call of a caller who may call at this rate.
    ///
    /// # Errors
    /// Seconds to wait, when the caller has used up its calls.
    pub fn take(&self, caller: &K, rate: HourlyRate, now: UnixTime) -> Result<(), u32> {
        // The same sum with a minute where a second stands.
        let minutes = UnixTime(now.0.div_euclid(60));
        let rate = Rate {
            burst: rate.burst,
            per_minute: rate.per_hour,
        };
        let taken = self.0.take(caller, rate, minutes);
        taken.map_err(|minutes| minutes.saturating_mul(60))
    }
}

/// The caller that an address stands for: an IPv6 subscriber has a whole /64.
pub fn network(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: UnixTime = UnixTime(1000);

    fn rate(burst: u32, per_minute: u32) -> Rate {
        Rate { burst, per_minute }
    }

    #[test]
    fn calls_beyond_the_burst_wait_for_their_share() {
        let limit = RateLimit::default();
        let two = rate(2, 30);
        assert_eq!(limit.take(&"a", two, T), Ok(()));
        assert_eq!(limit.take(&"a", two, T), Ok(()));
        assert_eq!(limit.take(&"a", two, T), Err(2));
        assert_eq!(limit.take(&"b", two, T), Ok(()));
        assert_eq!(limit.take(&"a", two, T.plus(1)), Err(1));
        assert_eq!(limit.take(&"a", two, T.plus(2)), Ok(()));
        assert_eq!(limit.take(&"a", two, T.plus(-500)), Err(2));
    }

    #[test]
    fn what_is_rare_comes_back_over_hours() {
        let limit = HourlyLimit::default();
        let two = HourlyRate {
            burst: 2,
            per_hour: 4,
        };
        assert_eq!(limit.take(&"a", two, UnixTime(0)), Ok(()));
        assert_eq!(limit.take(&"a", two, UnixTime(0)), Ok(()));
        assert_eq!(limit.take(&"a", two, UnixTime(0)), Err(900));
        assert_eq!(limit.take(&"b", two, UnixTime(0)), Ok(()));
        assert_eq!(limit.take(&"a", two, UnixTime(899)), Err(60));
        assert_eq!(limit.take(&"a", two, UnixTime(900)), Ok(()));
        assert_eq!(limit.take(&"a", two, UnixTime(900)), Err(900));
    }

    #[test]
    fn a_call_that_was_given_back_is_there_again_and_no_more_than_that() {
        let limit = RateLimit::default();
        let one = rate(1, 1);
        for _ in 0..3 {
            limit.give_back(&"a");
            assert_eq!(limit.take(&"a", one, T), Ok(()));
            assert!(limit.take(&"a", one, T).is_err());
            limit.give_back(&"a");
            limit.give_back(&"a");
            assert_eq!(limit.take(&"a", one, T), Ok(()));
            assert!(limit.take(&"a", one, T).is_err());
        }
        assert_eq!(limit.take(&"b", Rate::UNLIMITED, T), Ok(()));
    }

    #[test]
    fn one_subscriber_is_one_caller_and_memory_is_bounded() {
        let ip = |text: &str| network(text.parse().unwrap());
        assert_eq!(ip("2001:db8::1"), ip("2001:db8::2"));
        assert_ne!(ip("2001:db8::1"), ip("2001:db8:0:1::1"));
        assert_eq!(ip("::ffff:192.0.2.1"), ip("192.0.2.1"));
        assert_ne!(ip("192.0.2.1"), ip("192.0.2.2"));
        let (limit, one) = (RateLimit::default(), rate(1, 1));
        for n in 0..MAX_CALLERS + 10 {
            let _ = limit.take(&n, one, T);
        }
        assert!(limit.0.lock().unwrap().by_caller.len() <= MAX_CALLERS);
        let newcomer = MAX_CALLERS + 11;
        assert!(
            limit.take(&newcomer, one, T).is_err(),
            "newcomers share what is left"
        );
        assert_eq!(limit.take(&newcomer, one, T.plus(60)), Ok(()));
    }
}
