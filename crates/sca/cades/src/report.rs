//! What a verification found, in words that don't change: the indications of EN 319 102-1.

use core_types::{SigAlg, UnixTime};
use pki::CertInfo;
use serde::Serialize;

/// The three outcomes (EN 319 102-1 §5.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything holds: TOTAL-PASSED.
    Passed,
    /// Neither proved nor disproved: INDETERMINATE.
    Undetermined,
    /// Disproved: TOTAL-FAILED.
    Failed,
}

/// Why not passed (EN 319 102-1 §5.1.3, sub-indications). Serialised under the standard's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Reason {
    /// Not a processable signature.
    FormatFailure,
    /// The content differs from what was signed.
    HashFailure,
    /// The value isn't by the signer's key.
    SigCryptoFailure,
    /// Proved to be signed before the certificate's validity.
    NotYetValid,
    /// Proved to be signed after the certificate's expiry.
    Expired,
    /// Signed attributes don't meet the baseline.
    SigConstraintsFailure,
    /// An algorithm is not approved.
    CryptoConstraintsFailureNoPoe,
    /// The signer's certificate wasn't found, or isn't the one that the signature refers to.
    NoSigningCertificateFound,
    /// No path to a trust anchor.
    NoCertificateChainFound,
    /// The path breaks a rule.
    ChainConstraintsFailure,
    /// The path can't be judged.
    CertificateChainGeneralFailure,
    /// Outside the validity, and no proof of an earlier time.
    OutOfBoundsNoPoe,
    /// The signer's certificate is revoked, and no proof that the signature is older.
    RevokedNoPoe,
    /// A CA's certificate is revoked.
    RevokedCaNoPoe,
    /// Revocation data is missing or not fresh; later there may be some.
    TryLater,
}

impl Reason {
    /// The standard's name, such as `HASH_FAILURE`.
    pub fn code(self) -> &'static str {
        match self {
            Self::FormatFailure => "FORMAT_FAILURE",
            Self::HashFailure => "HASH_FAILURE",
            Self::SigCryptoFailure => "SIG_CRYPTO_FAILURE",
            Self::NotYetValid => "NOT_YET_VALID",
            Self::Expired => "EXPIRED",
            Self::SigConstraintsFailure => "SIG_CONSTRAINTS_FAILURE",
            Self::CryptoConstraintsFailureNoPoe => "CRYPTO_CONSTRAINTS_FAILURE_NO_POE",
            Self::NoSigningCertificateFound => "NO_SIGNING_CERTIFICATE_FOUND",
            Self::NoCertificateChainFound => "NO_CERTIFICATE_CHAIN_FOUND",
            Self::ChainConstraintsFailure => "CHAIN_CONSTRAINTS_FAILURE",
            Self::CertificateChainGeneralFailure => "CERTIFICATE_CHAIN_GENERAL_FAILURE",
            Self::OutOfBoundsNoPoe => "OUT_OF_BOUNDS_NO_POE",
            Self::RevokedNoPoe => "REVOKED_NO_POE",
            Self::RevokedCaNoPoe => "REVOKED_CA_NO_POE",
            Self::TryLater => "TRY_LATER",
        }
    }

    /// The main indication that the standard joins to this one.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::FormatFailure
            | Self::HashFailure
            | Self::SigCryptoFailure
            | Self::NotYetValid
            | Self::Expired => Verdict::Failed,
            _ => Verdict::Undetermined,
        }
    }
}

/// Revocation state of one certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum Revocation {
    /// Not revoked as of then.
    Good {
        /// Time of the information.
        as_of: UnixTime,
    },
    /// Revoked.
    Revoked {
        /// Since when.
        at: UnixTime,
        /// CRLReason of RFC 5280 §5.3.1.
        reason: u32,
    },
    /// Nothing usable says anything.
    Unknown,
}

/// Revocation state with the certificate it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertStatus {
    /// Subject, RFC 4514.
    pub subject: String,
    /// State.
    #[serde(flatten)]
    pub revocation: Revocation,
    /// Why data was not usable, for an expert.
    pub notes: Vec<String>,
}

/// A signature time-stamp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimeStampReport {
    /// Whether it proves its time.
    pub verdict: Verdict,
    /// Why not.
    pub reason: Option<Reason>,
    /// The same in words, for an expert.
    pub detail: Option<String>,
    /// The time it states, if it could be verified up to an anchor.
    pub time: Option<UnixTime>,
    /// Name of the time-stamping authority: commonName, else subject.
    pub tsa: Option<String>,
    /// The authority's revocation state.
    pub revocation: Option<Revocation>,
}

/// A counter-signature (RFC 5652 §11.4): by a provider, it shows where the signature was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CounterReport {
    /// Whether it is one over this signature by somebody who is trusted.
    pub verdict: Verdict,
    /// Why not passed.
    pub reason: Option<Reason>,
    /// The same in words, for an expert.
    pub detail: Option<String>,
    /// Subject of the certificate, RFC 4514.
    pub signer: Option<String>,
    /// Its claimed time.
    pub claimed_time: Option<UnixTime>,
}

/// The outcome for one CMS signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CmsReport {
    /// Outcome.
    pub verdict: Verdict,
    /// Why not passed.
    pub reason: Option<Reason>,
    /// The same in words, for an expert.
    pub detail: Option<String>,
    /// The content is what was signed, and the value is by the key of `signer`, whoever that is.
    pub intact: bool,
    /// The signer's certificate, if found.
    pub signer: Option<CertInfo>,
    /// The path, signer first, anchor last, if found.
    pub chain: Vec<CertInfo>,
    /// Revocation states along the path, signer first, anchor not included.
    pub revocation: Vec<CertStatus>,
    /// Signature algorithm, if known.
    pub sig_alg: Option<SigAlg>,
    /// Claimed time of signing (signed attribute; CAdES only).
    pub claimed_time: Option<UnixTime>,
    /// Counter-signatures over the value, such as the provider's. They don't change the outcome: each speaks for itself.
    pub counters: Vec<CounterReport>,
    /// Signature time-stamps.
    pub timestamps: Vec<TimeStampReport>,
    /// Earliest time at which the signature is proved to have existed: a time-stamp's, else the time in question.
    pub best_signature_time: UnixTime,
}

impl CmsReport {
    /// Revocation state of the signer's certificate.
    pub fn signer_revocation(&self) -> Revocation {
        self.revocation
            .first()
            .map_or(Revocation::Unknown, |s| s.revocation)
    }

    /// A time-stamp that proves its time is there: level T, else B.
    pub fn proved_time(&self) -> Option<&TimeStampReport> {
        self.timestamps
            .iter()
            .find(|t| t.verdict == Verdict::Passed)
    }
}
