//! When what couldn't be delivered is tried again.

use crate::UnixTime;

/// Pauses in seconds after the first, second, … failure: a day and a half in all.
const PAUSES: [i64; 8] = [10, 60, 300, 1800, 7200, 21_600, 43_200, 43_200];

/// When to try again after `failures` failures, the last one at `now`; nothing when it is to be given up.
pub fn next_try(failures: u32, now: UnixTime) -> Option<UnixTime> {
    let pause = PAUSES.get(usize::try_from(failures.checked_sub(1)?).ok()?)?;
    Some(now.plus(*pause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let at = UnixTime(1000);
        assert_eq!(next_try(1, at), Some(UnixTime(1010)));
        assert_eq!(next_try(8, at), Some(UnixTime(44_200)));
        assert_eq!((next_try(0, at), next_try(9, at)), (None, None));
        assert!(PAUSES.is_sorted());
    }
}
