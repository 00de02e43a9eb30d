//! What went wrong, in pairs: what happened and what to do. The texts are messages `error-CODE` and
//! `error-CODE-do`.

use axum::http::StatusCode;
use csc_client::ClientError;
use pades::PadesError;
use signing_job::JobError;

/// A problem as people and programs see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Stable code.
    pub(crate) code: &'static str,
    /// HTTP status.
    pub(crate) status: StatusCode,
    /// What the other side said, quoted; untrusted text.
    pub(crate) quote: Option<String>,
}

impl Problem {
    pub(crate) const fn new(code: &'static str, status: StatusCode) -> Self {
        Self {
            code,
            status,
            quote: None,
        }
    }

    pub(crate) const NOT_FOUND: Self = Self::new("sca-not-found", StatusCode::NOT_FOUND);
    pub(crate) const FORM_STALE: Self = Self::new("sca-form-stale", StatusCode::FORBIDDEN);
    pub(crate) const NO_FILE: Self = Self::new("sca-no-file", StatusCode::BAD_REQUEST);
    pub(crate) const TOO_LARGE: Self = Self::new("sca-too-large", StatusCode::PAYLOAD_TOO_LARGE);
    pub(crate) const UPLOAD_BROKEN: Self = Self::new("sca-upload-broken", StatusCode::BAD_REQUEST);
    pub(crate) const TOO_MANY: Self = Self::new("sca-too-many", StatusCode::TOO_MANY_REQUESTS);
    pub(crate) const STORAGE: Self = Self::new("sca-storage", StatusCode::INSUFFICIENT_STORAGE);
    pub(crate) const WRONG_STATE: Self = Self::new("sca-wrong-state", StatusCode::CONFLICT);
    pub(crate) const NO_KEY: Self = Self::new("sca-no-key", StatusCode::CONFLICT);
    pub(crate) const CANCELLED: Self = Self::new("cancelled", StatusCode::CONFLICT);
    pub(crate) const UNKNOWN_OUTCOME: Self = Self::new("unknown-outcome", StatusCode::BAD_GATEWAY);
    pub(crate) const TSA: Self = Self::new("sca-tsa", StatusCode::BAD_GATEWAY);
    pub(crate) const INTERNAL: Self = Self::new("sca-internal", StatusCode::INTERNAL_SERVER_ERROR);

    fn quoting(code: &'static str, status: StatusCode, quote: String) -> Self {
        Self {
            code,
            status,
            quote: Some(quote),
        }
    }
}

impl From<&ClientError> for Problem {
    fn from(error: &ClientError) -> Self {
        let gateway = StatusCode::BAD_GATEWAY;
        match error {
            e if e.is_refusal() => Self::CANCELLED,
            ClientError::Refused(body) | ClientError::Api { body, .. } => {
                let text = body
                    .error_description
                    .clone()
                    .unwrap_or_else(|| body.error.clone());
                Self::quoting("sca-service-refused", gateway, text)
            }
            ClientError::StateMismatch | ClientError::IssuerMismatch => {
                Self::new("sca-foreign-answer", StatusCode::FORBIDDEN)
            }
            ClientError::Transport { .. } => Self::new("sca-service-silent", gateway),
            _ => Self::new("sca-service-unusable", gateway),
        }
    }
}

impl From<&PadesError> for Problem {
    fn from(error: &PadesError) -> Self {
        let code = match error.code() {
            "pdf-truncated" => "pdf-broken",
            code if error.is_input() => code,
            // A placeholder, an option or a disk is our own trouble.
            _ => return Self::INTERNAL,
        };
        Self::new(code, StatusCode::UNPROCESSABLE_ENTITY)
    }
}

impl From<&JobError> for Problem {
    fn from(error: &JobError) -> Self {
        match error {
            JobError::Pdf(e) => e.into(),
            JobError::TimeStamp(_) => Self::TSA,
            JobError::WrongSignature => Self::new("sca-wrong-signature", StatusCode::BAD_GATEWAY),
            JobError::Certificate(_) => Self::new("sca-certificate", StatusCode::BAD_GATEWAY),
            JobError::File { .. } | JobError::Cms(_) | JobError::Interrupted => Self::INTERNAL,
        }
    }
}
