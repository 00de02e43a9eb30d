//! Room for what is under way: so much in all, and so much of it for one caller, so that nobody leaves none to others.

use std::collections::HashMap;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

/// How much there is, and who has it. Units are the maker's: calls, connections, bytes.
#[derive(Debug)]
pub struct Rooms<K> {
    all: u64,
    each: u64,
    taken: Mutex<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    all: u64,
    by_caller: HashMap<K, u64>,
}

/// What a caller has of it, until it is dropped.
#[derive(Debug)]
pub struct Room<K: Eq + Hash> {
    rooms: Arc<Rooms<K>>,
    caller: K,
    n: u64,
}

/// There was no room left.
#[derive(Debug, thiserror::Error)]
#[error("too much is under way")]
struct NoRoom;

/// Whether a body couldn't be read because [`Rooms::weigh`] had no room for it: there may be some later. Else it was too long,
/// or broken off.
pub fn is_no_room(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(one) = cause {
        if one.is::<NoRoom>() {
            return true;
        }
        cause = one.source();
    }
    false
}

impl<K: Eq + Hash + Clone> Rooms<K> {
    /// Room for so many in all, and for so many of one caller.
    pub fn new(all: u64, each: u64) -> Arc<Self> {
        let taken = Taken {
            all: 0,
            by_caller: HashMap::new(),
        };
        Arc::new(Self {
            all,
            each,
            taken: Mutex::new(taken),
        })
    }

    /// Room for `n` of this caller; `None` when there isn't as much.
    pub fn enter(self: &Arc<Self>, caller: K, n: u64) -> Option<Room<K>> {
        let mut room = Room {
            rooms: self.clone(),
            caller,
            n: 0,
        };
        room.grow(n).then_some(room)
    }
}

impl<K: Eq + Hash + Clone + Send + Unpin + 'static> Rooms<K> {
    /// A request's body whose bytes take room of this caller until it was read to its end or is dropped; it ends early when
    /// there is none.
    pub fn weigh(self: &Arc<Self>, caller: K, body: Body) -> Body {
        match self.enter(caller, 0) {
            Some(room) if !body.is_end_stream() => Body::new(Weighed { body, room }),
            _ => body,
        }
    }
}

impl<K: Eq + Hash + Clone> Room<K> {
    /// Takes `n` more; `false`, and nothing is taken, when there isn't as much.
    pub fn grow(&mut self, n: u64) -> bool {
        if n == 0 {
            return true;
        }
        let mut taken = self
            .rooms
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let own = taken.by_caller.get(&self.caller).copied().unwrap_or(0);
        let (Some(all), Some(own)) = (taken.all.checked_add(n), own.checked_add(n)) else {
            return false;
        };
        if all > self.rooms.all || own > self.rooms.each {
            return false;
        }
        taken.all = all;
        taken.by_caller.insert(self.caller.clone(), own);
        self.n += n;
        true
    }
}

impl<K: Eq + Hash> Drop for Room<K> {
    fn drop(&mut self) {
        if self.n == 0 {
            return;
        }
        let mut taken = self
            .rooms
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        taken.all -= self.n;
        if let Some(own) = taken.by_caller.get_mut(&self.caller) {
            *own -= self.n;
            if *own == 0 {
                taken.by_caller.remove(&self.caller);
            }
        }
    }
}

struct Weighed<K: Eq + Hash> {
    body: Body,
    room: Room<K>,
}

impl<K: Eq + Hash + Clone + Unpin> HttpBody for Weighed<K> {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && !self.room.grow(data.len() as u64)
        {
            return Poll::Ready(Some(Err(Box::new(NoRoom))));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_share_and_all_together_what_there_is() {
        let rooms = Rooms::new(5, 2);
        let mut a = rooms.enter("a", 1).unwrap();
        assert!(a.grow(1) && !a.grow(1));
        assert!(rooms.enter("a", 1).is_none());
        let b = rooms.enter("b", 2).unwrap();
        assert!(rooms.enter("c", 2).is_none(), "one is left in all");
        assert!(rooms.enter("c", 1).is_some());
        assert!(!a.grow(u64::MAX));
        drop((a, b));
        assert!(rooms.enter("c", 2).is_some());
        let taken = rooms.taken.lock().unwrap();
        assert!(taken.all == 0 && taken.by_caller.is_empty());
    }

    #[tokio::test]
    async fn bytes_of_a_body_take_room_while_they_come() {
        let rooms = Rooms::new(10, 8);
        let read = async |n: usize| {
            let body = rooms.weigh("a", Body::from(vec![0_u8; n]));
            axum::body::to_bytes(body, 100).await.is_ok()
        };
        assert!(read(8).await && read(8).await && !read(9).await);
        let other = rooms.enter("b", 5).unwrap();
        assert!(read(5).await && !read(6).await);
        drop(other);
        assert!(read(6).await);
    }

    #[tokio::test]
    async fn that_there_was_no_room_is_told_from_a_body_that_is_too_long() {
        let rooms = Rooms::new(10, 8);
        let fault = async |n: usize, limit: usize| {
            let body = rooms.weigh("a", Body::from(vec![0_u8; n]));
            let read = axum::body::to_bytes(body, limit).await;
            is_no_room(&read.unwrap_err())
        };
        assert!(fault(9, 100).await);
        assert!(!fault(8, 7).await);
    }
}
