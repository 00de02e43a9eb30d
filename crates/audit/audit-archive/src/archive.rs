//! The files of an archive.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use core_types::bytes::hex;
use core_types::{Digest32, UnixTime, sha256};
use jose::{Jwk, SigningKey};
use serde::{Deserialize, Serialize};

/// `typ` of the signature.
const TYP_ARCHIVE: &str = "natsuin-archive+jws";
/// `schema` of the manifest.
const SCHEMA: &str = "natsuin.archive/1";
/// Files of an archive beside the logs.
const MANIFEST: &str = "archive.json";
const SIGNATURE: &str = "archive.sig";
/// Folder of the logs.
const LOG: &str = "log";

/// An archive whose every byte is as it was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    dir: PathBuf,
    name: Digest32,
    manifest: Manifest,
}

/// What is signed of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    schema: String,
    /// Time of archiving.
    archived: UnixTime,
    /// Number of entries of each log, from the first on.
    entries: BTreeMap<String, u64>,
    /// By path under the archive.
    files: BTreeMap<String, Listed>,
}

/// One file as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    size: u64,
    sha256: String,
}

/// Payload of the signature.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    manifest: Digest32,
}

/// A file or directory that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {what}")]
pub struct Unusable {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub what: String,
}

impl Archive {
    /// Writes an export that was checked to a directory that isn't there yet. `entries`: how many each log has.
    ///
    /// # Errors
    /// [`Unusable`]; what was written so far has no signature, and is no archive.
    pub fn write(
        export: &Path,
        to: &Path,
        entries: BTreeMap<String, u64>,
        key: &SigningKey,
        now: UnixTime,
    ) -> Result<(), Unusable> {
        fs::create_dir(to).map_err(|e| unusable(to, &e))?;
        let mut files = BTreeMap::new();
        for path in walk(export).map_err(|e| unusable(export, &e))? {
            let listed = copy(&export.join(&path), &to.join(LOG).join(&path));
            let listed = listed.map_err(|e| unusable(&to.join(LOG).join(&path), &e))?;
            files.insert(format!("{LOG}/{path}"), listed);
        }
        let manifest = Manifest {
            schema: SCHEMA.to_owned(),
            archived: now,
            entries,
            files,
        };
        let text = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
        let signed = Signed {
            manifest: sha256(&[&text]),
        };
        let payload = serde_json::to_vec(&signed).unwrap_or_default();
        let signature = key.sign(TYP_ARCHIVE, &payload);
        let signature = signature.map_err(|e| unusable(to, &e))?;
        for (name, bytes) in [(MANIFEST, &text), (SIGNATURE, &signature.into_bytes())] {
            write_once(&to.join(name), &bytes[..]).map_err(|e| unusable(&to.join(name), &e))?;
        }
        Ok(())
    }

    /// Opens an archive that was signed with this key, after comparing every file with the signed list.
    ///
    /// # Errors
    /// The first thing that isn't as it was signed.
    pub fn open(dir: &Path, key: &Jwk) -> Result<Self, String> {
        let read =
            |name: &str| fs::read(dir.join(name)).map_err(|e| format!("{name} can't be read: {e}"));
        let (text, signature) = (read(MANIFEST)?, read(SIGNATURE)?);
        let signature = String::from_utf8(signature).unwrap_or_default();
        let payload = jose::verify(signature.trim_end(), TYP_ARCHIVE, key);
        let payload = payload.map_err(|e| format!("{SIGNATURE}: {e}"))?;
        let signed: Signed = serde_json::from_slice(&payload)
            .map_err(|_| format!("{SIGNATURE} is no signature of an archive"))?;
        let name = sha256(&[&text]);
        if signed.manifest != name {
            return Err(format!("{MANIFEST} isn't what was signed"));
        }
        let manifest: Manifest = serde_json::from_slice(&text)
            .ok()
            .filter(|of: &Manifest| of.schema == SCHEMA)
            .ok_or_else(|| format!("{MANIFEST} is no list of an archive"))?;
        let there = walk(dir).map_err(|e| e.to_string())?;
        let listed = |path: &str| manifest.files.contains_key(path);
        let stranger = there
            .iter()
            .find(|path| !matches!(path.as_str(), MANIFEST | SIGNATURE) && !listed(path));
        if let Some(path) = stranger {
            return Err(format!("{path} was added"));
        }
        for (path, wanted) in &manifest.files {
            let plain = Path::new(path).components();
            if !plain.into_iter().all(|c| matches!(c, Component::Normal(_))) {
                return Err(format!("{path} leads out of the archive"));
            }
            match digest(&dir.join(path)) {
                Ok(found) if found == *wanted => {}
                Ok(_) => return Err(format!("{path} was changed")),
                Err(error) => return Err(format!("{path} can't be read: {error}")),
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            name,
            manifest,
        })
    }

    /// Digest that names it.
    pub fn name(&self) -> Digest32 {
        self.name
    }

    /// When it was made.
    pub fn archived(&self) -> UnixTime {
        self.manifest.archived
    }

    /// How many entries each log had then.
    pub fn entries(&self) -> &BTreeMap<String, u64> {
        &self.manifest.entries
    }

    /// How many files it has.
    pub fn files(&self) -> usize {
        self.manifest.files.len()
    }

    /// Directory of all exports in it.
    pub fn logs(dir: &Path) -> PathBuf {
        dir.join(LOG)
    }

    /// Directory of a zone's export in it.
    pub fn log(&self, zone: &str) -> PathBuf {
        Self::logs(&self.dir).join(zone)
    }
}

/// Paths of all files under `dir`, with `/` between the parts. Anything but files and folders is an error: a link shows
/// something else tomorrow.
fn walk(dir: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(dir.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let kind = entry.file_type()?;
            match path.to_str() {
                Some(_) if kind.is_dir() => folders.push(path),
                Some(text) if kind.is_file() => found.push(text.to_owned()),
                _ => {
                    let what = format!("{} is neither file nor folder", path.display());
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn digest(path: &Path) -> io::Result<Listed> {
    through(&mut File::open(path)?, &mut io::sink())
}

fn copy(from: &Path, to: &Path) -> io::Result<Listed> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut target = once(to)?;
    let listed = through(&mut File::open(from)?, &mut target)?;
    finish(&target)?;
    Ok(listed)
}

fn through(from: &mut File, to: &mut dyn io::Write) -> io::Result<Listed> {
    let (mut context, mut size) = (Context::new(&SHA256), 0);
    let mut chunk = vec![0; 1 << 16];
    loop {
        let n = from.read(&mut chunk)?;
        if n == 0 {
            let sha256 = hex(context.finish().as_ref());
            return Ok(Listed { size, sha256 });
        }
        context.update(&chunk[..n]);
        to.write_all(&chunk[..n])?;
        size += u64::try_from(n).unwrap_or(u64::MAX);
    }
}

fn write_once(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = once(path)?;
    file.write_all(bytes)?;
    finish(&file)
}

fn once(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o644).open(path)
}

/// On the medium, and nobody writes it again by mistake.
fn finish(file: &File) -> io::Result<()> {
    file.set_permissions(fs::Permissions::from_mode(0o444))?;
    file.sync_all()
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Unusable {
    Unusable {
        path: path.to_owned(),
        what: error.to_string(),
    }
}
