//! The signed attributes of a document signature: one builder and one strict reader, shared by whoever computes
//! them and whoever decides about them (`sap` §4, form `doc`).

use core_types::{HashAlg, SigAlg, UnixTime};

use crate::alg::{self, AlgError};
use crate::asn1::{
    self, DerError, INTEGER, OCTET_STRING, SEQUENCE, SET, Tlv, Walker, context_constructed,
};
use crate::cert::Certificate;
use crate::oid;

/// DER `SET OF Attribute` (tag 0x31) with exactly contentType = id-data, messageDigest and
/// signingCertificateV2. Deterministic: equal arguments give equal bytes, whoever asks.
///
/// The certificate is referred to by SHA-256 and by issuer and serial number (RFC 5035 §3).
///
/// # Errors
/// [`DerError`] when the certificate isn't one.
pub fn minimal_signed_attrs(
    document_digest: &[u8],
    signer_cert: &[u8],
) -> Result<Vec<u8>, DerError> {
    signed_attrs_at(document_digest, signer_cert, None)
}

/// As [`minimal_signed_attrs`], with the claimed time of signing if there is one: CAdES wants it, PAdES has it elsewhere.
///
/// # Errors
/// As [`minimal_signed_attrs`].
pub fn signed_attrs_at(
    document_digest: &[u8],
    signer_cert: &[u8],
    at: Option<UnixTime>,
) -> Result<Vec<u8>, DerError> {
    let cert = Certificate::parse(signer_cert)?;
    let mut all = vec![
        attribute(oid::CONTENT_TYPE, &asn1::oid(oid::DATA)),
        attribute(oid::MESSAGE_DIGEST, &asn1::octets(document_digest)),
        signing_certificate(&cert),
    ];
    all.extend(at.map(|at| attribute(oid::SIGNING_TIME, &asn1::time(at))));
    Ok(asn1::set_of(all))
}

/// The signingCertificateV2 attribute that refers to `cert` by SHA-256, which is the default and therefore
/// not written.
pub fn signing_certificate(cert: &Certificate) -> Vec<u8> {
    let hash = HashAlg::Sha256.digest(cert.der());
    let directory_name = asn1::tlv(context_constructed(4), &[cert.issuer()]);
    let issuer_serial = asn1::sequence(&[
        &asn1::sequence(&[&directory_name]),
        &asn1::tlv(INTEGER, &[cert.serial()]),
    ]);
    let id = asn1::sequence(&[&asn1::octets(&hash), &issuer_serial]);
    let value = asn1::sequence(&[&asn1::sequence(&[&id])]);
    attribute(oid::SIGNING_CERTIFICATE_V2, &value)
}

/// A DER Attribute with one value.
pub fn attribute(id: &'static str, value: &[u8]) -> Vec<u8> {
    asn1::sequence(&[&asn1::oid(id), &asn1::tlv(SET, &[value])])
}

/// A reference to a certificate in signingCertificateV2, or by SHA-1 in the older signingCertificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EssCertId {
    /// Hash function; `None` is SHA-1.
    pub hash: Option<HashAlg>,
    /// Hash of the certificate's DER.
    pub value: Vec<u8>,
    /// DER Name of the issuer and contents octets of the serial number, if given.
    pub issuer_serial: Option<(Vec<u8>, Vec<u8>)>,
}

impl EssCertId {
    /// Whether this refers to `cert`: by hash, and by issuer and serial number where given.
    pub fn matches(&self, cert: &Certificate) -> bool {
        let digest = match self.hash {
            Some(hash) => hash.digest(cert.der()),
            None => sha1(cert.der()),
        };
        let named = |(issuer, serial): &(Vec<u8>, Vec<u8>)| {
            issuer == cert.issuer() && serial == cert.serial()
        };
        digest == self.value && self.issuer_serial.as_ref().is_none_or(named)
    }

    /// Reads the first reference of a signingCertificateV2 value (RFC 5035 §3), or of signingCertificate
    /// (RFC 2634 §5.4) when `sha1` is set.
    ///
    /// # Errors
    /// [`AlgError`] when it is malformed or its hash function is unknown.
    pub fn parse(value: Tlv<'_>, sha1: bool) -> Result<Self, AlgError> {
        let what = "signingCertificate attribute";
        let mut outer = value.open(SEQUENCE, what)?;
        let mut certs = outer.sequence(what)?;
        if !outer.is_empty() {
            outer.expect(SEQUENCE, what)?;
        }
        outer.finish(what)?;
        let mut id = certs.sequence(what)?;
        let hash = match (sha1, id.peek()) {
            (true, _) => None,
            (false, Some(SEQUENCE)) => Some(alg::decode_hash_alg(id.next(what)?.raw)?),
            (false, _) => Some(HashAlg::Sha256),
        };
        let value = id.expect(OCTET_STRING, what)?.value.to_vec();
        let issuer_serial = match id.optional(SEQUENCE, what)? {
            None => None,
            Some(pair) => {
                let mut pair = Walker::new(pair.value);
                let mut names = pair.sequence(what)?;
                let issuer = names.expect(context_constructed(4), what)?.value.to_vec();
                names.finish(what)?;
                let serial = pair.expect(INTEGER, what)?.value.to_vec();
                pair.finish(what)?;
                Some((issuer, serial))
            }
        };
        id.finish(what)?;
        Ok(Self {
            hash,
            value,
            issuer_serial,
        })
    }
}

/// SHA-1, for identifiers of others that prove nothing by it.
pub(crate) fn sha1(bytes: &[u8]) -> Vec<u8> {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
    digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec()
}

/// Signed attributes that passed [`parse_signed_attrs_strict`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedAttrs {
    /// Value of messageDigest.
    pub message_digest: Vec<u8>,
    /// The signer's certificate.
    pub signing_certificate: EssCertId,
    /// Claimed time of signing.
    pub signing_time: Option<UnixTime>,
    /// Algorithms repeated under the signature (RFC 6211).
    pub algorithm_protection: Option<(HashAlg, SigAlg)>,
    /// Dotted identifiers of all attributes, in their order.
    pub present: Vec<String>,
}

impl SignedAttrs {
    /// Whether these attributes bind this document hash and this certificate.
    ///
    /// # Errors
    /// [`SignedAttrsError::OtherDocument`] or [`SignedAttrsError::OtherCertificate`].
    pub fn check(
        &self,
        document_digest: &[u8],
        cert: &Certificate,
    ) -> Result<(), SignedAttrsError> {
        if self.message_digest != document_digest {
            return Err(SignedAttrsError::OtherDocument);
        }
        if !self.signing_certificate.matches(cert) {
            return Err(SignedAttrsError::OtherCertificate);
        }
        Ok(())
    }
}

/// Attributes allowed beside the three required ones.
const OPTIONAL: [&str; 6] = [
    oid::SIGNING_TIME,
    oid::ALGORITHM_PROTECTION,
    oid::COMMITMENT_TYPE,
    oid::SIGNATURE_POLICY,
    oid::CONTENT_HINTS,
    oid::MIME_TYPE,
];

/// Parses signed attributes as somebody must who is about to sign them: tag SET (0x31), DER order, each
/// attribute once with one value, the three required ones present, nothing outside the allow-list, nothing after
/// the end, and signingCertificateV2 with exactly one certificate by a hash of the SHA-2 family.
///
/// # Errors
/// [`SignedAttrsError`] names the rule that was broken.
pub fn parse_signed_attrs_strict(der: &[u8]) -> Result<SignedAttrs, SignedAttrsError> {
    let what = "signed attributes";
    let attributes = Tlv::single(der, what)?.open(SET, what)?.all(what)?;
    if !attributes.is_sorted_by(|a, b| a.raw < b.raw) {
        return Err(SignedAttrsError::Unsorted);
    }
    let mut present: Vec<String> = Vec::new();
    let (mut content_type, mut message_digest, mut signing_certificate) = (None, None, None);
    let (mut signing_time, mut algorithm_protection) = (None, None);
    for attribute in attributes {
        let mut fields = attribute.open(SEQUENCE, what)?;
        let id = fields.next(what)?.as_oid(what)?;
        let values = fields.expect(SET, what)?;
        fields.finish(what)?;
        if present.contains(&id) {
            return Err(SignedAttrsError::Repeated(id));
        }
        let value = Tlv::single(values.value, "attribute with other than one value")?;
        match id.as_str() {
            oid::CONTENT_TYPE => content_type = Some(value.as_oid("contentType")?),
            oid::MESSAGE_DIGEST if value.tag == OCTET_STRING => {
                message_digest = Some(value.value.to_vec());
            }
            oid::MESSAGE_DIGEST => return Err(DerError("messageDigest").into()),
            oid::SIGNING_CERTIFICATE_V2 => signing_certificate = Some(only_certificate(value)?),
            oid::SIGNING_TIME => {
                let at = value.as_time("signingTime")?;
                if asn1::time(at) != value.raw {
                    return Err(DerError("signingTime").into());
                }
                signing_time = Some(at);
            }
            oid::ALGORITHM_PROTECTION => algorithm_protection = Some(parse_protection(value)?),
            other if OPTIONAL.contains(&other) => {}
            _ => return Err(SignedAttrsError::NotAllowed(id)),
        }
        present.push(id);
    }
    if content_type.ok_or(SignedAttrsError::Missing("contentType"))? != oid::DATA {
        return Err(SignedAttrsError::ContentType);
    }
    Ok(SignedAttrs {
        message_digest: message_digest.ok_or(SignedAttrsError::Missing("messageDigest"))?,
        signing_certificate: signing_certificate
            .ok_or(SignedAttrsError::Missing("signingCertificateV2"))?,
        signing_time,
        algorithm_protection,
        present,
    })
}

fn only_certificate(value: Tlv<'_>) -> Result<EssCertId, SignedAttrsError> {
    let what = "signingCertificateV2 with other than one certificate";
    let mut outer = value.open(SEQUENCE, what)?;
    let mut certs = outer.sequence(what)?;
    let id = certs.next(what)?;
    certs.finish(what)?;
    outer.finish(what)?;
    let parsed = EssCertId::parse(value, false)?;
    // DER leaves the default hash algorithm out (RFC 5035 §4), so there is one encoding of each reference.
    if parsed.hash == Some(HashAlg::Sha256) && Walker::new(id.value).peek() == Some(SEQUENCE) {
        return Err(DerError("signingCertificateV2 with its default written").into());
    }
    Ok(parsed)
}

/// CMSAlgorithmProtection (RFC 6211 §2): digest and signature algorithm; a MAC has no place here.
pub(crate) fn parse_protection(value: Tlv<'_>) -> Result<(HashAlg, SigAlg), AlgError> {
    let what = "CMSAlgorithmProtection";
    let mut fields = value.open(SEQUENCE, what)?;
    let hash = alg::decode_hash_alg(fields.expect(SEQUENCE, what)?.raw)?;
    let signature = fields.expect(context_constructed(1), what)?;
    fields.finish(what)?;
    let signature = asn1::sequence(&[signature.value]);
    Ok((hash, alg::decode_sig_alg(&signature, Some(hash))?))
}

/// Signed attributes were not accepted. The fault is the client's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignedAttrsError {
    /// Not DER.
    #[error(transparent)]
    Malformed(#[from] DerError),
    /// An algorithm in them is unknown or not approved.
    #[error(transparent)]
    Algorithm(#[from] AlgError),
    /// Not in DER order.
    #[error("the signed attributes are not in DER order")]
    Unsorted,
    /// An attribute comes twice.
    #[error("the signed attribute {0} comes more than once")]
    Repeated(String),
    /// An attribute outside the allow-list.
    #[error("the signed attribute {0} is not allowed")]
    NotAllowed(String),
    /// A required attribute is missing.
    #[error("the signed attribute {0} is missing")]
    Missing(&'static str),
    /// contentType isn't id-data.
    #[error("contentType must be id-data")]
    ContentType,
    /// messageDigest is not the document's hash.
    #[error("messageDigest is not the hash of this document")]
    OtherDocument,
    /// signingCertificateV2 refers to another certificate.
    #[error("signingCertificateV2 refers to another certificate than this key's")]
    OtherCertificate,
}

/// Turns the stored form of signed attributes, `[0] IMPLICIT`, into the SET OF that is hashed: the same bytes
/// with another first octet (RFC 5652 §5.4).
pub(crate) fn as_set(stored: &[u8]) -> Vec<u8> {
    let mut set = stored.to_vec();
    if let Some(first) = set.first_mut() {
        *first = SET;
    }
    set
}

/// Turns a SET OF into the stored form, `[0] IMPLICIT`.
pub(crate) fn as_stored(set: &[u8]) -> Vec<u8> {
    let mut stored = set.to_vec();
    if let Some(first) = stored.first_mut() {
        *first = context_constructed(0);
    }
    stored
}
