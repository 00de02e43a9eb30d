//! The HTTP paths, and the registration authority's checks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::body::Body;
use axum::http::Request;
use core_types::clock::{Clock as _, ManualClock};
use core_types::random::{Random as _, SeededRandom};
use core_types::{
    Digest32, HashAlg, KeyAlg, KeyId, Level, OriginCase, PersonId, SigAlg, TenantId, UnixTime,
    VoucherId, sha256,
};
use dev_ca::ra::{Invitation, RaError, subject_name};
use dev_ca::{DevCa, Ra, Urls, routes};
use http_body_util::BodyExt as _;
use jose::{Jwk, SigningKey};
use pki::ocsp::{BasicResponse, CertId, OcspRequest};
use pki::tsp::TimeStampReq;
use pki::{Certificate, tsp};
use sap::enrol::{Certify, CertifyRequest, EnrolmentRecord, Invite, InvitedBy, Subject};
use sap::{SamKeys, TYP_KEYS};
use tower::ServiceExt as _;

struct Bench {
    _dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    random: Arc<SeededRandom>,
    ca: Arc<DevCa>,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(UnixTime(1_800_000_000)));
    let random = Arc::new(SeededRandom::new(7));
    let urls = Urls::under("http://ca.localhost");
    let ca = Arc::new(DevCa::open(dir.path(), urls, clock.clone(), random.clone()).unwrap());
    Bench {
        _dir: dir,
        clock,
        random,
        ca,
    }
}

async fn call(bench: &Bench, request: Request<Body>) -> (String, Vec<u8>) {
    let answer = routes::public(bench.ca.clone())
        .oneshot(request)
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let content_type = answer.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    (
        content_type,
        answer
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .to_vec(),
    )
}

#[tokio::test]
async fn every_path_answers_in_its_media_type() {
    let bench = bench();
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let (kind, der) = call(&bench, get("/ca")).await;
    assert_eq!(kind, "application/pkix-cert");
    let issuing = Certificate::parse(&der).unwrap();
    assert_eq!(&issuing, bench.ca.issuing_ca());
    let (kind, der) = call(&bench, get("/crl")).await;
    assert_eq!(kind, "application/pkix-crl");
    pki::crl::Crl::parse(&der)
        .unwrap()
        .verify(&issuing)
        .unwrap();
    let (_, der) = call(&bench, get("/crl/root")).await;
    pki::crl::Crl::parse(&der)
        .unwrap()
        .verify(bench.ca.root())
        .unwrap();

    let id = CertId::new(&issuing, bench.ca.tsa_certificate().serial(), None);
    let request = OcspRequest {
        certificates: vec![id],
        nonce: None,
    }
    .encode();
    let path = format!(
        "/ocsp/{}",
        core_types::bytes::b64(&request).replace('/', "%2F")
    );
    let posted = Request::post("/ocsp").body(Body::from(request)).unwrap();
    for request in [posted, get(&path)] {
        let (kind, der) = call(&bench, request).await;
        assert_eq!(kind, "application/ocsp-response");
        let response = BasicResponse::parse(&der).unwrap();
        response.verify(&issuing, bench.clock.now()).unwrap();
        assert!(
            response
                .answer(bench.ca.tsa_certificate(), &issuing)
                .is_some()
        );
    }

    let imprint = HashAlg::Sha256.digest(b"data");
    let query = TimeStampReq::new(HashAlg::Sha256, imprint.clone(), &*bench.random);
    let request = Request::post("/tsa")
        .body(Body::from(query.encode().unwrap()))
        .unwrap();
    let (kind, der) = call(&bench, request).await;
    assert_eq!(kind, tsp::REPLY_TYPE);
    let token = tsp::token_of_response(&der).unwrap();
    let anchors = [bench.ca.root().der().to_vec()];
    let nonce = query.nonce.as_deref();
    let verified = tsp::verify_token(&token, &|_| imprint.clone(), nonce, &[], &anchors).unwrap();
    assert_eq!(verified.info.gen_time, bench.clock.now());
}

fn subject() -> Subject {
    Subject {
        common_name: "山田 太郎".to_owned(),
        country: "JP".to_owned(),
        organization: None,
        serial_number: "0001".to_owned(),
    }
}

/// A SAM with its keys, a key to be certified, and the RA that pinned its root.
struct Enrolment {
    bench: Bench,
    ra: Ra,
    act: SigningKey,
    statement: String,
    record: EnrolmentRecord,
    csr: Vec<u8>,
}

fn csr(key: &EcdsaKeyPair, subject: &Subject) -> Vec<u8> {
    let spki = key.public_key().as_der().unwrap();
    let info = pki::csr::request_info(&subject_name(subject).unwrap(), spki.as_ref());
    let value = key.sign(&SystemRandom::new(), &info).unwrap();
    pki::csr::assemble(&info, SigAlg::Ecdsa(HashAlg::Sha256), value.as_ref())
}

impl Enrolment {
    fn new() -> Self {
        let bench = bench();
        let (root, _) = SigningKey::generate().unwrap();
        let (act, _) = SigningKey::generate().unwrap();
        let ra = Ra::new(bench.ca.clone(), "sam", vec![root.public().clone()]).unwrap();
        let statement = statement(&root, act.public(), bench.clock.now());
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let csr = csr(&key, &subject());
        let digest = Digest32([3; 32]);
        let record = EnrolmentRecord {
            sam: "sam".to_owned(),
            voucher: VoucherId::random(&*bench.random),
            by: InvitedBy::Ra,
            invite: digest,
            person: PersonId::random(&*bench.random),
            subject: subject(),
            key: KeyId::random(&*bench.random),
            alg: KeyAlg::P256,
            spki: sha256(&[key.public_key().as_der().unwrap().as_ref()]),
            csr: sha256(&[&csr]),
            factors: digest,
            level: Level::Two,
            origin: OriginCase::ProviderDevice,
            at: bench.clock.now(),
        };
        Self {
            bench,
            ra,
            act,
            statement,
            record,
            csr,
        }
    }

    fn request(&self) -> CertifyRequest {
        let payload = serde_json::to_vec(&self.record).unwrap();
        CertifyRequest {
            statement: self.statement.clone(),
            enrolment: self.act.sign(sap::TYP_ENROLMENT, &payload).unwrap(),
            csr: self.csr.clone().into(),
        }
    }
}

fn statement(root: &SigningKey, act: &Jwk, now: UnixTime) -> String {
    let keys = SamKeys {
        sam: "sam".to_owned(),
        epoch: Digest32([1; 32]),
        act: act.clone(),
        seal: act.clone(),
        nbf: now,
        exp: now.plus(3600),
    };
    root.sign(TYP_KEYS, &serde_json::to_vec(&keys).unwrap())
        .unwrap()
}

#[test]
fn the_ra_certifies_what_the_sam_recorded() {
    let enrolment = Enrolment::new();
    let request = enrolment.request();
    let answer = enrolment.ra.certify(&request).unwrap();
    let approval =
        jose::verify(&answer.certify, sap::TYP_CERTIFY, enrolment.ra.public_key()).unwrap();
    let approval: Certify = serde_json::from_slice(&approval).unwrap();
    assert_eq!(approval.enrolment, sha256(&[request.enrolment.as_bytes()]));
    assert_eq!(approval.spki, enrolment.record.spki);
    let cert = Certificate::parse(&answer.chain[0].0).unwrap();
    assert_eq!(cert.info().spki_sha256, enrolment.record.spki);
    assert_eq!(cert.subject(), subject_name(&subject()).unwrap());
    assert_eq!(answer.chain.len(), 2);
}

// shows: T-REG-CSR-ALTER, T-REG-CSR-SPOOF
#[test]
fn the_ra_refuses_anything_else() {
    let other_key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();

    let mut swapped = Enrolment::new();
    swapped.csr = csr(&other_key, &subject());
    let refused = swapped.ra.certify(&swapped.request());
    assert!(
        matches!(
            refused,
            Err(RaError::Differs {
                what: "request",
                ..
            })
        ),
        "{refused:?}"
    );

    let mut key = Enrolment::new();
    key.csr = csr(&other_key, &subject());
    key.record.csr = sha256(&[&key.csr]);
    let refused = key.ra.certify(&key.request());
    assert!(
        matches!(
            refused,
            Err(RaError::Differs {
                what: "public key",
                ..
            })
        ),
        "{refused:?}"
    );

    let mut name = Enrolment::new();
    name.record.subject.common_name = "別人".to_owned();
    let refused = name.ra.certify(&name.request());
    assert!(
        matches!(refused, Err(RaError::Subject { .. })),
        "{refused:?}"
    );

    let mut damaged = Enrolment::new();
    *damaged.csr.last_mut().unwrap() ^= 1;
    damaged.record.csr = sha256(&[&damaged.csr]);
    assert!(matches!(
        damaged.ra.certify(&damaged.request()),
        Err(RaError::Csr(_))
    ));

    let mut kind = Enrolment::new();
    kind.record.alg = KeyAlg::Rsa3072;
    assert!(matches!(
        kind.ra.certify(&kind.request()),
        Err(RaError::KeyAlg(_))
    ));

    let mut sam = Enrolment::new();
    sam.record.sam = "other".to_owned();
    assert!(matches!(
        sam.ra.certify(&sam.request()),
        Err(RaError::OtherSam { .. })
    ));

    let mut forged = Enrolment::new();
    forged.act = SigningKey::generate().unwrap().0;
    assert!(matches!(
        forged.ra.certify(&forged.request()),
        Err(RaError::Jose(_))
    ));

    let mut root = Enrolment::new();
    let (mallory, _) = SigningKey::generate().unwrap();
    root.statement = statement(&mallory, root.act.public(), root.bench.clock.now());
    assert!(matches!(
        root.ra.certify(&root.request()),
        Err(RaError::Statement(_))
    ));

    let late = Enrolment::new();
    late.bench.clock.advance(3601);
    assert!(matches!(
        late.ra.certify(&late.request()),
        Err(RaError::Statement(_))
    ));
}

#[test]
fn an_invitation_commits_to_its_secret() {
    let enrolment = Enrolment::new();
    let invitation = Invitation {
        tenant: TenantId::parse("t").unwrap(),
        person: PersonId::parse("p").unwrap(),
        subject: subject(),
        assurance: "in-person".to_owned(),
        ceiling: Level::Two,
        keys: vec![KeyAlg::Rsa3072, KeyAlg::P256],
        exp: UnixTime(1_800_100_000),
        replaces: None,
        collected: false,
        codes: None,
        notices: None,
        exportable: false,
        one_time: false,
    };
    let (jws, voucher, secret) = enrolment.ra.invite(invitation).unwrap();
    let payload = jose::verify(&jws, sap::TYP_INVITE, enrolment.ra.public_key()).unwrap();
    let invite: Invite = serde_json::from_slice(&payload).unwrap();
    assert_eq!(invite.voucher, voucher);
    assert_eq!(secret.len(), 16);
    assert_eq!(invite.secret, sha256(&[secret.expose()]));
    let mut other = [0; 16];
    enrolment.bench.random.fill(&mut other);
    assert!(!secret.ct_eq(&other));
}
