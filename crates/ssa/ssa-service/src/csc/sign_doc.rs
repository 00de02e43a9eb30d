//! `signatures/signDoc` (CSC 11.14): the call goes to a worker in a process of its own, which uses the caller's token like any client.
//! Documents are carried past as text: nothing here reads one.

use std::time::Duration;

use axum::body::{Body, Bytes};
use csc_types::{CscError, SignDocRequest, SignDocResponse, WorkerRefusal, WorkerRequest, habits};
use service_kit::{CallError, is_no_room};

use super::refusals::Fault;
use super::sign::{authority, idempotency_key};
use super::{Bearer, Call, bearer, is_json, refused};
use crate::Ssa;

const METHOD: &str = "signatures/signDoc";
/// Longest body in bytes: documents of 12 MB together.
const LIMIT: usize = 16 << 20;
/// Longest answer of a worker in bytes: what came, encoded once more, with signatures and certificates.
pub const WORKER_ANSWER: usize = 2 * LIMIT;
/// Longest time for a body: two megabit a second.
const PATIENCE: Duration = Duration::from_secs(90);

/// Error codes that a worker may answer with; others are nobody's business outside.
const CODES: [&str; 9] = [
    "invalid_request",
    "invalid_hash",
    "access_denied",
    "invalid_token",
    "expired_token",
    "invalid_otp",
    "server_error",
    "temporarily_unavailable",
    "unauthorized_client",
];

pub(super) async fn sign_doc(ssa: &Ssa, call: &Call, body: Body) -> Result<SignDocResponse, Fault> {
    if ssa.worker().is_none() {
        return Err(CscError::NotImplemented.into());
    }
    // Who calls is known before the documents are taken in.
    let bearer = bearer(ssa, call).await?;
    let token = bearer.token.clone();
    let done = attempt(ssa, call, bearer, body).await;
    if let Err(fault) = &done {
        refused(ssa, METHOD, &token, fault.reason()).await?;
    }
    done
}

async fn attempt(
    ssa: &Ssa,
    call: &Call,
    bearer: Bearer,
    body: Body,
) -> Result<SignDocResponse, Fault> {
    let worker = ssa.worker().ok_or(CscError::NotImplemented)?;
    let _room = ssa
        .room_for_documents(&bearer.client.id)
        .ok_or(CscError::Unavailable)?;
    // A bound token is good only with its key or certificate, which the worker doesn't have.
    if bearer.token.holder.is_some() {
        return Err(Fault::explained(CscError::AccessDenied, BOUND));
    }
    // Whoever has a room has to leave it again, however slow its line.
    let body = tokio::time::timeout(PATIENCE, axum::body::to_bytes(body, LIMIT)).await;
    let body = body.map_err(|_| Fault::explained(CscError::Unavailable, TOO_SLOW))?;
    let body = body.map_err(|error| match is_no_room(&error) {
        true => Fault::full(),
        false => CscError::BodyTooLarge.into(),
    })?;
    is_json(&call.headers)?;
    let meant = match bearer.client.is_lenient(ssa) {
        true => habits::body(&body, call.v1),
        false => None,
    };
    let body = meant.map_or(body, Bytes::from);
    let asked = SignDocRequest::parse(&body)?;
    let token = bearer.text.clone();
    let (right, _, facts, _) = authority(ssa, bearer, asked.sad.as_ref()).await?;
    if asked.credential_id != facts.key.as_str() {
        return Err(CscError::InvalidParameter("credentialID").into());
    }
    // No document can be compared with them: the worker would be told that another hash was approved, whichever was.
    if right.bare {
        return Err(CscError::NotDocuments.into());
    }
    drop(asked);
    let request = WorkerRequest {
        token,
        body: String::from_utf8(body.into()).map_err(|_| CscError::Malformed)?,
        idempotency_key: idempotency_key(&call.headers)?,
    };
    let done = worker.sign_doc(&request).await;
    done.map_err(|error| match error {
        CallError::Refused(refusal) => passed(refusal).into(),
        CallError::Unreachable => CscError::Unavailable.into(),
        CallError::Unknown => Fault::explained(CscError::Internal, csc_types::OUTCOME_LOST),
    })
}

const TOO_SLOW: &str = "The documents came too slowly";
const BOUND: &str = "A bound token can't be handed on: ask signatures/signHash";

fn passed(refusal: WorkerRefusal) -> CscError {
    let known = CODES.into_iter().find(|code| *code == refusal.error);
    match known {
        Some(error) if (400..600).contains(&refusal.status) => CscError::Passed {
            status: refusal.status,
            error,
            description: refusal.description.chars().take(300).collect(),
        },
        _ => CscError::Internal,
    }
}
