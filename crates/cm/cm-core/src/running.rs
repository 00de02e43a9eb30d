//! Orders under way, for whoever has to wait until those that began before are over; new ones aren't held up meanwhile.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedRwLockReadGuard, RwLock};

/// All orders that began since somebody waited last hold the same lock for reading.
#[derive(Default)]
pub(crate) struct Running(Mutex<Arc<RwLock<()>>>);

impl Running {
    /// An order begins; it is over when this is dropped. Before, it must have read nothing.
    pub(crate) async fn begin(&self) -> OwnedRwLockReadGuard<()> {
        let since = self.since().clone();
        since.read_owned().await
    }

    /// Waits until all are over that began before.
    pub(crate) async fn over(&self) {
        let before = std::mem::take(&mut *self.since());
        drop(before.write().await);
    }

    fn since(&self) -> std::sync::MutexGuard<'_, Arc<RwLock<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn those_before_are_waited_for_and_those_after_are_not() {
        let running = Running::default();
        let begin = || running.begin().now_or_never().unwrap();
        running.over().now_or_never().unwrap();
        let (first, second) = (begin(), begin());
        let mut over = pin!(running.over());
        assert!(over.as_mut().now_or_never().is_none());
        let later = begin();
        drop(first);
        assert!(over.as_mut().now_or_never().is_none());
        drop(second);
        assert!(over.as_mut().now_or_never().is_some());
        drop(later);
    }
}
