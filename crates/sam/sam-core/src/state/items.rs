//! What became of each item of an act.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// State of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemState {
    /// Can be asked for.
    Free,
    /// An order for it was sent, or is about to be.
    Taken,
    /// Signed.
    Done,
    /// Nobody knows whether it was signed; it never will be again.
    Lost,
}

/// States of all items, one letter each in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Items(Vec<ItemState>);

impl Items {
    /// `n` free items.
    pub fn free(n: usize) -> Self {
        Self(vec![ItemState::Free; n])
    }

    /// State of an item; what isn't there is lost.
    pub fn get(&self, index: u32) -> ItemState {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        self.0.get(index).copied().unwrap_or(ItemState::Lost)
    }

    /// Sets the state of items.
    pub fn set(&mut self, indices: &[u32], state: ItemState) {
        for index in indices {
            if let Some(item) = usize::try_from(*index).ok().and_then(|i| self.0.get_mut(i)) {
                *item = state;
            }
        }
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no items, as in an enrolment.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether no item can be asked for any more.
    pub fn used_up(&self) -> bool {
        !self.0.contains(&ItemState::Free)
    }
}

impl Serialize for Items {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let letter = |item: &ItemState| match item {
            ItemState::Free => 'f',
            ItemState::Taken => 't',
            ItemState::Done => 'd',
            ItemState::Lost => 'l',
        };
        s.serialize_str(&self.0.iter().map(letter).collect::<String>())
    }
}

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let state = |letter| match letter {
            'f' => Ok(ItemState::Free),
            't' => Ok(ItemState::Taken),
            'd' => Ok(ItemState::Done),
            'l' => Ok(ItemState::Lost),
            _ => Err(serde::de::Error::custom("not a state of an item")),
        };
        text.chars().map(state).collect::<Result<_, _>>().map(Self)
    }
}
