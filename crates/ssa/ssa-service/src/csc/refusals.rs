//! What the SAM refuses, in the words of the CSC API. The one place where the two vocabularies meet.

use std::borrow::Cow;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use csc_types::{CscError, ErrorBody, v1};
use sam_api::Refusal;
use service_kit::CallError;
use store_kit::StoreError;

use crate::limits::{FULL, Wait};
use crate::refusal::Told;

/// An error answer.
#[derive(Debug)]
pub(super) struct Fault {
    error: CscError,
    /// Replaces the description where the specification has no word for it.
    description: Option<&'static str>,
    /// Spoken to a client of version 1.
    v1: bool,
    wait: Option<Wait>,
}

impl From<CscError> for Fault {
    fn from(error: CscError) -> Self {
        Self {
            error,
            description: None,
            v1: false,
            wait: None,
        }
    }
}

impl From<Wait> for Fault {
    fn from(wait: Wait) -> Self {
        Self {
            wait: Some(wait),
            ..CscError::RateLimited.into()
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store failed a CSC request");
        match error.is_away() {
            true => CscError::Unavailable.into(),
            false => CscError::Internal.into(),
        }
    }
}

impl Fault {
    pub(super) fn explained(error: CscError, description: &'static str) -> Self {
        Self {
            description: Some(description),
            ..error.into()
        }
    }

    /// There is no room for the body while others are being read.
    pub(super) fn full() -> Self {
        Self {
            wait: Some(FULL),
            ..CscError::Unavailable.into()
        }
    }

    /// The client's quota of signatures is used up until then.
    pub(super) fn over_quota(wait: Wait) -> Self {
        Self {
            description: Some("The application's quota of signatures is used up"),
            ..wait.into()
        }
    }

    /// In the words of version 1.
    pub(super) fn in_v1(mut self) -> Self {
        self.v1 = true;
        self
    }

    fn words(&self) -> (&'static str, Cow<'static, str>) {
        let (error, description) = match self.v1 {
            true => {
                let (error, description) = v1::error(&self.error);
                (error, description.into())
            }
            false => (self.error.error(), self.error.description()),
        };
        (error, self.description.map_or(description, Cow::Borrowed))
    }

    /// Fixed word for the audit log.
    pub(super) fn reason(&self) -> &'static str {
        self.error.error()
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (error, description) = self.words();
        let body = ErrorBody::new(error, &description);
        let mut response = (status, Json(body)).into_response();
        // The words of version 1 can name a person: that is for the caller, not for the operator's log.
        let logged = self.description;
        let description = logged.map_or_else(|| self.error.description(), Cow::Borrowed);
        response
            .extensions_mut()
            .insert(Told { error, description });
        // A request without any credentials learns the scheme too (RFC 6750 §3).
        let scheme = (self.error == CscError::MalformedHeader).then_some("Bearer");
        if let Some(value) = self.error.www_authenticate().or(scheme) {
            let value = HeaderValue::from_static(value);
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, value);
        }
        match self.wait {
            Some(wait) => wait.tell(response),
            None => response,
        }
    }
}

/// How the signature activation data came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presented {
    /// As the bearer token.
    Bearer,
    /// As the member `SAD`.
    Sad,
}

impl Presented {
    /// It stands for nothing, or for nothing any more.
    pub(super) fn dead(self) -> CscError {
        match self {
            Self::Bearer => CscError::InvalidToken,
            Self::Sad => CscError::InvalidParameter("SAD"),
        }
    }

    /// Its time ran out.
    pub(super) fn expired(self) -> CscError {
        match self {
            Self::Bearer => CscError::ExpiredToken,
            Self::Sad => CscError::SadExpired,
        }
    }
}

/// A refusal to sign.
pub(super) fn of_sign(error: CallError<Refusal>, presented: Presented) -> Fault {
    let refusal = match error {
        CallError::Refused(refusal) => refusal,
        CallError::Unreachable => return CscError::Unavailable.into(),
        CallError::Unknown => return Fault::explained(CscError::Internal, UNKNOWN),
    };
    match refusal {
        Refusal::NotFound | Refusal::NotApproved | Refusal::Used => presented.dead().into(),
        Refusal::Expired => presented.expired().into(),
        Refusal::Mismatch => CscError::InvalidParameter("credentialID").into(),
        Refusal::HashNotApproved => CscError::HashNotAuthorized.into(),
        Refusal::AlgorithmNotApproved => CscError::InvalidParameter("signAlgo").into(),
        Refusal::BareHash => {
            Fault::explained(CscError::InvalidParameter("hashes"), csc_types::BARE_HASH)
        }
        Refusal::KeyNotActive => CscError::CredentialDisabled.into(),
        Refusal::Level { .. } => CscError::AccessDenied.into(),
        Refusal::Lost => Fault::explained(CscError::Internal, csc_types::OUTCOME_LOST),
        Refusal::NotNow => CscError::Unavailable.into(),
        Refusal::Invalid { member } => {
            let name = match member.as_str() {
                "hashes" => "hashes",
                "alg" => "signAlgo",
                "key" => "credentialID",
                "idempotency_key" => "Idempotency-Key",
                _ => return inner(&member),
            };
            CscError::InvalidParameter(name).into()
        }
        Refusal::RegistrationRefused => inner("registration"),
        Refusal::SecretWrong | Refusal::Locked => inner("secret"),
    }
}

/// A refusal to authorize by collected secrets.
pub(super) fn of_authorize(error: CallError<Refusal>) -> Fault {
    let refusal = match error {
        CallError::Refused(refusal) => refusal,
        CallError::Unreachable | CallError::Unknown => return CscError::Unavailable.into(),
    };
    match refusal {
        Refusal::SecretWrong => CscError::InvalidAuthData.into(),
        Refusal::Locked => CscError::CredentialLocked.into(),
        Refusal::KeyNotActive => CscError::CredentialDisabled.into(),
        Refusal::NotFound | Refusal::Mismatch => CscError::InvalidParameter("credentialID").into(),
        Refusal::AlgorithmNotApproved => CscError::InvalidParameter("hashAlgorithmOID").into(),
        Refusal::BareHash => {
            Fault::explained(CscError::InvalidParameter("hashes"), csc_types::BARE_HASH)
        }
        Refusal::Level { .. } => CscError::AccessDenied.into(),
        Refusal::Invalid { member } if member == "items" => {
            CscError::InvalidParameter("hashes").into()
        }
        Refusal::Invalid { member } if member == "client_jws" => {
            Fault::explained(CscError::UnauthorizedClient, SIGNS_REQUESTS)
        }
        Refusal::NotNow => CscError::Unavailable.into(),
        other => inner(&other.to_string()),
    }
}

/// The SAM knows keys of this client, and believes nothing that they haven't signed.
const SIGNS_REQUESTS: &str = "This client signs its requests, which this method can't carry: ask by OAuth 2, with a signed request object";

/// A refusal to have a code sent.
pub(super) fn of_send(error: CallError<Refusal>) -> Fault {
    let refusal = match error {
        CallError::Refused(refusal) => refusal,
        // Of a code that may have gone out nobody is told that it did: another one ends it.
        CallError::Unreachable | CallError::Unknown => return CscError::Unavailable.into(),
    };
    match refusal {
        Refusal::Locked => CscError::OtpLocked.into(),
        Refusal::KeyNotActive => CscError::CredentialDisabled.into(),
        Refusal::NotFound | Refusal::Mismatch => CscError::InvalidParameter("credentialID").into(),
        Refusal::NotNow => CscError::Unavailable.into(),
        other => inner(&other.to_string()),
    }
}

/// A refusal to tell about keys.
pub(super) fn of_keys(error: CallError<Refusal>) -> Fault {
    match error {
        CallError::Refused(Refusal::NotNow) | CallError::Unreachable => {
            CscError::Unavailable.into()
        }
        CallError::Refused(refusal) => inner(&refusal.to_string()),
        CallError::Unknown => CscError::Unavailable.into(),
    }
}

fn inner(what: &str) -> Fault {
    tracing::error!(what, "the SAM refused what the SSA should not have sent");
    CscError::Internal.into()
}

const UNKNOWN: &str = "No answer came from inside: repeat with the same Idempotency-Key, or ask the signer to approve again";

#[cfg(test)]
mod tests {
    use super::*;

    fn told(refusal: Refusal, presented: Presented) -> (u16, String) {
        let fault = of_sign(CallError::Refused(refusal), presented);
        (fault.error.status(), fault.error.description().into_owned())
    }

    #[test]
    fn the_owner_of_a_certificate_is_named_to_the_caller_and_not_in_the_log() {
        let owner = "O=Natsuin,CN=髙橋 花子".to_owned();
        let fault = Fault::from(CscError::CertificateExpired(Some(owner))).in_v1();
        assert!(fault.words().1.contains("花子"));
        let response = fault.into_response();
        let told = response.extensions().get::<Told>().unwrap();
        assert_eq!(told.description, "Signing certificate is expired");
    }

    #[test]
    fn every_refusal_has_its_words() {
        use Presented::{Bearer, Sad};
        assert_eq!(
            told(Refusal::Used, Sad),
            (400, "Invalid parameter SAD".to_owned())
        );
        assert_eq!(told(Refusal::Used, Bearer).0, 401);
        assert_eq!(told(Refusal::Expired, Sad), (400, "SAD expired".to_owned()));
        assert_eq!(told(Refusal::Expired, Bearer).0, 401);
        assert_eq!(
            told(Refusal::HashNotApproved, Bearer),
            (400, "Hash is not authorized by the SAD".to_owned())
        );
        assert_eq!(told(Refusal::KeyNotActive, Bearer).0, 400);
        assert_eq!(told(Refusal::NotNow, Bearer).0, 503);
        assert_eq!(told(Refusal::Lost, Bearer).0, 500);
        let member = |name: &str| Refusal::Invalid {
            member: name.to_owned(),
        };
        assert_eq!(
            told(member("alg"), Bearer),
            (400, "Invalid parameter signAlgo".to_owned())
        );
        assert_eq!(told(member("other"), Bearer).0, 500);
    }
}
