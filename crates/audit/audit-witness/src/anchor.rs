//! Time-stamps (RFC 3161) over checkpoints: that a log was as it is at a time which neither its operator nor the auditor
//! decides.

use std::path::{Path, PathBuf};

use core_types::bytes::from_b64;
use core_types::{HashAlg, Random, UnixTime};
use pki::fetch::Fetch;
use pki::tsp::{self, TspError};

use crate::keeper::Keeper;

/// A time-stamping authority.
#[derive(Debug, Clone)]
pub struct Tsa {
    /// Its address.
    pub url: String,
    /// Certificates that its certificate has to lead to, DER.
    pub anchors: Vec<Vec<u8>>,
}

/// A checkpoint under a time-stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Entries in the log then.
    pub size: u64,
    /// Root of their tree.
    pub root: [u8; 32],
    /// When.
    pub at: UnixTime,
}

/// A time-stamp couldn't be got, kept or believed.
#[derive(Debug, thiserror::Error)]
pub enum AnchorFault {
    /// The authority, or its time-stamp.
    #[error("{0}: {1}")]
    Tsa(String, TspError),
    /// A file.
    #[error("cannot use {path}: {source}. Check the directory, its owner and the free space")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A time-stamp without its checkpoint.
    #[error("{0} is over a checkpoint that isn't in checkpoints.txt beside it")]
    NoCheckpoint(PathBuf),
}

impl Keeper {
    /// Has the last checkpoint of each log time-stamped, unless it is already. Returns how many were.
    ///
    /// # Errors
    /// [`AnchorFault`] of the first that failed; the others were tried too.
    pub async fn anchor(
        &self,
        tsa: &Tsa,
        fetch: &dyn Fetch,
        random: &dyn Random,
    ) -> Result<u32, AnchorFault> {
        let (mut done, mut failed) = (0, None);
        for (folder, size, note) in self.all() {
            let path = folder.join(format!("{size}.tst"));
            if path.exists() {
                continue;
            }
            let imprint = HashAlg::Sha256.digest(stamped(&note).as_bytes());
            let hash = HashAlg::Sha256;
            let asked = tsp::request(fetch, &tsa.url, hash, &imprint, &tsa.anchors, random).await;
            let kept = match asked {
                Ok((token, _)) => keep(&path, &token),
                Err(error) => Err(AnchorFault::Tsa(tsa.url.clone(), error)),
            };
            match kept {
                Ok(()) => done += 1,
                Err(fault) => failed = failed.or(Some(fault)),
            }
        }
        failed.map_or(Ok(done), Err)
    }
}

/// What a time-stamp is over: the three lines that say which log, how large and which root. Signatures may be added later.
fn stamped(note: &str) -> String {
    let text = note.split_once("\n\n").map_or(note, |(text, _)| text);
    format!("{text}\n")
}

fn keep(path: &Path, token: &[u8]) -> Result<(), AnchorFault> {
    let fault = |source| AnchorFault::File {
        path: path.to_owned(),
        source,
    };
    let beside = path.with_extension("new");
    std::fs::write(&beside, token)
        .and_then(|()| std::fs::File::open(&beside)?.sync_all())
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(fault)
}

/// Verifies the time-stamps in a witness's folder of one log against the checkpoints in it, the oldest first. `trusted`:
/// certificates of time-stamping authorities, DER. Which checkpoints are the log's own is `audit_verify`'s to say.
///
/// # Errors
/// [`AnchorFault`]: the first that doesn't hold.
pub fn anchors(folder: &Path, trusted: &[Vec<u8>]) -> Result<Vec<Anchor>, AnchorFault> {
    let fault = |path: &Path, source| AnchorFault::File {
        path: path.to_owned(),
        source,
    };
    let list = folder.join("checkpoints.txt");
    let notes = std::fs::read_to_string(&list).map_err(|e| fault(&list, e))?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| fault(folder, e))? {
        let path = entry.map_err(|e| fault(folder, e))?.path();
        if path.extension().is_none_or(|e| e != "tst") {
            continue;
        }
        let size = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        let missing = || AnchorFault::NoCheckpoint(path.clone());
        let size = size.ok_or_else(missing)?;
        let note = notes.split_inclusive("\n\n").step_by(2);
        let mut note = note.filter(|text| text.lines().nth(1) == Some(&size.to_string()));
        let text = stamped(note.next().ok_or_else(missing)?);
        let root = text.lines().nth(2).and_then(|line| from_b64(line).ok());
        let root = root.and_then(|root| root.try_into().ok());
        let root = root.ok_or_else(missing)?;
        let token = std::fs::read(&path).map_err(|e| fault(&path, e))?;
        let imprint = |hash: HashAlg| hash.digest(text.as_bytes());
        let verified = tsp::verify_token(&token, &imprint, None, &[], trusted);
        let name = path.display().to_string();
        let verified = verified.map_err(|e| AnchorFault::Tsa(name, e))?;
        let at = verified.info.gen_time;
        found.push(Anchor { size, root, at });
    }
    found.sort_by_key(|anchor| anchor.size);
    Ok(found)
}
