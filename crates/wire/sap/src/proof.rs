//! The person's proof over an act.

use core_types::{B64, Digest32, SecretBytes};
use serde::{Deserialize, Serialize};

/// A way to prove a signer's will. Which one counts at which level is decided by the SAM alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// WebAuthn assertion with user verification.
    Passkey,
    /// PIN and one-time code, sealed by the SIC.
    PinTotp,
    /// Signature by a key that the person's own program keeps, and a PIN sealed by it.
    Device,
    /// ID token of an identity provider, whose nonce is the digest of the act.
    Idp,
    /// PIN and one-time code of one credential alone, collected by an application and seen by it and the SSA. Level 1.
    Collected,
}

/// Longest proof in bytes of its members' text.
pub const MAX_PROOF: usize = 16 * 1024;

/// A proof, told apart by `method`; `act` is the digest of the act it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Proof {
    /// WebAuthn assertion whose challenge is the digest of the act.
    Passkey {
        /// Digest of the act.
        act: Digest32,
        /// Credential id.
        id: B64,
        /// `authenticatorData`.
        #[serde(rename = "authData")]
        auth_data: B64,
        /// `clientDataJSON`, as the browser made it.
        #[serde(rename = "clientData")]
        client_data: B64,
        /// Signature over `authData ‖ SHA-256(clientData)`.
        sig: B64,
    },
    /// PIN and one-time code, sealed for the SAM.
    PinTotp {
        /// Digest of the act.
        act: Digest32,
        /// Compact JWE with a [`SealedProof`] inside.
        sealed: String,
    },
    /// Signature by a device key over the 32 bytes of the digest, and a PIN, sealed for the SAM.
    Device {
        /// Digest of the act.
        act: Digest32,
        /// Thumbprint of the device key (RFC 7638).
        key: Digest32,
        /// ES256 over `act`: r and s, 64 bytes.
        sig: B64,
        /// Compact JWE with a [`SealedPin`] inside.
        sealed: String,
    },
    /// The word of an identity provider, given for this act.
    Idp {
        /// Digest of the act.
        act: Digest32,
        /// ID token (compact JWS), whose `nonce` is the digest.
        id_token: String,
    },
}

impl Proof {
    /// Digest of the act the proof is for.
    pub fn act(&self) -> Digest32 {
        match self {
            Self::Passkey { act, .. }
            | Self::PinTotp { act, .. }
            | Self::Device { act, .. }
            | Self::Idp { act, .. } => *act,
        }
    }

    /// Whether it is no longer than [`MAX_PROOF`].
    pub fn fits(&self) -> bool {
        let text = |bytes: &B64| bytes.0.len().div_ceil(3).saturating_mul(4);
        let length = match self {
            Self::Passkey {
                id,
                auth_data,
                client_data,
                sig,
                ..
            } => [id, auth_data, client_data, sig]
                .into_iter()
                .map(text)
                .fold(0, usize::saturating_add),
            Self::PinTotp { sealed, .. } => sealed.len(),
            Self::Device { sig, sealed, .. } => text(sig).saturating_add(sealed.len()),
            Self::Idp { id_token, .. } => id_token.len(),
        };
        length <= MAX_PROOF
    }

    /// The method used.
    pub fn method(&self) -> Method {
        match self {
            Self::Passkey { .. } => Method::Passkey,
            Self::PinTotp { .. } => Method::PinTotp,
            Self::Device { .. } => Method::Device,
            Self::Idp { .. } => Method::Idp,
        }
    }
}

/// What is inside `sealed` of a proof. Strings, so that a page can build it with `JSON.stringify`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedProof {
    /// Digest of the act.
    pub act: Digest32,
    /// The PIN as typed.
    #[serde(with = "secret_text")]
    pub pin: SecretBytes,
    /// The one-time code as typed.
    #[serde(with = "secret_text")]
    pub otp: SecretBytes,
}

/// What is inside `sealed` of a proof with a device key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedPin {
    /// Digest of the act.
    pub act: Digest32,
    /// The PIN as typed.
    #[serde(with = "secret_text")]
    pub pin: SecretBytes,
}

/// Secret text that travels as a JSON string.
pub mod secret_text {
    use core_types::SecretBytes;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the text; bytes that aren't UTF-8 are an error.
    ///
    /// # Errors
    /// When the secret isn't UTF-8.
    pub fn serialize<S: Serializer>(secret: &SecretBytes, s: S) -> Result<S::Ok, S::Error> {
        let text = std::str::from_utf8(secret.expose()).map_err(serde::ser::Error::custom)?;
        s.serialize_str(text)
    }

    /// Reads the text.
    ///
    /// # Errors
    /// When the value isn't a string.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<SecretBytes, D::Error> {
        String::deserialize(d).map(SecretBytes::from)
    }
}

/// Secret text that may be missing.
pub mod optional_secret_text {
    use core_types::SecretBytes;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the text, or nothing.
    ///
    /// # Errors
    /// When the secret isn't UTF-8.
    pub fn serialize<S: Serializer>(secret: &Option<SecretBytes>, s: S) -> Result<S::Ok, S::Error> {
        match secret {
            Some(secret) => super::secret_text::serialize(secret, s),
            None => s.serialize_none(),
        }
    }

    /// Reads the text, if it is there.
    ///
    /// # Errors
    /// When the value isn't a string.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<SecretBytes>, D::Error> {
        Ok(Option::<String>::deserialize(d)?.map(SecretBytes::from))
    }
}
