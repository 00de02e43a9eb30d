//! `natsuin archive`: exported logs on a medium of their own, signed, with the time of archiving, and checked after writing.
//!
//! | file | is |
//! | --- | --- |
//! | `log/ZONE/…` | the export, as `natsuin audit verify` reads it |
//! | `archive.json` | when and from what it was made: each log's number of entries, each file's length and SHA-256 |
//! | `archive.sig` | a JWS (ES256, type `natsuin-archive+jws`) over the SHA-256 of `archive.json` |

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use clap::Subcommand;
use core_types::bytes::hex;
use core_types::{Clock, Digest32, SecretBytes, UnixTime, sha256};
use jose::{Jwk, SigningKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use web_ui::{Arg, clean};

use crate::audit;
use crate::output::{Exit, Failure, Out};

/// `typ` of the signature.
const TYP_ARCHIVE: &str = "natsuin-archive+jws";
/// `schema` of the manifest.
const SCHEMA: &str = "natsuin.archive/1";
/// Files of an archive beside the logs.
const MANIFEST: &str = "archive.json";
const SIGNATURE: &str = "archive.sig";
/// Folder of the logs.
const LOG: &str = "log";

/// Commands of `natsuin archive`.
#[derive(Debug, Subcommand)]
pub enum ArchiveCommand {
    /// Write exported logs to a medium that is mounted, signed and checked; nothing there is overwritten.
    Create {
        /// Directory of the export. It has to pass `natsuin audit verify`.
        export: PathBuf,
        /// Directory of the new archive; must not exist.
        #[arg(long)]
        to: PathBuf,
        /// Private key that signs archives, as `natsuin-cm officer-key` makes it.
        #[arg(long)]
        key: PathBuf,
        /// Directory with the logs' public keys, `ZONE.pub`.
        #[arg(long)]
        keys: PathBuf,
        /// Directory with the witness's files, `ZONE.txt`.
        #[arg(long)]
        witness: Option<PathBuf>,
    },
    /// Check an archive on any machine: every byte against the signed list, then the logs in it.
    Verify {
        /// Directory of the archive.
        dir: PathBuf,
        /// Public key (JWK) that archives are signed with, known from before.
        #[arg(long, value_name = "JWK")]
        key: PathBuf,
        /// Directory with the logs' public keys, `ZONE.pub`.
        #[arg(long)]
        keys: PathBuf,
        /// Directory with the witness's files, `ZONE.txt`.
        #[arg(long)]
        witness: Option<PathBuf>,
    },
}

/// What is signed of an archive.
#[derive(Debug, Serialize, Deserialize)]
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

/// Runs a command.
///
/// # Errors
/// [`Failure`] when files, keys or the medium can't be used.
pub fn run(command: &ArchiveCommand, clock: &dyn Clock, out: Out) -> Result<Exit, Failure> {
    match command {
        ArchiveCommand::Create {
            export,
            to,
            key,
            keys,
            witness,
        } => {
            let checks = checks(export, keys, witness.as_ref());
            create(&checks, to, key, clock.now(), out)
        }
        ArchiveCommand::Verify {
            dir,
            key,
            keys,
            witness,
        } => verify(
            dir,
            key,
            &checks(&dir.join(LOG), keys, witness.as_ref()),
            out,
        ),
    }
}

fn checks(dir: &Path, keys: &Path, witness: Option<&PathBuf>) -> audit::Verify {
    audit::Verify {
        dir: dir.to_owned(),
        witness: witness.cloned(),
        keys: Some(keys.to_owned()),
        cosigners: Vec::new(),
        stamps: None,
    }
}

fn create(
    checks: &audit::Verify,
    to: &Path,
    key: &Path,
    now: UnixTime,
    out: Out,
) -> Result<Exit, Failure> {
    let pkcs8 = SecretBytes::new(fs::read(key).map_err(|e| unusable(key, &e))?);
    let key = SigningKey::from_pkcs8(&pkcs8).map_err(|e| unusable(key, &e))?;
    let judged = audit::judge(checks, out.m())?;
    if judged.verdict == Exit::Negative {
        judged.tell(out);
        let what = "the export isn't what the logs wrote; nothing was archived";
        let remedy = "keep it as it is, and find out what happened";
        return Err(Failure::new(Exit::Negative, "audit-export", what, remedy));
    }
    fs::create_dir(to).map_err(|e| unusable(to, &e))?;
    let mut files = BTreeMap::new();
    for path in walk(&checks.dir).map_err(|e| unusable(&checks.dir, &e))? {
        let listed = copy(&checks.dir.join(&path), &to.join(LOG).join(&path));
        let listed = listed.map_err(|e| unusable(&to.join(LOG).join(&path), &e))?;
        files.insert(format!("{LOG}/{path}"), listed);
    }
    let manifest = Manifest {
        schema: SCHEMA.to_owned(),
        archived: now,
        entries: judged.entries(),
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
    // What is on the medium counts, not what was sent to it.
    verify_with(to, key.public(), &checks_of(to, checks), out)
}

fn checks_of(to: &Path, of: &audit::Verify) -> audit::Verify {
    audit::Verify {
        dir: to.join(LOG),
        witness: of.witness.clone(),
        keys: of.keys.clone(),
        cosigners: Vec::new(),
        stamps: None,
    }
}

fn verify(dir: &Path, key: &Path, checks: &audit::Verify, out: Out) -> Result<Exit, Failure> {
    let text = fs::read(key).map_err(|e| unusable(key, &e))?;
    let public: Jwk = serde_json::from_slice(&text).map_err(|e| unusable(key, &e))?;
    verify_with(dir, &public, checks, out)
}

fn verify_with(dir: &Path, key: &Jwk, checks: &audit::Verify, out: Out) -> Result<Exit, Failure> {
    let m = out.m();
    let manifest = match examine(dir, key) {
        Ok(manifest) => manifest,
        Err(why) => {
            out.say(&format!("NG  {}", clean(&why)));
            out.object(&json!({"schema": "natsuin.archive-verify/1", "ok": false, "bad": why}));
            return Ok(Exit::Negative);
        }
    };
    let judged = audit::judge(checks, m)?;
    let (at, count) = (m.time(manifest.archived), manifest.files.len());
    let told = [
        ("at", Arg::Own(&at)),
        ("n", Arg::Num(u64::try_from(count).unwrap_or(u64::MAX))),
    ];
    out.say(&format!("OK  {}", m.f("archive-intact", &told)));
    judged.tell(out);
    let verdict = match manifest.entries == judged.entries() {
        true => judged.verdict,
        false => Exit::Negative,
    };
    out.object(&json!({
        "schema": "natsuin.archive-verify/1",
        "ok": verdict == Exit::Good,
        "archived": manifest.archived.rfc3339(),
        "files": count,
        "zones": Value::Object(judged.zones),
    }));
    Ok(verdict)
}

/// The manifest of an archive whose every byte is as it was signed; else the first thing that isn't.
fn examine(dir: &Path, key: &Jwk) -> Result<Manifest, String> {
    let read =
        |name: &str| fs::read(dir.join(name)).map_err(|e| format!("{name} can't be read: {e}"));
    let (text, signature) = (read(MANIFEST)?, read(SIGNATURE)?);
    let signature = String::from_utf8(signature).unwrap_or_default();
    let payload = jose::verify(signature.trim_end(), TYP_ARCHIVE, key);
    let payload = payload.map_err(|e| format!("{SIGNATURE}: {e}"))?;
    let signed: Signed = serde_json::from_slice(&payload)
        .map_err(|_| format!("{SIGNATURE} is no signature of an archive"))?;
    if signed.manifest != sha256(&[&text]) {
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
    Ok(manifest)
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

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    let what = format!("{}: {error}", path.display());
    let remedy = "check the path; an archive goes into a directory of its own that isn't there yet";
    Failure::new(Exit::Input, "archive", what, remedy)
}
