//! Introspection (RFC 7662): a client asks about a token of its own. Everything else isn't active.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use csc_types::{ClientAuth, OAuthError, SecretText};
use serde_json::{Value, json};

use super::{FORM_LIMIT, Refused, Sender, client_auth, form, never_cached, params};
use crate::tokens::{self, Scope};
use crate::{Ssa, refresh};

pub(super) async fn introspect(State(ssa): State<Ssa>, sender: Sender, body: Body) -> Response {
    match told(&ssa, &sender, body).await {
        Ok(value) => never_cached(Json(value).into_response()),
        Err(refused) => refused.answer(client_auth::used_basic(&sender.headers)),
    }
}

async fn told(ssa: &Ssa, sender: &Sender, body: Body) -> Result<Value, Refused> {
    let given = params(&form(body, FORM_LIMIT).await?)?;
    let client = client_auth::authenticate(ssa, sender, ClientAuth::read(&given)).await?;
    if client.is_public() {
        // Whoever found a token could ask about it.
        return Err(OAuthError::UnauthorizedClient.into());
    }
    let text = given.get("token").ok_or(OAuthError::Missing("token"))?;
    let token = SecretText::new(text.to_owned());
    let now = ssa.now();
    let mut tx = ssa.store().read("introspect").await?;
    let access = tokens::find(&mut tx, &token).await?;
    if let Some(access) = access.filter(|t| t.client == client.id && t.live(now)) {
        let mut value = json!({
            "active": true,
            "scope": access.scope.name(),
            "client_id": access.client,
            "iss": ssa.config().base_url,
            "exp": access.exp,
            "token_type": access.kind(),
        });
        if let Some(person) = &access.person {
            value["sub"] = json!(person);
        }
        if let Some(holder) = access.holder {
            value["cnf"] = holder.confirmation();
        }
        if let Scope::Credential(facts) = &access.scope {
            value["credentialID"] = json!(facts.key);
        }
        return Ok(value);
    }
    let refresh = refresh::find(&mut tx, text).await?;
    let live = refresh.filter(|r| r.client == client.id && r.live && !r.is_expired(now));
    Ok(match live {
        Some(refresh) => json!({
            "active": true,
            "scope": "service",
            "client_id": refresh.client,
            "iss": ssa.config().base_url,
            "sub": refresh.person,
        }),
        None => json!({ "active": false }),
    })
}
