//! RFC 6962 §2.1 hashes over a growing list.

use aws_lc_rs::digest::{Context, SHA256};

pub(crate) type Hash = [u8; 32];

fn hash(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// SHA-256 of these, one after the other.
pub(crate) fn digest_of(parts: &[&[u8]]) -> Hash {
    hash(parts)
}

pub(crate) fn leaf_hash(data: &[u8]) -> Hash {
    hash(&[&[0x00], data])
}

pub(crate) fn hash_of_nothing() -> Hash {
    hash(&[])
}

pub(crate) fn node(left: &Hash, right: &Hash) -> Hash {
    hash(&[&[0x01], left, right])
}

/// Whether the tree `new` begins with the tree `old`, both by size and root, neither empty (RFC 9162 §2.1.4.2).
pub(crate) fn grew(old: (u64, Hash), new: (u64, Hash), proof: &[Hash]) -> bool {
    if old.0 == new.0 {
        return proof.is_empty() && old.1 == new.1;
    }
    if old.0 > new.0 || old.0 == 0 {
        return false;
    }
    let own = old.0.is_power_of_two().then_some(old.1);
    let mut path = own.iter().chain(proof);
    let Some(first) = path.next() else {
        return false;
    };
    let (mut at, mut last) = (old.0 - 1, new.0 - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let (mut before, mut after) = (*first, *first);
    for beside in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            before = node(beside, &before);
            after = node(beside, &after);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            after = node(&after, beside);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && before == old.1 && after == new.1
}

/// Complete subtrees from left to right, each with its height; heights fall.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    subtrees: Vec<(u32, Hash)>,
    /// Roots of the complete subtrees that end with the last leaf, by height.
    completed: Vec<Hash>,
    size: u64,
}

impl Tree {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn push(&mut self, leaf: Hash) {
        self.size += 1;
        let mut new = (0, leaf);
        self.completed.clear();
        self.completed.push(leaf);
        while let Some(&(height, left)) = self.subtrees.last() {
            if height != new.0 {
                break;
            }
            self.subtrees.pop();
            new = (height + 1, node(&left, &new.1));
            self.completed.push(new.1);
        }
        self.subtrees.push(new);
    }

    /// The complete subtree that the last leaf completed, if it reaches this height.
    pub(crate) fn completed(&self, height: usize) -> Option<Hash> {
        self.completed.get(height).copied()
    }

    pub(crate) fn root(&self) -> Hash {
        let folded = self
            .subtrees
            .iter()
            .rev()
            .map(|(_, root)| *root)
            .reduce(|right, left| node(&left, &right));
        folded.unwrap_or_else(|| hash(&[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(hash: Hash) -> String {
        hash.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn roots_equal_values_worked_out_by_the_definition() {
        // MTH({}) is SHA-256 of nothing; MTH({d0}) of one empty leaf is SHA-256(0x00).
        let mut tree = Tree::default();
        assert_eq!(
            hex(tree.root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        tree.push(leaf_hash(b""));
        assert_eq!(
            hex(tree.root()),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
        let leaves: Vec<Hash> = (0..7_u8).map(|n| leaf_hash(&[n])).collect();
        let mut tree = Tree::default();
        leaves.iter().for_each(|l| tree.push(*l));
        let pair = |a: Hash, b: Hash| node(&a, &b);
        let four = pair(pair(leaves[0], leaves[1]), pair(leaves[2], leaves[3]));
        assert_eq!(
            tree.root(),
            pair(four, pair(pair(leaves[4], leaves[5]), leaves[6]))
        );
        assert_eq!(tree.size(), 7);
    }

    fn whole(leaves: &[Hash]) -> Hash {
        let mut tree = Tree::default();
        leaves.iter().for_each(|l| tree.push(*l));
        tree.root()
    }

    /// RFC 6962 §2.1.2, SUBPROOF.
    fn subproof(m: usize, leaves: &[Hash], known: bool) -> Vec<Hash> {
        if m == leaves.len() {
            return if known { vec![] } else { vec![whole(leaves)] };
        }
        let k = 1 << (usize::BITS - 1 - (leaves.len() - 1).leading_zeros());
        let (mut path, beside) = match m <= k {
            true => (subproof(m, &leaves[..k], known), whole(&leaves[k..])),
            false => (subproof(m - k, &leaves[k..], false), whole(&leaves[..k])),
        };
        path.push(beside);
        path
    }

    #[test]
    fn growth_is_proven_by_its_proof_and_by_no_other() {
        let leaves: Vec<Hash> = (0..20_u8).map(|n| leaf_hash(&[n])).collect();
        for n in 1..=leaves.len() {
            for m in 1..=n {
                let proof = subproof(m, &leaves[..n], true);
                let (old, new) = (
                    (m as u64, whole(&leaves[..m])),
                    (n as u64, whole(&leaves[..n])),
                );
                assert!(grew(old, new, &proof), "{m} to {n}");
                let other = whole(&[&leaves[1..m], &leaves[..1]].concat());
                assert!(m == 1 || !grew((old.0, other), new, &proof));
                assert!(!grew(old, (new.0, leaf_hash(b"x")), &proof));
                assert!(!grew((old.0 + 1, old.1), new, &proof));
                if let Some((_, less)) = proof.split_last() {
                    assert!(!grew(old, new, less));
                }
                assert!(!grew(old, new, &[&proof[..], &[new.1]].concat()));
            }
        }
        assert!(!grew((0, hash_of_nothing()), (3, whole(&leaves[..3])), &[]));
    }
}
