//! One pass over the entries: bundles against tiles, tiles against checkpoints.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::archived::Source;
use crate::bundle::{self, WIDTH};
use crate::report::{Bad, Place, Reason};
use crate::tree::{Hash, Tree, leaf_hash};
use crate::verify::{Remarks, VerifyError};

/// What a checkpoint of some size promises.
pub(crate) struct Promise {
    pub(crate) root: Hash,
    /// When witnesses cosigned it.
    pub(crate) times: Vec<i64>,
}

/// By size.
pub(crate) type Expected = BTreeMap<u64, Promise>;

/// How far a node's clock may be from a witness's, in seconds, sequencing included.
const SKEW: i64 = 300;

/// The members of an entry's text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    v: u8,
    zone: String,
    node: String,
    n: u64,
    at: i64,
    #[serde(rename = "tenant", default)]
    _tenant: Option<String>,
    #[serde(rename = "subject")]
    _subject: String,
    #[serde(rename = "outcome")]
    _outcome: String,
    #[serde(rename = "class")]
    _class: String,
    #[serde(rename = "rows", default)]
    _rows: Option<Vec<(String, String, u64)>>,
    kind: String,
    #[serde(rename = "detail")]
    _detail: IgnoredAny,
}

/// An entry that tells of a deletion.
#[derive(Deserialize)]
struct Telling {
    detail: Deletion,
}

/// What it tells.
#[derive(Deserialize)]
pub(crate) struct Deletion {
    pub(crate) size: u64,
    pub(crate) chain: String,
}

/// The type of such an entry.
const DELETED: &str = "audit.log-deleted";

/// How far the walk came.
#[derive(Default)]
pub(crate) struct Walk {
    tree: Tree,
    /// Number and time of each node's last entry, and how many gaps there had been.
    nodes: HashMap<String, (u64, i64, usize)>,
    zone: Option<String>,
    /// The levels above the leaves.
    levels: Vec<Level>,
    size: u64,
    times: Times,
    pub(crate) entries: u64,
    pub(crate) proven: u64,
    /// Ranges that aren't in the export itself.
    pub(crate) absent: Vec<(u64, u64)>,
    /// Those of them of which there are the hashes alone.
    pub(crate) gaps: Vec<(u64, u64)>,
    /// Deletions that entries tell of.
    pub(crate) told: Vec<Deletion>,
    /// The first tile that differs; entries may be good all the same.
    pub(crate) tile_fault: Option<Bad>,
}

/// When the entries since the last cosigned checkpoint were seen.
#[derive(Default)]
struct Times {
    /// Cosigned last before them.
    after: Option<i64>,
    /// Earliest and latest entry since: time and description.
    earliest: Option<(i64, Bad)>,
    latest: Option<(i64, Bad)>,
}

/// A level of tiles: how many of its hashes were compared, and the tile in which the next one stands.
#[derive(Default)]
struct Level {
    count: u64,
    tile: Vec<u8>,
}

type Fault = Box<Bad>;

impl Walk {
    /// Walks over a log of this zone, if it is known, and size.
    pub(crate) fn over(
        source: Source<'_>,
        (zone, size): (Option<&str>, u64),
        expected: &Expected,
        remarks: &mut Remarks,
        each: &mut dyn FnMut(u64, &str),
    ) -> Result<(Self, Option<Bad>), VerifyError> {
        let mut walk = Self {
            size,
            zone: zone.map(str::to_owned),
            ..Self::default()
        };
        let dir = source.dir;
        for n in 0..size.div_ceil(WIDTH) {
            let width = WIDTH.min(size - n * WIDTH);
            let mut entries = read(dir, "entries", n, width)?;
            let leaves = read(dir, "0", n, width)?;
            let claimed = width == WIDTH && source.claims.contain(n * WIDTH);
            if claimed && entries.is_none() {
                extend(&mut walk.absent, n * WIDTH);
            }
            for archive in source.archives.iter().filter(|_| claimed) {
                if entries.is_none() {
                    entries = read(archive, "entries", n, width)?;
                }
            }
            let Some(entries) = entries else {
                let hashes = leaves.filter(|l| claimed && l.len() as u64 == width * 32);
                if let Some(hashes) = hashes {
                    if let Err(bad) = walk.skip(&hashes, expected) {
                        return Ok((walk, Some(*bad)));
                    }
                    walk.climb(dir, true)?;
                    continue;
                }
                let bad = Bad::at(Place::Entry, Some(n * WIDTH), Reason::Truncated);
                return Ok((walk, Some(bad)));
            };
            let done = walk.bundle(&entries, leaves.as_deref(), width, expected, remarks, each);
            if let Err(bad) = done {
                return Ok((walk, Some(*bad)));
            }
            walk.climb(dir, leaves.is_some_and(|l| l.len() as u64 == width * 32))?;
        }
        let last = expected.keys().next_back().copied().unwrap_or(0);
        let end = (last > walk.entries)
            .then(|| Bad::at(Place::Entry, Some(walk.entries), Reason::Truncated));
        Ok((walk, end))
    }

    /// Takes the hashes of a bundle that isn't there.
    fn skip(&mut self, hashes: &[u8], expected: &Expected) -> Result<(), Fault> {
        let first = self.tree.size();
        for hash in hashes.as_chunks::<32>().0 {
            self.tree.push(*hash);
            self.entries += 1;
            self.compare(expected)?;
        }
        extend(&mut self.gaps, first);
        Ok(())
    }

    fn bundle(
        &mut self,
        mut rest: &[u8],
        leaves: Option<&[u8]>,
        width: u64,
        expected: &Expected,
        remarks: &mut Remarks,
        each: &mut dyn FnMut(u64, &str),
    ) -> Result<(), Fault> {
        let first = self.tree.size();
        for at in 0..width {
            let seq = first + at;
            let fault = |reason| Box::new(Bad::at(Place::Entry, Some(seq), reason));
            let entry = bundle::next(&mut rest).ok_or_else(|| fault(Reason::Truncated))?;
            if entry.is_empty() {
                return Err(fault(Reason::Missing));
            }
            let told = leaves.map(|tile| bundle::hash(tile, usize::try_from(at).unwrap_or(0)));
            self.entry(entry, told, remarks, each)?;
            self.compare(expected)?;
        }
        let ended = |reason| Box::new(Bad::at(Place::Entry, Some(first + width - 1), reason));
        if rest.is_empty() {
            Ok(())
        } else {
            Err(ended(Reason::Unreadable))
        }
    }

    /// Checks an entry and adds it to the tree. `told`: the hash that the tile has in its place, if there is the tile.
    fn entry(
        &mut self,
        bytes: &[u8],
        told: Option<Option<Hash>>,
        remarks: &mut Remarks,
        each: &mut dyn FnMut(u64, &str),
    ) -> Result<(), Fault> {
        let seq = self.tree.size();
        let leaf = leaf_hash(bytes);
        let text = std::str::from_utf8(bytes).ok();
        let body = text.and_then(|text| serde_json::from_str::<Body>(text).ok());
        let named = |reason| {
            let bad = Bad::at(Place::Entry, Some(seq), reason);
            Box::new(match &body {
                Some(body) => Bad {
                    node: Some(body.node.clone()),
                    n: Some(body.n),
                    at: Some(body.at),
                    kind: Some(body.kind.clone()),
                    ..bad
                },
                None => bad,
            })
        };
        if told.is_some_and(|told| told != Some(leaf)) {
            return Err(named(Reason::LeafDiffers));
        }
        let (Some(text), Some(body)) = (text, &body) else {
            return Err(named(Reason::Unreadable));
        };
        let zone = self.zone.get_or_insert_with(|| body.zone.clone());
        if body.v != 1 || *zone != body.zone {
            return Err(named(Reason::MemberDiffers));
        }
        let gaps = self.gaps.len();
        let fresh = self.nodes.entry(body.node.clone());
        let (last, before, seen) = fresh.or_insert((0, i64::MIN, 0));
        // Behind a gap a node goes on at any later number, once.
        let follows = body.n == *last + 1 || (*seen < gaps && body.n > *last);
        if !follows {
            return Err(named(Reason::NodeGap));
        }
        *seen = gaps;
        if body.kind == DELETED {
            let telling = serde_json::from_str::<Telling>(text);
            let telling = telling.map_err(|_| named(Reason::Unreadable))?;
            self.told.push(telling.detail);
        }
        if body.at < *before {
            remarks.add(Some(seq), "time-went-back");
        }
        (*last, *before) = (body.n, body.at);
        self.times.note(body.at, || *named(Reason::TimeDiffers));
        self.tree.push(leaf);
        self.entries += 1;
        each(seq, text);
        Ok(())
    }

    /// Compares the tree with the checkpoint of its size, if there is one.
    fn compare(&mut self, expected: &Expected) -> Result<(), Fault> {
        let size = self.tree.size();
        let Some(promise) = expected.get(&size) else {
            return Ok(());
        };
        if promise.root != self.tree.root() {
            let bad = Bad::at(Place::Entry, Some(self.proven), Reason::RootDiffers);
            return Err(Box::new(Bad {
                until: Some(size - 1),
                ..bad
            }));
        }
        self.proven = size;
        self.times.judge(&promise.times)
    }

    /// Takes the hash of a complete bundle up into the tiles above. `whole`: the tile of its leaves has the right length.
    fn climb(&mut self, dir: &Path, whole: bool) -> Result<(), VerifyError> {
        let size = self.tree.size();
        if !whole {
            let at = (size - 1) / WIDTH * WIDTH;
            self.differs(0, at);
        }
        if !size.is_multiple_of(WIDTH) {
            return Ok(());
        }
        let mut hash = self.tree.completed(8);
        for level in 1.. {
            let Some(root) = hash.take() else { break };
            if self.levels.len() < level {
                self.levels.push(Level::default());
            }
            let (count, at) = (
                self.levels[level - 1].count,
                self.levels[level - 1].count % WIDTH,
            );
            if at == 0 {
                let width = WIDTH.min(self.size / span(level) - count);
                let tile = read(dir, &level.to_string(), count / WIDTH, width)?.unwrap_or_default();
                if tile.len() as u64 > width * 32 {
                    self.differs(level, count * span(level));
                }
                self.levels[level - 1].tile = tile;
            }
            let told = usize::try_from(at).unwrap_or(usize::MAX);
            if bundle::hash(&self.levels[level - 1].tile, told) != Some(root) {
                self.differs(level, count * span(level));
            }
            self.levels[level - 1].count += 1;
            if at + 1 == WIDTH {
                hash = self.tree.completed(8 * (level + 1));
            }
        }
        Ok(())
    }

    fn differs(&mut self, level: usize, first: u64) {
        let bad = Bad {
            until: Some(first + span(level.max(1)) - 1),
            ..Bad::at(Place::Tile, Some(first), Reason::TileDiffers)
        };
        self.tile_fault.get_or_insert(bad);
    }
}

impl Times {
    fn note(&mut self, at: i64, bad: impl Fn() -> Bad) {
        if self.earliest.as_ref().is_none_or(|(time, _)| at < *time) {
            self.earliest = Some((at, bad()));
        }
        if self.latest.as_ref().is_none_or(|(time, _)| at > *time) {
            self.latest = Some((at, bad()));
        }
    }

    /// The entries so far are under a checkpoint that was cosigned at these times: they are not from the future, and not
    /// from before the one that didn't have them yet.
    fn judge(&mut self, cosigned: &[i64]) -> Result<(), Fault> {
        let (Some(first), Some(last)) = (cosigned.iter().min(), cosigned.iter().max()) else {
            return Ok(());
        };
        let ahead = self
            .latest
            .take()
            .filter(|(at, _)| *at > first.saturating_add(SKEW));
        let behind = self.earliest.take();
        let behind =
            behind.filter(|(at, _)| self.after.is_some_and(|a| *at < a.saturating_sub(SKEW)));
        self.after = self.after.max(Some(*last));
        match ahead.or(behind) {
            Some((_, bad)) => Err(Box::new(bad)),
            None => Ok(()),
        }
    }
}

/// Adds a bundle to ranges.
fn extend(ranges: &mut Vec<(u64, u64)>, first: u64) {
    match ranges.last_mut() {
        Some((_, end)) if *end == first => *end += WIDTH,
        _ => ranges.push((first, first + WIDTH)),
    }
}

/// Leaves below a hash of this level.
fn span(level: usize) -> u64 {
    WIDTH.saturating_pow(u32::try_from(level).unwrap_or(u32::MAX))
}

fn read(dir: &Path, kind: &str, n: u64, width: u64) -> Result<Option<Vec<u8>>, VerifyError> {
    let name = bundle::path(kind, n, width);
    bundle::read(dir, &name).map_err(|source| VerifyError::File {
        path: dir.join(&name),
        source,
    })
}
