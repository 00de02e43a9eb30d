//! P-256 keys in PEM files.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use core_types::{HashAlg, SecretBytes, SigAlg};
use pki::pem;

use crate::DevCaError;

/// What all keys of the development CA sign with.
pub(crate) const SIG_ALG: SigAlg = SigAlg::Ecdsa(HashAlg::Sha256);

/// A private key with its PKCS#8 form.
pub(crate) struct DevKey {
    pair: EcdsaKeyPair,
    spki: Vec<u8>,
    pkcs8: SecretBytes,
}

impl DevKey {
    pub(crate) fn generate() -> Result<Self, DevCaError> {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
                .map_err(|_| DevCaError::Crypto("make a key"))?;
        Self::from_pkcs8(SecretBytes::new(document.as_ref().to_vec()))
            .ok_or(DevCaError::Crypto("read its own key"))
    }

    fn from_pkcs8(pkcs8: SecretBytes) -> Option<Self> {
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.expose()).ok()?;
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().ok()?;
        let spki = spki.as_ref().to_vec();
        Some(Self { pair, spki, pkcs8 })
    }

    /// Reads the key of this name in the directory; makes it if there is none.
    pub(crate) fn open(dir: &Path, name: &str) -> Result<Self, DevCaError> {
        let path = dir.join(format!("{name}.key.pem"));
        if path.exists() {
            let text = fs::read_to_string(&path).map_err(|e| io(&path, e))?;
            let blocks = pem::decode_all("PRIVATE KEY", &text).unwrap_or_default();
            let key = blocks
                .into_iter()
                .next()
                .and_then(|der| Self::from_pkcs8(der.into()));
            return key.ok_or_else(|| DevCaError::Damaged(path.display().to_string()));
        }
        let key = Self::generate()?;
        write(&path, key.pem().expose())?;
        Ok(key)
    }

    /// PKCS#8 as PEM.
    pub(crate) fn pem(&self) -> SecretBytes {
        pem::encode("PRIVATE KEY", self.pkcs8.expose()).into()
    }

    pub(crate) fn pkcs8(&self) -> &SecretBytes {
        &self.pkcs8
    }

    /// DER SubjectPublicKeyInfo.
    pub(crate) fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// ECDSA value in DER over the message.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, DevCaError> {
        let value = self.pair.sign(&SystemRandom::new(), message);
        value
            .map(|v| v.as_ref().to_vec())
            .map_err(|_| DevCaError::Crypto("sign"))
    }
}

pub(crate) fn io(path: &Path, source: std::io::Error) -> DevCaError {
    DevCaError::Io {
        path: path.display().to_string(),
        source,
    }
}

/// Writes a file that only its owner can read, in one step.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), DevCaError> {
    let temporary = path.with_extension("new");
    let result = (|| {
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    result.map_err(|e| io(path, e))
}
