//! Preparing a file for a signature and completing it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use aws_lc_rs::digest;
use core_types::{HashAlg, UnixTime};
use pdf_update::{Appendix, Dict, ObjId, Object, Pdf, Source, Update};
use serde::{Deserialize, Serialize};

use crate::fields::{Field, Form};
use crate::locks::Restrictions;
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
    output.write_all_at(bytes, plan.appendix.start).map_err(PadesError::Write)?;
    output.set_len(second + second_len).map_err(PadesError::Write)?;
    Ok(Prepared {
        byte_range: plan.byte_range,
        reserved: options.reserve,
        hash: options.hash,
        digest: context.finish().as_ref().to_vec(),
        original_digest,
        field_name: plan.field_name,
    })
}

impl Prepared {
    /// Puts the CMS (DER) into the placeholder of `output` and syncs the file.
    ///
    /// # Errors
    /// [`PadesError::PlaceholderTooSmall`], [`PadesError::OutputChanged`] when `output` is not the prepared file,
    /// or when writing fails.
    pub fn embed(self, output: &File, cms: &[u8]) -> Result<Signed> {
        if cms.is_empty() || cms.len() > self.reserved {
            return Err(PadesError::PlaceholderTooSmall { needed: cms.len(), reserved: self.reserved });
        }
        let [_, gap, second, second_len] = self.byte_range;
        let size = usize::try_from(second.saturating_sub(gap)).unwrap_or(usize::MAX);
        if size != self.reserved.saturating_mul(2).saturating_add(2) || self.reserved > MAX_RESERVE {
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
        output.write_all_at(&hex, gap + 1).map_err(PadesError::Write)?;
        output.sync_data().map_err(PadesError::Write)?;
        Ok(Signed { field_name: self.field_name, len: second + second_len })
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
    let pdf = Pdf::open(input)?;
    if pdf.is_hybrid() {
        return Err(PadesError::Hybrid);
    }
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
    let target = choose(&fields, options.field_name.as_deref())?;
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
            check_seed(&pdf, field, options)?;
            fill_field(&mut update, &pdf, field, signature)?;
            match pdf.lookup(&field.dict, "Lock")? {
                Some(Object::Dict(lock)) => Some(inline(&pdf, &lock)?),
                _ => None,
            }
        }
        Target::Create(_) => None,
    };
    let new_field = match &target {
        Target::Fill(_) => None,
        Target::Create(name) => Some(create_field(&mut update, &pdf, name, signature)?),
    };
    register(&mut update, &pdf, catalog, form, new_field)?;
    let (text, marks) = signature_dictionary(options, lock, pdf.root())?;
    let id_seed = [pdf.size().to_be_bytes().as_slice(), &text, field_name.as_bytes()].concat();
    update.put_raw(signature, text);

    // /ID must differ between revisions, nothing more (ISO 32000-2 §14.4).
    let mut file_id = [0; 16];
    file_id.copy_from_slice(&HashAlg::Sha256.digest(&id_seed)[..16]);
    let mut appendix = update.finish(file_id)?;
    let body = appendix.body_of(signature.num).ok_or(PadesError::OutputChanged)?;
    let gap = body + marks.contents;
    let second = gap + 2 * options.reserve + 2;
    let offset = |n: usize| appendix.start + n as u64;
    let byte_range = [0, offset(gap), offset(second), (appendix.bytes.len() - second) as u64];
    let width = RANGE_DIGITS * 3 + 2;
    let numbers = format!("{} {} {}", byte_range[1], byte_range[2], byte_range[3]);
    let at = body + marks.range;
    appendix.bytes[at..at + width].copy_from_slice(format!("{numbers:<width$}").as_bytes());
    Ok(Plan { appendix, byte_range, field_name })
}

fn copy(input: &dyn Source, output: &File, len: u64, context: &mut digest::Context) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut pos = 0;
    while pos < len {
        let want = usize::try_from(len - pos).unwrap_or(CHUNK).min(CHUNK);
        let n = input.read_full(&mut chunk[..want], pos).map_err(pdf_update::Error::Io)?;
        if n < want {
            return Err(pdf_update::Error::Broken("the file changed while it was read").into());
        }
        context.update(&chunk[..n]);
        output.write_all_at(&chunk[..n], pos).map_err(PadesError::Write)?;
        pos += n as u64;
    }
    Ok(())
}

enum Target<'f> {
    Fill(&'f Field),
    Create(String),
}

fn choose<'f>(fields: &'f [Field], name: Option<&str>) -> Result<Target<'f>> {
    if let Some(name) = name {
        let below = |f: &Field| f.name.strip_prefix(name).is_some_and(|r| r.starts_with('.'));
        return match fields.iter().find(|f| f.name == name) {
            Some(field) if field.is_empty_signature() => Ok(Target::Fill(field)),
            None if !name.is_empty() && name.len() < 200 && !name.contains('.') && !fields.iter().any(below) => {
                Ok(Target::Create(name.to_owned()))
            }
            _ => Err(PadesError::FieldUnusable(name.to_owned())),
        };
    }
    let empty: Vec<&Field> = fields.iter().filter(|f| f.is_empty_signature()).collect();
    match empty[..] {
        [one] => Ok(Target::Fill(one)),
        [] => {
            let used = |n: usize| {
                let name = format!("Signature{n}");
                fields.iter().any(|f| f.name == name || f.name.starts_with(&format!("{name}.")))
            };
            let free = (1..=fields.len() + 1).find(|&n| !used(n)).unwrap_or(fields.len() + 2);
            Ok(Target::Create(format!("Signature{free}")))
        }
        _ => Err(PadesError::FieldChoice(empty.iter().map(|f| f.name.clone()).collect())),
    }
}

/// Seed values that are marked as mandatory (ISO 32000-2 table 236); the others are advice.
fn check_seed(pdf: &Pdf<'_>, field: &Field, options: &PrepareOptions) -> Result<()> {
    let Some(Object::Dict(seed)) = pdf.lookup(&field.dict, "SV")? else { return Ok(()) };
    let flags = pdf.lookup(&seed, "Ff")?.and_then(|o| o.as_int()).unwrap_or(0);
    let names = |key: &str| -> Result<Vec<Vec<u8>>> {
        let list = match pdf.lookup(&seed, key)? {
            Some(Object::Array(list)) => list,
            other => other.into_iter().collect(),
        };
        Ok(list.iter().filter_map(|o| o.as_name().or(o.as_str()).map(<[u8]>::to_vec)).collect())
    };
    let has = |list: &[Vec<u8>], value: &str| list.iter().any(|v| v.eq_ignore_ascii_case(value.as_bytes()));
    if flags & 1 != 0 && !has(&names("Filter")?, "Adobe.PPKLite") {
        return Err(PadesError::SeedValue("another signature handler"));
    }
    if flags & 2 != 0 && !has(&names("SubFilter")?, "ETSI.CAdES.detached") {
        return Err(PadesError::SeedValue("another signature format"));
    }
    if flags & 8 != 0 {
        let given = options.reason.clone().unwrap_or_default();
        let allowed = match pdf.lookup(&seed, "Reasons")? {
            Some(Object::Array(list)) => list.iter().any(|o| o.as_text().as_deref() == Some(&given)),
            _ => given.is_empty(),
        };
        if !allowed {
            return Err(PadesError::SeedValue("one of its own reasons"));
        }
    }
    if flags & 64 != 0 {
        let name = match options.hash {
            HashAlg::Sha256 => "SHA256",
            HashAlg::Sha384 => "SHA384",
            HashAlg::Sha512 => "SHA512",
        };
        if !has(&names("DigestMethod")?, name) {
            return Err(PadesError::SeedValue("another hash function"));
        }
    }
    // Version, legal attestation, revocation information in the CMS, locking of the document, appearance.
    if flags & (4 | 16 | 32 | 128 | 256) != 0 {
        return Err(PadesError::SeedValue("an unusual property"));
    }
    for key in ["Cert", "TimeStamp"] {
        if let Some(Object::Dict(part)) = pdf.lookup(&seed, key)? {
            if pdf.lookup(&part, "Ff")?.and_then(|o| o.as_int()).unwrap_or(0) != 0 {
                return Err(PadesError::SeedValue("certain certificates or time-stamps"));
            }
        }
    }
    Ok(())
}

/// A lock dictionary with its references replaced by what they refer to: entries of a signature are direct.
fn inline(pdf: &Pdf<'_>, lock: &Dict) -> Result<Dict> {
    let mut out = Dict::new();
    for key in ["Action", "Fields", "P"] {
        if let Some(value) = pdf.lookup(lock, key)? {
            let value = match value {
                Object::Array(list) => {
                    Object::Array(list.iter().map(|o| pdf.resolve(o)).collect::<std::result::Result<_, _>>()?)
                }
                other => other,
            };
            out.set(key, value);
        }
    }
    Ok(out)
}

fn fill_field(update: &mut Update<'_, '_>, pdf: &Pdf<'_>, field: &Field, signature: ObjId) -> Result<()> {
    let mut dict = field.dict.clone();
    dict.set("V", Object::Ref(signature));
    let rect = match pdf.lookup(&dict, "Rect")? {
        Some(Object::Array(rect)) if rect.len() == 4 => rect,
        _ => Vec::new(),
    };
    let number = |o: &Object| match o {
        Object::Int(n) => n.to_string().parse::<f64>().unwrap_or(0.0),
        Object::Real(text) => std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).unwrap_or(0.0),
        _ => 0.0,
    };
    if let [left, bottom, right, top] = rect.iter().map(number).collect::<Vec<_>>()[..] {
        let (width, height) = ((right - left).abs(), (top - bottom).abs());
        if width > 0.0 && height > 0.0 && dict.get("AP").is_none() {
            // A visible box needs an appearance (PDF/A); ours adds nothing to the page.
            let form = update.allocate()?;
            let text = format!(
                "<</Type /XObject /Subtype /Form /BBox [0 0 {width} {height}] /Resources <<>> /Length 0>>\n\
                 stream\n\nendstream"
            );
            update.put_raw(form, text.into_bytes());
            dict.set("AP", Object::Dict(Dict::new().with("N", Object::Ref(form))));
        }
    }
    update.put(field.id, &Object::Dict(dict));
    Ok(())
}

/// An invisible field merged with its widget, on the first page.
fn create_field(update: &mut Update<'_, '_>, pdf: &Pdf<'_>, name: &str, signature: ObjId) -> Result<ObjId> {
    let (page, mut page_dict) = pdf.first_page()?;
    let field = update.allocate()?;
    let dict = Dict::new()
        .with("Type", Object::name("Annot"))
        .with("Subtype", Object::name("Widget"))
        .with("FT", Object::name("Sig"))
        .with("T", Object::text(name))
        .with("P", Object::Ref(page))
        .with("Rect", Object::Array(vec![Object::Int(0); 4]))
        // Print and Locked.
        .with("F", Object::Int(132))
        .with("V", Object::Ref(signature));
    update.put(field, &Object::Dict(dict));

    let listed = page_dict.get("Annots").cloned().unwrap_or(Object::Null);
    let mut annots = match pdf.resolve(&listed)? {
        Object::Array(list) => list,
        Object::Null => Vec::new(),
        _ => return Err(pdf_update::Error::Broken("the page's annotations are no array").into()),
    };
    let was_there = !annots.is_empty() || pdf.resolve(&listed)? != Object::Null;
    annots.push(Object::Ref(field));
    match listed {
        // Rewriting only the array leaves the page as it was signed before.
        Object::Ref(id) if was_there => update.put(id, &Object::Array(annots)),
        _ => {
            page_dict.set("Annots", Object::Array(annots));
            update.put(page, &Object::Dict(page_dict));
        }
    }
    Ok(field)
}

/// Enters the field into the form and raises `/SigFlags`; touches only objects that change.
fn register(
    update: &mut Update<'_, '_>,
    pdf: &Pdf<'_>,
    mut catalog: Dict,
    form: Option<Form>,
    field: Option<ObjId>,
) -> Result<()> {
    let (id, mut dict, is_new) = match form {
        Some(form) => (form.id, form.dict, false),
        None => (None, Dict::new(), true),
    };
    let mut changed = is_new;
    if let Some(field) = field {
        let listed = dict.get("Fields").cloned().unwrap_or(Object::Null);
        let mut fields = pdf.resolve(&listed)?.as_array().map(<[Object]>::to_vec);
        let list = fields.get_or_insert_default();
        list.push(Object::Ref(field));
        let list = Object::Array(list.clone());
        match listed {
            Object::Ref(id) if pdf.resolve(&listed)? != Object::Null => update.put(id, &list),
            _ => {
                dict.set("Fields", list);
                changed = true;
            }
        }
    }
    let flags = pdf.lookup(&dict, "SigFlags")?.and_then(|o| o.as_int()).unwrap_or(0);
    // SignaturesExist and AppendOnly.
    if flags & 3 != 3 {
        dict.set("SigFlags", Object::Int(flags | 3));
        changed = true;
    }
    if !changed {
        return Ok(());
    }
    match id {
        Some(id) => update.put(id, &Object::Dict(dict)),
        None => {
            let value = if is_new {
                let id = update.allocate()?;
                update.put(id, &Object::Dict(dict));
                Object::Ref(id)
            } else {
                Object::Dict(dict)
            };
            catalog.set("AcroForm", value);
            update.put(pdf.root(), &Object::Dict(catalog));
        }
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

fn signature_dictionary(options: &PrepareOptions, lock: Option<Dict>, root: ObjId) -> Result<(Vec<u8>, Marks)> {
    let mut text = b"<</Type /Sig /Filter /Adobe.PPKLite /SubFilter /ETSI.CAdES.detached\n/ByteRange [0 ".to_vec();
    let range = text.len();
    text.resize(range + RANGE_DIGITS * 3 + 2, b' ');
    text.extend_from_slice(b"]\n/Contents ");
    let contents = text.len();
    text.push(b'<');
    text.resize(contents + 1 + options.reserve * 2, b'0');
    text.extend_from_slice(b">\n/M ");
    Object::string(pdf_date(options.signing_time)?.as_bytes()).write(&mut text);
    let strings = [("Name", Some(&options.signer_name)), ("Reason", options.reason.as_ref()), ("Location", options.location.as_ref())];
    for (key, value) in strings {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            if value.len() > 4_096 {
                return Err(PadesError::Option("a name, reason or location of this length"));
            }
            text.extend_from_slice(format!("\n/{key} ").as_bytes());
            Object::text(value).write(&mut text);
        }
    }
    if let Some(lock) = lock {
        let params = lock.with("Type", Object::name("TransformParams")).with("V", Object::name("1.2"));
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
    let date = time::OffsetDateTime::from_unix_timestamp(time.0).ok().filter(|d| (1..=9999).contains(&d.year()));
    let text = date.and_then(|d| d.format(&format).ok()).ok_or(PadesError::Option("this signing time"))?;
    Ok(format!("D:{text}+00'00'"))
}
