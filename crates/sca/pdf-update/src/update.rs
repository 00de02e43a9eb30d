//! An incremental update (ISO 32000-2 §7.5.6): new and changed objects, a cross-reference section, a trailer.

use std::collections::BTreeMap;

use crate::object::{Dict, ObjId, Object};
use crate::pdf::Pdf;
use crate::xref::{Entry, XrefForm};
use crate::{Error, MAX_OBJECT_NUMBER, Result};

/// Collects what an update changes. All objects are written plainly, outside of object streams.
pub struct Update<'p, 'a> {
    pdf: &'p Pdf<'a>,
    next: u32,
    objects: BTreeMap<u32, (u16, Vec<u8>)>,
}

/// The bytes to append to the unchanged file.
#[derive(Debug, Clone)]
pub struct Appendix {
    /// Length of the file that it belongs to, bytes.
    pub start: u64,
    /// What follows.
    pub bytes: Vec<u8>,
    bodies: BTreeMap<u32, usize>,
}

impl Appendix {
    /// Where in [`Appendix::bytes`] the text of the object `num` begins, as it was given to [`Update::put_raw`].
    pub fn body_of(&self, num: u32) -> Option<usize> {
        self.bodies.get(&num).copied()
    }
}

impl<'p, 'a> Update<'p, 'a> {
    /// An update of the newest revision.
    pub fn new(pdf: &'p Pdf<'a>) -> Self {
        Self {
            pdf,
            next: pdf.next_number(),
            objects: BTreeMap::new(),
        }
    }

    /// A number that the file does not use.
    ///
    /// # Errors
    /// When all numbers are used up.
    pub fn allocate(&mut self) -> Result<ObjId> {
        if self.next > MAX_OBJECT_NUMBER {
            return Err(Error::Limit("too many objects"));
        }
        self.next += 1;
        Ok(ObjId::new(self.next - 1))
    }

    /// Writes `object` as `id`, replacing what the file had. Not for streams.
    pub fn put(&mut self, id: ObjId, object: &Object) {
        let mut text = Vec::new();
        object.write(&mut text);
        self.put_raw(id, text);
    }

    /// [`Update::put`] with the text of the object, which may be a stream.
    pub fn put_raw(&mut self, id: ObjId, text: Vec<u8>) {
        self.objects.insert(id.num, (id.generation, text));
    }

    /// The update's bytes. `file_id` becomes the second element of `/ID` and must differ from update to update;
    /// the first element stays as it is.
    ///
    /// # Errors
    /// When an offset does not fit into a cross-reference table, or the file can't be read.
    pub fn finish(mut self, file_id: [u8; 16]) -> Result<Appendix> {
        let start = self.pdf.size();
        let mut last = [0];
        self.pdf
            .source()
            .read_full(&mut last, start.saturating_sub(1))?;
        let mut bytes = if matches!(last[0], b'\n' | b'\r') {
            Vec::new()
        } else {
            vec![b'\n']
        };
        let form = self.pdf.xref_form();
        let xref_id = match form {
            XrefForm::Stream => Some(self.allocate()?),
            XrefForm::Table => None,
        };
        let mut bodies = BTreeMap::new();
        let mut entries = BTreeMap::new();
        for (&num, (generation, text)) in &self.objects {
            entries.insert(
                num,
                Entry::At {
                    offset: start + bytes.len() as u64,
                    generation: *generation,
                },
            );
            bytes.extend_from_slice(format!("{num} {generation} obj\n").as_bytes());
            bodies.insert(num, bytes.len());
            bytes.extend_from_slice(text);
            bytes.extend_from_slice(b"\nendobj\n");
        }
        let xref_at = start + bytes.len() as u64;
        let prev = *self
            .pdf
            .section_offsets()
            .first()
            .ok_or(Error::Broken("no cross-reference section"))?;
        let prev = i64::try_from(prev).map_err(|_| Error::Limit("the file is too large"))?;
        let trailer = self.trailer(prev, file_id);
        match xref_id {
            None => write_table(&entries, &trailer, &mut bytes)?,
            Some(id) => {
                entries.insert(
                    id.num,
                    Entry::At {
                        offset: xref_at,
                        generation: 0,
                    },
                );
                write_stream(id, &entries, trailer, &mut bytes);
            }
        }
        bytes.extend_from_slice(format!("startxref\n{xref_at}\n%%EOF\n").as_bytes());
        Ok(Appendix {
            start,
            bytes,
            bodies,
        })
    }

    fn trailer(&self, prev: i64, file_id: [u8; 16]) -> Dict {
        let old = self.pdf.trailer();
        let fresh = Object::Str {
            bytes: file_id.as_slice().into(),
            hex: true,
        };
        let first = match old.get("ID") {
            Some(Object::Array(ids)) if ids.len() == 2 => ids[0].clone(),
            _ => fresh.clone(),
        };
        let mut trailer = Dict::new()
            .with("Size", Object::Int(i64::from(self.next)))
            .with("Root", Object::Ref(self.pdf.root()))
            .with("Prev", Object::Int(prev));
        if let Some(info) = old.get("Info") {
            trailer.set("Info", info.clone());
        }
        trailer.set("ID", Object::Array(vec![first, fresh]));
        trailer
    }
}

/// Groups consecutive numbers: start and count.
pub(crate) fn runs(numbers: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for num in numbers {
        match runs.last_mut() {
            Some((start, count)) if *start + *count == num => *count += 1,
            _ => runs.push((num, 1)),
        }
    }
    runs
}

/// A cross-reference table with its trailer; every entry is in use.
pub(crate) fn write_table(
    entries: &BTreeMap<u32, Entry>,
    trailer: &Dict,
    out: &mut Vec<u8>,
) -> Result<()> {
    out.extend_from_slice(b"xref\n");
    for (start, count) in runs(entries.keys().copied()) {
        out.extend_from_slice(format!("{start} {count}\n").as_bytes());
        for entry in entries.range(start..start + count).map(|(_, e)| e) {
            let line = match entry {
                Entry::At { offset, generation } if *offset <= 9_999_999_999 => {
                    format!("{offset:010} {generation:05} n \n")
                }
                Entry::Free => "0000000000 65535 f \n".to_owned(),
                _ => {
                    return Err(Error::Limit(
                        "the file is too large for its cross-reference table",
                    ));
                }
            };
            out.extend_from_slice(line.as_bytes());
        }
    }
    out.extend_from_slice(b"trailer\n");
    Object::Dict(trailer.clone()).write(out);
    out.push(b'\n');
    Ok(())
}

fn write_stream(id: ObjId, entries: &BTreeMap<u32, Entry>, trailer: Dict, out: &mut Vec<u8>) {
    let largest = entries
        .values()
        .map(|e| {
            if let Entry::At { offset, .. } = e {
                *offset
            } else {
                0
            }
        })
        .max();
    let width = if largest.unwrap_or(0) >> 32 == 0 {
        4
    } else {
        8
    };
    let mut data = Vec::new();
    for entry in entries.values() {
        if let Entry::At { offset, generation } = entry {
            data.push(1);
            data.extend_from_slice(&offset.to_be_bytes()[8 - width..]);
            data.extend_from_slice(&generation.to_be_bytes());
        }
    }
    let int = |n: usize| Object::Int(i64::try_from(n).unwrap_or(i64::MAX));
    let index = runs(entries.keys().copied()).into_iter();
    let index = index
        .flat_map(|(s, c)| [Object::Int(i64::from(s)), Object::Int(i64::from(c))])
        .collect();
    let dict = trailer
        .with("Type", Object::name("XRef"))
        .with("W", Object::Array(vec![int(1), int(width), int(2)]))
        .with("Index", Object::Array(index))
        .with("Length", int(data.len()));
    out.extend_from_slice(format!("{} 0 obj\n", id.num).as_bytes());
    Object::Dict(dict).write(out);
    out.extend_from_slice(b"\nstream\n");
    out.extend_from_slice(&data);
    out.extend_from_slice(b"\nendstream\nendobj\n");
}
