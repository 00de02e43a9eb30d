//! Compact JWS made by others: OAuth clients' assertions, request objects and DPoP proofs (RFC 7515, 7518, 8037).
//!
//! What may be negotiated is this much: ES256, EdDSA on Ed25519, PS256 (of OpenID providers RS256 too), and each key has one
//! algorithm by its form.
//! No `none`, no HMAC, no `crit`.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use core_types::bytes::from_b64u;
use core_types::{Digest32, sha256};
use serde_json::{Map, Value};

use crate::{JoseError, Jwk};

/// Largest JWS of others that is looked at, in bytes: a request object with 10,000 digests is about 2 MB.
const MAX_LEN: usize = 4 << 20;

/// Names of the accepted algorithms, for metadata.
pub const FOREIGN_ALGORITHMS: [&str; 3] = ["ES256", "EdDSA", "PS256"];

/// A public key of somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    material: Material,
    kid: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    P256(Jwk),
    Ed25519(Digest32),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
        /// PSS, or else PKCS #1 v1.5.
        pss: bool,
    },
}

impl ForeignKey {
    /// Reads a public JWK (RFC 7517). Members that say nothing about the key itself are ignored, `kid` is kept.
    ///
    /// # Errors
    /// [`JoseError::BadKey`] for other kinds, for RSA under 2048 or over 8192 bits, for `use` other than `sig`, and for
    /// anything with a private or symmetric part.
    pub fn parse(value: &Value) -> Result<Self, JoseError> {
        Self::parse_as(value, false)
    }

    /// Reads a public JWK of an OpenID provider. Nearly all of them sign with RS256 (OpenID Connect Core §15.1): an RSA key is for
    /// that, unless its `alg` says PS256.
    ///
    /// # Errors
    /// As [`ForeignKey::parse`].
    pub fn parse_of_provider(value: &Value) -> Result<Self, JoseError> {
        let pss = value.get("alg").and_then(Value::as_str) == Some("PS256");
        Self::parse_as(value, !pss)
    }

    fn parse_as(value: &Value, pkcs1: bool) -> Result<Self, JoseError> {
        const BAD: JoseError = JoseError::BadKey;
        let members = value.as_object().ok_or(BAD)?;
        if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"]
            .iter()
            .any(|private| members.contains_key(*private))
        {
            return Err(BAD);
        }
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        if text("use").is_some_and(|usage| usage != "sig") {
            return Err(BAD);
        }
        let half = |name| Digest32::parse(text(name)?).ok();
        let bytes = |name| from_b64u(text(name)?).ok();
        let material = match (text("kty"), text("crv")) {
            (Some("EC"), Some("P-256")) => {
                let (x, y) = (half("x").ok_or(BAD)?, half("y").ok_or(BAD)?);
                Material::P256(Jwk::from_point(&[&[4][..], &x.0, &y.0].concat())?)
            }
            (Some("OKP"), Some("Ed25519")) => Material::Ed25519(half("x").ok_or(BAD)?),
            (Some("RSA"), None) => {
                let (n, e) = (bytes("n").ok_or(BAD)?, bytes("e").ok_or(BAD)?);
                let sane = (256..=1024).contains(&n.len())
                    && n.first() != Some(&0)
                    && (1..=8).contains(&e.len());
                if !sane {
                    return Err(BAD);
                }
                Material::Rsa { n, e, pss: !pkcs1 }
            }
            _ => return Err(BAD),
        };
        let key = Self {
            material,
            kid: text("kid").map(str::to_owned),
        };
        if text("alg").is_some_and(|alg| alg != key.alg()) {
            return Err(BAD);
        }
        Ok(key)
    }

    /// Its algorithm.
    pub fn alg(&self) -> &'static str {
        match &self.material {
            Material::P256(_) => "ES256",
            Material::Ed25519(_) => "EdDSA",
            Material::Rsa { pss: true, .. } => "PS256",
            Material::Rsa { pss: false, .. } => "RS256",
        }
    }

    /// The key itself (RFC 7517), with `alg` and without what it came with beside.
    pub fn to_jwk(&self) -> Value {
        let b64u = core_types::bytes::b64u;
        let mut jwk = match &self.material {
            Material::P256(jwk) => serde_json::to_value(jwk).unwrap_or_default(),
            Material::Ed25519(x) => serde_json::json!({ "kty": "OKP", "crv": "Ed25519", "x": x }),
            Material::Rsa { n, e, .. } => {
                serde_json::json!({ "kty": "RSA", "n": b64u(n), "e": b64u(e) })
            }
        };
        if let Some(members) = jwk.as_object_mut() {
            members.insert("alg".to_owned(), self.alg().into());
        }
        jwk
    }

    /// The `kid` it came with.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// SHA-256 thumbprint (RFC 7638).
    pub fn thumbprint(&self) -> Digest32 {
        let b64u = core_types::bytes::b64u;
        let canonical = match &self.material {
            Material::P256(jwk) => return jwk.thumbprint(),
            Material::Ed25519(x) => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#),
            Material::Rsa { n, e, .. } => {
                format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, b64u(e), b64u(n))
            }
        };
        sha256(&[canonical.as_bytes()])
    }

    pub(crate) fn verifies(&self, message: &[u8], value: &[u8]) -> bool {
        let done = match &self.material {
            Material::P256(jwk) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, jwk.point()).verify(message, value)
            }
            Material::Ed25519(x) => UnparsedPublicKey::new(&ED25519, x.0).verify(message, value),
            Material::Rsa { n, e, pss } => {
                let params = match pss {
                    true => &RSA_PSS_2048_8192_SHA256,
                    false => &RSA_PKCS1_2048_8192_SHA256,
                };
                RsaPublicKeyComponents { n, e }.verify(params, message, value)
            }
        };
        done.is_ok()
    }
}

/// A JWS as it came; nothing in it is true before [`ForeignJws::verify`].
#[derive(Debug, Clone)]
pub struct ForeignJws<'a> {
    header: Map<String, Value>,
    payload: Vec<u8>,
    signed: &'a str,
    value: Vec<u8>,
}

impl<'a> ForeignJws<'a> {
    /// Takes it apart.
    ///
    /// # Errors
    /// [`JoseError::Malformed`], also for `crit` and `b64`.
    pub fn read(jws: &'a str) -> Result<Self, JoseError> {
        const BAD: JoseError = JoseError::Malformed;
        if jws.len() > MAX_LEN {
            return Err(BAD);
        }
        let (signed, value) = jws.rsplit_once('.').ok_or(BAD)?;
        let (header, payload) = signed.split_once('.').ok_or(BAD)?;
        let decode = |part: &str| from_b64u(part).map_err(|_| BAD);
        let header: Map<String, Value> =
            serde_json::from_slice(&decode(header)?).map_err(|_| BAD)?;
        if header.contains_key("crit") || header.contains_key("b64") {
            return Err(BAD);
        }
        Ok(Self {
            header,
            payload: decode(payload)?,
            signed,
            value: decode(value)?,
        })
    }

    /// `typ`, without `application/` and in lower case.
    pub fn typ(&self) -> Option<String> {
        let typ = self.header.get("typ")?.as_str()?.to_ascii_lowercase();
        Some(typ.strip_prefix("application/").unwrap_or(&typ).to_owned())
    }

    /// `kid`.
    pub fn kid(&self) -> Option<&str> {
        self.header.get("kid")?.as_str()
    }

    /// The key in the header (RFC 7515 §4.1.3), for proofs that bring their own.
    ///
    /// # Errors
    /// [`JoseError::BadKey`] when there is none that can be used.
    pub fn jwk(&self) -> Result<ForeignKey, JoseError> {
        ForeignKey::parse(self.header.get("jwk").ok_or(JoseError::BadKey)?)
    }

    /// The payload as it came, to find out whose key to ask for.
    pub fn unchecked_payload(&self) -> &[u8] {
        &self.payload
    }

    /// The payload, if `key` signed it with its one algorithm.
    ///
    /// # Errors
    /// [`JoseError::NotAuthentic`].
    pub fn verify(&self, key: &ForeignKey) -> Result<&[u8], JoseError> {
        let alg = self.header.get("alg").and_then(Value::as_str);
        let fits = alg == Some(key.alg()) && key.verifies(self.signed.as_bytes(), &self.value);
        fits.then_some(self.payload.as_slice())
            .ok_or(JoseError::NotAuthentic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;
    use core_types::bytes::b64u;
    use serde_json::json;

    /// RFC 8037 appendix A.
    const ED_KEY: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    const ED_JWS: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

    #[test]
    fn the_example_of_rfc_8037_verifies_and_has_its_thumbprint() {
        let key =
            ForeignKey::parse(&json!({ "kty": "OKP", "crv": "Ed25519", "x": ED_KEY })).unwrap();
        assert_eq!(
            key.thumbprint().to_string(),
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
        let jws = ForeignJws::read(ED_JWS).unwrap();
        assert_eq!(jws.verify(&key).unwrap(), b"Example of Ed25519 signing");
        let other = ED_JWS.replace(".RXh", ".RXg");
        let other = ForeignJws::read(&other).unwrap();
        assert_eq!(other.verify(&key), Err(JoseError::NotAuthentic));
    }

    #[test]
    fn a_key_has_one_algorithm_and_no_header_changes_it() {
        let (key, _) = SigningKey::generate().unwrap();
        let public = serde_json::to_value(key.public()).unwrap();
        let foreign = ForeignKey::parse(&public).unwrap();
        let good = key.sign("dpop+jwt", b"{}").unwrap();
        let read = ForeignJws::read(&good).unwrap();
        assert_eq!(read.typ().as_deref(), Some("dpop+jwt"));
        assert_eq!(read.verify(&foreign).unwrap(), b"{}");
        assert_eq!(foreign.thumbprint(), key.public().thumbprint());
        let rest = &good[good.find('.').unwrap()..];
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"HS256"}"#,
            r#"{"alg":"EdDSA"}"#,
            r#"{}"#,
        ] {
            let forged = format!("{}{rest}", b64u(header));
            let read = ForeignJws::read(&forged).unwrap();
            assert_eq!(
                read.verify(&foreign),
                Err(JoseError::NotAuthentic),
                "{header}"
            );
        }
        for header in [
            r#"{"alg":"ES256","crit":["x"]}"#,
            r#"{"alg":"ES256","b64":false}"#,
            "[]",
        ] {
            assert!(ForeignJws::read(&format!("{}{rest}", b64u(header))).is_err());
        }
    }

    #[test]
    fn private_symmetric_small_and_strange_keys_are_refused() {
        let x = b64u([1; 32]);
        let n = |len: usize| b64u(vec![0xff; len]);
        for bad in [
            json!({ "kty": "oct", "k": "AA" }),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "d": x }),
            json!({ "kty": "OKP", "crv": "X25519", "x": x }),
            json!({ "kty": "EC", "crv": "P-384", "x": x, "y": x }),
            json!({ "kty": "EC", "crv": "P-256", "x": x }),
            json!({ "kty": "RSA", "n": n(128), "e": "AQAB" }),
            json!({ "kty": "RSA", "n": n(1025), "e": "AQAB" }),
            json!({ "kty": "RSA", "n": n(256), "e": "AQAB", "alg": "RS256" }),
            json!({ "kty": "RSA", "n": n(256), "e": "AQAB", "use": "enc" }),
            json!("x"),
        ] {
            assert_eq!(ForeignKey::parse(&bad), Err(JoseError::BadKey), "{bad}");
        }
        let rsa = json!({ "kty": "RSA", "n": n(256), "e": "AQAB", "kid": "k", "use": "sig" });
        let rsa = ForeignKey::parse(&rsa).unwrap();
        assert_eq!((rsa.alg(), rsa.kid()), ("PS256", Some("k")));
        let of_provider = |alg: &str| {
            let key = json!({ "kty": "RSA", "n": n(256), "e": "AQAB", "alg": alg });
            ForeignKey::parse_of_provider(&key).map(|key| key.alg())
        };
        assert_eq!(of_provider("RS256"), Ok("RS256"));
        assert_eq!(of_provider("PS256"), Ok("PS256"));
        assert_eq!(of_provider("RS1"), Err(JoseError::BadKey));
    }
}
