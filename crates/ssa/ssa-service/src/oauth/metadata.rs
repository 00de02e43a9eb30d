//! What a client can find out by itself (RFC 8414).

use axum::Json;
use axum::extract::State;
use csc_types::{DetailsType, ServerMetadata};
use serde_json::{Value, json};

use crate::Ssa;

pub(super) async fn metadata(State(ssa): State<Ssa>) -> Json<Value> {
    let base = &ssa.config().base_url;
    let list = |texts: &[&str]| texts.iter().map(|&t| t.to_owned()).collect();
    let metadata = ServerMetadata {
        issuer: base.clone(),
        authorization_endpoint: format!("{base}/oauth2/authorize"),
        token_endpoint: format!("{base}/oauth2/token"),
        pushed_authorization_request_endpoint: Some(format!("{base}/oauth2/pushed_authorize")),
        revocation_endpoint: Some(format!("{base}/oauth2/revoke")),
        response_types_supported: list(&["code"]),
        grant_types_supported: list(&["authorization_code"]),
        scopes_supported: list(&["service", "credential"]),
        code_challenge_methods_supported: list(&["S256"]),
        token_endpoint_auth_methods_supported: list(&[
            "client_secret_basic",
            "client_secret_post",
            "none",
        ]),
        authorization_details_types_supported: list(&[
            DetailsType::Short.as_str(),
            DetailsType::Uri.as_str(),
        ]),
        authorization_response_iss_parameter_supported: true,
    };
    let mut value = json!(metadata);
    // Some clients refuse metadata without a key set; tokens are opaque, so the set is empty.
    value["jwks_uri"] = json!(format!("{base}/oauth2/jwks"));
    Json(value)
}

pub(super) async fn jwks() -> Json<Value> {
    Json(json!({ "keys": [] }))
}
