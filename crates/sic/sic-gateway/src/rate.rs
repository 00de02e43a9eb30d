//! Calls per remote address: a bucket of tokens that refills with time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use core_types::UnixTime;

/// Most addresses that are told apart at a time; all others share one bucket.
const MAX_ADDRESSES: usize = 10_000;

/// How often one address may call. One approval takes four calls, one enrolment five.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Calls at once.
    pub burst: u32,
    /// Calls per minute in the long run.
    pub per_minute: u32,
}

impl Default for Rate {
    fn default() -> Self {
        Self {
            burst: 60,
            per_minute: 120,
        }
    }
}

/// Counts calls by address.
#[derive(Debug)]
pub struct RateLimit {
    rate: Rate,
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    by_address: HashMap<IpAddr, Bucket>,
    others: Option<Bucket>,
}

/// Tokens in sixtieths of a call, so that a second's share is a whole number.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: u64,
    at: UnixTime,
}

impl RateLimit {
    /// A limit with nothing counted so far.
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            buckets: Mutex::new(Buckets::default()),
        }
    }

    /// Counts one call.
    ///
    /// # Errors
    /// Seconds to wait, when the address has used up its calls.
    pub fn take(&self, addr: IpAddr, now: UnixTime) -> Result<(), u32> {
        let full = Bucket {
            tokens: u64::from(self.rate.burst) * 60,
            at: now,
        };
        let mut guard = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let buckets = &mut *guard;
        let addr = network(addr);
        if buckets.by_address.len() >= MAX_ADDRESSES && !buckets.by_address.contains_key(&addr) {
            buckets
                .by_address
                .retain(|_, b| self.refilled(*b, now).tokens < full.tokens);
        }
        let room =
            buckets.by_address.len() < MAX_ADDRESSES || buckets.by_address.contains_key(&addr);
        let bucket = if room {
            buckets.by_address.entry(addr).or_insert(full)
        } else {
            buckets.others.get_or_insert(full)
        };
        *bucket = self.refilled(*bucket, now);
        if bucket.tokens < 60 {
            let missing = 60 - bucket.tokens;
            let wait = missing.div_ceil(u64::from(self.rate.per_minute).max(1));
            return Err(u32::try_from(wait).unwrap_or(u32::MAX));
        }
        bucket.tokens -= 60;
        Ok(())
    }

    fn refilled(&self, bucket: Bucket, now: UnixTime) -> Bucket {
        // A clock that went back refills nothing.
        let seconds = u64::try_from(now.0.saturating_sub(bucket.at.0)).unwrap_or(0);
        let share = seconds.saturating_mul(u64::from(self.rate.per_minute));
        let most = u64::from(self.rate.burst) * 60;
        Bucket {
            tokens: bucket.tokens.saturating_add(share).min(most),
            at: now,
        }
    }
}

/// An IPv6 subscriber has a whole /64.
fn network(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: UnixTime = UnixTime(1000);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn calls_beyond_the_burst_wait_for_their_share() {
        let limit = RateLimit::new(Rate {
            burst: 2,
            per_minute: 30,
        });
        assert_eq!(limit.take(ip("192.0.2.1"), T), Ok(()));
        assert_eq!(limit.take(ip("192.0.2.1"), T), Ok(()));
        assert_eq!(limit.take(ip("192.0.2.1"), T), Err(2));
        assert_eq!(limit.take(ip("192.0.2.2"), T), Ok(()));
        assert_eq!(limit.take(ip("192.0.2.1"), T.plus(1)), Err(1));
        assert_eq!(limit.take(ip("192.0.2.1"), T.plus(2)), Ok(()));
        assert_eq!(limit.take(ip("192.0.2.1"), T.plus(-500)), Err(2));
    }

    #[test]
    fn one_subscriber_has_one_bucket_and_memory_is_bounded() {
        let limit = RateLimit::new(Rate {
            burst: 1,
            per_minute: 1,
        });
        assert_eq!(limit.take(ip("2001:db8::1"), T), Ok(()));
        assert!(limit.take(ip("2001:db8::2"), T).is_err());
        assert_eq!(limit.take(ip("2001:db8:0:1::1"), T), Ok(()));
        for n in 0..MAX_ADDRESSES as u32 + 10 {
            let _ = limit.take(IpAddr::V4(n.into()), T);
        }
        assert!(limit.buckets.lock().unwrap().by_address.len() <= MAX_ADDRESSES);
        assert!(
            limit.take(ip("198.51.100.1"), T).is_err(),
            "newcomers share what is left"
        );
        assert_eq!(limit.take(ip("198.51.100.1"), T.plus(60)), Ok(()));
    }
}
