//! The files of an export: plain ones of bounded size, and none among them that isn't of the log.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use crate::bundle::{self, WIDTH};
use crate::report::{Bad, Place, Reason};

/// Hashes below a hash, as a power of two.
const HEIGHT: u32 = 8;
/// Levels that tiles can have.
const LEVELS: u32 = 8;

/// A file's bytes; nothing when it isn't there, isn't a plain file, or is longer than `most`. Whoever may write to an
/// export could put something there that never ends.
pub(crate) fn plain(path: &Path, most: u64) -> std::io::Result<Option<Vec<u8>>> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() && found.len() <= most => {}
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(error),
        _ => return Ok(None),
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes).filter(|b| b.len() as u64 <= most))
}

/// The first file below `tile` that a log of this size doesn't have. Narrower forms of a tile or bundle, from when the
/// log was smaller, may lie beside it if they are its beginning.
pub(crate) fn stray(dir: &Path, size: u64) -> std::io::Result<Option<Bad>> {
    let mut folders = vec![PathBuf::from("tile")];
    while let Some(folder) = folders.pop() {
        let listed = match std::fs::read_dir(dir.join(&folder)) {
            Ok(listed) => listed,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(error),
            Err(_) => continue,
        };
        let listed: Result<Vec<_>, _> = listed.collect();
        let mut listed = listed?;
        listed.sort_by_key(std::fs::DirEntry::file_name);
        for entry in listed {
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if !belongs(dir, &path, size)? {
                let bad = Bad::at(Place::File, None, Reason::Stray);
                let file = Some(path.display().to_string());
                return Ok(Some(Bad { file, ..bad }));
            }
        }
    }
    Ok(None)
}

fn belongs(dir: &Path, path: &Path, size: u64) -> std::io::Result<bool> {
    let Some((kind, n, width)) = path.to_str().and_then(parse) else {
        return Ok(false);
    };
    let level = match kind {
        "entries" => Some(0),
        text => (0..LEVELS).find(|level| level.to_string() == text),
    };
    let hashes = level.map_or(0, |level| size.checked_shr(HEIGHT * level).unwrap_or(0));
    let there = hashes.saturating_sub(n.saturating_mul(WIDTH)).min(WIDTH);
    if width >= there {
        return Ok(width == there);
    }
    let whole = bundle::read(dir, &bundle::path(kind, n, there))?;
    let part = bundle::read(dir, &bundle::path(kind, n, width))?;
    Ok(matches!((whole, part), (Some(whole), Some(part)) if whole.starts_with(&part)))
}

/// Kind, number and width of a tile or bundle by its one path.
fn parse(path: &str) -> Option<(&str, u64, u64)> {
    let (kind, rest) = path.strip_prefix("tile/")?.split_once('/')?;
    let (number, width) = match rest.split_once(".p/") {
        Some((number, width)) => (number, width.parse().ok().filter(|w| *w > 0)?),
        None => (rest, WIDTH),
    };
    let mut n: u64 = 0;
    for part in number.split('/') {
        let digits: u64 = part.trim_start_matches('x').parse().ok()?;
        n = n.checked_mul(1000)?.checked_add(digits)?;
    }
    (bundle::path(kind, n, width) == path).then_some((kind, n, width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_the_files_of_its_size_and_their_beginnings() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        let found = |size| stray(dir.path(), size).unwrap().and_then(|bad| bad.file);
        put("tile/entries/000", b"abc");
        put("tile/0/000", b"xyz");
        put("tile/1/000.p/1", b"r");
        put("tile/entries/001.p/44", b"d");
        put("tile/0/001.p/44", b"z");
        assert_eq!(found(300), None);
        put("tile/entries/000.p/7", b"ab");
        put("tile/0/001.p/3", b"");
        assert_eq!(found(300), None);
        for (name, bytes) in [
            ("tile/entries/000.p/8", &b"ax"[..]),
            ("tile/entries/001.p/45", b"d"),
            ("tile/entries/001", b"d"),
            ("tile/entries/1", b"d"),
            ("tile/entries/x001/000", b"d"),
            ("tile/1/000", b"r"),
            ("tile/2/000.p/1", b"r"),
            ("tile/9/000.p/1", b"r"),
            ("tile/01/000.p/1", b"r"),
            ("tile/0/000.p/0", b""),
            ("tile/notes.txt", b"n"),
            ("tile/x/y/z", b"n"),
        ] {
            put(name, bytes);
            assert_eq!(found(300).as_deref(), Some(name));
            std::fs::remove_file(dir.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink("/etc", dir.path().join("tile/etc")).unwrap();
        assert_eq!(found(300).as_deref(), Some("tile/etc"));
    }

    #[test]
    fn what_is_no_plain_file_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("plain"), b"12345").unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("endless")).unwrap();
        assert_eq!(plain(&at("plain"), 5).unwrap(), Some(b"12345".to_vec()));
        for (name, most) in [
            ("plain", 4),
            ("folder", 5),
            ("endless", 5),
            ("none", 5),
            ("plain/x", 5),
        ] {
            assert_eq!(plain(&at(name), most).unwrap(), None, "{name}");
        }
    }
}
