//! The checks.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::note::{Checkpoint, LINES, NoteFault, PublicKey, open};
use crate::report::{Bad, Place, Reason, Remark, Report, Witnesses};
use crate::tree::{Hash, Tree, leaf_hash};

/// Longest line of `entries.jsonl`: a body of 64 KiB, escaped.
const MAX_LINE: u64 = 1024 * 1024;
const MAX_REMARKS: usize = 100;

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
}

/// Verifies the export in `dir` against the log's public `key` (text as in `log.pub`, obtained when the log began
/// and not from the export), and against a witness's file.
///
/// Without a witness, an export that was cut off at an earlier checkpoint can't be told from a shorter log.
///
/// # Errors
/// [`VerifyError`] when files or key can't be read. Whatever is wrong with the log is in the [`Report`].
pub fn verify(dir: &Path, witness: Option<&Path>, key: &str) -> Result<Report, VerifyError> {
    let public = PublicKey::parse(key).ok_or(VerifyError::Key)?;
    let mut remarks = Remarks::default();
    let mut bad = Vec::new();

    if read_text(&dir.join("log.pub"))? != format!("{}\n", key.trim_end_matches('\n')) {
        bad.push(Bad::at(Place::Key, None, Reason::KeyDiffers));
    }
    let text = read_text(&dir.join("checkpoints.txt"))?;
    let (own, fault) = read_notes(&text, Place::Checkpoint, &public);
    bad.extend(fault);
    let mut witnesses = Witnesses {
        agreeing: 0,
        given: 0,
    };
    let mut seen = Vec::new();
    match witness {
        None => remarks.add(None, "no-witness"),
        Some(path) => {
            witnesses.given = 1;
            let text = read_text(path)?;
            let whole = complete(&text);
            if whole < text.len() {
                remarks.add(None, "witness-torn");
            }
            let (notes, fault) = read_notes(&text[..whole], Place::Witness, &public);
            bad.extend(fault);
            seen = notes;
        }
    }

    let expected = join(&own, &seen, &mut bad);
    let (walk, fault) = Walk::over(&dir.join("entries.jsonl"), &expected, &mut remarks)?;
    // Behind an unreadable checkpoint nothing can be covered; the checkpoint is the fault then.
    let caused = |b: &Bad| b.reason == Reason::NotCovered && !bad.is_empty();
    bad.extend(fault.filter(|b| !caused(b)));
    for checkpoint in seen
        .iter()
        .filter(|c| c.size <= walk.lines && !own.contains(c))
    {
        bad.push(Bad::at(
            Place::Checkpoint,
            Some(checkpoint.size),
            Reason::CheckpointMissing,
        ));
    }
    let last = seen.last().map_or(0, |c| c.size);
    let contradicted = bad
        .iter()
        .any(|b| b.place == Place::Witness || b.reason == Reason::CheckpointMissing);
    if witness.is_some() && !contradicted && walk.proven >= last {
        witnesses.agreeing = 1;
    }
    bad.sort_by_key(|b| (b.seq.unwrap_or(0), b.place != Place::Entry));
    Ok(Report {
        schema: "natsuin.audit-verify/1",
        ok: bad.is_empty(),
        entries: walk.lines,
        checkpoints: own.len() as u64,
        proven: walk.proven,
        witnesses,
        first_bad: bad.into_iter().next(),
        remarks: remarks.first,
        remarks_total: remarks.total,
    })
}

impl Bad {
    fn at(place: Place, seq: Option<u64>, reason: Reason) -> Self {
        let what = reason.what();
        Self {
            place,
            seq,
            until: None,
            node: None,
            n: None,
            at: None,
            kind: None,
            reason,
            what,
        }
    }

    fn entry(seq: u64, entry: &Entry<'_>, reason: Reason) -> Self {
        let (node, kind) = (Some(entry.node.to_string()), Some(entry.kind.to_string()));
        Self {
            node,
            kind,
            n: Some(entry.n),
            at: Some(entry.at),
            ..Self::at(Place::Entry, Some(seq), reason)
        }
    }
}

#[derive(Default)]
struct Remarks {
    first: Vec<Remark>,
    total: u64,
}

impl Remarks {
    fn add(&mut self, seq: Option<u64>, code: &'static str) {
        self.total += 1;
        if self.first.len() < MAX_REMARKS {
            self.first.push(Remark { seq, code });
        }
    }
}

/// A line of `entries.jsonl`; the order of members is part of the form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<'l> {
    seq: u64,
    #[serde(borrow)]
    node: std::borrow::Cow<'l, str>,
    n: u64,
    at: i64,
    #[serde(borrow)]
    kind: std::borrow::Cow<'l, str>,
    #[serde(borrow)]
    leaf: std::borrow::Cow<'l, str>,
    #[serde(borrow)]
    body: std::borrow::Cow<'l, str>,
}

/// The members of an entry's text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    v: u8,
    zone: String,
    node: String,
    n: u64,
    at: i64,
    #[serde(rename = "subject")]
    _subject: String,
    #[serde(rename = "outcome")]
    _outcome: String,
    kind: String,
    #[serde(rename = "detail")]
    _detail: IgnoredAny,
}

/// The roots that checkpoints and witness promise, by size.
type Expected = BTreeMap<u64, Hash>;

/// Joins both lists and notes where they contradict each other.
fn join(own: &[Checkpoint], seen: &[Checkpoint], bad: &mut Vec<Bad>) -> Expected {
    let mut roots: Expected = own.iter().map(|c| (c.size, c.root)).collect();
    for checkpoint in seen {
        if *roots.entry(checkpoint.size).or_insert(checkpoint.root) != checkpoint.root {
            bad.push(Bad::at(
                Place::Witness,
                Some(checkpoint.size),
                Reason::Forked,
            ));
        }
    }
    roots
}

/// One pass over the entries.
#[derive(Default)]
struct Walk {
    tree: Tree,
    nodes: HashMap<String, (u64, i64)>,
    zone: Option<String>,
    lines: u64,
    proven: u64,
}

impl Walk {
    fn over(
        path: &Path,
        expected: &Expected,
        remarks: &mut Remarks,
    ) -> Result<(Self, Option<Bad>), VerifyError> {
        let fault = |source| VerifyError::File {
            path: path.to_owned(),
            source,
        };
        let mut reader = BufReader::new(File::open(path).map_err(fault)?);
        let mut walk = Self::default();
        let mut bad = None;
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader
                .by_ref()
                .take(MAX_LINE)
                .read_until(b'\n', &mut line)
                .map_err(fault)?;
            if read == 0 {
                break;
            }
            walk.lines += 1;
            if bad.is_none() {
                bad = walk
                    .entry(&line, remarks)
                    .and_then(|()| walk.compare(expected))
                    .err();
            }
        }
        let bad = bad.map(|bad| *bad).or_else(|| walk.end(expected));
        Ok((walk, bad))
    }

    /// Checks a line and adds it to the tree.
    fn entry(&mut self, line: &[u8], remarks: &mut Remarks) -> Result<(), Box<Bad>> {
        let seq = self.tree.size();
        let unreadable = || Box::new(Bad::at(Place::Entry, Some(seq), Reason::Unreadable));
        let text = line
            .strip_suffix(b"\n")
            .and_then(|l| std::str::from_utf8(l).ok())
            .ok_or_else(unreadable)?;
        let entry: Entry<'_> = serde_json::from_str(text).map_err(|_| unreadable())?;
        // One form only: what isn't in the body can't be changed unnoticed either, not even its spelling.
        if serde_json::to_string(&entry).ok().as_deref() != Some(text) {
            return Err(unreadable());
        }
        let fault = |reason| Box::new(Bad::entry(seq, &entry, reason));
        let leaf = leaf_hash(entry.body.as_bytes());
        if URL_SAFE_NO_PAD.encode(leaf) != entry.leaf {
            return Err(fault(Reason::LeafDiffers));
        }
        if entry.seq != seq {
            return Err(fault(Reason::OutOfPlace));
        }
        let body: Body =
            serde_json::from_str(&entry.body).map_err(|_| fault(Reason::Unreadable))?;
        let zone = self.zone.get_or_insert_with(|| body.zone.clone());
        let same = body.node == entry.node
            && body.n == entry.n
            && body.at == entry.at
            && body.kind == entry.kind;
        if !same || body.v != 1 || *zone != body.zone {
            return Err(fault(Reason::MemberDiffers));
        }
        let (last, before) = self.nodes.entry(body.node).or_insert((0, i64::MIN));
        if body.n != *last + 1 {
            return Err(fault(Reason::NodeGap));
        }
        if body.at < *before {
            remarks.add(Some(seq), "time-went-back");
        }
        (*last, *before) = (body.n, body.at);
        self.tree.push(leaf);
        Ok(())
    }

    /// Compares the tree with the checkpoint of its size, if there is one.
    fn compare(&mut self, expected: &Expected) -> Result<(), Box<Bad>> {
        let size = self.tree.size();
        let Some(root) = expected.get(&size) else {
            return Ok(());
        };
        if *root != self.tree.root() {
            let bad = Bad::at(Place::Entry, Some(self.proven), Reason::RootDiffers);
            return Err(Box::new(Bad {
                until: Some(size - 1),
                ..bad
            }));
        }
        self.proven = size;
        Ok(())
    }

    /// The end of the entries must be a checkpoint, and the largest.
    fn end(&self, expected: &Expected) -> Option<Bad> {
        let size = self.tree.size();
        let last = expected.keys().next_back().copied().unwrap_or(0);
        if last > size {
            return Some(Bad::at(Place::Entry, Some(size), Reason::Truncated));
        }
        (self.proven < size).then(|| Bad::at(Place::Entry, Some(self.proven), Reason::NotCovered))
    }
}

/// Reads the notes of a file up to the first fault.
fn read_notes(text: &str, place: Place, key: &PublicKey) -> (Vec<Checkpoint>, Option<Bad>) {
    let mut notes: Vec<Checkpoint> = Vec::new();
    let Some(text) = text.strip_suffix('\n') else {
        let fault = (!text.is_empty()).then(|| Bad::at(place, None, Reason::CheckpointUnreadable));
        return (notes, fault);
    };
    let lines: Vec<&str> = text.split('\n').collect();
    for lines in lines.chunks(LINES) {
        let before = notes.last().map(|c| c.size);
        let reason = match open(lines, key) {
            Ok(checkpoint) if checkpoint.size > before.unwrap_or(0) => {
                notes.push(checkpoint);
                continue;
            }
            Ok(_) => Reason::CheckpointOrder,
            Err(NoteFault::Form) => Reason::CheckpointUnreadable,
            Err(NoteFault::Signature) => Reason::CheckpointSignature,
        };
        return (notes, Some(Bad::at(place, before, reason)));
    }
    (notes, None)
}

/// Length of the complete notes at the start of a witness's file; a crash may have torn the last.
fn complete(text: &str) -> usize {
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
    (ends.len() / LINES)
        .checked_sub(1)
        .map_or(0, |last| ends[last * LINES + LINES - 1])
}

fn read_text(path: &Path) -> Result<String, VerifyError> {
    let fault = |source| VerifyError::File {
        path: path.to_owned(),
        source,
    };
    let bytes = std::fs::read(path).map_err(fault)?;
    // What isn't text becomes characters that no note contains, and is reported as a fault of the log.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
