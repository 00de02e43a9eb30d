//! The rules that explain changes.

use std::collections::BTreeSet;

use pdf_update::{Dict, Entry, ObjId, Object, Pdf};

use super::graph::{Outcome, Referrers, TRAILER, additions, differing, is_visible};
use super::{Level, Modifications};
use crate::fields::{Field, Form};
use crate::found::is_time_stamp;
use crate::locks::Restrictions;

/// Entries that a new signature field or one of its widgets may have. Actions are not among them, nor is what
/// draws without an appearance.
const FIELD_KEYS: &[&[u8]] = &[
    b"AP",
    b"DA",
    b"F",
    b"FT",
    b"Ff",
    b"Kids",
    b"Lock",
    b"M",
    b"MK",
    b"NM",
    b"P",
    b"Parent",
    b"Q",
    b"Rect",
    b"SV",
    b"StructParent",
    b"Subtype",
    b"T",
    b"TU",
    b"Type",
    b"V",
];

/// One later revision against the signed one.
pub(super) struct Comparison<'c, 'a, 'b> {
    pub(super) old: &'c Pdf<'a>,
    pub(super) new: &'c Pdf<'b>,
    /// Numbers that revisions after the signed one write, up to the one compared.
    pub(super) changed: &'c BTreeSet<u32>,
    pub(super) referrers: &'c Referrers,
    pub(super) fields: &'c [Field],
    pub(super) locks: &'c Restrictions,
    /// Numbers that a rule has explained.
    pub(super) explained: BTreeSet<u32>,
    /// Widgets of new signature fields.
    pub(super) widgets: BTreeSet<ObjId>,
    pub(super) out: &'c mut Modifications,
}

/// What a signature field holds.
#[derive(PartialEq, Eq)]
enum Content {
    Signature,
    TimeStamp,
    Other,
}

impl Comparison<'_, '_, '_> {
    /// Judges every changed object.
    pub(super) fn run(mut self) -> Outcome<()> {
        if self.old.root() != self.new.root() {
            self.out.unexplained("the catalog was exchanged".to_owned());
            return Ok(());
        }
        self.info()?;
        let (old, new) = (self.old.catalog()?, self.new.catalog()?);
        self.form(&old, &new)?;
        self.security_store(&old, &new)?;
        self.catalog(&old, &new)?;
        for &num in self.changed {
            if num != 0 && !self.explained.contains(&num) && !self.object(num)? {
                self.out
                    .unexplained(format!("object {num} ({})", self.describe(num)));
            }
        }
        Ok(())
    }

    /// In use nowhere in the signed revision, nor pointed to by it.
    fn is_fresh(&self, num: u32) -> Outcome<bool> {
        let unused = matches!(self.old.entry(num)?, None | Some(Entry::Free));
        Ok(unused && !self.referrers.contains_key(&num))
    }

    fn is_fresh_ref(&self, value: &Object) -> Outcome<bool> {
        match value {
            Object::Ref(id) => self.is_fresh(id.num),
            _ => Ok(false),
        }
    }

    /// Whether all pointers to `num` come from one of `places`.
    fn only_from(&self, num: u32, places: &[(u32, &str)]) -> bool {
        let list = self.referrers.get(&num).map_or(&[][..], Vec::as_slice);
        list.iter()
            .all(|(parent, path)| places.iter().any(|(p, k)| p == parent && k == path))
    }

    fn info(&mut self) -> Outcome<()> {
        let (old, new) = (
            self.old.trailer().get("Info"),
            self.new.trailer().get("Info"),
        );
        let Some(Object::Ref(id)) = new else {
            return Ok(());
        };
        if old == new {
            let only = self.only_from(id.num, &[(TRAILER, "Info")]);
            if only && matches!(self.new.get(*id)?, Object::Dict(_)) {
                self.accept(id.num, Level::LtaUpdates);
            }
        } else if !self.is_fresh(id.num)? {
            self.out
                .unexplained("the document information was exchanged".to_owned());
        }
        Ok(())
    }

    /// Marks a changed object as explained.
    fn accept(&mut self, num: u32, level: Level) {
        if self.changed.contains(&num) && self.explained.insert(num) {
            self.out.raise(level);
        }
    }

    fn form(&mut self, old_catalog: &Dict, new_catalog: &Dict) -> Outcome<()> {
        let old = Form::of(self.old, old_catalog)?;
        let Some(new) = Form::of(self.new, new_catalog)? else {
            if old.is_some() {
                self.out.unexplained("the form was removed".to_owned());
            }
            return Ok(());
        };
        let old = old.unwrap_or(Form {
            id: None,
            dict: Dict::new(),
        });
        if let (Some(a), b) = (old.id, new.id) {
            if b != Some(a) {
                self.out.unexplained("the form was exchanged".to_owned());
            }
        } else if let Some(id) = new.id
            && !self.is_fresh(id.num)?
        {
            self.out.unexplained("the form was exchanged".to_owned());
        }
        let root = self.old.root().num;
        let mut sound = true;
        for key in differing(&old.dict, &new.dict) {
            match key.as_str() {
                "Fields" | "SigFlags" => {}
                // Viewers complete these for their own text fields; they draw nothing by themselves.
                "DA" | "DR" | "NeedAppearances" | "Q" => self.out.raise(Level::FormFilling),
                _ => {
                    sound = false;
                    self.out.unexplained(format!("/{key} of the form"));
                }
            }
        }
        let form = old.id.map_or(root, |id| id.num);
        let (own_path, list_path) = (
            "AcroForm",
            if old.id.is_some() {
                "Fields"
            } else {
                "AcroForm/Fields"
            },
        );
        if let Some(id) = old.id
            && sound
            && self.only_from(id.num, &[(root, own_path)])
        {
            self.accept(id.num, Level::LtaUpdates);
        }
        let list = |pdf: &Pdf<'_>, form: &Dict| -> Outcome<Vec<Object>> {
            Ok(pdf
                .lookup(form, "Fields")?
                .and_then(|l| l.as_array().map(<[Object]>::to_vec))
                .unwrap_or_default())
        };
        let added = additions(&list(self.old, &old.dict)?, &list(self.new, &new.dict)?);
        let Some(added) = added else {
            self.out
                .unexplained("fields were removed or moved".to_owned());
            return Ok(());
        };
        for item in added {
            if !self.new_field(&item)? {
                self.out
                    .unexplained("a field was added that is no new signature field".to_owned());
            }
        }
        if let Some(Object::Ref(id)) = old.dict.get("Fields")
            && self.only_from(id.num, &[(form, list_path)])
            && matches!(self.new.get(*id)?, Object::Array(_))
        {
            self.accept(id.num, Level::LtaUpdates);
        }
        Ok(())
    }

    fn new_field(&mut self, item: &Object) -> Outcome<bool> {
        let Some(id) = item.as_ref() else {
            return Ok(false);
        };
        let Object::Dict(field) = self.new.get(id)? else {
            return Ok(false);
        };
        let Some(name) = self.new.lookup(&field, "T")?.and_then(|t| t.as_text()) else {
            return Ok(false);
        };
        let is_signature = field.get("FT").and_then(Object::as_name) == Some(b"Sig");
        let taken = self
            .fields
            .iter()
            .any(|f| f.name == name || f.name.starts_with(&format!("{name}.")));
        if !self.is_fresh(id.num)?
            || !is_signature
            || taken
            || name.contains('.')
            || self.locks.locks(&name)
        {
            return Ok(false);
        }
        if field.get("Parent").is_some() {
            return Ok(false);
        }
        let mut widgets = vec![(id, field.clone())];
        if let Some(kids) = self.new.lookup(&field, "Kids")? {
            for kid in kids.as_array().unwrap_or(&[]) {
                let (Some(kid_id), Object::Dict(kid)) = (kid.as_ref(), self.new.resolve(kid)?)
                else {
                    return Ok(false);
                };
                let stray = kid.get("Parent").is_some_and(|p| *p != Object::Ref(id));
                if !self.is_fresh(kid_id.num)? || kid.get("T").is_some() || stray {
                    return Ok(false);
                }
                widgets.push((kid_id, kid));
            }
        }
        let mut visible = false;
        for (id, widget) in widgets {
            if widget.iter().any(|(key, _)| !FIELD_KEYS.contains(&key)) {
                return Ok(false);
            }
            visible |= is_visible(self.new, &widget)?;
            self.widgets.insert(id);
        }
        let content = match field.get("V") {
            None => None,
            Some(value) if self.is_fresh_ref(value)? => self.content(value)?,
            Some(_) => return Ok(false),
        };
        // A box over a signed page needs a signature that answers for it and is reported itself; a certified
        // page admits none, because its author has placed all boxes.
        if visible && (content != Some(Content::Signature) || self.locks.doc_mdp.is_some()) {
            return Ok(false);
        }
        let level = match content {
            Some(Content::Signature) => Level::FormFilling,
            None | Some(Content::TimeStamp) => Level::LtaUpdates,
            Some(Content::Other) => return Ok(false),
        };
        self.out.field(&name, level);
        Ok(true)
    }

    /// What the value of a signature field is.
    fn content(&self, value: &Object) -> Outcome<Option<Content>> {
        Ok(match self.new.resolve(value)? {
            Object::Null => None,
            Object::Dict(d) if is_time_stamp(self.new, &d)? => Some(Content::TimeStamp),
            Object::Dict(d) if d.get("ByteRange").is_some() => Some(Content::Signature),
            _ => Some(Content::Other),
        })
    }

    fn security_store(&mut self, old_catalog: &Dict, new_catalog: &Dict) -> Outcome<()> {
        let old = self.old.lookup(old_catalog, "DSS")?;
        let old = old.as_ref().and_then(Object::as_dict).cloned();
        let Some(Object::Dict(new)) = self.new.lookup(new_catalog, "DSS")? else {
            if old.is_some() {
                self.out
                    .unexplained("the security store was removed".to_owned());
            }
            return Ok(());
        };
        let mut sound = true;
        for (key, value) in new.iter() {
            sound &= match key {
                b"Type" | b"VRI" => true,
                b"Certs" | b"OCSPs" | b"CRLs" => {
                    let mut streams = true;
                    for item in self.new.resolve(value)?.as_array().unwrap_or(&[]) {
                        streams &= item.as_ref().is_some()
                            && matches!(self.new.resolve(item)?, Object::Stream(_));
                    }
                    streams
                }
                _ => false,
            };
        }
        let old = old.unwrap_or_default();
        let old_vri = self.old.lookup(&old, "VRI")?;
        let new_vri = self.new.lookup(&new, "VRI")?;
        for (key, value) in old_vri
            .iter()
            .filter_map(Object::as_dict)
            .flat_map(Dict::iter)
        {
            sound &= new_vri
                .as_ref()
                .and_then(Object::as_dict)
                .and_then(|d| d.get_bytes(key))
                == Some(value);
        }
        if !sound {
            self.out
                .unexplained("the security store holds something else".to_owned());
            return Ok(());
        }
        let root = self.old.root().num;
        let id = old_catalog.get("DSS").and_then(Object::as_ref);
        if let Some(id) = id
            && self.only_from(id.num, &[(root, "DSS")])
        {
            self.accept(id.num, Level::LtaUpdates);
        }
        for key in ["Certs", "OCSPs", "CRLs", "VRI"] {
            if let Some(part) = old.get(key).and_then(Object::as_ref) {
                let path = format!("DSS/{key}");
                let place = id.map_or((root, path.as_str()), |id| (id.num, key));
                if self.only_from(part.num, &[place]) {
                    self.accept(part.num, Level::LtaUpdates);
                }
            }
        }
        Ok(())
    }

    fn catalog(&mut self, old: &Dict, new: &Dict) -> Outcome<()> {
        let mut sound = true;
        for key in differing(old, new) {
            let value = new.get(&key);
            sound &= match key.as_str() {
                // Compared by rules of their own.
                "AcroForm" | "Version" => true,
                "DSS" | "Extensions" | "Metadata" => match value {
                    None => false,
                    Some(Object::Ref(id)) => self.is_fresh(id.num)?,
                    Some(_) => key != "Metadata",
                },
                _ => false,
            };
            if !sound {
                self.out.unexplained(format!("/{key} of the catalog"));
                return Ok(());
            }
        }
        let root = self.old.root().num;
        if self.only_from(root, &[(TRAILER, "Root")]) {
            self.accept(root, Level::LtaUpdates);
        }
        for key in ["Metadata", "Extensions"] {
            let Some(Object::Ref(id)) = old.get(key) else {
                continue;
            };
            let kept = match self.new.get(*id)? {
                Object::Stream(_) => key == "Metadata",
                Object::Dict(_) => key == "Extensions",
                _ => false,
            };
            if kept && self.only_from(id.num, &[(root, key)]) {
                self.accept(id.num, Level::LtaUpdates);
            }
        }
        Ok(())
    }

    /// Any other object that was written.
    fn object(&mut self, num: u32) -> Outcome<bool> {
        let (before, after) = (self.old.entry(num)?, self.new.entry(num)?);
        if matches!(before, None | Some(Entry::Free)) {
            // New, or as free as before.
            if !self.referrers.contains_key(&num) {
                self.out.raise(Level::LtaUpdates);
                return Ok(true);
            }
            return Ok(self.new.get_number(num)? == Object::Null);
        }
        if matches!(after, None | Some(Entry::Free)) {
            return Ok(false);
        }
        let (old, new) = (self.old.get_number(num)?, self.new.get_number(num)?);
        match (&old, &new) {
            (Object::Stream(a), Object::Stream(b)) => {
                Ok(a.dict == b.dict && self.old.raw_stream(a)? == self.new.raw_stream(b)?)
            }
            _ if old == new => Ok(true),
            (Object::Dict(a), Object::Dict(b)) if a.is_type("Page") => self.page(a, b),
            (Object::Dict(a), Object::Dict(b)) => self.filled(num, a, b),
            (Object::Array(a), Object::Array(b)) => {
                Ok(self.is_annotation_list(num)? && self.annotations(a, b))
            }
            _ => Ok(false),
        }
    }

    fn page(&mut self, old: &Dict, new: &Dict) -> Outcome<bool> {
        if differing(old, new).iter().any(|k| k != "Annots") {
            return Ok(false);
        }
        let list = |pdf: &Pdf<'_>, page: &Dict| -> Outcome<Option<Vec<Object>>> {
            match pdf.lookup(page, "Annots")? {
                None => Ok(Some(Vec::new())),
                Some(Object::Array(list)) => Ok(Some(list)),
                Some(_) => Ok(None),
            }
        };
        // A list that is an object of its own may only be replaced by a new one.
        if let Some(value @ Object::Ref(_)) = new.get("Annots")
            && old.get("Annots") != Some(value)
            && !self.is_fresh_ref(value)?
        {
            return Ok(false);
        }
        match (list(self.old, old)?, list(self.new, new)?) {
            (Some(a), Some(b)) => Ok(self.annotations(&a, &b)),
            _ => Ok(false),
        }
    }

    fn annotations(&mut self, old: &[Object], new: &[Object]) -> bool {
        let added = additions(old, new);
        let known = added.is_some_and(|a| {
            a.iter()
                .all(|o| o.as_ref().is_some_and(|id| self.widgets.contains(&id)))
        });
        if known {
            self.out.raise(Level::LtaUpdates);
        }
        known
    }

    /// Whether pages point to the array as their annotations, and nothing else does.
    fn is_annotation_list(&self, num: u32) -> Outcome<bool> {
        let list = self.referrers.get(&num).map_or(&[][..], Vec::as_slice);
        for (parent, path) in list {
            let page = self
                .old
                .get_number(*parent)?
                .as_dict()
                .is_some_and(|d| d.is_type("Page"));
            if !page || path != "Annots" {
                return Ok(false);
            }
        }
        Ok(!list.is_empty())
    }

    /// An empty signature field that was filled, or a filled one whose flags a viewer touched.
    fn filled(&mut self, num: u32, old: &Dict, new: &Dict) -> Outcome<bool> {
        let Some(field) = self
            .fields
            .iter()
            .find(|f| f.id.num == num && f.is_signature)
        else {
            return Ok(false);
        };
        let as_field = self
            .referrers
            .get(&num)
            .into_iter()
            .flatten()
            .all(|(_, path)| {
                matches!(
                    path.rsplit('/').next(),
                    Some("" | "Fields" | "Annots" | "Kids" | "Obj" | "Parent")
                )
            });
        let keys = differing(old, new);
        if !as_field {
            return Ok(false);
        }
        let noise = |k: &str| k == "Ff" || (k == "Type" && new.is_type("Annot"));
        if field.value.is_some() {
            return Ok(keys.iter().all(|k| noise(k)));
        }
        let content = match new.get("V") {
            None => None,
            Some(value) if self.is_fresh_ref(value)? => self.content(value)?,
            Some(_) => return Ok(false),
        };
        let allowed = |k: &str| noise(k) || ["AP", "AS", "DA", "F", "Q", "V"].contains(&k);
        let known = match content {
            Some(Content::Signature) => keys.iter().all(|k| allowed(k)),
            // Nobody answers for what these would show.
            Some(Content::TimeStamp) => {
                !is_visible(self.new, new)? && keys.iter().all(|k| allowed(k))
            }
            None => !keys.contains("V") && keys.iter().all(|k| noise(k)),
            Some(Content::Other) => false,
        };
        if !known || self.locks.locks(&field.name) {
            return Ok(false);
        }
        let name = field.name.clone();
        let level = match content {
            Some(Content::TimeStamp) => Level::LtaUpdates,
            _ => Level::FormFilling,
        };
        self.out.field(&name, level);
        Ok(true)
    }

    fn describe(&self, num: u32) -> String {
        let kind = |pdf: &Pdf<'_>| -> Option<String> {
            let object = pdf.get_number(num).ok()?;
            let name = object.as_dict()?.get("Type").and_then(Object::as_name)?;
            Some(String::from_utf8_lossy(name).chars().take(40).collect())
        };
        let kind = kind(self.old)
            .or_else(|| kind(self.new))
            .unwrap_or_else(|| "untyped".to_owned());
        match self.referrers.get(&num).and_then(|list| list.first()) {
            Some((parent, path)) => format!("{kind}, at /{path} of object {parent}"),
            None => kind,
        }
    }
}
