//! States of the module, and what brings it from one to another (`III-3-13-secure-state`).

use std::sync::{Mutex, PoisonError};

use cm_api::rpc::ModuleState;

use crate::backend::Fault;

/// What happened to the back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// It did what was asked.
    Well,
    /// It can't be used now, or gave no definite answer.
    Away,
    /// It wants a person.
    Locked,
    /// It isn't what it must be.
    Broken,
}

impl Report {
    /// What a fault says of the back end; nothing when it was the caller's doing.
    pub(crate) fn of(fault: &Fault) -> Option<Self> {
        match fault {
            Fault::Unfit(_) => None,
            Fault::Unavailable(_) | Fault::Unknown(_) => Some(Self::Away),
            Fault::Locked(_) => Some(Self::Locked),
            Fault::Broken(_) => Some(Self::Broken),
        }
    }
}

/// The successor of a state. *Error* is left by a restart only, *locked* by a restart or into *error*.
pub(crate) fn after(state: ModuleState, report: Report) -> ModuleState {
    use ModuleState::{Degraded, Disabled, Error, Locked, Operational};
    match (state, report) {
        // Kept apart from what the back end does.
        (Disabled, _) => Disabled,
        (Error, _) | (_, Report::Broken) => Error,
        (Locked, _) | (_, Report::Locked) => Locked,
        (Operational | Degraded, Report::Well) => Operational,
        (Operational | Degraded, Report::Away) => Degraded,
    }
}

/// The state of a running module.
#[derive(Debug)]
pub(crate) struct StateCell(Mutex<ModuleState>);

impl StateCell {
    pub(crate) fn operational() -> Self {
        Self(Mutex::new(ModuleState::Operational))
    }

    pub(crate) fn get(&self) -> ModuleState {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a report; answers the new state if it is another one.
    pub(crate) fn note(&self, report: Report) -> Option<ModuleState> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = after(*state, report);
        (std::mem::replace(&mut *state, next) != next).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [ModuleState; 4] = [
        ModuleState::Locked,
        ModuleState::Operational,
        ModuleState::Degraded,
        ModuleState::Error,
    ];

    // shows: III-3-13-secure-state
    #[test]
    fn error_is_never_left_and_locked_only_into_error() {
        for report in [Report::Well, Report::Away, Report::Locked, Report::Broken] {
            assert_eq!(after(ModuleState::Error, report), ModuleState::Error);
            let left = after(ModuleState::Locked, report);
            assert!(matches!(left, ModuleState::Locked | ModuleState::Error));
        }
        for state in STATES {
            assert_eq!(after(state, Report::Broken), ModuleState::Error);
        }
        let cell = StateCell::operational();
        assert_eq!(cell.note(Report::Well), None);
        assert_eq!(cell.note(Report::Away), Some(ModuleState::Degraded));
        assert_eq!(cell.note(Report::Away), None, "told once");
        assert_eq!(cell.note(Report::Well), Some(ModuleState::Operational));
    }
}
