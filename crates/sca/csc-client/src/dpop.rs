//! Tokens that only the holder of a key can use (DPoP, RFC 9449).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use core_types::bytes::b64u;
use core_types::{Clock, Random, sha256};
use csc_types::{ErrorBody, SecretText};
use jose::SigningKey;
use reqwest::header::WWW_AUTHENTICATE;
use reqwest::{Request, StatusCode};
use serde_json::json;

use crate::error::ClientError;
use crate::http::Reply;
use crate::wire::Shows;

/// What a server says that wants a nonce of its own in the proof.
const WANTED: &str = "use_dpop_nonce";

/// A key that the tokens of one session at one provider are bound to, with the nonces that its servers gave last. Clones are the
/// same session.
///
/// A stolen token is worth nothing without the key, so a key is best made for each session, kept in memory and given up with it.
/// See [`crate::Client::with_dpop`].
#[derive(Clone)]
pub struct DpopKey(Arc<Inner>);

struct Inner {
    key: SigningKey,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    nonces: Mutex<Nonces>,
}

/// Each server takes its own alone (RFC 9449 §9).
#[derive(Default)]
struct Nonces {
    authorization: Option<String>,
    api: Option<String>,
}

impl Nonces {
    fn of(&mut self, shows: Shows<'_>) -> &mut Option<String> {
        match shows {
            Shows::Nothing | Shows::Holder => &mut self.authorization,
            Shows::Token(_) => &mut self.api,
        }
    }
}

impl fmt::Debug for DpopKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DpopKey({})", self.thumbprint())
    }
}

impl DpopKey {
    /// With a key that was made elsewhere, such as one that several programs of a session share in a file.
    pub fn new(key: SigningKey, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let nonces = Mutex::default();
        Self(Arc::new(Inner {
            key,
            clock,
            random,
            nonces,
        }))
    }

    /// With a fresh key that never leaves this process.
    ///
    /// # Errors
    /// [`ClientError::Setup`] when none can be made.
    pub fn generate(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Result<Self, ClientError> {
        let made = SigningKey::generate().map_err(|e| ClientError::Setup(e.to_string()))?;
        Ok(Self::new(made.0, clock, random))
    }

    /// SHA-256 thumbprint of the public half, base64url: `jkt` of what is bound to it (RFC 9449 §6.1).
    pub fn thumbprint(&self) -> String {
        self.0.key.public().kid()
    }

    /// A proof for this one request (RFC 9449 §4.2).
    pub(crate) fn proof(&self, request: &Request, shows: Shows<'_>) -> Result<String, ClientError> {
        let mut target = request.url().clone();
        target.set_query(None);
        target.set_fragment(None);
        let mut claims = json!({
            "jti": self.0.random.digest32().to_string(),
            "htm": request.method().as_str(),
            "htu": target.as_str(),
            "iat": self.0.clock.now(),
        });
        if let Shows::Token(token) = shows {
            claims["ath"] = json!(of_token(token));
        }
        if let Some(nonce) = self.nonces().of(shows) {
            claims["nonce"] = json!(nonce);
        }
        let header = json!({ "alg": "ES256", "typ": "dpop+jwt", "jwk": self.0.key.public() });
        let signed = format!("{}.{}", b64u(header.to_string()), b64u(claims.to_string()));
        let value = self.0.key.sign_bytes(signed.as_bytes());
        let value = value.map_err(|e| ClientError::Setup(e.to_string()))?;
        Ok(format!("{signed}.{}", b64u(value)))
    }

    /// Keeps the nonce of an answer, if there is one (RFC 9449 §8.2). Whether its server did nothing because it wants that nonce.
    pub(crate) fn learn(&self, shows: Shows<'_>, reply: &Reply) -> bool {
        if matches!(shows, Shows::Nothing) {
            return false;
        }
        let Some(nonce) = reply.header("dpop-nonce") else {
            return false;
        };
        *self.nonces().of(shows) = Some(nonce.to_owned());
        if !matches!(
            reply.status,
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED
        ) {
            return false;
        }
        // The token endpoint says it in its body, an API in the challenge.
        let told = serde_json::from_slice::<ErrorBody>(&reply.body);
        let challenges = reply.headers.get_all(WWW_AUTHENTICATE);
        told.is_ok_and(|body| body.error == WANTED)
            || challenges
                .iter()
                .any(|value| value.to_str().is_ok_and(|text| text.contains(WANTED)))
    }

    fn nonces(&self) -> MutexGuard<'_, Nonces> {
        let nonces = self.0.nonces.lock();
        nonces.unwrap_or_else(PoisonError::into_inner)
    }
}

/// `ath`: what a proof says about the token that it goes with (RFC 9449 §4.2).
fn of_token(token: &SecretText) -> String {
    b64u(sha256(&[token.expose().as_bytes()]))
}

#[cfg(test)]
mod tests {
    use core_types::UnixTime;
    use core_types::clock::ManualClock;
    use core_types::random::SystemRandom;
    use jose::ForeignJws;
    use reqwest::header::{HeaderMap, HeaderValue};
    use reqwest::{Method, Url};
    use serde_json::Value;

    use super::*;

    fn key() -> DpopKey {
        let clock = Arc::new(ManualClock::at(UnixTime(1_000)));
        DpopKey::generate(clock, Arc::new(SystemRandom)).unwrap()
    }

    fn request() -> Request {
        let url = Url::parse("https://a.example/csc/v2/info?x=1#y").unwrap();
        Request::new(Method::POST, url)
    }

    /// The claims of a proof, whose signature is good with the key that it names.
    fn claims(key: &DpopKey, shows: Shows<'_>) -> Value {
        let proof = key.proof(&request(), shows).unwrap();
        let jws = ForeignJws::read(&proof).unwrap();
        assert_eq!(jws.typ().as_deref(), Some("dpop+jwt"));
        let named = jws.jwk().unwrap();
        assert_eq!(named.thumbprint().to_string(), key.thumbprint());
        serde_json::from_slice(jws.verify(&named).unwrap()).unwrap()
    }

    fn reply(status: StatusCode, body: &str, challenge: &'static str) -> Reply {
        let mut headers = HeaderMap::new();
        headers.insert("dpop-nonce", HeaderValue::from_static("n-1"));
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        Reply {
            status,
            headers,
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn a_proof_is_for_one_request_and_one_token() {
        let (key, token) = (key(), SecretText::new("t".to_owned()));
        let first = claims(&key, Shows::Token(&token));
        assert_eq!(
            (&first["htm"], &first["htu"], &first["iat"]),
            (
                &json!("POST"),
                &json!("https://a.example/csc/v2/info"),
                &json!(1_000)
            )
        );
        assert_eq!(first["ath"], b64u(sha256(&[b"t"])));
        let next = claims(&key, Shows::Token(&token));
        assert_ne!(first["jti"], next["jti"]);
        let holder = claims(&key, Shows::Holder);
        assert_eq!(
            (&holder["ath"], &holder["nonce"]),
            (&Value::Null, &Value::Null)
        );
    }

    #[test]
    fn a_nonce_goes_to_the_server_it_came_from() {
        let (key, token) = (key(), SecretText::new("t".to_owned()));
        let wants = json!({ "error": WANTED }).to_string();
        let bad = StatusCode::BAD_REQUEST;
        assert!(key.learn(Shows::Holder, &reply(bad, &wants, "x")));
        assert_eq!(claims(&key, Shows::Holder)["nonce"], "n-1");
        assert_eq!(claims(&key, Shows::Token(&token))["nonce"], Value::Null);
        let challenge = "DPoP error=\"use_dpop_nonce\"";
        let api = Shows::Token(&token);
        assert!(key.learn(api, &reply(StatusCode::UNAUTHORIZED, "", challenge)));
        assert_eq!(claims(&key, api)["nonce"], "n-1");
        // Any other refusal stands, whatever nonce it brings for the next call.
        let grant = json!({ "error": "invalid_grant" }).to_string();
        assert!(!key.learn(Shows::Holder, &reply(bad, &grant, "x")));
        assert!(!key.learn(Shows::Holder, &reply(StatusCode::OK, &wants, "x")));
    }
}
