//! The Merkle tree of RFC 6962 §2.1, kept as the roots of its complete subtrees.

use core_types::Digest32;
use core_types::bytes::sha256;

/// Hash of a leaf.
pub(crate) fn leaf(data: &[u8]) -> Digest32 {
    sha256(&[&[0], data])
}

fn node(left: &Digest32, right: &Digest32) -> Digest32 {
    sha256(&[&[1], &left.0, &right.0])
}

/// A tree that can only grow: size, and the root of each complete subtree, largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Frontier {
    size: u64,
    roots: Vec<Digest32>,
}

impl Frontier {
    /// Restores a tree; `None` when the number of roots doesn't fit the size.
    pub(crate) fn restore(size: u64, roots: Vec<Digest32>) -> Option<Self> {
        (size.count_ones() as usize == roots.len()).then_some(Self { size, roots })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn roots(&self) -> &[Digest32] {
        &self.roots
    }

    /// Appends a leaf: merges as many complete subtrees as the size has trailing one bits.
    pub(crate) fn push(&mut self, leaf: Digest32) {
        let mut root = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                root = node(&left, &root);
            }
        }
        self.roots.push(root);
        self.size += 1;
    }

    /// Root of the whole tree; SHA-256 of nothing for the empty one.
    pub(crate) fn root(&self) -> Digest32 {
        let mut roots = self.roots.iter().rev();
        match roots.next() {
            None => sha256(&[]),
            Some(last) => roots.fold(*last, |right, left| node(left, &right)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of RFC 6962 §2.1, word for word.
    fn defined(leaves: &[Digest32]) -> Digest32 {
        match leaves {
            [] => sha256(&[]),
            [one] => *one,
            many => {
                let k = 1 << (usize::BITS - 1 - (many.len() - 1).leading_zeros());
                node(&defined(&many[..k]), &defined(&many[k..]))
            }
        }
    }

    #[test]
    fn the_frontier_gives_the_defined_root_at_every_size() {
        let mut tree = Frontier::default();
        let mut leaves = Vec::new();
        for n in 0..200_u32 {
            assert_eq!(tree.root(), defined(&leaves), "{n}");
            let restored = Frontier::restore(tree.size(), tree.roots().to_vec());
            assert_eq!(restored.as_ref(), Some(&tree));
            leaves.push(leaf(&n.to_be_bytes()));
            tree.push(leaves[n as usize]);
        }
        assert!(Frontier::restore(5, vec![leaves[0]]).is_none());
    }
}
