//! `signatures/receipt`, a method of Natsuin's own: the evidence of a signature.

use crate::body::Body;
use crate::error::CscError;
use crate::lenient::decode_base64;

/// Request of `signatures/receipt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptRequest {
    /// The credential.
    pub credential_id: String,
    /// A value that `signatures/signHash` gave.
    pub signature: Vec<u8>,
}

impl ReceiptRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// The CSC error to answer with.
    pub fn parse(body: &[u8]) -> Result<Self, CscError> {
        let body = Body::parse(body)?;
        let signature = decode_base64(&body.string("signature")?);
        Ok(Self {
            credential_id: body.string("credentialID")?,
            signature: signature.ok_or(CscError::InvalidParameter("signature"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_members_are_needed() {
        let read = |text: &str| ReceiptRequest::parse(text.as_bytes());
        let good = read(r#"{"credentialID":"k","signature":"AQID"}"#).unwrap();
        assert_eq!(good.signature, [1, 2, 3]);
        assert_eq!(
            read(r#"{"credentialID":"k"}"#),
            Err(CscError::MissingString("signature"))
        );
        assert_eq!(
            read(r#"{"signature":"AQID"}"#),
            Err(CscError::MissingString("credentialID"))
        );
        assert_eq!(
            read(r#"{"credentialID":"k","signature":"*"}"#),
            Err(CscError::InvalidParameter("signature"))
        );
        let twice = r#"{"credentialID":"k","signature":"AQID","signature":"AQIE"}"#;
        assert_eq!(read(twice), Err(CscError::Malformed));
    }
}
