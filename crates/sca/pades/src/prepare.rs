//! Preparing a file for a signature and completing it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use aws_lc_rs::digest;
use core_types::{HashAlg, UnixTime};
use pdf_update::{Appendix, Dict, Metered, ObjId, Object, Pdf, Source, Update};
use serde::{Deserialize, Serialize};

use crate::fields::Form;
use crate::locks::Restrictions;
use crate::place::{self, Target};
use crate::{PadesError, Result};

/// Bytes that are copied and hashed at a time.
const CHUNK: usize = 1 << 20;
/// Smallest placeholder, bytes of CMS.
const MIN_RESERVE: usize = 8_192;
/// Largest placeholder, bytes of CMS.
const MAX_RESERVE: usize = 4 << 20;
/// Digits for each of the three numbers of `/ByteRange` that are known late.
const RANGE_DIGITS: usize = 20;

/// How to sign.
#[derive(Debug, Clone)]
pub struct PrepareOptions {
    /// The signer's name (`/Name`), from the certificate.
    pub signer_name: String,
    /// `/Reason`. Not together with a commitment type or a signature policy in the CMS.
    pub reason: Option<String>,
    /// `/Location`.
    pub location: Option<String>,
    /// The claimed signing time (`/M`).
    pub signing_time: UnixTime,
    /// Space for the CMS in bytes, see [`reserve`].
    pub reserve: usize,
    /// The field to fill or to create. Without a name the only empty signature field is filled; if there is none
    /// a new one is created.
    pub field_name: Option<String>,
    /// Hash over the signed bytes.
    pub hash: HashAlg,
}

/// A file with a placeholder, waiting for its CMS. Can be stored and loaded again for deferred signing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prepared {
    /// `/ByteRange`: offset and length of the two signed parts.
    pub byte_range: [u64; 4],
    /// Space for the CMS in bytes.
    pub reserved: usize,
    /// Hash function of both digests.
    pub hash: HashAlg,
    /// Digest of the signed bytes: the message-digest attribute of the CMS.
    pub digest: Vec<u8>,
    /// Digest of the original file.
    pub original_digest: Vec<u8>,
    /// Full name of the signature field.
    pub field_name: String,
}

/// A file with its signature in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Full name of the signature field.
    pub field_name: String,
    /// Length of the file in bytes.
    pub len: u64,
}

/// Space for a CMS in bytes: `certificates` is the total size of the embedded certificates, `time_stamp` that of
/// a time-stamp token of the same authority if there will be one. RSA-4096 and all attributes have room.
pub fn reserve(certificates: usize, time_stamp: Option<usize>) -> usize {
    let basic = MIN_RESERVE.max(certificates.saturating_add(4_096));
    basic.saturating_add(time_stamp.map_or(0, |size| size.saturating_add(2_048)))
}

/// Writes `input` and an update with an empty signature to `output` (from its start), in one pass, with memory
/// that does not depend on the size of the file. `input` is only read; `output` must be another file.
///
/// # Errors
/// By name for every file that can't be signed soundly; nothing is written then.
pub fn prepare(input: &dyn Source, output: &File, options: &PrepareOptions) -> Result<Prepared> {
    let plan = plan(input, options)?;
    let mut context = digest::Context::new(options.hash.aws());
    copy(input, output, plan.appendix.start, &mut context)?;
    let original_digest = context.clone().finish().as_ref().to_vec();

    let [_, first_end, second, second_len] = plan.byte_range;
    let at = |offset: u64| usize::try_from(offset - plan.appendix.start).unwrap_or(usize::MAX);
    let bytes = &plan.appendix.bytes;
    context.update(&bytes[..at(first_end)]);
    context.update(&bytes[at(second)..]);
    output
        .write_all_at(bytes, plan.appendix.start)
        .map_err(PadesError::Write)?;
    output
        .set_len(second + second_len)
        .map_err(PadesError::Write)?;
    Ok(Prepared {
        byte_range: plan.byte_range,
        reserved: options.reserve,
        hash: options.hash,
        digest: context.finish().as_ref().to_vec(),
        original_digest,
        field_name: plan.field_name,
    })
}

/// Whether [`prepare`] would accept the file with these options; reads what it needs and writes nothing.
///
/// # Errors
/// Those of [`prepare`].
pub fn check(input: &dyn Source, options: &PrepareOptions) -> Result<()> {
    plan(input, options).map(|_| ())
}

impl Prepared {
    /// Puts the CMS (DER) into the placeholder of `output` and syncs the file.
    ///
    /// # Errors
    /// [`PadesError::PlaceholderTooSmall`], [`PadesError::OutputChanged`] when `output` is not the prepared file,
    /// or when writing fails.
    pub fn embed(self, output: &File, cms: &[u8]) -> Result<Signed> {
        if cms.is_empty() || cms.len() > self.reserved {
            return Err(PadesError::PlaceholderTooSmall {
                needed: cms.len(),
                reserved: self.reserved,
            });
        }
        let [_, gap, second, second_len] = self.byte_range;
        let size = usize::try_from(second.saturating_sub(gap)).unwrap_or(usize::MAX);
        if size != self.reserved.saturating_mul(2).saturating_add(2) || self.reserved > MAX_RESERVE
        {
            return Err(PadesError::OutputChanged);
        }
        let mut old = vec![0; size];
        let read = Source::read_full(output, &mut old, gap).map_err(PadesError::Write)?;
        let blank = old[1..size - 1].iter().all(|&b| b == b'0');
        let whole = output.size().map_err(PadesError::Write)? == second + second_len;
        if read < size || !whole || !blank || old[0] != b'<' || old[size - 1] != b'>' {
            return Err(PadesError::OutputChanged);
        }
        let mut hex = Vec::with_capacity(cms.len() * 2);
        for b in cms {
            hex.extend_from_slice(format!("{b:02X}").as_bytes());
        }
        output
            .write_all_at(&hex, gap + 1)
            .map_err(PadesError::Write)?;
        output.sync_data().map_err(PadesError::Write)?;
        Ok(Signed {
            field_name: self.field_name,
            len: second + second_len,
        })
    }
}

/// Everything that is decided before a byte is written.
struct Plan {
    appendix: Appendix,
    byte_range: [u64; 4],
    field_name: String,
}

fn plan(input: &dyn Source, options: &PrepareOptions) -> Result<Plan> {
    if options.reserve < 512 || options.reserve > MAX_RESERVE {
        return Err(PadesError::Option("this placeholder size"));
    }
    let input = Metered::new(input).map_err(pdf_update::Error::from)?;
    let pdf = Pdf::open(&input)?;
    if pdf.is_hybrid() {
        return Err(PadesError::Hybrid);
    }
    // Not needed to fill a field, but a file whose first page can't be found is not worth signing.
    pdf.first_page()?;
    // An object that doesn't end inside the file would change with what is appended to it.
    pdf.each_object(|_, _| {})?;
    let catalog = pdf.catalog()?;
    let form = Form::of(&pdf, &catalog)?;
    let fields = match &form {
        Some(form) => {
            if pdf.lookup(&form.dict, "XFA")?.is_some() {
                return Err(PadesError::Xfa);
            }
            form.fields(&pdf)?
        }
        None => Vec::new(),
    };
    let restrictions = Restrictions::of(&pdf, &catalog, &fields)?;
    if restrictions.doc_mdp == Some(1) {
        return Err(PadesError::NoChanges);
    }
    let target = place::choose(&fields, options.field_name.as_deref())?;
    let field_name = match &target {
        Target::Fill(field) => field.name.clone(),
        Target::Create(name) => name.clone(),
    };
    if restrictions.locks(&field_name) {
        return Err(PadesError::FieldLocked(field_name));
    }

    let mut update = Update::new(&pdf);
    let signature = update.allocate()?;
    let lock = match &target {
        Target::Fill(field) => {
            place::check_seed(&pdf, field, options)?;
            place::fill_field(&mut update, &pdf, field, signature)?;
            match pdf.lookup(&field.dict, "Lock")? {
                Some(Object::Dict(lock)) => Some(place::inline(&pdf, &lock)?),
                _ => None,
            }
        }
        Target::Create(_) => None,
    };
    let new_field = match &target {
        Target::Fill(_) => None,
        Target::Create(name) => Some(place::create_field(&mut update, &pdf, name, signature)?),
    };
    place::register(&mut update, &pdf, catalog, form, new_field)?;
    let (text, marks) = signature_dictionary(options, lock, pdf.root())?;
    let id_seed = [
        pdf.size().to_be_bytes().as_slice(),
        &text,
        field_name.as_bytes(),
    ]
    .concat();
    update.put_raw(signature, text);

    // /ID must differ between revisions, nothing more (ISO 32000-2 §14.4).
    let mut file_id = [0; 16];
    file_id.copy_from_slice(&HashAlg::Sha256.digest(&id_seed)[..16]);
    let mut appendix = update.finish(file_id)?;
    let body = appendix
        .body_of(signature.num)
        .ok_or(PadesError::OutputChanged)?;
    let gap = body + marks.contents;
    let second = gap + 2 * options.reserve + 2;
    let offset = |n: usize| appendix.start + n as u64;
    let byte_range = [
        0,
        offset(gap),
        offset(second),
        (appendix.bytes.len() - second) as u64,
    ];
    let width = RANGE_DIGITS * 3 + 2;
    let numbers = format!("{} {} {}", byte_range[1], byte_range[2], byte_range[3]);
    let at = body + marks.range;
    appendix.bytes[at..at + width].copy_from_slice(format!("{numbers:<width$}").as_bytes());
    Ok(Plan {
        appendix,
        byte_range,
        field_name,
    })
}

fn copy(input: &dyn Source, output: &File, len: u64, context: &mut digest::Context) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut pos = 0;
    while pos < len {
        let want = usize::try_from(len - pos).unwrap_or(CHUNK).min(CHUNK);
        let n = input
            .read_full(&mut chunk[..want], pos)
            .map_err(pdf_update::Error::Io)?;
        if n < want {
            return Err(pdf_update::Error::Broken("the file changed while it was read").into());
        }
        context.update(&chunk[..n]);
        output
            .write_all_at(&chunk[..n], pos)
            .map_err(PadesError::Write)?;
        pos += n as u64;
    }
    Ok(())
}

/// Positions in the text of the signature dictionary.
struct Marks {
    /// After `[0 ` of `/ByteRange`.
    range: usize,
    /// The `<` of `/Contents`.
    contents: usize,
}

fn signature_dictionary(
    options: &PrepareOptions,
    lock: Option<Dict>,
    root: ObjId,
) -> Result<(Vec<u8>, Marks)> {
    let mut text =
        b"<</Type /Sig /Filter /Adobe.PPKLite /SubFilter /ETSI.CAdES.detached\n/ByteRange [0 "
            .to_vec();
    let range = text.len();
    text.resize(range + RANGE_DIGITS * 3 + 2, b' ');
    text.extend_from_slice(b"]\n/Contents ");
    let contents = text.len();
    text.push(b'<');
    text.resize(contents + 1 + options.reserve * 2, b'0');
    text.extend_from_slice(b">\n/M ");
    Object::string(pdf_date(options.signing_time)?.as_bytes()).write(&mut text);
    let strings = [
        ("Name", Some(&options.signer_name)),
        ("Reason", options.reason.as_ref()),
        ("Location", options.location.as_ref()),
    ];
    for (key, value) in strings {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            if value.len() > 4_096 {
                return Err(PadesError::Option(
                    "a name, reason or location of this length",
                ));
            }
            text.extend_from_slice(format!("\n/{key} ").as_bytes());
            Object::text(value).write(&mut text);
        }
    }
    if let Some(lock) = lock {
        let params = lock
            .with("Type", Object::name("TransformParams"))
            .with("V", Object::name("1.2"));
        let reference = Dict::new()
            .with("Type", Object::name("SigRef"))
            .with("TransformMethod", Object::name("FieldMDP"))
            .with("Data", Object::Ref(root))
            .with("TransformParams", Object::Dict(params));
        text.extend_from_slice(b"\n/Reference ");
        Object::Array(vec![Object::Dict(reference)]).write(&mut text);
    }
    text.extend_from_slice(b">>");
    Ok((text, Marks { range, contents }))
}

/// `D:YYYYMMDDHHmmSS+00'00'`; without the last apostrophe some viewers refuse the date.
fn pdf_date(time: UnixTime) -> Result<String> {
    let format = time::macros::format_description!("[year][month][day][hour][minute][second]");
    let date = time::OffsetDateTime::from_unix_timestamp(time.0)
        .ok()
        .filter(|d| (1..=9999).contains(&d.year()));
    let text = date
        .and_then(|d| d.format(&format).ok())
        .ok_or(PadesError::Option("this signing time"))?;
    Ok(format!("D:{text}+00'00'"))
}
