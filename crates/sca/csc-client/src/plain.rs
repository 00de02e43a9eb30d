//! Single calls of either version, as they go over the wire: for tools that look at an answer whatever it is.

use core_types::bytes::b64;
use csc_types::SecretText;
use reqwest::RequestBuilder;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, REFRESH};
use serde_json::Value;
use url::Url;

use crate::dpop::DpopKey;
use crate::error::ClientError;
use crate::http::HttpOptions;
use crate::version::Version;
use crate::wire::{Shows, Wire};

/// How a call proves who makes it.
#[derive(Debug, Clone, Copy)]
pub enum Proof<'a> {
    /// Not at all.
    None,
    /// `Authorization: Bearer`; of a service with a key ([`Service::with_dpop`]) `DPoP`, with a proof.
    Bearer(&'a SecretText),
    /// `Authorization: Basic`.
    Basic {
        /// Name.
        name: &'a str,
        /// Password.
        password: &'a SecretText,
    },
}

/// An answer, whatever it is.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Media type without parameters, lower case; empty without one.
    pub media_type: String,
    /// Where a browser is sent: `Location` of a redirect, or a page's `Refresh`.
    pub leads_to: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON, if it is that.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// A member of the body that is a text.
    pub fn text(&self, name: &str) -> Option<String> {
        Some(self.json()?.get(name)?.as_str()?.to_owned())
    }
}

/// A provider's API in one version.
#[derive(Debug, Clone)]
pub struct Service {
    wire: Wire,
    base: Url,
    version: Version,
}

impl Service {
    /// The API at this address, which ends in `/csc/v1` or `/csc/v2`; without either the second is meant.
    ///
    /// # Errors
    /// An address that can't be used, or unreadable certificates.
    pub fn new(base_url: &str, options: &HttpOptions) -> Result<Self, ClientError> {
        let (base, version) = Version::of(base_url)?;
        Ok(Self {
            wire: Wire::new(options)?,
            base,
            version,
        })
    }

    /// The same for tokens that are bound to this key (RFC 9449).
    #[must_use]
    pub fn with_dpop(self, key: DpopKey) -> Self {
        Self {
            wire: self.wire.bound_to(key),
            ..self
        }
    }

    /// The version that is spoken.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where it is.
    pub fn url(&self) -> &Url {
        &self.base
    }

    /// Calls a method.
    ///
    /// # Errors
    /// When no answer comes; every answer is one.
    pub async fn call(
        &self,
        method: &str,
        proof: Proof<'_>,
        body: &Value,
    ) -> Result<Answer, ClientError> {
        self.send(
            method,
            proof,
            "application/json",
            body.to_string().into_bytes(),
        )
        .await
    }

    /// Calls a method with any body.
    ///
    /// # Errors
    /// As [`Service::call`].
    pub async fn send(
        &self,
        method: &str,
        proof: Proof<'_>,
        media_type: &str,
        body: Vec<u8>,
    ) -> Result<Answer, ClientError> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{method}", self.base.path()));
        let request = self.wire.post(url).header(CONTENT_TYPE, media_type);
        self.answer(method, request.body(body), proof).await
    }

    /// Visits an address as a browser without cookies would; redirects aren't followed.
    ///
    /// # Errors
    /// As [`Service::call`].
    pub async fn visit(&self, url: &Url) -> Result<Answer, ClientError> {
        let request = self.wire.get(url.clone());
        self.answer(url.path(), request, Proof::None).await
    }

    /// Sends a form, as to an endpoint of the authorization server.
    ///
    /// # Errors
    /// As [`Service::call`].
    pub async fn form(
        &self,
        url: &Url,
        proof: Proof<'_>,
        form: &[(&str, &str)],
    ) -> Result<Answer, ClientError> {
        let request = self.wire.post(url.clone()).form(form);
        self.answer(url.path(), request, proof).await
    }

    async fn answer(
        &self,
        endpoint: &str,
        request: RequestBuilder,
        proof: Proof<'_>,
    ) -> Result<Answer, ClientError> {
        let (request, shows) = match proof {
            Proof::None => (request, Shows::Nothing),
            Proof::Bearer(token) => (request, Shows::Token(token)),
            Proof::Basic { name, password } => {
                let pair = b64(format!("{name}:{}", password.expose()));
                let value = format!("Basic {pair}");
                (request.header(AUTHORIZATION, value), Shows::Nothing)
            }
        };
        let reply = self.wire.send(endpoint, request, shows).await?;
        let media_type = reply.header(CONTENT_TYPE).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default();
        let media_type = media_type.trim().to_ascii_lowercase();
        let refreshed = || Some(reply.header(REFRESH)?.split_once("url=")?.1);
        let leads_to = reply.header(LOCATION).or_else(refreshed);
        Ok(Answer {
            status: reply.status.as_u16(),
            media_type,
            leads_to: leads_to.map(str::to_owned),
            body: reply.body,
        })
    }
}
