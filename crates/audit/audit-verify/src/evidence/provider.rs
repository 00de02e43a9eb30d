//! Identity providers that the checker knows itself. A bundle brings the key that the SAM was configured with, which is the SAM's word
//! and nothing else.

use serde::Deserialize;
use serde_json::Value;

use super::documents::{Factor, Proof};
use super::proof::signed_by;
use super::{EvidenceFault, from_b64u};

/// Seconds by which clocks may differ.
const SKEW: i64 = 60;

/// An identity provider, as the checker got to know it from the provider.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedProvider {
    /// Its issuer identifier, exactly.
    pub issuer: String,
    /// The SAM's name there: the one audience.
    pub client: String,
    /// Its keys (JWK with `alg`).
    pub keys: Vec<Value>,
    /// Values of `acr`, one of which the token has to have; empty: any or none.
    #[serde(default)]
    pub acr: Vec<String>,
    /// Values of `amr`, all of which it has to have.
    #[serde(default)]
    pub amr: Vec<String>,
}

/// Whether a provider that is known stands behind the proof; not, if the token's issuer isn't among them. `began`: when the act
/// was made; `at`: when it was approved.
pub(super) fn vouches(
    proof: &Proof,
    factor: &Factor,
    known: &[TrustedProvider],
    (began, at): (i64, i64),
) -> Result<bool, EvidenceFault> {
    let form = || EvidenceFault::Form("an identity provider's word");
    let issuer = &factor.provider.as_ref().ok_or_else(form)?.issuer;
    let Some(provider) = known.iter().find(|p| p.issuer == *issuer) else {
        return Ok(false);
    };
    let token = proof.id_token.as_deref().ok_or_else(form)?;
    let (signed, sig) = token.rsplit_once('.').ok_or_else(form)?;
    let (header, payload) = signed.split_once('.').ok_or_else(form)?;
    let json = |part: &str| -> Option<Value> { serde_json::from_slice(&from_b64u(part)?).ok() };
    let header = json(header).ok_or_else(form)?;
    let claims = json(payload).ok_or_else(form)?;
    let sig = from_b64u(sig).ok_or_else(form)?;
    let by = |key: &Value| {
        header.get("alg").is_some()
            && header.get("alg") == key.get("alg")
            && signed_by(key, signed.as_bytes(), &sig) == Some(true)
    };
    if !provider.keys.iter().any(by) {
        return Err(EvidenceFault::Broken(
            "the provider's key is not one of those you know",
        ));
    }
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let time = |name: &str| claims.get(name).and_then(Value::as_i64);
    let own = |aud: &Value| aud.as_str() == Some(provider.client.as_str());
    let audience = claims.get("aud").is_some_and(|aud| match aud.as_array() {
        Some(all) => all.len() == 1 && all.iter().all(own),
        None => own(aud),
    });
    if !audience {
        return Err(EvidenceFault::Broken(
            "the provider's word is for somebody else",
        ));
    }
    let context = provider.acr.is_empty()
        || text("acr").is_some_and(|acr| provider.acr.iter().any(|known| known == acr));
    let said = claims.get("amr").and_then(Value::as_array);
    let methods = provider.amr.iter().all(|wanted| {
        said.is_some_and(|said| said.iter().any(|m| m.as_str() == Some(wanted.as_str())))
    });
    if !context || !methods {
        return Err(EvidenceFault::Broken(
            "the provider doesn't say that the person proved themselves as they had to",
        ));
    }
    let meant = |name: &str| time(name).is_some_and(|t| (began - SKEW..=at + SKEW).contains(&t));
    if !meant("auth_time") || time("exp").is_none_or(|exp| at >= exp + SKEW) {
        return Err(EvidenceFault::Broken(
            "the provider's word is of another time",
        ));
    }
    Ok(true)
}
