//! PINs checked by the SAM: SP 800-63B-4 §3.1.1.2, at least 8 characters as one of two factors, and a block list.
//!
//! Kept is only `HMAC(K_pin, factor ‖ Argon2id(PIN, salt))`; the HMAC is made by the CM, so a copy of the store
//! can't be guessed at.

use argon2::{Algorithm, Argon2, Params, Version};
use core_types::SecretBytes;

use crate::Reason;

/// Fewest characters.
pub const MIN_CHARS: usize = 8;
/// Most bytes.
pub const MAX_BYTES: usize = 128;
/// Bytes of salt.
pub const SALT: usize = 16;
/// Memory of Argon2id in KiB.
pub const MEMORY_KIB: u32 = 19 * 1024;
/// Passes of Argon2id.
pub const PASSES: u32 = 2;
/// Lanes of Argon2id.
pub const LANES: u32 = 1;

const BLOCK_LIST: &str = include_str!("blocked-pins.txt");

/// Whether a new PIN may be used.
///
/// # Errors
/// [`Reason::WeakPin`] when it is too short, too long, not text, on the block list, one repeated character or a run.
pub fn check_new(pin: &SecretBytes) -> Result<(), Reason> {
    let text = std::str::from_utf8(pin.expose()).map_err(|_| Reason::WeakPin)?;
    let mut count = 0;
    let mut distinct = false;
    let mut run = true;
    let mut last: Option<char> = None;
    for c in text.chars() {
        count += 1;
        if let Some(last) = last {
            distinct |= c != last;
            run &= u32::from(c).abs_diff(u32::from(last)) == 1;
        }
        last = Some(c);
    }
    let blocked = BLOCK_LIST
        .lines()
        .any(|line| line.eq_ignore_ascii_case(text));
    if count < MIN_CHARS || text.len() > MAX_BYTES || !distinct || run || blocked {
        return Err(Reason::WeakPin);
    }
    Ok(())
}

/// Argon2id over a PIN, 32 bytes. Slow on purpose: call it on a thread for blocking work.
///
/// # Errors
/// [`Reason::NotNow`] when the library refuses.
pub fn hash(pin: &SecretBytes, salt: &[u8]) -> Result<SecretBytes, Reason> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(32)).map_err(|_| Reason::NotNow)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut out = vec![0; 32];
    argon2
        .hash_password_into(pin.expose(), salt, &mut out)
        .map_err(|_| Reason::NotNow)?;
    Ok(SecretBytes::new(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    // shows: I-7.1.2.3-unpredictable-auth-data
    #[test]
    fn weak_pins_are_refused() {
        let check = |pin: &str| check_new(&SecretBytes::from(pin.to_owned()));
        for weak in [
            "short77",
            "password",
            "Password",
            "11111111",
            "12345678",
            "87654321",
            "abcdefgh",
            &"é".repeat(65),
            &"ac".repeat(65),
        ] {
            assert_eq!(check(weak), Err(Reason::WeakPin), "{weak}");
        }
        let longest = "ac".repeat(64);
        for good in ["blue-heron", "ひらがなのはなし", "29 4 81 7", &longest] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn the_hash_depends_on_pin_and_salt() {
        let hash =
            |pin: &str, salt| hash(&SecretBytes::from(pin.to_owned()), &[salt; SALT]).unwrap();
        assert!(hash("blue-heron", 1).ct_eq(hash("blue-heron", 1).expose()));
        assert!(!hash("blue-heron", 1).ct_eq(hash("blue-heron", 2).expose()));
        assert!(!hash("blue-heron", 1).ct_eq(hash("blue-heroN", 1).expose()));
    }
}
