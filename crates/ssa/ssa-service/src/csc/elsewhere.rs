//! Authorization out of band (CSC 8.3, 11.9): the person finds the request in the portal and decides on the SIC page, while
//! the application asks again or, in version 1, waits for the answer.

use std::time::Duration;

use audit_log::Event;
use axum::body::Bytes;
use core_types::sha256;
use csc_types::{
    AuthorizeCheckRequest, CredentialAuthorizeResponse, CscError, Pending, SecretText,
};
use sam_api::Refusal;
use sam_api::ssa::{BindRequest, PrepareRequest, RequestState};
use service_kit::CallError;
use store_kit::{StoreError, transaction};

use super::authorize::{Asked, granted, issue};
use super::refusals::{Fault, of_authorize};
use super::{Bearer, Call, bearer, refused};
use crate::limits::Wait;
use crate::tokens::{Scope, Token};
use crate::waiting::{self, Held, State, Waiting};
use crate::{Ssa, crypt};

/// How often a waiting call of version 1 looks for what another node was told.
const LOOK: Duration = Duration::from_secs(1);

/// Seconds by which a request outlives the call of version 1 that waits for it.
const LATER: i64 = 5;

/// Puts a request before the person, in the portal.
pub(super) async fn ask(
    ssa: &Ssa,
    call: &Call,
    bearer: &Bearer,
    asked: Asked,
) -> Result<CredentialAuthorizeResponse, Fault> {
    let now = ssa.now();
    let client = &bearer.client;
    let admitted = transaction!(ssa.store(), "admit-waiting", |tx| {
        waiting::admit(tx, &client.id, &asked.person, now).await
    })?;
    held(admitted)?;
    let (handle, label) = (crypt::draw(ssa.random()), crypt::draw(ssa.random()));
    // What nobody waits for any more isn't there to be decided.
    let life = match call.v1 {
        true => longest(ssa),
        false => waiting::life(client.settings.wait_seconds),
    };
    let count = asked.items.len();
    let request = PrepareRequest {
        person: asked.person.clone(),
        key: asked.facts.key.clone(),
        client: client.id.clone(),
        client_name: client.name.clone(),
        client_jws: None,
        items: asked.items,
        open: None,
        renew: asked.renew.into(),
        return_uri: format!("{}/requests/{}", ssa.config().base_url, label.expose()),
        ttl: life,
    };
    let prepared = ssa.sam().prepare(&request).await.map_err(of_authorize)?;
    let sealed = ssa.seal_rid(&label, prepared.rid);
    let new = Waiting::new(
        &handle,
        &label,
        (client.id.clone(), asked.person, asked.facts),
        bearer.token.holder,
        count,
        sealed.ok_or(CscError::Internal)?,
        (now, now.plus(life)),
    );
    // Looked at again: others may have come in between.
    let stored = transaction!(ssa.store(), "store-waiting", |tx| {
        let admitted = waiting::admit(tx, &client.id, &new.person, now).await?;
        if admitted.is_ok() {
            waiting::insert(tx, &new).await?;
            let event = Event::RequestPrepared {
                request: sha256(&[&prepared.rid.0]),
                client: new.client.clone(),
                person: new.person.clone(),
                key: new.facts.key.clone(),
                items: u32::try_from(count).unwrap_or(u32::MAX),
            };
            ssa.audit().append(tx, event, now).await?;
        }
        Ok::<_, StoreError>(admitted)
    })?;
    held(stored)?;
    match call.v1 {
        true => wait(ssa, &handle).await,
        false => {
            let own = client.settings.own_sic;
            let sic_request = own.then(|| SecretText::new(prepared.rid.to_string()));
            Ok(CredentialAuthorizeResponse::Pending(Pending {
                handle,
                sic_request,
            }))
        }
    }
}

fn held(admitted: Result<(), Held>) -> Result<(), Fault> {
    match admitted {
        Ok(()) => Ok(()),
        Err(Held::Muted) => Err(CscError::Declined.into()),
        Err(Held::Full { seconds }) => {
            let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
            Err(Wait(seconds).into())
        }
    }
}

/// Life of a request of version 1 in seconds: as long as its call, which ends first and says that nobody decided.
fn longest(ssa: &Ssa) -> i64 {
    let seconds = i64::try_from(ssa.config().longest_call.as_secs());
    seconds.unwrap_or(i64::MAX).saturating_add(LATER)
}

async fn give_up(ssa: &Ssa, handle: &SecretText) -> Result<(), StoreError> {
    if let Some(waiting) = find(ssa, handle).await? {
        transaction!(ssa.store(), "gave-up", |tx| {
            waiting::end(tx, &waiting, State::Over).await
        })?;
    }
    Ok(())
}

/// Version 1 has no way to ask again: its call waits, and what isn't decided by then is over.
async fn wait(ssa: &Ssa, handle: &SecretText) -> Result<CredentialAuthorizeResponse, Fault> {
    let answered = async {
        loop {
            // Before looking, so that a decision in between isn't missed.
            let told = ssa.decided().notified();
            let waiting = find(ssa, handle).await?.ok_or(CscError::Internal)?;
            match look(ssa, waiting, handle.clone()).await? {
                CredentialAuthorizeResponse::Pending(_) => {}
                granted => return Ok(granted),
            }
            tokio::select! {
                () = told => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    };
    let done = tokio::time::timeout(ssa.config().longest_call, answered).await;
    if done.is_err() {
        give_up(ssa, handle).await?;
    }
    done.unwrap_or_else(|_| Err(CscError::NotDecided.into()))
}

const METHOD: &str = "credentials/authorizeCheck";

/// `credentials/authorizeCheck`
pub(super) async fn check(
    ssa: &Ssa,
    call: &Call,
    body: Bytes,
) -> Result<CredentialAuthorizeResponse, Fault> {
    let bearer = bearer(ssa, call).await?;
    let done = checked(ssa, &bearer, &body).await;
    if let Err(fault) = &done {
        refused(ssa, METHOD, &bearer.token, fault.reason()).await?;
    }
    done
}

async fn checked(
    ssa: &Ssa,
    bearer: &Bearer,
    body: &[u8],
) -> Result<CredentialAuthorizeResponse, Fault> {
    if bearer.token.scope != Scope::Service {
        return Err(CscError::AccessDenied.into());
    }
    let AuthorizeCheckRequest { handle } = AuthorizeCheckRequest::parse(body)?;
    let waiting = find(ssa, &handle).await?;
    let token = &bearer.token;
    // Another's, and one that never was, look the same.
    let own = waiting.filter(|waiting| {
        waiting.client == token.client
            && waiting.holder == token.holder
            && token.person.as_ref().is_none_or(|p| *p == waiting.person)
    });
    look(ssa, own.ok_or(UNKNOWN)?, handle).await
}

const UNKNOWN: CscError = CscError::InvalidParameter("handle");

async fn find(ssa: &Ssa, handle: &SecretText) -> Result<Option<Waiting>, StoreError> {
    let mut tx = ssa.store().read("waiting").await?;
    waiting::find(&mut tx, handle.expose()).await
}

/// What became of it.
async fn look(
    ssa: &Ssa,
    waiting: Waiting,
    handle: SecretText,
) -> Result<CredentialAuthorizeResponse, Fault> {
    if waiting.state == State::Refused {
        return Err(CscError::Declined.into());
    }
    if waiting.state != State::Open {
        return Err(UNKNOWN.into());
    }
    let state = ssa.settle(&waiting).await?;
    match state.ok_or(CscError::Unavailable)? {
        RequestState::Open if waiting.lives(ssa.now()) => {
            Ok(CredentialAuthorizeResponse::Pending(Pending {
                handle,
                sic_request: None,
            }))
        }
        RequestState::Approved => take(ssa, &waiting).await,
        RequestState::Refused => Err(CscError::Declined.into()),
        RequestState::Open | RequestState::Expired => Err(UNKNOWN.into()),
    }
}

/// Binds the one SAD of an approved request. Who is second is refused by the SAM.
async fn take(ssa: &Ssa, waiting: &Waiting) -> Result<CredentialAuthorizeResponse, Fault> {
    let sad = crypt::draw(ssa.random());
    let request = BindRequest {
        rid: ssa.rid_of(waiting).ok_or(CscError::Internal)?,
        grant: crypt::grant(sad.expose()),
    };
    let mut bound = ssa.sam().bind(&request).await;
    if matches!(bound, Err(CallError::Unknown)) {
        // It may have been done: the same call gets the same answer.
        bound = ssa.sam().bind(&request).await;
    }
    let bound = bound.map_err(|error| match error {
        CallError::Refused(Refusal::NotNow) | CallError::Unreachable | CallError::Unknown => {
            Fault::from(CscError::Unavailable)
        }
        CallError::Refused(_) => UNKNOWN.into(),
    })?;
    if bound.key != waiting.facts.key {
        tracing::error!("the SAM bound a SAD to another key than the one prepared");
        return Err(CscError::Internal.into());
    }
    let token = Token {
        scope: Scope::Credential(waiting.facts.clone()),
        client: waiting.client.clone(),
        person: Some(waiting.person.clone()),
        holder: waiting.holder,
        bare: bound.bare,
        exp: bound.sign_until,
        revoked: false,
    };
    let now = ssa.now();
    transaction!(ssa.store(), "take-waiting", |tx| {
        waiting::end(tx, waiting, State::Taken).await?;
        waiting::answered(tx, waiting, true, now).await?;
        issue(ssa, tx, &sad, &token, &waiting.person, now).await
    })?;
    Ok(granted(sad, bound.sign_until, now))
}
