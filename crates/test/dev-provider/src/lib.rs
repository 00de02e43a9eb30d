//! An OpenID provider for tests: one person is always there and agrees to everything; what it says can be bent.
//!
//! This crate must never be part of a production deployment: it asks nobody for anything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use core_types::bytes::b64u;
use core_types::random::SystemRandom;
use core_types::{Clock, Random as _, sha256};
use jose::SigningKey;
use serde_json::{Value, json};
use url::Url;

/// Members of a token that are to be said instead of the right ones; `null`: not at all.
pub type Bent = serde_json::Map<String, Value>;

/// The provider.
pub struct DevProvider {
    issuer: String,
    clients: Vec<String>,
    key: SigningKey,
    clock: Arc<dyn Clock>,
    state: Mutex<Inside>,
}

struct Inside {
    subject: String,
    bent: Bent,
    /// Says who answers (RFC 9207).
    names_itself: bool,
    codes: BTreeMap<String, Asked>,
}

/// An authorization request that was agreed to.
struct Asked {
    client: String,
    nonce: String,
    challenge: String,
    redirect: String,
}

impl DevProvider {
    /// A provider with one client and a fresh key; `None` when no key can be made.
    pub fn new(issuer: &str, client: &str, clock: Arc<dyn Clock>) -> Option<Self> {
        Self::of(issuer, &[client], clock)
    }

    /// The same with several clients.
    pub fn of(issuer: &str, clients: &[&str], clock: Arc<dyn Clock>) -> Option<Self> {
        let (key, _) = SigningKey::generate().ok()?;
        let state = Inside {
            subject: "nobody".to_owned(),
            bent: Bent::new(),
            names_itself: true,
            codes: BTreeMap::new(),
        };
        Some(Self {
            issuer: issuer.to_owned(),
            clients: clients.iter().map(|&client| client.to_owned()).collect(),
            key,
            clock,
            state: Mutex::new(state),
        })
    }

    /// Who is there from now on.
    pub fn seat(&self, subject: &str) {
        self.inside().subject = subject.to_owned();
    }

    /// What tokens say from now on instead of the right things.
    pub fn bend(&self, bent: Value) {
        self.inside().bent = bent.as_object().cloned().unwrap_or_default();
    }

    /// Whether answers say whose they are.
    pub fn names_itself(&self, names: bool) {
        self.inside().names_itself = names;
    }

    /// `/.well-known/openid-configuration`.
    pub fn metadata(&self) -> Value {
        let at = &self.issuer;
        json!({
            "issuer": at,
            "authorization_endpoint": format!("{at}/authorize"),
            "token_endpoint": format!("{at}/token"),
            "jwks_uri": format!("{at}/jwks"),
            "authorization_response_iss_parameter_supported": self.inside().names_itself,
        })
    }

    /// Its keys.
    pub fn jwks(&self) -> Value {
        let mut key = json!(self.key.public());
        key["kid"] = json!(self.key.public().kid());
        json!({ "keys": [key] })
    }

    /// An ID token for whoever is there and the first client, bent.
    pub fn id_token(&self, nonce: &str) -> String {
        self.id_token_for(self.clients.first().map_or("", String::as_str), nonce)
    }

    /// The same for one of the clients.
    pub fn id_token_for(&self, client: &str, nonce: &str) -> String {
        let now = self.clock.now().0;
        let inside = self.inside();
        let mut claims = json!({
            "iss": self.issuer, "aud": client, "sub": inside.subject, "nonce": nonce,
            "iat": now, "exp": now + 300, "auth_time": now, "acr": "high", "amr": ["pwd", "hwk"],
        });
        for (name, value) in &inside.bent {
            match (value, claims.as_object_mut()) {
                (Value::Null, Some(claims)) => drop(claims.remove(name)),
                _ => claims[name] = value.clone(),
            }
        }
        let signed = self.key.sign("JWT", claims.to_string().as_bytes());
        signed.unwrap_or_default()
    }

    /// Where a browser with whoever is there is sent after this address: with a code, or with an ID token in the fragment.
    /// `None` for a request of somebody else's client.
    pub fn authorize(&self, address: &Url) -> Option<Url> {
        let given: BTreeMap<String, String> = address.query_pairs().into_owned().collect();
        let text = |name: &str| given.get(name).map(String::as_str);
        let client = text("client_id")?;
        if !self.clients.iter().any(|known| known == client) {
            return None;
        }
        let (nonce, state) = (text("nonce")?, text("state")?);
        let mut back = Url::parse(text("redirect_uri")?).ok()?;
        if text("response_type")? == "id_token" {
            let token = self.id_token_for(client, nonce);
            back.set_fragment(Some(&format!("id_token={token}&state={state}")));
            return Some(back);
        }
        let code = SystemRandom.digest32().to_string();
        let asked = Asked {
            client: client.to_owned(),
            nonce: nonce.to_owned(),
            challenge: text("code_challenge").unwrap_or_default().to_owned(),
            redirect: text("redirect_uri")?.to_owned(),
        };
        let mut inside = self.inside();
        inside.codes.insert(code.clone(), asked);
        back.query_pairs_mut()
            .append_pair("code", &code)
            .append_pair("state", state);
        if inside.names_itself {
            back.query_pairs_mut().append_pair("iss", &self.issuer);
        }
        Some(back)
    }

    /// The token endpoint: an ID token for a code, once, to whoever knows its verifier.
    pub fn token(&self, form: &[u8]) -> Option<Value> {
        let given: BTreeMap<String, String> =
            url::form_urlencoded::parse(form).into_owned().collect();
        let text = |name: &str| given.get(name).map(String::as_str).unwrap_or_default();
        let asked = self.inside().codes.remove(text("code"))?;
        let verified = b64u(sha256(&[text("code_verifier").as_bytes()]).0) == asked.challenge;
        let same = text("redirect_uri") == asked.redirect && text("client_id") == asked.client;
        let token = || self.id_token_for(&asked.client, &asked.nonce);
        let id_token = (verified && same).then(token)?;
        Some(json!({ "access_token": "unused", "token_type": "Bearer", "id_token": id_token }))
    }

    /// The same over HTTP.
    pub fn router(self: Arc<Self>) -> Router {
        let metadata = async |State(all): State<Arc<Self>>| Json(all.metadata());
        let jwks = async |State(all): State<Arc<Self>>| Json(all.jwks());
        Router::new()
            .route("/.well-known/openid-configuration", get(metadata))
            .route("/jwks", get(jwks))
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .with_state(self)
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn authorize(State(all): State<Arc<DevProvider>>, RawQuery(query): RawQuery) -> Response {
    let address = Url::parse(&format!("{}/authorize", all.issuer))
        .ok()
        .map(|mut url| {
            url.set_query(query.as_deref());
            url
        });
    let back = address.and_then(|address| all.authorize(&address));
    match back.and_then(|back| HeaderValue::try_from(back.as_str()).ok()) {
        Some(to) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
        None => StatusCode::BAD_REQUEST.into_response(),
    }
}

async fn token(State(all): State<Arc<DevProvider>>, form: axum::body::Bytes) -> Response {
    match all.token(&form) {
        Some(answer) => Json(answer).into_response(),
        None => StatusCode::BAD_REQUEST.into_response(),
    }
}
