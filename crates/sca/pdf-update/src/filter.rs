//! Decoding of the streams that the file's structure needs: Flate with PNG predictors (ISO 32000-2 §7.4.4).

use std::io::Read;

use crate::object::{Dict, Object};
use crate::{Error, Result};

/// Decodes `raw` after the filters of `dict` into at most `cap` bytes.
pub(crate) fn decode(dict: &Dict, raw: Vec<u8>, cap: usize) -> Result<Vec<u8>> {
    let filter = match dict.get("Filter") {
        Some(Object::Array(list)) if list.len() > 1 => {
            return Err(Error::Broken("an unusual filter"));
        }
        Some(Object::Array(list)) => list.first(),
        other => other,
    };
    let params = match dict.get("DecodeParms") {
        Some(Object::Array(list)) => list.first(),
        other => other,
    };
    match filter {
        None if raw.len() > cap => Err(Error::Limit("a stream is too large")),
        None => Ok(raw),
        Some(Object::Name(name)) if **name == *b"FlateDecode" || **name == *b"Fl" => {
            let predictor = Predictor::of(params.and_then(Object::as_dict))?;
            // Rows carry one tag byte each, so predicted data are larger before they are undone.
            let room = predictor
                .as_ref()
                .map_or(cap, |p| cap.saturating_add(cap / p.columns + 1));
            let data = inflate(&raw, room)?;
            match predictor {
                None => Ok(data),
                Some(p) => p.undo(data),
            }
        }
        Some(_) => Err(Error::Broken("an unusual filter")),
    }
}

fn inflate(raw: &[u8], cap: usize) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut reader = flate2::read::ZlibDecoder::new(raw).take(cap as u64 + 1);
    reader
        .read_to_end(&mut out)
        .map_err(|_| Error::Broken("compressed data are damaged"))?;
    if out.len() > cap {
        return Err(Error::Limit("compressed data expand too much"));
    }
    Ok(out)
}

struct Predictor {
    columns: usize,
}

impl Predictor {
    fn of(params: Option<&Dict>) -> Result<Option<Self>> {
        let int = |key: &str, default: i64| match params.and_then(|p| p.get(key)) {
            None => Ok(default),
            Some(Object::Int(n)) => Ok(*n),
            Some(_) => Err(Error::Broken("unusual decode parameters")),
        };
        match int("Predictor", 1)? {
            1 => Ok(None),
            10..=15 if int("Colors", 1)? == 1 && int("BitsPerComponent", 8)? == 8 => {
                match usize::try_from(int("Columns", 1)?) {
                    Ok(columns @ 1..=1024) => Ok(Some(Self { columns })),
                    _ => Err(Error::Broken("unusual decode parameters")),
                }
            }
            _ => Err(Error::Broken("unusual decode parameters")),
        }
    }

    /// Undoes the PNG row filters (W3C PNG §9) in place.
    fn undo(self, mut data: Vec<u8>) -> Result<Vec<u8>> {
        let width = self.columns;
        let rows = data.len() / (width + 1);
        for row in 0..rows {
            let tag = data[row * (width + 1)];
            for i in 0..width {
                let here = data[row * (width + 1) + 1 + i];
                let at = row * width + i;
                let left = if i > 0 { data[at - 1] } else { 0 };
                let up = if row > 0 { data[at - width] } else { 0 };
                let corner = if i > 0 && row > 0 {
                    data[at - width - 1]
                } else {
                    0
                };
                let predicted = match tag {
                    0 => 0,
                    1 => left,
                    2 => up,
                    3 => u8::midpoint(left, up),
                    4 => paeth(left, up, corner),
                    _ => return Err(Error::Broken("an unknown row filter")),
                };
                // The decoded byte never lies behind the encoded one, so one buffer is enough.
                data[at] = here.wrapping_add(predicted);
            }
        }
        data.truncate(rows * width);
        Ok(data)
    }
}

fn paeth(left: u8, up: u8, corner: u8) -> u8 {
    let estimate = i16::from(left) + i16::from(up) - i16::from(corner);
    let distance = |v: u8| (estimate - i16::from(v)).abs();
    if distance(left) <= distance(up) && distance(left) <= distance(corner) {
        left
    } else if distance(up) <= distance(corner) {
        up
    } else {
        corner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn png_rows_are_undone() {
        // One row of each filter type over the columns 10 20 30.
        let rows = [
            [0, 10, 20, 30], // none
            [1, 10, 10, 10], // sub: 10 20 30
            [2, 1, 1, 1],    // up: 11 21 31
            [3, 5, 5, 5],    // average: 10 20 30
            [4, 1, 1, 1],    // Paeth: 11 21 31
        ];
        let out = Predictor { columns: 3 }.undo(rows.concat()).unwrap();
        assert_eq!(
            out,
            [10, 20, 30, 10, 20, 30, 11, 21, 31, 10, 20, 30, 11, 21, 31]
        );
    }

    #[test]
    fn plain_data_are_capped_too() {
        assert!(matches!(
            decode(&Dict::new(), vec![0; 11], 10),
            Err(Error::Limit(_))
        ));
        assert_eq!(decode(&Dict::new(), vec![0; 10], 10).unwrap().len(), 10);
    }

    #[test]
    fn expansion_is_capped() {
        use std::io::Write;
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; 1_000_000]).unwrap();
        let bomb = encoder.finish().unwrap();
        assert!(bomb.len() < 2_000);
        let dict = Dict::new().with("Filter", Object::name("FlateDecode"));
        assert!(matches!(
            decode(&dict, bomb.clone(), 999_999),
            Err(Error::Limit(_))
        ));
        assert_eq!(decode(&dict, bomb, 1_000_000).unwrap().len(), 1_000_000);
    }
}
