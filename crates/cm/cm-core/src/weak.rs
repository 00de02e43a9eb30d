//! Public keys that must not come into use, whoever made them: wrong parameters, small factors, and the fingerprint of
//! a generator whose keys can be factored (CVE-2017-15361, *ROCA*).
//!
//! Two RSA keys that share a prime give each other away. A generator with too little to begin with makes such pairs one soon
//! after the other, so that each new modulus is compared with the last ones of this process; with all there ever were would
//! take time for each of them, and the module keeps their digests only, by which it finds a whole key that comes again.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

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

/// RSA moduli that this process saw lately.
#[derive(Debug, Default)]
pub(crate) struct Moduli(Mutex<VecDeque<Vec<u64>>>);

/// How many: a comparison takes half a millisecond, and the making of such a key a hundred.
const MODULI: usize = 32;

impl Moduli {
    /// Whether the key shares no factor with another of the last ones; takes note of it. True for keys that aren't RSA, and
    /// for one of the last ones itself.
    pub(crate) fn coprime(&self, spki: &[u8]) -> bool {
        let Some(modulus) = rsa_parts(spki).map(|(n, _)| limbs(n)) else {
            return true;
        };
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.contains(&modulus) {
            return true;
        }
        let good = last.iter().all(|other| coprime(&modulus, other));
        last.push_back(modulus);
        if last.len() > MODULI {
            last.pop_front();
        }
        good
    }
}

/// A number's words, the lowest first and the highest not zero.
fn limbs(number: &[u8]) -> Vec<u64> {
    let word = |bytes: &[u8]| bytes.iter().fold(0, |w, b| w << 8 | u64::from(*b));
    trimmed(number.rchunks(8).map(word).collect())
}

fn trimmed(mut number: Vec<u64>) -> Vec<u64> {
    let len = number.iter().rposition(|w| *w != 0).map_or(0, |at| at + 1);
    number.truncate(len);
    number
}

/// Whether two odd numbers have no factor in common (binary algorithm: they are public, so that time may tell of them). An
/// even one is somebody else's to refuse.
fn coprime(one: &[u64], other: &[u64]) -> bool {
    let odd = |n: &[u64]| n.first().is_some_and(|w| w & 1 == 1);
    if !odd(one) || !odd(other) {
        return true;
    }
    let (mut large, mut small) = (one.to_vec(), other.to_vec());
    loop {
        let by_words = || large.iter().rev().cmp(small.iter().rev());
        match large.len().cmp(&small.len()).then_with(by_words) {
            Ordering::Equal => return large == [1],
            Ordering::Less => std::mem::swap(&mut large, &mut small),
            Ordering::Greater => {}
        }
        large = halved(difference(large, &small));
    }
}

/// `large - small`.
fn difference(mut large: Vec<u64>, small: &[u64]) -> Vec<u64> {
    let mut borrow = false;
    for (at, word) in large.iter_mut().enumerate() {
        let (less, first) = word.overflowing_sub(small.get(at).copied().unwrap_or(0));
        let (less, second) = less.overflowing_sub(u64::from(borrow));
        (*word, borrow) = (less, first || second);
    }
    large
}

/// Halved until it is odd; it isn't zero.
fn halved(mut number: Vec<u64>) -> Vec<u64> {
    let zeros = number.iter().position(|w| *w != 0).unwrap_or(0);
    number.drain(..zeros);
    let by = number.first().map_or(0, |w| w.trailing_zeros());
    if by > 0 {
        let mut above = 0;
        for word in number.iter_mut().rev() {
            let low = *word << (64 - by);
            *word = *word >> by | above;
            above = low;
        }
    }
    trimmed(number)
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

    fn product(one: &[u8], other: &[u8]) -> Vec<u8> {
        let mut out = vec![0_u32; one.len() + other.len()];
        for (i, a) in one.iter().rev().enumerate() {
            for (j, b) in other.iter().rev().enumerate() {
                out[i + j] += u32::from(*a) * u32::from(*b);
                out[i + j + 1] += out[i + j] >> 8;
                out[i + j] &= 0xff;
            }
        }
        out.iter()
            .rev()
            .map(|b| u8::try_from(*b).unwrap())
            .collect()
    }

    // shows: T-KEY-DERIVE
    #[test]
    fn moduli_that_share_a_factor_are_told_apart() {
        use core_types::Random as _;
        let random = core_types::random::SeededRandom::new(3);
        let number = |len| {
            let mut n = vec![0; len];
            random.fill(&mut n);
            *n.first_mut().unwrap() |= 0x80;
            *n.last_mut().unwrap() |= 1;
            n
        };
        let coprime = |a: &[u8], b: &[u8]| coprime(&limbs(a), &limbs(b));
        assert!(coprime(&[35], &[9]) && !coprime(&[35], &[21]));
        assert!(coprime(&[1], &[9]) && !coprime(&[9], &[9]));
        // 2^61 - 1 and 2^31 - 1 are prime.
        let (p, q) = (
            [0x1f, 255, 255, 255, 255, 255, 255, 255],
            [0x7f, 255, 255, 255],
        );
        assert!(coprime(&p, &q));
        assert!(!coprime(&product(&p, &q), &product(&q, &[3])));
        for _ in 0..4 {
            let [a, b, c] = [number(128), number(128), number(128)];
            assert!(!coprime(&product(&a, &b), &product(&a, &c)));
        }
        let e = [1, 0, 1];
        let shared = number(128);
        let of = |n: &[u8]| spki(&product(&shared, n), &e);
        let (first, second) = (of(&number(128)), of(&number(128)));
        let moduli = Moduli::default();
        assert!(moduli.coprime(&first) && moduli.coprime(&first), "itself");
        assert!(moduli.coprime(&[0x30, 0]), "no RSA key");
        assert!(!moduli.coprime(&second));
        // Only the last ones are compared.
        let moduli = Moduli::default();
        assert!(moduli.coprime(&first));
        let primes = primes().skip(3).take(MODULI);
        for p in primes {
            let p = p.to_be_bytes();
            let _ = moduli.coprime(&spki(&p, &e));
        }
        assert!(moduli.coprime(&second));
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
