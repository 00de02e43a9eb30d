//! Who points to what, and how two objects differ.

use std::collections::{BTreeMap, BTreeSet};

use pdf_update::{Dict, Object, Pdf};

/// What reading may come to.
pub(super) type Outcome<T> = std::result::Result<T, pdf_update::Error>;

/// Who points to an object: the parent's number and the keys on the way, joined with `/`.
pub(super) type Referrers = BTreeMap<u32, Vec<(u32, String)>>;

/// Stands for the trailer among parents; no object has this number.
pub(super) const TRAILER: u32 = 0;

/// Reads every object of the signed revision once. One that needs bytes behind the revision is an error: what
/// follows would decide what the signed page shows.
pub(super) fn referrers(old: &Pdf<'_>, wanted: &BTreeSet<u32>) -> Outcome<Referrers> {
    let mut found = Referrers::new();
    let trailer = Object::Dict(old.trailer().clone());
    collect(&trailer, TRAILER, &mut Vec::new(), wanted, &mut found);
    old.each_object(|id, object| {
        // A cross-reference stream is a trailer: the one that counts is looked at above.
        if !object.as_dict().is_some_and(|d| d.is_type("XRef")) {
            collect(object, id.num, &mut Vec::new(), wanted, &mut found);
        }
    })?;
    Ok(found)
}

fn collect<'o>(
    object: &'o Object,
    parent: u32,
    path: &mut Vec<&'o [u8]>,
    wanted: &BTreeSet<u32>,
    out: &mut Referrers,
) {
    match object {
        Object::Ref(id) if wanted.contains(&id.num) => {
            let keys: Vec<_> = path.iter().map(|k| String::from_utf8_lossy(k)).collect();
            out.entry(id.num)
                .or_default()
                .push((parent, keys.join("/")));
        }
        Object::Array(items) => items
            .iter()
            .for_each(|item| collect(item, parent, path, wanted, out)),
        Object::Dict(_) | Object::Stream(_) => {
            for (key, value) in object.as_dict().into_iter().flat_map(Dict::iter) {
                path.push(key);
                collect(value, parent, path, wanted, out);
                path.pop();
            }
        }
        _ => {}
    }
}

/// Keys whose values differ.
pub(super) fn differing(old: &Dict, new: &Dict) -> BTreeSet<String> {
    let keys = old.iter().chain(new.iter()).map(|(k, _)| k);
    let differ = keys.filter(|k| old.get_bytes(k) != new.get_bytes(k));
    differ
        .map(|k| String::from_utf8_lossy(k).into_owned())
        .collect()
}

/// What `new` has more than `old`, if all of `old` is still there in the same order.
pub(super) fn additions(old: &[Object], new: &[Object]) -> Option<Vec<Object>> {
    let mut left = old.iter().peekable();
    let mut added = Vec::new();
    for item in new {
        if left.peek() == Some(&item) {
            left.next();
        } else {
            added.push(item.clone());
        }
    }
    left.next().is_none().then_some(added)
}

/// Whether a widget has an area.
pub(super) fn is_visible(pdf: &Pdf<'_>, widget: &Dict) -> Outcome<bool> {
    let Some(rect) = pdf.lookup(widget, "Rect")? else {
        return Ok(false);
    };
    let mut sides = Vec::new();
    for side in rect.as_array().unwrap_or(&[]) {
        sides.push(match pdf.resolve(side)? {
            Object::Int(n) => n.to_string(),
            Object::Real(text) => String::from_utf8_lossy(&text).into_owned(),
            _ => return Ok(true),
        });
    }
    let numbers: Vec<f64> = sides.iter().filter_map(|s| s.parse().ok()).collect();
    Ok(match numbers[..] {
        [left, bottom, right, top] => (right - left).abs() > 0.0 && (top - bottom).abs() > 0.0,
        _ => true,
    })
}
