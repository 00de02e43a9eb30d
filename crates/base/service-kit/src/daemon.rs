//! What the daemons' configuration files have in common: TOML with unknown keys refused, PEM and key files beside.

use std::fs;
use std::path::{Path, PathBuf};

use core_types::SecretBytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Identity, Trouble};

/// Files of a TLS identity and the CA that vouches for the other side.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Own certificate chain, PEM.
    pub chain: PathBuf,
    /// Own private key, PKCS#8 PEM.
    pub key: PathBuf,
    /// CA of the other zones' certificates, PEM.
    pub ca: PathBuf,
}

impl TlsFiles {
    /// The own identity.
    ///
    /// # Errors
    /// [`Trouble`] when a file can't be read.
    pub fn identity(&self) -> Result<Identity, Trouble> {
        Ok(Identity {
            chain_pem: text(&self.chain)?,
            key_pem: SecretBytes::from(text(&self.key)?),
        })
    }

    /// The CA's certificates, PEM.
    ///
    /// # Errors
    /// [`Trouble`] when the file can't be read.
    pub fn ca_pem(&self) -> Result<String, Trouble> {
        text(&self.ca)
    }
}

/// Reads a configuration file. Paths in it are taken as they stand.
///
/// # Errors
/// [`Trouble`] `bad-config`, with the place in the file.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, Trouble> {
    toml::from_str(&text(path)?).map_err(|e| {
        Trouble::new(
            "bad-config",
            format!("{}: {e}", path.display()),
            "compare with the commented sample of this daemon",
        )
    })
}

/// Reads a text file.
///
/// # Errors
/// [`Trouble`] `config-file`.
pub fn text(path: &Path) -> Result<String, Trouble> {
    fs::read_to_string(path).map_err(|e| unreadable(path, &e))
}

/// Reads a file of exactly 32 secret bytes.
///
/// # Errors
/// [`Trouble`] when it can't be read or has another length.
pub fn secret32(path: &Path) -> Result<SecretBytes, Trouble> {
    let bytes = SecretBytes::new(fs::read(path).map_err(|e| unreadable(path, &e))?);
    if bytes.len() == 32 {
        return Ok(bytes);
    }
    let what = format!("{} has {} bytes instead of 32", path.display(), bytes.len());
    Err(Trouble::new(
        "config-file",
        what,
        "make it once with: head -c 32 /dev/urandom",
    ))
}

/// Waits for Ctrl-C or the signal that service managers send.
pub async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).ok();
    let terminated = async {
        match &mut terminate {
            Some(signal) => signal.recv().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Trouble {
    Trouble::new(
        "config-file",
        format!("{} can't be read: {error}", path.display()),
        "check the path and that only this daemon's user may read it",
    )
}
