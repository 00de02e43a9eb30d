//! The e-contract web application: take a PDF, have it signed by its signer's key at any CSC provider, show the
//! result in the items of Table A-1, hand the signed file over. Pages in Japanese and English, and a JSON API
//! beside them that goes the same way.
//!
//! Must never hold a signing key, a signer's factor or a password: the signer logs in and approves at the
//! provider. Knows the provider only through `csc-client`.

mod api;
mod app;
mod begin;
mod complete;
mod documents;
mod files;
mod guard;
mod pages;
mod problem;
mod sessions;
mod view;
mod web;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use core_types::{Clock, Random};
use csc_client::{ClientCredentials, ClientError, ClientKey, HttpOptions};

/// How the application is reached and what it uses.
pub struct Config {
    /// Own origin as browsers see it, such as `https://contract.example.jp`; `/callback` under it is the
    /// registered redirect URI.
    pub public_url: String,
    /// The provider, such as `https://rssp.example.jp/csc/v2` or `…/csc/v1`.
    pub csc_url: String,
    /// Registration at the provider.
    pub credentials: ClientCredentials,
    /// Key of its own: it signs its requests, and authenticates with it when there is no secret.
    pub key: Option<ClientKey>,
    /// Tokens are bound to a key that is made at the start and never leaves this process (DPoP): whoever steals one has nothing. For
    /// contracts that give no others, and good for all whose provider can do it.
    pub bound_tokens: bool,
    /// How to reach provider, time-stamp authority and revocation services.
    pub http: HttpOptions,
    /// RFC 3161 time-stamp authority; without one signatures carry the claimed time only (B-B).
    pub tsa_url: Option<String>,
    /// Trust anchors for the check after signing, PEM.
    pub anchors_pem: String,
    /// Addresses in certificates may lead to this machine or private networks, as those of an internal CA do.
    pub private_network: bool,
    /// A directory of this application's own; jobs left in it from an earlier run are removed at start.
    pub data_dir: PathBuf,
    /// Largest accepted file in bytes.
    pub max_upload: u64,
    /// Bytes that all documents together may take on disk.
    pub max_stored: u64,
    /// Life of a document and its session in seconds.
    pub job_life: i64,
    /// Whether pages show the signer's identifier (Table A-1 leaves it out when it is confidential).
    pub show_signer_id: bool,
    /// Development: pages say that signatures have no effect.
    pub dev: bool,
    /// Line with the operator's contact at the foot of pages; may be empty.
    pub contact: String,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

impl Config {
    /// A configuration with the usual limits: files up to 1 GB, kept for a day.
    pub fn new(
        public_url: String,
        csc_url: String,
        credentials: ClientCredentials,
        data_dir: PathBuf,
    ) -> Self {
        Self {
            public_url,
            csc_url,
            credentials,
            key: None,
            bound_tokens: false,
            http: HttpOptions::default(),
            tsa_url: None,
            anchors_pem: String::new(),
            private_network: false,
            data_dir,
            max_upload: 1 << 30,
            max_stored: 20 << 30,
            job_life: 24 * 3600,
            show_signer_id: true,
            dev: false,
            contact: String::new(),
            clock: Arc::new(core_types::clock::SystemClock),
            random: Arc::new(core_types::random::SystemRandom),
        }
    }
}

/// Why the application can't start.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// An address or certificate that can't be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The trust anchors can't be read.
    #[error("the trust anchors can't be read: {0}; give certificates in PEM")]
    Anchors(String),
    /// The data directory can't be used.
    #[error("the directory {path} can't be used: {reason}; name one that this program may write")]
    DataDir {
        /// Directory.
        path: String,
        /// Cause.
        reason: String,
    },
}

/// Makes the application. To be called inside of a Tokio runtime, where it removes what ran out.
///
/// # Errors
/// [`SetupError`] when something it needs can't be used; nothing is contacted yet.
pub fn router(config: Config) -> Result<Router, SetupError> {
    let csp = web_ui::Csp {
        https: config.public_url.starts_with("https:"),
        ..web_ui::Csp::default()
    };
    let app = Arc::new(app::App::new(config)?);
    app.sweep_forever();
    let routes = web::routes()
        .merge(api::routes())
        .with_state(app)
        .merge(web_ui::static_router());
    Ok(web_ui::secure(routes, &csp))
}
