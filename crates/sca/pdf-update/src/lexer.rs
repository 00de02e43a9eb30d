//! Tokens and objects from a window of the file.
//!
//! A window is a slice that may end in the middle of an object; the parser then says [`Stop::More`] instead of
//! guessing, and the caller reads a larger window.

use std::collections::HashMap;

use crate::object::{Dict, ObjId, Object};
use crate::{MAX_OBJECT_NUMBER, Result};

/// Arrays and dictionaries inside each other.
const MAX_DEPTH: u32 = 64;
/// Objects inside one indirect object.
const MAX_NODES: u32 = 1_000_000;
/// Above this many keys, repeated ones are found with a map.
const SMALL_DICT: usize = 32;

/// Why parsing stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The window ended.
    More,
    /// Not PDF syntax.
    Bad(&'static str),
    /// Beyond a limit.
    Limit(&'static str),
}

type Parsed<T> = std::result::Result<T, Stop>;

pub(crate) struct Lexer<'a> {
    data: &'a [u8],
    pub(crate) pos: usize,
    /// Whether the window reaches the end of the file.
    eof: bool,
    nodes: u32,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(data: &'a [u8], eof: bool) -> Self {
        Self {
            data,
            pos: 0,
            eof,
            nodes: MAX_NODES,
        }
    }

    /// Parses what is complete in memory.
    pub(crate) fn whole<T>(
        data: &'a [u8],
        parse: impl FnOnce(&mut Self) -> Parsed<T>,
    ) -> Result<T> {
        match parse(&mut Self::new(data, true)) {
            Ok(value) => Ok(value),
            Err(Stop::More) => Err(crate::Error::Broken("an object ends too early")),
            Err(Stop::Bad(what)) => Err(crate::Error::Broken(what)),
            Err(Stop::Limit(what)) => Err(crate::Error::Limit(what)),
        }
    }

    /// The next byte; `None` only at the end of the file.
    fn peek(&self) -> Parsed<Option<u8>> {
        match self.data.get(self.pos) {
            Some(&b) => Ok(Some(b)),
            None if self.eof => Ok(None),
            None => Err(Stop::More),
        }
    }

    fn need(&mut self) -> Parsed<u8> {
        let b = self.peek()?.ok_or(Stop::Bad("an object ends too early"))?;
        self.pos += 1;
        Ok(b)
    }

    pub(crate) fn skip_space(&mut self) -> Parsed<()> {
        while let Some(b) = self.peek()? {
            if b == b'%' {
                while !matches!(self.peek()?, None | Some(b'\r' | b'\n')) {
                    self.pos += 1;
                }
            } else if is_space(b) {
                self.pos += 1;
            } else {
                break;
            }
        }
        Ok(())
    }

    /// Takes `word` if it comes next as a whole token.
    pub(crate) fn keyword(&mut self, word: &[u8]) -> Parsed<bool> {
        for (i, &w) in word.iter().enumerate() {
            match self.data.get(self.pos + i) {
                Some(&b) if b == w => {}
                None if !self.eof => return Err(Stop::More),
                _ => return Ok(false),
            }
        }
        let start = self.pos;
        self.pos += word.len();
        if self.peek()?.is_some_and(is_regular) {
            self.pos = start;
            return Ok(false);
        }
        Ok(true)
    }

    /// An unsigned number without sign or point, if one comes next as a whole token.
    pub(crate) fn unsigned(&mut self) -> Parsed<Option<u64>> {
        let start = self.pos;
        let mut value: u64 = 0;
        while let Some(b) = self.peek()? {
            if !b.is_ascii_digit() {
                if is_regular(b) {
                    self.pos = start;
                    return Ok(None);
                }
                break;
            }
            if self.pos - start >= 18 {
                self.pos = start;
                return Ok(None);
            }
            value = value * 10 + u64::from(b - b'0');
            self.pos += 1;
        }
        Ok((self.pos > start).then_some(value))
    }

    /// `num gen obj`.
    pub(crate) fn object_header(&mut self) -> Parsed<ObjId> {
        const BAD: Stop = Stop::Bad("no object where the cross-reference table says");
        self.skip_space()?;
        let num = self.unsigned()?.ok_or(BAD)?;
        self.skip_space()?;
        let generation = self.unsigned()?.ok_or(BAD)?;
        self.skip_space()?;
        // Some writers leave no space after `obj`, so it need not be a whole token.
        let word = [self.need()?, self.need()?, self.need()?];
        match (u32::try_from(num), u16::try_from(generation)) {
            (Ok(num), Ok(generation)) if word == *b"obj" => Ok(ObjId { num, generation }),
            _ => Err(BAD),
        }
    }

    /// After the object of an indirect object: `None` at `endobj`, else the position of the stream's data.
    pub(crate) fn after_object(&mut self) -> Parsed<Option<usize>> {
        self.skip_space()?;
        if self.keyword(b"endobj")? {
            return Ok(None);
        }
        if !self.keyword(b"stream")? {
            return Err(Stop::Bad("an object has no end"));
        }
        match self.need()? {
            b'\n' => {}
            b'\r' => {
                if self.peek()? == Some(b'\n') {
                    self.pos += 1;
                }
            }
            _ => return Err(Stop::Bad("no line end after the word stream")),
        }
        Ok(Some(self.pos))
    }

    pub(crate) fn object(&mut self) -> Parsed<Object> {
        self.object_at(0)
    }

    fn object_at(&mut self, depth: u32) -> Parsed<Object> {
        if depth > MAX_DEPTH {
            return Err(Stop::Limit("objects nested too deeply"));
        }
        self.nodes = self
            .nodes
            .checked_sub(1)
            .ok_or(Stop::Limit("an object with too many parts"))?;
        self.skip_space()?;
        match self.peek()?.ok_or(Stop::Bad("an object ends too early"))? {
            b'/' => Ok(Object::Name(self.name()?)),
            b'(' => self.literal(),
            b'[' => {
                self.pos += 1;
                let mut items = Vec::new();
                loop {
                    self.skip_space()?;
                    if self.peek()? == Some(b']') {
                        self.pos += 1;
                        return Ok(Object::Array(items));
                    }
                    items.push(self.object_at(depth + 1)?);
                }
            }
            b'<' => {
                self.pos += 1;
                if self.peek()? == Some(b'<') {
                    self.pos += 1;
                    return Ok(Object::Dict(self.dict(depth)?.0));
                }
                self.hex()
            }
            b'+' | b'-' | b'.' | b'0'..=b'9' => self.number(),
            b't' if self.keyword(b"true")? => Ok(Object::Bool(true)),
            b'f' if self.keyword(b"false")? => Ok(Object::Bool(false)),
            b'n' if self.keyword(b"null")? => Ok(Object::Null),
            _ => Err(Stop::Bad("an unknown token")),
        }
    }

    /// A dictionary at the outermost level, with the span of every value in the window.
    pub(crate) fn dict_with_spans(&mut self) -> Parsed<(Dict, Spans)> {
        self.skip_space()?;
        if self.need()? != b'<' || self.need()? != b'<' {
            return Err(Stop::Bad("no dictionary where one is due"));
        }
        self.dict(0)
    }

    /// The rest of a dictionary after `<<`.
    fn dict(&mut self, depth: u32) -> Parsed<(Dict, Spans)> {
        let mut entries: Vec<(Box<[u8]>, Object)> = Vec::new();
        let mut spans: Spans = Vec::new();
        let mut index: HashMap<Box<[u8]>, usize> = HashMap::new();
        loop {
            self.skip_space()?;
            match self.peek()? {
                Some(b'>') => {
                    self.pos += 1;
                    if self.need()? != b'>' {
                        return Err(Stop::Bad("a dictionary without its end"));
                    }
                    return Ok((Dict::from_unique(entries), spans));
                }
                Some(b'/') => {}
                _ => return Err(Stop::Bad("a dictionary key is not a name")),
            }
            let key = self.name()?;
            self.skip_space()?;
            let start = self.pos;
            let value = self.object_at(depth + 1)?;
            if depth == 0 {
                spans.push((key.clone(), start..self.pos));
            }
            let known = if entries.len() < SMALL_DICT {
                entries.iter().position(|(k, _)| *k == key)
            } else {
                if index.is_empty() {
                    index = entries
                        .iter()
                        .enumerate()
                        .map(|(i, (k, _))| (k.clone(), i))
                        .collect();
                }
                index.get(&key).copied()
            };
            if let Some(i) = known {
                entries[i].1 = value;
            } else {
                if !index.is_empty() {
                    index.insert(key.clone(), entries.len());
                }
                entries.push((key, value));
            }
        }
    }

    fn name(&mut self) -> Parsed<Box<[u8]>> {
        self.pos += 1;
        let mut out = Vec::new();
        while let Some(b) = self.peek()? {
            if !is_regular(b) {
                break;
            }
            self.pos += 1;
            if b == b'#' {
                let hi = self.peek()?.and_then(hex_value);
                let lo = match self.data.get(self.pos + 1) {
                    Some(&b) => hex_value(b),
                    None if self.eof => None,
                    None => return Err(Stop::More),
                };
                if let (Some(hi), Some(lo)) = (hi, lo) {
                    out.push(hi << 4 | lo);
                    self.pos += 2;
                    continue;
                }
            }
            out.push(b);
        }
        Ok(out.into())
    }

    fn number(&mut self) -> Parsed<Object> {
        let start = self.pos;
        while let Some(b) = self.peek()? {
            if !is_regular(b) {
                break;
            }
            if !matches!(b, b'+' | b'-' | b'.' | b'0'..=b'9') {
                return Err(Stop::Bad("a number with other characters"));
            }
            self.pos += 1;
        }
        let text = &self.data[start..self.pos];
        let Some(value) = std::str::from_utf8(text)
            .ok()
            .and_then(|t| t.parse::<i64>().ok())
        else {
            return Ok(Object::Real(text.into()));
        };
        if text[0].is_ascii_digit()
            && let Some(id) = self.rest_of_reference(value)?
        {
            return Ok(Object::Ref(id));
        }
        Ok(Object::Int(value))
    }

    /// `gen R` after a number, else nothing is taken.
    fn rest_of_reference(&mut self, num: i64) -> Parsed<Option<ObjId>> {
        let start = self.pos;
        self.skip_space()?;
        if let Some(generation) = self.unsigned()? {
            self.skip_space()?;
            if self.keyword(b"R")? {
                return match (u32::try_from(num), u16::try_from(generation)) {
                    (Ok(num), Ok(generation)) if num <= MAX_OBJECT_NUMBER => {
                        Ok(Some(ObjId { num, generation }))
                    }
                    _ => Err(Stop::Bad("a reference out of range")),
                };
            }
        }
        self.pos = start;
        Ok(None)
    }

    fn hex(&mut self) -> Parsed<Object> {
        let mut bytes = Vec::new();
        let mut half = None;
        loop {
            let b = self.need()?;
            if b == b'>' {
                break;
            }
            if is_space(b) {
                continue;
            }
            let v = hex_value(b).ok_or(Stop::Bad("a hexadecimal string with other characters"))?;
            match half.take() {
                None => half = Some(v << 4),
                Some(hi) => bytes.push(hi | v),
            }
        }
        bytes.extend(half);
        Ok(Object::Str {
            bytes: bytes.into(),
            hex: true,
        })
    }

    fn literal(&mut self) -> Parsed<Object> {
        self.pos += 1;
        let mut bytes = Vec::new();
        let mut open = 1_u32;
        loop {
            let b = self.need()?;
            match b {
                b'(' => open += 1,
                b')' => {
                    open -= 1;
                    if open == 0 {
                        return Ok(Object::Str {
                            bytes: bytes.into(),
                            hex: false,
                        });
                    }
                }
                b'\r' => {
                    if self.peek()? == Some(b'\n') {
                        self.pos += 1;
                    }
                    bytes.push(b'\n');
                    continue;
                }
                b'\\' => {
                    self.escape(&mut bytes)?;
                    continue;
                }
                _ => {}
            }
            bytes.push(b);
        }
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Parsed<()> {
        match self.need()? {
            b'n' => bytes.push(b'\n'),
            b'r' => bytes.push(b'\r'),
            b't' => bytes.push(b'\t'),
            b'b' => bytes.push(8),
            b'f' => bytes.push(12),
            b'\r' => {
                if self.peek()? == Some(b'\n') {
                    self.pos += 1;
                }
            }
            b'\n' => {}
            first @ b'0'..=b'7' => {
                let mut value = u32::from(first - b'0');
                for _ in 0..2 {
                    match self.peek()? {
                        Some(d @ b'0'..=b'7') => {
                            value = value * 8 + u32::from(d - b'0');
                            self.pos += 1;
                        }
                        _ => break,
                    }
                }
                bytes.push((value & 0xff) as u8);
            }
            other => bytes.push(other),
        }
        Ok(())
    }
}

/// Keys of a dictionary and where their values stand, repeated keys included.
pub(crate) type Spans = Vec<(Box<[u8]>, std::ops::Range<usize>)>;

pub(crate) fn is_space(b: u8) -> bool {
    matches!(b, 0 | 9 | 10 | 12 | 13 | 32)
}

fn is_regular(b: u8) -> bool {
    !is_space(b) && !b"()<>[]{}/%".contains(&b)
}

fn hex_value(b: u8) -> Option<u8> {
    char::from(b)
        .to_digit(16)
        .and_then(|d| u8::try_from(d).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> Object {
        Lexer::whole(text, Lexer::object).unwrap()
    }

    #[test]
    fn objects_survive_writing_and_reading() {
        let text = b"<</A#20B [1 -2 +3 4.50 .5 true false null 7 0 R]/S (a\\(b\\)\\\\\\101\\\r\n(in)) /H <41 4>\n/D<</X/Y>>>>";
        let object = parse(text);
        let mut out = Vec::new();
        object.write(&mut out);
        assert_eq!(parse(&out), object);
        let dict = object.as_dict().unwrap();
        assert_eq!(dict.get("S").unwrap().as_str().unwrap(), b"a(b)\\A(in)");
        assert_eq!(dict.get("H").unwrap().as_str().unwrap(), b"A@");
        assert_eq!(dict.get("A B").unwrap().as_array().unwrap().len(), 9);
    }

    #[test]
    fn a_window_that_ends_inside_asks_for_more() {
        let text = b"<</K [1 0 R (text) <41>] /Name /N#41me >> endobj ";
        for cut in 0..text.len() - 8 {
            let mut lexer = Lexer::new(&text[..cut], false);
            let end = lexer.object().and_then(|_| lexer.after_object());
            assert!(matches!(end, Err(Stop::More)), "cut at {cut}");
        }
    }

    #[test]
    fn the_last_of_repeated_keys_counts_in_small_and_large_dictionaries() {
        for extra in [0, 100] {
            let mut text = b"<</K 1".to_vec();
            for i in 0..extra {
                text.extend_from_slice(format!("/X{i} 0").as_bytes());
            }
            text.extend_from_slice(b"/K 2>>");
            assert_eq!(
                parse(&text).as_dict().unwrap().get("K"),
                Some(&Object::Int(2))
            );
        }
    }

    #[test]
    fn depth_and_size_are_limited() {
        let deep = b"[".repeat(10_000);
        assert!(matches!(
            Lexer::whole(&deep, Lexer::object),
            Err(crate::Error::Limit(_))
        ));
        let wide = [b"[".as_slice(), &b"0 ".repeat(1_100_000)].concat();
        assert!(matches!(
            Lexer::whole(&wide, Lexer::object),
            Err(crate::Error::Limit(_))
        ));
    }

    #[test]
    fn text_is_ascii_or_utf_16() {
        assert_eq!(Object::text("Hanako").as_str().unwrap(), b"Hanako");
        let name = Object::text("捺印 花子𠮷");
        assert_eq!(&name.as_str().unwrap()[..2], [0xfe, 0xff]);
        assert_eq!(name.as_text().unwrap(), "捺印 花子𠮷");
    }
}
