//! `signatures/timestamp` (CSC 11.16). Its members have the same names in both versions.

use core_types::HashAlg;
use core_types::bytes::{b64, hex};
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::body::Body;
use crate::error::CscError;
use crate::lenient::decode_base64;

/// Most digits of a nonce.
const NONCE: usize = 64;

/// Request of `signatures/timestamp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimestampRequest {
    /// Raw digest.
    pub hash: Vec<u8>,
    /// Its algorithm.
    pub hash_algorithm: HashAlg,
    /// Magnitude of the nonce that has to be in the token, without leading zeros.
    pub nonce: Option<Vec<u8>>,
}

impl TimestampRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// The CSC error to answer with, in the order of checks of the specification.
    pub fn parse(body: &[u8]) -> Result<Self, CscError> {
        let body = Body::parse(body)?;
        if body.is_empty_text("hash") {
            return Err(CscError::EmptyHash);
        }
        let text = body.string("hash")?;
        let hash = decode_base64(&text).ok_or(CscError::InvalidBase64Hash)?;
        let oid = body.opt_string("hashAlgo")?;
        let hash_algorithm = oid
            .and_then(|oid| HashAlg::from_oid(&oid))
            .ok_or(CscError::InvalidParameter("hashAlgo"))?;
        if hash.len() != hash_algorithm.len() {
            return Err(CscError::InvalidDigestLength);
        }
        let nonce = body.opt_string("nonce")?.map(|text| read_hex(&text));
        body.opt_string("clientData")?;
        Ok(Self {
            hash,
            hash_algorithm,
            nonce: match nonce {
                None => None,
                Some(read) => Some(read.ok_or(CscError::InvalidParameter("nonce"))?),
            },
        })
    }
}

impl Serialize for TimestampRequest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut out = s.serialize_struct("TimestampRequest", 3)?;
        out.serialize_field("hash", &b64(&self.hash))?;
        out.serialize_field("hashAlgo", self.hash_algorithm.oid())?;
        if let Some(nonce) = &self.nonce {
            out.serialize_field("nonce", &hex(nonce))?;
        }
        out.end()
    }
}

/// A positive number in hexadecimal.
fn read_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_start_matches('0');
    if text.len() > NONCE || digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let even = match digits.len() % 2 {
        0 => digits.to_owned(),
        _ => format!("0{digits}"),
    };
    let bytes = even.as_bytes().chunks(2);
    bytes
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// Answer of `signatures/timestamp`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimestampResponse {
    /// Base64 of the time-stamp token (RFC 3161 §2.4.2): the CMS structure, not the response around it.
    pub timestamp: String,
}

impl TimestampResponse {
    /// Wraps a token.
    pub fn new(token: &[u8]) -> Self {
        Self {
            timestamp: b64(token),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(hash: &str, oid: &str, nonce: &str) -> Result<TimestampRequest, CscError> {
        let body = format!(r#"{{"hash":{hash},"hashAlgo":{oid},"nonce":{nonce}}}"#);
        TimestampRequest::parse(body.as_bytes())
    }

    #[test]
    fn faults_have_the_words_of_the_specification() {
        let (good, sha256) = (
            format!("\"{}\"", b64([1; 32])),
            "\"2.16.840.1.101.3.4.2.1\"",
        );
        let stamped = read(&good, sha256, "\"00fA1\"").unwrap();
        assert_eq!(stamped.nonce, Some(vec![0x0f, 0xa1]));
        let written = serde_json::to_vec(&stamped).unwrap();
        assert_eq!(TimestampRequest::parse(&written), Ok(stamped));
        assert_eq!(read(&good, sha256, "null").unwrap().nonce, None);
        let sha1 = "\"1.3.14.3.2.26\"";
        for (hash, oid, nonce, error) in [
            ("null", sha256, "null", CscError::MissingString("hash")),
            ("1", sha256, "null", CscError::MissingString("hash")),
            ("\"\"", sha256, "null", CscError::EmptyHash),
            ("\"*\"", sha256, "null", CscError::InvalidBase64Hash),
            (
                &good,
                "null",
                "null",
                CscError::InvalidParameter("hashAlgo"),
            ),
            (&good, sha1, "null", CscError::InvalidParameter("hashAlgo")),
            ("\"AQID\"", sha256, "null", CscError::InvalidDigestLength),
            (
                &good,
                sha256,
                "\"xyz\"",
                CscError::InvalidParameter("nonce"),
            ),
            (&good, sha256, "\"0\"", CscError::InvalidParameter("nonce")),
            (&good, sha256, "7", CscError::InvalidParameter("nonce")),
        ] {
            assert_eq!(read(hash, oid, nonce), Err(error));
        }
    }
}
