//! Signed notes and the key that signs them.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::tree::Hash;

/// A log's public key.
pub(crate) struct PublicKey {
    name: String,
    id: [u8; 4],
    key: [u8; 32],
}

impl PublicKey {
    /// Reads `NAME+HASH+KEY`, the hash being right and the key an Ed25519 one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim_end_matches('\n').splitn(3, '+');
        let (name, hash, encoded) = (parts.next()?, parts.next()?, parts.next()?);
        let typed = STANDARD.decode(encoded).ok()?;
        let (kind, key) = typed.split_first()?;
        if *kind != 1 || name.is_empty() {
            return None;
        }
        let key = key.try_into().ok()?;
        let id = key_id(name, &typed)?;
        let written: String = id.iter().map(|b| format!("{b:02x}")).collect();
        (written == hash).then(|| Self {
            name: name.to_owned(),
            id,
            key,
        })
    }
}

fn key_id(name: &str, typed_key: &[u8]) -> Option<[u8; 4]> {
    let whole = digest(&SHA256, &[name.as_bytes(), b"\n", typed_key].concat());
    whole.as_ref().first_chunk().copied()
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

/// Number of lines of a note, the empty one after it included.
pub(crate) const LINES: usize = 6;

/// Checks one note, given as its six lines.
pub(crate) fn open(lines: &[&str], key: &PublicKey) -> Result<Checkpoint, NoteFault> {
    let &[origin, size, root, "", signature, ""] = lines else {
        return Err(NoteFault::Form);
    };
    let number: u64 = size.parse().map_err(|_| NoteFault::Form)?;
    let hash: Hash = STANDARD
        .decode(root)
        .ok()
        .and_then(|r| r.try_into().ok())
        .ok_or(NoteFault::Form)?;
    if origin != key.name || number.to_string() != size {
        return Err(NoteFault::Form);
    }
    let encoded = signature
        .strip_prefix("\u{2014} ")
        .and_then(|s| s.strip_prefix(key.name.as_str()));
    let encoded = encoded
        .and_then(|s| s.strip_prefix(' '))
        .ok_or(NoteFault::Form)?;
    let bytes = STANDARD.decode(encoded).map_err(|_| NoteFault::Form)?;
    let (id, value) = bytes.split_first_chunk().ok_or(NoteFault::Form)?;
    if *id != key.id {
        return Err(NoteFault::Signature);
    }
    let text = format!("{origin}\n{size}\n{root}\n");
    let public = UnparsedPublicKey::new(&ED25519, key.key);
    public
        .verify(text.as_bytes(), value)
        .map_err(|_| NoteFault::Signature)?;
    Ok(Checkpoint {
        size: number,
        root: hash,
    })
}
