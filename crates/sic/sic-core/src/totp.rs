//! One-time codes: RFC 6238 with HMAC-SHA-1, six digits, steps of 30 seconds, as authenticator apps make them.

use aws_lc_rs::hmac;
use core_types::{SecretBytes, UnixTime};

/// Length of a step in seconds.
const STEP: i64 = 30;

/// The text isn't a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an authenticator seed (base32, 16 to 64 bytes)")]
pub struct TotpError;

/// A generator of one-time codes.
#[derive(Debug, Clone)]
pub struct Totp(SecretBytes);

impl Totp {
    /// Reads a seed in base32 (RFC 4648 §6); spaces, lower case and padding are accepted, as people type them.
    ///
    /// # Errors
    /// [`TotpError`] for other characters or fewer than 16 or more than 64 bytes.
    pub fn from_base32(seed: &SecretBytes) -> Result<Self, TotpError> {
        let mut out = Vec::with_capacity(64);
        let (mut bits, mut held) = (0u32, 0u32);
        for c in seed.expose() {
            let value = match c.to_ascii_uppercase() {
                c @ b'A'..=b'Z' => c - b'A',
                c @ b'2'..=b'7' => c - b'2' + 26,
                b' ' | b'=' => continue,
                _ => return Err(TotpError),
            };
            bits = (bits << 5 | u32::from(value)) & 0xfff;
            held += 5;
            if held >= 8 {
                held -= 8;
                if out.len() == 64 {
                    return Err(TotpError);
                }
                out.push((bits >> held & 0xff) as u8);
            }
        }
        if out.len() < 16 {
            return Err(TotpError);
        }
        Ok(Self(SecretBytes::new(out)))
    }

    /// The six digits at `now`.
    pub fn code(&self, now: UnixTime) -> SecretBytes {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.0.expose());
        let step = now.0.div_euclid(STEP);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let tag = tag.as_ref();
        let at = usize::from(tag[19] & 15);
        let number = u32::from_be_bytes([tag[at] & 0x7f, tag[at + 1], tag[at + 2], tag[at + 3]]);
        SecretBytes::from(format!("{:06}", number % 1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::secret;

    /// Vectors of RFC 6238 appendix B, cut to six digits: the seed is "12345678901234567890".
    #[test]
    fn codes_are_those_of_the_standard() {
        let totp = Totp::from_base32(&secret("gezd gnbv gy3t qojq gezd gnbv gy3t qojq")).unwrap();
        for (at, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (20_000_000_000, "353130"),
        ] {
            assert!(totp.code(UnixTime(at)).ct_eq(code.as_bytes()), "at {at}");
        }
    }

    #[test]
    fn other_texts_are_no_seeds() {
        for bad in [
            "",
            "GEZDGNBV",
            "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJ1",
            &"A".repeat(104),
        ] {
            assert_eq!(
                Totp::from_base32(&secret(bad)).unwrap_err(),
                TotpError,
                "{bad}"
            );
        }
    }
}
