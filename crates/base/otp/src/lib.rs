//! One-time codes (RFC 6238): SHA-1, six digits, 30 seconds, as authenticator apps make them. A code counts once.
//!
//! One implementation for login, signing and the signer's side; whose seed it is, and what was used last, the caller
//! keeps. Knows no person and no zone.

use aws_lc_rs::hmac;
use core_types::{SecretBytes, UnixTime};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

/// Bytes of a seed.
pub const SEED: usize = 20;
/// Seconds of a step.
pub const STEP: i64 = 30;

/// Finds the step within ±1 of now whose code is `otp` and which is later than `last_step`.
///
/// All three codes are computed and compared, whatever matches.
pub fn verify(seed: &SecretBytes, otp: &[u8], now: UnixTime, last_step: i64) -> Option<i64> {
    let current = now.0.div_euclid(STEP);
    let mut found = 0_i64;
    let mut any = Choice::from(0);
    for step in current - 1..=current + 1 {
        let hit = code(seed, step).as_bytes().ct_eq(otp);
        found.conditional_assign(&step, hit);
        any |= hit;
    }
    (bool::from(any) && found > last_step).then_some(found)
}

/// The code of a step (RFC 4226 §5.3).
pub fn code(seed: &SecretBytes, step: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, seed.expose());
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[19] & 0xf);
    let word = u32::from_be_bytes([tag[at] & 0x7f, tag[at + 1], tag[at + 2], tag[at + 3]]);
    format!("{:06}", word % 1_000_000)
}

/// Base32 without padding (RFC 4648 §6), as authenticator apps want seeds.
pub fn base32(seed: &SecretBytes) -> SecretBytes {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut out = Vec::with_capacity(seed.len().div_ceil(5) * 8);
    let (mut window, mut bits) = (0_u32, 0);
    for byte in seed.expose() {
        window = window << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(ALPHABET[(window >> bits & 31) as usize]);
        }
        window &= (1 << bits) - 1;
    }
    if bits > 0 {
        out.push(ALPHABET[(window << (5 - bits) & 31) as usize]);
    }
    SecretBytes::new(out)
}

/// Reads a seed in base32; spaces, lower case and padding are accepted, as people type them. `None` for other characters,
/// fewer than 16 or more than 64 bytes.
pub fn from_base32(text: &SecretBytes) -> Option<SecretBytes> {
    let mut out = Vec::with_capacity(64);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for c in text.expose() {
        let value = match c.to_ascii_uppercase() {
            c @ b'A'..=b'Z' => c - b'A',
            c @ b'2'..=b'7' => c - b'2' + 26,
            b' ' | b'=' => continue,
            _ => return None,
        };
        bits = (bits << 5 | u32::from(value)) & 0xfff;
        held += 5;
        if held >= 8 {
            held -= 8;
            if out.len() == 64 {
                return None;
            }
            out.push((bits >> held & 0xff) as u8);
        }
    }
    let seed = SecretBytes::new(out);
    (seed.len() >= 16).then_some(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed() -> SecretBytes {
        SecretBytes::new(b"12345678901234567890".to_vec())
    }

    #[test]
    fn rfc_6238_appendix_b() {
        for (time, expected) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code(&seed(), time / STEP), expected);
        }
        assert_eq!(
            base32(&seed()).expose(),
            b"GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
        );
        assert_eq!(
            base32(&SecretBytes::new(b"foob".to_vec())).expose(),
            b"MZXW6YQ"
        );
    }

    // shows: T-USE-SAP-REPLAY
    #[test]
    fn a_code_counts_once_and_only_near_its_step() {
        let now = UnixTime(1_111_111_109);
        let step = now.0 / STEP;
        let otp = code(&seed(), step);
        assert_eq!(verify(&seed(), otp.as_bytes(), now, 0), Some(step));
        assert_eq!(verify(&seed(), otp.as_bytes(), now, step), None);
        assert_eq!(verify(&seed(), otp.as_bytes(), now.plus(30), 0), Some(step));
        assert_eq!(verify(&seed(), otp.as_bytes(), now.plus(60), 0), None);
        assert_eq!(verify(&seed(), otp.as_bytes(), now.plus(-60), 0), None);
        assert_eq!(verify(&seed(), b"", now, 0), None);
        assert_eq!(verify(&seed(), b"08180", now, 0), None);
    }
}
