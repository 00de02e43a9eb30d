//! The network for revocation data, time-stamps and OpenID providers, behind [`pki::fetch::Fetch`].
//!
//! Must never know what is fetched, or whom the answer persuades.

use std::net::IpAddr;
use std::time::Duration;

use pki::fetch::{Fetch, FetchError, Fetching};
use url::{Host, Url};

/// Longest time for one exchange.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Fetches over a given HTTP client, which must not follow redirects.
///
/// Some addresses are configured, others come from certificates that strangers show or that lie in their documents. Unless `private` is set, addresses of this
/// machine and of private networks are refused; for names that is up to the client's resolver.
#[derive(Debug, Clone)]
pub struct HttpFetch {
    http: reqwest::Client,
    private: bool,
}

impl HttpFetch {
    /// `private`: private networks are allowed, for configured services or on a developer's machine.
    pub fn new(http: reqwest::Client, private: bool) -> Self {
        Self { http, private }
    }

    async fn run(
        &self,
        url: &str,
        limit: usize,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Vec<u8>, FetchError> {
        let fail = |reason: String| FetchError {
            url: url.to_owned(),
            reason,
            answered: false,
        };
        let unusable = |reason: String| FetchError {
            answered: true,
            ..fail(reason)
        };
        let parsed = Url::parse(url).map_err(|e| fail(e.to_string()))?;
        let literal = match parsed.host() {
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            Some(Host::Domain(_)) => None,
            None => return Err(fail("no host".to_owned())),
        };
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(fail("only http and https are fetched".to_owned()));
        }
        if !self.private && literal.is_some_and(|ip| !core_types::net::is_public(ip)) {
            return Err(fail("the address is not a public one".to_owned()));
        }
        let request = match body {
            None => self.http.get(parsed),
            Some((kind, bytes)) => self
                .http
                .post(parsed)
                .header("Content-Type", kind)
                .body(bytes),
        };
        let cause = |e: reqwest::Error| {
            let mut cause: &dyn std::error::Error = &e;
            while let Some(inner) = cause.source() {
                cause = inner;
            }
            fail(cause.to_string())
        };
        let mut response = request.timeout(TIMEOUT).send().await.map_err(cause)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(unusable(format!("status {}", response.status())));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(cause)? {
            if bytes.len() + chunk.len() > limit {
                return Err(unusable(format!("longer than {limit} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

impl Fetch for HttpFetch {
    fn get<'a>(&'a self, url: &'a str, limit: usize) -> Fetching<'a> {
        Box::pin(self.run(url, limit, None))
    }

    fn post<'a>(
        &'a self,
        url: &'a str,
        content_type: &'a str,
        body: Vec<u8>,
        limit: usize,
    ) -> Fetching<'a> {
        Box::pin(self.run(url, limit, Some((content_type, body))))
    }
}
