//! `auth/revoke` (CSC 11.3): a token of the same client and person, by one of theirs that reads, or by itself.

use audit_log::Event;
use axum::body::Bytes;
use csc_types::{CscError, RevokeRequest};
use store_kit::{StoreError, transaction};

use super::refusals::Fault;
use super::{Call, Done, bearer, refused};
use crate::tokens::{self, Scope};
use crate::{Ssa, crypt, refresh};

const METHOD: &str = "auth/revoke";

pub(super) async fn revoke(ssa: &Ssa, call: &Call, body: Bytes) -> Result<Done, Fault> {
    let bearer = bearer(ssa, call).await?;
    let RevokeRequest { token } = RevokeRequest::parse(&body)?;
    // The right to sign, or to be told, is none over others.
    if bearer.token.scope != Scope::Service && token != bearer.text {
        refused(ssa, METHOD, &bearer.token, "scope").await?;
        return Err(CscError::AccessDenied.into());
    }
    let (client, person) = (&bearer.token.client, &bearer.token.person);
    let now = ssa.now();
    let done = transaction!(ssa.store(), "auth-revoke", |tx| {
        let found = tokens::find(tx, &token).await?;
        let own = found.is_some_and(|t| t.client == *client && t.person == *person);
        let mut done = own && tokens::revoke(tx, &token, client).await?;
        let chain = refresh::find(tx, token.expose()).await?;
        let chain = chain.filter(|r| r.client == *client && Some(&r.person) == person.as_ref());
        if let Some(chain) = chain {
            refresh::end_grant(tx, &chain.grant).await?;
            tokens::revoke_grant(tx, &chain.grant).await?;
            done = true;
        }
        if done {
            let event = Event::TokenRevoked {
                client: client.clone(),
                token: crypt::grant(token.expose()),
            };
            ssa.audit().append(tx, event, now).await?;
        }
        Ok::<_, StoreError>(done)
    })?;
    if done {
        Ok(Done)
    } else {
        Err(CscError::InvalidString("token").into())
    }
}
