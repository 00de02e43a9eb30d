//! A secret in the hands of several persons: Shamir's scheme over GF(2⁸), for ceremonies and restores only, such as of the
//! module's root secret and of the key that opens an installation again. A restart needs no share.
//!
//! Each byte of the secret is the value at 0 of a polynomial of degree `need − 1` with random coefficients; share `x` holds
//! the values at `x`. Fewer than `need` shares say nothing at all about the secret.

use core_types::bytes::{b64u, from_b64u};
use core_types::{Random, SecretBytes, sha256};
use zeroize::Zeroizing;

/// Most shares of one dealing.
pub const MOST: u8 = 32;
const FORM: &str = "natsuin-share-1";

/// One share.
#[derive(Debug, Clone)]
pub struct Share {
    /// Random name of the dealing: shares of two dealings don't fit together.
    deal: [u8; 8],
    /// Tells whether what comes out is what went in. Says nothing of a secret of 32 random bytes.
    check: [u8; 8],
    need: u8,
    x: u8,
    data: SecretBytes,
}

/// Why shares can't be dealt or joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// Numbers that make no dual control.
    #[error("of N shares at least 2 must be needed, and at most all of them; N is at most 32")]
    Numbers,
    /// Not a share, or mistyped.
    #[error("this isn't a whole share")]
    Malformed,
    /// Shares of different dealings, or one twice.
    #[error("these shares don't belong together")]
    Mixed,
    /// Too few.
    #[error("{0} shares are needed")]
    TooFew(u8),
    /// Shares that were altered.
    #[error("what comes out isn't the secret that was dealt: a share was altered")]
    Wrong,
}

/// Deals a secret to `of` shares, of which `need` bring it back.
///
/// # Errors
/// [`ShareError::Numbers`].
pub fn deal(
    secret: &SecretBytes,
    need: u8,
    of: u8,
    random: &dyn Random,
) -> Result<Vec<Share>, ShareError> {
    if need < 2 || need > of || of > MOST || secret.is_empty() {
        return Err(ShareError::Numbers);
    }
    let mut deal = [0; 8];
    random.fill(&mut deal);
    // Coefficients of x, x², …: one row for each power, one column for each byte of the secret.
    let mut rows = Vec::new();
    for _ in 1..need {
        let mut row = Zeroizing::new(vec![0; secret.len()]);
        random.fill(&mut row);
        rows.push(row);
    }
    let share = |x: u8| {
        let mut data = Vec::with_capacity(secret.len());
        for (i, byte) in secret.expose().iter().enumerate() {
            // Horner's rule from the highest power down.
            let higher = rows.iter().rev().fold(0, |sum, row| mul(sum, x) ^ row[i]);
            data.push(mul(higher, x) ^ byte);
        }
        Share {
            deal,
            check: check(secret),
            need,
            x,
            data: SecretBytes::new(data),
        }
    };
    Ok((1..=of).map(share).collect())
}

/// Joins shares to the secret.
///
/// # Errors
/// [`ShareError`].
pub fn join(shares: &[Share]) -> Result<SecretBytes, ShareError> {
    let first = shares.first().ok_or(ShareError::TooFew(2))?;
    let alike = |s: &Share| {
        (s.deal, s.check, s.need, s.data.len())
            == (first.deal, first.check, first.need, first.data.len())
    };
    let twice = |(i, s): (usize, &Share)| shares[..i].iter().any(|t| t.x == s.x);
    if !shares.iter().all(alike) || shares.iter().enumerate().any(twice) {
        return Err(ShareError::Mixed);
    }
    if shares.len() < usize::from(first.need) {
        return Err(ShareError::TooFew(first.need));
    }
    let used = &shares[..usize::from(first.need)];
    let mut secret = Zeroizing::new(vec![0; first.data.len()]);
    for share in used {
        // Lagrange's basis polynomial of this share at 0.
        let mut weight = 1;
        for other in used.iter().filter(|o| o.x != share.x) {
            weight = mul(weight, mul(other.x, inverse(other.x ^ share.x)));
        }
        for (out, byte) in secret.iter_mut().zip(share.data.expose()) {
            *out ^= mul(weight, *byte);
        }
    }
    let secret = SecretBytes::new(secret.to_vec());
    if check(&secret) == first.check {
        Ok(secret)
    } else {
        Err(ShareError::Wrong)
    }
}

impl Share {
    /// How many shares are needed.
    pub fn need(&self) -> u8 {
        self.need
    }

    /// Number of the share, from 1.
    pub fn number(&self) -> u8 {
        self.x
    }

    /// One line of text, for a file or for print.
    pub fn text(&self) -> SecretBytes {
        let body = format!(
            "{FORM}.{}.{}.{}.{}.{}",
            b64u(self.deal),
            b64u(self.check),
            self.need,
            self.x,
            b64u(self.data.expose())
        );
        let sum = &sha256(&[body.as_bytes()]).0[..4];
        SecretBytes::from(format!("{body}.{}", b64u(sum)))
    }

    /// Reads a share.
    ///
    /// # Errors
    /// [`ShareError::Malformed`], also when a character is wrong.
    pub fn parse(text: &str) -> Result<Self, ShareError> {
        let bad = |_| ShareError::Malformed;
        let (body, sum) = text.trim().rsplit_once('.').ok_or(ShareError::Malformed)?;
        if b64u(&sha256(&[body.as_bytes()]).0[..4]) != sum {
            return Err(ShareError::Malformed);
        }
        let parts: Vec<&str> = body.split('.').collect();
        let [FORM, deal, check, need, x, data] = parts[..] else {
            return Err(ShareError::Malformed);
        };
        let eight = |text| -> Result<[u8; 8], ShareError> {
            let bytes = from_b64u(text).map_err(bad)?;
            bytes.try_into().map_err(|_| ShareError::Malformed)
        };
        let number = |text: &str| text.parse::<u8>().map_err(|_| ShareError::Malformed);
        let share = Self {
            deal: eight(deal)?,
            check: eight(check)?,
            need: number(need)?,
            x: number(x)?,
            data: SecretBytes::new(from_b64u(data).map_err(bad)?),
        };
        let same = share.text().ct_eq(text.trim().as_bytes());
        if !same || share.need < 2 || share.x == 0 || share.x > MOST || share.data.is_empty() {
            return Err(ShareError::Malformed);
        }
        Ok(share)
    }
}

fn check(secret: &SecretBytes) -> [u8; 8] {
    let digest = sha256(&[b"natsuin-share-v1", secret.expose()]);
    let mut out = [0; 8];
    out.copy_from_slice(&digest.0[..8]);
    out
}

/// Product in GF(2⁸) modulo x⁸ + x⁴ + x³ + x + 1, without tables and branches that depend on the factors.
fn mul(a: u8, b: u8) -> u8 {
    let (mut a, mut product) = (a, 0);
    for bit in 0..8 {
        product ^= a & 0_u8.wrapping_sub((b >> bit) & 1);
        let carry = 0_u8.wrapping_sub(a >> 7);
        a = (a << 1) ^ (carry & 0x1b);
    }
    product
}

/// Inverse of a number that isn't 0: its 254th power.
fn inverse(a: u8) -> u8 {
    let mut power = 1;
    for bit in (0..8).rev() {
        power = mul(power, power);
        if (254 >> bit) & 1 == 1 {
            power = mul(power, a);
        }
    }
    power
}

#[cfg(test)]
mod tests {
    use core_types::random::SeededRandom;

    use super::*;

    #[test]
    fn the_field_is_that_of_the_standard() {
        // FIPS 197 §4.2: {57} • {83} = {c1}, {57} • {13} = {fe}; §4.2: {53} and {ca} are inverse.
        assert_eq!(mul(0x57, 0x83), 0xc1);
        assert_eq!(mul(0x57, 0x13), 0xfe);
        assert_eq!(inverse(0x53), 0xca);
        for a in 1..=255 {
            assert_eq!(mul(a, inverse(a)), 1, "{a}");
        }
    }

    // shows: III-3-10-backup
    #[test]
    fn any_need_of_them_bring_the_secret_back_and_fewer_or_others_do_not() {
        let random = SeededRandom::new(7);
        let secret = SecretBytes::new((0..32).collect());
        for (need, of) in [(2, 2), (2, 3), (3, 5), (5, 8)] {
            let shares = deal(&secret, need, of, &random).unwrap();
            let texts: Vec<_> = shares.iter().map(Share::text).collect();
            for start in 0..of {
                let some: Vec<Share> = (0..need)
                    .map(|i| usize::from((start + i) % of))
                    .map(|i| std::str::from_utf8(texts[i].expose()).unwrap())
                    .map(|t| Share::parse(t).unwrap())
                    .collect();
                assert!(join(&some).unwrap().ct_eq(secret.expose()));
                let fewer = &some[..usize::from(need) - 1];
                assert_eq!(join(fewer).unwrap_err(), ShareError::TooFew(need));
                let mut twice = fewer.to_vec();
                twice.push(fewer[0].clone());
                assert_eq!(join(&twice).unwrap_err(), ShareError::Mixed);
            }
            let again = deal(&secret, need, of, &random).unwrap();
            let mixed = [&shares[..1], &again[1..usize::from(need)]].concat();
            assert_eq!(join(&mixed).unwrap_err(), ShareError::Mixed);
            let mut altered = shares[..usize::from(need)].to_vec();
            let mut data = altered[0].data.expose().to_vec();
            data[3] ^= 1;
            altered[0].data = SecretBytes::new(data);
            assert_eq!(join(&altered).unwrap_err(), ShareError::Wrong);
        }
        for (need, of) in [(1, 3), (4, 3), (2, 33)] {
            assert!(deal(&secret, need, of, &random).is_err());
        }
    }

    #[test]
    fn a_mistyped_share_is_seen() {
        let secret = SecretBytes::new(vec![9; 32]);
        let share = &deal(&secret, 2, 2, &SeededRandom::new(1)).unwrap()[0];
        let text = share.text();
        let text = std::str::from_utf8(text.expose()).unwrap();
        for i in 0..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
            let typed = String::from_utf8(bytes).unwrap();
            assert!(Share::parse(&typed).is_err(), "{i}");
        }
        assert!(Share::parse("").is_err());
    }

    #[test]
    fn one_share_alone_can_be_anything() {
        /// A generator that gives one byte only.
        struct Only(u8);
        impl Random for Only {
            fn fill(&self, out: &mut [u8]) {
                out.fill(self.0);
            }
        }
        // The distribution of a share's byte doesn't depend on the secret: over all coefficients each value comes once.
        for secret in [0_u8, 1, 0xab] {
            let secret = SecretBytes::new(vec![secret]);
            for x in 0..3 {
                let byte = |c| deal(&secret, 2, 3, &Only(c)).unwrap()[x].data.expose()[0];
                let mut seen: Vec<u8> = (0..=255).map(byte).collect();
                seen.sort_unstable();
                seen.dedup();
                assert_eq!(seen.len(), 256);
            }
        }
    }
}
