//! A small provider: what it is told to do it does, and what it saw it keeps.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use csc_client::{Client, ClientCredentials, HttpOptions};
use csc_types::{ExtendRequest, SignHashRequest, SignHashResponse};
use serde_json::{Value, json};

/// What the fake does and what it saw.
#[derive(Default)]
pub struct Fake {
    pub par: bool,
    pub metadata: bool,
    pub foreign_issuer: bool,
    pub rar: bool,
    pub ids_only: bool,
    /// Bodies of `extendTransaction`.
    pub extended: Mutex<Vec<Value>>,
    /// Answers `signHash` with 503 this many times.
    pub stumbles: AtomicUsize,
    pub base: Mutex<String>,
    pub pushed: Mutex<Vec<HashMap<String, String>>>,
    pub tokens: Mutex<Vec<(HashMap<String, String>, HeaderMap)>>,
    pub signs: Mutex<Vec<(HeaderMap, Value)>>,
}

type Shared = State<Arc<Fake>>;

/// Knows one credential; a code goes out of band, a challenge comes back for an object that isn't a code.
async fn challenge(Json(body): Json<Value>) -> Response {
    match (body["credentialID"].as_str(), body["authObjectID"].as_str()) {
        (Some("k1"), None | Some("OTP")) => StatusCode::NO_CONTENT.into_response(),
        (Some("k1"), Some(_)) => Json(json!({ "challenge": "42" })).into_response(),
        _ => {
            let body = json!({ "error": "invalid_request", "error_description": "Invalid parameter credentialID" });
            (StatusCode::BAD_REQUEST, Json(body)).into_response()
        }
    }
}

async fn info(State(fake): Shared) -> Json<Value> {
    let base = fake.base.lock().unwrap().clone();
    Json(
        json!({ "specs": "2.2.0.0", "name": "fake", "oauth2": base, "authType": ["oauth2code"],
        "supportsRar": fake.rar, "methods": ["info"], "logo": null }),
    )
}

async fn metadata(State(fake): Shared) -> Response {
    if !fake.metadata {
        return StatusCode::NOT_FOUND.into_response();
    }
    let base = fake.base.lock().unwrap().clone();
    let issuer = if fake.foreign_issuer {
        "https://evil.example".to_owned()
    } else {
        base.clone()
    };
    let mut metadata = json!({ "issuer": issuer, "authorization_endpoint": format!("{base}/oauth2/authorize"),
        "token_endpoint": format!("{base}/oauth2/token"),
        "authorization_response_iss_parameter_supported": true,
        "token_endpoint_auth_methods_supported": ["client_secret_post"] });
    if fake.par {
        let endpoint = format!("{base}/oauth2/pushed_authorize");
        metadata["pushed_authorization_request_endpoint"] = endpoint.into();
    }
    Json(metadata).into_response()
}

async fn push(State(fake): Shared, Form(form): Form<HashMap<String, String>>) -> Response {
    if !fake.par {
        return StatusCode::NOT_FOUND.into_response();
    }
    fake.pushed.lock().unwrap().push(form);
    (
        StatusCode::CREATED,
        Json(json!({ "request_uri": "urn:x:1", "expires_in": 90 })),
    )
        .into_response()
}

async fn token(
    State(fake): Shared,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let good = form.get("code").is_some_and(|c| c == "good");
    fake.tokens.lock().unwrap().push((form, headers));
    if good {
        Json(json!({ "access_token": "tok", "token_type": "Bearer", "expires_in": 60 }))
            .into_response()
    } else {
        (
            StatusCode::BAD_REQUEST,
            Json(json!({ "error": "invalid_grant" })),
        )
            .into_response()
    }
}

fn credential() -> Value {
    json!({ "key": { "status": "enabled", "algo": ["1.2.840.10045.4.3.2"], "len": 256 },
        "cert": { "certificates": ["AQID"] }, "auth": { "mode": "oauth2code" }, "SCAL": "2", "multisign": 9 })
}

async fn list(State(fake): Shared) -> Json<Value> {
    let mut one = credential();
    one["credentialID"] = json!("k1");
    let infos = if fake.ids_only {
        Value::Null
    } else {
        json!([one])
    };
    Json(json!({ "credentialIDs": ["k1"], "credentialInfos": infos }))
}

async fn sign(State(fake): Shared, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let request = SignHashRequest::parse(body.to_string().as_bytes()).unwrap();
    fake.signs.lock().unwrap().push((headers, body));
    let left = fake
        .stumbles
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
    if left.is_ok() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    Json(SignHashResponse::new(&request.hashes)).into_response()
}

/// Answers with the old token's text reversed, once.
async fn extend(State(fake): Shared, Json(body): Json<Value>) -> Response {
    let request = ExtendRequest::parse(body.to_string().as_bytes()).unwrap();
    let sad = request
        .sad
        .unwrap()
        .expose()
        .chars()
        .rev()
        .collect::<String>();
    fake.extended.lock().unwrap().push(body);
    if fake.extended.lock().unwrap().len() > 1 {
        let error =
            json!({ "error": "invalid_request", "error_description": "Invalid parameter SAD" });
        return (StatusCode::BAD_REQUEST, Json(error)).into_response();
    }
    Json(json!({ "SAD": sad, "expiresIn": 300 })).into_response()
}

pub async fn start(fake: Fake) -> (Arc<Fake>, Client) {
    let fake = Arc::new(fake);
    let app = Router::new()
        .route("/csc/v2/info", post(info))
        .route("/csc/v2/credentials/list", post(list))
        .route(
            "/csc/v2/credentials/info",
            post(|| async { Json(credential()) }),
        )
        .route("/csc/v2/signatures/signHash", post(sign))
        .route("/csc/v2/credentials/extendTransaction", post(extend))
        .route("/csc/v2/credentials/sendOTP", post(challenge))
        .route("/csc/v2/credentials/getChallenge", post(challenge))
        .route("/oauth2/pushed_authorize", post(push))
        .route("/oauth2/token", post(token))
        .route("/.well-known/oauth-authorization-server", get(metadata))
        .with_state(fake.clone());
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    // A name that only our own resolver knows.
    let base = format!(
        "http://rssp.localhost:{}",
        socket.local_addr().unwrap().port()
    );
    *fake.base.lock().unwrap() = base.clone();
    tokio::spawn(async move { axum::serve(socket, app).await });
    let credentials = ClientCredentials {
        client_id: "app:1".to_owned(),
        client_secret: Some("s3 cret".to_owned().into()),
    };
    let options = HttpOptions {
        retry_pauses: vec![Duration::ZERO; 2],
        ..HttpOptions::default()
    };
    (fake, Client::new(&base, credentials, &options).unwrap())
}
