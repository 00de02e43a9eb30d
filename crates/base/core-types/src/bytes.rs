//! Byte strings with one text form: base64url without padding, decoded strictly (RFC 4648 §5).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Encodes bytes as base64url without padding.
pub fn b64u(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes base64url without padding.
///
/// # Errors
/// [`NotBase64Url`] for any other alphabet, padding, white space or non-zero trailing bits.
pub fn from_b64u(text: &str) -> Result<Vec<u8>, NotBase64Url> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| NotBase64Url)
}

/// Encodes bytes as padded standard base64 (RFC 4648 §4), as CSC bodies want it.
pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// Decodes padded standard base64.
///
/// # Errors
/// [`NotBase64Url`] when the text is not canonical base64.
pub fn from_b64(text: &str) -> Result<Vec<u8>, NotBase64Url> {
    STANDARD.decode(text).map_err(|_| NotBase64Url)
}

/// Lower-case hexadecimal.
pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// The text was not base64 in the one accepted form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not canonical base64")]
pub struct NotBase64Url;

/// SHA-256 of the concatenation of `parts`.
pub fn sha256(parts: &[&[u8]]) -> Digest32 {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    Digest32(out)
}

/// 32 public bytes, such as a SHA-256 value or a nonce. Text form: base64url, 43 characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest32(pub [u8; 32]);

impl Digest32 {
    /// Parses the 43-character base64url form.
    ///
    /// # Errors
    /// [`NotBase64Url`] when the text is not exactly 32 bytes in base64url.
    pub fn parse(text: &str) -> Result<Self, NotBase64Url> {
        let bytes = from_b64u(text)?;
        Ok(Self(bytes.try_into().map_err(|_| NotBase64Url)?))
    }

    /// Equality in constant time, for values that act as capabilities.
    pub fn ct_eq(&self, other: &Self) -> bool {
        use subtle::ConstantTimeEq as _;
        self.0.ct_eq(&other.0).into()
    }
}

impl AsRef<[u8]> for Digest32 {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Digest32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&b64u(self.0))
    }
}

impl fmt::Debug for Digest32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Digest32 {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest32 {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Public bytes of any length; base64url without padding in JSON.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct B64(pub Vec<u8>);

impl AsRef<[u8]> for B64 {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for B64 {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for B64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "B64({} bytes)", self.0.len())
    }
}

impl Serialize for B64 {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&b64u(&self.0))
    }
}

impl<'de> Deserialize<'de> for B64 {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        from_b64u(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_is_decoded_in_one_form_only() {
        assert_eq!(from_b64u("AQID").unwrap(), [1, 2, 3]);
        for bad in ["AQ==", "AQ\n", "A+8", "AR", "A"] {
            assert_eq!(from_b64u(bad), Err(NotBase64Url), "{bad:?}");
        }
    }

    #[test]
    fn digest_round_trips_and_refuses_other_lengths() {
        let digest = sha256(&[b"a", b"bc"]);
        assert_eq!(digest, sha256(&[b"abc"]));
        assert_eq!(Digest32::parse(&digest.to_string()).unwrap(), digest);
        assert!(Digest32::parse("AQID").is_err());
        assert!(digest.ct_eq(&sha256(&[b"abc"])));
        assert!(!digest.ct_eq(&sha256(&[b"abd"])));
    }
}
