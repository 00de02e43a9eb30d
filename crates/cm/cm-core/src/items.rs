//! Which items of an act are spoken for: a bit each, so that what is remembered of an act stays small.

use cm_api::SignItem;
use core_types::B64;
use serde::{Deserialize, Serialize};

/// Most items in one act, and in one order; as in `sap.md` §4.
pub(crate) const MAX_ITEMS: usize = 10_000;

/// A set of items. At most [`MAX_ITEMS`] bits, the last byte never zero: one form for one set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "B64", into = "B64")]
pub struct Items(Vec<u8>);

impl Items {
    /// Those of an order. Nothing if there is none, one stands there twice, or is beyond the last that an act can have.
    pub(crate) fn of(items: &[SignItem]) -> Option<Self> {
        let mut bits = vec![0_u8; MAX_ITEMS.div_ceil(8)];
        for item in items {
            let i = usize::try_from(item.i).ok().filter(|i| *i < MAX_ITEMS)?;
            let (byte, bit) = (bits.get_mut(i / 8)?, 1 << (i % 8));
            if *byte & bit != 0 {
                return None;
            }
            *byte |= bit;
        }
        let set = Self(bits).trimmed();
        (!set.0.is_empty()).then_some(set)
    }

    /// With these too; nothing if one of them is there already.
    pub(crate) fn with(&self, more: &Self) -> Option<Self> {
        let (long, short) = if self.0.len() > more.0.len() {
            (self, more)
        } else {
            (more, self)
        };
        let mut out = long.clone();
        for (byte, bits) in out.0.iter_mut().zip(&short.0) {
            if *byte & bits != 0 {
                return None;
            }
            *byte |= bits;
        }
        Some(out)
    }

    /// Without these.
    pub(crate) fn without(&self, less: &Self) -> Self {
        let mut out = self.clone();
        for (byte, bits) in out.0.iter_mut().zip(&less.0) {
            *byte &= !bits;
        }
        out.trimmed()
    }

    /// How many.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|b| u64::from(b.count_ones())).sum()
    }

    fn trimmed(mut self) -> Self {
        let last = self.0.iter().rposition(|b| *b != 0);
        self.0.truncate(last.map_or(0, |at| at + 1));
        self
    }
}

impl From<Items> for B64 {
    fn from(items: Items) -> Self {
        Self(items.0)
    }
}

impl TryFrom<B64> for Items {
    type Error = &'static str;

    fn try_from(bytes: B64) -> Result<Self, &'static str> {
        if bytes.0.len() > MAX_ITEMS.div_ceil(8) || bytes.0.last() == Some(&0) {
            return Err("not a set of items");
        }
        Ok(Self(bytes.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(of: &[u32]) -> Option<Items> {
        let items: Vec<_> = of.iter().map(|i| SignItem::digest(*i, [0; 32])).collect();
        Items::of(&items)
    }

    #[test]
    fn an_item_is_in_a_set_once() {
        let some = set(&[9_999, 3, 8]).unwrap();
        assert_eq!(some.count(), 3);
        assert_eq!(some.with(&set(&[4, 8]).unwrap()), None);
        let more = some.with(&set(&[4]).unwrap()).unwrap();
        assert_eq!(more, set(&[3, 4, 8, 9_999]).unwrap());
        assert_eq!(set(&[4]).unwrap().with(&some), Some(more.clone()));
        let back = more.without(&set(&[4, 9_999]).unwrap());
        assert_eq!(back, set(&[8, 3]).unwrap());
        assert_eq!(back.without(&back), Items::default());
        for wrong in [&[][..], &[1, 2, 1], &[10_000], &[u32::MAX]] {
            assert_eq!(set(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn it_has_one_form_and_stays_small() {
        let all: Vec<u32> = (0..10_000).collect();
        let json = serde_json::to_string(&set(&all).unwrap()).unwrap();
        assert_eq!(json.len(), 1_669);
        let read = |text: &str| serde_json::from_str::<Items>(text).ok();
        assert_eq!(read(&json), set(&all));
        assert_eq!(read(r#""AQ""#), set(&[0]));
        assert_eq!(read(r#""AQA""#), None, "a byte of zeros at the end");
        let long = serde_json::to_string(&B64(vec![1; 1_251])).unwrap();
        assert_eq!(read(&long), None);
    }
}
