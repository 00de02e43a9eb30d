//! The authorization server, as far as it shows without a person in a browser: what it says about itself, and what it refuses.

use csc_types::{Info, SecretText, ServerMetadata};
use serde_json::Value;
use url::Url;

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
const AUTHORIZE: &str = "8.2.2";
const TOKEN: &str = "8.2.4";

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
const ONCE: &str = "a code works once";

/// An authorization server and what it says about itself.
struct Server {
    endpoints: Endpoints,
    revoke: Option<Url>,
}

/// What an authorization request comes to.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    /// Back to the client, with these parameters.
    Back(Vec<(String, String)>),
    /// A page that says no.
    Refused,
    /// A page where it goes on.
    GoesOn,
    /// To somebody else.
    Elsewhere(String),
}

impl Run<'_> {
    pub(super) async fn oauth(&mut self, info: &Value, means: &Means) -> Result<(), ClientError> {
        let Some(server) = self.server(info).await? else {
            self.skip_oauth("an authorization server");
            return Ok(());
        };
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
        let came = self.ask(&server, &request, ELSEWHERE).await?;
        self.judge(
            "an unknown client isn't sent back",
            AUTHORIZE,
            Kind::Negative,
            (came != Came::Refused).then(|| format!("{came:?}")),
        );
        match &means.client {
            Some(client) => {
                self.tokens(&server, client).await?;
                self.authorizations(&server, client).await?;
                self.pushed(&server, client).await?;
            }
            None => {
                for (name, clause, kind) in WITH_A_CLIENT {
                    self.skip(name, clause, kind, "a registered client");
                }
            }
        }
        self.skip(ONCE, TOKEN, Kind::Replay, "a browser that brings a code");
        Ok(())
    }

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
        let last = [(ONCE, TOKEN, Kind::Replay)];
        for (name, clause, kind) in first.into_iter().chain(WITH_A_CLIENT).chain(last) {
            self.skip(name, clause, kind, needs);
        }
    }

    /// Finds the server by `info`, and judges its metadata.
    async fn server(&mut self, info: &Value) -> Result<Option<Server>, ClientError> {
        let Ok(info) = serde_json::from_value::<Info>(info.clone()) else {
            return Ok(None);
        };
        let Ok((found, _)) = authority(&info) else {
            return Ok(None);
        };
        let (issuer, needed) = match &found {
            Authority::Issuer(issuer) => (issuer, true),
            Authority::Base(base) => (base, false),
        };
        let mut metadata = None;
        for url in metadata_urls(issuer)? {
            let answer = self.service.visit(&url).await?;
            if answer.status == 200 {
                metadata = answer.json();
                break;
            }
        }
        let Some(metadata) = metadata else {
            // With `oauth2` the addresses are fixed, and nobody has to publish them.
            let announced = "PKCE with S256 is announced";
            match needed {
                true => {
                    let fault = Some("oauth2Issuer has no metadata".to_owned());
                    self.judge(METADATA, "RFC 8414 3.3", Kind::Encoding, fault);
                }
                false => self.skip(METADATA, "RFC 8414 3.3", Kind::Encoding, "metadata"),
            }
            self.skip(announced, "RFC 8414 2", Kind::Encoding, "metadata");
            let revoke = format!("{issuer}/oauth2/revoke");
            let revokes = info.methods.iter().any(|m| m == "oauth2/revoke");
            let endpoints = fixed_endpoints(issuer, &info, self.service.version()).ok();
            return Ok(endpoints.filter(|_| !needed).map(|endpoints| Server {
                endpoints,
                revoke: safe_url(&revoke).ok().filter(|_| revokes),
            }));
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
        let Ok((endpoints, metadata)) = read else {
            return Ok(None);
        };
        let methods = &metadata.code_challenge_methods_supported;
        let fault = (!methods.iter().any(|m| m == "S256")).then(|| format!("{methods:?}"));
        self.judge(
            "PKCE with S256 is announced",
            "RFC 8414 2",
            Kind::Encoding,
            fault,
        );
        let revoke = metadata.revocation_endpoint.as_deref();
        Ok(Some(Server {
            endpoints,
            revoke: revoke.and_then(|url| safe_url(url).ok()),
        }))
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
            let fault = refusal(&answer.await?, &[400]);
            self.judge(name, TOKEN, Kind::Negative, fault);
        }
        match &server.revoke {
            Some(url) => {
                let form = [("token", "invented")];
                let answer = self
                    .authenticated(server, url, (client, good), &form)
                    .await?;
                let done = matches!(answer.status, 200 | 204);
                let fault = refusal(&answer, &[400]).filter(|_| !done);
                self.judge(REVOKE, "8.2.5", Kind::Negative, fault);
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

    async fn authenticated(
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
        self.judge(BACK, "RFC 9207 2", Kind::Encoding, fault);
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
        if !server.endpoints.pushed_is_sure && matches!(answer.status, 404 | 405 | 501) {
            for (name, clause, kind) in cases {
                self.skip(name, clause, kind, "a server that takes pushed requests");
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

const METADATA: &str = "the authorization server's metadata are its own";

impl Came {
    /// What is wrong if nothing should have come of it.
    fn not_refused(&self) -> Option<String> {
        let error = |given: &[(String, String)]| given.iter().any(|(name, _)| name == "error");
        match self {
            Self::Refused => None,
            Self::Back(given) if error(given) => None,
            other => Some(format!("{other:?}")),
        }
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

fn request<'a>(client: &'a str, redirect_uri: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", redirect_uri),
        ("scope", "service"),
        ("state", STATE),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ]
}

fn without_pkce<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = pairs.iter().filter(|(name, _)| !name.starts_with("code_"));
    kept.copied().collect()
}

fn came(from: &Url, answer: &Answer, redirect_uri: &str) -> Came {
    let to = answer.leads_to.as_deref().and_then(|to| from.join(to).ok());
    match to {
        Some(to) => {
            let (path, query) = match to.as_str().split_once('?') {
                Some((path, query)) => (path, query),
                None => (to.as_str(), ""),
            };
            if path == redirect_uri {
                let given = url::form_urlencoded::parse(query.as_bytes()).into_owned();
                Came::Back(given.collect())
            } else if to.origin() == from.origin() {
                Came::GoesOn
            } else {
                Came::Elsewhere(path.to_owned())
            }
        }
        None if answer.status >= 400 => Came::Refused,
        None => Came::GoesOn,
    }
}
