//! Codes become tokens.

use audit_log::Event;
use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{Method, header};
use axum::response::{IntoResponse as _, Response};
use core_types::bytes::b64u;
use core_types::{ClientId, Digest32, UnixTime, sha256};
use csc_types::{
    ClientAuth, Grant, HashType, OAuthError, Params, SecretText, SignatureAuthorization,
    TokenRequest, TokenResponse, create, details, habits, v1,
};
use sam_api::Refusal;
use sam_api::ssa::{BindRequest, RequestState, StatusRequest};
use service_kit::CallError;
use store_kit::{StoreError, transaction};

use super::pushed::CREDENTIALS;
use super::{
    FORM_LIMIT, Refused, Sender, client_auth, device, dpop, never_cached, pairs_of, params, read,
    refreshing,
};
use crate::certificates::thumbprint;
use crate::clients::Client;
use crate::contract::ClientSettings;
use crate::flow::{self, Code, Pairs};
use crate::refresh::{self, Refresh};
use crate::tokens::{self, Holder, KeyFacts, SERVICE_LIFE, Scope, Token};
use crate::{Ssa, crypt};

/// Life of a token for `credentials/create` or `credentials/delete` in seconds.
const TELLING_LIFE: i64 = 300;

pub(super) async fn token(
    State(ssa): State<Ssa>,
    sender: Sender,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    match exchange(&ssa, &sender, query.as_deref(), body).await {
        Ok(answer) => never_cached(Json(answer).into_response()),
        Err(refused) => refused.answer(client_auth::used_basic(&sender.headers)),
    }
}

async fn exchange(
    ssa: &Ssa,
    sender: &Sender,
    query: Option<&str>,
    body: Body,
) -> Result<TokenResponse, Refused> {
    let (pairs, is_form) = sent(sender, query, body).await?;
    // Details say nothing about who sends them, and their contract how they are read.
    let others = pairs.iter().filter(|(name, _)| name != DETAILS);
    let named = Params::from_pairs(others.cloned())?;
    let client = client_auth::authenticate(ssa, sender, ClientAuth::read(&named)).await?;
    let given = match client.is_lenient(ssa) {
        true => params(&habits::token_parameters(pairs))?,
        false if is_form => params(&pairs)?,
        false => return Err(OAuthError::Missing("grant_type").into()),
    };
    let request = TokenRequest::parse(&given)?;
    let holder = holder(ssa, sender, &client).await?;
    let (code, redirect_uri, code_verifier) = match request.grant {
        Grant::AuthorizationCode {
            code,
            redirect_uri,
            code_verifier,
        } => (code, redirect_uri, code_verifier),
        Grant::ClientCredentials | Grant::RefreshToken(_)
            if !client.settings.allows_scope("service") =>
        {
            return Err(OAuthError::UnauthorizedClient.into());
        }
        Grant::ClientCredentials => {
            return refreshing::for_itself(ssa, &client, request.scope.as_deref(), holder).await;
        }
        Grant::RefreshToken(token) => {
            return refreshing::refresh(
                ssa,
                &client,
                token.expose(),
                request.scope.as_deref(),
                holder,
            )
            .await;
        }
        Grant::DeviceCode(code) => {
            let code = device::redeem(ssa, &client, code.expose(), ssa.now()).await?;
            return redeemed(ssa, &client, &code, holder).await;
        }
    };
    let presented = Presented {
        holder,
        client: client.id.clone(),
        redirect_uri,
        verifier: code_verifier,
        details: request.details,
        received_details: request.received_details,
    };
    let now = ssa.now();
    let spent = transaction!(ssa.store(), "spend-code", |tx| {
        let Some(spent) = flow::spend_code(tx, code.expose()).await? else {
            return Ok::<_, StoreError>(Ok(None));
        };
        let judged = judge(&spent, &presented, &client.settings, now);
        if judged.is_err() {
            // A code that comes twice, or from somebody else, has leaked (RFC 6749 §4.1.2).
            flow::code_leaked(tx, &spent.id).await?;
            tokens::revoke_grant(tx, &spent.id).await?;
            refresh::end_grant(tx, &spent.id).await?;
            let event = Event::AccessDenied {
                endpoint: "oauth2/token".into(),
                client: Some(presented.client.clone()),
                person: Some(spent.person.clone()),
                reason: "code".into(),
            };
            ssa.audit().append(tx, event, now).await?;
        }
        Ok(judged.map(|()| Some(spent)))
    });
    let code = match spent? {
        Ok(Some(code)) => code,
        Ok(None) => {
            ssa.knocked("oauth2/token").await?;
            return Err(OAuthError::InvalidCode.into());
        }
        Err(refused) => return Err(refused.into()),
    };
    redeemed(ssa, &client, &code, holder).await
}

const DETAILS: &str = "authorization_details";
/// The one grant that is taken from the address.
const CODE: &str = "authorization_code";

/// What was sent, and whether it is a form, as RFC 6749 has it. Some send JSON, and some a code and all but their secret in the address.
/// A secret isn't taken from there, where others on the way write it down, nor what opens something without the code's verifier: tokens
/// that renew, codes of devices.
async fn sent(sender: &Sender, query: Option<&str>, body: Body) -> Result<(Pairs, bool), Refused> {
    let body = read(body, FORM_LIMIT).await?;
    let kind = sender.headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") && body.trim_ascii().starts_with(b"{") {
        let pairs = habits::json_parameters(&body).ok_or(OAuthError::Invalid("body"))?;
        return Ok((pairs, false));
    }
    let proves = sender.headers.contains_key(header::AUTHORIZATION);
    match query {
        Some(query) if body.is_empty() && proves => {
            let mut pairs = pairs_of(query.as_bytes());
            let mut all = pairs.iter();
            let by_code = all.any(|(name, value)| name == "grant_type" && value == CODE);
            pairs.retain(|(name, _)| match name.as_str() {
                "client_id" => true,
                name => by_code && !CREDENTIALS.contains(&name),
            });
            Ok((pairs, false))
        }
        _ => Ok((pairs_of(&body), true)),
    }
}

/// Who alone may use the tokens of this request: whoever proved a key in it, or holds the key of the certificate that it was
/// made with, if this client's tokens belong to one.
async fn holder(ssa: &Ssa, sender: &Sender, client: &Client) -> Result<Option<Holder>, Refused> {
    let key = dpop::proof(ssa, &sender.headers, &Method::POST, "/oauth2/token", None).await?;
    if let Some(key) = key {
        return Ok(Some(Holder::Key(key)));
    }
    let settings = &client.settings;
    let bound = settings.bound_tokens || client.is_fapi(ssa);
    if !bound && settings.certificate.is_none() {
        return Ok(None);
    }
    match sender.certificates.first() {
        Some(own) => Ok(Some(Holder::Certificate(thumbprint(own)))),
        None => Err(OAuthError::InvalidProof.into()),
    }
}

/// The token for a code that was spent.
async fn redeemed(
    ssa: &Ssa,
    client: &Client,
    code: &Code,
    holder: Option<Holder>,
) -> Result<TokenResponse, Refused> {
    match (&code.facts, &code.rid) {
        (None, None) => service(ssa, client, code, holder).await,
        (Some(facts), Some(rid)) if code.deletes() => {
            confirmed(ssa, code, rid).await?;
            telling(ssa, code, Scope::Deletion(facts.clone()), holder).await
        }
        (Some(facts), Some(_)) if code.creates() => {
            telling(ssa, code, Scope::Creation(facts.clone()), holder).await
        }
        (Some(facts), Some(rid)) => credential(ssa, code, facts, rid, holder).await,
        _ => Err(OAuthError::ServerError.into()),
    }
}

/// What the client shows beside the code.
struct Presented {
    holder: Option<Holder>,
    client: ClientId,
    redirect_uri: Option<String>,
    verifier: SecretText,
    details: Option<SignatureAuthorization>,
    received_details: Option<String>,
}

/// Whether this code may become a token. It is spent by now in any case.
fn judge(
    code: &Code,
    presented: &Presented,
    contract: &ClientSettings,
    now: UnixTime,
) -> Result<(), OAuthError> {
    if !code.live || code.client != presented.client || now >= code.exp {
        return Err(OAuthError::InvalidCode);
    }
    if code.jkt.is_some() && code.jkt.map(Holder::Key) != presented.holder {
        return Err(OAuthError::InvalidCode);
    }
    let same = match &presented.redirect_uri {
        Some(uri) => *uri == code.redirect,
        None => !code.redirect_given,
    };
    if !same {
        return Err(OAuthError::RedirectMismatch);
    }
    let verifier = b64u(sha256(&[presented.verifier.expose().as_bytes()]).0);
    if verifier != code.challenge {
        return Err(OAuthError::InvalidCode);
    }
    match (&presented.details, &code.details) {
        (None, _) if presented.received_details.is_none() => Ok(()),
        // Word for word the same: up to 10,000 digests need no second reading.
        _ if presented.received_details == code.details => Ok(()),
        // Compared by meaning: some clients spell the same digests differently here, or say what their contract means.
        (Some(again), Some(first)) => {
            let kind = match code.v1 {
                true => HashType::default(),
                false => contract.hash_type(),
            };
            let meant = |asked: SignatureAuthorization| {
                let renewal = contract.renewal(asked.num_signatures, false);
                asked.resolved(kind, renewal)
            };
            let first = SignatureAuthorization::parse(first);
            match first.is_ok_and(|first| meant(first) == meant(again.clone())) {
                true => Ok(()),
                false => Err(OAuthError::InvalidDetails(OTHER_DETAILS)),
            }
        }
        // Of a deletion the credential, of a new one what it shall be.
        (None, Some(first)) => {
            let again = presented.received_details.as_deref().unwrap_or_default();
            let deletion = (details::deletion(again)?, details::deletion(first)?);
            let creation = (create::creation(again)?, create::creation(first)?);
            match (deletion, creation) {
                ((Some(again), Some(first)), _) if again == first => Ok(()),
                (_, (Some(again), Some(first))) if again == first => Ok(()),
                _ => Err(OAuthError::InvalidDetails(OTHER_DETAILS)),
            }
        }
        _ => Err(OAuthError::InvalidDetails(OTHER_DETAILS)),
    }
}

const OTHER_DETAILS: &str = "authorization_details differ from those of the authorization request";

/// As `bind` does for signatures: what the SAM doesn't confirm nobody is told.
async fn confirmed(ssa: &Ssa, code: &Code, rid: &[u8]) -> Result<(), Refused> {
    let rid = open_rid(ssa, code, rid).ok_or(OAuthError::ServerError)?;
    let status = ssa.sam().status(&StatusRequest { rid }).await;
    match status.map_err(bind_refused)?.state {
        RequestState::Approved => Ok(()),
        _ => Err(OAuthError::InvalidCode.into()),
    }
}

/// The owner had the key made or destroyed; the token lets the client hear of it, once.
async fn telling(
    ssa: &Ssa,
    code: &Code,
    scope: Scope,
    holder: Option<Holder>,
) -> Result<TokenResponse, Refused> {
    let text = crypt::draw(ssa.random());
    let exp = ssa.now().plus(TELLING_LIFE);
    let key = scope.facts().map(|facts| facts.key.to_string());
    let token = token_for(code, scope, exp, holder);
    let kind = token.kind();
    issue(ssa, code, &text, &token, None).await?;
    let key = key.ok_or(OAuthError::ServerError)?;
    let details = code.details.as_deref();
    let details = details.map(|details| details::granted(details, &key));
    Ok(TokenResponse {
        access_token: text,
        token_type: kind.to_owned(),
        expires_in: TELLING_LIFE.unsigned_abs(),
        refresh_token: None,
        authorization_details: details.transpose()?,
        credential_id: Some(key),
    })
}

async fn service(
    ssa: &Ssa,
    client: &Client,
    code: &Code,
    holder: Option<Holder>,
) -> Result<TokenResponse, Refused> {
    let text = crypt::draw(ssa.random());
    let exp = ssa.now().plus(SERVICE_LIFE);
    // A refresh token that anybody can use is not for clients that can't keep one.
    let refreshable = client.settings.refresh && (holder.is_some() || !client.is_public());
    let refresh = refreshable.then(|| crypt::draw(ssa.random()));
    let token = token_for(code, Scope::Service, exp, holder);
    let kind = token.kind();
    issue(ssa, code, &text, &token, refresh.as_ref()).await?;
    Ok(TokenResponse {
        access_token: text,
        token_type: kind.to_owned(),
        expires_in: SERVICE_LIFE.unsigned_abs(),
        refresh_token: refresh,
        credential_id: None,
        authorization_details: None,
    })
}

async fn credential(
    ssa: &Ssa,
    code: &Code,
    facts: &KeyFacts,
    rid: &[u8],
    holder: Option<Holder>,
) -> Result<TokenResponse, Refused> {
    let rid = open_rid(ssa, code, rid).ok_or(OAuthError::ServerError)?;
    let text = crypt::draw(ssa.random());
    let request = BindRequest {
        rid,
        grant: crypt::grant(text.expose()),
    };
    let bound = ssa.sam().bind(&request).await.map_err(bind_refused)?;
    if bound.key != facts.key {
        tracing::error!("the SAM bound a token to another key than the one prepared");
        return Err(OAuthError::ServerError.into());
    }
    let scope = Scope::Credential(facts.clone());
    let token = Token {
        bare: bound.bare,
        ..token_for(code, scope, bound.sign_until, holder)
    };
    let kind = match token.kind() {
        "Bearer" if code.v1 => v1::SAD,
        kind => kind,
    };
    issue(ssa, code, &text, &token, None).await?;
    let key = facts.key.to_string();
    let details = code
        .details
        .as_deref()
        .map(|details| details::granted(details, &key));
    let left = bound.sign_until.0.saturating_sub(ssa.now().0).max(0);
    Ok(TokenResponse {
        access_token: text,
        token_type: kind.to_owned(),
        expires_in: left.unsigned_abs(),
        refresh_token: None,
        authorization_details: details.transpose()?,
        credential_id: Some(key),
    })
}

fn token_for(code: &Code, scope: Scope, exp: UnixTime, holder: Option<Holder>) -> Token {
    Token {
        scope,
        client: code.client.clone(),
        person: Some(code.person.clone()),
        holder,
        bare: false,
        exp,
        revoked: false,
    }
}

async fn issue(
    ssa: &Ssa,
    code: &Code,
    text: &SecretText,
    token: &Token,
    refresh: Option<&SecretText>,
) -> Result<(), Refused> {
    let now = ssa.now();
    transaction!(ssa.store(), "issue-token", |tx| {
        if !flow::code_is_spent(tx, &code.id).await? {
            return Err(Refused::from(OAuthError::InvalidCode));
        }
        tokens::insert(tx, text, &code.id, token, now).await?;
        if let Some(refresh) = refresh {
            let (client, person) = (token.client.clone(), code.person.clone());
            let first = Refresh::first(code.id.clone(), client, person, token.holder, now);
            refresh::insert(tx, refresh, &first, now).await?;
        }
        let event = Event::TokenIssued {
            client: token.client.clone(),
            person: code.person.clone(),
            scope: token.scope.name().into(),
            token: crypt::grant(text.expose()),
        };
        ssa.audit().append(tx, event, now).await?;
        Ok(())
    })
}

fn open_rid(ssa: &Ssa, code: &Code, sealed: &[u8]) -> Option<Digest32> {
    let place = super::approve::rid_place(&code.person, &code.client);
    let rid = ssa.sealer().open(&place, sealed)?;
    Some(Digest32(rid.expose().try_into().ok()?))
}

fn bind_refused(error: CallError<Refusal>) -> OAuthError {
    match error {
        CallError::Refused(
            Refusal::NotFound
            | Refusal::NotApproved
            | Refusal::Expired
            | Refusal::Used
            | Refusal::Mismatch,
        ) => OAuthError::InvalidCode,
        CallError::Refused(Refusal::NotNow) | CallError::Unreachable => OAuthError::Unavailable,
        CallError::Refused(refusal) => {
            tracing::error!(%refusal, "the SAM refused to bind a token");
            OAuthError::ServerError
        }
        CallError::Unknown => OAuthError::ServerError,
    }
}
