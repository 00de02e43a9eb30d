//! PAdES signatures in PDF files (ETSI EN 319 142-1, ISO 32000-2 §12.8): prepares a file so that its digest can
//! be signed elsewhere, puts the finished CMS in, and judges what a signed file holds.
//!
//! A signature is always an incremental update: the bytes of the original come first, untouched. Files that an
//! update would break, or whose earlier signers forbade changes, are refused by a named [`PadesError`].
//!
//! It must never see a signing key, a signer's factor or the service behind: it hands out a digest and takes DER.

mod diff;
mod fields;
mod found;
mod locks;
mod place;
mod prepare;
mod report;

pub use diff::{Evaluated, Level, Modifications};
pub use found::{Coverage, FoundSignature, SignatureKind, signatures};
pub use prepare::{PrepareOptions, Prepared, Signed, check, prepare, reserve};
pub use report::{
    CounterSignatureReport, Report, ReportReason, SignatureReport, TimeSource, gather, verify,
    verify_file,
};

/// Why a file can't be prepared, completed or examined.
#[derive(Debug, thiserror::Error)]
pub enum PadesError {
    /// The file itself.
    #[error(transparent)]
    Pdf(#[from] pdf_update::Error),
    /// An earlier signer certified the file with no changes allowed.
    #[error(
        "an earlier signer allowed no changes to this PDF; ask for a copy without that certification"
    )]
    NoChanges,
    /// An earlier signature locks the field.
    #[error("an earlier signature locks the field {0:?}; sign in another field or another copy")]
    FieldLocked(String),
    /// The form is an XFA form.
    #[error(
        "the PDF is an XFA form, whose look is made by a program; print it to a plain PDF first"
    )]
    Xfa,
    /// Two kinds of cross-reference data side by side.
    #[error(
        "the PDF has two cross-reference forms at once (hybrid); save it again with a PDF program"
    )]
    Hybrid,
    /// The named field is no empty signature field.
    #[error(
        "the field {0:?} can't be signed: it is filled, not a signature field, or its name is not usable"
    )]
    FieldUnusable(String),
    /// Several empty signature fields and none named.
    #[error("the PDF has several empty signature fields; name one of: {}", .0.join(", "))]
    FieldChoice(Vec<String>),
    /// The field's author demands something that this signature does not have.
    #[error("the signature field demands {0}, which can't be met")]
    SeedValue(&'static str),
    /// The CMS is larger than the space left for it.
    #[error(
        "the signature needs {needed} bytes but only {reserved} were reserved; prepare again with more"
    )]
    PlaceholderTooSmall {
        /// Size of the CMS in bytes.
        needed: usize,
        /// Size of the placeholder in bytes.
        reserved: usize,
    },
    /// The prepared file is not as it was left.
    #[error("the prepared file was changed; prepare the original again")]
    OutputChanged,
    /// A value that can't be written, such as a time outside of the years 1 to 9999.
    #[error("{0} can't be written into a PDF")]
    Option(&'static str),
    /// Writing the output failed.
    #[error("writing the signed PDF failed: {0}")]
    Write(std::io::Error),
}

impl PadesError {
    /// Stable code for programs.
    pub fn code(&self) -> &'static str {
        use pdf_update::Error as Pdf;
        match self {
            Self::Pdf(Pdf::NotAPdf) => "pdf-not-a-pdf",
            Self::Pdf(Pdf::Truncated) => "pdf-truncated",
            Self::Pdf(Pdf::Encrypted) => "pdf-encrypted",
            Self::Pdf(Pdf::Broken(_)) => "pdf-broken",
            Self::Pdf(Pdf::Limit(_)) => "pdf-too-complex",
            Self::Pdf(Pdf::Io(_)) => "pdf-unreadable",
            Self::NoChanges => "pdf-no-changes",
            Self::FieldLocked(_) => "pdf-field-locked",
            Self::Xfa => "pdf-xfa",
            Self::Hybrid => "pdf-hybrid",
            Self::FieldUnusable(_) => "pdf-field-unusable",
            Self::FieldChoice(_) => "pdf-field-choice",
            Self::SeedValue(_) => "pdf-seed-value",
            Self::PlaceholderTooSmall { .. } => "pdf-placeholder-too-small",
            Self::OutputChanged => "pdf-output-changed",
            Self::Option(_) => "pdf-bad-option",
            Self::Write(_) => "pdf-unwritable",
        }
    }

    /// Whether the file, or the field asked for in it, is to blame (and not a program's option, or reading and
    /// writing).
    pub fn is_input(&self) -> bool {
        !matches!(
            self,
            Self::Pdf(pdf_update::Error::Io(_))
                | Self::PlaceholderTooSmall { .. }
                | Self::OutputChanged
                | Self::Option(_)
                | Self::Write(_)
        )
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, PadesError>;
