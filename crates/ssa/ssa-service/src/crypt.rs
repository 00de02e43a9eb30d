//! Tokens, their digests, and values sealed for the store.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use core_types::bytes::b64u;
use core_types::{Digest32, Random, SecretBytes, sha256};
use csc_types::SecretText;

/// Draws an opaque value of 256 bits: a token, a code, a cookie, a handle.
pub(crate) fn draw(random: &dyn Random) -> SecretText {
    SecretText::new(b64u(random.digest32().0))
}

/// How an opaque value is stored and found: the text of its SHA-256. 256 random bits need no slow hash.
pub(crate) fn digest(text: &str) -> String {
    grant(text).to_string()
}

/// SHA-256 of a token's text, as the SAM wants it.
pub(crate) fn grant(text: &str) -> Digest32 {
    sha256(&[text.as_bytes()])
}

/// Seals small values with the SSA's key; `place` (table, column, row) is authenticated too, so that a value moved
/// to another row doesn't open.
pub(crate) struct Sealer(LessSafeKey);

impl Sealer {
    /// `None` unless the key has 32 bytes.
    pub(crate) fn new(key: &SecretBytes) -> Option<Self> {
        let key = UnboundKey::new(&AES_256_GCM_SIV, key.expose()).ok()?;
        Some(Self(LessSafeKey::new(key)))
    }

    pub(crate) fn seal(&self, random: &dyn Random, place: &str, value: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce);
        let mut text = value.to_vec();
        let key = &self.0;
        let place = Aad::from(place.as_bytes());
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), place, &mut text)
            .ok()?;
        Some([nonce.as_slice(), &text].concat())
    }

    /// `None` when the value was changed or belongs to another place.
    pub(crate) fn open(&self, place: &str, sealed: &[u8]) -> Option<SecretBytes> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let plain = self
            .0
            .open_in_place(nonce, Aad::from(place.as_bytes()), &mut text);
        plain.ok().map(|plain| SecretBytes::new(plain.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core_types::random::SeededRandom;

    #[test]
    fn a_sealed_value_opens_only_in_its_place() {
        let sealer = Sealer::new(&SecretBytes::new(vec![7; 32])).unwrap();
        let sealed = sealer
            .seal(&SeededRandom::new(1), "user/1", b"seed")
            .unwrap();
        assert!(sealer.open("user/1", &sealed).unwrap().ct_eq(b"seed"));
        assert!(sealer.open("user/2", &sealed).is_none());
        let other = Sealer::new(&SecretBytes::new(vec![8; 32])).unwrap();
        assert!(other.open("user/1", &sealed).is_none());
        let mut changed = sealed.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert!(sealer.open("user/1", &changed).is_none());
        assert!(sealer.open("user/1", b"short").is_none());
    }
}
