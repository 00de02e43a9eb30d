//! The result of a signature in the items of Table A-1 of the guideline's appendix, in one order everywhere.

use core_types::UnixTime;
use serde::{Serialize, Serializer};

/// Table A-1. JSON names are stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Whether signing completed: `signed`.
    pub result: &'static str,
    /// Identifier of the signer; `None` when it is unknown or confidential.
    pub signer_id: Option<String>,
    /// File that was signed.
    pub signed_object: String,
    /// File that came out.
    pub signed_document: String,
    /// Time of signing.
    #[serde(serialize_with = "rfc3339")]
    pub signing_time: UnixTime,
    /// Whose clock.
    pub time_source: TimeSource,
    /// Who stated the time, when it was a time-stamp authority.
    pub time_authority: Option<String>,
    /// Subject of the certificate.
    pub signer_name: String,
    /// Name of the certificate's issuer.
    pub issuer_name: String,
    /// What the check after signing found.
    pub verification_result: Verification,
    /// SHA-256 of the signed file, hexadecimal.
    pub sha256: String,
    /// Length of the signed file in bytes.
    pub size: u64,
}

/// Whose clock a time is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeSource {
    /// A time-stamp authority's.
    Timestamp,
    /// The signing program's own.
    System,
}

/// Result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// In one word: `passed`, `undetermined` or `failed`.
    pub verdict: cades::Verdict,
    /// Whether the signed bytes are as they were, and later changes such as are allowed.
    pub unchanged: bool,
    /// `good` when the certificate leads to a trust anchor, else `undetermined`.
    pub certificate: &'static str,
    /// `good`, `revoked` or `unknown`.
    pub revocation: &'static str,
    /// `good` (a verified time-stamp), `none` or `bad`.
    pub time: &'static str,
    /// What isn't good, and why.
    pub reasons: Vec<pades::ReportReason>,
}

fn rfc3339<S: Serializer>(time: &UnixTime, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&time.rfc3339())
}
