//! What can go wrong, and whose fault it is.

use csc_types::ErrorBody;

/// Failure of a call to a provider.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is not an absolute HTTP(S) URL that can be used. (Caller.)
    #[error("{0:?} isn't a usable service address: give an absolute https URL")]
    BadUrl(String),
    /// Plain HTTP to another machine. (Caller or provider.)
    #[error("{0} would be reached without TLS: only https is used, except on this machine itself")]
    Insecure(String),
    /// A certificate file could not be read. (Caller.)
    #[error("the given root certificates can't be read: {0}")]
    BadRoots(String),
    /// The client certificate or its key can't be used. (Caller.)
    #[error("the client certificate can't be used: {0}")]
    BadIdentity(String),
    /// The HTTP client could not be set up. (This machine.)
    #[error("the HTTP client can't be set up: {0}")]
    Setup(String),
    /// No answer. (Network or provider.)
    #[error("no answer from {endpoint}: {reason}")]
    Transport {
        /// What was called, without query.
        endpoint: String,
        /// Cause.
        reason: String,
    },
    /// The answer is larger than anything this API returns. (Provider.)
    #[error("the answer of {0} is too large")]
    TooLarge(String),
    /// The answer is not what the specification says. (Provider.)
    #[error("the answer of {endpoint} can't be understood: {reason}")]
    Malformed {
        /// What was called.
        endpoint: String,
        /// Cause.
        reason: String,
    },
    /// The provider refused the call.
    #[error("{endpoint} refused with status {status}: {} {}", body.error, body.error_description.as_deref().unwrap_or_default())]
    Api {
        /// What was called.
        endpoint: String,
        /// HTTP status.
        status: u16,
        /// Error body; `error` is empty when there was none.
        body: ErrorBody,
    },
    /// The person or the authorization server refused at `oauth2/authorize`.
    #[error("not authorized: {} {}", .0.error, .0.error_description.as_deref().unwrap_or_default())]
    Refused(ErrorBody),
    /// The redirect belongs to another request, or was forged.
    #[error("the answer of the browser doesn't belong to this request (state differs)")]
    StateMismatch,
    /// The redirect comes from another authorization server (RFC 9207 §2.4).
    #[error("the answer of the browser comes from another server (iss differs)")]
    IssuerMismatch,
    /// The provider doesn't offer what is needed.
    #[error("this service doesn't offer {0}")]
    Unsupported(&'static str),
}

impl ClientError {
    /// Whether the provider may have done what it was asked for although no answer came that says so. After
    /// `signHash` that means: there may be a signature, so nobody is told that there is none.
    pub fn outcome_is_unknown(&self) -> bool {
        match self {
            Self::Transport { .. } | Self::TooLarge(_) | Self::Malformed { .. } => true,
            // It knows that the right to sign is used up and that no value can come any more.
            Self::Api { body, .. }
                if body.error_description.as_deref() == Some(csc_types::OUTCOME_LOST) =>
            {
                false
            }
            Self::Api { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// Whether the signer said no or let the request run out, rather than something failing.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Refused(body) => body.error == "access_denied",
            _ => false,
        }
    }
}
