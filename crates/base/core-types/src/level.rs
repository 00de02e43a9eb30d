//! The guideline's levels (`I-3.5.1-*`).

use std::fmt;

use serde::{Deserialize, Serialize};

/// Level 1 to 3 of the JT2A Remote Signature Guideline; higher demands more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Level {
    /// Minimum.
    One = 1,
    /// Equal to the accredited certification business of the Electronic Signature Act.
    Two = 2,
    /// Equal to an eIDAS qualified signature.
    Three = 3,
}

impl TryFrom<u8> for Level {
    type Error = NoSuchLevel;

    fn try_from(n: u8) -> Result<Self, NoSuchLevel> {
        match n {
            1 => Ok(Self::One),
            2 => Ok(Self::Two),
            3 => Ok(Self::Three),
            _ => Err(NoSuchLevel(n)),
        }
    }
}

impl From<Level> for u8 {
    fn from(level: Level) -> u8 {
        level as u8
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", u8::from(*self))
    }
}

/// A level outside 1 to 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no level {0}; levels are 1, 2 and 3")]
pub struct NoSuchLevel(pub u8);
