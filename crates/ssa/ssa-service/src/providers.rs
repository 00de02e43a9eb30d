//! OpenID providers at which people log in (the guideline's federated variant of RS-C): code flow with PKCE, nonce and a
//! redirect URI of its own for each provider (OpenID Connect Core 1.0 §3.1, RFC 9207, RFC 9700 §4.4).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use core_types::bytes::b64u;
use core_types::{Digest32, UnixTime, sha256};
use csc_types::SecretText;
use jose::openid::{Expected, IdTokenFault, identify};
use jose::{ForeignJws, ForeignKey};
use serde_json::Value;
use url::Url;

use crate::Ssa;
use crate::trips::Shown;

/// Longest answer of a provider in bytes.
const LIMIT: usize = 256 << 10;
/// How long what a provider says about itself counts, in seconds.
const KEPT: i64 = 3600;
/// Keys are asked for anew for a token that names an unknown one, but not more often than this, in seconds.
const PAUSE: i64 = 60;
/// The person has to have proved themselves to the provider this lately, in seconds; older, and it asks them again.
const FRESH: i64 = 300;

/// A provider at which people log in.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Its short name in addresses: `a-z 0-9 -`, at most 32.
    pub id: String,
    /// Its name as people see it.
    pub name: String,
    /// Its issuer identifier, exactly.
    pub issuer: String,
    /// Our client id there. Its redirect URI is `{base_url}/login/provider/{id}/back`.
    pub client_id: String,
    /// Our secret there (`client_secret_post`); without one PKCE alone protects the code.
    pub client_secret: Option<SecretText>,
    /// Where things are; nothing: it is asked (OpenID Connect Discovery 1.0).
    pub endpoints: Option<Endpoints>,
    /// Assurance levels (1 to 3) of the values of `acr`; what isn't named, or isn't said, is 0.
    pub assurance: BTreeMap<String, u8>,
    /// The least assurance level that logs anybody in.
    pub least: u8,
}

/// Where a provider's things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// Where browsers go.
    pub authorization: String,
    /// Where codes become tokens.
    pub token: String,
    /// Its keys (JWK), instead of an address of them.
    pub keys: Vec<Value>,
}

impl Provider {
    /// The member that can't be meant, if there is one. Plain HTTP is for development.
    pub(crate) fn fault(&self, development: bool) -> Option<&'static str> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !(1..=32).contains(&self.id.len()) || !self.id.chars().all(plain) {
            return Some("id");
        }
        let address = |text: &str| {
            let url = Url::parse(text).ok();
            url.is_some_and(|url| url.scheme() == "https" || development && url.scheme() == "http")
        };
        if !address(&self.issuer) {
            return Some("issuer");
        }
        if self
            .assurance
            .values()
            .any(|level| !(1..=3).contains(level))
            || self.least > 3
        {
            return Some("assurance");
        }
        let endpoints = self.endpoints.as_ref()?;
        let good = address(&endpoints.authorization) && address(&endpoints.token);
        let keys = endpoints
            .keys
            .iter()
            .all(|key| ForeignKey::parse_of_provider(key).is_ok());
        (!good || !keys || endpoints.keys.is_empty()).then_some("endpoints")
    }
}

/// What a provider says about itself, as far as it counts.
#[derive(Debug)]
pub(crate) struct About {
    authorization: Url,
    token: String,
    keys: Vec<ForeignKey>,
    /// Its answers say whose they are.
    names_itself: bool,
    asked: UnixTime,
}

/// What providers said about themselves lately.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<HashMap<String, Arc<About>>>);

/// Why somebody wasn't logged in by a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProviderFault {
    /// It can't be reached, or says nonsense about itself.
    Unreachable,
    /// It said no, or the person did.
    Declined,
    /// The answer is another provider's.
    MixedUp,
    /// It took no code, or gave no ID token for it.
    Code,
    /// The ID token isn't good.
    Token(IdTokenFault),
    /// The assurance is too low.
    Assurance,
    /// It let a session of before count, although it was told to ask anew.
    Stale,
}

impl ProviderFault {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Unreachable => "provider-unreachable",
            Self::Declined => "provider-declined",
            Self::MixedUp => "provider-mixed-up",
            Self::Code => "provider-code",
            Self::Token(fault) => fault.code(),
            Self::Assurance => "provider-assurance",
            Self::Stale => "provider-stale",
        }
    }

    /// The text for people.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Unreachable => "portal-provider-unreachable",
            Self::Declined => "portal-provider-declined",
            Self::Stale => "portal-provider-stale",
            Self::Assurance | Self::Token(IdTokenFault::Context) => "portal-provider-assurance",
            Self::MixedUp | Self::Code | Self::Token(_) => "portal-provider-refused",
        }
    }
}

/// What comes back with a browser.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Answer {
    pub(crate) code: Option<String>,
    pub(crate) state: String,
    pub(crate) iss: Option<String>,
    pub(crate) error: Option<String>,
}

/// Secrets of one trip to a provider.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Secrets<'a> {
    pub(crate) nonce: &'a str,
    pub(crate) verifier: &'a str,
}

impl Ssa {
    /// The provider with this short name.
    pub(crate) fn provider(&self, id: &str) -> Option<&Provider> {
        self.config().providers.iter().find(|p| p.id == id)
    }

    /// Where a browser is sent; `again`: the person has to prove themselves even if they just did.
    pub(crate) async fn at_provider(
        &self,
        provider: &Provider,
        state: &SecretText,
        secrets: Secrets<'_>,
        again: bool,
    ) -> Result<Url, ProviderFault> {
        let about = self.about_provider(provider, false).await?;
        let mut url = about.authorization.clone();
        let challenge = b64u(sha256(&[secrets.verifier.as_bytes()]).0);
        let fresh = if again { 0 } else { FRESH }.to_string();
        let accepted = provider
            .assurance
            .iter()
            .filter(|(_, level)| **level >= provider.least);
        let accepted: Vec<&str> = accepted.map(|(acr, _)| acr.as_str()).collect();
        let mut pairs = url.query_pairs_mut();
        pairs
            .append_pair("response_type", "code")
            .append_pair("client_id", &provider.client_id)
            .append_pair("redirect_uri", &self.provider_redirect(provider))
            .append_pair("scope", "openid")
            .append_pair("state", state.expose())
            .append_pair("nonce", secrets.nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .append_pair("max_age", &fresh);
        if !accepted.is_empty() {
            pairs.append_pair("acr_values", &accepted.join(" "));
        }
        if again {
            pairs.append_pair("prompt", "login");
        }
        drop(pairs);
        Ok(url)
    }

    /// Who came back, with which assurance, and when they proved themselves there.
    pub(crate) async fn answered_by(
        &self,
        provider: &Provider,
        answer: &Answer,
        secrets: Secrets<'_>,
    ) -> Result<(Shown, u8, UnixTime), ProviderFault> {
        let about = self.about_provider(provider, false).await?;
        match &answer.iss {
            Some(iss) if *iss != provider.issuer => return Err(ProviderFault::MixedUp),
            // RFC 9207 §2.4: who says that it names itself, does.
            None if about.names_itself => return Err(ProviderFault::MixedUp),
            _ => {}
        }
        let (None, Some(code)) = (&answer.error, &answer.code) else {
            return Err(ProviderFault::Declined);
        };
        let token = self.redeem_at(provider, &about, code, secrets).await?;
        let about = match self.knows_key(&about, &token) {
            true => about,
            false => self.about_provider(provider, true).await?,
        };
        let now = self.now();
        let expected = Expected {
            issuer: &provider.issuer,
            audience: &provider.client_id,
            nonce: secrets.nonce,
            acr: &[],
            amr: &[],
            since: Some(now.plus(-FRESH)),
            now,
        };
        let identified = identify(&token, &about.keys, expected).map_err(ProviderFault::Token)?;
        let acr = identified.acr.as_deref();
        let level = acr.and_then(|acr| provider.assurance.get(acr)).copied();
        let level = level.unwrap_or(0);
        if level < provider.least {
            return Err(ProviderFault::Assurance);
        }
        let shown = Shown {
            id: stable_id(&provider.issuer, &identified.subject),
            text: format!("{}: {}", provider.name, identified.subject),
        };
        let proved = identified.auth_time.ok_or(ProviderFault::Declined)?;
        Ok((shown, level, proved.min(now)))
    }

    async fn redeem_at(
        &self,
        provider: &Provider,
        about: &About,
        code: &str,
        secrets: Secrets<'_>,
    ) -> Result<String, ProviderFault> {
        let redirect = self.provider_redirect(provider);
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &redirect),
            ("code_verifier", secrets.verifier),
            ("client_id", &provider.client_id),
        ];
        let secret = provider.client_secret.as_ref().map(SecretText::expose);
        form.extend(secret.map(|secret| ("client_secret", secret)));
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let kind = "application/x-www-form-urlencoded";
        let answer = self
            .fetch()
            .post(&about.token, kind, form.into_bytes(), LIMIT);
        let answer = answer.await.map_err(|error| {
            tracing::info!(%error, "a provider gave no token");
            ProviderFault::Code
        })?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|_| ProviderFault::Code)?;
        let token = answer.get("id_token").and_then(Value::as_str);
        token.map(str::to_owned).ok_or(ProviderFault::Code)
    }

    fn provider_redirect(&self, provider: &Provider) -> String {
        format!(
            "{}/login/provider/{}/back",
            self.config().base_url,
            provider.id
        )
    }

    /// Whether the token names a key that is known, or has to be taken for one that is.
    fn knows_key(&self, about: &About, token: &str) -> bool {
        let read = ForeignJws::read(token).ok();
        let kid = read.as_ref().and_then(ForeignJws::kid);
        let known = |kid: &str| about.keys.iter().any(|key| key.kid() == Some(kid));
        kid.is_none_or(known) || self.now() < about.asked.plus(PAUSE)
    }

    async fn about_provider(
        &self,
        provider: &Provider,
        anew: bool,
    ) -> Result<Arc<About>, ProviderFault> {
        let now = self.now();
        let known = self.known_providers();
        let current = known
            .0
            .lock()
            .ok()
            .and_then(|all| all.get(&provider.id).cloned());
        if let Some(about) = current
            && !anew
            && now < about.asked.plus(KEPT)
        {
            return Ok(about);
        }
        let found = match &provider.endpoints {
            Some(endpoints) => pinned(endpoints, now),
            None => self.discover(provider, now).await,
        };
        let found = Arc::new(found.ok_or(ProviderFault::Unreachable)?);
        if let Ok(mut all) = known.0.lock() {
            all.insert(provider.id.clone(), found.clone());
        }
        Ok(found)
    }

    /// OpenID Connect Discovery 1.0 §4: what it says about itself has to be about this issuer.
    async fn discover(&self, provider: &Provider, now: UnixTime) -> Option<About> {
        let at = format!(
            "{}/.well-known/openid-configuration",
            provider.issuer.trim_end_matches('/')
        );
        let metadata = self.read_json(&at).await?;
        let text = |name: &str| metadata.get(name).and_then(Value::as_str);
        if text("issuer") != Some(&provider.issuer) {
            tracing::error!(issuer = provider.issuer, "a provider says it is another");
            return None;
        }
        let secure = |address: &&str| address.starts_with("https://") || self.config().development;
        let endpoint = |name| text(name).filter(secure);
        let keys = self.read_json(endpoint("jwks_uri")?).await?;
        let keys = keys.get("keys")?.as_array()?;
        // Keys of other kinds are for others.
        let keys = keys
            .iter()
            .filter_map(|key| ForeignKey::parse_of_provider(key).ok());
        let names_itself = metadata.get("authorization_response_iss_parameter_supported");
        Some(About {
            authorization: Url::parse(endpoint("authorization_endpoint")?).ok()?,
            token: endpoint("token_endpoint")?.to_owned(),
            keys: keys.collect(),
            names_itself: names_itself == Some(&Value::Bool(true)),
            asked: now,
        })
    }

    async fn read_json(&self, address: &str) -> Option<Value> {
        let got = self.fetch().get(address, LIMIT).await;
        let got = got.inspect_err(|error| tracing::error!(%error, "a provider can't be asked"));
        serde_json::from_slice(&got.ok()?).ok()
    }
}

fn pinned(endpoints: &Endpoints, now: UnixTime) -> Option<About> {
    let keys = endpoints
        .keys
        .iter()
        .map(|key| ForeignKey::parse_of_provider(key).ok());
    Some(About {
        authorization: Url::parse(&endpoints.authorization).ok()?,
        token: endpoints.token.clone(),
        keys: keys.collect::<Option<_>>()?,
        names_itself: false,
        asked: now,
    })
}

/// What names a person at a provider for good.
fn stable_id(issuer: &str, subject: &str) -> Digest32 {
    let length = u32::try_from(issuer.len()).unwrap_or(u32::MAX);
    sha256(&[
        b"natsuin-login-provider-v1\n",
        &length.to_be_bytes(),
        issuer.as_bytes(),
        subject.as_bytes(),
    ])
}
