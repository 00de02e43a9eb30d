//! Pushed authorization requests (RFC 9126).

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use csc_types::{AuthorizeRequest, ClientAuth, OAuthError, PushedResponse};
use store_kit::transaction;

use super::{
    PUSHED_LIMIT, Refused, Sender, client_auth, dpop, form, never_cached, params, request_object,
};
use crate::{Ssa, crypt, flow};

/// What a reference starts with (RFC 9126 §2.2).
pub(super) const REFERENCE: &str = "urn:ietf:params:oauth:request_uri:";

/// What a request may say about its client, and isn't kept.
pub(super) const CREDENTIALS: [&str; 4] = [
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
];

pub(super) async fn push(State(ssa): State<Ssa>, sender: Sender, body: Body) -> Response {
    match store(&ssa, &sender, body).await {
        Ok(answer) => never_cached((StatusCode::CREATED, Json(answer)).into_response()),
        Err(refused) => refused.answer(client_auth::used_basic(&sender.headers)),
    }
}

async fn store(ssa: &Ssa, sender: &Sender, body: Body) -> Result<PushedResponse, Refused> {
    let pairs = form(body, PUSHED_LIMIT).await?;
    let given = params(&pairs)?;
    let client = client_auth::authenticate(ssa, sender, ClientAuth::read(&given)).await?;
    if given.get("request_uri").is_some() {
        return Err(OAuthError::Invalid("request_uri").into());
    }
    let mut pairs = request_object::unwrap(ssa, &client, pairs).await?;
    // The secret has done its work and isn't stored; the client is the one that authenticated.
    pairs.retain(|(name, _)| !CREDENTIALS.contains(&name.as_str()));
    pairs.push(("client_id".to_owned(), client.id.to_string()));
    let given = params(&pairs)?;
    let request = AuthorizeRequest::parse(&given)?;
    super::authorize::check(ssa, &client, &request)?;
    let named = request.redirect_uri.is_some() || !client.is_fapi(ssa);
    if !named || client.redirect(request.redirect_uri.as_deref()).is_none() {
        return Err(OAuthError::Invalid("redirect_uri").into());
    }
    let wanted = super::authorize::proof_key(&given)?;
    let path = "/oauth2/pushed_authorize";
    match (
        dpop::proof(ssa, &sender.headers, &Method::POST, path, None).await?,
        wanted,
    ) {
        (Some(key), None) => pairs.push(("dpop_jkt".to_owned(), key.to_string())),
        (Some(key), Some(wanted)) if key != wanted => return Err(OAuthError::InvalidProof.into()),
        _ => {}
    }
    let reference = crypt::draw(ssa.random());
    let now = ssa.now();
    let bound = ssa.bound();
    transaction!(ssa.store(), "push", |tx| {
        flow::push(tx, &reference, &client.id, &pairs, bound, now).await
    })?;
    Ok(PushedResponse {
        request_uri: format!("{REFERENCE}{}", reference.expose()),
        expires_in: flow::PUSHED_LIFE.unsigned_abs(),
    })
}
