//! Does a provider do what the specification says? Single cases, each with what was expected and what came.
//!
//! Cases that need something which wasn't given (a token, a key, its secrets) are reported as not tested, never as good.

mod approval;
mod codes;
mod known;
mod oauth;
mod offered;
mod person;
mod signing;
mod value;

use std::borrow::Cow;
use std::sync::Arc;

use csc_types::SecretText;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::ClientError;
use crate::plain::{Answer, Proof, Service};
use crate::version::Version;
use oauth::Server;
pub use person::{Brought, Errand, Person};

/// What a case is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Good use works.
    Positive,
    /// Bad input gets its error.
    Negative,
    /// What was used doesn't work again.
    Replay,
    /// What belongs to somebody else stays theirs.
    WrongUser,
    /// Bytes have the prescribed form.
    Encoding,
}

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// As the specification says.
    Passed,
    /// Otherwise.
    Failed {
        /// What was expected and what came.
        why: String,
    },
    /// Something that it needs wasn't given.
    NotTested {
        /// What.
        needs: &'static str,
    },
}

/// A case with its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Case {
    /// What was tried, in words.
    pub name: Cow<'static, str>,
    /// The clause of version 2.2, or the RFC.
    pub clause: &'static str,
    /// What it is about.
    pub kind: Kind,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What the checker may use beside the address.
#[derive(Debug, Clone, Default)]
pub struct Means {
    /// A token of scope `service`; without one, that of the login is used, if there is somebody who logs in.
    pub token: Option<SecretText>,
    /// One of another user.
    pub other: Option<SecretText>,
    /// A credential of the first user.
    pub credential: Option<String>,
    /// PIN and one-time code, for a credential in explicit mode. They are used once, and a signature over random bytes is made.
    pub secrets: Option<(SecretText, SecretText)>,
    /// Name and password for `auth/login`, as they go into its header. They are used once.
    pub login: Option<(String, SecretText)>,
    /// SHA-256 to have signed, of something random: what has to be unknown to others is drawn from it too.
    pub hash: Vec<u8>,
    /// Signature algorithm, one of `key.algo`; without one the first that goes with SHA-256.
    pub sign_algo: Option<String>,
    /// A client of the authorization server. Nobody but a [`Person`] is sent to a browser with it.
    pub client: Option<ClientMeans>,
}

/// A registered client.
#[derive(Debug, Clone)]
pub struct ClientMeans {
    /// Its id.
    pub id: String,
    /// Its secret; `None` for a public client.
    pub secret: Option<SecretText>,
    /// A redirect URI that is registered for it.
    pub redirect_uri: String,
}

/// Tries everything that can be tried with these means, and with the codes that this person brings.
///
/// # Errors
/// When the service gives no answer at all.
pub async fn check<'s>(
    service: &'s Service,
    means: &Means,
    person: Option<&'s mut (dyn Person + 's)>,
) -> Result<Vec<Case>, ClientError> {
    let mut run = Run {
        service,
        cases: Vec::new(),
        person,
        server: None,
        token: None,
        drawn: 0,
    };
    let info = run.open_to_all().await?;
    run.strangers(&info).await?;
    run.logins(&info, means).await?;
    run.oauth(&info, means).await;
    match means.token.clone().or(run.token.take()) {
        Some(token) => {
            run.known(&info, &token, means).await?;
            run.offered(&info, Proof::Bearer(&token)).await?;
        }
        None => {
            run.skip_known();
            run.skip_offered(&info);
        }
    }
    run.untried(&info);
    Ok(run.cases)
}

struct Run<'s> {
    service: &'s Service,
    cases: Vec<Case>,
    person: Option<&'s mut (dyn Person + 's)>,
    /// The authorization server, once it is known to answer.
    server: Option<Arc<Server>>,
    /// What a login brought.
    token: Option<SecretText>,
    /// What was drawn so far.
    drawn: u32,
}

impl Run<'_> {
    fn judge(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        clause: &'static str,
        kind: Kind,
        fault: Option<String>,
    ) {
        let outcome = match fault {
            None => Outcome::Passed,
            Some(why) => Outcome::Failed { why },
        };
        self.cases.push(Case {
            name: name.into(),
            clause,
            kind,
            outcome,
        });
    }

    /// Names cases that weren't tried.
    fn skip_all(&mut self, cases: &[(&'static str, &'static str, Kind)], needs: &'static str) {
        for &(name, clause, kind) in cases {
            self.skip(name, clause, kind, needs);
        }
    }

    fn skip(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        clause: &'static str,
        kind: Kind,
        needs: &'static str,
    ) {
        self.cases.push(Case {
            name: name.into(),
            clause,
            kind,
            outcome: Outcome::NotTested { needs },
        });
    }

    async fn open_to_all(&mut self) -> Result<Value, ClientError> {
        use Kind::{Encoding, Negative, Positive};
        let answer = self.service.call("info", Proof::None, &json!({})).await?;
        let info = answer.json().unwrap_or_default();
        self.judge("info without authorization", "11.1", Positive, ok(&answer));
        let mut wanted = vec!["specs", "name", "region", "lang", "description"];
        let lists: &[&str] = match self.service.version() {
            Version::V1 => &["authType", "methods"],
            Version::V2 => &["authType", "methods", "conformance_levels"],
        };
        if self.service.version() == Version::V2 {
            wanted.retain(|name| *name != "region" || info.get("region").is_some());
        }
        let missing: Vec<_> = wanted
            .into_iter()
            .filter(|name| !info[*name].is_string())
            .chain(lists.iter().copied().filter(|name| !info[*name].is_array()))
            .collect();
        let fault =
            (!missing.is_empty()).then(|| format!("missing or of another type: {missing:?}"));
        self.judge("info has every required member", "11.1", Encoding, fault);
        let region = info["region"].as_str().unwrap_or_default();
        let two = region.len() == 2 && region.chars().all(|c| c.is_ascii_uppercase());
        let fault = (!two).then(|| format!("region is {region:?}"));
        self.judge(
            "info.region is a country's two letters",
            "11.1",
            Encoding,
            fault,
        );
        let oauth = info["authType"].as_array().is_some_and(|all| {
            let oauth = |v: &Value| v.as_str().is_some_and(|text| text.starts_with("oauth2"));
            all.iter().any(oauth)
        });
        let told = ["oauth2", "oauth2Issuer", "oauth2Servers"];
        let told = told
            .iter()
            .filter(|name| info.get(**name).is_some())
            .count();
        let fault = (oauth != (told == 1))
            .then(|| format!("authType wants OAuth: {oauth}; addresses: {told}"));
        self.judge(
            "info names one OAuth server if there is any",
            "11.1",
            Encoding,
            fault,
        );
        let nulls = json!({ "lang": null, "clientData": null, "unknown": [1] });
        let answer = self.service.call("info", Proof::None, &nulls).await?;
        self.judge(
            "null means absent, unknown members don't matter",
            "7",
            Positive,
            ok(&answer),
        );
        let answer = self.send("info", Proof::None, b"").await?;
        self.judge("an empty body counts as {}", "7", Positive, ok(&answer));
        for (name, body) in [
            ("a body that isn't JSON is refused", &b"{"[..]),
            ("a body that isn't an object is refused", b"[]"),
            (
                "a repeated member is refused",
                b"{\"lang\":\"en\",\"lang\":\"ja\"}",
            ),
        ] {
            let answer = self.send("info", Proof::None, body).await?;
            self.judge(name, "10.1", Negative, refusal(&answer, &[400]));
        }
        let answer = self
            .service
            .call("credentials/nonsense", Proof::None, &json!({}))
            .await?;
        self.judge(
            "an unknown method is refused",
            "10.1",
            Negative,
            refusal(&answer, &[400, 404, 501]),
        );
        Ok(info)
    }

    async fn send(
        &self,
        method: &str,
        proof: Proof<'_>,
        body: &[u8],
    ) -> Result<Answer, ClientError> {
        let json = "application/json";
        self.service.send(method, proof, json, body.to_vec()).await
    }

    /// Every method that the service names, without a token and with one that is none.
    async fn strangers(&mut self, info: &Value) -> Result<(), ClientError> {
        let methods: Vec<String> = info["methods"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .filter(|name| !name.starts_with("oauth2/") && !matches!(*name, "info" | "auth/login"))
            .map(str::to_owned)
            .collect();
        let guess = SecretText::new("this-is-no-token-of-yours-1234567890123456".to_owned());
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for method in &methods {
            let answer = self.service.call(method, Proof::None, &json!({})).await?;
            without.extend(refusal(&answer, &[400, 401]).map(|why| format!("{method}: {why}")));
            let answer = self
                .service
                .call(method, Proof::Bearer(&guess), &json!({}))
                .await?;
            with.extend(refusal(&answer, &[400, 401]).map(|why| format!("{method}: {why}")));
        }
        let join = |all: Vec<String>| (!all.is_empty()).then(|| all.join("; "));
        self.judge(
            "every method wants a token",
            "8.2",
            Kind::Negative,
            join(without),
        );
        self.judge(
            "no method takes an unknown token",
            "8.2",
            Kind::Negative,
            join(with),
        );
        Ok(())
    }
}

/// What is wrong with an answer that should be good.
fn ok(answer: &Answer) -> Option<String> {
    if answer.status != 200 {
        let text = String::from_utf8_lossy(&answer.body);
        let start: String = text.chars().take(200).collect();
        return Some(format!("status {} and not 200: {start}", answer.status));
    }
    if answer.media_type != "application/json" || answer.json().is_none() {
        return Some(format!("no JSON but {:?}", answer.media_type));
    }
    None
}

/// What is wrong with an answer that should refuse, with one of these statuses and an `error`.
fn refusal(answer: &Answer, statuses: &[u16]) -> Option<String> {
    if !statuses.contains(&answer.status) {
        return Some(format!("status {} and none of {statuses:?}", answer.status));
    }
    match answer.text("error") {
        Some(_) => None,
        None => Some("no member error".to_owned()),
    }
}
