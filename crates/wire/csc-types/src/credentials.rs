//! `credentials/list` and `credentials/info` (CSC 11.6, 11.7).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::body::Body;
use crate::error::CscError;
use crate::lenient;

/// How much of the certificate chain is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Certificates {
    /// No certificate.
    None,
    /// The signer's certificate.
    #[default]
    Single,
    /// Signer first, then its issuers.
    Chain,
}

impl Certificates {
    pub(crate) fn read(body: &Body) -> Result<Self, CscError> {
        match body.opt_string("certificates")?.as_deref() {
            None => Ok(Self::default()),
            Some("none") => Ok(Self::None),
            Some("single") => Ok(Self::Single),
            Some("chain") => Ok(Self::Chain),
            Some(_) => Err(CscError::InvalidParameter("certificates")),
        }
    }
}

/// Request of `credentials/list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListRequest {
    /// The user, only where the token doesn't name one.
    #[serde(rename = "userID", skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Return `credentialInfos` too.
    pub credential_info: bool,
    /// Certificates in `credentialInfos`.
    pub certificates: Certificates,
    /// Names and dates of the certificate too.
    pub cert_info: bool,
    /// Details of the authorization mechanism too.
    pub auth_info: bool,
    /// Only credentials that can sign.
    pub only_valid: bool,
    /// Wanted language.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lang: Option<String>,
    /// Data of the client, may be logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_data: Option<String>,
}

impl ListRequest {
    /// Asks for everything about the credentials that can sign.
    pub fn full() -> Self {
        Self {
            credential_info: true,
            certificates: Certificates::Chain,
            cert_info: true,
            auth_info: true,
            only_valid: true,
            ..Self::default()
        }
    }

    /// Reads a request body.
    ///
    /// # Errors
    /// The CSC error to answer with.
    pub fn parse(body: &[u8]) -> Result<Self, CscError> {
        let body = Body::parse(body)?;
        Ok(Self {
            user_id: body.opt_string("userID")?,
            credential_info: body.flag("credentialInfo")?,
            certificates: Certificates::read(&body)?,
            cert_info: body.flag("certInfo")?,
            auth_info: body.flag("authInfo")?,
            only_valid: body.flag("onlyValid")?,
            lang: body.opt_string("lang")?,
            client_data: body.opt_string("clientData")?,
        })
    }
}

/// Answer of `credentials/list`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ListResponse {
    /// Identifiers of the credentials.
    #[serde(
        rename = "credentialIDs",
        default,
        deserialize_with = "lenient::or_default"
    )]
    pub credential_ids: Vec<String>,
    /// Details, if they were asked for.
    #[serde(
        rename = "credentialInfos",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub credential_infos: Option<Vec<Credential>>,
    /// `true` when `onlyValid` was asked for and honoured.
    #[serde(rename = "onlyValid", default, skip_serializing_if = "Option::is_none")]
    pub only_valid: Option<bool>,
    /// In version 1: what to ask for the next part with; absent with the last.
    #[serde(
        rename = "nextPageToken",
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub next_page_token: Option<String>,
}

/// Request of `credentials/info`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InfoRequest {
    /// The credential.
    #[serde(rename = "credentialID")]
    pub credential_id: String,
    /// Wanted certificates.
    pub certificates: Certificates,
    /// Names and dates of the certificate too.
    pub cert_info: bool,
    /// Details of the authorization mechanism too.
    pub auth_info: bool,
    /// Wanted language.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lang: Option<String>,
    /// Data of the client, may be logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_data: Option<String>,
}

impl InfoRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// The CSC error to answer with.
    pub fn parse(body: &[u8]) -> Result<Self, CscError> {
        let body = Body::parse(body)?;
        Ok(Self {
            credential_id: body.string("credentialID")?,
            certificates: Certificates::read(&body)?,
            cert_info: body.flag("certInfo")?,
            auth_info: body.flag("authInfo")?,
            lang: body.opt_string("lang")?,
            client_data: body.opt_string("clientData")?,
        })
    }
}

/// A credential: the answer of `credentials/info` and, with `credential_id`, an entry of `credentialInfos`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Credential {
    /// Identifier; present in lists only.
    #[serde(
        rename = "credentialID",
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub credential_id: Option<String>,
    /// Text for the user, at most 255 characters.
    #[serde(
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub description: Option<String>,
    /// Predefined value such as `eu_eidas_qes`; clients fail on unknown ones, so absent if none fits.
    #[serde(
        rename = "signatureQualifier",
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub signature_qualifier: Option<String>,
    /// The key.
    pub key: KeyInfo,
    /// The certificate; the object is there even when it was not asked for.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub cert: CertInfo,
    /// The authorization mechanism.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub auth: AuthInfo,
    /// `"2"` when hashes are bound to the authorization, else `"1"`.
    #[serde(rename = "SCAL", default = "scal_one")]
    pub scal: String,
    /// Greatest number of signatures of one authorization.
    #[serde(default = "one")]
    pub multisign: u32,
    /// Language of the texts.
    #[serde(
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub lang: Option<String>,
    /// Level of the key, a member of our own that other clients ignore.
    #[serde(rename = "jt2aLevel", default, skip_serializing_if = "Option::is_none")]
    pub level: Option<LevelInfo>,
}

/// Level of a key under the JT2A Remote Signature Guideline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LevelInfo {
    /// 1 to 3.
    pub level: u8,
    /// Where the key was made and lies, such as `software` or `pkcs11`.
    pub origin: String,
    /// The part of the level matrix that holds it down.
    pub because: String,
    /// Requirements that the next level would need met.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Evaluations that the level rests on by the operator's word.
    #[serde(default)]
    pub declared: Vec<String>,
}

/// `key` of a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// `enabled` or `disabled`.
    pub status: String,
    /// Object identifiers that `signAlgo` may name; combined ones first (see [`crate::algo_list`]).
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub algo: Vec<String>,
    /// Key length in bits.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub len: u32,
    /// Object identifier of the curve, for elliptic keys.
    #[serde(
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub curve: Option<String>,
    /// Natsuin's own addition: where the key was made and how it got to the provider, for whoever relies on it.
    #[serde(
        rename = "natsuinOrigin",
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "Option::is_none"
    )]
    pub origin: Option<KeyOrigin>,
    /// Natsuin's own addition: the key is for one authorization, and destroyed after it.
    #[serde(
        rename = "natsuinOneTime",
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub one_time: bool,
}

/// Origin of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyOrigin {
    /// The guideline's case, such as `1-ii`.
    pub case: String,
    /// Statement by the provider's cryptographic module, a compact JWS; `natsuin statement` checks it.
    pub statement: String,
}

/// `cert` of a credential.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertInfo {
    /// `valid`, `expired`, `revoked` or `suspended`; absent when it isn't known exactly.
    #[serde(
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub status: Option<String>,
    /// Base64 of DER, signer first; absent when none was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<Vec<String>>,
    /// RFC 4514 text.
    #[serde(
        rename = "issuerDN",
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub issuer_dn: Option<String>,
    /// Hexadecimal.
    #[serde(
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub serial_number: Option<String>,
    /// RFC 4514 text.
    #[serde(
        rename = "subjectDN",
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub subject_dn: Option<String>,
    /// `YYYYMMDDHHMMSSZ`.
    #[serde(
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub valid_from: Option<String>,
    /// `YYYYMMDDHHMMSSZ`.
    #[serde(
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub valid_to: Option<String>,
    /// Object identifiers of the certificate's policies (2.2), in `credentials/info` alone.
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "Option::is_none"
    )]
    pub policy: Option<Vec<String>>,
    /// Object identifiers of its qualified-certificate statements (2.2), in `credentials/info` alone.
    #[serde(
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "Option::is_none"
    )]
    pub qc_statements: Option<Vec<String>>,
}

impl CertInfo {
    /// The certificates as DER, signer first.
    ///
    /// Returns `None` when one of them is not base64 or when there is none.
    pub fn der(&self) -> Option<Vec<Vec<u8>>> {
        let texts = self.certificates.as_deref().filter(|c| !c.is_empty())?;
        texts
            .iter()
            .map(|text| lenient::decode_base64(text))
            .collect()
    }
}

/// `auth` of a credential.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AuthInfo {
    /// `oauth2code` or `explicit`.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub mode: String,
    /// Expression over the ids of `objects`.
    #[serde(
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub expression: Option<String>,
    /// Authentication objects of explicit mode; always present because clients insist on the member.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub objects: Vec<Value>,
}

fn scal_one() -> String {
    "1".to_owned()
}

fn one() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_defaults_of_the_specification() {
        let list = ListRequest::parse(b"").unwrap();
        assert_eq!(list, ListRequest::default());
        assert_eq!(list.certificates, Certificates::Single);
        let info =
            InfoRequest::parse(br#"{"credentialID":"k","clientData":null,"lang":"","extra":1}"#)
                .unwrap();
        assert_eq!(info.credential_id, "k");
        assert!(!info.cert_info);
    }

    #[test]
    fn faults_have_the_names_of_the_specification() {
        assert_eq!(
            InfoRequest::parse(b"{}"),
            Err(CscError::MissingString("credentialID"))
        );
        assert_eq!(
            InfoRequest::parse(br#"{"credentialID":7}"#),
            Err(CscError::MissingString("credentialID"))
        );
        assert_eq!(
            InfoRequest::parse(br#"{"credentialID":"k","certificates":"all"}"#),
            Err(CscError::InvalidParameter("certificates"))
        );
        assert_eq!(
            ListRequest::parse(br#"{"credentialInfo":"true"}"#),
            Err(CscError::InvalidParameter("credentialInfo"))
        );
    }

    #[test]
    fn what_we_write_we_read() {
        let text = serde_json::to_vec(&ListRequest::full()).unwrap();
        assert_eq!(ListRequest::parse(&text).unwrap(), ListRequest::full());
    }

    #[test]
    fn a_minimal_foreign_credential_is_read_and_ours_has_every_member_clients_insist_on() {
        let read: Credential = serde_json::from_str(
            r#"{"key":{"status":"enabled","algo":["1.2.840.113549.1.1.11"],"len":3072},
                "auth":{"mode":"oauth2code","objects":null},"cert":null}"#,
        )
        .unwrap();
        assert_eq!((read.scal.as_str(), read.multisign), ("1", 1));
        let written = serde_json::to_value(&read).unwrap();
        assert_eq!(
            written["auth"],
            serde_json::json!({"mode": "oauth2code", "objects": []})
        );
        assert!(written["cert"].is_object());
        assert!(written["multisign"].is_number() && written["SCAL"].is_string());
    }
}
