//! Whether the device can use the keys that came back: rows may name keys that are in it no more, or wrapping keys that were changed
//! since the backup.

use std::sync::atomic::{AtomicBool, Ordering};

use core_types::{KeyId, sha256};

use super::Item;
use crate::backend::{Backend, Fault};
use crate::store;
use crate::vault::Vault;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Keys that the device can't use.
    pub(super) unusable: Vec<KeyId>,
    /// How many it couldn't be asked for.
    pub(super) unasked: u64,
}

/// Has the device open each of these keys, on as many threads as there are cores. Once it can't say nothing more is asked of it.
pub(super) fn look(backend: &dyn Backend, vault: &Vault, keys: &[&Item]) -> Found {
    let away = AtomicBool::new(false);
    let look = |part: &[&Item]| {
        let mut found = Found::default();
        for item in part {
            let opened = match away.load(Ordering::Relaxed) {
                true => None,
                false => opens(backend, vault, item),
            };
            match opened {
                Some((_, true)) => {}
                Some((key, false)) => found.unusable.push(key),
                None => {
                    away.store(true, Ordering::Relaxed);
                    found.unasked += 1;
                }
            }
        }
        found
    };
    let share = keys.len().div_ceil(service_kit::cores()).max(1);
    let look = &look;
    let found = std::thread::scope(|scope| {
        let threads: Vec<_> = keys
            .chunks(share)
            .map(|part| (part.len(), scope.spawn(move || look(part))))
            .collect();
        let mut all = Found::default();
        for (count, thread) in threads {
            // A back end that panics has said nothing.
            let found = thread.join().unwrap_or_else(|_| Found {
                unasked: u64::try_from(count).unwrap_or(u64::MAX),
                ..Found::default()
            });
            all.unusable.extend(found.unusable);
            all.unasked += found.unasked;
        }
        all
    });
    // What it holds ready of them is of no use to anybody.
    backend.tidy();
    found
}

/// Whether the device opens this key; nothing where it can't say.
fn opens(backend: &dyn Backend, vault: &Vault, item: &Item) -> Option<(KeyId, bool)> {
    let Item::Key {
        id,
        version,
        attributes,
        sealed,
    } = item
    else {
        return None;
    };
    let key = KeyId::parse(id.as_str()).ok()?;
    let row = store::open_key(vault, &key, *version, attributes, &sealed.0).ok()?;
    let of = &row.attributes;
    match backend.load(of.alg, &row.material) {
        Ok(opened) => Some((key, sha256(&[opened.spki()]) == of.spki)),
        Err(Fault::Unfit(_)) => Some((key, false)),
        Err(fault) => {
            tracing::warn!(%fault, "the device can't say which of the restored keys it can use");
            None
        }
    }
}
