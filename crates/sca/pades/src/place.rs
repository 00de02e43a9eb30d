//! Where a signature goes: its field, the page and the form (ISO 32000-2 §12.7).

use core_types::HashAlg;
use pdf_update::{Dict, ObjId, Object, Pdf, Update};

use crate::fields::{Field, Form};
use crate::{PadesError, PrepareOptions, Result};

/// Where the signature goes.
pub(crate) enum Target<'f> {
    /// Into this empty field.
    Fill(&'f Field),
    /// Into a new field of this name.
    Create(String),
}

/// The field to use after the rules of [`PrepareOptions::field_name`].
pub(crate) fn choose<'f>(fields: &'f [Field], name: Option<&str>) -> Result<Target<'f>> {
    if let Some(name) = name {
        let below = |f: &Field| {
            f.name
                .strip_prefix(name)
                .is_some_and(|r| r.starts_with('.'))
        };
        return match fields.iter().find(|f| f.name == name) {
            Some(field) if field.is_empty_signature() => Ok(Target::Fill(field)),
            None if !name.is_empty()
                && name.len() < 200
                && !name.contains('.')
                && !fields.iter().any(below) =>
            {
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
                fields
                    .iter()
                    .any(|f| f.name == name || f.name.starts_with(&format!("{name}.")))
            };
            let free = (1..=fields.len() + 1)
                .find(|&n| !used(n))
                .unwrap_or(fields.len() + 2);
            Ok(Target::Create(format!("Signature{free}")))
        }
        _ => Err(PadesError::FieldChoice(
            empty.iter().map(|f| f.name.clone()).collect(),
        )),
    }
}

/// Seed values that are marked as mandatory (ISO 32000-2 table 236); the others are advice.
pub(crate) fn check_seed(pdf: &Pdf<'_>, field: &Field, options: &PrepareOptions) -> Result<()> {
    let Some(Object::Dict(seed)) = pdf.lookup(&field.dict, "SV")? else {
        return Ok(());
    };
    let flags = pdf
        .lookup(&seed, "Ff")?
        .and_then(|o| o.as_int())
        .unwrap_or(0);
    let names = |key: &str| -> Result<Vec<Vec<u8>>> {
        let list = match pdf.lookup(&seed, key)? {
            Some(Object::Array(list)) => list,
            other => other.into_iter().collect(),
        };
        Ok(list
            .iter()
            .filter_map(|o| o.as_name().or(o.as_str()).map(<[u8]>::to_vec))
            .collect())
    };
    let has = |list: &[Vec<u8>], value: &str| {
        list.iter()
            .any(|v| v.eq_ignore_ascii_case(value.as_bytes()))
    };
    if flags & 1 != 0 && !has(&names("Filter")?, "Adobe.PPKLite") {
        return Err(PadesError::SeedValue("another signature handler"));
    }
    if flags & 2 != 0 && !has(&names("SubFilter")?, "ETSI.CAdES.detached") {
        return Err(PadesError::SeedValue("another signature format"));
    }
    if flags & 8 != 0 {
        let given = options.reason.clone().unwrap_or_default();
        let allowed = match pdf.lookup(&seed, "Reasons")? {
            Some(Object::Array(list)) => {
                list.iter().any(|o| o.as_text().as_deref() == Some(&given))
            }
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
        if let Some(Object::Dict(part)) = pdf.lookup(&seed, key)?
            && pdf
                .lookup(&part, "Ff")?
                .and_then(|o| o.as_int())
                .unwrap_or(0)
                != 0
        {
            return Err(PadesError::SeedValue("certain certificates or time-stamps"));
        }
    }
    Ok(())
}

/// A lock dictionary with its references replaced by what they refer to: entries of a signature are direct.
pub(crate) fn inline(pdf: &Pdf<'_>, lock: &Dict) -> Result<Dict> {
    let mut out = Dict::new();
    for key in ["Action", "Fields", "P"] {
        if let Some(value) = pdf.lookup(lock, key)? {
            let value = match value {
                Object::Array(list) => Object::Array(
                    list.iter()
                        .map(|o| pdf.resolve(o))
                        .collect::<std::result::Result<_, _>>()?,
                ),
                other => other,
            };
            out.set(key, value);
        }
    }
    Ok(out)
}

/// Enters the signature into an existing field.
pub(crate) fn fill_field(
    update: &mut Update<'_, '_>,
    pdf: &Pdf<'_>,
    field: &Field,
    signature: ObjId,
) -> Result<()> {
    let mut dict = field.dict.clone();
    dict.set("V", Object::Ref(signature));
    let rect = match pdf.lookup(&dict, "Rect")? {
        Some(Object::Array(rect)) if rect.len() == 4 => rect,
        _ => Vec::new(),
    };
    let number = |o: &Object| match o {
        Object::Int(n) => n.to_string().parse::<f64>().unwrap_or(0.0),
        Object::Real(text) => std::str::from_utf8(text)
            .ok()
            .and_then(|t| t.parse().ok())
            .unwrap_or(0.0),
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
pub(crate) fn create_field(
    update: &mut Update<'_, '_>,
    pdf: &Pdf<'_>,
    name: &str,
    signature: ObjId,
) -> Result<ObjId> {
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
pub(crate) fn register(
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
    let flags = pdf
        .lookup(&dict, "SigFlags")?
        .and_then(|o| o.as_int())
        .unwrap_or(0);
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
