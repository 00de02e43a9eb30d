//! Every error that the tables of the specification (§11 of both versions) have for a method of the API, reached: a row without a
//! case, or a case without a row, fails. Those of OAuth's endpoints stand in `coverage_oauth_errors.rs`.

mod table;

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, header};
use core_types::bytes::b64;
use core_types::{B64, Clock as _, HashAlg, KeyAlg, UnixTime};
use sam_api::Refusal;
use sam_api::ssa::KeyState;
use serde_json::{Value, json};
use service_kit::{CallError, Rate};
use ssa_service::ClientSettings;

use csc_types::CscError;

use crate::coverage::ready;
use crate::oauth::client;
use crate::web::{LogLines, Stack, hash};

const P256: &str = "1.2.840.10045.4.3.2";
/// 2027-01-16, when the certificate of `key-ending` is over.
const ENDS: i64 = 1_800_057_600;

/// What is heard by whoever calls.
struct Listener<'a> {
    stack: &'a Stack,
    version: u8,
    heard: BTreeSet<(String, String)>,
}

impl Listener<'_> {
    async fn call(&mut self, method: &str, authorization: &str, body: Value) {
        let mut body = body;
        if self.version == 1
            && let Some(members) = body.as_object_mut()
        {
            for (new, old) in [("hashes", "hash"), ("hashAlgorithmOID", "hashAlgo")] {
                if let Some(value) = members.remove(new) {
                    members.insert(old.to_owned(), value);
                }
            }
            for entry in members
                .remove("authData")
                .iter()
                .flat_map(|d| d.as_array())
                .flatten()
            {
                let id = entry["id"].as_str().unwrap().to_owned();
                members.insert(id, entry["value"].clone());
            }
        }
        let mut request = Request::post(format!("/csc/v{}/{method}", self.version));
        if !authorization.is_empty() {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Body::from(body.to_string())).unwrap();
        let answer = self.stack.send(request).await;
        let told: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let words = told["error_description"].as_str();
        let words = words.unwrap_or_else(|| panic!("{method} {body}: {}", answer.body));
        let told = match answer.told() {
            (400, code, words) if code == "invalid_request" => words,
            (status, code, _) => format!("{status} {code}: {words}"),
        };
        self.heard.insert((method.to_owned(), told));
    }

    async fn bearer(&mut self, method: &str, token: &str, body: Value) {
        self.call(method, &format!("Bearer {token}"), body).await;
    }
}

fn with(base: &Value, member: &str, value: Value) -> Value {
    let mut body = base.clone();
    body[member] = value;
    body
}

/// A certificate that ends at [`ENDS`].
fn ending() -> B64 {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 16);
    B64(params.self_signed(&key).unwrap().der().to_vec())
}

/// Gives Hanako a key, and changes what is told of it.
fn key(stack: &Stack, id: &str, change: impl Fn(&mut sam_api::ssa::KeyInfo)) {
    let person = stack.users["hanako"].person.clone();
    stack.sam.add_key(&person, id, KeyAlg::P256);
    stack.sam.with(|s| {
        let keys = s.keys.get_mut(&person).unwrap();
        change(keys.last_mut().unwrap());
    });
}

async fn login_and_lists(listener: &mut Listener<'_>, service: &str, own: &str) {
    let none = json!({});
    let method = "auth/login";
    listener.call(method, "", none.clone()).await;
    let pair = format!("Basic {}", b64("nobody"));
    listener.call(method, &pair, none.clone()).await;
    let wrong = format!("Basic {}", b64("hanako:wrong"));
    listener.call(method, &wrong, none.clone()).await;
    let unknown = core_types::bytes::b64u([1; 32]);
    for token in [json!(7), json!(unknown)] {
        listener
            .call(method, "", json!({ "refresh_token": token }))
            .await;
    }
    let method = "auth/revoke";
    for body in [
        none,
        json!({ "token": service, "token_type_hint": "other" }),
        json!({ "token": "unknown" }),
    ] {
        listener.bearer(method, service, body).await;
    }
    let method = "credentials/list";
    let user = json!({ "userID": "x" });
    listener.bearer(method, service, user.clone()).await;
    listener.bearer(method, own, user).await;
    let kinds = json!({ "certificates": "all" });
    listener.bearer(method, service, kinds).await;
    if listener.version == 1 {
        let page = json!({ "pageToken": "x" });
        listener.bearer(method, service, page).await;
    }
    let method = "credentials/info";
    for body in [
        json!({}),
        json!({ "credentialID": "x" }),
        json!({ "credentialID": "key-hanako", "certificates": "all" }),
    ] {
        listener.bearer(method, service, body).await;
    }
}

async fn authorizations(listener: &mut Listener<'_>, service: &str) {
    let stack = listener.stack;
    let method = "credentials/authorize";
    let good = json!({ "credentialID": "key-explicit", "numSignatures": 1, "hashes": [b64(hash(1))],
        "hashAlgorithmOID": HashAlg::Sha256.oid(),
        "authData": [{ "id": "PIN", "value": "guess" }, { "id": "OTP", "value": "123456" }] });
    for (member, value) in [
        ("credentialID", Value::Null),
        ("credentialID", json!("x")),
        ("credentialID", json!("key-stopped-explicit")),
        ("credentialID", json!("key-over-explicit")),
        ("numSignatures", json!("1")),
        ("numSignatures", json!(0)),
        ("numSignatures", json!(20_000)),
        (
            "authData",
            json!([{ "id": "PIN", "value": "guess" }, { "id": "OTP", "value": "12345" }]),
        ),
    ] {
        let body = with(&good, member, value);
        listener.bearer(method, service, body).await;
    }
    for _ in 0..6 {
        listener.bearer(method, service, good.clone()).await;
    }
    stack.sam.with(|s| s.explicit = 0);
    let method = "credentials/sendOTP";
    let code = json!({ "credentialID": "coded-explicit", "authObjectID": "OTP" });
    listener.bearer(method, service, json!({})).await;
    listener
        .bearer(method, service, with(&code, "credentialID", json!("x")))
        .await;
    stack
        .sam
        .with(|s| s.code_refusals.push(CallError::Refused(Refusal::Locked)));
    listener.bearer(method, service, code.clone()).await;
    if listener.version == 2 {
        let handle = json!({ "handle": "x" });
        listener
            .bearer("credentials/authorizeCheck", service, handle)
            .await;
        for (member, value) in [("credentialID", json!("x")), ("authObjectID", json!("x"))] {
            let body = with(&code, member, value);
            listener
                .bearer("credentials/getChallenge", service, body)
                .await;
        }
    }
}

async fn signatures(listener: &mut Listener<'_>, service: &str) {
    let stack = listener.stack;
    let sad = stack.credential_token("app", "hanako", &[hash(1)]).await;
    let good = json!({ "credentialID": "key-hanako", "SAD": sad, "hashes": [b64(hash(1))], "signAlgo": P256,
        "hashAlgorithmOID": HashAlg::Sha256.oid() });
    for method in ["signatures/signHash", "credentials/extendTransaction"] {
        for (member, value) in [
            ("SAD", Value::Null),
            ("SAD", json!("x")),
            ("credentialID", Value::Null),
            ("credentialID", json!("x")),
            ("hashes", json!(["*"])),
        ] {
            let body = with(&good, member, value);
            listener.bearer(method, service, body).await;
        }
    }
    let method = "signatures/signHash";
    let pss = "1.2.840.113549.1.1.10";
    for (member, value) in [
        ("hashes", Value::Null),
        ("hashes", json!([])),
        ("hashes", json!([b64([1; 20])])),
        ("hashes", json!([b64(hash(2))])),
        ("signAlgo", Value::Null),
        ("signAlgo", json!("1.2.3")),
        ("hashAlgorithmOID", json!("1.2.3")),
        ("clientData", json!(7)),
        ("operationMode", json!("B")),
    ] {
        let body = with(&good, member, value);
        listener.bearer(method, service, body).await;
    }
    let plain = with(&good, "signAlgo", json!("1.2.840.10045.2.1"));
    let plain = with(&plain, "hashAlgorithmOID", Value::Null);
    listener.bearer(method, service, plain).await;
    if listener.version == 2 {
        let later = with(&good, "operationMode", json!("A"));
        for (base, member, value) in [
            (&good, "validity_period", json!(1)),
            (&later, "validity_period", json!(0)),
            (&later, "response_uri", json!("https://app.example/")),
        ] {
            let body = with(base, member, value);
            listener.bearer(method, service, body).await;
        }
    }
    // An RSA key, whose algorithm needs parameters.
    let person = stack.users["hanako"].person.clone();
    let set = |alg| {
        stack.sam.with(|s| {
            let keys = s.keys.get_mut(&person).unwrap();
            keys.iter_mut()
                .filter(|key| key.key.as_str() == "key-hanako")
                .for_each(|key| key.alg = alg);
        });
    };
    set(KeyAlg::Rsa3072);
    let rsa = stack.credential_token("app", "hanako", &[hash(1)]).await;
    let body = with(&with(&good, "SAD", json!(rsa)), "signAlgo", json!(pss));
    listener.bearer(method, service, body).await;
    set(KeyAlg::P256);
    // Time: of the right to sign, and of the certificate.
    stack.clock.advance(301);
    if listener.version == 2 {
        let entry = json!({ "document": "AQID", "signature_format": "C", "signAlgo": P256 });
        let body = with(&good, "documents", json!([entry]));
        listener.bearer("signatures/signDoc", service, body).await;
    }
    listener.bearer(method, service, good).await;
}

async fn documents(listener: &mut Listener<'_>, service: &str) {
    let stack = listener.stack;
    let signing = stack.document_token("app", "hanako", &[hash(1)]).await;
    let bare = stack.credential_token("app", "hanako", &[hash(1)]).await;
    let method = "signatures/signDoc";
    let entry = json!({ "document": "AQID", "signature_format": "C", "signAlgo": P256 });
    let of = |entry: Value| json!({ "credentialID": "key-hanako", "documents": [entry] });
    let digests = |value: Value| json!({ "credentialID": "key-hanako", "documentDigests": value });
    for body in [
        digests(json!(7)),
        digests(json!([{ "hashes": ["*"], "signature_format": "C", "signAlgo": P256 }])),
        of(json!(7)),
        json!({ "credentialID": "key-hanako" }),
        with(&of(entry.clone()), "documentDigests", json!([])),
        of(with(&entry, "document", json!("*"))),
        of(with(&entry, "signature_format", Value::Null)),
        of(with(&entry, "signature_format", json!("Z"))),
        of(with(&entry, "conformance_level", json!("Z"))),
        of(with(&entry, "signAlgo", Value::Null)),
        of(with(&entry, "signAlgoParams", json!("*"))),
        digests(
            json!([{ "hashes": [b64(hash(1))], "hashAlgorithmOID": 7, "signature_format": "C",
            "signAlgo": P256 }]),
        ),
        of(with(&entry, "signed_envelope_property", json!("Z"))),
        of(with(
            &entry,
            "signed_props",
            json!([{ "attribute_name": "x" }]),
        )),
    ] {
        listener.bearer(method, &signing, body).await;
    }
    let good = of(entry);
    for (member, value) in [
        ("SAD", json!("x")),
        ("credentialID", Value::Null),
        ("credentialID", json!("x")),
        ("clientData", json!(7)),
        ("operationMode", json!("A")),
        ("validity_period", json!(1)),
        ("response_uri", json!("https://app.example/")),
        ("returnValidationInfo", json!(true)),
    ] {
        let body = with(&good, member, value);
        listener.bearer(method, &signing, body).await;
    }
    listener.bearer(method, service, good.clone()).await;
    listener.bearer(method, &bare, good.clone()).await;
    for error in [
        CscError::InvalidParameter("signAlgo"),
        CscError::MissingString("signAlgoParams"),
        CscError::MissingString("hashAlgorithmOID"),
        CscError::InvalidDigestLength,
        CscError::HashContradiction,
        CscError::CertificateExpired(None),
        CscError::DocumentMismatch,
    ] {
        let told = CallError::Refused(error.into());
        stack.worker.told.lock().unwrap().push(told);
        listener.bearer(method, &signing, good.clone()).await;
    }
}

async fn made_and_ended(listener: &mut Listener<'_>) {
    let stack = listener.stack;
    let token = crate::create::token(stack, "app", "hanako", "key-made").await;
    let method = "credentials/create";
    for body in [
        json!({}),
        json!({ "credentialCreationRequest": { "certificatePolicy": "1.2.3" } }),
        json!({ "credentialCreationRequest": {}, "certificates": "all" }),
    ] {
        listener.bearer(method, &token, body).await;
    }
    let token = crate::delete::token(stack, "app", "taro", "key-taro").await;
    let method = "credentials/delete";
    for body in [
        json!({}),
        json!({ "credentialID": "key-hanako" }),
        json!({ "credentialDeletionRequest": 7 }),
        json!({ "credentialID": "key-taro", "revocationReason": 7 }),
        json!({ "credentialID": "key-taro", "revoke": true, "revocationReason": 1 }),
    ] {
        listener.bearer(method, &token, body).await;
    }
}

async fn later_and_stamps(listener: &mut Listener<'_>, service: &str, own: &str) {
    let stack = listener.stack;
    if listener.version == 2 {
        let method = "signatures/signPolling";
        for body in [
            json!({}),
            json!({ "requestID": "x" }),
            json!({ "requestID": "x", "userID": "x" }),
            json!({ "requestID": "x", "clientData": 7 }),
        ] {
            listener.bearer(method, service, body).await;
        }
        let user = json!({ "requestID": "x", "userID": "x" });
        listener.bearer(method, own, user).await;
        let signing = stack.credential_token("app", "hanako", &[hash(1)]).await;
        stack
            .sam
            .with(|s| s.sign_refusals = vec![CallError::Unreachable]);
        let body = json!({ "credentialID": "key-hanako", "hashes": [b64(hash(1))], "signAlgo": P256, "operationMode": "A" });
        let begun = stack
            .csc("signatures/signHash", &signing, &body.to_string())
            .await;
        let id = begun.json()["responseID"].clone();
        listener
            .bearer(method, service, json!({ "requestID": id }))
            .await;
    }
    let good = json!({ "hash": b64(hash(1)), "hashAlgo": HashAlg::Sha256.oid() });
    for (member, value) in [
        ("hash", Value::Null),
        ("hash", json!("")),
        ("hash", json!(b64([1; 20]))),
        ("hash", json!("*")),
        ("hashAlgo", json!("1.2.3")),
        ("nonce", json!("x")),
    ] {
        let body = with(&good, member, value);
        listener.bearer("signatures/timestamp", service, body).await;
    }
}

/// A right that outlives its certificate by a minute.
async fn the_certificate_ends(listener: &mut Listener<'_>) {
    let stack = listener.stack;
    let now = stack.clock.now();
    stack.clock.advance(ENDS - 100 - now.0);
    stack.sam.with(|s| s.later = ENDS - crate::web::START + 600);
    let mut browser = crate::web::Browser::new(stack);
    let asked = crate::web::credential_request("app", "key-ending", &[hash(1)]);
    let code = browser.approve_for_code(&asked, "hanako").await;
    let signing = stack.exchange("app", &code).await.json();
    stack.clock.advance(101);
    let body = json!({ "credentialID": "key-ending", "SAD": signing["access_token"], "hashes": [b64(hash(1))], "signAlgo": P256 });
    let service = stack.service_token("app", "hanako").await;
    let (lines, _guard) = LogLines::begin();
    listener.bearer("signatures/signHash", &service, body).await;
    // Version 1 names the owner to the client, and nobody to the operator.
    let lines = lines.take();
    assert!(lines.contains("Signing certificate is expired"), "{lines}");
    assert!(!lines.contains("髙橋"), "{lines}");
}

#[tokio::test]
async fn every_error_of_the_tables_is_reached_in_both_versions() {
    for version in [1, 2] {
        for mut stack in ready().await {
            let settings = ClientSettings {
                users: vec!["hanako".to_owned()],
                refresh: true,
                ..ClientSettings::default()
            };
            client(&mut stack, "itself", settings).await;
            key(&stack, "key-stopped-explicit", |key| {
                key.state = KeyState::Suspended;
            });
            key(&stack, "key-over-explicit", |key| {
                key.chain[0] = expired();
            });
            key(&stack, "key-ending", |key| {
                key.chain[0] = ending();
                key.subject.organization = Some("Natsuin".to_owned());
            });
            let form = [("grant_type", "client_credentials")];
            let own = stack.client_form("itself", "/oauth2/token", &form).await;
            let own = own.text("access_token");
            let service = stack.service_token("app", "hanako").await;
            let mut listener = Listener {
                stack: &stack,
                version,
                heard: BTreeSet::new(),
            };
            login_and_lists(&mut listener, &service, &own).await;
            authorizations(&mut listener, &service).await;
            if version == 2 {
                documents(&mut listener, &service).await;
                made_and_ended(&mut listener).await;
            }
            later_and_stamps(&mut listener, &service, &own).await;
            signatures(&mut listener, &service).await;
            the_certificate_ends(&mut listener).await;
            let wanted = table::rows(version);
            let mut wanted: BTreeSet<_> = wanted
                .map(|(method, row)| (method.to_owned(), row.to_owned()))
                .collect();
            let methods: BTreeSet<_> = wanted.iter().map(|(method, _)| method.clone()).collect();
            for method in methods.iter().filter(|method| *method != "auth/login") {
                listener.call(method, "", json!({})).await;
                wanted.insert((method.clone(), table::NO_HEADER.to_owned()));
            }
            let missing: Vec<_> = wanted.difference(&listener.heard).collect();
            let more: Vec<_> = listener.heard.difference(&wanted).collect();
            assert!(
                missing.is_empty() && more.is_empty(),
                "version {version}: not reached {missing:#?}, not in the table {more:#?}"
            );
            assert!(stack.clock.now() > UnixTime(ENDS));
        }
    }
}

#[tokio::test]
async fn every_common_code_is_reached_in_both_versions() {
    for mut stack in ready().await {
        let settings = ClientSettings {
            rate: Some(Rate {
                burst: 1,
                per_minute: 1,
            }),
            ..ClientSettings::default()
        };
        client(&mut stack, "slow", settings).await;
        let service = stack.service_token("app", "hanako").await;
        let signing = stack.credential_token("app", "hanako", &[hash(1)]).await;
        let other = stack.service_token("other", "hanako").await;
        let settings = ClientSettings {
            methods: vec!["credentials/info".to_owned()],
            ..ClientSettings::default()
        };
        stack.contract("other", &settings).await;
        let revoked = stack.service_token("app", "hanako").await;
        let form = [("token", revoked.as_str())];
        stack.client_form("app", "/oauth2/revoke", &form).await;
        // Getting it was the one call that its client has a minute.
        let slow = stack.service_token("slow", "hanako").await;
        for version in [1, 2] {
            let hashes = if version == 1 { "hash" } else { "hashes" };
            let sign = json!({ "credentialID": "key-hanako", "SAD": signing, hashes: [b64(hash(1))], "signAlgo": P256 });
            let mut heard = BTreeSet::new();
            for (method, token, body, sam) in [
                ("credentials/list", &signing, json!({}), None),
                ("credentials/list", &revoked, json!({}), None),
                ("credentials/list", &"unknown".to_owned(), json!({}), None),
                ("credentials/list", &other, json!({}), None),
                ("credentials/list", &slow, json!({}), None),
                ("credentials/list", &service, json!([]), None),
                ("credentials/none", &service, json!({}), None),
                (
                    "signatures/signHash",
                    &signing,
                    sign.clone(),
                    Some(CallError::Refused(Refusal::Lost)),
                ),
                (
                    "signatures/signHash",
                    &signing,
                    sign,
                    Some(CallError::Unreachable),
                ),
            ] {
                stack.sam.with(|s| s.sign_refusals.extend(sam));
                let request = Request::post(format!("/csc/v{version}/{method}"))
                    .header(header::AUTHORIZATION, format!("Bearer {token}"));
                let request = request.body(Body::from(body.to_string())).unwrap();
                let (status, code, _) = stack.send(request).await.told();
                heard.insert((code, status));
            }
            let common = table::COMMON
                .iter()
                .map(|(code, status)| ((*code).to_owned(), *status));
            assert_eq!(heard, common.collect(), "version {version}");
        }
    }
}

/// A certificate that is over.
fn expired() -> B64 {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    B64(params.self_signed(&key).unwrap().der().to_vec())
}
