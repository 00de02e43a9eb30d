//! Exports for auditors.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use core_types::UnixTime;
use serde::Serialize;
use store_kit::{Row, Store, StoreError};

use crate::error::AuditError;
use crate::tiles::{self, Resource};

/// Which ranges were deleted after archiving, if any.
const ARCHIVED: &str = "archived.json";

/// An entry as it is exported and found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoggedEntry {
    /// Place in the zone's log, from 0.
    pub seq: i64,
    /// Node.
    pub node: String,
    /// Number in the node's chain, from 1.
    pub n: i64,
    /// Time of the event.
    pub at: UnixTime,
    /// Type of the event.
    pub kind: String,
    /// Leaf hash as it was written with the entry, base64url.
    pub leaf: String,
    /// The entry's text (JSON), whose bytes are the leaf.
    pub body: String,
}

/// Writes the whole log to a directory in the form of C2SP tlog-tiles: `checkpoint`, `tile/…`, and beside them
/// `checkpoints.txt` (every checkpoint as a signed note, each followed by an empty line) and `log.pub` (the log's public
/// key, which the auditor should compare with the one received before). Bundles of entries that were deleted after archiving
/// aren't there; `archived.json` says which archives have them, and the hashes of their tiles stay. A damaged log is written as it is: hashes and
/// entries that are missing are zeros and empty, so that the others keep their places. Blocks on file writes: not for a
/// serving task.
///
/// Returns the number of entries.
///
/// # Errors
/// [`AuditError`].
pub async fn export(store: &Store, dir: &Path, public: &str) -> Result<u64, AuditError> {
    let mut tx = store.read("audit-export").await?;
    let latest = tiles::checkpoint(&mut tx).await?;
    let (size, note) = latest.unwrap_or_default();
    // What an earlier export left in the same place isn't of this one.
    match std::fs::remove_dir_all(dir.join("tile")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(fault(dir, error));
        }
        _ => {}
    }
    for resource in Resource::all(size) {
        let bytes = match resource {
            Resource::Checkpoint => continue,
            Resource::Entries { n, .. } if tiles::is_archived(&mut tx, n).await? => continue,
            Resource::Tile { level, n, width } => tiles::tile(&mut tx, level, n, width).await?,
            Resource::Entries { n, width } => tiles::bundle(&mut tx, n, width).await?,
        };
        write(dir, &resource.to_string(), &bytes)?;
    }
    let mut notes = Out::create(dir, "checkpoints.txt")?;
    let mut after = 0;
    loop {
        let page = tiles::checkpoints_after(&mut tx, after).await?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        for (_, note) in &page {
            notes.line(note)?;
        }
    }
    notes.finish()?;
    let mut key = Out::create(dir, "log.pub")?;
    key.line(public)?;
    key.finish()?;
    // Of an earlier export, perhaps.
    let told = dir.join(ARCHIVED);
    match std::fs::remove_file(&told) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(fault(&told, error));
        }
        _ => {}
    }
    let deleted = crate::sequencer::archived(&mut tx).await?;
    if !deleted.is_empty() {
        let text = serde_json::to_vec_pretty(&deleted).unwrap_or_default();
        write(dir, ARCHIVED, &text)?;
    }
    // Last: whoever finds it finds everything that it covers.
    write(dir, "checkpoint", note.as_bytes())?;
    Ok(u64::try_from(size).unwrap_or(0))
}

fn fault(path: &Path, source: std::io::Error) -> AuditError {
    AuditError::File {
        path: path.to_owned(),
        source,
    }
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), AuditError> {
    let path = dir.join(name);
    let folder = path.parent().unwrap_or(dir);
    std::fs::create_dir_all(folder).map_err(|e| fault(folder, e))?;
    std::fs::write(&path, bytes).map_err(|e| fault(&path, e))
}

pub(crate) fn entry(row: &Row) -> Result<LoggedEntry, StoreError> {
    Ok(LoggedEntry {
        seq: row.int("seq")?,
        node: row.text("node")?,
        n: row.int("n")?,
        at: UnixTime(row.int("at")?),
        kind: row.text("kind")?,
        leaf: row.text("leaf")?,
        body: row.text("body")?,
    })
}

struct Out {
    path: std::path::PathBuf,
    file: BufWriter<File>,
}

impl Out {
    fn create(dir: &Path, name: &str) -> Result<Self, AuditError> {
        let path = dir.join(name);
        std::fs::create_dir_all(dir).map_err(|e| fault(dir, e))?;
        match File::create(&path) {
            Ok(file) => Ok(Self {
                path,
                file: BufWriter::new(file),
            }),
            Err(source) => Err(AuditError::File { path, source }),
        }
    }

    fn line(&mut self, text: &str) -> Result<(), AuditError> {
        writeln!(self.file, "{text}").map_err(|source| AuditError::File {
            path: self.path.clone(),
            source,
        })
    }

    fn finish(mut self) -> Result<(), AuditError> {
        let done = self
            .file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all());
        done.map_err(|source| AuditError::File {
            path: self.path,
            source,
        })
    }
}
