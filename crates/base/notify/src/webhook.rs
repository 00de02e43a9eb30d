//! Calls of somebody's address with a signed body, in the form of the *Standard Webhooks* specification: `webhook-id`,
//! `webhook-timestamp` (seconds since 1970) and `webhook-signature`, which is `v1,` and the base64 of an HMAC-SHA256 over
//! `id.timestamp.body`. Receivers find a library for it in their language.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::hmac;
use core_types::bytes::b64;
use core_types::net::{is_localhost, is_public};
use core_types::{SecretBytes, UnixTime};
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use service_kit::http::{self, HttpOptions};
use url::{Host, Url};

use crate::NotifyError;

/// How long a receiver should be waited for, in all.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Shortest secret in bytes.
const MIN_SECRET: usize = 24;

/// Where to.
#[derive(Debug, Clone)]
pub struct Target {
    url: Url,
    secret: SecretBytes,
    private: bool,
}

impl Target {
    /// A receiver. `private`: it may lie on this machine or in a private network, which is the operator's word and never
    /// that of whoever gave the address.
    ///
    /// # Errors
    /// [`NotifyError::Address`]: not `https` (plain `http` goes to this machine alone, where `private` admits it), with a
    /// password or fragment in it, or literally an address that isn't public. [`NotifyError::Settings`] for a secret that is
    /// too short.
    pub fn new(url: &str, secret: SecretBytes, private: bool) -> Result<Self, NotifyError> {
        let no = |why: &str| NotifyError::Address(format!("{}: {why}", url.escape_debug()));
        if secret.expose().len() < MIN_SECRET {
            let what = format!("the secret of a web hook has {MIN_SECRET} bytes or more");
            return Err(NotifyError::Settings(what));
        }
        let parsed = Url::parse(url).map_err(|_| no("not a URL"))?;
        let (here, literal) = match parsed.host() {
            Some(Host::Domain(name)) => (is_localhost(name), None),
            Some(Host::Ipv4(ip)) => (ip.is_loopback(), Some(IpAddr::V4(ip))),
            Some(Host::Ipv6(ip)) => (ip.is_loopback(), Some(IpAddr::V6(ip))),
            None => return Err(no("no host")),
        };
        match parsed.scheme() {
            "https" => {}
            "http" if here && private => {}
            _ => return Err(no("not https")),
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(no("a name or password in it"));
        }
        if parsed.fragment().is_some() {
            return Err(no("a fragment in it"));
        }
        let inside = here || literal.is_some_and(|ip| !is_public(ip));
        if inside && !private {
            return Err(no("it leads to this machine or a private network"));
        }
        Ok(Self {
            url: parsed,
            secret,
            private,
        })
    }
}

/// Calls receivers. Follows no redirect, sends no cookie, reads no answer beyond its status.
#[derive(Debug, Clone)]
pub struct Webhooks {
    public: reqwest::Client,
    private: reqwest::Client,
}

impl Webhooks {
    /// `ca_pem`: the CAs to trust for `https`, such as those of the system in one file. `patience`: the longest time for one
    /// call, usually [`PATIENCE`].
    ///
    /// # Errors
    /// [`NotifyError::Settings`].
    pub fn new(ca_pem: Option<String>, patience: Duration) -> Result<Self, NotifyError> {
        let client = |public_only| {
            let options = HttpOptions {
                ca_pem: ca_pem.clone(),
                public_only,
                timeout: Some(patience),
                user_agent: Some(concat!("natsuin/", env!("CARGO_PKG_VERSION")).to_owned()),
                ..HttpOptions::default()
            };
            http::client(&options).map_err(|trouble| NotifyError::Settings(trouble.what))
        };
        Ok(Self {
            public: client(true)?,
            private: client(false)?,
        })
    }

    /// Posts a JSON body once. `id` stays the same when a message is sent again, so that a receiver drops what it has.
    ///
    /// # Errors
    /// [`NotifyError::Refused`] for an answer that says never (410 Gone), [`NotifyError::Later`] for every other status
    /// than 2xx, a redirect included, and for a receiver that doesn't answer in time.
    pub async fn post(
        &self,
        target: &Target,
        id: &str,
        at: UnixTime,
        body: Vec<u8>,
    ) -> Result<(), NotifyError> {
        let client = match target.private {
            true => &self.private,
            false => &self.public,
        };
        let answer = client
            .post(target.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", at.0)
            .header(
                "webhook-signature",
                signature(&target.secret, id, at, &body),
            )
            .body(body)
            .send()
            .await
            .map_err(|error| NotifyError::Later(error.without_url().to_string()))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            StatusCode::GONE => Err(NotifyError::Refused("410 Gone".to_owned())),
            status => Err(NotifyError::Later(status.to_string())),
        }
    }
}

/// Value of `webhook-signature`.
pub fn signature(secret: &SecretBytes, id: &str, at: UnixTime, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose());
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{id}.{}.", at.0).as_bytes());
    context.update(body);
    format!("v1,{}", b64(context.sign()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str, private: bool) -> Result<Target, NotifyError> {
        Target::new(url, SecretBytes::new(vec![7; 24]), private)
    }

    #[test]
    fn addresses_that_lead_inside_are_for_operators_only() {
        for inside in [
            "https://localhost/",
            "https://a.localhost/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://10.0.0.1/",
            "https://169.254.169.254/latest/meta-data",
            "https://[::ffff:127.0.0.1]/",
            "https://2130706433/",
            "https://0x7f.1/",
        ] {
            let refused = target(inside, false).unwrap_err();
            assert!(matches!(refused, NotifyError::Address(_)), "{inside}");
            assert!(target(inside, true).is_ok(), "{inside}");
        }
        for never in [
            "http://example.com/",
            "http://10.0.0.1/",
            "ftp://localhost/",
            "https://name:word@example.com/",
            "https://example.com/#a",
            "https:///",
            "",
        ] {
            assert!(target(never, true).is_err(), "{never}");
        }
        assert!(target("http://localhost:1/", false).is_err());
        assert!(target("https://hooks.example.com/a?b", false).is_ok());
        let short = Target::new("https://example.com", SecretBytes::new(vec![7; 23]), false);
        assert!(matches!(short, Err(NotifyError::Settings(_))));
    }

    /// Computed with `openssl dgst -sha256 -hmac` over `msg_1.1700000000.{"a":1}`.
    #[test]
    fn the_signature_is_that_of_standard_webhooks() {
        let secret = SecretBytes::new(b"0123456789abcdef01234567".to_vec());
        let made = signature(&secret, "msg_1", UnixTime(1_700_000_000), br#"{"a":1}"#);
        assert_eq!(made, "v1,WUgAXU8H0NQ1/7M+TtMwKma2b74a3/TCgekiM3YUdN8=");
    }
}
