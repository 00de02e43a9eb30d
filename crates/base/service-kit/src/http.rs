//! HTTP clients that know where `localhost` names lie.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::Trouble;
use crate::tls::{self, Identity};

/// How long a connection may take, and a whole exchange. An exchange can hold 10,000 RSA signatures.
const CONNECT: Duration = Duration::from_secs(5);
const EXCHANGE: Duration = Duration::from_secs(120);
/// How long an unused connection is kept: less than our listeners do, so that no request goes into one that is closing.
const KEPT: Duration = Duration::from_secs(8);

/// Options of [`client`].
#[derive(Debug, Clone, Default)]
pub struct HttpOptions {
    /// PEM of the only CAs to trust for `https`; without them only plain `http` works.
    pub ca_pem: Option<String>,
    /// Client certificate for mutual TLS.
    pub identity: Option<Identity>,
    /// Follow redirects; a client of an API doesn't.
    pub follow_redirects: bool,
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
        .dns_resolver(Arc::new(Localhost))
        .redirect(redirects)
        .connect_timeout(CONNECT)
        .timeout(EXCHANGE)
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

struct Localhost;

impl Resolve for Localhost {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str().trim_end_matches('.');
            if host == "localhost" || host.ends_with(".localhost") {
                let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                return Ok(Box::new(std::iter::once(here)) as Addrs);
            }
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(Box::new(found.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}
