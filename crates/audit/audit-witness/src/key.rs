//! The key that cosigns (C2SP tlog-cosignature, Ed25519).

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use core_types::bytes::{b64, hex, sha256};
use core_types::{SecretBytes, UnixTime};

use crate::keeper::KeeperError;

/// Signature type *cosignature/v1* of the signed-note format.
const COSIGNATURE: u8 = 4;

/// A witness's name and key.
pub struct CosignKey {
    name: String,
    pair: Ed25519KeyPair,
}

impl std::fmt::Debug for CosignKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CosignKey({})", self.name)
    }
}

impl CosignKey {
    /// The key with this 32-byte seed. `name`: an address without scheme, such as `witness.example.jp/natsuin`.
    ///
    /// # Errors
    /// [`KeeperError::BadKey`].
    pub fn from_seed(name: &str, seed: &SecretBytes) -> Result<Self, KeeperError> {
        let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if !(1..=100).contains(&name.len()) || name.contains(bad) {
            return Err(KeeperError::BadKey);
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose());
        Ok(Self {
            name: name.to_owned(),
            pair: pair.map_err(|_| KeeperError::BadKey)?,
        })
    }

    /// The public key in the text form of signed notes: `NAME+HASH+KEY`.
    pub fn public(&self) -> String {
        format!("{}+{}+{}", self.name, hex(self.id()), b64(self.typed()))
    }

    /// The signature line over a note's text, with the newline that ends it.
    pub(crate) fn cosign(&self, text: &str, now: UnixTime) -> String {
        let time = u64::try_from(now.0).unwrap_or(0);
        let message = format!("cosignature/v1\ntime {time}\n{text}");
        let signature = self.pair.sign(message.as_bytes());
        let bytes = [&self.id()[..], &time.to_be_bytes(), signature.as_ref()].concat();
        format!("\u{2014} {} {}\n", self.name, STANDARD.encode(bytes))
    }

    fn typed(&self) -> Vec<u8> {
        [&[COSIGNATURE], self.pair.public_key().as_ref()].concat()
    }

    fn id(&self) -> [u8; 4] {
        let digest = sha256(&[self.name.as_bytes(), b"\n", &self.typed()]);
        [digest.0[0], digest.0[1], digest.0[2], digest.0[3]]
    }
}
