//! Text that must not leak, carried as plain text on the wire.

use core_types::SecretBytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A token, code, verifier or client secret. `Debug` shows its length only; it is wiped when dropped.
#[derive(Clone, Debug)]
pub struct SecretText(SecretBytes);

impl SecretText {
    /// Takes over the text.
    pub fn new(text: String) -> Self {
        Self(SecretBytes::from(text))
    }

    /// The text itself, for sending it or for hashing it.
    pub fn expose(&self) -> &str {
        // Built from a `String` only, so it stays UTF-8.
        std::str::from_utf8(self.0.expose()).unwrap_or_default()
    }

    /// Equality in constant time for equal lengths.
    pub fn ct_eq(&self, other: &str) -> bool {
        self.0.ct_eq(other.as_bytes())
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl PartialEq for SecretText {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other.expose())
    }
}

impl Eq for SecretText {}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.expose())
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(Self::new)
    }
}
