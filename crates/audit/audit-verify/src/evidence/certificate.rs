//! The signer's certificate: that it is the one in the act, holds the key in the act, and was signed by the issuer.
//! A small reader for just these fields (RFC 5280 §4.1).

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::der::{BIT_STRING, OID, SEQUENCE, content, element, elements, extension, sequence};
use super::documents::Key;
use super::{EvidenceFault, from_b64u};

const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// The extension *extended key usage*, and in it that of a responder (RFC 6960 §4.2.2.2).
const EXTENDED_KEY_USAGE: [u8; 3] = [0x55, 0x1d, 0x25];
const OCSP_SIGNING: [u8; 8] = [0x2b, 6, 1, 5, 5, 7, 3, 9];

/// Checks the chain in the bundle against key and issuer.
pub(super) fn check(
    chain: &[String],
    key: &Key,
    issuer: Option<&[u8]>,
    remarks: &mut Vec<&'static str>,
) -> Result<(), EvidenceFault> {
    let form = || EvidenceFault::Form("a certificate");
    let broken = EvidenceFault::Broken;
    let ders: Option<Vec<Vec<u8>>> = chain.iter().map(|c| from_b64u(c)).collect();
    let ders = ders.ok_or_else(form)?;
    let parsed: Option<Vec<Certificate<'_>>> = ders.iter().map(|d| Certificate::read(d)).collect();
    let parsed = parsed.ok_or_else(form)?;
    let (leaf, leaf_der) = parsed.first().zip(ders.first()).ok_or_else(form)?;
    if hash(leaf_der) != key.cert {
        return Err(broken("the certificate isn't the one in the act"));
    }
    if hash(leaf.spki) != key.spki {
        return Err(broken("the certificate is for another key"));
    }
    for pair in parsed.windows(2) {
        if !pair[0].signed_by(&pair[1]) {
            return Err(broken("a certificate isn't by the next one"));
        }
    }
    let Some(issuer) = issuer else {
        remarks.push("issuer-not-checked");
        return Ok(());
    };
    let anchor =
        Certificate::read(issuer).ok_or(EvidenceFault::Anchor("the issuer's certificate"))?;
    let ends = ders.iter().any(|d| d == issuer)
        || parsed.last().is_some_and(|last| last.signed_by(&anchor));
    match ends {
        true => Ok(()),
        false => Err(broken("the certificate isn't by the issuer you know")),
    }
}

/// A certificate, as far as it is read.
pub(super) struct Certificate<'a> {
    tbs: &'a [u8],
    /// INTEGER, whole.
    pub(super) serial: &'a [u8],
    /// Name, whole.
    pub(super) issuer: &'a [u8],
    /// Name, whole.
    pub(super) subject: &'a [u8],
    spki: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Certificate<'a> {
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        let (tag, whole, rest) = element(der)?;
        if tag != SEQUENCE || !rest.is_empty() {
            return None;
        }
        let (_, tbs_body, after) = element(content(whole)?)?;
        let tbs = tbs_body;
        let (_, algorithm, after) = element(after)?;
        let (tag, signature, after) = element(after)?;
        if tag != BIT_STRING || !after.is_empty() {
            return None;
        }
        let mut fields = content(tbs)?;
        let (tag, _, rest) = element(fields)?;
        if tag == VERSION {
            fields = rest;
        }
        // serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo
        let mut next = || {
            let (_, value, rest) = element(fields)?;
            fields = rest;
            Some(value)
        };
        let (serial, _alg) = (next()?, next()?);
        let issuer = next()?;
        let _validity = next()?;
        let (subject, spki) = (next()?, next()?);
        let signature = content(signature)?.strip_prefix(&[0])?;
        let (tag, oid, _) = element(content(algorithm)?)?;
        (tag == OID).then_some(Self {
            tbs,
            serial,
            issuer,
            subject,
            spki,
            algorithm: content(oid)?,
            signature,
        })
    }

    pub(super) fn signed_by(&self, issuer: &Self) -> bool {
        self.issuer == issuer.subject && issuer.signed(self.tbs, self.algorithm, self.signature)
    }

    /// Whether it may say for its issuer how certificates stand.
    pub(super) fn is_responder(&self) -> bool {
        let usages = || {
            let fields = elements(content(self.tbs)?)?;
            let (_, extensions) = fields.iter().find(|(tag, _)| *tag == EXTENSIONS)?;
            let value = extension(content(extensions)?, &EXTENDED_KEY_USAGE)?;
            sequence(value)
        };
        let is = |(_, oid): &(u8, &[u8])| content(oid) == Some(&OCSP_SIGNING[..]);
        usages().is_some_and(|usages| usages.iter().any(is))
    }

    /// The bits of its key.
    pub(super) fn key(&self) -> Option<&'a [u8]> {
        let (_, _, rest) = element(content(self.spki)?)?;
        let (tag, bits, _) = element(rest)?;
        content(bits)?
            .strip_prefix(&[0])
            .filter(|_| tag == BIT_STRING)
    }

    /// Whether its key signed these bytes. `algorithm`: content of the OID.
    pub(super) fn signed(&self, bytes: &[u8], algorithm: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn VerificationAlgorithm = match algorithm {
            [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2] => &ECDSA_P256_SHA256_ASN1,
            [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3] => &ECDSA_P384_SHA384_ASN1,
            [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11] => &RSA_PKCS1_2048_8192_SHA256,
            [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12] => &RSA_PKCS1_2048_8192_SHA384,
            _ => return false,
        };
        self.key().is_some_and(|key| {
            UnparsedPublicKey::new(algorithm, key)
                .verify(bytes, signature)
                .is_ok()
        })
    }
}

fn hash(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, bytes))
}
