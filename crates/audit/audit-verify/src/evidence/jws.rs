//! Compact JWS by P-256 keys (RFC 7515, ES256), read with nothing of the writer's.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde::Deserialize;

use super::{from_b64u, sha256};

/// A public P-256 key (RFC 7518 §6.2).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Jwk {
    kty: String,
    crv: String,
    x: String,
    y: String,
}

impl Jwk {
    /// RFC 7638.
    pub(super) fn thumbprint(&self) -> String {
        let Self { kty, crv, x, y } = self;
        // The members of such a key contain nothing that JSON would escape, or the thumbprint fits nothing.
        sha256(format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}","y":"{y}"}}"#).as_bytes())
    }

    fn point(&self) -> Option<Vec<u8>> {
        let (x, y) = (from_b64u(&self.x)?, from_b64u(&self.y)?);
        let whole = self.kty == "EC" && self.crv == "P-256" && x.len() == 32 && y.len() == 32;
        whole.then(|| [&[4][..], &x, &y].concat())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

/// Whether `key` signed these bytes as they are.
pub(super) fn signed_bytes(bytes: &[u8], signature: &[u8], key: &Jwk) -> bool {
    let verified = key.point().map(|point| {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(bytes, signature)
    });
    verified.is_some_and(|v| v.is_ok())
}

/// The payload, if `key` signed it as this type.
pub(super) fn verify(jws: &str, typ: &str, key: &Jwk) -> Option<Vec<u8>> {
    let (signed, signature) = jws.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    let header: Header = serde_json::from_slice(&from_b64u(header)?).ok()?;
    if header.alg != "ES256" || header.typ != typ || header.kid != key.thumbprint() {
        return None;
    }
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.point()?);
    public
        .verify(signed.as_bytes(), &from_b64u(signature)?)
        .ok()?;
    from_b64u(payload)
}

/// Digest of an act, base64url.
pub(super) fn act_digest(jws: &str) -> String {
    sha256(&[b"natsuin-act-v1\n", jws.as_bytes()].concat())
}
