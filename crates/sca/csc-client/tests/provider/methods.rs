//! Methods beside listing and signing, as they go over the wire and come back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use core_types::HashAlg;
use core_types::bytes::b64;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use csc_client::{
    Asked, Client, ClientCredentials, ClientError, ClientKey, HttpOptions, KeyUse, Later,
};
use csc_types::sign_doc::{DocContent, DocEntry, Envelope, Format, Level};
use csc_types::{
    Credential, GetChallengeRequest, LoginRequest, Purpose, SecretText, SignDocRequest,
    SignHashRequest, SignMode, TimestampRequest,
};
use serde_json::{Value, json};

use crate::{purpose, request};

/// What came: path, `Authorization` and body.
type Came = (String, String, String);

#[derive(Default)]
struct Plain {
    base: Mutex<String>,
    came: Mutex<Vec<Came>>,
}

impl Plain {
    fn last(&self) -> Came {
        self.came.lock().unwrap().last().unwrap().clone()
    }

    fn count(&self, path: &str) -> usize {
        let came = self.came.lock().unwrap();
        came.iter().filter(|(at, ..)| at == path).count()
    }

    fn form(&self) -> HashMap<String, String> {
        let body = self.last().2;
        let pairs = url::form_urlencoded::parse(body.as_bytes());
        pairs.into_owned().collect()
    }
}

/// What may still come is refused the first times it is asked for.
async fn serve(
    State(plain): State<Arc<Plain>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path().to_owned();
    let sent = headers.get("authorization");
    let sent = sent.map(|sent| sent.to_str().unwrap().to_owned());
    let text = String::from_utf8(body.to_vec()).unwrap();
    let came = (path.clone(), sent.unwrap_or_default(), text);
    plain.came.lock().unwrap().push(came);
    let base = plain.base.lock().unwrap().clone();
    let error = |error: &str| {
        let body = Json(json!({ "error": error }));
        (StatusCode::BAD_REQUEST, body).into_response()
    };
    let answer = match path.as_str() {
        "/csc/v2/info" => {
            json!({ "specs": "2.2.0.0", "name": "plain", "oauth2": base, "methods": ["info"] })
        }
        "/.well-known/oauth-authorization-server" => {
            json!({ "issuer": base, "authorization_endpoint": format!("{base}/oauth2/authorize"),
                "token_endpoint": format!("{base}/oauth2/token"),
                "revocation_endpoint": format!("{base}/oauth2/revoke"),
                "device_authorization_endpoint": format!("{base}/oauth2/device_authorization"),
                "authorization_details_types_supported": ["credential"] })
        }
        "/csc/v2/credentials/authorize" => json!({ "SAD": "s", "expiresIn": 60 }),
        "/csc/v2/auth/login" => json!({ "access_token": "a", "refresh_token": "r" }),
        "/csc/v2/auth/revoke" | "/oauth2/revoke" => return StatusCode::NO_CONTENT.into_response(),
        "/csc/v2/signatures/signDoc" => json!({ "DocumentWithSignature": ["AQID"] }),
        "/csc/v2/signatures/signHash" => json!({ "responseID": "later" }),
        "/csc/v2/signatures/signPolling" if plain.count(&path) == 1 => {
            let body = Json(json!({ "error": "accepted_request" }));
            return (StatusCode::ACCEPTED, body).into_response();
        }
        "/csc/v2/signatures/signPolling" => json!({ "signatures": ["AQ==", "Ag=="] }),
        "/csc/v2/signatures/timestamp" => json!({ "timestamp": "AQID" }),
        "/oauth2/device_authorization" => {
            json!({ "device_code": "d", "user_code": "U-1", "verification_uri": format!("{base}/device"),
                "expires_in": 600, "interval": 2 })
        }
        "/oauth2/token" => match plain.count(&path) {
            1 => return error("authorization_pending"),
            2 => return error("slow_down"),
            3 => json!({ "access_token": "t", "token_type": "Bearer", "expires_in": 60 }),
            _ => return error("expired_token"),
        },
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    Json(answer).into_response()
}

async fn start(version: &str) -> (Arc<Plain>, Client) {
    let plain = Arc::new(Plain::default());
    let app = Router::new().fallback(serve).with_state(plain.clone());
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://localhost:{}", socket.local_addr().unwrap().port());
    *plain.base.lock().unwrap() = base.clone();
    tokio::spawn(async move { axum::serve(socket, app).await });
    let credentials = ClientCredentials {
        client_id: "app".to_owned(),
        client_secret: Some("secret".to_owned().into()),
    };
    let url = format!("{base}/csc/{version}");
    let client = Client::new(&url, credentials, &HttpOptions::default());
    (plain, client.unwrap())
}

fn text(text: &str) -> SecretText {
    text.to_owned().into()
}

#[tokio::test]
async fn logins_and_ends_of_tokens_go_where_they_belong() {
    let (plain, client) = start("v2").await;
    let login = client.login("hanako", &text("pw"), true).await.unwrap();
    assert_eq!(login.access_token.expose(), "a");
    assert_eq!(login.expires_in, 3600, "it wasn't said");
    let (_, sent, body) = plain.last();
    assert_eq!(sent, format!("Basic {}", b64("hanako:pw")));
    let wanted = LoginRequest {
        refresh_token: None,
        remember_me: true,
    };
    assert_eq!(LoginRequest::parse(body.as_bytes()), Ok(wanted));
    let refresh = login.refresh_token.unwrap();
    client.login_again(&refresh, false).await.unwrap();
    let (_, sent, body) = plain.last();
    assert_eq!(sent, "");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body, json!({ "refresh_token": "r", "rememberMe": false }));

    client.revoke(&text("a"), &refresh).await.unwrap();
    let (path, sent, body) = plain.last();
    assert_eq!(
        (path.as_str(), sent.as_str(), body.as_str()),
        ("/csc/v2/auth/revoke", "Bearer a", r#"{"token":"r"}"#)
    );
    let provider = client.discover().await.unwrap();
    let ended = client.revoke_as_client(&provider, &text("a")).await;
    ended.unwrap();
    let (path, sent, _) = plain.last();
    assert_eq!(path, "/oauth2/revoke");
    assert_eq!(sent, format!("Basic {}", b64("app:secret")));
    assert_eq!(plain.form()["token"], "a");
}

#[tokio::test]
async fn documents_and_time_stamps_are_asked_for() {
    let (plain, client) = start("v2").await;
    let asked = SignDocRequest {
        credential_id: "k".to_owned(),
        sad: Some(text("right")),
        entries: vec![DocEntry {
            content: DocContent::Document(b"text".to_vec()),
            format: Format::Cades,
            level: Level::B,
            sign_algo: "1.2.840.10045.4.3.2".to_owned(),
            sign_algo_params: None,
            envelope: Envelope::Attached,
            signing_time: None,
        }],
    };
    let signed = client.sign_doc(&text("reads"), &asked, "once").await;
    assert_eq!(signed.unwrap().documents, ["AQID"]);
    let (_, sent, body) = plain.last();
    assert_eq!(sent, "Bearer reads");
    assert_eq!(SignDocRequest::parse(body.as_bytes()), Ok(asked));
    let stamp = TimestampRequest {
        hash: vec![1; 32],
        hash_algorithm: HashAlg::Sha256,
        nonce: Some(vec![7]),
    };
    let token = client.timestamp(&text("reads"), &stamp).await.unwrap();
    assert_eq!(token, [1, 2, 3]);
    let body = plain.last().2;
    assert_eq!(TimestampRequest::parse(body.as_bytes()), Ok(stamp));
}

#[tokio::test]
async fn values_that_come_later_are_fetched() {
    let (plain, client) = start("v2").await;
    let asked = request(vec![vec![1; 32], vec![2; 32]]);
    let later = Later {
        keep: Some(Duration::from_secs(60)),
        response_uri: Some("https://app.example/done"),
    };
    let named = client.sign_later(&text("t"), &asked, later, "once").await;
    let named = named.unwrap();
    let body = plain.last().2;
    let (read, mode) = SignHashRequest::parse_with_mode(body.as_bytes()).unwrap();
    assert_eq!(read, asked);
    let wanted = SignMode::Later {
        keep: 60,
        response_uri: Some("https://app.example/done".to_owned()),
    };
    assert_eq!(mode, wanted);
    let poll = async |count, user| client.poll(&text("t"), &named, count, user).await;
    assert_eq!(poll(2, None).await.unwrap(), None);
    let values = poll(2, Some("hanako")).await.unwrap().unwrap();
    assert_eq!((&values[0].value, &values[1].value), (&vec![1], &vec![2]));
    let body: Value = serde_json::from_str(&plain.last().2).unwrap();
    assert_eq!(body, json!({ "requestID": "later", "userID": "hanako" }));
    let fewer = poll(3, None).await;
    assert!(matches!(fewer, Err(ClientError::Malformed { .. })));
}

#[tokio::test]
async fn a_device_asks_until_its_user_has_decided() {
    let (plain, client) = start("v2").await;
    let provider = client.discover().await.unwrap();
    let device = client.device(&provider, purpose(), Some("d")).await;
    let mut device = device.unwrap();
    assert_eq!(
        (device.told.user_code.as_str(), device.pause),
        ("U-1", Duration::from_secs(2))
    );
    let form = plain.form();
    assert!(form.contains_key("authorization_details"), "{form:?}");
    for browsers in ["redirect_uri", "state", "code_challenge", "response_type"] {
        assert!(!form.contains_key(browsers), "{browsers}");
    }
    let first = client.device_token(&provider, &mut device).await;
    assert_eq!(first.unwrap(), None);
    assert_eq!(device.pause, Duration::from_secs(2));
    let second = client.device_token(&provider, &mut device).await;
    assert_eq!(second.unwrap(), None);
    assert_eq!(device.pause, Duration::from_secs(7), "slow down");
    let token = client.device_token(&provider, &mut device).await.unwrap();
    assert_eq!(token.unwrap().access_token.expose(), "t");
    assert_eq!(plain.form()["device_code"], "d");
    let late = client.device_token(&provider, &mut device).await;
    assert!(matches!(late, Err(ClientError::Api { status: 400, .. })));
}

#[tokio::test]
async fn version_1_is_not_asked_for_what_it_lacks() {
    let (plain, client) = start("v1").await;
    let token = text("t");
    let object = GetChallengeRequest {
        credential_id: "k".to_owned(),
        auth_object_id: "OTP".to_owned(),
    };
    let documents = SignDocRequest {
        credential_id: "k".to_owned(),
        sad: None,
        entries: Vec::new(),
    };
    let later = Later::default();
    let refused = [
        client.asked(&token, &token).await.map(drop),
        client.challenge(&token, &object).await.map(drop),
        client.sign_doc(&token, &documents, "once").await.map(drop),
        client
            .sign_later(&token, &request(Vec::new()), later, "once")
            .await
            .map(drop),
        client.poll(&token, &token, 1, None).await.map(drop),
        client.deleted(&token, "k").await,
    ];
    for refused in refused {
        assert!(matches!(refused, Err(ClientError::Unsupported(_))));
    }
    assert!(plain.came.lock().unwrap().is_empty());
    // Neither is a server that says nothing of devices.
    let mut provider = start("v2").await.1.discover().await.unwrap();
    provider.endpoints.device = None;
    let device = client.device(&provider, Purpose::Service, None).await;
    assert!(matches!(device, Err(ClientError::Unsupported(_))));
}

#[tokio::test]
async fn a_devices_request_is_signed_for_as_long_as_its_user_may_need() {
    let (plain, client) = start("v2").await;
    let (key, _) = jose::SigningKey::generate().unwrap();
    let own = ClientKey::new(key, Arc::new(SystemClock), Arc::new(SystemRandom));
    let client = client.with_key(own.only_for(KeyUse::Requests));
    let provider = client.discover().await.unwrap();
    let begun = client.device(&provider, purpose(), None).await;
    begun.unwrap();
    let form = plain.form();
    let jws = jose::ForeignJws::read(&form["request"]).unwrap();
    let claims: Value = serde_json::from_slice(jws.unchecked_payload()).unwrap();
    let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!(life, 3600);
}

#[tokio::test]
async fn what_was_hashed_is_said_since_a_contract_may_mean_something_else_by_nothing() {
    let (plain, client) = start("v2").await;
    let credential: Credential = serde_json::from_value(json!({
        "credentialID": "k", "key": { "status": "enabled", "algo": [] }, "cert": {}, "SCAL": "2", "multisign": 1,
        "auth": { "mode": "explicit", "objects": [{ "type": "ChallengeResponseOOB", "id": "portal" }] }
    }))
    .unwrap();
    let asked = Asked {
        credential: &credential,
        hashes: &[vec![7; 32]],
        hash_algorithm: HashAlg::Sha256,
        description: "d",
        pin: None,
        otp: None,
    };
    client.ask(&text("t"), &asked).await.unwrap();
    let sent: Value = serde_json::from_str(&plain.last().2).unwrap();
    assert_eq!(sent["hashType"], "dtbsr");
}
