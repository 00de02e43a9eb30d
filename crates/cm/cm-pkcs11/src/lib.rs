//! PKCS#11 back end of the CM: keys are made in the token, stay there, and sign there.
//!
//! Speaks to any PKCS#11 module (`cryptoki`, whose only user this crate is). Keys are token objects, sensitive and not
//! extractable, found again by a random `CKA_ID`; what the token says of a new key is read back and must be so. One
//! session serves one call at a time; a session that died is replaced once. Knows no order, owner or attribute.
//!
//! The level a token may hold keys of can't be known by software: it is level 1 unless the operator declares more.

mod encode;
mod token;

use core_types::{HashAlg, KeyAlg, Level, SecretBytes, SigAlg};

use cm_core::backend::{Backend, Fault, NewKey, PrivateKey};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use token::Token;
pub use token::{OpenError, Options};

/// The back end.
pub struct Pkcs11Backend {
    token: Token,
    level: Level,
}

impl Pkcs11Backend {
    /// Opens the token with this label and logs in.
    ///
    /// # Errors
    /// [`OpenError`]: module, token or PIN can't be used.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        Ok(Self {
            token: Token::open(options)?,
            level: options.declared,
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
}

impl Backend for Pkcs11Backend {
    fn name(&self) -> &'static str {
        "pkcs11"
    }

    fn ceiling(&self) -> Level {
        self.level
    }

    fn self_test(&self) -> Result<(), Fault> {
        let (one, two) = self.token.with(|s| {
            let draw = || {
                s.generate_random_vec(32)
                    .map_err(|e| token::fault("random generator", &e))
            };
            Ok((draw()?, draw()?))
        })?;
        if one == two || one.iter().all(|b| *b == 0) {
            return Err(Fault("random generator"));
        }
        Ok(())
    }

    fn generate(&self, alg: KeyAlg) -> Result<NewKey, Fault> {
        let (id, spki) = self.token.with(|session| {
            let id = session
                .generate_random_vec(16)
                .map_err(|e| token::fault("random generator", &e))?;
            let (public, private) = make(session, alg, &id)?;
            check(session, private)?;
            Ok((id, public_key(session, alg, public)?))
        })?;
        let made = NewKey {
            material: SecretBytes::new(id),
            spki,
        };
        // A new pair must sign and verify before anyone sees it (FIPS 186-5).
        let key = self.load(alg, &made.material)?;
        for sig in alg.sig_algs() {
            let digest = sig.hash().digest(b"pairwise test");
            let value = key.sign(sig, &digest)?;
            pki::verify_signature(&made.spki, sig, pki::Signed::Digest(&digest), &value)
                .map_err(|_| Fault("pairwise test"))?;
        }
        Ok(made)
    }

    fn load(&self, alg: KeyAlg, material: &SecretBytes) -> Result<Box<dyn PrivateKey>, Fault> {
        let key = Key {
            token: self.token.clone(),
            alg,
            id: material.expose().to_vec(),
        };
        key.token.with(|session| find(session, &key.id).map(drop))?;
        Ok(Box::new(key))
    }
}

/// A key in the token, found by its id whenever it is used: handles die with their session.
struct Key {
    token: Token,
    alg: KeyAlg,
    id: Vec<u8>,
}

impl PrivateKey for Key {
    fn sign(&self, alg: SigAlg, digest: &[u8]) -> Result<Vec<u8>, Fault> {
        if !self.alg.sig_algs().contains(&alg) {
            return Err(Fault("algorithm"));
        }
        if digest.len() != alg.hash().len() {
            return Err(Fault("digest length"));
        }
        let (mechanism, data) = match alg {
            SigAlg::RsaPkcs1(hash) => (Mechanism::RsaPkcs, encode::digest_info(hash, digest)),
            SigAlg::RsaPss(hash) => (Mechanism::RsaPkcsPss(pss(hash)), digest.to_vec()),
            SigAlg::Ecdsa(_) => (Mechanism::Ecdsa, digest.to_vec()),
        };
        let value = self.token.with(|session| {
            let key = find(session, &self.id)?;
            session
                .sign(&mechanism, key, &data)
                .map_err(|e| token::fault("signing", &e))
        })?;
        match alg {
            SigAlg::Ecdsa(_) => encode::ecdsa_value(&value).ok_or(Fault("signature encoding")),
            _ => Ok(value),
        }
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

fn make(session: &Session, alg: KeyAlg, id: &[u8]) -> Result<(ObjectHandle, ObjectHandle), Fault> {
    let mut public = vec![
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Verify(true),
        Attribute::Id(id.to_vec()),
    ];
    let private = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
        Attribute::Id(id.to_vec()),
    ];
    let mechanism = match alg {
        KeyAlg::Rsa3072 | KeyAlg::Rsa4096 => {
            public.push(Attribute::ModulusBits(u64::from(alg.bits()).into()));
            public.push(Attribute::PublicExponent(vec![1, 0, 1]));
            Mechanism::RsaPkcsKeyPairGen
        }
        KeyAlg::P256 => {
            public.push(Attribute::EcParams(encode::P256.to_vec()));
            Mechanism::EccKeyPairGen
        }
        KeyAlg::P384 => {
            public.push(Attribute::EcParams(encode::P384.to_vec()));
            Mechanism::EccKeyPairGen
        }
    };
    session
        .generate_key_pair(&mechanism, &public, &private)
        .map_err(|e| token::fault("key generation", &e))
}

/// What the token says of the key must be what was asked; an attribute that doesn't come back counts as wrong.
fn check(session: &Session, key: ObjectHandle) -> Result<(), Fault> {
    let wanted = [
        (AttributeType::Sensitive, Attribute::Sensitive(true)),
        (
            AttributeType::AlwaysSensitive,
            Attribute::AlwaysSensitive(true),
        ),
        (AttributeType::Extractable, Attribute::Extractable(false)),
        (
            AttributeType::NeverExtractable,
            Attribute::NeverExtractable(true),
        ),
        (AttributeType::Local, Attribute::Local(true)),
    ];
    let types: Vec<AttributeType> = wanted.iter().map(|(t, _)| *t).collect();
    let found = session
        .get_attributes(key, &types)
        .map_err(|e| token::fault("key attributes", &e))?;
    if wanted
        .iter()
        .all(|(_, attribute)| found.contains(attribute))
    {
        Ok(())
    } else {
        Err(Fault("key attributes"))
    }
}

fn public_key(session: &Session, alg: KeyAlg, key: ObjectHandle) -> Result<Vec<u8>, Fault> {
    let types = match alg {
        KeyAlg::Rsa3072 | KeyAlg::Rsa4096 => {
            vec![AttributeType::Modulus, AttributeType::PublicExponent]
        }
        KeyAlg::P256 | KeyAlg::P384 => vec![AttributeType::EcPoint],
    };
    let found = session
        .get_attributes(key, &types)
        .map_err(|e| token::fault("public key", &e))?;
    let spki = match found.as_slice() {
        [Attribute::Modulus(n), Attribute::PublicExponent(e)] => encode::rsa_spki(n, e),
        [Attribute::EcPoint(point)] => encode::ec_spki(alg, point).ok_or(Fault("public key"))?,
        _ => return Err(Fault("public key")),
    };
    Ok(spki)
}

fn find(session: &Session, id: &[u8]) -> Result<ObjectHandle, Fault> {
    let template = [
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::Id(id.to_vec()),
        Attribute::Sign(true),
    ];
    let found = session
        .find_objects(&template)
        .map_err(|e| token::fault("finding the key", &e))?;
    match found.as_slice() {
        [one] => Ok(*one),
        _ => Err(Fault("finding the key")),
    }
}
