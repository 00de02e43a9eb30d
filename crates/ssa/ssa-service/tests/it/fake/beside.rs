//! What else the SSA reaches: a worker that signs documents, an RA with a CA, and the network.

use std::sync::Mutex;

use core_types::sha256;
use csc_types::{CscError, SignDocRequest, SignDocResponse, WorkerRefusal, WorkerRequest};
use sap::enrol::{CertifyRequest, CertifyResponse};
use service_kit::CallError;
use ssa_service::{Asked, CertifyError, CertifyPort, WorkerPort};

use super::{FakeSam, certificate};

/// A worker that uses up what it is given, as `signHash` would, and answers with one signature; or with what it is told to.
pub struct FakeWorker {
    pub sam: std::sync::Arc<FakeSam>,
    pub told: Mutex<Vec<CallError<WorkerRefusal>>>,
    pub asked: Mutex<Vec<WorkerRequest>>,
}

impl WorkerPort for FakeWorker {
    fn sign_doc<'a>(
        &'a self,
        request: &'a WorkerRequest,
    ) -> Asked<'a, SignDocResponse, CallError<WorkerRefusal>> {
        self.asked.lock().unwrap().push(request.clone());
        let told = self.told.lock().unwrap().pop();
        let asked = SignDocRequest::parse(request.body.as_bytes()).unwrap();
        let right = asked.sad.as_ref().unwrap_or(&request.token);
        let grant = sha256(&[right.expose().as_bytes()]);
        let fresh = self.sam.with(|s| {
            let found = s.requests.values_mut().find(|r| r.grant == Some(grant));
            found.is_some_and(|found| !std::mem::replace(&mut found.used, true))
        });
        Box::pin(async move {
            match told {
                Some(told) => Err(told),
                None if !fresh => Err(CallError::Refused(CscError::InvalidToken.into())),
                None => Ok(SignDocResponse {
                    signatures: vec!["c2ln".to_owned()],
                    ..SignDocResponse::default()
                }),
            }
        })
    }
}

/// An RA that approves everything, or nothing.
pub struct FakeRa(pub Mutex<Option<CertifyError>>);

impl CertifyPort for FakeRa {
    fn certify<'a>(&'a self, _: &'a CertifyRequest) -> Asked<'a, CertifyResponse, CertifyError> {
        let refusal = *self.0.lock().unwrap();
        Box::pin(async move {
            match refusal {
                Some(refusal) => Err(refusal),
                None => Ok(CertifyResponse {
                    certify: "c".to_owned(),
                    chain: vec![certificate("髙橋 花子")],
                }),
            }
        })
    }
}

/// A network with time-stamping authorities: `stamp://good` stamps, `stamp://liar` stamps something else, `stamp://late`
/// answers another request, others are down. With a CA it says what was revoked.
#[derive(Default)]
pub struct FakeNet(
    pub Mutex<Option<dev_ca::DevCa>>,
    pub Mutex<Vec<std::sync::Arc<dev_provider::DevProvider>>>,
    /// What whoever is asked like a provider answers instead.
    pub Mutex<Option<Vec<u8>>>,
    /// Serial numbers (hexadecimal) about which nobody can be asked; while there are any, the CA has no lists.
    pub Mutex<Vec<String>>,
);

impl FakeNet {
    /// What a provider answers at this address.
    fn provider(&self, url: &str, form: Option<&[u8]>) -> Option<Vec<u8>> {
        if let Some(forged) = self.2.lock().unwrap().clone() {
            return Some(forged);
        }
        let all = self.1.lock().unwrap();
        let mut answers = all.iter().filter_map(|provider| {
            let issuer = provider.metadata()["issuer"].as_str()?.to_owned();
            let answer = match (url.strip_prefix(&issuer)?, form) {
                ("/.well-known/openid-configuration", None) => provider.metadata(),
                ("/jwks", None) => provider.jwks(),
                ("/token", Some(form)) => provider.token(form)?,
                _ => return None,
            };
            Some(answer.to_string().into_bytes())
        });
        answers.next_back()
    }
}

impl pki::fetch::Fetch for FakeNet {
    fn get<'a>(&'a self, url: &'a str, _: usize) -> pki::fetch::Fetching<'a> {
        let ca = self.0.lock().unwrap();
        let lists = self.3.lock().unwrap().is_empty();
        let answer = ca.as_ref().filter(|_| lists).and_then(|ca| match url {
            url if url == ca.urls().crl => ca.crl().ok(),
            url if url == ca.urls().root_crl => ca.root_crl().ok(),
            _ => None,
        });
        let answer = answer.or_else(|| self.provider(url, None));
        Box::pin(async move { answer.ok_or_else(|| down(url)) })
    }

    fn post<'a>(
        &'a self,
        url: &'a str,
        _: &'a str,
        body: Vec<u8>,
        _: usize,
    ) -> pki::fetch::Fetching<'a> {
        if let Some(ca) = self.0.lock().unwrap().as_ref()
            && url == ca.urls().ocsp
        {
            let asked = core_types::bytes::hex(&body);
            if self.3.lock().unwrap().iter().any(|s| asked.contains(s)) {
                return Box::pin(async move { Err(down(url)) });
            }
            let answer = ca.ocsp(&body);
            return Box::pin(async move { Ok(answer) });
        }
        if let Some(answer) = self.provider(url, Some(&body)) {
            return Box::pin(async move { Ok(answer) });
        }
        if url.starts_with("http") {
            return Box::pin(async move { Err(down(url)) });
        }
        let mut asked = pki::tsp::TimeStampReq::parse(&body).unwrap();
        let known = match url {
            "stamp://good" => true,
            "stamp://liar" => {
                asked.imprint[0] ^= 1;
                true
            }
            "stamp://late" => {
                asked.nonce = Some(vec![1]);
                true
            }
            _ => false,
        };
        let ca = self.0.lock().unwrap();
        let answer = ca.as_ref().filter(|_| known);
        let answer = answer.map(|ca| ca.time_stamp(&asked.encode().unwrap()));
        Box::pin(async move { answer.ok_or_else(|| down(url)) })
    }
}

fn down(url: &str) -> pki::fetch::FetchError {
    pki::fetch::FetchError {
        url: url.to_owned(),
        reason: "down".to_owned(),
        answered: false,
    }
}
