//! The auditor's anchor: a file outside the database that collects checkpoints.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::AuditError;
use crate::note::size_of;

/// More than two notes: enough to find the last complete one.
const TAIL: u64 = 4096;
/// How often the lock of the file is tried.
const TRIES: usize = 50;
/// The time between two tries.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 100 });

/// Notes one after the other, each followed by an empty line.
#[derive(Debug, Clone)]
pub(crate) struct WitnessFile(PathBuf, Arc<Mutex<()>>);

impl WitnessFile {
    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Opens the witness of a log with `size` entries, and makes it for an empty one.
    pub(crate) fn open(path: PathBuf, size: u64) -> Result<Self, AuditError> {
        let witness = Self(path, Arc::default());
        if size > 0 && !witness.0.exists() {
            return Err(AuditError::WitnessMissing(witness.0));
        }
        witness.file()?;
        Ok(witness)
    }

    /// The last checkpoint: its size and text. What a crash left half written at the end is cut off, but not while another process
    /// has the file: that one may be writing it.
    pub(crate) fn last(&self) -> Result<Option<(u64, String)>, AuditError> {
        // Nobody may wait any more for what is being appended.
        let _turn = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut file, free) = self.locked()?;
        self.last_of(&mut file, free)
    }

    fn last_of(&self, file: &mut File, free: bool) -> Result<Option<(u64, String)>, AuditError> {
        let length = file.metadata().map_err(|e| self.fault(e))?.len();
        let from = length.saturating_sub(TAIL);
        file.seek(SeekFrom::Start(from))
            .map_err(|e| self.fault(e))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail).map_err(|e| self.fault(e))?;
        let complete = complete_lines(&tail);
        if complete < tail.len() && free {
            file.set_len(from + complete as u64)
                .map_err(|e| self.fault(e))?;
        }
        tail.truncate(complete);
        let unreadable = || {
            self.fault(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "it holds no checkpoint",
            ))
        };
        let text = String::from_utf8_lossy(&tail);
        let lines: Vec<&str> = text.trim_end_matches('\n').split('\n').collect();
        if tail.is_empty() {
            return Ok(None);
        }
        let note = lines
            .len()
            .checked_sub(5)
            .map(|start| lines[start..].join("\n") + "\n")
            .ok_or_else(unreadable)?;
        let size = size_of(&note).ok_or_else(unreadable)?;
        Ok(Some((size, note)))
    }

    /// Appends checkpoints durably, those that another process hasn't told it of meanwhile. Of what can't be written whole, as on
    /// a full disk, nothing stays.
    pub(crate) fn append(&self, notes: &[String]) -> Result<(), AuditError> {
        let _turn = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut file, free) = self.locked()?;
        let last = self.last_of(&mut file, free)?.map_or(0, |(size, _)| size);
        let new = notes
            .iter()
            .filter(|note| size_of(note).is_none_or(|size| size > last));
        let text: String = new.map(|note| format!("{note}\n")).collect();
        let end = file.seek(SeekFrom::End(0)).map_err(|e| self.fault(e))?;
        let written = file.write_all(text.as_bytes());
        written.and_then(|()| file.sync_data()).map_err(|e| {
            // If this fails too, the next reading cuts it off.
            if free {
                let _ = file.set_len(end);
            }
            self.fault(e)
        })
    }

    /// The file for this process alone, as far as its file system knows locks: a command beside the daemon tells the same file.
    /// Blocks its thread for five seconds at most. Answers also whether it is free: another process still has it otherwise.
    #[expect(
        clippy::disallowed_methods,
        reason = "waiting for a lock of a file has no end of its own, and this thread serves nobody"
    )]
    fn locked(&self) -> Result<(File, bool), AuditError> {
        let file = self.file()?;
        // Neither one that knows none nor who holds it for good, as a command that was stopped, may stop the zone: two at once
        // could tell it the same twice, which whoever checks it sees.
        for _ in 0..TRIES {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                Ok(()) | Err(TryLockError::Error(_)) => return Ok((file, true)),
            }
        }
        Ok((file, false))
    }

    fn file(&self) -> Result<File, AuditError> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.0)
            .map_err(|e| self.fault(e))
    }

    fn fault(&self, source: std::io::Error) -> AuditError {
        AuditError::File {
            path: self.0.clone(),
            source,
        }
    }
}

/// Length up to the end of the last complete note: a signature line and the empty line after it.
fn complete_lines(tail: &[u8]) -> usize {
    let mut end = tail.len();
    while let Some(at) = tail[..end].windows(2).rposition(|w| w == b"\n\n") {
        let line = tail[..at]
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |newline| newline + 1);
        if tail[line..at].starts_with("\u{2014} ".as_bytes()) {
            return at + 2;
        }
        end = at + 1;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(size: u64) -> String {
        format!("log\n{size}\nROOT=\n\n\u{2014} log SIGNATURE=\n")
    }

    #[test]
    fn the_last_complete_note_is_found_and_a_torn_one_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("witness");
        let witness = WitnessFile::open(path.clone(), 0).unwrap();
        assert_eq!(witness.last().unwrap(), None);
        witness.append(&[note(1), note(2)]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let torn = note(3) + "\n";
        for cut in 0..torn.len() {
            let mut bytes = whole.clone();
            bytes.extend_from_slice(&torn.as_bytes()[..cut]);
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(witness.last().unwrap(), Some((2, note(2))), "cut at {cut}");
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
        for size in 3..200 {
            witness.append(&[note(size)]).unwrap();
            assert_eq!(witness.last().unwrap(), Some((size, note(size))));
        }
    }

    #[test]
    fn what_another_process_told_meanwhile_is_told_once_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("witness");
        let daemon = WitnessFile::open(path.clone(), 0).unwrap();
        let command = WitnessFile::open(path.clone(), 0).unwrap();
        // Both have seen an empty file.
        daemon.append(&[note(1), note(2)]).unwrap();
        command.append(&[note(1), note(2), note(3)]).unwrap();
        daemon.append(&[note(3)]).unwrap();
        let whole: String = [1, 2, 3].map(|size| note(size) + "\n").concat();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
    }

    #[test]
    fn who_holds_the_lock_for_good_keeps_nobody_from_going_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("witness");
        let witness = WitnessFile::open(path.clone(), 0).unwrap();
        let held = File::open(&path).unwrap();
        held.lock().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            witness.append(&[note(1)]).unwrap();
            tell.send(witness.last().unwrap()).unwrap();
        });
        let last = told.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(last, Some((1, note(1))));
        drop(held);
    }

    #[test]
    fn what_another_process_has_half_written_isnt_cut_off_while_it_has_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("witness");
        let witness = WitnessFile::open(path.clone(), 0).unwrap();
        let (whole, next) = (note(1) + "\n", note(2) + "\n");
        let (begun, rest) = next.split_at(20);
        let mut slow = File::options().write(true).open(&path).unwrap();
        slow.lock().unwrap();
        slow.write_all(whole.as_bytes()).unwrap();
        slow.write_all(begun.as_bytes()).unwrap();
        assert_eq!(witness.last().unwrap(), Some((1, note(1))));
        slow.write_all(rest.as_bytes()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), whole + &next);
        slow.unlock().unwrap();
        assert_eq!(witness.last().unwrap(), Some((2, note(2))));
    }

    #[test]
    fn a_missing_witness_is_refused_unless_the_log_is_empty() {
        let path = tempfile::tempdir().unwrap().path().join("witness");
        assert!(matches!(
            WitnessFile::open(path, 5),
            Err(AuditError::WitnessMissing(_))
        ));
    }
}
