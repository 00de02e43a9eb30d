//! A provider of one signer, as far as the worker asks it. What was approved are documents; the hash that gets signed for each is its
//! own to compute, as it is the SAM's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{Digest, SHA256};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, RsaKeyPair,
};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use core_types::bytes::b64;
use core_types::clock::ManualClock;
use core_types::random::SystemRandom;
use core_types::{Clock as _, HashAlg, KeyAlg, UnixTime};
use csc_types::algorithm::check_digests;
use csc_types::{CscError, InfoRequest, SignHashRequest, SignHashResponse, decide};
use dev_ca::{DevCa, Urls};
use pki::Certificate;
use serde_json::json;

/// The bearer token that is believed.
pub(super) const TOKEN: &str = "reads";
/// The SAD that holds, one that did, and one that nothing is left of where it is judged.
pub(super) const SAD: &str = "may-sign";
pub(super) const OLD_SAD: &str = "could-sign";
pub(super) const DEAD_SAD: &str = "never-signs";
/// A document that was approved, one that was with a time of signing, and a digest of one that nobody here has.
pub(super) const CONTRACT: &[u8] = b"contract";
pub(super) const DATED: &[u8] = b"dated";
pub(super) const DIGEST: [u8; 32] = [7; 32];
/// The time that was approved.
pub(super) const AT: UnixTime = UnixTime(1_800_000_000);
const DAY: i64 = 24 * 60 * 60;

pub(super) struct Provider {
    key: EcdsaKeyPair,
    /// Certificates (DER) by credential: `ec`, `rsa`, `once` whose key signs in one call, `over` whose certificate has ended, and `broken`
    /// which has none to read.
    chains: BTreeMap<&'static str, Vec<Vec<u8>>>,
    clock: ManualClock,
    /// Signs, and its answer says nothing.
    pub(super) lose_answer: AtomicBool,
    /// What came to `signHash`: the caller's name for the call and the request.
    pub(super) asked: Mutex<Vec<(String, SignHashRequest)>>,
}

type Shared = State<Arc<Provider>>;

impl Provider {
    /// With the address of its API.
    pub(super) async fn start() -> (Arc<Self>, String) {
        let dir = tempfile::tempdir().unwrap();
        let then = Arc::new(ManualClock::at(AT));
        let urls = Urls::under("http://localhost:1");
        let ca = DevCa::open(dir.path(), urls, then, Arc::new(SystemRandom)).unwrap();
        let issue = |spki: &[u8], days: i64| -> Vec<Vec<u8>> {
            let subject = pki::name::encode(&[(pki::oid::COMMON_NAME, "髙橋 花子")]).unwrap();
            let chain = ca.issue_for_key(spki, &subject, days).unwrap();
            chain.iter().map(|cert| cert.der().to_vec()).collect()
        };
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let own = key.public_key().as_der().unwrap();
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let rsa = rsa.public_key().as_der().unwrap();
        let chains = BTreeMap::from([
            ("ec", issue(own.as_ref(), 30)),
            ("once", issue(own.as_ref(), 30)),
            ("rsa", issue(rsa.as_ref(), 30)),
            ("over", issue(own.as_ref(), 1)),
            ("broken", vec![b"no certificate".to_vec()]),
        ]);
        let provider = Arc::new(Self {
            key,
            chains,
            clock: ManualClock::at(AT.plus(2 * DAY)),
            lose_answer: AtomicBool::new(false),
            asked: Mutex::default(),
        });
        let app = Router::new()
            .route("/csc/v2/credentials/info", post(info))
            .route("/csc/v2/signatures/signHash", post(sign_hash))
            .with_state(provider.clone());
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(socket, app).await });
        (provider, format!("http://localhost:{port}/csc/v2"))
    }

    fn chain(&self, credential: &str) -> Result<&[Vec<u8>], CscError> {
        let chain = self.chains.get(credential).map(Vec::as_slice);
        chain.ok_or(CscError::InvalidParameter("credentialID"))
    }

    /// What may be signed with a certificate: once each.
    fn approved(leaf: &[u8]) -> Vec<Vec<u8>> {
        let of = |digest: &[u8], at| {
            let attrs = cades::signed_attrs_at(digest, leaf, at).unwrap();
            cades::to_be_signed(&attrs, HashAlg::Sha256)
        };
        let hash = |document| HashAlg::Sha256.digest(document);
        vec![
            of(&hash(CONTRACT), None),
            of(&hash(DATED), Some(AT)),
            of(&DIGEST, None),
        ]
    }

    /// Whether a one-time key was used up.
    fn is_gone(&self, credential: &str) -> bool {
        let asked = self.asked.lock().unwrap();
        credential == "once" && asked.iter().any(|(_, past)| past.credential_id == "once")
    }

    fn sign(&self, request: &SignHashRequest) -> Result<Vec<Vec<u8>>, CscError> {
        match request.sad.as_ref().map(csc_types::SecretText::expose) {
            None | Some(SAD) => {}
            Some(OLD_SAD) => return Err(CscError::SadExpired),
            Some(_) => return Err(CscError::InvalidParameter("SAD")),
        }
        let chain = self.chain(&request.credential_id)?;
        let params = request.sign_algo_params.as_deref();
        let named = request.hash_algorithm_oid.as_deref();
        let alg = decide(KeyAlg::P256, &request.sign_algo, named, params)?;
        check_digests(alg, &request.hashes)?;
        let mut free = Self::approved(&chain[0]);
        for hash in &request.hashes {
            let found = free.iter().position(|known| known == hash);
            free.remove(found.ok_or(CscError::HashNotAuthorized)?);
        }
        let leaf = Certificate::parse(&chain[0]).unwrap();
        if leaf.not_after() < self.clock.now() {
            return Err(CscError::CertificateExpired(None));
        }
        let value = |hash: &Vec<u8>| {
            let digest = Digest::import_less_safe(hash, &SHA256).unwrap();
            self.key.sign_digest(&digest).unwrap().as_ref().to_vec()
        };
        Ok(request.hashes.iter().map(value).collect())
    }
}

fn refused(error: &CscError) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap();
    (status, Json(error.body())).into_response()
}

fn shows(headers: &HeaderMap, token: &str) -> bool {
    headers.get("authorization").unwrap() == format!("Bearer {token}").as_str()
}

async fn info(State(provider): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let right = [SAD, OLD_SAD, DEAD_SAD]
        .iter()
        .any(|sad| shows(&headers, sad));
    if !right && !shows(&headers, TOKEN) {
        return refused(&CscError::InvalidToken);
    }
    let request = InfoRequest::parse(&body).unwrap();
    if !right && provider.is_gone(&request.credential_id) {
        return refused(&CscError::InvalidParameter("credentialID"));
    }
    match provider.chain(&request.credential_id) {
        Ok(chain) => {
            let chain: Vec<String> = chain.iter().map(b64).collect();
            let told = json!({ "key": { "status": "enabled", "algo": [] }, "cert": { "certificates": chain } });
            Json(told).into_response()
        }
        Err(error) => refused(&error),
    }
}

async fn sign_hash(State(provider): Shared, headers: HeaderMap, body: Bytes) -> Response {
    if !shows(&headers, TOKEN) {
        return refused(&CscError::InvalidToken);
    }
    let request = SignHashRequest::parse(&body).unwrap();
    let call = headers.get("idempotency-key").unwrap().to_str().unwrap();
    let seen = (call.to_owned(), request.clone());
    provider.asked.lock().unwrap().push(seen);
    match provider.sign(&request) {
        Ok(_) if provider.lose_answer.load(Ordering::SeqCst) => Json(json!({})).into_response(),
        Ok(values) => Json(SignHashResponse::new(&values)).into_response(),
        Err(error) => refused(&error),
    }
}
