//! Single calls of either version, as they go over the wire: for tools that look at an answer whatever it is.

use core_types::bytes::b64;
use csc_types::SecretText;
use reqwest::RequestBuilder;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, REFRESH};
use serde_json::Value;
use url::Url;

use crate::error::ClientError;
use crate::http::{self, HttpOptions};
use crate::version::Version;

/// How a call proves who makes it.
#[derive(Debug, Clone, Copy)]
pub enum Proof<'a> {
    /// Not at all.
    None,
    /// `Authorization: Bearer`.
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
    http: reqwest::Client,
    base: Url,
    version: Version,
}

impl Service {
    /// The API at this address, which ends in `/csc/v1` or `/csc/v2`; without either the second is meant.
    ///
    /// # Errors
    /// An address that can't be used, or unreadable root certificates.
    pub fn new(base_url: &str, options: &HttpOptions) -> Result<Self, ClientError> {
        let (base, version) = Version::of(base_url)?;
        Ok(Self {
            http: options.build()?,
            base,
            version,
        })
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
        let url = format!("{}/{method}", self.base);
        let request = self.http.post(url).header(CONTENT_TYPE, media_type);
        answer(method, proven(request, proof).body(body)).await
    }

    /// Visits an address as a browser without cookies would; redirects aren't followed.
    ///
    /// # Errors
    /// As [`Service::call`].
    pub async fn visit(&self, url: &Url) -> Result<Answer, ClientError> {
        answer(url.path(), self.http.get(url.clone())).await
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
        let request = proven(self.http.post(url.clone()), proof);
        answer(url.path(), request.form(form)).await
    }
}

fn proven(request: RequestBuilder, proof: Proof<'_>) -> RequestBuilder {
    match proof {
        Proof::None => request,
        Proof::Bearer(token) => request.header(AUTHORIZATION, format!("Bearer {}", token.expose())),
        Proof::Basic { name, password } => {
            let pair = b64(format!("{name}:{}", password.expose()));
            request.header(AUTHORIZATION, format!("Basic {pair}"))
        }
    }
}

async fn answer(endpoint: &str, request: RequestBuilder) -> Result<Answer, ClientError> {
    let response = http::send(endpoint, request).await?;
    let header = |name| {
        let value = response.headers().get(name);
        value.and_then(|value| value.to_str().ok())
    };
    let media_type = header(CONTENT_TYPE).unwrap_or_default().split(';').next();
    let media_type = media_type.unwrap_or_default().trim().to_ascii_lowercase();
    let refreshed = || Some(header(REFRESH)?.split_once("url=")?.1);
    let leads_to = header(LOCATION).or_else(refreshed).map(str::to_owned);
    Ok(Answer {
        status: response.status().as_u16(),
        media_type,
        leads_to,
        body: http::read(endpoint, response).await?,
    })
}
