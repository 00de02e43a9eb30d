//! `info` (CSC 11.1).

use serde::{Deserialize, Serialize};

use crate::body::Body;
use crate::error::CscError;
use crate::lenient;

/// Request of `info`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct InfoQuery {
    /// Wanted language, RFC 5646 tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lang: Option<String>,
}

impl InfoQuery {
    /// Reads a request body.
    ///
    /// # Errors
    /// The CSC error to answer with.
    pub fn parse(body: &[u8]) -> Result<Self, CscError> {
        Ok(Self {
            lang: Body::parse(body)?.opt_string("lang")?,
        })
    }
}

/// Answer of `info`. Members that only newer versions have are optional.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Version of the specification, such as `2.2.0.0`.
    pub specs: String,
    /// Name of the service, at most 255 characters.
    pub name: String,
    /// URL of a picture.
    #[serde(
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub logo: Option<String>,
    /// ISO 3166-1 alpha-2 code.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub region: String,
    /// Language of the texts.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub lang: String,
    /// Description, at most 255 characters.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub description: String,
    /// Ways to get service authorization, such as `oauth2code`.
    #[serde(rename = "authType", default, deserialize_with = "lenient::or_default")]
    pub auth_type: Vec<String>,
    /// Base URL of the authorization server; `/oauth2/authorize` and the others are appended.
    #[serde(
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub oauth2: Option<String>,
    /// Issuer for RFC 8414 discovery, instead of `oauth2`.
    #[serde(
        rename = "oauth2Issuer",
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub oauth2_issuer: Option<String>,
    /// Several authorization servers (2.2), instead of `oauth2`.
    #[serde(
        rename = "oauth2Servers",
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub oauth2_servers: Vec<OAuthServer>,
    /// Whether `authorization_details` (RFC 9396) are understood (2.2).
    #[serde(
        rename = "supportsRar",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub supports_rar: Option<bool>,
    /// Kinds of hashes taken at authorization (2.2): `dtbsr`, `sdr`, `sodr`.
    #[serde(
        rename = "supportedHashTypes",
        default,
        deserialize_with = "lenient::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub supported_hash_types: Vec<String>,
    /// Whether asynchronous operation is offered.
    #[serde(
        rename = "asynchronousOperationMode",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub asynchronous_operation_mode: Option<bool>,
    /// Offered methods, such as `signatures/signHash`.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub methods: Vec<String>,
    /// Whether `signDoc` can return validation data.
    #[serde(
        rename = "validationInfo",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub validation_info: Option<bool>,
    /// Signature algorithms.
    #[serde(
        rename = "signAlgorithms",
        default,
        deserialize_with = "lenient::or_default"
    )]
    pub sign_algorithms: SignAlgorithms,
    /// Signature formats of `signDoc`.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub signature_formats: SignatureFormats,
    /// AdES levels of `signDoc`.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub conformance_levels: Vec<String>,
    /// Whether FAPI 2.0, `private_key_jwt` and DPoP are supported (ETSI TS 119 432 V1.3.1 §7.2.3.1).
    #[serde(
        rename = "oauth2FAPIsupport",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub oauth2_fapi_support: Option<bool>,
    /// What the provider publishes about the service; a member of our own.
    #[serde(
        rename = "jt2aService",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub service: Option<ServiceInfo>,
}

/// What a provider publishes about its service under the JT2A Remote Signature Guideline (appendix 2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceInfo {
    /// Name and version of the guideline.
    pub guideline: String,
    /// The highest level of a key, 1 to 3; absent while it isn't known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<u8>,
    /// Service policy, practice statement, terms of use.
    pub documents: Vec<DocumentInfo>,
    /// How exact the times of the service are; absent while the SAM, whose clock decides, can't be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<TimeInfo>,
    /// Address of the provider: `https:`, `mailto:` or `tel:`.
    pub contact: String,
    /// The same for people.
    pub about: String,
}

/// How exact the times of a service are, as it declares and as it measures (guideline I-7.1.1.12).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimeInfo {
    /// `synchronised`; `unsynchronised`: nothing is declared, as in development; `beyond-bound` or `stepped`: nothing new is
    /// approved or signed until it is good again.
    pub state: String,
    /// The largest error that is declared, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared_error_ms: Option<u32>,
    /// The largest error that is possible by the last measurement and its age, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_error_ms: Option<u32>,
    /// When that was asked of the service, in seconds since 1970; it is asked anew every minute at most.
    pub asked: i64,
    /// Where it is said how to confirm it: the practice statement.
    pub how: String,
}

/// A document that anybody can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentInfo {
    /// `service-policy`, `practice-statement` or `terms-of-use`.
    pub kind: String,
    /// Version.
    pub version: String,
    /// Address.
    pub url: String,
}

/// One of several authorization servers (2.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OAuthServer {
    /// Name to show.
    #[serde(
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub label: Option<String>,
    /// Base URL, as `oauth2`.
    #[serde(
        rename = "baseUri",
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub base_uri: Option<String>,
    /// Issuer, as `oauth2Issuer`.
    #[serde(
        rename = "issuerIdentifier",
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub issuer_identifier: Option<String>,
    /// Grants of this server.
    #[serde(rename = "authType", default, deserialize_with = "lenient::or_default")]
    pub auth_type: Vec<String>,
    /// Whether this server understands `authorization_details`.
    #[serde(
        rename = "supportsRar",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub supports_rar: Option<bool>,
}

/// `signAlgorithms` of `info`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignAlgorithms {
    /// Object identifiers.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub algos: Vec<String>,
    /// Parameters by position; `None` where an algorithm has none. Empty is understood by all clients.
    #[serde(
        rename = "algoParams",
        default,
        deserialize_with = "lenient::or_default"
    )]
    pub algo_params: Vec<Option<String>>,
}

/// `signature_formats` of `info`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureFormats {
    /// `C`, `X`, `P`, `J`.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub formats: Vec<String>,
    /// One list for each format.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub envelope_properties: Vec<Vec<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparse_foreign_info_is_read() {
        let info: Info = serde_json::from_str(
            r#"{"specs":"2.0.0.0","name":"x","region":"EU","lang":"en","description":"d",
                "authType":["oauth2code"],"oauth2":"https://as.example","methods":["info"],
                "signAlgorithms":{"algos":["1.2.840.10045.4.3.2"],"algoParams":null},
                "signature_formats":null,"oauth2Issuer":"","future":{}}"#,
        )
        .unwrap();
        assert_eq!(info.oauth2.as_deref(), Some("https://as.example"));
        assert_eq!(info.oauth2_issuer, None);
        assert_eq!(info.signature_formats, SignatureFormats::default());
        let again = serde_json::to_value(&info).unwrap();
        assert!(
            again.get("oauth2Servers").is_none(),
            "absent members stay absent"
        );
        assert_eq!(again["signAlgorithms"]["algoParams"], serde_json::json!([]));
    }
}
