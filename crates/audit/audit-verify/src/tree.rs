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

pub(crate) fn leaf_hash(data: &[u8]) -> Hash {
    hash(&[&[0x00], data])
}

/// Complete subtrees from left to right, each with its height; heights fall.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    subtrees: Vec<(u32, Hash)>,
    size: u64,
}

impl Tree {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn push(&mut self, leaf: Hash) {
        self.size += 1;
        let mut new = (0, leaf);
        while let Some(&(height, left)) = self.subtrees.last() {
            if height != new.0 {
                break;
            }
            self.subtrees.pop();
            new = (height + 1, hash(&[&[0x01], &left, &new.1]));
        }
        self.subtrees.push(new);
    }

    pub(crate) fn root(&self) -> Hash {
        let folded = self
            .subtrees
            .iter()
            .rev()
            .map(|(_, root)| *root)
            .reduce(|right, left| hash(&[&[0x01], &left, &right]));
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
        let pair = |a: Hash, b: Hash| hash(&[&[1], &a, &b]);
        let four = pair(pair(leaves[0], leaves[1]), pair(leaves[2], leaves[3]));
        assert_eq!(
            tree.root(),
            pair(four, pair(pair(leaves[4], leaves[5]), leaves[6]))
        );
        assert_eq!(tree.size(), 7);
    }
}
