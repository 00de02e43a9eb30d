//! Accepting a certificate, and what a document's signedAttrs must say about it (`sap.md` §4, §8.6).

use core_types::{Digest32, UnixTime, sha256};
use pki::signed_attrs::{minimal_signed_attrs, parse_signed_attrs_strict};
use pki::{Certificate, Purpose, path};
use sap::enrol::Subject;

use crate::{Reason, csr};

/// How far signingTime may lie from the SAM's clock, in seconds.
pub const CLOCK_BOUND: i64 = 600;

/// A certificate that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// SHA-256 of its DER.
    pub digest: Digest32,
    /// Its subject as text (RFC 4514).
    pub subject: String,
    /// It is valid before this time.
    pub until: UnixTime,
}

/// Accepts a certificate for the key `spki` and `subject` only: same key, same name, and a path that ends at one of
/// the pinned `issuers`. `chain` is DER, the signer's certificate first.
///
/// # Errors
/// [`Reason::Registration`] naming the check.
pub fn accept(
    chain: &[Vec<u8>],
    spki: &[u8],
    subject: &Subject,
    issuers: &[Vec<u8>],
    now: UnixTime,
) -> Result<Accepted, Reason> {
    let bad = Reason::Registration;
    let (leaf, rest) = chain.split_first().ok_or(bad("no certificate"))?;
    if chain.len() > 8 || chain.iter().any(|c| c.len() > 32 * 1024) {
        return Err(bad("too many or too large certificates"));
    }
    let parsed = Certificate::parse(leaf).map_err(|_| bad("malformed certificate"))?;
    if parsed.spki() != spki {
        return Err(bad("certificate for another key"));
    }
    if parsed.subject() != csr::subject_name(subject)? {
        return Err(bad("certificate for another subject"));
    }
    path::validate(leaf, rest, issuers, now, Purpose::Signing)
        .map_err(|_| bad("no valid path to a pinned issuer"))?;
    if parsed.basic_constraints().map_or(true, |b| b.ca) {
        return Err(bad("certificate of a CA"));
    }
    Ok(Accepted {
        digest: sha256(&[leaf]),
        subject: parsed.subject_text(),
        until: parsed.not_after(),
    })
}

/// The signedAttrs of a document hash: checks those given, or builds the minimal set.
///
/// # Errors
/// [`Reason::Invalid`] when they bind another document or certificate, or contain what isn't allowed.
pub fn signed_attrs(
    document: &[u8],
    given: Option<&[u8]>,
    certificate: &[u8],
    now: UnixTime,
) -> Result<Vec<u8>, Reason> {
    let bad = Reason::Invalid("items.doc.signed_attrs");
    let Some(der) = given else {
        return minimal_signed_attrs(document, certificate).map_err(|_| bad);
    };
    let certificate = Certificate::parse(certificate).map_err(|_| bad.clone())?;
    let parsed = parse_signed_attrs_strict(der).map_err(|_| bad.clone())?;
    parsed
        .check(document, &certificate)
        .map_err(|_| bad.clone())?;
    let timely = |at: UnixTime| at.0.abs_diff(now.0) <= CLOCK_BOUND.unsigned_abs();
    if !parsed.signing_time.is_none_or(timely) {
        return Err(bad);
    }
    Ok(der.to_vec())
}
