//! `POST /sap/v1/*`, passed on as it stands: a closed list of paths, sizes and rates limited, bodies not looked at.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ORIGIN, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use core_types::rpc::Method as _;
use sap::messages as m;
use service_kit::rate::network;
use service_kit::{CallError, Peer};

use sap::office::calls::Beside;

use crate::{Gateway, beside};

/// Longest request body in bytes.
pub const MAX_REQUEST: usize = 64 * 1024;
/// Longest answer in bytes: an act with 10,000 items is about 2 MB.
pub const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// Bytes around a notice.
const AROUND: usize = 64;

/// What officers call beside their own calls: to enrol a passkey.
const OFFICERS: [&str; 3] = [m::Keys::PATH, m::EnrolOpen::PATH, m::EnrolRegister::PATH];

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// It didn't get through: nothing was done.
    #[error("the SAM can't be reached")]
    Unreachable,
    /// It may or may not have been done.
    #[error("the SAM's answer is unknown")]
    Unknown,
}

/// The way to the SAM, given by the composition root: mutual TLS with the gateway's own identity.
pub trait Forward: Send + Sync + 'static {
    /// Sends `body` to `path`; answers status and body as they stand.
    fn forward(
        &self,
        path: &'static str,
        body: Vec<u8>,
    ) -> impl Future<Output = Result<(u16, Vec<u8>), ForwardError>> + Send;
}

impl Forward for service_kit::Client {
    async fn forward(
        &self,
        path: &'static str,
        body: Vec<u8>,
    ) -> Result<(u16, Vec<u8>), ForwardError> {
        Self::forward(self, path, body).await.map_err(|e| match e {
            CallError::Unreachable => ForwardError::Unreachable,
            CallError::Refused(()) | CallError::Unknown => ForwardError::Unknown,
        })
    }
}

pub(crate) fn routes<F: Forward>(office: bool) -> Router<Arc<Gateway<F>>> {
    // Nothing else of the SAM can be reached from here.
    let (beside, own): (&[&str], _) = match office {
        true => (&OFFICERS, sap::office::calls::PATHS),
        false => (&[], m::PATHS),
    };
    let paths = beside.iter().chain(own).copied();
    let passed = paths.filter(|path| *path != Beside::PATH);
    let router = match office {
        true => Router::new().route(
            Beside::PATH,
            post(beside::look).layer(DefaultBodyLimit::max(MAX_REQUEST)),
        ),
        false => Router::new(),
    };
    passed.fold(router, |router, path| {
        let limit = DefaultBodyLimit::max(longest(path));
        router.route(
            path,
            post(move |state, peer, headers, body| pass(path, state, peer, headers, body))
                .layer(limit),
        )
    })
}

/// How long a request may be. A notice may come from anybody, and is small.
fn longest(path: &str) -> usize {
    match path {
        m::BringNotice::PATH => m::MAX_NOTICE + AROUND,
        _ => MAX_REQUEST,
    }
}

async fn pass<F: Forward>(
    path: &'static str,
    State(gateway): State<Arc<Gateway<F>>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(refused) = unwanted(&gateway, peer.as_deref(), &headers) {
        return refused;
    }
    relayed(path, gateway.forward.forward(path, body.to_vec()).await)
}

/// Why a request is none of this page's, or one too many.
pub(crate) fn unwanted<F: Forward>(
    gateway: &Gateway<F>,
    peer: Option<&Peer>,
    headers: &HeaderMap,
) -> Option<Response> {
    let addr = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.addr.ip());
    if let Err(wait) = gateway
        .limit
        .take(&network(addr), gateway.config.rate, gateway.clock.now())
    {
        let wait = [(RETRY_AFTER, wait.to_string())];
        return Some((StatusCode::TOO_MANY_REQUESTS, wait).into_response());
    }
    // Another site's page can't send this content type without being asked first, and is refused by its name here.
    let is_json = headers
        .get(CONTENT_TYPE)
        .is_some_and(|v| v.as_bytes().starts_with(b"application/json"));
    if !is_json {
        return Some(StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response());
    }
    let own = gateway.config.origin().as_bytes();
    let foreign = headers.get(ORIGIN).is_some_and(|o| o.as_bytes() != own);
    foreign.then(|| StatusCode::FORBIDDEN.into_response())
}

/// An answer as it stands, or that there is none.
pub(crate) fn relayed(path: &str, outcome: Result<(u16, Vec<u8>), ForwardError>) -> Response {
    // Path and outcome only: bodies hold proofs.
    let status = match outcome {
        Ok((_, ref answer)) if answer.len() > MAX_ANSWER => StatusCode::GATEWAY_TIMEOUT,
        Ok((status @ (200 | 400 | 413 | 422), answer)) => {
            tracing::debug!(path, status, "forwarded");
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::GATEWAY_TIMEOUT);
            let plain = [
                (CONTENT_TYPE, "application/json"),
                (CACHE_CONTROL, "no-store"),
            ];
            return (status, plain, answer).into_response();
        }
        Ok(_) | Err(ForwardError::Unknown) => StatusCode::GATEWAY_TIMEOUT,
        Err(ForwardError::Unreachable) => StatusCode::SERVICE_UNAVAILABLE,
    };
    tracing::warn!(path, status = status.as_u16(), "no answer");
    (status, [(CACHE_CONTROL, "no-store")]).into_response()
}
