//! Which client is calling (RFC 6749 §2.3).

use audit_log::Event;
use axum::http::{HeaderMap, header};
use core_types::ClientId;
use core_types::bytes::from_b64;
use csc_types::{ClientAuth, OAuthError, SecretText};
use store_kit::{StoreError, transaction};

use super::Refused;
use crate::Ssa;
use crate::clients::{self, Client};

/// Authenticates the client of a request: HTTP Basic or `client_secret` in the body, not both; a public client by its
/// id alone.
pub(super) async fn authenticate(
    ssa: &Ssa,
    headers: &HeaderMap,
    body: ClientAuth,
) -> Result<Client, Refused> {
    let (id, secret) = match basic(headers)? {
        Some((id, secret)) => {
            let same = body.client_id.as_ref().is_none_or(|other| *other == id);
            if body.client_secret.is_some() || !same {
                return Err(OAuthError::InvalidClient.into());
            }
            (id, Some(secret))
        }
        None => {
            let id = body.client_id.ok_or(OAuthError::Missing("client_id"))?;
            (id, body.client_secret)
        }
    };
    let mut tx = ssa.store().read("client").await?;
    let found = clients::find(&mut tx, &id).await?;
    drop(tx);
    match (found, secret) {
        (Some(client), Some(secret)) if client.has_secret(secret.expose()) => Ok(client),
        (Some(client), None) if client.is_public() => Ok(client),
        (found, secret) => {
            let known = found.map(|client| client.id);
            refuse(ssa, known.clone()).await?;
            Err(match (known, secret) {
                (Some(_), None) => OAuthError::ClientAuthRequired.into(),
                _ => OAuthError::InvalidClient.into(),
            })
        }
    }
}

async fn refuse(ssa: &Ssa, client: Option<ClientId>) -> Result<(), StoreError> {
    transaction!(ssa.store(), "client-refused", |tx| {
        let event = Event::ClientRefused {
            client: client.clone(),
            reason: "secret".into(),
        };
        ssa.audit().append(tx, event, ssa.now()).await.map(drop)
    })
}

/// Whether the client used the `Authorization` header; then a refusal names the scheme.
pub(super) fn used_basic(headers: &HeaderMap) -> bool {
    headers.contains_key(header::AUTHORIZATION)
}

/// Id and secret of a Basic header, each form-encoded inside (RFC 6749 §2.3.1).
fn basic(headers: &HeaderMap) -> Result<Option<(String, SecretText)>, OAuthError> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let read = || {
        let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
        let plain = from_b64(encoded.trim()).ok()?;
        let text = String::from_utf8(plain).ok()?;
        let (id, secret) = text.split_once(':')?;
        let basic = scheme.eq_ignore_ascii_case("basic");
        Some((decode(id)?, SecretText::new(decode(secret)?))).filter(|_| basic)
    };
    read().map(Some).ok_or(OAuthError::InvalidClient)
}

fn decode(text: &str) -> Option<String> {
    // One name without a value is what a form decoder makes of a text without `=` and `&`.
    if text.contains(['&', '=']) {
        return Some(text.to_owned());
    }
    let mut pairs = url::form_urlencoded::parse(text.as_bytes());
    Some(
        pairs
            .next()
            .map(|(name, _)| name.into_owned())
            .unwrap_or_default(),
    )
}
