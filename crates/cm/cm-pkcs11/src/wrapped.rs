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
use std::sync::atomic::{AtomicU32, Ordering};

use cm_core::backend::{Backend, Fault, NO_WRAPPING_KEY, NewKey, PrivateKey};
use cm_core::several::Declared;
use core_types::{B64, KeyAlg, Level, SecretBytes, SigAlg, sha256};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, ObjectClass};
use serde::{Deserialize, Serialize};

use crate::Pkcs11Backend;
use crate::fault::Failure;
use crate::held::{Held, ready, sweep, unwrap};
use crate::kek::{Stage, current, gone, kek_id, keks, make_wrapping, newest, numbers, publish};
use crate::keys::{fits, key_pair_template, public_key, sign_with, verified};
use crate::pool::Pool;

/// The back end.
pub struct WrappedKeys {
    token: Pkcs11Backend,
    declared: Declared,
    /// Number of the KEK that wraps now.
    kek: AtomicU32,
    /// Keys that the module holds ready.
    held: Arc<Held>,
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

    pub(crate) fn kek(&self) -> u32 {
        self.kek
    }

    pub(crate) fn wrapped(&self) -> &[u8] {
        &self.wrapped.0
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

impl WrappedKeys {
    /// Wrapped keys of this token. `declaration` names the evaluation of external key storage that a level above 1 rests
    /// on; without it the level is 1, whatever is declared of the token's own keys.
    ///
    /// # Errors
    /// [`Fault`] when the token can't wrap, or has no room for the KEK.
    pub fn open(token: Pkcs11Backend, declaration: Option<String>) -> Result<Self, Fault> {
        let (this, newest) = Self::over(token, declaration)?;
        if newest.is_none() {
            // Not 1: a new key must not be taken for one that was lost, under which there may be blobs.
            let first = this.draw()? >> 1;
            make_wrapping(this.pool(), first, Stage::Ready)?;
            this.kek.store(first, Ordering::SeqCst);
        }
        Ok(this)
    }

    /// The same, of a token that has to have its wrapping key from another one.
    ///
    /// # Errors
    /// [`NO_WRAPPING_KEY`] when it has none; [`Fault`] when the token can't wrap.
    pub fn join(token: Pkcs11Backend, declaration: Option<String>) -> Result<Self, Fault> {
        let (this, newest) = Self::over(token, declaration)?;
        newest.map(|_| this).ok_or(NO_WRAPPING_KEY)
    }

    /// What keys that are wrapped by a token are declared to be good for: never more than the token, nor than its storage outside is
    /// declared for.
    pub fn declared(token: &Declared, storage: Option<&str>) -> Declared {
        let storage = storage.filter(|s| !s.trim().is_empty());
        let reference = token.reference.as_ref().zip(storage);
        Declared {
            level: match storage {
                Some(_) => token.level.min(Level::Two),
                None => Level::One,
            },
            reference: reference.map(|(token, s)| format!("{token}; external key storage: {s}")),
        }
    }

    fn over(
        token: Pkcs11Backend,
        declaration: Option<String>,
    ) -> Result<(Self, Option<u32>), Fault> {
        if !token.mechanisms.contains(&MechanismType::AES_KEY_WRAP_PAD)
            || !token.mechanisms.contains(&MechanismType::AES_KEY_GEN)
        {
            return Err(Fault::Unfit("the token can't wrap with AES (RFC 5649)"));
        }
        let newest = token.pool.with(|c| newest(&c.session))?;
        let this = Self {
            declared: Self::declared(&token.declared, declaration.as_deref()),
            token,
            kek: AtomicU32::new(newest.unwrap_or(0)),
            held: Arc::default(),
        };
        Ok((this, newest))
    }

    fn draw(&self) -> Result<u32, Fault> {
        let drawn = self.token.draw(4)?;
        Ok(drawn.iter().fold(0_u32, |n, b| n << 8 | u32::from(*b)))
    }

    /// Makes a new KEK up to this stage; answers its number, which is drawn: neither a try that may still come back nor another
    /// node at the same time has the same.
    fn make_next(&self, stage: Stage) -> Result<u32, Fault> {
        let step = 1 + (self.draw()? & 0xf_ffff);
        let held = self.pool().with(|c| numbers(&c.session, &Stage::ALL))?;
        let highest = held.into_iter().max().unwrap_or(0);
        let number = highest.checked_add(step);
        let number = number.ok_or(Fault::Unfit("no number for a wrapping key"))?;
        make_wrapping(self.pool(), number, stage)?;
        Ok(number)
    }

    fn pool(&self) -> &Pool {
        &self.token.pool
    }

    fn can(alg: KeyAlg) -> bool {
        alg.is_rsa() || alg.curve_oid().is_some()
    }
}

impl Backend for WrappedKeys {
    fn name(&self) -> &'static str {
        "pkcs11-wrapped"
    }

    fn ceiling(&self) -> Level {
        self.declared.level
    }

    fn device(&self) -> Option<String> {
        self.token.device()
    }

    fn declaration(&self) -> Option<String> {
        self.declared.reference.clone()
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
            c.begin()?;
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
        let tested = self.load(alg, &material);
        let tested = tested.and_then(|key| self.token.sign_and_verify(alg, key.as_ref()));
        match tested {
            Ok(()) => Ok(NewKey { material, spki }),
            Err(NO_WRAPPING_KEY) => Err(NO_WRAPPING_KEY),
            // Not the caller's doing.
            Err(Fault::Unfit(what)) => Err(Fault::Unavailable(what)),
            Err(fault) => Err(fault),
        }
    }

    fn import(&self, alg: KeyAlg, pkcs8: &SecretBytes, spki: &[u8]) -> Result<NewKey, Fault> {
        if !Self::can(alg) || self.token.sig_algs(alg).is_empty() {
            return Err(Fault::Unfit("no wrapped keys of this kind"));
        }
        let (_, own) = crate::import::pair(alg, pkcs8, spki)?;
        let own = own.with(vec![
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::Token(false),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(true),
            Attribute::Sign(true),
            Attribute::Decrypt(false),
            Attribute::Unwrap(false),
        ]);
        let (number, wrapped) = self.pool().slowly(move |c| {
            let (number, with) = current(c)?;
            c.begin()?;
            let made = c.session.create_object(own.expose());
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
        self.token.fits_together(alg, key.as_ref())?;
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
        self.held.hold(&name);
        let key = Wrapped {
            pool: self.pool().clone(),
            algs: self.token.sig_algs(alg),
            alg,
            name,
            blob: Arc::new(blob),
            held: self.held.clone(),
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

    fn wrapping_keys(&self) -> Result<Vec<u32>, Fault> {
        let usable = [Stage::Made, Stage::Ready];
        let mut found = self.pool().with(move |c| numbers(&c.session, &usable))?;
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    fn make_wrapping(&self) -> Result<(), Fault> {
        self.make_next(Stage::Made).map(|_| ())
    }

    fn adopt_wrapping(&self, number: u32) -> Result<(), Fault> {
        self.pool().with(move |c| publish(c, number))?;
        self.kek.store(number, Ordering::SeqCst);
        Ok(())
    }

    /// Sessions that are idle drop the keys that the module doesn't hold any more; those at work do so at their next call.
    fn tidy(&self) {
        let held = self.held.clone();
        self.pool().each_idle(move |c| sweep(c, &held));
    }

    fn look(&self) {
        self.token.look();
    }

    fn stuck(&self) -> bool {
        self.token.stuck()
    }

    fn news(&self) -> Vec<&'static str> {
        self.token.news()
    }

    fn renew_wrapping(&self) -> Result<(), Fault> {
        let number = self.make_next(Stage::Ready)?;
        self.kek.store(number, Ordering::SeqCst);
        Ok(())
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
            for stage in Stage::ALL {
                for (old, handle) in keks(&c.session, stage)? {
                    if old < number {
                        gone(&c.session, handle)?;
                        c.keys.remove(&kek_id(old));
                        // Of the others there is nothing to tell.
                        retired += u32::from(stage == Stage::Ready);
                    }
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
    held: Arc<Held>,
}

impl Drop for Wrapped {
    /// Sessions drop what they have unwrapped before they do anything else with a wrapped key.
    fn drop(&mut self) {
        self.held.let_go(&self.name);
    }
}

impl Wrapped {
    fn touch(&self) -> Result<(), Fault> {
        let (alg, name, blob) = (self.alg, self.name.clone(), self.blob.clone());
        let held = self.held.clone();
        self.pool
            .with(move |c| ready(c, alg, &name, &blob, &held).map(|_| ()))
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
        let held = self.held.clone();
        let value = self.pool.with(move |c| {
            let key = ready(c, kind, &name, &blob, &held)?;
            sign_with(c, alg, key, &data)
        })?;
        // Also what ECDSA made: the public key is the blob's word here, and a value by another key must not leave.
        verified(&self.blob.spki.0, alg, dtbs, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // shows: III-3-17-retention-L2-inside, I-3.5.1-keygen-L2
    #[test]
    fn wrapped_keys_have_the_level_that_two_declarations_agree_on_and_never_three() {
        for (token, storage, level) in [
            (Level::One, false, Level::One),
            (Level::One, true, Level::One),
            (Level::Two, false, Level::One),
            (Level::Two, true, Level::Two),
            (Level::Three, false, Level::One),
            (Level::Three, true, Level::Two),
        ] {
            let of_token = Declared {
                level: token,
                reference: Some("certificate 1".to_owned()),
            };
            let declared = |storage| WrappedKeys::declared(&of_token, storage);
            assert_eq!(
                declared(storage.then_some("certificate 2")).level,
                level,
                "{token} {storage}"
            );
            assert_eq!(declared(Some(" ")).reference, None);
        }
    }
}
