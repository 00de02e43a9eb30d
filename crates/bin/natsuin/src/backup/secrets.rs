//! What opens the things in a backup, and so never lies in one beside them (`III-3-1-no-plaintext-private-key`).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ::backup::BackupError;
use core_types::{Digest32, SecretBytes, sha256};
use serde_json::Value;
use service_kit::daemon;

/// Bytes of a secret: the module's root, or the seed of a log's key.
const SECRET: usize = 32;
/// First bytes of a root secret that is sealed with a passphrase (`natsuin-cm seal-root`).
const SEALED: &[u8] = b"natsuin-root-v1\n";
/// Largest file that is read as a configuration, in bytes.
const LARGEST: u64 = 1 << 20;

/// Digests of the secrets that the configurations among the files name.
#[derive(Default)]
pub(super) struct Secrets(BTreeSet<Digest32>);

impl Secrets {
    /// Looks through a file, or all files below a folder: whatever can be read as a configuration of the module's says where its
    /// root secret and its PINs are.
    pub(super) fn look(&mut self, path: &Path) -> std::io::Result<()> {
        let kind = fs::symlink_metadata(path)?;
        if kind.is_dir() {
            for entry in fs::read_dir(path)? {
                self.look(&entry?.path())?;
            }
        } else if kind.is_file()
            && kind.len() <= LARGEST
            && let Ok(config) = daemon::load::<Value>(path)
        {
            self.named(&config, path.parent().unwrap_or(path));
        }
        Ok(())
    }

    fn named(&mut self, value: &Value, folder: &Path) {
        match value {
            Value::Array(all) => all.iter().for_each(|value| self.named(value, folder)),
            Value::Object(all) => {
                for (name, value) in all {
                    match (name.as_str(), value.as_str()) {
                        ("root_secret" | "pin_file" | "passphrase_file", Some(file)) => {
                            // What can't be read from here can't be put in from here either.
                            if let Ok(bytes) = fs::read(folder.join(file)) {
                                let bytes = SecretBytes::new(bytes);
                                self.0.insert(sha256(&[bytes.expose()]));
                            }
                        }
                        _ => self.named(value, folder),
                    }
                }
            }
            _ => {}
        }
    }

    /// Refuses what is such a secret, under whatever name it lies there; and what may be one, unless it was named `singly`.
    pub(super) fn refuse(
        &self,
        path: &Path,
        bytes: &[u8],
        singly: bool,
    ) -> Result<(), BackupError> {
        let why = if bytes.starts_with(SEALED) || self.0.contains(&sha256(&[bytes])) {
            "opens what is in the backup, and must not lie beside it"
        } else if bytes.len() == SECRET && !singly {
            "has 32 bytes, as the root secret has, and isn't taken out of a folder"
        } else {
            return Ok(());
        };
        Err(BackupError::Secret(format!("{} {why}", path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // shows: III-3-1-no-plaintext-private-key
    #[test]
    fn what_opens_the_keys_is_known_under_any_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let (pin, root) = (file("pin", b"1234\n"), file("root", &[7; 32]));
        let config = format!(
            "root_secret = {root:?}\n[backend]\nkind = \"several\"\n[[backend.tokens]]\npin_file = {pin:?}\n"
        );
        file("cm.toml", config.as_bytes());
        file("other.txt", b"no configuration");
        let mut secrets = Secrets::default();
        secrets.look(dir.path()).unwrap();
        let refused = |bytes: &[u8], singly| {
            secrets
                .refuse(&dir.path().join("x"), bytes, singly)
                .is_err()
        };
        for singly in [true, false] {
            assert!(refused(&[7; 32], singly));
            assert!(refused(b"1234\n", singly));
            assert!(refused(&[SEALED, &[1; 60]].concat(), singly));
            assert!(!refused(b"other", singly));
            assert_eq!(refused(&[8; 32], singly), !singly);
        }
        // A configuration tells it without lying in the same folder.
        let mut alone = Secrets::default();
        alone.look(&dir.path().join("cm.toml")).unwrap();
        assert!(alone.refuse(&root, &[7; 32], true).is_err());
    }
}
