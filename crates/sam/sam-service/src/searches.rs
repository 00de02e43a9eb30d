//! How many searches for a signature value are under way: each reads much, and a client can ask for what never was.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use core_types::ClientId;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Searches at once, of all clients together.
const AT_ONCE: usize = 4;
/// Searches of one client, with those that wait.
const OF_A_CLIENT: usize = 4;

/// The searches under way.
#[derive(Debug)]
pub(crate) struct Searches {
    all: Semaphore,
    by: Mutex<BTreeMap<ClientId, usize>>,
}

impl Default for Searches {
    fn default() -> Self {
        Self {
            all: Semaphore::new(AT_ONCE),
            by: Mutex::default(),
        }
    }
}

/// A search that may go on while this is held.
#[derive(Debug)]
pub(crate) struct Search<'s> {
    _place: Place<'s>,
    _permit: SemaphorePermit<'s>,
}

#[derive(Debug)]
struct Place<'s>(&'s Searches, ClientId);

impl Searches {
    /// A client's next search, which may wait for those of others; nothing while it has as many as it may.
    pub(crate) async fn begin(&self, client: &ClientId) -> Option<Search<'_>> {
        let place = self.place(client)?;
        let permit = self.all.acquire().await.ok()?;
        Some(Search {
            _place: place,
            _permit: permit,
        })
    }

    fn place(&self, client: &ClientId) -> Option<Place<'_>> {
        let mut by = self.by();
        let count = by.entry(client.clone()).or_default();
        if *count >= OF_A_CLIENT {
            return None;
        }
        *count += 1;
        Some(Place(self, client.clone()))
    }

    fn by(&self) -> MutexGuard<'_, BTreeMap<ClientId, usize>> {
        self.by.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut by = self.0.by();
        if let Some(count) = by.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                by.remove(&self.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_searches_much_holds_up_no_other_for_long() {
        let searches = Searches::default();
        let client = |name: &str| ClientId::parse(name).unwrap();
        let (one, other) = (client("one"), client("other"));
        let mut held = Vec::new();
        for _ in 0..OF_A_CLIENT {
            held.push(searches.begin(&one).await.unwrap());
        }
        assert!(
            searches.begin(&one).await.is_none(),
            "no more of one client"
        );
        // Another one waits, and its turn comes with the first that ends.
        let mut next = Box::pin(searches.begin(&other));
        let waits = std::future::poll_fn(|cx| std::task::Poll::Ready(next.as_mut().poll(cx)));
        assert!(waits.await.is_pending());
        held.pop();
        assert!(next.await.is_some());
        // Who gives up waiting takes no place with it.
        held.push(searches.begin(&one).await.unwrap());
        let mut waiting = Box::pin(searches.begin(&other));
        let waits = std::future::poll_fn(|cx| std::task::Poll::Ready(waiting.as_mut().poll(cx)));
        assert!(waits.await.is_pending());
        drop(waiting);
        drop(held);
        assert!(searches.by().is_empty());
        assert_eq!(searches.all.available_permits(), AT_ONCE);
    }
}
