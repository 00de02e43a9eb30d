//! HTTP clients that know where `localhost` names lie.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use core_types::net::{is_localhost, is_public};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::Trouble;
use crate::tls::{self, Identity};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a whole exchange may take: one can hold 10,000 RSA signatures.
pub const EXCHANGE: Duration = Duration::from_secs(120);
/// How long an unused connection is kept: less than our listeners do, so that no request goes into one that is closing.
const KEPT: Duration = Duration::from_secs(8);

/// Options of [`client`].
#[derive(Debug, Clone, Default)]
pub struct HttpOptions {
    /// PEM of the only CAs to trust for `https`; without them only plain `http` works.
    pub ca_pem: Option<String>,
    /// Names and addresses that lead to this machine or a private network are refused: for addresses given by others. The
    /// caller looks at literal addresses itself, which are never resolved.
    pub public_only: bool,
    /// Client certificate for mutual TLS.
    pub identity: Option<Identity>,
    /// Follow redirects; a client of an API doesn't.
    pub follow_redirects: bool,
    /// Longest time for one exchange; [`EXCHANGE`] if nothing is said.
    pub timeout: Option<Duration>,
    /// Longest answer in bytes that a [`crate::Client`] takes; 128 MiB if nothing is said. A longer one is unknown.
    pub longest_answer: Option<usize>,
    /// Keep cookies between requests: never, a user agent does that itself.
    pub user_agent: Option<String>,
}

/// Makes an HTTP client. Names under `.localhost` go to the loopback address (RFC 6761 §6.3), because plain
/// system resolvers don't know them.
///
/// # Errors
/// [`Trouble`] when the TLS material can't be used.
pub fn client(options: &HttpOptions) -> Result<reqwest::Client, Trouble> {
    tls::install_provider();
    let config = match &options.ca_pem {
        Some(ca) => tls::client(ca, options.identity.as_ref())?,
        None => rustls::ClientConfig::builder()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth(),
    };
    let redirects = if options.follow_redirects {
        reqwest::redirect::Policy::limited(10)
    } else {
        reqwest::redirect::Policy::none()
    };
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .dns_resolver(Arc::new(Names {
            public_only: options.public_only,
        }))
        .redirect(redirects)
        // The environment has no say in whom we reach: a proxy would look names up itself, past the rule above.
        .no_proxy()
        .connect_timeout(CONNECT)
        .timeout(options.timeout.unwrap_or(EXCHANGE))
        .pool_idle_timeout(KEPT)
        .tcp_nodelay(true);
    if let Some(agent) = &options.user_agent {
        builder = builder.user_agent(agent.clone());
    }
    builder.build().map_err(|e| {
        Trouble::new(
            "http-client",
            format!("no HTTP client could be made: {e}"),
            "check the TLS settings",
        )
    })
}

struct Names {
    public_only: bool,
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let public_only = self.public_only;
        Box::pin(async move {
            let host = name.as_str();
            // Port 0: the connector puts in the one of the URL.
            let found: Vec<SocketAddr> = match is_localhost(host) {
                true => vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
                false => tokio::net::lookup_host((host, 0)).await?.collect(),
            };
            let allowed = found
                .into_iter()
                .filter(|a| !public_only || is_public(a.ip()));
            let allowed: Vec<SocketAddr> = allowed.collect();
            if allowed.is_empty() {
                return Err("the name leads to no address that may be called".into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
