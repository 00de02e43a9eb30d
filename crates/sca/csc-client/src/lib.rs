//! A client for the CSC API of any provider, in version 1 and 2: discovery, OAuth 2.0 (PKCE, PAR, refresh), explicit mode,
//! credentials, `signHash`; single calls of either version ([`plain`]); and a check of what a provider does ([`check`]).
//!
//! ```text
//! Client::new -> discover -> authorize(Service) … browser … -> exchange -> list / credential_info
//!             -> authorize(Credential) … browser … -> exchange -> sign_hash
//! ```
//!
//! Must never know documents, the SAM or which product the provider runs: whatever it needs to know about a
//! service comes from `info` and the server's metadata. Plain HTTP is spoken to loopback addresses only.

mod authorize;
pub mod check;
mod client;
mod discover;
mod dns;
mod error;
mod http;
mod lifecycle;
pub mod loopback;
mod oauth;
pub mod plain;
mod select;
mod signed;
mod version;

pub use authorize::{AuthorizeParams, Callback, Pending};
pub use client::{Asked, Client};
pub use discover::{Endpoints, Provider};
pub use error::ClientError;
pub use http::HttpOptions;
pub use select::{WireAlg, choose_alg, wire_alg};
pub use signed::ClientKey;
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
