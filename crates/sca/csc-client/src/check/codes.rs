//! Codes that somebody brings, and the tokens that come of them: what a code is good for, and how often; refreshing and revoking.

use core_types::bytes::b64u;
use core_types::sha256;
use csc_types::SecretText;
use serde_json::{Value, json};
use url::Url;

use super::oauth::{AUTHENTICATED, AUTHORIZE, Server, TOKEN};
use super::offered::named;
use super::person::Errand;
use super::{ClientMeans, Kind, Means, Run, ok, refusal};
use crate::error::ClientError;
use crate::plain::{Answer, Proof};
use crate::version::Version;

const LED_BACK: &str = "a login leads back with a code";
const READS: &str = "a code brings a token that reads";
const ONCE: &str = "a code works once";
const VERIFIER: &str = "a wrong code_verifier is refused";
const REDIRECT: &str = "another redirect_uri at the token endpoint is refused";
const REFRESHED: &str = "a refresh token brings a token";
const REPLACED: &str = "a refresh token that was replaced is refused";
const ENDED: &str = "a token that was revoked is refused";
/// The good use of `auth/revoke`.
pub(super) const REVOKED: &str = "a token is revoked";

/// Cases that need somebody who logs in, for when there is nobody.
pub(super) const WITH_A_PERSON: [(&str, &str, Kind); 8] = [
    (LED_BACK, AUTHORIZE, Kind::Positive),
    (READS, TOKEN, Kind::Positive),
    (ONCE, TOKEN, Kind::Replay),
    (VERIFIER, "RFC 7636 4.6", Kind::Negative),
    (REDIRECT, TOKEN, Kind::Negative),
    (REFRESHED, TOKEN, Kind::Positive),
    (REPLACED, "RFC 9700 4.14.2", Kind::Replay),
    (ENDED, "8.2.5", Kind::Negative),
];

/// What a token that reads is asked for.
pub(super) const SERVICE: &[(&str, &str)] = &[("scope", "service")];

/// A code, and what alone redeems it.
pub(super) struct Code {
    code: String,
    verifier: String,
}

impl Run<'_> {
    /// What codes are good for. Each case has one of its own: a code that was misused takes its tokens with it.
    pub(super) async fn codes(
        &mut self,
        server: &Server,
        info: &Value,
        client: &ClientMeans,
        means: &Means,
    ) -> Result<(), ClientError> {
        if self.person.is_none() {
            self.skip_all(&WITH_A_PERSON, "somebody who logs in");
            return Ok(());
        }
        let first = self.code(server, (client, means), SERVICE, Errand::LogIn);
        let first = match first.await? {
            Ok(code) => code,
            Err(why) => {
                self.judge(LED_BACK, AUTHORIZE, Kind::Positive, Some(why));
                self.skip_all(&WITH_A_PERSON[1..], "a code");
                return Ok(());
            }
        };
        self.judge(LED_BACK, AUTHORIZE, Kind::Positive, None);
        let answer = self.redeem(server, client, &first).await?;
        if answer.status == 401 && client.secret.is_none() {
            self.skip_all(&WITH_A_PERSON[1..], AUTHENTICATED);
            return Ok(());
        }
        let token = answer.text("access_token");
        let fault = match ok(&answer).or_else(|| not_bearer(&answer)) {
            None => self.reads(info, token.clone()).await?,
            fault => fault,
        };
        let good = fault.is_none();
        self.judge(READS, TOKEN, Kind::Positive, fault);
        self.token = token.map(SecretText::new).filter(|_| good);
        self.misused(server, (client, means)).await?;
        self.refreshed(server, (client, means)).await?;
        self.ended(server, info, (client, means)).await
    }

    /// Codes that come twice, with another verifier, or for another address.
    async fn misused(
        &mut self,
        server: &Server,
        (client, means): (&ClientMeans, &Means),
    ) -> Result<(), ClientError> {
        let v1 = self.service.version() == Version::V1;
        let elsewhere = ClientMeans {
            redirect_uri: format!("{}/other", client.redirect_uri),
            ..client.clone()
        };
        for &(name, clause, kind) in &WITH_A_PERSON[2..5] {
            if name == VERIFIER && v1 {
                self.skip(name, clause, kind, "version 2: version 1 has no PKCE");
                continue;
            }
            let code = self.code(server, (client, means), SERVICE, Errand::LogIn);
            let fault = match code.await? {
                Err(why) => Some(why),
                Ok(mut code) if name == VERIFIER => {
                    code.verifier = self.draw("another verifier", means);
                    refusal(&self.redeem(server, client, &code).await?, &[400])
                }
                Ok(code) if name == REDIRECT => {
                    refusal(&self.redeem(server, &elsewhere, &code).await?, &[400])
                }
                Ok(code) => {
                    let first = self.redeem(server, client, &code).await?;
                    let again = self.redeem(server, client, &code).await?;
                    let first = ok(&first).map(|why| format!("the first time: {why}"));
                    first.or_else(|| refusal(&again, &[400]))
                }
            };
            self.judge(name, clause, kind, fault);
        }
        Ok(())
    }

    async fn refreshed(
        &mut self,
        server: &Server,
        with: (&ClientMeans, &Means),
    ) -> Result<(), ClientError> {
        let cases = &WITH_A_PERSON[5..7];
        let granted = match self.code(server, with, SERVICE, Errand::LogIn).await? {
            Ok(code) => self.redeem(server, with.0, &code).await?,
            Err(_) => {
                self.skip_all(cases, "a code");
                return Ok(());
            }
        };
        let Some(old) = granted.text("refresh_token") else {
            self.skip_all(cases, "a client that gets refresh tokens");
            return Ok(());
        };
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", old.as_str()),
        ];
        let by = (with.0, with.0.secret.as_ref());
        let url = &server.endpoints.token;
        let answer = self.authenticated(server, url, by, &form).await?;
        let none = || answer.text("access_token").is_none();
        let fault = ok(&answer).or_else(|| none().then(|| "no access_token".to_owned()));
        let good = fault.is_none();
        self.judge(REFRESHED, TOKEN, Kind::Positive, fault);
        let next = answer.text("refresh_token").filter(|_| good);
        let (name, clause, kind) = cases[1];
        match next.filter(|next| *next != old) {
            Some(_) => {
                let again = self.authenticated(server, url, by, &form).await?;
                self.judge(name, clause, kind, refusal(&again, &[400]));
            }
            None => self.skip(name, clause, kind, "a refresh token that is replaced"),
        }
        Ok(())
    }

    /// Tokens that are revoked: at the authorization server, and by `auth/revoke`.
    async fn ended(
        &mut self,
        server: &Server,
        info: &Value,
        with: (&ClientMeans, &Means),
    ) -> Result<(), ClientError> {
        let by = (with.0, with.0.secret.as_ref());
        match &server.revoke {
            Some(url) => {
                let fault = match self.fresh(server, with).await? {
                    Err(why) => Some(why),
                    Ok(token) => {
                        let form = [("token", token.expose())];
                        let done = self.authenticated(server, url, by, &form).await?;
                        self.is_over(&done, &token).await?
                    }
                };
                self.judge(ENDED, "8.2.5", Kind::Negative, fault);
            }
            None => self.skip(ENDED, "8.2.5", Kind::Negative, "a server that revokes"),
        }
        if !named(info, "auth/revoke") {
            return Ok(());
        }
        let fault = match self.fresh(server, with).await? {
            Err(why) => Some(why),
            Ok(token) => {
                let body = json!({ "token": token.expose(), "token_type_hint": "access_token" });
                let bearer = Proof::Bearer(&token);
                let done = self.service.call("auth/revoke", bearer, &body).await?;
                self.is_over(&done, &token).await?
            }
        };
        self.judge(REVOKED, "11.3", Kind::Positive, fault);
        Ok(())
    }

    /// What is wrong after a token was revoked.
    async fn is_over(
        &self,
        done: &Answer,
        token: &SecretText,
    ) -> Result<Option<String>, ClientError> {
        if !matches!(done.status, 200 | 204) {
            return Ok(Some(format!("status {} and not 204", done.status)));
        }
        let (all, bearer) = (json!({}), Proof::Bearer(token));
        let list = self.service.call("credentials/list", bearer, &all).await?;
        let after = refusal(&list, &[400, 401]);
        Ok(after.map(|why| format!("afterwards: {why}")))
    }

    /// A token of scope `service` for one case.
    async fn fresh(
        &mut self,
        server: &Server,
        with: (&ClientMeans, &Means),
    ) -> Result<Result<SecretText, String>, ClientError> {
        let code = match self.code(server, with, SERVICE, Errand::LogIn).await? {
            Ok(code) => code,
            Err(why) => return Ok(Err(why)),
        };
        let answer = self.redeem(server, with.0, &code).await?;
        let token = answer.text("access_token").map(SecretText::new);
        Ok(token.ok_or_else(|| format!("status {} and no access_token", answer.status)))
    }

    /// What is wrong with a token that should read.
    pub(super) async fn reads(
        &self,
        info: &Value,
        token: Option<String>,
    ) -> Result<Option<String>, ClientError> {
        let Some(token) = token.map(SecretText::new) else {
            return Ok(Some("no access_token".to_owned()));
        };
        if !named(info, "credentials/list") {
            return Ok(None);
        }
        let (all, bearer) = (json!({}), Proof::Bearer(&token));
        let list = self.service.call("credentials/list", bearer, &all).await?;
        Ok(ok(&list).map(|why| format!("credentials/list: {why}")))
    }

    /// Has somebody go through an authorization for `asked`.
    pub(super) async fn code(
        &mut self,
        server: &Server,
        (client, means): (&ClientMeans, &Means),
        asked: &[(&str, &str)],
        errand: Errand<'_>,
    ) -> Result<Result<Code, String>, ClientError> {
        let (verifier, state) = (self.draw("verifier", means), self.draw("state", means));
        let challenge = b64u(sha256(&[verifier.as_bytes()]));
        let mut pairs = vec![
            ("response_type", "code"),
            ("client_id", client.id.as_str()),
            ("redirect_uri", client.redirect_uri.as_str()),
            ("state", state.as_str()),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ];
        pairs.extend_from_slice(asked);
        let url = self.begun(server, client, &pairs).await?;
        let Some(person) = &mut self.person else {
            return Ok(Err("nobody is there to log in".to_owned()));
        };
        let back = person.bring(&url, &client.redirect_uri, errand).await;
        let code = back.and_then(|back| code_of(server, &back, &client.redirect_uri, &state));
        Ok(code.map(|code| Code { code, verifier }))
    }

    /// Where the browser begins: with a pushed request, where the server takes them from this client.
    async fn begun(
        &self,
        server: &Server,
        client: &ClientMeans,
        pairs: &[(&str, &str)],
    ) -> Result<Url, ClientError> {
        let endpoints = &server.endpoints;
        let mut url = endpoints.authorize.clone();
        if let Some(push) = endpoints
            .pushed
            .as_ref()
            .filter(|_| endpoints.pushed_is_sure)
        {
            let with = (client, client.secret.as_ref());
            let answer = self.authenticated(server, push, with, pairs).await?;
            if let Some(reference) = answer.text("request_uri") {
                let short = [("client_id", &client.id), ("request_uri", &reference)];
                url.query_pairs_mut().extend_pairs(short);
                return Ok(url);
            }
        }
        url.query_pairs_mut().extend_pairs(pairs);
        Ok(url)
    }

    pub(super) async fn redeem(
        &self,
        server: &Server,
        client: &ClientMeans,
        code: &Code,
    ) -> Result<Answer, ClientError> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.code.as_str()),
            ("redirect_uri", client.redirect_uri.as_str()),
            ("code_verifier", code.verifier.as_str()),
        ];
        let with = (client, client.secret.as_ref());
        self.authenticated(server, &server.endpoints.token, with, &form)
            .await
    }

    /// Something that nobody else knows, and that comes once.
    fn draw(&mut self, what: &str, means: &Means) -> String {
        self.drawn += 1;
        let n = self.drawn.to_be_bytes();
        let label = b"natsuin csc check\n";
        b64u(sha256(&[label, what.as_bytes(), b"\n", &n, &means.hash]))
    }
}

/// The code in the address that the browser was sent to, which has to be this authorization's.
fn code_of(server: &Server, back: &Url, redirect: &str, state: &str) -> Result<String, String> {
    let given = |name: &str| {
        let found = back.query_pairs().find(|(n, _)| n == name);
        found.map(|(_, value)| value.into_owned())
    };
    let there = back.as_str().split('?').next();
    if there != redirect.split('?').next() {
        return Err(format!("sent to {}", there.unwrap_or_default()));
    }
    if let Some(error) = given("error") {
        let words = given("error_description").unwrap_or_default();
        return Err(format!("sent back with {error} {words}"));
    }
    if given("state").as_deref() != Some(state) {
        return Err("sent back with another state".to_owned());
    }
    let issuer = server.endpoints.issuer.as_deref();
    let issuer = issuer.filter(|_| server.endpoints.iss_is_sent);
    if issuer.is_some() && given("iss").as_deref() != issuer {
        return Err("sent back without the iss that is announced".to_owned());
    }
    given("code").ok_or_else(|| "sent back without a code".to_owned())
}

/// What is wrong with the type of a token that is sent as a bearer token.
fn not_bearer(answer: &Answer) -> Option<String> {
    let kind = answer.text("token_type").unwrap_or_default();
    (!kind.eq_ignore_ascii_case("bearer")).then(|| format!("token_type is {kind:?}"))
}
