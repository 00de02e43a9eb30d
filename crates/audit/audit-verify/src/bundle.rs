//! The files of a log in the form of C2SP tlog-tiles.

use std::path::Path;

use crate::files;
use crate::tree::Hash;

/// Entries in a bundle, and hashes in a tile.
pub(crate) const WIDTH: u64 = 256;
/// A bundle of longest entries.
const MAX_FILE: u64 = WIDTH * (2 + u16::MAX as u64);

/// Which file.
pub(crate) fn path(kind: &str, n: u64, width: u64) -> String {
    let mut name = format!("{:03}", n % 1000);
    let mut rest = n / 1000;
    while rest > 0 {
        name = format!("x{:03}/{name}", rest % 1000);
        rest /= 1000;
    }
    let partial = if width < WIDTH {
        format!(".p/{width}")
    } else {
        String::new()
    };
    format!("tile/{kind}/{name}{partial}")
}

/// A file's bytes; nothing when it isn't there or longer than any of its kind.
pub(crate) fn read(dir: &Path, name: &str) -> std::io::Result<Option<Vec<u8>>> {
    files::plain(&dir.join(name), MAX_FILE)
}

/// The next entry of a bundle: two bytes of length, then itself.
pub(crate) fn next<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (length, after) = rest.split_first_chunk::<2>()?;
    let (entry, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *rest = after;
    Some(entry)
}

/// The hash at a place of a tile.
pub(crate) fn hash(tile: &[u8], at: usize) -> Option<Hash> {
    tile.get(at * 32..)?.first_chunk().copied()
}
