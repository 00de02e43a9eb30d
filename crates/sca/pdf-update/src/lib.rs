//! Reads PDF files lazily and appends incremental updates to them (ISO 32000-2 §7.5).
//!
//! The reader works over positioned reads: it looks at the tail, the cross-reference sections and the objects
//! that somebody asks for, so its memory does not grow with the file. It repairs nothing: a file whose
//! cross-reference chain is broken is refused, because appending to a guess is unsafe. The writer only produces
//! the bytes that go behind the original, which stays untouched.
//!
//! It knows nothing of signatures, fields or permissions, and must never learn of keys, signers or services.

mod builder;
mod filter;
mod lexer;
mod object;
mod pdf;
mod source;
mod update;
mod xref;

pub use builder::Builder;
pub use object::{Dict, ObjId, Object, Stream};
pub use pdf::Pdf;
pub use source::{Metered, Prefix, Source};
pub use update::{Appendix, Update};
pub use xref::{Entry, XrefForm};

/// Largest object number that is read or written (the limit of common viewers).
pub const MAX_OBJECT_NUMBER: u32 = 8_388_607;

/// Why a file can't be read or updated. All but [`Error::Io`] are the file's fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No `%PDF-` header at the first byte.
    #[error("this is not a PDF file; choose a PDF")]
    NotAPdf,
    /// The end of the file is missing.
    #[error("the PDF is cut off (no end marker); get the complete file again")]
    Truncated,
    /// The file has an `/Encrypt` dictionary.
    #[error("the PDF is encrypted; save it without a password and restrictions first")]
    Encrypted,
    /// The structure contradicts ISO 32000 in a place that matters.
    #[error("the PDF is damaged ({0}); save it again with a PDF program")]
    Broken(&'static str),
    /// Nesting, counts or sizes beyond what is sensible.
    #[error("the PDF is too complex ({0})")]
    Limit(&'static str),
    /// Reading failed.
    #[error("reading the PDF failed: {0}")]
    Io(std::io::Error),
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        if error.get_ref().is_some_and(|e| e.is::<source::Exhausted>()) {
            Self::Limit("too much work for a file of this size")
        } else {
            Self::Io(error)
        }
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
