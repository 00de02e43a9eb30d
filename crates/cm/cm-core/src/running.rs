//! Orders under way, for whoever has to wait until those that began before are over; new ones aren't held up meanwhile.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedRwLockReadGuard, RwLock};

/// All orders that began since somebody waited last hold the same lock for reading.
#[derive(Default)]
pub(crate) struct Running(Mutex<Arc<RwLock<()>>>);

impl Running {
    /// An order begins; it is over when this is dropped. Before, it must have read nothing.
    pub(crate) async fn begin(&self) -> OwnedRwLockReadGuard<()> {
        loop {
            let since = self.since().clone();
            let begun = since.clone().read_owned().await;
            // Otherwise somebody has waited for those before meanwhile, and nobody would wait for this one later.
            let current = self.since().clone();
            if Arc::ptr_eq(&since, &current) {
                return begun;
            }
        }
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

    #[test]
    fn an_order_that_begins_while_others_are_waited_for_is_waited_for_by_the_next() {
        let running = Running::default();
        // What `over` does between two steps of `begin`.
        let before = running.since().clone();
        let held = before.write_owned().now_or_never().unwrap();
        let mut begins = pin!(running.begin());
        assert!(begins.as_mut().now_or_never().is_none());
        drop(std::mem::take(&mut *running.since()));
        drop(held);
        let begun = begins.as_mut().now_or_never().unwrap();
        let mut over = pin!(running.over());
        assert!(over.as_mut().now_or_never().is_none());
        drop(begun);
        assert!(over.as_mut().now_or_never().is_some());
    }
}
