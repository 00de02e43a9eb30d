//! What earlier signatures allow (ISO 32000-2 §12.8.2.2, §12.8.2.4, §12.7.5.5).

use pdf_update::{Dict, Error, Object, Pdf};

use crate::fields::{Field, signature_dict};

/// Restrictions by all signatures of a file together.
#[derive(Debug, Default, Clone)]
pub(crate) struct Restrictions {
    /// Smallest `/P` of a certification (1 none, 2 forms, 3 also annotations).
    pub(crate) doc_mdp: Option<u8>,
    locks: Vec<Lock>,
}

#[derive(Debug, Clone)]
enum Lock {
    All,
    Include(Vec<String>),
    Exclude(Vec<String>),
}

impl Restrictions {
    /// Collects them from every filled signature field and from the catalog's `/Perms`.
    pub(crate) fn of(pdf: &Pdf<'_>, catalog: &Dict, fields: &[Field]) -> Result<Self, Error> {
        let mut all = Self::default();
        if let Some(Object::Dict(perms)) = pdf.lookup(catalog, "Perms")?
            && let Some(Object::Dict(signature)) = pdf.lookup(&perms, "DocMDP")?
        {
            // A certification without readable parameters means the default, 2.
            all.add(pdf, &signature)?;
            all.tighten(2);
        }
        for field in fields.iter().filter(|f| f.is_signature) {
            if let Some(signature) = signature_dict(pdf, field)? {
                all.add(pdf, &signature)?;
                // A lock of a signed field counts even if its signature lacks the FieldMDP reference.
                if let Some(Object::Dict(lock)) = pdf.lookup(&field.dict, "Lock")? {
                    all.add_lock(pdf, &lock)?;
                }
            }
        }
        Ok(all)
    }

    /// Whether the field of this name may no longer change.
    pub(crate) fn locks(&self, name: &str) -> bool {
        // A lock on a field covers the fields below it.
        let covers = |list: &[String]| {
            list.iter().any(|l| {
                name == l
                    || name
                        .strip_prefix(l.as_str())
                        .is_some_and(|r| r.starts_with('.'))
            })
        };
        self.locks.iter().any(|lock| match lock {
            Lock::All => true,
            Lock::Include(list) => covers(list),
            Lock::Exclude(list) => !covers(list),
        })
    }

    fn add(&mut self, pdf: &Pdf<'_>, signature: &Dict) -> Result<(), Error> {
        let Some(Object::Array(references)) = pdf.lookup(signature, "Reference")? else {
            return Ok(());
        };
        for reference in references.iter().take(100) {
            let Object::Dict(reference) = pdf.resolve(reference)? else {
                continue;
            };
            let params = pdf.lookup(&reference, "TransformParams")?;
            let params = params
                .as_ref()
                .and_then(Object::as_dict)
                .cloned()
                .unwrap_or_default();
            let method = pdf.lookup(&reference, "TransformMethod")?;
            match method.as_ref().and_then(Object::as_name) {
                Some(b"DocMDP") => self.tighten(permission(pdf, &params)?.unwrap_or(2)),
                Some(b"FieldMDP") => self.add_lock(pdf, &params)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn add_lock(&mut self, pdf: &Pdf<'_>, lock: &Dict) -> Result<(), Error> {
        if let Some(p) = permission(pdf, lock)? {
            self.tighten(p);
        }
        let list = match pdf.lookup(lock, "Fields")? {
            Some(Object::Array(list)) => {
                let mut names = Vec::new();
                for name in &list {
                    names.extend(pdf.resolve(name)?.as_text());
                }
                names
            }
            _ => Vec::new(),
        };
        let action = pdf.lookup(lock, "Action")?;
        self.locks
            .push(match action.as_ref().and_then(Object::as_name) {
                Some(b"Include") => Lock::Include(list),
                Some(b"Exclude") => Lock::Exclude(list),
                // An unreadable lock is taken for the strictest.
                _ => Lock::All,
            });
        Ok(())
    }

    fn tighten(&mut self, p: u8) {
        self.doc_mdp = Some(self.doc_mdp.map_or(p, |old| old.min(p)));
    }
}

fn permission(pdf: &Pdf<'_>, params: &Dict) -> Result<Option<u8>, Error> {
    Ok(match pdf.lookup(params, "P")? {
        None => None,
        Some(Object::Int(2)) => Some(2),
        Some(Object::Int(3)) => Some(3),
        // Anything else is taken for the strictest.
        Some(_) => Some(1),
    })
}
