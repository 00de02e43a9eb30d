//! The check of a signed file, and its result as Table A-1.

use std::fs::File;
use std::path::Path;

use core_types::bytes::hex;
use core_types::{HashAlg, UnixTime};
use pades::{FoundSignature, SignatureReport};
use pki::fetch::Fetch;
use pki::{CertInfo, Certificate, name, oid};

use crate::job::{JobError, Signed, open};
use crate::outcome::{Outcome, TimeSource, Verification};

/// Whom a check trusts, and the revocation lists that it has at hand.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    trust: cades::Trust,
    crls: Vec<Vec<u8>>,
}

impl Trust {
    /// The same anchors for signers and time-stamp authorities, as PEM certificates one after another.
    ///
    /// # Errors
    /// When one of them can't be read.
    pub fn from_pem(pem: &str) -> Result<Self, pki::DerError> {
        let anchors: Vec<Vec<u8>> = Certificate::parse_pem(pem)?
            .iter()
            .map(|c| c.der().to_vec())
            .collect();
        Ok(Self::new(cades::Trust {
            tsa_anchors: anchors.clone(),
            anchors,
            ..cades::Trust::default()
        }))
    }

    /// Takes revocation lists (DER) into account beside what a check fetches. They need no trust: a list counts if the
    /// issuer of the certificate has signed it, and for its time.
    #[must_use]
    pub fn with_crls(self, crls: Vec<Vec<u8>>) -> Self {
        Self { crls, ..self }
    }

    /// Any trust.
    pub fn new(trust: cades::Trust) -> Self {
        Self {
            trust,
            crls: Vec::new(),
        }
    }

    /// The same, judging algorithms by this table.
    #[must_use]
    pub fn with_approvals(self, approvals: core_types::Approvals) -> Self {
        Self {
            trust: cades::Trust {
                approvals,
                ..self.trust
            },
            ..self
        }
    }

    /// Anchors (DER) of time-stamp authorities.
    pub fn tsa_anchors(&self) -> &[Vec<u8>] {
        &self.trust.tsa_anchors
    }
}

/// File names to show.
#[derive(Debug, Clone)]
pub struct Names {
    /// The file that was signed.
    pub object: String,
    /// The file that came out.
    pub document: String,
}

/// What a check found in a file.
#[derive(Debug)]
pub struct Checked {
    /// The report on every signature.
    pub report: pades::Report,
    /// Signers' certificates, in the order of `report.signatures`.
    pub signers: Vec<Option<Signer>>,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// Length in bytes.
    pub size: u64,
}

/// What a signature's certificate says about its signer. True only if the report says so.
#[derive(Debug, Clone)]
pub struct Signer {
    /// The certificate.
    pub certificate: CertInfo,
    /// `serialNumber` of the subject: the identifier a CA gives to a person (X.520 §6.2.9).
    pub id: Option<String>,
    /// commonName of the issuer, else its whole name.
    pub issuer: String,
}

/// Checks every signature of a file as of `at`: that nothing was changed, signature, chain, revocation (asked
/// through `fetch`, and by the lists at hand), time-stamp.
///
/// # Errors
/// [`JobError::File`] or [`JobError::Pdf`] when the file can't be read; whatever is wrong with a signature is in
/// the report.
pub async fn check(
    path: &Path,
    trust: &Trust,
    fetch: &dyn Fetch,
    at: UnixTime,
) -> Result<Checked, JobError> {
    let file = open(path)?;
    let (file, found) = blocking(move || {
        let found = pades::signatures(&file)?;
        Ok((file, found))
    })
    .await?;
    let mut evidence = pades::gather(&found, &trust.trust, at, fetch).await;
    evidence.crls.extend(trust.crls.iter().cloned());
    let (trust, path) = (trust.clone(), path.to_owned());
    blocking(move || {
        let report = pades::verify(&file, &found, &trust.trust, &evidence, at)?;
        let signers = found.iter().map(signer).collect();
        let (sha256, size) = hash_file(&file).map_err(|source| JobError::File { path, source })?;
        Ok(Checked {
            report,
            signers,
            sha256,
            size,
        })
    })
    .await
}

impl Checked {
    /// Table A-1 for the signature that was just made; `None` when the file doesn't hold it. `show_id`: the
    /// signer's identifier isn't confidential.
    pub fn outcome(&self, names: &Names, signed: &Signed, show_id: bool) -> Option<Outcome> {
        let mut both = self.report.signatures.iter().zip(&self.signers);
        // The field may have held another signature before, which is in the report too; only the new one covers
        // the file to its end.
        let (own, signer) = both.find(|(s, _)| {
            s.field == signed.field_name
                && s.coverage == "ENTIRE_FILE"
                && s.revision_len == signed.len
        })?;
        let signer = signer.as_ref()?;
        let certificate = &signer.certificate;
        let subject = || certificate.subject.clone();
        let proved = own.time_source == pades::TimeSource::Timestamp;
        Some(Outcome {
            result: "signed",
            signer_id: signer.id.clone().filter(|_| show_id),
            signed_object: names.object.clone(),
            signed_document: names.document.clone(),
            signing_time: signed
                .stamped_time
                .filter(|_| proved)
                .unwrap_or(signed.claimed_time),
            time_source: if proved {
                TimeSource::Timestamp
            } else {
                TimeSource::System
            },
            time_authority: own.tsa.clone().filter(|_| proved),
            signer_name: certificate.common_name.clone().unwrap_or_else(subject),
            issuer_name: signer.issuer.clone(),
            verification_result: verification(own),
            sha256: self.sha256.clone(),
            size: self.size,
        })
    }
}

fn verification(own: &SignatureReport) -> Verification {
    Verification {
        verdict: own.verdict,
        unchanged: own.unchanged,
        certificate: own.certificate,
        revocation: own.revocation,
        time: own.time,
        reasons: own.reasons.clone(),
    }
}

fn signer(found: &FoundSignature) -> Option<Signer> {
    let signed = pki::cms::SignedData::parse(&found.contents).ok()?;
    let certificate = signed.signer_certificate(signed.signers.first()?, &[])?;
    let id = name::attribute(certificate.subject(), oid::SERIAL_NUMBER);
    let info = certificate.info();
    let issuer = name::attribute(certificate.issuer(), oid::COMMON_NAME);
    Some(Signer {
        id,
        issuer: issuer.unwrap_or_else(|| info.issuer.clone()),
        certificate: info,
    })
}

fn hash_file(file: &File) -> std::io::Result<(String, u64)> {
    use std::os::unix::fs::FileExt as _;
    let mut context = aws_lc_rs::digest::Context::new(HashAlg::Sha256.aws());
    let mut chunk = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let n = file.read_at(&mut chunk, at)?;
        if n == 0 {
            return Ok((hex(context.finish().as_ref()), at));
        }
        context.update(&chunk[..n]);
        at += n as u64;
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, JobError> + Send + 'static,
) -> Result<T, JobError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| JobError::Interrupted)?
}
