//! Judging counter-signatures (RFC 5652 §11.4): each by itself, and none changes what the signer's own signature is worth.

use core_types::UnixTime;
use pki::Certificate;
use pki::cms::{SignedData, SignerInfo};
use pki::path::{Path, Purpose};
use pki::revocation::{self, Evidence};
use pki::{oid, path};

use crate::report::{CounterReport, Reason, Verdict};
use crate::verify::{
    Fault, Trust, candidates, claimed_time, crypto_fault, path_fault, revocation_fault,
};

/// At most so many are looked at: the attribute isn't signed, and anybody can add more.
const MOST: usize = 8;

pub(crate) fn judge(
    signer: &SignerInfo,
    signed: &SignedData,
    trust: &Trust,
    evidence: &Evidence,
    at: UnixTime,
) -> Vec<CounterReport> {
    let infos = infos(signer);
    let judged = infos.map(|der| {
        let mut report = CounterReport {
            verdict: Verdict::Passed,
            reason: None,
            detail: None,
            signer: None,
            claimed_time: None,
        };
        if let Err((reason, detail)) = one(&mut report, der, signer, signed, trust, evidence, at) {
            report.verdict = reason.verdict();
            report.reason = Some(reason);
            report.detail = Some(detail);
        }
        report
    });
    judged.collect()
}

/// The paths of the counter-signers, for gathering what is known of their revocation.
pub(crate) fn paths<'a>(
    signer: &'a SignerInfo,
    signed: &'a SignedData,
    trust: &'a Trust,
    at: UnixTime,
) -> impl Iterator<Item = Path> + 'a {
    let certs = infos(signer)
        .filter_map(|der| signed.signer_certificate(&SignerInfo::single(der).ok()?, &[]));
    certs.filter_map(move |cert| path_of(&cert, signed, trust, at).ok())
}

fn infos(signer: &SignerInfo) -> impl Iterator<Item = &Vec<u8>> {
    let attributes = signer.unsigned.iter();
    attributes
        .filter(|a| a.oid == oid::COUNTER_SIGNATURE)
        .flat_map(|a| &a.values)
        .take(MOST)
}

fn one(
    report: &mut CounterReport,
    der: &[u8],
    signer: &SignerInfo,
    signed: &SignedData,
    trust: &Trust,
    evidence: &Evidence,
    at: UnixTime,
) -> Result<(), Fault> {
    let info = SignerInfo::single(der).map_err(|e| (Reason::FormatFailure, e.to_string()))?;
    report.claimed_time = claimed_time(&info);
    let cert = signed.signer_certificate(&info, &trust.intermediates);
    let cert = cert.ok_or_else(|| {
        let detail = "the counter-signer's certificate is not included".to_owned();
        (Reason::NoSigningCertificateFound, detail)
    })?;
    report.signer = Some(cert.subject_text());
    pki::counter::verify(&info, &signer.signature, &cert).map_err(crypto_fault)?;
    let path = path_of(&cert, signed, trust, at).map_err(|e| path_fault(&e))?;
    for (index, (cert, issuer)) in path.links().enumerate() {
        let state = revocation::state(cert, issuer, evidence, at);
        if let Some(fault) = revocation_fault(&state, index, at, false, cert) {
            return Err(fault);
        }
    }
    Ok(())
}

fn path_of(
    cert: &Certificate,
    signed: &SignedData,
    trust: &Trust,
    at: UnixTime,
) -> Result<Path, path::PathError> {
    let candidates = candidates(signed, trust);
    path::validate(
        cert.der(),
        &candidates,
        &trust.anchors,
        at,
        Purpose::Signing,
    )
}
