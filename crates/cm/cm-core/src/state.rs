//! States of the module, and what brings it from one to another (`III-3-13-secure-state`).

use std::sync::{Mutex, MutexGuard, PoisonError};

use cm_api::rpc::ModuleState;
use core_types::UnixTime;

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

/// The successor of a state. No report ends *error* ([`StateCell::recovered`]); *locked* is left by a restart or into *error*.
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
pub(crate) struct StateCell(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    /// Node and start: counts of errors are those of this process.
    process: String,
    state: ModuleState,
    /// How often something was found that belongs into the state *error*.
    errors: u64,
    /// Only a restart helps.
    for_good: bool,
    /// Of the state *error*: when the tests passed since it was last reported.
    tested: Option<UnixTime>,
}

/// What was found wrong until now, for [`StateCell::recovered`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errors(u64);

impl Inner {
    fn error(&self) -> Option<String> {
        let error = self.state == ModuleState::Error;
        error.then(|| format!("{}/{}", self.process, self.errors))
    }
}

impl StateCell {
    /// A node that starts at `now`.
    pub(crate) fn operational(node: &str, now: UnixTime) -> Self {
        Self(Mutex::new(Inner {
            process: format!("{node}/{}", now.0),
            state: ModuleState::Operational,
            errors: 0,
            for_good: false,
            tested: None,
        }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self) -> ModuleState {
        self.inner().state
    }

    /// Notes a report; answers the new state if it is another one.
    pub(crate) fn note(&self, report: Report) -> Option<ModuleState> {
        let mut inner = self.inner();
        if report == Report::Broken {
            inner.errors += 1;
            inner.tested = None;
        }
        let next = after(inner.state, report);
        (std::mem::replace(&mut inner.state, next) != next).then_some(next)
    }

    /// Only a restart ends the state *error* from now on.
    pub(crate) fn for_good(&self) {
        self.inner().for_good = true;
    }

    /// The tests passed, in whatever state.
    pub(crate) fn passed(&self, now: UnixTime) {
        let mut inner = self.inner();
        inner.tested = (inner.state == ModuleState::Error).then_some(now);
    }

    /// When they passed in the state *error*.
    pub(crate) fn tested(&self) -> Option<UnixTime> {
        self.inner().tested
    }

    /// Names the error that the module is in.
    pub(crate) fn error(&self) -> Option<String> {
        self.inner().error()
    }

    /// Whether officers may let it go on: in the state *error*, this one, tested since, and no matter for a restart.
    pub(crate) fn may_recover(&self, error: Option<&str>) -> Option<Errors> {
        let inner = self.inner();
        let may = inner.error().is_some_and(|own| Some(own.as_str()) == error)
            && inner.tested.is_some()
            && !inner.for_good;
        may.then_some(Errors(inner.errors))
    }

    /// The way out of *error*, unless something was found wrong since.
    pub(crate) fn recovered(&self, seen: Errors) -> bool {
        let mut inner = self.inner();
        let good = Errors(inner.errors) == seen && !inner.for_good;
        if good && inner.state == ModuleState::Error {
            inner.state = ModuleState::Operational;
            inner.tested = None;
        }
        good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By officers who see the error as it is.
    fn may(cell: &StateCell) -> Option<Errors> {
        cell.may_recover(cell.error().as_deref())
    }

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
        let cell = StateCell::operational("n", UnixTime(1));
        assert_eq!(cell.note(Report::Well), None);
        assert_eq!(cell.note(Report::Away), Some(ModuleState::Degraded));
        assert_eq!(cell.note(Report::Away), None, "told once");
        assert_eq!(cell.note(Report::Well), Some(ModuleState::Operational));
    }

    // shows: III-3-13-secure-state
    #[test]
    fn error_is_left_after_a_test_and_not_past_what_was_found_since() {
        let (cell, now) = (StateCell::operational("n", UnixTime(1)), UnixTime(7));
        cell.passed(now);
        assert_eq!((may(&cell), cell.tested()), (None, None), "no error");
        cell.note(Report::Broken);
        assert_eq!(may(&cell), None, "not tested");
        cell.passed(now);
        let seen = may(&cell).unwrap();
        cell.note(Report::Broken);
        assert!(!cell.recovered(seen) && cell.get() == ModuleState::Error);
        assert_eq!(may(&cell), None, "to be tested again");
        cell.passed(now);
        assert!(cell.recovered(may(&cell).unwrap()));
        assert_eq!(cell.get(), ModuleState::Operational);
        cell.note(Report::Broken);
        cell.passed(now);
        let seen = may(&cell).unwrap();
        cell.for_good();
        assert!(may(&cell).is_none() && !cell.recovered(seen));
    }

    #[test]
    fn an_approval_is_for_one_error_of_one_process() {
        let broken = |node, start| {
            let cell = StateCell::operational(node, UnixTime(start));
            assert_eq!(cell.error(), None);
            cell.note(Report::Broken);
            cell.passed(UnixTime(7));
            cell
        };
        let cell = broken("n", 1);
        let seen = cell.error();
        assert!(cell.may_recover(seen.as_deref()).is_some());
        assert!(cell.may_recover(None).is_none());
        for other in [broken("m", 1), broken("n", 2)] {
            assert!(other.may_recover(seen.as_deref()).is_none());
        }
        cell.note(Report::Broken);
        cell.passed(UnixTime(8));
        assert!(cell.may_recover(seen.as_deref()).is_none(), "a later one");
    }
}
