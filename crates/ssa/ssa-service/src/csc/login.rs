//! `auth/login` (CSC 11.2): name, password and one-time code in a Basic header, for clients that know nothing else. What they
//! get reads; it signs nothing. Off unless the operator names the client whose contract holds for whoever calls.

use audit_log::Event;
use axum::body::Bytes;
use core_types::{PersonId, SecretBytes};
use csc_types::login::{LoginRequest, LoginResponse, basic};
use csc_types::{CscError, SecretText};
use store_kit::{StoreError, Tx, transaction};

use super::refusals::Fault;
use super::{Call, turned_away};
use crate::clients::{self, Client};
use crate::refresh::{self, Refresh};
use crate::tokens::{self, SERVICE_LIFE, Scope, Token};
use crate::users::{Login, LoginOutcome};
use crate::{Ssa, crypt};

pub(super) const METHOD: &str = "auth/login";
/// Digits of the one-time code behind the password.
const CODE: usize = 6;
/// What grants that began here are called: refresh tokens of the token endpoint want their client, which nobody is here.
const GRANT: &str = "login.";

pub(super) async fn login(ssa: &Ssa, call: &Call, body: Bytes) -> Result<LoginResponse, Fault> {
    let client = contract(ssa).await?.ok_or(CscError::NotImplemented)?;
    let contract = &client.settings;
    // Nobody proves a key here: what gets only bound tokens gets none.
    let bound = contract.bound_tokens || contract.certificate.is_some() || client.is_fapi(ssa);
    let fault = if bound {
        Some(CscError::AccessDenied)
    } else if !contract.allows_method(METHOD) || !contract.allows_scope("service") {
        Some(CscError::UnauthorizedClient)
    } else {
        None
    };
    if let Some(fault) = fault {
        turned_away(ssa, METHOD, (&client.id, None), "contract").await?;
        return Err(fault.into());
    }
    let request = LoginRequest::parse(&body)?;
    let remember = request.remember_me && contract.refresh;
    if let Some(token) = request.refresh_token {
        return again(ssa, call, &client, &token, remember).await;
    }
    let header = super::authorization(&call.headers).map_err(|_| CscError::LoginHeader)?;
    let (name, typed) = basic(header.and_then(|value| value.to_str().ok()))?;
    let (password, code) = split(&typed).ok_or(CscError::LoginFailed)?;
    let login = Login {
        name,
        password,
        code,
    };
    let LoginOutcome::In(person) = ssa.log_in(login, None).await? else {
        return Err(CscError::LoginFailed.into());
    };
    let mut tx = ssa.store().read("client").await?;
    let served = contract.serves(&mut tx, &person).await?;
    drop(tx);
    if !served {
        turned_away(ssa, METHOD, (&client.id, Some(&person)), "contract").await?;
        return Err(CscError::AccessDenied.into());
    }
    // Whoever proves nothing pays with the address alone, so that nobody uses up the client's calls.
    ssa.admit(call.origin, &client, Some(&person))?;
    let (text, next) = (crypt::draw(ssa.random()), crypt::draw(ssa.random()));
    let now = ssa.now();
    let grant = format!("{GRANT}{}", crypt::digest(text.expose()));
    let first = Refresh::first(grant.clone(), client.id.clone(), person.clone(), None, now);
    transaction!(ssa.store(), "auth-login", |tx| {
        if remember {
            refresh::insert(tx, &next, &first, now).await?;
        }
        issue(ssa, tx, &client, &person, &text, &grant).await
    })?;
    Ok(answer(text, remember.then_some(next)))
}

/// The client whose contract holds for these calls.
async fn contract(ssa: &Ssa) -> Result<Option<Client>, StoreError> {
    let Some(id) = &ssa.config().login_client else {
        return Ok(None);
    };
    let mut tx = ssa.store().read("client").await?;
    clients::find(&mut tx, id.as_str()).await
}

/// What was typed where a password is asked for: the password, and the code of the moment behind it.
fn split(typed: &SecretText) -> Option<(SecretBytes, String)> {
    let at = typed.expose().len().checked_sub(CODE)?;
    let (password, code) = typed.expose().split_at_checked(at)?;
    let digits = code.chars().all(|c| c.is_ascii_digit());
    digits.then(|| (SecretBytes::from(password.to_owned()), code.to_owned()))
}

/// A login with what an earlier one left. It is used up if a new one is wanted; without, it stays.
async fn again(
    ssa: &Ssa,
    call: &Call,
    client: &Client,
    presented: &SecretText,
    remember: bool,
) -> Result<LoginResponse, Fault> {
    let (text, next) = (crypt::draw(ssa.random()), crypt::draw(ssa.random()));
    let now = ssa.now();
    let own = |found: &Refresh| {
        found.client == client.id && found.holder.is_none() && found.grant.starts_with(GRANT)
    };
    // Before it is used up.
    let mut tx = ssa.store().read("auth-login-whose").await?;
    let found = refresh::find(&mut tx, presented.expose()).await?;
    drop(tx);
    let good = |found: &Refresh| own(found) && found.live && !found.is_expired(now);
    if let Some(found) = found.filter(good) {
        ssa.admit(call.origin, client, Some(&found.person))?;
    }
    let done = transaction!(ssa.store(), "auth-login-again", |tx| {
        let found = refresh::find(tx, presented.expose()).await?;
        let Some(found) = found.filter(own) else {
            return Ok::<_, StoreError>(Again::Uncounted);
        };
        let mut ended = false;
        let reason = if !found.live {
            // It came a second time: it has leaked.
            ended = refresh::end_grant(tx, &found.grant).await? > 0;
            tokens::revoke_grant(tx, &found.grant).await?;
            Some("refresh-reused")
        } else if found.is_expired(now) {
            Some("refresh-expired")
        } else {
            None
        };
        if let Some(reason) = reason {
            // What ends a grant always has its entry: that comes once for each.
            if !ended && !ssa.names_refusal(&client.id) {
                return Ok(Again::Uncounted);
            }
            let event = Event::AccessDenied {
                endpoint: METHOD.into(),
                client: Some(client.id.clone()),
                person: Some(found.person),
                reason: reason.into(),
            };
            ssa.audit().append(tx, event, now).await?;
            return Ok(Again::Named);
        }
        if remember {
            refresh::spend(tx, &found).await?;
            refresh::insert(tx, &next, &found, now).await?;
        }
        issue(ssa, tx, client, &found.person, &text, &found.grant).await?;
        Ok(Again::In)
    })?;
    match done {
        Again::In => return Ok(answer(text, remember.then_some(next))),
        Again::Named => {}
        Again::Uncounted => ssa.knocked(METHOD).await?,
    }
    Err(CscError::RefreshTokenUnknown.into())
}

/// What became of a refresh token.
enum Again {
    In,
    /// Refused; the entry is written.
    Named,
    /// Refused; it has yet to be counted.
    Uncounted,
}

async fn issue(
    ssa: &Ssa,
    tx: &mut Tx,
    client: &Client,
    person: &PersonId,
    text: &SecretText,
    grant: &str,
) -> Result<(), StoreError> {
    let now = ssa.now();
    let token = Token {
        scope: Scope::Service,
        client: client.id.clone(),
        person: Some(person.clone()),
        holder: None,
        bare: false,
        exp: now.plus(SERVICE_LIFE),
        revoked: false,
    };
    tokens::insert(tx, text, grant, &token, now).await?;
    let event = Event::TokenIssued {
        client: client.id.clone(),
        person: person.clone(),
        scope: token.scope.name().into(),
        token: crypt::grant(text.expose()),
    };
    ssa.audit().append(tx, event, now).await.map(drop)
}

fn answer(access_token: SecretText, refresh_token: Option<SecretText>) -> LoginResponse {
    LoginResponse {
        access_token,
        refresh_token,
        expires_in: SERVICE_LIFE.unsigned_abs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_stands_behind_the_password() {
        let cut = |typed: &str| split(&SecretText::new(typed.to_owned()));
        let (password, code) = cut("correct horse123456").unwrap();
        assert!(password.ct_eq(b"correct horse"));
        assert_eq!(code, "123456");
        for bad in ["12345", "correct horse", "correct horse12345x", "捺印"] {
            assert!(cut(bad).is_none(), "{bad}");
        }
    }
}
