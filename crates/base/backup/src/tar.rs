//! The inner form: files one after the other in a POSIX ustar archive, so that stock tools unpack what stock `age` opens.

use std::io::{self, Read, Write};

const BLOCK: usize = 512;
/// Largest file that is put in or taken out: it is held in memory.
pub(crate) const LARGEST: u64 = 256 << 20;

/// Whether a name is a plain path below the archive.
pub(crate) fn is_plain(path: &str) -> bool {
    let part = |p: &str| !p.is_empty() && p != "." && p != "..";
    !path.contains('\0') && path.split('/').all(part)
}

pub(crate) fn put(out: &mut dyn Write, path: &str, bytes: &[u8]) -> io::Result<()> {
    let (prefix, name) =
        halves(path).ok_or_else(|| bad(format!("{path}: the path is too long")))?;
    if bytes.len() as u64 > LARGEST {
        return Err(bad(format!("{path} is too large")));
    }
    let mut head = [0_u8; BLOCK];
    head[..name.len()].copy_from_slice(name.as_bytes());
    head[345..345 + prefix.len()].copy_from_slice(prefix.as_bytes());
    for (at, text) in [
        (100, "0000600\0".to_owned()),
        (108, "0000000\0".to_owned()),
        (116, "0000000\0".to_owned()),
        (124, format!("{:011o}\0", bytes.len())),
        (136, "00000000000\0".to_owned()),
        (148, "        ".to_owned()),
        (156, "0".to_owned()),
        (257, "ustar\0".to_owned()),
        (263, "00".to_owned()),
    ] {
        head[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    let sum = format!("{:06o}\0 ", sum(&head));
    head[148..156].copy_from_slice(sum.as_bytes());
    out.write_all(&head)?;
    out.write_all(bytes)?;
    out.write_all(&[0; BLOCK][..padding(bytes.len())])
}

pub(crate) fn end(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

/// The next file; none at the archive's end, behind which nothing may follow.
pub(crate) fn next(from: &mut dyn Read) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut head = [0_u8; BLOCK];
    from.read_exact(&mut head)?;
    if head == [0; BLOCK] {
        from.read_exact(&mut head)?;
        let more = from.read(&mut [0])?;
        return match head == [0; BLOCK] && more == 0 {
            true => Ok(None),
            false => Err(bad("something follows its end")),
        };
    }
    let told = number(&head[148..156]);
    head[148..156].copy_from_slice(b"        ");
    if told != Some(sum(&head)) || &head[257..262] != b"ustar" || head[156] != b'0' {
        return Err(bad("it isn't an archive of plain files"));
    }
    let text = |at: usize, most: usize| {
        let field = &head[at..at + most];
        let end = field.iter().position(|b| *b == 0).unwrap_or(most);
        std::str::from_utf8(&field[..end]).map_err(|_| bad("a name isn't text"))
    };
    let (name, prefix) = (text(0, 100)?, text(345, 155)?);
    let path = match prefix {
        "" => name.to_owned(),
        prefix => format!("{prefix}/{name}"),
    };
    let size = number(&head[124..136]).filter(|size| *size <= LARGEST);
    let size = size.ok_or_else(|| bad("a file is too large"))?;
    if !is_plain(&path) {
        return Err(bad("a path leads out of it"));
    }
    let mut bytes = Vec::new();
    let got = from.take(size).read_to_end(&mut bytes)?;
    let mut rest = vec![0; padding(got)];
    from.read_exact(&mut rest)?;
    if got as u64 != size || rest.iter().any(|b| *b != 0) {
        return Err(bad("it ends too early"));
    }
    Ok(Some((path, bytes)))
}

fn padding(length: usize) -> usize {
    (BLOCK - length % BLOCK) % BLOCK
}

fn sum(head: &[u8; BLOCK]) -> u64 {
    head.iter().map(|b| u64::from(*b)).sum()
}

fn number(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(text.trim_end_matches(['\0', ' ']), 8).ok()
}

/// A long path in its two fields.
fn halves(path: &str) -> Option<(&str, &str)> {
    if path.len() <= 100 {
        return Some(("", path));
    }
    let split = |(at, _): (usize, &str)| (&path[..at], &path[at + 1..]);
    let mut places = path.match_indices('/').map(split);
    places.find(|(prefix, name)| prefix.len() <= 155 && name.len() <= 100)
}

fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(mut from: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut found = Vec::new();
        while let Some(file) = next(&mut from)? {
            found.push(file);
        }
        Ok(found)
    }

    fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (path, bytes) in files {
            put(&mut out, path, bytes).unwrap();
        }
        end(&mut out).unwrap();
        out
    }

    #[test]
    fn files_come_back_and_paths_stay_below() {
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(90));
        let files = [
            ("sam/act/000001.jsonl".to_owned(), vec![1; 512]),
            ("設定/a".to_owned(), vec![]),
            (long, vec![2; 513]),
        ];
        assert_eq!(all(&archive(&files)).unwrap(), files);
        assert!(put(&mut Vec::new(), &"x".repeat(101), b"").is_err());
        for path in ["/etc/passwd", "../a", "a//b", "a/./b", ""] {
            assert!(!is_plain(path), "{path}");
            assert!(
                all(&archive(&[(path.to_owned(), vec![])])).is_err(),
                "{path}"
            );
        }
        let whole = archive(&files);
        for length in [0, 100, 512, 1100, whole.len() - 1] {
            assert!(all(&whole[..length]).is_err(), "{length}");
        }
        assert!(all(&[&whole[..], b"x"].concat()).is_err());
    }

    proptest! {
        #[test]
        fn strange_bytes_are_no_archive(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert!(all(&bytes).is_err());
        }
    }

    #[test]
    fn the_stock_tool_lists_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.tar");
        std::fs::write(&file, archive(&[("sam/x".to_owned(), b"text".to_vec())])).unwrap();
        let said = std::process::Command::new("tar")
            .arg("-xOf")
            .arg(&file)
            .arg("sam/x")
            .output()
            .unwrap();
        assert_eq!(said.stdout, b"text");
        assert!(said.status.success());
    }
}
