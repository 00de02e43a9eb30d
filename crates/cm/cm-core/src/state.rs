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

/// The successor of a state. No report ends *error* ([`StateCell::recovered`]), nor does a restart where it is kept; *locked* is left by a
/// restart or into *error*.
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
    /// How often what was found outlasts this process.
    lasting: u64,
    /// The error that an earlier process found, as long as this one has found none.
    held: Option<String>,
    /// Whether the store has an error of this node that nobody has ended.
    kept: Kept,
    /// Only a restart helps.
    for_good: bool,
    /// Of the state *error*: when the tests passed since it was last reported.
    tested: Option<UnixTime>,
}

/// What outlasts this process ([`crate::kept`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// Nothing.
    No,
    /// An error that isn't written yet.
    Unwritten,
    /// An error, which is written.
    Written,
}

/// What was found wrong until now, for [`StateCell::recovered`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errors {
    all: u64,
    lasting: u64,
}

impl Inner {
    fn errors(&self) -> Errors {
        Errors {
            all: self.errors,
            lasting: self.lasting,
        }
    }

    fn error(&self) -> Option<String> {
        match (self.state, &self.held) {
            (ModuleState::Error, Some(held)) if self.errors == 0 => Some(held.clone()),
            (ModuleState::Error, _) => Some(format!("{}/{}", self.process, self.errors)),
            _ => None,
        }
    }
}

impl StateCell {
    /// A node that starts at `now`; `held`: in this error, which an earlier process found and nobody has ended.
    pub(crate) fn begin(node: &str, now: UnixTime, held: Option<String>) -> Self {
        let (state, kept) = match held {
            Some(_) => (ModuleState::Error, Kept::Written),
            None => (ModuleState::Operational, Kept::No),
        };
        Self(Mutex::new(Inner {
            process: format!("{node}/{}", now.0),
            state,
            errors: 0,
            lasting: 0,
            held,
            kept,
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

    /// What was found outlasts this process, unless an error of it does already.
    pub(crate) fn keep(&self) {
        let mut inner = self.inner();
        inner.lasting += 1;
        if inner.kept == Kept::No {
            inner.kept = Kept::Unwritten;
        }
    }

    /// Names the error that is still to be written.
    pub(crate) fn unwritten(&self) -> Option<String> {
        let inner = self.inner();
        let unwritten = inner.kept == Kept::Unwritten;
        unwritten.then(|| inner.error()).flatten()
    }

    /// It is written.
    pub(crate) fn written(&self) {
        self.inner().kept = Kept::Written;
    }

    /// The store has no error of this node any more: what is found from now on has to be written.
    pub(crate) fn unkept(&self) {
        let mut inner = self.inner();
        if inner.kept == Kept::Written {
            inner.kept = Kept::No;
        }
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
        may.then_some(inner.errors())
    }

    /// Whether nothing was found wrong since.
    pub(crate) fn still(&self, seen: Errors) -> bool {
        let inner = self.inner();
        inner.errors() == seen && !inner.for_good
    }

    /// The way out of *error*, unless something was found wrong since. `ended`: what was kept is over by what is written, so that what was
    /// found since has to be written anew, if it outlasts this process.
    pub(crate) fn recovered(&self, seen: Errors, ended: bool) -> bool {
        let mut inner = self.inner();
        let good = inner.errors() == seen && !inner.for_good;
        if good && inner.state == ModuleState::Error {
            inner.state = ModuleState::Operational;
            (inner.tested, inner.held, inner.kept) = (None, None, Kept::No);
        } else if !good && ended {
            inner.kept = match inner.lasting == seen.lasting {
                true => Kept::No,
                false => Kept::Unwritten,
            };
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
        let cell = StateCell::begin("n", UnixTime(1), None);
        assert_eq!(cell.note(Report::Well), None);
        assert_eq!(cell.note(Report::Away), Some(ModuleState::Degraded));
        assert_eq!(cell.note(Report::Away), None, "told once");
        assert_eq!(cell.note(Report::Well), Some(ModuleState::Operational));
    }

    // shows: III-3-13-secure-state
    #[test]
    fn error_is_left_after_a_test_and_not_past_what_was_found_since() {
        let (cell, now) = (StateCell::begin("n", UnixTime(1), None), UnixTime(7));
        cell.passed(now);
        assert_eq!((may(&cell), cell.tested()), (None, None), "no error");
        cell.note(Report::Broken);
        assert_eq!(may(&cell), None, "not tested");
        cell.passed(now);
        let seen = may(&cell).unwrap();
        cell.note(Report::Broken);
        assert!(!cell.recovered(seen, true) && cell.get() == ModuleState::Error);
        assert_eq!(may(&cell), None, "to be tested again");
        cell.passed(now);
        assert!(cell.recovered(may(&cell).unwrap(), true));
        assert_eq!(cell.get(), ModuleState::Operational);
        cell.note(Report::Broken);
        cell.passed(now);
        let seen = may(&cell).unwrap();
        cell.for_good();
        assert!(may(&cell).is_none() && !cell.recovered(seen, true));
    }

    #[test]
    fn an_approval_is_for_one_error_of_one_process() {
        let broken = |node, start| {
            let cell = StateCell::begin(node, UnixTime(start), None);
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

    // shows: III-3-13-secure-state
    #[test]
    fn an_error_of_an_earlier_process_is_this_ones_until_it_is_ended() {
        let now = UnixTime(7);
        let cell = StateCell::begin("n", UnixTime(2), Some("n/1/3".into()));
        assert_eq!(cell.get(), ModuleState::Error);
        assert_eq!(cell.error().as_deref(), Some("n/1/3"));
        cell.keep();
        assert_eq!(cell.unwritten(), None, "it is kept already");
        assert_eq!(may(&cell), None, "not tested");
        cell.passed(now);
        let seen = may(&cell).unwrap();
        cell.note(Report::Broken);
        cell.keep();
        assert_eq!(cell.error().as_deref(), Some("n/2/1"));
        // Its end isn't written then: it is still kept.
        assert!(!cell.still(seen) && !cell.recovered(seen, false));
        assert_eq!(cell.unwritten(), None);
        // Or it is by then: what was found since has to be written anew.
        assert!(!cell.recovered(seen, true));
        assert_eq!(cell.unwritten().as_deref(), Some("n/2/1"));
        cell.written();
        cell.passed(now);
        assert!(cell.recovered(may(&cell).unwrap(), true));
        assert_eq!((cell.get(), cell.error()), (ModuleState::Operational, None));
        cell.note(Report::Broken);
        assert_eq!(cell.unwritten(), None, "nobody said that it outlasts");
        cell.keep();
        assert_eq!(cell.unwritten().as_deref(), Some("n/2/2"));
    }

    // shows: III-3-13-secure-state
    #[test]
    fn what_only_a_restart_helps_with_is_not_kept_when_the_error_before_it_ends() {
        let cell = StateCell::begin("n", UnixTime(2), Some("n/1/3".into()));
        cell.passed(UnixTime(7));
        let seen = may(&cell).unwrap();
        cell.note(Report::Broken);
        cell.for_good();
        assert!(!cell.recovered(seen, true));
        assert_eq!(cell.unwritten(), None);
        // What outlasts, found after that, is written.
        cell.keep();
        assert!(cell.unwritten().is_some());
        cell.written();
        cell.unkept();
        assert_eq!(cell.unwritten(), None);
        cell.keep();
        assert!(cell.unwritten().is_some(), "somebody ended what was kept");
    }
}
