//! The checker against a provider that does everything right, and against one fault at a time: each is found, by its name, and nothing else.

mod clients;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{Digest, SHA256};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use core_types::bytes::{b64, from_b64, hex};
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use csc_client::HttpOptions;
use csc_client::check::{Case, ClientMeans, Means, Outcome, check};
use csc_client::plain::Service;
use dev_ca::{DevCa, Urls};
use serde_json::{Value, json};

const ALGO: &str = "1.2.840.10045.4.3.2";
const BACK: &str = "http://127.0.0.1:8080/callback";
const METHODS: [&str; 9] = [
    "info",
    "auth/login",
    "auth/revoke",
    "credentials/list",
    "credentials/info",
    "credentials/authorize",
    "credentials/extendTransaction",
    "signatures/signHash",
    "signatures/novelty",
];

/// A call as it came.
struct Ask {
    /// Method of the API, or path of the authorization server.
    at: String,
    token: String,
    body: Value,
    /// The body isn't an object.
    malformed: bool,
    /// Query or form.
    given: HashMap<String, String>,
}

/// An answer before it is sent.
struct Reply {
    status: u16,
    body: Value,
    location: Option<String>,
}

/// What is wrong: applied to every answer.
type Fault = fn(&Ask, &mut Reply);

struct Fake {
    base: String,
    key: EcdsaKeyPair,
    chain: Vec<pki::Certificate>,
    fault: Mutex<Fault>,
    state: Mutex<Used>,
}

/// What counts once.
#[derive(Default)]
struct Used {
    otp: bool,
    /// The one right, and whether it was used.
    sad: Option<(String, bool)>,
    pushed: HashSet<String>,
}

fn good(body: Value) -> Reply {
    Reply {
        status: 200,
        body,
        location: None,
    }
}

fn no(status: u16, error: &str) -> Reply {
    Reply {
        status,
        body: json!({ "error": error, "error_description": "no" }),
        location: None,
    }
}

impl Fake {
    fn credential(&self) -> Value {
        let leaf = &self.chain[0];
        let compact = |time: core_types::UnixTime| -> String {
            let text = time.rfc3339();
            text.chars().filter(|c| !"-:T".contains(*c)).collect()
        };
        let certificates: Vec<_> = self.chain.iter().map(|c| b64(c.der())).collect();
        json!({ "key": { "status": "enabled", "algo": [ALGO], "len": 256, "curve": "1.2.840.10045.3.1.7" },
            "cert": { "certificates": certificates, "serialNumber": hex(leaf.serial()),
                "validFrom": compact(leaf.not_before()), "validTo": compact(leaf.not_after()) },
            "auth": { "mode": "explicit", "objects": [{ "type": "Password", "id": "secret" },
                { "type": "Password", "id": "app", "generator": "totp" }] },
            "SCAL": "2", "multisign": 1 })
    }

    fn api(&self, ask: &Ask) -> Reply {
        if ask.malformed {
            return no(400, "invalid_request");
        }
        if ask.at == "info" {
            return good(
                json!({ "specs": "2.2.0.0", "name": "fake", "region": "JP", "lang": "en",
                "description": "a fake", "authType": ["oauth2code", "basic"], "oauth2": self.base,
                "methods": METHODS, "conformance_levels": ["AdES-B-B"] }),
            );
        }
        if !METHODS.contains(&ask.at.as_str()) {
            return no(501, "not_implemented_method");
        }
        if ask.at == "auth/login" {
            return no(400, "authentication_error");
        }
        let mine = match ask.token.as_str() {
            "Bearer mine" => true,
            "Bearer others" => false,
            _ => return no(401, "invalid_token"),
        };
        let text = |name: &str| ask.body[name].as_str().unwrap_or_default();
        let own = mine && text("credentialID") == "k1";
        match ask.at.as_str() {
            "credentials/list" if ask.body["userID"].is_null() => {
                good(json!({ "credentialIDs": ["k1"] }))
            }
            "credentials/info"
                if own && matches!(text("certificates"), "" | "none" | "single" | "chain") =>
            {
                good(self.credential())
            }
            "credentials/authorize" if own => self.authorize(&ask.body),
            "signatures/signHash" if own => self.sign(&ask.body),
            _ => no(400, "invalid_request"),
        }
    }

    fn authorize(&self, body: &Value) -> Reply {
        let data = json!([{ "id": "secret", "value": "1234" }, { "id": "app", "value": "42" }]);
        let mut used = self.state.lock().unwrap();
        let hash = body["hashes"][0].as_str().unwrap_or_default();
        if body["numSignatures"] != 1 || body["authData"] != data || used.otp {
            return no(400, "invalid_authentication_data");
        }
        used.otp = true;
        used.sad = Some((hash.to_owned(), false));
        good(json!({ "SAD": "right", "expiresIn": 60 }))
    }

    fn sign(&self, body: &Value) -> Reply {
        let mut used = self.state.lock().unwrap();
        let hash = body["hashes"][0].as_str().unwrap_or_default();
        let right = used.sad.as_mut().filter(|_| body["SAD"] == "right");
        match right {
            Some((bound, done)) if bound == hash && !*done && body["signAlgo"] == ALGO => {
                *done = true;
                good(json!({ "signatures": [self.value(hash)] }))
            }
            _ => no(400, "invalid_request"),
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
            "/oauth2/token" if given("grant_type") == "invented" => {
                no(400, "unsupported_grant_type")
            }
            "/oauth2/token" => no(400, "invalid_grant"),
            "/oauth2/revoke" => good(json!({})),
            "/oauth2/pushed_authorize" if !pkce => no(400, "invalid_request"),
            "/oauth2/pushed_authorize" => {
                self.state.lock().unwrap().pushed.insert("urn:1".to_owned());
                Reply {
                    status: 201,
                    ..good(json!({ "request_uri": "urn:1", "expires_in": 60 }))
                }
            }
            "/oauth2/authorize" if given("client_id") != "app" => no(400, "invalid_request"),
            "/oauth2/authorize" if ask.given.contains_key("request_uri") => {
                match self
                    .state
                    .lock()
                    .unwrap()
                    .pushed
                    .remove(given("request_uri"))
                {
                    true => led("/login".to_owned()),
                    false => no(400, "invalid_request"),
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
}

fn led(location: String) -> Reply {
    Reply {
        status: 302,
        body: Value::Null,
        location: Some(location),
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
async fn start() -> (Arc<Fake>, Service, tempfile::TempDir) {
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
    });
    let app = Router::new().fallback(serve).with_state(fake.clone());
    tokio::spawn(async move { axum::serve(socket, app).await });
    let service = Service::new(&format!("{base}/csc/v2"), &HttpOptions::default());
    (fake, service.unwrap(), dir)
}

async fn run(fake: &Fake, service: &Service, fault: Fault) -> Vec<Case> {
    run_with(fake, service, fault, Some("secret")).await
}

/// The same with this secret of the client.
async fn run_with(fake: &Fake, service: &Service, fault: Fault, secret: Option<&str>) -> Vec<Case> {
    *fake.fault.lock().unwrap() = fault;
    *fake.state.lock().unwrap() = Used::default();
    let means = Means {
        token: Some("mine".to_owned().into()),
        other: Some("others".to_owned().into()),
        credential: Some("k1".to_owned()),
        secrets: Some(("1234".to_owned().into(), "42".to_owned().into())),
        hash: vec![7; 32],
        sign_algo: None,
        client: Some(ClientMeans {
            id: "app".to_owned(),
            secret: secret.map(|secret| secret.to_owned().into()),
            redirect_uri: BACK.to_owned(),
        }),
    };
    check(service, &means).await.unwrap()
}

fn named(cases: &[Case], wanted: fn(&Outcome) -> bool) -> BTreeSet<&str> {
    let found = cases.iter().filter(|case| wanted(&case.outcome));
    found.map(|case| case.name.as_ref()).collect()
}

fn failed(cases: &[Case]) -> BTreeSet<&str> {
    named(cases, |o| matches!(o, Outcome::Failed { .. }))
}

#[tokio::test]
async fn a_provider_that_does_everything_right_passes_and_what_was_not_tried_is_named() {
    let (fake, service, _dir) = start().await;
    let cases = run(&fake, &service, |_, _| {}).await;
    assert_eq!(failed(&cases), BTreeSet::new(), "{cases:#?}");
    let untried = named(&cases, |o| matches!(o, Outcome::NotTested { .. }));
    for name in [
        "the method signatures/novelty",
        "a code works once",
        "a transaction is extended",
        "a person logs in with name and password",
        "a time-stamp holds the hash and the nonce",
    ] {
        assert!(untried.contains(name), "{name}: {untried:?}");
    }
    let passed = named(&cases, |o| matches!(o, Outcome::Passed));
    assert!(passed.contains(VALUE) && passed.len() > 50, "{passed:?}");
}

const VALUE: &str = "the signature is the certificate's key's, over the hash";
const KEY: &str = "key.len, key.algo and key.curve are those of the certificate's key";

/// The fault and the one case that has to find it.
const FAULTS: [(&str, Fault); 38] = [
    ("info has every required member", |a, r| {
        if a.at == "info" && r.status == 200 {
            r.body["description"] = json!(7);
        }
    }),
    ("info.region is a country's two letters", |a, r| {
        if a.at == "info" && r.status == 200 {
            r.body["region"] = json!("EUR");
        }
    }),
    ("info names one OAuth server if there is any", |a, r| {
        if a.at == "info" && r.status == 200 {
            r.body["oauth2Issuer"] = r.body["oauth2"].clone();
        }
    }),
    ("null means absent, unknown members don't matter", |a, r| {
        if a.at == "info" && a.body.get("lang").is_some_and(Value::is_null) {
            *r = no(400, "invalid_request");
        }
    }),
    ("a repeated member is refused", |a, r| {
        if a.at == "info" && a.malformed && a.body.is_object() {
            *r = good(json!({}));
        }
    }),
    ("an unknown method is refused", |a, r| {
        if a.at == "credentials/nonsense" {
            *r = good(json!({}));
        }
    }),
    ("every method wants a token", |a, r| {
        if a.at == "auth/revoke" && a.token.is_empty() {
            *r = good(json!({}));
        }
    }),
    ("no method takes an unknown token", |a, r| {
        if a.at == "credentials/list" && a.token.contains("this-is-no-token") {
            *r = good(json!({ "credentialIDs": [] }));
        }
    }),
    ("credentials/list", |a, r| {
        if a.at == "credentials/list" && r.status == 200 {
            r.body = json!({ "credentialIDs": "k1" });
        }
    }),
    ("userID beside a user's token is refused", |a, r| {
        if a.at == "credentials/list" && a.body["userID"].is_string() && a.token == "Bearer mine" {
            *r = good(json!({ "credentialIDs": [] }));
        }
    }),
    ("an unknown credential is refused", |a, r| {
        if a.at == "credentials/info" && a.body["credentialID"] == "no-such-credential" {
            r.status = 500;
        }
    }),
    ("a missing credentialID is refused", |a, r| {
        if a.at == "credentials/info" && a.body == json!({}) && a.token == "Bearer mine" {
            r.body = json!({ "message": "no" });
        }
    }),
    ("another user's credential", |a, r| {
        if a.at == "credentials/info" && a.token == "Bearer others" {
            *r = good(json!({ "key": {} }));
        }
    }),
    ("a credential has the required members", |a, r| {
        if let ("credentials/info", 200, Some(told)) =
            (a.at.as_str(), r.status, r.body.as_object_mut())
        {
            told.remove("multisign");
        }
    }),
    (
        "the certificates are a chain, the signer's first",
        |a, r| {
            if a.at == "credentials/info" && r.status == 200 {
                r.body["cert"]["certificates"][1] = r.body["cert"]["certificates"][0].clone();
            }
        },
    ),
    (KEY, |a, r| {
        if a.at == "credentials/info" && r.status == 200 {
            r.body["key"]["len"] = json!(384);
        }
    }),
    (KEY, |a, r| {
        if a.at == "credentials/info" && r.status == 200 {
            r.body["key"]["algo"] = json!([ALGO, "1.2.840.113549.1.1.11"]);
        }
    }),
    (
        "serialNumber, validFrom and validTo are the certificate's",
        |a, r| {
            if a.at == "credentials/info" && r.status == 200 {
                r.body["cert"]["validTo"] = json!("20991231235959Z");
            }
        },
    ),
    ("signHash with an invented SAD is refused", |a, r| {
        if a.at == "signatures/signHash" && a.body["SAD"] == "invented" {
            *r = good(json!({ "signatures": ["AA=="] }));
        }
    }),
    ("SHA-1 is refused", |a, r| {
        if a.at == "signatures/signHash" && a.body["hashAlgorithmOID"] == "1.3.14.3.2.26" {
            *r = good(json!({ "signatures": ["AA=="] }));
        }
    }),
    ("authorize for no signature is refused", |a, r| {
        if a.at == "credentials/authorize" && a.body["numSignatures"] == 0 {
            *r = good(json!({ "SAD": "x" }));
        }
    }),
    ("a one-time code works once", |a, r| {
        if a.at == "credentials/authorize" && a.body["authData"].is_array() {
            *r = good(json!({ "SAD": "right" }));
        }
    }),
    ("a hash that wasn't authorized is refused", |a, r| {
        if a.at == "signatures/signHash" && a.body["hashes"][0] == b64([9; 32]) {
            *r = good(json!({ "signatures": ["AA=="] }));
        }
    }),
    ("another user's SAD is refused", |a, r| {
        if a.at == "signatures/signHash" && a.token == "Bearer others" {
            *r = good(json!({ "signatures": ["AA=="] }));
        }
    }),
    ("a SAD works once", |a, r| {
        if a.at == "signatures/signHash"
            && a.body["SAD"] == "right"
            && a.token == "Bearer mine"
            && a.body["hashes"][0] == b64([7; 32])
            && r.status == 400
        {
            *r = good(json!({ "signatures": ["AA=="] }));
        }
    }),
    (
        "extendTransaction with an invented SAD is refused",
        |a, r| {
            if a.at == "credentials/extendTransaction" && a.body["SAD"] == "invented" {
                *r = good(json!({ "SAD": "x" }));
            }
        },
    ),
    ("auth/login of an unknown person is refused", |a, r| {
        if a.at == "auth/login" && a.token.starts_with("Basic") {
            *r = good(json!({ "access_token": "x" }));
        }
    }),
    ("the authorization server's metadata are its own", |a, r| {
        if a.at.starts_with("/.well-known/") && r.status == 200 {
            r.body["issuer"] = json!("https://elsewhere.invalid");
        }
    }),
    ("PKCE with S256 is announced", |a, r| {
        if a.at.starts_with("/.well-known/") && r.status == 200 {
            r.body["code_challenge_methods_supported"] = json!(["plain"]);
        }
    }),
    ("an unknown code is refused", |a, r| {
        if a.at == "/oauth2/token" && a.given.contains_key("code") && r.status == 400 {
            *r = good(json!({ "access_token": "x", "token_type": "Bearer" }));
        }
    }),
    ("a wrong client secret is refused", |a, r| {
        if a.at == "/oauth2/token" && a.token.starts_with("Basic") && r.status == 401 {
            *r = no(400, "invalid_grant");
        }
    }),
    ("an authorization without PKCE is refused", |a, r| {
        let missing = !a.given.contains_key("code_challenge_method");
        if a.at == "/oauth2/authorize"
            && r.status == 302
            && missing
            && !a.given.contains_key("request_uri")
        {
            *r = led("/login".to_owned());
        }
    }),
    ("PKCE with plain is refused", |a, r| {
        if a.at == "/oauth2/authorize"
            && a.given
                .get("code_challenge_method")
                .is_some_and(|m| m == "plain")
        {
            *r = led("/login".to_owned());
        }
    }),
    ("an unknown redirect_uri isn't followed", |a, r| {
        let to = a
            .given
            .get("redirect_uri")
            .filter(|to| to.contains("elsewhere"));
        let known = a.given.get("client_id").is_some_and(|id| id == "app");
        if let ("/oauth2/authorize", Some(to), true) = (a.at.as_str(), to, known) {
            *r = led(format!("{to}?error=invalid_request"));
        }
    }),
    (
        "a refusal brings state back, and iss if it is announced",
        |a, r| {
            if a.at == "/oauth2/authorize"
                && r.location.as_ref().is_some_and(|to| to.contains("iss="))
            {
                r.location = Some(format!(
                    "{BACK}?error=invalid_request&state={}",
                    a.given["state"]
                ));
            }
        },
    ),
    ("a request_uri works once", |a, r| {
        let own = a.given.get("client_id").is_some_and(|id| id == "app");
        if a.at == "/oauth2/authorize" && own && a.given.contains_key("request_uri") {
            *r = led("/login".to_owned());
        }
    }),
    ("a request_uri of somebody else is refused", |a, r| {
        let own = a.given.get("client_id").is_some_and(|id| id == "app");
        if a.at == "/oauth2/authorize" && !own && a.given.contains_key("request_uri") {
            *r = led("/login".to_owned());
        }
    }),
    ("a pushed request without PKCE is refused", |a, r| {
        if a.at == "/oauth2/pushed_authorize" && !a.given.contains_key("code_challenge") {
            *r = Reply {
                status: 201,
                ..good(json!({ "request_uri": "urn:2", "expires_in": 9 }))
            };
        }
    }),
];

#[tokio::test]
async fn each_fault_is_found_by_its_name_and_alone() {
    let (fake, service, _dir) = start().await;
    for (n, (name, fault)) in FAULTS.into_iter().enumerate() {
        let cases = run(&fake, &service, fault).await;
        assert_eq!(failed(&cases), BTreeSet::from([name]), "fault {n}");
    }
}

#[tokio::test]
async fn a_value_that_is_none_is_found_and_told_how() {
    let (fake, service, _dir) = start().await;
    let faults: [(&str, Fault); 4] = [
        ("that are no DER", |a, r| {
            if a.at == "signatures/signHash" && r.status == 200 {
                r.body["signatures"] = json!([b64([0xaa; 70])]);
            }
        }),
        ("r and s side by side", |a, r| {
            if a.at == "signatures/signHash" && r.status == 200 {
                r.body["signatures"] = json!([b64([7; 64])]);
            }
        }),
        ("not base64", |a, r| {
            if a.at == "signatures/signHash" && r.status == 200 {
                r.body["signatures"] = json!(["*"]);
            }
        }),
        // A DER value of the right form that nobody made: r = s = 1.
        ("did not make it", |a, r| {
            if a.at == "signatures/signHash" && r.status == 200 {
                r.body["signatures"] = json!([b64([0x30, 6, 2, 1, 1, 2, 1, 1])]);
            }
        }),
    ];
    for (why, fault) in faults {
        let cases = run(&fake, &service, fault).await;
        assert_eq!(failed(&cases), BTreeSet::from([VALUE]), "{why}");
        let found = cases.iter().find(|case| case.name == VALUE).unwrap();
        let Outcome::Failed { why: told } = &found.outcome else {
            panic!("{found:?}")
        };
        assert!(told.contains(why), "{told}");
    }
}
