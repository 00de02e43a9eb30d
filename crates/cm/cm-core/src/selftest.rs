//! Known-answer tests of everything the module itself computes with (`III-3-13-detect-software`), and what can be
//! said of its randomness. Back ends test the algorithms they sign with.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;
use core_types::bytes::hex;
use core_types::noise::{AT_START, HealthTest};
use core_types::{HashAlg, Random};

use crate::backend::Fault;
use crate::known;

/// SHA-2 of "abc" (FIPS 180-4).
const SHA2: [(HashAlg, &str); 3] = [
    (
        HashAlg::Sha256,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    ),
    (
        HashAlg::Sha384,
        "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
    ),
    (
        HashAlg::Sha512,
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    ),
];
/// RFC 4231 §4.3.
const HMAC: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
/// RFC 5869 §A.1, first 32 bytes.
const HKDF: &str = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf";
/// RFC 8452 §C.2, 8 bytes of plain text.
const GCM_SIV: &str = "c2ef328e5c71c83b843122130f7364b761e0b97427e3df28";

/// Runs all of them.
///
/// # Errors
/// [`Fault::Broken`], naming the first that failed.
pub(crate) fn run(random: &dyn Random) -> Result<(), Fault> {
    let sha2 = SHA2
        .iter()
        .all(|(hash, answer)| hex(hash.digest(b"abc")) == *answer);
    pass(sha2, "known answer of SHA-2")?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"Jefe");
    let tag = hmac::sign(&key, b"what do ya want for nothing?");
    pass(hex(tag) == HMAC, "known answer of HMAC")?;
    pass(hkdf().as_deref() == Some(HKDF), "known answer of HKDF")?;
    pass(
        gcm_siv().as_deref() == Some(GCM_SIV),
        "known answer of AES-GCM-SIV",
    )?;
    known::run()?;
    let mut drawn = vec![0; AT_START];
    random.fill(&mut drawn);
    let healthy = HealthTest::default().feed(&drawn).is_ok();
    pass(healthy && differs(random), "random generator")
}

pub(crate) fn pass(good: bool, what: &'static str) -> Result<(), Fault> {
    if good {
        Ok(())
    } else {
        Err(Fault::Broken(what))
    }
}

fn hkdf() -> Option<String> {
    let salt: Vec<u8> = (0..0x0d).collect();
    let info: Vec<u8> = (0xf0..0xfa).collect();
    let prk = Salt::new(HKDF_SHA256, &salt).extract(&[0x0b; 22]);
    let mut out = [0; 32];
    let parts = [info.as_slice()];
    let okm = prk.expand(&parts, HKDF_SHA256).ok()?;
    okm.fill(&mut out).ok()?;
    Some(hex(out))
}

fn gcm_siv() -> Option<String> {
    let (mut key, mut nonce) = ([0; 32], [0; NONCE_LEN]);
    (key[0], nonce[0]) = (1, 3);
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &key).ok()?);
    let mut text = vec![1, 0, 0, 0, 0, 0, 0, 0];
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut text)
        .ok()?;
    Some(hex(text))
}

/// The program sees conditioned output and no raw noise ([`core_types::noise`]), so a stuck source that is conditioned
/// well can't be told from a good one here. What is seen at once is a generator that repeats itself.
fn differs(random: &dyn Random) -> bool {
    let mut blocks: Vec<_> = (0..64).map(|_| random.digest32()).collect();
    blocks.sort_unstable_by_key(|b| b.0);
    blocks.dedup();
    blocks.len() == 64
}

#[cfg(test)]
mod tests {
    use core_types::random::SystemRandom;

    use super::*;

    // shows: III-3-13-detect-software, III-3-13-detect-hardware, T-KEY-DERIVE
    #[test]
    fn known_answers_hold_and_a_generator_that_repeats_itself_is_seen() {
        struct Stuck;
        impl Random for Stuck {
            fn fill(&self, out: &mut [u8]) {
                out.fill(7);
            }
        }
        run(&SystemRandom).unwrap();
        assert_eq!(run(&Stuck), Err(Fault::Broken("random generator")));
    }
}
