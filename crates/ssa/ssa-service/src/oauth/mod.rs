//! OAuth 2.0 authorization server: code flow with PKCE S256 only, pushed requests, scopes `service` and `credential`
//! (RFC 6749, 7523, 7591, 7636, 7662, 8252, 8414, 8628, 8705, 9101, 9126, 9207, 9396, 9449), and the FAPI 2.0 Security Profile by setting.

mod account_token;
mod approve;
mod authorize;
mod client_auth;
mod create;
mod device;
pub(crate) mod dpop;
mod introspect;
mod jwt;
mod metadata;
mod pushed;
mod refreshing;
mod register;
mod request_object;
mod revoke;
mod token;
mod waiting;

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use csc_types::{OAuthError, Params};
use service_kit::{PeerCertificates, is_no_room};
use store_kit::StoreError;

use crate::Ssa;
use crate::limits::{FULL, Origin, Wait};
use crate::refusal::Told;

pub(crate) use create::is_under;
pub use register::{Publisher, Registration};
pub(crate) use request_object::end as end_of_request;

/// Longest form at the token and revocation endpoints in bytes.
const FORM_LIMIT: usize = 2 << 20;
/// Longest pushed request in bytes: 10,000 digests with labels.
const PUSHED_LIMIT: usize = 4 << 20;

pub(crate) fn router() -> Router<Ssa> {
    Router::new()
        .route("/oauth2/authorize", get(authorize::authorize))
        .route("/oauth2/continue/{handle}", get(approve::proceed))
        .route("/oauth2/agree", post(approve::agree))
        .route("/oauth2/resume/{handle}", get(approve::resume))
        .route("/oauth2/waiting/{handle}", get(waiting::waiting))
        .route("/oauth2/pushed_authorize", post(pushed::push))
        .route("/oauth2/device_authorization", post(device::begin))
        .route("/oauth2/token", post(token::token))
        .route("/oauth2/revoke", post(revoke::revoke))
        .route("/revoke", post(revoke::revoke))
        // Where some append to a base of theirs that ends in a slash.
        .route("//oauth2/authorize", get(authorize::authorize))
        .route("//oauth2/pushed_authorize", post(pushed::push))
        .route("//oauth2/token", post(token::token))
        .route("//oauth2/revoke", post(revoke::revoke))
        .route("/oauth2/introspect", post(introspect::introspect))
        .route("/oauth2/register", post(register::register))
        .route("/oauth2/jwks", get(metadata::jwks))
        .route(
            "/.well-known/oauth-authorization-server",
            get(metadata::metadata),
        )
        .route("/.well-known/openid-configuration", get(metadata::openid))
}

/// What clients with certificates call (RFC 8705 §5).
pub(crate) fn router_for_certificates() -> Router<Ssa> {
    Router::new()
        .route("/oauth2/pushed_authorize", post(pushed::push))
        .route("/oauth2/device_authorization", post(device::begin))
        .route("/oauth2/token", post(token::token))
        .route("/oauth2/revoke", post(revoke::revoke))
        .route("/oauth2/introspect", post(introspect::introspect))
}

/// Whether programs call this path, and not browsers.
pub(crate) fn for_programs(path: &str) -> bool {
    let doubled = path.strip_prefix('/').filter(|rest| rest.starts_with('/'));
    let path = doubled.unwrap_or(path);
    path.starts_with("/oauth2/") && path != "/oauth2/agree" || path == "/revoke"
}

/// Who sent a request, apart from its body.
struct Sender {
    headers: HeaderMap,
    origin: Origin,
    /// What was shown in the handshake, its own first; empty elsewhere than at the listener that asks for certificates.
    certificates: Arc<[Vec<u8>]>,
}

impl FromRequestParts<Ssa> for Sender {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        _: &Ssa,
    ) -> Result<Self, std::convert::Infallible> {
        Ok(Self {
            headers: parts.headers.clone(),
            origin: Origin::of(&parts.extensions),
            certificates: shown(&parts.extensions),
        })
    }
}

/// Certificates that were shown in the handshake of this request's connection.
pub(crate) fn shown(extensions: &Extensions) -> Arc<[Vec<u8>]> {
    let shown = extensions.get::<PeerCertificates>();
    shown.map_or_else(|| Arc::from([]), |shown| shown.0.clone())
}

/// Why an OAuth endpoint says no.
#[derive(Debug)]
pub(crate) enum Refused {
    OAuth(OAuthError),
    Store(StoreError),
    /// It calls too often.
    Wait(Wait),
    /// There is no room for its body while others are being read.
    Full,
}

impl From<OAuthError> for Refused {
    fn from(error: OAuthError) -> Self {
        Self::OAuth(error)
    }
}

impl From<Wait> for Refused {
    fn from(wait: Wait) -> Self {
        Self::Wait(wait)
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Refused {
    /// What the client is told; trouble with the store goes to the operator's log.
    pub(crate) fn told(self) -> OAuthError {
        match self {
            Self::OAuth(error) => error,
            Self::Wait(_) => OAuthError::RateLimited,
            Self::Full => OAuthError::Unavailable,
            Self::Store(error) => {
                tracing::error!(%error, "the store failed an OAuth request");
                match error.is_away() {
                    true => OAuthError::Unavailable,
                    false => OAuthError::ServerError,
                }
            }
        }
    }

    /// The JSON answer of token, revocation and PAR endpoint.
    pub(crate) fn answer(self, basic: bool) -> Response {
        let wait = match &self {
            Self::Wait(wait) => Some(*wait),
            Self::Full => Some(FULL),
            Self::OAuth(_) | Self::Store(_) => None,
        };
        let error = self.told();
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let mut response = (status, Json(error.body())).into_response();
        response.extensions_mut().insert(Told {
            error: error.error(),
            description: error.description(),
        });
        if status == StatusCode::UNAUTHORIZED && basic {
            let realm = HeaderValue::from_static("Basic realm=\"natsuin\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, realm);
        }
        let response = never_cached(response);
        match wait {
            Some(wait) => wait.tell(response),
            None => response,
        }
    }
}

/// Answers with tokens, codes or references are kept by nobody on the way (RFC 6749 §5.1).
fn never_cached(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// Reads a body.
async fn read(body: Body, limit: usize) -> Result<Bytes, Refused> {
    let bytes = axum::body::to_bytes(body, limit).await;
    bytes.map_err(|error| match is_no_room(&error) {
        true => Refused::Full,
        false => OAuthError::Invalid("body").into(),
    })
}

/// Reads a form body.
async fn form(body: Body, limit: usize) -> Result<crate::flow::Pairs, Refused> {
    Ok(pairs_of(&read(body, limit).await?))
}

/// The pairs of a form or a query.
fn pairs_of(text: &[u8]) -> crate::flow::Pairs {
    url::form_urlencoded::parse(text).into_owned().collect()
}

/// Parameters of a list of pairs, each at most once.
fn params(pairs: &crate::flow::Pairs) -> Result<Params, OAuthError> {
    Params::from_pairs(pairs.iter().cloned())
}
