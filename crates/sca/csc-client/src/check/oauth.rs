//! The authorization server, as far as it shows without a person in a browser: what it says about itself, and what it refuses.

mod asked;

use std::sync::Arc;

use asked::{Came, came, request, without_pkce};
use csc_types::{Info, SecretText, ServerMetadata};
use serde_json::Value;
use url::Url;

use super::codes::WITH_A_PERSON;
use super::{ClientMeans, Kind, Means, Run, refusal};
use crate::discover::{
    Authority, Endpoints, announced_endpoints, authority, fixed_endpoints, metadata_urls,
};
use crate::error::ClientError;
use crate::http::safe_url;
use crate::plain::{Answer, Proof};
use crate::version::Version;

/// Base64url of the SHA-256 of nothing that anybody has.
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const STATE: &str = "state-of-a-check";
const STRANGER: &str = "no-client-of-yours";
const ELSEWHERE: &str = "https://elsewhere.invalid/callback";
pub(super) const AUTHORIZE: &str = "8.2.2";
pub(super) const TOKEN: &str = "8.2.4";

/// The cases that need a registered client, for when there is none.
const WITH_A_CLIENT: [(&str, &str, Kind); 14] = [
    (REVOKE, "8.2.5", Kind::Negative),
    (UNKNOWN_CODE, TOKEN, Kind::Negative),
    ("an unknown grant_type is refused", TOKEN, Kind::Negative),
    ("an unknown refresh token is refused", TOKEN, Kind::Negative),
    ("a wrong client secret is refused", TOKEN, Kind::Negative),
    (NO_PKCE, AUTHORIZE, Kind::Negative),
    (PLAIN, "RFC 9700 2.1.1", Kind::Negative),
    (REDIRECT, AUTHORIZE, Kind::Negative),
    ("the implicit grant is refused", AUTHORIZE, Kind::Negative),
    (BACK, "RFC 9207 2", Kind::Encoding),
    ("a request is pushed", "8.2.3", Kind::Positive),
    (
        "a pushed request without PKCE is refused",
        "8.2.3",
        Kind::Negative,
    ),
    (
        "a request_uri of somebody else is refused",
        "8.2.3",
        Kind::WrongUser,
    ),
    ("a request_uri works once", "RFC 9126 4", Kind::Replay),
];
const UNKNOWN_CODE: &str = "an unknown code is refused";
const NO_PKCE: &str = "an authorization without PKCE is refused";
const PLAIN: &str = "PKCE with plain is refused";
const REDIRECT: &str = "an unknown redirect_uri isn't followed";
const BACK: &str = "a refusal brings state back, and iss if it is announced";
/// RFC 7009 calls it done, the table of the specification an error.
const REVOKE: &str = "to revoke an unknown token is done, or refused";
const METADATA: &str = "the authorization server's metadata are its own";
const ANSWERS: &str = "the authorization server answers every request";
/// What a client without a shared secret lacks here.
pub(super) const AUTHENTICATED: &str = "a client that this program can authenticate";

/// An authorization server and what it says about itself.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) endpoints: Endpoints,
    pub(super) revoke: Option<Url>,
}

impl Run<'_> {
    /// A server that can't be reached is a fault like others: it doesn't end the check.
    pub(super) async fn oauth(&mut self, info: &Value, means: &Means) {
        let Some(server) = self.server(info).await else {
            self.skip_oauth("an authorization server");
            return;
        };
        let server = Arc::new(server);
        let ended = self.requests(&server, info, means).await.err();
        let (silent, fault) = (ended.is_some(), ended.map(|e| e.to_string()));
        self.judge(ANSWERS, "8.2", Kind::Positive, fault);
        match silent {
            true => self.skip_oauth("an authorization server that answers"),
            false => self.server = Some(server),
        }
    }

    async fn requests(
        &mut self,
        server: &Server,
        info: &Value,
        means: &Means,
    ) -> Result<(), ClientError> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", "invented"),
            ("code_verifier", CHALLENGE),
            ("client_id", STRANGER),
            ("redirect_uri", ELSEWHERE),
        ];
        let token = &server.endpoints.token;
        let answer = self.service.form(token, Proof::None, &form).await?;
        self.judge(
            "the token endpoint refuses an unknown client",
            TOKEN,
            Kind::Negative,
            not_authenticated(&answer),
        );
        let request = request(STRANGER, ELSEWHERE);
        let came = self.ask(server, &request, ELSEWHERE).await?;
        self.judge(
            "an unknown client isn't sent back",
            AUTHORIZE,
            Kind::Negative,
            (came != Came::Refused).then(|| format!("{came:?}")),
        );
        match &means.client {
            Some(client) => {
                self.tokens(server, client).await?;
                self.authorizations(server, client).await?;
                self.pushed(server, client).await?;
                self.codes(server, info, client, means).await
            }
            None => {
                self.skip_all(&WITH_A_CLIENT, "a registered client");
                self.skip_all(&WITH_A_PERSON, "a registered client");
                Ok(())
            }
        }
    }

    /// Names what wasn't tried of the cases of the authorization server.
    fn skip_oauth(&mut self, needs: &'static str) {
        let first = [
            (METADATA, "RFC 8414 3.3", Kind::Encoding),
            ("PKCE with S256 is announced", "RFC 8414 2", Kind::Encoding),
            (
                "the token endpoint refuses an unknown client",
                TOKEN,
                Kind::Negative,
            ),
            (
                "an unknown client isn't sent back",
                AUTHORIZE,
                Kind::Negative,
            ),
        ];
        let last = [(ANSWERS, "8.2", Kind::Positive)];
        let all = first.into_iter().chain(WITH_A_CLIENT);
        for (name, clause, kind) in all.chain(WITH_A_PERSON).chain(last) {
            if self.cases.iter().all(|case| case.name != name) {
                self.skip(name, clause, kind, needs);
            }
        }
    }

    /// Finds the server by `info`, and judges its metadata.
    async fn server(&mut self, info: &Value) -> Option<Server> {
        let info = serde_json::from_value::<Info>(info.clone()).ok()?;
        let (found, _) = authority(&info).ok()?;
        let (issuer, needed) = match &found {
            Authority::Issuer(issuer) => (issuer, true),
            Authority::Base(base) => (base, false),
        };
        let urls = match metadata_urls(issuer) {
            Ok(urls) => urls,
            Err(error) => {
                let fault = Some(error.to_string());
                self.judge(METADATA, "RFC 8414 3.3", Kind::Encoding, fault);
                return None;
            }
        };
        let mut metadata = None;
        let mut none = "oauth2Issuer has no metadata".to_owned();
        for url in urls {
            match self.service.visit(&url).await {
                Ok(answer) if answer.status == 200 => {
                    metadata = answer.json();
                    break;
                }
                Ok(_) => {}
                Err(error) => none = error.to_string(),
            }
        }
        let Some(metadata) = metadata else {
            // With `oauth2` the addresses are fixed, and nobody has to publish them.
            let announced = "PKCE with S256 is announced";
            match needed {
                true => self.judge(METADATA, "RFC 8414 3.3", Kind::Encoding, Some(none)),
                false => self.skip(METADATA, "RFC 8414 3.3", Kind::Encoding, "metadata"),
            }
            self.skip(announced, "RFC 8414 2", Kind::Encoding, "metadata");
            let revoke = format!("{issuer}/oauth2/revoke");
            let revokes = info.methods.iter().any(|m| m == "oauth2/revoke");
            let endpoints = fixed_endpoints(issuer, &info, self.service.version()).ok();
            return endpoints.filter(|_| !needed).map(|endpoints| Server {
                endpoints,
                revoke: safe_url(&revoke).ok().filter(|_| revokes),
            });
        };
        let read = serde_json::from_value::<ServerMetadata>(metadata);
        let read = read.map_err(|e| e.to_string()).and_then(|metadata| {
            if metadata.issuer != *issuer {
                return Err(format!("the issuer is {:?}", metadata.issuer));
            }
            let endpoints = announced_endpoints(&metadata).map_err(|e| e.to_string())?;
            Ok((endpoints, metadata))
        });
        let fault = read.as_ref().err().cloned();
        self.judge(METADATA, "RFC 8414 3.3", Kind::Encoding, fault);
        let (endpoints, metadata) = read.ok()?;
        let methods = &metadata.code_challenge_methods_supported;
        let fault = (!methods.iter().any(|m| m == "S256")).then(|| format!("{methods:?}"));
        self.judge(
            "PKCE with S256 is announced",
            "RFC 8414 2",
            Kind::Encoding,
            fault,
        );
        let revoke = metadata.revocation_endpoint.as_deref();
        Some(Server {
            endpoints,
            revoke: revoke.and_then(|url| safe_url(url).ok()),
        })
    }

    /// The token endpoint, with the client's authentication.
    async fn tokens(&mut self, server: &Server, client: &ClientMeans) -> Result<(), ClientError> {
        let good = client.secret.as_ref();
        let code = [
            ("grant_type", "authorization_code"),
            ("code", "invented"),
            ("code_verifier", CHALLENGE),
            ("redirect_uri", client.redirect_uri.as_str()),
        ];
        let refresh = [
            ("grant_type", "refresh_token"),
            ("refresh_token", "invented"),
        ];
        let unknown = [("grant_type", "invented")];
        for (name, form) in [
            (UNKNOWN_CODE, &code[..]),
            ("an unknown grant_type is refused", &unknown[..]),
            ("an unknown refresh token is refused", &refresh[..]),
        ] {
            let answer = self.authenticated(server, &server.endpoints.token, (client, good), form);
            let answer = answer.await?;
            match good.is_none() && answer.status == 401 {
                true => self.skip(name, TOKEN, Kind::Negative, AUTHENTICATED),
                false => self.judge(name, TOKEN, Kind::Negative, refusal(&answer, &[400])),
            }
        }
        match &server.revoke {
            Some(url) => {
                let form = [("token", "invented")];
                let answer = self
                    .authenticated(server, url, (client, good), &form)
                    .await?;
                let done = matches!(answer.status, 200 | 204);
                let fault = refusal(&answer, &[400]).filter(|_| !done);
                match good.is_none() && answer.status == 401 {
                    true => self.skip(REVOKE, "8.2.5", Kind::Negative, AUTHENTICATED),
                    false => self.judge(REVOKE, "8.2.5", Kind::Negative, fault),
                }
            }
            None => self.skip(REVOKE, "8.2.5", Kind::Negative, "a server that revokes"),
        }
        let name = "a wrong client secret is refused";
        match good {
            Some(_) => {
                let wrong = SecretText::new("this-is-not-the-secret".to_owned());
                let with = (client, Some(&wrong));
                let answer = self.authenticated(server, &server.endpoints.token, with, &code);
                let fault = not_authenticated(&answer.await?);
                self.judge(name, TOKEN, Kind::Negative, fault);
            }
            None => self.skip(name, TOKEN, Kind::Negative, "a client with a secret"),
        }
        Ok(())
    }

    pub(super) async fn authenticated(
        &self,
        server: &Server,
        url: &Url,
        (client, secret): (&ClientMeans, Option<&SecretText>),
        form: &[(&str, &str)],
    ) -> Result<Answer, ClientError> {
        let encode =
            |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let mut form = form.to_vec();
        // A pushed request names its client itself.
        if !form.iter().any(|(name, _)| *name == "client_id") {
            form.push(("client_id", &client.id));
        }
        let (id, encoded) = (
            encode(&client.id),
            secret.map(|secret| SecretText::new(encode(secret.expose()))),
        );
        let proof = match (&encoded, secret) {
            (Some(_), Some(secret)) if server.endpoints.secret_in_body => {
                form.push(("client_secret", secret.expose()));
                Proof::None
            }
            (Some(password), _) => Proof::Basic {
                name: &id,
                password,
            },
            (None, _) => Proof::None,
        };
        self.service.form(url, proof, &form).await
    }

    /// What the authorization endpoint refuses before anybody is asked.
    async fn authorizations(
        &mut self,
        server: &Server,
        client: &ClientMeans,
    ) -> Result<(), ClientError> {
        let back = client.redirect_uri.as_str();
        let good = request(&client.id, back);
        let without = without_pkce(&good);
        let mut plain = without.clone();
        plain.extend([
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "plain"),
        ]);
        let implicit: Vec<_> = good
            .iter()
            .map(|&(name, value)| match name {
                "response_type" => (name, "token"),
                _ => (name, value),
            })
            .collect();
        let v1 = self.service.version() == Version::V1;
        for (name, clause, pairs) in [
            (NO_PKCE, AUTHORIZE, &without),
            (PLAIN, "RFC 9700 2.1.1", &plain),
        ] {
            if v1 {
                self.skip(
                    name,
                    clause,
                    Kind::Negative,
                    "version 2: version 1 has no PKCE",
                );
                continue;
            }
            let came = self.ask(server, pairs, back).await?;
            self.judge(name, clause, Kind::Negative, came.not_refused());
        }
        let name = "the implicit grant is refused";
        let came = self.ask(server, &implicit, back).await?;
        self.judge(name, AUTHORIZE, Kind::Negative, came.not_refused());
        let fault = match &came {
            Came::Back(given) => {
                let has =
                    |name: &str, value: &str| given.iter().any(|(n, v)| n == name && v == value);
                let issuer = server.endpoints.issuer.as_deref();
                let issuer = issuer.filter(|_| server.endpoints.iss_is_sent);
                let good = has("state", STATE) && issuer.is_none_or(|issuer| has("iss", issuer));
                (!good).then(|| format!("{given:?}"))
            }
            other => Some(format!("{other:?}")),
        };
        let pushed_only = "a server that takes requests that weren't pushed";
        match came {
            // With a page, as clients are answered that have to push (FAPI 2.0).
            Came::Refused => self.skip(BACK, "RFC 9207 2", Kind::Encoding, pushed_only),
            _ => self.judge(BACK, "RFC 9207 2", Kind::Encoding, fault),
        }
        let elsewhere = request(&client.id, ELSEWHERE);
        let came = self.ask(server, &elsewhere, ELSEWHERE).await?;
        let fault = (came != Came::Refused).then(|| format!("{came:?}"));
        self.judge(REDIRECT, AUTHORIZE, Kind::Negative, fault);
        Ok(())
    }

    /// Pushed requests (RFC 9126).
    async fn pushed(&mut self, server: &Server, client: &ClientMeans) -> Result<(), ClientError> {
        let cases = WITH_A_CLIENT.into_iter().skip(10);
        let Some(url) = server.endpoints.pushed.clone() else {
            for (name, clause, kind) in cases {
                self.skip(name, clause, kind, "a server that takes pushed requests");
            }
            return Ok(());
        };
        let back = client.redirect_uri.as_str();
        let good = request(&client.id, back);
        let with = (client, client.secret.as_ref());
        let answer = self.authenticated(server, &url, with, &good).await?;
        let lacks = match answer.status {
            401 if client.secret.is_none() => Some(AUTHENTICATED),
            404 | 405 | 501 if !server.endpoints.pushed_is_sure => {
                Some("a server that takes pushed requests")
            }
            _ => None,
        };
        if let Some(needs) = lacks {
            for (name, clause, kind) in cases {
                self.skip(name, clause, kind, needs);
            }
            return Ok(());
        }
        let reference = answer.text("request_uri");
        let life = answer
            .json()
            .is_some_and(|told| told["expires_in"].is_u64());
        let fault = (answer.status != 201 || reference.is_none() || !life).then(|| {
            format!(
                "status {} and {:?}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            )
        });
        self.judge("a request is pushed", "8.2.3", Kind::Positive, fault);
        let without = without_pkce(&good);
        let answer = self.authenticated(server, &url, with, &without).await?;
        let fault = refusal(&answer, &[400]);
        self.judge(
            "a pushed request without PKCE is refused",
            "8.2.3",
            Kind::Negative,
            fault,
        );
        let foreign = "a request_uri of somebody else is refused";
        let once = "a request_uri works once";
        let Some(reference) = reference else {
            self.skip(foreign, "8.2.3", Kind::WrongUser, "a request_uri");
            self.skip(once, "RFC 9126 4", Kind::Replay, "a request_uri");
            return Ok(());
        };
        let of = |id| vec![("client_id", id), ("request_uri", reference.as_str())];
        let came = self.ask(server, &of(STRANGER), back).await?;
        self.judge(foreign, "8.2.3", Kind::WrongUser, came.not_refused());
        let own = of(client.id.as_str());
        let first = self.ask(server, &own, back).await?;
        let again = self.ask(server, &own, back).await?;
        let fault = match first {
            Came::GoesOn => again.not_refused(),
            other => Some(format!("the first time: {other:?}")),
        };
        self.judge(once, "RFC 9126 4", Kind::Replay, fault);
        Ok(())
    }

    async fn ask(
        &self,
        server: &Server,
        pairs: &[(&str, &str)],
        redirect_uri: &str,
    ) -> Result<Came, ClientError> {
        let mut url = server.endpoints.authorize.clone();
        url.query_pairs_mut().extend_pairs(pairs);
        let answer = self.service.visit(&url).await?;
        Ok(came(&url, &answer, redirect_uri))
    }
}

/// What is wrong if a client should not have been believed: about the code, which is invented too, nobody else learns anything.
fn not_authenticated(answer: &Answer) -> Option<String> {
    let grant = || {
        let error = answer.text("error");
        let late = error.as_deref() == Some("invalid_grant");
        late.then(|| "the code was looked at before the client".to_owned())
    };
    refusal(answer, &[400, 401]).or_else(grant)
}
