//! A person's own private key, from a file: PKCS#8 in PEM or DER, with or without a password, or PKCS#12.

use std::path::Path;

use cm_core::backend::{Backend as _, PrivateKey};
use cm_soft::SoftBackend;
use core_types::{KeyAlg, SecretBytes};
use sic_core::OwnKey;

use super::pkcs12::{self, FileError};
use crate::output::{Exit, Failure};

/// Longest file that is looked at.
const LONGEST: u64 = 256 * 1024;

/// A private key that was read.
pub struct KeyFile {
    /// Kind.
    pub alg: KeyAlg,
    pkcs8: SecretBytes,
    key: Box<dyn PrivateKey>,
}

impl KeyFile {
    /// Reads a file. `password`: asked for only when the file has one.
    ///
    /// # Errors
    /// [`Failure`]: what is wrong with the file.
    pub fn read(
        path: &Path,
        password: impl FnOnce() -> Result<SecretBytes, Failure>,
    ) -> Result<Self, Failure> {
        let failed = |what: &dyn std::fmt::Display, remedy: &'static str| {
            let what = format!("{}: {what}", path.display());
            Failure::new(Exit::Input, "key-file", what, remedy)
        };
        let size = std::fs::metadata(path).map_err(|e| failed(&e, "check the path"))?;
        if size.len() > LONGEST {
            return Err(failed(
                &"it is too long for a key",
                "name the file with the key",
            ));
        }
        let bytes = std::fs::read(path).map_err(|e| failed(&e, "check the path"))?;
        let bytes = SecretBytes::new(bytes);
        let pkcs8 = match form(&bytes) {
            Form::Plain(pkcs8) => pkcs8,
            Form::Encrypted(der) => {
                let opened = pkcs12::open_pkcs8(der.expose(), &password()?);
                opened.map_err(|e| failed(&e, remedy(&e)))?
            }
            Form::Pkcs12 => {
                let opened = pkcs12::open(bytes.expose(), &password()?);
                opened.map_err(|e| failed(&e, remedy(&e)))?
            }
            Form::Other => {
                let what = "it is neither PKCS#8 nor PKCS#12";
                return Err(failed(
                    &what,
                    "convert it with: openssl pkcs8 -topk8 -in FILE",
                ));
            }
        };
        Self::of(pkcs8).ok_or_else(|| {
            let what = "it is no private key of a kind that this service signs with";
            failed(&what, "use RSA of 2048 bits and more, P-256 or Ed25519")
        })
    }

    /// A private key, PKCS#8 in DER; nothing for kinds that aren't signed with.
    pub fn of(pkcs8: SecretBytes) -> Option<Self> {
        KeyAlg::ALL.into_iter().find_map(|alg| {
            let key = SoftBackend.load(alg, &pkcs8).ok()?;
            (pki::key_alg(key.spki()) == Some(alg)).then(|| Self {
                alg,
                pkcs8: pkcs8.clone(),
                key,
            })
        })
    }

    /// SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> &[u8] {
        self.key.spki()
    }

    /// The key with its own signature over `binding`.
    ///
    /// # Errors
    /// [`Failure`] when it can't sign.
    pub fn prove(&self, binding: &[u8]) -> Result<OwnKey, Failure> {
        let alg = self.alg.csr_alg();
        let proof = self.key.sign(alg, &alg.dtbs(binding)).map_err(|fault| {
            let remedy = "the file's two halves don't fit together: use another";
            Failure::new(Exit::Input, "key-file", fault.to_string(), remedy)
        })?;
        Ok(OwnKey {
            pkcs8: self.pkcs8.clone(),
            spki: self.spki().to_vec(),
            proof,
        })
    }
}

enum Form {
    Plain(SecretBytes),
    Encrypted(SecretBytes),
    Pkcs12,
    Other,
}

/// Tells the forms apart by what stands first: PKCS#8 begins with version 0 or 1, PKCS#12 with 3, an encrypted one with an
/// algorithm.
fn form(bytes: &SecretBytes) -> Form {
    let text = std::str::from_utf8(bytes.expose()).unwrap_or_default();
    if text.contains("-----BEGIN ") {
        let block = |label| {
            let blocks = pki::pem::decode_all(label, text).ok()?;
            blocks.into_iter().next().map(SecretBytes::new)
        };
        return match (block("PRIVATE KEY"), block("ENCRYPTED PRIVATE KEY")) {
            (Some(der), _) => Form::Plain(der),
            (None, Some(der)) => Form::Encrypted(der),
            (None, None) => Form::Other,
        };
    }
    use pki::asn1::{INTEGER, SEQUENCE, Tlv};
    const WHAT: &str = "key file";
    let outer = Tlv::single(bytes.expose(), WHAT);
    let Some(mut fields) = outer.ok().and_then(|o| o.open(SEQUENCE, WHAT).ok()) else {
        return Form::Other;
    };
    let first = fields.next(WHAT).ok();
    let version = first.filter(|f| f.tag == INTEGER);
    match version.map(|v| v.as_u32(WHAT)) {
        Some(Ok(0 | 1)) => Form::Plain(bytes.clone()),
        Some(Ok(3)) => Form::Pkcs12,
        Some(_) => Form::Other,
        None => Form::Encrypted(bytes.clone()),
    }
}

fn remedy(error: &FileError) -> &'static str {
    match error {
        FileError::Password => "try the password again",
        FileError::Old => {
            "write it anew: openssl pkcs12 -legacy -in FILE -nodes | openssl pkcs12 -export -out NEW"
        }
        FileError::Several => "export the one key that you want into a file of its own",
        FileError::NoKey | FileError::Form(_) => "export the key with its certificate again",
    }
}
