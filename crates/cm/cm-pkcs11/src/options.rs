//! Which token is wanted, and why it can't be used.

use std::path::PathBuf;
use std::time::Duration;

use cm_core::several::Declared;
use core_types::{Level, SecretBytes};

/// Which token, and how to log in.
#[derive(Debug, Clone)]
pub struct Options {
    /// PKCS#11 module, a shared library.
    pub module: PathBuf,
    /// Label of the token.
    pub label: String,
    /// Its serial number, if another token with this label isn't to be used.
    pub serial: Option<String>,
    /// User PIN, UTF-8.
    pub pin: SecretBytes,
    /// What the operator declares the token to be good for; level 1 without.
    pub declaration: Option<Declaration>,
}

impl Options {
    /// What keys in this token are declared to be good for.
    pub(crate) fn declared(&self) -> Declared {
        Declared {
            level: self.declaration.as_ref().map_or(Level::One, |d| d.level),
            reference: self.declaration.as_ref().map(|d| d.reference.clone()),
        }
    }
}

/// What only a certificate can prove, as the operator declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// Level.
    pub level: Level,
    /// The evaluation: scheme and number. [`TEST`] for tokens of tests and development.
    pub reference: String,
    /// Maker, model and firmware that were evaluated, as [`crate::Pkcs11Backend`] reports them.
    pub device: Option<String>,
}

/// The reference of what nobody evaluated: the only one under which a token that isn't hardware is accepted.
pub const TEST: &str = "test, not evaluated";

/// Bounds of the pool.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most sessions, and so most calls at once.
    pub sessions: usize,
    /// How long one call of a key may take before it is given up, its outcome unknown if a value was begun. Key generation
    /// gets six times that.
    pub patience: Duration,
    /// How long after its last call a session is taken to be one that answers. Beyond that, the token is asked something
    /// harmless before a value is begun.
    pub trust: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 16,
            patience: Duration::from_secs(8),
            trust: Duration::from_secs(1),
        }
    }
}

/// Why a token can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The library can't be loaded or doesn't start.
    #[error("the PKCS#11 module {0} can't be used: {1}")]
    Module(PathBuf, String),
    /// No token with this label.
    #[error("the PKCS#11 module has no token with the label {0:?}")]
    NoToken(String),
    /// Two tokens with this label.
    #[error("the PKCS#11 module has more than one token with the label {0:?}")]
    TwoTokens(String),
    /// Another token with this label.
    #[error("the token with the label {label:?} has another serial number: {found:?}")]
    Serial {
        /// Label.
        label: String,
        /// Its serial number.
        found: String,
    },
    /// The PIN isn't text, or the token refuses it.
    #[error("the token refuses the login: {0}")]
    Login(String),
    /// The token's PIN is blocked or has one try left, which is not spent here.
    #[error(
        "the token's user PIN has at most one try left: log in once with the token's own tool and the right PIN"
    )]
    LastTry,
    /// The token has no mechanism for any kind of key.
    #[error("the token can't sign with any of the approved algorithms")]
    NoMechanism,
    /// No answer in time.
    #[error("the PKCS#11 module doesn't answer")]
    Silent,
    /// Library or token fails, and not because of the PIN.
    #[error("the PKCS#11 module or its token can't be used now: {0}")]
    Away(String),
    /// The token isn't what is declared.
    #[error("level {level} is declared ({reference}), but {what} (I-3.5.1-keygen-L{level})")]
    Contradiction {
        /// Declared level.
        level: Level,
        /// Declared evaluation.
        reference: String,
        /// What the token says of itself.
        what: String,
    },
}

impl OpenError {
    /// Whether it may pass without a person, as a device that is started after this program. A PIN that was refused never
    /// does: each try brings the token nearer to its lock.
    pub fn passes(&self) -> bool {
        match self {
            Self::NoToken(_) | Self::Silent | Self::Away(_) => true,
            Self::Module(..)
            | Self::TwoTokens(_)
            | Self::Serial { .. }
            | Self::Login(_)
            | Self::LastTry
            | Self::NoMechanism
            | Self::Contradiction { .. } => false,
        }
    }
}

impl Declaration {
    /// Compares the declaration with what the token says of itself.
    pub(crate) fn check(&self, device: &str, hardware: bool) -> Result<(), OpenError> {
        let against = |what: String| OpenError::Contradiction {
            level: self.level,
            reference: self.reference.clone(),
            what,
        };
        if self.level == Level::One || self.reference == TEST {
            return Ok(());
        }
        if self.reference.trim().is_empty() {
            return Err(against("no evaluation is named".to_owned()));
        }
        if !hardware {
            return Err(against(format!(
                "the token says that it isn't hardware: {device}"
            )));
        }
        if self.device.as_deref() != Some(device) {
            return Err(against(format!("the token is another device: {device}")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // shows: III-3-13-secure-state
    #[test]
    fn a_refused_pin_never_passes_by_itself() {
        let label = || "token".to_owned();
        for away in [
            OpenError::Silent,
            OpenError::NoToken(label()),
            OpenError::Away("general error".into()),
        ] {
            assert!(away.passes(), "{away}");
        }
        for lasts in [
            OpenError::Login("the login".into()),
            OpenError::LastTry,
            OpenError::TwoTokens(label()),
            OpenError::Serial {
                label: label(),
                found: "2".into(),
            },
            OpenError::NoMechanism,
            OpenError::Module("/m.so".into(), "no such file".into()),
        ] {
            assert!(!lasts.passes(), "{lasts}");
        }
    }

    // shows: I-3.5.1-keygen-L2
    #[test]
    fn a_declaration_must_fit_what_the_token_says() {
        let declared = |reference: &str, device: Option<&str>| Declaration {
            level: Level::Two,
            reference: reference.into(),
            device: device.map(Into::into),
        };
        let real = declared("certificate 1", Some("maker model 1.2"));
        assert!(real.check("maker model 1.2", true).is_ok());
        assert!(real.check("maker model 1.3", true).is_err());
        assert!(real.check("maker model 1.2", false).is_err());
        assert!(
            declared("certificate 1", None)
                .check("maker model 1.2", true)
                .is_err()
        );
        assert!(declared(" ", Some("d")).check("d", true).is_err());
        assert!(declared(TEST, None).check("any", false).is_ok());
    }
}
