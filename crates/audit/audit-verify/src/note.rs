//! Checkpoints as signed notes (C2SP signed-note, tlog-checkpoint, tlog-cosignature), and the keys that sign them.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::tree::Hash;

/// A name and an Ed25519 key, as signature lines name them.
struct Signer {
    name: String,
    id: [u8; 4],
    key: [u8; 32],
}

impl Signer {
    /// Reads `NAME+HASH+KEY` of this signature type, the hash being right.
    fn parse(text: &str, wanted: u8) -> Option<Self> {
        let mut parts = text.trim_end_matches('\n').splitn(3, '+');
        let (name, hash, encoded) = (parts.next()?, parts.next()?, parts.next()?);
        let typed = STANDARD.decode(encoded).ok()?;
        let (kind, key) = typed.split_first()?;
        if *kind != wanted || name.is_empty() {
            return None;
        }
        let key = key.try_into().ok()?;
        let whole = digest(&SHA256, &[name.as_bytes(), b"\n", &typed].concat());
        let id = *whole.as_ref().first_chunk()?;
        let written: String = id.iter().map(|b| format!("{b:02x}")).collect();
        (written == hash).then(|| Self {
            name: name.to_owned(),
            id,
            key,
        })
    }

    /// What this signer's lines under a note hold.
    fn lines<'n>(&self, note: &'n Note<'_>) -> impl Iterator<Item = &'n [u8]> {
        let ours = note
            .signatures
            .iter()
            .filter(|(name, _)| *name == self.name);
        ours.filter_map(|(_, bytes)| {
            let (id, value) = bytes.split_first_chunk()?;
            (*id == self.id).then_some(value)
        })
    }

    fn signed(&self, message: &str, value: &[u8]) -> bool {
        let public = UnparsedPublicKey::new(&ED25519, self.key);
        public.verify(message.as_bytes(), value).is_ok()
    }
}

/// A log's public key.
pub(crate) struct PublicKey(Signer);

impl PublicKey {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Signer::parse(text, 1).map(Self)
    }

    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    /// What the note says, if it is a checkpoint of this log.
    pub(crate) fn check(&self, note: &Note<'_>) -> Result<Checkpoint, NoteFault> {
        if note.origin != self.0.name {
            return Err(NoteFault::Form);
        }
        let mut lines = self.0.lines(note).peekable();
        let signed = lines.peek().is_some();
        if !signed || !lines.all(|value| self.0.signed(&note.text, value)) {
            return Err(NoteFault::Signature);
        }
        Ok(Checkpoint {
            size: note.size,
            root: note.root,
        })
    }
}

/// The public key of a witness that cosigns.
pub(crate) struct WitnessKey(Signer);

impl WitnessKey {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Signer::parse(text, 4).map(Self)
    }

    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    /// When this witness cosigned the note, seconds since 1970; nothing when it didn't.
    pub(crate) fn time(&self, note: &Note<'_>) -> Result<Option<i64>, NoteFault> {
        let mut latest = None;
        for value in self.0.lines(note) {
            let (time, value) = value.split_first_chunk().ok_or(NoteFault::Form)?;
            let time = i64::try_from(u64::from_be_bytes(*time)).map_err(|_| NoteFault::Form)?;
            let message = format!("cosignature/v1\ntime {time}\n{}", note.text);
            if !self.0.signed(&message, value) {
                return Err(NoteFault::Signature);
            }
            latest = latest.max(Some(time));
        }
        Ok(latest)
    }
}

/// What a checkpoint says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) size: u64,
    pub(crate) root: Hash,
}

/// Why a note isn't a checkpoint of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoteFault {
    Form,
    Signature,
}

/// A note in the one form of our checkpoints: origin, size and root, an empty line, signatures. Nothing is believed yet.
#[derive(Debug)]
pub(crate) struct Note<'t> {
    text: String,
    origin: &'t str,
    size: u64,
    root: Hash,
    signatures: Vec<(&'t str, Vec<u8>)>,
}

impl<'t> Note<'t> {
    /// Reads one note.
    pub(crate) fn parse(text: &'t str) -> Option<Self> {
        let lines: Vec<&str> = text.strip_suffix('\n')?.split('\n').collect();
        let [origin, size, root, "", signatures @ ..] = lines.as_slice() else {
            return None;
        };
        let number: u64 = size.parse().ok()?;
        let hash: Hash = STANDARD.decode(root).ok()?.try_into().ok()?;
        if number.to_string() != *size || signatures.is_empty() {
            return None;
        }
        let signatures = signatures.iter().map(|line| {
            let (name, encoded) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
            Some((name, STANDARD.decode(encoded).ok()?))
        });
        Some(Self {
            text: format!("{origin}\n{size}\n{root}\n"),
            origin,
            size: number,
            root: hash,
            signatures: signatures.collect::<Option<_>>()?,
        })
    }
}

impl Note<'_> {
    pub(crate) fn origin(&self) -> &str {
        self.origin
    }

    /// What signatures are over.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// Splits a file of notes, each followed by an empty line; what follows the last whole one comes as the rest.
pub(crate) fn split(text: &str) -> (Vec<&str>, &str) {
    let mut notes = Vec::new();
    let mut rest = text;
    // A note has one empty line inside, and the next one ends it.
    while let Some(end) = rest
        .find("\n\n")
        .and_then(|inside| Some(inside + 2 + rest[inside + 2..].find("\n\n")?))
    {
        notes.push(&rest[..=end]);
        rest = &rest[end + 2..];
    }
    (notes, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_notes_is_split_at_its_empty_lines() {
        let one = "o\n1\nr\n\n\u{2014} o s\n";
        let two = "o\n2\nr\n\n\u{2014} o s\n\u{2014} w s\n";
        let whole = format!("{one}\n{two}\n");
        assert_eq!(split(&whole), (vec![one, two], ""));
        assert_eq!(split(""), (vec![], ""));
        for cut in 1..whole.len() {
            let Some(part) = whole.get(..cut) else {
                continue;
            };
            let (notes, rest) = split(part);
            assert_eq!(notes.len(), usize::from(cut > one.len()), "{cut}");
            assert_eq!(rest.is_empty(), cut == one.len() + 1, "{cut}");
        }
    }
}
