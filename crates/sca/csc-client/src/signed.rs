//! What a client with a key of its own signs: its authorization requests (RFC 9101), so that nobody on the way can exchange hashes or
//! names, and the word with which it authenticates (`private_key_jwt`, RFC 7523).

use std::fmt;
use std::sync::Arc;

use core_types::{Clock, Random};
use jose::SigningKey;
use serde_json::{Map, Value, json};

use crate::error::ClientError;

/// Life of what is signed here, in seconds.
pub(crate) const LIFE: i64 = 120;
/// The same of a device's request, whose user has to find another device first: as long as FAPI 2.0 Message Signing allows.
pub(crate) const OF_DEVICES: i64 = 3600;

/// A client's key (P-256), which the provider has registered; a provider that knows it at the signer's side shows requests as
/// the application's own.
#[derive(Clone)]
pub struct ClientKey {
    key: Arc<SigningKey>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// For this alone.
    only: Option<KeyUse>,
}

/// One thing that a client's key can be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// It signs authorization requests (RFC 9101): beside a secret or a certificate, which authenticate.
    Requests,
    /// It authenticates the client (`private_key_jwt`): at providers that read no signed requests.
    Authentication,
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientKey({})", self.key.public().kid())
    }
}

impl ClientKey {
    /// For both uses, with the time that is written into what it signs, and where names for single use come from.
    pub fn new(key: SigningKey, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self {
            key: Arc::new(key),
            clock,
            random,
            only: None,
        }
    }

    /// The same for one use alone.
    #[must_use]
    pub fn only_for(self, only: KeyUse) -> Self {
        Self {
            only: Some(only),
            ..self
        }
    }

    /// Whether it is for this.
    pub(crate) fn is_for(&self, wanted: KeyUse) -> bool {
        self.only.is_none_or(|only| only == wanted)
    }

    /// The parameters of an authorization request as one signed object for so many seconds, and what has to stand beside it.
    pub(crate) fn request(
        &self,
        client: &str,
        audience: &str,
        life: i64,
        pairs: Vec<(&'static str, String)>,
    ) -> Result<Vec<(&'static str, String)>, ClientError> {
        let mut claims = self.claims(client, audience, life);
        for (name, value) in pairs {
            // Details are an object there, and everything else the text that it is.
            let value = match name {
                "authorization_details" => serde_json::from_str(&value).unwrap_or(json!(value)),
                _ => json!(value),
            };
            claims.insert(name.to_owned(), value);
        }
        let object = self.sign("oauth-authz-req+jwt", claims)?;
        Ok(vec![("client_id", client.to_owned()), ("request", object)])
    }

    /// Client authentication for one call.
    pub(crate) fn assertion(
        &self,
        client: &str,
        audience: &str,
    ) -> Result<[(&'static str, String); 2], ClientError> {
        let mut claims = self.claims(client, audience, LIFE);
        claims.insert("sub".to_owned(), json!(client));
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        Ok([
            ("client_assertion_type", kind.to_owned()),
            ("client_assertion", self.sign("JWT", claims)?),
        ])
    }

    fn claims(&self, client: &str, audience: &str, life: i64) -> Map<String, Value> {
        let now = self.clock.now();
        let claims = json!({
            "iss": client,
            "aud": audience,
            "iat": now,
            "exp": now.plus(life),
            "jti": self.random.digest32().to_string(),
        });
        match claims {
            Value::Object(claims) => claims,
            _ => Map::new(),
        }
    }

    fn sign(&self, typ: &str, claims: Map<String, Value>) -> Result<String, ClientError> {
        let payload = Value::Object(claims).to_string();
        let signed = self.key.sign(typ, payload.as_bytes());
        signed.map_err(|e| ClientError::Setup(e.to_string()))
    }
}
