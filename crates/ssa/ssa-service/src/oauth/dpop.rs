//! DPoP (RFC 9449): a token that only the holder of a key can use.

use axum::http::{HeaderMap, Method};
use core_types::bytes::b64u;
use core_types::{Digest32, sha256};
use jose::ForeignJws;
use store_kit::transaction;
use url::Url;

use super::Refused;
use super::jwt::{Claims, SKEW, first_use};
use crate::Ssa;
use csc_types::OAuthError;

/// A proof is good for this long after it was made, in seconds.
const LIFE: i64 = 60;

/// Thumbprint of the key that proves itself in the `DPoP` header of this request; `None` without one.
///
/// # Errors
/// [`OAuthError::InvalidProof`] for two headers, and for a proof that is another's, for another request, old or used.
pub(crate) async fn proof(
    ssa: &Ssa,
    headers: &HeaderMap,
    method: &Method,
    path: &str,
    token: Option<&str>,
) -> Result<Option<Digest32>, Refused> {
    let mut all = headers.get_all("dpop").iter();
    let Some(header) = all.next() else {
        return Ok(None);
    };
    if all.next().is_some() {
        return Err(OAuthError::InvalidProof.into());
    }
    let text = header.to_str().map_err(|_| OAuthError::InvalidProof)?;
    let now = ssa.now();
    let judged = judge(ssa, text, method, path, token);
    let (thumbprint, claims) = judged.ok_or(OAuthError::InvalidProof)?;
    let made = claims.time("iat").ok_or(OAuthError::InvalidProof)?;
    let current = made <= now.plus(SKEW) && now < made.plus(LIFE);
    let jti = claims
        .text("jti")
        .filter(|jti| (1..=256).contains(&jti.len()));
    let (Some(jti), true) = (jti, current) else {
        return Err(OAuthError::InvalidProof.into());
    };
    let owner = thumbprint.to_string();
    let first = transaction!(ssa.store(), "dpop-proof", |tx| {
        first_use(tx, "dpop", &owner, jti, made.plus(LIFE + SKEW), now).await
    })?;
    if first {
        Ok(Some(thumbprint))
    } else {
        Err(OAuthError::InvalidProof.into())
    }
}

fn judge(
    ssa: &Ssa,
    text: &str,
    method: &Method,
    path: &str,
    token: Option<&str>,
) -> Option<(Digest32, Claims)> {
    let jws = ForeignJws::read(text).ok()?;
    if jws.typ().as_deref() != Some("dpop+jwt") {
        return None;
    }
    let key = jws.jwk().ok()?;
    let claims = Claims::read(jws.verify(&key).ok()?)?;
    let mut target = Url::parse(claims.text("htu")?).ok()?;
    target.set_query(None);
    target.set_fragment(None);
    let config = ssa.config();
    let listener = config
        .certificates
        .as_ref()
        .map(|certificates| &certificates.url);
    let own = |base: &String| Url::parse(&format!("{base}{path}")).is_ok_and(|own| own == target);
    let own = own(&config.base_url) || listener.is_some_and(own);
    let bound = match token {
        Some(token) => claims.text("ath") == Some(b64u(sha256(&[token.as_bytes()]).0).as_str()),
        None => true,
    };
    let fits = claims.text("htm") == Some(method.as_str()) && own && bound;
    fits.then(|| (key.thumbprint(), claims))
}
