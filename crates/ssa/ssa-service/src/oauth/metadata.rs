//! What a client can find out by itself (RFC 8414).

use axum::Json;
use axum::extract::State;
use csc_types::{DetailsType, Grant, ServerMetadata};
use jose::FOREIGN_ALGORITHMS;
use serde_json::{Value, json};

use crate::Ssa;

pub(super) async fn metadata(State(ssa): State<Ssa>) -> Json<Value> {
    let base = &ssa.config().base_url;
    let fapi = ssa.config().fapi;
    let list = |texts: &[&str]| texts.iter().map(|&t| t.to_owned()).collect();
    let metadata = ServerMetadata {
        issuer: base.clone(),
        authorization_endpoint: format!("{base}/oauth2/authorize"),
        token_endpoint: format!("{base}/oauth2/token"),
        pushed_authorization_request_endpoint: Some(format!("{base}/oauth2/pushed_authorize")),
        device_authorization_endpoint: Some(format!("{base}/oauth2/device_authorization")),
        revocation_endpoint: Some(format!("{base}/oauth2/revoke")),
        response_types_supported: list(&["code"]),
        grant_types_supported: list(&[
            "authorization_code",
            "client_credentials",
            "refresh_token",
            Grant::DEVICE_CODE,
        ]),
        scopes_supported: list(&["service", "credential"]),
        code_challenge_methods_supported: list(&["S256"]),
        token_endpoint_auth_methods_supported: match fapi {
            true => list(&["private_key_jwt"]),
            false => list(&[
                "client_secret_basic",
                "client_secret_post",
                "private_key_jwt",
                "none",
            ]),
        },
        authorization_details_types_supported: list(&[
            DetailsType::Short.as_str(),
            DetailsType::Uri.as_str(),
        ]),
        authorization_response_iss_parameter_supported: true,
    };
    let mut value = json!(metadata);
    // Some clients refuse metadata without a key set; tokens are opaque, so the set is empty.
    value["jwks_uri"] = json!(format!("{base}/oauth2/jwks"));
    value["introspection_endpoint"] = json!(format!("{base}/oauth2/introspect"));
    for name in [
        "token_endpoint_auth_signing_alg_values_supported",
        "dpop_signing_alg_values_supported",
        "request_object_signing_alg_values_supported",
    ] {
        value[name] = json!(FOREIGN_ALGORITHMS);
    }
    value["require_pushed_authorization_requests"] = json!(fapi);
    value["request_parameter_supported"] = json!(true);
    value["request_uri_parameter_supported"] = json!(false);
    value["response_modes_supported"] = json!(["query"]);
    Json(value)
}

pub(super) async fn jwks() -> Json<Value> {
    Json(json!({ "keys": [] }))
}
