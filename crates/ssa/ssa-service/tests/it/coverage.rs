//! Every endpoint against the wrong caller: no token, unknown, expired, revoked, of another kind, another person's, another
//! client's, used. The endpoints are those that the service names itself, so that a new one without a line here fails.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, header};
use core_types::KeyAlg;
use core_types::bytes::b64;
use serde_json::{Value, json};

use crate::web::{Answer, Stack, hash, stacks};

/// A method of the API, a good body for Hanako's keys, and which kinds of token it takes.
struct Method {
    name: &'static str,
    body: Value,
    /// A token of scope `credential` does.
    with_credential: bool,
    /// A token of scope `service` alone does.
    with_service: bool,
    /// It is about one of the person's credentials.
    about_one: bool,
}

fn methods(version: u8) -> Vec<Method> {
    let hashes = if version == 1 { "hash" } else { "hashes" };
    let credential = json!({ "credentialID": "key-hanako" });
    let sign = json!({ "credentialID": "key-hanako", hashes: [b64(hash(1))], "signAlgo": "1.2.840.10045.4.3.2" });
    let authorize = json!({ "credentialID": "key-explicit", hashes: [b64(hash(1))], "numSignatures": 1,
        "hashAlgorithmOID": core_types::HashAlg::Sha256.oid(), "PIN": "secret pin", "OTP": "123456",
        "authData": [{ "id": "PIN", "value": "secret pin" }, { "id": "OTP", "value": "123456" }] });
    let extend = json!({ "credentialID": "key-hanako", hashes: [b64(hash(1))] });
    let method = |name, body, with_credential, with_service, about_one| Method {
        name,
        body,
        with_credential,
        with_service,
        about_one,
    };
    let mut all = vec![
        method("credentials/list", json!({}), false, true, false),
        method("credentials/info", credential, true, true, true),
        method("credentials/authorize", authorize, false, true, true),
        method("signatures/signHash", sign, true, false, true),
        method(
            "auth/revoke",
            json!({ "token": "unknown" }),
            true,
            true,
            false,
        ),
        method("credentials/extendTransaction", extend, true, false, true),
    ];
    if version == 2 {
        let check = json!({ "handle": "unknown" });
        all.push(method(
            "credentials/authorizeCheck",
            check,
            false,
            true,
            false,
        ));
    }
    all
}

async fn call(
    stack: &Stack,
    version: u8,
    method: &Method,
    token: Option<&str>,
    body: &Value,
) -> (u16, String, String) {
    let mut request = Request::post(format!("/csc/v{version}/{}", method.name));
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let answer: Answer = stack
        .send(request.body(Body::from(body.to_string())).unwrap())
        .await;
    let told: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
    (
        answer.status.as_u16(),
        text("error"),
        text("error_description"),
    )
}

// shows: T-USE-SAP-BYPASS, T-USE-CRED-FORGE
#[tokio::test]
async fn every_method_of_both_versions_refuses_every_wrong_caller() {
    for stack in stacks().await {
        let person = stack.users["hanako"].person.clone();
        stack.sam.add_key(&person, "key-explicit", KeyAlg::P256);
        let service = stack.service_token("app", "hanako").await;
        let others = stack.service_token("app", "taro").await;
        let foreign = stack.service_token("other", "hanako").await;
        let signing = stack.credential_token("app", "hanako", &[hash(1)]).await;
        let dead = stack.service_token("app", "hanako").await;
        let form = [("token", dead.as_str())];
        stack.client_form("app", "/oauth2/revoke", &form).await;
        for version in [1, 2] {
            let request = Request::post(format!("/csc/v{version}/info"));
            let info = stack
                .send(request.body(Body::empty()).unwrap())
                .await
                .json();
            let named: BTreeSet<&str> = info["methods"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(Value::as_str)
                .filter(|name| !name.starts_with("oauth2/") && *name != "info")
                .collect();
            let methods = methods(version);
            let covered: BTreeSet<&str> = methods.iter().map(|m| m.name).collect();
            assert_eq!(named, covered, "a method without its wrong callers");
            for method in &methods {
                let why = format!("v{version} {}", method.name);
                let body = &method.body;
                let none = call(&stack, version, method, None, body).await;
                assert_eq!(
                    (none.0, none.2.as_str()),
                    (400, "Malformed authorization header"),
                    "{why}"
                );
                let unknown = call(&stack, version, method, Some("unknown"), body).await;
                assert_eq!(
                    (unknown.0, unknown.1.as_str()),
                    (401, "invalid_token"),
                    "{why}"
                );
                let revoked = call(&stack, version, method, Some(&dead), body).await;
                assert_eq!(
                    (revoked.0, revoked.1.as_str()),
                    (401, "expired_token"),
                    "{why}"
                );
                if !method.with_credential {
                    let wrong = call(&stack, version, method, Some(&signing), body).await;
                    assert_eq!((wrong.0, wrong.1.as_str()), (403, "access_denied"), "{why}");
                }
                if !method.with_service {
                    let wrong = call(&stack, version, method, Some(&service), body).await;
                    assert_eq!(
                        wrong.2, "Missing (or invalid type) string parameter SAD",
                        "{why}"
                    );
                }
                if method.about_one && method.with_service {
                    let other = call(&stack, version, method, Some(&others), body).await;
                    assert_eq!(other.2, "Invalid parameter credentialID", "{why}");
                }
            }
            // The right to sign, shown by another client, by another person, and to another key.
            let sign = &methods[3];
            let mut body = sign.body.clone();
            body["SAD"] = json!(signing);
            for token in [&foreign, &others] {
                let wrong = call(&stack, version, sign, Some(token), &body).await;
                assert_eq!(wrong.2, "Invalid parameter SAD");
            }
            body["credentialID"] = json!("key-explicit");
            let wrong = call(&stack, version, sign, Some(&service), &body).await;
            assert_eq!(wrong.2, "Invalid parameter credentialID");
            // Nobody revokes what is another's.
            for (token, of) in [
                (&service, &foreign),
                (&service, &others),
                (&foreign, &signing),
            ] {
                let wrong = call(
                    &stack,
                    version,
                    &methods[4],
                    Some(token),
                    &json!({ "token": of }),
                )
                .await;
                assert_eq!(wrong.2, "Invalid string parameter token");
            }
        }
        assert!(stack.sam.with(|s| s.signed.is_empty()));
        // Used, by either version: the right is gone in both.
        let (v1, v2) = (methods(1), methods(2));
        let good = call(&stack, 2, &v2[3], Some(&signing), &v2[3].body).await;
        assert_eq!(good.0, 200, "{good:?}");
        let again = call(&stack, 2, &v2[3], Some(&signing), &v2[3].body).await;
        assert_eq!((again.0, again.1.as_str()), (401, "invalid_token"));
        let mut body = v1[3].body.clone();
        body["SAD"] = json!(signing);
        let again = call(&stack, 1, &v1[3], Some(&service), &body).await;
        assert_eq!(again.2, "Invalid parameter SAD");
        // Expired.
        stack.clock.advance(3600);
        for version in [1, 2] {
            for method in methods(version) {
                let late = call(&stack, version, &method, Some(&service), &method.body).await;
                assert_eq!(
                    (late.0, late.1.as_str()),
                    (401, "expired_token"),
                    "v{version} {}",
                    method.name
                );
            }
        }
    }
}

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn every_oauth_endpoint_wants_its_client() {
    for stack in stacks().await {
        let token = stack.service_token("app", "hanako").await;
        let request = Request::get("/.well-known/oauth-authorization-server");
        let metadata = stack
            .send(request.body(Body::empty()).unwrap())
            .await
            .json();
        let endpoints: BTreeSet<String> = metadata
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| name.ends_with("_endpoint") && *name != "authorization_endpoint")
            .filter_map(|(_, url)| Some(url.as_str()?.strip_prefix(crate::web::BASE)?.to_owned()))
            .collect();
        let covered = [
            "device_authorization",
            "introspect",
            "pushed_authorize",
            "revoke",
            "token",
        ];
        let covered: BTreeSet<String> = covered.map(|n| format!("/oauth2/{n}")).into();
        assert_eq!(endpoints, covered, "an endpoint without its wrong callers");
        for path in &endpoints {
            for (form, error) in [
                (vec![("token", token.as_str())], "invalid_request"),
                (
                    vec![("client_id", "app"), ("token", &token)],
                    "invalid_request",
                ),
                (
                    vec![
                        ("client_id", "app"),
                        ("client_secret", "guess"),
                        ("token", &token),
                    ],
                    "invalid_client",
                ),
                (
                    vec![
                        ("client_id", "nobody"),
                        ("client_secret", "x"),
                        ("token", &token),
                    ],
                    "invalid_client",
                ),
                // Another client's secret.
                (
                    vec![
                        ("client_id", "app"),
                        ("client_secret", stack.clients["other"].as_str()),
                        ("token", &token),
                    ],
                    "invalid_client",
                ),
                (
                    vec![("client_id", "app"), ("client_id", "other")],
                    "invalid_request",
                ),
            ] {
                let request = Request::post(path)
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
                let body = Body::from(crate::web::encode(&form));
                let answer = stack.send(request.body(body).unwrap()).await;
                assert!(answer.status.is_client_error(), "{path} {form:?}");
                assert_eq!(answer.json()["error"], error, "{path} {form:?}");
            }
        }
    }
}
