//! Public P-256 keys (RFC 7517, RFC 7518 §6.2) and their thumbprints (RFC 7638).

use core_types::bytes::{b64u, from_b64u};
use core_types::{Digest32, sha256};
use serde::{Deserialize, Serialize};

use crate::JoseError;

/// A public key on P-256 with exactly the members `kty`, `crv`, `x`, `y`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jwk {
    kty: Kty,
    crv: Crv,
    x: Digest32,
    y: Digest32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Kty {
    #[serde(rename = "EC")]
    Ec,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Crv {
    #[serde(rename = "P-256")]
    P256,
}

impl Jwk {
    /// From an uncompressed point, 65 bytes starting with 4 (SEC 1 §2.3.3).
    ///
    /// # Errors
    /// [`JoseError::BadKey`] for any other form. Whether the point lies on the curve is checked at use.
    pub fn from_point(point: &[u8]) -> Result<Self, JoseError> {
        let (head, rest) = point.split_first().ok_or(JoseError::BadKey)?;
        if *head != 4 || rest.len() != 64 {
            return Err(JoseError::BadKey);
        }
        let half = |b: &[u8]| b.try_into().map(Digest32).map_err(|_| JoseError::BadKey);
        Ok(Self {
            kty: Kty::Ec,
            crv: Crv::P256,
            x: half(&rest[..32])?,
            y: half(&rest[32..])?,
        })
    }

    /// The uncompressed point, 65 bytes.
    pub fn point(&self) -> [u8; 65] {
        let mut out = [4; 65];
        out[1..33].copy_from_slice(&self.x.0);
        out[33..].copy_from_slice(&self.y.0);
        out
    }

    /// SHA-256 thumbprint; its base64url form is the `kid` of this key.
    pub fn thumbprint(&self) -> Digest32 {
        let canonical = format!(
            r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#,
            self.x, self.y
        );
        sha256(&[canonical.as_bytes()])
    }

    /// `kid`: the thumbprint in base64url.
    pub fn kid(&self) -> String {
        self.thumbprint().to_string()
    }
}

pub(crate) fn encode_json(value: &impl Serialize) -> Result<String, JoseError> {
    serde_json::to_vec(value)
        .map(b64u)
        .map_err(|_| JoseError::Malformed)
}

pub(crate) fn decode_json<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, JoseError> {
    let bytes = from_b64u(part).map_err(|_| JoseError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| JoseError::Malformed)
}
