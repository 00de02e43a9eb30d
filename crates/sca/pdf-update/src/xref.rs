//! Cross-reference sections (ISO 32000-2 §7.5.4, §7.5.8): found from the end of the file, kept compactly.
//!
//! Of a table only the subsection headers are kept and entries are read where they lie; of a stream the decoded
//! bytes are kept, a few for each object. Nothing is ever reconstructed by scanning.

use crate::filter;
use crate::lexer::{Lexer, Stop, is_space};
use crate::object::{Dict, ObjId, Object};
use crate::source::Source;
use crate::{Error, MAX_OBJECT_NUMBER, Result};

/// Sections in one chain.
const MAX_SECTIONS: usize = 1_000;
/// Subsections in one section.
const MAX_RUNS: usize = 1_000_000;
/// First window of a parse, bytes.
const WINDOW: usize = 2_048;
/// Largest window, hence largest object without its stream data, bytes.
const MAX_WINDOW: usize = 64 << 20;

/// Decoded bytes of all cross-reference streams of a file, which are kept in memory.
const MAX_DECODED: u64 = 256 << 20;

/// What the sections of one chain may still bring.
struct Budget {
    entries: u64,
    /// Decoded bytes of streams.
    bytes: u64,
}

/// Form of a cross-reference section. An update must have the same form as the section before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XrefForm {
    /// The word `xref`, lines of text and a trailer.
    Table,
    /// A stream object.
    Stream,
}

/// What a cross-reference section says of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// The number is free.
    Free,
    /// The object lies in the file by itself.
    At {
        /// Offset of its number.
        offset: u64,
        /// Its generation.
        generation: u16,
    },
    /// The object lies in an object stream.
    In {
        /// Number of the stream.
        container: u32,
        /// Place in the stream, from 0.
        index: u32,
    },
}

/// Consecutive object numbers.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: u32,
    count: u32,
    /// Table: offset of the first entry in the file. Stream: index of the first entry.
    at: u64,
}

#[derive(Debug)]
enum Body {
    /// Width of an entry in bytes: 20, or 19 from writers that forget the space.
    Table {
        width: u64,
    },
    Stream {
        widths: [usize; 3],
        data: Vec<u8>,
    },
}

/// One section and its trailer.
#[derive(Debug)]
pub(crate) struct Section {
    /// Offset of the word `xref` or of the stream object, as the file names it.
    pub(crate) offset: u64,
    pub(crate) trailer: Dict,
    body: Body,
    /// Ordered by `start`, not overlapping.
    runs: Vec<Run>,
    /// The stream of a hybrid-reference file.
    hybrid: Option<Box<Section>>,
}

impl Section {
    pub(crate) fn form(&self) -> XrefForm {
        match self.body {
            Body::Table { .. } => XrefForm::Table,
            Body::Stream { .. } => XrefForm::Stream,
        }
    }

    pub(crate) fn is_hybrid(&self) -> bool {
        self.hybrid.is_some()
    }

    /// Highest object number + 1.
    pub(crate) fn end(&self) -> u32 {
        let own = self.runs.last().map_or(0, |r| r.start + r.count);
        own.max(self.hybrid.as_ref().map_or(0, |h| h.end()))
    }

    /// All object numbers, of the hybrid part too; numbers may repeat.
    pub(crate) fn numbers(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        let own = self.runs.iter().flat_map(|r| r.start..r.start + r.count);
        match &self.hybrid {
            None => Box::new(own),
            Some(h) => Box::new(own.chain(h.numbers())),
        }
    }

    /// How many entries [`Section::numbers`] yields.
    pub(crate) fn count(&self) -> u64 {
        let own: u64 = self.runs.iter().map(|r| u64::from(r.count)).sum();
        own + self.hybrid.as_ref().map_or(0, |h| h.count())
    }

    pub(crate) fn lookup(&self, source: &dyn Source, num: u32) -> Result<Option<Entry>> {
        let after = self.runs.partition_point(|r| r.start <= num);
        if let Some(run) = after
            .checked_sub(1)
            .map(|i| self.runs[i])
            .filter(|r| num - r.start < r.count)
        {
            return self.entry(source, run, num).map(Some);
        }
        match &self.hybrid {
            Some(h) => h.lookup(source, num),
            None => Ok(None),
        }
    }

    fn entry(&self, source: &dyn Source, run: Run, num: u32) -> Result<Entry> {
        let index = u64::from(num - run.start);
        match &self.body {
            Body::Table { width } => {
                let mut line = [0; 18];
                if source.read_full(&mut line, run.at + index * width)? < line.len() {
                    return Err(Error::Broken("the cross-reference table is cut off"));
                }
                table_entry(line)
            }
            Body::Stream { widths, data } => {
                let size: usize = widths.iter().sum();
                let start = usize::try_from(run.at + index)
                    .unwrap_or(usize::MAX)
                    .saturating_mul(size);
                let row = data.get(start..start.saturating_add(size));
                stream_entry(
                    row.ok_or(Error::Broken("the cross-reference stream is cut off"))?,
                    *widths,
                )
            }
        }
    }
}

/// Reads the chain of sections from the newest (at `start`) to the oldest.
pub(crate) fn load_chain(source: &dyn Source, start: u64) -> Result<Vec<Section>> {
    let len = source.size()?;
    // Every object takes a byte at least, so more entries than bytes are a lie that would only cost memory.
    let mut budget = Budget {
        entries: len,
        bytes: len
            .saturating_mul(4)
            .saturating_add(64 << 10)
            .min(MAX_DECODED),
    };
    let mut sections: Vec<Section> = Vec::new();
    let mut next = Some(start);
    while let Some(offset) = next {
        if sections.len() == MAX_SECTIONS {
            return Err(Error::Limit("too many updates"));
        }
        if sections.iter().any(|s| s.offset == offset) {
            return Err(Error::Broken("the cross-reference sections form a circle"));
        }
        let mut section = load_section(source, len, offset, &mut budget)?;
        if let (XrefForm::Table, Some(value)) = (section.form(), section.trailer.get("XRefStm")) {
            let at = offset_of(value)?;
            let hybrid = load_section(source, len, at, &mut budget)?;
            if hybrid.form() != XrefForm::Stream {
                return Err(Error::Broken("the hybrid cross-reference is not a stream"));
            }
            section.hybrid = Some(Box::new(hybrid));
        }
        next = match section.trailer.get("Prev") {
            None => None,
            Some(value) => match offset_of(value)? {
                // Some writers mark the oldest section this way.
                0 => None,
                prev => Some(prev),
            },
        };
        sections.push(section);
    }
    Ok(sections)
}

/// Parses at `offset` with windows that grow until the syntax is complete.
pub(crate) fn parse_at<T>(
    source: &dyn Source,
    len: u64,
    offset: u64,
    parse: impl Fn(&mut Lexer<'_>) -> std::result::Result<T, Stop>,
) -> Result<T> {
    if offset >= len {
        return Err(Error::Broken("an offset lies outside the file"));
    }
    let mut size = WINDOW;
    loop {
        let mut window = vec![0; size.min(usize::try_from(len - offset).unwrap_or(usize::MAX))];
        let n = source.read_full(&mut window, offset)?;
        window.truncate(n);
        let eof = offset + n as u64 >= len;
        match parse(&mut Lexer::new(&window, eof)) {
            Ok(value) => return Ok(value),
            Err(Stop::Bad(what)) => return Err(Error::Broken(what)),
            Err(Stop::Limit(what)) => return Err(Error::Limit(what)),
            Err(Stop::More) if size >= MAX_WINDOW => {
                return Err(Error::Limit("an object is too large"));
            }
            Err(Stop::More) if n < size => {
                return Err(Error::Broken("the file changed while it was read"));
            }
            Err(Stop::More) => size *= 4,
        }
    }
}

fn offset_of(value: &Object) -> Result<u64> {
    value
        .as_int()
        .and_then(|n| u64::try_from(n).ok())
        .ok_or(Error::Broken("a cross-reference offset is no number"))
}

fn load_section(
    source: &dyn Source,
    len: u64,
    offset: u64,
    budget: &mut Budget,
) -> Result<Section> {
    let is_table = parse_at(source, len, offset, |l| {
        l.skip_space()?;
        let found = l.keyword(b"xref")?;
        Ok(found.then_some(l.pos as u64))
    })?;
    let mut section = match is_table {
        Some(skip) => load_table(source, len, offset, offset + skip, budget)?,
        None => load_stream(source, len, offset, budget)?,
    };
    section.runs.retain(|r| r.count > 0);
    section.runs.sort_by_key(|r| r.start);
    if section
        .runs
        .windows(2)
        .any(|w| w[1].start - w[0].start < w[0].count)
    {
        return Err(Error::Broken(
            "a cross-reference section names an object twice",
        ));
    }
    Ok(section)
}

fn run(start: u64, count: u64, at: u64, runs: usize, budget: &mut Budget) -> Result<Run> {
    let limit = u64::from(MAX_OBJECT_NUMBER) + 1;
    if start > limit || count > limit || start + count > limit || runs >= MAX_RUNS {
        return Err(Error::Limit("too many objects"));
    }
    budget.entries = budget
        .entries
        .checked_sub(count)
        .ok_or(Error::Broken("more cross-reference entries than bytes"))?;
    let narrow = |n: u64| u32::try_from(n).unwrap_or(MAX_OBJECT_NUMBER);
    Ok(Run {
        start: narrow(start),
        count: narrow(count),
        at,
    })
}

fn load_table(
    source: &dyn Source,
    len: u64,
    offset: u64,
    mut pos: u64,
    budget: &mut Budget,
) -> Result<Section> {
    let mut runs = Vec::new();
    let mut width = None;
    let trailer_at = loop {
        // Either a subsection header, then `Some((start, count))`, or the word `trailer`.
        let (header, used) = parse_at(source, len, pos, |l| {
            l.skip_space()?;
            if l.keyword(b"trailer")? {
                return Ok((None, l.pos));
            }
            let start = l
                .unsigned()?
                .ok_or(Stop::Bad("the cross-reference table is damaged"))?;
            l.skip_space()?;
            let count = l
                .unsigned()?
                .ok_or(Stop::Bad("the cross-reference table is damaged"))?;
            l.skip_space()?;
            Ok((Some((start, count)), l.pos))
        })?;
        pos += used as u64;
        let Some((start, count)) = header else {
            break pos;
        };
        let run = run(start, count, pos, runs.len(), budget)?;
        if run.count > 0 {
            let w = entry_width(source, pos)?;
            if *width.get_or_insert(w) != w {
                return Err(Error::Broken("the cross-reference table is damaged"));
            }
            pos += u64::from(run.count) * w;
            runs.push(run);
        }
    };
    let trailer = parse_at(source, len, trailer_at, |l| Ok(l.dict_with_spans()?.0))?;
    Ok(Section {
        offset,
        trailer,
        body: Body::Table {
            width: width.unwrap_or(20),
        },
        runs,
        hybrid: None,
    })
}

fn entry_width(source: &dyn Source, at: u64) -> Result<u64> {
    let mut line = [0; 20];
    source.read_full(&mut line, at)?;
    match (line[18], line[19]) {
        (b' ' | b'\r', b'\n') | (b' ', b'\r') => Ok(20),
        (b'\n' | b'\r', b'0'..=b'9' | b't') => Ok(19),
        _ => Err(Error::Broken("the cross-reference table is damaged")),
    }
}

fn table_entry(line: [u8; 18]) -> Result<Entry> {
    const BAD: Error = Error::Broken("a cross-reference entry is damaged");
    let digits = |part: &[u8]| {
        part.iter()
            .try_fold(0_u64, |n, b| {
                b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0'))
            })
            .ok_or(BAD)
    };
    let offset = digits(&line[..10])?;
    let generation = digits(&line[11..16])?;
    match (line[10], line[16], line[17]) {
        (b' ', b' ', b'f') => Ok(Entry::Free),
        // Offset 0 is the header's place, so such an entry means a missing object.
        (b' ', b' ', b'n') if offset == 0 => Ok(Entry::Free),
        (b' ', b' ', b'n') => Ok(Entry::At {
            offset,
            generation: u16::try_from(generation).map_err(|_| BAD)?,
        }),
        _ => Err(BAD),
    }
}

fn load_stream(source: &dyn Source, len: u64, offset: u64, budget: &mut Budget) -> Result<Section> {
    const BAD: Error = Error::Broken("the cross-reference stream is damaged");
    let (_, object, data) = parse_at(source, len, offset, indirect)?;
    let (Object::Dict(dict), Some(data)) = (object, data) else {
        return Err(Error::Broken(
            "no cross-reference section where the file says",
        ));
    };
    if !dict.is_type("XRef") {
        return Err(Error::Broken(
            "no cross-reference section where the file says",
        ));
    }
    let int = |o: &Object| o.as_int().and_then(|n| u64::try_from(n).ok());
    let mut widths = [0; 3];
    let w = dict
        .get("W")
        .and_then(Object::as_array)
        .filter(|w| w.len() == 3)
        .ok_or(BAD)?;
    for (out, value) in widths.iter_mut().zip(w) {
        *out = int(value)
            .filter(|&n| n <= 8)
            .and_then(|n| usize::try_from(n).ok())
            .ok_or(BAD)?;
    }
    let size: usize = widths.iter().sum();
    let total = dict.get("Size").and_then(int).ok_or(BAD)?;
    let index: Vec<u64> = match dict.get("Index") {
        None => vec![0, total],
        Some(Object::Array(list)) => list
            .iter()
            .map(|o| int(o).ok_or(BAD))
            .collect::<Result<_>>()?,
        Some(_) => return Err(BAD),
    };
    if size == 0 || !index.len().is_multiple_of(2) {
        return Err(BAD);
    }
    let mut runs = Vec::new();
    let mut count = 0;
    for pair in index.chunks_exact(2) {
        let run = run(pair[0], pair[1], count, runs.len(), budget)?;
        count += u64::from(run.count);
        runs.push(run);
    }
    let length = dict.get("Length").and_then(int).ok_or(BAD)?;
    let raw = read_range(source, len, offset + data as u64, length)?;
    // Writers may add rows that no subsection names; more than twice as many are no accident.
    let wanted = usize::try_from(count)
        .unwrap_or(usize::MAX)
        .saturating_mul(size);
    budget.bytes = budget
        .bytes
        .checked_sub(wanted as u64)
        .ok_or(Error::Limit("cross-reference streams are too large"))?;
    let mut data = filter::decode(&dict, raw, wanted.saturating_mul(2).saturating_add(4_096))?;
    if data.len() < wanted {
        return Err(BAD);
    }
    source.charge(data.len() as u64)?;
    data.truncate(wanted);
    data.shrink_to_fit();
    Ok(Section {
        offset,
        trailer: dict,
        body: Body::Stream { widths, data },
        runs,
        hybrid: None,
    })
}

fn stream_entry(row: &[u8], widths: [usize; 3]) -> Result<Entry> {
    const BAD: Error = Error::Broken("a cross-reference entry is damaged");
    let (kind, rest) = row.split_at(widths[0]);
    let (second, third) = rest.split_at(widths[1]);
    let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |n, &b| n << 8 | u64::from(b));
    let kind = if kind.is_empty() { 1 } else { number(kind) };
    match kind {
        0 => Ok(Entry::Free),
        1 if number(second) == 0 => Ok(Entry::Free),
        1 => Ok(Entry::At {
            offset: number(second),
            generation: u16::try_from(number(third)).map_err(|_| BAD)?,
        }),
        2 => Ok(Entry::In {
            container: u32::try_from(number(second))
                .ok()
                .filter(|&n| n <= MAX_OBJECT_NUMBER)
                .ok_or(BAD)?,
            index: u32::try_from(number(third)).map_err(|_| BAD)?,
        }),
        // Unknown types are references to null (ISO 32000-2 §7.5.8.3).
        _ => Ok(Entry::Free),
    }
}

/// An indirect object: its id, the object, and for a stream where its data begin in the window.
pub(crate) fn indirect(
    l: &mut Lexer<'_>,
) -> std::result::Result<(ObjId, Object, Option<usize>), Stop> {
    let id = l.object_header()?;
    let object = l.object()?;
    let data = l.after_object()?;
    Ok((id, object, data))
}

/// `length` bytes at `start`, all of which must be there.
pub(crate) fn read_range(
    source: &dyn Source,
    len: u64,
    start: u64,
    length: u64,
) -> Result<Vec<u8>> {
    if start.checked_add(length).is_none_or(|end| end > len) {
        return Err(Error::Broken("a stream ends outside the file"));
    }
    let size = usize::try_from(length)
        .ok()
        .filter(|&n| n <= 256 << 20)
        .ok_or(Error::Limit("a stream is too large"))?;
    let mut out = vec![0; size];
    if source.read_full(&mut out, start)? < size {
        return Err(Error::Broken("the file changed while it was read"));
    }
    Ok(out)
}

/// The offset after the last `startxref`, and whether anything but white space follows the end marker.
pub(crate) fn find_start(source: &dyn Source, len: u64) -> Result<(u64, bool)> {
    const TAIL: u64 = 2_048;
    let from = len.saturating_sub(TAIL);
    let tail = read_range(source, len, from, len - from)?;
    let word = b"startxref";
    let at = tail
        .windows(word.len())
        .rposition(|w| w == word)
        .ok_or(Error::Truncated)?;
    let (offset, used) = Lexer::whole(&tail[at + word.len()..], |l| {
        l.skip_space()?;
        Ok((l.unsigned()?, l.pos))
    })?;
    let mut rest = &tail[at + word.len() + used..];
    while let [first, more @ ..] = rest {
        if !is_space(*first) {
            break;
        }
        rest = more;
    }
    let behind = rest.strip_prefix(b"%%EOF").ok_or(Error::Truncated)?;
    let offset = offset.ok_or(Error::Broken("no number after the word startxref"))?;
    Ok((offset, !behind.iter().all(|&b| is_space(b))))
}
