//! OAuth beyond the code: refreshing, clients of their own, clients and tokens with keys, signed requests, FAPI 2.0.

mod keys;
mod refreshing;
mod requests;
pub mod tokens;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::body::Body;
use axum::http::{Request, header};
use core_types::bytes::b64u;
use core_types::{Clock as _, sha256};
use serde_json::{Value, json};
use ssa_service::{ClientSettings, NewClient};

use crate::fake::client_id;
use crate::web::{Answer, BASE, Browser, REDIRECT, Stack, encode, service_request};

/// A key of a client.
pub struct Key(EcdsaKeyPair);

impl Key {
    pub fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwk(&self) -> Value {
        let point = self.0.public_key().as_ref();
        json!({ "kty": "EC", "crv": "P-256", "x": b64u(&point[1..33]), "y": b64u(&point[33..]) })
    }

    fn thumbprint(&self) -> String {
        let jwk = self.jwk();
        let canonical = format!(
            r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#,
            jwk["x"], jwk["y"]
        );
        b64u(sha256(&[canonical.as_bytes()]).0)
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", b64u(header.to_string()), b64u(claims.to_string()));
        let value = self
            .0
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!("{signed}.{}", b64u(value.as_ref()))
    }

    fn jwt(&self, claims: &Value) -> String {
        self.sign(&json!({ "alg": "ES256", "typ": "JWT" }), claims)
    }

    fn proof(&self, claims: &Value) -> String {
        let header = json!({ "alg": "ES256", "typ": "dpop+jwt", "jwk": self.jwk() });
        self.sign(&header, claims)
    }

    /// A good proof for a POST to `path`.
    pub fn good_proof(&self, stack: &Stack, path: &str, token: Option<&str>, jti: &str) -> String {
        let mut claims = json!({ "htm": "POST", "htu": format!("{BASE}{path}"), "jti": jti, "iat": stack.clock.now() });
        if let Some(token) = token {
            claims["ath"] = json!(b64u(sha256(&[token.as_bytes()]).0));
        }
        self.proof(&claims)
    }
}

pub async fn client(stack: &mut Stack, id: &str, settings: ClientSettings) {
    let new = NewClient {
        id: client_id(id),
        name: id.to_owned(),
        redirect_uris: vec![REDIRECT.to_owned()],
        native: false,
        public: false,
        settings,
    };
    if let Some(secret) = stack.ssa.create_client(&new).await.unwrap().secret {
        stack
            .clients
            .insert(id.to_owned(), secret.expose().to_owned());
    }
}

/// A form with headers, without any authentication of its own.
async fn post(
    stack: &Stack,
    path: &str,
    headers: &[(&str, &str)],
    form: &[(&str, &str)],
) -> Answer {
    let mut request =
        Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    stack
        .send(request.body(Body::from(encode(form))).unwrap())
        .await
}

async fn csc(stack: &Stack, method: &str, headers: &[(&str, String)], body: &str) -> Answer {
    let mut request = Request::post(format!("/csc/v2/{method}"));
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    stack
        .send(request.body(Body::from(body.to_owned())).unwrap())
        .await
}

fn error(answer: &Answer) -> String {
    answer.json()["error"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// A code of scope `service` for this client.
async fn service_code(stack: &Stack, client: &str, login: &str) -> String {
    let mut browser = Browser::new(stack);
    let code = browser
        .log_in_for_code(&service_request(client), login)
        .await;
    stack.next_code();
    code
}

fn assertion(stack: &Stack, id: &str, jti: &str) -> Value {
    let now = stack.clock.now();
    json!({ "iss": id, "sub": id, "aud": BASE, "iat": now, "exp": now.plus(60), "jti": jti })
}

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
