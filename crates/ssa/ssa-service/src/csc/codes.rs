//! `credentials/sendOTP` and `credentials/getChallenge` (CSC 11.12, 11.10): the SAM has a one-time code brought to the signer, past
//! this service. What comes back with `credentials/authorize` is the SAM's to judge; here nobody ever holds a code before the
//! signer typed it.

use axum::body::Bytes;
use csc_types::{CscError, GetChallengeRequest, SendOtpRequest, v1};
use sam_api::ssa::{KeyState, SendCodeRequest};

use super::credentials::{certified, find};
use super::refusals::{Fault, of_send};
use super::{Bearer, Call, Done, bearer, refused};
use crate::Ssa;
use crate::tokens::Scope;

/// `credentials/sendOTP`
pub(super) async fn send_otp(ssa: &Ssa, call: &Call, body: Bytes) -> Result<Done, Fault> {
    let bearer = bearer(ssa, call).await?;
    let done = async {
        may(&bearer)?;
        let request = SendOtpRequest::parse(&body)?;
        let none = CscError::InvalidParameter("credentialID");
        send(ssa, &bearer, &request.credential_id, none).await
    }
    .await;
    told(ssa, "credentials/sendOTP", &bearer, done).await
}

/// `credentials/getChallenge`: the one challenge there is goes out of band.
pub(super) async fn challenge(ssa: &Ssa, call: &Call, body: Bytes) -> Result<Done, Fault> {
    let bearer = bearer(ssa, call).await?;
    let done = async {
        may(&bearer)?;
        let request = GetChallengeRequest::parse(&body)?;
        let none = CscError::InvalidParameter("authObjectID");
        if request.auth_object_id != v1::OTP {
            return Err(none.into());
        }
        send(ssa, &bearer, &request.credential_id, none).await
    }
    .await;
    told(ssa, "credentials/getChallenge", &bearer, done).await
}

async fn told(
    ssa: &Ssa,
    method: &'static str,
    bearer: &Bearer,
    done: Result<(), Fault>,
) -> Result<Done, Fault> {
    if let Err(fault) = &done {
        refused(ssa, method, &bearer.token, fault.reason()).await?;
    }
    done.map(|()| Done)
}

fn may(bearer: &Bearer) -> Result<(), CscError> {
    if bearer.token.scope != Scope::Service {
        return Err(CscError::AccessDenied);
    }
    match bearer.client.settings.allows_scope("credential") {
        true => Ok(()),
        false => Err(CscError::UnauthorizedClient),
    }
}

/// `none`: the answer for a credential without such codes.
async fn send(ssa: &Ssa, bearer: &Bearer, id: &str, none: CscError) -> Result<(), Fault> {
    let found = find(ssa, bearer, id).await?;
    let found = found.filter(|(_, key)| certified(key).is_some());
    let (person, key) = found.ok_or(CscError::InvalidParameter("credentialID"))?;
    if !key.codes {
        return Err(none.into());
    }
    if !bearer.client.settings.allows_level(key.level.level) {
        return Err(CscError::AccessDenied.into());
    }
    if key.state != KeyState::Active {
        return Err(CscError::CredentialDisabled.into());
    }
    let request = SendCodeRequest {
        person,
        key: key.key,
        client: bearer.client.id.clone(),
    };
    let sent = ssa.sam().send_code(&request).await;
    sent.map(drop).map_err(of_send)
}
