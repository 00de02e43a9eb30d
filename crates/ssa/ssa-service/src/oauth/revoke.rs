//! Revocation (RFC 7009, CSC 8.2.5).

use audit_log::Event;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use csc_types::{ClientAuth, OAuthError, Params, SecretText};
use store_kit::{StoreError, transaction};

use super::{FORM_LIMIT, Refused, Sender, client_auth, form, never_cached, params};
use crate::{Ssa, crypt, refresh, tokens};

pub(super) async fn revoke(State(ssa): State<Ssa>, sender: Sender, body: Body) -> Response {
    match revoked(&ssa, &sender, body).await {
        Ok(()) => never_cached(StatusCode::NO_CONTENT.into_response()),
        Err(refused) => refused.answer(client_auth::used_basic(&sender.headers)),
    }
}

/// Unlike RFC 7009 §2.2, CSC calls an unknown token an error.
async fn revoked(ssa: &Ssa, sender: &Sender, body: Body) -> Result<(), Refused> {
    let given: Params = params(&form(body, FORM_LIMIT).await?)?;
    let client = client_auth::authenticate(ssa, sender, ClientAuth::read(&given)).await?;
    let token = given.get("token").ok_or(OAuthError::Missing("token"))?;
    match given.get("token_type_hint") {
        None | Some("access_token" | "refresh_token") => {}
        Some(_) => return Err(OAuthError::Invalid("token_type_hint").into()),
    }
    let token = SecretText::new(token.to_owned());
    let now = ssa.now();
    let done = transaction!(ssa.store(), "revoke-token", |tx| {
        let mut done = tokens::revoke(tx, &token, &client.id).await?;
        let refresh = refresh::find(tx, token.expose()).await?;
        if let Some(refresh) = refresh.filter(|refresh| refresh.client == client.id) {
            // With a refresh token goes everything that came of it (RFC 7009 §2.1).
            refresh::end_grant(tx, &refresh.grant).await?;
            tokens::revoke_grant(tx, &refresh.grant).await?;
            done = true;
        }
        if done {
            let event = Event::TokenRevoked {
                client: client.id.clone(),
                token: crypt::grant(token.expose()),
            };
            ssa.audit().append(tx, event, now).await?;
        }
        Ok::<_, StoreError>(done)
    })?;
    if done {
        Ok(())
    } else {
        Err(OAuthError::Invalid("token").into())
    }
}
