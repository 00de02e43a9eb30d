//! Where the bytes come from.

use std::cell::Cell;
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

    /// Called for work that reading alone doesn't show, such as `bytes` decoded.
    ///
    /// # Errors
    /// When there was too much of it; only [`Metered`] counts.
    fn charge(&self, bytes: u64) -> io::Result<()> {
        let _ = bytes;
        Ok(())
    }

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

/// A source that allows so much work and then no more. Small files can make a reader read the same bytes again and
/// again; every byte counts each time that it is read or decoded.
pub struct Metered<'a> {
    inner: &'a dyn Source,
    left: Cell<u64>,
}

/// Work that every file may make, in bytes.
const FREE_WORK: u64 = 256 << 20;
/// How often the bytes of a file may be read.
const PASSES: u64 = 64;

impl<'a> Metered<'a> {
    /// Work in proportion to the size of `inner`: 256 MiB and 64 times its length.
    ///
    /// # Errors
    /// When the length can't be found out.
    pub fn new(inner: &'a dyn Source) -> io::Result<Self> {
        let work = FREE_WORK.saturating_add(inner.size()?.saturating_mul(PASSES));
        Ok(Self::limited(inner, work))
    }

    /// `work` bytes.
    pub fn limited(inner: &'a dyn Source, work: u64) -> Self {
        Self {
            inner,
            left: Cell::new(work),
        }
    }
}

impl Source for Metered<'_> {
    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.charge(buf.len() as u64)?;
        self.inner.read_at(buf, offset)
    }

    fn charge(&self, bytes: u64) -> io::Result<()> {
        match self.left.get().checked_sub(bytes) {
            Some(left) => {
                self.left.set(left);
                self.inner.charge(bytes)
            }
            None => {
                self.left.set(0);
                Err(io::Error::other(Exhausted))
            }
        }
    }
}

/// A [`Metered`] source allows no more work.
#[derive(Debug, thiserror::Error)]
#[error("too much work for a file of this size")]
pub(crate) struct Exhausted;

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

    fn charge(&self, bytes: u64) -> io::Result<()> {
        self.inner.charge(bytes)
    }
}
