//! One of several devices: how it is, and what is told when that changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cm_api::rpc::MemberState;
use core_types::Level;

use super::{Awaited, Device};
use crate::backend::{Backend, Fault, NO_SUCH_KEY, NO_WRAPPING_KEY, SILENT};

/// A device.
pub(super) struct Member {
    /// Once it is open.
    backend: OnceLock<Arc<dyn Backend>>,
    /// What opens it, if it wasn't there at the start.
    awaited: Option<Box<dyn Awaited>>,
    state: Mutex<MemberState>,
    /// That it can't be used was told since the last look.
    away: AtomicBool,
    /// That it lacks a key that another one has was told since the last look.
    lacks: AtomicBool,
    /// That it is there and can't be taken in was told.
    refused: AtomicBool,
}

/// A device that is away or wants a person: nothing was made, and another one may be asked.
pub(super) fn elsewhere(fault: &Fault) -> bool {
    matches!(fault, Fault::Unavailable(_) | Fault::Locked(_))
}

/// It hasn't the key, which another one may have.
pub(super) fn lack(fault: &Fault) -> bool {
    *fault == NO_SUCH_KEY || *fault == NO_WRAPPING_KEY
}

/// The state after an answer; nothing when that says nothing about the device. Of one that is waited for no single answer
/// counts.
fn after(state: MemberState, answer: Result<(), &Fault>) -> Option<MemberState> {
    match (state, answer) {
        (MemberState::Out | MemberState::Awaited, _) => None,
        (_, Ok(())) => Some(MemberState::Well),
        (_, Err(Fault::Broken(_))) => Some(MemberState::Out),
        (_, Err(Fault::Unknown(_))) => Some(MemberState::Resting),
        (_, Err(fault)) if *fault == SILENT => Some(MemberState::Resting),
        (MemberState::Resting, Err(_)) | (_, Err(Fault::Unfit(_))) => None,
        (_, Err(Fault::Unavailable(_) | Fault::Locked(_))) => Some(MemberState::Away),
    }
}

impl Member {
    pub(super) fn new(device: Device) -> Self {
        let (backend, awaited, state) = match device {
            Device::There(backend) => (OnceLock::from(backend), None, MemberState::Well),
            Device::Away(awaited) => (OnceLock::new(), Some(awaited), MemberState::Awaited),
        };
        Self {
            backend,
            awaited,
            state: Mutex::new(state),
            away: AtomicBool::new(false),
            lacks: AtomicBool::new(false),
            refused: AtomicBool::new(false),
        }
    }

    fn locked(&self) -> MutexGuard<'_, MemberState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> MemberState {
        *self.locked()
    }

    pub(super) fn set(&self, state: MemberState) {
        *self.locked() = state;
    }

    /// The device, once it is open; also before it may be used.
    pub(super) fn backend(&self) -> Option<&dyn Backend> {
        self.backend.get().map(|backend| &**backend)
    }

    /// The device, if it may be used, as far as one knows: it is what it has to be.
    pub(super) fn in_use(&self) -> Option<&dyn Backend> {
        match self.state() {
            MemberState::Well | MemberState::Away | MemberState::Resting => self.backend(),
            MemberState::Out | MemberState::Awaited => None,
        }
    }

    pub(super) fn awaited(&self) -> Option<&dyn Awaited> {
        self.awaited.as_deref()
    }

    /// It has come.
    pub(super) fn opened(&self, backend: Arc<dyn Backend>) {
        drop(self.backend.set(backend));
    }

    /// Level of its keys. Of one that was never seen as it is declared, which may keep others down and lifts none.
    pub(super) fn ceiling(&self) -> Level {
        match (self.backend(), self.awaited()) {
            (Some(backend), _) => backend.ceiling(),
            (None, Some(awaited)) => awaited.declared().level,
            (None, None) => Level::One,
        }
    }

    /// The evaluation that its level rests on.
    pub(super) fn declaration(&self) -> Option<String> {
        match self.backend() {
            Some(backend) => backend.declaration(),
            None => self.awaited()?.declared().reference,
        }
    }

    /// Takes note of an answer; an alarm when the device leaves those that are well, once between two looks, or for good.
    pub(super) fn note(&self, answer: Result<(), &Fault>) -> Option<&'static str> {
        let mut state = self.locked();
        let next = after(*state, answer)?;
        let before = std::mem::replace(&mut *state, next);
        match (before, next) {
            (_, MemberState::Out) => Some("cm-device-out"),
            (MemberState::Well, MemberState::Away | MemberState::Resting) => {
                let told = self.away.swap(true, Ordering::SeqCst);
                (!told).then_some("cm-device-away")
            }
            _ => None,
        }
    }

    /// It lacks a key that another one has: an alarm, once between two looks.
    pub(super) fn lacks(&self) -> Option<&'static str> {
        let told = self.lacks.swap(true, Ordering::SeqCst);
        (!told).then_some("cm-device-lacks-key")
    }

    /// It is there, and not what it has to be: an alarm, once.
    pub(super) fn refused(&self) -> Option<&'static str> {
        let told = self.refused.swap(true, Ordering::SeqCst);
        (!told).then_some("cm-device-refused")
    }

    /// Asks a device that was left alone whether it does again what it has to; and tells anew that it fails, and what it lacks.
    pub(super) fn look(&self) -> Option<&'static str> {
        let backend = self.backend()?;
        backend.look();
        self.away.store(false, Ordering::SeqCst);
        self.lacks.store(false, Ordering::SeqCst);
        match self.state() {
            MemberState::Resting => self.note(backend.self_test().as_ref().copied()),
            MemberState::Well | MemberState::Away | MemberState::Out | MemberState::Awaited => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // shows: T-KEY-MALFUNCTION, III-3-13-secure-state
    #[test]
    fn who_does_not_answer_rests_until_it_does_and_who_is_faulty_never_comes_back() {
        use MemberState::{Awaited, Away, Out, Resting, Well};
        let (away, silent) = (Fault::Unavailable("away"), SILENT);
        let (unknown, broken) = (Fault::Unknown("late"), Fault::Broken("test"));
        let (pin, unfit) = (Fault::Locked("PIN"), NO_SUCH_KEY);
        for state in [Well, Away, Resting] {
            assert_eq!(after(state, Ok(())), Some(Well));
            assert_eq!(after(state, Err(&broken)), Some(Out));
            assert_eq!(after(state, Err(&unknown)), Some(Resting));
            assert_eq!(after(state, Err(&silent)), Some(Resting));
            assert_eq!(after(state, Err(&unfit)), None);
        }
        for fault in [&away, &pin] {
            assert_eq!(after(Well, Err(fault)), Some(Away));
            assert_eq!(after(Resting, Err(fault)), None, "still left alone");
        }
        for answer in [Ok(()), Err(&away), Err(&broken)] {
            assert_eq!(after(Out, answer), None);
            assert_eq!(after(Awaited, answer), None, "it has to prove itself");
        }
    }
}
