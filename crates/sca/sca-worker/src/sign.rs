//! From documents to signatures around values that `signHash` gave.

use std::time::Duration;

use core_types::bytes::b64;
use core_types::{HashAlg, SigAlg, UnixTime, sha256};
use csc_client::ClientError;
use csc_types::algorithm::decide;
use csc_types::sign_doc::{DocContent, DocEntry, Envelope, Format, Level, named_hash};
use csc_types::{
    Certificates, CscError, InfoRequest, SecretText, SignDocRequest, SignDocResponse,
    SignHashRequest, SignedValue, WorkerRefusal, WorkerRequest, decode_base64,
};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use pki::Certificate;
use pki::asn1::Tlv;

use crate::Worker;

/// Time-stamps that are asked for at a time.
const STAMPS_AT_ONCE: usize = 8;
/// Longest time for all of them: the service waits two minutes for the whole call.
const STAMPING: Duration = Duration::from_secs(45);

/// The credential, as far as signatures hold it.
struct Signer {
    chain: Vec<Vec<u8>>,
    alg: SigAlg,
}

/// One signature that is to be made.
struct Job<'a> {
    entry: &'a DocEntry,
    document: Option<&'a [u8]>,
    attrs: Vec<u8>,
}

impl Worker {
    pub(crate) async fn sign_doc(
        &self,
        request: WorkerRequest,
    ) -> Result<SignDocResponse, WorkerRefusal> {
        let WorkerRequest {
            token,
            body,
            idempotency_key,
        } = request;
        let asked = SignDocRequest::parse(body.as_bytes())?;
        // A repeat gets the values that were made for it, so that what fails after them costs nobody an approval.
        let call = idempotency_key.unwrap_or_else(|| {
            let token = token.expose().as_bytes();
            sha256(&[b"signDoc\0", token, b"\0", body.as_bytes()]).to_string()
        });
        drop(body);
        asked.entries.iter().try_for_each(|e| self.offers(e))?;
        let signer = self.signer(&token, &asked).await?;
        let mut jobs = Vec::new();
        for entry in &asked.entries {
            for (document, digest) in digests(entry, signer.alg)? {
                let at = claimed(entry)?;
                let leaf = signer.chain.first().map_or(&[][..], Vec::as_slice);
                let attrs = cades::signed_attrs_at(&digest, leaf, at);
                let attrs = attrs.map_err(|_| CscError::CertificateStatus)?;
                jobs.push(Job {
                    entry,
                    document,
                    attrs,
                });
            }
        }
        let values = self.values(&token, &asked, &signer, &jobs, &call).await?;
        let stamps = self.stamps(signer.alg.hash(), &jobs, &values).await?;
        let mut answer = SignDocResponse::default();
        for ((job, value), stamp) in jobs.iter().zip(&values).zip(&stamps) {
            let signature = b64(assemble(&signer, job, value, stamp.as_deref())?);
            match job.encloses() {
                Some(_) => answer.documents.push(signature),
                None => answer.signatures.push(signature),
            }
        }
        Ok(answer)
    }

    /// What can be made, before anything is asked.
    fn offers(&self, entry: &DocEntry) -> Result<(), CscError> {
        let no = CscError::InvalidParameter;
        match (entry.format, entry.envelope, &entry.content) {
            (Format::Xades | Format::Jades, ..) => Err(no("signature_format")),
            (_, Envelope::Parallel, _) => Err(no("signed_envelope_property")),
            // Nobody can approve what isn't prepared yet.
            (Format::Pades, _, DocContent::Document(_)) => Err(CscError::Documents),
            _ => Ok(()),
        }?;
        match entry.level {
            Level::B => Ok(()),
            Level::T if !self.time_stampers.is_empty() => Ok(()),
            Level::T | Level::Lt | Level::Lta => Err(no("conformance_level")),
        }
    }

    /// The credential's certificates, and the one algorithm of this call: a token makes one `signHash`.
    async fn signer(
        &self,
        token: &SecretText,
        asked: &SignDocRequest,
    ) -> Result<Signer, WorkerRefusal> {
        let request = InfoRequest {
            credential_id: asked.credential_id.clone(),
            certificates: Certificates::Chain,
            ..InfoRequest::default()
        };
        // The right to sign reads its own key also when that is gone, as one-time keys are after the first try.
        let right = asked.sad.as_ref().unwrap_or(token);
        let info = self.service.credential_info(right, &request).await;
        let chain = info.map_err(|e| passed(&e))?.cert.certificates;
        let chain = chain.unwrap_or_default();
        let chain: Option<Vec<_>> = chain.iter().map(|cert| decode_base64(cert)).collect();
        let chain = chain.unwrap_or_default();
        let leaf = chain.first().and_then(|leaf| Certificate::parse(leaf).ok());
        let key = leaf.and_then(|leaf| pki::key_alg(leaf.spki()));
        let key = key.ok_or(CscError::CertificateStatus)?;
        let mut algs = Vec::new();
        for entry in &asked.entries {
            let params = entry.sign_algo_params.as_deref();
            let hash = entry.hash_oid();
            algs.push(decide(key, &entry.sign_algo, hash, params)?);
        }
        match algs.as_slice() {
            [alg, rest @ ..] if rest.iter().all(|other| other == alg) => {
                Ok(Signer { chain, alg: *alg })
            }
            _ => Err(CscError::InvalidParameter("signAlgo").into()),
        }
    }

    async fn values(
        &self,
        token: &SecretText,
        asked: &SignDocRequest,
        signer: &Signer,
        jobs: &[Job<'_>],
        call: &str,
    ) -> Result<Vec<SignedValue>, WorkerRefusal> {
        let first = asked.entries.first().ok_or(CscError::NoDocuments)?;
        let hash = signer.alg.hash();
        let request = SignHashRequest {
            credential_id: asked.credential_id.clone(),
            sad: asked.sad.clone(),
            hashes: jobs
                .iter()
                .map(|job| cades::to_be_signed(&job.attrs, hash))
                .collect(),
            hash_algorithm_oid: Some(hash.oid().to_owned()),
            sign_algo: first.sign_algo.clone(),
            sign_algo_params: first.sign_algo_params.clone(),
            client_data: None,
        };
        let values = self.service.sign_hash(token, &request, call).await;
        values.map_err(|error| match &error {
            // There may be values, but nobody has them; the caller is told so and not that nothing was done.
            ClientError::Api { .. } => passed(&error),
            unknown if unknown.outcome_is_unknown() => {
                tracing::error!(%error, "the service gave its worker no whole answer");
                lost()
            }
            _ => passed(&error),
        })
    }

    /// Time-stamps of those values that want one, a few at a time and all of them in time. Without one of them the call is
    /// tried again, with the same values.
    async fn stamps(
        &self,
        hash: HashAlg,
        jobs: &[Job<'_>],
        values: &[SignedValue],
    ) -> Result<Vec<Option<Vec<u8>>>, CscError> {
        let mut each = Vec::new();
        for (job, signed) in jobs.iter().zip(values) {
            each.push(async move {
                Ok::<_, CscError>(match job.entry.level {
                    Level::B => None,
                    _ => Some(self.stamp(hash, &signed.value).await?),
                })
            });
        }
        let all = stream::iter(each).buffered(STAMPS_AT_ONCE).try_collect();
        let all = tokio::time::timeout(STAMPING, all).await;
        all.map_err(|_| CscError::Unavailable)?
    }

    async fn stamp(&self, hash: HashAlg, value: &[u8]) -> Result<Vec<u8>, CscError> {
        let imprint = hash.digest(value);
        for tsa in &self.time_stampers {
            let (fetch, random) = (self.fetch.as_ref(), self.random.as_ref());
            let asked = pki::tsp::request(fetch, &tsa.url, hash, &imprint, &tsa.anchors, random);
            match asked.await {
                Ok((token, _)) => return Ok(token),
                Err(error) => {
                    tracing::warn!(url = tsa.url, %error, "a time-stamping authority gave no time-stamp");
                }
            }
        }
        Err(CscError::Unavailable)
    }
}

fn assemble(
    signer: &Signer,
    job: &Job<'_>,
    signed: &SignedValue,
    stamp: Option<&[u8]>,
) -> Result<Vec<u8>, WorkerRefusal> {
    let build = |chain: &[Vec<u8>]| {
        let leaf = signer.chain.first().map_or(&[][..], Vec::as_slice);
        let (attrs, value) = (&job.attrs, signed.value.as_slice());
        match job.encloses() {
            Some(document) => {
                cades::build_enveloping(attrs, (signer.alg, value), leaf, chain, stamp, document)
            }
            None => cades::build_signed_data(attrs, signer.alg, value, leaf, chain, stamp),
        }
    };
    let with_counter = signed.counter.as_ref().and_then(|counter| {
        let cms = build(&[&signer.chain[..], &counter.certificates].concat()).ok()?;
        cades::add_counter_signature(&cms, &counter.signer_info).ok()
    });
    let cms = with_counter.map_or_else(|| build(&signer.chain), Ok);
    cms.map_err(|error| {
        tracing::error!(%error, "a value of the service made no signature");
        CscError::Internal.into()
    })
}

fn lost() -> WorkerRefusal {
    WorkerRefusal {
        description: csc_types::OUTCOME_LOST.to_owned(),
        ..CscError::Internal.into()
    }
}

impl Job<'_> {
    /// The document that the signature holds.
    fn encloses(&self) -> Option<&[u8]> {
        let attached =
            self.entry.format == Format::Cades && self.entry.envelope == Envelope::Attached;
        self.document.filter(|_| attached)
    }
}

/// A document, if it is there, and its digest that is signed.
type Digested<'e> = (Option<&'e [u8]>, Vec<u8>);

fn digests(entry: &DocEntry, alg: SigAlg) -> Result<Vec<Digested<'_>>, CscError> {
    let hash = alg.hash();
    match &entry.content {
        DocContent::Document(document) => Ok(vec![(Some(document), hash.digest(document))]),
        DocContent::Digests { hashes, .. } => {
            if entry.format == Format::Cades && entry.envelope == Envelope::Attached {
                // There is nothing to attach.
                return Err(CscError::InvalidParameter("signed_envelope_property"));
            }
            let named = named_hash(entry.hash_oid())?;
            if named.is_some_and(|named| named != hash) {
                return Err(CscError::HashContradiction);
            }
            if hashes.iter().any(|h| h.len() != hash.len()) {
                return Err(CscError::InvalidDigestLength);
            }
            Ok(hashes.iter().map(|h| (None, h.clone())).collect())
        }
    }
}

/// The time that the caller fixed.
fn claimed(entry: &DocEntry) -> Result<Option<UnixTime>, CscError> {
    let Some(der) = &entry.signing_time else {
        return Ok(None);
    };
    let bad = || CscError::SignedProps("signing-time".to_owned());
    let time = Tlv::single(der, "signing-time").and_then(|tlv| tlv.as_time("signing-time"));
    let time = time.map_err(|_| bad())?;
    // One way to write each time: the bytes are what was approved.
    match pki::asn1::time(time) == *der {
        true => Ok(Some(time)),
        false => Err(bad()),
    }
}

/// What the service answered, in the words of `signDoc`.
fn passed(error: &ClientError) -> WorkerRefusal {
    match error {
        ClientError::Api { status, body, .. } => {
            let description = body.error_description.clone().unwrap_or_default();
            let mismatch = CscError::HashNotAuthorized.description();
            if description.trim_end_matches('.') == mismatch {
                return CscError::DocumentMismatch.into();
            }
            WorkerRefusal {
                status: *status,
                error: body.error.clone(),
                description,
            }
        }
        error => {
            tracing::error!(%error, "the service gave its worker no answer");
            CscError::Unavailable.into()
        }
    }
}

#[cfg(test)]
mod tests;
