//! One authorization: what is sent with the browser and what must come back.

use std::fmt;

use core_types::bytes::b64u;
use core_types::{Random, sha256};
use csc_types::{AuthorizeRequest, DetailsType, ErrorBody, Params, Purpose, SecretText};
use url::Url;

use crate::discover::Provider;
use crate::error::ClientError;

/// What to authorize.
#[derive(Debug, Clone)]
pub struct AuthorizeParams<'a> {
    /// Listing credentials, or signing.
    pub purpose: Purpose,
    /// Where the browser comes back to.
    pub redirect_uri: &'a str,
    /// Language of the pages, RFC 5646 tag.
    pub lang: Option<&'a str>,
    /// Text about the transaction, at most 500 characters.
    pub description: Option<&'a str>,
}

/// An authorization that the browser was sent away for. Holds the PKCE verifier, so it stays on this side.
#[derive(Clone)]
pub struct Pending {
    /// Where to send the browser.
    pub url: Url,
    /// The `state` that must come back.
    pub state: String,
    pub(crate) verifier: SecretText,
    pub(crate) redirect_uri: String,
    pub(crate) details: Option<String>,
    issuer: Option<String>,
    iss_is_sent: bool,
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("redirect_uri", &self.redirect_uri)
            .finish_non_exhaustive()
    }
}

/// The query that came back with the browser.
#[derive(Debug, Clone)]
pub struct Callback {
    code: Option<SecretText>,
    state: Option<String>,
    iss: Option<String>,
    error: Option<ErrorBody>,
}

impl Callback {
    /// Reads a query string without its `?`.
    ///
    /// # Errors
    /// [`ClientError::StateMismatch`] when a parameter is repeated, since then it says two things.
    pub fn from_query(query: &str) -> Result<Self, ClientError> {
        let pairs = url::form_urlencoded::parse(query.as_bytes()).into_owned();
        let params = Params::from_pairs(pairs).map_err(|_| ClientError::StateMismatch)?;
        let owned = |name: &str| params.get(name).map(str::to_owned);
        let error = params.get("error").map(|error| ErrorBody {
            error: error.to_owned(),
            error_description: owned("error_description"),
        });
        Ok(Self {
            code: owned("code").map(SecretText::new),
            state: owned("state"),
            iss: owned("iss"),
            error,
        })
    }

    /// The `state` that came back; finds the authorization it belongs to.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }
}

impl Pending {
    pub(crate) fn new(
        provider: &Provider,
        client_id: &str,
        params: &AuthorizeParams<'_>,
        random: &dyn Random,
    ) -> (Self, Vec<(&'static str, String)>) {
        let state = b64u(random.digest32());
        let verifier = b64u(random.digest32());
        let request = AuthorizeRequest {
            client_id: client_id.to_owned(),
            redirect_uri: Some(params.redirect_uri.to_owned()),
            purpose: params.purpose.clone(),
            received_details: None,
            state: Some(state.clone()),
            code_challenge: b64u(sha256(&[verifier.as_bytes()])),
            lang: params.lang.map(str::to_owned),
            description: params.description.map(str::to_owned),
            account_token: None,
            prompt: None,
            client_data: None,
        };
        let request = if provider.rar {
            request.with_details(DetailsType::Short)
        } else {
            request
        };
        let pending = Self {
            url: provider.endpoints.authorize.clone(),
            state,
            verifier: verifier.into(),
            redirect_uri: params.redirect_uri.to_owned(),
            details: request.received_details.clone(),
            issuer: provider.endpoints.issuer.clone(),
            iss_is_sent: provider.endpoints.iss_is_sent,
        };
        (pending, request.to_pairs())
    }

    /// Checks that a callback belongs to this authorization and takes the code out.
    ///
    /// # Errors
    /// [`ClientError::StateMismatch`], [`ClientError::IssuerMismatch`] (RFC 9207 §2.4), or
    /// [`ClientError::Refused`] with the server's reason.
    pub fn accept(&self, callback: &Callback) -> Result<SecretText, ClientError> {
        let same = callback
            .state
            .as_deref()
            .is_some_and(|s| SecretText::new(s.to_owned()).ct_eq(&self.state));
        if !same {
            return Err(ClientError::StateMismatch);
        }
        let issuer_fits = match (&callback.iss, &self.issuer) {
            (Some(sent), Some(known)) => sent == known,
            (None, _) => !self.iss_is_sent,
            (Some(_), None) => true,
        };
        if !issuer_fits {
            return Err(ClientError::IssuerMismatch);
        }
        if let Some(error) = &callback.error {
            return Err(ClientError::Refused(error.clone()));
        }
        let missing = ClientError::Malformed {
            endpoint: "oauth2/authorize".to_owned(),
            reason: "neither code nor error came back".to_owned(),
        };
        callback.code.clone().ok_or(missing)
    }
}
