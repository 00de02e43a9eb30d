//! A PDF file, read lazily.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::Range;
use std::rc::Rc;

use crate::lexer::Lexer;
use crate::object::{Dict, ObjId, Object, Stream};
use crate::source::Source;
use crate::xref::{self, Entry, Section, XrefForm};
use crate::{Error, Result, filter};

/// References followed in a row.
const MAX_HOPS: usize = 32;
/// Decoded size of an object stream, bytes.
const MAX_CONTAINER: usize = 16 << 20;
/// Decoded object streams that are kept.
const CONTAINERS: usize = 2;
/// Page tree nodes that wait for their turn while the first page is looked for.
const MAX_PENDING: usize = 50_000;

/// An open file, or an earlier revision of one.
#[derive(Clone)]
pub struct Pdf<'a> {
    source: &'a dyn Source,
    len: u64,
    /// Whether anything but white space follows the last end marker.
    trailing: bool,
    sections: Rc<Vec<Section>>,
    /// The newest section of the revision that is looked at.
    first: usize,
    root: ObjId,
    containers: Rc<RefCell<Cache>>,
}

/// Decoded object streams by offset, the newest last.
type Cache = Vec<(u64, Rc<Container>)>;

/// A decoded object stream.
struct Container {
    data: Vec<u8>,
    /// Number and start of each object in `data`.
    index: Vec<(u32, usize)>,
}

impl<'a> Pdf<'a> {
    /// Reads the end of the file, its cross-reference sections and its catalog.
    ///
    /// # Errors
    /// Everything in [`Error`]: what is not sound here can't be updated safely.
    pub fn open(source: &'a dyn Source) -> Result<Self> {
        let len = source.size()?;
        let mut head = [0; 5];
        if source.read_full(&mut head, 0)? < head.len() || head != *b"%PDF-" {
            return Err(Error::NotAPdf);
        }
        let (start, trailing) = xref::find_start(source, len)?;
        let sections = xref::load_chain(source, start)?;
        if sections.iter().any(|s| s.trailer.get("Encrypt").is_some()) {
            return Err(Error::Encrypted);
        }
        let pdf = Self {
            source,
            len,
            trailing,
            root: root_of(&sections[0])?,
            sections: Rc::new(sections),
            first: 0,
            containers: Rc::default(),
        };
        if pdf.catalog()?.get("Pages").is_none() {
            return Err(Error::Broken("the catalog has no pages"));
        }
        Ok(pdf)
    }

    /// The same file as section `index` left it; 0 is the newest.
    ///
    /// # Errors
    /// When there is no such section or its trailer names no catalog.
    pub fn at_section(&self, index: usize) -> Result<Self> {
        let section = self
            .sections
            .get(index)
            .ok_or(Error::Broken("no such revision"))?;
        Ok(Self {
            first: index,
            root: root_of(section)?,
            ..self.clone()
        })
    }

    /// Length of the file in bytes.
    pub fn size(&self) -> u64 {
        self.len
    }

    /// Whether anything but white space follows the last end marker.
    pub fn has_trailing_bytes(&self) -> bool {
        self.trailing
    }

    /// The bytes behind.
    pub fn source(&self) -> &'a dyn Source {
        self.source
    }

    /// Offsets of the cross-reference sections, newest first.
    pub fn section_offsets(&self) -> Vec<u64> {
        self.sections[self.first..]
            .iter()
            .map(|s| s.offset)
            .collect()
    }

    /// Numbers that section `index` (0 is the newest) lists, and may list twice.
    pub fn section_numbers(&self, index: usize) -> Box<dyn Iterator<Item = u32> + '_> {
        match self.sections.get(index) {
            Some(s) => s.numbers(),
            None => Box::new(std::iter::empty()),
        }
    }

    /// How many entries all sections list together.
    pub fn entry_count(&self) -> u64 {
        self.sections[self.first..].iter().map(Section::count).sum()
    }

    /// Form of the newest section.
    pub fn xref_form(&self) -> XrefForm {
        self.sections[self.first].form()
    }

    /// Whether any section is of the hybrid-reference kind.
    pub fn is_hybrid(&self) -> bool {
        self.sections[self.first..].iter().any(Section::is_hybrid)
    }

    /// Trailer of the newest section.
    pub fn trailer(&self) -> &Dict {
        &self.sections[self.first].trailer
    }

    /// First object number that nothing in the file uses. `/Size` is not believed alone.
    pub fn next_number(&self) -> u32 {
        let sections = &self.sections[self.first..];
        let listed = sections.iter().map(Section::end).max().unwrap_or(1);
        let claimed = sections
            .iter()
            .filter_map(|s| s.trailer.get("Size")?.as_int());
        let claimed = claimed
            .filter_map(|n| u32::try_from(n).ok())
            .filter(|&n| n <= crate::MAX_OBJECT_NUMBER);
        listed.max(claimed.max().unwrap_or(0)).max(1)
    }

    /// Reference to the catalog.
    pub fn root(&self) -> ObjId {
        self.root
    }

    /// The catalog.
    ///
    /// # Errors
    /// When it is no dictionary or can't be read.
    pub fn catalog(&self) -> Result<Dict> {
        match self.get(self.root)? {
            Object::Dict(dict) => Ok(dict),
            _ => Err(Error::Broken("the catalog is missing")),
        }
    }

    /// What the cross-reference sections say of `num`; the newest one that lists it counts.
    ///
    /// # Errors
    /// When the entry can't be read.
    pub fn entry(&self, num: u32) -> Result<Option<Entry>> {
        for section in &self.sections[self.first..] {
            if let Some(entry) = section.lookup(self.source, num)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// The object, `null` if there is none.
    ///
    /// # Errors
    /// When it is not where its entry says, or not sound.
    pub fn get(&self, id: ObjId) -> Result<Object> {
        match self.entry(id.num)? {
            None | Some(Entry::Free) => Ok(Object::Null),
            Some(Entry::At { generation, .. }) if generation != id.generation => Ok(Object::Null),
            Some(Entry::At { offset, .. }) => self.object_at(id, offset),
            Some(Entry::In { .. }) if id.generation != 0 => Ok(Object::Null),
            Some(Entry::In { container, index }) => self.contained(id.num, container, index),
        }
    }

    fn object_at(&self, id: ObjId, offset: u64) -> Result<Object> {
        let (found, object, data) = xref::parse_at(self.source, self.len, offset, xref::indirect)?;
        if found != id {
            return Err(Error::Broken(
                "no object where the cross-reference table says",
            ));
        }
        match (object, data) {
            (object, None) => Ok(object),
            (Object::Dict(dict), Some(at)) => Ok(Object::Stream(Stream {
                dict,
                data_at: offset + at as u64,
            })),
            _ => Err(Error::Broken("a stream without a dictionary")),
        }
    }

    /// The current object of this number whatever its generation.
    ///
    /// # Errors
    /// As [`Pdf::get`].
    pub fn get_number(&self, num: u32) -> Result<Object> {
        let generation = match self.entry(num)? {
            Some(Entry::At { generation, .. }) => generation,
            _ => 0,
        };
        self.get(ObjId { num, generation })
    }

    /// Follows references until something else comes.
    ///
    /// # Errors
    /// As [`Pdf::get`], and when references form a circle.
    pub fn resolve(&self, object: &Object) -> Result<Object> {
        let mut object = object.clone();
        for _ in 0..MAX_HOPS {
            match object {
                Object::Ref(id) => object = self.get(id)?,
                other => return Ok(other),
            }
        }
        Err(Error::Broken("references form a circle"))
    }

    /// The resolved value of `key`, if it is there and not `null`.
    ///
    /// # Errors
    /// As [`Pdf::resolve`].
    pub fn lookup(&self, dict: &Dict, key: &str) -> Result<Option<Object>> {
        match dict.get(key) {
            None => Ok(None),
            Some(value) => Ok(Some(self.resolve(value)?).filter(|o| *o != Object::Null)),
        }
    }

    /// Shows every object of this revision to `visit` once, in no promised order.
    ///
    /// # Errors
    /// When one of them isn't where its entry says, or doesn't end inside the file. Programs guess what such an
    /// object may be, and bytes that somebody appends later decide the guess.
    pub fn each_object(&self, mut visit: impl FnMut(ObjId, &Object)) -> Result<()> {
        let mut seen = vec![0_u64; crate::MAX_OBJECT_NUMBER as usize / 64 + 1];
        let mut contained = Vec::new();
        for section in &self.sections[self.first..] {
            for num in section.numbers() {
                let (word, bit) = (num as usize / 64, 1 << (num % 64));
                if num == 0 || seen[word] & bit != 0 {
                    continue;
                }
                seen[word] |= bit;
                match section.lookup(self.source, num)? {
                    Some(Entry::At { offset, generation }) => {
                        let id = ObjId { num, generation };
                        let object = self.object_at(id, offset)?;
                        if let Object::Stream(stream) = &object {
                            self.stream_len(stream)?;
                        }
                        visit(id, &object);
                    }
                    Some(Entry::In { container, index }) => contained.push((container, index, num)),
                    None | Some(Entry::Free) => {}
                }
            }
        }
        // By container, so that each is decoded once.
        contained.sort_unstable();
        for (container, index, num) in contained {
            visit(ObjId::new(num), &self.contained(num, container, index)?);
        }
        Ok(())
    }

    /// The encoded bytes of a stream.
    ///
    /// # Errors
    /// When `/Length` is wrong or the stream is larger than 256 MiB.
    pub fn raw_stream(&self, stream: &Stream) -> Result<Vec<u8>> {
        let length = self.stream_len(stream)?;
        xref::read_range(self.source, self.len, stream.data_at, length)
    }

    /// Length of the encoded bytes, after which the word `endstream` stands inside the file.
    fn stream_len(&self, stream: &Stream) -> Result<u64> {
        let length = self
            .lookup(&stream.dict, "Length")?
            .and_then(|o| o.as_int());
        let length = length
            .and_then(|n| u64::try_from(n).ok())
            .ok_or(Error::Broken("a stream has no length"))?;
        let end = stream.data_at.checked_add(length).filter(|&e| e < self.len);
        let end = end.ok_or(Error::Broken("a stream ends outside the file"))?;
        xref::parse_at(self.source, self.len, end, |l| {
            l.skip_space()?;
            let ended = l.keyword(b"endstream")?;
            if ended {
                Ok(length)
            } else {
                Err(crate::lexer::Stop::Bad("the length of a stream is wrong"))
            }
        })
    }

    /// The decoded bytes of a stream that is plain or Flate-encoded, at most `cap` of them.
    ///
    /// # Errors
    /// As [`Pdf::raw_stream`], for other filters, and when there are more bytes.
    pub fn decoded_stream(&self, stream: &Stream, cap: usize) -> Result<Vec<u8>> {
        let data = filter::decode(&stream.dict, self.raw_stream(stream)?, cap)?;
        self.source.charge(data.len() as u64)?;
        Ok(data)
    }

    /// Where the value of `key` stands in the file, for a dictionary that is an object by itself.
    ///
    /// # Errors
    /// When the object lies in an object stream, has no such key, or repeats it.
    pub fn value_span(&self, id: ObjId, key: &str) -> Result<Range<u64>> {
        const NONE: Error = Error::Broken("a value is not where it must be");
        let Some(Entry::At { offset, .. }) = self.entry(id.num)? else {
            return Err(NONE);
        };
        let spans = xref::parse_at(self.source, self.len, offset, |l| {
            l.object_header()?;
            Ok(l.dict_with_spans()?.1)
        })?;
        let mut found = spans.into_iter().filter(|(k, _)| **k == *key.as_bytes());
        match (found.next(), found.next()) {
            (Some((_, span)), None) => Ok(offset + span.start as u64..offset + span.end as u64),
            _ => Err(NONE),
        }
    }

    /// The first page of the document.
    ///
    /// # Errors
    /// When the page tree has no page or is circular.
    pub fn first_page(&self) -> Result<(ObjId, Dict)> {
        let start = self.catalog()?.get("Pages").and_then(Object::as_ref);
        let mut trail = vec![start.ok_or(Error::Broken("the page tree is missing"))?];
        let mut seen = HashSet::new();
        // Depth first: empty branches are legal, so the first leaf may not be under the first child.
        while let Some(id) = trail.pop() {
            if !seen.insert(id) || seen.len() > 10_000 {
                return Err(Error::Broken("the page tree is circular or empty"));
            }
            let Object::Dict(node) = self.get(id)? else {
                continue;
            };
            match self.lookup(&node, "Kids")? {
                Some(Object::Array(kids)) if trail.len() < MAX_PENDING => {
                    trail.extend(kids.iter().rev().filter_map(Object::as_ref));
                }
                Some(_) => return Err(Error::Broken("the page tree is damaged")),
                None => return Ok((id, node)),
            }
        }
        Err(Error::Broken("the document has no page"))
    }

    fn contained(&self, num: u32, container: u32, index: u32) -> Result<Object> {
        let container = self.container(container)?;
        let at = usize::try_from(index)
            .ok()
            .and_then(|i| container.index.get(i));
        match at {
            Some(&(n, start)) if n == num => {
                let data = container
                    .data
                    .get(start..)
                    .ok_or(Error::Broken("an object stream is damaged"))?;
                Lexer::whole(data, Lexer::object)
            }
            _ => Err(Error::Broken("an object is not in its object stream")),
        }
    }

    fn container(&self, num: u32) -> Result<Rc<Container>> {
        const BAD: Error = Error::Broken("an object stream is damaged");
        let Some(Entry::At {
            offset,
            generation: 0,
        }) = self.entry(num)?
        else {
            return Err(BAD);
        };
        if let Some((_, hit)) = self
            .containers
            .borrow()
            .iter()
            .find(|(at, _)| *at == offset)
        {
            return Ok(Rc::clone(hit));
        }
        let Object::Stream(mut stream) = self.get(ObjId::new(num))? else {
            return Err(BAD);
        };
        if !stream.dict.is_type("ObjStm") {
            return Err(BAD);
        }
        // An indirect length must not lie in an object stream again: that could go round in circles.
        if let Some(Object::Ref(id)) = stream.dict.get("Length") {
            let length = match self.entry(id.num)? {
                Some(Entry::At { .. }) => self.get(*id)?,
                _ => return Err(BAD),
            };
            if length.as_int().is_none() {
                return Err(BAD);
            }
            stream.dict.set("Length", length);
        }
        let int = |key: &str| {
            stream
                .dict
                .get(key)
                .and_then(Object::as_int)
                .and_then(|n| usize::try_from(n).ok())
        };
        let (count, first) = (int("N").ok_or(BAD)?, int("First").ok_or(BAD)?);
        let data = self.decoded_stream(&stream, MAX_CONTAINER)?;
        // Two numbers and two spaces for each object.
        if first > data.len() || count > first / 4 + 1 {
            return Err(BAD);
        }
        let index = Lexer::whole(&data[..first], |l| {
            let mut index = Vec::with_capacity(count);
            for _ in 0..count {
                l.skip_space()?;
                let number = l.unsigned()?;
                l.skip_space()?;
                let start = l.unsigned()?;
                let pair = number.zip(start).and_then(|(n, s)| {
                    Some((
                        u32::try_from(n).ok()?,
                        usize::try_from(s).ok()?.checked_add(first)?,
                    ))
                });
                index.push(pair.ok_or(crate::lexer::Stop::Bad("an object stream is damaged"))?);
            }
            Ok(index)
        })?;
        let container = Rc::new(Container { data, index });
        let mut cache = self.containers.borrow_mut();
        if cache.len() >= CONTAINERS {
            cache.remove(0);
        }
        cache.push((offset, Rc::clone(&container)));
        Ok(container)
    }
}

fn root_of(section: &Section) -> Result<ObjId> {
    section
        .trailer
        .get("Root")
        .and_then(Object::as_ref)
        .ok_or(Error::Broken("the trailer names no catalog"))
}
