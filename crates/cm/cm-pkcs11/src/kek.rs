//! Wrapping keys (KEKs): token objects, sensitive and not extractable, with a number in their name. The one with the highest
//! number of those that are ready wraps.
//!
//! What is wrapped under one is lost with it. So nothing is wrapped under one that may still be erased as useless: its label
//! says how far it is, only one in the making is erased, and only the thread that makes it brings it out of that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cm_core::backend::{Fault, NO_WRAPPING_KEY, OPEN_WRAPPING_KEY};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use crate::attempts::Connection;
use crate::fault::Failure;
use crate::keys::{find_all, logged_in};
use crate::pool::Pool;

/// How far a wrapping key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nobody uses it: it is being made, or its making failed.
    Making,
    /// It is as it must be, and one of several devices that have to have it before it wraps.
    Made,
    /// It wraps, if there is none with a higher number.
    Ready,
}

impl Stage {
    pub(crate) const ALL: [Self; 3] = [Self::Making, Self::Made, Self::Ready];

    fn label(self) -> Attribute {
        let label = match self {
            Self::Making => "natsuin-kek-making",
            Self::Made => "natsuin-kek-made",
            Self::Ready => "natsuin-kek",
        };
        Attribute::Label(label.as_bytes().to_vec())
    }
}

/// The name of a wrapping key in the token.
pub(crate) fn kek_id(number: u32) -> Vec<u8> {
    format!("natsuin-kek-{number}").into_bytes()
}

/// Makes the wrapping key with this number, which nobody may have tried before, up to this stage.
pub(crate) fn make_wrapping(pool: &Pool, number: u32, stage: Stage) -> Result<(), Fault> {
    let tried = AtomicBool::new(false);
    // It is just being brought further, and what becomes of it only that thread can know.
    let going = Arc::new(AtomicBool::new(false));
    let made = pool.slowly({
        let going = going.clone();
        move |c| {
            if tried.swap(true, Ordering::SeqCst) {
                // An error may come after the deed, and another node may have gone on with it.
                if !usable(&c.session, number)?.is_empty() {
                    return Ok(());
                }
                unfinished(c, number)?;
            }
            let done = made(c, number).and_then(|made| {
                going.store(true, Ordering::SeqCst);
                // What was given up until now is never brought further.
                let done = c.begin().and_then(|()| bring(c, made, stage));
                going.store(false, Ordering::SeqCst);
                done
            });
            if !c.awaited() {
                unfinished(c, number)?;
            }
            done
        }
    });
    if made.is_err()
        && !going.load(Ordering::SeqCst)
        && let Err(left) = pool.with(move |c| unfinished(c, number))
    {
        tracing::warn!(%left, number, "a wrapping key that nobody uses stays until the next change");
    }
    made
}

/// Erases what was made with this number and never brought further.
fn unfinished(c: &Connection, number: u32) -> Result<(), Failure> {
    for object in named(&c.session, number, Stage::Making)? {
        gone(&c.session, object)?;
    }
    Ok(())
}

/// Lets the wrapping key with this number wrap, if it doesn't yet.
pub(crate) fn publish(c: &Connection, number: u32) -> Result<(), Failure> {
    only(&c.session, number)?;
    for object in named(&c.session, number, Stage::Made)? {
        c.begin()?;
        bring(c, object, Stage::Ready)?;
    }
    Ok(())
}

fn bring(c: &Connection, object: ObjectHandle, stage: Stage) -> Result<(), Failure> {
    let done = c.session.update_attributes(object, &[stage.label()]);
    done.map_err(|e| match e {
        Error::Pkcs11(RvError::AttributeReadOnly | RvError::ActionProhibited, _) => {
            Failure::plain(Fault::Unfit("the token lets no label be changed"))
        }
        e => Failure::of("naming a wrapping key", &e),
    })
}

/// Wrapping keys with this number that are out of the making.
fn usable(session: &Session, number: u32) -> Result<Vec<ObjectHandle>, Failure> {
    // In this order none is missed that is published meanwhile.
    let mut found = named(session, number, Stage::Made)?;
    for ready in named(session, number, Stage::Ready)? {
        if !found.contains(&ready) {
            found.push(ready);
        }
    }
    Ok(found)
}

fn only(session: &Session, number: u32) -> Result<ObjectHandle, Failure> {
    match usable(session, number)?.as_slice() {
        [one] => Ok(*one),
        [] => Err(Failure::plain(NO_WRAPPING_KEY)),
        _ => Err(Failure::plain(Fault::Unfit(
            "two wrapping keys of one name",
        ))),
    }
}

/// Wrapping keys with this number at this stage.
fn named(session: &Session, number: u32, stage: Stage) -> Result<Vec<ObjectHandle>, Failure> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::Token(true),
        stage.label(),
        Attribute::Id(kek_id(number)),
    ];
    let found = find_all(session, &template)?;
    // Who isn't sees none.
    logged_in(session)?;
    Ok(found)
}

fn made(c: &Connection, number: u32) -> Result<ObjectHandle, Failure> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::ValueLen(32.into()),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Wrap(true),
        Attribute::Unwrap(true),
        Attribute::Encrypt(false),
        Attribute::Decrypt(false),
        Stage::Making.label(),
        Attribute::Id(kek_id(number)),
    ];
    c.begin()?;
    let made = c.session.generate_key(&Mechanism::AesKeyGen, &template);
    let made = made.map_err(|e| Failure::of("making a wrapping key", &e))?;
    let asked = [
        AttributeType::Sensitive,
        AttributeType::Extractable,
        AttributeType::NeverExtractable,
    ];
    let told = c.session.get_attributes(made, &asked);
    let told = told.map_err(|e| Failure::of("wrapping key", &e))?;
    let right = [
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::NeverExtractable(true),
    ];
    if right.iter().all(|a| told.contains(a)) {
        return Ok(made);
    }
    gone(&c.session, made)?;
    Err(Failure::plain(Fault::Broken(
        "attributes of a wrapping key",
    )))
}

/// Fails for a wrapping key whose value can be had: whoever knows the PIN, or copies keys from device to device, may have
/// put one in. Where it was made isn't asked, because a copy can't say that it was never extractable. The device itself is well: once a
/// person has taken that key away or closed it, nothing is left to approve.
fn closed(session: &Session, kek: ObjectHandle) -> Result<(), Failure> {
    let asked = [AttributeType::Sensitive, AttributeType::Extractable];
    let told = session.get_attributes(kek, &asked);
    let told = told.map_err(|e| Failure::of("wrapping key", &e))?;
    let right = [Attribute::Sensitive(true), Attribute::Extractable(false)];
    if right.iter().all(|a| told.contains(a)) {
        return Ok(());
    }
    Err(Failure::plain(OPEN_WRAPPING_KEY))
}

/// Destroys an object of this session or token.
pub(crate) fn gone(session: &Session, object: ObjectHandle) -> Result<(), Failure> {
    let done = session.destroy_object(object);
    done.map_err(|e| Failure::of("dropping an unwrapped key", &e))
}

/// The highest number of a KEK that is ready.
pub(crate) fn newest(session: &Session) -> Result<Option<u32>, Failure> {
    let numbers = numbers(session, &[Stage::Ready])?;
    Ok(numbers.into_iter().max())
}

/// The numbers of the token's KEKs at these stages.
pub(crate) fn numbers(session: &Session, stages: &[Stage]) -> Result<Vec<u32>, Failure> {
    let mut all = Vec::new();
    for stage in stages {
        all.extend(keks(session, *stage)?.into_iter().map(|(number, _)| number));
    }
    Ok(all)
}

/// The token's KEKs at this stage.
pub(crate) fn keks(session: &Session, stage: Stage) -> Result<Vec<(u32, ObjectHandle)>, Failure> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::Token(true),
        stage.label(),
    ];
    let mut found = Vec::new();
    for handle in find_all(session, &template)? {
        let told = session
            .get_attributes(handle, &[AttributeType::Id])
            .map_err(|e| Failure::of("wrapping key", &e))?;
        if let [Attribute::Id(id)] = told.as_slice()
            && let Some(number) = std::str::from_utf8(id)
                .ok()
                .and_then(|id| id.strip_prefix("natsuin-kek-"))
                .and_then(|n| n.parse().ok())
        {
            found.push((number, handle));
        }
    }
    // Who isn't sees none.
    logged_in(session)?;
    Ok(found)
}

/// The newest KEK, which another node may have made.
pub(crate) fn current(c: &mut Connection) -> Result<(u32, ObjectHandle), Failure> {
    let number = newest(&c.session)?;
    let number = number.ok_or(Failure::plain(NO_WRAPPING_KEY))?;
    Ok((number, kek(c, number)?))
}

/// The wrapping key with this number, also before it wraps here: another of several devices may be ahead.
pub(crate) fn kek(c: &mut Connection, number: u32) -> Result<ObjectHandle, Failure> {
    let id = kek_id(number);
    if let Some(known) = c.keys.get(&id) {
        return Ok(*known);
    }
    let one = only(&c.session, number)?;
    closed(&c.session, one)?;
    c.keys.insert(id, one);
    Ok(one)
}
