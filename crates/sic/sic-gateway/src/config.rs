//! What the operator sets.

use jose::Jwk;
use serde::Serialize;
use service_kit::Rate;

use crate::beside::NeighbourShown;

/// Calls per remote address unless the operator says otherwise. One approval takes four calls, one enrolment five.
const RATE: Rate = Rate {
    burst: 60,
    per_minute: 120,
};

/// Configuration of the gateway.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    pub(crate) roots: Vec<Jwk>,
    pub(crate) origin: String,
    pub(crate) rp_id: String,
    /// Development: every page says that signatures have no effect.
    pub dev: bool,
    /// Where people find help and can stop their keys: the portal. Shown as a link after a report.
    pub help: Option<String>,
    /// Calls per remote address.
    pub rate: Rate,
    pub(crate) beside: Vec<NeighbourShown>,
    /// For officers instead of signers: their calls, and none of the signers' but to enrol a passkey.
    pub office: bool,
}

/// Why a configuration can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No root key.
    #[error(
        "no root key is given; the page would have to believe whoever answers: set the SAM's root keys"
    )]
    NoRoot,
    /// Not an origin.
    #[error("{0:?} is not an origin; give scheme and host, such as https://sign.example.jp")]
    NotAnOrigin(String),
    /// Plain HTTP outside loopback.
    #[error(
        "{0:?} is plain HTTP; browsers allow passkeys and encryption on https or *.localhost only"
    )]
    Insecure(String),
}

impl GatewayConfig {
    /// Checks the root keys (pinned by the page) and the page's own origin, from which the RP ID follows.
    ///
    /// # Errors
    /// [`ConfigError`], saying what to change.
    pub fn new(roots: Vec<Jwk>, origin: impl Into<String>) -> Result<Self, ConfigError> {
        if roots.is_empty() {
            return Err(ConfigError::NoRoot);
        }
        let origin = origin.into();
        let (secure, rest) = match (
            origin.strip_prefix("https://"),
            origin.strip_prefix("http://"),
        ) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(ConfigError::NotAnOrigin(origin)),
        };
        let host = rest.split(':').next().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
        if host.is_empty() || !rest.chars().all(plain) {
            return Err(ConfigError::NotAnOrigin(origin));
        }
        if !secure && host != "localhost" && !host.ends_with(".localhost") {
            return Err(ConfigError::Insecure(origin));
        }
        Ok(Self {
            roots,
            rp_id: host.to_owned(),
            origin,
            dev: false,
            help: None,
            rate: RATE,
            beside: Vec::new(),
            office: false,
        })
    }

    /// Host of the page; also the RP ID of the signing passkeys.
    pub fn rp_id(&self) -> &str {
        &self.rp_id
    }

    /// Origin of the page.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    pub(crate) fn is_https(&self) -> bool {
        self.origin.starts_with("https://")
    }

    /// The page's own configuration, served as `/sic/config.json` and covered by `/digests.json`.
    pub(crate) fn public(&self) -> PublicConfig<'_> {
        PublicConfig {
            origin: &self.origin,
            rp_id: &self.rp_id,
            roots: &self.roots,
            dev: self.dev,
            help: self.help.as_deref(),
            beside: &self.beside,
        }
    }
}

/// What the page knows beforehand.
#[derive(Serialize)]
pub(crate) struct PublicConfig<'a> {
    origin: &'a str,
    rp_id: &'a str,
    roots: &'a [Jwk],
    dev: bool,
    help: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    beside: &'a [NeighbourShown],
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots() -> Vec<Jwk> {
        vec![jose::SigningKey::generate().unwrap().0.public().clone()]
    }

    #[test]
    fn the_rp_id_is_the_host_of_the_origin() {
        let config = GatewayConfig::new(roots(), "http://sic.localhost:8402").unwrap();
        assert_eq!(config.rp_id(), "sic.localhost");
        let config = GatewayConfig::new(roots(), "https://sign.example.jp").unwrap();
        assert_eq!(config.rp_id(), "sign.example.jp");
    }

    #[test]
    fn unusable_configurations_are_refused_by_name() {
        let refused = |roots, origin: &str| GatewayConfig::new(roots, origin).unwrap_err();
        assert_eq!(refused(vec![], "https://a"), ConfigError::NoRoot);
        for bad in ["a", "https://", "https://a/b", "https://a b", "https://u@h"] {
            assert_eq!(refused(roots(), bad), ConfigError::NotAnOrigin(bad.into()));
        }
        let plain = "http://sign.example.jp";
        assert_eq!(refused(roots(), plain), ConfigError::Insecure(plain.into()));
    }
}
