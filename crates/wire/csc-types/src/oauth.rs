//! OAuth 2.0 messages: authorization request (query and PAR, RFC 9126), token request and answer, metadata
//! (RFC 8414). PKCE with S256 is the only form (RFC 7636).

use std::collections::BTreeMap;

use core_types::HashAlg;
use core_types::bytes::b64u;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::details::{DetailsType, DocumentDigest, HashType, SignatureAuthorization};
use crate::error::OAuthError;
use crate::lenient::{self, decode_base64};
use crate::secret::SecretText;

/// Form or query parameters, each given at most once; empty values count as absent (RFC 6749 §3.1).
#[derive(Clone, Default)]
pub struct Params(BTreeMap<String, String>);

impl Params {
    /// Collects decoded pairs.
    ///
    /// # Errors
    /// [`OAuthError::Repeated`] when a name occurs twice.
    pub fn from_pairs(
        pairs: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, OAuthError> {
        let mut map = BTreeMap::new();
        for (name, value) in pairs {
            if map.contains_key(&name) {
                return Err(OAuthError::Repeated(name));
            }
            map.insert(name, value);
        }
        map.retain(|_, value| !value.is_empty());
        Ok(Self(map))
    }

    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn owned(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    fn need(&self, name: &'static str) -> Result<String, OAuthError> {
        self.owned(name).ok_or(OAuthError::Missing(name))
    }
}

/// What an authorization request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Scope `service`: list credentials and read about them.
    Service,
    /// Scope `credential`: sign with a credential.
    Credential(SignatureAuthorization),
}

/// An authorization request, checked. It comes by query or by PAR in the same form.
///
/// The caller looks at `client_id` and `redirect_uri` in [`Params`] first: only when both are registered may
/// an error of [`AuthorizeRequest::parse`] be sent back by redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizeRequest {
    /// The client.
    pub client_id: String,
    /// Where to return to; absent means the only registered one.
    pub redirect_uri: Option<String>,
    /// What it is for.
    pub purpose: Purpose,
    /// `authorization_details` as received, for [`crate::details::granted`].
    pub received_details: Option<String>,
    /// Returned unchanged, at most 255 bytes.
    pub state: Option<String>,
    /// Base64url of SHA-256 of the verifier, 43 characters.
    pub code_challenge: String,
    /// Wanted language.
    pub lang: Option<String>,
    /// Text of the client about the transaction, at most 500 characters; untrusted.
    pub description: Option<String>,
    /// JWT that restricts who may open the page.
    pub account_token: Option<SecretText>,
    /// OpenID Connect `prompt`.
    pub prompt: Option<String>,
    /// Data of the client, may be logged.
    pub client_data: Option<String>,
}

impl AuthorizeRequest {
    /// Reads the parameters. `request_uri` must have been resolved before.
    ///
    /// # Errors
    /// The OAuth error to answer with.
    pub fn parse(params: &Params) -> Result<Self, OAuthError> {
        let client_id = params.need("client_id")?;
        match params.get("response_type") {
            None => return Err(OAuthError::Missing("response_type")),
            Some("code") => {}
            Some(_) => return Err(OAuthError::UnsupportedResponseType),
        }
        let code_challenge = params
            .owned("code_challenge")
            .ok_or(OAuthError::PkceRequired)?;
        if params.get("code_challenge_method") != Some("S256") {
            return Err(OAuthError::PkceRequired);
        }
        if core_types::Digest32::parse(&code_challenge).is_err() {
            return Err(OAuthError::Invalid("code_challenge"));
        }
        let received_details = params.owned("authorization_details");
        let purpose = match (&received_details, params.get("scope")) {
            // Some clients send the scope too; the details win.
            (Some(details), None | Some("credential")) => {
                Purpose::Credential(SignatureAuthorization::parse(details)?)
            }
            (None, None | Some("service")) => Purpose::Service,
            (None, Some("credential")) => Purpose::Credential(plain_authorization(params)?),
            _ => return Err(OAuthError::InvalidScope),
        };
        let state = params.owned("state");
        if state.as_ref().is_some_and(|s| s.len() > 255) {
            return Err(OAuthError::Invalid("state"));
        }
        let description = params.owned("description");
        if description
            .as_ref()
            .is_some_and(|d| d.chars().count() > 500)
        {
            return Err(OAuthError::Invalid("description"));
        }
        Ok(Self {
            client_id,
            redirect_uri: params.owned("redirect_uri"),
            purpose,
            received_details,
            state,
            code_challenge,
            lang: params.owned("lang"),
            description,
            account_token: params.owned("account_token").map(SecretText::new),
            prompt: params.owned("prompt"),
            client_data: params.owned("clientData"),
        })
    }

    /// The parameters to send. A credential purpose is written as `received_details` when there are some (see
    /// [`Self::with_details`]), otherwise as plain parameters.
    pub fn to_pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            ("response_type", "code".to_owned()),
            ("client_id", self.client_id.clone()),
            ("code_challenge", self.code_challenge.clone()),
            ("code_challenge_method", "S256".to_owned()),
        ];
        match &self.purpose {
            Purpose::Service => pairs.push(("scope", "service".to_owned())),
            Purpose::Credential(asked) => {
                pairs.push(("scope", "credential".to_owned()));
                match &self.received_details {
                    Some(details) => pairs.push(("authorization_details", details.clone())),
                    None => plain_pairs(asked, &mut pairs),
                }
            }
        }
        let optional = [
            ("redirect_uri", &self.redirect_uri),
            ("state", &self.state),
            ("lang", &self.lang),
            ("description", &self.description),
            ("prompt", &self.prompt),
            ("clientData", &self.client_data),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                pairs.push((name, value.clone()));
            }
        }
        if let Some(token) = &self.account_token {
            pairs.push(("account_token", token.expose().to_owned()));
        }
        pairs
    }

    /// Writes the credential purpose as `authorization_details` of this type.
    #[must_use]
    pub fn with_details(mut self, form: DetailsType) -> Self {
        if let Purpose::Credential(asked) = &self.purpose {
            self.received_details = Some(asked.to_details(form).to_string());
        }
        self
    }
}

fn plain_authorization(params: &Params) -> Result<SignatureAuthorization, OAuthError> {
    let num_signatures = match params.get("numSignatures") {
        None => None,
        Some(text) => Some(
            text.parse()
                .map_err(|_| OAuthError::Invalid("numSignatures"))?,
        ),
    };
    let mut digests = Vec::new();
    for text in params
        .get("hashes")
        .or(params.get("hash"))
        .into_iter()
        .flat_map(|list| list.split(','))
    {
        let hash = decode_base64(text).ok_or(OAuthError::Invalid("hashes"))?;
        digests.push(DocumentDigest {
            hash,
            label: None,
            hash_type: HashType::Dtbsr,
        });
    }
    let hash_algorithm = match params.get("hashAlgorithmOID") {
        None => None,
        Some(oid) => Some(HashAlg::from_oid(oid).ok_or(OAuthError::Invalid("hashAlgorithmOID"))?),
    };
    SignatureAuthorization::check(
        params.owned("credentialID"),
        params.owned("signatureQualifier"),
        num_signatures,
        digests,
        hash_algorithm,
    )
}

fn plain_pairs(asked: &SignatureAuthorization, pairs: &mut Vec<(&'static str, String)>) {
    if let Some(id) = &asked.credential_id {
        pairs.push(("credentialID", id.clone()));
    }
    if let Some(qualifier) = &asked.signature_qualifier {
        pairs.push(("signatureQualifier", qualifier.clone()));
    }
    pairs.push(("numSignatures", asked.num_signatures.to_string()));
    if !asked.digests.is_empty() {
        let hashes: Vec<String> = asked.digests.iter().map(|d| b64u(&d.hash)).collect();
        pairs.push(("hashes", hashes.join(",")));
    }
    if let Some(hash) = asked.hash_algorithm {
        pairs.push(("hashAlgorithmOID", hash.oid().to_owned()));
    }
}

/// Answer of `pushed_authorize` (RFC 9126 §2.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushedResponse {
    /// Reference for the authorization request, for one use.
    pub request_uri: String,
    /// Life in seconds.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub expires_in: u64,
}

/// Client authentication found in the parameters; HTTP Basic is read by the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientAuth {
    /// The client; some send it beside HTTP Basic too, and then it must be the same.
    pub client_id: Option<String>,
    /// `client_secret` of the body.
    pub client_secret: Option<SecretText>,
}

impl ClientAuth {
    /// Reads `client_id` and `client_secret`.
    pub fn read(params: &Params) -> Self {
        let client_secret = params.owned("client_secret").map(SecretText::new);
        Self {
            client_id: params.owned("client_id"),
            client_secret,
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
            Some(_) => return Err(OAuthError::UnsupportedGrantType),
        };
        let details = params
            .get("authorization_details")
            .map(SignatureAuthorization::parse)
            .transpose()?;
        Ok(Self {
            client: ClientAuth::read(params),
            grant,
            details,
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

    fn challenge() -> String {
        b64u([7; 32])
    }

    fn service<'a>(challenge: &'a str) -> Vec<(&'a str, &'a str)> {
        vec![
            ("response_type", "code"),
            ("client_id", "app"),
            ("code_challenge", challenge),
            ("code_challenge_method", "S256"),
        ]
    }

    fn reparse(request: &AuthorizeRequest) -> AuthorizeRequest {
        let pairs = request
            .to_pairs()
            .into_iter()
            .map(|(n, v)| (n.to_owned(), v));
        AuthorizeRequest::parse(&Params::from_pairs(pairs).unwrap()).unwrap()
    }

    #[test]
    fn a_repeated_parameter_is_refused() {
        let twice = [("a", "1"), ("a", "")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(
            Params::from_pairs(twice).err(),
            Some(OAuthError::Repeated("a".to_owned()))
        );
    }

    #[test]
    fn scope_defaults_to_service_and_only_one_is_allowed() {
        let challenge = challenge();
        let mut pairs = service(&challenge);
        assert_eq!(
            AuthorizeRequest::parse(&params(&pairs)).unwrap().purpose,
            Purpose::Service
        );
        pairs.push(("scope", "service credential"));
        assert_eq!(
            AuthorizeRequest::parse(&params(&pairs)),
            Err(OAuthError::InvalidScope)
        );
    }

    #[test]
    fn pkce_is_s256_or_nothing() {
        let challenge = challenge();
        let mut pairs = service(&challenge);
        pairs[3].1 = "plain";
        assert_eq!(
            AuthorizeRequest::parse(&params(&pairs)),
            Err(OAuthError::PkceRequired)
        );
        pairs[3] = ("code_challenge_method", "S256");
        pairs[2].1 = "short";
        assert_eq!(
            AuthorizeRequest::parse(&params(&pairs)),
            Err(OAuthError::Invalid("code_challenge"))
        );
        assert_eq!(
            AuthorizeRequest::parse(&params(&pairs[..2])),
            Err(OAuthError::PkceRequired)
        );
    }

    #[test]
    fn plain_and_rich_requests_mean_the_same_authorization() {
        let challenge = challenge();
        let hashes = format!("{},{}", b64u([1; 32]), b64u([0xff; 32]));
        let mut pairs = service(&challenge);
        pairs.extend([
            ("scope", "credential"),
            ("credentialID", "k"),
            ("numSignatures", "2"),
            ("hashes", hashes.as_str()),
            ("hashAlgorithmOID", "2.16.840.1.101.3.4.2.1"),
            ("state", "s"),
            ("lang", ""),
        ]);
        let plain = AuthorizeRequest::parse(&params(&pairs)).unwrap();
        let Purpose::Credential(asked) = &plain.purpose else {
            panic!("credential scope")
        };
        assert_eq!(
            (asked.num_signatures, asked.digests[1].hash.as_slice()),
            (2, &[0xff; 32][..])
        );
        assert_eq!(reparse(&plain), plain);
        let rich = plain.clone().with_details(DetailsType::Short);
        assert_eq!(reparse(&rich), rich);
        assert_eq!(rich.purpose, plain.purpose);
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
