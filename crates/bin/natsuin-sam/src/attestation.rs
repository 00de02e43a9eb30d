//! The table `[attestation]`: which authenticators are vouched for, by lists and files of the operator's.

use std::path::{Path, PathBuf};

use sam_core::attest::{AttestationPolicy, Format, Model};
use sam_service::MetadataFile;
use serde::Deserialize;
use service_kit::Trouble;
use service_kit::daemon::FilesRead;

/// The table. Without it no authenticator is vouched for, and no key is above level 2.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AttestationConfig {
    models: Vec<String>,
    formats: Vec<String>,
    roots: Option<PathBuf>,
    metadata: Option<PathBuf>,
    metadata_root: Option<PathBuf>,
}

impl AttestationConfig {
    /// Reads the lists and the roots. The metadata themselves are the SAM's to read.
    ///
    /// # Errors
    /// [`Trouble`]: a file, a model's name or a format's can't be used, or something is missing.
    pub(crate) fn load(
        &self,
        files: &mut FilesRead,
    ) -> Result<(AttestationPolicy, Option<MetadataFile>), Trouble> {
        let model = |text: &String| {
            let wrong = || trouble(format!("attestation.models: {text:?} is no AAGUID"));
            Model::parse(text).ok_or_else(wrong)
        };
        let format = |text: &String| {
            let verified = "packed, fido-u2f, tpm and apple are verified";
            let wrong = || {
                trouble(format!(
                    "attestation.formats: {text:?} isn't one; {verified}"
                ))
            };
            Format::parse(text).ok_or_else(wrong)
        };
        if self.formats.is_empty() && !self.models.is_empty() {
            let what = "attestation.models vouches for models, and attestation.formats names no format that counts";
            return Err(trouble(what.to_owned()));
        }
        let metadata = match (&self.metadata, &self.metadata_root) {
            (None, None) => None,
            (Some(path), Some(root)) => Some(MetadataFile {
                path: path.clone(),
                root: metadata_root(files, root)?,
            }),
            _ => {
                let what = "attestation.metadata and attestation.metadata_root belong together";
                return Err(trouble(what.to_owned()));
            }
        };
        let policy = AttestationPolicy {
            models: self.models.iter().map(model).collect::<Result<_, _>>()?,
            formats: self.formats.iter().map(format).collect::<Result<_, _>>()?,
            roots: match &self.roots {
                Some(path) => certificates(files, "attestation.roots", path)?,
                None => Vec::new(),
            },
        };
        Ok((policy, metadata))
    }
}

fn metadata_root(files: &mut FilesRead, path: &Path) -> Result<Vec<u8>, Trouble> {
    let mut roots = certificates(files, "attestation.metadata_root", path)?;
    match (roots.pop(), roots.is_empty()) {
        (Some(root), true) => Ok(root),
        _ => {
            let what = "attestation.metadata_root is one certificate";
            Err(trouble(what.to_owned()))
        }
    }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn load(text: &str) -> Result<AttestationPolicy, String> {
        let config: AttestationConfig = serde_json::from_str(text).unwrap();
        let loaded = config.load(&mut FilesRead::default());
        loaded.map(|(policy, _)| policy).map_err(|e| e.what)
    }

    #[test]
    fn models_count_with_a_format_that_is_verified_only() {
        let model = r#""models":["a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1"]"#;
        let policy = load(&format!(r#"{{{model},"formats":["packed","tpm"]}}"#)).unwrap();
        assert_eq!(
            policy.formats,
            BTreeSet::from([Format::Packed, Format::Tpm])
        );
        assert!(
            load(&format!("{{{model}}}"))
                .unwrap_err()
                .contains("formats")
        );
        for other in ["none", "android-key", "PACKED"] {
            let refused = load(&format!(r#"{{{model},"formats":["{other}"]}}"#));
            assert!(refused.unwrap_err().contains(other), "{other}");
        }
        assert_eq!(load("{}"), Ok(AttestationPolicy::default()));
    }
}
