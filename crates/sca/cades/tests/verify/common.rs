//! A signer under the development CA, and the CA as a network.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
    RsaKeyPair,
};
use cades::Trust;
use core_types::clock::{Clock as _, ManualClock, SystemClock};
use core_types::random::SystemRandom as OsRandom;
use core_types::{HashAlg, SigAlg, UnixTime};
use dev_ca::{DevCa, Urls};
use pki::fetch::{Fetch, FetchError, Fetching};
use pki::{Certificate, name, oid, tsp};

pub const DOCUMENT: &[u8] = b"a contract";

pub enum Key {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

pub struct World {
    pub dir: tempfile::TempDir,
    pub clock: Arc<ManualClock>,
    pub ca: Arc<DevCa>,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let urls = Urls::under("http://ca");
        let ca = DevCa::open(
            &dir.path().join("ca"),
            urls,
            clock.clone(),
            Arc::new(OsRandom),
        )
        .unwrap();
        Self {
            dir,
            clock,
            ca: Arc::new(ca),
        }
    }

    pub fn now(&self) -> UnixTime {
        self.clock.now()
    }

    pub fn trust(&self) -> Trust {
        let anchors = vec![self.ca.root().der().to_vec()];
        Trust {
            anchors: anchors.clone(),
            tsa_anchors: anchors,
            ..Trust::default()
        }
    }

    pub fn signer(&self, alg: SigAlg) -> Signer {
        let (key, spki) = match alg {
            SigAlg::Ecdsa(hash) => {
                let curve = match hash {
                    HashAlg::Sha384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
                    _ => &ECDSA_P256_SHA256_ASN1_SIGNING,
                };
                let key = EcdsaKeyPair::generate(curve).unwrap();
                let spki = key.public_key().as_der().unwrap().as_ref().to_vec();
                (Key::Ec(key), spki)
            }
            _ => {
                let key = RsaKeyPair::generate(KeySize::Rsa3072).unwrap();
                let spki = key.public_key().as_der().unwrap().as_ref().to_vec();
                (Key::Rsa(key), spki)
            }
        };
        let subject =
            name::encode(&[(oid::COUNTRY, "JP"), (oid::COMMON_NAME, "山田 太郎")]).unwrap();
        let chain = self.ca.issue_for_key(&spki, &subject, 365).unwrap();
        Signer { alg, key, chain }
    }

    pub fn token(&self, cms: &[u8]) -> Vec<u8> {
        let value = cades::signature_value(cms).unwrap();
        let imprint = HashAlg::Sha256.digest(&value);
        let trust = self.trust();
        let request = tsp::request(
            self,
            "http://ca/tsa",
            HashAlg::Sha256,
            &imprint,
            &trust.tsa_anchors,
            &OsRandom,
        );
        at_once(request).unwrap().0
    }
}

pub struct Signer {
    pub alg: SigAlg,
    pub key: Key,
    pub chain: Vec<Certificate>,
}

impl Signer {
    pub fn cert(&self) -> &Certificate {
        &self.chain[0]
    }

    pub fn sign_value(&self, message: &[u8]) -> Vec<u8> {
        use aws_lc_rs::signature as s;
        let random = SystemRandom::new();
        match &self.key {
            Key::Ec(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Key::Rsa(key) => {
                let padding: &'static dyn s::RsaEncoding = match self.alg {
                    SigAlg::RsaPss(HashAlg::Sha256) => &s::RSA_PSS_SHA256,
                    SigAlg::RsaPss(_) => &s::RSA_PSS_SHA512,
                    SigAlg::RsaPkcs1(HashAlg::Sha256) => &s::RSA_PKCS1_SHA256,
                    _ => &s::RSA_PKCS1_SHA512,
                };
                let mut out = vec![0; key.public_modulus_len()];
                key.sign(padding, &random, message, &mut out).unwrap();
                out
            }
        }
    }

    pub fn sign(&self, document: &[u8]) -> Vec<u8> {
        let digest = self.alg.hash().digest(document);
        let attrs = cades::signed_attrs(&digest, self.cert().der()).unwrap();
        let value = self.sign_value(&attrs);
        let rest: Vec<Vec<u8>> = self.chain[1..].iter().map(|c| c.der().to_vec()).collect();
        cades::build_signed_data(&attrs, self.alg, &value, self.cert().der(), &rest, None).unwrap()
    }
}

/// The development CA without sockets.
impl Fetch for World {
    fn get<'a>(&'a self, url: &'a str, _limit: usize) -> Fetching<'a> {
        let answer = match url {
            "http://ca/crl" => Ok(self.ca.crl().unwrap()),
            "http://ca/crl/root" => Ok(self.ca.root_crl().unwrap()),
            _ => Err(FetchError {
                url: url.to_owned(),
                reason: "not found".to_owned(),
                answered: true,
            }),
        };
        Box::pin(std::future::ready(answer))
    }

    fn post<'a>(
        &'a self,
        url: &'a str,
        _type: &'a str,
        body: Vec<u8>,
        _limit: usize,
    ) -> Fetching<'a> {
        let answer = match url {
            "http://ca/ocsp" => Ok(self.ca.ocsp(&body)),
            "http://ca/tsa" => Ok(self.ca.time_stamp(&body)),
            _ => Err(FetchError {
                url: url.to_owned(),
                reason: "not found".to_owned(),
                answered: true,
            }),
        };
        Box::pin(std::future::ready(answer))
    }
}

/// Runs a future that never waits.
pub fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing here waits"),
    }
}
