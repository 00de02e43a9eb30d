//! The entries that a store from an older backup lacks, out of an export that the witness knows to its end.

use std::collections::BTreeMap;
use std::path::Path;

use audit_log::{AuditLog, LogKey, Lost, ReplayError, Replayed, replay};
use audit_verify::{Known, verify_each};
use core_types::UnixTime;
use store_kit::Store;

use crate::archive::Archive;

/// Where entries are taken from.
#[derive(Debug, Clone, Copy)]
pub struct Source<'s> {
    /// The zone: `cm`, `sam` or `ssa`.
    pub zone: &'static str,
    /// Directory of the zone's export.
    pub export: &'s Path,
    /// The witness's file: without it nobody knows where the log ends.
    pub witness: &'s Path,
    /// Directories of archives with entries that were deleted from the log.
    pub archives: &'s [std::path::PathBuf],
}

/// Why a log isn't brought up.
#[derive(Debug, thiserror::Error)]
pub enum NotBroughtUp {
    /// The export isn't good, or not to the end.
    #[error("the export isn't what the witness knows: {0}")]
    Export(String),
    /// The store says no, or can't.
    #[error(transparent)]
    Store(#[from] ReplayError),
}

/// Brings the log of a store that isn't in use up to what the witness knows.
///
/// # Errors
/// [`NotBroughtUp`].
pub async fn bring_up(
    source: Source<'_>,
    log: &AuditLog,
    key: &LogKey,
    store: &Store,
    now: UnixTime,
) -> Result<Replayed, NotBroughtUp> {
    let lost = lost(source, &key.public()).map_err(NotBroughtUp::Export)?;
    Ok(replay(log, key, store, &lost, now).await?)
}

fn lost(source: Source<'_>, key: &str) -> Result<Lost, String> {
    let archives = source.archives.iter();
    let archives: Vec<_> = archives
        .map(|dir| Archive::logs(dir).join(source.zone))
        .collect();
    let archives: Vec<&Path> = archives.iter().map(|dir| dir.as_path()).collect();
    let known = Known {
        key,
        zone: Some(source.zone),
        witness: Some(source.witness),
        archives: &archives,
        ..Known::default()
    };
    let mut entries = BTreeMap::new();
    let report = verify_each(source.export, known, |place, text| {
        entries.insert(place, text.to_owned());
    });
    let report = report.map_err(|e| e.to_string())?;
    if let Some(bad) = report.first_bad {
        return Err(bad.what.to_owned());
    }
    if report.witnesses.agreeing == 0 {
        return Err("the witness has seen nothing of it".to_owned());
    }
    let list = source.export.join("checkpoints.txt");
    let text = std::fs::read_to_string(&list).map_err(|e| format!("{}: {e}", list.display()))?;
    Ok(Lost {
        entries,
        checkpoints: checkpoints(&text),
    })
}

/// Each checkpoint by its size; the text was checked before.
fn checkpoints(text: &str) -> BTreeMap<u64, String> {
    let mut found = BTreeMap::new();
    let mut rest = text;
    // A note is its text, an empty line and lines of signatures; another empty line follows.
    while let Some((body, after)) = rest.split_once("\n\n") {
        let (signatures, next) = after.split_once("\n\n").unwrap_or((after, ""));
        let size = body.lines().nth(1).and_then(|size| size.parse().ok());
        if let Some(size) = size {
            let signatures = signatures.trim_end_matches('\n');
            found.insert(size, format!("{body}\n\n{signatures}\n"));
        }
        rest = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_are_read_with_one_signature_and_with_several() {
        let one = "log.example/sam\n7\nroot\n\n\u{2014} log.example/sam AAAA\n";
        let two = "log.example/sam\n9\nroot\n\n\u{2014} log.example/sam AAAA\n\u{2014} w BBBB\n";
        let read = checkpoints(&format!("{one}\n{two}\n"));
        assert_eq!(read.len(), 2);
        assert_eq!((read[&7].as_str(), read[&9].as_str()), (one, two));
    }
}
