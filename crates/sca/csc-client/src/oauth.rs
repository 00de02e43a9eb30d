//! Discovery, and the calls of the authorization server.

use core_types::Random;
use csc_types::{InfoQuery, PushedResponse, SecretText, ServerMetadata, TokenResponse};
use reqwest::{RequestBuilder, StatusCode};
use url::Url;

use crate::authorize::{AuthorizeParams, Callback, Pending};
use crate::client::Client;
use crate::discover::{
    Authority, Endpoints, Provider, announced_endpoints, authority, fixed_endpoints, metadata_urls,
};
use crate::error::ClientError;
use crate::signed::{self, ClientKey, KeyUse};
use crate::wire::Shows;

impl Client {
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
                    self.announced(&metadata)?,
                    metadata.authorization_details_types_supported,
                )
            }
            // Metadata is optional here, and must be this server's own to count.
            Authority::Base(base) => match self.metadata(&base).await {
                Ok(Some(metadata)) => (
                    self.announced(&metadata)?,
                    metadata.authorization_details_types_supported,
                ),
                _ => (fixed_endpoints(&base, &info, self.version)?, Vec::new()),
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
        let mut pairs = self.version.pairs(pairs);
        if let Some(key) = self.wire.dpop() {
            // The code is worth nothing to others either (RFC 9449 §10).
            pairs.push(("dpop_jkt", key.thumbprint()));
        }
        let pairs = self.signed(endpoints, signed::LIFE, pairs)?;
        if let Some(url) = &endpoints.pushed {
            let endpoint = "oauth2/pushed_authorize";
            let request = self.form(url, endpoints, pairs.clone())?;
            let reply = self.wire.send(endpoint, request, Shows::Nothing).await?;
            let missing = matches!(
                reply.status,
                StatusCode::NOT_FOUND
                    | StatusCode::METHOD_NOT_ALLOWED
                    | StatusCode::NOT_IMPLEMENTED
            );
            if endpoints.pushed_is_sure || !missing {
                let pushed: PushedResponse = reply.json(endpoint)?;
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
        self.granted(provider, form).await
    }

    /// A new token of scope `service` for a refresh token (RFC 6749 §6). A provider may take each for one use and answer the next
    /// with it, so this is never repeated by itself.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn refresh(
        &self,
        provider: &Provider,
        token: &SecretText,
    ) -> Result<TokenResponse, ClientError> {
        let form = vec![
            ("grant_type", "refresh_token".to_owned()),
            ("refresh_token", token.expose().to_owned()),
        ];
        self.granted(provider, form).await
    }

    /// A token of the client itself (RFC 6749 §4.4), for the people whom its contract names.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn own_token(&self, provider: &Provider) -> Result<SecretText, ClientError> {
        let form = vec![
            ("grant_type", "client_credentials".to_owned()),
            ("scope", "service".to_owned()),
        ];
        Ok(self.granted(provider, form).await?.access_token)
    }

    /// The token endpoint's answer.
    pub(crate) async fn granted(
        &self,
        provider: &Provider,
        mut form: Vec<(&'static str, String)>,
    ) -> Result<TokenResponse, ClientError> {
        // The specification wants it even beside HTTP Basic.
        form.push(("client_id", self.credentials.client_id.clone()));
        let endpoints = &provider.endpoints;
        let endpoint = "oauth2/token";
        let request = self.form(&endpoints.token, endpoints, form)?;
        let reply = self.wire.send(endpoint, request, Shows::Holder).await?;
        let token: TokenResponse = reply.json(endpoint)?;
        // RFC 9449 §5: a server that knows no such tokens gives one that anybody could use.
        let bound = token.token_type.eq_ignore_ascii_case("DPoP");
        match self.wire.dpop() {
            Some(_) if !bound => Err(ClientError::Unsupported("tokens bound to a key (DPoP)")),
            _ => Ok(token),
        }
    }

    /// The parameters of a request, signed if the client signs its requests.
    pub(crate) fn signed(
        &self,
        endpoints: &Endpoints,
        life: i64,
        pairs: Vec<(&'static str, String)>,
    ) -> Result<Vec<(&'static str, String)>, ClientError> {
        match self.key.as_ref().filter(|key| key.is_for(KeyUse::Requests)) {
            None => Ok(pairs),
            Some(key) => {
                let client = &self.credentials.client_id;
                key.request(client, &audience(endpoints), life, pairs)
            }
        }
    }

    /// A form with client authentication (RFC 6749 §2.3.1).
    pub(crate) fn form(
        &self,
        url: &Url,
        endpoints: &Endpoints,
        mut form: Vec<(&'static str, String)>,
    ) -> Result<RequestBuilder, ClientError> {
        let request = self.wire.post(url.clone());
        let proves = |key: &&ClientKey| key.is_for(KeyUse::Authentication);
        Ok(match &self.credentials.client_secret {
            None => {
                if let Some(key) = self.key.as_ref().filter(proves) {
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

    fn announced(&self, metadata: &ServerMetadata) -> Result<Endpoints, ClientError> {
        let plain = announced_endpoints(metadata)?;
        match self.certified {
            true => plain.asking(metadata),
            false => Ok(plain),
        }
    }

    /// Metadata of an issuer, `None` when there is none at any of the usual places.
    async fn metadata(&self, issuer: &str) -> Result<Option<ServerMetadata>, ClientError> {
        for url in metadata_urls(issuer)? {
            let endpoint = url.path().to_owned();
            let request = self.wire.get(url);
            let reply = self.wire.send_again(&endpoint, request, Shows::Nothing);
            let reply = reply.await?;
            if reply.status != StatusCode::OK {
                continue;
            }
            let metadata: ServerMetadata = reply.json(&endpoint)?;
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
