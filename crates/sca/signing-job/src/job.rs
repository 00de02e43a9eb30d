//! Preparing a file, and completing it with a signature value that was made elsewhere.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use core_types::{Random, SigAlg, UnixTime};
use csc_types::{DocumentDigest, HashType, SignedValue};
use pki::Certificate;
use pki::fetch::Fetch;
use pki::tsp::TspError;

/// Room for a time-stamp token with its certificates, in bytes. It has to be fixed before the signer approves and
/// the token exists, so it is that of the largest one that is taken: an approval must not be lost for want of room.
const TIME_STAMP_ROOM: usize = pki::tsp::MAX_REPLY;

/// Room for the provider's counter-signature with its certificates, in bytes: nobody knows beforehand whether there will be
/// one.
const COUNTER_SIGNATURE_ROOM: usize = 8 * 1024;

/// One file to be signed.
#[derive(Debug, Clone)]
pub struct Request {
    /// The PDF; only read.
    pub input: PathBuf,
    /// Where the signed PDF shall lie; must not exist. While the job runs, `OUTPUT.part` lies beside it.
    pub output: PathBuf,
    /// Certificates as DER, the signer's first.
    pub chain: Vec<Vec<u8>>,
    /// Algorithm of the signature.
    pub alg: SigAlg,
    /// Claimed time of signing.
    pub signing_time: UnixTime,
    /// Whether there will be a time-stamp.
    pub time_stamp: bool,
    /// Reason for the PDF.
    pub reason: Option<String>,
    /// Place for the PDF.
    pub location: Option<String>,
    /// Signature field to use; the only empty one, or a new one, without a name.
    pub field_name: Option<String>,
}

/// Why a file could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The PDF can't be signed, by name.
    #[error(transparent)]
    Pdf(#[from] pades::PadesError),
    /// A file can't be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The service's certificate can't be used.
    #[error("the signer's certificate can't be used: {0}")]
    Certificate(pki::DerError),
    /// The value is not a signature by the certificate's key over what was prepared.
    #[error(
        "the service returned a value that is not this signer's signature; nothing was written"
    )]
    WrongSignature,
    /// The signature could not be built.
    #[error("the signature can't be built: {0}")]
    Cms(cades::BuildError),
    /// The reader stopped in the middle of the file; our fault.
    #[error("the file could not be read to its end by this program")]
    Interrupted,
    /// No acceptable time-stamp.
    #[error("no time-stamp: {0}")]
    TimeStamp(#[from] TspError),
}

impl JobError {
    /// Stable code of the cause.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Pdf(error) => error.code(),
            Self::File { .. } => "file",
            Self::Certificate(_) => "certificate-unusable",
            Self::WrongSignature => "wrong-signature",
            Self::Cms(_) => "cms",
            Self::Interrupted => "interrupted",
            Self::TimeStamp(_) => "no-time-stamp",
        }
    }
}

/// What a file is before signing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Signatures in it.
    pub signatures: usize,
}

/// A file that waits for its signature value.
#[derive(Debug)]
pub struct Prepared {
    pdf: pades::Prepared,
    attributes: Vec<u8>,
    hash: Vec<u8>,
    chain: Vec<Vec<u8>>,
    signer: Certificate,
    alg: SigAlg,
    claimed_time: UnixTime,
    part: Part,
    output: PathBuf,
}

/// How to get a time-stamp over the signature.
#[derive(Clone, Copy)]
pub struct TimeStamping<'a> {
    /// The network.
    pub fetch: &'a dyn Fetch,
    /// RFC 3161 authority.
    pub url: &'a str,
    /// Certificates (DER) that the authority's must lead to.
    pub anchors: &'a [Vec<u8>],
    /// For the nonce.
    pub random: &'a dyn Random,
}

/// A finished file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Where it lies.
    pub path: PathBuf,
    /// Length in bytes.
    pub len: u64,
    /// Name of the signature field.
    pub field_name: String,
    /// Time of signing by the clock of the program.
    pub claimed_time: UnixTime,
    /// Time that the authority stated.
    pub stamped_time: Option<UnixTime>,
    /// Whether the provider's counter-signature is in it.
    pub counter_signed: bool,
    /// Digest of the original file under the signature's hash function.
    pub original_digest: Vec<u8>,
}

/// Looks whether a file can be signed, before anybody is asked for anything.
///
/// # Errors
/// [`JobError::Pdf`] by name, or when the file can't be read.
pub fn look(input: &Path) -> Result<Found, JobError> {
    let file = open(input)?;
    let options = pades::PrepareOptions {
        signer_name: String::new(),
        reason: None,
        location: None,
        signing_time: UnixTime(0),
        reserve: pades::reserve(0, None),
        field_name: None,
        hash: core_types::HashAlg::Sha256,
    };
    pades::check(&file, &options)?;
    Ok(Found {
        signatures: pades::signatures(&file)?.len(),
    })
}

/// Writes the file with room for its signature and computes the hash to be signed: that of the minimal signed
/// attributes, which the signing side can rebuild from the document's digest and the certificate alone.
///
/// Blocks for as long as copying the file takes; memory doesn't grow with it.
///
/// # Errors
/// [`JobError`]; the input is never changed and no output is left.
pub fn prepare(request: &Request) -> Result<Prepared, JobError> {
    let leaf = request
        .chain
        .first()
        .ok_or(JobError::Certificate(pki::DerError("certificate")))?;
    let signer = Certificate::parse(leaf).map_err(JobError::Certificate)?;
    let input = open(&request.input)?;
    let (part, file) = Part::create(&request.output)?;
    let token = if request.time_stamp {
        TIME_STAMP_ROOM
    } else {
        0
    };
    let reserve =
        cades::size_estimate(leaf, &request.chain, token).map_err(JobError::Certificate)?;
    let options = pades::PrepareOptions {
        signer_name: signer
            .info()
            .common_name
            .unwrap_or_else(|| signer.subject_text()),
        reason: request.reason.clone(),
        location: request.location.clone(),
        signing_time: request.signing_time,
        reserve: (reserve + COUNTER_SIGNATURE_ROOM).max(pades::reserve(0, None)),
        field_name: request.field_name.clone(),
        hash: request.alg.hash(),
    };
    let pdf = pades::prepare(&input, &file, &options)?;
    let attributes = cades::signed_attrs(&pdf.digest, leaf).map_err(JobError::Certificate)?;
    Ok(Prepared {
        hash: cades::to_be_signed(&attributes, request.alg.hash()),
        claimed_time: request.signing_time,
        pdf,
        attributes,
        chain: request.chain.clone(),
        signer,
        alg: request.alg,
        part,
        output: request.output.clone(),
    })
}

impl Prepared {
    /// The hash that `signHash` is asked to sign.
    pub fn hash_to_sign(&self) -> &[u8] {
        &self.hash
    }

    /// The entry of an authorization for this file: the document itself where the provider takes documents, else the
    /// hash to sign. `signHash` gets [`Self::hash_to_sign`] either way.
    pub fn digest(&self, label: String, documents: bool) -> DocumentDigest {
        let label = Some(label);
        if documents {
            DocumentDigest {
                hash: self.pdf.digest.clone(),
                label,
                hash_type: Some(HashType::Sdr),
                signed_attrs: None,
                byte_range: Some(self.pdf.byte_range),
            }
        } else {
            DocumentDigest {
                hash: self.hash.clone(),
                label,
                hash_type: Some(HashType::Dtbsr),
                ..DocumentDigest::default()
            }
        }
    }

    /// Where the prepared file lies until it is finished: the file that the signer's side can compare.
    pub fn prepared_file(&self) -> &Path {
        &self.part.path
    }

    /// Digest of the signed bytes of the file, which the hash to sign is derived from.
    pub fn document_digest(&self) -> &[u8] {
        &self.pdf.digest
    }

    /// Checks the value, gets the time-stamp, puts both into the file and gives it its name. A counter-signature goes along
    /// if it is one and has room; the signer's signature doesn't depend on it. After an error of the time-stamp authority
    /// this can be called again with the same value.
    ///
    /// # Errors
    /// [`JobError`]; the output exists only after success.
    pub async fn finish(
        &self,
        signed: &SignedValue,
        stamping: Option<&TimeStamping<'_>>,
    ) -> Result<Signed, JobError> {
        let value = signed.value.as_slice();
        pki::verify_signature(
            self.signer.spki(),
            self.alg,
            pki::Signed::Message(&self.attributes),
            value,
        )
        .map_err(|_| JobError::WrongSignature)?;
        let (mut token, mut stamped_time) = (None, None);
        if let Some(ts) = stamping {
            let hash = self.alg.hash();
            let imprint = hash.digest(value);
            let (der, verified) =
                pki::tsp::request(ts.fetch, ts.url, hash, &imprint, ts.anchors, ts.random).await?;
            token = Some(der);
            stamped_time = Some(verified.info.gen_time);
        }
        let build = |chain: &[Vec<u8>]| {
            let token = token.as_deref();
            let leaf = self.signer.der();
            cades::build_signed_data(&self.attributes, self.alg, value, leaf, chain, token)
        };
        let with_counter = signed.counter.as_ref().and_then(|counter| {
            let cms = build(&[&self.chain[..], &counter.certificates].concat()).ok()?;
            let cms = cades::add_counter_signature(&cms, &counter.signer_info).ok()?;
            (cms.len() <= self.pdf.reserved).then_some(cms)
        });
        let counter_signed = with_counter.is_some();
        let cms = match with_counter {
            Some(cms) => cms,
            None => build(&self.chain).map_err(JobError::Cms)?,
        };
        let file = self.part.open()?;
        let embedded = self.pdf.clone().embed(&file, &cms)?;
        self.part.publish(&self.output)?;
        Ok(Signed {
            path: self.output.clone(),
            len: embedded.len,
            field_name: embedded.field_name,
            claimed_time: self.claimed_time,
            stamped_time,
            counter_signed,
            original_digest: self.pdf.original_digest.clone(),
        })
    }
}

/// The file while it isn't finished; removed when the job is given up.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    /// Held locked, so that a second job for the same output is noticed; a killed one leaves no lock.
    _lock: File,
}

impl Part {
    fn create(output: &Path) -> Result<(Self, File), JobError> {
        let mut name = output.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        let fail = |source| JobError::File {
            path: path.clone(),
            source,
        };
        if output.symlink_metadata().is_ok() {
            let source = io::Error::new(io::ErrorKind::AlreadyExists, "this file exists already");
            return Err(JobError::File {
                path: output.to_owned(),
                source,
            });
        }
        // What an earlier, killed run left may be written over, but never through a link.
        if path.symlink_metadata().is_ok_and(|m| !m.is_file()) {
            return Err(fail(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "this is in the way",
            )));
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(fail)?;
        file.try_lock().map_err(|_| {
            fail(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another program is signing to this file",
            ))
        })?;
        file.set_len(0).map_err(fail)?;
        let lock = file.try_clone().map_err(fail)?;
        Ok((Self { path, _lock: lock }, file))
    }

    fn open(&self) -> Result<File, JobError> {
        let file = OpenOptions::new().read(true).write(true).open(&self.path);
        file.map_err(|source| JobError::File {
            path: self.path.clone(),
            source,
        })
    }

    /// Gives the finished file its name, without ever replacing another.
    fn publish(&self, output: &Path) -> Result<(), JobError> {
        let linked = match std::fs::hard_link(&self.path, output) {
            Err(e)
                if e.kind() != io::ErrorKind::AlreadyExists
                    && output.symlink_metadata().is_err() =>
            {
                // File systems without hard links.
                std::fs::rename(&self.path, output)
            }
            other => other,
        };
        linked.map_err(|source| JobError::File {
            path: output.to_owned(),
            source,
        })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

pub(crate) fn open(path: &Path) -> Result<File, JobError> {
    File::open(path).map_err(|source| JobError::File {
        path: path.to_owned(),
        source,
    })
}
