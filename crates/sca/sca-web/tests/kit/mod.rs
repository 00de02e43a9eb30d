//! A provider, a CA with its services, and a browser, all small and in this process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{Digest, SHA256};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::body::Bytes;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use core_types::bytes::{b64, b64u};
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::{Random as _, sha256};
use csc_client::{ClientCredentials, HttpOptions};
use csc_types::{
    AuthorizeRequest, DocumentDigest, Grant, Params, Purpose, SignHashRequest, SignHashResponse,
    SignatureAuthorization, TokenRequest,
};
use dev_ca::{DevCa, Urls};
use pdf_update::Builder;
use serde_json::{Value, json};

/// How the provider behaves, and what it saw.
#[derive(Default)]
pub struct Switches {
    /// The signer says no.
    pub refuse: AtomicBool,
    /// The value is a signature over something else.
    pub wrong_value: AtomicBool,
    /// Signs, but the answer gets lost.
    pub lose_answer: AtomicBool,
    /// Signs nothing and says that the outcome is lost for good.
    pub lost: AtomicBool,
    /// Called when somebody asks for revocation data.
    pub on_revocation: Mutex<Option<Box<dyn Fn() + Send>>>,
    /// The time-stamp authority is down.
    pub tsa_down: AtomicBool,
    /// The provider takes documents.
    pub documents: AtomicBool,
    /// What the last approval was asked for.
    pub asked: Mutex<Option<DocumentDigest>>,
    /// Number of keys that the signer has.
    pub keys: AtomicUsize,
    /// Values made.
    pub signed: AtomicUsize,
    /// Trips to the approval.
    pub approvals: AtomicUsize,
    /// Codes redeemed.
    pub redeemed: AtomicUsize,
    /// Calls with a token that belongs to a key.
    pub bound: AtomicUsize,
}

struct Provider {
    switches: Arc<Switches>,
    base: String,
    ca: Arc<DevCa>,
    keys: Vec<(EcdsaKeyPair, Vec<String>)>,
    pushed: Mutex<HashMap<String, HashMap<String, String>>>,
    codes: Mutex<HashMap<String, AuthorizeRequest>>,
    tokens: Mutex<HashMap<String, Option<SignatureAuthorization>>>,
    answers: Mutex<HashMap<String, Vec<Vec<u8>>>>,
}

type Shared = State<Arc<Provider>>;

/// Everything a test needs.
pub struct World {
    pub base: String,
    pub switches: Arc<Switches>,
    pub dir: tempfile::TempDir,
    http: reqwest::Client,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut sca_web::Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (switches, socket) = (Arc::new(Switches::default()), listen().await);
        switches.keys.store(1, Ordering::SeqCst);
        let provider_base = format!("http://localhost:{}", socket.local_addr().unwrap().port());
        let urls = Urls::under(&provider_base);
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let ca = Arc::new(DevCa::open(&dir.path().join("ca"), urls, clock, random).unwrap());
        let keys = ["捺印 花子", "捺印 太郎"].map(|name| signer(&ca, name));
        let provider = Arc::new(Provider {
            switches: switches.clone(),
            base: provider_base.clone(),
            ca: ca.clone(),
            keys: keys.into(),
            pushed: Mutex::default(),
            codes: Mutex::default(),
            tokens: Mutex::default(),
            answers: Mutex::default(),
        });
        let app = Router::new()
            .route("/csc/v2/info", post(info))
            .route("/csc/v2/credentials/list", post(list))
            .route("/csc/v2/signatures/signHash", post(sign_hash))
            .route("/oauth2/pushed_authorize", post(push))
            .route("/oauth2/authorize", get(authorize))
            .route("/oauth2/token", post(token))
            .route("/stamp", post(stamp))
            .with_state(provider)
            .merge(dev_ca::routes::public(ca.clone()));
        let hook = switches.clone();
        let app = app.layer(axum::middleware::map_request(
            move |request: axum::extract::Request| {
                let path = request.uri().path();
                if (path.contains("ocsp") || path.contains("crl"))
                    && let Some(hook) = &*hook.on_revocation.lock().unwrap()
                {
                    hook();
                }
                std::future::ready(request)
            },
        ));
        tokio::spawn(async move { axum::serve(socket, app).await });

        let socket = listen().await;
        let base = format!("http://localhost:{}", socket.local_addr().unwrap().port());
        let credentials = ClientCredentials {
            client_id: "app".to_owned(),
            client_secret: Some("secret".to_owned().into()),
        };
        let data = dir.path().join("sca");
        let mut config =
            sca_web::Config::new(base.clone(), provider_base.clone(), credentials, data);
        config.http = HttpOptions {
            retry_pauses: Vec::new(),
            ..HttpOptions::default()
        };
        config.tsa_url = Some(format!("{provider_base}/stamp"));
        config.anchors_pem = ca.root().pem();
        config.private_network = true;
        config.max_upload = 1_000_000;
        change(&mut config);
        let app = sca_web::router(config).unwrap();
        tokio::spawn(async move { axum::serve(socket, app).await });
        Self {
            base,
            switches,
            dir,
            http: HttpOptions::default().build().unwrap(),
        }
    }

    pub fn browser(&self) -> Browser {
        Browser {
            base: self.base.clone(),
            http: self.http.clone(),
            cookie: Mutex::default(),
        }
    }

    /// Files that lie in the application's directory.
    pub fn files(&self) -> usize {
        let documents = std::fs::read_dir(self.dir.path().join("sca/documents")).unwrap();
        documents
            .map(|d| std::fs::read_dir(d.unwrap().path()).unwrap().count())
            .sum()
    }
}

async fn listen() -> tokio::net::TcpListener {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn signer(ca: &DevCa, name: &str) -> (EcdsaKeyPair, Vec<String>) {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let subject = [
        (pki::oid::COMMON_NAME, name),
        (pki::oid::SERIAL_NUMBER, "demo-signer"),
    ];
    let subject = pki::name::encode(&subject).unwrap();
    let spki = key.public_key().as_der().unwrap();
    let chain = ca.issue_for_key(spki.as_ref(), &subject, 30).unwrap();
    (key, chain.iter().map(|c| b64(c.der())).collect())
}

/// A one-page PDF.
pub fn pdf() -> Vec<u8> {
    let mut file = Builder::new("1.7");
    let pages = file.reserve();
    let page = file.add_object(format!(
        "<</Type /Page /Parent {} 0 R /MediaBox [0 0 595 842]>>",
        pages.num
    ));
    file.set_object(
        pages,
        format!("<</Type /Pages /Kids [{} 0 R] /Count 1>>", page.num),
    );
    let root = file.add_object(format!("<</Type /Catalog /Pages {} 0 R>>", pages.num));
    file.finish(root, None, [7; 16]).unwrap()
}

async fn info(State(p): Shared) -> Json<Value> {
    let documents = p.switches.documents.load(Ordering::SeqCst);
    let hash_types: &[&str] = if documents { &["sdr"] } else { &[] };
    Json(
        json!({ "specs": "2.2.0.0", "name": "test", "oauth2": p.base, "authType": ["oauth2code"],
        "supportsRar": true, "supportedHashTypes": hash_types, "methods": ["oauth2/pushed_authorize"] }),
    )
}

async fn push(State(p): Shared, Form(form): Form<HashMap<String, String>>) -> Response {
    let uri = format!("urn:x:{}", SystemRandom.digest32());
    p.pushed.lock().unwrap().insert(uri.clone(), form);
    (
        StatusCode::CREATED,
        Json(json!({ "request_uri": uri, "expires_in": 90 })),
    )
        .into_response()
}

/// The signer is already there and decides at once.
async fn authorize(State(p): Shared, Query(query): Query<HashMap<String, String>>) -> Response {
    let Some(form) = p.pushed.lock().unwrap().remove(&query["request_uri"]) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let request = AuthorizeRequest::parse(&Params::from_pairs(form).unwrap()).unwrap();
    let (state, back) = (
        request.state.clone().unwrap(),
        request.redirect_uri.clone().unwrap(),
    );
    let approval = matches!(request.purpose, Purpose::Credential(_));
    if let Purpose::Credential(asked) = &request.purpose {
        *p.switches.asked.lock().unwrap() = asked.digests.first().cloned();
    }
    p.switches
        .approvals
        .fetch_add(usize::from(approval), Ordering::SeqCst);
    if approval && p.switches.refuse.load(Ordering::SeqCst) {
        return Redirect::to(&format!("{back}?error=access_denied&state={state}")).into_response();
    }
    let code = SystemRandom.digest32().to_string();
    p.codes.lock().unwrap().insert(code.clone(), request);
    Redirect::to(&format!("{back}?code={code}&state={state}")).into_response()
}

async fn token(
    State(p): Shared,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let request = TokenRequest::parse(&Params::from_pairs(form).unwrap()).unwrap();
    let Grant::AuthorizationCode {
        code,
        code_verifier,
        ..
    } = request.grant
    else {
        panic!("code grant")
    };
    let Some(asked) = p.codes.lock().unwrap().remove(code.expose()) else {
        return (
            StatusCode::BAD_REQUEST,
            Json(json!({ "error": "invalid_grant" })),
        )
            .into_response();
    };
    assert_eq!(
        b64u(sha256(&[code_verifier.expose().as_bytes()])),
        asked.code_challenge
    );
    p.switches.redeemed.fetch_add(1, Ordering::SeqCst);
    let token = SystemRandom.digest32().to_string();
    let bound = match asked.purpose {
        Purpose::Service | Purpose::Deletion { .. } | Purpose::Creation(_) => None,
        Purpose::Credential(bound) => Some(bound),
    };
    p.tokens.lock().unwrap().insert(token.clone(), bound);
    let kind = match headers.contains_key("dpop") {
        true => "DPoP",
        false => "Bearer",
    };
    Json(json!({ "access_token": token, "token_type": kind, "expires_in": 300 })).into_response()
}

fn bearer(p: &Provider, headers: &HeaderMap) -> Option<SignatureAuthorization> {
    let sent = headers["authorization"].to_str().unwrap();
    let (scheme, token) = sent.split_once(' ').unwrap();
    let bound = headers.contains_key("dpop");
    assert_eq!(scheme, if bound { "DPoP" } else { "Bearer" });
    p.switches.bound.fetch_add(bound.into(), Ordering::SeqCst);
    p.tokens.lock().unwrap()[token].clone()
}

async fn list(State(p): Shared, headers: HeaderMap) -> Json<Value> {
    assert_eq!(bearer(&p, &headers), None, "a service token");
    let count = p.switches.keys.load(Ordering::SeqCst);
    let infos: Vec<Value> = (0..count)
        .map(|n| {
            json!({ "credentialID": format!("k{n}"), "description": format!("鍵{n} <b>"),
                "key": { "status": "enabled", "algo": ["1.2.840.10045.4.3.2"], "len": 256, "curve": "1.2.840.10045.3.1.7" },
                "cert": { "status": "valid", "certificates": p.keys[n].1, "subjectDN": format!("CN={n}") },
                "auth": { "mode": "oauth2code" }, "SCAL": "2", "multisign": 1 })
        })
        .collect();
    let ids: Vec<String> = (0..count).map(|n| format!("k{n}")).collect();
    Json(json!({ "credentialIDs": ids, "credentialInfos": infos }))
}

async fn sign_hash(State(p): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let bound = bearer(&p, &headers).expect("a credential token");
    let request = SignHashRequest::parse(&body).unwrap();
    assert_eq!(bound.credential_id.as_ref(), Some(&request.credential_id));
    if !p.switches.documents.load(Ordering::SeqCst) {
        assert_eq!(
            bound.digests[0].hash, request.hashes[0],
            "only what was approved"
        );
    }
    if p.switches.lost.load(Ordering::SeqCst) {
        let body = csc_types::ErrorBody::new("server_error", csc_types::OUTCOME_LOST);
        return (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response();
    }
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    let mut answers = p.answers.lock().unwrap();
    let values = answers.entry(key).or_insert_with(|| {
        p.switches.signed.fetch_add(1, Ordering::SeqCst);
        let n: usize = request.credential_id[1..].parse().unwrap();
        let hash = if p.switches.wrong_value.load(Ordering::SeqCst) {
            vec![1; 32]
        } else {
            request.hashes[0].clone()
        };
        let digest = Digest::import_less_safe(&hash, &SHA256).unwrap();
        vec![p.keys[n].0.sign_digest(&digest).unwrap().as_ref().to_vec()]
    });
    if p.switches.lose_answer.load(Ordering::SeqCst) {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    Json(SignHashResponse::new(values)).into_response()
}

async fn stamp(State(p): Shared, body: Bytes) -> Response {
    if p.switches.tsa_down.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    p.ca.time_stamp(&body).into_response()
}

/// A browser as far as it matters: one cookie, redirects, `Refresh`.
pub struct Browser {
    base: String,
    http: reqwest::Client,
    pub cookie: Mutex<String>,
}

/// A page at last.
pub struct Page {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub url: String,
    pub body: Vec<u8>,
}

impl Page {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The token of the first form.
    pub fn csrf(&self) -> String {
        let text = self.text();
        let rest = text.split_once("name=\"csrf\" value=\"").unwrap().1;
        rest.split('"').next().unwrap().to_owned()
    }
}

impl Browser {
    /// One request, no redirects followed.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Page {
        let cookie = self.cookie.lock().unwrap().clone();
        let response = request.header("cookie", cookie).send().await.unwrap();
        let headers = response.headers().clone();
        for line in headers.get_all("set-cookie") {
            let line = line.to_str().unwrap();
            if line.starts_with("natsuin-sca=") {
                *self.cookie.lock().unwrap() = line.split(';').next().unwrap().to_owned();
            }
        }
        let (status, url) = (response.status(), response.url().to_string());
        Page {
            status,
            headers,
            url,
            body: response.bytes().await.unwrap().to_vec(),
        }
    }

    pub fn get_request(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.get(self.url(path))
    }

    pub fn post_request(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.post(self.url(path))
    }

    fn url(&self, path: &str) -> String {
        if path.starts_with('/') {
            format!("{}{path}", self.base)
        } else {
            path.to_owned()
        }
    }

    /// Goes to an address and on, as a browser does, until a page stays.
    pub async fn visit(&self, path: &str) -> Page {
        let mut next = path.to_owned();
        loop {
            let page = self.send(self.get_request(&next)).await;
            let text = |name: &str| {
                page.headers
                    .get(name)
                    .map(|v| v.to_str().unwrap().to_owned())
            };
            match (text("location"), text("refresh")) {
                (Some(location), _) => next = location,
                (None, Some(refresh)) => next = refresh.strip_prefix("0; url=").unwrap().to_owned(),
                (None, None) => return page,
            }
        }
    }

    /// Sends a form of our own page and goes on.
    pub async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        let request = self
            .post_request(path)
            .form(fields)
            .header("sec-fetch-site", "same-origin");
        let page = self.send(request.header("origin", "null")).await;
        match page.headers.get("location") {
            Some(location) => self.visit(location.to_str().unwrap()).await,
            None => page,
        }
    }

    /// Uploads through the page.
    pub async fn upload(&self, name: &str, bytes: Vec<u8>) -> Page {
        let csrf = self.visit("/").await.csrf();
        let file = reqwest::multipart::Part::bytes(bytes).file_name(name.to_owned());
        let form = reqwest::multipart::Form::new()
            .text("csrf", csrf)
            .part("file", file);
        let page = self
            .send(self.post_request("/documents").multipart(form))
            .await;
        match page.headers.get("location") {
            Some(location) => self.visit(location.to_str().unwrap()).await,
            None => page,
        }
    }

    /// Uploads through the API.
    pub async fn create(&self, name: &str, bytes: Vec<u8>) -> Page {
        let request = self.post_request("/api/documents").query(&[("name", name)]);
        self.send(
            request
                .header("content-type", "application/pdf")
                .body(bytes),
        )
        .await
    }

    /// The document in the API.
    pub async fn show(&self, id: &str) -> Value {
        self.visit(&format!("/api/documents/{id}")).await.json()
    }

    /// Uploads through the API and goes as far as the signer's side goes.
    pub async fn run(&self) -> (String, Value) {
        let id = self.create("契約書.pdf", pdf()).await.json()["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let answer = self
            .send(self.post_request(&format!("/api/documents/{id}/sign")))
            .await
            .json();
        self.visit(answer["next"].as_str().unwrap()).await;
        let state = self.show(&id).await;
        (id, state)
    }
}
