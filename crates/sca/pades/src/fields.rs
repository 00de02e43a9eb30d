//! The interactive form: its fields, above all the signature fields (ISO 32000-2 §12.7).

use std::collections::HashSet;

use pdf_update::{Dict, Error, ObjId, Object, Pdf};

/// Levels of the field tree.
const MAX_DEPTH: usize = 32;
/// Fields and widgets in one form.
const MAX_FIELDS: usize = 200_000;

/// A terminal field.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) id: ObjId,
    /// Fully qualified name, parts joined with dots.
    pub(crate) name: String,
    pub(crate) dict: Dict,
    pub(crate) is_signature: bool,
    /// `/V` as it stands, own or inherited.
    pub(crate) value: Option<Object>,
}

impl Field {
    pub(crate) fn is_empty_signature(&self) -> bool {
        self.is_signature && self.value.is_none()
    }
}

/// The form's dictionary, and its number if it is an object by itself.
pub(crate) struct Form {
    pub(crate) id: Option<ObjId>,
    pub(crate) dict: Dict,
}

impl Form {
    pub(crate) fn of(pdf: &Pdf<'_>, catalog: &Dict) -> Result<Option<Self>, Error> {
        let Some(value) = catalog.get("AcroForm") else {
            return Ok(None);
        };
        match pdf.resolve(value)? {
            Object::Null => Ok(None),
            Object::Dict(dict) => Ok(Some(Self {
                id: value.as_ref(),
                dict,
            })),
            _ => Err(Error::Broken("the form is no dictionary")),
        }
    }

    /// All terminal fields in order.
    pub(crate) fn fields(&self, pdf: &Pdf<'_>) -> Result<Vec<Field>, Error> {
        let mut walk = Walk {
            pdf,
            seen: HashSet::new(),
            kids: 0,
            out: Vec::new(),
        };
        if let Some(list) = pdf.lookup(&self.dict, "Fields")? {
            let list = list
                .as_array()
                .ok_or(Error::Broken("the list of fields is no array"))?
                .to_vec();
            for item in &list {
                walk.node(item, &Inherited::default(), 0)?;
            }
        }
        Ok(walk.out)
    }
}

#[derive(Default, Clone)]
struct Inherited {
    name: String,
    kind: Option<Object>,
    value: Option<Object>,
}

struct Walk<'p, 'a> {
    pdf: &'p Pdf<'a>,
    seen: HashSet<ObjId>,
    /// Children looked at, widgets among them.
    kids: usize,
    out: Vec<Field>,
}

impl Walk<'_, '_> {
    fn node(&mut self, item: &Object, parent: &Inherited, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH || self.seen.len() > MAX_FIELDS {
            return Err(Error::Limit("too many form fields"));
        }
        // A field that is no object by itself can't be signed or referred to; real files don't have them.
        let id = item
            .as_ref()
            .ok_or(Error::Broken("a form field is not an object by itself"))?;
        if !self.seen.insert(id) {
            return Err(Error::Broken("the form's fields form a circle"));
        }
        let dict = match self.pdf.get(id)? {
            Object::Dict(dict) => dict,
            Object::Null => return Ok(()),
            _ => return Err(Error::Broken("a form field is no dictionary")),
        };
        let mut own = parent.clone();
        if let Some(part) = self.pdf.lookup(&dict, "T")?.and_then(|t| t.as_text()) {
            if !own.name.is_empty() {
                own.name.push('.');
            }
            own.name.push_str(&part);
            if own.name.len() > 4_096 {
                return Err(Error::Limit("a field name is too long"));
            }
        }
        if let Some(kind) = self.pdf.lookup(&dict, "FT")? {
            own.kind = Some(kind);
        }
        if let Some(value) = dict.get("V") {
            own.value = Some(value.clone());
        }
        let kids = match self.pdf.lookup(&dict, "Kids")? {
            Some(Object::Array(kids)) => kids,
            Some(_) => return Err(Error::Broken("a form field's children are no array")),
            None => Vec::new(),
        };
        // Children without a name are the widgets of this field, not fields.
        let mut named = false;
        self.kids += kids.len();
        if self.kids > MAX_FIELDS {
            return Err(Error::Limit("too many form fields"));
        }
        for kid in &kids {
            if let Object::Dict(child) = self.pdf.resolve(kid)?
                && child.get("T").is_some()
            {
                named = true;
                self.node(kid, &own, depth + 1)?;
            }
        }
        if !named {
            let is_signature = own.kind.as_ref().and_then(Object::as_name) == Some(b"Sig");
            // A reference to a missing object is no value (ISO 32000-2 §7.3.10).
            let value = match own.value {
                Some(v) if self.pdf.resolve(&v)? == Object::Null => None,
                other => other,
            };
            self.out.push(Field {
                id,
                name: own.name,
                dict,
                is_signature,
                value,
            });
        }
        Ok(())
    }
}

/// The dictionary of a filled signature field.
pub(crate) fn signature_dict(pdf: &Pdf<'_>, field: &Field) -> Result<Option<Dict>, Error> {
    match &field.value {
        None => Ok(None),
        Some(value) => match pdf.resolve(value)? {
            Object::Dict(dict) => Ok(Some(dict)),
            _ => Err(Error::Broken("a signature is no dictionary")),
        },
    }
}
