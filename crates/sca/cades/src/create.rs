//! Putting a signature together.

use core_types::{HashAlg, KeyAlg, SigAlg, UnixTime};
use pki::alg::VerifyError;
use pki::asn1::DerError;
use pki::cms::{NewSignedData, SignedAttrsError, SignedData, SignerError, SignerInfo};
use pki::{Certificate, Signed, oid};

/// The signed attributes of a PAdES baseline signature, DER with tag SET: contentType, messageDigest,
/// signingCertificateV2 and nothing else (EN 319 142-1 §6.3). Deterministic.
///
/// # Errors
/// [`DerError`] when the certificate can't be parsed.
pub fn signed_attrs(document_digest: &[u8], signer_cert: &[u8]) -> Result<Vec<u8>, DerError> {
    pki::cms::minimal_signed_attrs(document_digest, signer_cert)
}

/// As [`signed_attrs`], with the claimed time of signing, which CAdES baseline signatures have there (EN 319 122-1 §6.3).
///
/// # Errors
/// As [`signed_attrs`].
pub fn signed_attrs_at(
    document_digest: &[u8],
    signer_cert: &[u8],
    at: Option<UnixTime>,
) -> Result<Vec<u8>, DerError> {
    pki::cms::signed_attrs_at(document_digest, signer_cert, at)
}

/// The hash that gets signed: that of the signed attributes under the signature's hash function.
pub fn to_be_signed(signed_attrs: &[u8], hash: HashAlg) -> Vec<u8> {
    hash.digest(signed_attrs)
}

/// Builds a detached CMS signature with one signer (DER ContentInfo) around signed attributes and the value
/// that came back for them. `chain` are further certificates to include, the root not needed.
///
/// # Errors
/// [`BuildError`]: nothing is built unless the attributes refer to this certificate and the value verifies
/// with its key.
pub fn build_signed_data(
    signed_attrs: &[u8],
    sig_alg: SigAlg,
    signature: &[u8],
    signer_cert: &[u8],
    chain: &[Vec<u8>],
    signature_timestamp_token: Option<&[u8]>,
) -> Result<Vec<u8>, BuildError> {
    let value = (sig_alg, signature);
    build(
        signed_attrs,
        value,
        signer_cert,
        chain,
        signature_timestamp_token,
        None,
    )
}

/// As [`build_signed_data`], with the document in it (enveloping). Its digest isn't compared: whoever made the attributes from
/// it knows.
///
/// # Errors
/// As [`build_signed_data`].
pub fn build_enveloping(
    signed_attrs: &[u8],
    (sig_alg, signature): (SigAlg, &[u8]),
    signer_cert: &[u8],
    chain: &[Vec<u8>],
    signature_timestamp_token: Option<&[u8]>,
    document: &[u8],
) -> Result<Vec<u8>, BuildError> {
    let (value, document) = ((sig_alg, signature), Some(document));
    build(
        signed_attrs,
        value,
        signer_cert,
        chain,
        signature_timestamp_token,
        document,
    )
}

fn build(
    signed_attrs: &[u8],
    (sig_alg, signature): (SigAlg, &[u8]),
    signer_cert: &[u8],
    chain: &[Vec<u8>],
    signature_timestamp_token: Option<&[u8]>,
    content: Option<&[u8]>,
) -> Result<Vec<u8>, BuildError> {
    let cert = Certificate::parse(signer_cert)?;
    let attrs = pki::cms::parse_signed_attrs_strict(signed_attrs)?;
    if attrs.message_digest.len() != sig_alg.hash().len() {
        return Err(BuildError::DigestLength(sig_alg));
    }
    attrs.check(&attrs.message_digest, &cert)?;
    pki::verify_signature(
        cert.spki(),
        sig_alg,
        Signed::Message(signed_attrs),
        signature,
    )?;
    let unsigned_attrs = signature_timestamp_token
        .map(timestamp_attribute)
        .into_iter()
        .collect();
    let new = NewSignedData {
        content_type: oid::DATA,
        content,
        signed_attrs,
        sig_alg,
        signature,
        signer_cert,
        chain,
        unsigned_attrs,
    };
    Ok(new.encode()?)
}

/// Adds a signature time-stamp (its token as DER ContentInfo) as an unsigned attribute: B-B becomes B-T.
///
/// # Errors
/// [`DerError`] when `cms` isn't SignedData with exactly one signer.
pub fn add_timestamp(cms: &[u8], token: &[u8]) -> Result<Vec<u8>, DerError> {
    pki::cms::add_unsigned_attribute(cms, &timestamp_attribute(token))
}

/// Adds the provider's counter-signature (a SignerInfo, DER) as an unsigned attribute. Its certificate is among those of
/// `cms`: [`build_signed_data`] takes it with the chain.
///
/// # Errors
/// [`BuildError`]: nothing is added that isn't a counter-signature over this signature's value.
pub fn add_counter_signature(cms: &[u8], signer_info: &[u8]) -> Result<Vec<u8>, BuildError> {
    let signed = SignedData::parse(cms)?;
    let info = SignerInfo::single(signer_info)?;
    let cert = signed.signer_certificate(&info, &[]);
    let cert = cert.ok_or(BuildError::CounterSignature(SignerError::OtherCertificate))?;
    pki::counter::verify(&info, &signature_value(cms)?, &cert)
        .map_err(BuildError::CounterSignature)?;
    let attribute = pki::cms::attribute(oid::COUNTER_SIGNATURE, signer_info);
    Ok(pki::cms::add_unsigned_attribute(cms, &attribute)?)
}

fn timestamp_attribute(token: &[u8]) -> Vec<u8> {
    pki::cms::attribute(oid::SIGNATURE_TIME_STAMP, token)
}

/// The signature value of the only signer: its hash is the imprint of a signature time-stamp.
///
/// # Errors
/// [`DerError`] when `cms` isn't SignedData with exactly one signer.
pub fn signature_value(cms: &[u8]) -> Result<Vec<u8>, DerError> {
    match SignedData::parse(cms)?.signers.as_slice() {
        [signer] => Ok(signer.signature.clone()),
        _ => Err(DerError("SignedData with other than one signer")),
    }
}

/// Upper bound in bytes for the DER of a signature with this certificate and chain, any algorithm, and a
/// time-stamp token of `tsa_token_len` bytes (0 for none). Reserve this for PDF's `/Contents`.
///
/// # Errors
/// [`DerError`] when the certificate can't be parsed.
pub fn size_estimate(
    signer_cert: &[u8],
    chain: &[Vec<u8>],
    tsa_token_len: usize,
) -> Result<usize, DerError> {
    let longest = SigAlg::RsaPss(HashAlg::Sha512);
    let signature = match pki::key_alg(Certificate::parse(signer_cert)?.spki()) {
        // FIPS 204 §4, table 2.
        Some(KeyAlg::MlDsa65) => 3309,
        Some(KeyAlg::MlDsa87) => 4627,
        // The longest value of all others: RSA with 4096 bits.
        _ => 512,
    };
    let attrs = signed_attrs(&[0; 64], signer_cert)?;
    let new = NewSignedData {
        content_type: oid::DATA,
        content: None,
        signed_attrs: &attrs,
        sig_alg: longest,
        signature: &vec![0; signature],
        signer_cert,
        chain,
        unsigned_attrs: Vec::new(),
    };
    let stamp = if tsa_token_len == 0 {
        0
    } else {
        tsa_token_len + 2048
    };
    Ok(new.encode()?.len() + stamp + 512)
}

/// A signature was not built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The certificate is malformed.
    #[error(transparent)]
    Malformed(#[from] DerError),
    /// The signed attributes aren't acceptable or refer to another certificate.
    #[error(transparent)]
    Attributes(#[from] SignedAttrsError),
    /// messageDigest is not a hash of the signature's hash function.
    #[error("messageDigest doesn't have the length of the hash of {0}")]
    DigestLength(SigAlg),
    /// The counter-signature isn't one over this signature's value.
    #[error("the counter-signature doesn't belong to this signature: {0}")]
    CounterSignature(SignerError),
    /// The value isn't the signer's signature over these attributes.
    #[error("the value that came back is not this signer's signature: {0}")]
    Signature(#[from] VerifyError),
}
