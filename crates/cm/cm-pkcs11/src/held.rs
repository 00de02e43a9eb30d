//! Unwrapped keys in the sessions: which of them the module still holds, and which have to go.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cm_core::backend::Fault;
use core_types::KeyAlg;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};

use crate::attempts::Connection;
use crate::fault::Failure;
use crate::kek::{gone, kek};
use crate::wrapped::Blob;

/// Unwrapped keys that one session holds; the one that was used longest ago goes first.
const UNWRAPPED: usize = 16;

/// What the module holds ready, by name and how often, and how many keys it has let go of.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<(HashMap<Vec<u8>, usize>, u64)>);

impl Held {
    fn inner(&self) -> MutexGuard<'_, (HashMap<Vec<u8>, usize>, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The module holds this key, once more.
    pub(crate) fn hold(&self, name: &[u8]) {
        *self.inner().0.entry(name.to_vec()).or_default() += 1;
    }

    /// It has let go of it.
    pub(crate) fn let_go(&self, name: &[u8]) {
        let mut inner = self.inner();
        if let Some(count) = inner.0.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                inner.0.remove(name);
                inner.1 += 1;
            }
        }
    }
}

/// Drops what nobody holds any more.
pub(crate) fn sweep(c: &mut Connection, held: &Held) -> Result<(), Failure> {
    let (unheld, now) = {
        let inner = held.inner();
        if inner.1 == c.let_go {
            return Ok(());
        }
        let (stay, go): (Vec<_>, Vec<_>) = std::mem::take(&mut c.unwrapped)
            .into_iter()
            .partition(|(name, _)| inner.0.contains_key(name));
        c.unwrapped = stay.into();
        (go, inner.1)
    };
    for (_, old) in unheld {
        gone(&c.session, old)?;
    }
    c.let_go = now;
    Ok(())
}

/// The key in this session, unwrapped now or lately.
pub(crate) fn ready(
    c: &mut Connection,
    alg: KeyAlg,
    name: &[u8],
    blob: &Blob,
    held: &Held,
) -> Result<ObjectHandle, Failure> {
    sweep(c, held)?;
    let at = c.unwrapped.iter().position(|(n, _)| n == name);
    if let Some(known) = at.and_then(|at| c.unwrapped.remove(at)) {
        let key = known.1;
        c.unwrapped.push_back(known);
        return Ok(key);
    }
    let key = unwrap(c, alg, blob, false)?;
    c.unwrapped.push_back((name.to_vec(), key));
    if c.unwrapped.len() > UNWRAPPED
        && let Some((_, oldest)) = c.unwrapped.pop_front()
    {
        gone(&c.session, oldest)?;
    }
    Ok(key)
}

/// Unwraps for signing only, or (for wrapping it anew) so that it may be wrapped once more.
pub(crate) fn unwrap(
    c: &mut Connection,
    alg: KeyAlg,
    blob: &Blob,
    rewrap: bool,
) -> Result<ObjectHandle, Failure> {
    let with = kek(c, blob.kek())?;
    let kind = if alg.is_rsa() {
        KeyType::RSA
    } else {
        KeyType::EC
    };
    let template = [
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(kind),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(rewrap),
        Attribute::Sign(!rewrap),
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
    ];
    let made = c
        .session
        .unwrap_key(&Mechanism::AesKeyWrapPad, with, blob.wrapped(), &template);
    let key = made.map_err(|e| match e {
        Error::Pkcs11(RvError::WrappedKeyInvalid | RvError::WrappedKeyLenRange, _) => {
            Failure::plain(Fault::Unfit("a blob that doesn't unwrap"))
        }
        e => Failure::of("unwrapping", &e),
    })?;
    let asked = [AttributeType::Sensitive, AttributeType::Extractable];
    let told = c.session.get_attributes(key, &asked);
    let told = told.map_err(|e| Failure::of("attributes of an unwrapped key", &e))?;
    if told.contains(&Attribute::Sensitive(true)) && told.contains(&Attribute::Extractable(rewrap))
    {
        return Ok(key);
    }
    gone(&c.session, key)?;
    Err(Failure::plain(Fault::Broken(
        "attributes of an unwrapped key",
    )))
}
