//! HTTP of the authority.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use pki::{ocsp, tsp};
use sap::enrol::CertifyRequest;

use crate::ra::{Ra, RaError};
use crate::{DevCa, DevCaError};

/// Longest request that is read, bytes.
const MAX_BODY: usize = 256 * 1024;

/// `GET /crl`, `GET /crl/root`, `GET /ca`, `POST /ocsp`, `GET /ocsp/{base64}`, `POST /tsa`: the paths of
/// [`crate::Urls::under`].
pub fn public(ca: Arc<DevCa>) -> Router {
    Router::new()
        .route(
            "/crl",
            get(|State(ca): State<Arc<DevCa>>| async move { crl(ca.crl()) }),
        )
        .route(
            "/crl/root",
            get(|State(ca): State<Arc<DevCa>>| async move { crl(ca.root_crl()) }),
        )
        .route("/ca", get(issuing_ca))
        .route("/ocsp", post(post_ocsp))
        .route("/ocsp/{*request}", get(get_ocsp))
        .route("/tsa", post(post_tsa))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(ca)
}

/// `POST /ra/certify`; for the SAM only, so it belongs behind mutual TLS.
pub fn ra(ra: Arc<Ra>) -> Router {
    Router::new()
        .route("/ra/certify", post(certify))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(ra)
}

fn typed(content_type: &'static str, body: Vec<u8>) -> Response {
    (
        [
            (header::CONTENT_TYPE, content_type),
            (header::CACHE_CONTROL, "no-store"),
        ],
        body,
    )
        .into_response()
}

fn crl(der: Result<Vec<u8>, DevCaError>) -> Response {
    match der {
        Ok(der) => typed("application/pkix-crl", der),
        Err(error) => {
            tracing::error!(%error, "the development CA could not make a CRL");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn issuing_ca(State(ca): State<Arc<DevCa>>) -> Response {
    typed("application/pkix-cert", ca.issuing_ca().der().to_vec())
}

async fn post_ocsp(State(ca): State<Arc<DevCa>>, body: Bytes) -> Response {
    typed(ocsp::RESPONSE_TYPE, ca.ocsp(&body))
}

async fn get_ocsp(State(ca): State<Arc<DevCa>>, Path(request): Path<String>) -> Response {
    typed(ocsp::RESPONSE_TYPE, ca.ocsp_get(&request))
}

async fn post_tsa(State(ca): State<Arc<DevCa>>, body: Bytes) -> Response {
    typed(tsp::REPLY_TYPE, ca.time_stamp(&body))
}

async fn certify(State(ra): State<Arc<Ra>>, Json(request): Json<CertifyRequest>) -> Response {
    match ra.certify(&request) {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => {
            tracing::warn!(%error, "the development RA refused to certify");
            let status = match error {
                RaError::Ca(_) => StatusCode::INTERNAL_SERVER_ERROR,
                _ => StatusCode::FORBIDDEN,
            };
            (
                status,
                Json(serde_json::json!({ "error": error.to_string() })),
            )
                .into_response()
        }
    }
}
