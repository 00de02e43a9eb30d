//! A provider that does everything right, but for the one fault that it is given; and somebody who logs in and approves there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use aws_lc_rs::digest::{Digest, SHA256};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use core_types::bytes::{b64, b64u, from_b64, hex};
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use core_types::sha256;
use csc_client::HttpOptions;
use csc_client::check::{Brought, Case, ClientMeans, Errand, Means, Person, check};
use csc_client::plain::Service;
use dev_ca::{DevCa, Urls};
use serde_json::{Value, json};
use url::Url;

pub(super) const ALGO: &str = "1.2.840.10045.4.3.2";
pub(super) const BACK: &str = "http://127.0.0.1:8080/callback";
const METHODS: [&str; 10] = [
    "info",
    "auth/login",
    "auth/revoke",
    "credentials/list",
    "credentials/info",
    "credentials/authorize",
    "credentials/extendTransaction",
    "signatures/signHash",
    "signatures/signPolling",
    "signatures/novelty",
];

/// A call as it came.
pub(super) struct Ask {
    /// Method of the API, or path of the authorization server; `decided` where the browser is sent back.
    pub(super) at: String,
    pub(super) token: String,
    pub(super) body: Value,
    /// The body isn't an object.
    pub(super) malformed: bool,
    /// Query or form.
    pub(super) given: HashMap<String, String>,
}

/// An answer before it is sent.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) location: Option<String>,
}

/// What is wrong: applied to every answer.
pub(super) type Fault = fn(&Ask, &mut Reply);

pub(super) struct Fake {
    base: String,
    key: EcdsaKeyPair,
    chain: Vec<pki::Certificate>,
    fault: Mutex<Fault>,
    state: Mutex<Used>,
    /// The signer approves at the authorization server, and nobody collects secrets.
    by_oauth: AtomicBool,
}

/// What counts once, and what was handed out.
#[derive(Default)]
struct Used {
    otp: bool,
    /// Rights to sign a hash, by SAD, and whether they were used.
    rights: HashMap<String, (String, bool)>,
    /// Parameters by `request_uri`.
    pushed: HashMap<String, HashMap<String, String>>,
    /// The same by code, until it comes.
    codes: HashMap<String, Option<HashMap<String, String>>>,
    /// Tokens that read, with why they don't any more.
    tokens: HashMap<String, Option<&'static str>>,
    /// Refresh tokens, and whether they weren't replaced yet.
    refresh: HashMap<String, bool>,
    /// Values by `requestID`, and whether they were asked for before.
    later: HashMap<String, (String, bool)>,
    drawn: usize,
}

impl Used {
    fn draw(&mut self, what: &str) -> String {
        self.drawn += 1;
        format!("{what}-{}", self.drawn)
    }

    /// Tokens for an authorization: one that signs the hash that it names, or else one that reads.
    fn grant(&mut self, hash: Option<&String>) -> Reply {
        let token = self.draw("token");
        let mut told = json!({ "access_token": token, "token_type": "Bearer", "expires_in": 60 });
        match hash {
            Some(hash) => {
                let hash = csc_types::decode_base64(hash).unwrap();
                self.rights.insert(token, (b64(hash), false));
            }
            None => {
                let next = self.draw("refresh");
                told["refresh_token"] = json!(next);
                self.refresh.insert(next, true);
                self.tokens.insert(token, None);
            }
        }
        good(told)
    }

    /// A token ends.
    fn end(&mut self, token: &str, why: &'static str) {
        if let Some(ended) = self.tokens.get_mut(token) {
            *ended = Some(why);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    /// The one whose credential it is.
    Owner,
    Other,
    /// Whoever has a right to sign.
    Right,
}

pub(super) fn good(body: Value) -> Reply {
    Reply {
        status: 200,
        body,
        location: None,
    }
}

pub(super) fn no(status: u16, error: &str) -> Reply {
    because(status, error, "no")
}

/// The words tell faults where they strike.
fn because(status: u16, error: &str, words: &str) -> Reply {
    Reply {
        status,
        body: json!({ "error": error, "error_description": words }),
        location: None,
    }
}

pub(super) fn led(location: String) -> Reply {
    Reply {
        status: 302,
        body: Value::Null,
        location: Some(location),
    }
}

impl Fake {
    fn used(&self) -> MutexGuard<'_, Used> {
        self.state.lock().unwrap()
    }

    fn begin(&self, fault: Fault, by_oauth: bool) {
        *self.fault.lock().unwrap() = fault;
        *self.used() = Used::default();
        self.by_oauth.store(by_oauth, Ordering::SeqCst);
    }

    fn credential(&self) -> Value {
        let leaf = &self.chain[0];
        let compact = |time: core_types::UnixTime| -> String {
            let text = time.rfc3339();
            text.chars().filter(|c| !"-:T".contains(*c)).collect()
        };
        let certificates: Vec<_> = self.chain.iter().map(|c| b64(c.der())).collect();
        let auth = match self.by_oauth.load(Ordering::SeqCst) {
            true => json!({ "mode": "oauth2code", "objects": [] }),
            false => {
                json!({ "mode": "explicit", "objects": [{ "type": "Password", "id": "secret" },
                    { "type": "Password", "id": "app", "generator": "totp" }] })
            }
        };
        json!({ "key": { "status": "enabled", "algo": [ALGO], "len": 256, "curve": "1.2.840.10045.3.1.7" },
            "cert": { "certificates": certificates, "serialNumber": hex(leaf.serial()),
                "validFrom": compact(leaf.not_before()), "validTo": compact(leaf.not_after()) },
            "auth": auth, "SCAL": "2", "multisign": 1 })
    }

    fn api(&self, ask: &Ask) -> Reply {
        if ask.malformed {
            return no(400, "invalid_request");
        }
        if ask.at == "info" {
            return good(
                json!({ "specs": "2.2.0.0", "name": "fake", "region": "JP", "lang": "en",
                "description": "a fake", "authType": ["oauth2code", "basic"], "oauth2": self.base,
                "methods": METHODS, "conformance_levels": ["AdES-B-B"], "asynchronousOperationMode": true }),
            );
        }
        if !METHODS.contains(&ask.at.as_str()) {
            return no(501, "not_implemented_method");
        }
        if ask.at == "auth/login" {
            let known = ask.token == format!("Basic {}", b64("hanako:password"));
            return match known {
                true => self.used().grant(None),
                false => no(400, "authentication_error"),
            };
        }
        let token = ask.token.strip_prefix("Bearer ").unwrap_or_default();
        let who = match self.who(token) {
            Ok(who) => who,
            Err(why) => return because(401, "invalid_token", why),
        };
        let text = |name: &str| ask.body[name].as_str().unwrap_or_default();
        let own = who != Who::Other && text("credentialID") == "k1";
        match ask.at.as_str() {
            "credentials/list" if ask.body["userID"].is_null() && who != Who::Right => {
                good(json!({ "credentialIDs": ["k1"] }))
            }
            "credentials/info"
                if own && matches!(text("certificates"), "" | "none" | "single" | "chain") =>
            {
                good(self.credential())
            }
            "credentials/authorize" if own => self.authorize(&ask.body),
            "signatures/signHash" if own => self.sign(&ask.body, token),
            "signatures/signPolling" if who != Who::Other => self.poll(text("requestID")),
            "auth/revoke" if self.used().tokens.contains_key(text("token")) => {
                self.used().end(text("token"), "ended by auth/revoke");
                Reply {
                    status: 204,
                    ..good(Value::Null)
                }
            }
            _ => no(400, "invalid_request"),
        }
    }

    fn who(&self, token: &str) -> Result<Who, &'static str> {
        let used = self.used();
        match (token, used.tokens.get(token).copied()) {
            ("mine", _) | (_, Some(None)) => Ok(Who::Owner),
            ("others", _) => Ok(Who::Other),
            (_, Some(Some(why))) => Err(why),
            _ if used.rights.contains_key(token) => Ok(Who::Right),
            _ => Err("unknown"),
        }
    }

    fn authorize(&self, body: &Value) -> Reply {
        let data = json!([{ "id": "secret", "value": "1234" }, { "id": "app", "value": "42" }]);
        let mut used = self.used();
        let hash = body["hashes"][0].as_str().unwrap_or_default();
        if body["numSignatures"] != 1 || body["authData"] != data || used.otp {
            return no(400, "invalid_authentication_data");
        }
        used.otp = true;
        used.rights
            .insert("right".to_owned(), (hash.to_owned(), false));
        good(json!({ "SAD": "right", "expiresIn": 60 }))
    }

    fn sign(&self, body: &Value, bearer: &str) -> Reply {
        let mut used = self.used();
        let hash = body["hashes"][0].as_str().unwrap_or_default();
        let right = body["SAD"].as_str().unwrap_or(bearer);
        match used.rights.get_mut(right) {
            Some((bound, done)) if bound.as_str() == hash && body["signAlgo"] == ALGO => {
                if std::mem::replace(done, true) {
                    return because(400, "invalid_request", "used");
                }
            }
            _ => return no(400, "invalid_request"),
        }
        let value = self.value(hash);
        match body["operationMode"] == "A" {
            true => {
                let id = used.draw("request");
                used.later.insert(id.clone(), (value, false));
                good(json!({ "responseID": id }))
            }
            false => good(json!({ "signatures": [value] })),
        }
    }

    fn poll(&self, id: &str) -> Reply {
        let mut used = self.used();
        let Some((value, asked)) = used.later.get_mut(id) else {
            return no(400, "invalid_request");
        };
        match std::mem::replace(asked, true) {
            false => because(202, "accepted_request", "later"),
            true => good(json!({ "signatures": [value] })),
        }
    }

    fn value(&self, hash: &str) -> String {
        let digest = Digest::import_less_safe(&from_b64(hash).unwrap(), &SHA256).unwrap();
        b64(self.key.sign_digest(&digest).unwrap().as_ref())
    }

    fn oauth(&self, ask: &Ask) -> Reply {
        let given = |name: &str| ask.given.get(name).map(String::as_str).unwrap_or_default();
        let known = ask.token == format!("Basic {}", b64("app:secret"));
        let pkce = given("code_challenge_method") == "S256" && given("response_type") == "code";
        match ask.at.as_str() {
            "/.well-known/oauth-authorization-server" => good(json!({ "issuer": self.base,
                "authorization_endpoint": format!("{}/oauth2/authorize", self.base),
                "token_endpoint": format!("{}/oauth2/token", self.base),
                "revocation_endpoint": format!("{}/oauth2/revoke", self.base),
                "pushed_authorization_request_endpoint": format!("{}/oauth2/pushed_authorize", self.base),
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": true })),
            "/oauth2/token" | "/oauth2/revoke" | "/oauth2/pushed_authorize" if !known => {
                no(401, "invalid_client")
            }
            "/oauth2/token" => self.token(ask),
            "/oauth2/revoke" => {
                self.used().end(given("token"), "ended by revocation");
                good(json!({}))
            }
            "/oauth2/pushed_authorize" if !pkce => no(400, "invalid_request"),
            "/oauth2/pushed_authorize" => {
                let mut used = self.used();
                let uri = used.draw("urn:request");
                used.pushed.insert(uri.clone(), ask.given.clone());
                Reply {
                    status: 201,
                    ..good(json!({ "request_uri": uri, "expires_in": 60 }))
                }
            }
            "/oauth2/authorize" if given("client_id") != "app" => no(400, "invalid_request"),
            "/oauth2/authorize" if ask.given.contains_key("request_uri") => {
                match self.used().pushed.remove(given("request_uri")) {
                    Some(_) => led("/login".to_owned()),
                    None => no(400, "invalid_request"),
                }
            }
            "/oauth2/authorize" if given("redirect_uri") != BACK => no(400, "invalid_request"),
            "/oauth2/authorize" if pkce => led("/login".to_owned()),
            "/oauth2/authorize" => {
                let query = url::form_urlencoded::Serializer::new(String::new())
                    .append_pair("error", "invalid_request")
                    .append_pair("state", given("state"))
                    .append_pair("iss", &self.base)
                    .finish();
                led(format!("{BACK}?{query}"))
            }
            _ => no(404, "not_found"),
        }
    }

    fn token(&self, ask: &Ask) -> Reply {
        let given = |name: &str| ask.given.get(name).map(String::as_str).unwrap_or_default();
        let wrong = |why| because(400, "invalid_grant", why);
        let mut used = self.used();
        match given("grant_type") {
            "authorization_code" => {
                let asked = match used.codes.get_mut(given("code")).map(Option::take) {
                    Some(Some(asked)) => asked,
                    Some(None) => return wrong("used"),
                    None => return wrong("unknown"),
                };
                if asked["code_challenge"] != b64u(sha256(&[given("code_verifier").as_bytes()])) {
                    return wrong("verifier");
                }
                if asked["redirect_uri"] != given("redirect_uri") {
                    return wrong("redirect");
                }
                used.grant(asked.get("hashes"))
            }
            "refresh_token" => {
                let live = used.refresh.get_mut(given("refresh_token"));
                match live.map(|live| std::mem::replace(live, false)) {
                    Some(true) => used.grant(None),
                    Some(false) => wrong("replaced"),
                    None => wrong("unknown"),
                }
            }
            _ => no(400, "unsupported_grant_type"),
        }
    }

    /// Somebody decided: where the browser is sent, with a code for what was asked.
    fn decided(&self, url: &Url, back: &str, errand: Errand<'_>) -> Result<Url, String> {
        let mut given: HashMap<_, _> = url.query_pairs().into_owned().collect();
        let mut used = self.used();
        if let Some(uri) = given.get("request_uri") {
            let pushed = used.pushed.remove(uri);
            given = pushed.ok_or("a request that nobody pushed")?;
        }
        match errand {
            Errand::LogIn => assert_eq!(given["scope"], "service"),
            Errand::Approve { credential, hashes } => {
                assert_eq!(given["scope"], "credential");
                assert_eq!(given["credentialID"], credential);
                assert_eq!(given["hashes"], b64u(&hashes[0]));
            }
        }
        let code = used.draw("code");
        used.codes.insert(code.clone(), Some(given.clone()));
        drop(used);
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("code", &code)
            .append_pair("state", &given["state"])
            .append_pair("iss", &self.base)
            .finish();
        let ask = Ask {
            at: "decided".to_owned(),
            token: String::new(),
            body: Value::Null,
            malformed: false,
            given,
        };
        let mut reply = led(format!("{back}?{query}"));
        let fault = *self.fault.lock().unwrap();
        fault(&ask, &mut reply);
        Ok(Url::parse(&reply.location.unwrap()).unwrap())
    }
}

/// Whose credential it is, in front of a browser.
struct Signer(Arc<Fake>);

impl Person for Signer {
    fn bring<'a>(&'a mut self, url: &'a Url, back: &'a str, errand: Errand<'a>) -> Brought<'a> {
        let came = self.0.decided(url, back, errand);
        Box::pin(async move { came })
    }
}

async fn serve(
    State(fake): State<Arc<Fake>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let pairs = match method {
        Method::GET => uri.query().unwrap_or_default().as_bytes(),
        _ => &body,
    };
    let token = headers.get(header::AUTHORIZATION);
    let called = uri.path().strip_prefix("/csc/v2/");
    let ask = Ask {
        at: called.unwrap_or(uri.path()).to_owned(),
        token: token.map_or(String::new(), |t| t.to_str().unwrap().to_owned()),
        body: serde_json::from_slice(&body).unwrap_or_default(),
        malformed: called.is_some() && csc_types::InfoQuery::parse(&body).is_err(),
        given: url::form_urlencoded::parse(pairs).into_owned().collect(),
    };
    let mut reply = match called {
        Some(_) => fake.api(&ask),
        None => fake.oauth(&ask),
    };
    let fault = *fake.fault.lock().unwrap();
    fault(&ask, &mut reply);
    let status = StatusCode::from_u16(reply.status).unwrap();
    let text = reply.body.to_string();
    let sent = (status, [(header::CONTENT_TYPE, "application/json")], text);
    match reply.location {
        Some(location) => ([(header::LOCATION, location)], sent).into_response(),
        None => sent.into_response(),
    }
}

/// Everything that the checker can be given.
pub(super) async fn start() -> (Arc<Fake>, Service, tempfile::TempDir) {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://localhost:{}", socket.local_addr().unwrap().port());
    let dir = tempfile::tempdir().unwrap();
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let ca = DevCa::open(dir.path(), Urls::under(&base), clock, random).unwrap();
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let subject = pki::name::encode(&[(pki::oid::COMMON_NAME, "checked")]).unwrap();
    let spki = key.public_key().as_der().unwrap();
    let chain = ca.issue_for_key(spki.as_ref(), &subject, 30).unwrap();
    let fake = Arc::new(Fake {
        base: base.clone(),
        key,
        chain,
        fault: Mutex::new(|_, _| {}),
        state: Mutex::default(),
        by_oauth: AtomicBool::new(false),
    });
    let app = Router::new().fallback(serve).with_state(fake.clone());
    tokio::spawn(async move { axum::serve(socket, app).await });
    let service = Service::new(&format!("{base}/csc/v2"), &HttpOptions::default());
    (fake, service.unwrap(), dir)
}

fn means(secret: Option<&str>) -> Means {
    Means {
        token: Some("mine".to_owned().into()),
        other: Some("others".to_owned().into()),
        credential: Some("k1".to_owned()),
        secrets: Some(("1234".to_owned().into(), "42".to_owned().into())),
        login: None,
        hash: vec![7; 32],
        sign_algo: None,
        client: Some(ClientMeans {
            id: "app".to_owned(),
            secret: secret.map(|secret| secret.to_owned().into()),
            redirect_uri: BACK.to_owned(),
        }),
    }
}

/// Explicit mode, and nobody who logs in.
pub(super) async fn run(fake: &Fake, service: &Service, fault: Fault) -> Vec<Case> {
    run_with(fake, service, fault, Some("secret")).await
}

/// The same with this secret of the client.
pub(super) async fn run_with(
    fake: &Fake,
    service: &Service,
    fault: Fault,
    secret: Option<&str>,
) -> Vec<Case> {
    fake.begin(fault, false);
    check(service, &means(secret), None).await.unwrap()
}

/// A credential in OAuth mode, and its signer; without a token from elsewhere.
pub(super) async fn run_by_signer(fake: &Arc<Fake>, service: &Service, fault: Fault) -> Vec<Case> {
    fake.begin(fault, true);
    let means = Means {
        token: None,
        login: Some(("hanako".to_owned(), "password".to_owned().into())),
        ..means(Some("secret"))
    };
    let mut signer = Signer(fake.clone());
    check(service, &means, Some(&mut signer)).await.unwrap()
}
