//! Certification requests (PKCS #10, RFC 2986), built around a digest that somebody else signs.

use core_types::SigAlg;

use crate::alg::{self, AlgError, Signed, VerifyError};
use crate::asn1::{self, DerError, INTEGER, SEQUENCE, Tlv, Walker, context_constructed};

/// DER CertificationRequestInfo of a DER Name and a DER SubjectPublicKeyInfo, with no attributes. Its hash is
/// what gets signed.
pub fn request_info(subject: &[u8], spki: &[u8]) -> Vec<u8> {
    asn1::sequence(&[
        &asn1::uint(&[]),
        subject,
        spki,
        &asn1::tlv(context_constructed(0), &[]),
    ])
}

/// The DER SubjectPublicKeyInfo inside a DER CertificationRequestInfo, whose whole form is checked.
///
/// # Errors
/// [`DerError`] for anything else.
pub fn request_info_key(request_info: &[u8]) -> Result<&[u8], DerError> {
    let what = "certification request info";
    let mut fields = Tlv::single(request_info, what)?.open(SEQUENCE, what)?;
    if fields.expect(INTEGER, what)?.as_u32(what)? != 0 {
        return Err(DerError(what));
    }
    fields.expect(SEQUENCE, what)?;
    let spki = fields.expect(SEQUENCE, what)?.raw;
    fields.expect(context_constructed(0), what)?;
    fields.finish(what)?;
    Ok(spki)
}

/// Joins a [`request_info`] and its signature to a DER CertificationRequest.
pub fn assemble(request_info: &[u8], alg: SigAlg, signature: &[u8]) -> Vec<u8> {
    asn1::sequence(&[
        request_info,
        &alg::encode_sig_alg(alg),
        &asn1::bits(signature),
    ])
}

/// A parsed request whose signature has been verified: the sender holds the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csr {
    /// DER Name asked for.
    pub subject: Vec<u8>,
    /// DER SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
    /// Algorithm of the proof of possession.
    pub sig_alg: SigAlg,
}

impl Csr {
    /// Parses a DER CertificationRequest and verifies its own signature. Attributes are ignored.
    ///
    /// # Errors
    /// [`CsrError`].
    pub fn verify(der: &[u8]) -> Result<Self, CsrError> {
        let what = "certification request";
        let mut outer = Tlv::single(der, what)?.open(SEQUENCE, what)?;
        let info = outer.expect(SEQUENCE, what)?;
        let sig_alg = alg::decode_sig_alg(outer.expect(SEQUENCE, what)?.raw, None)?;
        let signature = outer.next(what)?.as_bits(what)?;
        outer.finish(what)?;
        let mut fields = Walker::new(info.value);
        if fields.expect(INTEGER, what)?.as_u32(what)? != 0 {
            return Err(DerError("certification request version").into());
        }
        let subject = fields.expect(SEQUENCE, what)?.raw.to_vec();
        let spki = fields.expect(SEQUENCE, what)?.raw.to_vec();
        fields.expect(context_constructed(0), what)?;
        fields.finish(what)?;
        alg::verify_signature(&spki, sig_alg, Signed::Message(info.raw), signature)?;
        Ok(Self {
            subject,
            spki,
            sig_alg,
        })
    }
}

/// A certification request was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Not DER, or not a request.
    #[error(transparent)]
    Malformed(#[from] DerError),
    /// Algorithm unknown or not approved.
    #[error(transparent)]
    Algorithm(#[from] AlgError),
    /// Not signed by the key it asks to certify.
    #[error("the request is not signed by its own key: {0}")]
    Possession(#[from] VerifyError),
}
