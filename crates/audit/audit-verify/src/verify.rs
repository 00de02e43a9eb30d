//! The checks.

use std::path::{Path, PathBuf};

use crate::archived::{Claims, Source};
use crate::files;
use crate::note::{Checkpoint, Note, NoteFault, PublicKey, WitnessKey, split};
use crate::report::{Bad, Cosigned, Place, Reason, Remark, Report, Witnesses};
use crate::walk::{Expected, Promise, Walk};
use crate::witness::State;

const MAX_REMARKS: usize = 100;
/// Longest list of checkpoints in bytes, of a log or a witness.
const MAX_NOTES: u64 = 1 << 31;

/// The verification could not take place; says nothing about the log.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file can't be read.
    #[error("cannot read {path}: {source}. Give the directory that `natsuin audit export` wrote")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The public key isn't one.
    #[error(
        "the log's public key isn't of the form NAME+HASH+KEY. Use the key you got when the log began"
    )]
    Key,
    /// A witness's public key isn't one.
    #[error(
        "a witness's public key isn't of the form NAME+HASH+KEY. Use the one that the witness shows"
    )]
    Cosigner,
}

/// What the auditor knows from elsewhere than the export.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'k> {
    /// The log's public key (text as in `log.pub`), obtained when the log began.
    pub key: &'k str,
    /// A witness's file. Without it, and without cosigners, an export that was cut off at an earlier checkpoint can't be
    /// told from a shorter log.
    pub witness: Option<&'k Path>,
    /// Public keys of witnesses that cosign checkpoints.
    pub cosigners: &'k [&'k str],
    /// Checkpoints that are certain otherwise, such as those under time-stamps.
    pub certain: &'k [State],
    /// The zone that the log is of.
    pub zone: Option<&'k str>,
    /// Exports of the same log in archives, which have entries that were deleted from it since.
    pub archives: &'k [&'k Path],
}

/// Verifies the export in `dir`.
///
/// # Errors
/// [`VerifyError`] when files or keys can't be read. Whatever is wrong with the log is in the [`Report`].
pub fn verify(dir: &Path, known: Known<'_>) -> Result<Report, VerifyError> {
    verify_each(dir, known, |_, _| {})
}

/// The same, and gives out place and text of each entry up to the first fault. What was given out is to be believed only
/// if the report says that the log is good.
///
/// # Errors
/// As [`verify`].
pub fn verify_each(
    dir: &Path,
    known: Known<'_>,
    mut each: impl FnMut(u64, &str),
) -> Result<Report, VerifyError> {
    let public = PublicKey::parse(known.key).ok_or(VerifyError::Key)?;
    let cosigners = known.cosigners.iter().map(|key| WitnessKey::parse(key));
    let cosigners: Option<Vec<WitnessKey>> = cosigners.collect();
    let cosigners = cosigners.ok_or(VerifyError::Cosigner)?;
    let mut remarks = Remarks::default();
    let mut bad = Vec::new();

    if !dir.is_dir() {
        let source = std::io::ErrorKind::NotADirectory.into();
        let path = dir.to_owned();
        return Err(VerifyError::File { path, source });
    }
    let mut part = |name: &str, place| {
        let text = read_text(&dir.join(name))?;
        if text.is_none() {
            let missing = Bad::at(place, None, Reason::FileMissing);
            let file = Some(name.to_owned());
            bad.push(Bad { file, ..missing });
        }
        Ok::<_, VerifyError>(text)
    };
    let told = part("log.pub", Place::Key)?;
    let listed = part("checkpoints.txt", Place::Checkpoint)?;
    let latest = part("checkpoint", Place::Checkpoint)?;
    if told.is_some_and(|told| told != format!("{}\n", known.key.trim_end_matches('\n'))) {
        bad.push(Bad::at(Place::Key, None, Reason::KeyDiffers));
    }
    let text = listed.unwrap_or_default();
    let (notes, rest) = split(&text);
    let mut own = Notes::read(&notes, Place::Checkpoint, &public, &cosigners);
    if own.bad.is_none() && !rest.is_empty() {
        let before = own.list.last().map(|p| p.checkpoint.size);
        own.bad = Some(Bad::at(
            Place::Checkpoint,
            before,
            Reason::CheckpointUnreadable,
        ));
    }
    let torn = own.bad.is_some();
    bad.extend(own.bad);
    if latest.is_some_and(|latest| latest != notes.last().copied().unwrap_or_default()) {
        bad.push(Bad::at(Place::Checkpoint, None, Reason::LatestDiffers));
    }
    let mut seen = Notes::default();
    if let Some(path) = known.witness {
        let text = read_text(path)?.ok_or_else(|| VerifyError::File {
            path: path.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        let (notes, rest) = split(&text);
        if !rest.is_empty() {
            remarks.add(None, "witness-torn");
        }
        seen = Notes::read(&notes, Place::Witness, &public, &cosigners);
        bad.extend(seen.bad.take());
        if seen.list.is_empty() {
            remarks.add(None, "witness-empty");
        }
    } else if cosigners.is_empty() {
        remarks.add(None, "no-witness");
    }

    let filed = seen.list.last().map(|p| p.checkpoint.size);
    seen.list.extend(known.certain.iter().map(|state| Signed {
        checkpoint: Checkpoint {
            size: state.size,
            root: state.root,
        },
        times: Vec::new(),
    }));
    let expected = join(&own.list, &seen.list, &mut bad);
    let size = own.list.last().map_or(0, |p| p.checkpoint.size);
    let claims = Claims::read(dir)?;
    let source = Source {
        dir,
        archives: known.archives,
        claims: &claims,
    };
    let log = (known.zone, size);
    let (walk, fault) = Walk::over(source, log, &expected, &mut remarks, &mut each)?;
    let tile = walk.tile_fault.clone();
    // Checkpoints that couldn't be read are why the log seems to end there.
    let fault = fault.filter(|f| !(torn && f.reason == Reason::Truncated && f.seq == Some(size)));
    match fault.map(|fault| narrowed(fault, tile.as_ref())) {
        Some(fault) => bad.push(fault),
        None => bad.extend(tile),
    }
    // What is missing for another reason isn't looked for twice.
    let archived = match bad.iter().any(|b| b.place == Place::Entry) {
        true => Vec::new(),
        false => {
            let (archived, fault) = claims.judge(&walk);
            bad.extend(fault);
            archived
        }
    };
    let held = |c: &Checkpoint| own.list.iter().any(|p| p.checkpoint == *c);
    let missing = seen.list.iter().map(|p| p.checkpoint);
    for checkpoint in missing.filter(|c| c.size <= size && !held(c)) {
        let reason = Reason::CheckpointMissing;
        bad.push(Bad::at(Place::Checkpoint, Some(checkpoint.size), reason));
    }
    let stray = files::stray(dir, size).map_err(|source| VerifyError::File {
        path: dir.join("tile"),
        source,
    })?;
    bad.extend(stray);
    let mut witnesses = Witnesses {
        filed,
        ..Witnesses::default()
    };
    if known.witness.is_some() {
        let contradicted = bad
            .iter()
            .any(|b| b.place == Place::Witness || b.reason == Reason::CheckpointMissing);
        let reached = filed.is_some_and(|last| walk.proven >= last);
        witnesses.given += 1;
        witnesses.agreeing += u32::from(!contradicted && reached);
    }
    let lists = own.list.iter().chain(&seen.list);
    let lists: Vec<_> = lists.filter(|p| p.checkpoint.size <= walk.proven).collect();
    for (n, cosigner) in cosigners.iter().enumerate() {
        witnesses.given += 1;
        let times = lists
            .iter()
            .filter_map(|p| Some((p.checkpoint.size, p.times.get(n).copied().flatten()?)));
        let Some((last, at)) = times.max() else {
            remarks.add(None, "not-cosigned");
            continue;
        };
        if last < size {
            remarks.add(Some(last), "not-cosigned-to-the-end");
        }
        witnesses.agreeing += 1;
        witnesses.cosigned.push(Cosigned {
            name: cosigner.name().to_owned(),
            size: last,
            at,
        });
    }
    // What is missing as a whole comes first, what doesn't belong last.
    bad.sort_by_key(|b| {
        let rank = match b.reason {
            Reason::FileMissing => 0,
            Reason::Stray => 2,
            _ => 1,
        };
        (rank, b.seq.unwrap_or(0), b.place != Place::Entry)
    });
    Ok(Report {
        schema: "natsuin.audit-verify/1",
        ok: bad.is_empty(),
        entries: walk.entries,
        checkpoints: own.list.len() as u64,
        proven: walk.proven,
        witnesses,
        first_bad: bad.into_iter().next(),
        archived,
        remarks: remarks.first,
        remarks_total: remarks.total,
    })
}

/// A checkpoint with what witnesses signed under it.
struct Signed {
    checkpoint: Checkpoint,
    /// By each cosigner, in the order given: when.
    times: Vec<Option<i64>>,
}

/// The checkpoints of a file up to the first fault.
#[derive(Default)]
struct Notes {
    list: Vec<Signed>,
    bad: Option<Bad>,
}

impl Notes {
    fn read(notes: &[&str], place: Place, key: &PublicKey, cosigners: &[WitnessKey]) -> Self {
        let mut read = Self::default();
        for text in notes {
            let before = read.list.last().map(|p| p.checkpoint);
            let found = Note::parse(text).ok_or(NoteFault::Form).and_then(|note| {
                let checkpoint = key.check(&note)?;
                let times = cosigners.iter().map(|witness| witness.time(&note));
                Ok((checkpoint, times.collect::<Result<_, _>>()))
            });
            let reason = match found {
                Ok((checkpoint, Ok(times))) if before.is_none_or(|b| b.size < checkpoint.size) => {
                    read.list.push(Signed { checkpoint, times });
                    continue;
                }
                // Several nodes may tell the same file of the same checkpoint.
                Ok((checkpoint, Ok(_)))
                    if place == Place::Witness && before == Some(checkpoint) =>
                {
                    continue;
                }
                Ok((_, Ok(_))) => Reason::CheckpointOrder,
                Ok((_, Err(_))) => Reason::CosignatureWrong,
                Err(NoteFault::Form) => Reason::CheckpointUnreadable,
                Err(NoteFault::Signature) => Reason::CheckpointSignature,
            };
            read.bad = Some(Bad::at(place, before.map(|b| b.size), reason));
            break;
        }
        read
    }
}

/// Joins both lists and notes where they contradict each other.
fn join(own: &[Signed], seen: &[Signed], bad: &mut Vec<Bad>) -> Expected {
    let mut promises = Expected::new();
    for signed in own.iter().chain(seen) {
        let Checkpoint { size, root } = signed.checkpoint;
        let promise = promises.entry(size).or_insert(Promise {
            root,
            times: Vec::new(),
        });
        promise.times.extend(signed.times.iter().flatten());
        if promise.root != root {
            bad.push(Bad::at(Place::Witness, Some(size), Reason::Forked));
        }
    }
    promises
}

/// A fault between two checkpoints lies where a tile differs too.
fn narrowed(fault: Bad, tile: Option<&Bad>) -> Bad {
    let range = |bad: &Bad| Some((bad.seq?, bad.until?));
    let (Some(here), Some(there)) = (range(&fault), tile.and_then(range)) else {
        return fault;
    };
    let (from, until) = (here.0.max(there.0), here.1.min(there.1));
    if from > until {
        return fault;
    }
    Bad {
        seq: Some(from),
        until: Some(until),
        ..fault
    }
}

#[derive(Default)]
pub(crate) struct Remarks {
    first: Vec<Remark>,
    total: u64,
}

impl Remarks {
    pub(crate) fn add(&mut self, seq: Option<u64>, code: &'static str) {
        self.total += 1;
        if self.first.len() < MAX_REMARKS {
            self.first.push(Remark { seq, code });
        }
    }
}

/// A file's text; nothing when there is no such plain file. What isn't text becomes characters that no note contains, and
/// is reported as a fault of the log.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>, VerifyError> {
    let bytes = files::plain(path, MAX_NOTES).map_err(|source| VerifyError::File {
        path: path.to_owned(),
        source,
    })?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}
