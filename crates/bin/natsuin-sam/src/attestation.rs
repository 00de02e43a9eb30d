//! The table `[attestation]`: which authenticators are vouched for, from files of the operator's.

use std::path::{Path, PathBuf};

use core_types::UnixTime;
use sam_core::attest::{Attesters, Metadata, Model};
use serde::Deserialize;
use service_kit::daemon::FilesRead;
use service_kit::{Trouble, daemon};

/// The table. Without it no authenticator is vouched for, and no key is above level 2.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AttestationConfig {
    models: Vec<String>,
    roots: Option<PathBuf>,
    metadata: Option<PathBuf>,
    metadata_root: Option<PathBuf>,
}

impl AttestationConfig {
    /// Reads the files, and checks the metadata's signature.
    ///
    /// # Errors
    /// [`Trouble`]: a file or a model's name can't be used, or the metadata aren't authentic.
    pub(crate) fn load(&self, files: &mut FilesRead, now: UnixTime) -> Result<Attesters, Trouble> {
        let model = |text: &String| {
            let wrong = || trouble(format!("attestation.models: {text:?} is no AAGUID"));
            Model::parse(text).ok_or_else(wrong)
        };
        let metadata = match (&self.metadata, &self.metadata_root) {
            (None, None) => None,
            (Some(blob), Some(root)) => Some(metadata(files, blob, root, now)?),
            _ => {
                let what = "attestation.metadata and attestation.metadata_root belong together";
                return Err(trouble(what.to_owned()));
            }
        };
        Ok(Attesters {
            models: self.models.iter().map(model).collect::<Result<_, _>>()?,
            roots: match &self.roots {
                Some(path) => certificates(files, "attestation.roots", path)?,
                None => Vec::new(),
            },
            metadata,
        })
    }
}

fn metadata(
    files: &mut FilesRead,
    blob: &Path,
    root: &Path,
    now: UnixTime,
) -> Result<Metadata, Trouble> {
    let root = certificates(files, "attestation.metadata_root", root)?;
    let [root] = root.as_slice() else {
        let what = "attestation.metadata_root is one certificate";
        return Err(trouble(what.to_owned()));
    };
    let read = Metadata::read(&daemon::text(blob)?, root, now);
    let metadata = read.map_err(|e| trouble(format!("{}: {e}", blob.display())))?;
    if now >= metadata.next_update {
        tracing::warn!("the authenticator metadata are out of date: no new one is vouched for");
    }
    Ok(metadata)
}

fn certificates(files: &mut FilesRead, name: &str, path: &Path) -> Result<Vec<Vec<u8>>, Trouble> {
    let parsed = pki::Certificate::parse_pem(&files.text(name, path)?);
    let parsed = parsed.map_err(|e| trouble(format!("{}: {e}", path.display())))?;
    Ok(parsed.iter().map(|c| c.der().to_vec()).collect())
}

fn trouble(what: String) -> Trouble {
    Trouble::new(
        "config-file",
        what,
        "see [attestation] in the sample of this daemon",
    )
}
