//! Tokens without a browser, and their end: `auth/login` and `auth/revoke` (CSC 11.2, 11.3), and revocation at the authorization server
//! (RFC 7009, CSC 8.2.5).

use csc_types::{LoginRequest, LoginResponse, SecretText};
use reqwest::RequestBuilder;
use serde_json::json;

use crate::client::Client;
use crate::discover::Provider;
use crate::error::ClientError;
use crate::wire::Shows;

impl Client {
    /// `auth/login` with a name and a password; a service that wants a one-time code too says where it goes (this product: directly
    /// behind the password). `remember`: a refresh token for [`Self::login_again`] is wanted. Not repeated by itself, since
    /// failures are counted.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Unsupported`] of a client whose tokens are bound to a key, as nobody proves one there.
    pub async fn login(
        &self,
        name: &str,
        password: &SecretText,
        remember: bool,
    ) -> Result<LoginResponse, ClientError> {
        let request = self.login_request(None, remember);
        let request = request.basic_auth(name, Some(password.expose()));
        self.logged_in(request).await
    }

    /// `auth/login` with what an earlier one left. Some services take each refresh token once and answer with the next.
    ///
    /// # Errors
    /// As [`Self::login`].
    pub async fn login_again(
        &self,
        refresh_token: &SecretText,
        remember: bool,
    ) -> Result<LoginResponse, ClientError> {
        let request = self.login_request(Some(refresh_token.clone()), remember);
        self.logged_in(request).await
    }

    fn login_request(
        &self,
        refresh_token: Option<SecretText>,
        remember_me: bool,
    ) -> RequestBuilder {
        let body = LoginRequest {
            refresh_token,
            remember_me,
        };
        self.post("auth/login", &body)
    }

    async fn logged_in(&self, request: RequestBuilder) -> Result<LoginResponse, ClientError> {
        if self.wire.dpop().is_some() {
            return Err(ClientError::Unsupported(
                "tokens of auth/login that are bound to a key",
            ));
        }
        let endpoint = "auth/login";
        let reply = self.wire.send(endpoint, request, Shows::Nothing).await?;
        reply.json(endpoint)
    }

    /// `auth/revoke`: `revoked`, an access or refresh token of the same client and person, is worth nothing from then on. With a
    /// refresh token goes everything that came of it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn revoke(
        &self,
        token: &SecretText,
        revoked: &SecretText,
    ) -> Result<(), ClientError> {
        let endpoint = "auth/revoke";
        let body = json!({ "token": revoked.expose() });
        let reply = self.once(endpoint, token, &body).await?;
        reply.done(endpoint).map(drop)
    }

    /// `oauth2/revoke`: the same by the client itself, which needs no other token for it.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Unsupported`] when the authorization server names no such endpoint.
    pub async fn revoke_as_client(
        &self,
        provider: &Provider,
        revoked: &SecretText,
    ) -> Result<(), ClientError> {
        let endpoints = &provider.endpoints;
        let url = endpoints.revocation.as_ref();
        let url = url.ok_or(ClientError::Unsupported("revocation of tokens"))?;
        let form = vec![
            ("token", revoked.expose().to_owned()),
            ("client_id", self.credentials.client_id.clone()),
        ];
        let endpoint = "oauth2/revoke";
        let request = self.form(url, endpoints, form)?;
        let reply = self.wire.send(endpoint, request, Shows::Nothing).await?;
        reply.done(endpoint).map(drop)
    }
}
