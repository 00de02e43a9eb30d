//! Trouble that a person has to solve, told as *what happened* and *what to do*.

use std::fmt;

/// An error for an operator: a stable code, what happened, what to do. Never carries a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Stable code, such as `port-in-use`.
    pub code: &'static str,
    /// What happened.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Trouble {
    /// Code of trouble that passes by itself, such as a database that is away for now: a service manager tries again.
    pub const AWAY: &'static str = "away";

    /// Puts a pair of sentences together.
    pub fn new(code: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            code,
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)
    }
}

impl std::error::Error for Trouble {}
