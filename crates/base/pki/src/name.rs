//! Distinguished names (X.501): text form, single attributes, and encoding.

use core_types::bytes::hex;
use der::Decode as _;

use crate::asn1::{self, DerError, PRINTABLE_STRING, SEQUENCE, SET, Tlv, UTF8_STRING};
use crate::oid;

/// RFC 4514 text of a DER Name; names that can't be shown that way appear as `#` and hexadecimal.
pub fn to_text(name_der: &[u8]) -> String {
    match x509_cert::name::Name::from_der(name_der) {
        Ok(name) => name.to_string(),
        Err(_) => format!("#{}", hex(name_der)),
    }
}

/// The first value of an attribute in a DER Name, such as [`oid::COMMON_NAME`].
pub fn attribute(name_der: &[u8], attribute: &str) -> Option<String> {
    let what = "name";
    let rdns = Tlv::single(name_der, what)
        .ok()?
        .open(SEQUENCE, what)
        .ok()?
        .all(what)
        .ok()?;
    for rdn in rdns {
        for pair in rdn.open(SET, what).ok()?.all(what).ok()? {
            let mut pair = pair.open(SEQUENCE, what).ok()?;
            if pair.next(what).ok()?.as_oid(what).ok()? == attribute {
                return text(pair.next(what).ok()?);
            }
        }
    }
    None
}

/// Text of a DirectoryString or IA5String.
pub(crate) fn text(value: Tlv<'_>) -> Option<String> {
    match value.tag {
        UTF8_STRING => String::from_utf8(value.value.to_vec()).ok(),
        // PrintableString, IA5String
        PRINTABLE_STRING | asn1::IA5_STRING => value
            .value
            .is_ascii()
            .then(|| value.value.iter().map(|b| char::from(*b)).collect()),
        // TeletexString, read as Latin-1 as everybody does
        0x14 => Some(value.value.iter().map(|b| char::from(*b)).collect()),
        // BMPString
        0x1e => {
            let (pairs, []) = value.value.as_chunks::<2>() else {
                return None;
            };
            String::from_utf16(
                &pairs
                    .iter()
                    .map(|p| u16::from_be_bytes(*p))
                    .collect::<Vec<_>>(),
            )
            .ok()
        }
        _ => None,
    }
}

/// Encodes a Name of one attribute per RDN, in the order given (most significant first).
///
/// `countryName` and `serialNumber` become PrintableString, everything else UTF8String (RFC 5280 §4.1.2.4).
///
/// # Errors
/// [`DerError`] for an identifier that isn't one, an empty value, or one that its string type can't hold.
pub fn encode(attributes: &[(&str, &str)]) -> Result<Vec<u8>, DerError> {
    let mut rdns = Vec::new();
    for (id, value) in attributes {
        let printable = [oid::COUNTRY, oid::SERIAL_NUMBER].contains(id);
        let ok = |c: char| c.is_ascii_alphanumeric() || " '()+,-./:=?".contains(c);
        if value.is_empty() || (printable && !value.chars().all(ok)) {
            return Err(DerError("attribute value of a name"));
        }
        let tag = if printable {
            PRINTABLE_STRING
        } else {
            UTF8_STRING
        };
        let pair = asn1::sequence(&[&asn1::try_oid(id)?, &asn1::tlv(tag, &[value.as_bytes()])]);
        rdns.push(asn1::tlv(SET, &[&pair]));
    }
    let parts: Vec<&[u8]> = rdns.iter().map(Vec::as_slice).collect();
    Ok(asn1::sequence(&parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn japanese_names_are_readable() {
        let name = encode(&[
            (oid::COUNTRY, "JP"),
            (oid::ORGANIZATION, "a,b"),
            (oid::COMMON_NAME, "山田 太郎"),
        ])
        .unwrap();
        assert_eq!(to_text(&name), "CN=山田 太郎,O=a\\,b,C=JP");
        assert_eq!(
            attribute(&name, oid::COMMON_NAME).as_deref(),
            Some("山田 太郎")
        );
        assert!(encode(&[(oid::COUNTRY, "日本")]).is_err());
    }
}
