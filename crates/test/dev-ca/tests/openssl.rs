//! OpenSSL as an oracle for everything that the development CA hands out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use core_types::bytes::hex;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom as OsRandom;
use core_types::{Clock as _, HashAlg, SigAlg};
use dev_ca::{DevCa, Urls};
use pki::csr::Csr;
use pki::ocsp::{BasicResponse, CertId, CertStatus, OcspRequest};
use pki::path::{self, Purpose};
use pki::revocation::{self, Evidence, State};
use pki::{Certificate, name, oid, pem, tsp};

struct Bench {
    dir: tempfile::TempDir,
    ca: Arc<DevCa>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = open(&dir.path().join("ca"));
        Self { dir, ca }
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn signer(&self) -> Vec<Certificate> {
        let key = signer_key();
        let subject =
            name::encode(&[(oid::COUNTRY, "JP"), (oid::COMMON_NAME, "山田 太郎")]).unwrap();
        let info = pki::csr::request_info(&subject, key.public_key().as_der().unwrap().as_ref());
        let value = key.sign(&SystemRandom::new(), &info).unwrap();
        let der = pki::csr::assemble(&info, SigAlg::Ecdsa(HashAlg::Sha256), value.as_ref());
        openssl(
            &["req", "-inform", "DER", "-verify", "-noout", "-in"],
            &[&self.file("csr", &der)],
        );
        self.ca
            .issue_signer(&Csr::verify(&der).unwrap(), &subject)
            .unwrap()
    }
}

fn open(dir: &Path) -> Arc<DevCa> {
    let urls = Urls::under("http://127.0.0.1:9");
    Arc::new(DevCa::open(dir, urls, Arc::new(SystemClock), Arc::new(OsRandom)).unwrap())
}

fn signer_key() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap()
}

/// Runs OpenSSL, with paths after the fixed arguments; its output must show success.
fn openssl(args: &[&str], paths: &[&Path]) -> String {
    let output = Command::new("openssl")
        .args(args)
        .args(paths)
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "openssl {args:?}: {text}");
    text
}

#[test]
fn the_chain_verifies() {
    let bench = Bench::new();
    let chain = bench.signer();
    let leaf = bench.file("leaf", chain[0].pem());
    let root = bench.ca.trust_anchors_file();
    let issuing = bench.file("issuing", chain[1].pem());
    let crls = [bench.ca.crl().unwrap(), bench.ca.root_crl().unwrap()];
    let crls = crls.map(|der| pem::encode("X509 CRL", &der)).concat();
    let crls = bench.file("crls", crls);
    let args = ["verify", "-x509_strict", "-crl_check_all"];
    let with = |path: &Path| path.to_str().unwrap().to_owned();
    let (root, issuing, crls) = (with(&root), with(&issuing), with(&crls));
    let named = ["-CAfile", &root, "-untrusted", &issuing, "-CRLfile", &crls];
    openssl(&[&args[..], &named[..]].concat(), &[&leaf]);

    let anchors = [bench.ca.root().der().to_vec()];
    let intermediates = [chain[1].der().to_vec()];
    let now = SystemClock.now();
    let path = path::validate(
        chain[0].der(),
        &intermediates,
        &anchors,
        now,
        Purpose::Signing,
    )
    .unwrap();
    assert_eq!(path.certificates.len(), 3);
    assert_eq!(chain[0].info().common_name.as_deref(), Some("山田 太郎"));
    assert_eq!(chain[0].ocsp_urls(), ["http://127.0.0.1:9/ocsp"]);
    assert_eq!(chain[0].crl_urls(), ["http://127.0.0.1:9/crl"]);
    assert!(
        path::validate(
            chain[0].der(),
            &intermediates,
            &anchors,
            now,
            Purpose::TimeStamping
        )
        .is_err()
    );
}

#[test]
fn crl_and_ocsp_agree_about_a_revocation() {
    let bench = Bench::new();
    let chain = bench.signer();
    let now = SystemClock.now();
    let judge = |crl: bool| {
        let id = CertId::new(&chain[1], chain[0].serial(), None);
        let request = OcspRequest {
            certificates: vec![id],
            nonce: Some(vec![4, 1, 7]),
        }
        .encode();
        let evidence = if crl {
            Evidence {
                crls: vec![bench.ca.crl().unwrap()],
                ocsp_responses: vec![],
            }
        } else {
            Evidence {
                crls: vec![],
                ocsp_responses: vec![bench.ca.ocsp(&request)],
            }
        };
        revocation::state(&chain[0], &chain[1], &evidence, now)
    };
    assert!(
        matches!(judge(true), State::Good { .. }),
        "{:?}",
        judge(true)
    );
    assert!(
        matches!(judge(false), State::Good { .. }),
        "{:?}",
        judge(false)
    );
    bench.ca.revoke(&chain[0].info().serial, 1).unwrap();
    assert!(
        matches!(judge(true), State::Revoked { reason: 1, .. }),
        "{:?}",
        judge(true)
    );
    assert!(
        matches!(judge(false), State::Revoked { reason: 1, .. }),
        "{:?}",
        judge(false)
    );
    assert!(bench.ca.revoke("00", 0).is_err());

    let crl = bench.file("crl", bench.ca.crl().unwrap());
    let issuing = bench.file("issuing", chain[1].pem());
    let text = openssl(
        &[
            "crl",
            "-inform",
            "DER",
            "-noout",
            "-text",
            "-CAfile",
            issuing.to_str().unwrap(),
            "-in",
        ],
        &[&crl],
    );
    assert!(text.contains("verify OK"), "{text}");
    assert!(
        text.to_lowercase().contains(&chain[0].info().serial),
        "{text}"
    );
    assert!(text.contains("Key Compromise"), "{text}");
}

#[test]
fn a_revocation_outlives_a_restart() {
    let bench = Bench::new();
    let chain = bench.signer();
    bench.ca.revoke(&chain[0].info().serial, 4).unwrap();
    let again = open(&bench.dir.path().join("ca"));
    assert_eq!(again.root(), bench.ca.root());
    assert_eq!(again.tsa_certificate(), bench.ca.tsa_certificate());
    let crl = pki::crl::Crl::parse(&again.crl().unwrap()).unwrap();
    assert_eq!(crl.entry(chain[0].serial()).unwrap().reason, 4);
}

#[test]
fn openssl_asks_the_ocsp_responder() {
    let bench = Bench::new();
    let chain = bench.signer();
    let leaf = bench.file("leaf", chain[0].pem());
    let issuing = bench.file("issuing", chain[1].pem());
    let request = bench.dir.path().join("request");
    for hash in ["-sha1", "-sha256"] {
        let args = [
            "ocsp",
            hash,
            "-issuer",
            issuing.to_str().unwrap(),
            "-cert",
            leaf.to_str().unwrap(),
        ];
        openssl(&[&args[..], &["-reqout"]].concat(), &[&request]);
        let answer = bench.ca.ocsp(&fs::read(&request).unwrap());
        let parsed = BasicResponse::parse(&answer).unwrap();
        parsed.verify(&chain[1], SystemClock.now()).unwrap();
        assert_eq!(
            parsed.answer(&chain[0], &chain[1]).unwrap().status,
            CertStatus::Good
        );
        let answer = bench.file("answer", &answer);
        let root = bench.ca.trust_anchors_file();
        let root = root.to_str().unwrap();
        let more = [
            "-CAfile",
            root,
            "-verify_other",
            args[3],
            "-no_nonce",
            "-respin",
        ];
        let text = openssl(&[&args[..], &more[..]].concat(), &[&answer]);
        assert!(
            text.contains("Response verify OK") && text.contains(": good"),
            "{text}"
        );
    }
}

#[test]
fn openssl_verifies_a_time_stamp() {
    let bench = Bench::new();
    let data = bench.file("data", b"contract");
    let query = bench.dir.path().join("query");
    let reply = bench.dir.path().join("reply");
    let [data, query, reply] = [&data, &query, &reply].map(|p| p.to_str().unwrap());
    openssl(
        &[
            "ts", "-query", "-data", data, "-sha384", "-cert", "-out", query,
        ],
        &[],
    );
    fs::write(reply, bench.ca.time_stamp(&fs::read(query).unwrap())).unwrap();
    let root = bench.ca.trust_anchors_file();
    let root = root.to_str().unwrap();
    openssl(
        &[
            "ts",
            "-verify",
            "-in",
            reply,
            "-queryfile",
            query,
            "-CAfile",
            root,
        ],
        &[],
    );

    let token = tsp::token_of_response(&fs::read(reply).unwrap()).unwrap();
    let anchors = [bench.ca.root().der().to_vec()];
    let imprint = |hash: HashAlg| hash.digest(b"contract");
    let verified = tsp::verify_token(&token, &imprint, None, &[], &anchors).unwrap();
    assert_eq!(verified.info.hash, HashAlg::Sha384);
    assert_eq!(verified.tsa(), Some(bench.ca.tsa_certificate()));
    let other = |hash: HashAlg| hash.digest(b"contract!");
    assert_eq!(
        tsp::verify_token(&token, &other, None, &[], &anchors),
        Err(tsp::TspError::Imprint)
    );
    let wrong = Some(&[1, 2, 3][..]);
    assert_eq!(
        tsp::verify_token(&token, &imprint, wrong, &[], &anchors),
        Err(tsp::TspError::Nonce)
    );
}

#[test]
fn the_tsa_refuses_what_it_does_not_understand() {
    let bench = Bench::new();
    for request in [&b""[..], b"soup", &bench.ca.crl().unwrap()] {
        let answer = bench.ca.time_stamp(request);
        assert!(matches!(
            tsp::token_of_response(&answer),
            Err(tsp::TspError::Rejected { status: 2, .. })
        ));
    }
    let data = bench.file("data", b"contract");
    let query = bench.dir.path().join("query");
    let [data, query] = [&data, &query].map(|p| p.to_str().unwrap());
    openssl(
        &["ts", "-query", "-data", data, "-sha1", "-out", query],
        &[],
    );
    let answer = bench.ca.time_stamp(&fs::read(query).unwrap());
    assert!(tsp::token_of_response(&answer).is_err());
}

#[test]
fn tls_certificates_verify() {
    let bench = Bench::new();
    let service = bench
        .ca
        .service_cert("sam", &["sam.natsuin.internal", "localhost"])
        .unwrap();
    let internal = bench.file("internal", bench.ca.internal_ca_pem());
    let internal = internal.to_str().unwrap();
    let leaf = bench.file("sam", &service.chain_pem);
    for purpose in ["sslserver", "sslclient"] {
        let args = [
            "verify",
            "-x509_strict",
            "-purpose",
            purpose,
            "-CAfile",
            internal,
        ];
        openssl(
            &[&args[..], &["-verify_hostname", "sam.natsuin.internal"]].concat(),
            &[&leaf],
        );
    }
    service_kit::tls::install_provider();
    service_kit::tls::mutual_server(&service, &bench.ca.internal_ca_pem()).unwrap();
    let local = bench.ca.localhost_cert(&["sic.localhost"]).unwrap();
    let leaf = bench.file("local", &local.chain_pem);
    let root = bench.ca.trust_anchors_file();
    let args = [
        "verify",
        "-x509_strict",
        "-purpose",
        "sslserver",
        "-CAfile",
        root.to_str().unwrap(),
    ];
    openssl(
        &[&args[..], &["-verify_hostname", "sic.localhost"]].concat(),
        &[&leaf],
    );
    openssl(
        &[&args[..], &["-verify_ip", "127.0.0.1"]].concat(),
        &[&leaf],
    );
    service_kit::tls::public_server(&local).unwrap();
    assert_ne!(
        hex(bench.ca.root().spki()),
        hex(bench.ca.issuing_ca().spki())
    );
}
