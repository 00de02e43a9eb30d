//! The OAuth 2.0 authorization request, by query or by PAR (RFC 9126). PKCE with S256 is the only form (RFC 7636).

use std::collections::BTreeMap;

use core_types::HashAlg;
use core_types::bytes::b64u;
use serde::{Deserialize, Serialize};

use serde_json::json;

use crate::create::{self, CreationRequest};
use crate::details::{self, DetailsType, DocumentDigest, SignatureAuthorization};
use crate::error::OAuthError;
use crate::lenient::{self, decode_base64};
use crate::secret::SecretText;
use crate::v1;

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

    pub(crate) fn owned(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    pub(crate) fn need(&self, name: &'static str) -> Result<String, OAuthError> {
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
    /// Delete a credential (2.2), by `authorization_details` alone.
    Deletion {
        /// The credential.
        credential_id: String,
    },
    /// Make a new credential (2.2), by `authorization_details` alone.
    Creation(CreationRequest),
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
    /// Whether [`AuthorizeRequest::parse`] looks at a parameter of this name; nobody needs to keep others.
    pub fn reads(name: &str) -> bool {
        matches!(
            name,
            "client_id"
                | "response_type"
                | "code_challenge"
                | "code_challenge_method"
                | "authorization_details"
                | "scope"
                | "state"
                | "description"
                | "redirect_uri"
                | "lang"
                | "account_token"
                | "prompt"
                | "clientData"
                | "numSignatures"
                | "hashes"
                | "hash"
                | "hashAlgorithmOID"
                | "credentialID"
                | "signatureQualifier"
        )
    }

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
            (Some(details), scope) => by_details(details, scope)?,
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
            Purpose::Deletion { credential_id } => {
                let details =
                    json!([{ "type": "credential_deletion", "credentialID": credential_id }]);
                pairs.push(("authorization_details", details.to_string()));
            }
            Purpose::Creation(asked) => {
                let details = json!([{ "type": "credential_creation",
                    "credentialCreationRequest": asked.to_value() }]);
                pairs.push(("authorization_details", details.to_string()));
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

/// What `authorization_details` ask for, and with them a scope that says the same or none.
fn by_details(details: &str, scope: Option<&str>) -> Result<Purpose, OAuthError> {
    if let Some(credential_id) = details::deletion(details)? {
        return match scope {
            None | Some("credential-deletion" | "credential_deletion") => {
                Ok(Purpose::Deletion { credential_id })
            }
            _ => Err(OAuthError::InvalidScope),
        };
    }
    if let Some(asked) = create::creation(details)? {
        return match scope {
            None | Some("credential-creation" | "credential_creation") => {
                Ok(Purpose::Creation(asked))
            }
            _ => Err(OAuthError::InvalidScope),
        };
    }
    match scope {
        None | Some("credential") => {
            SignatureAuthorization::parse(details).map(Purpose::Credential)
        }
        _ => Err(OAuthError::InvalidScope),
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
    let name = match params.get("hashes") {
        None if params.get("hash").is_some() => "hash",
        _ => "hashes",
    };
    let mut digests = Vec::new();
    for text in params
        .get(name)
        .into_iter()
        .flat_map(|list| list.split(','))
    {
        let hash = decode_base64(text).ok_or(OAuthError::Invalid(name))?;
        digests.push(DocumentDigest {
            hash,
            ..DocumentDigest::default()
        });
    }
    let hash_algorithm = match (params.get("hashAlgorithmOID"), digests.first()) {
        (Some(oid), _) => {
            Some(HashAlg::from_oid(oid).ok_or(OAuthError::Invalid("hashAlgorithmOID"))?)
        }
        // Version 1 has no name for it here.
        (None, Some(first)) if v1::asks(|name| params.get(name).is_some()) => {
            Some(v1::by_length(first.hash.len()).ok_or(OAuthError::Invalid(name))?)
        }
        (None, _) => None,
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

    fn service(challenge: &str) -> Vec<(&str, &str)> {
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
            .inspect(|(name, _)| assert!(AuthorizeRequest::reads(name), "{name}"))
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
    fn the_length_tells_the_hash_in_version_1_and_there_alone() {
        let challenge = challenge();
        let ask = |name: &str, hashes: &[Vec<u8>]| {
            let list: Vec<String> = hashes.iter().map(b64u).collect();
            let list = list.join(",");
            let mut pairs = service(&challenge);
            pairs.extend([
                ("scope", "credential"),
                ("credentialID", "k"),
                ("numSignatures", "1"),
                (name, list.as_str()),
            ]);
            AuthorizeRequest::parse(&params(&pairs)).map(|request| request.purpose)
        };
        for (length, hash) in [
            (32, HashAlg::Sha256),
            (48, HashAlg::Sha384),
            (64, HashAlg::Sha512),
        ] {
            let Ok(Purpose::Credential(asked)) = ask("hash", &[vec![1; length]]) else {
                panic!("{length}")
            };
            assert_eq!(asked.hash_algorithm, Some(hash));
        }
        let sha1 = ask("hash", &[vec![1; 20]]);
        assert_eq!(sha1, Err(OAuthError::Invalid("hash")));
        assert!(matches!(
            ask("hash", &[vec![1; 32], vec![1; 48]]),
            Err(OAuthError::InvalidDetails(_))
        ));
        assert!(matches!(
            ask("hashes", &[vec![1; 32]]),
            Err(OAuthError::InvalidDetails(_))
        ));
    }
}
