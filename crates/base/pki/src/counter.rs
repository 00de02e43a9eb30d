//! Counter-signatures (RFC 5652 §11.4): a SignerInfo over the signature value of another signer, an unsigned attribute of
//! that one.

use core_types::{HashAlg, SigAlg, UnixTime};

use crate::alg::{self, Signed};
use crate::asn1::{self, DerError, OCTET_STRING, Tlv};
use crate::cert::Certificate;
use crate::cms::{SignerError, SignerInfo, attribute, encode_signer_info, signing_certificate};
use crate::oid;

/// The signed attributes of a counter-signature over a signature value, DER with tag SET: messageDigest of the value,
/// signingTime and signingCertificateV2; contentType has no place in it (RFC 5652 §11.4). Deterministic.
///
/// # Errors
/// [`DerError`] when the certificate isn't one.
pub fn counter_attrs(
    value: &[u8],
    hash: HashAlg,
    signer_cert: &[u8],
    at: UnixTime,
) -> Result<Vec<u8>, DerError> {
    let cert = Certificate::parse(signer_cert)?;
    Ok(asn1::set_of(vec![
        attribute(oid::MESSAGE_DIGEST, &asn1::octets(&hash.digest(value))),
        attribute(oid::SIGNING_TIME, &asn1::time(at)),
        signing_certificate(&cert),
    ]))
}

/// The SignerInfo (DER) around these attributes and the value that was made over them. Nothing is verified here.
///
/// # Errors
/// [`DerError`] when the certificate isn't one or the attributes aren't a SET.
pub fn assemble(
    attrs: &[u8],
    sig_alg: SigAlg,
    value: &[u8],
    signer_cert: &[u8],
) -> Result<Vec<u8>, DerError> {
    encode_signer_info(attrs, sig_alg, value, signer_cert, Vec::new())
}

/// Verifies that `counter` is a signature over `value` by the key of `cert`, which its signed reference names.
/// Validity and trust of the certificate are the caller's.
///
/// # Errors
/// [`SignerError`]. Without signed attributes, as RFC 5652 would allow, it names no certificate and isn't taken.
pub fn verify(counter: &SignerInfo, value: &[u8], cert: &Certificate) -> Result<(), SignerError> {
    let (hash, sig_alg) = (counter.digest.clone()?, counter.sig_alg.clone()?);
    if sig_alg.hash() != hash {
        return Err(SignerError::AlgorithmsDiffer);
    }
    // One kind of signature must not pass for another.
    if counter.has_signed_attr(oid::CONTENT_TYPE) {
        return Err(SignerError::ContentType);
    }
    let digest = Tlv::single(counter.signed_attr(oid::MESSAGE_DIGEST)?, "messageDigest")?;
    if digest.tag != OCTET_STRING || digest.value != hash.digest(value) {
        return Err(SignerError::MessageDigest);
    }
    counter.check_signing_certificate(cert, false)?;
    let attrs = counter.signed_attrs.as_deref().unwrap_or_default();
    alg::verify_signature(
        cert.spki(),
        sig_alg,
        Signed::Message(attrs),
        &counter.signature,
    )?;
    Ok(())
}
