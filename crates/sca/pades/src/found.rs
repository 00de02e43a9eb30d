//! The signatures that a file holds, and what their bytes cover.

use std::collections::BTreeSet;

use aws_lc_rs::digest;
use core_types::HashAlg;
use pdf_update::{Dict, Entry, Metered, Object, Pdf, Prefix, Source};

use crate::diff::{self, Modifications};
use crate::fields::{Field, Form};
use crate::locks::Restrictions;
use crate::{PadesError, Result};

/// Bytes that are hashed at a time.
const CHUNK: usize = 1 << 20;
/// Signatures in one file.
const MAX_SIGNATURES: usize = 200;
/// Revisions that are searched for signatures, from the newest.
const MAX_REVISIONS: usize = 200;

/// What a signature field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureKind {
    /// A person's or organisation's signature: the contents are a CMS SignedData.
    Signature,
    /// A document time-stamp: the contents are an RFC 3161 token.
    DocumentTimeStamp,
}

/// How much of the file a signature covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// The whole file, but for the signature's own value.
    EntireFile,
    /// A whole earlier revision; updates follow.
    EntireRevision,
    /// Sound ranges that are no whole revision, so that what they mean can't be told.
    Partial(&'static str),
    /// The ranges are not those of a signature.
    Broken(&'static str),
}

impl Coverage {
    /// Stable name for reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::EntireFile => "ENTIRE_FILE",
            Self::EntireRevision => "ENTIRE_REVISION",
            Self::Partial(_) => "PARTIAL",
            Self::Broken(_) => "BROKEN",
        }
    }
}

/// A filled signature field. Its cryptography is not judged here.
#[derive(Debug, Clone)]
pub struct FoundSignature {
    /// Full name of the field.
    pub field_name: String,
    /// What the field holds.
    pub kind: SignatureKind,
    /// `/SubFilter`.
    pub sub_filter: String,
    /// `/Name` as the file claims it.
    pub claimed_name: Option<String>,
    /// `/M` as the file claims it, a PDF date.
    pub claimed_time: Option<String>,
    /// `/Reason`.
    pub reason: Option<String>,
    /// `/Location`.
    pub location: Option<String>,
    /// `/ByteRange`; meaningless when the coverage is broken.
    pub byte_range: [u64; 4],
    /// The DER of `/Contents` without its padding; empty when broken.
    pub contents: Vec<u8>,
    /// What the signature covers.
    pub coverage: Coverage,
    /// Strictest certification in force when it was made (1 to 3).
    pub doc_mdp: Option<u8>,
    /// What was changed afterwards.
    pub modifications: Modifications,
}

impl FoundSignature {
    /// Digest of the signed bytes of `source`, the same file.
    ///
    /// # Errors
    /// When the ranges are broken or reading fails.
    pub fn digest(&self, source: &dyn Source, hash: HashAlg) -> Result<Vec<u8>> {
        if let Coverage::Broken(what) = self.coverage {
            return Err(pdf_update::Error::Broken(what).into());
        }
        let [start, len, second, second_len] = self.byte_range;
        let mut context = digest::Context::new(hash.aws());
        let mut chunk = vec![0; CHUNK];
        for (mut pos, mut left) in [(start, len), (second, second_len)] {
            while left > 0 {
                let want = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
                let n = source
                    .read_full(&mut chunk[..want], pos)
                    .map_err(pdf_update::Error::from)?;
                if n < want {
                    return Err(
                        pdf_update::Error::Broken("the file changed while it was read").into(),
                    );
                }
                context.update(&chunk[..n]);
                pos += n as u64;
                left -= n as u64;
            }
        }
        Ok(context.finish().as_ref().to_vec())
    }

    /// Length of the signed revision in bytes: its bytes are the file's first so many.
    pub fn revision_len(&self) -> u64 {
        self.byte_range[2].saturating_add(self.byte_range[3])
    }

    /// Whether all later changes are such as the certification in force, or common sense without one, allows.
    /// `None` when they could not be evaluated.
    pub fn changes_allowed(&self) -> Option<bool> {
        self.modifications.allowed_under(self.doc_mdp)
    }
}

/// All filled signature fields of a file, in the order of their revisions. A signature that a later revision
/// removed or replaced is found too; that change is one of its modifications.
///
/// # Errors
/// When the file can't be read as a PDF. A signature that is itself unsound is reported, not an error.
pub fn signatures(source: &dyn Source) -> Result<Vec<FoundSignature>> {
    let source = Metered::new(source).map_err(pdf_update::Error::from)?;
    let pdf = Pdf::open(&source)?;
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for (field, place) in filled(&pdf)? {
        seen.insert((field.id, place));
        found.push(examine(&pdf, &pdf, &field)?);
    }
    let sections = pdf.section_offsets().len();
    for index in 1..sections.min(MAX_REVISIONS) {
        // The parts of a linearized file are no revisions, so not every section has a readable form.
        let fields = pdf.at_section(index).map_err(PadesError::from);
        let fields = fields.and_then(|revision| Ok((filled(&revision)?, revision)));
        let (fields, revision) = match fields {
            Ok(found) => found,
            Err(e @ PadesError::Pdf(pdf_update::Error::Limit(_) | pdf_update::Error::Io(_))) => {
                return Err(e);
            }
            Err(_) => continue,
        };
        for (field, place) in fields {
            if seen.insert((field.id, place)) {
                found.push(examine(&pdf, &revision, &field)?);
            }
        }
        if found.len() > MAX_SIGNATURES {
            return Err(pdf_update::Error::Limit("too many signatures").into());
        }
    }
    found.sort_by_key(FoundSignature::revision_len);
    Ok(found)
}

/// Filled signature fields of a revision, and where their values lie in the file.
fn filled(pdf: &Pdf<'_>) -> Result<Vec<(Field, Option<u64>)>> {
    let Some(form) = Form::of(pdf, &pdf.catalog()?)? else {
        return Ok(Vec::new());
    };
    let mut out = Vec::new();
    for field in form.fields(pdf)? {
        if field.is_signature && field.value.is_some() {
            let place = match field.value.as_ref().and_then(Object::as_ref) {
                Some(id) => match pdf.entry(id.num)? {
                    Some(Entry::At { offset, .. }) => Some(offset),
                    _ => None,
                },
                None => None,
            };
            out.push((field, place));
        }
    }
    if out.len() > MAX_SIGNATURES {
        return Err(pdf_update::Error::Limit("too many signatures").into());
    }
    Ok(out)
}

/// `holder` is the revision in which the field holds the signature, `pdf` the newest one.
fn examine(pdf: &Pdf<'_>, holder: &Pdf<'_>, field: &Field) -> Result<FoundSignature> {
    let mut out = FoundSignature {
        field_name: field.name.clone(),
        kind: SignatureKind::Signature,
        sub_filter: String::new(),
        claimed_name: None,
        claimed_time: None,
        reason: None,
        location: None,
        byte_range: [0; 4],
        contents: Vec::new(),
        coverage: Coverage::Broken("the signature is not a dictionary by itself"),
        doc_mdp: None,
        modifications: Modifications::not_evaluated(),
    };
    let Some(id) = field.value.as_ref().and_then(Object::as_ref) else {
        return Ok(out);
    };
    let Object::Dict(dict) = holder.get(id)? else {
        return Ok(out);
    };
    let text = |key: &str| -> Result<Option<String>> {
        Ok(holder.lookup(&dict, key)?.and_then(|o| o.as_text()))
    };
    out.claimed_name = text("Name")?;
    out.claimed_time = text("M")?;
    out.reason = text("Reason")?;
    out.location = text("Location")?;
    let sub_filter = holder.lookup(&dict, "SubFilter")?;
    out.sub_filter = String::from_utf8_lossy(
        sub_filter
            .as_ref()
            .and_then(Object::as_name)
            .unwrap_or_default(),
    )
    .into();
    if is_time_stamp(holder, &dict)? {
        out.kind = SignatureKind::DocumentTimeStamp;
    }

    match ranges(holder, id, &dict) {
        Err(PadesError::Pdf(pdf_update::Error::Broken(what))) => {
            out.coverage = Coverage::Broken(what);
            return Ok(out);
        }
        other => (out.byte_range, out.contents) = other?,
    }
    let signed_len = out.revision_len();
    let prefix = Prefix::new(pdf.source(), signed_len);
    let revision = match Pdf::open(&prefix) {
        Ok(revision) => revision,
        Err(e @ (pdf_update::Error::Io(_) | pdf_update::Error::Limit(_))) => return Err(e.into()),
        Err(_) => {
            out.coverage = Coverage::Partial("the signed bytes are no complete revision");
            return Ok(out);
        }
    };
    let Some(later) = later_sections(pdf, &revision, signed_len) else {
        out.coverage = Coverage::Partial("the file does not build on the signed revision");
        return Ok(out);
    };
    if !is_known(holder, &revision, field, id)? {
        out.coverage = Coverage::Partial("the signed revision does not hold this signature");
        return Ok(out);
    }
    out.coverage = if signed_len == pdf.size() {
        Coverage::EntireFile
    } else {
        Coverage::EntireRevision
    };
    let catalog = revision.catalog()?;
    let fields = match Form::of(&revision, &catalog)? {
        Some(form) => form.fields(&revision)?,
        None => Vec::new(),
    };
    let restrictions = Restrictions::of(&revision, &catalog, &fields)?;
    out.doc_mdp = restrictions.doc_mdp;
    out.modifications = match out.coverage {
        Coverage::EntireFile => Modifications::none(),
        _ => diff::compare(&revision, pdf, later, &fields, &restrictions)?,
    };
    Ok(out)
}

/// Whether the value of a signature field is a document time-stamp, by either of its marks.
pub(crate) fn is_time_stamp(pdf: &Pdf<'_>, dict: &Dict) -> pdf_update::Result<bool> {
    let sub_filter = pdf.lookup(dict, "SubFilter")?;
    let marked = sub_filter.as_ref().and_then(Object::as_name) == Some(b"ETSI.RFC3161");
    Ok(marked || dict.is_type("DocTimeStamp"))
}

/// How many sections of the file came after the signed revision; `None` when the file is not its continuation.
fn later_sections(pdf: &Pdf<'_>, revision: &Pdf<'_>, signed_len: u64) -> Option<usize> {
    let all = pdf.section_offsets();
    let signed = revision.section_offsets();
    let later = all.len().checked_sub(signed.len())?;
    let grows = all[..later].iter().all(|&offset| offset >= signed_len);
    (grows && all[later..] == signed[..]).then_some(later)
}

/// Whether the signed revision itself has the field with the very same signature.
fn is_known(
    pdf: &Pdf<'_>,
    revision: &Pdf<'_>,
    field: &Field,
    id: pdf_update::ObjId,
) -> Result<bool> {
    let same_place = match (pdf.entry(id.num)?, revision.entry(id.num)?) {
        (Some(Entry::At { offset: a, .. }), Some(Entry::At { offset: b, .. })) => a == b,
        _ => false,
    };
    let Some(form) = Form::of(revision, &revision.catalog()?)? else {
        return Ok(false);
    };
    let listed = form.fields(revision)?.iter().any(|f| {
        f.id == field.id
            && f.name == field.name
            && f.is_signature
            && f.value == Some(Object::Ref(id))
    });
    Ok(same_place && listed)
}

/// `/ByteRange` and the DER of `/Contents`, after all the gates that stop signature wrapping: the gap is exactly
/// the value of this dictionary's `/Contents`, no byte more.
fn ranges(pdf: &Pdf<'_>, id: pdf_update::ObjId, dict: &Dict) -> Result<([u64; 4], Vec<u8>)> {
    let broken = |what| PadesError::Pdf(pdf_update::Error::Broken(what));
    let list = dict
        .get("ByteRange")
        .and_then(Object::as_array)
        .ok_or(broken("the signature has no ByteRange"))?;
    let mut range = [0; 4];
    if list.len() != range.len() {
        return Err(broken("the ByteRange has not four numbers"));
    }
    for (out, value) in range.iter_mut().zip(list) {
        *out = value
            .as_int()
            .and_then(|n| u64::try_from(n).ok())
            .ok_or(broken("the ByteRange is not numeric"))?;
    }
    let [start, first, second, second_len] = range;
    let end = second
        .checked_add(second_len)
        .ok_or(broken("the ByteRange leaves the file"))?;
    if start != 0 || first == 0 || second < first || end > pdf.size() {
        return Err(broken(
            "the ByteRange leaves the file or does not begin with it",
        ));
    }
    if pdf.value_span(id, "Contents")? != (first..second) {
        return Err(broken(
            "the unsigned gap is not exactly the signature value",
        ));
    }
    pdf.value_span(id, "ByteRange")?;
    let Some(Object::Str { bytes, hex: true }) = dict.get("Contents") else {
        return Err(broken("the signature value is not hexadecimal"));
    };
    let len = der_len(bytes).ok_or(broken("the signature value is not DER"))?;
    let (der, padding) = bytes
        .split_at_checked(len)
        .ok_or(broken("the signature value is cut off"))?;
    if padding.iter().any(|&b| b != 0) {
        return Err(broken("something hides behind the signature value"));
    }
    Ok((range, der.to_vec()))
}

/// Total length of the DER SEQUENCE at the start of `bytes`.
fn der_len(bytes: &[u8]) -> Option<usize> {
    let (&[0x30, first], rest) = bytes.split_first_chunk::<2>()? else {
        return None;
    };
    if first < 0x80 {
        return Some(2 + usize::from(first));
    }
    let count = usize::from(first & 0x7f);
    if count == 0 || count > 4 {
        return None;
    }
    let len = rest
        .get(..count)?
        .iter()
        .fold(0_usize, |n, &b| n << 8 | usize::from(b));
    len.checked_add(2 + count)
}
