//! Validation of signatures with time (EN 319 102-1 §5.3 and §5.5), in one pass over immutable inputs.

use core_types::{Approvals, HashAlg, KeyAlg, UnixTime};
use pki::alg::{PublicKeyKind, public_key_kind};
use pki::asn1::Tlv;
use pki::cms::{SignedData, SignerError, SignerInfo};
use pki::fetch::Fetch;
use pki::path::{self, Path, PathError, Purpose};
use pki::revocation::{self, Evidence, State};
use pki::tsp::{self, TspError, VerifiedToken};
use pki::{Certificate, oid};

use crate::counter;
use crate::report::{CertStatus, CmsReport, Reason, Revocation, TimeStampReport, Verdict};

/// CRLReason certificateHold: a suspension, which may be lifted.
const HOLD: u32 = 6;

/// Whom the verifier trusts, DER certificates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trust {
    /// Anchors of signers.
    pub anchors: Vec<Vec<u8>>,
    /// Anchors of time-stamping authorities.
    pub tsa_anchors: Vec<Vec<u8>>,
    /// Further certificates that may help to build a path; not trusted by themselves.
    pub intermediates: Vec<Vec<u8>>,
    /// Which keys' signatures are trusted, and until when.
    pub approvals: Approvals,
}

pub(crate) type Fault = (Reason, String);

/// Verifies one detached CMS signature as of `at`. `content_digest` hashes the signed content with the function
/// asked for.
///
/// Never fails as a function: whatever is wrong is in the report.
pub fn verify(
    cms: &[u8],
    content_digest: &dyn Fn(HashAlg) -> Vec<u8>,
    trust: &Trust,
    evidence: &Evidence,
    at: UnixTime,
) -> CmsReport {
    let mut report = CmsReport {
        verdict: Verdict::Passed,
        reason: None,
        detail: None,
        intact: false,
        signer: None,
        chain: Vec::new(),
        revocation: Vec::new(),
        sig_alg: None,
        claimed_time: None,
        counters: Vec::new(),
        timestamps: Vec::new(),
        best_signature_time: at,
    };
    if let Err((reason, detail)) = judge(&mut report, cms, content_digest, trust, evidence, at) {
        report.verdict = reason.verdict();
        report.reason = Some(reason);
        report.detail = Some(detail);
    }
    report
}

fn judge(
    report: &mut CmsReport,
    cms: &[u8],
    content_digest: &dyn Fn(HashAlg) -> Vec<u8>,
    trust: &Trust,
    evidence: &Evidence,
    at: UnixTime,
) -> Result<(), Fault> {
    let format = |detail: String| (Reason::FormatFailure, detail);
    let signed = SignedData::parse(cms).map_err(|e| format(e.to_string()))?;
    let [signer] = signed.signers.as_slice() else {
        return Err(format(format!(
            "{} signers instead of one",
            signed.signers.len()
        )));
    };
    if signed.content.is_some() || signed.content_type != oid::DATA {
        return Err(format("the signature is not detached over data".to_owned()));
    }
    let evidence = merged(evidence, &signed);
    report.sig_alg = signer.sig_alg.clone().ok();
    report.claimed_time = claimed_time(signer);
    let cert = signed
        .signer_certificate(signer, &trust.intermediates)
        .ok_or_else(|| {
            let detail = "the signer's certificate is not included".to_owned();
            (Reason::NoSigningCertificateFound, detail)
        })?;
    report.signer = Some(cert.info());
    // Cryptographic failure outranks everything that follows, so it comes first.
    signer
        .verify(oid::DATA, content_digest, cert.spki())
        .map_err(crypto_fault)?;
    signer
        .check_signing_certificate(&cert, false)
        .map_err(crypto_fault)?;
    report.intact = true;
    report.counters = counter::judge(signer, &signed, trust, &evidence, at);

    let tokens = signer
        .unsigned
        .iter()
        .filter(|a| a.oid == oid::SIGNATURE_TIME_STAMP);
    for token in tokens.flat_map(|a| &a.values) {
        let stamp = judge_timestamp(token, signer, &signed, trust, &evidence, at);
        if stamp.verdict == Verdict::Passed
            && let Some(time) = stamp.time
        {
            report.best_signature_time = report.best_signature_time.min(time);
        }
        report.timestamps.push(stamp);
    }

    let best = report.best_signature_time;
    let proved = report.proved_time().is_some();
    let path = chain(&cert, &signed, trust, at, best, proved)?;
    report.chain = path.certificates.iter().map(Certificate::info).collect();
    let mut first_fault = outdated(&path, trust, best);
    for (index, (cert, issuer)) in path.links().enumerate() {
        let state = state_with_time(cert, issuer, &evidence, at, best);
        let fault = revocation_fault(&state, index, best, proved, cert);
        report.revocation.push(status(cert, &state));
        first_fault = first_fault.or(fault);
    }
    first_fault.map_or(Ok(()), Err)
}

/// A key of the path whose kind isn't trusted any more at the time at which the signature is proved to have existed
/// (§5.2.8.4.2, §5.6.2.4).
fn outdated(path: &Path, trust: &Trust, at: UnixTime) -> Option<Fault> {
    path.certificates.iter().find_map(|cert| {
        let kind = approved_as(cert);
        let end = kind.and_then(|kind| trust.approvals.verify_until(kind));
        let detail = match (kind, end) {
            (_, Some(end)) if at < end => return None,
            (Some(kind), Some(end)) => format!("signatures of {kind} keys are trusted until {end}"),
            (Some(kind), None) => format!("signatures of {kind} keys aren't trusted"),
            (None, _) => "a key of a kind that isn't trusted".to_owned(),
        };
        let detail = format!("{}: {detail}", cert.subject_text());
        Some((Reason::CryptoConstraintsFailureNoPoe, detail))
    })
}

/// Kind of the certificate's key in the table of approvals: RSA of another length counts as the next shorter one.
fn approved_as(cert: &Certificate) -> Option<KeyAlg> {
    Some(match public_key_kind(cert.spki())? {
        PublicKeyKind::Rsa(4096..) => KeyAlg::Rsa4096,
        PublicKeyKind::Rsa(3072..) => KeyAlg::Rsa3072,
        PublicKeyKind::Rsa(2048..) => KeyAlg::Rsa2048,
        PublicKeyKind::Rsa(_) => return None,
        PublicKeyKind::P256 => KeyAlg::P256,
        PublicKeyKind::P384 => KeyAlg::P384,
        PublicKeyKind::P521 => KeyAlg::P521,
        PublicKeyKind::Ed25519 => KeyAlg::Ed25519,
        PublicKeyKind::MlDsa65 => KeyAlg::MlDsa65,
        PublicKeyKind::MlDsa87 => KeyAlg::MlDsa87,
    })
}

/// Revocation data in the signature counts like any other.
fn merged(evidence: &Evidence, signed: &SignedData) -> Evidence {
    let mut all = evidence.clone();
    all.crls.extend(signed.crls.iter().cloned());
    all.ocsp_responses
        .extend(signed.ocsp_responses.iter().cloned());
    all
}

pub(crate) fn claimed_time(signer: &SignerInfo) -> Option<UnixTime> {
    let value = signer.signed_attr(oid::SIGNING_TIME).ok()?;
    Tlv::single(value, "signingTime")
        .ok()?
        .as_time("signingTime")
        .ok()
}

pub(crate) fn crypto_fault(error: SignerError) -> Fault {
    let reason = match &error {
        SignerError::Malformed(_) | SignerError::ContentType | SignerError::AlgorithmsDiffer => {
            Reason::FormatFailure
        }
        SignerError::Algorithm(_) => Reason::CryptoConstraintsFailureNoPoe,
        SignerError::MissingAttribute(_) | SignerError::RepeatedAttribute(_) => {
            Reason::SigConstraintsFailure
        }
        SignerError::MessageDigest => Reason::HashFailure,
        SignerError::OtherCertificate => Reason::NoSigningCertificateFound,
        SignerError::Signature(_) => Reason::SigCryptoFailure,
    };
    (reason, error.to_string())
}

pub(crate) fn path_fault(error: &PathError) -> Fault {
    let reason = match error {
        PathError::NoIssuer { .. } => Reason::NoCertificateChainFound,
        PathError::Expired { .. } | PathError::NotYetValid { .. } => Reason::OutOfBoundsNoPoe,
        PathError::NotCa { .. }
        | PathError::PathTooLong { .. }
        | PathError::KeyUsage { .. }
        | PathError::ExtKeyUsage { .. }
        | PathError::UnknownCritical { .. } => Reason::ChainConstraintsFailure,
        PathError::Malformed(_)
        | PathError::BadSignature { .. }
        | PathError::BadExtension { .. }
        | PathError::TooManySteps(_) => Reason::CertificateChainGeneralFailure,
    };
    (reason, error.to_string())
}

pub(crate) fn candidates(signed: &SignedData, trust: &Trust) -> Vec<Vec<u8>> {
    signed
        .certificates
        .iter()
        .chain(&trust.intermediates)
        .cloned()
        .collect()
}

/// The signer's path at the time in question; where only validity is over, at the proved time (§5.5.4 step 4).
fn chain(
    cert: &Certificate,
    signed: &SignedData,
    trust: &Trust,
    at: UnixTime,
    best: UnixTime,
    proved: bool,
) -> Result<Path, Fault> {
    let candidates = candidates(signed, trust);
    let validate = |at| {
        path::validate(
            cert.der(),
            &candidates,
            &trust.anchors,
            at,
            Purpose::Signing,
        )
    };
    if proved && best < cert.not_before() {
        let detail = format!(
            "signed by {best}, the certificate is valid from {}",
            cert.not_before()
        );
        return Err((Reason::NotYetValid, detail));
    }
    match validate(at) {
        Err(error) if error.is_out_of_bounds() && proved && best < at => {
            validate(best).map_err(|e| path_fault(&e))
        }
        other => other.map_err(|e| path_fault(&e)),
    }
}

/// The state as of now; where no data is fresh enough now, as of the proved time (§5.5.4 step 7).
fn state_with_time(
    cert: &Certificate,
    issuer: &Certificate,
    evidence: &Evidence,
    at: UnixTime,
    best: UnixTime,
) -> State {
    match revocation::state(cert, issuer, evidence, at) {
        State::Unknown(notes) if best < at => {
            match revocation::state(cert, issuer, evidence, best) {
                State::Unknown(_) => State::Unknown(notes),
                known => known,
            }
        }
        state => state,
    }
}

pub(crate) fn revocation_fault(
    state: &State,
    index: usize,
    best: UnixTime,
    proved: bool,
    cert: &Certificate,
) -> Option<Fault> {
    let subject = cert.subject_text();
    match *state {
        State::Good { .. } => None,
        State::Unknown(_) => Some((
            Reason::TryLater,
            format!("no usable revocation data for {subject}"),
        )),
        State::Revoked { at, .. } if proved && best < at => None,
        State::Revoked {
            at, reason: HOLD, ..
        } => Some((
            Reason::TryLater,
            format!("{subject} is suspended since {at}"),
        )),
        State::Revoked { at, reason, .. } => {
            let code = if index == 0 {
                Reason::RevokedNoPoe
            } else {
                Reason::RevokedCaNoPoe
            };
            Some((
                code,
                format!("{subject} was revoked at {at} (reason {reason})"),
            ))
        }
    }
}

fn plain(state: &State) -> Revocation {
    match *state {
        State::Good { this_update, .. } => Revocation::Good { as_of: this_update },
        State::Revoked { at, reason, .. } => Revocation::Revoked { at, reason },
        State::Unknown(_) => Revocation::Unknown,
    }
}

fn status(cert: &Certificate, state: &State) -> CertStatus {
    let notes = match state {
        State::Unknown(notes) => notes.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    };
    CertStatus {
        subject: cert.subject_text(),
        revocation: plain(state),
        notes,
    }
}

/// One time-stamp (§5.4): the token, its authority's path at the stated time, and that no certificate of that
/// path has expired or been revoked since, because nothing newer proves the token's own age.
fn judge_timestamp(
    token: &[u8],
    signer: &SignerInfo,
    signed: &SignedData,
    trust: &Trust,
    evidence: &Evidence,
    at: UnixTime,
) -> TimeStampReport {
    let imprint = |hash: HashAlg| hash.digest(&signer.signature);
    let trust = Trust {
        intermediates: candidates(signed, trust),
        ..trust.clone()
    };
    verify_timestamp(token, &imprint, &trust, evidence, at)
}

/// Verifies a time-stamp token (DER ContentInfo) as of `at`, such as that of a document time-stamp. `imprint`
/// hashes the stamped data with the function asked for.
///
/// Never fails as a function: whatever is wrong is in the report.
pub fn verify_timestamp(
    token: &[u8],
    imprint: &dyn Fn(HashAlg) -> Vec<u8>,
    trust: &Trust,
    evidence: &Evidence,
    at: UnixTime,
) -> TimeStampReport {
    let extra = &trust.intermediates;
    let verified = match tsp::verify_token(token, imprint, None, extra, &trust.tsa_anchors) {
        Ok(verified) => verified,
        Err(error) => {
            let (reason, detail) = timestamp_fault(&error);
            return TimeStampReport {
                verdict: reason.verdict(),
                reason: Some(reason),
                detail: Some(detail),
                time: None,
                tsa: None,
                revocation: None,
            };
        }
    };
    let mut evidence = evidence.clone();
    if let Ok(inner) = SignedData::parse(token) {
        evidence = merged(&evidence, &inner);
    }
    let fault =
        token_fault(&verified, &evidence, at).or_else(|| outdated(&verified.path, trust, at));
    let tsa = verified.tsa().map(|c| {
        let info = c.info();
        info.common_name.unwrap_or(info.subject)
    });
    let revocation = verified.path.links().next();
    let revocation = revocation.map(|(c, i)| plain(&revocation::state(c, i, &evidence, at)));
    TimeStampReport {
        verdict: fault
            .as_ref()
            .map_or(Verdict::Passed, |(reason, _)| reason.verdict()),
        reason: fault.as_ref().map(|(reason, _)| *reason),
        detail: fault.map(|(_, detail)| detail),
        time: Some(verified.info.gen_time),
        tsa,
        revocation,
    }
}

fn token_fault(verified: &VerifiedToken, evidence: &Evidence, at: UnixTime) -> Option<Fault> {
    let time = verified.info.gen_time;
    if time > at {
        let detail = format!("the time-stamp is of {time}, later than {at}");
        return Some((Reason::CertificateChainGeneralFailure, detail));
    }
    for (index, (cert, issuer)) in verified.path.links().enumerate() {
        if at > cert.not_after() {
            let detail = format!(
                "{} was valid until {}",
                cert.subject_text(),
                cert.not_after()
            );
            return Some((Reason::OutOfBoundsNoPoe, detail));
        }
        let state = revocation::state(cert, issuer, evidence, at);
        if let Some(fault) = revocation_fault(&state, index, at, false, cert) {
            return Some(fault);
        }
    }
    None
}

fn timestamp_fault(error: &TspError) -> Fault {
    let reason = match error {
        TspError::Imprint => Reason::HashFailure,
        TspError::NoCertificate => Reason::NoSigningCertificateFound,
        TspError::Signer(inner) => return crypto_fault(inner.clone()),
        TspError::Path(inner) => return path_fault(inner),
        TspError::Algorithm(_) => Reason::CryptoConstraintsFailureNoPoe,
        _ => Reason::FormatFailure,
    };
    (reason, error.to_string())
}

/// Fetches what [`verify`] needs to know about revocation: for every certificate between signer and anchor, and
/// between each time-stamping authority and anchor.
pub async fn gather(cms: &[u8], trust: &Trust, at: UnixTime, fetch: &dyn Fetch) -> Evidence {
    let mut evidence = Evidence::default();
    let Ok(signed) = SignedData::parse(cms) else {
        return evidence;
    };
    let candidates = candidates(&signed, trust);
    let mut paths = Vec::new();
    for signer in &signed.signers {
        if let Some(cert) = signed.signer_certificate(signer, &trust.intermediates) {
            let validate = |at| {
                path::validate(
                    cert.der(),
                    &candidates,
                    &trust.anchors,
                    at,
                    Purpose::Signing,
                )
            };
            paths.extend(validate(at).or_else(|_| validate(cert.not_before())));
        }
        paths.extend(counter::paths(signer, &signed, trust, at));
        let tokens = signer
            .unsigned
            .iter()
            .filter(|a| a.oid == oid::SIGNATURE_TIME_STAMP);
        for token in tokens.flat_map(|a| &a.values) {
            let imprint = |hash: HashAlg| hash.digest(&signer.signature);
            let verified =
                tsp::verify_token(token, &imprint, None, &candidates, &trust.tsa_anchors);
            paths.extend(verified.map(|v| v.path));
        }
    }
    let mut seen: Vec<&Certificate> = Vec::new();
    for (cert, issuer) in paths.iter().flat_map(Path::links) {
        if !seen.contains(&cert) {
            seen.push(cert);
            let found = revocation::gather(cert, issuer, at, fetch).await;
            evidence.crls.extend(found.crls);
            evidence.ocsp_responses.extend(found.ocsp_responses);
        }
    }
    evidence
}
