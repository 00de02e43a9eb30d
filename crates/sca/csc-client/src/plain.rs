//! Single calls of either version, as they go over the wire: for tools that look at an answer whatever it is.

use core_types::bytes::b64;
use csc_types::SecretText;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
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
        let mut request = self.http.post(url).header(CONTENT_TYPE, media_type);
        request = match proof {
            Proof::None => request,
            Proof::Bearer(token) => {
                request.header(AUTHORIZATION, format!("Bearer {}", token.expose()))
            }
            Proof::Basic { name, password } => {
                let pair = b64(format!("{name}:{}", password.expose()));
                request.header(AUTHORIZATION, format!("Basic {pair}"))
            }
        };
        let response = http::send(method, request.body(body)).await?;
        let media_type = response.headers().get(CONTENT_TYPE);
        let media_type = media_type.and_then(|value| value.to_str().ok());
        let media_type = media_type.unwrap_or_default().split(';').next();
        Ok(Answer {
            status: response.status().as_u16(),
            media_type: media_type.unwrap_or_default().trim().to_ascii_lowercase(),
            body: http::read(method, response).await?,
        })
    }
}
