//! Keys that are ready for use, for as long as an act lives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use core_types::{Digest32, SecretBytes, UnixTime, sha256};

use crate::backend::PrivateKey;

/// Most keys held ready for use; the one that was used longest ago goes first.
const CACHE: usize = 512;

/// Keys that were opened before, found by their material and not by name, so that an exchanged row is never served
/// from memory. None stays longer than an act lives.
#[derive(Default)]
pub(crate) struct KeyCache(Mutex<Cached>);

#[derive(Default)]
struct Cached {
    keys: HashMap<Digest32, Opened>,
    /// Uses of any key until now.
    uses: u64,
    /// How often keys were let go of because they had ended or the module was stopped.
    cleared: u64,
}

struct Opened {
    key: Arc<dyn PrivateKey>,
    at: UnixTime,
    used: u64,
}

impl KeyCache {
    fn cached(&self) -> MutexGuard<'_, Cached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(
        &self,
        name: &Digest32,
        opened_after: UnixTime,
    ) -> Option<Arc<dyn PrivateKey>> {
        let mut cached = self.cached();
        cached.uses += 1;
        let uses = cached.uses;
        let opened = cached.keys.get_mut(name)?;
        if opened.at <= opened_after {
            cached.keys.remove(name);
            return None;
        }
        opened.used = uses;
        Some(opened.key.clone())
    }

    /// Lets go of a key, as soon as nobody uses it any more.
    pub(crate) fn forget(&self, material: &SecretBytes) {
        let mut cached = self.cached();
        cached.keys.remove(&cache_name(material));
        cached.cleared += 1;
    }

    /// Lets go of all keys that were opened until then.
    pub(crate) fn expire(&self, opened_until: UnixTime) {
        self.cached()
            .keys
            .retain(|_, opened| opened.at > opened_until);
    }

    /// Lets go of all keys.
    pub(crate) fn clear(&self) {
        let mut cached = self.cached();
        cached.keys.clear();
        cached.cleared += 1;
    }

    /// To be asked before a key is opened that is put here.
    pub(crate) fn cleared(&self) -> u64 {
        self.cached().cleared
    }

    /// Holds a key ready that was opened since [`Self::cleared`] was asked, unless any was let go of meanwhile: it may be this one.
    pub(crate) fn put(
        &self,
        name: Digest32,
        key: Arc<dyn PrivateKey>,
        now: UnixTime,
        cleared: u64,
    ) {
        let mut cached = self.cached();
        if cached.cleared != cleared {
            return;
        }
        let used = cached.uses;
        let opened = Opened { key, at: now, used };
        // Who opened it first has it, for as long as from then on.
        cached.keys.entry(name).or_insert(opened);
        if cached.keys.len() > CACHE {
            let oldest = cached.keys.iter().min_by_key(|(_, opened)| opened.used);
            if let Some(oldest) = oldest.map(|(name, _)| *name) {
                cached.keys.remove(&oldest);
            }
        }
    }
}

/// Name of a key in the cache.
pub(crate) fn cache_name(material: &SecretBytes) -> Digest32 {
    sha256(&[b"natsuin-cm-cache", material.expose()])
}

#[cfg(test)]
mod tests {
    use core_types::SigAlg;

    use super::*;
    use crate::backend::Fault;

    struct Key;

    impl PrivateKey for Key {
        fn spki(&self) -> &[u8] {
            &[]
        }

        fn sign(&self, _: SigAlg, _: &[u8]) -> Result<Vec<u8>, Fault> {
            Err(Fault::Unfit("no key"))
        }
    }

    fn name(number: usize) -> Digest32 {
        sha256(&[&number.to_be_bytes()])
    }

    // shows: III-A1.4.1-protect-use-disclosure
    #[test]
    fn the_key_that_was_used_longest_ago_goes_first_and_none_stays_for_being_used() {
        let (cache, then) = (KeyCache::default(), UnixTime(100));
        for number in 0..CACHE {
            cache.put(name(number), Arc::new(Key), then, 0);
            assert!(cache.get(&name(number), UnixTime(0)).is_some());
        }
        assert!(cache.get(&name(0), UnixTime(0)).is_some(), "used again");
        cache.put(name(CACHE), Arc::new(Key), UnixTime(200), 0);
        assert!(cache.get(&name(1), UnixTime(0)).is_none(), "it made room");
        assert!(cache.get(&name(0), UnixTime(0)).is_some());
        assert!(
            cache.get(&name(0), then).is_none(),
            "too old, though in use"
        );
        cache.expire(then);
        assert_eq!(cache.cached().keys.len(), 1);
    }

    // shows: III-A1.4.1-protect-use-disclosure, III-A1.6-destroy-at-end
    #[test]
    fn a_key_that_ends_while_it_is_opened_is_not_held_afterwards() {
        let (cache, now) = (KeyCache::default(), UnixTime(100));
        let material = SecretBytes::new(vec![1]);
        let name = cache_name(&material);
        let ends: [&dyn Fn(); 2] = [&|| cache.forget(&material), &|| cache.clear()];
        for ends in ends {
            let before = cache.cleared();
            ends();
            cache.put(name, Arc::new(Key), now, before);
            assert!(cache.get(&name, UnixTime(0)).is_none());
        }
        cache.put(name, Arc::new(Key), now, cache.cleared());
        assert!(cache.get(&name, UnixTime(0)).is_some());
    }
}
