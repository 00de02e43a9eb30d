//! `signatures/signPolling` (CSC 11.15): values of a call that didn't wait.

use axum::body::Bytes;
use csc_types::{CscError, SignHashResponse, SignPollingRequest};
use service_kit::CallError;

use super::credentials::named;
use super::refusals::{Fault, Presented, of_sign};
use super::{Call, bearer, refused};
use crate::Ssa;
use crate::later::{self, Outcome};

const METHOD: &str = "signatures/signPolling";

pub(super) async fn poll(ssa: &Ssa, call: &Call, body: Bytes) -> Result<SignHashResponse, Fault> {
    let mut bearer = bearer(ssa, call).await?;
    let request = SignPollingRequest::parse(&body)?;
    if let Some(user) = request.user_id {
        if bearer.token.person.is_some() {
            // Its table has another word for it than that of `credentials/list`.
            return Err(Fault::explained(CscError::UserIdMustBeNull, NO_USER));
        }
        bearer.token.person = Some(named(ssa, &bearer, &user).await?);
    }
    // Another's, and one that never was, look the same.
    match later::outcome(ssa, &bearer.token, &request.request_id).await? {
        Some(Outcome::Signed(values)) => Ok(values),
        Some(Outcome::Refused(refusal)) => {
            Err(of_sign(CallError::Refused(refusal), Presented::Sad))
        }
        Some(Outcome::Open) => Err(CscError::NotFinished.into()),
        None => {
            refused(ssa, METHOD, &bearer.token, "request").await?;
            Err(CscError::InvalidParameter("requestID").into())
        }
    }
}

const NO_USER: &str = "userID parameter SHALL be null";
