//! The log as C2SP tlog-tiles: `checkpoint`, `tile/<L>/<N>[.p/<W>]` and `tile/entries/<N>[.p/<W>]`.

use std::fmt;

use store_kit::{Store, StoreError, Tx, sql};

use crate::hashes::{Hashes, TILE};
use crate::tree::TILE_HEIGHT;

/// Checkpoints of one answer.
const PAGE: i64 = 1000;
/// Highest level that a log with numbers of 63 bits can have.
const TOP: u32 = 62 / TILE_HEIGHT;

/// A resource of the log, as its path names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// The latest signed checkpoint, with its cosignatures.
    Checkpoint,
    /// Hashes of the tree.
    Tile {
        /// Level.
        level: u32,
        /// Number within the level.
        n: i64,
        /// Number of hashes, 1 to 256.
        width: i64,
    },
    /// Entries.
    Entries {
        /// Number of the bundle.
        n: i64,
        /// Number of entries, 1 to 256.
        width: i64,
    },
}

impl Resource {
    /// Parses a path without a leading slash; each resource has exactly one.
    pub fn parse(path: &str) -> Option<Self> {
        let found = Self::read(path)?;
        (found.to_string() == path).then_some(found)
    }

    fn read(path: &str) -> Option<Self> {
        if path == "checkpoint" {
            return Some(Self::Checkpoint);
        }
        let (kind, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().ok()?),
            None => (rest, TILE),
        };
        let mut n: i64 = 0;
        for part in number.split('/') {
            let digits = part.strip_prefix('x').unwrap_or(part);
            let digits: i64 = digits.parse().ok().filter(|d| (0..1000).contains(d))?;
            n = n.checked_mul(1000)?.checked_add(digits)?;
        }
        if !(1..=TILE).contains(&width) || n >= i64::MAX / TILE {
            return None;
        }
        match kind {
            "entries" => Some(Self::Entries { n, width }),
            level => {
                let level = level.parse().ok().filter(|level| *level <= TOP)?;
                Some(Self::Tile { level, n, width })
            }
        }
    }

    /// The tiles and bundles of a log of this size, complete ones and the partial ones at its right edge.
    pub fn all(size: i64) -> impl Iterator<Item = Self> {
        let tiles = (0..=TOP).flat_map(move |level| {
            let hashes = size >> (TILE_HEIGHT * level);
            runs(hashes).map(move |(n, width)| Self::Tile { level, n, width })
        });
        let bundles = runs(size).map(|(n, width)| Self::Entries { n, width });
        bundles.chain(tiles)
    }
}

/// How many hashes make how many tiles: number and width of each.
fn runs(hashes: i64) -> impl Iterator<Item = (i64, i64)> {
    let last = (hashes % TILE > 0).then_some((hashes / TILE, hashes % TILE));
    (0..hashes / TILE).map(|n| (n, TILE)).chain(last)
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, width) = match self {
            Self::Checkpoint => return f.write_str("checkpoint"),
            Self::Tile { level, n, width } => {
                write!(f, "tile/{level}/")?;
                (*n, *width)
            }
            Self::Entries { n, width } => {
                f.write_str("tile/entries/")?;
                (*n, *width)
            }
        };
        let mut parts = vec![format!("{:03}", n % 1000)];
        let mut rest = n / 1000;
        while rest > 0 {
            parts.push(format!("x{:03}", rest % 1000));
            rest /= 1000;
        }
        parts.reverse();
        f.write_str(&parts.join("/"))?;
        if width < TILE {
            write!(f, ".p/{width}")?;
        }
        Ok(())
    }
}

/// The bytes of a resource, or nothing when the log doesn't have it (yet).
///
/// # Errors
/// [`StoreError`].
pub async fn fetch(store: &Store, resource: Resource) -> Result<Option<Vec<u8>>, StoreError> {
    let mut tx = store.read("audit-tiles").await?;
    let Some(size) = checkpoint(&mut tx).await?.map(|(size, _)| size) else {
        return Ok(None);
    };
    match resource {
        Resource::Checkpoint => Ok(checkpoint(&mut tx)
            .await?
            .map(|(_, note)| note.into_bytes())),
        Resource::Tile { level, n, width } if n * TILE + width <= size >> (TILE_HEIGHT * level) => {
            tile(&mut tx, level, n, width).await.map(Some)
        }
        Resource::Entries { n, width } if n * TILE + width <= size => {
            match is_archived(&mut tx, n).await? {
                true => Ok(None),
                false => bundle(&mut tx, n, width).await.map(Some),
            }
        }
        Resource::Tile { .. } | Resource::Entries { .. } => Ok(None),
    }
}

/// The notes of the next checkpoints, at most 1000, that cover more than `after` entries, each with the signatures of witnesses.
///
/// # Errors
/// [`StoreError`].
pub async fn checkpoints(store: &Store, after: i64) -> Result<Vec<String>, StoreError> {
    let mut tx = store.read("audit-checkpoints").await?;
    let page = checkpoints_after(&mut tx, after).await?;
    Ok(page.into_iter().map(|(_, note)| note).collect())
}

/// The same with their sizes.
pub(crate) async fn checkpoints_after(
    tx: &mut Tx,
    after: i64,
) -> Result<Vec<(i64, String)>, StoreError> {
    let select = "SELECT size, note FROM audit_checkpoint WHERE size > $1 ORDER BY size LIMIT $2";
    let rows = tx.fetch_all(sql(select).bind(after).bind(PAGE)).await?;
    let mut page = Vec::with_capacity(rows.len());
    for row in &rows {
        let (size, note) = (row.int("size")?, row.text("note")?);
        page.push((size, cosigned(tx, size, note).await?));
    }
    Ok(page)
}

/// The latest checkpoint and its size: a note with the signatures of the log and of its witnesses.
pub(crate) async fn checkpoint(tx: &mut Tx) -> Result<Option<(i64, String)>, StoreError> {
    let select = "SELECT size, note FROM audit_checkpoint ORDER BY size DESC LIMIT 1";
    let Some(row) = tx.fetch_optional(sql(select)).await? else {
        return Ok(None);
    };
    let (size, note) = (row.int("size")?, row.text("note")?);
    Ok(Some((size, cosigned(tx, size, note).await?)))
}

/// The checkpoint of this size with what witnesses signed under it.
pub(crate) async fn cosigned(tx: &mut Tx, size: i64, note: String) -> Result<String, StoreError> {
    let select = "SELECT line FROM audit_cosignature WHERE size = $1 ORDER BY witness";
    let rows = tx.fetch_all(sql(select).bind(size)).await?;
    rows.iter()
        .try_fold(note, |note, row| Ok(note + &row.text("line")?))
}

/// Hashes that are missing are zeros: a damaged log is exported as it is, each hash in its place.
pub(crate) async fn tile(
    tx: &mut Tx,
    level: u32,
    n: i64,
    width: i64,
) -> Result<Vec<u8>, StoreError> {
    let mut hashes = Hashes::default();
    let hashes = hashes.tile(tx, i64::from(level), n).await?;
    let hash = |at| hashes.get(&at).map_or([0; 32], |hash| hash.0);
    Ok((n * TILE..n * TILE + width).flat_map(hash).collect())
}

/// Whether this bundle was deleted after archiving, by what the store tells: there is none then, and the checker judges.
pub(crate) async fn is_archived(tx: &mut Tx, n: i64) -> Result<bool, StoreError> {
    let cut = "SELECT 1 AS found FROM audit_cut WHERE size > $1 LIMIT 1";
    if tx.fetch_optional(sql(cut).bind(n * TILE)).await?.is_none() {
        return Ok(false);
    }
    let count = sql("SELECT count(*) AS n FROM audit_entry WHERE seq >= $1 AND seq < $2");
    let count = count.bind(n * TILE).bind((n + 1) * TILE);
    Ok(tx.fetch_one(count).await?.int("n")? < TILE)
}

/// Entries that are missing are empty, for the same reason.
pub(crate) async fn bundle(tx: &mut Tx, n: i64, width: i64) -> Result<Vec<u8>, StoreError> {
    let select = "SELECT seq, body FROM audit_entry WHERE seq >= $1 AND seq < $2 ORDER BY seq";
    let range = (n * TILE, n * TILE + width);
    let rows = tx
        .fetch_all(sql(select).bind(range.0).bind(range.1))
        .await?;
    let mut rows = rows.iter().peekable();
    let mut bundle = Vec::new();
    for seq in range.0..range.1 {
        let found = match rows.peek() {
            Some(row) if row.int("seq")? == seq => rows.next(),
            _ => None,
        };
        // What isn't text is no entry.
        let body = found.and_then(|row| row.text("body").ok());
        let body = body.unwrap_or_default().into_bytes();
        // Only somebody else than the log writes a longer one.
        let length = u16::try_from(body.len()).unwrap_or(0);
        bundle.extend_from_slice(&length.to_be_bytes());
        bundle.extend_from_slice(&body[..usize::from(length)]);
    }
    Ok(bundle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_resource_has_one_path() {
        let names = [
            ("checkpoint", Resource::Checkpoint),
            (
                "tile/0/000",
                Resource::Tile {
                    level: 0,
                    n: 0,
                    width: 256,
                },
            ),
            (
                "tile/1/067.p/1",
                Resource::Tile {
                    level: 1,
                    n: 67,
                    width: 1,
                },
            ),
            (
                "tile/entries/x001/x234/067.p/255",
                Resource::Entries {
                    n: 1_234_067,
                    width: 255,
                },
            ),
        ];
        for (path, resource) in names {
            assert_eq!(Resource::parse(path), Some(resource));
            assert_eq!(resource.to_string(), path);
        }
        for bad in [
            "",
            "/checkpoint",
            "tile",
            "tile/0",
            "tile/0/0",
            "tile/00/000",
            "tile/8/000",
            "tile/0/000/",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/001/000",
            "tile/0/x000/000",
            "tile/0/+01",
            "tile/0/-01",
            "tile/-1/000",
            "tile/entries/x999/x999/x999/x999/x999/x999/999",
            "tile/entries/../000",
        ] {
            assert_eq!(Resource::parse(bad), None, "{bad}");
        }
    }

    /// The example of the specification.
    #[test]
    fn a_log_has_the_tiles_that_its_size_says() {
        let all: Vec<_> = Resource::all(70_000).collect();
        let count = |level, width| {
            let fits = |r: &&Resource| matches!(r, Resource::Tile { level: l, width: w, .. } if (*l, *w) == (level, width));
            all.iter().filter(fits).count()
        };
        assert_eq!((count(0, 256), count(0, 112)), (273, 1));
        assert_eq!((count(1, 256), count(1, 17), count(2, 1)), (1, 1, 1));
        assert_eq!(all.len(), 2 * 274 + 3);
        assert_eq!(Resource::all(256).count(), 3);
        assert_eq!(Resource::all(0).count(), 0);
    }
}
