//! `credentials/create` (CSC 11.4). The credential was made before, by its person on the SIC page and as the SAM decided; what a client
//! says here makes nothing. The call brings it, once for each authorization.

use audit_log::Event;
use axum::body::Bytes;
use csc_types::{CreateRequest, CreateResponse, CscError};
use store_kit::transaction;

use super::credentials::{Wanted, describe, find, issued};
use super::refusals::Fault;
use super::{Bearer, Call, bearer, refused};
use crate::Ssa;
use crate::oauth::is_under;
use crate::tokens::{self, Scope};

const METHOD: &str = "credentials/create";

pub(super) async fn create(ssa: &Ssa, call: &Call, body: Bytes) -> Result<CreateResponse, Fault> {
    if ssa.config().creations.is_empty() {
        return Err(CscError::NotImplemented.into());
    }
    let bearer = bearer(ssa, call).await?;
    let told = attempt(ssa, &bearer, &body).await;
    if let Err(fault) = &told {
        refused(ssa, METHOD, &bearer.token, fault.reason()).await?;
    }
    told
}

async fn attempt(ssa: &Ssa, bearer: &Bearer, body: &[u8]) -> Result<CreateResponse, Fault> {
    let Scope::Creation(facts) = &bearer.token.scope else {
        return Err(CscError::AccessDenied.into());
    };
    let request = CreateRequest::parse(body)?;
    let id = facts.key.as_str();
    let found = find(ssa, bearer, id).await?;
    let found = found.and_then(|(_, key)| issued(&key).map(|cert| (key, cert)));
    let (key, cert) = found.ok_or(CscError::Unavailable)?;
    // The certificate says which policy it is under; the request may not say another.
    if let (Some(policy), Some(own)) = (&request.creation.certificate_policy, key.chain.first())
        && !is_under(&own.0, policy)
    {
        return Err(CscError::InvalidParameter("certificatePolicy").into());
    }
    let now = ssa.now();
    let told = match request.credential_info {
        true => {
            let about = ssa.about().await.ok_or(CscError::Unavailable)?;
            let wanted = Wanted::new(request.certificates, request.cert_info, None);
            let mut credential = describe(&bearer.client, &key, &cert, wanted, &about, now);
            credential.credential_id = Some(id.to_owned());
            CreateResponse::Credential(Box::new(credential))
        }
        false => CreateResponse::Id {
            credential_id: id.to_owned(),
        },
    };
    transaction!(ssa.store(), "creation-told", |tx| {
        tokens::revoke(tx, &bearer.text, &bearer.client.id).await?;
        let event = Event::TokenRevoked {
            client: bearer.client.id.clone(),
            token: crate::crypt::grant(bearer.text.expose()),
        };
        ssa.audit().append(tx, event, now).await
    })?;
    Ok(told)
}
