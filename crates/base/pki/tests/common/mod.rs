//! Certificates built byte by byte, so that the builder of the development CA isn't the judge of its own work.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use core_types::{HashAlg, SigAlg, UnixTime};
use pki::asn1::{self, context_constructed};
use pki::crl::{assemble, encode_extension};
use pki::{alg, name, oid};

pub const NOW: UnixTime = UnixTime(1_800_000_000);
pub const ALG: SigAlg = SigAlg::Ecdsa(HashAlg::Sha256);

pub struct Party {
    pub key: EcdsaKeyPair,
    pub name: Vec<u8>,
}

impl Party {
    pub fn new(common_name: &str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        Self {
            key,
            name: name::encode(&[(oid::COMMON_NAME, common_name)]).unwrap(),
        }
    }

    /// A certificate for `subject`, valid from an hour before [`NOW`] to an hour after.
    pub fn issue(&self, subject: &Party, extensions: &[Vec<u8>]) -> Vec<u8> {
        self.issue_until(subject, NOW.plus(3600), extensions)
    }

    /// The same with another end.
    pub fn issue_until(&self, subject: &Party, end: UnixTime, extensions: &[Vec<u8>]) -> Vec<u8> {
        let parts: Vec<&[u8]> = extensions.iter().map(Vec::as_slice).collect();
        let tbs = asn1::sequence(&[
            &asn1::tlv(context_constructed(0), &[&asn1::uint(&[2])]),
            &asn1::uint(&[1]),
            &alg::encode_sig_alg(ALG),
            &self.name,
            &asn1::sequence(&[&asn1::time(NOW.plus(-3600)), &asn1::time(end)]),
            &subject.name,
            subject.key.public_key().as_der().unwrap().as_ref(),
            &asn1::tlv(context_constructed(3), &[&asn1::sequence(&parts)]),
        ]);
        assemble(&tbs, ALG, &self.sign(&tbs))
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let value = self.key.sign(&SystemRandom::new(), message);
        value.unwrap().as_ref().to_vec()
    }
}

pub fn ca(path_len: Option<u8>) -> Vec<u8> {
    let flag = asn1::tlv(asn1::BOOLEAN, &[&[0xff]]);
    let len = path_len.map_or_else(Vec::new, |n| asn1::uint(&[n]));
    encode_extension(
        oid::BASIC_CONSTRAINTS,
        true,
        &asn1::sequence(&[&flag, &len]),
    )
}

pub fn usage(bits: [u8; 2]) -> Vec<u8> {
    encode_extension(oid::KEY_USAGE, true, &asn1::tlv(asn1::BIT_STRING, &[&bits]))
}

pub fn purpose(oids: &[&str], critical: bool) -> Vec<u8> {
    let oids: Vec<Vec<u8>> = oids.iter().map(|o| asn1::try_oid(o).unwrap()).collect();
    let parts: Vec<&[u8]> = oids.iter().map(Vec::as_slice).collect();
    encode_extension(oid::EXT_KEY_USAGE, critical, &asn1::sequence(&parts))
}
