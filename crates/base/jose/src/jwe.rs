//! Compact JWE: ECDH-ES direct key agreement on P-256 with A256GCM, everything in the header pinned.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::encoding::{AsBigEndian as _, EcPrivateKeyBin};
use core_types::bytes::{b64u, from_b64u};
use core_types::{Digest32, Random, SecretBytes, sha256};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::jwk::{decode_json, encode_json};
use crate::{JoseError, Jwk};

/// Largest JWE that is looked at unless the caller says otherwise, in characters.
const MAX_LEN: usize = 2 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: EcdhEs,
    enc: A256Gcm,
    typ: String,
    kid: String,
    epk: Jwk,
    apu: String,
    apv: String,
}

#[derive(Serialize, Deserialize)]
enum EcdhEs {
    #[serde(rename = "ECDH-ES")]
    EcdhEs,
}

#[derive(Serialize, Deserialize)]
enum A256Gcm {
    #[serde(rename = "A256GCM")]
    A256Gcm,
}

/// What both sides know before: `apv` is always the thumbprint of the recipient's key.
#[derive(Debug, Clone, Copy)]
pub struct JweContext<'a> {
    /// Expected `typ`.
    pub typ: &'a str,
    /// `apu`: what the ciphertext belongs to, such as the digest of an act.
    pub apu: Digest32,
}

/// A private P-256 key that opens sealed messages.
pub struct SealKey {
    private: PrivateKey,
    public: Jwk,
}

impl SealKey {
    /// Makes a new key and its 32 private bytes, for sealing at rest.
    ///
    /// # Errors
    /// [`JoseError::BadKey`] when the library can't make one.
    pub fn generate() -> Result<(Self, SecretBytes), JoseError> {
        let private = PrivateKey::generate(&ECDH_P256).map_err(|_| JoseError::BadKey)?;
        let bytes: EcPrivateKeyBin<'_> = private.as_be_bytes().map_err(|_| JoseError::BadKey)?;
        let secret = SecretBytes::new(bytes.as_ref().to_vec());
        Ok((Self::from_private(&secret)?, secret))
    }

    /// Restores a key from its 32 private bytes (big endian).
    ///
    /// # Errors
    /// [`JoseError::BadKey`] when they aren't a private key of P-256.
    pub fn from_private(bytes: &SecretBytes) -> Result<Self, JoseError> {
        let private = PrivateKey::from_private_key(&ECDH_P256, bytes.expose())
            .map_err(|_| JoseError::BadKey)?;
        let public = private
            .compute_public_key()
            .map_err(|_| JoseError::BadKey)?;
        let public = Jwk::from_point(public.as_ref())?;
        Ok(Self { private, public })
    }

    /// The public half.
    pub fn public(&self) -> &Jwk {
        &self.public
    }

    /// Opens a message sealed for this key in this context.
    ///
    /// # Errors
    /// [`JoseError::Malformed`] unless every header member is the prescribed one; [`JoseError::NotAuthentic`]
    /// when the ciphertext isn't for this key and context.
    pub fn open(&self, jwe: &str, context: JweContext<'_>) -> Result<SecretBytes, JoseError> {
        self.open_up_to(jwe, context, MAX_LEN)
    }

    /// [`Self::open`] for messages of at most so many characters.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_up_to(
        &self,
        jwe: &str,
        context: JweContext<'_>,
        most: usize,
    ) -> Result<SecretBytes, JoseError> {
        if jwe.len() > most {
            return Err(JoseError::Malformed);
        }
        let mut parts = jwe.split('.');
        let (Some(protected), Some(""), Some(iv), Some(ciphertext), Some(tag), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(JoseError::Malformed);
        };
        let header: Header = decode_json(protected)?;
        let apv = self.public.thumbprint();
        if header.typ != context.typ
            || header.kid != self.public.kid()
            || header.apu != context.apu.to_string()
            || header.apv != apv.to_string()
        {
            return Err(JoseError::Malformed);
        }
        let key = derive(&self.private, &header.epk, context.apu, apv)?;
        let part = |text| from_b64u(text).map_err(|_| JoseError::Malformed);
        let iv: [u8; 12] = part(iv)?.try_into().map_err(|_| JoseError::Malformed)?;
        let tag: [u8; 16] = part(tag)?.try_into().map_err(|_| JoseError::Malformed)?;
        let mut buffer = part(ciphertext)?;
        buffer.extend_from_slice(&tag);
        opened(&key, iv, protected.as_bytes(), buffer)
    }
}

/// Opens a content, its tag behind it.
pub(crate) fn opened(
    key: &LessSafeKey,
    iv: [u8; 12],
    aad: &[u8],
    sealed: Vec<u8>,
) -> Result<SecretBytes, JoseError> {
    let mut buffer = Zeroizing::new(sealed);
    let nonce = Nonce::assume_unique_for_key(iv);
    let plain = key
        .open_in_place(nonce, Aad::from(aad), &mut buffer)
        .map_err(|_| JoseError::NotAuthentic)?;
    Ok(SecretBytes::new(plain.to_vec()))
}

/// Seals `plaintext` for `recipient`.
///
/// # Errors
/// [`JoseError::BadKey`] when the recipient's key isn't a point on P-256.
pub fn seal(
    plaintext: &SecretBytes,
    recipient: &Jwk,
    context: JweContext<'_>,
    random: &dyn Random,
) -> Result<String, JoseError> {
    let (ephemeral, _) = SealKey::generate()?;
    let apv = recipient.thumbprint();
    let header = Header {
        alg: EcdhEs::EcdhEs,
        enc: A256Gcm::A256Gcm,
        typ: context.typ.to_owned(),
        kid: recipient.kid(),
        epk: ephemeral.public.clone(),
        apu: context.apu.to_string(),
        apv: apv.to_string(),
    };
    let protected = encode_json(&header)?;
    let key = derive(&ephemeral.private, recipient, context.apu, apv)?;
    // A fresh key for each message, so any nonce would do; random ones are what other implementations send.
    let mut iv = [0; 12];
    random.fill(&mut iv);
    let mut buffer = Zeroizing::new(plaintext.expose().to_vec());
    let tag = key
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(iv),
            Aad::from(protected.as_bytes()),
            buffer.as_mut_slice(),
        )
        .map_err(|_| JoseError::NotAuthentic)?;
    Ok(format!(
        "{protected}..{}.{}.{}",
        b64u(iv),
        b64u(buffer.as_slice()),
        b64u(tag.as_ref())
    ))
}

/// Concat KDF of NIST SP 800-56A with SHA-256, one round, for `enc` A256GCM (RFC 7518 §4.6.2).
pub(crate) fn derive(
    private: &PrivateKey,
    peer: &Jwk,
    apu: Digest32,
    apv: Digest32,
) -> Result<LessSafeKey, JoseError> {
    let peer = UnparsedPublicKey::new(&ECDH_P256, peer.point());
    agree(private, peer, JoseError::BadKey, |z| of_secret(z, apu, apv))
}

pub(crate) fn of_secret(z: &[u8], apu: Digest32, apv: Digest32) -> Result<LessSafeKey, JoseError> {
    let key = Zeroizing::new(
        sha256(&[
            &1u32.to_be_bytes(),
            z,
            &7u32.to_be_bytes(),
            b"A256GCM",
            &32u32.to_be_bytes(),
            &apu.0,
            &32u32.to_be_bytes(),
            &apv.0,
            &256u32.to_be_bytes(),
        ])
        .0,
    );
    UnboundKey::new(&AES_256_GCM, key.as_slice())
        .map(LessSafeKey::new)
        .map_err(|_| JoseError::BadKey)
}

#[cfg(test)]
mod tests {
    use core_types::random::SeededRandom;

    use super::*;

    const TYP: &str = "natsuin-sad+jwe";

    fn context(n: u8) -> JweContext<'static> {
        JweContext {
            typ: TYP,
            apu: Digest32([n; 32]),
        }
    }

    // shows: T-USE-CAPTURE, II-3.3.1-sap-sad-confidentiality
    #[test]
    fn a_message_opens_only_for_its_key_and_context() {
        let random = SeededRandom::new(1);
        let (key, secret) = SealKey::generate().unwrap();
        let (other, _) = SealKey::generate().unwrap();
        let jwe = seal(
            &SecretBytes::from("pin".to_owned()),
            key.public(),
            context(1),
            &random,
        )
        .unwrap();
        assert!(key.open(&jwe, context(1)).unwrap().ct_eq(b"pin"));
        assert!(
            SealKey::from_private(&secret)
                .unwrap()
                .open(&jwe, context(1))
                .unwrap()
                .ct_eq(b"pin")
        );
        assert_eq!(
            key.open(&jwe, context(2)).unwrap_err(),
            JoseError::Malformed
        );
        assert_eq!(
            other.open(&jwe, context(1)).unwrap_err(),
            JoseError::Malformed
        );
        assert!(
            key.open(
                &jwe,
                JweContext {
                    typ: "x",
                    apu: Digest32([1; 32])
                }
            )
            .is_err()
        );
    }

    #[test]
    fn every_changed_part_is_noticed() {
        let random = SeededRandom::new(2);
        let (key, _) = SealKey::generate().unwrap();
        let jwe = seal(
            &SecretBytes::from("pin".to_owned()),
            key.public(),
            context(1),
            &random,
        )
        .unwrap();
        let parts: Vec<&str> = jwe.split('.').collect();
        let header = String::from_utf8(from_b64u(parts[0]).unwrap()).unwrap();
        let with_header =
            |h: String| format!("{}..{}.{}.{}", b64u(h), parts[2], parts[3], parts[4]);
        for changed in [
            header.replace("A256GCM", "A128GCM"),
            header.replace("ECDH-ES", "ECDH-ES+A256KW"),
            header.replacen('{', r#"{"zip":"DEF","#, 1),
            header.replacen('{', r#"{"crit":[],"#, 1),
        ] {
            assert_eq!(
                key.open(&with_header(changed), context(1)).unwrap_err(),
                JoseError::Malformed
            );
        }
        let (foreign, _) = SealKey::generate().unwrap();
        let mut value: serde_json::Value = serde_json::from_str(&header).unwrap();
        value["epk"] = serde_json::to_value(foreign.public()).unwrap();
        assert_eq!(
            key.open(&with_header(value.to_string()), context(1))
                .unwrap_err(),
            JoseError::NotAuthentic
        );
        value["epk"]["x"] = Digest32([7; 32]).to_string().into();
        assert_eq!(
            key.open(&with_header(value.to_string()), context(1))
                .unwrap_err(),
            JoseError::BadKey
        );
        for i in 2..5 {
            let mut changed: Vec<String> = parts.iter().map(|p| (*p).to_owned()).collect();
            let mut bytes = from_b64u(&changed[i]).unwrap();
            bytes[0] ^= 1;
            changed[i] = b64u(bytes);
            assert_eq!(
                key.open(&changed.join("."), context(1)).unwrap_err(),
                JoseError::NotAuthentic
            );
        }
        assert_eq!(
            key.open(&"x".repeat(1 << 20), context(1)).unwrap_err(),
            JoseError::Malformed
        );
    }
}
