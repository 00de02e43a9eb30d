//! Reading helpers for what real clients and providers send.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Deserializer};

const TOLERANT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Decodes base64 or base64url, with or without padding: CSC leaves both open for hashes in authorization
/// requests, and clients differ. Returns `None` for anything else, white space included.
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let standard = text.replace('-', "+").replace('_', "/");
    TOLERANT.decode(standard).ok()
}

/// `null` reads as the default value.
pub(crate) fn or_default<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// `null` and `""` read as absent.
pub(crate) fn text<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(d)?.filter(|s| !s.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_alphabets_and_paddings_decode_to_the_same_bytes() {
        for text in ["+/+/AA==", "-_-_AA", "-_-_AA==", "+/+/AA"] {
            assert_eq!(
                decode_base64(text).as_deref(),
                Some(&[0xfb, 0xff, 0xbf, 0][..]),
                "{text}"
            );
        }
        for bad in ["+/+/A", "+/+ /AA==", "AR==", "AA===", "%2B"] {
            assert_eq!(decode_base64(bad), None, "{bad}");
        }
    }
}
