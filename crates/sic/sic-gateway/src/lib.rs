//! The signer's page and the way from it to the SAM: static files, and a forwarder for `/sap/v1/*`.
//!
//! Belongs to the SAM's operators, host and DNS name, and stands behind no terminator of the SSA's. Keeps no state
//! that matters: no database, no session, no secret of a person. Must never read, store or log a forwarded body, and
//! never offers the SAM's other calls.

mod beside;
mod config;
mod files;
mod forward;
mod pages;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use core_types::Clock;
use service_kit::RateLimit;
use web_ui::{Csp, secure, static_router};

pub use beside::Neighbour;
pub use config::{ConfigError, GatewayConfig};
pub use forward::{Forward, ForwardError, MAX_ANSWER, MAX_REQUEST};

use files::Files;

/// What the handlers share.
pub(crate) struct Gateway<F> {
    config: GatewayConfig,
    files: Files,
    forward: F,
    beside: Vec<Neighbour<F>>,
    limit: RateLimit<IpAddr>,
    clock: Arc<dyn Clock>,
}

/// Path and SHA-256 (base64url) of every file that a gateway of this configuration serves to browsers, pages included: what
/// `/digests.json` says, made where nobody can have changed it.
pub fn digests<F>(mut config: GatewayConfig, beside: &[Neighbour<F>]) -> BTreeMap<String, String> {
    config.beside = beside.iter().map(Neighbour::shown).collect();
    Files::new(&config).digests(pages::all(&config))
}

/// The router of the signer's origin: pages `/a` and `/e`, their files under `/sic/` and `/static/`,
/// `/digests.json`, and `POST /sap/v1/*`. With [`GatewayConfig::office`] that of the officers' origin: pages `/e` and `/o`, and the
/// calls of officers.
///
/// Served by `service_kit::serve`, which tells each request's peer; without it every request counts as one address.
pub fn router<F: Forward>(config: GatewayConfig, forward: F, clock: Arc<dyn Clock>) -> Router {
    router_beside(config, forward, Vec::new(), clock)
}

/// The same with zones that officers look at from here ([`Neighbour`]); signers never do.
pub fn router_beside<F: Forward>(
    mut config: GatewayConfig,
    forward: F,
    beside: Vec<Neighbour<F>>,
    clock: Arc<dyn Clock>,
) -> Router {
    config.beside = beside.iter().map(Neighbour::shown).collect();
    let csp = Csp {
        approval: true,
        https: config.is_https(),
        ..Csp::default()
    };
    let office = config.office;
    let gateway = Arc::new(Gateway {
        files: Files::new(&config),
        limit: RateLimit::default(),
        config,
        forward,
        beside,
        clock,
    });
    let router = Router::new()
        .merge(pages::routes(office))
        .merge(files::routes())
        .merge(forward::routes(office))
        .with_state(gateway)
        .merge(static_router());
    secure(router, &csp)
}
