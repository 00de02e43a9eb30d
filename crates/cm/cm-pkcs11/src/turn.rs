//! Who may still act for a call: the thread that makes it, or the one that waits and gives it up. What was given up
//! before a value was begun never begins one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use cm_core::backend::Fault;

use crate::fault::Failure;

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    /// Somebody waits, and no value can exist.
    #[default]
    Waiting,
    /// Somebody waits, and a value may exist.
    Making,
    /// Nobody waits, and no value exists or will.
    Abandoned,
    /// Nobody waits, and a value may exist.
    Lost,
}

/// The turn of one call.
#[derive(Debug, Default)]
pub(crate) struct Turn(Mutex<Stage>);

impl Turn {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be won just before whatever makes a value.
    ///
    /// # Errors
    /// [`Failure`] without a cure: nobody waits any more.
    pub(crate) fn begin(&self) -> Result<(), Failure> {
        let mut stage = self.stage();
        match *stage {
            Stage::Waiting | Stage::Making => {
                *stage = Stage::Making;
                Ok(())
            }
            Stage::Abandoned | Stage::Lost => Err(Failure::plain(Fault::Unavailable(
                "a call that was given up",
            ))),
        }
    }

    /// What was begun made nothing, for certain.
    pub(crate) fn made_nothing(&self) {
        let mut stage = self.stage();
        if *stage == Stage::Making {
            *stage = Stage::Waiting;
        }
    }

    /// Nobody waits any more. Answers whether it is certain that nothing was or will be made.
    pub(crate) fn give_up(&self) -> bool {
        let mut stage = self.stage();
        *stage = match *stage {
            Stage::Waiting | Stage::Abandoned => Stage::Abandoned,
            Stage::Making | Stage::Lost => Stage::Lost,
        };
        *stage == Stage::Abandoned
    }

    /// Whether somebody still waits.
    pub(crate) fn awaited(&self) -> bool {
        matches!(*self.stage(), Stage::Waiting | Stage::Making)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // shows: T-KEY-MALFUNCTION, T-KEY-ABUSE
    #[test]
    fn who_gives_up_first_has_it_in_writing_that_nothing_is_made() {
        let turn = Turn::default();
        assert!(turn.awaited() && turn.give_up() && !turn.awaited());
        assert!(turn.begin().is_err(), "a late call makes nothing");
        assert!(turn.give_up(), "and that stays so");

        let turn = Turn::default();
        turn.begin().unwrap();
        assert!(!turn.give_up(), "a value may exist");
        turn.made_nothing();
        assert!(turn.begin().is_err() && !turn.give_up());

        let turn = Turn::default();
        turn.begin().unwrap();
        turn.made_nothing();
        assert!(turn.give_up(), "it is certain again");
    }
}
