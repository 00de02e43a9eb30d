//! What a witness decides (C2SP tlog-witness): whether a checkpoint that a log shows it extends the one it knows.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::note::{Note, NoteFault, PublicKey};
use crate::tree::{Hash, grew, hash_of_nothing};

/// Most lines of a consistency proof.
const MAX_PROOF: usize = 63;

/// A log that a witness watches.
pub struct Log {
    key: PublicKey,
}

impl Log {
    /// The log with this public key, `NAME+HASH+KEY`.
    pub fn parse(key: &str) -> Option<Self> {
        PublicKey::parse(key).map(|key| Self { key })
    }

    /// Its origin.
    pub fn origin(&self) -> &str {
        self.key.name()
    }

    /// What a note of this log states, if the log has signed it.
    pub fn state(&self, note: &str) -> Option<State> {
        let checkpoint = self.key.check(&Note::parse(note)?).ok()?;
        Some(State {
            size: checkpoint.size,
            root: checkpoint.root,
        })
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Log({})", self.origin())
    }
}

/// A state of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Entries.
    pub size: u64,
    /// Root of their tree.
    pub root: [u8; 32],
}

/// A request to cosign, as it came.
#[derive(Debug)]
pub struct Request<'r> {
    old: u64,
    proof: Vec<Hash>,
    note: Note<'r>,
    text: &'r str,
}

/// What a witness answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It extends what is known: to be kept, then cosigned.
    Cosign(State),
    /// Not a request (400).
    Malformed,
    /// Not signed by the log (403).
    Forbidden,
    /// The witness knows another size than the log thinks (409).
    Knows(u64),
    /// It doesn't extend what is known (422).
    Contradicts,
}

impl<'r> Request<'r> {
    /// Reads `old N`, the lines of a proof, an empty line, and a checkpoint.
    pub fn parse(body: &'r str) -> Option<Self> {
        let (head, text) = body.split_once("\n\n")?;
        let mut lines = head.split('\n');
        let old = lines.next()?.strip_prefix("old ")?;
        let number: u64 = old.parse().ok()?;
        if number.to_string() != old {
            return None;
        }
        let proof = lines.map(|line| STANDARD.decode(line).ok()?.try_into().ok());
        let proof: Vec<Hash> = proof.collect::<Option<_>>()?;
        if proof.len() > MAX_PROOF {
            return None;
        }
        Some(Self {
            old: number,
            proof,
            note: Note::parse(text)?,
            text,
        })
    }

    /// The log that it is said to be.
    pub fn origin(&self) -> &str {
        self.note.origin()
    }

    /// What a cosignature is over, and the note with the log's signature.
    pub fn note(&self) -> (&str, &'r str) {
        (self.note.text(), self.text)
    }

    /// Decides. `known`: the last checkpoint cosigned for this log.
    pub fn judge(&self, log: &Log, known: Option<State>) -> Verdict {
        let checkpoint = match log.key.check(&self.note) {
            Ok(checkpoint) => checkpoint,
            Err(NoteFault::Form) => return Verdict::Malformed,
            Err(NoteFault::Signature) => return Verdict::Forbidden,
        };
        let new = State {
            size: checkpoint.size,
            root: checkpoint.root,
        };
        if self.old > new.size {
            return Verdict::Malformed;
        }
        let before = known.map_or(0, |state| state.size);
        if self.old != before {
            return Verdict::Knows(before);
        }
        let extends = match known.filter(|state| state.size > 0) {
            None if new.size == 0 => self.proof.is_empty() && new.root == hash_of_nothing(),
            None => self.proof.is_empty(),
            Some(known) => grew((known.size, known.root), (new.size, new.root), &self.proof),
        };
        if extends {
            Verdict::Cosign(new)
        } else {
            Verdict::Contradicts
        }
    }
}
