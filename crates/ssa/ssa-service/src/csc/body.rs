//! What is sent to a method, before the method reads it.

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::{HeaderMap, header};
use csc_types::{CscError, habits};
use service_kit::is_no_room;
use store_kit::StoreError;

use super::refusals::Fault;
use super::{Call, by_nobody, login, lookup, presented};
use crate::{Ssa, clients, tokens};

/// Longest body in bytes: 10,000 SHA-512 digests in base64 are less than 1 MB.
const LIMIT: usize = 2 << 20;
/// Of it, what is read before anybody is known.
const SMALL: usize = 64 << 10;

/// The whole body as it is read, if it isn't too long, and is JSON as far as its sender says; of whoever shows no token that was issued
/// here, little.
pub(super) async fn whole(ssa: &Ssa, call: &Call, body: Body) -> Result<Bytes, Fault> {
    let small = body.size_hint().upper().is_some_and(|n| n <= SMALL as u64);
    let known = small || shows_token(ssa, call).await?;
    let limit = if known { LIMIT } else { SMALL };
    let read = axum::body::to_bytes(body, limit).await;
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) if is_no_room(&error) => return Err(Fault::full()),
        Err(_) if !known && matches!(presented(call), Ok(Some(_))) => {
            return Err(by_nobody(ssa, CscError::InvalidToken).await);
        }
        Err(_) => return Err(CscError::BodyTooLarge.into()),
    };
    if !bytes.is_empty() {
        is_json(&call.headers)?;
    }
    // Hardly anybody has other words, so that few are asked after.
    let Some(meant) = habits::body(&bytes, call.v1) else {
        return Ok(bytes);
    };
    Ok(match is_lenient(ssa, call).await? {
        true => meant.into(),
        false => bytes,
    })
}

/// Whether the contract of whoever calls has them read leniently. Who they are isn't proved yet, and nothing comes of it but how their
/// own words are read.
async fn is_lenient(ssa: &Ssa, call: &Call) -> Result<bool, StoreError> {
    let mut tx = ssa.store().read("lenient").await?;
    let client = match presented(call) {
        Ok(Some((_, text))) => tokens::find(&mut tx, &text)
            .await?
            .map(|token| token.client),
        _ if call.method() == login::METHOD => ssa.config().login_client.clone(),
        _ => None,
    };
    let Some(client) = client else {
        return Ok(false);
    };
    let client = clients::find(&mut tx, client.as_str()).await?;
    Ok(client.is_some_and(|client| client.is_lenient(ssa)))
}

async fn shows_token(ssa: &Ssa, call: &Call) -> Result<bool, StoreError> {
    match presented(call) {
        Ok(Some((_, text))) => Ok(lookup(ssa, &text).await?.is_some()),
        Ok(None) | Err(_) => Ok(false),
    }
}

/// `Content-Type`, of which there is one at most: JSON with whatever parameters. Some clients don't say.
pub(super) fn is_json(headers: &HeaderMap) -> Result<(), CscError> {
    let mut all = headers.get_all(header::CONTENT_TYPE).iter();
    let Some(value) = all.next() else {
        return Ok(());
    };
    let text = value.to_str().unwrap_or_default();
    let kind = text.split(';').next().unwrap_or_default().trim();
    let json = kind.eq_ignore_ascii_case("application/json");
    match json && all.next().is_none() {
        true => Ok(()),
        false => Err(CscError::MediaType),
    }
}
