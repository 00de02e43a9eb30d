//! The two neighbours the SSA asks: the SAM, and the RA with its CA. Traits, so that tests stand in for them.

use std::future::Future;
use std::pin::Pin;

use core_types::rpc::Method;
use csc_types::{SignDocResponse, WorkerRefusal, WorkerRequest, WorkerSignDoc};
use sam_api::ssa;
use sap::enrol::{CertifyRequest, CertifyResponse};
use service_kit::http::HttpOptions;
use service_kit::{CallError, Trouble};
use url::{Host, Url};

/// What comes of asking a neighbour.
pub type Asked<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;
/// What comes of calling a method of the SAM.
pub type Called<'a, M> = Asked<'a, <M as Method>::Response, CallError<<M as Method>::Refusal>>;

macro_rules! sam_port {
    ($($(#[$doc:meta])* $name:ident: $method:ident;)*) => {
        /// The SAM as the SSA may call it.
        pub trait SamPort: Send + Sync {$(
            $(#[$doc])*
            fn $name<'a>(
                &'a self,
                request: &'a <ssa::$method as Method>::Request,
            ) -> Called<'a, ssa::$method>;
        )*}

        impl SamPort for service_kit::Client {$(
            fn $name<'a>(
                &'a self,
                request: &'a <ssa::$method as Method>::Request,
            ) -> Called<'a, ssa::$method> {
                Box::pin(self.call::<ssa::$method>(request))
            }
        )*}
    };
}

sam_port! {
    /// What this SAM is and can do.
    about: About;
    /// Stores a request to sign.
    prepare: Prepare;
    /// State of a request.
    status: Status;
    /// Binds a token to an approved act.
    bind: Bind;
    /// Authorizes by secrets that an application collected.
    explicit: Explicit;
    /// Has a one-time code sent.
    send_code: SendCode;
    /// Signs.
    sign: Sign;
    /// Renews a token.
    renew: Renew;
    /// Registers a voucher.
    voucher: Voucher;
    /// State of an enrolment.
    enrolment: Enrolment;
    /// Hands over a certificate.
    certificate: Certificate;
    /// Keys of a person.
    keys: Keys;
    /// Stores a request to change something.
    ask: Ask;
    /// Stops a key for a person who is logged in.
    stop: Stop;
    /// Hands over an authority's notice.
    notice: Notice;
    /// Certificates of keys.
    watched: Watched;
    /// Hands over what a CA published.
    revocation: Revocation;
    /// Factors of a person.
    factors: Factors;
    /// The latest signatures of a person.
    signatures: Signatures;
    /// The evidence of an act of a person.
    receipt: Receipt;
    /// The evidence of a signature value, for the client that got it.
    receipt_of: ReceiptOf;
    /// A key that its owner had handed over.
    handed_over: HandedOver;
    /// What happened to a person's keys and factors.
    history: History;
}

/// The worker behind `signatures/signDoc`, which reads the documents of strangers.
pub trait WorkerPort: Send + Sync {
    /// Has documents signed with the caller's token.
    fn sign_doc<'a>(
        &'a self,
        request: &'a WorkerRequest,
    ) -> Asked<'a, SignDocResponse, CallError<WorkerRefusal>>;
}

impl WorkerPort for service_kit::Client {
    fn sign_doc<'a>(
        &'a self,
        request: &'a WorkerRequest,
    ) -> Asked<'a, SignDocResponse, CallError<WorkerRefusal>> {
        Box::pin(self.call::<WorkerSignDoc>(request))
    }
}

/// The RA and CA that turn an enrolment into a certificate (`sap.md` §8, steps 5 and 6).
pub trait CertifyPort: Send + Sync {
    /// Asks for approval and certificate.
    fn certify<'a>(
        &'a self,
        request: &'a CertifyRequest,
    ) -> Asked<'a, CertifyResponse, CertifyError>;
}

/// Why there is no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertifyError {
    /// The RA or CA said no.
    #[error("the registration authority refused (status {0})")]
    Refused(u16),
    /// No usable answer came; asking again later is right.
    #[error("the registration authority gave no usable answer")]
    Unreachable,
}

/// `POST /ra/certify` over HTTP.
#[derive(Debug, Clone)]
pub struct HttpCertifier {
    url: String,
    http: reqwest::Client,
}

impl HttpCertifier {
    /// A certifier behind `url`, the whole address of the method. Requests for certificates leave over TLS only, except to this
    /// machine itself.
    ///
    /// # Errors
    /// [`Trouble`] when the address isn't one of HTTPS, or the TLS material can't be used.
    pub fn new(url: impl Into<String>, options: &HttpOptions) -> Result<Self, Trouble> {
        let url = url.into();
        if !is_secure(&url) {
            return Err(Trouble::new(
                "ra-address",
                format!("the registration authority's address is {url:?}"),
                "give an address that begins with https://",
            ));
        }
        Ok(Self {
            url,
            http: service_kit::http::client(options)?,
        })
    }
}

fn is_secure(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else {
        return false;
    };
    let here = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && here)
}

impl CertifyPort for HttpCertifier {
    fn certify<'a>(
        &'a self,
        request: &'a CertifyRequest,
    ) -> Asked<'a, CertifyResponse, CertifyError> {
        Box::pin(async move {
            let unreachable = |_| CertifyError::Unreachable;
            let answer = self.http.post(&self.url).json(request).send().await;
            let answer = answer.map_err(unreachable)?;
            let status = answer.status();
            if status.is_client_error() {
                return Err(CertifyError::Refused(status.as_u16()));
            }
            answer.json().await.map_err(unreachable)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // shows: II-3.1.3-csr-secure-channel, T-REG-CSR-ALTER
    #[test]
    fn requests_for_certificates_leave_over_tls_only() {
        let made = |url: &str| HttpCertifier::new(url, &HttpOptions::default());
        for good in [
            "https://ra.example.jp/ra/certify",
            "http://127.0.0.1:8404/ra/certify",
            "http://[::1]/ra/certify",
            "http://ca.localhost:8404/ra/certify",
        ] {
            assert!(made(good).is_ok(), "{good}");
        }
        for bad in [
            "http://ra.example.jp/ra/certify",
            "http://10.0.0.1/ra/certify",
            "http://localhost.evil.example/",
            "http://notlocalhost/",
            "ftp://127.0.0.1/",
            "ra.example.jp",
            "",
        ] {
            assert!(made(bad).is_err(), "{bad}");
        }
    }
}
