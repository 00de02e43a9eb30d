//! Sending: one provider's connections, what a call proves, and careful repetitions.

use std::time::Duration;

use csc_types::SecretText;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Request, RequestBuilder, StatusCode};
use url::Url;

use crate::dpop::DpopKey;
use crate::error::ClientError;
use crate::http::{HttpOptions, Reply, transport};

/// The way to one provider.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    http: reqwest::Client,
    pauses: Vec<Duration>,
    dpop: Option<DpopKey>,
}

/// What a request proves, beside what stands in it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shows<'a> {
    /// Nothing.
    Nothing,
    /// Who shall hold the token that it asks for, if tokens are bound.
    Holder,
    /// A right; if tokens are bound, as their holder.
    Token(&'a SecretText),
}

impl Wire {
    pub(crate) fn new(options: &HttpOptions) -> Result<Self, ClientError> {
        Ok(Self {
            http: options.build()?,
            pauses: options.retry_pauses.clone(),
            dpop: None,
        })
    }

    /// The same with tokens that are bound to a key.
    pub(crate) fn bound_to(self, key: DpopKey) -> Self {
        Self {
            dpop: Some(key),
            ..self
        }
    }

    /// The key that tokens are bound to.
    pub(crate) fn dpop(&self) -> Option<&DpopKey> {
        self.dpop.as_ref()
    }

    pub(crate) fn get(&self, url: Url) -> RequestBuilder {
        self.http.get(url)
    }

    pub(crate) fn post(&self, url: Url) -> RequestBuilder {
        self.http.post(url)
    }

    /// Sends once; any status is an answer.
    pub(crate) async fn send(
        &self,
        endpoint: &str,
        request: RequestBuilder,
        shows: Shows<'_>,
    ) -> Result<Reply, ClientError> {
        let request = request.build().map_err(|e| transport(endpoint, &e))?;
        self.proven(endpoint, &request, shows).await
    }

    /// Sends, and sends again after a lost connection or a gateway's complaint. Only for calls whose repetition
    /// has no second effect.
    pub(crate) async fn send_again(
        &self,
        endpoint: &str,
        request: RequestBuilder,
        shows: Shows<'_>,
    ) -> Result<Reply, ClientError> {
        let request = request.build().map_err(|e| transport(endpoint, &e))?;
        let mut pauses = self.pauses.iter();
        loop {
            let outcome = self.proven(endpoint, &request, shows).await;
            let again = match &outcome {
                Err(error) => matches!(error, ClientError::Transport { .. }),
                Ok(reply) => matches!(
                    reply.status,
                    StatusCode::BAD_GATEWAY
                        | StatusCode::SERVICE_UNAVAILABLE
                        | StatusCode::GATEWAY_TIMEOUT
                ),
            };
            match pauses.next() {
                Some(pause) if again => tokio::time::sleep(*pause).await,
                _ => return outcome,
            }
        }
    }

    /// Sends; once more with its nonce to a server that wants one, since it has done nothing yet (RFC 9449 §8, §9).
    async fn proven(
        &self,
        endpoint: &str,
        request: &Request,
        shows: Shows<'_>,
    ) -> Result<Reply, ClientError> {
        let learn = |reply: &Reply| {
            self.dpop
                .as_ref()
                .is_some_and(|key| key.learn(shows, reply))
        };
        let reply = self.once(endpoint, request, shows).await?;
        if !learn(&reply) {
            return Ok(reply);
        }
        let reply = self.once(endpoint, request, shows).await?;
        learn(&reply);
        Ok(reply)
    }

    /// A proof is for one request, so that each is made anew.
    async fn once(
        &self,
        endpoint: &str,
        request: &Request,
        shows: Shows<'_>,
    ) -> Result<Reply, ClientError> {
        let whole = || ClientError::Setup(format!("the body of {endpoint} isn't in memory"));
        let mut request = request.try_clone().ok_or_else(whole)?;
        let scheme = match (&self.dpop, shows) {
            (None, _) | (_, Shows::Nothing) => "Bearer",
            (Some(key), Shows::Holder | Shows::Token(_)) => {
                let proof = field(endpoint, &key.proof(&request, shows)?)?;
                request.headers_mut().insert("dpop", proof);
                "DPoP"
            }
        };
        if let Shows::Token(token) = shows {
            let mut value = field(endpoint, &format!("{scheme} {}", token.expose()))?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let response = self.http.execute(request).await;
        Reply::read(endpoint, response.map_err(|e| transport(endpoint, &e))?).await
    }
}

fn field(endpoint: &str, text: &str) -> Result<HeaderValue, ClientError> {
    HeaderValue::from_str(text).map_err(|_| ClientError::Malformed {
        endpoint: endpoint.to_owned(),
        reason: "the token has characters that no header can carry".to_owned(),
    })
}
