//! Revocation state of one certificate, from whatever CRLs and OCSP responses there are.

use core_types::UnixTime;

use crate::asn1::DerError;
use crate::cert::Certificate;
use crate::crl::{Crl, CrlError};
use crate::fetch::Fetch;
use crate::ocsp::{self, BasicResponse, CertId, CertStatus, OcspError, OcspRequest};

/// Longest CRL that is read, in bytes.
pub const MAX_CRL: usize = 20 * 1024 * 1024;
/// How far the issuer's clock may be ahead of ours, seconds.
const SKEW: i64 = 300;

/// Revocation data as received, for any certificates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// DER CertificateLists.
    pub crls: Vec<Vec<u8>>,
    /// DER OCSPResponses.
    pub ocsp_responses: Vec<Vec<u8>>,
}

/// Kind of revocation data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Certificate revocation list.
    Crl,
    /// OCSP response.
    Ocsp,
}

/// State of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not revoked as of `this_update`.
    Good {
        /// Where this is from.
        source: Source,
        /// How old the information is.
        this_update: UnixTime,
    },
    /// Revoked.
    Revoked {
        /// Where this is from.
        source: Source,
        /// Since when.
        at: UnixTime,
        /// CRLReason; 6 is certificateHold.
        reason: u32,
    },
    /// Nothing usable says anything; why each piece of data wasn't usable.
    Unknown(Vec<Unusable>),
}

/// Why a piece of revocation data says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// A CRL that isn't acceptable.
    #[error(transparent)]
    Crl(#[from] CrlError),
    /// An OCSP response that isn't acceptable.
    #[error(transparent)]
    Ocsp(#[from] OcspError),
    /// Not DER.
    #[error(transparent)]
    Malformed(#[from] DerError),
    /// Made after the time in question.
    #[error("the revocation data is of {this_update}, later than {at}")]
    Future {
        /// When it was made.
        this_update: UnixTime,
        /// The time in question.
        at: UnixTime,
    },
    /// Signed before it was known.
    #[error("the revocation data is of {this_update}, but was signed at {produced_at}")]
    Premature {
        /// When it was known to be so.
        this_update: UnixTime,
        /// When it was signed.
        produced_at: UnixTime,
    },
    /// Newer data must have appeared before the time in question.
    #[error(
        "the revocation data was to be replaced by {next_update}, the time in question is {at}"
    )]
    Stale {
        /// When newer data was due.
        next_update: UnixTime,
        /// The time in question.
        at: UnixTime,
    },
    /// Made before the certificate, or after its expiry, when issuers drop entries.
    #[error("the revocation data of {0} is from outside the certificate's validity")]
    OutsideValidity(UnixTime),
    /// The responder doesn't know the certificate.
    #[error("the OCSP responder does not know the certificate")]
    NotKnown,
}

/// Judges all data about `cert` as of `at`. Any acceptable statement that it is revoked wins; otherwise the
/// newest statement that it is good.
pub fn state(cert: &Certificate, issuer: &Certificate, evidence: &Evidence, at: UnixTime) -> State {
    let mut unusable = Vec::new();
    let mut best: Option<State> = None;
    let crls = evidence.crls.iter().map(|der| (Source::Crl, der));
    let responses = evidence
        .ocsp_responses
        .iter()
        .map(|der| (Source::Ocsp, der));
    for (source, der) in crls.chain(responses) {
        let judged = match source {
            Source::Crl => from_crl(cert, issuer, der, at),
            Source::Ocsp => from_ocsp(cert, issuer, der, at),
        };
        match judged {
            Ok(None) => {}
            Err(reason) => unusable.push(reason),
            Ok(Some(statement)) => best = Some(better(best, statement)),
        }
    }
    best.unwrap_or(State::Unknown(unusable))
}

fn better(old: Option<State>, new: State) -> State {
    match (old, new) {
        (None, new) => new,
        (Some(old @ State::Revoked { at: a, .. }), State::Revoked { at: b, .. }) if a <= b => old,
        (Some(old @ State::Revoked { .. }), State::Good { .. }) => old,
        (Some(old @ State::Good { this_update: a, .. }), State::Good { this_update: b, .. })
            if a >= b =>
        {
            old
        }
        (_, new) => new,
    }
}

fn from_crl(
    cert: &Certificate,
    issuer: &Certificate,
    der: &[u8],
    at: UnixTime,
) -> Result<Option<State>, Unusable> {
    let crl = Crl::parse(der)?;
    match crl.verify(issuer) {
        Err(CrlError::OtherIssuer) => return Ok(None),
        other => other?,
    }
    let entry = crl.entry(cert.serial());
    check_times(cert, crl.this_update, crl.next_update, at, entry.is_some())?;
    let source = Source::Crl;
    Ok(Some(match entry {
        Some(entry) => State::Revoked {
            source,
            at: entry.at,
            reason: entry.reason,
        },
        None => State::Good {
            source,
            this_update: crl.this_update,
        },
    }))
}

fn from_ocsp(
    cert: &Certificate,
    issuer: &Certificate,
    der: &[u8],
    at: UnixTime,
) -> Result<Option<State>, Unusable> {
    let response = BasicResponse::parse(der)?;
    let Some(answer) = response.answer(cert, issuer) else {
        return Ok(None);
    };
    let revoked = matches!(answer.status, CertStatus::Revoked { .. });
    // Revocation lasts, so who could state it then is believed later.
    response.verify(issuer, if revoked { response.produced_at } else { at })?;
    if answer.this_update > response.produced_at {
        return Err(Unusable::Premature {
            this_update: answer.this_update,
            produced_at: response.produced_at,
        });
    }
    if !revoked && response.produced_at > at.plus(SKEW) {
        return Err(Unusable::Future {
            this_update: response.produced_at,
            at,
        });
    }
    check_times(cert, answer.this_update, answer.next_update, at, revoked)?;
    let source = Source::Ocsp;
    match answer.status {
        CertStatus::Good => Ok(Some(State::Good {
            source,
            this_update: answer.this_update,
        })),
        CertStatus::Revoked { at, reason } => Ok(Some(State::Revoked { source, at, reason })),
        CertStatus::Unknown => Err(Unusable::NotKnown),
    }
}

/// Revocation lasts, so an old statement of it counts; that a certificate is good must be fresh.
fn check_times(
    cert: &Certificate,
    this_update: UnixTime,
    next_update: Option<UnixTime>,
    at: UnixTime,
    revoked: bool,
) -> Result<(), Unusable> {
    if this_update > at.plus(SKEW) {
        return Err(Unusable::Future { this_update, at });
    }
    if revoked {
        return Ok(());
    }
    // Without nextUpdate newer information is always available (RFC 6960 §4.2.2.1), so only the moment counts.
    let next_update = next_update.unwrap_or(this_update.plus(SKEW));
    if at > next_update {
        return Err(Unusable::Stale { next_update, at });
    }
    if this_update.plus(SKEW) < cert.not_before() || this_update > cert.not_after() {
        return Err(Unusable::OutsideValidity(this_update));
    }
    Ok(())
}

/// Fetches revocation data for one certificate: OCSP from the first responder whose answer says something as of
/// `at`, else from CRLs. Answers that say nothing are kept too, so that [`state`] can tell why, but never end the
/// search.
pub async fn gather(
    cert: &Certificate,
    issuer: &Certificate,
    at: UnixTime,
    fetch: &dyn Fetch,
) -> Evidence {
    let mut evidence = Evidence::default();
    let id = CertId::new(issuer, cert.serial(), None);
    let request = OcspRequest {
        certificates: vec![id],
        nonce: None,
    }
    .encode();
    for url in cert.ocsp_urls() {
        let answer = fetch
            .post(
                &url,
                ocsp::REQUEST_TYPE,
                request.clone(),
                ocsp::MAX_RESPONSE,
            )
            .await;
        if let Ok(der) = answer {
            let usable = matches!(from_ocsp(cert, issuer, &der, at), Ok(Some(_)));
            evidence.ocsp_responses.push(der);
            if usable {
                return evidence;
            }
        }
    }
    for url in cert.crl_urls() {
        if let Ok(der) = fetch.get(&url, MAX_CRL).await {
            let usable = matches!(from_crl(cert, issuer, &der, at), Ok(Some(_)));
            evidence.crls.push(der);
            if usable {
                return evidence;
            }
        }
    }
    evidence
}
