//! Checkpoints: C2SP tlog-checkpoint texts as C2SP signed notes, Ed25519.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use core_types::bytes::{b64, hex, sha256};
use core_types::{Digest32, SecretBytes};

use crate::error::AuditError;

/// Signature type *Ed25519* of the signed-note format.
const ED25519: u8 = 1;

/// Key that signs a zone's checkpoints. The caller keeps its seed sealed.
pub struct LogKey {
    name: String,
    pair: Ed25519KeyPair,
}

impl std::fmt::Debug for LogKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogKey({})", self.name)
    }
}

impl LogKey {
    /// The key with this 32-byte seed. `name` is the log's origin, such as `sign.example.jp/sam`.
    ///
    /// # Errors
    /// [`AuditError::BadKey`].
    pub fn from_seed(name: &str, seed: &SecretBytes) -> Result<Self, AuditError> {
        if !is_origin(name) {
            return Err(AuditError::BadKey);
        }
        let pair =
            Ed25519KeyPair::from_seed_unchecked(seed.expose()).map_err(|_| AuditError::BadKey)?;
        Ok(Self {
            name: name.to_owned(),
            pair,
        })
    }

    /// The public key in the text form of signed notes: `NAME+HASH+KEY`.
    pub fn public(&self) -> String {
        verifier_key(&self.name, self.pair.public_key().as_ref())
    }

    /// The signed note for a tree. The same tree always gives the same bytes.
    pub(crate) fn checkpoint(&self, size: u64, root: &Digest32) -> String {
        let text = checkpoint_text(&self.name, size, root);
        let value = self.pair.sign(text.as_bytes());
        signed_checkpoint(&text, self.pair.public_key().as_ref(), value.as_ref())
    }
}

/// Whether a text can be the origin of a log, such as `sign.example.jp/sam`: 1 to 100 bytes without blanks, control
/// characters and `+`.
pub fn is_origin(name: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    (1..=100).contains(&name.len()) && !name.contains(bad)
}

/// What is signed for a tree (C2SP tlog-checkpoint): origin, size and root hash, a line each.
pub fn checkpoint_text(origin: &str, size: u64, root: &Digest32) -> String {
    format!("{origin}\n{size}\n{}\n", b64(root))
}

/// The signed note of a [`checkpoint_text`] and its Ed25519 value. `public`: the raw public key, 32 bytes.
pub fn signed_checkpoint(text: &str, public: &[u8], value: &[u8]) -> String {
    let origin = text.lines().next().unwrap_or_default();
    let mut signature = key_hash(origin, public).to_vec();
    signature.extend_from_slice(value);
    format!("{text}\n\u{2014} {origin} {}\n", STANDARD.encode(signature))
}

/// A log's public key in the text form of signed notes: `ORIGIN+HASH+KEY`. `public`: the raw public key, 32 bytes.
pub fn verifier_key(origin: &str, public: &[u8]) -> String {
    let hash = hex(key_hash(origin, public));
    format!("{origin}+{hash}+{}", b64(typed(public)))
}

fn typed(public: &[u8]) -> Vec<u8> {
    [&[ED25519], public].concat()
}

fn key_hash(origin: &str, public: &[u8]) -> [u8; 4] {
    let digest = sha256(&[origin.as_bytes(), b"\n", &typed(public)]);
    [digest.0[0], digest.0[1], digest.0[2], digest.0[3]]
}

/// Size that a checkpoint states.
pub(crate) fn size_of(note: &str) -> Option<u64> {
    note.lines().nth(1)?.parse().ok()
}

/// Root that a checkpoint states.
pub(crate) fn root_of(note: &str) -> Option<Digest32> {
    let root = STANDARD.decode(note.lines().nth(2)?).ok()?;
    Some(Digest32(root.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_a_signed_note() {
        let key = LogKey::from_seed("log.example/sam", &SecretBytes::new(vec![7; 32])).unwrap();
        let note = key.checkpoint(3, &Digest32([1; 32]));
        assert_eq!(note, key.checkpoint(3, &Digest32([1; 32])));
        let lines: Vec<_> = note.split('\n').collect();
        assert_eq!(
            lines[..3],
            [
                "log.example/sam",
                "3",
                "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
            ]
        );
        assert!(
            lines[3].is_empty()
                && lines[4].starts_with("— log.example/sam ")
                && lines[5].is_empty()
        );
        assert_eq!(size_of(&note), Some(3));
        assert_eq!(
            key.public().split('+').count(),
            3 + key.public().matches('+').count() - 2
        );
    }

    #[test]
    fn a_bad_name_or_seed_is_refused() {
        for name in ["", "a b", "a+b", "a\nb"] {
            assert!(
                LogKey::from_seed(name, &SecretBytes::new(vec![7; 32])).is_err(),
                "{name:?}"
            );
        }
        assert!(LogKey::from_seed("a", &SecretBytes::new(vec![7; 31])).is_err());
    }
}
