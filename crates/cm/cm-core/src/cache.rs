//! Keys that are ready for use, for as long as an act lives.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use core_types::{Digest32, SecretBytes, UnixTime, sha256};

use crate::backend::PrivateKey;

/// Most keys held ready for use; the one that came first goes first.
const CACHE: usize = 512;

/// Keys that were opened before, found by their material and not by name, so that an exchanged row is never served
/// from memory. None stays longer than an act lives.
#[derive(Default)]
pub(crate) struct KeyCache(Mutex<Cached>);

#[derive(Default)]
struct Cached {
    keys: HashMap<Digest32, Arc<dyn PrivateKey>>,
    order: VecDeque<(Digest32, UnixTime)>,
}

impl Cached {
    /// Lets go of what was opened before.
    fn expire(&mut self, before: UnixTime) {
        while let Some((name, at)) = self.order.front()
            && *at <= before
        {
            self.keys.remove(name);
            self.order.pop_front();
        }
    }
}

impl KeyCache {
    pub(crate) fn get(
        &self,
        name: &Digest32,
        opened_after: UnixTime,
    ) -> Option<Arc<dyn PrivateKey>> {
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cached.expire(opened_after);
        cached.keys.get(name).cloned()
    }

    /// Lets go of a key, as soon as nobody uses it any more.
    pub(crate) fn forget(&self, material: &SecretBytes) {
        let name = cache_name(material);
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cached.keys.remove(&name);
        cached.order.retain(|(n, _)| *n != name);
    }

    /// Lets go of all keys that were opened until then.
    pub(crate) fn expire(&self, opened_until: UnixTime) {
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cached.expire(opened_until);
    }

    /// Lets go of all keys.
    pub(crate) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Cached::default();
    }

    pub(crate) fn put(&self, name: Digest32, key: Arc<dyn PrivateKey>, now: UnixTime) {
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.keys.insert(name, key).is_none() {
            cached.order.push_back((name, now));
        }
        if cached.order.len() > CACHE
            && let Some((first, _)) = cached.order.pop_front()
        {
            cached.keys.remove(&first);
        }
    }
}

/// Name of a key in the cache.
pub(crate) fn cache_name(material: &SecretBytes) -> Digest32 {
    sha256(&[b"natsuin-cm-cache", material.expose()])
}
