//! Messages that leave the service: mail by SMTP ([`mail`]) and signed calls of somebody's web hook ([`webhook`]).
//!
//! Sends one message once and says what became of it. When to send again is a pure function ([`core_types::retry`]); the caller
//! keeps what waits in its store. This crate must never know what a message is about, and nothing secret stands in its errors.

pub mod mail;
pub mod webhook;

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
