//! CSC API v2 (2.0.0.2 to 2.2.0.0): `info`, `credentials/list`, `credentials/info`, `signatures/signHash`.

mod credentials;
mod info;
mod refusals;
mod sign;

use audit_log::Event;
use axum::Json;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use csc_types::{CscError, SecretText};
use serde::Serialize;
use store_kit::{StoreError, transaction};

use crate::Ssa;
use crate::tokens::{self, Token};
use refusals::Fault;

/// Longest body in bytes: 10,000 SHA-512 digests in base64 are less than 1 MB.
const LIMIT: usize = 2 << 20;

pub(crate) fn router() -> Router<Ssa> {
    Router::new()
        .route("/info", get(info::info_by_get).post(info::info))
        .route("/credentials/list", post(credentials::list))
        .route("/credentials/info", post(credentials::info))
        .route("/signatures/signHash", post(sign::sign_hash))
        .fallback(unknown)
}

async fn unknown() -> Response {
    Fault::from(CscError::NotImplemented).into_response()
}

/// A bearer token that was presented and is alive.
struct Bearer {
    text: SecretText,
    token: Token,
}

/// Reads the `Authorization` header and finds its token (RFC 6750 §2.1).
async fn bearer(ssa: &Ssa, headers: &HeaderMap) -> Result<Bearer, Fault> {
    let value = headers
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok());
    let text = value
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, text)| text.trim())
        .filter(|text| !text.is_empty() && !text.contains(' '))
        .ok_or(CscError::MalformedHeader)?;
    let text = SecretText::new(text.to_owned());
    let token = lookup(ssa, &text).await?.ok_or(CscError::InvalidToken)?;
    if !token.live(ssa.now()) {
        return Err(CscError::ExpiredToken.into());
    }
    Ok(Bearer { text, token })
}

async fn lookup(ssa: &Ssa, text: &SecretText) -> Result<Option<Token>, StoreError> {
    let mut tx = ssa.store().read("token").await?;
    tokens::find(&mut tx, text).await
}

/// The whole body, if it isn't too long.
async fn whole(body: Body) -> Result<Bytes, CscError> {
    let too_long = |_| CscError::BodyTooLarge;
    axum::body::to_bytes(body, LIMIT).await.map_err(too_long)
}

fn answer(outcome: Result<impl Serialize, Fault>) -> Response {
    let mut response = match outcome {
        Ok(value) => Json(value).into_response(),
        Err(fault) => fault.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// Records that a token was refused something.
async fn refused(
    ssa: &Ssa,
    endpoint: &'static str,
    token: &Token,
    reason: &'static str,
) -> Result<(), StoreError> {
    transaction!(ssa.store(), "access-denied", |tx| {
        let event = Event::AccessDenied {
            endpoint: endpoint.into(),
            client: Some(token.client.clone()),
            person: Some(token.person.clone()),
            reason: reason.into(),
        };
        ssa.audit().append(tx, event, ssa.now()).await.map(drop)
    })
}
