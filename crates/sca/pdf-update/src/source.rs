//! Where the bytes come from.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Positioned reads over an immutable sequence of bytes.
pub trait Source {
    /// Length in bytes.
    ///
    /// # Errors
    /// When the length can't be found out.
    fn size(&self) -> io::Result<u64>;

    /// Reads up to `buf.len()` bytes at `offset`; 0 means the end.
    ///
    /// # Errors
    /// When reading fails.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Fills `buf` from `offset` as far as there are bytes and returns how many there were.
    ///
    /// # Errors
    /// When reading fails.
    fn read_full(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }
}

impl Source for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buf, offset)
    }
}

impl Source for [u8] {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|o| self.get(o..))
            .unwrap_or(&[]);
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}

impl Source for Vec<u8> {
    fn size(&self) -> io::Result<u64> {
        self.as_slice().size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.as_slice().read_at(buf, offset)
    }
}

/// The first bytes of another source, such as an earlier revision of a file.
#[derive(Clone, Copy)]
pub struct Prefix<'a> {
    inner: &'a dyn Source,
    len: u64,
}

impl<'a> Prefix<'a> {
    /// The first `len` bytes of `inner`.
    pub fn new(inner: &'a dyn Source, len: u64) -> Self {
        Self { inner, len }
    }
}

impl Source for Prefix<'_> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len.min(self.inner.size()?))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = self.len.saturating_sub(offset);
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        self.inner.read_at(&mut buf[..n], offset)
    }
}
