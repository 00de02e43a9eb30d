//! What the witness keeps: for each log, every checkpoint that it cosigned, in a file that only grows.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use audit_verify::witness::{Log, Request, State, Verdict};
use core_types::UnixTime;
use core_types::bytes::{hex, sha256};

use crate::key::CosignKey;

/// More than two notes with a dozen signatures: enough to find the last whole one.
const TAIL: u64 = 16 * 1024;

/// The witness can't do its work.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// A file can't be read or written.
    #[error("cannot use {path}: {source}. Check the directory, its owner and the free space")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A log's file doesn't end with a checkpoint of that log.
    #[error(
        "{0} doesn't end with a checkpoint of its log. Find out who changed it; to begin anew, move it away and tell the log's operator"
    )]
    Foreign(PathBuf),
    /// Another witness uses the directory.
    #[error(
        "{0} is in use by another witness. Stop that one, or give this one a directory of its own"
    )]
    InUse(PathBuf),
    /// A log's key has another form.
    #[error("a log's public key must be NAME+HASH+KEY: {0}")]
    BadLog(String),
    /// The own key has another form.
    #[error(
        "the witness's key must be 32 bytes, its name 1 to 100 characters without spaces or '+'"
    )]
    BadKey,
}

/// Checkpoints of the logs that are watched.
#[derive(Debug)]
pub struct Keeper {
    key: CosignKey,
    logs: BTreeMap<String, Watched>,
    _lock: File,
}

#[derive(Debug)]
struct Watched {
    log: Log,
    hash: String,
    /// Held while a checkpoint is judged and written.
    last: Mutex<Last>,
}

#[derive(Debug)]
pub(crate) struct Last {
    pub(crate) path: PathBuf,
    pub(crate) state: Option<State>,
    /// The note with the log's signature and ours.
    pub(crate) note: String,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Our signature line.
    Cosigned(String),
    /// Refused.
    Refused(Verdict),
    /// The log isn't one of ours (404).
    Unknown,
}

impl Keeper {
    /// Opens the directory. `logs`: the public keys of the logs to be watched.
    ///
    /// # Errors
    /// [`KeeperError`].
    pub fn open(dir: &Path, key: CosignKey, logs: &[String]) -> Result<Self, KeeperError> {
        folder(dir)?;
        let lock = lock(dir)?;
        let mut watched = BTreeMap::new();
        for text in logs {
            let log = Log::parse(text).ok_or_else(|| KeeperError::BadLog(text.clone()))?;
            let hash = hex(sha256(&[log.origin().as_bytes()]).0);
            let folder_of = dir.join(&hash);
            folder(&folder_of)?;
            let path = folder_of.join("checkpoints.txt");
            let note = last(&path)?.unwrap_or_default();
            let state = log.state(&note);
            if !note.is_empty() && state.is_none() {
                return Err(KeeperError::Foreign(path));
            }
            let last = Mutex::new(Last { path, state, note });
            watched.insert(log.origin().to_owned(), Watched { log, hash, last });
        }
        Ok(Self {
            key,
            logs: watched,
            _lock: lock,
        })
    }

    /// The witness's public key.
    pub fn public(&self) -> String {
        self.key.public()
    }

    /// Name of the folder of a log: the SHA-256 of its origin in hexadecimal.
    pub fn folders(&self) -> impl Iterator<Item = (&str, &str)> {
        let logs = self.logs.iter();
        logs.map(|(origin, watched)| (origin.as_str(), watched.hash.as_str()))
    }

    /// Judges a request, keeps the checkpoint durably and cosigns it. Blocks on the file.
    ///
    /// # Errors
    /// [`KeeperError::File`]: then nothing is cosigned.
    pub(crate) fn add(&self, body: &str, now: UnixTime) -> Result<Outcome, KeeperError> {
        let Some(request) = Request::parse(body) else {
            return Ok(Outcome::Refused(Verdict::Malformed));
        };
        let Some(watched) = self.logs.get(request.origin()) else {
            return Ok(Outcome::Unknown);
        };
        let mut last = watched.last.lock().unwrap_or_else(PoisonError::into_inner);
        let new = match request.judge(&watched.log, last.state) {
            Verdict::Cosign(new) => new,
            refused => return Ok(Outcome::Refused(refused)),
        };
        let (text, note) = request.note();
        let line = self.key.cosign(text, now);
        // The same checkpoint again gets a signature with the time of now, and is kept once.
        if last.state != Some(new) {
            let note = format!("{note}{line}");
            append(&last.path, &format!("{note}\n"))?;
            (last.state, last.note) = (Some(new), note);
        }
        Ok(Outcome::Cosigned(line))
    }

    /// The last checkpoint of the log with this folder.
    pub(crate) fn latest(&self, hash: &str) -> Option<String> {
        let watched = self.logs.values().find(|w| w.hash == hash)?;
        let last = watched.last.lock().unwrap_or_else(PoisonError::into_inner);
        (!last.note.is_empty()).then(|| last.note.clone())
    }

    /// Folder, size and note of the last checkpoint of each log that has one.
    pub(crate) fn all(&self) -> Vec<(PathBuf, u64, String)> {
        let logs = self.logs.values();
        let found = logs.filter_map(|watched| {
            let last = watched.last.lock().unwrap_or_else(PoisonError::into_inner);
            let folder = last.path.parent()?.to_owned();
            Some((folder, last.state?.size, last.note.clone()))
        });
        found.collect()
    }
}

fn fault(path: &Path, source: std::io::Error) -> KeeperError {
    KeeperError::File {
        path: path.to_owned(),
        source,
    }
}

fn folder(path: &Path) -> Result<(), KeeperError> {
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(path);
    made.map_err(|e| fault(path, e))
}

fn lock(dir: &Path) -> Result<File, KeeperError> {
    let path = dir.join("lock");
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(|e| fault(&path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(KeeperError::InUse(dir.to_owned())),
        Err(std::fs::TryLockError::Error(e)) => Err(fault(&path, e)),
    }
}

fn open(path: &Path) -> Result<File, KeeperError> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    options.mode(0o600).open(path).map_err(|e| fault(path, e))
}

/// Appends durably.
fn append(path: &Path, text: &str) -> Result<(), KeeperError> {
    let mut file = open(path)?;
    let written = file
        .seek(SeekFrom::End(0))
        .and_then(|_| file.write_all(text.as_bytes()))
        .and_then(|()| file.sync_all());
    written.map_err(|e| fault(path, e))
}

/// The last whole note of the file; what a crash left half written behind it is cut off, for nobody was told of it.
fn last(path: &Path) -> Result<Option<String>, KeeperError> {
    let mut file = open(path)?;
    let length = file.metadata().map_err(|e| fault(path, e))?.len();
    let from = length.saturating_sub(TAIL);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(from))
        .and_then(|_| file.read_to_end(&mut tail))
        .map_err(|e| fault(path, e))?;
    let tail = String::from_utf8_lossy(&tail).into_owned();
    let Some(end) = tail
        .rfind("\n\n")
        .filter(|end| signed_before(&tail[..*end]))
    else {
        return torn(&tail, &mut file, from, path);
    };
    let whole = &tail[..end + 2];
    if whole.len() < tail.len() {
        let cut = from + whole.len() as u64;
        file.set_len(cut).map_err(|e| fault(path, e))?;
    }
    let body = &whole[..end];
    let inside = body.rfind("\n\n").unwrap_or(0);
    let start = body[..inside].rfind("\n\n").map_or(0, |at| at + 2);
    Ok(Some(whole[start..=end].to_owned()))
}

/// A tail whose last empty line is the one inside a note: the note is torn, and the one before it counts.
fn torn(
    tail: &str,
    file: &mut File,
    from: u64,
    path: &Path,
) -> Result<Option<String>, KeeperError> {
    let end = tail
        .rfind("\n\n")
        .and_then(|inside| tail[..inside].rfind("\n\n"));
    let cut = end.map_or(0, |end| end + 2);
    if cut < tail.len() {
        if cut == 0 && from > 0 {
            return Err(KeeperError::Foreign(path.to_owned()));
        }
        file.set_len(from + cut as u64)
            .map_err(|e| fault(path, e))?;
        return last(path);
    }
    Ok(None)
}

/// Whether the last line is a signature.
fn signed_before(text: &str) -> bool {
    let line = text.rsplit('\n').next().unwrap_or_default();
    line.starts_with("\u{2014} ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(size: u64) -> String {
        format!("log\n{size}\nROOT=\n\n\u{2014} log SIGNATURE=\n\u{2014} w COSIGNATURE=\n")
    }

    #[test]
    fn the_last_whole_note_is_found_and_a_torn_one_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoints.txt");
        assert_eq!(last(&path).unwrap(), None);
        for before in 0..3 {
            let whole: String = (0..before).map(|n| note(n) + "\n").collect();
            let torn = note(9) + "\n";
            for cut in 0..torn.len() {
                let bytes = [whole.as_bytes(), &torn.as_bytes()[..cut]].concat();
                std::fs::write(&path, bytes).unwrap();
                let found = last(&path).unwrap();
                assert_eq!(
                    found,
                    (before > 0).then(|| note(before - 1)),
                    "{before} {cut}"
                );
                assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
            }
        }
        let many: String = (0..500).map(|n| note(n) + "\n").collect();
        std::fs::write(&path, &many).unwrap();
        assert_eq!(last(&path).unwrap(), Some(note(499)));
    }
}
