//! Compact JWS with ES256 and the header `{"alg":"ES256","typ":…,"kid":…}`.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use core_types::SecretBytes;
use core_types::bytes::{b64u, from_b64u};
use serde::{Deserialize, Serialize};

use crate::jwk::{decode_json, encode_json};
use crate::{JoseError, Jwk};

/// Largest JWS that is looked at: an act with 10,000 items is about 2 MB.
const MAX_LEN: usize = 8 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: Es256,
    typ: String,
    kid: String,
}

#[derive(Serialize, Deserialize)]
enum Es256 {
    #[serde(rename = "ES256")]
    Es256,
}

/// A private ES256 key in memory. AWS-LC wipes its copy; the PKCS#8 form is handed out as a secret only.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    public: Jwk,
}

impl SigningKey {
    /// Makes a new key and its PKCS#8 form (RFC 5208), for sealing.
    ///
    /// # Errors
    /// [`JoseError::BadKey`] when the library can't make one.
    pub fn generate() -> Result<(Self, SecretBytes), JoseError> {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .map_err(|_| JoseError::BadKey)?;
        let pkcs8 = SecretBytes::new(document.as_ref().to_vec());
        Ok((Self::from_pkcs8(&pkcs8)?, pkcs8))
    }

    /// Restores a key from PKCS#8.
    ///
    /// # Errors
    /// [`JoseError::BadKey`] when the bytes aren't a P-256 key.
    pub fn from_pkcs8(pkcs8: &SecretBytes) -> Result<Self, JoseError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.expose())
            .map_err(|_| JoseError::BadKey)?;
        let public = Jwk::from_point(pair.public_key().as_ref())?;
        Ok(Self { pair, public })
    }

    /// The public half.
    pub fn public(&self) -> &Jwk {
        &self.public
    }

    /// Signs `payload` as it stands.
    ///
    /// # Errors
    /// [`JoseError::BadKey`] when the library refuses to sign.
    pub fn sign(&self, typ: &str, payload: &[u8]) -> Result<String, JoseError> {
        let header = Header {
            alg: Es256::Es256,
            typ: typ.to_owned(),
            kid: self.public.kid(),
        };
        let mut jws = encode_json(&header)?;
        jws.push('.');
        jws.push_str(&b64u(payload));
        let value = self
            .pair
            .sign(&SystemRandom::new(), jws.as_bytes())
            .map_err(|_| JoseError::BadKey)?;
        jws.push('.');
        jws.push_str(&b64u(value.as_ref()));
        Ok(jws)
    }
}

impl SigningKey {
    /// Signs bytes that have their own form and domain, without a JWS around them: r and s, 64 bytes (RFC 7518 §3.4).
    ///
    /// # Errors
    /// [`JoseError::BadKey`] when the library refuses to sign.
    pub fn sign_bytes(&self, bytes: &[u8]) -> Result<Vec<u8>, JoseError> {
        let value = self.pair.sign(&SystemRandom::new(), bytes);
        value
            .map(|v| v.as_ref().to_vec())
            .map_err(|_| JoseError::BadKey)
    }
}

/// Checks what [`SigningKey::sign_bytes`] makes.
///
/// # Errors
/// [`JoseError::NotAuthentic`].
pub fn verify_bytes(bytes: &[u8], signature: &[u8], key: &Jwk) -> Result<(), JoseError> {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.point())
        .verify(bytes, signature)
        .map_err(|_| JoseError::NotAuthentic)
}

/// Checks `jws` with `key` and returns the payload bytes.
///
/// # Errors
/// [`JoseError::Malformed`] unless the header is exactly `alg` ES256, the given `typ` and the thumbprint of `key`
/// as `kid`; [`JoseError::NotAuthentic`] when the signature is wrong.
pub fn verify(jws: &str, typ: &str, key: &Jwk) -> Result<Vec<u8>, JoseError> {
    let (header, payload, signature) = split(jws)?;
    if header.typ != typ || header.kid != key.kid() {
        return Err(JoseError::Malformed);
    }
    let value = from_b64u(signature).map_err(|_| JoseError::Malformed)?;
    let signed = &jws[..jws.len() - signature.len() - 1];
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.point())
        .verify(signed.as_bytes(), &value)
        .map_err(|_| JoseError::NotAuthentic)?;
    from_b64u(payload).map_err(|_| JoseError::Malformed)
}

/// The unverified `kid` of `jws`, to find the key with which [`verify`] is then called.
///
/// # Errors
/// [`JoseError::Malformed`] unless the header has the prescribed form and `typ`.
pub fn kid_of(jws: &str, typ: &str) -> Result<String, JoseError> {
    let (header, _, _) = split(jws)?;
    if header.typ == typ {
        Ok(header.kid)
    } else {
        Err(JoseError::Malformed)
    }
}

fn split(jws: &str) -> Result<(Header, &str, &str), JoseError> {
    if jws.len() > MAX_LEN {
        return Err(JoseError::Malformed);
    }
    let mut parts = jws.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(JoseError::Malformed);
    };
    Ok((decode_json(header)?, payload, signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYP: &str = "natsuin-test+jws";

    #[test]
    fn what_was_signed_verifies_and_nothing_else() {
        let (key, _) = SigningKey::generate().unwrap();
        let (other, _) = SigningKey::generate().unwrap();
        let jws = key.sign(TYP, b"{}").unwrap();
        assert_eq!(verify(&jws, TYP, key.public()).unwrap(), b"{}");
        assert_eq!(kid_of(&jws, TYP).unwrap(), key.public().kid());
        assert_eq!(
            verify(&jws, "other", key.public()),
            Err(JoseError::Malformed)
        );
        assert_eq!(verify(&jws, TYP, other.public()), Err(JoseError::Malformed));

        let (head, rest) = jws.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let swapped = format!("{head}.{}.{signature}", b64u(b"[]"));
        assert_eq!(
            verify(&swapped, TYP, key.public()),
            Err(JoseError::NotAuthentic)
        );
    }

    // shows: T-USE-CRED-FORGE
    #[test]
    fn other_algorithms_and_extra_header_members_are_refused() {
        let (key, _) = SigningKey::generate().unwrap();
        let kid = key.public().kid();
        for header in [
            format!(r#"{{"alg":"none","typ":"{TYP}","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"HS256","typ":"{TYP}","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"ES256","alg":"ES256","typ":"{TYP}","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"ES256","typ":"{TYP}","kid":"{kid}","jwk":{{}}}}"#),
            format!(r#"{{"alg":"ES256","typ":"{TYP}"}}"#),
        ] {
            let jws = format!("{}.{}.{}", b64u(&header), b64u(b"{}"), b64u([0; 64]));
            assert_eq!(
                verify(&jws, TYP, key.public()),
                Err(JoseError::Malformed),
                "{header}"
            );
        }
    }

    #[test]
    fn a_key_survives_its_pkcs8_form() {
        let (key, pkcs8) = SigningKey::generate().unwrap();
        let again = SigningKey::from_pkcs8(&pkcs8).unwrap();
        assert_eq!(key.public(), again.public());
    }
}
