//! The Merkle tree of RFC 6962 §2.1, kept as the roots of its complete subtrees.

use core_types::Digest32;
use core_types::bytes::sha256;

/// Hash of a leaf.
pub(crate) fn leaf(data: &[u8]) -> Digest32 {
    sha256(&[&[0], data])
}

pub(crate) fn node(left: &Digest32, right: &Digest32) -> Digest32 {
    sha256(&[&[1], &left.0, &right.0])
}

/// Height of a tile (C2SP tlog-tiles); 256 hashes make one of the next level.
pub(crate) const TILE_HEIGHT: u32 = 8;

/// A complete subtree of 256 to the power of `level` leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subtree {
    /// From 1.
    pub(crate) level: u32,
    /// Number among those of its level, from 0.
    pub(crate) n: u64,
    pub(crate) root: Digest32,
}

/// Root of a tree of subtrees of one height, from left to right; their number is a power of two.
pub(crate) fn join(mut roots: Vec<Digest32>) -> Option<Digest32> {
    while roots.len() > 1 {
        roots = roots
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => node(left, right),
                other => other[0],
            })
            .collect();
    }
    roots.pop()
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

    /// Appends a leaf, merging as many complete subtrees as the size has trailing one bits. Tells of every subtree of whole
    /// tiles that is complete with it, the smallest first.
    pub(crate) fn push(&mut self, leaf: Digest32, mut complete: impl FnMut(Subtree)) {
        let mut root = leaf;
        for height in 1..=self.size.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                root = node(&left, &root);
            }
            if height.is_multiple_of(TILE_HEIGHT) {
                complete(Subtree {
                    level: height / TILE_HEIGHT,
                    n: self.size >> height,
                    root,
                });
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
            tree.push(leaves[n as usize], |_| {});
        }
        assert!(Frontier::restore(5, vec![leaves[0]]).is_none());
    }

    #[test]
    fn subtrees_of_whole_tiles_are_told_when_they_are_complete() {
        let mut tree = Frontier::default();
        let leaves: Vec<_> = (0..65_536_u32).map(|n| leaf(&n.to_be_bytes())).collect();
        let mut told = Vec::new();
        for leaf in &leaves {
            tree.push(*leaf, |subtree| told.push(subtree));
        }
        assert_eq!(told.len(), 257);
        let whole = told.pop().unwrap();
        assert_eq!((whole.level, whole.n, whole.root), (2, 0, tree.root()));
        for (n, subtree) in told.iter().enumerate() {
            let of = &leaves[n * 256..][..256];
            assert_eq!((subtree.level, subtree.n), (1, n as u64));
            assert_eq!(subtree.root, defined(of));
            assert_eq!(join(of.to_vec()), Some(subtree.root));
        }
    }
}
