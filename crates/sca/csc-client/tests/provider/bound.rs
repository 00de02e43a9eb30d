//! A provider that binds its tokens to keys and wants nonces of its own, and what the client does there.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use core_types::bytes::b64u;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::sha256;
use csc_client::{
    Client, ClientCredentials, ClientError, ClientKey, DpopKey, HttpOptions, KeyUse, Pending,
    Provider,
};
use csc_types::{Purpose, SecretText};
use jose::ForeignJws;
use serde_json::{Value, json};

use crate::{authorize, back, purpose, request};

const TOKEN: &str = "bound";

#[derive(Default)]
struct Strict {
    base: Mutex<String>,
    /// It knows no bound tokens, and says nothing of it.
    forgets: bool,
    /// Names of proofs that came.
    seen: Mutex<HashSet<String>>,
    /// Thumbprint that the code and the token belong to.
    holder: Mutex<Option<String>>,
    /// What came: path, and form or body.
    came: Mutex<Vec<(String, String)>>,
}

type Shared = State<Arc<Strict>>;

impl Strict {
    /// How often this path was asked.
    fn asked(&self, path: &str) -> usize {
        let came = self.came.lock().unwrap();
        came.iter().filter(|(at, _)| at == path).count()
    }

    /// The last form that came here.
    fn form(&self, path: &str) -> HashMap<String, String> {
        let came = self.came.lock().unwrap();
        let (_, body) = came.iter().rev().find(|(at, _)| at == path).unwrap();
        let pairs = url::form_urlencoded::parse(body.as_bytes());
        pairs.into_owned().collect()
    }

    /// Whose proof this is: for this request and never seen before; nobody's without this nonce.
    fn proven(
        &self,
        headers: &HeaderMap,
        path: &str,
        nonce: &str,
        token: Option<&str>,
    ) -> Option<String> {
        let proof = headers["dpop"].to_str().unwrap();
        let jws = ForeignJws::read(proof).unwrap();
        assert_eq!(jws.typ().as_deref(), Some("dpop+jwt"));
        let key = jws.jwk().unwrap();
        let claims: Value = serde_json::from_slice(jws.verify(&key).unwrap()).unwrap();
        let target = format!("{}{path}", self.base.lock().unwrap());
        assert_eq!(
            (&claims["htm"], &claims["htu"]),
            (&json!("POST"), &json!(target))
        );
        let ath = token.map(|token| b64u(sha256(&[token.as_bytes()])));
        assert_eq!(claims["ath"], json!(ath));
        let jti = claims["jti"].as_str().unwrap().to_owned();
        assert!(self.seen.lock().unwrap().insert(jti), "each counts once");
        let holder = key.thumbprint().to_string();
        Some(holder).filter(|_| claims["nonce"] == nonce)
    }
}

/// Nothing was done: the proof has to say this.
fn wants(nonce: &'static str, token: bool) -> Response {
    let given = ("dpop-nonce", nonce);
    if token {
        let challenge = ("www-authenticate", "DPoP error=\"use_dpop_nonce\"");
        return (StatusCode::UNAUTHORIZED, [given, challenge]).into_response();
    }
    let body = Json(json!({ "error": "use_dpop_nonce" }));
    (StatusCode::BAD_REQUEST, [given], body).into_response()
}

async fn serve(State(strict): Shared, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let path = uri.path().to_owned();
    let text = String::from_utf8(body.to_vec()).unwrap();
    strict.came.lock().unwrap().push((path.clone(), text));
    let base = strict.base.lock().unwrap().clone();
    let answer = match path.as_str() {
        "/csc/v2/info" => {
            json!({ "specs": "2.2.0.0", "name": "strict", "oauth2": base, "authType": ["oauth2code"],
                "methods": ["info"] })
        }
        "/.well-known/oauth-authorization-server" => {
            json!({ "issuer": base, "authorization_endpoint": format!("{base}/oauth2/authorize"),
                "token_endpoint": format!("{base}/oauth2/token"),
                "pushed_authorization_request_endpoint": format!("{base}/oauth2/pushed_authorize") })
        }
        "/oauth2/pushed_authorize" => {
            let holder = strict.form(&path).get("dpop_jkt").cloned();
            *strict.holder.lock().unwrap() = holder;
            json!({ "request_uri": "urn:x:1", "expires_in": 90 })
        }
        "/oauth2/token" if strict.forgets => {
            json!({ "access_token": "anybodys", "token_type": "Bearer", "expires_in": 60 })
        }
        "/oauth2/token" => {
            let Some(holder) = strict.proven(&headers, &path, "of-server", None) else {
                return wants("of-server", false);
            };
            assert_eq!(Some(holder), *strict.holder.lock().unwrap());
            json!({ "access_token": TOKEN, "token_type": "DPoP", "expires_in": 60 })
        }
        _ => {
            let sent = headers[header::AUTHORIZATION].to_str().unwrap();
            assert_eq!(sent, format!("DPoP {TOKEN}"));
            let Some(holder) = strict.proven(&headers, &path, "of-api", Some(TOKEN)) else {
                return wants("of-api", true);
            };
            assert_eq!(Some(holder), *strict.holder.lock().unwrap());
            match path.as_str() {
                "/csc/v2/signatures/signHash" => json!({ "signatures": ["AQID"] }),
                _ => json!({ "credentialIDs": [] }),
            }
        }
    };
    Json(answer).into_response()
}

async fn start(strict: Strict) -> (Arc<Strict>, Client) {
    let strict = Arc::new(strict);
    let app = Router::new().fallback(serve).with_state(strict.clone());
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://localhost:{}", socket.local_addr().unwrap().port());
    *strict.base.lock().unwrap() = base.clone();
    tokio::spawn(async move { axum::serve(socket, app).await });
    let credentials = ClientCredentials {
        client_id: "app".to_owned(),
        client_secret: None,
    };
    let client = Client::new(&base, credentials, &HttpOptions::default()).unwrap();
    (strict, client.with_dpop(dpop()))
}

fn dpop() -> DpopKey {
    DpopKey::generate(Arc::new(SystemClock), Arc::new(SystemRandom)).unwrap()
}

async fn redeemed(
    client: &Client,
    provider: &Provider,
    pending: &Pending,
) -> Result<SecretText, ClientError> {
    let callback = back(pending, "&code=good");
    let token = client.exchange(provider, pending, &callback).await;
    token.map(|token| token.access_token)
}

#[tokio::test]
async fn a_bound_token_is_asked_for_and_shown_with_a_proof_for_each_request() {
    let (strict, client) = start(Strict::default()).await;
    let provider = client.discover().await.unwrap();
    let pending = authorize(&client, &provider, purpose()).await;
    let token = redeemed(&client, &provider, &pending).await.unwrap();
    assert_eq!(token.expose(), TOKEN);
    // The server did nothing before it got its nonce; from then on it has it at once.
    assert_eq!(strict.asked("/oauth2/token"), 2);
    client.credentials(&token).await.unwrap();
    assert_eq!(strict.asked("/csc/v2/credentials/list"), 2);
    let values = client
        .sign_hash(&token, &request(vec![vec![1; 32]]), "once")
        .await
        .unwrap();
    assert_eq!(values[0].value, [1, 2, 3]);
    assert_eq!(strict.asked("/csc/v2/signatures/signHash"), 1);
    // A login without OAuth proves no key, so that its token would be anybody's.
    let login = client.login("hanako", &"x".to_owned().into(), false).await;
    assert!(matches!(login, Err(ClientError::Unsupported(_))));
    assert_eq!(strict.asked("/csc/v2/auth/login"), 0);
}

// shows: T-USE-CRED-FORGE
#[tokio::test]
async fn a_server_that_binds_nothing_gives_no_token_to_a_client_that_wants_it_bound() {
    let (strict, client) = start(Strict {
        forgets: true,
        ..Strict::default()
    })
    .await;
    let provider = client.discover().await.unwrap();
    let pending = authorize(&client, &provider, Purpose::Service).await;
    let token = redeemed(&client, &provider, &pending).await;
    assert!(matches!(token, Err(ClientError::Unsupported(_))));
    assert_eq!(strict.asked("/oauth2/token"), 1);
}

#[tokio::test]
async fn a_key_is_for_one_thing_if_it_is_said_so() {
    let (strict, client) = start(Strict::default()).await;
    let provider = client.discover().await.unwrap();
    let key = || {
        let (key, _) = jose::SigningKey::generate().unwrap();
        ClientKey::new(key, Arc::new(SystemClock), Arc::new(SystemRandom))
    };
    for (only, signs, proves) in [
        (None, true, true),
        (Some(KeyUse::Requests), true, false),
        (Some(KeyUse::Authentication), false, true),
    ] {
        let key = match only {
            None => key(),
            Some(only) => key().only_for(only),
        };
        let client = client.clone().with_key(key);
        authorize(&client, &provider, Purpose::Service).await;
        let form = strict.form("/oauth2/pushed_authorize");
        let found = (
            form.contains_key("request"),
            form.contains_key("client_assertion"),
        );
        assert_eq!(found, (signs, proves), "{only:?}");
    }
}
