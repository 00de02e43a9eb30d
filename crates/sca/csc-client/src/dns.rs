//! Name resolution: names under `localhost` are this machine (RFC 6761 §6.3), whatever the system says.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use core_types::net::{is_localhost, is_public};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

pub(crate) struct Resolver {
    /// Names with an address of their own.
    pub(crate) names: BTreeMap<String, IpAddr>,
    /// Addresses of this machine and of private networks are no answer.
    pub(crate) public_only: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_ascii_lowercase();
        let local = is_localhost(&host).then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let known = self.names.get(&host).copied().or(local);
        let public_only = self.public_only;
        Box::pin(async move {
            // Port 0: the connector puts in the one of the URL.
            let found: Vec<SocketAddr> = match known {
                Some(ip) => vec![SocketAddr::new(ip, 0)],
                None => tokio::net::lookup_host((host, 0)).await?.collect(),
            };
            let allowed: Vec<SocketAddr> = found
                .into_iter()
                .filter(|a| !public_only || is_public(a.ip()))
                .collect();
            if allowed.is_empty() {
                return Err("the name leads to no public address".into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
