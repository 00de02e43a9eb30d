//! A provider of version 1 alone, and what the client sends it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use core_types::bytes::{b64, b64u};
use core_types::{HashAlg, sha256};
use csc_client::{Asked, Client, ClientCredentials, ClientError, HttpOptions, Version};
use csc_types::{CredentialAuthorizeResponse, ExtendRequest, Purpose, SecretText};
use serde_json::{Value, json};

use crate::{authorize, back, purpose, request};

const SERVICE: &str = "reads";

/// What came: the method, the token and the body.
type Came = Mutex<Vec<(String, String, Value)>>;

#[derive(Default)]
struct Old {
    base: Mutex<String>,
    came: Came,
    forms: Mutex<Vec<HashMap<String, String>>>,
}

impl Old {
    fn last(&self) -> (String, String, Value) {
        self.came.lock().unwrap().last().unwrap().clone()
    }
}

async fn api(
    State(old): State<Arc<Old>>,
    uri: Uri,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let method = uri.path().strip_prefix("/csc/v1/").unwrap_or_default();
    let token = headers.get("authorization");
    let token = token.map(|t| t.to_str().unwrap().to_owned());
    let token = token.unwrap_or_default();
    let bearer = format!("Bearer {SERVICE}");
    old.came
        .lock()
        .unwrap()
        .push((method.to_owned(), token.clone(), body.clone()));
    let answer = match method {
        "info" => {
            json!({ "specs": "1.0.3.0", "name": "old", "logo": "https://a.example/l.png", "region": "JP",
            "lang": "ja", "description": "", "authType": ["basic", "oauth2code"],
            "oauth2": format!("{}/", old.base.lock().unwrap()), "methods": ["info"] })
        }
        _ if token != bearer => return refused("invalid_token"),
        "credentials/list" if body["userID"] == "endless" => {
            json!({ "credentialIDs": [], "nextPageToken": "more" })
        }
        "credentials/list" if body["userID"] == "huge" => {
            json!({ "credentialIDs": ["k".repeat(4 << 20)], "nextPageToken": "more" })
        }
        "credentials/list" => match body["pageToken"].as_str() {
            None => json!({ "credentialIDs": ["k1"], "nextPageToken": "2" }),
            Some("2") => json!({ "credentialIDs": ["k2"], "nextPageToken": "" }),
            Some(_) => return refused("Invalid parameter pageToken"),
        },
        "credentials/info" => json!({ "description": "old key",
            "key": { "status": "enabled", "algo": ["1.2.840.10045.4.3.2"], "len": 256, "curve": "1.2.840.10045.3.1.7" },
            "cert": { "status": "valid", "certificates": ["AQID"] }, "authMode": "explicit", "SCAL": "2",
            "PIN": { "presence": "true", "format": "N" }, "OTP": { "presence": "true", "type": "online" },
            "multisign": 5 }),
        "credentials/authorize" => json!({ "SAD": "may-sign", "expiresIn": 60 }),
        "credentials/extendTransaction" => json!({ "SAD": "may-sign-on", "expiresIn": 60 }),
        "signatures/signHash" => match body["hash"].as_array() {
            Some(hashes) => json!({ "signatures": hashes }),
            None => return refused("Missing (or invalid type) array parameter hash"),
        },
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    Json(answer).into_response()
}

fn refused(why: &str) -> Response {
    let body = json!({ "error": "invalid_request", "error_description": why });
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

async fn token(
    State(old): State<Arc<Old>>,
    Form(form): Form<HashMap<String, String>>,
) -> Json<Value> {
    let grant = form["grant_type"].clone();
    old.forms.lock().unwrap().push(form);
    Json(match grant.as_str() {
        "refresh_token" => {
            json!({ "access_token": SERVICE, "token_type": "Bearer", "refresh_token": "next" })
        }
        _ => json!({ "access_token": "right", "token_type": "SAD", "expires_in": 60 }),
    })
}

/// Knows no PAR, no metadata and no version 2: what it doesn't know it doesn't find.
async fn start() -> (Arc<Old>, Client) {
    let old = Arc::new(Old::default());
    let app = Router::new()
        .route("/csc/v1/{*method}", post(api))
        .route("/oauth2/token", post(token))
        .with_state(old.clone());
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://localhost:{}", socket.local_addr().unwrap().port());
    *old.base.lock().unwrap() = base.clone();
    tokio::spawn(async move { axum::serve(socket, app).await });
    let credentials = ClientCredentials {
        client_id: "app".to_owned(),
        client_secret: None,
    };
    let url = format!("{base}/csc/v1");
    let client = Client::new(&url, credentials, &HttpOptions::default());
    (old, client.unwrap())
}

fn service() -> SecretText {
    SERVICE.to_owned().into()
}

#[tokio::test]
async fn an_authorization_of_version_1_goes_by_its_own_names_and_its_token_signs_beside_the_other()
{
    let (old, client) = start().await;
    assert_eq!(client.version(), Version::V1);
    let provider = client.discover().await.unwrap();
    assert!(!provider.takes_documents() && provider.endpoints.pushed.is_none());
    let pending = authorize(&client, &provider, purpose()).await;
    let query: HashMap<String, String> = pending.url.query_pairs().into_owned().collect();
    assert!(pending.url.path().starts_with("/oauth2/authorize"));
    assert_eq!(query["hash"], b64u(sha256(&[b"x"])));
    assert_eq!(
        (query["scope"].as_str(), query["numSignatures"].as_str()),
        ("credential", "1")
    );
    for later in ["hashes", "hashAlgorithmOID", "authorization_details"] {
        assert!(!query.contains_key(later), "{later}");
    }
    let right = client
        .exchange(&provider, &pending, &back(&pending, "&code=good"))
        .await
        .unwrap();
    let mut asked = request(vec![vec![1; 32]]);
    asked.hash_algorithm_oid = Some(HashAlg::Sha256.oid().to_owned());
    asked.sad = Some(right.access_token);
    let signed = client.sign_hash(&service(), &asked, "once").await.unwrap();
    assert_eq!(signed[0].value, [1; 32]);
    let (method, token, body) = old.last();
    assert_eq!(
        (method.as_str(), token.as_str()),
        ("signatures/signHash", "Bearer reads")
    );
    assert_eq!(
        body,
        json!({ "credentialID": "k1", "SAD": "right", "hash": [b64([1; 32])], "hashAlgo": HashAlg::Sha256.oid(),
            "signAlgo": "1.2.840.10045.4.3.2" })
    );
    // A right alone goes in both places.
    asked.sad = None;
    client.sign_hash(&service(), &asked, "once").await.unwrap();
    assert_eq!(old.last().2["SAD"], SERVICE);
}

#[tokio::test]
async fn a_list_of_version_1_is_read_page_by_page_and_its_credentials_like_those_of_version_2() {
    let (old, client) = start().await;
    let all = client
        .credentials_of(&service(), Some("hanako"))
        .await
        .unwrap();
    let ids: Vec<_> = all
        .iter()
        .filter_map(|c| c.credential_id.as_deref())
        .collect();
    assert_eq!(ids, ["k1", "k2"]);
    assert_eq!(
        (all[0].auth.mode.as_str(), all[0].multisign),
        ("explicit", 5)
    );
    assert_eq!(all[0].cert.der(), Some(vec![vec![1, 2, 3]]));
    let came = old.came.lock().unwrap().clone();
    let lists: Vec<_> = came.iter().filter(|c| c.0 == "credentials/list").collect();
    assert_eq!(lists[0].2, json!({ "userID": "hanako" }));
    assert_eq!(lists[1].2, json!({ "userID": "hanako", "pageToken": "2" }));

    // Explicit mode with secrets in members of their own.
    let (pin, otp) = (
        SecretText::from("12345678".to_owned()),
        SecretText::from("9".to_owned()),
    );
    let hashes = [vec![7; 32]];
    let asked = Asked {
        credential: &all[0],
        hashes: &hashes,
        hash_algorithm: HashAlg::Sha256,
        description: "d",
        pin: Some(&pin),
        otp: Some(&otp),
    };
    let granted = client.ask(&service(), &asked).await.unwrap();
    let CredentialAuthorizeResponse::Granted(granted) = granted else {
        panic!("granted at once")
    };
    assert_eq!(granted.sad.expose(), "may-sign");
    assert_eq!(
        old.last().2,
        json!({ "credentialID": "k1", "numSignatures": 1, "hash": [b64([7; 32])], "description": "d",
            "PIN": "12345678", "OTP": "9" })
    );
    let next = ExtendRequest {
        credential_id: "k1".into(),
        sad: Some(granted.sad),
        hashes: hashes.to_vec(),
        client_data: None,
    };
    let next = client.extend(&service(), &next).await.unwrap();
    assert_eq!(next.sad.expose(), "may-sign-on");
    assert_eq!(old.last().2["hash"], json!([b64([7; 32])]));
    let wrong = client.credentials(&"other".to_owned().into()).await;
    assert!(matches!(wrong, Err(ClientError::Api { status: 400, .. })));
}

#[tokio::test]
async fn a_list_without_end_is_given_up_before_it_fills_the_memory() {
    for (user, most) in [("endless", 100), ("huge", 4)] {
        let (old, client) = start().await;
        let listed = client.credentials_of(&service(), Some(user)).await;
        assert!(matches!(listed, Err(ClientError::TooLarge(_))), "{user}");
        assert_eq!(old.came.lock().unwrap().len(), most, "{user}");
    }
}

#[tokio::test]
async fn a_refresh_token_brings_the_next_token() {
    let (old, client) = start().await;
    let provider = client.discover().await.unwrap();
    let first = SecretText::from("first".to_owned());
    let token = client.refresh(&provider, &first).await.unwrap();
    assert_eq!(token.access_token.expose(), SERVICE);
    assert_eq!(token.refresh_token.unwrap().expose(), "next");
    let sent = old.forms.lock().unwrap()[0].clone();
    let expected = [
        ("client_id", "app"),
        ("grant_type", "refresh_token"),
        ("refresh_token", "first"),
    ];
    let expected = expected.map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!(sent, HashMap::from(expected));
    // The same without a browser is what reads.
    let pending = authorize(&client, &provider, Purpose::Service).await;
    assert!(pending.url.query().unwrap().contains("scope=service"));
}
