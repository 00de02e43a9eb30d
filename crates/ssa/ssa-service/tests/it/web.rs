//! A small user agent and a stack to talk to.

use std::collections::BTreeMap;
use std::sync::Arc;

use audit_log::AuditLog;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use core_types::bytes::b64;
use core_types::clock::ManualClock;
use core_types::random::SeededRandom;
use core_types::{Clock, HashAlg, KeyAlg, PersonId, SecretBytes, TenantId, UnixTime, sha256};
use notify::webhook::Webhooks;
use serde_json::Value;
use ssa_service::{
    ClientSettings, Config, NewClient, NewUser, PasswordCost, Ports, Published, Rates, Ssa,
};
use store_kit::testing::TestStore;
use tower::ServiceExt as _;
use url::Url;

use crate::fake::{FakeNet, FakeRa, FakeSam, FakeWorker, client_id};

pub const START: i64 = 1_800_000_000;
pub const BASE: &str = "http://localhost:4000";
pub const SIC: &str = "http://sic.localhost:4001";
pub const REDIRECT: &str = "https://app.example/cb";
pub const PASSWORD: &str = "correct horse";
/// Verifier and challenge of PKCE (RFC 7636 appendix B).
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

pub struct Stack {
    pub ssa: Ssa,
    pub sam: Arc<FakeSam>,
    pub ra: Arc<FakeRa>,
    pub net: Arc<FakeNet>,
    pub worker: Arc<FakeWorker>,
    pub clock: Arc<ManualClock>,
    pub store: TestStore,
    pub clients: BTreeMap<String, String>,
    pub users: BTreeMap<String, User>,
}

pub struct User {
    pub person: PersonId,
    pub seed: String,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn location(&self) -> String {
        let value = self.headers.get(header::LOCATION);
        value
            .unwrap_or_else(|| panic!("no redirect: {} {}", self.status, self.body))
            .to_str()
            .unwrap()
            .to_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{} {}", self.status, self.body))
    }

    /// A text of its JSON.
    pub fn text(&self, name: &str) -> String {
        self.json()[name]
            .as_str()
            .unwrap_or_else(|| panic!("no {name}: {}", self.body))
            .to_owned()
    }

    /// Its status, and what its JSON says of an error: the code, and in words.
    pub fn told(&self) -> (u16, String, String) {
        let body = self.json();
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        (
            self.status.as_u16(),
            text("error"),
            text("error_description"),
        )
    }

    /// The same without the code.
    pub fn error(&self) -> (u16, String) {
        let (status, _, words) = self.told();
        (status, words)
    }

    /// Value of a query parameter of the redirect.
    pub fn param(&self, name: &str) -> Option<String> {
        let url = Url::parse(&self.location()).unwrap();
        url.query_pairs()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.into_owned())
    }

    /// Value of a hidden field.
    pub fn field(&self, name: &str) -> String {
        let mark = format!("name=\"{name}\" value=\"");
        let rest = self
            .body
            .split(&mark)
            .nth(1)
            .unwrap_or_else(|| panic!("no field {name}: {}", self.body));
        rest.split('"').next().unwrap().to_owned()
    }
}

/// Both stores, each with two clients and two users with a key each.
pub async fn stacks() -> Vec<Stack> {
    stacks_with(|_| {}).await
}

/// The same with other settings.
pub async fn stacks_with(set: impl Fn(&mut Config)) -> Vec<Stack> {
    let mut all = Vec::new();
    for store in store_kit::testing::both(ssa_service::MIGRATIONS).await {
        all.push(stack(store, &set).await);
    }
    all
}

async fn stack(store: TestStore, set: &impl Fn(&mut Config)) -> Stack {
    let (sam, clock) = (
        Arc::new(FakeSam::default()),
        Arc::new(ManualClock::at(UnixTime(START))),
    );
    let ra = Arc::new(FakeRa(std::sync::Mutex::new(None)));
    let net = Arc::new(FakeNet::default());
    let mut config = Config {
        development: true,
        password_cost: PasswordCost {
            memory: 64,
            passes: 1,
        },
        rates: Rates::UNLIMITED,
        ..Config::new(
            (BASE.to_owned(), SIC.to_owned()),
            "Natsuin <test>".to_owned(),
            TenantId::parse("t").unwrap(),
            SecretBytes::new(vec![7; 32]),
            Published::development(BASE),
        )
    };
    set(&mut config);
    let strict = config.fapi;
    let worker = Arc::new(FakeWorker {
        sam: sam.clone(),
        told: std::sync::Mutex::default(),
        asked: std::sync::Mutex::default(),
    });
    let ports = Ports {
        sam: sam.clone(),
        certifier: ra.clone(),
        fetch: net.clone(),
        worker: Some(worker.clone()),
        webhooks: Arc::new(Webhooks::new(None, std::time::Duration::from_secs(10)).unwrap()),
        clock: clock.clone(),
        random: Arc::new(SeededRandom::new(1)),
        audit: AuditLog::new(
            "ssa",
            "node",
            SecretBytes::new(vec![9; 32]),
            std::sync::Arc::new(core_types::random::SystemRandom),
        ),
    };
    let ssa = Ssa::new(config, store.store.clone(), ports).unwrap();
    let mut stack = Stack {
        ssa,
        sam,
        ra,
        net,
        worker,
        clock,
        store,
        clients: BTreeMap::new(),
        users: BTreeMap::new(),
    };
    // With the profile for all there are no clients with secrets.
    for id in ["app", "other"].into_iter().filter(|_| !strict) {
        stack.add_client(id).await;
    }
    for (login, key) in [("hanako", "key-hanako"), ("taro", "key-taro")] {
        stack.add_user(login, key).await;
    }
    stack
}

impl Stack {
    async fn add_client(&mut self, id: &str) {
        let new = NewClient {
            id: client_id(id),
            name: format!("{id} <b>"),
            redirect_uris: vec![REDIRECT.to_owned()],
            native: false,
            public: false,
            settings: ClientSettings {
                refresh: id == "other",
                ..ClientSettings::default()
            },
        };
        let secret = self.ssa.create_client(&new).await.unwrap().secret.unwrap();
        self.clients
            .insert(id.to_owned(), secret.expose().to_owned());
    }

    async fn add_user(&mut self, login: &str, key: &str) {
        let new = NewUser {
            login: login.to_owned(),
            name: "髙橋 花子".to_owned(),
            password: SecretBytes::from(PASSWORD.to_owned()),
        };
        let made = self.ssa.create_user(new).await.unwrap();
        let alg = if login == "hanako" {
            KeyAlg::P256
        } else {
            KeyAlg::Rsa3072
        };
        self.sam.add_key(&made.person, key, alg);
        let user = User {
            person: made.person,
            seed: made.totp_secret.expose().to_owned(),
        };
        self.users.insert(login.to_owned(), user);
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        self.send_to(self.ssa.router(), request).await
    }

    /// To one of the service's routers.
    pub async fn send_to(&self, router: axum::Router, request: Request<Body>) -> Answer {
        let response = router.oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    /// Gives a client another contract.
    pub async fn contract(&self, client: &str, settings: &ClientSettings) {
        let settings = serde_json::to_string(settings).unwrap();
        let done: Result<u64, store_kit::StoreError> =
            store_kit::transaction!(self.store, "contract", |tx| {
                let update = "UPDATE ssa_client SET settings = $1 WHERE id = $2";
                let update = store_kit::sql(update);
                tx.execute(update.bind(&settings).bind(client)).await
            });
        assert_eq!(done.unwrap(), 1);
    }

    /// A form sent by a client with HTTP Basic.
    pub async fn client_form(&self, client: &str, path: &str, form: &[(&str, &str)]) -> Answer {
        let basic = b64(format!("{client}:{}", self.clients[client]));
        let request = Request::post(path)
            .header(header::AUTHORIZATION, format!("Basic {basic}"))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(encode(form))).unwrap())
            .await
    }

    pub async fn exchange(&self, client: &str, code: &str) -> Answer {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
            ("client_id", client),
        ];
        self.client_form(client, "/oauth2/token", &form).await
    }

    /// A CSC call.
    pub async fn csc(&self, method: &str, token: &str, body: &str) -> Answer {
        let request = Request::post(format!("/csc/v2/{method}"))
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(body.to_owned())).unwrap())
            .await
    }

    /// CSC calls with one token, each with what it is answered with.
    pub async fn answers(&self, token: &str, calls: &[(&str, Value, u16)]) {
        for (method, body, status) in calls {
            let answer = self.csc(method, token, &body.to_string()).await;
            assert_eq!(answer.status.as_u16(), *status, "{method} {}", answer.body);
        }
    }

    /// The code that the app of this user shows now.
    pub fn code(&self, login: &str) -> String {
        totp(&self.users[login].seed, self.clock.now().0 / 30)
    }

    /// The time of the next code.
    pub fn next_code(&self) {
        self.clock.advance(30);
    }

    /// A token of scope `service`.
    pub async fn service_token(&self, client: &str, login: &str) -> String {
        let mut browser = Browser::new(self);
        let code = browser
            .log_in_for_code(&service_request(client), login)
            .await;
        let answer = self.exchange(client, &code).await;
        self.next_code();
        answer.text("access_token")
    }

    /// A token of scope `credential` for these hashes, approved.
    pub async fn credential_token(&self, client: &str, login: &str, hashes: &[Vec<u8>]) -> String {
        let form = credential_request(client, &format!("key-{login}"), hashes);
        self.approved_token(client, login, &form).await
    }

    /// The same for documents with these hashes.
    pub async fn document_token(&self, client: &str, login: &str, hashes: &[Vec<u8>]) -> String {
        let mut form = credential_request(client, &format!("key-{login}"), hashes);
        let details = form.last_mut().map(|(_, details)| details).unwrap();
        *details = details.replace("DTBSR", "sdr");
        self.approved_token(client, login, &form).await
    }

    async fn approved_token(&self, client: &str, login: &str, form: &Form) -> String {
        let mut browser = Browser::new(self);
        let code = browser.approve_for_code(form, login).await;
        let answer = self.exchange(client, &code).await;
        self.next_code();
        answer.text("access_token")
    }

    /// Whether there is an audit entry of this kind.
    pub async fn audited(&self, kind: &str) -> bool {
        self.audit_kinds().await.iter().any(|k| k == kind)
    }

    /// What the audit entries of this kind say, in their order.
    pub async fn audit_bodies(&self, kind: &str) -> Vec<String> {
        let mut tx = self.store.read("audit").await.unwrap();
        let all = "SELECT body FROM audit_entry WHERE kind = $1 ORDER BY n";
        let rows = tx.fetch_all(store_kit::sql(all).bind(kind)).await.unwrap();
        rows.iter().map(|row| row.text("body").unwrap()).collect()
    }

    /// Kinds of the audit entries so far.
    pub async fn audit_kinds(&self) -> Vec<String> {
        let mut tx = self.store.read("audit").await.unwrap();
        let rows = tx
            .fetch_all(store_kit::sql("SELECT kind FROM audit_entry ORDER BY n"))
            .await
            .unwrap();
        rows.iter().map(|row| row.text("kind").unwrap()).collect()
    }
}

/// Asks again and again until there is an answer; a test that waits for something that never comes says what it was.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            match ask().await {
                Some(answer) => return answer,
                None => tokio::task::yield_now().await,
            }
        }
    };
    let bound = std::time::Duration::from_secs(60);
    let answer = tokio::time::timeout(bound, asking).await;
    answer.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

pub type Form = Vec<(&'static str, String)>;

pub fn service_request(client: &str) -> Form {
    vec![
        ("response_type", "code".to_owned()),
        ("client_id", client.to_owned()),
        ("redirect_uri", REDIRECT.to_owned()),
        ("scope", "service".to_owned()),
        ("state", "s t&=".to_owned()),
        ("code_challenge", CHALLENGE.to_owned()),
        ("code_challenge_method", "S256".to_owned()),
    ]
}

pub fn credential_request(client: &str, key: &str, hashes: &[Vec<u8>]) -> Form {
    let digests: Vec<Value> = hashes
        .iter()
        .map(|h| serde_json::json!({ "hash": b64(h), "label": "契約書 <b>.pdf", "hashType": "DTBSR" }))
        .collect();
    let details = serde_json::json!([{
        "type": "credential", "credentialID": key, "numSignatures": hashes.len(),
        "hashAlgorithmOID": HashAlg::Sha256.oid(), "documentDigests": digests, "locations": ["x"],
    }]);
    let form = with(service_request(client), "scope", Some("credential"));
    with(form, "authorization_details", Some(&details.to_string()))
}

/// What is asked for stands in `authorization_details`; there is no scope.
pub fn details_request(client: &str, details: &Value) -> Form {
    let form = with(service_request(client), "scope", None);
    with(form, "authorization_details", Some(&details.to_string()))
}

pub fn with(mut form: Form, name: &'static str, value: Option<&str>) -> Form {
    form.retain(|(n, _)| *n != name);
    form.extend(value.map(|value| (name, value.to_owned())));
    form
}

pub fn hash(n: u8) -> Vec<u8> {
    sha256(&[&[n]]).0.to_vec()
}

pub fn encode<N: AsRef<str>, V: AsRef<str>>(form: &[(N, V)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form.iter().map(|(n, v)| (n.as_ref(), v.as_ref())))
        .finish()
}

/// RFC 6238 by another road than the service's: base32 decoded, HMAC from the library.
pub fn totp(seed: &str, step: i64) -> String {
    let mut bits = 0_u64;
    let mut count = 0;
    let mut key = Vec::new();
    for c in seed.bytes() {
        let value = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
            .iter()
            .position(|a| *a == c)
            .unwrap();
        bits = bits << 5 | value as u64;
        count += 5;
        if count >= 8 {
            count -= 8;
            key.push((bits >> count) as u8);
        }
    }
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key);
    let mac = aws_lc_rs::hmac::sign(&key, &step.to_be_bytes());
    let at = usize::from(mac.as_ref()[19] & 15);
    let word = u32::from_be_bytes(mac.as_ref()[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", word % 1_000_000)
}

/// Keeps a cookie, follows what a person would.
pub struct Browser<'s> {
    stack: &'s Stack,
    pub cookie: Option<String>,
    pub lang: &'static str,
}

impl<'s> Browser<'s> {
    pub fn new(stack: &'s Stack) -> Self {
        Self {
            stack,
            cookie: None,
            lang: "en",
        }
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        let path = path.strip_prefix(BASE).unwrap_or(path).to_owned();
        self.fetch(Request::get(path), Body::empty()).await
    }

    pub async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Answer {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ORIGIN, BASE)
            .header("sec-fetch-site", "same-origin");
        self.fetch(request, Body::from(encode(form))).await
    }

    pub async fn fetch(&mut self, request: axum::http::request::Builder, body: Body) -> Answer {
        let mut request = request.header(header::ACCEPT_LANGUAGE, self.lang);
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, format!("natsuin={cookie}"));
        }
        let answer = self.stack.send(request.body(body).unwrap()).await;
        for cookie in answer.headers.get_all(header::SET_COOKIE) {
            if let Some(rest) = cookie.to_str().unwrap().strip_prefix("natsuin=") {
                let value = rest.split(';').next().unwrap().to_owned();
                self.cookie = Some(value).filter(|v| !v.is_empty());
            }
        }
        answer
    }

    /// Opens an authorization and follows to the first page or foreign address.
    pub async fn authorize(&mut self, form: &Form) -> Answer {
        let first = self
            .get(&format!("/oauth2/authorize?{}", encode(form)))
            .await;
        self.follow(first).await
    }

    pub async fn follow(&mut self, mut answer: Answer) -> Answer {
        while answer.status.is_redirection() && answer.location().starts_with('/') {
            answer = self.get(&answer.location()).await;
        }
        answer
    }

    /// Fills in the login form of a page.
    pub async fn submit_login(
        &mut self,
        page: &Answer,
        login: &str,
        password: &str,
        code: &str,
    ) -> Answer {
        let (token, flow, next) = (page.field("token"), page.field("flow"), page.field("next"));
        let form = [
            ("token", token.as_str()),
            ("flow", &flow),
            ("next", &next),
            ("name", login),
            ("password", password),
            ("code", code),
        ];
        self.post("/login", &form).await
    }

    pub async fn log_in_here(&mut self, page: &Answer, login: &str) -> Answer {
        let code = self.stack.code(login);
        let answer = self.submit_login(page, login, PASSWORD, &code).await;
        self.follow(answer).await
    }

    pub async fn log_in(&mut self, login: &str) -> Answer {
        let page = self.get("/login").await;
        self.log_in_here(&page, login).await
    }

    pub async fn log_in_for_code(&mut self, form: &Form, login: &str) -> String {
        let page = self.authorize(form).await;
        let answer = self.log_in_here(&page, login).await;
        answer
            .param("code")
            .unwrap_or_else(|| panic!("{}", answer.location()))
    }

    /// The redirect to the SIC page; answers the request's handle and where the SIC page would send the browser.
    pub fn at_sic(&self, answer: &Answer) -> (core_types::Digest32, String) {
        let location = answer.location();
        let rid = location
            .strip_prefix(&format!("{SIC}/a#"))
            .unwrap_or_else(|| panic!("{location}"));
        let rid = core_types::Digest32::parse(rid).unwrap();
        (
            rid,
            self.stack
                .sam
                .with(|s| s.requests[&rid].asked.return_uri.clone()),
        )
    }

    pub async fn approve_for_code(&mut self, form: &Form, login: &str) -> String {
        let page = self.authorize(form).await;
        let answer = self.log_in_here(&page, login).await;
        let (rid, back) = self.at_sic(&answer);
        self.stack
            .sam
            .decide(rid, sam_api::ssa::RequestState::Approved);
        let answer = self.get(&back).await;
        answer
            .param("code")
            .unwrap_or_else(|| panic!("{}", answer.location()))
    }
}

/// What the operator reads while a test runs, on this thread.
#[derive(Clone, Default)]
pub struct LogLines(Arc<std::sync::Mutex<Vec<u8>>>);

impl LogLines {
    /// Lines of this thread from here on, until the guard is dropped.
    pub fn begin() -> (Self, tracing::subscriber::DefaultGuard) {
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    /// What was written since the last call.
    pub fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

impl std::io::Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
