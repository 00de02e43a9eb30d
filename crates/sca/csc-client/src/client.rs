//! The calls.

use core_types::HashAlg;
use core_types::bytes::b64;
use csc_types::{
    Credential, CredentialAuthorizeResponse, ExtendRequest, ExtendResponse, GetChallengeRequest,
    HashType, Info, InfoQuery, InfoRequest, ListRequest, ListResponse, SecretText, SendOtpRequest,
    SignHashRequest, SignHashResponse, SignedValue,
};
use reqwest::RequestBuilder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::Url;

use crate::ClientCredentials;
use crate::dpop::DpopKey;
use crate::error::ClientError;
use crate::http::{self, HttpOptions, Reply};
use crate::signed::ClientKey;
use crate::version::{Places, Version};
use crate::wire::{Shows, Wire};

/// What is asked for without a browser of the application: by secrets that it collected or, without any, by asking the person
/// elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The credential, with its `auth`.
    pub credential: &'a Credential,
    /// Raw digests.
    pub hashes: &'a [Vec<u8>],
    /// Hash of all digests.
    pub hash_algorithm: HashAlg,
    /// One line about it, at most 500 characters.
    pub description: &'a str,
    /// PIN that the application collected.
    pub pin: Option<&'a SecretText>,
    /// One-time code that the application collected.
    pub otp: Option<&'a SecretText>,
}

/// Most pages of a list that are fetched.
const MAX_PAGES: usize = 100;
/// Most bytes that the identifiers of all pages take in memory: as many as a list in one answer may have.
const MAX_LISTED: usize = http::MAX_ANSWER;

/// A client of one provider. Cheap to clone; connections are shared.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) wire: Wire,
    base: Url,
    pub(crate) version: Version,
    pub(crate) credentials: ClientCredentials,
    pub(crate) key: Option<ClientKey>,
    /// It has a certificate to show, and calls what asks for one.
    pub(crate) certified: bool,
}

impl Client {
    /// A client for the service at `base_url`, such as `https://rssp.example/csc/v2` or `…/csc/v1`; the path tells the version. The
    /// path `/csc/v2` is added when the address has neither.
    ///
    /// # Errors
    /// An address that can't be used, or unreadable certificates.
    pub fn new(
        base_url: &str,
        credentials: ClientCredentials,
        options: &HttpOptions,
    ) -> Result<Self, ClientError> {
        let (base, version) = Version::of(base_url)?;
        Ok(Self {
            wire: Wire::new(options)?,
            base,
            version,
            credentials,
            key: None,
            certified: options.identity_pem.is_some(),
        })
    }

    /// The version that is spoken.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The same with a key of its own: it signs its requests, and without a secret authenticates with the key
    /// ([`ClientKey::only_for`] says otherwise).
    #[must_use]
    pub fn with_key(self, key: ClientKey) -> Self {
        Self {
            key: Some(key),
            ..self
        }
    }

    /// The same with tokens that only the holder of `key` can use (RFC 9449): codes and tokens are asked for with it, and every
    /// token is shown with a proof. A service that gives other tokens is [`ClientError::Unsupported`], so that nobody goes on with
    /// less than was wanted.
    #[must_use]
    pub fn with_dpop(self, key: DpopKey) -> Self {
        Self {
            wire: self.wire.bound_to(key),
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

    /// `credentials/authorize` of a credential in explicit mode. In version 1 a call without secrets waits until the person has
    /// decided. Not repeated by itself, since each call is a request of its own.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Unsupported`] when the credential has no place for a secret.
    pub async fn ask(
        &self,
        token: &SecretText,
        asked: &Asked<'_>,
    ) -> Result<CredentialAuthorizeResponse, ClientError> {
        let hashes: Vec<String> = asked.hashes.iter().map(b64).collect();
        let mut body = self.version.body(json!({
            "credentialID": asked.credential.credential_id,
            "numSignatures": asked.hashes.len(),
            "hashes": hashes,
            "hashAlgorithmOID": asked.hash_algorithm.oid(),
            // Where the contract would take them for hashes of documents.
            "hashType": HashType::Dtbsr.as_str(),
            "description": asked.description,
        }));
        let places = Places::of(self.version, &asked.credential.auth);
        let (pin, otp) = (
            asked.pin.map(SecretText::expose),
            asked.otp.map(SecretText::expose),
        );
        for (name, value) in places.fill(pin, otp)? {
            body[name] = value;
        }
        let endpoint = "credentials/authorize";
        self.once(endpoint, token, &body).await?.json(endpoint)
    }

    /// `credentials/authorizeCheck`: what became of it. Version 1 has no such call, since its own one waits.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn asked(
        &self,
        token: &SecretText,
        handle: &SecretText,
    ) -> Result<CredentialAuthorizeResponse, ClientError> {
        self.in_v2("credentials/authorizeCheck in version 1")?;
        let body = json!({ "handle": handle.expose() });
        let endpoint = "credentials/authorizeCheck";
        self.once(endpoint, token, &body).await?.json(endpoint)
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
        let reply = self.once(endpoint, token, &body).await?;
        reply.done(endpoint).map(drop)
    }

    /// `credentials/getChallenge`: the challenge of an authentication object, or nothing when it went to the signer out of
    /// band. Not repeated by itself. Version 1 has [`Self::send_otp`] for it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn challenge(
        &self,
        token: &SecretText,
        request: &GetChallengeRequest,
    ) -> Result<Option<SecretText>, ClientError> {
        self.in_v2("credentials/getChallenge in version 1")?;
        let endpoint = "credentials/getChallenge";
        let body = self.once(endpoint, token, request).await?.done(endpoint)?;
        Ok(body
            .get("challenge")
            .and_then(Value::as_str)
            .map(|challenge| SecretText::new(challenge.to_owned())))
    }

    /// `credentials/list`. Version 1 tells identifiers alone, page by page, and knows `userID` only of what can be asked.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::TooLarge`] after 100 pages or 16 MiB of identifiers.
    pub async fn list(
        &self,
        token: &SecretText,
        request: &ListRequest,
    ) -> Result<ListResponse, ClientError> {
        let endpoint = "credentials/list";
        if self.version == Version::V2 {
            return self.call(endpoint, Some(token), request).await;
        }
        let mut all = ListResponse::default();
        let mut page: Option<String> = None;
        let mut listed: usize = 0;
        for _ in 0..MAX_PAGES {
            let mut body = json!({});
            for (name, value) in [("userID", &request.user_id), ("pageToken", &page)] {
                if let Some(value) = value {
                    body[name] = json!(value);
                }
            }
            let told: Value = self.call(endpoint, Some(token), &body).await?;
            let next = told["nextPageToken"].as_str().filter(|t| !t.is_empty());
            page = next.map(str::to_owned);
            let told: ListResponse = understood(endpoint, told)?;
            let each = |id: &String| size_of::<String>() + id.len();
            listed += told.credential_ids.iter().map(each).sum::<usize>();
            if listed > MAX_LISTED {
                break;
            }
            all.credential_ids.extend(told.credential_ids);
            if page.is_none() {
                return Ok(all);
            }
        }
        Err(ClientError::TooLarge(endpoint.to_owned()))
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
        let endpoint = "credentials/info";
        let told: Value = self.call(endpoint, Some(token), request).await?;
        let mut credential: Credential = understood(endpoint, self.version.credential(told))?;
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
    /// In version 2 `token` may be the right to sign itself, and `request.sad` be absent. Version 1 wants both: a token of scope
    /// `service`, and the right to sign as SAD; without one, `token` is sent in both places.
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
        let mut body = self.version.body(json!(request));
        if self.version == Version::V1 && request.sad.is_none() {
            body["SAD"] = json!(token);
        }
        let reply = self.once_named(endpoint, token, &body, idempotency_key);
        let answer: SignHashResponse = reply.await?.json(endpoint)?;
        values(endpoint, &answer, request.hashes.len())
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
        let body = self.version.body(json!(request));
        self.once(endpoint, token, &body).await?.json(endpoint)
    }

    /// Calls a method that may be repeated.
    async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        token: Option<&SecretText>,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let shows = token.map_or(Shows::Nothing, Shows::Token);
        let request = self.post(method, body);
        let reply = self.wire.send_again(method, request, shows).await?;
        reply.json(method)
    }

    /// Calls a method once.
    pub(crate) async fn once(
        &self,
        method: &str,
        token: &SecretText,
        body: &impl Serialize,
    ) -> Result<Reply, ClientError> {
        let request = self.post(method, body);
        self.wire.send(method, request, Shows::Token(token)).await
    }

    /// Calls a method under a name that makes its repetition safe, at services that know such names; others refuse a repetition,
    /// since the right is used.
    pub(crate) async fn once_named(
        &self,
        method: &str,
        token: &SecretText,
        body: &impl Serialize,
        idempotency_key: &str,
    ) -> Result<Reply, ClientError> {
        let request = self.post(method, body);
        let request = request.header("Idempotency-Key", idempotency_key);
        self.wire
            .send_again(method, request, Shows::Token(token))
            .await
    }

    pub(crate) fn post(&self, method: &str, body: &impl Serialize) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{method}", self.base.path()));
        self.wire.post(url).json(body)
    }

    /// Version 1 is never asked for what it doesn't have.
    pub(crate) fn in_v2(&self, what: &'static str) -> Result<(), ClientError> {
        match self.version {
            Version::V1 => Err(ClientError::Unsupported(what)),
            Version::V2 => Ok(()),
        }
    }
}

/// The raw values of an answer, if there are as many as wanted.
pub(crate) fn values(
    endpoint: &str,
    answer: &SignHashResponse,
    wanted: usize,
) -> Result<Vec<SignedValue>, ClientError> {
    let malformed = |reason: &str| ClientError::Malformed {
        endpoint: endpoint.to_owned(),
        reason: reason.to_owned(),
    };
    let values = answer
        .signed()
        .ok_or_else(|| malformed("a signature or counter-signature is not base64"))?;
    if values.len() != wanted {
        return Err(malformed(
            "the number of signatures differs from the number of hashes",
        ));
    }
    Ok(values)
}

/// An answer in the words of version 2.
fn understood<T: DeserializeOwned>(endpoint: &str, told: Value) -> Result<T, ClientError> {
    serde_json::from_value(told).map_err(|e| ClientError::Malformed {
        endpoint: endpoint.to_owned(),
        reason: e.to_string(),
    })
}
