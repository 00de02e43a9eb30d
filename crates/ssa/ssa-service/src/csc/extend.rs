//! `credentials/extendTransaction` (CSC 11.11): a new token takes the place of the current one. Whether anything is left
//! to sign, and until when, was fixed by the signer's approval and is the SAM's to say.

use audit_log::Event;
use axum::body::Bytes;
use core_types::SecretBytes;
use csc_types::{CscError, ExtendRequest, ExtendResponse};
use sam_api::ssa::RenewRequest;
use service_kit::CallError;
use store_kit::{StoreError, transaction};

use super::refusals::{Fault, of_sign};
use super::sign::{authority, ran_out};
use super::{Bearer, Call, bearer, refused};
use crate::tokens::{self, Scope, Token};
use crate::{Ssa, crypt};

const METHOD: &str = "credentials/extendTransaction";

pub(super) async fn extend(ssa: &Ssa, call: &Call, body: Bytes) -> Result<ExtendResponse, Fault> {
    let bearer = bearer(ssa, call).await?;
    let person = bearer.token.clone();
    let done = attempt(ssa, call, bearer, body).await;
    if let Err(fault) = &done {
        refused(ssa, METHOD, &person, fault.reason()).await?;
    }
    done
}

async fn attempt(
    ssa: &Ssa,
    call: &Call,
    bearer: Bearer,
    body: Bytes,
) -> Result<ExtendResponse, Fault> {
    let request = ExtendRequest::parse(&body)?;
    let (token, text, facts, presented) = authority(ssa, bearer, request.sad.as_ref()).await?;
    if request.credential_id != facts.key.as_str() {
        return Err(CscError::InvalidParameter("credentialID").into());
    }
    if ssa.now() >= facts.not_after {
        return Err(ran_out(ssa, call, token.person.as_ref(), &facts)
            .await
            .into());
    }
    let person = token.person.clone().ok_or(presented.dead())?;
    let fresh = crypt::draw(ssa.random());
    let asked = RenewRequest {
        token: SecretBytes::from(text.expose().to_owned()),
        client: token.client.clone(),
        key: facts.key.clone(),
        hashes: request.hashes.into_iter().map(Into::into).collect(),
        grant: crypt::grant(fresh.expose()),
    };
    let mut renewed = ssa.sam().renew(&asked).await;
    if matches!(renewed, Err(CallError::Unknown)) {
        // It may have been done: the same call gets the same answer.
        renewed = ssa.sam().renew(&asked).await;
    }
    let renewed = renewed.map_err(|error| of_sign(error, presented))?;
    let now = ssa.now();
    let next = Token {
        scope: Scope::Credential(facts),
        exp: renewed.sign_until,
        ..token
    };
    let stored: Result<(), StoreError> = transaction!(ssa.store(), "extend-token", |tx| {
        let grant = tokens::replace(tx, &text).await?;
        tokens::insert(tx, &fresh, &grant, &next, now).await?;
        let event = Event::TokenIssued {
            client: next.client.clone(),
            person: person.clone(),
            scope: next.scope.name().into(),
            token: crypt::grant(fresh.expose()),
        };
        ssa.audit().append(tx, event, now).await.map(drop)
    });
    stored?;
    let left = renewed.sign_until.0.saturating_sub(now.0).max(0);
    Ok(ExtendResponse {
        sad: fresh,
        expires_in: Some(left.unsigned_abs()),
    })
}
