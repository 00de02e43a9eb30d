//! Between PKCS#11's encodings and those of X.509.

use core_types::{HashAlg, KeyAlg};
use pki::asn1::{bits, sequence, uint};

/// `CKA_EC_PARAMS` of P-256: its object identifier in DER.
pub(crate) const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// `CKA_EC_PARAMS` of P-384.
pub(crate) const P384: [u8; 7] = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
/// `CKA_EC_PARAMS` of P-521.
pub(crate) const P521: [u8; 7] = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23];
/// `CKA_EC_PARAMS` of Ed25519: its name (PKCS#11 3.0 §2.3.10), which older libraries want instead of the identifier.
pub(crate) const ED25519: [u8; 14] = *b"\x13\x0cedwards25519";
/// AlgorithmIdentifier of Ed25519 (RFC 8410 §3).
const ED25519_ID: [u8; 7] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];
/// id-ecPublicKey.
const EC: [u8; 9] = [0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// AlgorithmIdentifier of rsaEncryption with NULL.
const RSA: [u8; 15] = [
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];

/// `CKA_EC_PARAMS` of a curve in Weierstrass form.
pub(crate) fn curve(alg: KeyAlg) -> Option<&'static [u8]> {
    match alg {
        KeyAlg::P256 => Some(&P256),
        KeyAlg::P384 => Some(&P384),
        KeyAlg::P521 => Some(&P521),
        _ => None,
    }
}

/// DigestInfo (RFC 8017 §9.2, note 1) from a fixed table: never from outside.
pub(crate) fn digest_info(hash: HashAlg, digest: &[u8]) -> Vec<u8> {
    let (last, len) = match hash {
        HashAlg::Sha256 => (1, 0x20),
        HashAlg::Sha384 => (2, 0x30),
        HashAlg::Sha512 => (3, 0x40),
    };
    let mut out = vec![
        0x30,
        0x11 + len,
        0x30,
        0x0d,
        0x06,
        0x09,
        0x60,
        0x86,
        0x48,
        0x01,
        0x65,
        0x03,
        0x04,
        0x02,
        last,
    ];
    out.extend_from_slice(&[0x05, 0x00, 0x04, len]);
    out.extend_from_slice(digest);
    out
}

/// `r ‖ s` of equal length to DER `SEQUENCE {r, s}`.
pub(crate) fn ecdsa_value(raw: &[u8]) -> Option<Vec<u8>> {
    if raw.is_empty() || !raw.len().is_multiple_of(2) {
        return None;
    }
    let (r, s) = raw.split_at(raw.len() / 2);
    Some(sequence(&[&uint(r), &uint(s)]))
}

pub(crate) fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let key = sequence(&[&uint(modulus), &uint(exponent)]);
    sequence(&[&RSA, &bits(&key)])
}

/// `point`: with or without the OCTET STRING around it that the standard wants and some tokens forget.
pub(crate) fn ec_spki(alg: KeyAlg, point: &[u8]) -> Option<Vec<u8>> {
    let (params, size): (&[u8], usize) = match alg {
        KeyAlg::P256 => (&P256, 65),
        KeyAlg::P384 => (&P384, 97),
        KeyAlg::P521 => (&P521, 133),
        KeyAlg::Ed25519 => (&[], 32),
        _ => return None,
    };
    let point = match point {
        [0x04, len, inner @ ..] if usize::from(*len) == size && inner.len() == size => inner,
        [0x04, 0x81, len, inner @ ..] if usize::from(*len) == size && inner.len() == size => inner,
        raw => raw,
    };
    if point.len() != size {
        return None;
    }
    if alg == KeyAlg::Ed25519 {
        return Some(sequence(&[&ED25519_ID, &bits(point)]));
    }
    (point[0] == 4).then(|| sequence(&[&sequence(&[&EC, params]), &bits(point)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_taken_with_and_without_their_wrapping() {
        let mut raw = vec![4; 65];
        raw[1] = 9;
        let wrapped = [&[0x04, 65], raw.as_slice()].concat();
        assert_eq!(ec_spki(KeyAlg::P256, &raw), ec_spki(KeyAlg::P256, &wrapped));
        assert!(ec_spki(KeyAlg::P256, &raw[1..]).is_none());
        assert!(ec_spki(KeyAlg::P384, &raw).is_none());
        let long = [&[0x04, 0x81, 133, 4], [9; 132].as_slice()].concat();
        assert_eq!(
            ec_spki(KeyAlg::P521, &long),
            ec_spki(KeyAlg::P521, &long[3..])
        );
        let edwards = ec_spki(KeyAlg::Ed25519, &[&[4, 32], [9; 32].as_slice()].concat());
        assert_eq!(pki::key_alg(&edwards.unwrap()), Some(KeyAlg::Ed25519));
        assert!(ecdsa_value(&[1, 2, 3]).is_none());
        assert_eq!(
            ecdsa_value(&[0, 1, 0, 0x80]).unwrap(),
            [0x30, 7, 2, 1, 1, 2, 2, 0, 0x80]
        );
    }
}
