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
    /// The file is signed, only its check is missing.
    pub(crate) const NOT_CHECKED: Self =
        Self::new("sca-not-checked", StatusCode::INTERNAL_SERVER_ERROR);
    pub(crate) const BUSY: Self = Self::new("sca-busy", StatusCode::SERVICE_UNAVAILABLE);
    pub(crate) const TOO_COMPLEX: Self =
        Self::new("pdf-too-complex", StatusCode::UNPROCESSABLE_ENTITY);
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
                match known_refusal(&body.error, &text) {
                    Some(code) => Self::new(code, StatusCode::CONFLICT),
                    None => Self::quoting("sca-service-refused", gateway, text),
                }
            }
            ClientError::StateMismatch | ClientError::IssuerMismatch => {
                Self::new("sca-foreign-answer", StatusCode::FORBIDDEN)
            }
            ClientError::Transport { .. } => Self::new("sca-service-silent", gateway),
            _ => Self::new("sca-service-unusable", gateway),
        }
    }
}

/// Refusals that the specification words, and that the signer can do something about.
fn known_refusal(error: &str, description: &str) -> Option<&'static str> {
    use csc_types::CscError as E;
    let is = |e: &E| description == e.description();
    if error == "expired_token" || is(&E::SadExpired) {
        Some("act-expired")
    } else if is(&E::CredentialDisabled) {
        Some("key-stopped")
    } else if description == csc_types::OUTCOME_LOST {
        Some("sca-lost")
    } else if is(&E::CertificateStatus) {
        Some("cert-revoked")
    } else {
        None
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

#[cfg(test)]
mod tests {
    use super::*;
    use csc_types::{CscError, ErrorBody};
    use web_ui::{Lang, Messages};

    fn api(body: ErrorBody) -> Problem {
        let endpoint = "signatures/signHash".to_owned();
        (&ClientError::Api {
            endpoint,
            status: 400,
            body,
        })
            .into()
    }

    #[test]
    fn refusals_of_the_service_get_words_that_help() {
        assert_eq!(api(CscError::SadExpired.body()).code, "act-expired");
        assert_eq!(api(CscError::CredentialDisabled.body()).code, "key-stopped");
        let other = api(ErrorBody::new("x", "who knows"));
        assert_eq!(
            (other.code, other.quote.as_deref()),
            ("sca-service-refused", Some("who knows"))
        );
        let refused = ClientError::Refused(ErrorBody::new("access_denied", ""));
        assert_eq!(Problem::from(&refused), Problem::CANCELLED);
    }

    /// Every code of this crate has both halves in both languages.
    #[test]
    fn every_problem_has_its_words() {
        let codes = [
            "act-expired",
            "key-stopped",
            "cert-revoked",
            "cancelled",
            "unknown-outcome",
            "pdf-encrypted",
            "pdf-no-changes",
            "pdf-broken",
            "pdf-not-a-pdf",
            "pdf-field-locked",
            "pdf-field-choice",
            "pdf-field-unusable",
            "pdf-xfa",
            "pdf-hybrid",
            "pdf-too-complex",
            "pdf-seed-value",
            "sca-not-found",
            "sca-form-stale",
            "sca-no-file",
            "sca-too-large",
            "sca-upload-broken",
            "sca-too-many",
            "sca-storage",
            "sca-wrong-state",
            "sca-no-key",
            "sca-tsa",
            "sca-internal",
            "sca-not-checked",
            "sca-lost",
            "sca-busy",
            "sca-service-refused",
            "sca-service-silent",
            "sca-service-unusable",
            "sca-foreign-answer",
            "sca-wrong-signature",
            "sca-certificate",
        ];
        for lang in Lang::ALL {
            let m = Messages::new(lang);
            for code in codes {
                assert!(
                    m.has(&format!("error-{code}")) && m.has(&format!("error-{code}-do")),
                    "{code}"
                );
            }
        }
    }
}
