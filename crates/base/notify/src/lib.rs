//! Messages that leave the service: mail by SMTP ([`mail`]) and signed calls of somebody's web hook ([`webhook`]).
//!
//! Sends one message once and says what became of it. When to send again is a pure function ([`next_try`]); the caller keeps
//! what waits in its store. This crate must never know what a message is about, and nothing secret stands in its errors.

pub mod mail;
pub mod webhook;

use core_types::UnixTime;

/// A message didn't go out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotifyError {
    /// The settings can't be used; nothing was tried.
    #[error("{0}")]
    Settings(String),
    /// The address isn't one, or may not be called: it leads to this machine or a private network.
    #[error("this address can't be used: {0}")]
    Address(String),
    /// The other side refused this message for good.
    #[error("refused: {0}")]
    Refused(String),
    /// It may work later.
    #[error("not delivered now: {0}")]
    Later(String),
}

impl NotifyError {
    /// Whether another try can help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Later(_))
    }
}

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
