//! Every error of the API, with its status, code and description, in one place.

use std::borrow::Cow;

use core_types::PssRefusal;
use serde::{Deserialize, Serialize};

use crate::lenient;

/// Error of a CSC method (`/csc/v2/*`). The description is the text of the specification where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", self.error(), self.description())]
pub enum CscError {
    /// The body is not a JSON object, or names a member twice.
    Malformed,
    /// The body is something else than JSON by its `Content-Type`.
    MediaType,
    /// Called with another HTTP method than `POST`.
    WrongMethod,
    /// No usable `Authorization: Bearer` header.
    MalformedHeader,
    /// A required string is missing or has another type.
    MissingString(&'static str),
    /// A required integer is missing or has another type.
    MissingInteger(&'static str),
    /// A required array is missing or has another type.
    MissingArray(&'static str),
    /// A parameter has a value that can't be used.
    InvalidParameter(&'static str),
    /// A string parameter has a value that can't be used, in the words of `auth/revoke`.
    InvalidString(&'static str),
    /// An integer is out of its range.
    InvalidValue(&'static str),
    /// A number is outside of what is allowed.
    OutOfBounds(&'static str),
    /// A request was accepted and isn't finished.
    NotFinished,
    /// `numSignatures` is more than the credential's `multisign`.
    TooManySignatures,
    /// `userID` was given although the token names the user.
    UserIdMustBeNull,
    /// The key is disabled.
    CredentialDisabled,
    /// The authentication data of `credentials/authorize` is wrong.
    InvalidAuthData,
    /// The one-time code of `credentials/authorize` can't be one, for which version 1 has a word of its own.
    MalformedOtp,
    /// Too many wrong attempts.
    CredentialLocked,
    /// No code is sent after wrong attempts, too soon or too often.
    OtpLocked,
    /// `hashes` is empty.
    EmptyHashes,
    /// `hash` is empty.
    EmptyHash,
    /// A hash is not base64.
    InvalidBase64Hash,
    /// A hash has another length than its algorithm gives.
    InvalidDigestLength,
    /// A hash was not part of the authorization, or not any more.
    HashNotAuthorized,
    /// `hashAlgorithmOID` and `signAlgo` name different hashes.
    HashContradiction,
    /// RSASSA-PSS parameters that are not accepted, with the reason.
    PssParams(PssRefusal),
    /// `documentDigests` of `signatures/signDoc` can't be meant.
    DocumentDigests,
    /// `documents` of `signatures/signDoc` can't be meant.
    Documents,
    /// Neither documents nor digests.
    NoDocuments,
    /// Documents and digests.
    BothDocuments,
    /// A digest of a document is not base64.
    InvalidBase64Hashes,
    /// A document is not base64.
    InvalidBase64Documents,
    /// Properties that can't be signed, by their names.
    SignedProps(String),
    /// A document or digest is not what was authorized.
    DocumentMismatch,
    /// What was authorized are hashes of data to be signed: no document can be compared with them.
    NotDocuments,
    /// What another part of the service answered.
    Passed {
        /// HTTP status.
        status: u16,
        /// The `error` member.
        error: &'static str,
        /// The `error_description` member.
        description: String,
    },
    /// The signature activation data ran out.
    SadExpired,
    /// The certificate ran out; with its owner (`O=…,CN=…`) for version 1, which names it.
    CertificateExpired(Option<String>),
    /// The certificate is revoked or suspended.
    CertificateStatus,
    /// The bearer token is unknown.
    InvalidToken,
    /// The bearer token ran out or was revoked.
    ExpiredToken,
    /// The DPoP proof is missing, malformed, used, or of another key than the token's.
    InvalidProof,
    /// The client may not use this method.
    UnauthorizedClient,
    /// Refused by the user or by policy.
    AccessDenied,
    /// `auth/login` without a usable `Authorization: Basic` header.
    LoginHeader,
    /// The header of `auth/login` doesn't hold name and password.
    LoginPair,
    /// The login failed; why isn't told.
    LoginFailed,
    /// A refresh token of `auth/login` that can't be one.
    RefreshTokenFormat,
    /// A refresh token of `auth/login` that is none, or none any more.
    RefreshTokenUnknown,
    /// The person said no, or said no too often to be asked again now.
    Declined,
    /// The person did not decide while the call waited.
    NotDecided,
    /// The body is larger than the service accepts.
    BodyTooLarge,
    /// Too many requests.
    RateLimited,
    /// The method is not offered.
    NotImplemented,
    /// A fault of the service.
    Internal,
    /// Not able to serve now.
    Unavailable,
}

/// What our service says when a key that signs messages (Ed25519, ML-DSA) is asked to sign a bare hash.
pub const BARE_HASH: &str =
    "This credential signs messages and not hashes: authorize documents, with hashType sdr";
/// What our service says with `server_error` of `signatures/signHash` when the right to sign is used up and no
/// value can come any more. A client must not repeat the call.
pub const OUTCOME_LOST: &str =
    "The outcome is unknown and the authorization is used up: ask the signer to approve again";

impl CscError {
    /// HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::NotFinished => 202,
            Self::InvalidToken | Self::ExpiredToken | Self::InvalidProof | Self::LoginHeader => 401,
            Self::UnauthorizedClient | Self::AccessDenied | Self::Declined | Self::NotDecided => {
                403
            }
            Self::Passed { status, .. } => *status,
            Self::DocumentMismatch => 403,
            Self::WrongMethod => 405,
            Self::BodyTooLarge => 413,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::NotImplemented => 501,
            Self::Unavailable => 503,
            _ => 400,
        }
    }

    /// The `error` member.
    pub fn error(&self) -> &'static str {
        match self {
            Self::InvalidAuthData | Self::MalformedOtp => "invalid_authentication_data",
            Self::Passed { error, .. } => error,
            Self::DocumentMismatch => "invalid_hash",
            Self::LoginFailed => "authentication_error",
            Self::NotFinished => "accepted_request",
            Self::InvalidToken => "invalid_token",
            Self::ExpiredToken => "expired_token",
            Self::InvalidProof => "invalid_dpop_proof",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::AccessDenied | Self::Declined | Self::NotDecided => "access_denied",
            Self::NotImplemented => "not_implemented_method",
            Self::Internal => "server_error",
            Self::RateLimited | Self::Unavailable => "temporarily_unavailable",
            _ => "invalid_request",
        }
    }

    /// The `error_description` member.
    pub fn description(&self) -> Cow<'static, str> {
        let text = match self {
            Self::MissingString(p) => {
                return format!("Missing (or invalid type) string parameter {p}").into();
            }
            Self::MissingInteger(p) => {
                return format!("Missing (or invalid type) integer parameter {p}").into();
            }
            Self::MissingArray(p) => {
                return format!("Missing (or invalid type) array parameter {p}").into();
            }
            Self::InvalidParameter(p) => return format!("Invalid parameter {p}").into(),
            Self::InvalidString(p) => return format!("Invalid string parameter {p}").into(),
            Self::InvalidValue(p) => return format!("Invalid value for parameter {p}").into(),
            Self::OutOfBounds(p) => return format!("Out of bounds parameter {p}").into(),
            Self::NotFinished => "The request is accepted and not completed yet",
            Self::Malformed => "The request body must be one JSON object without repeated members",
            Self::MediaType => "The request body must be application/json",
            Self::WrongMethod => "Call this method with POST",
            Self::MalformedHeader => "Malformed authorization header",
            Self::TooManySignatures => "Numbers of signatures is too high",
            Self::UserIdMustBeNull => "userID parameter MUST be null",
            Self::CredentialDisabled => "The credential identified by credentialID is disabled",
            Self::InvalidAuthData | Self::MalformedOtp => "The authentication data is invalid",
            Self::CredentialLocked => "Credential locked",
            Self::OtpLocked => "OTP locked",
            Self::EmptyHashes => "Empty hash array",
            Self::EmptyHash => "Empty hash parameter",
            Self::InvalidBase64Hash => "Invalid Base64 hash string parameter",
            Self::InvalidDigestLength => "Invalid digest value length",
            Self::HashNotAuthorized => "Hash is not authorized by the SAD",
            Self::HashContradiction => {
                "String parameter hashAlgorithmOID contradicts with signAlgo parameter"
            }
            Self::PssParams(why) => {
                return format!("Invalid parameter signAlgoParams: {why}").into();
            }
            Self::DocumentDigests => "Invalid object parameter documentDigests",
            Self::Documents => "Invalid array parameter documents",
            Self::NoDocuments => "Empty documentDigests and documents objects",
            Self::BothDocuments => "Both documentDigests and documents parameters passed",
            Self::InvalidBase64Hashes => "Invalid Base64 hashes string parameter",
            Self::InvalidBase64Documents => "Invalid Base64 documents string parameter",
            Self::SignedProps(names) => {
                return format!("Invalid parameter signed_props: {names}").into();
            }
            Self::DocumentMismatch => "Document or documentDigest does not match authorized hash",
            Self::NotDocuments => {
                "documentDigests or documents are not authorized by the SAD: it is for hashes of data to be signed; ask with hashType sdr"
            }
            Self::Passed { description, .. } => return description.clone().into(),
            Self::SadExpired => "SAD expired",
            Self::CertificateExpired(_) => "Signing certificate is expired",
            Self::CertificateStatus => "Invalid certificate status",
            Self::InvalidToken => "The access token is not valid",
            Self::ExpiredToken => "The access token is expired or revoked",
            Self::InvalidProof => "The DPoP proof is missing or can't be accepted",
            Self::UnauthorizedClient => "This client may not use this method",
            Self::AccessDenied => "The user or the service denied the request",
            Self::LoginHeader => "Malformed authentication parameter",
            Self::LoginPair => "Malformed username-password",
            Self::LoginFailed => "An error occurred during authentication process",
            Self::RefreshTokenFormat => "Invalid string parameter: refresh_token",
            Self::RefreshTokenUnknown => "Invalid refresh_token",
            Self::Declined => "The user declined",
            Self::NotDecided => "The user did not decide in time",
            Self::BodyTooLarge => "The request body is too large",
            Self::RateLimited => "Too many requests; wait and try again",
            Self::NotImplemented => "The method is not offered by this service",
            Self::Internal => "Internal error",
            Self::Unavailable => "The service can't answer now; try again later",
        };
        text.into()
    }

    /// The JSON body.
    pub fn body(&self) -> ErrorBody {
        ErrorBody::new(self.error(), &self.description())
    }

    /// Value of `WWW-Authenticate`, for the statuses that need it (RFC 6750 §3).
    pub fn www_authenticate(&self) -> Option<&'static str> {
        match self {
            Self::InvalidToken | Self::ExpiredToken => Some("Bearer error=\"invalid_token\""),
            Self::LoginHeader => Some("Basic realm=\"natsuin\""),
            Self::InvalidProof => {
                Some("DPoP error=\"invalid_dpop_proof\", algs=\"ES256 EdDSA PS256\"")
            }
            _ => None,
        }
    }
}

/// Error of an OAuth 2.0 endpoint: JSON at the token and PAR endpoints, query of the redirect at `authorize`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", self.error(), self.description())]
pub enum OAuthError {
    /// A required parameter is missing.
    Missing(&'static str),
    /// A parameter has a value that can't be used.
    Invalid(&'static str),
    /// A parameter was given twice (RFC 6749 §3.1).
    Repeated(String),
    /// PKCE with S256 is demanded (RFC 7636 §4.4.1).
    PkceRequired,
    /// `response_type` is not `code`.
    UnsupportedResponseType,
    /// `grant_type` is not one of the known ones.
    UnsupportedGrantType,
    /// The scope is unknown, or two were asked at once.
    InvalidScope,
    /// `authorization_details` is malformed or of an unknown type (RFC 9396 §5); with the reason.
    InvalidDetails(&'static str),
    /// The client did not authenticate.
    ClientAuthRequired,
    /// Client authentication failed (RFC 6749 §5.2).
    InvalidClient,
    /// The `Authorization` header isn't HTTP Basic of two parts (CSC 8.3.4 of version 1).
    MalformedHeader,
    /// The client may not use this grant.
    UnauthorizedClient,
    /// Code unknown, used, expired, of another client, or with a wrong `code_verifier`.
    InvalidCode,
    /// `redirect_uri` differs from the one of the authorization request.
    RedirectMismatch,
    /// Refresh token unknown or used.
    InvalidRefreshToken,
    /// Refresh token expired.
    RefreshTokenExpired,
    /// Signed request missing, malformed, or not this client's (RFC 9101 §6).
    InvalidRequestObject,
    /// DPoP proof missing, malformed, used, or of another key (RFC 9449 §5).
    InvalidProof,
    /// The user or the service refused.
    AccessDenied,
    /// The user of a device has not decided yet (RFC 8628 §3.5).
    AuthorizationPending,
    /// The device asks too often, and has to wait five seconds longer each time from here on.
    SlowDown,
    /// The device's code ran out.
    DeviceCodeExpired,
    /// Too many requests.
    RateLimited,
    /// A fault of the service.
    ServerError,
    /// Not able to serve now.
    Unavailable,
}

impl OAuthError {
    /// HTTP status at the token and PAR endpoints.
    pub fn status(&self) -> u16 {
        match self {
            Self::InvalidClient | Self::MalformedHeader => 401,
            Self::RateLimited => 429,
            Self::ServerError => 500,
            Self::Unavailable => 503,
            _ => 400,
        }
    }

    /// The `error` member or parameter.
    pub fn error(&self) -> &'static str {
        match self {
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidDetails(_) => "invalid_authorization_details",
            Self::InvalidClient | Self::MalformedHeader => "invalid_client",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::InvalidCode
            | Self::RedirectMismatch
            | Self::InvalidRefreshToken
            | Self::RefreshTokenExpired => "invalid_grant",
            Self::InvalidRequestObject => "invalid_request_object",
            Self::InvalidProof => "invalid_dpop_proof",
            Self::AccessDenied => "access_denied",
            Self::AuthorizationPending => "authorization_pending",
            Self::SlowDown => "slow_down",
            Self::DeviceCodeExpired => "expired_token",
            Self::ServerError => "server_error",
            Self::RateLimited | Self::Unavailable => "temporarily_unavailable",
            Self::Missing(_)
            | Self::Invalid(_)
            | Self::Repeated(_)
            | Self::PkceRequired
            | Self::ClientAuthRequired => "invalid_request",
        }
    }

    /// The `error_description` member or parameter; printable ASCII (RFC 6749 §5.2).
    pub fn description(&self) -> Cow<'static, str> {
        let text = match self {
            Self::Missing(p) => return format!("Missing parameter {p}").into(),
            Self::Invalid(p) => return format!("Invalid parameter {p}").into(),
            Self::Repeated(_) => "A parameter was given more than once",
            Self::PkceRequired => {
                "PKCE is required: send code_challenge with code_challenge_method S256"
            }
            Self::UnsupportedResponseType => "response_type must be code",
            Self::UnsupportedGrantType => "Invalid parameter grant_type",
            Self::InvalidScope => "Ask for exactly one of the scopes service and credential",
            Self::InvalidDetails(why) => why,
            Self::ClientAuthRequired => "Client authorization required",
            Self::InvalidClient => "Client authentication failed",
            Self::MalformedHeader => "Invalid authorization header",
            Self::UnauthorizedClient => "This client may not use this grant",
            Self::InvalidCode => "Authorization code is invalid or expired",
            Self::RedirectMismatch => {
                "redirect_uri differs from the one in the authorization request"
            }
            Self::InvalidRefreshToken => "Invalid parameter refresh_token",
            Self::RefreshTokenExpired => "Refresh token expired",
            Self::InvalidRequestObject => "The signed request is missing or can't be accepted",
            Self::InvalidProof => "The DPoP proof is missing or can't be accepted",
            Self::AccessDenied => "The user or the service denied the request",
            Self::AuthorizationPending => "The user has not decided yet",
            Self::SlowDown => "Wait five seconds longer between two questions",
            Self::DeviceCodeExpired => "The device code expired",
            Self::RateLimited => "Too many requests; wait and try again",
            Self::ServerError => "Internal error",
            Self::Unavailable => "The service can't answer now; try again later",
        };
        text.into()
    }

    /// The JSON body.
    pub fn body(&self) -> ErrorBody {
        ErrorBody::new(self.error(), &self.description())
    }
}

/// Error body of both kinds of endpoints (CSC 10.1, RFC 6749 §5.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Code.
    pub error: String,
    /// Text for the developer.
    #[serde(
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub error_description: Option<String>,
}

impl ErrorBody {
    /// A body with code and text.
    pub fn new(error: &str, description: &str) -> Self {
        Self {
            error: error.to_owned(),
            error_description: Some(description.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_the_specification() {
        let error = CscError::MissingString("credentialID");
        assert_eq!(
            serde_json::to_value(error.body()).unwrap(),
            serde_json::json!({
                "error": "invalid_request",
                "error_description": "Missing (or invalid type) string parameter credentialID"
            })
        );
        assert_eq!(CscError::ExpiredToken.status(), 401);
        assert!(CscError::ExpiredToken.www_authenticate().is_some());
        assert_eq!(OAuthError::Missing("code").body().error, "invalid_request");
        assert_eq!(OAuthError::InvalidCode.error(), "invalid_grant");
    }

    #[test]
    fn a_foreign_error_body_is_read_with_or_without_description() {
        let body: ErrorBody =
            serde_json::from_str(r#"{"error":"x","error_description":null,"message":"m"}"#)
                .unwrap();
        assert_eq!(
            body,
            ErrorBody {
                error: "x".to_owned(),
                error_description: None
            }
        );
    }
}
