//! The CSC API: one core, and versions 1.0.4 and 2 (2.0.0.2 to 2.2.0.0) as two thin mappings.

mod authorize;
mod body;
mod codes;
mod create;
mod credentials;
mod delete;
mod elsewhere;
mod extend;
mod info;
mod login;
mod polling;
mod receipt;
mod refusals;
mod revoke;
mod sign;
mod sign_doc;
mod timestamp;

use std::convert::Infallible;

use audit_log::Event;
use axum::Json;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, OriginalUri, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use core_types::{ClientId, Digest32, PersonId};
use csc_types::{
    CreateResponse, Credential, CredentialAuthorizeResponse, CscError, ExtendResponse, Info,
    ListResponse, LoginResponse, OAuthError, SecretText, SignDocResponse, SignHashAnswer,
    SignHashResponse, TimestampResponse, v1,
};
use serde::Serialize;
use serde_json::Value;
use store_kit::{StoreError, transaction};

use crate::Ssa;
use crate::certificates::thumbprint;
use crate::clients::{self, Client};
use crate::limits::{Origin, Wait};
use crate::oauth::{Refused, dpop, shown};
use crate::tokens::{self, Holder, Token};
use body::{is_json, whole};
use refusals::Fault;
pub(crate) use sign::signed;
pub use sign_doc::WORKER_ANSWER;

/// A method as both versions serve it. `$shape` makes an answer of version 1 of one of version 2 and of the request's body.
macro_rules! methods {
    ($($v2:ident / $v1:ident: $core:path, $shape:path;)*) => {$(
        async fn $v2(State(ssa): State<Ssa>, call: Call, body: Body) -> Response {
            answer(async { $core(&ssa, &call, whole(&ssa, &call, body).await?).await }.await)
        }

        async fn $v1(State(ssa): State<Ssa>, call: Call, body: Body) -> Response {
            let outcome = async {
                let body = Bytes::from(v1::to_v2(&whole(&ssa, &call, body).await?)?);
                let told = $core(&ssa, &call, body.clone()).await?;
                let status = told.status();
                let told = serde_json::to_value(told).map_err(|_| CscError::Internal)?;
                Ok::<_, Fault>(InV1(status, $shape(told, &body)))
            };
            answer(outcome.await.map_err(Fault::in_v1))
        }
    )*};
}

methods! {
    info_v2 / info_v1: info::info, info::in_v1;
    list_v2 / list_v1: credentials::list, credentials::list_in_v1;
    credential_v2 / credential_v1: credentials::info, credentials::info_in_v1;
    authorize_v2 / authorize_v1: authorize::authorize, the_same;
    login_v2 / login_v1: login::login, the_same;
    revoke_v2 / revoke_v1: revoke::revoke, the_same;
    extend_v2 / extend_v1: extend::extend, the_same;
    send_otp_v2 / send_otp_v1: codes::send_otp, the_same;
    sign_hash_v2 / sign_hash_v1: sign::sign_hash, the_same;
}

fn the_same(told: Value, _: &[u8]) -> Value {
    told
}

/// What a method tells.
trait Told: Serialize {
    fn status(&self) -> StatusCode {
        StatusCode::OK
    }
}

impl Told for Info {}
impl Told for ListResponse {}
impl Told for Credential {}
impl Told for ExtendResponse {}
impl Told for LoginResponse {}
impl Told for SignHashResponse {}
impl Told for SignHashAnswer {}
impl Told for SignDocResponse {}
impl Told for TimestampResponse {}
impl Told for receipt::Receipt {}

impl Told for CredentialAuthorizeResponse {
    fn status(&self) -> StatusCode {
        match self {
            Self::Granted(_) => StatusCode::OK,
            Self::Pending(_) => StatusCode::ACCEPTED,
        }
    }
}

impl Told for CreateResponse {
    fn status(&self) -> StatusCode {
        StatusCode::CREATED
    }
}

/// Done; there is nothing to tell.
#[derive(Serialize)]
struct Done;

impl Told for Done {
    fn status(&self) -> StatusCode {
        StatusCode::NO_CONTENT
    }
}

/// What a method tells a client of version 1.
struct InV1(StatusCode, Value);

impl Serialize for InV1 {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.1.serialize(s)
    }
}

impl Told for InV1 {
    fn status(&self) -> StatusCode {
        self.0
    }
}

/// Version 2.
pub(crate) fn router() -> Router<Ssa> {
    Router::new()
        .route("/info", get(info::info_by_get).post(info_v2))
        .route("/auth/login", post(login_v2))
        .route("/auth/revoke", post(revoke_v2))
        .route("/credentials/list", post(list_v2))
        .route("/credentials/info", post(credential_v2))
        .route("/credentials/authorize", post(authorize_v2))
        .route("/credentials/authorizeCheck", post(check_v2))
        .route("/credentials/create", post(create_v2))
        .route("/credentials/delete", post(delete_v2))
        .route("/credentials/getChallenge", post(challenge_v2))
        .route("/credentials/sendOTP", post(send_otp_v2))
        .route("/credentials/extendTransaction", post(extend_v2))
        .route("/signatures/signDoc", post(sign_doc_v2))
        .route("/signatures/signHash", post(sign_hash_v2))
        .route("/signatures/signPolling", post(poll_v2))
        .route("/signatures/timestamp", post(timestamp_v2))
        .route("/signatures/receipt", post(receipt_v2))
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown)
}

/// Version 1.0.4.
pub(crate) fn router_v1() -> Router<Ssa> {
    Router::new()
        .route("/info", post(info_v1))
        .route("/auth/login", post(login_v1))
        .route("/auth/revoke", post(revoke_v1))
        .route("/credentials/list", post(list_v1))
        .route("/credentials/info", post(credential_v1))
        .route("/credentials/authorize", post(authorize_v1))
        .route("/credentials/sendOTP", post(send_otp_v1))
        .route("/credentials/extendTransaction", post(extend_v1))
        .route("/signatures/signHash", post(sign_hash_v1))
        .route("/signatures/timestamp", post(timestamp_v1))
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown)
}

/// Version 1 has no such method: its calls wait.
async fn check_v2(State(ssa): State<Ssa>, call: Call, body: Body) -> Response {
    answer(async { elsewhere::check(&ssa, &call, whole(&ssa, &call, body).await?).await }.await)
}

/// Only version 2.2 has such a method.
async fn create_v2(State(ssa): State<Ssa>, call: Call, body: Body) -> Response {
    answer(async { create::create(&ssa, &call, whole(&ssa, &call, body).await?).await }.await)
}

/// Only version 2.2 has such a method.
async fn delete_v2(State(ssa): State<Ssa>, call: Call, body: Body) -> Response {
    answer(async { delete::delete(&ssa, &call, whole(&ssa, &call, body).await?).await }.await)
}

/// Version 1 says `credentials/sendOTP` for it.
async fn challenge_v2(State(ssa): State<Ssa>, call: Call, body: Body) -> Response {
    answer(async { codes::challenge(&ssa, &call, whole(&ssa, &call, body).await?).await }.await)
}

/// Version 1 has no such method: its clients make documents themselves.
async fn sign_doc_v2(State(ssa): State<Ssa>, call: Call, body: Body) -> Response {
    answer(sign_doc::sign_doc(&ssa, &call, body).await)
}

/// Version 1 has no such method: its calls bring the values.
async fn poll_v2(State(ssa): State<Ssa>, call: Call, body: Body) -> Response {
    answer(async { polling::poll(&ssa, &call, whole(&ssa, &call, body).await?).await }.await)
}

/// A method of our own: CSC has none.
async fn receipt_v2(State(ssa): State<Ssa>, call: Call, body: Body) -> Response {
    answer(async { receipt::receipt(&ssa, &call, whole(&ssa, &call, body).await?).await }.await)
}

/// With the same members in both versions.
async fn timestamp_v2(State(ssa): State<Ssa>, call: Call, body: Body) -> Response {
    answer(async { timestamp::timestamp(&ssa, &call, whole(&ssa, &call, body).await?).await }.await)
}

async fn timestamp_v1(State(ssa): State<Ssa>, call: Call, body: Body) -> Response {
    let told = async { timestamp::timestamp(&ssa, &call, whole(&ssa, &call, body).await?).await };
    answer(told.await.map_err(Fault::in_v1))
}

async fn unknown() -> Response {
    answer(Err::<Done, _>(CscError::NotImplemented.into()))
}

async fn wrong_method() -> Response {
    answer(Err::<Done, _>(CscError::WrongMethod.into()))
}

/// The answer to calls that come too often.
pub(crate) fn too_often(v1: bool, wait: Wait) -> Response {
    let fault = Fault::from(wait);
    answer(Err::<Done, _>(if v1 { fault.in_v1() } else { fault }))
}

/// A bearer token that was presented and is alive, and its client.
struct Bearer {
    text: SecretText,
    token: Token,
    client: Client,
}

/// A call as it came, apart from its body.
struct Call {
    headers: HeaderMap,
    /// Path on this origin.
    path: String,
    /// In version 1.
    v1: bool,
    origin: Origin,
    /// Thumbprint of the certificate that was shown in the handshake.
    certificate: Option<Digest32>,
}

impl Call {
    /// Name of the method, such as `signatures/signHash`.
    fn method(&self) -> &str {
        let path = self.path.strip_prefix("/csc/v1/");
        let path = path.or_else(|| self.path.strip_prefix("/csc/v2/"));
        path.unwrap_or_default()
    }
}

impl FromRequestParts<Ssa> for Call {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, ssa: &Ssa) -> Result<Self, Infallible> {
        let OriginalUri(uri) = OriginalUri::from_request_parts(parts, ssa).await?;
        Ok(Self {
            headers: parts.headers.clone(),
            path: uri.path().to_owned(),
            v1: uri.path().starts_with("/csc/v1/"),
            origin: Origin::of(&parts.extensions),
            certificate: shown(&parts.extensions).first().map(|own| thumbprint(own)),
        })
    }
}

/// Scheme and token of the `Authorization` header, if there is one of that kind.
fn presented(call: &Call) -> Result<Option<(String, SecretText)>, CscError> {
    let value = authorization(&call.headers)?.and_then(|value| value.to_str().ok());
    let text = value
        .and_then(|value| value.split_once(' '))
        .map(|(scheme, text)| (scheme.to_ascii_lowercase(), text.trim()))
        .filter(|(scheme, _)| matches!(scheme.as_str(), "bearer" | "dpop"))
        .filter(|(_, text)| !text.is_empty() && !text.contains(' '));
    Ok(text.map(|(scheme, text)| (scheme, SecretText::new(text.to_owned()))))
}

/// Nobody known called.
async fn by_nobody(ssa: &Ssa, refusal: CscError) -> Fault {
    match ssa.knocked("csc").await {
        Ok(()) => refusal.into(),
        Err(error) => error.into(),
    }
}

/// Finds the token of the `Authorization` header (RFC 6750 §2.1, RFC 9449 §7.1).
async fn bearer(ssa: &Ssa, call: &Call) -> Result<Bearer, Fault> {
    let Ok(Some((scheme, text))) = presented(call) else {
        return Err(by_nobody(ssa, CscError::MalformedHeader).await);
    };
    let Some(token) = lookup(ssa, &text).await? else {
        return Err(by_nobody(ssa, CscError::InvalidToken).await);
    };
    let caller = (&token.client, token.person.as_ref());
    // A bound token is none without its key, and an unbound one isn't made to look bound.
    let key = match token.holder {
        Some(Holder::Key(key)) => Some(key),
        Some(Holder::Certificate(known)) if call.certificate != Some(known) => {
            turned_away(ssa, "csc", caller, "certificate").await?;
            return Err(CscError::InvalidToken.into());
        }
        Some(Holder::Certificate(_)) | None => None,
    };
    if key.is_some() != (scheme == "dpop") {
        turned_away(ssa, "csc", caller, "key").await?;
        return Err(CscError::InvalidToken.into());
    }
    if key.is_some() {
        let proof = dpop::proof(
            ssa,
            &call.headers,
            &Method::POST,
            &call.path,
            Some(text.expose()),
        );
        // A proof that is no good is as another's.
        let good = match proof.await.map_err(Refused::told) {
            Ok(proof) => proof == key,
            Err(OAuthError::InvalidProof) => false,
            Err(_) => return Err(CscError::Internal.into()),
        };
        if !good {
            turned_away(ssa, "csc", caller, "key").await?;
            return Err(CscError::InvalidProof.into());
        }
    }
    if !token.live(ssa.now()) {
        turned_away(ssa, "csc", caller, "expired").await?;
        return Err(CscError::ExpiredToken.into());
    }
    let mut tx = ssa.store().read("client").await?;
    let Some(client) = clients::find(&mut tx, token.client.as_str()).await? else {
        // Nobody has a token of a client that isn't there, or is suspended.
        drop(tx);
        turned_away(ssa, "csc", caller, "client").await?;
        return Err(CscError::InvalidToken.into());
    };
    let contract = &client.settings;
    let served = match &token.person {
        Some(person) => contract.serves(&mut tx, person).await?,
        None => true,
    };
    drop(tx);
    let allowed =
        contract.allows_method(call.method()) && contract.allows_scope(token.scope.contract());
    let fault = match (allowed, served) {
        (true, true) => None,
        (false, _) => Some(CscError::UnauthorizedClient),
        (true, false) => Some(CscError::AccessDenied),
    };
    if let Some(fault) = fault {
        turned_away(ssa, "csc", caller, "contract").await?;
        return Err(fault.into());
    }
    ssa.admit(call.origin, &client, token.person.as_ref())?;
    Ok(Bearer {
        text,
        token,
        client,
    })
}

/// The one `Authorization` header: of two, somebody on the way could have read the other.
fn authorization(headers: &HeaderMap) -> Result<Option<&HeaderValue>, CscError> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    match (all.next(), all.next()) {
        (_, Some(_)) => Err(CscError::MalformedHeader),
        (one, None) => Ok(one),
    }
}

async fn lookup(ssa: &Ssa, text: &SecretText) -> Result<Option<Token>, StoreError> {
    let mut tx = ssa.store().read("token").await?;
    tokens::find(&mut tx, text).await
}

fn answer(outcome: Result<impl Told, Fault>) -> Response {
    let mut response = match outcome {
        Ok(told) if told.status() == StatusCode::NO_CONTENT => told.status().into_response(),
        Ok(told) => (told.status(), Json(told)).into_response(),
        Err(fault) => fault.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// Records that a token was refused something.
async fn refused(
    ssa: &Ssa,
    endpoint: &'static str,
    token: &Token,
    reason: &'static str,
) -> Result<(), StoreError> {
    denied(
        ssa,
        endpoint,
        (&token.client, token.person.as_ref()),
        reason,
    )
    .await
}

/// Records that a caller who is known, but proved nothing that counts now, got no further: by name while that is seldom, and counted
/// with the calls of nobody beyond, so that one dead token fills no log.
async fn turned_away(
    ssa: &Ssa,
    endpoint: &'static str,
    caller: (&ClientId, Option<&PersonId>),
    reason: &'static str,
) -> Result<(), StoreError> {
    match ssa.names_refusal(caller.0) {
        true => denied(ssa, endpoint, caller, reason).await,
        false => ssa.knocked(endpoint).await,
    }
}

async fn denied(
    ssa: &Ssa,
    endpoint: &'static str,
    (client, person): (&ClientId, Option<&PersonId>),
    reason: &'static str,
) -> Result<(), StoreError> {
    transaction!(ssa.store(), "access-denied", |tx| {
        let event = Event::AccessDenied {
            endpoint: endpoint.into(),
            client: Some(client.clone()),
            person: person.cloned(),
            reason: reason.into(),
        };
        ssa.audit().append(tx, event, ssa.now()).await.map(drop)
    })
}
