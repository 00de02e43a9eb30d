//! Verification of a signed file: its structure, its cryptography and its changes in one report.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};

use cades::{CmsReport, CounterReport, Revocation, TimeStampReport, Trust, Verdict};
use core_types::{HashAlg, UnixTime};
use pdf_update::{Metered, Object, Pdf, Source};
use pki::cms::SignedData;
use pki::fetch::Fetch;
use pki::revocation::{self, Evidence};
use pki::tsp::{self, TstInfo};
use serde::Serialize;

use crate::Result;
use crate::found::{Coverage, FoundSignature, SignatureKind, signatures};

/// Objects of one kind that are taken from a document security store.
const MAX_STORED: usize = 500;
/// Size of all of them together, bytes.
const MAX_STORED_SIZE: usize = 64 << 20;

/// What was found out about a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Passed only if there is a signature, and all signatures and document time-stamps passed.
    pub verdict: Verdict,
    /// Reasons that concern the whole file; those of signatures are with them.
    pub reasons: Vec<ReportReason>,
    /// Signatures and document time-stamps in the order of their revisions.
    pub signatures: Vec<SignatureReport>,
}

/// Why something did not pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportReason {
    /// Stable code: a sub-indication of EN 319 102-1, or one of `no-signature`, `pdf-signature-broken`,
    /// `pdf-partly-signed`, `pdf-changed`, `pdf-changes-not-evaluated`, `pdf-signature-format`.
    pub code: &'static str,
    /// The same in words.
    pub what: String,
}

/// Where the time of a signature comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeSource {
    /// A verified time-stamp.
    Timestamp,
    /// The signer's own statement.
    Claimed,
    /// Nobody says.
    None,
}

/// A counter-signature: a provider's shows where the signature was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CounterSignatureReport {
    /// Whether it is one over this signature by somebody who is trusted.
    pub verdict: Verdict,
    /// Who made it: subject of the certificate, RFC 4514.
    pub signer: Option<String>,
    /// When, as they say, RFC 3339.
    pub claimed_time: Option<String>,
    /// Why not passed.
    pub reason: Option<ReportReason>,
}

impl From<&CounterReport> for CounterSignatureReport {
    fn from(of: &CounterReport) -> Self {
        Self {
            verdict: of.verdict,
            signer: of.signer.clone(),
            claimed_time: of.claimed_time.map(UnixTime::rfc3339),
            reason: of.reason.map(|reason| ReportReason {
                code: reason.code(),
                what: of.detail.clone().unwrap_or_default(),
            }),
        }
    }
}

/// One signature or document time-stamp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignatureReport {
    /// Name of the field.
    pub field: String,
    /// `signature` or `document-timestamp`.
    pub kind: &'static str,
    /// Outcome.
    pub verdict: Verdict,
    /// Why not passed.
    pub reasons: Vec<ReportReason>,
    /// commonName of the signer's or time-stamping authority's certificate.
    pub signer: Option<String>,
    /// Its subject, RFC 4514.
    pub signer_subject: Option<String>,
    /// Serial number of the certificate, hexadecimal.
    pub certificate_serial: Option<String>,
    /// Whether the signed bytes are as they were, and later changes such as are allowed.
    pub unchanged: bool,
    /// `good` when the certificate leads to a trust anchor, else `undetermined`.
    pub certificate: &'static str,
    /// `good`, `revoked` or `unknown`: the signer's certificate.
    pub revocation: &'static str,
    /// `good` (a verified time-stamp), `none`, `undetermined` or `bad`.
    pub time: &'static str,
    /// When it was signed, RFC 3339.
    pub signing_time: Option<String>,
    /// Who says so.
    pub time_source: TimeSource,
    /// The time-stamping authority.
    pub tsa: Option<String>,
    /// Counter-signatures over the value. None changes the verdict.
    pub counter_signatures: Vec<CounterSignatureReport>,
    /// `B-B` or `B-T` for PAdES signatures.
    pub level: Option<&'static str>,
    /// `/SubFilter`.
    pub sub_filter: String,
    /// `ENTIRE_FILE`, `ENTIRE_REVISION`, `PARTIAL` or `BROKEN`.
    pub coverage: &'static str,
    /// Length of the signed revision in bytes.
    pub revision_len: u64,
    /// `NONE`, `LTA_UPDATES`, `FORM_FILLING` or `OTHER`.
    pub modification_level: &'static str,
    /// `full`, `budget_exceeded` or `not_possible`.
    pub evaluated: &'static str,
    /// Signature fields that were added or filled later.
    pub later_fields: Vec<String>,
    /// Changes that no rule explains.
    pub unexplained: Vec<String>,
    /// Certification level in force, 1 to 3.
    pub doc_mdp: Option<u8>,
}

/// [`signatures`] and [`verify`] in one, with revocation data that is already there.
///
/// # Errors
/// When the file is no readable PDF. A bad signature is a result, not an error.
pub fn verify_file(
    source: &dyn Source,
    trust: &Trust,
    evidence: &Evidence,
    at: UnixTime,
) -> Result<Report> {
    verify(source, &signatures(source)?, trust, evidence, at)
}

/// Judges the signatures that were found in `source`, as of `at`. Certificates and revocation data in the file's
/// document security store help.
///
/// # Errors
/// When the file can't be read.
pub fn verify(
    source: &dyn Source,
    found: &[FoundSignature],
    trust: &Trust,
    evidence: &Evidence,
    at: UnixTime,
) -> Result<Report> {
    let mut trust = trust.clone();
    let mut evidence = evidence.clone();
    let source = Metered::new(source).map_err(pdf_update::Error::from)?;
    security_store(&Pdf::open(&source)?, &mut trust, &mut evidence)?;
    let mut signatures = Vec::new();
    let mut digests = Digests::new();
    for one in found {
        signatures.push(judge(&source, one, &mut digests, &trust, &evidence, at)?);
    }
    let mut verdict = signatures
        .iter()
        .map(|s| s.verdict)
        .max_by_key(|v| rank(*v))
        .unwrap_or(Verdict::Passed);
    let mut reasons = Vec::new();
    // A document time-stamp says when the file existed, not that anybody signed it.
    if !found.iter().any(|f| f.kind == SignatureKind::Signature) {
        reasons.push(ReportReason {
            code: "no-signature",
            what: "the file has no signature".to_owned(),
        });
        if verdict == Verdict::Passed {
            verdict = Verdict::Undetermined;
        }
    }
    Ok(Report {
        verdict,
        reasons,
        signatures,
    })
}

/// Fetches the revocation data that [`verify`] needs for all of `found`.
pub async fn gather(
    found: &[FoundSignature],
    trust: &Trust,
    at: UnixTime,
    fetch: &dyn Fetch,
) -> Evidence {
    let mut all = Evidence::default();
    for one in found {
        let evidence = match one.kind {
            SignatureKind::Signature => cades::gather(&one.contents, trust, at, fetch).await,
            SignatureKind::DocumentTimeStamp => gather_token(&one.contents, trust, at, fetch).await,
        };
        all.crls.extend(evidence.crls);
        all.ocsp_responses.extend(evidence.ocsp_responses);
    }
    all
}

async fn gather_token(token: &[u8], trust: &Trust, at: UnixTime, fetch: &dyn Fetch) -> Evidence {
    let mut all = Evidence::default();
    let Ok(signed) = SignedData::parse(token) else {
        return all;
    };
    let Some(Ok(info)) = signed.content.as_deref().map(TstInfo::parse) else {
        return all;
    };
    // Whether the imprint fits is judged later; here only the certificates matter.
    let same = |_| info.imprint.clone();
    let extra = &trust.intermediates;
    if let Ok(verified) = tsp::verify_token(token, &same, None, extra, &trust.tsa_anchors) {
        for (cert, issuer) in verified.path.links() {
            let found = revocation::gather(cert, issuer, at, fetch).await;
            all.crls.extend(found.crls);
            all.ocsp_responses.extend(found.ocsp_responses);
        }
    }
    all
}

/// Digests by range and hash function: many fields may name one signature.
type Digests = BTreeMap<([u64; 4], HashAlg), Vec<u8>>;

fn judge(
    source: &dyn Source,
    found: &FoundSignature,
    digests: &mut Digests,
    trust: &Trust,
    evidence: &Evidence,
    at: UnixTime,
) -> Result<SignatureReport> {
    let mut out = SignatureReport {
        field: found.field_name.clone(),
        kind: match found.kind {
            SignatureKind::Signature => "signature",
            SignatureKind::DocumentTimeStamp => "document-timestamp",
        },
        verdict: Verdict::Passed,
        reasons: Vec::new(),
        signer: None,
        signer_subject: None,
        certificate_serial: None,
        unchanged: false,
        certificate: "undetermined",
        revocation: "unknown",
        time: "none",
        signing_time: None,
        time_source: TimeSource::None,
        tsa: None,
        counter_signatures: Vec::new(),
        level: None,
        sub_filter: found.sub_filter.clone(),
        coverage: found.coverage.name(),
        revision_len: found.revision_len(),
        modification_level: found.modifications.level.name(),
        evaluated: found.modifications.evaluated.name(),
        later_fields: found.modifications.fields.clone(),
        unexplained: found.modifications.unexplained.clone(),
        doc_mdp: found.doc_mdp,
    };
    if let Coverage::Broken(what) = found.coverage {
        out.fault(Verdict::Failed, "pdf-signature-broken", what.to_owned());
        return Ok(out);
    }
    // The verifier's closure can't fail, so a reading error is kept and returned afterwards.
    let error = RefCell::new(None);
    let digests = RefCell::new(digests);
    let digest = |hash: HashAlg| {
        let key = (found.byte_range, hash);
        if let Some(known) = digests.borrow().get(&key) {
            return known.clone();
        }
        match found.digest(source, hash) {
            Ok(value) => {
                digests.borrow_mut().insert(key, value.clone());
                value
            }
            Err(e) => {
                error.replace(Some(e));
                Vec::new()
            }
        }
    };
    let intact = match (found.kind, found.sub_filter.as_str()) {
        (SignatureKind::DocumentTimeStamp, "ETSI.RFC3161") => {
            let token = cades::verify_timestamp(&found.contents, &digest, trust, evidence, at);
            out.time_stamp(&token);
            token.time.is_some()
        }
        (SignatureKind::Signature, "ETSI.CAdES.detached" | "adbe.pkcs7.detached") => {
            let cms = cades::verify(&found.contents, &digest, trust, evidence, at);
            out.signature(&cms, found.claimed_time.as_deref());
            cms.intact
        }
        _ => {
            let what = format!(
                "signatures of the form {:?} are not supported",
                found.sub_filter
            );
            out.fault(Verdict::Undetermined, "pdf-signature-format", what);
            false
        }
    };
    if let Some(error) = error.into_inner() {
        return Err(error);
    }
    out.changes(found, intact);
    Ok(out)
}

/// A time-stamp of this verdict, in a word.
fn stamp_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "good",
        Verdict::Undetermined => "undetermined",
        Verdict::Failed => "bad",
    }
}

impl SignatureReport {
    fn fault(&mut self, verdict: Verdict, code: &'static str, what: String) {
        if rank(verdict) > rank(self.verdict) {
            self.verdict = verdict;
        }
        self.reasons.push(ReportReason { code, what });
    }

    fn signature(&mut self, cms: &CmsReport, claimed: Option<&str>) {
        if let Some(reason) = cms.reason {
            self.fault(
                cms.verdict,
                reason.code(),
                cms.detail.clone().unwrap_or_default(),
            );
        }
        if let Some(signer) = &cms.signer {
            self.signer = signer.common_name.clone();
            self.signer_subject = Some(signer.subject.clone());
            self.certificate_serial = Some(signer.serial.clone());
        }
        if !cms.chain.is_empty() {
            self.certificate = "good";
        }
        self.revocation = revocation_name(cms.signer_revocation());
        if let Some(stamp) = cms.proved_time() {
            self.time = "good";
            self.time_source = TimeSource::Timestamp;
            self.signing_time = stamp.time.map(UnixTime::rfc3339);
            self.tsa.clone_from(&stamp.tsa);
        } else {
            if let Some(stamp) = cms.timestamps.first() {
                self.time = stamp_name(stamp.verdict);
                if let Some(reason) = stamp.reason {
                    // A broken time-stamp proves nothing, but does not make the signature false.
                    let what = stamp.detail.clone().unwrap_or_default();
                    self.fault(
                        Verdict::Undetermined,
                        reason.code(),
                        format!("time-stamp: {what}"),
                    );
                }
            }
            let claimed = cms.claimed_time.or_else(|| claimed.and_then(parse_date));
            if let Some(time) = claimed {
                self.time_source = TimeSource::Claimed;
                self.signing_time = Some(time.rfc3339());
            }
        }
        let counters = cms.counters.iter();
        self.counter_signatures = counters.map(CounterSignatureReport::from).collect();
        if self.sub_filter == "ETSI.CAdES.detached" && cms.intact {
            self.level = Some(if self.time == "good" { "B-T" } else { "B-B" });
        }
    }

    fn time_stamp(&mut self, token: &TimeStampReport) {
        if let Some(reason) = token.reason {
            self.fault(
                token.verdict,
                reason.code(),
                token.detail.clone().unwrap_or_default(),
            );
        }
        self.signer.clone_from(&token.tsa);
        self.tsa.clone_from(&token.tsa);
        self.time = stamp_name(token.verdict);
        if let Some(time) = token.time {
            self.certificate = "good";
            self.time_source = TimeSource::Timestamp;
            self.signing_time = Some(time.rfc3339());
        }
        self.revocation = revocation_name(token.revocation.unwrap_or(Revocation::Unknown));
    }

    fn changes(&mut self, found: &FoundSignature, intact: bool) {
        if let Coverage::Partial(what) = found.coverage {
            self.fault(Verdict::Failed, "pdf-partly-signed", what.to_owned());
            return;
        }
        match found.changes_allowed() {
            Some(true) => self.unchanged = intact,
            Some(false) => {
                let what = match &found.modifications.unexplained[..] {
                    [] => "the file was changed more than its certification allows".to_owned(),
                    [first, ..] => format!("the file was changed after signing: {first}"),
                };
                self.fault(Verdict::Failed, "pdf-changed", what);
            }
            None => {
                let what = "the changes after signing are too many to be judged".to_owned();
                self.fault(Verdict::Undetermined, "pdf-changes-not-evaluated", what);
            }
        }
    }
}

fn rank(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Passed => 0,
        Verdict::Undetermined => 1,
        Verdict::Failed => 2,
    }
}

fn revocation_name(state: Revocation) -> &'static str {
    match state {
        Revocation::Good { .. } => "good",
        Revocation::Revoked { .. } => "revoked",
        Revocation::Unknown => "unknown",
    }
}

/// Adds what the document security store (ISO 32000-2 §12.8.4.3) holds. It is attacker's input like the rest of
/// the file, but its parts are signed by themselves.
fn security_store(pdf: &Pdf<'_>, trust: &mut Trust, evidence: &mut Evidence) -> Result<()> {
    let Some(Object::Dict(store)) = pdf.lookup(&pdf.catalog()?, "DSS")? else {
        return Ok(());
    };
    let mut left = MAX_STORED_SIZE;
    for (key, list) in [
        ("Certs", &mut trust.intermediates),
        ("CRLs", &mut evidence.crls),
        ("OCSPs", &mut evidence.ocsp_responses),
    ] {
        let Some(Object::Array(items)) = pdf.lookup(&store, key)? else {
            continue;
        };
        let mut seen = HashSet::new();
        for item in items.iter().take(MAX_STORED) {
            if !item.as_ref().is_some_and(|id| seen.insert(id)) {
                continue;
            }
            match pdf.resolve(item).and_then(|object| match object {
                Object::Stream(stream) => pdf.decoded_stream(&stream, left).map(Some),
                _ => Ok(None),
            }) {
                Ok(der) => {
                    left -= der.as_ref().map_or(0, Vec::len);
                    list.extend(der);
                }
                Err(pdf_update::Error::Io(e)) => return Err(pdf_update::Error::Io(e).into()),
                // Data that can't be read only fails to help.
                Err(_) => {}
            }
        }
    }
    Ok(())
}

/// A PDF date (ISO 32000-2 §7.9.4); parts after the year may be missing.
fn parse_date(text: &str) -> Option<UnixTime> {
    let text = text.strip_prefix("D:").unwrap_or(text);
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, zone) = text.split_at(split);
    let part = |from: usize, to: usize, default: u8| match digits.get(from..to) {
        Some(part) => part.parse().ok(),
        None => Some(default),
    };
    let month = time::Month::try_from(part(4, 6, 1)?).ok()?;
    let date =
        time::Date::from_calendar_date(digits.get(..4)?.parse().ok()?, month, part(6, 8, 1)?)
            .ok()?;
    let local = date
        .with_hms(part(8, 10, 0)?, part(10, 12, 0)?, part(12, 14, 0)?)
        .ok()?;
    let zone: String = zone.chars().filter(|c| *c != '\'').collect();
    let offset = match zone.split_at_checked(1) {
        Some((sign @ ("+" | "-"), rest)) => {
            let hours: i64 = rest.get(..2)?.parse().ok()?;
            let minutes: i64 = rest.get(2..4).map_or(Some(0), |m| m.parse().ok())?;
            (hours * 3_600 + minutes * 60) * if sign == "-" { -1 } else { 1 }
        }
        _ => 0,
    };
    Some(UnixTime(local.assume_utc().unix_timestamp() - offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_all_lengths() {
        for (text, time) in [
            ("D:20261122140512+09'00'", "2026-11-22T05:05:12Z"),
            ("D:20261122140512+09'00", "2026-11-22T05:05:12Z"),
            ("D:20261122050512Z", "2026-11-22T05:05:12Z"),
            ("D:20261122000000-0530", "2026-11-22T05:30:00Z"),
            ("2026", "2026-01-01T00:00:00Z"),
        ] {
            assert_eq!(
                parse_date(text).map(UnixTime::rfc3339).as_deref(),
                Some(time),
                "{text}"
            );
        }
        for wrong in ["", "D:", "D:20261322", "today", "D:20261122+é"] {
            assert_eq!(parse_date(wrong), None, "{wrong}");
        }
    }
}
