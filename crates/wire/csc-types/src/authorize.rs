//! `credentials/authorize` (CSC 11.8) and `auth/revoke` (CSC 11.3).

use core_types::HashAlg;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::body::Body;
use crate::details::{HashType, MAX_RENEWAL};
use crate::error::CscError;
use crate::lenient::decode_base64;
use crate::secret::SecretText;

/// Request of `credentials/authorize`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialAuthorizeRequest {
    /// The credential.
    pub credential_id: String,
    /// Number of signatures, at least 1.
    pub num_signatures: u32,
    /// Raw digests.
    pub hashes: Vec<Vec<u8>>,
    /// Hash of all digests; there whenever digests are.
    pub hash_algorithm: Option<HashAlg>,
    /// What was hashed, if it is said. A member of our own, `hashType`, as entries of `authorization_details` have it (2.2).
    pub hash_type: Option<HashType>,
    /// Seconds, up to [`MAX_RENEWAL`], for which the rest may be signed after the approval, if it is said. A member of our own,
    /// `renewableFor`, as details have it.
    pub renewable_for: Option<u32>,
    /// What was asked of the person, by the id of its authentication object.
    pub auth_data: Vec<(String, SecretText)>,
    /// Text of the client about the transaction, at most 500 characters; untrusted.
    pub description: Option<String>,
}

impl CredentialAuthorizeRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// The CSC error to answer with, in the order of checks of the specification.
    pub fn parse(body: &[u8]) -> Result<Self, CscError> {
        let body = Body::parse(body)?;
        let credential_id = body.string("credentialID")?;
        let number = body.get("numSignatures").and_then(Value::as_i64);
        let number = number.ok_or(CscError::MissingInteger("numSignatures"))?;
        let num_signatures = u32::try_from(number)
            .ok()
            .filter(|n| *n >= 1)
            .ok_or(CscError::InvalidValue("numSignatures"))?;
        let decode = |v: &Value| {
            v.as_str()
                .and_then(decode_base64)
                .ok_or(CscError::InvalidBase64Hash)
        };
        let texts = body.array("hashes").unwrap_or_default();
        let hashes: Vec<Vec<u8>> = texts.iter().map(decode).collect::<Result<_, _>>()?;
        let hash_algorithm = match body.opt_string("hashAlgorithmOID")? {
            None if hashes.is_empty() => None,
            None => return Err(CscError::MissingString("hashAlgorithmOID")),
            Some(oid) => Some(
                HashAlg::from_oid(&oid).ok_or(CscError::InvalidParameter("hashAlgorithmOID"))?,
            ),
        };
        if hash_algorithm.is_some_and(|ha| hashes.iter().any(|h| h.len() != ha.len())) {
            return Err(CscError::InvalidDigestLength);
        }
        let hash_type = match body.opt_string("hashType")? {
            None => None,
            Some(name) => match HashType::parse(&name) {
                Some(kind @ (HashType::Dtbsr | HashType::Sdr)) => Some(kind),
                Some(HashType::Sodr) | None => {
                    return Err(CscError::InvalidParameter("hashType"));
                }
            },
        };
        let renewable_for = match body.get("renewableFor") {
            None => None,
            Some(n) => {
                let n = n.as_u64().and_then(|n| u32::try_from(n).ok());
                let n = n.filter(|n| *n <= MAX_RENEWAL);
                Some(n.ok_or(CscError::InvalidParameter("renewableFor"))?)
            }
        };
        let mut auth_data = Vec::new();
        for entry in body.array("authData").unwrap_or_default() {
            let text = |name: &str| entry.get(name).and_then(Value::as_str);
            let id = text("id").ok_or(CscError::InvalidAuthData)?;
            // What is done elsewhere carries only its id.
            let value = text("value").unwrap_or_default();
            if auth_data.iter().any(|(known, _)| known == id) {
                return Err(CscError::InvalidAuthData);
            }
            auth_data.push((id.to_owned(), SecretText::new(value.to_owned())));
        }
        body.opt_string("clientData")?;
        let description = body.opt_string("description")?;
        if description
            .as_ref()
            .is_some_and(|text| text.chars().count() > 500)
        {
            return Err(CscError::InvalidParameter("description"));
        }
        Ok(Self {
            credential_id,
            num_signatures,
            hashes,
            hash_algorithm,
            hash_type,
            renewable_for,
            auth_data,
            description,
        })
    }

    /// Whether this authentication object was named.
    pub fn names(&self, id: &str) -> bool {
        self.auth_data.iter().any(|(known, _)| known == id)
    }

    /// The value for this authentication object.
    pub fn value(&self, id: &str) -> Option<&SecretText> {
        self.auth_data
            .iter()
            .find(|(known, value)| known == id && !value.is_empty())
            .map(|(_, value)| value)
    }
}

/// Answer of `credentials/authorize` and `credentials/authorizeCheck`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CredentialAuthorizeResponse {
    /// Status 200.
    Granted(Granted),
    /// Status 202: the person has still to decide.
    Pending(Pending),
}

/// The person has still to decide, elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// To ask with; the latest one counts.
    pub handle: SecretText,
    /// Ours, not of the specification: the name of the request at the approval page's host, for a client that is its person's
    /// own program and approves there with a device key.
    #[serde(
        rename = "sicRequest",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub sic_request: Option<SecretText>,
}

/// The right to sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// Signature activation data.
    #[serde(rename = "SAD")]
    pub sad: SecretText,
    /// Life in seconds.
    #[serde(rename = "expiresIn")]
    pub expires_in: u64,
}

/// Request of `auth/revoke`.
#[derive(Debug, Clone)]
pub struct RevokeRequest {
    /// The token to revoke.
    pub token: SecretText,
}

impl RevokeRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// The CSC error to answer with.
    pub fn parse(body: &[u8]) -> Result<Self, CscError> {
        let body = Body::parse(body)?;
        let token = body.string("token")?;
        match body.opt_string("token_type_hint") {
            Ok(None) => {}
            Ok(Some(hint)) if matches!(hint.as_str(), "access_token" | "refresh_token") => {}
            _ => return Err(CscError::InvalidString("token_type_hint")),
        }
        Ok(Self {
            token: SecretText::new(token),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core_types::bytes::b64;

    fn read(text: &str) -> Result<CredentialAuthorizeRequest, CscError> {
        CredentialAuthorizeRequest::parse(text.as_bytes())
    }

    #[test]
    fn each_fault_has_its_error() {
        let hash = b64([1; 32]);
        for (text, error) in [
            ("{}".to_owned(), CscError::MissingString("credentialID")),
            (
                r#"{"credentialID":"k"}"#.to_owned(),
                CscError::MissingInteger("numSignatures"),
            ),
            (
                r#"{"credentialID":"k","numSignatures":"1"}"#.to_owned(),
                CscError::MissingInteger("numSignatures"),
            ),
            (
                r#"{"credentialID":"k","numSignatures":0}"#.to_owned(),
                CscError::InvalidValue("numSignatures"),
            ),
            (
                r#"{"credentialID":"k","numSignatures":1,"hashes":["*"]}"#.to_owned(),
                CscError::InvalidBase64Hash,
            ),
            (
                format!(r#"{{"credentialID":"k","numSignatures":1,"hashes":["{hash}"]}}"#),
                CscError::MissingString("hashAlgorithmOID"),
            ),
            (
                format!(
                    r#"{{"credentialID":"k","numSignatures":1,"hashes":["{hash}"],"hashAlgorithmOID":"{}"}}"#,
                    HashAlg::Sha512.oid()
                ),
                CscError::InvalidDigestLength,
            ),
            (
                r#"{"credentialID":"k","numSignatures":1,"hashType":"sodr"}"#.to_owned(),
                CscError::InvalidParameter("hashType"),
            ),
            (
                r#"{"credentialID":"k","numSignatures":1,"renewableFor":3601}"#.to_owned(),
                CscError::InvalidParameter("renewableFor"),
            ),
            (
                r#"{"credentialID":"k","numSignatures":1,"authData":[{"id":"PIN","value":"1"},{"id":"PIN","value":"2"}]}"#
                    .to_owned(),
                CscError::InvalidAuthData,
            ),
        ] {
            assert_eq!(read(&text).err(), Some(error), "{text}");
        }
        let good = read(&format!(
            r#"{{"credentialID":"k","numSignatures":1,"hashes":["{hash}"],"hashAlgorithmOID":"{}","authData":[{{"id":"PIN","value":"s3cret"}}]}}"#,
            HashAlg::Sha256.oid()
        ))
        .unwrap();
        assert!(good.value("PIN").is_some() && good.value("OTP").is_none());
        assert_eq!((good.hash_type, good.renewable_for), (None, None));
        let said = read(r#"{"credentialID":"k","numSignatures":1,"hashType":"SDR"}"#).unwrap();
        assert_eq!(said.hash_type, Some(HashType::Sdr));
        let said = read(r#"{"credentialID":"k","numSignatures":2,"renewableFor":3600}"#).unwrap();
        assert_eq!(said.renewable_for, Some(3600));
        assert!(!format!("{good:?}").contains("s3cret"));
    }
}
