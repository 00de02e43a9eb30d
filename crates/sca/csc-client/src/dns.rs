//! Name resolution: names under `localhost` are this machine (RFC 6761 §6.3), whatever the system says.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

pub(crate) struct Resolver {
    /// Names with an address of their own.
    pub(crate) names: BTreeMap<String, IpAddr>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_ascii_lowercase();
        let known = self
            .names
            .get(&host)
            .copied()
            .or(is_localhost(&host).then_some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        Box::pin(async move {
            // Port 0: the connector puts in the one of the URL.
            let addresses: Addrs = match known {
                Some(ip) => Box::new(std::iter::once(SocketAddr::new(ip, 0))),
                None => Box::new(
                    tokio::net::lookup_host((host, 0))
                        .await?
                        .collect::<Vec<_>>()
                        .into_iter(),
                ),
            };
            Ok(addresses)
        })
    }
}

/// `localhost` and every name under it.
pub(crate) fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_under_localhost_are_local() {
        assert!(
            is_localhost("localhost")
                && is_localhost("sic.localhost")
                && is_localhost("SIC.LOCALHOST.")
        );
        for other in [
            "localhost.example",
            "notlocalhost",
            "a.notlocalhost",
            "",
            "é.localhos",
        ] {
            assert!(!is_localhost(other), "{other}");
        }
    }
}
