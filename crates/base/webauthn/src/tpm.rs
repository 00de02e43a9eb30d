//! The structures of a TPM that `tpm` attestation uses (TPM 2.0 Part 2; W3C WebAuthn L3 §8.3).

use core_types::HashAlg;
use pki::Certificate;
use pki::asn1::{SEQUENCE, SET, Tlv, context_constructed};

use crate::cose::CoseKey;

/// TPM_GENERATED_VALUE and TPM_ST_ATTEST_CERTIFY.
const MAGIC: u32 = 0xff54_4347;
const CERTIFY: u16 = 0x8017;
/// TPM_ALG_RSA, TPM_ALG_ECC, TPM_ALG_NULL.
const RSA: u16 = 0x0001;
const ECC: u16 = 0x0023;
const NULL: u16 = 0x0010;
/// TPM_ECC_NIST_P256.
const P256: u16 = 0x0003;
/// tcg-kp-AIKCertificate, and the attributes of a TPM's name in subjectAltName.
const AIK: &str = "2.23.133.8.3";
const NAMES: [&str; 3] = ["2.23.133.2.1", "2.23.133.2.2", "2.23.133.2.3"];

/// A public area and what the TPM says of it.
pub(crate) struct Certified<'a> {
    pub(crate) area: &'a [u8],
    pub(crate) info: &'a [u8],
    /// The credential's key, which the area must hold.
    pub(crate) key: &'a CoseKey,
    /// What `extraData` must be.
    pub(crate) extra: &'a [u8],
}

impl Certified<'_> {
    /// Whether the TPM certified exactly this key for exactly this ceremony.
    pub(crate) fn check(&self) -> Option<()> {
        let name_hash = self.check_area()?;
        let mut info = Reader(self.info);
        if info.u32()? != MAGIC || info.u16()? != CERTIFY {
            return None;
        }
        info.sized()?; // qualifiedSigner
        if info.sized()? != self.extra {
            return None;
        }
        info.take(17 + 8)?; // clockInfo, firmwareVersion
        let name = info.sized()?;
        info.sized()?; // qualifiedName
        let (alg, hash) = name.split_at_checked(2)?;
        let given = self.area.get(2..4)?;
        let same = alg == given && hash == name_hash.digest(self.area);
        (same && info.0.is_empty()).then_some(())
    }

    /// Reads TPMT_PUBLIC: its key is the credential's. Answers with the hash its name is made with.
    fn check_area(&self) -> Option<HashAlg> {
        let mut area = Reader(self.area);
        let kind = area.u16()?;
        let hash = match area.u16()? {
            0x000b => HashAlg::Sha256,
            0x000c => HashAlg::Sha384,
            0x000d => HashAlg::Sha512,
            _ => return None,
        };
        area.u32()?; // objectAttributes
        area.sized()?; // authPolicy
        if area.u16()? != NULL {
            return None; // symmetric: signing keys have none
        }
        if area.u16()? != NULL {
            area.u16()?; // hash of the scheme
        }
        let same = match (kind, self.key) {
            (ECC, CoseKey::Es256 { x, y }) => {
                let curve = area.u16()?;
                area.u16()?; // kdf
                curve == P256 && area.sized()? == x.0 && area.sized()? == y.0
            }
            (RSA, CoseKey::Rs256 { n, e }) => {
                area.u16()?; // keyBits
                let exponent = match area.u32()? {
                    0 => 65_537,
                    other => other,
                };
                let bytes = exponent.to_be_bytes();
                let significant = bytes.iter().position(|b| *b != 0)?;
                bytes.get(significant..)? == e.0 && area.sized()? == n.0
            }
            _ => false,
        };
        (same && area.0.is_empty()).then_some(hash)
    }
}

/// The certificate is that of an attestation key of a TPM: empty subject, its name in subjectAltName, usage AIK.
pub(crate) fn check_certificate(leaf: &Certificate) -> Option<()> {
    let (usages, _) = leaf.ext_key_usage().ok()??;
    let name = leaf.extension(pki::oid::SUBJECT_ALT_NAME)?;
    let names = directory_name(&name.value)?;
    let complete = NAMES.iter().all(|n| names.iter().any(|m| m == n));
    let empty = leaf.subject() == [0x30, 0];
    (empty && name.critical && complete && usages.iter().any(|u| u == AIK)).then_some(())
}

/// Attribute types of the first directoryName in a GeneralNames.
fn directory_name(der: &[u8]) -> Option<Vec<String>> {
    let what = "subjectAltName";
    let names = Tlv::single(der, what).ok()?.open(SEQUENCE, what).ok()?;
    let names = names.all(what).ok()?;
    let directory = names.iter().find(|n| n.tag == context_constructed(4))?;
    let rdns = Tlv::single(directory.value, what).ok()?;
    let mut types = Vec::new();
    for rdn in rdns.open(SEQUENCE, what).ok()?.all(what).ok()? {
        for pair in rdn.open(SET, what).ok()?.all(what).ok()? {
            let mut pair = pair.open(SEQUENCE, what).ok()?;
            types.push(pair.next(what).ok()?.as_oid(what).ok()?);
        }
    }
    Some(types)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// A TPM2B: two bytes of length, then so many.
    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}
