//! Tokens without a browser: refreshed ones, and those of a client itself. Scope `service` only.

use audit_log::Event;
use csc_types::{OAuthError, SecretText, TokenResponse};
use store_kit::{StoreError, transaction};

use super::Refused;
use crate::clients::Client;
use crate::tokens::{self, Holder, SERVICE_LIFE, Scope, Token};
use crate::{Ssa, crypt, refresh};

/// A token of the client itself (RFC 6749 §4.4).
pub(super) async fn for_itself(
    ssa: &Ssa,
    client: &Client,
    scope: Option<&str>,
    holder: Option<Holder>,
) -> Result<TokenResponse, Refused> {
    if client.is_public() || client.settings.users.is_empty() {
        return Err(OAuthError::UnauthorizedClient.into());
    }
    only_service(scope)?;
    let now = ssa.now();
    let text = crypt::draw(ssa.random());
    let token = Token {
        scope: Scope::Service,
        client: client.id.clone(),
        person: None,
        holder,
        bare: false,
        exp: now.plus(SERVICE_LIFE),
        revoked: false,
    };
    // Nothing else belongs to this grant.
    let grant = crypt::digest(text.expose());
    transaction!(ssa.store(), "client-token", |tx| {
        tokens::insert(tx, &text, &grant, &token, now).await?;
        let event = Event::ClientTokenIssued {
            client: client.id.clone(),
            scope: token.scope.name().into(),
            token: crypt::grant(text.expose()),
        };
        ssa.audit().append(tx, event, now).await
    })?;
    Ok(answer(text, &token, None))
}

/// A new token for a refresh token, and a new refresh token.
pub(super) async fn refresh(
    ssa: &Ssa,
    client: &Client,
    presented: &str,
    scope: Option<&str>,
    holder: Option<Holder>,
) -> Result<TokenResponse, Refused> {
    only_service(scope)?;
    let now = ssa.now();
    let (text, next) = (crypt::draw(ssa.random()), crypt::draw(ssa.random()));
    // FAPI 2.0 §5.3.2.1 keeps the same one: the client's key protects it, and rotation only loses it.
    let rotate = !client.is_fapi(ssa);
    let done = transaction!(ssa.store(), "refresh", |tx| {
        let Some(found) = refresh::find(tx, presented).await? else {
            return Ok::<_, StoreError>(None);
        };
        // A client that authenticates is known by that: its key or certificate may be a new one (RFC 8705 §4, RFC 9449 §5), but not
        // be left out. A public client is known by its key alone.
        let renewed = !client.is_public() && holder.is_some();
        let bound = found.holder.is_none() || found.holder == holder || renewed;
        let refused = if found.client != client.id || !found.live {
            // It came a second time, or from somebody else: it has leaked.
            refresh::end_grant(tx, &found.grant).await?;
            tokens::revoke_grant(tx, &found.grant).await?;
            Some((OAuthError::InvalidRefreshToken, "refresh-reused"))
        } else if !bound {
            // Whoever lacks the key can't end the chain of whoever has it.
            Some((OAuthError::InvalidProof, "refresh-key"))
        } else if found.is_expired(now) {
            Some((OAuthError::RefreshTokenExpired, "refresh-expired"))
        } else {
            None
        };
        if let Some((error, reason)) = refused {
            let event = Event::AccessDenied {
                endpoint: "oauth2/token".into(),
                client: Some(client.id.clone()),
                person: Some(found.person.clone()),
                reason: reason.into(),
            };
            ssa.audit().append(tx, event, now).await?;
            return Ok(Some(Err(error)));
        }
        if rotate {
            refresh::spend(tx, &found).await?;
            let mut chain = found.clone();
            chain.holder = found.holder.and(holder);
            refresh::insert(tx, &next, &chain, now).await?;
        }
        let token = Token {
            scope: Scope::Service,
            client: client.id.clone(),
            person: Some(found.person.clone()),
            holder,
            bare: false,
            exp: now.plus(SERVICE_LIFE),
            revoked: false,
        };
        tokens::insert(tx, &text, &found.grant, &token, now).await?;
        let event = Event::TokenIssued {
            client: client.id.clone(),
            person: found.person,
            scope: token.scope.name().into(),
            token: crypt::grant(text.expose()),
        };
        ssa.audit().append(tx, event, now).await?;
        Ok(Some(Ok(token)))
    })?;
    let Some(done) = done else {
        ssa.knocked("oauth2/token").await?;
        return Err(OAuthError::InvalidRefreshToken.into());
    };
    Ok(answer(text, &done?, rotate.then_some(next)))
}

fn only_service(scope: Option<&str>) -> Result<(), OAuthError> {
    match scope {
        None | Some("service") => Ok(()),
        Some(_) => Err(OAuthError::InvalidScope),
    }
}

fn answer(text: SecretText, token: &Token, refresh_token: Option<SecretText>) -> TokenResponse {
    TokenResponse {
        access_token: text,
        token_type: token.kind().to_owned(),
        expires_in: SERVICE_LIFE.unsigned_abs(),
        refresh_token,
        credential_id: None,
        authorization_details: None,
    }
}
