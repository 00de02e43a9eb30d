//! `signatures/timestamp` (CSC 11.16): the configured authorities are asked in their order, and what they answer is
//! verified before it leaves.

use axum::body::Bytes;
use core_types::Random;
use csc_types::{CscError, TimestampRequest, TimestampResponse};
use pki::tsp::{self, TimeStampReq};

use super::refusals::Fault;
use super::{Call, bearer, refused};
use crate::Ssa;
use crate::tokens::Scope;

const METHOD: &str = "signatures/timestamp";

pub(super) async fn timestamp(
    ssa: &Ssa,
    call: &Call,
    body: Bytes,
) -> Result<TimestampResponse, Fault> {
    if ssa.config().time_stampers.is_empty() {
        return Err(CscError::NotImplemented.into());
    }
    let bearer = bearer(ssa, call).await?;
    if bearer.token.scope != Scope::Service {
        refused(ssa, METHOD, &bearer.token, "scope").await?;
        return Err(CscError::AccessDenied.into());
    }
    let query = query(TimestampRequest::parse(&body)?, ssa.random());
    for authority in &ssa.config().time_stampers {
        let asked = tsp::ask(ssa.fetch(), &authority.url, &query, &authority.anchors);
        match asked.await {
            Ok((token, _)) => return Ok(TimestampResponse::new(&token)),
            Err(error) => {
                tracing::warn!(url = authority.url, %error, "a time-stamping authority gave no time-stamp");
            }
        }
    }
    Err(CscError::Unavailable.into())
}

/// The client's nonce, or one of our own: an answer without belongs to anybody.
fn query(request: TimestampRequest, random: &dyn Random) -> TimeStampReq {
    let own = TimeStampReq::new(request.hash_algorithm, request.hash, random);
    TimeStampReq {
        nonce: request.nonce.or(own.nonce),
        ..own
    }
}
