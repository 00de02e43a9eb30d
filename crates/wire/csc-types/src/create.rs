//! `credentials/create` (CSC 11.4, 2.2) and the `authorization_details` that lead to it.

use serde::Serialize;
use serde_json::{Value, json};

use crate::body::{Body, strict};
use crate::credentials::{Certificates, Credential};
use crate::details::{DETAILS, single};
use crate::error::{CscError, OAuthError};

/// Spellings of the type of `authorization_details` for a new credential (2.2): implementations disagree.
pub const CREATION: [&str; 3] = [
    "credential_creation",
    "credential-creation",
    "https://cloudsignatureconsortium.org/2025/credential-creation",
];
/// Longest name of a certificate policy in characters.
const POLICY: usize = 128;

/// What is asked of a new credential. Whose it is and what its certificate says of them is no client's to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreationRequest {
    /// Policy (OID) of the certificate; without one the service chooses.
    pub certificate_policy: Option<String>,
}

impl CreationRequest {
    /// The value of `credentialCreationRequest`.
    pub fn to_value(&self) -> Value {
        match &self.certificate_policy {
            Some(policy) => json!({ "certificatePolicy": policy }),
            None => json!({}),
        }
    }

    /// `subjectData` has the right type or isn't there; sources disagree about what is in it, and the service doesn't use it.
    fn read(members: Body) -> Option<Self> {
        let policy = match members.get("certificatePolicy") {
            None => None,
            Some(Value::String(oid)) if oid.len() <= POLICY => Some(oid.clone()),
            Some(_) => return None,
        };
        match members.get("subjectData") {
            None | Some(Value::Object(_) | Value::String(_)) => {}
            Some(_) => return None,
        }
        Some(Self {
            certificate_policy: policy,
        })
    }
}

/// The new credential that these `authorization_details` ask for, if that is what they ask.
///
/// # Errors
/// [`OAuthError::InvalidDetails`] when they do and can't be meant.
pub fn creation(text: &str) -> Result<Option<CreationRequest>, OAuthError> {
    let value = strict(text.as_bytes()).ok_or(OAuthError::Invalid(DETAILS))?;
    let object = single(&value)?;
    let kind = object.get("type").and_then(Value::as_str);
    if !kind.is_some_and(|kind| CREATION.contains(&kind)) {
        return Ok(None);
    }
    let asked = match object.get("credentialCreationRequest") {
        Some(Value::Object(members)) => CreationRequest::read(Body::of(members.clone())),
        _ => None,
    };
    asked.map(Some).ok_or(OAuthError::InvalidDetails(
        "authorization_details: a new credential has its credentialCreationRequest",
    ))
}

/// Request of `credentials/create`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateRequest {
    /// What was asked for; the authorization decided it.
    pub creation: CreationRequest,
    /// Answer with the whole credential and not with its identifier alone.
    pub credential_info: bool,
    /// Certificates in it.
    pub certificates: Certificates,
    /// Names and dates of the certificate too.
    pub cert_info: bool,
}

impl CreateRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// The CSC error to answer with.
    pub fn parse(body: &[u8]) -> Result<Self, CscError> {
        const REQUEST: &str = "credentialCreationRequest";
        let body = Body::parse(body)?;
        let creation = match body.get(REQUEST) {
            Some(Value::Object(members)) => CreationRequest::read(Body::of(members.clone())),
            _ => None,
        };
        let creation = creation.ok_or(CscError::InvalidParameter(REQUEST))?;
        body.flag("authInfo")?;
        body.opt_string("clientData")?;
        Ok(Self {
            creation,
            credential_info: body.flag("credentialInfo")?,
            certificates: Certificates::read(&body)?,
            cert_info: body.flag("certInfo")?,
        })
    }
}

/// Answer of `credentials/create`. Both forms have `credentialID`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum CreateResponse {
    /// The whole credential.
    Credential(Box<Credential>),
    /// Its identifier.
    Id {
        /// The credential.
        #[serde(rename = "credentialID")]
        credential_id: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_creation_is_known_by_each_of_its_names() {
        for kind in CREATION {
            let details = json!([{ "type": kind, "acr_values": "x", "credentialCreationRequest": {
                "certificatePolicy": "1.2.3", "subjectData": { "given_name": "花子" } } }]);
            let asked = creation(&details.to_string()).unwrap().unwrap();
            assert_eq!(asked.certificate_policy.as_deref(), Some("1.2.3"));
            for bad in [
                json!({ "type": kind }),
                json!({ "type": kind, "credentialCreationRequest": [] }),
                json!({ "type": kind, "credentialCreationRequest": { "certificatePolicy": 7 } }),
                json!({ "type": kind, "credentialCreationRequest": { "certificatePolicy": "1".repeat(129) } }),
                json!({ "type": kind, "credentialCreationRequest": { "subjectData": [] } }),
            ] {
                assert!(creation(&bad.to_string()).is_err(), "{bad}");
            }
        }
        assert_eq!(creation(r#"[{"type":"credential_deletion"}]"#), Ok(None));
        assert!(creation("[]").is_err() && creation("x").is_err());
    }

    #[test]
    fn faults_have_the_names_of_the_specification() {
        let parse = |body: Value| CreateRequest::parse(body.to_string().as_bytes());
        let wrong = |member| Err(CscError::InvalidParameter(member));
        let request = "credentialCreationRequest";
        for bad in [
            json!({}),
            json!({ request: 1 }),
            json!({ request: { "subjectData": 1 } }),
        ] {
            assert_eq!(parse(bad), wrong(request));
        }
        for (member, value) in [
            ("credentialInfo", json!("yes")),
            ("certInfo", json!(1)),
            ("authInfo", json!([])),
            ("certificates", json!("all")),
            ("clientData", json!({})),
        ] {
            assert_eq!(parse(json!({ request: {}, member: value })), wrong(member));
        }
        let good = parse(json!({ request: {}, "certificates": "chain", "credentialInfo": true }));
        let good = good.unwrap();
        assert_eq!(good.creation, CreationRequest::default());
        assert!(good.credential_info && good.certificates == Certificates::Chain);
    }
}
