//! A walker over DER that hands out the slices as they are, and the few writers that building needs.
//!
//! `der` decodes headers and primitive values; this module adds what its derived types don't give: the raw
//! bytes of every element, so that signed parts are hashed exactly as received.

use core_types::UnixTime;
use der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use der::oid::ObjectIdentifier;
use der::{Decode, Encode, Reader as _, SliceReader};

/// BOOLEAN.
pub const BOOLEAN: u8 = 0x01;
/// INTEGER.
pub const INTEGER: u8 = 0x02;
/// BIT STRING.
pub const BIT_STRING: u8 = 0x03;
/// OCTET STRING.
pub const OCTET_STRING: u8 = 0x04;
/// NULL.
pub const NULL: u8 = 0x05;
/// OBJECT IDENTIFIER.
pub const OID: u8 = 0x06;
/// ENUMERATED.
pub const ENUMERATED: u8 = 0x0a;
/// UTF8String.
pub const UTF8_STRING: u8 = 0x0c;
/// PrintableString.
pub const PRINTABLE_STRING: u8 = 0x13;
/// IA5String.
pub const IA5_STRING: u8 = 0x16;
/// UTCTime.
pub const UTC_TIME: u8 = 0x17;
/// GeneralizedTime.
pub const GENERALIZED_TIME: u8 = 0x18;
/// SEQUENCE and SEQUENCE OF.
pub const SEQUENCE: u8 = 0x30;
/// SET and SET OF.
pub const SET: u8 = 0x31;

/// Context-specific, primitive, number `n` (below 31).
pub const fn context(n: u8) -> u8 {
    0x80 | n
}

/// Context-specific, constructed, number `n` (below 31).
pub const fn context_constructed(n: u8) -> u8 {
    0xa0 | n
}

/// The bytes are not the DER structure that was expected. Names the part; the fault is the sender's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not valid DER: {0}")]
pub struct DerError(pub &'static str);

/// One element: tag octet, contents, and the whole encoding as received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// Identifier octet. Tag numbers above 30 are refused.
    pub tag: u8,
    /// Contents octets.
    pub value: &'a [u8],
    /// Identifier, length and contents.
    pub raw: &'a [u8],
}

impl<'a> Tlv<'a> {
    /// Reads exactly one element from `der`, with nothing after it.
    ///
    /// # Errors
    /// [`DerError`] for anything else.
    pub fn single(der: &'a [u8], what: &'static str) -> Result<Self, DerError> {
        let mut reader = Walker::new(der);
        let tlv = reader.next(what)?;
        reader.finish(what)?;
        Ok(tlv)
    }

    /// Reads one element from the start of `bytes` and ignores what follows, as PDF's padded `/Contents` needs.
    ///
    /// # Errors
    /// [`DerError`] when there is no whole element.
    pub fn prefix(bytes: &'a [u8], what: &'static str) -> Result<Self, DerError> {
        Walker::new(bytes).next(what)
    }

    /// A walker over the contents, after checking the tag.
    ///
    /// # Errors
    /// [`DerError`] when the tag differs.
    pub fn open(&self, tag: u8, what: &'static str) -> Result<Walker<'a>, DerError> {
        if self.tag == tag {
            Ok(Walker::new(self.value))
        } else {
            Err(DerError(what))
        }
    }

    /// Dotted form of an OBJECT IDENTIFIER.
    ///
    /// # Errors
    /// [`DerError`] when it isn't one.
    pub fn as_oid(&self, what: &'static str) -> Result<String, DerError> {
        <ObjectIdentifier>::from_der(self.raw)
            .map(|o| o.to_string())
            .map_err(|_| DerError(what))
    }

    /// Time from UTCTime or GeneralizedTime in DER form (seconds, `Z`, no fraction).
    ///
    /// # Errors
    /// [`DerError`] for other forms and for times before 1970.
    pub fn as_time(&self, what: &'static str) -> Result<UnixTime, DerError> {
        let since = match self.tag {
            UTC_TIME => UtcTime::from_der(self.raw).map(|t| t.to_unix_duration()),
            GENERALIZED_TIME => GeneralizedTime::from_der(self.raw).map(|t| t.to_unix_duration()),
            _ => return Err(DerError(what)),
        };
        let seconds = since.map_err(|_| DerError(what))?.as_secs();
        i64::try_from(seconds)
            .map(UnixTime)
            .map_err(|_| DerError(what))
    }

    /// Magnitude of a non-negative INTEGER, without the sign octet.
    ///
    /// # Errors
    /// [`DerError`] when it is negative, empty, or not in shortest form.
    pub fn as_uint(&self, what: &'static str) -> Result<&'a [u8], DerError> {
        match (self.tag, self.value) {
            (INTEGER, [0]) => Ok(self.value),
            (INTEGER, [0, rest @ ..]) if rest.first().is_some_and(|b| b & 0x80 != 0) => Ok(rest),
            (INTEGER, [first, ..]) if *first != 0 && first & 0x80 == 0 => Ok(self.value),
            _ => Err(DerError(what)),
        }
    }

    /// A small non-negative INTEGER or ENUMERATED.
    ///
    /// # Errors
    /// [`DerError`] when it doesn't fit into 32 bits.
    pub fn as_u32(&self, what: &'static str) -> Result<u32, DerError> {
        let as_integer = Self {
            tag: if self.tag == ENUMERATED {
                INTEGER
            } else {
                self.tag
            },
            ..*self
        };
        let bytes = as_integer.as_uint(what)?;
        if bytes.len() > 4 {
            return Err(DerError(what));
        }
        Ok(bytes.iter().fold(0, |n, b| (n << 8) | u32::from(*b)))
    }

    /// Octets of a BIT STRING that has no unused bits.
    ///
    /// # Errors
    /// [`DerError`] when it has some, or is none.
    pub fn as_bits(&self, what: &'static str) -> Result<&'a [u8], DerError> {
        match (self.tag, self.value) {
            (BIT_STRING, [0, rest @ ..]) => Ok(rest),
            _ => Err(DerError(what)),
        }
    }

    /// Value of a BOOLEAN.
    ///
    /// # Errors
    /// [`DerError`] unless it is `00` or `FF`.
    pub fn as_bool(&self, what: &'static str) -> Result<bool, DerError> {
        match (self.tag, self.value) {
            (BOOLEAN, [0]) => Ok(false),
            (BOOLEAN, [0xff]) => Ok(true),
            _ => Err(DerError(what)),
        }
    }
}

/// Walks over a row of elements.
#[derive(Debug, Clone)]
pub struct Walker<'a> {
    rest: &'a [u8],
}

impl<'a> Walker<'a> {
    /// Starts at the first element of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether no element is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Tag octet of the next element.
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Takes the next element. (Not an iterator: every element is expected, so its absence is an error.)
    ///
    /// # Errors
    /// [`DerError`] when there is none or its header isn't DER.
    pub fn next(&mut self, what: &'static str) -> Result<Tlv<'a>, DerError> {
        let first = *self.rest.first().ok_or(DerError(what))?;
        if first & 0x1f == 0x1f {
            return Err(DerError(what));
        }
        let mut reader = SliceReader::new(self.rest).map_err(|_| DerError(what))?;
        let raw = reader.tlv_bytes().map_err(|_| DerError(what))?;
        let any = AnyRef::from_der(raw).map_err(|_| DerError(what))?;
        self.rest = self.rest.get(raw.len()..).ok_or(DerError(what))?;
        Ok(Tlv {
            tag: first,
            value: any.value(),
            raw,
        })
    }

    /// Takes the next element, which must have this tag.
    ///
    /// # Errors
    /// [`DerError`] when it has another.
    pub fn expect(&mut self, tag: u8, what: &'static str) -> Result<Tlv<'a>, DerError> {
        if self.peek() == Some(tag) {
            self.next(what)
        } else {
            Err(DerError(what))
        }
    }

    /// Takes the next element if it has this tag.
    ///
    /// # Errors
    /// [`DerError`] when it has the tag and is broken.
    pub fn optional(&mut self, tag: u8, what: &'static str) -> Result<Option<Tlv<'a>>, DerError> {
        if self.peek() == Some(tag) {
            self.next(what).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Opens the next element, a SEQUENCE.
    ///
    /// # Errors
    /// [`DerError`] when it is none.
    pub fn sequence(&mut self, what: &'static str) -> Result<Self, DerError> {
        Ok(Self::new(self.expect(SEQUENCE, what)?.value))
    }

    /// All elements that are left.
    ///
    /// # Errors
    /// [`DerError`] when one is broken.
    pub fn all(mut self, what: &'static str) -> Result<Vec<Tlv<'a>>, DerError> {
        let mut out = Vec::new();
        while !self.is_empty() {
            out.push(self.next(what)?);
        }
        Ok(out)
    }

    /// Makes sure that nothing is left.
    ///
    /// # Errors
    /// [`DerError`] when something is.
    pub fn finish(self, what: &'static str) -> Result<(), DerError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(DerError(what))
        }
    }
}

/// Encodes one element around the concatenation of `parts`.
pub fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|p| p.len()).sum();
    let mut out = Vec::with_capacity(len + 6);
    out.push(tag);
    if len < 0x80 {
        out.push(u8::try_from(len).unwrap_or(0x7f));
    } else {
        let bytes = len.to_be_bytes();
        let significant: Vec<u8> = bytes.into_iter().skip_while(|b| *b == 0).collect();
        out.push(0x80 | u8::try_from(significant.len()).unwrap_or(8));
        out.extend_from_slice(&significant);
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// A SEQUENCE of already encoded elements.
pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, parts)
}

/// A SET OF with its elements in DER order (X.690 §11.6).
pub fn set_of(mut elements: Vec<Vec<u8>>) -> Vec<u8> {
    elements.sort();
    let parts: Vec<&[u8]> = elements.iter().map(Vec::as_slice).collect();
    tlv(SET, &parts)
}

/// An OBJECT IDENTIFIER from its dotted form.
///
/// # Errors
/// [`DerError`] when the text isn't one.
pub fn try_oid(dotted: &str) -> Result<Vec<u8>, DerError> {
    let oid = <ObjectIdentifier>::new(dotted).map_err(|_| DerError("object identifier"))?;
    oid.to_der().map_err(|_| DerError("object identifier"))
}

/// An OBJECT IDENTIFIER from a constant of this crate or of `core-types`, which are known to be well formed.
#[expect(
    clippy::expect_used,
    reason = "constants; every one of them is encoded by a unit test"
)]
pub(crate) fn oid(dotted: &'static str) -> Vec<u8> {
    try_oid(dotted).expect("a constant object identifier is well formed")
}

/// A non-negative INTEGER from its big-endian magnitude.
pub fn uint(magnitude: &[u8]) -> Vec<u8> {
    let start = magnitude
        .iter()
        .position(|b| *b != 0)
        .unwrap_or(magnitude.len());
    let significant = magnitude.get(start..).unwrap_or_default();
    match significant.first() {
        None => tlv(INTEGER, &[&[0]]),
        Some(first) if first & 0x80 != 0 => tlv(INTEGER, &[&[0], significant]),
        Some(_) => tlv(INTEGER, &[significant]),
    }
}

/// A BIT STRING without unused bits.
pub fn bits(octets: &[u8]) -> Vec<u8> {
    tlv(BIT_STRING, &[&[0], octets])
}

/// An OCTET STRING.
pub fn octets(octets: &[u8]) -> Vec<u8> {
    tlv(OCTET_STRING, &[octets])
}

/// GeneralizedTime in DER form: `YYYYMMDDHHMMSSZ`. Times before 1970 become 1970.
pub fn generalized_time(at: UnixTime) -> Vec<u8> {
    tlv(GENERALIZED_TIME, &[digits(at).as_bytes()])
}

/// Time as certificates, CRLs and `signingTime` want it: UTCTime until 2049, then GeneralizedTime (RFC 5280 §4.1.2.5).
pub fn time(at: UnixTime) -> Vec<u8> {
    let text = digits(at);
    if at.0 < 2_524_608_000 {
        tlv(UTC_TIME, &[text.get(2..).unwrap_or_default().as_bytes()])
    } else {
        tlv(GENERALIZED_TIME, &[text.as_bytes()])
    }
}

fn digits(at: UnixTime) -> String {
    let clamped = UnixTime(at.0.clamp(0, 253_402_300_799));
    clamped
        .rfc3339()
        .chars()
        .filter(|c| c.is_ascii_digit())
        .chain(['Z'])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_it_reads() {
        let inner = octets(&[7; 300]);
        let seq = sequence(&[&uint(&[0x80]), &inner, &oid(crate::oid::SIGNED_DATA)]);
        let mut walker = Tlv::single(&seq, "seq")
            .unwrap()
            .open(SEQUENCE, "seq")
            .unwrap();
        assert_eq!(walker.next("int").unwrap().as_uint("int").unwrap(), [0x80]);
        assert_eq!(walker.next("octets").unwrap().raw, inner);
        assert_eq!(
            walker.next("oid").unwrap().as_oid("oid").unwrap(),
            crate::oid::SIGNED_DATA
        );
        assert!(walker.is_empty());
    }

    #[test]
    fn refuses_what_is_not_der() {
        // indefinite length, long form of a short length, long tag, truncated, trailing
        for bad in [
            &[0x30, 0x80, 0, 0][..],
            &[4, 0x81, 1, 0],
            &[0x1f, 1, 0],
            &[4, 2, 0],
            &[5, 0, 0],
        ] {
            assert!(Tlv::single(bad, "bad").is_err(), "{bad:02x?}");
        }
        for bad in [&[2, 2, 0, 1][..], &[2, 1, 0x80], &[2, 0]] {
            assert!(
                Tlv::single(bad, "int")
                    .and_then(|t| t.as_uint("int").map(<[u8]>::len))
                    .is_err()
            );
        }
    }

    #[test]
    fn times_change_form_in_2050() {
        for (at, tag) in [
            (0, UTC_TIME),
            (2_524_607_999, UTC_TIME),
            (2_524_608_000, GENERALIZED_TIME),
        ] {
            let der = time(UnixTime(at));
            let tlv = Tlv::single(&der, "time").unwrap();
            assert_eq!((tlv.tag, tlv.as_time("time").unwrap()), (tag, UnixTime(at)));
        }
    }
}
