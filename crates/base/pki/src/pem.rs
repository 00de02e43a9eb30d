//! PEM (RFC 7468) of certificates and keys.

use crate::asn1::DerError;

/// Encodes DER under a label such as `CERTIFICATE`. An impossible label gives an empty text.
pub fn encode(label: &'static str, der: &[u8]) -> String {
    der::pem::encode_string(label, der::pem::LineEnding::LF, der).unwrap_or_default()
}

/// Decodes every block with this label, in order; other text and other labels are skipped.
///
/// # Errors
/// [`DerError`] when a block is not closed or not base64.
pub fn decode_all(label: &str, text: &str) -> Result<Vec<Vec<u8>>, DerError> {
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(&begin) {
        let block = rest.get(start..).unwrap_or_default();
        let stop = block.find(&end).ok_or(DerError("PEM block without end"))? + end.len();
        let whole = block.get(..stop).unwrap_or_default();
        let (_, der) = der::pem::decode_vec(whole.as_bytes()).map_err(|_| DerError("PEM block"))?;
        out.push(der);
        rest = block.get(stop..).unwrap_or_default();
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_blocks_round_trip() {
        let text = format!(
            "note\n{}{}",
            encode("CERTIFICATE", &[1; 70]),
            encode("CERTIFICATE", &[2])
        );
        assert_eq!(
            decode_all("CERTIFICATE", &text).unwrap(),
            [vec![1; 70], vec![2]]
        );
        assert!(decode_all("CERTIFICATE", "-----BEGIN CERTIFICATE-----\nAA").is_err());
    }
}
