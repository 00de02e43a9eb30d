//! What a world of the model is made of, and what can be taken out of it.

use std::collections::HashMap;

use core_types::Digest32;
use sam_core::ActState;

/// What is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Without {
    Nothing,
    /// The proof isn't asked for: anybody's approval is accepted.
    Proof,
    /// The items aren't taken before the order is sent.
    TakingFirst,
    /// The module executes an order as often as it comes.
    OrderOnce,
    /// An order leaves the names of the attempts before it free.
    EarlierAttempts,
    /// The module believes that an attempt follows one that signed nothing.
    SurelyNothing,
    /// The module remembers no items of an act that can be renewed.
    ItemOnce,
    /// The key isn't looked at when an act is spent.
    KeyCheck,
    /// The key isn't looked at again before a second attempt.
    KeyCheckAgain,
    /// A job found taken after a crash is ordered anew instead of given up.
    GivingUp,
    /// Values leave before they are stored.
    StoringFirst,
    /// A token stays good after it was renewed.
    OneToken,
    /// A late answer counts for whatever order is out now.
    OwnStep,
}

/// Act states by number, so that worlds are small, and what the decisions said of them.
pub(super) struct Acts {
    pub(super) list: Vec<ActState>,
    pub(super) numbers: HashMap<String, u16>,
    pub(super) said: HashMap<(u16, Ask), Option<(Said, u16)>>,
}

/// A decision that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Ask {
    Approve(u8),
    Bind(u8),
    Renew(u8),
    GiveUp(u8),
    Plan(u8, Digest32, u8),
    Lost(u8, u8),
    Done(u8, u8),
    Again(u8, u8),
}

/// What came of it, beside the next state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Go,
    Take,
    Over,
}

impl Acts {
    /// A decision, made once for each state it is asked of.
    pub(super) fn ask(
        &mut self,
        state: u16,
        ask: Ask,
        decide: impl FnOnce(&ActState) -> Option<(Said, ActState)>,
    ) -> Option<(Said, u16)> {
        if let Some(said) = self.said.get(&(state, ask)) {
            return *said;
        }
        let decided = decide(&self.list[usize::from(state)]);
        let said = decided.map(|(said, next)| (said, self.number(next)));
        self.said.insert((state, ask), said);
        said
    }

    pub(super) fn number(&mut self, state: ActState) -> u16 {
        let name = serde_json::to_string(&state).unwrap();
        if let Some(n) = self.numbers.get(&name) {
            return *n;
        }
        let n = u16::try_from(self.list.len()).unwrap();
        self.list.push(state);
        self.numbers.insert(name, n);
        n
    }
}

/// What a node is doing. Between two of these it may crash, and others may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Node {
    Idle,
    /// T1 is durable (or should be): the order goes out next. Bits of the items.
    Ordering {
        step: u8,
        attempt: u8,
        items: u8,
    },
    /// Values are in hand.
    Holding {
        step: u8,
        attempt: u8,
        items: u8,
    },
    /// The module said that it signed nothing.
    Refused {
        step: u8,
        attempt: u8,
        items: u8,
    },
    /// Nobody knows what became of the order, or it can't be given again.
    Unsure {
        step: u8,
        attempt: u8,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SamDb {
    pub(super) act: u16,
    /// 0 active, 1 stopped.
    pub(super) stopped: bool,
}

/// What the module remembers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct CmDb {
    /// Names that are taken, a bit for each step and attempt.
    pub(super) orders: u8,
    /// Those of them of which surely nothing came.
    pub(super) nothing: u8,
    /// Items of the act, if it can be renewed.
    pub(super) items: u8,
}

/// The bit of an order's name.
pub(super) fn name(step: u8, attempt: u8) -> u8 {
    1 << (step * 2 + attempt)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) time: u8,
    pub(super) sam: SamDb,
    pub(super) sam_copy: Option<SamDb>,
    pub(super) cm: CmDb,
    pub(super) nodes: [Node; 2],
    /// The person proved their will.
    pub(super) proved: bool,
    /// Values the module made, for each item.
    pub(super) made: [u8; 2],
    pub(super) sam_set_back: bool,
    pub(super) cm_set_back: bool,
    /// The first token was renewed.
    pub(super) renewed: bool,
    /// What went wrong, if anything.
    pub(super) broken: Option<&'static str>,
}

/// What the adversary may do in an exploration: all at once would be too many worlds to visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    /// Two nodes at once, crashing anywhere.
    TwoNodes,
    /// One node, crashing anywhere; either database set back, the SAM's to any moment without an order out, the
    /// module's to its beginning.
    SetBack {
        /// Whether the act can be renewed: then the module remembers its items, else its orders only.
        renewable: bool,
    },
}

pub(super) fn with(mut w: World, node: usize, doing: Node) -> World {
    w.nodes[node] = doing;
    w
}

pub(super) fn stored(w: World, act: u16) -> World {
    World {
        sam: SamDb { act, ..w.sam },
        ..w
    }
}
