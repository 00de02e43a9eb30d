//! Time-based one-time passwords for login (RFC 6238): SHA-1, six digits, 30 seconds, as every app knows them.

use aws_lc_rs::hmac;
use core_types::{SecretBytes, UnixTime};

/// Length of a step in seconds.
const STEP: i64 = 30;
/// Length of a seed in bytes (RFC 4226 §4, R6).
pub(crate) const SEED: usize = 20;

/// The step whose code this is, within one step of `now` and after `last`; `None` when it is wrong or was used.
pub(crate) fn accept(seed: &SecretBytes, code: &str, now: UnixTime, last: i64) -> Option<i64> {
    let current = now.0.div_euclid(STEP);
    let mut found = None;
    for step in current - 1..=current + 1 {
        let right = SecretBytes::from(code_at(seed, step)).ct_eq(code.as_bytes());
        if right && step > last {
            found = found.or(Some(step));
        }
    }
    found
}

/// The code of one step.
pub(crate) fn code_at(seed: &SecretBytes, step: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, seed.expose());
    let mac = hmac::sign(&key, &step.to_be_bytes());
    let mac = mac.as_ref();
    let at = usize::from(mac[mac.len() - 1] & 0x0f);
    let word = mac[at..at + 4]
        .iter()
        .fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
    format!("{:06}", (word & 0x7fff_ffff) % 1_000_000)
}

/// Base32 without padding (RFC 4648 §6), as authenticator apps take it.
pub(crate) fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut out = String::new();
    for chunk in bytes.chunks(5) {
        let mut block = [0; 8];
        block[3..3 + chunk.len()].copy_from_slice(chunk);
        let word = u64::from_be_bytes(block);
        for i in 0..(chunk.len() * 8).div_ceil(5) {
            let index = usize::try_from(word >> (35 - 5 * i) & 31).unwrap_or_default();
            out.push(char::from(ALPHABET[index]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed() -> SecretBytes {
        SecretBytes::new(b"12345678901234567890".to_vec())
    }

    #[test]
    fn codes_are_those_of_rfc_6238_appendix_b() {
        for (time, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code_at(&seed(), time / STEP), code);
        }
    }

    #[test]
    fn a_code_counts_once_and_near_its_time_only() {
        let code = code_at(&seed(), 100);
        let at = |step: i64, last| accept(&seed(), &code, UnixTime(step * STEP + 7), last);
        assert_eq!(at(100, 0), Some(100));
        assert_eq!(at(101, 99), Some(100));
        assert_eq!(at(102, 0), None);
        assert_eq!(at(98, 0), None);
        assert_eq!(at(100, 100), None);
        assert_eq!(accept(&seed(), "", UnixTime(3000), 0), None);
    }

    #[test]
    fn base32_is_that_of_rfc_4648() {
        for (plain, text) in [
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(plain.as_bytes()), text);
        }
    }
}
