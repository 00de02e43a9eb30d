//! Builds small PDF files from objects, with a cross-reference table.

use std::collections::BTreeMap;

use crate::Result;
use crate::object::{Dict, ObjId, Object};
use crate::update::write_table;
use crate::xref::Entry;

/// A new file. Objects are given as PDF text; numbers are handed out from 1.
#[derive(Debug)]
pub struct Builder {
    version: &'static str,
    objects: Vec<Vec<u8>>,
}

impl Builder {
    /// An empty file of PDF version `version`, such as `1.7`.
    pub fn new(version: &'static str) -> Self {
        Self {
            version,
            objects: Vec::new(),
        }
    }

    /// Adds an object whose text is `text` and returns its number.
    pub fn add_object(&mut self, text: impl Into<Vec<u8>>) -> ObjId {
        self.objects.push(text.into());
        ObjId::new(u32::try_from(self.objects.len()).unwrap_or(u32::MAX))
    }

    /// Reserves a number for an object that [`Builder::set_object`] gives later; until then it is `null`.
    pub fn reserve(&mut self) -> ObjId {
        self.add_object(*b"null")
    }

    /// Replaces the text of an object.
    pub fn set_object(&mut self, id: ObjId, text: impl Into<Vec<u8>>) {
        if let Some(object) = (id.num as usize)
            .checked_sub(1)
            .and_then(|i| self.objects.get_mut(i))
        {
            *object = text.into();
        }
    }

    /// Adds a stream with `data` as it is; `/Length` is added to `dict`.
    pub fn add_stream(&mut self, dict: Dict, data: &[u8]) -> ObjId {
        let dict = dict.with(
            "Length",
            Object::Int(i64::try_from(data.len()).unwrap_or(i64::MAX)),
        );
        let mut text = Vec::new();
        Object::Dict(dict).write(&mut text);
        text.extend_from_slice(b"\nstream\n");
        text.extend_from_slice(data);
        text.extend_from_slice(b"\nendstream");
        self.add_object(text)
    }

    /// The file with `root` as its catalog, `info` as its document information and `file_id` as both parts of
    /// its `/ID`.
    ///
    /// # Errors
    /// When the file is too large for a cross-reference table (10 GB).
    pub fn finish(self, root: ObjId, info: Option<ObjId>, file_id: [u8; 16]) -> Result<Vec<u8>> {
        let mut out = format!("%PDF-{}\n", self.version).into_bytes();
        // Four high bytes tell transfer programs that the file is binary (ISO 32000-2 §7.5.2).
        out.extend_from_slice(b"%\xe2\xe3\xcf\xd3\n");
        let mut entries = BTreeMap::from([(0, Entry::Free)]);
        for (num, text) in (1_u32..).zip(&self.objects) {
            entries.insert(
                num,
                Entry::At {
                    offset: out.len() as u64,
                    generation: 0,
                },
            );
            out.extend_from_slice(format!("{num} 0 obj\n").as_bytes());
            out.extend_from_slice(text);
            out.extend_from_slice(b"\nendobj\n");
        }
        let id = Object::Str {
            bytes: file_id.as_slice().into(),
            hex: true,
        };
        let mut trailer = Dict::new()
            .with(
                "Size",
                Object::Int(i64::try_from(entries.len()).unwrap_or(i64::MAX)),
            )
            .with("Root", Object::Ref(root))
            .with("ID", Object::Array(vec![id.clone(), id]));
        if let Some(info) = info {
            trailer.set("Info", Object::Ref(info));
        }
        let start = out.len();
        write_table(&entries, &trailer, &mut out)?;
        out.extend_from_slice(format!("startxref\n{start}\n%%EOF\n").as_bytes());
        Ok(out)
    }
}
