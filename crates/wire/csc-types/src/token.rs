//! Token request and answer, and authorization server metadata (RFC 8414).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::details::SignatureAuthorization;
use crate::error::OAuthError;
use crate::lenient;
use crate::oauth::Params;
use crate::secret::SecretText;

/// Client authentication found in the parameters; HTTP Basic is read by the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientAuth {
    /// The client; some send it beside HTTP Basic too, and then it must be the same.
    pub client_id: Option<String>,
    /// `client_secret` of the body.
    pub client_secret: Option<SecretText>,
    /// `client_assertion` with its type (RFC 7521 §4.2).
    pub assertion: Option<(String, SecretText)>,
}

impl ClientAuth {
    /// The type of an assertion that is a JWT (RFC 7523 §2.2).
    pub const JWT: &'static str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

    /// Reads `client_id`, `client_secret` and `client_assertion`.
    pub fn read(params: &Params) -> Self {
        let client_secret = params.owned("client_secret").map(SecretText::new);
        Self {
            client_id: params.owned("client_id"),
            client_secret,
            assertion: params.owned("client_assertion").map(|assertion| {
                let kind = params.owned("client_assertion_type");
                (kind.unwrap_or_default(), SecretText::new(assertion))
            }),
        }
    }
}

/// What the token request presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// An authorization code.
    AuthorizationCode {
        /// The code.
        code: SecretText,
        /// Same as in the authorization request, if it was there.
        redirect_uri: Option<String>,
        /// PKCE verifier, 43 to 128 characters.
        code_verifier: SecretText,
    },
    /// The client itself; service scope only.
    ClientCredentials,
    /// A refresh token; service scope only.
    RefreshToken(SecretText),
    /// The code of a device that waits for its user (RFC 8628 §3.4).
    DeviceCode(SecretText),
}

impl Grant {
    /// `grant_type` of [`Grant::DeviceCode`].
    pub const DEVICE_CODE: &'static str = "urn:ietf:params:oauth:grant-type:device_code";
}

/// A token request (RFC 6749 §4.1.3 and others).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// Client authentication by parameters.
    pub client: ClientAuth,
    /// The grant.
    pub grant: Grant,
    /// The details as in the authorization request; compared by meaning.
    pub details: Option<SignatureAuthorization>,
    /// The same as received.
    pub received_details: Option<String>,
    /// Asked scope.
    pub scope: Option<String>,
    /// Data of the client, may be logged.
    pub client_data: Option<String>,
}

impl TokenRequest {
    /// Reads the form.
    ///
    /// # Errors
    /// The OAuth error to answer with.
    pub fn parse(params: &Params) -> Result<Self, OAuthError> {
        let grant = match params.get("grant_type") {
            None => return Err(OAuthError::Missing("grant_type")),
            Some("authorization_code") => Grant::AuthorizationCode {
                code: params.need("code")?.into(),
                redirect_uri: params.owned("redirect_uri"),
                code_verifier: params.need("code_verifier").and_then(verifier)?,
            },
            Some("client_credentials") => Grant::ClientCredentials,
            Some("refresh_token") => {
                let token = params
                    .owned("refresh_token")
                    .or_else(|| params.owned("refreshToken"));
                Grant::RefreshToken(token.ok_or(OAuthError::Missing("refresh_token"))?.into())
            }
            Some(Grant::DEVICE_CODE) => Grant::DeviceCode(params.need("device_code")?.into()),
            Some(_) => return Err(OAuthError::UnsupportedGrantType),
        };
        let received_details = params.owned("authorization_details");
        let details = match received_details.as_deref() {
            // Compared as they stand: they ask for no signatures.
            Some(text) if crate::details::deletion(text)?.is_some() => None,
            Some(text) if crate::create::creation(text)?.is_some() => None,
            Some(text) => Some(SignatureAuthorization::parse(text)?),
            None => None,
        };
        Ok(Self {
            client: ClientAuth::read(params),
            grant,
            details,
            received_details,
            scope: params.owned("scope"),
            client_data: params.owned("clientData"),
        })
    }
}

fn verifier(text: String) -> Result<SecretText, OAuthError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~');
    if (43..=128).contains(&text.len()) && text.chars().all(allowed) {
        Ok(text.into())
    } else {
        Err(OAuthError::Invalid("code_verifier"))
    }
}

/// Answer of the device authorization endpoint (RFC 8628 §3.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceResponse {
    /// For the device, which asks the token endpoint with it.
    pub device_code: SecretText,
    /// For the user to type.
    pub user_code: String,
    /// Where to type it.
    pub verification_uri: String,
    /// The same with the code in it, for a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification_uri_complete: Option<String>,
    /// Life of both codes in seconds.
    pub expires_in: u64,
    /// Least time between two questions in seconds.
    #[serde(default = "five")]
    pub interval: u64,
}

fn five() -> u64 {
    5
}

/// Answer of the token endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenResponse {
    /// The token; with credential scope also usable as `SAD`.
    pub access_token: SecretText,
    /// `Bearer`; v1 servers say `SAD` for credential scope.
    pub token_type: String,
    /// Life in seconds.
    #[serde(default = "an_hour")]
    pub expires_in: u64,
    /// Refresh token; service scope only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<SecretText>,
    /// The credential that was chosen.
    #[serde(
        rename = "credentialID",
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub credential_id: Option<String>,
    /// Details as granted (RFC 9396 §7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_details: Option<Value>,
}

fn an_hour() -> u64 {
    3600
}

/// Authorization server metadata (RFC 8414 §2), read tolerantly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerMetadata {
    /// Issuer; must equal the one it was asked from.
    pub issuer: String,
    /// Authorization endpoint.
    pub authorization_endpoint: String,
    /// Token endpoint.
    pub token_endpoint: String,
    /// PAR endpoint.
    #[serde(
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub pushed_authorization_request_endpoint: Option<String>,
    /// Device authorization endpoint (RFC 8628 §4).
    #[serde(
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub device_authorization_endpoint: Option<String>,
    /// Revocation endpoint.
    #[serde(
        default,
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub revocation_endpoint: Option<String>,
    /// `code`.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub response_types_supported: Vec<String>,
    /// Grants.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub grant_types_supported: Vec<String>,
    /// Scopes.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub scopes_supported: Vec<String>,
    /// `S256`.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub code_challenge_methods_supported: Vec<String>,
    /// Client authentication methods at the token endpoint.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// Types of `authorization_details` (RFC 9396 §10).
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub authorization_details_types_supported: Vec<String>,
    /// Whether `iss` is in the authorization response (RFC 9207 §3).
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub authorization_response_iss_parameter_supported: bool,
    /// What clients with certificates call instead (RFC 8705 §5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls_endpoint_aliases: Option<EndpointAliases>,
}

/// Endpoints at which certificates are asked for (RFC 8705 §5); the others are the same for everybody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointAliases {
    /// Token endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint: Option<String>,
    /// PAR endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed_authorization_request_endpoint: Option<String>,
    /// Device authorization endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_authorization_endpoint: Option<String>,
    /// Revocation endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_endpoint: Option<String>,
    /// Introspection endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introspection_endpoint: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        Params::from_pairs(
            pairs
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned())),
        )
        .unwrap()
    }

    #[test]
    fn token_requests() {
        let verifier = "v".repeat(43);
        let good = [
            ("grant_type", "authorization_code"),
            ("code", "c"),
            ("code_verifier", verifier.as_str()),
            ("client_id", "app"),
        ];
        let request = TokenRequest::parse(&params(&good)).unwrap();
        assert_eq!(request.client.client_id.as_deref(), Some("app"));
        assert!(
            !format!("{request:?}").contains(&verifier),
            "secrets are not printed"
        );
        assert_eq!(
            TokenRequest::parse(&params(&good[1..])),
            Err(OAuthError::Missing("grant_type"))
        );
        assert_eq!(
            TokenRequest::parse(&params(&good[..2])),
            Err(OAuthError::Missing("code_verifier"))
        );
        let short = [good[0], good[1], ("code_verifier", "short")];
        assert_eq!(
            TokenRequest::parse(&params(&short)),
            Err(OAuthError::Invalid("code_verifier"))
        );
        let other = [("grant_type", "password")];
        assert_eq!(
            TokenRequest::parse(&params(&other)),
            Err(OAuthError::UnsupportedGrantType)
        );
    }

    #[test]
    fn a_token_answer_without_optional_members_is_read() {
        let token: TokenResponse = serde_json::from_str(
            r#"{"access_token":"t","token_type":"bearer","credentialID":null}"#,
        )
        .unwrap();
        assert_eq!((token.expires_in, token.credential_id), (3600, None));
        let metadata: ServerMetadata = serde_json::from_str(
            r#"{"issuer":"https://a","authorization_endpoint":"https://a/x","token_endpoint":"https://a/t",
                "jwks_uri":"https://a/j","scopes_supported":null}"#,
        )
        .unwrap();
        assert_eq!(metadata.pushed_authorization_request_endpoint, None);
    }
}
