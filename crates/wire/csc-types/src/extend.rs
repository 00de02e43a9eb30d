//! `credentials/extendTransaction` (CSC 11.11): the next token of an authorization with signatures left.

use core_types::bytes::b64;
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::body::Body;
use crate::error::CscError;
use crate::lenient::decode_base64;
use crate::secret::SecretText;

/// Request of `credentials/extendTransaction`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtendRequest {
    /// The credential.
    pub credential_id: String,
    /// The current signature activation data; absent when the bearer token itself is.
    pub sad: Option<SecretText>,
    /// Raw digests that will be signed next; empty leaves it open.
    pub hashes: Vec<Vec<u8>>,
    /// Data of the client, may be logged.
    pub client_data: Option<String>,
}

impl ExtendRequest {
    /// Reads a request body. Whether `SAD` is needed depends on the token and is left to the caller.
    ///
    /// # Errors
    /// The CSC error to answer with: the codes of signHash for the same members.
    pub fn parse(body: &[u8]) -> Result<Self, CscError> {
        let body = Body::parse(body)?;
        let sad = match body.get("SAD") {
            None => None,
            Some(Value::String(text)) => Some(SecretText::new(text.clone())),
            Some(_) => return Err(CscError::MissingString("SAD")),
        };
        let credential_id = body.string("credentialID")?;
        let decode = |v: &Value| {
            v.as_str()
                .and_then(decode_base64)
                .ok_or(CscError::InvalidBase64Hash)
        };
        let hashes = match body.get("hashes") {
            None => Vec::new(),
            Some(Value::Array(texts)) => texts.iter().map(decode).collect::<Result<_, _>>()?,
            Some(_) => return Err(CscError::MissingArray("hash")),
        };
        Ok(Self {
            credential_id,
            sad,
            hashes,
            client_data: body.opt_string("clientData")?,
        })
    }
}

impl Serialize for ExtendRequest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut out = s.serialize_struct("ExtendRequest", 4)?;
        out.serialize_field("credentialID", &self.credential_id)?;
        if let Some(sad) = &self.sad {
            out.serialize_field("SAD", sad)?;
        }
        if !self.hashes.is_empty() {
            let hashes: Vec<String> = self.hashes.iter().map(b64).collect();
            out.serialize_field("hashes", &hashes)?;
        }
        if let Some(data) = &self.client_data {
            out.serialize_field("clientData", data)?;
        }
        out.end()
    }
}

/// Answer of `credentials/extendTransaction`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtendResponse {
    /// The next signature activation data; the one before is dead.
    #[serde(rename = "SAD")]
    pub sad: SecretText,
    /// Seconds until it runs out.
    #[serde(rename = "expiresIn", default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_they_are_written_and_faults_have_their_names() {
        let request = ExtendRequest {
            credential_id: "k".into(),
            sad: Some(SecretText::new("s".to_owned())),
            hashes: vec![vec![1; 32]],
            client_data: None,
        };
        let text = serde_json::to_vec(&request).unwrap();
        assert_eq!(ExtendRequest::parse(&text), Ok(request));
        let faults: [(&[u8], CscError); 4] = [
            (b"{}", CscError::MissingString("credentialID")),
            (br#"{"SAD":1}"#, CscError::MissingString("SAD")),
            (
                br#"{"credentialID":"k","hashes":"x"}"#,
                CscError::MissingArray("hash"),
            ),
            (
                br#"{"credentialID":"k","hashes":["%"]}"#,
                CscError::InvalidBase64Hash,
            ),
        ];
        for (body, error) in faults {
            assert_eq!(ExtendRequest::parse(body), Err(error));
        }
    }
}
