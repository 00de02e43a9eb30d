//! A reader for the part of CBOR (RFC 8949) that WebAuthn uses: definite lengths, shortest form, no tags, no floats.

/// Deepest nesting that is read.
const MAX_DEPTH: u8 = 6;
/// Most members of a map: keys are compared each with each, and no map of WebAuthn has a third of it.
const MAX_MEMBERS: usize = 64;

/// A CBOR item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cbor {
    /// Unsigned or negative integer.
    Int(i64),
    /// Byte string.
    Bytes(Vec<u8>),
    /// Text string.
    Text(String),
    /// Array.
    List(Vec<Cbor>),
    /// Map in the order written; keys are all different.
    Map(Vec<(Cbor, Cbor)>),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
}

/// Not in the accepted part of CBOR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not in the accepted part of CBOR")]
pub struct BadCbor;

impl Cbor {
    /// Reads one item from the start of `bytes` and returns it with what follows.
    ///
    /// # Errors
    /// [`BadCbor`].
    pub fn read(bytes: &[u8]) -> Result<(Self, &[u8]), BadCbor> {
        let mut reader = Reader { rest: bytes };
        let item = reader.item(MAX_DEPTH)?;
        Ok((item, reader.rest))
    }

    /// Reads one item that fills `bytes`.
    ///
    /// # Errors
    /// [`BadCbor`], also when something follows.
    pub fn read_whole(bytes: &[u8]) -> Result<Self, BadCbor> {
        match Self::read(bytes)? {
            (item, []) => Ok(item),
            _ => Err(BadCbor),
        }
    }

    /// The members of a map.
    pub fn map(&self) -> Option<&[(Cbor, Cbor)]> {
        match self {
            Self::Map(members) => Some(members),
            _ => None,
        }
    }

    /// The bytes of a byte string.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The member of a map with this text key.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.find(|k| matches!(k, Self::Text(t) if t == name))
    }

    /// The member of a map with this integer key.
    pub fn get_int(&self, label: i64) -> Option<&Self> {
        self.find(|k| *k == Self::Int(label))
    }

    fn find(&self, wanted: impl Fn(&Self) -> bool) -> Option<&Self> {
        self.map()?.iter().find(|(k, _)| wanted(k)).map(|(_, v)| v)
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], BadCbor> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(BadCbor)?;
        self.rest = rest;
        Ok(head)
    }

    fn argument(&mut self, info: u8) -> Result<u64, BadCbor> {
        let (value, least) = match info {
            0..=23 => return Ok(u64::from(info)),
            24 => (u64::from(self.take(1)?[0]), 24),
            25 => (self.number(2)?, 1 << 8),
            26 => (self.number(4)?, 1 << 16),
            27 => (self.number(8)?, 1 << 32),
            _ => return Err(BadCbor),
        };
        // A longer form than needed would let one value be written in two ways.
        if value < least {
            Err(BadCbor)
        } else {
            Ok(value)
        }
    }

    fn number(&mut self, n: usize) -> Result<u64, BadCbor> {
        Ok(self
            .take(n)?
            .iter()
            .fold(0, |acc, b| (acc << 8) | u64::from(*b)))
    }

    fn length(&mut self, info: u8) -> Result<usize, BadCbor> {
        let n = usize::try_from(self.argument(info)?).map_err(|_| BadCbor)?;
        // Every element takes at least a byte: refuses lengths that would only reserve memory.
        if n > self.rest.len() {
            Err(BadCbor)
        } else {
            Ok(n)
        }
    }

    fn item(&mut self, depth: u8) -> Result<Cbor, BadCbor> {
        let depth = depth.checked_sub(1).ok_or(BadCbor)?;
        let first = self.take(1)?[0];
        let info = first & 0x1f;
        match first >> 5 {
            0 => Ok(Cbor::Int(
                i64::try_from(self.argument(info)?).map_err(|_| BadCbor)?,
            )),
            1 => {
                let n = i64::try_from(self.argument(info)?).map_err(|_| BadCbor)?;
                Ok(Cbor::Int(-1 - n))
            }
            2 => {
                let n = self.length(info)?;
                Ok(Cbor::Bytes(self.take(n)?.to_vec()))
            }
            3 => {
                let n = self.length(info)?;
                let text = std::str::from_utf8(self.take(n)?).map_err(|_| BadCbor)?;
                Ok(Cbor::Text(text.to_owned()))
            }
            4 => {
                let n = self.length(info)?;
                (0..n)
                    .map(|_| self.item(depth))
                    .collect::<Result<_, _>>()
                    .map(Cbor::List)
            }
            5 => self.map(info, depth),
            7 => match info {
                20 => Ok(Cbor::Bool(false)),
                21 => Ok(Cbor::Bool(true)),
                22 => Ok(Cbor::Null),
                _ => Err(BadCbor),
            },
            _ => Err(BadCbor),
        }
    }

    fn map(&mut self, info: u8, depth: u8) -> Result<Cbor, BadCbor> {
        let n = self.length(info)?;
        if n > MAX_MEMBERS {
            return Err(BadCbor);
        }
        let mut members: Vec<(Cbor, Cbor)> = Vec::new();
        for _ in 0..n {
            let key = self.item(depth)?;
            if !matches!(key, Cbor::Int(_) | Cbor::Text(_))
                || members.iter().any(|(k, _)| *k == key)
            {
                return Err(BadCbor);
            }
            members.push((key, self.item(depth)?));
        }
        Ok(Cbor::Map(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_webauthn_uses() {
        let bytes = [0xa2, 0x01, 0x26, 0x61, b'a', 0x82, 0x41, 7, 0xf5];
        let item = Cbor::read_whole(&bytes).unwrap();
        assert_eq!(item.get_int(1), Some(&Cbor::Int(-7)));
        let list = Cbor::List(vec![Cbor::Bytes(vec![7]), Cbor::Bool(true)]);
        assert_eq!(item.get("a"), Some(&list));
    }

    #[test]
    fn a_map_has_a_few_members() {
        let map = |n: u8| {
            let mut bytes = vec![0xb8, n];
            bytes.extend((0..n).flat_map(|key| [0x19, 1, key, 0xf6]));
            bytes
        };
        assert!(Cbor::read_whole(&map(64)).is_ok());
        assert_eq!(Cbor::read_whole(&map(65)), Err(BadCbor));
    }

    #[test]
    fn refuses_the_rest() {
        for bad in [
            &[0x18, 0x17][..],                        // 23 in two bytes
            &[0x5f, 0x41, 1, 0xff],                   // indefinite length
            &[0xa2, 0x01, 0x01, 0x01, 0x02],          // doubled key
            &[0xc0, 0x01],                            // tag
            &[0xfa, 0, 0, 0, 0],                      // float
            &[0x9a, 0xff, 0xff, 0xff, 0xff],          // longer than the input
            &[0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 1], // too deep
            &[0x01, 0x01],                            // trailing
            &[],
        ] {
            assert!(Cbor::read_whole(bad).is_err(), "{bad:02x?}");
        }
    }
}
