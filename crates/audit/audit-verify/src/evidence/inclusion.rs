//! Where the evidence stands in the log (RFC 6962 §2.1.1, C2SP checkpoints).

use serde::Deserialize;
use serde_json::Value;

use super::{EvidenceFault, from_b64u};
use crate::note::{Note, PublicKey};
use crate::tree::{Hash, leaf_hash, node};

/// An entry as the bundle brings it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    seq: u64,
    body: String,
    proof: Vec<String>,
}

/// An entry that is in the log.
pub(super) struct Logged {
    pub(super) seq: u64,
    pub(super) kind: String,
    detail: Value,
}

#[derive(Deserialize)]
struct Body {
    kind: String,
    detail: Value,
}

impl Logged {
    /// A member of the event, if it is text.
    pub(super) fn detail(&self, name: &str) -> Option<&str> {
        self.detail.get(name).and_then(Value::as_str)
    }
}

/// Checks the checkpoint with the log's key, and every entry with the checkpoint. Answers the log's size then.
pub(super) fn check(
    note: &str,
    key: &PublicKey,
    entries: &[Entry],
) -> Result<(u64, Vec<Logged>), EvidenceFault> {
    let foreign = EvidenceFault::Broken("the checkpoint isn't by the log's key");
    let checkpoint = Note::parse(note).and_then(|note| key.check(&note).ok());
    let checkpoint = checkpoint.ok_or(foreign)?;
    let logged = entries.iter().map(|entry| {
        let proof: Option<Vec<Hash>> = entry
            .proof
            .iter()
            .map(|h| from_b64u(h)?.try_into().ok())
            .collect();
        let proof = proof.ok_or(EvidenceFault::Form("a proof that isn't hashes"))?;
        let leaf = leaf_hash(entry.body.as_bytes());
        if root(leaf, entry.seq, checkpoint.size, &proof) != Some(checkpoint.root) {
            return Err(EvidenceFault::Broken("an entry isn't in the log"));
        }
        let body: Body =
            serde_json::from_str(&entry.body).map_err(|_| EvidenceFault::Form("an entry"))?;
        Ok(Logged {
            seq: entry.seq,
            kind: body.kind,
            detail: body.detail,
        })
    });
    Ok((checkpoint.size, logged.collect::<Result<_, _>>()?))
}

/// The root that a leaf at `index` of a tree of `size` leads to (RFC 9162 §2.1.3.2).
fn root(leaf: Hash, index: u64, size: u64, proof: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            hash = node(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(leaves: &[Hash]) -> Hash {
        match leaves {
            [one] => *one,
            many => {
                let k = 1 << (usize::BITS - 1 - (many.len() - 1).leading_zeros());
                node(&tree(&many[..k]), &tree(&many[k..]))
            }
        }
    }

    fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let k = 1 << (usize::BITS - 1 - (leaves.len() - 1).leading_zeros());
        let (mut path, sibling) = match index < k {
            true => (path(index, &leaves[..k]), tree(&leaves[k..])),
            false => (path(index - k, &leaves[k..]), tree(&leaves[..k])),
        };
        path.push(sibling);
        path
    }

    #[test]
    fn every_leaf_of_every_small_tree_leads_to_its_root_and_to_no_other() {
        let leaves: Vec<Hash> = (0..20_u8).map(|n| leaf_hash(&[n])).collect();
        for size in 1..=leaves.len() {
            let (leaves, whole) = (&leaves[..size], tree(&leaves[..size]));
            for index in 0..size {
                let proof = path(index, leaves);
                let (i, n) = (index as u64, size as u64);
                assert_eq!(
                    root(leaves[index], i, n, &proof),
                    Some(whole),
                    "{index} of {size}"
                );
                assert_ne!(root(leaves[index], i + 1, n, &proof), Some(whole));
                assert_ne!(root(leaf_hash(b"x"), i, n, &proof), Some(whole));
                if let Some((_, less)) = proof.split_last() {
                    assert_ne!(root(leaves[index], i, n, less), Some(whole));
                }
                let more = [&proof[..], &[whole]].concat();
                assert_ne!(root(leaves[index], i, n, &more), Some(whole));
            }
        }
    }
}
