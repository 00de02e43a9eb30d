//! Pages that say what happened and what to do.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use csc_types::OAuthError;
use sam_api::refusal::PROVIDER_END;
use store_kit::StoreError;
use web_ui::Messages;

use super::{Content, Visit, show};
use crate::Ssa;
use crate::certificates::CertificateFault;
use crate::providers::ProviderFault;

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The application sent a request that can't be answered to it.
    BadRequest,
    /// Unknown, another browser's, or too old: strangers are told the same.
    LinkExpired,
    /// The way back from the approval page in a browser that didn't go there from here.
    BegunElsewhere,
    LinkUsed,
    /// What the person saw isn't so any more.
    Changed,
    /// The SAM doesn't allow what was asked for.
    Impossible,
    /// The text isn't a public key.
    NotAKey,
    /// The level's rules forbid it; names the requirement.
    Level(String),
    /// The form wasn't one of our pages in this browser.
    ForeignForm,
    /// RA, CA or SAM gave no answer; loading again is right.
    NotNow,
    Refused,
    /// A new passkey that can't be accepted.
    Passkey,
    /// A certificate that doesn't count.
    Certificate(CertificateFault),
    /// A provider that can't be used, or an answer that doesn't count.
    Provider(ProviderFault),
    /// What was shown is bound already, or there are too many.
    Bound,
    Internal,
    NotFound,
    /// The address calls too often.
    TooOften,
}

impl Trouble {
    /// Trouble with an authorization request before its client could be told.
    pub(crate) fn of(error: &OAuthError) -> Self {
        match error {
            OAuthError::ServerError => Self::Internal,
            OAuthError::Unavailable => Self::NotNow,
            OAuthError::RateLimited => Self::TooOften,
            _ => Self::BadRequest,
        }
    }

    fn id(&self) -> &'static str {
        match self {
            Self::BadRequest => "portal-trouble-request",
            Self::LinkExpired => "portal-trouble-link",
            Self::BegunElsewhere => "portal-trouble-elsewhere",
            Self::LinkUsed => "portal-trouble-used",
            Self::Changed => "portal-trouble-changed",
            Self::Impossible => "portal-trouble-impossible",
            Self::NotAKey => "portal-trouble-key",
            Self::Level(requirement) if requirement == PROVIDER_END => "portal-trouble-ended",
            Self::Level(_) => "portal-trouble-level",
            Self::ForeignForm => "portal-trouble-form",
            Self::NotNow => "portal-trouble-not-now",
            Self::Refused => "portal-trouble-refused",
            Self::Passkey => "portal-trouble-passkey",
            Self::Certificate(fault) => match fault {
                CertificateFault::Missing => "portal-certificate-missing",
                CertificateFault::Untrusted => "portal-certificate-untrusted",
                CertificateFault::Time => "portal-certificate-time",
                CertificateFault::Purpose => "portal-certificate-purpose",
                CertificateFault::Revoked => "portal-certificate-revoked",
                CertificateFault::Unclear => "portal-certificate-unclear",
            },
            Self::Provider(fault) => fault.text(),
            Self::Bound => "portal-trouble-bound",
            Self::Internal => "portal-trouble-internal",
            Self::NotFound => "not-found",
            Self::TooOften => "portal-trouble-often",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Certificate(CertificateFault::Unclear) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Provider(ProviderFault::Unreachable) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Certificate(_) | Self::Provider(_) => StatusCode::FORBIDDEN,
            Self::Bound => StatusCode::CONFLICT,
            Self::BadRequest | Self::Passkey | Self::NotAKey => StatusCode::BAD_REQUEST,
            Self::LinkExpired | Self::BegunElsewhere | Self::NotFound => StatusCode::NOT_FOUND,
            Self::LinkUsed => StatusCode::GONE,
            Self::Changed | Self::Impossible | Self::Level(_) => StatusCode::CONFLICT,
            Self::ForeignForm | Self::Refused => StatusCode::FORBIDDEN,
            Self::NotNow => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooOften => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store failed a page");
        match error.is_away() {
            true => Self::NotNow,
            false => Self::Internal,
        }
    }
}

#[derive(Template)]
#[template(path = "trouble.html")]
struct View {
    m: Messages,
    id: &'static str,
    remedy: String,
    requirement: String,
}

/// The page for it.
pub(crate) fn sorry(ssa: &Ssa, visit: &Visit, trouble: Trouble) -> Response {
    let words = visit.words();
    let view = View {
        m: words,
        id: trouble.id(),
        remedy: match &trouble {
            Trouble::Certificate(_) | Trouble::Provider(_) => "portal-certificate-do".to_owned(),
            _ => format!("{}-do", trouble.id()),
        },
        requirement: match &trouble {
            Trouble::Level(requirement) => web_ui::clean(requirement),
            _ => String::new(),
        },
    };
    let body = view.render().unwrap_or_default();
    let title = words.t(trouble.id());
    let content = Content {
        status: trouble.status(),
        ..Content::new(&title, &body)
    };
    show(ssa, visit, content)
}

pub(super) async fn nothing_here(State(ssa): State<Ssa>, visit: Visit) -> Response {
    sorry(&ssa, &visit, Trouble::NotFound)
}
