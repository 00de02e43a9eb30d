//! Wrapped keys: made in the token, kept outside under a key that never leaves it, unwrapped for use as session objects.
//!
//! For more signers than a token has room for. The wrapping key (KEK) is a token object, sensitive and not extractable; the
//! algorithm is AES key wrap with padding (RFC 5649), which proves the integrity of the blob. The module seals the blob
//! together with the key's attributes and checks both before anything is unwrapped. An unwrapped key is sensitive, not
//! extractable, lives as long as its session lets it, and what the token says of it is read back.
//!
//! `CKA_UNWRAP_TEMPLATE`, with which a token would hold every unwrapped key to that, can't be set through the binding in use:
//! that the KEK unwraps nothing else rests on the login, and on the operator's own setting of it where the token lets them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use cm_core::backend::{Backend, Fault, NO_WRAPPING_KEY, NewKey, PrivateKey};
use core_types::{B64, KeyAlg, Level, SecretBytes, SigAlg, sha256};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use serde::{Deserialize, Serialize};

use crate::Pkcs11Backend;
use crate::fault::Failure;
use crate::keys::{find_all, fits, key_pair_template, public_key, sign_with, verified};
use crate::pool::{Connection, Pool};

/// Unwrapped keys that one session holds.
pub(crate) const UNWRAPPED: usize = 16;

/// The back end.
pub struct WrappedKeys {
    token: Pkcs11Backend,
    /// The evaluation of this way of keeping keys, as the operator declares it.
    declaration: Option<String>,
    /// Number of the KEK that wraps now.
    kek: AtomicU32,
    /// Keys that the module has let go of.
    let_go: Arc<AtomicU64>,
}

/// What the module keeps of a key, sealed.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Blob {
    kek: u32,
    spki: B64,
    wrapped: B64,
}

impl Blob {
    pub(crate) fn read(material: &SecretBytes) -> Result<Self, Fault> {
        serde_json::from_slice(material.expose()).map_err(|_| Fault::Unfit("not a wrapped key"))
    }

    pub(crate) fn material(&self) -> Result<SecretBytes, Fault> {
        let json = serde_json::to_vec(self).map_err(|_| Fault::Broken("blob encoding"))?;
        Ok(SecretBytes::new(json))
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl Blob {
    pub(crate) fn parts(self) -> (u32, Vec<u8>, Vec<u8>) {
        (self.kek, self.spki.0, self.wrapped.0)
    }
}

fn kek_id(number: u32) -> Vec<u8> {
    format!("natsuin-kek-{number}").into_bytes()
}

impl WrappedKeys {
    /// Wrapped keys of this token. `declaration` names the evaluation of external key storage that a level above 1 rests
    /// on; without it the level is 1, whatever is declared of the token's own keys.
    ///
    /// # Errors
    /// [`Fault`] when the token can't wrap, or has no room for the KEK.
    pub fn open(token: Pkcs11Backend, declaration: Option<String>) -> Result<Self, Fault> {
        if !token.mechanisms.contains(&MechanismType::AES_KEY_WRAP_PAD)
            || !token.mechanisms.contains(&MechanismType::AES_KEY_GEN)
        {
            return Err(Fault::Unfit("the token can't wrap with AES (RFC 5649)"));
        }
        let newest = token.pool.with(|c| newest(&c.session))?;
        let this = Self {
            token,
            declaration: declaration.filter(|d| !d.trim().is_empty()),
            kek: AtomicU32::new(newest.unwrap_or(0)),
            let_go: Arc::default(),
        };
        if newest.is_none() {
            // Not 1: a new key must not be taken for one that was lost, under which there may be blobs.
            let drawn = this.token.draw(4)?;
            let first = drawn.iter().fold(0_u32, |n, b| n << 8 | u32::from(*b)) >> 1;
            this.make_wrapping(first)?;
        }
        Ok(this)
    }

    fn make_wrapping(&self, number: u32) -> Result<(), Fault> {
        let number = self.pool().slowly(move |c| {
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
                Attribute::Id(kek_id(number)),
            ];
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
                Ok(number)
            } else {
                gone(&c.session, made)?;
                Err(Failure::plain(Fault::Broken(
                    "attributes of a wrapping key",
                )))
            }
        })?;
        self.kek.store(number, Ordering::SeqCst);
        Ok(())
    }

    fn pool(&self) -> &Pool {
        &self.token.pool
    }

    fn can(alg: KeyAlg) -> bool {
        alg.is_rsa() || alg.curve_oid().is_some()
    }
}

/// The highest number of a KEK in the token.
fn newest(session: &Session) -> Result<Option<u32>, Failure> {
    Ok(keks(session)?.into_iter().map(|(number, _)| number).max())
}

/// All KEKs of the token.
fn keks(session: &Session) -> Result<Vec<(u32, ObjectHandle)>, Failure> {
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
fn current(c: &mut Connection) -> Result<(u32, ObjectHandle), Failure> {
    let number = newest(&c.session)?;
    let number = number.ok_or(Failure::plain(NO_WRAPPING_KEY))?;
    Ok((number, kek(c, number)?))
}

fn kek(c: &mut Connection, number: u32) -> Result<ObjectHandle, Failure> {
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

fn gone(session: &Session, object: ObjectHandle) -> Result<(), Failure> {
    let done = session.destroy_object(object);
    done.map_err(|e| Failure::of("dropping an unwrapped key", &e))
}

/// Unwraps for signing only, or (for wrapping it anew) so that it may be wrapped once more.
fn unwrap(
    c: &mut Connection,
    alg: KeyAlg,
    blob: &Blob,
    rewrap: bool,
) -> Result<ObjectHandle, Failure> {
    let with = kek(c, blob.kek)?;
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
        .unwrap_key(&Mechanism::AesKeyWrapPad, with, &blob.wrapped.0, &template);
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

/// The key in this session, unwrapped now or lately. If a key was let go of since, none stays.
fn ready(
    c: &mut Connection,
    alg: KeyAlg,
    name: &[u8],
    blob: &Blob,
    let_go: u64,
) -> Result<ObjectHandle, Failure> {
    if c.let_go != let_go {
        while let Some((_, old)) = c.unwrapped.pop_front() {
            gone(&c.session, old)?;
        }
        c.let_go = let_go;
    }
    if let Some((_, known)) = c.unwrapped.iter().find(|(n, _)| n == name) {
        return Ok(*known);
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

impl Backend for WrappedKeys {
    fn name(&self) -> &'static str {
        "pkcs11-wrapped"
    }

    fn ceiling(&self) -> Level {
        match &self.declaration {
            Some(_) => self.token.ceiling().min(Level::Two),
            None => Level::One,
        }
    }

    fn device(&self) -> Option<String> {
        self.token.device()
    }

    fn declaration(&self) -> Option<String> {
        let (token, storage) = (self.token.declaration()?, self.declaration.as_ref()?);
        Some(format!("{token}; external key storage: {storage}"))
    }

    fn self_test(&self) -> Result<(), Fault> {
        self.token.self_test()?;
        // The whole way once, with a key that nobody keeps.
        self.generate(KeyAlg::P256).map(|_| ())
    }

    fn generate(&self, alg: KeyAlg) -> Result<NewKey, Fault> {
        if !Self::can(alg) || self.token.sig_algs(alg).is_empty() {
            return Err(Fault::Unfit("no wrapped keys of this kind"));
        }
        self.token.new_id()?;
        let (number, spki, wrapped) = self.pool().slowly(move |c| {
            let (number, with) = current(c)?;
            let (mechanism, public, private) = key_pair_template(alg)?;
            let made = c.session.generate_key_pair(&mechanism, &public, &private);
            let (public, private) = made.map_err(|e| Failure::of("key generation", &e))?;
            let out = public_key(&c.session, alg, public).and_then(|spki| {
                let wrapped = c.session.wrap_key(&Mechanism::AesKeyWrapPad, with, private);
                Ok((
                    number,
                    spki,
                    wrapped.map_err(|e| Failure::of("wrapping", &e))?,
                ))
            });
            gone(&c.session, public)?;
            gone(&c.session, private)?;
            out
        })?;
        let blob = Blob {
            kek: number,
            spki: B64(spki.clone()),
            wrapped: B64(wrapped),
        };
        let material = blob.material()?;
        let key = self.load(alg, &material)?;
        self.token.sign_and_verify(alg, key.as_ref())?;
        Ok(NewKey { material, spki })
    }

    fn import(&self, alg: KeyAlg, pkcs8: &SecretBytes, spki: &[u8]) -> Result<NewKey, Fault> {
        if !Self::can(alg) || self.token.sig_algs(alg).is_empty() {
            return Err(Fault::Unfit("no wrapped keys of this kind"));
        }
        let (_, own) = crate::import::pair(alg, pkcs8, spki)?;
        let (number, wrapped) = self.pool().slowly(move |c| {
            let (number, with) = current(c)?;
            let mut template = vec![
                Attribute::Class(ObjectClass::PRIVATE_KEY),
                Attribute::Token(false),
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(true),
                Attribute::Sign(true),
                Attribute::Decrypt(false),
                Attribute::Unwrap(false),
            ];
            template.extend_from_slice(&own);
            let made = c.session.create_object(&template);
            let key = made.map_err(|e| Failure::of("key import", &e))?;
            let wrapped = c.session.wrap_key(&Mechanism::AesKeyWrapPad, with, key);
            gone(&c.session, key)?;
            Ok((number, wrapped.map_err(|e| Failure::of("wrapping", &e))?))
        })?;
        let blob = Blob {
            kek: number,
            spki: B64(spki.to_vec()),
            wrapped: B64(wrapped),
        };
        let material = blob.material()?;
        let key = self.load(alg, &material)?;
        self.token
            .sign_and_verify(alg, key.as_ref())
            .map_err(|_| Fault::Unfit("a pair that doesn't fit together"))?;
        Ok(NewKey {
            material,
            spki: spki.to_vec(),
        })
    }

    fn load(&self, alg: KeyAlg, material: &SecretBytes) -> Result<Box<dyn PrivateKey>, Fault> {
        if !Self::can(alg) {
            return Err(Fault::Unfit("no wrapped keys of this kind"));
        }
        let blob = Blob::read(material)?;
        let name = sha256(&[material.expose()]).0.to_vec();
        let key = Wrapped {
            pool: self.pool().clone(),
            algs: self.token.sig_algs(alg),
            alg,
            name,
            blob: Arc::new(blob),
            let_go: self.let_go.clone(),
        };
        // That it unwraps is known before it is ordered to sign.
        key.touch()?;
        Ok(Box::new(key))
    }

    /// The blob in the store is all there is.
    fn elsewhere(&self, _: &SecretBytes) -> Option<SecretBytes> {
        None
    }

    fn erase(&self, _: &SecretBytes) -> Result<(), Fault> {
        Ok(())
    }

    fn renew_wrapping(&self) -> Result<(), Fault> {
        let newest = self.pool().with(|c| newest(&c.session))?;
        let next = newest.unwrap_or(0).checked_add(1);
        self.make_wrapping(next.ok_or(Fault::Unfit("no number for a wrapping key"))?)
    }

    fn is_newest(&self, material: &SecretBytes) -> Result<bool, Fault> {
        let blob = Blob::read(material)?;
        let newest = self.pool().with(|c| newest(&c.session))?;
        Ok(newest == Some(blob.kek))
    }

    fn rewrap(&self, alg: KeyAlg, material: &SecretBytes) -> Result<Option<SecretBytes>, Fault> {
        let blob = Blob::read(material)?;
        if blob.kek == self.kek.load(Ordering::SeqCst) {
            return Ok(None);
        }
        let spki = blob.spki.clone();
        let blob = Arc::new(blob);
        let wrapped = self.pool().with(move |c| {
            // Also where another node has made a newer one meanwhile: two that change it don't undo each other's work.
            let (number, with) = current(c)?;
            if blob.kek == number {
                return Ok(None);
            }
            let key = unwrap(c, alg, &blob, true)?;
            let made = c.session.wrap_key(&Mechanism::AesKeyWrapPad, with, key);
            gone(&c.session, key)?;
            let made = made.map_err(|e| Failure::of("wrapping", &e))?;
            Ok(Some((number, made)))
        })?;
        let Some((kek, wrapped)) = wrapped else {
            return Ok(None);
        };
        let next = Blob {
            kek,
            spki,
            wrapped: B64(wrapped),
        };
        next.material().map(Some)
    }

    fn retire_wrapping(&self) -> Result<u32, Fault> {
        let number = self.kek.load(Ordering::SeqCst);
        // What was unwrapped under the old ones ends too.
        self.pool().end_sessions();
        self.pool().with(move |c| {
            let mut retired = 0;
            for (old, handle) in keks(&c.session)? {
                if old < number {
                    gone(&c.session, handle)?;
                    c.keys.remove(&kek_id(old));
                    retired += 1;
                }
            }
            Ok(retired)
        })
    }
}

/// A wrapped key. Every session that signs with it unwraps it for itself.
struct Wrapped {
    pool: Pool,
    algs: Vec<SigAlg>,
    alg: KeyAlg,
    name: Vec<u8>,
    blob: Arc<Blob>,
    let_go: Arc<AtomicU64>,
}

impl Drop for Wrapped {
    /// Sessions drop what they have unwrapped before they do anything else with a wrapped key.
    fn drop(&mut self) {
        self.let_go.fetch_add(1, Ordering::SeqCst);
    }
}

impl Wrapped {
    fn touch(&self) -> Result<(), Fault> {
        let (alg, name, blob) = (self.alg, self.name.clone(), self.blob.clone());
        let let_go = self.let_go.load(Ordering::SeqCst);
        self.pool
            .with(move |c| ready(c, alg, &name, &blob, let_go).map(|_| ()))
    }
}

impl PrivateKey for Wrapped {
    fn spki(&self) -> &[u8] {
        &self.blob.spki.0
    }

    fn sign(&self, alg: SigAlg, dtbs: &[u8]) -> Result<Vec<u8>, Fault> {
        fits(&self.algs, alg, dtbs)?;
        let (kind, name, blob, data) = (
            self.alg,
            self.name.clone(),
            self.blob.clone(),
            dtbs.to_vec(),
        );
        let let_go = self.let_go.load(Ordering::SeqCst);
        let value = self.pool.with(move |c| {
            let key = ready(c, kind, &name, &blob, let_go)?;
            sign_with(&c.session, alg, key, &data)
        })?;
        // Also what ECDSA made: the public key is the blob's word here, and a value by another key must not leave.
        verified(&self.blob.spki.0, alg, dtbs, value, true)
    }
}
