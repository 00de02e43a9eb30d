//! `credentials/delete` (CSC 11.5). The key ended on the approval page, by its owner's proof and at once; what a client says here ends
//! nothing. The call tells the client so, once for each approval.

use audit_log::Event;
use axum::body::Bytes;
use csc_types::{CscError, DeleteRequest};
use sam_api::ssa::KeyState;
use store_kit::transaction;

use super::credentials::find;
use super::refusals::Fault;
use super::{Bearer, Call, Done, bearer, refused};
use crate::Ssa;
use crate::tokens::{self, Scope};

const METHOD: &str = "credentials/delete";

pub(super) async fn delete(ssa: &Ssa, call: &Call, body: Bytes) -> Result<Done, Fault> {
    let bearer = bearer(ssa, call).await?;
    let done = attempt(ssa, &bearer, &body).await;
    if let Err(fault) = &done {
        refused(ssa, METHOD, &bearer.token, fault.reason()).await?;
    }
    done.map(|()| Done)
}

async fn attempt(ssa: &Ssa, bearer: &Bearer, body: &[u8]) -> Result<(), Fault> {
    let Scope::Deletion(facts) = &bearer.token.scope else {
        return Err(CscError::AccessDenied.into());
    };
    let request = DeleteRequest::parse(body)?;
    if request.credential_id != facts.key.as_str() {
        return Err(CscError::InvalidParameter("credentialID").into());
    }
    if request.revoke {
        return Err(Fault::explained(
            CscError::InvalidParameter("revoke"),
            REVOKE,
        ));
    }
    let found = find(ssa, bearer, facts.key.as_str()).await?;
    let gone = found.is_some_and(|(_, key)| key.state == KeyState::Destroyed);
    if !gone {
        // The owner's act is done or it isn't; this one isn't done yet.
        return Err(CscError::Unavailable.into());
    }
    let now = ssa.now();
    transaction!(ssa.store(), "deletion-told", |tx| {
        tokens::revoke(tx, &bearer.text, &bearer.client.id).await?;
        let event = Event::TokenRevoked {
            client: bearer.client.id.clone(),
            token: crate::crypt::grant(bearer.text.expose()),
        };
        ssa.audit().append(tx, event, now).await
    })?;
    Ok(())
}

const REVOKE: &str = "The certificate isn't revoked: that is its certification authority's, ask there. Without revoke this call tells of the deletion";
