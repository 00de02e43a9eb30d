//! `credentials/authorize` in explicit mode (CSC 11.8): an application collected PIN and one-time code. For keys made for
//! that alone, at level 1; whether the secrets are right is the SAM's decision.

use audit_log::Event;
use axum::body::Bytes;
use core_types::{PersonId, SecretBytes};
use csc_types::{CredentialAuthorizeRequest, CredentialAuthorizeResponse, CscError, v1};
use sam_api::ssa::{ExplicitRequest, KeyState, PrepareItem};
use store_kit::{StoreError, transaction};

use super::credentials::{certified, find};
use super::refusals::{Fault, of_authorize};
use super::{Bearer, Call, bearer, refused};
use crate::tokens::{self, KeyFacts, Scope, Token};
use crate::{Ssa, crypt};

const METHOD: &str = "credentials/authorize";

pub(super) async fn authorize(
    ssa: &Ssa,
    call: &Call,
    body: Bytes,
) -> Result<CredentialAuthorizeResponse, Fault> {
    let bearer = bearer(ssa, call).await?;
    let done = attempt(ssa, &bearer, &body).await;
    if let Err(fault) = &done {
        refused(ssa, METHOD, &bearer.token, fault.reason()).await?;
    }
    done
}

async fn attempt(
    ssa: &Ssa,
    bearer: &Bearer,
    body: &[u8],
) -> Result<CredentialAuthorizeResponse, Fault> {
    if bearer.token.scope != Scope::Service {
        return Err(CscError::AccessDenied.into());
    }
    let request = CredentialAuthorizeRequest::parse(body)?;
    let unknown = CscError::InvalidParameter("credentialID");
    let (person, key) = find(ssa, bearer, &request.credential_id)
        .await?
        .ok_or(unknown.clone())?;
    // A key that its person approves on the approval page knows no PIN of an application's.
    let cert = certified(&key).filter(|_| key.collected).ok_or(unknown)?;
    if key.state != KeyState::Active {
        return Err(CscError::CredentialDisabled.into());
    }
    let now = ssa.now();
    if now >= cert.not_after {
        return Err(CscError::CertificateStatus.into());
    }
    let most = ssa.max_items().await.ok_or(CscError::Unavailable)?;
    if request.num_signatures > most {
        return Err(CscError::TooManySignatures.into());
    }
    let ha = request.hash_algorithm;
    let (Some(ha), false) = (ha, request.hashes.is_empty()) else {
        return Err(CscError::MissingArray("hash").into());
    };
    if usize::try_from(request.num_signatures) != Ok(request.hashes.len()) {
        return Err(CscError::InvalidValue("numSignatures").into());
    }
    let secret = |id| {
        let value = request.value(id).ok_or(CscError::InvalidAuthData)?;
        Ok::<_, CscError>(SecretBytes::from(value.expose().to_owned()))
    };
    let client = &bearer.client;
    let label = web_ui::clean(request.description.as_deref().unwrap_or_default());
    let item = |hash: &Vec<u8>| PrepareItem {
        ha,
        h: hash.clone().into(),
        label: label.chars().take(200).collect(),
        doc: None,
    };
    let sad = crypt::draw(ssa.random());
    let asked = ExplicitRequest {
        person: person.clone(),
        key: key.key.clone(),
        client: client.id.clone(),
        client_name: client.name.clone(),
        items: request.hashes.iter().map(item).collect(),
        pin: secret(v1::PIN)?,
        otp: secret(v1::OTP)?,
        grant: crypt::grant(sad.expose()),
    };
    let bound = ssa.sam().explicit(&asked).await.map_err(of_authorize)?;
    let facts = KeyFacts {
        key: key.key,
        alg: key.alg,
        not_after: cert.not_after,
    };
    let token = Token {
        scope: Scope::Credential(facts),
        client: client.id.clone(),
        person: Some(person.clone()),
        key: bearer.token.key,
        exp: bound.sign_until,
        revoked: false,
    };
    store(ssa, &sad, &token, person).await?;
    Ok(CredentialAuthorizeResponse {
        sad,
        expires_in: bound
            .sign_until
            .0
            .saturating_sub(now.0)
            .max(0)
            .unsigned_abs(),
    })
}

async fn store(
    ssa: &Ssa,
    sad: &csc_types::SecretText,
    token: &Token,
    person: PersonId,
) -> Result<(), StoreError> {
    let now = ssa.now();
    // Nothing else belongs to this grant.
    let grant = crypt::digest(sad.expose());
    transaction!(ssa.store(), "explicit-sad", |tx| {
        tokens::insert(tx, sad, &grant, token, now).await?;
        let event = Event::TokenIssued {
            client: token.client.clone(),
            person: person.clone(),
            scope: token.scope.name().into(),
            token: crypt::grant(sad.expose()),
        };
        ssa.audit().append(tx, event, now).await.map(drop)
    })
}
