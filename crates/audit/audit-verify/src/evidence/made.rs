//! Certificates and CRLs made for tests, of just the fields that are read.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RsaEncoding, RsaKeyPair,
};

use super::der::{BIT_STRING, BOOLEAN, INTEGER, OCTET_STRING, OID, SEQUENCE};

pub(super) const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
pub(super) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const UTC_TIME: u8 = 0x17;

/// A key that signs, with the content of its algorithm's OID.
pub(super) struct Key {
    spki: Vec<u8>,
    algorithm: Vec<u8>,
    sign: Sign,
}

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

impl Key {
    fn new(spki: Vec<u8>, algorithm: &[u8], sign: impl Fn(&[u8]) -> Vec<u8> + 'static) -> Self {
        Self {
            spki,
            algorithm: algorithm.to_vec(),
            sign: Box::new(sign),
        }
    }

    pub(super) fn ec(made: &'static EcdsaSigningAlgorithm, algorithm: &[u8]) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(made, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(made, pkcs8.as_ref()).unwrap();
        let spki = spki(pair.public_key());
        Self::new(spki, algorithm, move |message| {
            pair.sign(&random, message).unwrap().as_ref().to_vec()
        })
    }

    pub(super) fn rsa(made: &'static dyn RsaEncoding, algorithm: &[u8]) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let spki = spki(pair.public_key());
        Self::new(spki, algorithm, move |message| {
            let mut value = vec![0; pair.public_modulus_len()];
            pair.sign(made, &SystemRandom::new(), message, &mut value)
                .unwrap();
            value
        })
    }

    pub(super) fn spki(&self) -> &[u8] {
        &self.spki
    }

    fn named(&self) -> Vec<u8> {
        sequence(&[&tlv(OID, &[&self.algorithm])])
    }

    fn signed(&self, tbs: &[u8]) -> Vec<u8> {
        let value = tlv(BIT_STRING, &[&[0], &(self.sign)(tbs)]);
        sequence(&[tbs, &self.named(), &value])
    }
}

fn spki(public: &impl AsDer<PublicKeyX509Der<'static>>) -> Vec<u8> {
    let der = public.as_der().unwrap();
    let bytes: &[u8] = der.as_ref();
    bytes.to_vec()
}

pub(super) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let [.., high, low] = content.len().to_be_bytes();
    let length = match (high, low) {
        (0, 0..=0x7f) => vec![low],
        (0, _) => vec![0x81, low],
        _ => vec![0x82, high, low],
    };
    [&[tag][..], &length, &content].concat()
}

pub(super) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, parts)
}

/// Something that stands where a name does.
fn name(text: &str) -> Vec<u8> {
    sequence(&[text.as_bytes()])
}

pub(super) fn extension(name: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let (name, value) = (tlv(OID, &[name]), tlv(OCTET_STRING, &[value]));
    match critical {
        true => sequence(&[&name, &tlv(BOOLEAN, &[&[0xff]]), &value]),
        false => sequence(&[&name, &value]),
    }
}

/// The extension of a CA.
pub(super) fn authority() -> Vec<u8> {
    let value = sequence(&[&tlv(BOOLEAN, &[&[0xff]])]);
    extension(BASIC_CONSTRAINTS, true, &value)
}

/// Of `subject` with this key, by `issuer` with that one.
pub(super) fn certificate(
    (subject, key): (&str, &Key),
    (issuer, by): (&str, &Key),
    extensions: &[&[u8]],
) -> Vec<u8> {
    let (issuer, subject) = (name(issuer), name(subject));
    let extensions = tlv(0xa3, &[&sequence(extensions)]);
    let serial = tlv(INTEGER, &[&[7]]);
    let validity = sequence(&[]);
    by.signed(&sequence(&[
        &serial,
        &by.named(),
        &issuer,
        &validity,
        &subject,
        key.spki(),
        &extensions,
    ]))
}

/// A CRL by `issuer`; each entry: number and extensions.
pub(super) fn crl(
    (issuer, by): (&str, &Key),
    entries: &[(u8, &[&[u8]])],
    extensions: &[&[u8]],
) -> Vec<u8> {
    let time = tlv(UTC_TIME, &[b"260101000000Z"]);
    let entries = entries.iter().map(|(number, extensions)| {
        let serial = tlv(INTEGER, &[&[*number]]);
        match extensions {
            [] => sequence(&[&serial, &time]),
            some => sequence(&[&serial, &time, &sequence(some)]),
        }
    });
    let entries: Vec<u8> = entries.flatten().collect();
    let listed = match entries.is_empty() {
        true => Vec::new(),
        false => sequence(&[&entries]),
    };
    let version = tlv(INTEGER, &[&[1]]);
    let extensions = tlv(0xa0, &[&sequence(extensions)]);
    by.signed(&sequence(&[
        &version,
        &by.named(),
        &name(issuer),
        &time,
        &time,
        &listed,
        &extensions,
    ]))
}
