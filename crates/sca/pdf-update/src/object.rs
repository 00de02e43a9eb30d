//! PDF objects (ISO 32000-2 §7.3) and how they are written.

/// Number and generation of an indirect object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjId {
    /// Object number, at least 1.
    pub num: u32,
    /// Generation number.
    pub generation: u16,
}

impl ObjId {
    /// The object `num` of generation 0.
    pub fn new(num: u32) -> Self {
        Self { num, generation: 0 }
    }
}

/// Any PDF object. Streams occur only as the outermost object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// `null`, also what a reference to a missing object means.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number, as its text.
    Real(Box<[u8]>),
    /// A name without the slash, `#xx` decoded.
    Name(Box<[u8]>),
    /// A string, decoded.
    Str {
        /// Its bytes.
        bytes: Box<[u8]>,
        /// Whether it is written in hexadecimal.
        hex: bool,
    },
    /// An array.
    Array(Vec<Object>),
    /// A dictionary.
    Dict(Dict),
    /// A reference to an indirect object.
    Ref(ObjId),
    /// A stream.
    Stream(Stream),
}

/// A stream: its dictionary, and where its data begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The dictionary.
    pub dict: Dict,
    /// Offset of the first byte of (encoded) data in the file.
    pub data_at: u64,
}

impl Object {
    /// A name.
    pub fn name(name: &str) -> Self {
        Self::Name(name.as_bytes().into())
    }

    /// A string in literal form.
    pub fn string(bytes: &[u8]) -> Self {
        Self::Str {
            bytes: bytes.into(),
            hex: false,
        }
    }

    /// A text string (ISO 32000-2 §7.9.2.2): ASCII as it is, anything else as UTF-16BE with its mark.
    pub fn text(text: &str) -> Self {
        if text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            return Self::string(text.as_bytes());
        }
        let mut bytes = vec![0xfe, 0xff];
        for unit in text.encode_utf16() {
            bytes.extend_from_slice(&unit.to_be_bytes());
        }
        Self::Str {
            bytes: bytes.into(),
            hex: true,
        }
    }

    /// The whole number, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        if let Self::Int(n) = self {
            Some(*n)
        } else {
            None
        }
    }

    /// The name, if it is one.
    pub fn as_name(&self) -> Option<&[u8]> {
        if let Self::Name(n) = self {
            Some(n)
        } else {
            None
        }
    }

    /// The bytes of the string, if it is one.
    pub fn as_str(&self) -> Option<&[u8]> {
        if let Self::Str { bytes, .. } = self {
            Some(bytes)
        } else {
            None
        }
    }

    /// The text string as Unicode (UTF-16BE, UTF-8 with mark, else taken as Latin-1).
    pub fn as_text(&self) -> Option<String> {
        let bytes = self.as_str()?;
        Some(match bytes {
            [0xfe, 0xff, rest @ ..] => {
                let units: Vec<u16> = rest
                    .chunks_exact(2)
                    .map(|c| u16::from_be_bytes([c[0], c[1]]))
                    .collect();
                String::from_utf16_lossy(&units)
            }
            [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
            other => other.iter().map(|&b| char::from(b)).collect(),
        })
    }

    /// The array, if it is one.
    pub fn as_array(&self) -> Option<&[Object]> {
        if let Self::Array(a) = self {
            Some(a)
        } else {
            None
        }
    }

    /// The dictionary, also that of a stream.
    pub fn as_dict(&self) -> Option<&Dict> {
        match self {
            Self::Dict(d) => Some(d),
            Self::Stream(s) => Some(&s.dict),
            _ => None,
        }
    }

    /// The reference, if it is one.
    pub fn as_ref(&self) -> Option<ObjId> {
        if let Self::Ref(id) = self {
            Some(*id)
        } else {
            None
        }
    }

    /// Appends the PDF text of the object. A stream is written as its dictionary only.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
            Self::Int(n) => out.extend_from_slice(n.to_string().as_bytes()),
            Self::Real(text) => out.extend_from_slice(text),
            Self::Name(name) => write_name(name, out),
            Self::Str { bytes, hex: true } => write_hex(bytes, out),
            Self::Str { bytes, hex: false } => write_literal(bytes, out),
            Self::Array(items) => {
                out.push(b'[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(b' ');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
            Self::Dict(dict) | Self::Stream(Stream { dict, .. }) => dict.write(out),
            Self::Ref(id) => {
                out.extend_from_slice(format!("{} {} R", id.num, id.generation).as_bytes())
            }
        }
    }
}

/// A dictionary that keeps the order of its keys. Of a repeated key the last value counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dict(Vec<(Box<[u8]>, Object)>);

impl Dict {
    /// The empty dictionary.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of `key`; a `null` value is the same as none (ISO 32000-2 §7.3.7).
    pub fn get(&self, key: &str) -> Option<&Object> {
        self.get_bytes(key.as_bytes())
    }

    /// [`Dict::get`] for a key that may be any bytes.
    pub fn get_bytes(&self, key: &[u8]) -> Option<&Object> {
        let found = self.0.iter().find(|(k, _)| **k == *key)?;
        if found.1 == Object::Null {
            None
        } else {
            Some(&found.1)
        }
    }

    /// Sets `key`, in its old place if it was there.
    pub fn set(&mut self, key: &str, value: Object) {
        if let Some(entry) = self.0.iter_mut().find(|(k, _)| **k == *key.as_bytes()) {
            entry.1 = value;
        } else {
            self.0.push((key.as_bytes().into(), value));
        }
    }

    /// [`Dict::set`] for chaining.
    #[must_use]
    pub fn with(mut self, key: &str, value: Object) -> Self {
        self.set(key, value);
        self
    }

    /// Keys and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Object)> {
        self.0.iter().map(|(k, v)| (&**k, v))
    }

    /// Whether `/Type` is `name`.
    pub fn is_type(&self, name: &str) -> bool {
        self.get("Type").and_then(Object::as_name) == Some(name.as_bytes())
    }

    /// Built by the parser, which has already made keys unique.
    pub(crate) fn from_unique(entries: Vec<(Box<[u8]>, Object)>) -> Self {
        Self(entries)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<<");
        for (key, value) in &self.0 {
            write_name(key, out);
            out.push(b' ');
            value.write(out);
            out.push(b'\n');
        }
        out.extend_from_slice(b">>");
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn write_name(name: &[u8], out: &mut Vec<u8>) {
    out.push(b'/');
    for &b in name {
        if (0x21..0x7f).contains(&b) && !b"()<>[]{}/%#".contains(&b) {
            out.push(b);
        } else {
            out.extend_from_slice(&[b'#', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
    }
}

fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'<');
    for &b in bytes {
        out.extend_from_slice(&[HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
    }
    out.push(b'>');
}

fn write_literal(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'(');
    for &b in bytes {
        match b {
            b'(' | b')' | b'\\' => out.extend_from_slice(&[b'\\', b]),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => out.push(b),
        }
    }
    out.push(b')');
}
