//! The stack's directory: one folder a zone, secrets readable by the owner only, everything written atomically.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use core_types::{Random, SecretBytes};
use serde::Serialize;
use serde::de::DeserializeOwned;
use service_kit::Trouble;

/// The directory and the folders in it.
#[derive(Debug, Clone)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// Opens the directory, making it where missing.
    ///
    /// # Errors
    /// [`Trouble`] `data-dir` when it can't be used.
    pub fn open(path: &Path) -> Result<Self, Trouble> {
        let this = Self(path.to_owned());
        for folder in ["", "ca", "cm", "sam", "ssa", "sca", "office", "witness"] {
            let folder = path.join(folder);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .map_err(|e| unusable(&folder, &e))?;
        }
        let probe = path.join(".writable");
        fs::write(&probe, b"").map_err(|e| unusable(path, &e))?;
        fs::remove_file(&probe).map_err(|e| unusable(path, &e))?;
        Ok(this)
    }

    /// A path inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// 32 secret bytes kept in a file, drawn at the first start.
    ///
    /// # Errors
    /// [`Trouble`] when the file can't be read or written or has another length.
    pub fn secret(&self, name: &str, random: &dyn Random) -> Result<SecretBytes, Trouble> {
        let path = self.join(name);
        if !path.exists() {
            write_atomically(&path, &random.digest32().0)?;
        }
        let bytes = SecretBytes::new(fs::read(&path).map_err(|e| unusable(&path, &e))?);
        if bytes.len() != 32 {
            return Err(Trouble::new(
                "data-damaged",
                format!("{} is not a secret of 32 bytes", path.display()),
                "restore the directory from a backup, or start with a new one",
            ));
        }
        Ok(bytes)
    }

    /// Keeps a line of public text.
    ///
    /// # Errors
    /// [`Trouble`] when it can't be written.
    pub fn keep(&self, name: &str, text: &str) -> Result<(), Trouble> {
        write_atomically(&self.join(name), format!("{text}\n").as_bytes())
    }

    /// A JSON document kept in a file; nothing when there is none yet.
    ///
    /// # Errors
    /// [`Trouble`] when it can't be read.
    pub fn load<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Trouble> {
        let path = self.join(name);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read(&path).map_err(|e| unusable(&path, &e))?;
        serde_json::from_slice(&text).map(Some).map_err(|_| {
            Trouble::new(
                "data-damaged",
                format!("{} can't be read", path.display()),
                "restore the directory from a backup, or start with a new one",
            )
        })
    }

    /// Keeps a JSON document.
    ///
    /// # Errors
    /// [`Trouble`] when it can't be written.
    pub fn save(&self, name: &str, value: &impl Serialize) -> Result<(), Trouble> {
        write_json(&self.join(name), value)
    }
}

/// Writes JSON so that a reader sees the old file or the whole new one.
///
/// # Errors
/// [`Trouble`] when it can't be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Trouble> {
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    write_atomically(path, &text)
}

fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Trouble> {
    let beside = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|e| unusable(path, &e))
}

fn unusable(path: &Path, error: &std::io::Error) -> Trouble {
    Trouble::new(
        "data-dir",
        format!("{} can't be used: {error}", path.display()),
        "name a directory that this program may write, with --data",
    )
}
