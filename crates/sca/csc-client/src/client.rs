//! The calls.

use std::time::Duration;

use core_types::bytes::b64;
use core_types::{HashAlg, Random};
use csc_types::{
    Credential, CredentialAuthorizeResponse, ExtendRequest, ExtendResponse, GetChallengeRequest,
    Info, InfoQuery, InfoRequest, ListRequest, ListResponse, PushedResponse, SecretText,
    SendOtpRequest, ServerMetadata, SignHashRequest, SignHashResponse, SignedValue, TokenResponse,
    v1,
};
use reqwest::{RequestBuilder, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::Url;

use crate::ClientCredentials;
use crate::authorize::{AuthorizeParams, Callback, Pending};
use crate::discover::{
    Authority, Endpoints, Provider, announced_endpoints, authority, fixed_endpoints, metadata_urls,
};
use crate::error::ClientError;
use crate::http::{self, HttpOptions, safe_url};
use crate::signed::ClientKey;

/// What is asked out of band.
#[derive(Debug, Clone, Copy)]
pub struct OutOfBand<'a> {
    /// The credential.
    pub credential: &'a str,
    /// Raw digests.
    pub hashes: &'a [Vec<u8>],
    /// Hash of all digests.
    pub hash_algorithm: HashAlg,
    /// One line about it, at most 500 characters.
    pub description: &'a str,
}

/// A client of one provider. Cheap to clone; connections are shared.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    credentials: ClientCredentials,
    key: Option<ClientKey>,
    pauses: Vec<Duration>,
}

impl Client {
    /// A client for the service at `base_url`, such as `https://rssp.example/csc/v2`. The path `/csc/v2` is
    /// added when the address has none.
    ///
    /// # Errors
    /// An address that can't be used, or unreadable root certificates.
    pub fn new(
        base_url: &str,
        credentials: ClientCredentials,
        options: &HttpOptions,
    ) -> Result<Self, ClientError> {
        let mut base = safe_url(base_url)?;
        let path = base.path().trim_end_matches('/').to_owned();
        if path.ends_with("/csc/v1") {
            return Err(ClientError::Unsupported(
                "version 2 of the API at this address",
            ));
        }
        base.set_path(&if path.ends_with("/csc/v2") {
            path
        } else {
            format!("{path}/csc/v2")
        });
        base.set_query(None);
        base.set_fragment(None);
        Ok(Self {
            http: options.build()?,
            base,
            credentials,
            key: None,
            pauses: options.retry_pauses.clone(),
        })
    }

    /// The same with a key of its own: it signs its requests, and without a secret authenticates with the key.
    #[must_use]
    pub fn with_key(self, key: ClientKey) -> Self {
        Self {
            key: Some(key),
            ..self
        }
    }

    /// `info`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn info(&self, query: &InfoQuery) -> Result<Info, ClientError> {
        self.call("info", None, query).await
    }

    /// `info` and, as far as there is any, the metadata of the authorization server.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Malformed`] when metadata belongs to another issuer.
    pub async fn discover(&self) -> Result<Provider, ClientError> {
        let info = self.info(&InfoQuery::default()).await?;
        let (authority, rar) = authority(&info)?;
        let (endpoints, details) = match authority {
            Authority::Issuer(issuer) => {
                let metadata = self.metadata(&issuer).await?;
                let metadata =
                    metadata.ok_or(ClientError::Unsupported("authorization server metadata"))?;
                (
                    announced_endpoints(&metadata)?,
                    metadata.authorization_details_types_supported,
                )
            }
            // Metadata is optional here, and must be this server's own to count.
            Authority::Base(base) => match self.metadata(&base).await {
                Ok(Some(metadata)) => (
                    announced_endpoints(&metadata)?,
                    metadata.authorization_details_types_supported,
                ),
                _ => (fixed_endpoints(&base, &info)?, Vec::new()),
            },
        };
        let rar = rar
            || details
                .iter()
                .any(|t| csc_types::DetailsType::parse(t).is_some());
        Ok(Provider {
            info,
            endpoints,
            rar,
        })
    }

    /// Prepares an authorization: PAR where it is offered (RFC 9126), else everything in the query.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn authorize(
        &self,
        provider: &Provider,
        params: &AuthorizeParams<'_>,
        random: &dyn Random,
    ) -> Result<Pending, ClientError> {
        let endpoints = &provider.endpoints;
        let (mut pending, pairs) =
            Pending::new(provider, &self.credentials.client_id, params, random);
        let pairs = match &self.key {
            None => pairs,
            Some(key) => key.request(&self.credentials.client_id, &audience(endpoints), pairs)?,
        };
        if let Some(url) = &endpoints.pushed {
            let endpoint = "oauth2/pushed_authorize";
            let response = http::send(endpoint, self.form(url, endpoints, pairs.clone())?).await?;
            let missing = matches!(
                response.status(),
                StatusCode::NOT_FOUND
                    | StatusCode::METHOD_NOT_ALLOWED
                    | StatusCode::NOT_IMPLEMENTED
            );
            if endpoints.pushed_is_sure || !missing {
                let pushed: PushedResponse = http::json(endpoint, response).await?;
                pending
                    .url
                    .query_pairs_mut()
                    .append_pair("client_id", &self.credentials.client_id)
                    .append_pair("request_uri", &pushed.request_uri);
                return Ok(pending);
            }
        }
        pending.url.query_pairs_mut().extend_pairs(pairs);
        Ok(pending)
    }

    /// Redeems what the browser brought back. A code is used once, so this is never repeated by itself.
    ///
    /// # Errors
    /// Those of [`Pending::accept`], and the token endpoint's.
    pub async fn exchange(
        &self,
        provider: &Provider,
        pending: &Pending,
        callback: &Callback,
    ) -> Result<TokenResponse, ClientError> {
        let code = pending.accept(callback)?;
        let mut form = vec![
            ("grant_type", "authorization_code".to_owned()),
            ("code", code.expose().to_owned()),
            ("redirect_uri", pending.redirect_uri.clone()),
            ("code_verifier", pending.verifier.expose().to_owned()),
        ];
        if let Some(details) = &pending.details {
            form.push(("authorization_details", details.clone()));
        }
        // The specification wants it even beside HTTP Basic.
        form.push(("client_id", self.credentials.client_id.clone()));
        let endpoints = &provider.endpoints;
        let endpoint = "oauth2/token";
        let response = http::send(endpoint, self.form(&endpoints.token, endpoints, form)?).await?;
        http::json(endpoint, response).await
    }

    /// A token of the client itself (RFC 6749 §4.4), for the people whom its contract names.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn own_token(&self, provider: &Provider) -> Result<SecretText, ClientError> {
        let form = vec![
            ("grant_type", "client_credentials".to_owned()),
            ("scope", "service".to_owned()),
            ("client_id", self.credentials.client_id.clone()),
        ];
        let endpoints = &provider.endpoints;
        let endpoint = "oauth2/token";
        let response = http::send(endpoint, self.form(&endpoints.token, endpoints, form)?).await?;
        let answer: TokenResponse = http::json(endpoint, response).await?;
        Ok(answer.access_token)
    }

    /// `credentials/authorize` out of band: the person decides elsewhere. Not repeated by itself, since each call is a request
    /// of its own.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn ask(
        &self,
        token: &SecretText,
        asked: &OutOfBand<'_>,
    ) -> Result<CredentialAuthorizeResponse, ClientError> {
        let hashes: Vec<String> = asked.hashes.iter().map(b64).collect();
        let body = json!({
            "credentialID": asked.credential,
            "numSignatures": asked.hashes.len(),
            "hashes": hashes,
            "hashAlgorithmOID": asked.hash_algorithm.oid(),
            "description": asked.description,
            "authData": [{ "id": v1::PORTAL }],
        });
        let endpoint = "credentials/authorize";
        let response = http::send(endpoint, self.post(endpoint, Some(token), &body)).await?;
        http::json(endpoint, response).await
    }

    /// `credentials/authorizeCheck`: what became of it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn asked(
        &self,
        token: &SecretText,
        handle: &SecretText,
    ) -> Result<CredentialAuthorizeResponse, ClientError> {
        let body = json!({ "handle": handle.expose() });
        let endpoint = "credentials/authorizeCheck";
        let response = http::send(endpoint, self.post(endpoint, Some(token), &body)).await?;
        http::json(endpoint, response).await
    }

    /// `credentials/sendOTP`: the provider sends the signer a one-time code, for a credential in explicit mode whose code is
    /// online. Not repeated by itself, since each call sends one.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn send_otp(&self, token: &SecretText, credential: &str) -> Result<(), ClientError> {
        let body = SendOtpRequest {
            credential_id: credential.to_owned(),
        };
        let endpoint = "credentials/sendOTP";
        let response = http::send(endpoint, self.post(endpoint, Some(token), &body)).await?;
        http::done(endpoint, response).await.map(drop)
    }

    /// `credentials/getChallenge`: the challenge of an authentication object, or nothing when it went to the signer out of
    /// band. Not repeated by itself.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn challenge(
        &self,
        token: &SecretText,
        request: &GetChallengeRequest,
    ) -> Result<Option<SecretText>, ClientError> {
        let endpoint = "credentials/getChallenge";
        let response = http::send(endpoint, self.post(endpoint, Some(token), request)).await?;
        let body = http::done(endpoint, response).await?;
        Ok(body
            .get("challenge")
            .and_then(Value::as_str)
            .map(|challenge| SecretText::new(challenge.to_owned())))
    }

    /// `credentials/list`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn list(
        &self,
        token: &SecretText,
        request: &ListRequest,
    ) -> Result<ListResponse, ClientError> {
        self.call("credentials/list", Some(token), request).await
    }

    /// `credentials/info`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn credential_info(
        &self,
        token: &SecretText,
        request: &InfoRequest,
    ) -> Result<Credential, ClientError> {
        let mut credential: Credential =
            self.call("credentials/info", Some(token), request).await?;
        credential
            .credential_id
            .get_or_insert_with(|| request.credential_id.clone());
        Ok(credential)
    }

    /// All credentials of the user with their certificates, also from services that list identifiers only.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn credentials(&self, token: &SecretText) -> Result<Vec<Credential>, ClientError> {
        self.credentials_of(token, None).await
    }

    /// As [`Self::credentials`], of the user whom a token of the client itself doesn't name.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn credentials_of(
        &self,
        token: &SecretText,
        user: Option<&str>,
    ) -> Result<Vec<Credential>, ClientError> {
        let request = ListRequest {
            user_id: user.map(str::to_owned),
            ..ListRequest::full()
        };
        let list = self.list(token, &request).await?;
        if let Some(infos) = list.credential_infos
            && infos.len() == list.credential_ids.len()
            && infos.iter().all(|c| c.credential_id.is_some())
        {
            return Ok(infos);
        }
        let mut all = Vec::new();
        for credential_id in list.credential_ids {
            let request = InfoRequest {
                credential_id,
                certificates: csc_types::Certificates::Chain,
                cert_info: true,
                auth_info: true,
                ..InfoRequest::default()
            };
            all.push(self.credential_info(token, &request).await?);
        }
        Ok(all)
    }

    /// `signatures/signHash`. The key makes repetition safe: a service that knows `Idempotency-Key` answers a
    /// repeated call with the stored values, one that doesn't refuses it because the authorization is used.
    ///
    /// Returns the raw signature values in the order of `request.hashes`; nothing of them is verified yet.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Malformed`] when the number of values differs.
    pub async fn sign_hash(
        &self,
        token: &SecretText,
        request: &SignHashRequest,
        idempotency_key: &str,
    ) -> Result<Vec<SignedValue>, ClientError> {
        let endpoint = "signatures/signHash";
        let build = || {
            self.post(endpoint, Some(token), request)
                .header("Idempotency-Key", idempotency_key)
        };
        let response = http::send_again(endpoint, &self.pauses, build).await?;
        let answer: SignHashResponse = http::json(endpoint, response).await?;
        let malformed = |reason: &str| ClientError::Malformed {
            endpoint: endpoint.to_owned(),
            reason: reason.to_owned(),
        };
        let values = answer
            .signed()
            .ok_or_else(|| malformed("a signature or counter-signature is not base64"))?;
        if values.len() != request.hashes.len() {
            return Err(malformed(
                "the number of signatures differs from the number of hashes",
            ));
        }
        Ok(values)
    }

    /// `credentials/extendTransaction`: the next token of an authorization with signatures left. The old one is dead
    /// from then on, so the call isn't repeated by itself: if its answer is lost, the authorization is too.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn extend(
        &self,
        token: &SecretText,
        request: &ExtendRequest,
    ) -> Result<ExtendResponse, ClientError> {
        let endpoint = "credentials/extendTransaction";
        let response = http::send(endpoint, self.post(endpoint, Some(token), request)).await?;
        http::json(endpoint, response).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        token: Option<&SecretText>,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let response =
            http::send_again(method, &self.pauses, || self.post(method, token, body)).await?;
        http::json(method, response).await
    }

    pub(crate) fn post(
        &self,
        method: &str,
        token: Option<&SecretText>,
        body: &impl Serialize,
    ) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{method}", self.base.path()));
        let request = self.http.post(url).json(body);
        match token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }

    /// A form with client authentication (RFC 6749 §2.3.1).
    fn form(
        &self,
        url: &Url,
        endpoints: &Endpoints,
        mut form: Vec<(&'static str, String)>,
    ) -> Result<RequestBuilder, ClientError> {
        let request = self.http.post(url.clone());
        Ok(match &self.credentials.client_secret {
            None => {
                if let Some(key) = &self.key {
                    let client = &self.credentials.client_id;
                    form.extend(key.assertion(client, &audience(endpoints))?);
                }
                request.form(&form)
            }
            Some(secret) if endpoints.secret_in_body => {
                form.push(("client_secret", secret.expose().to_owned()));
                request.form(&form)
            }
            Some(secret) => {
                let encode = |text: &str| {
                    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>()
                };
                let id = encode(&self.credentials.client_id);
                request
                    .basic_auth(id, Some(encode(secret.expose())))
                    .form(&form)
            }
        })
    }

    /// Metadata of an issuer, `None` when there is none at any of the usual places.
    async fn metadata(&self, issuer: &str) -> Result<Option<ServerMetadata>, ClientError> {
        for url in metadata_urls(issuer)? {
            let endpoint = url.path().to_owned();
            let response =
                http::send_again(&endpoint, &self.pauses, || self.http.get(url.clone())).await?;
            if response.status() != StatusCode::OK {
                continue;
            }
            let metadata: ServerMetadata = http::json(&endpoint, response).await?;
            // RFC 8414 §3.3: metadata of somebody else must not be used.
            if metadata.issuer != issuer {
                let reason = format!("the issuer is {:?}", metadata.issuer);
                return Err(ClientError::Malformed { endpoint, reason });
            }
            return Ok(Some(metadata));
        }
        Ok(None)
    }
}

/// Whom what a client signs is for: the issuer, or where it says none the origin of the page.
fn audience(endpoints: &Endpoints) -> String {
    let origin = || endpoints.authorize.origin().ascii_serialization();
    endpoints.issuer.clone().unwrap_or_else(origin)
}
