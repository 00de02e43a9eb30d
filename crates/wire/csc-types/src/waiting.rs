//! `credentials/authorizeCheck`, `credentials/getChallenge` and `credentials/sendOTP` (CSC 11.9, 11.10, 11.12).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::body::Body;
use crate::error::CscError;
use crate::secret::SecretText;

/// Request of `credentials/authorizeCheck`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizeCheckRequest {
    /// What `credentials/authorize` answered with.
    pub handle: SecretText,
}

impl AuthorizeCheckRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// The CSC error to answer with.
    pub fn parse(body: &[u8]) -> Result<Self, CscError> {
        let handle = Body::parse(body)?.opt_string("handle")?;
        let handle = handle.ok_or(CscError::InvalidParameter("handle"))?;
        Ok(Self {
            handle: SecretText::new(handle),
        })
    }
}

/// Request of `credentials/getChallenge`: something is sent to the person for one authentication object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetChallengeRequest {
    /// The credential.
    #[serde(rename = "credentialID")]
    pub credential_id: String,
    /// Id of the authentication object.
    #[serde(rename = "authObjectID")]
    pub auth_object_id: String,
}

impl GetChallengeRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// The CSC error to answer with; the specification knows but one for each member.
    pub fn parse(body: &[u8]) -> Result<Self, CscError> {
        let body = Body::parse(body)?;
        let named = |name| {
            let text = body.opt_string(name)?;
            text.ok_or(CscError::InvalidParameter(name))
        };
        Ok(Self {
            credential_id: named("credentialID")?,
            auth_object_id: named("authObjectID")?,
        })
    }
}

/// Request of `credentials/sendOTP`: a one-time code is sent to the person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendOtpRequest {
    /// The credential.
    #[serde(rename = "credentialID")]
    pub credential_id: String,
}

impl SendOtpRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// The CSC error to answer with.
    pub fn parse(body: &[u8]) -> Result<Self, CscError> {
        let body = Body::parse(body)?;
        body.opt_string("clientData")?;
        Ok(Self {
            credential_id: body.string("credentialID")?,
        })
    }
}

/// Request of `credentials/delete` (CSC 11.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteRequest {
    /// The credential.
    pub credential_id: String,
    /// Its certificate shall be revoked, too.
    pub revoke: bool,
}

impl DeleteRequest {
    /// Reads a request body; an older form has the members at the top.
    ///
    /// # Errors
    /// The CSC error to answer with.
    pub fn parse(body: &[u8]) -> Result<Self, CscError> {
        let body = Body::parse(body)?;
        let request = match body.get("credentialDeletionRequest") {
            Some(Value::Object(members)) => Body::of(members.clone()),
            Some(_) => return Err(CscError::InvalidParameter("credentialDeletionRequest")),
            None => body,
        };
        let revoke = request.flag("revoke")?;
        // RFC 5280 §5.3.1: 7 isn't used.
        let reason = request.get("revocationReason").map(Value::as_u64);
        match reason {
            None if !revoke => {}
            Some(Some(0..=6 | 8..=10)) if revoke => {}
            _ => return Err(CscError::InvalidParameter("revocationReason")),
        }
        Ok(Self {
            credential_id: request.string("credentialID")?,
            revoke,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_have_the_names_of_the_specification() {
        let handle = CscError::InvalidParameter("handle");
        for bad in ["{}", r#"{"handle":1}"#, r#"{"handle":""}"#] {
            assert_eq!(
                AuthorizeCheckRequest::parse(bad.as_bytes()),
                Err(handle.clone())
            );
        }
        let good = AuthorizeCheckRequest::parse(br#"{"handle":"h","clientData":"x"}"#).unwrap();
        assert_eq!(good.handle.expose(), "h");
        assert_eq!(
            GetChallengeRequest::parse(b"{}"),
            Err(CscError::InvalidParameter("credentialID"))
        );
        assert_eq!(
            GetChallengeRequest::parse(br#"{"credentialID":"k","authObjectID":7}"#),
            Err(CscError::InvalidParameter("authObjectID"))
        );
        let delete = |text: &str| DeleteRequest::parse(text.as_bytes());
        let wanted = DeleteRequest {
            credential_id: "k".to_owned(),
            revoke: false,
        };
        assert_eq!(
            delete(r#"{"credentialDeletionRequest":{"credentialID":"k"}}"#),
            Ok(wanted.clone())
        );
        assert_eq!(delete(r#"{"credentialID":"k"}"#), Ok(wanted));
        let reason = Err(CscError::InvalidParameter("revocationReason"));
        assert_eq!(delete(r#"{"credentialID":"k","revoke":true}"#), reason);
        let seven = r#"{"credentialID":"k","revoke":true,"revocationReason":7}"#;
        assert_eq!(delete(seven), reason);
        assert_eq!(
            SendOtpRequest::parse(b"{}"),
            Err(CscError::MissingString("credentialID"))
        );
        assert_eq!(
            SendOtpRequest::parse(br#"{"credentialID":"k","clientData":1}"#),
            Err(CscError::InvalidParameter("clientData"))
        );
    }
}
