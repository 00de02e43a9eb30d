//! What a client can find out by itself (RFC 8414; OpenID Connect Discovery 1.0 §3).

use axum::Json;
use axum::extract::State;
use csc_types::{DetailsType, EndpointAliases, Grant, ServerMetadata, create, details};
use jose::FOREIGN_ALGORITHMS;
use serde_json::{Value, json};

use crate::Ssa;
use crate::certificates::Certificates;

pub(super) async fn metadata(State(ssa): State<Ssa>) -> Json<Value> {
    Json(describe(&ssa))
}

/// At the path of OpenID Connect, where some CSC clients look first, with the members that its readers insist on. No ID tokens are
/// issued, so that there is no algorithm of them.
pub(super) async fn openid(State(ssa): State<Ssa>) -> Json<Value> {
    let mut value = describe(&ssa);
    value["subject_types_supported"] = json!(["public"]);
    value["id_token_signing_alg_values_supported"] = json!([]);
    Json(value)
}

fn describe(ssa: &Ssa) -> Value {
    let base = &ssa.config().base_url;
    let fapi = ssa.config().fapi;
    let list = |texts: &[&str]| texts.iter().map(|&t| t.to_owned()).collect();
    let mut scopes = vec!["service", "credential", "credential-deletion"];
    let mut types = vec![DetailsType::Short.as_str(), DetailsType::Uri.as_str()];
    types.extend(details::DELETION);
    if !ssa.config().creations.is_empty() {
        scopes.push("credential-creation");
        types.extend(create::CREATION);
    }
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
        scopes_supported: list(&scopes),
        code_challenge_methods_supported: list(&["S256"]),
        token_endpoint_auth_methods_supported: methods(ssa),
        authorization_details_types_supported: list(&types),
        authorization_response_iss_parameter_supported: true,
        mtls_endpoint_aliases: ssa.config().certificates.as_ref().map(aliases),
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
    if ssa.config().registration.is_some() {
        value["registration_endpoint"] = json!(format!("{base}/oauth2/register"));
    }
    if ssa.config().certificates.is_some() {
        value["tls_client_certificate_bound_access_tokens"] = json!(true);
    }
    value["require_pushed_authorization_requests"] = json!(fapi);
    value["request_parameter_supported"] = json!(true);
    value["request_uri_parameter_supported"] = json!(false);
    value["response_modes_supported"] = json!(["query"]);
    value
}

/// What clients with certificates call instead (RFC 8705 §5). CSC lies at the same paths there.
fn aliases(at: &Certificates) -> EndpointAliases {
    let named = |name: &str| Some(format!("{}/oauth2/{name}", at.url));
    EndpointAliases {
        token_endpoint: named("token"),
        pushed_authorization_request_endpoint: named("pushed_authorize"),
        device_authorization_endpoint: named("device_authorization"),
        revocation_endpoint: named("revoke"),
        introspection_endpoint: named("introspect"),
    }
}

/// How clients may prove who they are.
fn methods(ssa: &Ssa) -> Vec<String> {
    let config = ssa.config();
    let mut methods = vec!["private_key_jwt"];
    if let Some(certificates) = &config.certificates {
        methods.push("self_signed_tls_client_auth");
        methods.extend(certificates.clients.as_ref().map(|_| "tls_client_auth"));
    }
    if !config.fapi {
        methods.extend(["client_secret_basic", "client_secret_post", "none"]);
    }
    methods.into_iter().map(str::to_owned).collect()
}

pub(super) async fn jwks() -> Json<Value> {
    Json(json!({ "keys": [] }))
}
