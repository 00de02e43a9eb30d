//! CMS SignedData (RFC 5652 §5): read as received, written in DER.

use core_types::{HashAlg, SigAlg};

use crate::alg::{self, AlgError, Signed, VerifyError};
use crate::asn1::{
    self, DerError, INTEGER, OCTET_STRING, SEQUENCE, SET, Tlv, Walker, context_constructed,
};
use crate::cert::Certificate;
use crate::oid;
pub use crate::signed_attrs::{
    EssCertId, SignedAttrs, SignedAttrsError, attribute, minimal_signed_attrs,
    parse_signed_attrs_strict, signed_attrs_at, signing_certificate,
};

/// An attribute, signed or unsigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Dotted object identifier.
    pub oid: String,
    /// DER of each value.
    pub values: Vec<Vec<u8>>,
}

/// How a SignerInfo names its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignerId {
    /// DER Name of the issuer and contents octets of the serial number.
    IssuerAndSerial(Vec<u8>, Vec<u8>),
    /// Value of subjectKeyIdentifier.
    KeyId(Vec<u8>),
}

/// One signer of a [`SignedData`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerInfo {
    /// Which certificate.
    pub sid: SignerId,
    /// Hash of the content.
    pub digest: Result<HashAlg, AlgError>,
    /// Signed attributes as a SET OF, which is what is hashed; otherwise as received.
    pub signed_attrs: Option<Vec<u8>>,
    /// The signed attributes one by one.
    pub signed: Vec<Attribute>,
    /// Signature algorithm.
    pub sig_alg: Result<SigAlg, AlgError>,
    /// Signature value.
    pub signature: Vec<u8>,
    /// Unsigned attributes.
    pub unsigned: Vec<Attribute>,
}

/// A parsed SignedData.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedData {
    /// eContentType.
    pub content_type: String,
    /// eContent; absent when detached.
    pub content: Option<Vec<u8>>,
    /// DER of the X.509 certificates.
    pub certificates: Vec<Vec<u8>>,
    /// DER of the CRLs.
    pub crls: Vec<Vec<u8>>,
    /// DER of the OCSP responses (RFC 5940 §2).
    pub ocsp_responses: Vec<Vec<u8>>,
    /// The signers.
    pub signers: Vec<SignerInfo>,
}

impl SignedData {
    /// Parses a DER ContentInfo that holds SignedData.
    ///
    /// # Errors
    /// [`DerError`] when it is something else. BER of indefinite length isn't accepted.
    pub fn parse(der: &[u8]) -> Result<Self, DerError> {
        let what = "SignedData";
        let mut body = open(der)?;
        body.expect(INTEGER, what)?;
        body.expect(SET, what)?;
        let mut encapsulated = body.sequence("encapsulated content")?;
        let content_type = encapsulated.next(what)?.as_oid(what)?;
        let content = match encapsulated.optional(context_constructed(0), what)? {
            None => None,
            Some(wrapped) => {
                let inner = Tlv::single(wrapped.value, "encapsulated content")?;
                if inner.tag != OCTET_STRING {
                    return Err(DerError("encapsulated content"));
                }
                Some(inner.value.to_vec())
            }
        };
        encapsulated.finish(what)?;
        let mut certificates = Vec::new();
        if let Some(set) = body.optional(context_constructed(0), what)? {
            for choice in Walker::new(set.value).all("certificates in SignedData")? {
                // Attribute certificates and other formats aren't used here.
                if choice.tag == SEQUENCE {
                    certificates.push(choice.raw.to_vec());
                }
            }
        }
        let (mut crls, mut ocsp_responses) = (Vec::new(), Vec::new());
        if let Some(set) = body.optional(context_constructed(1), what)? {
            for choice in Walker::new(set.value).all("revocation data in SignedData")? {
                match choice.tag {
                    SEQUENCE => crls.push(choice.raw.to_vec()),
                    _ => ocsp_responses.extend(other_revocation(choice)?),
                }
            }
        }
        let signers = body.expect(SET, "signers")?;
        body.finish(what)?;
        let signers = Walker::new(signers.value).all("signers")?;
        let signers = signers
            .into_iter()
            .map(SignerInfo::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            content_type,
            content,
            certificates,
            crls,
            ocsp_responses,
            signers,
        })
    }

    /// The certificate that a signer names, among the included ones and `extra`.
    pub fn signer_certificate(
        &self,
        signer: &SignerInfo,
        extra: &[Vec<u8>],
    ) -> Option<Certificate> {
        let all = self.certificates.iter().chain(extra);
        all.filter_map(|der| Certificate::parse(der).ok())
            .find(|c| signer.sid.names(c))
    }
}

/// The body of SignedData inside a ContentInfo.
fn open(der: &[u8]) -> Result<Walker<'_>, DerError> {
    let what = "ContentInfo";
    let mut info = Tlv::single(der, what)?.open(SEQUENCE, what)?;
    if info.next(what)?.as_oid(what)? != oid::SIGNED_DATA {
        return Err(DerError("ContentInfo is not SignedData"));
    }
    let wrapped = info.expect(context_constructed(0), what)?;
    info.finish(what)?;
    Tlv::single(wrapped.value, "SignedData")?.open(SEQUENCE, "SignedData")
}

fn other_revocation(choice: Tlv<'_>) -> Result<Option<Vec<u8>>, DerError> {
    let what = "other revocation data";
    let mut fields = choice.open(context_constructed(1), what)?;
    let format = fields.next(what)?.as_oid(what)?;
    let value = fields.next(what)?;
    fields.finish(what)?;
    Ok((format == oid::RI_OCSP_RESPONSE).then(|| value.raw.to_vec()))
}

impl SignerId {
    /// Whether this names `cert`.
    pub fn names(&self, cert: &Certificate) -> bool {
        match self {
            Self::IssuerAndSerial(issuer, serial) => {
                issuer == cert.issuer() && serial == cert.serial()
            }
            Self::KeyId(id) => cert.extension(oid::SUBJECT_KEY_ID).is_some_and(|e| {
                Tlv::single(&e.value, "key id")
                    .is_ok_and(|t| t.tag == OCTET_STRING && t.value == *id)
            }),
        }
    }
}

impl SignerInfo {
    /// Parses a SignerInfo that stands alone, as the value of a countersignature attribute does.
    ///
    /// # Errors
    /// [`DerError`].
    pub fn single(der: &[u8]) -> Result<Self, DerError> {
        Self::parse(Tlv::single(der, "SignerInfo")?)
    }

    fn parse(tlv: Tlv<'_>) -> Result<Self, DerError> {
        let what = "SignerInfo";
        let mut fields = tlv.open(SEQUENCE, what)?;
        fields.expect(INTEGER, what)?;
        let sid = fields.next(what)?;
        let sid = match sid.tag {
            SEQUENCE => {
                let mut pair = Walker::new(sid.value);
                let issuer = pair.expect(SEQUENCE, what)?.raw.to_vec();
                let serial = pair.expect(INTEGER, what)?.value.to_vec();
                pair.finish(what)?;
                SignerId::IssuerAndSerial(issuer, serial)
            }
            0x80 => SignerId::KeyId(sid.value.to_vec()),
            _ => return Err(DerError("signer identifier")),
        };
        let digest = alg::decode_hash_alg(fields.expect(SEQUENCE, what)?.raw);
        let signed = fields.optional(context_constructed(0), what)?;
        let sig_alg = fields.expect(SEQUENCE, what)?;
        let signature = fields.expect(OCTET_STRING, what)?.value.to_vec();
        let unsigned = fields.optional(context_constructed(1), what)?;
        fields.finish(what)?;
        let list = |set: Option<Tlv<'_>>| set.map_or(Ok(Vec::new()), |s| attributes(s.value));
        Ok(Self {
            sid,
            signed: list(signed)?,
            signed_attrs: signed.map(|s| crate::signed_attrs::as_set(s.raw)),
            sig_alg: alg::decode_sig_alg(sig_alg.raw, digest.clone().ok()),
            digest,
            signature,
            unsigned: list(unsigned)?,
        })
    }

    /// The only value of a signed attribute.
    ///
    /// # Errors
    /// [`SignerError`] when the attribute or its value is missing or comes more than once.
    pub fn signed_attr(&self, id: &'static str) -> Result<&[u8], SignerError> {
        let mut found = self.signed.iter().filter(|a| a.oid == id);
        match (found.next().map(|a| a.values.as_slice()), found.next()) {
            (Some([value]), None) => Ok(value),
            (None, _) => Err(SignerError::MissingAttribute(id)),
            _ => Err(SignerError::RepeatedAttribute(id)),
        }
    }

    /// Whether the attribute is there at all.
    pub fn has_signed_attr(&self, id: &str) -> bool {
        self.signed.iter().any(|a| a.oid == id)
    }

    /// Verifies content type, messageDigest, CMSAlgorithmProtection where present, and the signature by the
    /// certificate's key. The reference to the certificate is [`Self::check_signing_certificate`].
    ///
    /// # Errors
    /// [`SignerError`].
    pub fn verify(
        &self,
        content_type: &str,
        content_digest: &dyn Fn(HashAlg) -> Vec<u8>,
        spki: &[u8],
    ) -> Result<(), SignerError> {
        let hash = self.digest.clone()?;
        let sig_alg = self.sig_alg.clone()?;
        if sig_alg.hash() != hash {
            return Err(SignerError::AlgorithmsDiffer);
        }
        let content_digest = content_digest(hash);
        let Some(attrs) = &self.signed_attrs else {
            if content_type != oid::DATA {
                return Err(SignerError::MissingAttribute(oid::CONTENT_TYPE));
            }
            let signed = Signed::Digest(&content_digest);
            return Ok(alg::verify_signature(
                spki,
                sig_alg,
                signed,
                &self.signature,
            )?);
        };
        let claimed = self.signed_attr(oid::CONTENT_TYPE)?;
        if Tlv::single(claimed, "contentType")?.as_oid("contentType")? != content_type {
            return Err(SignerError::ContentType);
        }
        let digest = Tlv::single(self.signed_attr(oid::MESSAGE_DIGEST)?, "messageDigest")?;
        if digest.tag != OCTET_STRING || digest.value != content_digest {
            return Err(SignerError::MessageDigest);
        }
        if self.has_signed_attr(oid::ALGORITHM_PROTECTION) {
            let value = Tlv::single(
                self.signed_attr(oid::ALGORITHM_PROTECTION)?,
                "CMSAlgorithmProtection",
            )?;
            if crate::signed_attrs::parse_protection(value)? != (hash, sig_alg) {
                return Err(SignerError::AlgorithmsDiffer);
            }
        }
        Ok(alg::verify_signature(
            spki,
            sig_alg,
            Signed::Message(attrs),
            &self.signature,
        )?)
    }

    /// Checks that the signed reference to the signer's certificate is there and refers to `cert`.
    ///
    /// # Errors
    /// [`SignerError`]; `sha1_allowed` lets the older SHA-1 reference count, as in old time-stamps.
    pub fn check_signing_certificate(
        &self,
        cert: &Certificate,
        sha1_allowed: bool,
    ) -> Result<(), SignerError> {
        let old = !self.has_signed_attr(oid::SIGNING_CERTIFICATE_V2)
            && sha1_allowed
            && self.has_signed_attr(oid::SIGNING_CERTIFICATE);
        let id = if old {
            oid::SIGNING_CERTIFICATE
        } else {
            oid::SIGNING_CERTIFICATE_V2
        };
        let value = Tlv::single(self.signed_attr(id)?, "signingCertificate")?;
        let matches = EssCertId::parse(value, old)?.matches(cert);
        if matches {
            Ok(())
        } else {
            Err(SignerError::OtherCertificate)
        }
    }
}

fn attributes(bytes: &[u8]) -> Result<Vec<Attribute>, DerError> {
    let what = "attribute";
    let mut out = Vec::new();
    for attribute in Walker::new(bytes).all(what)? {
        let mut fields = attribute.open(SEQUENCE, what)?;
        let oid = fields.next(what)?.as_oid(what)?;
        let values = Walker::new(fields.expect(SET, what)?.value).all(what)?;
        fields.finish(what)?;
        out.push(Attribute {
            oid,
            values: values.iter().map(|v| v.raw.to_vec()).collect(),
        });
    }
    Ok(out)
}

/// A signer's part of a SignedData was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// An attribute is broken.
    #[error(transparent)]
    Malformed(#[from] DerError),
    /// An algorithm is unknown or not approved.
    #[error(transparent)]
    Algorithm(#[from] AlgError),
    /// Digest algorithm, signature algorithm and CMSAlgorithmProtection don't agree.
    #[error("the signature names different algorithms in different places")]
    AlgorithmsDiffer,
    /// A required attribute is missing.
    #[error("the signed attribute {0} is missing")]
    MissingAttribute(&'static str),
    /// An attribute or its value comes more than once.
    #[error("the signed attribute {0} does not have exactly one value")]
    RepeatedAttribute(&'static str),
    /// contentType isn't that of the content.
    #[error("the signed content type is another one")]
    ContentType,
    /// The content isn't what was signed.
    #[error("the content differs from what was signed")]
    MessageDigest,
    /// The signed reference is to another certificate.
    #[error("the signed reference is to another certificate")]
    OtherCertificate,
    /// The signature value is wrong.
    #[error(transparent)]
    Signature(#[from] VerifyError),
}

/// The parts of a new SignedData with one signer, named by issuer and serial number.
#[derive(Debug)]
pub struct NewSignedData<'a> {
    /// eContentType.
    pub content_type: &'static str,
    /// eContent, or nothing for a detached signature.
    pub content: Option<&'a [u8]>,
    /// SET OF Attribute, as it was hashed and signed.
    pub signed_attrs: &'a [u8],
    /// Signature algorithm; its hash is the digest algorithm too.
    pub sig_alg: SigAlg,
    /// Signature value over the signed attributes.
    pub signature: &'a [u8],
    /// DER of the signer's certificate.
    pub signer_cert: &'a [u8],
    /// DER of further certificates to include.
    pub chain: &'a [Vec<u8>],
    /// DER of unsigned attributes.
    pub unsigned_attrs: Vec<Vec<u8>>,
}

impl NewSignedData<'_> {
    /// Encodes a DER ContentInfo. Nothing is verified here.
    ///
    /// # Errors
    /// [`DerError`] when the signer's certificate can't be parsed or the signed attributes aren't a SET.
    pub fn encode(self) -> Result<Vec<u8>, DerError> {
        let version: u8 = if self.content_type == oid::DATA { 1 } else { 3 };
        let digest = alg::encode_hash_alg(self.sig_alg.hash());
        let signer = encode_signer_info(
            self.signed_attrs,
            self.sig_alg,
            self.signature,
            self.signer_cert,
            self.unsigned_attrs,
        )?;
        let content = self.content.map_or_else(Vec::new, |bytes| {
            asn1::tlv(context_constructed(0), &[&asn1::octets(bytes)])
        });
        let mut certificates = vec![self.signer_cert.to_vec()];
        for further in self.chain {
            if !certificates.contains(further) {
                certificates.push(further.clone());
            }
        }
        let body = asn1::sequence(&[
            &asn1::uint(&[version]),
            &asn1::set_of(vec![digest.clone()]),
            &asn1::sequence(&[&asn1::oid(self.content_type), &content]),
            &retag(asn1::set_of(certificates), 0),
            &asn1::set_of(vec![signer]),
        ]);
        Ok(asn1::sequence(&[
            &asn1::oid(oid::SIGNED_DATA),
            &asn1::tlv(context_constructed(0), &[&body]),
        ]))
    }
}

/// A SignerInfo, DER, with its certificate named by issuer and serial number.
pub(crate) fn encode_signer_info(
    signed_attrs: &[u8],
    sig_alg: SigAlg,
    signature: &[u8],
    signer_cert: &[u8],
    unsigned_attrs: Vec<Vec<u8>>,
) -> Result<Vec<u8>, DerError> {
    let cert = Certificate::parse(signer_cert)?;
    Tlv::single(signed_attrs, "signed attributes")?.open(SET, "signed attributes")?;
    let sid = asn1::sequence(&[cert.issuer(), &asn1::tlv(INTEGER, &[cert.serial()])]);
    let unsigned = if unsigned_attrs.is_empty() {
        Vec::new()
    } else {
        retag(asn1::set_of(unsigned_attrs), 1)
    };
    Ok(asn1::sequence(&[
        &asn1::uint(&[1]),
        &sid,
        &alg::encode_hash_alg(sig_alg.hash()),
        &crate::signed_attrs::as_stored(signed_attrs),
        &alg::encode_sig_alg(sig_alg),
        &asn1::octets(signature),
        &unsigned,
    ]))
}

fn retag(mut set: Vec<u8>, number: u8) -> Vec<u8> {
    if let Some(first) = set.first_mut() {
        *first = context_constructed(number);
    }
    set
}

/// Adds an unsigned attribute (DER) to the only signer of a ContentInfo; every other byte stays as it was, save
/// the lengths around it.
///
/// # Errors
/// [`DerError`] when it isn't SignedData with exactly one signer.
pub fn add_unsigned_attribute(der: &[u8], attribute: &[u8]) -> Result<Vec<u8>, DerError> {
    let what = "SignedData";
    let mut fields = open(der)?.all(what)?;
    let signers = fields.pop().ok_or(DerError(what))?;
    let mut one = signers.open(SET, "signers")?;
    let signer = one.expect(SEQUENCE, "SignerInfo")?;
    one.finish("SignedData with other than one signer")?;
    let mut parts = signer.open(SEQUENCE, what)?.all(what)?;
    let mut unsigned = vec![attribute.to_vec()];
    if parts
        .last()
        .is_some_and(|p| p.tag == context_constructed(1))
        && let Some(present) = parts.pop()
    {
        unsigned.extend(
            Walker::new(present.value)
                .all(what)?
                .iter()
                .map(|a| a.raw.to_vec()),
        );
    }
    let unsigned = retag(asn1::set_of(unsigned), 1);
    let mut slices: Vec<&[u8]> = parts.iter().map(|p| p.raw).collect();
    slices.push(&unsigned);
    let signers = asn1::tlv(SET, &[&asn1::sequence(&slices)]);
    let mut slices: Vec<&[u8]> = fields.iter().map(|p| p.raw).collect();
    slices.push(&signers);
    let body = asn1::tlv(context_constructed(0), &[&asn1::sequence(&slices)]);
    Ok(asn1::sequence(&[&asn1::oid(oid::SIGNED_DATA), &body]))
}
