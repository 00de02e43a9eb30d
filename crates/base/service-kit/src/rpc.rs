//! Calls between zones: `POST PATH` with JSON, over mutual TLS.
//!
//! 200 carries the answer, 422 the other zone's refusal. Anything else means that nobody knows what happened.

use std::future::Future;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use core_types::rpc::Method;

use crate::http::{self, HttpOptions};
use crate::{Peer, Trouble};

/// What can become of a call.
#[derive(Debug, thiserror::Error)]
pub enum CallError<R: std::fmt::Debug> {
    /// The other zone said no; definite.
    #[error("refused: {0:?}")]
    Refused(R),
    /// The call didn't get through: nothing was done.
    #[error("the other zone can't be reached")]
    Unreachable,
    /// No whole answer came: it may or may not have been done.
    #[error("the other zone's answer is unknown")]
    Unknown,
}

/// Calls another zone.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    http: reqwest::Client,
    most: usize,
}

/// Longest answer in bytes unless the options say otherwise: 10,000 of the longest signatures are 62 MB.
const LONGEST: usize = 128 << 20;

impl Client {
    /// A client for the zone at `base` (scheme, host and port, without a final slash).
    ///
    /// # Errors
    /// [`Trouble`] when the TLS material can't be used.
    pub fn new(base: impl Into<String>, options: &HttpOptions) -> Result<Self, Trouble> {
        Ok(Self {
            base: base.into(),
            http: http::client(options)?,
            most: options.longest_answer.unwrap_or(LONGEST),
        })
    }

    /// Calls `M`.
    ///
    /// # Errors
    /// [`CallError`], which keeps apart what certainly didn't happen and what nobody knows.
    pub async fn call<M: Method>(
        &self,
        request: &M::Request,
    ) -> Result<M::Response, CallError<M::Refusal>> {
        let (status, body) = self.exchange(M::PATH, request).await?;
        match status {
            200 => serde_json::from_slice(&body).map_err(|_| CallError::Unknown),
            422 => {
                Err(serde_json::from_slice(&body).map_or(CallError::Unknown, CallError::Refused))
            }
            _ => Err(CallError::Unknown),
        }
    }

    /// Forwards a JSON body as it stands; answers status and body. For the SIC gateway, which must not look inside.
    ///
    /// # Errors
    /// [`CallError::Unreachable`] or [`CallError::Unknown`].
    pub async fn forward(
        &self,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(u16, Vec<u8>), CallError<()>> {
        self.post(path, body).await
    }

    async fn exchange<R: std::fmt::Debug>(
        &self,
        path: &str,
        request: &impl serde::Serialize,
    ) -> Result<(u16, Vec<u8>), CallError<R>> {
        let body = serde_json::to_vec(request).map_err(|_| CallError::Unreachable)?;
        self.post(path, body).await
    }

    async fn post<R: std::fmt::Debug>(
        &self,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(u16, Vec<u8>), CallError<R>> {
        let mut answer = self
            .http
            .post(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .await
            .map_err(|e| {
                if e.is_connect() {
                    CallError::Unreachable
                } else {
                    CallError::Unknown
                }
            })?;
        let status = answer.status().as_u16();
        // The other zone may have been taken over: what it says has no room without end.
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|_| CallError::Unknown)? {
            if body.len() + chunk.len() > self.most {
                return Err(CallError::Unknown);
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, body))
    }
}

/// Builds the router of a zone's API, method by method.
pub struct Routes<S> {
    state: Arc<S>,
    router: Router,
    limit: usize,
}

impl<S: Send + Sync + 'static> Routes<S> {
    /// Starts with the zone's state. `limit`: longest request body in bytes.
    pub fn new(state: Arc<S>, limit: usize) -> Self {
        Self {
            state,
            router: Router::new(),
            limit,
        }
    }

    /// Adds a method. The handler decides whether this peer may call it.
    #[must_use]
    pub fn method<M, F, Fut>(mut self, handler: F) -> Self
    where
        M: Method,
        F: Fn(Arc<S>, Peer, M::Request) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<M::Response, M::Refusal>> + Send + 'static,
    {
        let state = self.state.clone();
        let endpoint = move |Extension(peer): Extension<Peer>, body: Bytes| {
            let (state, handler) = (state.clone(), handler.clone());
            async move {
                let Ok(request) = serde_json::from_slice(&body) else {
                    return StatusCode::BAD_REQUEST.into_response();
                };
                answer::<M>(handler(state, peer, request).await)
            }
        };
        self.router = self.router.route(M::PATH, post(endpoint));
        self
    }

    /// The finished router.
    pub fn into_router(self) -> Router {
        self.router.layer(DefaultBodyLimit::max(self.limit))
    }
}

fn answer<M: Method>(outcome: Result<M::Response, M::Refusal>) -> Response {
    match outcome {
        Ok(answer) => Json(answer).into_response(),
        Err(refusal) => (StatusCode::UNPROCESSABLE_ENTITY, Json(refusal)).into_response(),
    }
}
