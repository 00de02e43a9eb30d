//! The HTTP client: loopback names, certificates, limits, and what an answer is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use core_types::SecretBytes;
use core_types::net::is_localhost;
use csc_types::ErrorBody;
use reqwest::header::{AsHeaderName, HeaderMap};
use reqwest::{Identity, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::{Host, Url};

use crate::dns::Resolver;
use crate::error::ClientError;

/// How to reach a provider.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Addresses of names that the system doesn't know. Names under `localhost` need none.
    pub resolve: BTreeMap<String, IpAddr>,
    /// Root certificates (PEM, several in one) that are trusted besides those of the system.
    pub extra_roots_pem: Option<Vec<u8>>,
    /// Certificate of this client with those between it and its CA, and its private key (PKCS#8), all in PEM: shown to whoever asks
    /// for one in the handshake (RFC 8705). A [`crate::Client`] with one calls what the authorization server names for such clients.
    pub identity_pem: Option<SecretBytes>,
    /// Names that lead to this machine or a private network are refused; for addresses given by strangers.
    pub public_only: bool,
    /// Proxies that the environment names are used: for a person's own program. Never with `public_only`, since a proxy looks
    /// names up itself.
    pub proxies: bool,
    /// Longest time for one call.
    pub timeout: Duration,
    /// Pauses before the second, third, … try of calls that may be repeated.
    pub retry_pauses: Vec<Duration>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            resolve: BTreeMap::new(),
            extra_roots_pem: None,
            identity_pem: None,
            public_only: false,
            proxies: true,
            timeout: Duration::from_secs(60),
            retry_pauses: vec![Duration::from_millis(200), Duration::from_secs(1)],
        }
    }
}

/// Largest answer that is read: a list of some thousand credentials with their chains.
pub(crate) const MAX_ANSWER: usize = 16 * 1024 * 1024;

impl HttpOptions {
    /// Builds the HTTP client; also for other calls of the same program, such as to a time-stamp authority.
    ///
    /// Redirects are not followed. Without any root certificate on this machine, every TLS connection is
    /// refused and plain HTTP to loopback still works.
    ///
    /// # Errors
    /// [`ClientError::BadRoots`], [`ClientError::BadIdentity`] or [`ClientError::Setup`].
    pub fn build(&self) -> Result<reqwest::Client, ClientError> {
        // Fails only when one is installed already, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let roots = match &self.extra_roots_pem {
            None => Vec::new(),
            Some(pem) => reqwest::Certificate::from_pem_bundle(pem)
                .map_err(|e| ClientError::BadRoots(e.to_string()))?,
        };
        let identity = match &self.identity_pem {
            None => None,
            Some(pem) => Some(
                Identity::from_pem(pem.expose())
                    .map_err(|e| ClientError::BadIdentity(innermost(&e)))?,
            ),
        };
        let base = || {
            let builder = match self.proxies && !self.public_only {
                true => reqwest::Client::builder(),
                false => reqwest::Client::builder().no_proxy(),
            };
            let builder = match identity.clone() {
                Some(identity) => builder.identity(identity),
                None => builder,
            };
            builder
                .dns_resolver(Arc::new(Resolver {
                    names: self.resolve.clone(),
                    public_only: self.public_only,
                }))
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(Duration::from_secs(10))
                .timeout(self.timeout)
                .user_agent(concat!("natsuin/", env!("CARGO_PKG_VERSION")))
        };
        let with_system = base().tls_certs_merge(roots.clone()).build();
        // A machine without system roots makes the first attempt fail.
        let client = with_system.or_else(|_| base().tls_certs_only(roots).build());
        client.map_err(|e| ClientError::Setup(e.to_string()))
    }
}

/// Parses a URL and refuses plain HTTP to anything but this machine.
pub(crate) fn safe_url(text: &str) -> Result<Url, ClientError> {
    let url = Url::parse(text).map_err(|_| ClientError::BadUrl(text.to_owned()))?;
    let local = match url.host() {
        Some(Host::Domain(name)) => is_localhost(name),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => return Err(ClientError::BadUrl(text.to_owned())),
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if local => Ok(url),
        "http" => Err(ClientError::Insecure(text.to_owned())),
        _ => Err(ClientError::BadUrl(text.to_owned())),
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Reply {
    /// HTTP status.
    pub(crate) status: StatusCode,
    /// Header fields.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Reads an answer to its end, if that isn't too far away.
    pub(crate) async fn read(endpoint: &str, mut response: Response) -> Result<Self, ClientError> {
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|e| transport(endpoint, &e))?
        {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(ClientError::TooLarge(endpoint.to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Self {
            status,
            headers,
            body,
        })
    }

    /// The text of a header field.
    pub(crate) fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A JSON answer of status 200, 201 or 202; anything else is the provider's error.
    pub(crate) fn json<T: DeserializeOwned>(self, endpoint: &str) -> Result<T, ClientError> {
        let good = [StatusCode::OK, StatusCode::CREATED, StatusCode::ACCEPTED];
        let body = self.good(endpoint, &good)?;
        serde_json::from_slice(&body).map_err(|e| ClientError::Malformed {
            endpoint: endpoint.to_owned(),
            reason: e.to_string(),
        })
    }

    /// An answer that needn't hold anything (200, 201 or 204): `null` then.
    pub(crate) fn done(self, endpoint: &str) -> Result<Value, ClientError> {
        let good = [StatusCode::OK, StatusCode::CREATED, StatusCode::NO_CONTENT];
        let body = self.good(endpoint, &good)?;
        Ok(serde_json::from_slice(&body).unwrap_or_default())
    }

    fn good(self, endpoint: &str, good: &[StatusCode]) -> Result<Vec<u8>, ClientError> {
        if good.contains(&self.status) {
            return Ok(self.body);
        }
        let none = ErrorBody {
            error: String::new(),
            error_description: None,
        };
        Err(ClientError::Api {
            endpoint: endpoint.to_owned(),
            status: self.status.as_u16(),
            body: serde_json::from_slice(&self.body).unwrap_or(none),
        })
    }
}

/// No answer.
pub(crate) fn transport(endpoint: &str, error: &reqwest::Error) -> ClientError {
    let reason = if error.is_timeout() {
        "timed out".to_owned()
    } else {
        innermost(error)
    };
    ClientError::Transport {
        endpoint: endpoint.to_owned(),
        reason,
    }
}

/// The innermost cause says most; the outer texts repeat the URL with its query.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for good in [
            "https://x.example/a",
            "http://localhost:1/",
            "http://sic.localhost",
            "http://127.0.0.1:8",
            "http://[::1]/",
        ] {
            assert!(safe_url(good).is_ok(), "{good}");
        }
        for bad in [
            "http://x.example/",
            "http://localhost.example/",
            "http://10.0.0.1/",
            "ftp://localhost/",
            "x",
            "file:///etc/passwd",
        ] {
            assert!(safe_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_broken_root_certificate_is_refused() {
        let pem = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec();
        let options = HttpOptions {
            extra_roots_pem: Some(pem),
            ..HttpOptions::default()
        };
        assert!(options.build().is_err());
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
        let options = HttpOptions {
            identity_pem: Some(pem.into()),
            ..HttpOptions::default()
        };
        assert!(matches!(options.build(), Err(ClientError::BadIdentity(_))));
    }
}
