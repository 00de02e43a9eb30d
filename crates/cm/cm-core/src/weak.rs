//! Public keys that must not come into use, whoever made them: wrong parameters, small factors, and the fingerprint of
//! a generator whose keys can be factored (CVE-2017-15361, *ROCA*).
//!
//! Keys that share a prime with another key are found only if the whole key is the same one: the module keeps every
//! public key it ever had, and compares.

use core_types::KeyAlg;
use pki::asn1::{BIT_STRING, INTEGER, SEQUENCE, Tlv};

/// Why a public key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Weak {
    /// Another kind or size than was asked for, or not a public key.
    #[error("not a public key of the kind that was asked for")]
    Kind,
    /// RSA with another public exponent than 65537.
    #[error("an RSA exponent other than 65537")]
    Exponent,
    /// RSA whose modulus is even or has a small prime factor.
    #[error("an RSA modulus with a small factor")]
    SmallFactor,
    /// RSA from the ROCA generator.
    #[error("an RSA modulus with the ROCA fingerprint")]
    Roca,
}

/// Checks the public half of a new or imported key.
///
/// # Errors
/// [`Weak`], saying the first thing that is wrong.
pub fn check(alg: KeyAlg, spki: &[u8]) -> Result<(), Weak> {
    if pki::key_alg(spki) != Some(alg) {
        return Err(Weak::Kind);
    }
    if !alg.is_rsa() {
        return Ok(());
    }
    let (modulus, exponent) = rsa_parts(spki).ok_or(Weak::Kind)?;
    if exponent != [1, 0, 1] {
        return Err(Weak::Exponent);
    }
    check_modulus(modulus)
}

/// Modulus and exponent of an RSA SubjectPublicKeyInfo (RFC 8017 §A.1.1), without leading zeros.
fn rsa_parts(spki: &[u8]) -> Option<(&[u8], &[u8])> {
    const WHAT: &str = "RSA public key";
    let mut outer = Tlv::single(spki, WHAT).ok()?.open(SEQUENCE, WHAT).ok()?;
    outer.next(WHAT).ok()?;
    let bits = outer.expect(BIT_STRING, WHAT).ok()?.as_bits(WHAT).ok()?;
    let mut key = Tlv::single(bits, WHAT).ok()?.open(SEQUENCE, WHAT).ok()?;
    let modulus = key.expect(INTEGER, WHAT).ok()?.as_uint(WHAT).ok()?;
    let exponent = key.expect(INTEGER, WHAT).ok()?.as_uint(WHAT).ok()?;
    key.finish(WHAT).ok()?;
    Some((modulus, exponent))
}

fn check_modulus(modulus: &[u8]) -> Result<(), Weak> {
    if primes().any(|p| rest(modulus, p) == 0) {
        return Err(Weak::SmallFactor);
    }
    // Moduli of that generator are powers of 65537 modulo every prime up to 167; an honest one is that for all of
    // them with a chance of about 2⁻²⁷.
    let mut tested = primes().skip(1).take_while(|p| *p <= 167);
    if tested.all(|p| is_power(rest(modulus, p), p)) {
        return Err(Weak::Roca);
    }
    Ok(())
}

/// Whether `value` is a power of 65537 modulo the prime `p`.
fn is_power(value: u32, p: u32) -> bool {
    let base = 65537 % p;
    let powers = std::iter::successors(Some(1), |x| Some(x * base % p).filter(|next| *next != 1));
    powers.take(p as usize).any(|x| x == value)
}

fn rest(number: &[u8], p: u32) -> u32 {
    number
        .iter()
        .fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % p)
}

/// Primes below 4096.
fn primes() -> impl Iterator<Item = u32> {
    (2..4096).filter(|n| (2..).take_while(|d| d * d <= *n).all(|d| n % d != 0))
}

#[cfg(test)]
mod tests {
    use pki::asn1::{bits, sequence, uint};

    use super::*;

    /// A product of two numbers of the form k·M + (65537^a mod M), 3072 bits, made for this test.
    const ROCA: &str = include_str!("../tests/data/roca-modulus.hex");
    const RSA: [u8; 15] = [
        0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
    ];

    fn spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
        let key = sequence(&[&uint(modulus), &uint(exponent)]);
        sequence(&[&RSA, &bits(&key)])
    }

    fn unhex(text: &str) -> Vec<u8> {
        let digits = text.trim().as_bytes().chunks(2);
        digits
            .map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap())
            .collect()
    }

    // shows: T-KEY-DERIVE, III-3-2-approved-algorithms
    #[test]
    fn weak_public_keys_are_told_apart() {
        let e = [1, 0, 1];
        let roca = unhex(ROCA);
        assert_eq!(check(KeyAlg::Rsa3072, &spki(&roca, &e)), Err(Weak::Roca));
        assert_eq!(check(KeyAlg::Rsa4096, &spki(&roca, &e)), Err(Weak::Kind));
        assert_eq!(check(KeyAlg::P256, &spki(&roca, &e)), Err(Weak::Kind));
        for small in [&[3_u8][..], &[0x11], &[1, 0, 3]] {
            let weak = spki(&roca, small);
            assert_eq!(check(KeyAlg::Rsa3072, &weak), Err(Weak::Exponent));
        }
        let mut even = roca.clone();
        *even.last_mut().unwrap() &= 0xfe;
        assert_eq!(
            check(KeyAlg::Rsa3072, &spki(&even, &e)),
            Err(Weak::SmallFactor)
        );
        assert_eq!(check(KeyAlg::Rsa3072, &[0x30, 0]), Err(Weak::Kind));
    }

    #[test]
    fn keys_of_the_library_are_not_weak() {
        use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
        use aws_lc_rs::rsa::{KeyPair, KeySize};
        use aws_lc_rs::signature::KeyPair as _;
        let pair = KeyPair::generate(KeySize::Rsa3072).unwrap();
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        assert_eq!(check(KeyAlg::Rsa3072, spki.as_ref()), Ok(()));
    }
}
