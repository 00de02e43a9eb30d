//! A client for the CSC API of any provider, in version 1 and 2: discovery, OAuth 2.0 (PKCE, PAR, signed requests, refresh, devices,
//! revocation), client authentication by secret, key and certificate, tokens that are bound to a key (DPoP) or a certificate, explicit
//! mode and approvals elsewhere, credentials, `signHash` at once and later, `signDoc`, time-stamps; single calls of either version
//! ([`plain`]); and a check of what a provider does ([`check`]).
//!
//! ```text
//! Client::new -> discover -> authorize(Service) … browser … -> exchange -> list / credential_info
//!             -> authorize(Credential) … browser … -> exchange -> sign_hash
//! ```
//!
//! The same, with tokens that nobody else can use:
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use core_types::clock::SystemClock;
//! use core_types::random::SystemRandom;
//! use csc_client::loopback::{Listener, PageLang};
//! use csc_client::{AuthorizeParams, Client, ClientCredentials, DpopKey, HttpOptions};
//! use csc_types::Purpose;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let credentials = ClientCredentials {
//!     client_id: "my-program".to_owned(),
//!     client_secret: None,
//! };
//! let base = "https://rssp.example.jp/csc/v2";
//! let key = DpopKey::generate(Arc::new(SystemClock), Arc::new(SystemRandom))?;
//! let client = Client::new(base, credentials, &HttpOptions::default())?.with_dpop(key);
//! let provider = client.discover().await?;
//!
//! let listener = Listener::bind(PageLang::En).await?;
//! let redirect_uri = listener.redirect_uri();
//! let params = AuthorizeParams {
//!     purpose: Purpose::Service,
//!     redirect_uri: &redirect_uri,
//!     lang: None,
//!     description: None,
//! };
//! let pending = client.authorize(&provider, &params, &SystemRandom).await?;
//! println!("Open {}", pending.url);
//! let callback = listener.wait(&pending).await?;
//! let token = client.exchange(&provider, &pending, &callback).await?;
//! for credential in client.credentials(&token.access_token).await? {
//!     println!("{:?}", credential.credential_id);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Must never know documents, the SAM or which product the provider runs: whatever it needs to know about a
//! service comes from `info` and the server's metadata. Plain HTTP is spoken to loopback addresses only.

mod authorize;
pub mod check;
mod client;
mod device;
mod discover;
mod dns;
mod documents;
mod dpop;
mod error;
mod http;
mod later;
mod lifecycle;
mod login;
pub mod loopback;
mod oauth;
pub mod plain;
mod select;
mod signed;
mod version;
mod wire;

pub use authorize::{AuthorizeParams, Callback, Pending};
pub use client::{Asked, Client};
pub use device::Device;
pub use discover::{Endpoints, Provider};
pub use dpop::DpopKey;
pub use error::ClientError;
pub use http::HttpOptions;
pub use later::Later;
pub use select::{WireAlg, choose_alg, wire_alg};
pub use signed::{ClientKey, KeyUse};
pub use version::{Places, Version};

use csc_types::SecretText;

/// Who the client is at the authorization server.
#[derive(Debug, Clone)]
pub struct ClientCredentials {
    /// Registered identifier.
    pub client_id: String,
    /// Secret; `None` for a public client, which PKCE alone protects.
    pub client_secret: Option<SecretText>,
}
