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

mod encode;
mod fault;
mod import;
mod pool;
mod token;

use std::sync::mpsc::sync_channel;

use core_types::{DtbsForm, HashAlg, KeyAlg, Level, SecretBytes, SigAlg};

use cm_core::backend::{Backend, Fault, NewKey, PrivateKey};
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, SessionState};

use fault::{Cure, Failure};
use pool::{Connection, Pool};
use token::Token;
pub use token::{Declaration, Limits, OpenError, Options, TEST};

/// The back end.
pub struct Pkcs11Backend {
    pool: Pool,
    declaration: Option<Declaration>,
    device: String,
    /// Algorithms the token has mechanisms for.
    algs: Vec<SigAlg>,
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
        let (answer, answered) = sync_channel(1);
        let (declaration, options) = (options.declaration.clone(), options.clone());
        // A thread of its own, since also the first call of a library may never return.
        std::thread::spawn(move || {
            let opened = Token::open(&options).and_then(|token| {
                let mechanisms = token.mechanisms().map_err(|_| OpenError::NoMechanism)?;
                Ok((token, mechanisms))
            });
            drop(answer.send(opened));
        });
        let (token, mechanisms) = answered
            .recv_timeout(limits.patience * 6)
            .map_err(|_| OpenError::Silent)??;
        let able = |alg: &SigAlg| mechanism_of(*alg).is_some_and(|m| mechanisms.contains(&m));
        let algs: Vec<SigAlg> = SigAlg::all().filter(able).collect();
        if algs.is_empty() {
            return Err(OpenError::NoMechanism);
        }
        Ok(Self {
            declaration,
            device: token.device.clone(),
            pool: Pool::new(token, limits),
            algs,
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
        let able = |a: &SigAlg| self.algs.contains(a);
        alg.sig_algs().into_iter().filter(able).collect()
    }

    /// Signs and verifies with a key of the token's own that is made for tests and kept, one for each kind.
    fn try_kind(&self, alg: KeyAlg) -> Result<(), Fault> {
        let id = format!("natsuin-self-test-{alg}").into_bytes();
        let name = SecretBytes::new(id.clone());
        let key = match self.load(alg, &name) {
            Err(Fault::Unfit(_)) => {
                self.make(alg, id)?;
                self.load(alg, &name)?
            }
            found => found?,
        };
        self.sign_and_verify(alg, key.as_ref())
    }

    /// Makes a pair with this id and reads back what the token says of it.
    fn make(&self, alg: KeyAlg, id: Vec<u8>) -> Result<(), Fault> {
        self.pool.slowly(move |c| {
            let (_, private) = make(&c.session, alg, &id)?;
            check(&c.session, private, true)
        })
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

impl Backend for Pkcs11Backend {
    fn name(&self) -> &'static str {
        "pkcs11"
    }

    fn ceiling(&self) -> Level {
        self.declaration.as_ref().map_or(Level::One, |d| d.level)
    }

    fn device(&self) -> Option<String> {
        Some(self.device.clone())
    }

    fn declaration(&self) -> Option<String> {
        self.declaration.as_ref().map(|d| d.reference.clone())
    }

    fn self_test(&self) -> Result<(), Fault> {
        let (one, two) = self.pool.with(|c| {
            let draw = || {
                c.session
                    .generate_random_vec(32)
                    .map_err(|e| Failure::of("random generator", &e))
            };
            Ok((draw()?, draw()?))
        })?;
        if one == two || one.iter().all(|b| *b == 0) {
            return Err(Fault::Broken("random generator"));
        }
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
        let id = self.pool.with(|c| {
            let drawn = c.session.generate_random_vec(16);
            drawn.map_err(|e| Failure::of("random generator", &e))
        })?;
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
                // A pair that nobody gets to know shall not stay either.
                if let Err(left) = self.erase(&material) {
                    tracing::warn!(%left, "a useless pair stays in the token");
                }
                Err(fault)
            }
        }
    }

    fn import(&self, alg: KeyAlg, pkcs8: &SecretBytes, spki: &[u8]) -> Result<NewKey, Fault> {
        if self.sig_algs(alg).is_empty() {
            return Err(Fault::Unfit("the token has no mechanism for this"));
        }
        let (public, private) = import::pair(alg, pkcs8, spki)?;
        let id = self.pool.with(|c| {
            let drawn = c.session.generate_random_vec(16);
            drawn.map_err(|e| Failure::of("random generator", &e))
        })?;
        let material = SecretBytes::new(id.clone());
        let made = self.pool.slowly(move |c| {
            let of = |class, fixed: Vec<Attribute>, own: &[Attribute]| {
                let mut all = vec![Attribute::Class(class)];
                all.extend(fixed);
                all.extend_from_slice(own);
                let made = c.session.create_object(&all);
                made.map_err(|e| Failure::of("key import", &e))
            };
            of(ObjectClass::PUBLIC_KEY, public_template(&id), &public)?;
            let key = of(ObjectClass::PRIVATE_KEY, private_template(&id), &private)?;
            check(&c.session, key, false)
        });
        let tested = made.and_then(|()| {
            let key = self.load(alg, &material)?;
            if key.spki() != spki {
                return Err(Fault::Unfit("another public key"));
            }
            self.sign_and_verify(alg, key.as_ref())
                .map_err(|_| Fault::Unfit("a pair that doesn't fit together"))
        });
        match tested {
            Ok(()) => Ok(NewKey {
                spki: spki.to_vec(),
                material,
            }),
            Err(fault) => {
                if let Err(left) = self.erase(&material) {
                    tracing::warn!(%left, "a useless pair stays in the token");
                }
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
        self.pool.with(move |c| {
            c.keys.remove(&id);
            logged_in(&c.session)?;
            let named = [Attribute::Id(id.clone()), Attribute::Token(true)];
            let find = |c: &Connection| {
                let found = c.session.find_objects(&named);
                found.map_err(|e| Failure::of("finding the key", &e))
            };
            for object in find(c)? {
                let gone = c.session.destroy_object(object);
                gone.map_err(|e| Failure::of("erasing the key", &e))?;
            }
            if find(c)?.is_empty() {
                logged_in(&c.session)
            } else {
                Err(Failure::plain(Fault::Broken("a key that can't be erased")))
            }
        })
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
        if !self.algs.contains(&alg) {
            return Err(Fault::Unfit("algorithm"));
        }
        if alg.form() == DtbsForm::Digest && dtbs.len() != alg.hash().len() {
            return Err(Fault::Unfit("digest length"));
        }
        let (id, data) = (self.id.clone(), dtbs.to_vec());
        let value = self.pool.with(move |c| {
            let key = private_key(c, &id)?;
            let made = match alg {
                SigAlg::RsaPkcs1(hash) => {
                    let info = encode::digest_info(hash, &data);
                    c.session.sign(&Mechanism::RsaPkcs, key, &info)
                }
                SigAlg::RsaPss(hash) => {
                    c.session
                        .sign(&Mechanism::RsaPkcsPss(pss(hash)), key, &data)
                }
                SigAlg::Ecdsa(_) => c.session.sign(&Mechanism::Ecdsa, key, &data),
                SigAlg::Ed25519 => {
                    let pure = EddsaParams::new(EddsaSignatureScheme::Ed25519);
                    c.session.sign(&Mechanism::Eddsa(pure), key, &data)
                }
                SigAlg::MlDsa65 | SigAlg::MlDsa87 => {
                    return Err(Failure::plain(Fault::Unfit("algorithm")));
                }
            };
            made.map_err(|e| Failure::of("signing", &e))
        })?;
        match alg {
            SigAlg::Ecdsa(_) => {
                encode::ecdsa_value(&value).ok_or(Fault::Broken("signature encoding"))
            }
            // Verifying RSA costs a thirtieth of signing; a faulty value would betray the key, and one of Ed25519 too,
            // which is deterministic. ECDSA values are verified by the SAM, like these once more.
            _ => {
                let signed = match alg.form() {
                    DtbsForm::Digest => pki::Signed::Digest(dtbs),
                    DtbsForm::Message => pki::Signed::Message(dtbs),
                };
                pki::verify_signature(&self.spki, alg, signed, &value)
                    .map(|()| value)
                    .map_err(|_| Fault::Broken("a value that doesn't verify"))
            }
        }
    }
}

/// Nothing for ML-DSA, whose mechanism (PKCS#11 3.2) no token at hand has.
fn mechanism_of(alg: SigAlg) -> Option<MechanismType> {
    match alg {
        SigAlg::RsaPkcs1(_) => Some(MechanismType::RSA_PKCS),
        SigAlg::RsaPss(_) => Some(MechanismType::RSA_PKCS_PSS),
        SigAlg::Ecdsa(_) => Some(MechanismType::ECDSA),
        SigAlg::Ed25519 => Some(MechanismType::EDDSA),
        SigAlg::MlDsa65 | SigAlg::MlDsa87 => None,
    }
}

fn pss(hash: HashAlg) -> PkcsPssParams {
    let (hash_alg, mgf) = match hash {
        HashAlg::Sha256 => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
        HashAlg::Sha384 => (MechanismType::SHA384, PkcsMgfType::MGF1_SHA384),
        HashAlg::Sha512 => (MechanismType::SHA512, PkcsMgfType::MGF1_SHA512),
    };
    let s_len = match hash {
        HashAlg::Sha256 => 32_u64,
        HashAlg::Sha384 => 48,
        HashAlg::Sha512 => 64,
    };
    PkcsPssParams {
        hash_alg,
        mgf,
        s_len: s_len.into(),
    }
}

/// What every public key gets.
fn public_template(id: &[u8]) -> Vec<Attribute> {
    vec![
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Verify(true),
        Attribute::Id(id.to_vec()),
    ]
}

/// What every private key gets: it signs, does nothing else, and doesn't leave.
fn private_template(id: &[u8]) -> Vec<Attribute> {
    vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
        Attribute::Id(id.to_vec()),
    ]
}

fn make(
    session: &Session,
    alg: KeyAlg,
    id: &[u8],
) -> Result<(ObjectHandle, ObjectHandle), Failure> {
    let mut public = public_template(id);
    let private = private_template(id);
    let (mechanism, curve): (_, &[u8]) = match alg {
        KeyAlg::P256 => (Mechanism::EccKeyPairGen, &encode::P256),
        KeyAlg::P384 => (Mechanism::EccKeyPairGen, &encode::P384),
        KeyAlg::P521 => (Mechanism::EccKeyPairGen, &encode::P521),
        KeyAlg::Ed25519 => (Mechanism::EccEdwardsKeyPairGen, &encode::ED25519),
        KeyAlg::Rsa2048 | KeyAlg::Rsa3072 | KeyAlg::Rsa4096 => (Mechanism::RsaPkcsKeyPairGen, &[]),
        KeyAlg::MlDsa65 | KeyAlg::MlDsa87 => {
            return Err(Failure::plain(Fault::Unfit("algorithm")));
        }
    };
    if alg.is_rsa() {
        public.push(Attribute::ModulusBits(u64::from(alg.bits()).into()));
        public.push(Attribute::PublicExponent(vec![1, 0, 1]));
    } else {
        public.push(Attribute::EcParams(curve.to_vec()));
    }
    session
        .generate_key_pair(&mechanism, &public, &private)
        .map_err(|e| Failure::of("key generation", &e))
}

/// What the token says of the key must be what was asked; an attribute that doesn't come back counts as wrong. `made`:
/// in the token, so that it was never outside either.
fn check(session: &Session, key: ObjectHandle, made: bool) -> Result<(), Failure> {
    let mut wanted = vec![
        (AttributeType::Sensitive, Attribute::Sensitive(true)),
        (AttributeType::Extractable, Attribute::Extractable(false)),
        (
            AttributeType::AlwaysSensitive,
            Attribute::AlwaysSensitive(made),
        ),
        (
            AttributeType::NeverExtractable,
            Attribute::NeverExtractable(made),
        ),
        (AttributeType::Local, Attribute::Local(made)),
    ];
    if !made {
        // What a token says of the past of a key that it didn't make is of no interest, but `Local`.
        wanted.retain(|(t, _)| {
            !matches!(
                t,
                AttributeType::AlwaysSensitive | AttributeType::NeverExtractable
            )
        });
    }
    let types: Vec<AttributeType> = wanted.iter().map(|(t, _)| *t).collect();
    let found = session
        .get_attributes(key, &types)
        .map_err(|e| Failure::of("key attributes", &e))?;
    if wanted
        .iter()
        .all(|(_, attribute)| found.contains(attribute))
    {
        Ok(())
    } else {
        Err(Failure::plain(Fault::Broken("key attributes")))
    }
}

fn public_key(session: &Session, alg: KeyAlg, key: ObjectHandle) -> Result<Vec<u8>, Failure> {
    let types = if alg.is_rsa() {
        vec![AttributeType::Modulus, AttributeType::PublicExponent]
    } else {
        vec![AttributeType::EcPoint]
    };
    let found = session
        .get_attributes(key, &types)
        .map_err(|e| Failure::of("public key", &e))?;
    let spki = match found.as_slice() {
        [Attribute::Modulus(n), Attribute::PublicExponent(e)] => Some(encode::rsa_spki(n, e)),
        [Attribute::EcPoint(point)] => encode::ec_spki(alg, point),
        _ => None,
    };
    spki.ok_or_else(|| Failure::plain(Fault::Unfit("public key of another kind")))
}

/// Who isn't logged in any more sees no private key: *not found* would mean nothing.
fn logged_in(session: &Session) -> Result<(), Failure> {
    let info = session.get_session_info();
    let info = info.map_err(|e| Failure::of("session state", &e))?;
    match info.session_state() {
        SessionState::RwUser => Ok(()),
        _ => Err(Failure {
            cure: Cure::Token,
            maybe_made: false,
            what: "the session isn't logged in",
            fault: None,
        }),
    }
}

/// Most handles that a session remembers.
const HANDLES: usize = 4096;

/// The private key's handle in this session.
fn private_key(connection: &mut Connection, id: &[u8]) -> Result<ObjectHandle, Failure> {
    if let Some(known) = connection.keys.get(id) {
        return Ok(*known);
    }
    match find(&connection.session, ObjectClass::PRIVATE_KEY, id) {
        Ok(found) => {
            if connection.keys.len() >= HANDLES {
                connection.keys.clear();
            }
            connection.keys.insert(id.to_vec(), found);
            Ok(found)
        }
        // Who isn't logged in any more sees no private key, and isn't told so: another session has to agree.
        Err(failure) if failure.cure == Cure::None => Err(Failure {
            cure: Cure::Session,
            ..failure
        }),
        Err(failure) => Err(failure),
    }
}

fn find(session: &Session, class: ObjectClass, id: &[u8]) -> Result<ObjectHandle, Failure> {
    let template = [
        Attribute::Class(class),
        Attribute::Id(id.to_vec()),
        Attribute::Token(true),
    ];
    let found = session
        .find_objects(&template)
        .map_err(|e| Failure::of("finding the key", &e))?;
    match found.as_slice() {
        [one] => Ok(*one),
        [] => Err(Failure::plain(Fault::Unfit("no such key in the token"))),
        _ => Err(Failure::plain(Fault::Unfit("two keys of one name"))),
    }
}
