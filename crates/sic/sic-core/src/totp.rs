//! A generator of one-time codes, as an authenticator app is one.

use core_types::{SecretBytes, UnixTime};

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
        otp::from_base32(seed).map(Self).ok_or(TotpError)
    }

    /// The six digits at `now`.
    pub fn code(&self, now: UnixTime) -> SecretBytes {
        SecretBytes::from(otp::code(&self.0, now.0.div_euclid(otp::STEP)))
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
