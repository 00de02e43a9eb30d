//! Ranges that were deleted from a log after archiving: what the export claims, and whether the log itself says so.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::bundle::WIDTH;
use crate::report::{Archived, Bad, Place, Reason};
use crate::tree::{Hash, digest_of};
use crate::verify::{VerifyError, read_text};
use crate::walk::Walk;

/// The file of an export.
const FILE: &str = "archived.json";
const TAG: &[u8] = b"natsuin-audit-deleted-v1\n";

/// Where the files of a log are.
#[derive(Clone, Copy)]
pub(crate) struct Source<'s> {
    pub(crate) dir: &'s Path,
    pub(crate) archives: &'s [&'s Path],
    pub(crate) claims: &'s Claims,
}

/// What an export says of deleted ranges. Nothing vouches for it but an entry of the log.
#[derive(Default)]
pub(crate) struct Claims {
    ranges: Vec<Claim>,
    /// The file is there and can't be read as such a list.
    unreadable: bool,
}

#[derive(Deserialize)]
struct Claim {
    from: u64,
    size: u64,
    archive: String,
    proposal: String,
}

impl Claims {
    pub(crate) fn read(dir: &Path) -> Result<Self, VerifyError> {
        let Some(text) = read_text(&dir.join(FILE))? else {
            return Ok(Self::default());
        };
        let ranges: Vec<Claim> = serde_json::from_str(&text).unwrap_or_default();
        let mut end = 0;
        let whole = ranges.iter().all(|claim| {
            let follows = claim.from == end && claim.size > end && claim.size.is_multiple_of(WIDTH);
            end = claim.size;
            follows
        });
        let unreadable = ranges.is_empty() || !whole;
        Ok(Self { ranges, unreadable })
    }

    /// Whether the entry in this place is said to be deleted.
    pub(crate) fn contain(&self, place: u64) -> bool {
        !self.unreadable && self.ranges.last().is_some_and(|last| place < last.size)
    }

    /// The ranges that the log itself tells of, and the first that is missing without its word.
    pub(crate) fn judge(&self, walk: &Walk) -> (Vec<Archived>, Option<Bad>) {
        if self.unreadable {
            let bad = Bad::at(Place::File, None, Reason::NotDeleted);
            let file = Some(FILE.to_owned());
            return (Vec::new(), Some(Bad { file, ..bad }));
        }
        let mut told = Vec::new();
        let (mut chain, mut sure) = (Some([0; 32]), 0);
        for (n, claim) in self.ranges.iter().enumerate() {
            chain = chain.and_then(|before| chained(before, claim));
            let name = chain.map(|hash| URL_SAFE_NO_PAD.encode(hash));
            let says =
                |d: &crate::walk::Deletion| d.size == claim.size && Some(&d.chain) == name.as_ref();
            if walk.told.iter().any(says) {
                sure = n + 1;
            }
            let missing = |(from, size): &(u64, u64)| *from < claim.size && claim.from < *size;
            told.push(Archived {
                from: claim.from,
                size: claim.size,
                archive: claim.archive.clone(),
                proposal: claim.proposal.clone(),
                read: !walk.gaps.iter().any(missing),
            });
        }
        // A deletion that the log tells of vouches for all before it.
        let end = told.get(..sure).and_then(|list| list.last());
        let end = end.map_or(0, |range| range.size);
        let absent = walk.absent.iter().find(|(_, size)| *size > end);
        let bad = absent.map(|range| Bad {
            until: Some(range.1 - 1),
            ..Bad::at(Place::Entry, Some(range.0.max(end)), Reason::NotDeleted)
        });
        told.truncate(sure);
        (told, bad)
    }
}

/// SHA-256 over the deletions up to this one.
fn chained(before: Hash, claim: &Claim) -> Option<Hash> {
    let digest = |text: &str| URL_SAFE_NO_PAD.decode(text).ok().filter(|d| d.len() == 32);
    Some(digest_of(&[
        TAG,
        &before,
        &claim.from.to_be_bytes(),
        &claim.size.to_be_bytes(),
        &digest(&claim.archive)?,
        &digest(&claim.proposal)?,
    ]))
}
