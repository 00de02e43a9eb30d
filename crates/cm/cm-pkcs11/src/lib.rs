//! PKCS#11 back end of the CM: keys are made in the token, stay there, and sign there.
//!
//! Speaks to any PKCS#11 module (`cryptoki`, whose only user this crate is). Keys are token objects, sensitive and not
//! extractable, found again by a random `CKA_ID`; what the token says of a new key is read back and must be so. A
//! session serves one call at a time in a thread of its own; what dies is renewed, sessions first, then the slot, then
//! the library, and what doesn't answer in time is given up with its outcome unknown. A refused PIN is never tried
//! again. Knows no order, owner or attribute.
//!
//! The level a token may hold keys of can't be known by software: it is level 1 unless the operator declares more, and a
//! declaration must fit what the token says of itself.

mod attempts;
mod encode;
mod fault;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod held;
mod import;
mod kek;
mod keys;
mod opening;
mod options;
mod pool;
mod token;
mod turn;
mod wrapped;

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use core_types::noise::{AT_START, HealthTest};
use core_types::{KeyAlg, Level, SecretBytes, SigAlg};

use cm_core::backend::{Backend, Fault, NO_SUCH_KEY, NewKey, PrivateKey};
use cm_core::several::Declared;
use cryptoki::mechanism::MechanismType;
use cryptoki::object::{Attribute, ObjectClass};

use fault::{Failure, LACKS};
use keys::{
    afresh, check, destroy, find, fits, make, mechanism_of, private_key, private_template,
    public_key, public_template, sign_with, verified,
};
pub use opening::Opening;
pub use options::{Declaration, Limits, OpenError, Options, TEST};
use pool::Pool;
use token::Token;
pub use wrapped::WrappedKeys;

/// Bytes that are drawn with one call.
const DRAW: usize = 64;

/// The back end.
pub struct Pkcs11Backend {
    pool: Pool,
    declared: Declared,
    device: String,
    /// Algorithms the token has mechanisms for.
    algs: Vec<SigAlg>,
    /// All its mechanisms.
    mechanisms: Vec<MechanismType>,
    /// Of the token's random generator.
    noise: Mutex<HealthTest>,
    /// Names of objects that nobody knows of and that couldn't be erased.
    rests: Mutex<Vec<Vec<u8>>>,
    /// Kinds of keys that the token turned out not to make, whatever mechanisms it names.
    lacking: Mutex<Vec<KeyAlg>>,
}

impl Pkcs11Backend {
    /// Opens the token with this label and logs in, with the usual [`Limits`].
    ///
    /// # Errors
    /// [`OpenError`]: module, token or PIN can't be used.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        Self::open_with(options, Limits::default())
    }

    /// Opens the token with this label and logs in, once: a refused PIN isn't tried again.
    ///
    /// # Errors
    /// [`OpenError`]: module, token or PIN can't be used.
    pub fn open_with(options: &Options, limits: Limits) -> Result<Self, OpenError> {
        Opening::new(options.clone(), limits, false).open()
    }

    /// Over a token that is open.
    fn over(
        token: Token,
        mechanisms: Vec<MechanismType>,
        declared: Declared,
        limits: Limits,
    ) -> Result<Self, OpenError> {
        let able = |alg: &SigAlg| mechanism_of(*alg).is_some_and(|m| mechanisms.contains(&m));
        let algs: Vec<SigAlg> = SigAlg::all().filter(able).collect();
        if algs.is_empty() {
            return Err(OpenError::NoMechanism);
        }
        Ok(Self {
            declared,
            device: token.device.clone(),
            pool: Pool::new(token, limits),
            algs,
            mechanisms,
            noise: Mutex::default(),
            rests: Mutex::default(),
            lacking: Mutex::default(),
        })
    }

    /// Makes a token with this label in the first slot that has an uninitialised one, unless there is one already;
    /// for development. Its security officer's PIN is the user's.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn initialise(options: &Options) -> Result<(), OpenError> {
        Token::initialise(options)
    }

    /// Algorithms of this kind of key that the token can do.
    fn sig_algs(&self, alg: KeyAlg) -> Vec<SigAlg> {
        if self.lacking().contains(&alg) {
            return Vec::new();
        }
        let able = |a: &SigAlg| self.algs.contains(a);
        alg.sig_algs().into_iter().filter(able).collect()
    }

    fn lacking(&self) -> std::sync::MutexGuard<'_, Vec<KeyAlg>> {
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws from the token's generator, and tests what comes: what makes keys and nonces in there can't be seen, and this is
    /// as near to it as one gets.
    pub(crate) fn draw(&self, bytes: usize) -> Result<Vec<u8>, Fault> {
        let drawn = self.pool.with(move |c| {
            let mut drawn = vec![0; bytes];
            // Some tokens give no more with one call.
            for part in drawn.chunks_mut(DRAW) {
                let done = c.session.generate_random_slice(part);
                done.map_err(|e| Failure::of("random generator", &e))?;
            }
            Ok(drawn)
        })?;
        let mut noise = self.noise.lock().unwrap_or_else(PoisonError::into_inner);
        for part in drawn.chunks(DRAW) {
            if noise.feed(part).is_err() {
                // Whether it may be used again others decide; then its tests begin anew.
                *noise = HealthTest::default();
                return Err(Fault::Broken("the token's random generator"));
            }
        }
        Ok(drawn)
    }

    /// A name for a new key.
    pub(crate) fn new_id(&self) -> Result<Vec<u8>, Fault> {
        let mut drawn = self.draw(DRAW)?;
        drawn.truncate(16);
        Ok(drawn)
    }

    /// Signs and verifies with a key of the token's own that is made for tests and kept, one for each kind.
    fn try_kind(&self, alg: KeyAlg) -> Result<(), Fault> {
        let id = format!("natsuin-self-test-{alg}").into_bytes();
        let name = SecretBytes::new(id.clone());
        let key = match self.load(alg, &name) {
            Err(NO_SUCH_KEY) => {
                match self.make(alg, id) {
                    // Many tokens have some curves or sizes of a mechanism only; the others are of use all the same.
                    Err(LACKS) => {
                        tracing::warn!(%alg, "the token makes no keys of this kind: none is offered");
                        self.lacking().push(alg);
                        return Ok(());
                    }
                    made => made?,
                }
                self.load(alg, &name)?
            }
            found => found?,
        };
        self.sign_and_verify(alg, key.as_ref())
    }

    /// Makes a pair with this id and reads back what the token says of it.
    fn make(&self, alg: KeyAlg, id: Vec<u8>) -> Result<(), Fault> {
        let tried = AtomicBool::new(false);
        self.pool.slowly(move |c| {
            afresh(c, &id, &tried, |c| {
                let private = make(c, alg, &id)?;
                check(&c.session, private, true)
            })
        })
    }

    fn rests(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.rests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What nobody gets to know shall not stay in the token either; now, or when it can be erased.
    fn discard(&self, material: &SecretBytes) {
        if let Err(left) = self.erase(material) {
            tracing::warn!(%left, "a useless pair stays in the token for now");
            self.rests().push(material.expose().to_vec());
        }
    }

    fn sign_and_verify(&self, alg: KeyAlg, key: &dyn PrivateKey) -> Result<(), Fault> {
        for sig in self.sig_algs(alg) {
            let message = b"pairwise test";
            let value = key.sign(sig, &sig.dtbs(message))?;
            pki::verify_signature(key.spki(), sig, pki::Signed::Message(message), &value)
                .map_err(|_| Fault::Broken("pairwise test"))?;
        }
        Ok(())
    }
}

impl Pkcs11Backend {
    /// Of a pair that comes from elsewhere: that it doesn't fit together is the sender's fault, and any other the device's.
    fn fits_together(&self, alg: KeyAlg, key: &dyn PrivateKey) -> Result<(), Fault> {
        self.sign_and_verify(alg, key).map_err(|fault| match fault {
            Fault::Broken(_) => Fault::Unfit("a pair that doesn't fit together"),
            fault => fault,
        })
    }
}

impl Backend for Pkcs11Backend {
    fn name(&self) -> &'static str {
        "pkcs11"
    }

    fn ceiling(&self) -> Level {
        self.declared.level
    }

    fn device(&self) -> Option<String> {
        Some(self.device.clone())
    }

    fn declaration(&self) -> Option<String> {
        self.declared.reference.clone()
    }

    fn self_test(&self) -> Result<(), Fault> {
        self.draw(AT_START)?;
        for alg in [
            KeyAlg::Rsa3072,
            KeyAlg::P256,
            KeyAlg::P384,
            KeyAlg::P521,
            KeyAlg::Ed25519,
        ] {
            if !self.sig_algs(alg).is_empty() {
                self.try_kind(alg)?;
            }
        }
        Ok(())
    }

    fn generate(&self, alg: KeyAlg) -> Result<NewKey, Fault> {
        if self.sig_algs(alg).is_empty() {
            return Err(Fault::Unfit("the token has no mechanism for this"));
        }
        let id = self.new_id()?;
        let material = SecretBytes::new(id.clone());
        // A new pair must sign and verify before anyone sees it (FIPS 186-5).
        let made = self.make(alg, id).and_then(|()| {
            let key = self.load(alg, &material)?;
            self.sign_and_verify(alg, key.as_ref())?;
            Ok(key.spki().to_vec())
        });
        match made {
            Ok(spki) => Ok(NewKey { spki, material }),
            Err(fault) => {
                self.discard(&material);
                Err(match fault {
                    LACKS => LACKS,
                    // The kind is one that the token can do: that it fails is not the caller's doing.
                    Fault::Unfit(what) => Fault::Unavailable(what),
                    fault => fault,
                })
            }
        }
    }

    fn import(&self, alg: KeyAlg, pkcs8: &SecretBytes, spki: &[u8]) -> Result<NewKey, Fault> {
        if self.sig_algs(alg).is_empty() {
            return Err(Fault::Unfit("the token has no mechanism for this"));
        }
        let (public, private) = import::pair(alg, pkcs8, spki)?;
        let id = self.new_id()?;
        let material = SecretBytes::new(id.clone());
        let mut all = vec![Attribute::Class(ObjectClass::PUBLIC_KEY)];
        all.extend(public_template(&id));
        all.extend(public);
        let mut more = vec![Attribute::Class(ObjectClass::PRIVATE_KEY)];
        more.extend(private_template(&id));
        let (public, private) = (all, private.with(more));
        let tried = AtomicBool::new(false);
        let made = self.pool.slowly(move |c| {
            afresh(c, &id, &tried, |c| {
                let of = |template: &[Attribute]| {
                    let made = c.session.create_object(template);
                    made.map_err(|e| Failure::of("key import", &e))
                };
                c.begin()?;
                of(&public)?;
                let key = of(private.expose())?;
                check(&c.session, key, false)
            })
        });
        let tested = made.and_then(|()| {
            let key = self.load(alg, &material)?;
            if key.spki() != spki {
                return Err(Fault::Unfit("another public key"));
            }
            self.fits_together(alg, key.as_ref())
        });
        match tested {
            Ok(()) => Ok(NewKey {
                spki: spki.to_vec(),
                material,
            }),
            Err(fault) => {
                self.discard(&material);
                Err(fault)
            }
        }
    }

    fn load(&self, alg: KeyAlg, material: &SecretBytes) -> Result<Box<dyn PrivateKey>, Fault> {
        let id = material.expose().to_vec();
        let name = id.clone();
        let spki = self.pool.with(move |c| {
            private_key(c, &name)?;
            let public = find(&c.session, ObjectClass::PUBLIC_KEY, &name)?;
            public_key(&c.session, alg, public)
        })?;
        Ok(Box::new(Key {
            pool: self.pool.clone(),
            algs: self.sig_algs(alg),
            id,
            spki,
        }))
    }

    fn elsewhere(&self, material: &SecretBytes) -> Option<SecretBytes> {
        Some(material.clone())
    }

    fn erase(&self, place: &SecretBytes) -> Result<(), Fault> {
        let id = place.expose().to_vec();
        self.pool.with(move |c| destroy(c, &id))
    }

    fn look(&self) {
        let mut rests = std::mem::take(&mut *self.rests());
        while let Some(id) = rests.last() {
            if self.erase(&SecretBytes::new(id.clone())).is_err() {
                break;
            }
            rests.pop();
        }
        self.rests().append(&mut rests);
        self.pool.look();
    }

    fn stuck(&self) -> bool {
        self.pool.stuck()
    }

    fn news(&self) -> Vec<&'static str> {
        let stuck = self.pool.stuck_now();
        stuck.then_some("cm-device-stuck").into_iter().collect()
    }
}

/// A key in the token, found by its id in every new session: handles die with theirs.
struct Key {
    pool: Pool,
    algs: Vec<SigAlg>,
    id: Vec<u8>,
    spki: Vec<u8>,
}

impl PrivateKey for Key {
    fn spki(&self) -> &[u8] {
        &self.spki
    }

    fn sign(&self, alg: SigAlg, dtbs: &[u8]) -> Result<Vec<u8>, Fault> {
        fits(&self.algs, alg, dtbs)?;
        let (id, data) = (self.id.clone(), dtbs.to_vec());
        let value = self.pool.with(move |c| {
            let key = private_key(c, &id)?;
            sign_with(c, alg, key, &data)
        })?;
        verified(&self.spki, alg, dtbs, value)
    }
}
