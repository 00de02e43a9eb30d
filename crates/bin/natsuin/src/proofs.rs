//! What a registered client of a provider proves beside a secret: a key, a certificate, and that a token is its own.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use core_types::SecretBytes;
use core_types::clock::SystemClock;
use core_types::random::SystemRandom;
use csc_client::{Client, ClientError, ClientKey, DpopKey, KeyUse};
use jose::SigningKey;

use crate::output::{Exit, Failure};

/// A private key of the client.
#[derive(Debug, Default, clap::Args)]
pub struct OwnKey {
    /// File with the client's private key: P-256, PKCS#8 in PEM. It authenticates with it (`private_key_jwt`) if it has no secret.
    #[arg(long, value_name = "FILE")]
    client_key_file: Option<PathBuf>,
    /// What that key is for.
    #[arg(long, value_enum, requires = "client_key_file")]
    client_key_use: Option<UseOfKey>,
}

/// What a client's key is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum UseOfKey {
    /// It authenticates the client.
    #[default]
    Authentication,
    /// It signs the client's requests (RFC 9101): beside a secret or a certificate.
    Requests,
    /// It does both.
    Both,
}

/// A certificate of the client (RFC 8705).
#[derive(Debug, Default, clap::Args)]
pub struct OwnCertificate {
    /// Client certificate with those between it and its CA, PEM; shown where a server asks for one. --url is then the address that
    /// asks.
    #[arg(long, value_name = "PEM", requires = "tls_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// File with its private key, PKCS#8 in PEM.
    #[arg(long, value_name = "PEM", requires = "tls_cert_file")]
    tls_key_file: Option<PathBuf>,
}

impl OwnKey {
    /// The client with its key, if there is one.
    ///
    /// # Errors
    /// [`Failure`]: the file can't be used.
    pub(crate) fn given_to(&self, client: Client) -> Result<Client, Failure> {
        let Some(file) = &self.client_key_file else {
            return Ok(client);
        };
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let key = ClientKey::new(signing_key(file)?, clock, random);
        Ok(
            client.with_key(match self.client_key_use.unwrap_or_default() {
                UseOfKey::Authentication => key.only_for(KeyUse::Authentication),
                UseOfKey::Requests => key.only_for(KeyUse::Requests),
                UseOfKey::Both => key,
            }),
        )
    }
}

impl OwnCertificate {
    /// Certificate and key in one PEM text.
    ///
    /// # Errors
    /// [`Failure`]: a file can't be read.
    pub(crate) fn pem(&self) -> Result<Option<SecretBytes>, Failure> {
        let (Some(certificate), Some(key)) = (&self.tls_cert_file, &self.tls_key_file) else {
            return Ok(None);
        };
        let read = |file: &Path| fs::read(file).map_err(|e| unusable(file, &e));
        let mut pem = read(certificate)?;
        pem.push(b'\n');
        pem.append(&mut read(key)?);
        Ok(Some(SecretBytes::new(pem)))
    }
}

/// A key for tokens of this process alone.
///
/// # Errors
/// [`Failure`] when none can be made.
pub(crate) fn fresh() -> Result<DpopKey, Failure> {
    let made = DpopKey::generate(Arc::new(SystemClock), Arc::new(SystemRandom));
    made.map_err(|error: ClientError| Failure::from(anyhow::Error::from(error)))
}

/// The key that the tokens of a session of several commands belong to. The command that begins it makes it, for its owner alone.
///
/// # Errors
/// [`Failure`]: the file can't be used, or isn't there and `begins` is false.
pub(crate) fn of_session(file: &Path, begins: bool) -> Result<DpopKey, Failure> {
    if begins && !file.exists() {
        let made = SigningKey::generate().map_err(|e| unusable(file, &e));
        let (_, pkcs8) = made?;
        let pem = SecretBytes::from(pki::pem::encode("PRIVATE KEY", pkcs8.expose()));
        let new = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(file);
        let written = new.and_then(|mut to| to.write_all(pem.expose()));
        written.map_err(|e| unusable(file, &e))?;
    }
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    Ok(DpopKey::new(signing_key(file)?, clock, random))
}

fn signing_key(file: &Path) -> Result<SigningKey, Failure> {
    let text = fs::read_to_string(file).map_err(|e| unusable(file, &e))?;
    let text = SecretBytes::from(text);
    let pem = std::str::from_utf8(text.expose()).unwrap_or_default();
    let blocks = pki::pem::decode_all("PRIVATE KEY", pem).map_err(|e| unusable(file, &e))?;
    let der = blocks.into_iter().next();
    let der = der.ok_or_else(|| unusable(file, &"no private key in it"))?;
    SigningKey::from_pkcs8(&SecretBytes::new(der)).map_err(|e| unusable(file, &e))
}

fn unusable(file: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        Exit::Input,
        "file",
        format!("{}: {why}", file.display()),
        "name a file in PEM that can be read; a key is P-256, made with openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    // shows: T-USE-CRED-FORGE
    #[test]
    fn a_session_has_one_key_which_only_its_owner_reads() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("session.pem");
        assert!(of_session(&file, false).is_err(), "nobody began it");
        let first = of_session(&file, true).unwrap().thumbprint();
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for begins in [false, true] {
            let again = of_session(&file, begins).unwrap();
            assert_eq!(again.thumbprint(), first);
        }
        fs::write(&file, "no key").unwrap();
        assert!(of_session(&file, true).is_err());
    }
}
