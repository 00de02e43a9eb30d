//! Wrapping keys (KEKs): token objects, sensitive and not extractable, with a number in their name. The one with the highest
//! number wraps.

use std::sync::atomic::AtomicBool;

use cm_core::backend::{Fault, NO_WRAPPING_KEY};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use crate::attempts::Connection;
use crate::fault::Failure;
use crate::keys::{afresh, destroy, find_all};
use crate::pool::Pool;

/// The name of a wrapping key in the token.
pub(crate) fn kek_id(number: u32) -> Vec<u8> {
    format!("natsuin-kek-{number}").into_bytes()
}

/// Makes the wrapping key with this number.
pub(crate) fn make_wrapping(pool: &Pool, number: u32) -> Result<(), Fault> {
    let tried = AtomicBool::new(false);
    let id = kek_id(number);
    let made = pool.slowly({
        let id = id.clone();
        move |c| afresh(c, &id, &tried, |c| made(c, &id))
    });
    if made.is_err()
        && let Err(left) = pool.with(move |c| destroy(c, &id))
    {
        tracing::warn!(%left, number, "a wrapping key that nobody uses may stay in the token");
    }
    made
}

fn made(c: &Connection, id: &[u8]) -> Result<(), Failure> {
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
        Attribute::Label(b"natsuin-kek".to_vec()),
        Attribute::Id(id.to_vec()),
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
        return Ok(());
    }
    gone(&c.session, made)?;
    Err(Failure::plain(Fault::Broken(
        "attributes of a wrapping key",
    )))
}

/// Destroys an object of this session or token.
pub(crate) fn gone(session: &Session, object: ObjectHandle) -> Result<(), Failure> {
    let done = session.destroy_object(object);
    done.map_err(|e| Failure::of("dropping an unwrapped key", &e))
}

/// The highest number of a KEK in the token.
pub(crate) fn newest(session: &Session) -> Result<Option<u32>, Failure> {
    Ok(keks(session)?.into_iter().map(|(number, _)| number).max())
}

/// All KEKs of the token.
pub(crate) fn keks(session: &Session) -> Result<Vec<(u32, ObjectHandle)>, Failure> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::Token(true),
        Attribute::Label(b"natsuin-kek".to_vec()),
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
    Ok(found)
}

/// The newest KEK, which another node may have made.
pub(crate) fn current(c: &mut Connection) -> Result<(u32, ObjectHandle), Failure> {
    let number = newest(&c.session)?;
    let number = number.ok_or(Failure::plain(NO_WRAPPING_KEY))?;
    Ok((number, kek(c, number)?))
}

/// The wrapping key with this number.
pub(crate) fn kek(c: &mut Connection, number: u32) -> Result<ObjectHandle, Failure> {
    let id = kek_id(number);
    if let Some(known) = c.keys.get(&id) {
        return Ok(*known);
    }
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::Token(true),
        Attribute::Id(id.clone()),
    ];
    match find_all(&c.session, &template)?.as_slice() {
        [one] => {
            c.keys.insert(id, *one);
            Ok(*one)
        }
        [] => Err(Failure::plain(NO_WRAPPING_KEY)),
        _ => Err(Failure::plain(Fault::Unfit(
            "two wrapping keys of one name",
        ))),
    }
}
