//! `credentials/authorize` (CSC 11.8). For keys made for it an application collects PIN and one-time code (level 1); whether
//! they are right is the SAM's decision. For all others, and applications without a browser, the person decides in the
//! portal and on the SIC page.

use audit_log::Event;
use axum::body::Bytes;
use core_types::{PersonId, SecretBytes, UnixTime};
use csc_types::{
    CredentialAuthorizeRequest, CredentialAuthorizeResponse, CscError, Granted, HashType,
    SecretText, v1,
};
use sam_api::ssa::{DocItem, ExplicitRequest, KeyState, PrepareItem};
use store_kit::{StoreError, transaction};

use super::credentials::{certified, find};
use super::refusals::{Fault, of_authorize};
use super::{Bearer, Call, bearer, elsewhere, refused};
use crate::tokens::{self, KeyFacts, Scope, Token};
use crate::{Ssa, crypt};

const METHOD: &str = "credentials/authorize";

pub(super) async fn authorize(
    ssa: &Ssa,
    call: &Call,
    body: Bytes,
) -> Result<CredentialAuthorizeResponse, Fault> {
    let bearer = bearer(ssa, call).await?;
    let done = attempt(ssa, call, &bearer, &body).await;
    if let Err(fault) = &done {
        refused(ssa, METHOD, &bearer.token, fault.reason()).await?;
    }
    done
}

/// What is asked for, checked as far as the SSA can.
pub(super) struct Asked {
    pub(super) person: PersonId,
    pub(super) facts: KeyFacts,
    pub(super) items: Vec<PrepareItem>,
    /// Seconds for which the rest may be signed after the approval.
    pub(super) renew: u32,
}

async fn attempt(
    ssa: &Ssa,
    call: &Call,
    bearer: &Bearer,
    body: &[u8],
) -> Result<CredentialAuthorizeResponse, Fault> {
    if bearer.token.scope != Scope::Service {
        return Err(CscError::AccessDenied.into());
    }
    let request = CredentialAuthorizeRequest::parse(body)?;
    let contract = &bearer.client.settings;
    if !contract.allows_scope("credential") {
        return Err(CscError::UnauthorizedClient.into());
    }
    let unknown = CscError::InvalidParameter("credentialID");
    let (person, key) = find(ssa, bearer, &request.credential_id)
        .await?
        .ok_or(unknown.clone())?;
    // A key that its person approves on the approval page knows no PIN of an application's, and one of applications no
    // approval page.
    let reachable = key.collected || contract.out_of_band;
    let cert = certified(&key).filter(|_| reachable).ok_or(unknown)?;
    if !contract.allows_level(key.level.level) {
        return Err(CscError::AccessDenied.into());
    }
    if key.state != KeyState::Active {
        return Err(CscError::CredentialDisabled.into());
    }
    if ssa.now() >= cert.not_after {
        return Err(CscError::CertificateStatus.into());
    }
    let most = ssa.max_items().await.ok_or(CscError::Unavailable)?;
    if request.num_signatures > most {
        return Err(CscError::TooManySignatures.into());
    }
    // Version 1 signs no documents.
    let kind = match (request.hash_type, call.v1) {
        (Some(said), _) => said,
        (None, true) => HashType::Dtbsr,
        (None, false) => contract.hash_type(),
    };
    // Whoever gives an application their secrets sees no time on any page: without its own word for it there is none.
    let renewal = match key.collected {
        true => 0,
        false => contract.renewal(request.num_signatures, key.one_time),
    };
    let asked = Asked {
        person,
        items: items(&request, kind)?,
        renew: request.renewable_for.unwrap_or(renewal),
        facts: KeyFacts {
            key: key.key,
            alg: key.alg,
            not_after: cert.not_after,
        },
    };
    match key.collected {
        true => collected(ssa, bearer, &request, asked).await,
        false if !request.names(v1::PORTAL) => Err(CscError::InvalidAuthData.into()),
        false => elsewhere::ask(ssa, call, bearer, asked).await,
    }
}

fn items(
    request: &CredentialAuthorizeRequest,
    kind: HashType,
) -> Result<Vec<PrepareItem>, CscError> {
    let ha = request.hash_algorithm;
    let (Some(ha), false) = (ha, request.hashes.is_empty()) else {
        return Err(CscError::MissingArray("hash"));
    };
    if usize::try_from(request.num_signatures) != Ok(request.hashes.len()) {
        return Err(CscError::InvalidValue("numSignatures"));
    }
    let label = web_ui::clean(request.description.as_deref().unwrap_or_default());
    let item = |hash: &Vec<u8>| PrepareItem {
        ha,
        h: hash.clone().into(),
        label: label.chars().take(200).collect(),
        // The SAM builds what binds the document, and signs that.
        doc: (kind == HashType::Sdr).then_some(DocItem {
            signed_attrs: None,
            ranges: None,
        }),
    };
    Ok(request.hashes.iter().map(item).collect())
}

/// Explicit mode: an application collected the secrets.
async fn collected(
    ssa: &Ssa,
    bearer: &Bearer,
    request: &CredentialAuthorizeRequest,
    asked: Asked,
) -> Result<CredentialAuthorizeResponse, Fault> {
    let secret = |id| {
        let value = request.value(id).ok_or(CscError::InvalidAuthData)?;
        Ok::<_, CscError>(SecretBytes::from(value.expose().to_owned()))
    };
    let (pin, otp) = (secret(v1::PIN)?, secret(v1::OTP)?);
    // That it can't be a code tells nothing of the PIN: nothing is compared, and no try is used.
    if !is_code(&otp) {
        return Err(CscError::MalformedOtp.into());
    }
    let sad = crypt::draw(ssa.random());
    let explicit = ExplicitRequest {
        person: asked.person.clone(),
        key: asked.facts.key.clone(),
        client: bearer.client.id.clone(),
        client_name: bearer.client.name.clone(),
        items: asked.items,
        renew: asked.renew.into(),
        pin,
        otp,
        grant: crypt::grant(sad.expose()),
    };
    let bound = ssa.sam().explicit(&explicit).await;
    let bound = bound.map_err(of_authorize)?;
    let token = Token {
        scope: Scope::Credential(asked.facts),
        client: bearer.client.id.clone(),
        person: Some(asked.person.clone()),
        holder: bearer.token.holder,
        bare: bound.bare,
        exp: bound.sign_until,
        revoked: false,
    };
    let now = ssa.now();
    transaction!(ssa.store(), "explicit-sad", |tx| {
        issue(ssa, tx, &sad, &token, &asked.person, now).await
    })?;
    Ok(granted(sad, bound.sign_until, now))
}

/// Whether a text has the form of a one-time code: six digits of an app, or eight that were sent.
fn is_code(text: &SecretBytes) -> bool {
    matches!(text.len(), 6 | 8) && text.expose().iter().all(u8::is_ascii_digit)
}

/// Stores a new SAD.
pub(super) async fn issue(
    ssa: &Ssa,
    tx: &mut store_kit::Tx,
    sad: &SecretText,
    token: &Token,
    person: &PersonId,
    now: UnixTime,
) -> Result<(), StoreError> {
    // Nothing else belongs to this grant.
    let grant = crypt::digest(sad.expose());
    tokens::insert(tx, sad, &grant, token, now).await?;
    let event = Event::TokenIssued {
        client: token.client.clone(),
        person: person.clone(),
        scope: token.scope.name().into(),
        token: crypt::grant(sad.expose()),
    };
    ssa.audit().append(tx, event, now).await.map(drop)
}

/// The answer that brings it.
pub(super) fn granted(
    sad: SecretText,
    until: UnixTime,
    now: UnixTime,
) -> CredentialAuthorizeResponse {
    CredentialAuthorizeResponse::Granted(Granted {
        sad,
        expires_in: until.0.saturating_sub(now.0).max(0).unsigned_abs(),
    })
}
