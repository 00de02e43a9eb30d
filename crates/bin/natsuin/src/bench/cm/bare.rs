//! The token without the module: sessions of the PKCS#11 library that sign and do nothing else. No pool, no check of the value.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use core_types::{HashAlg, KeyAlg};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

use super::super::measure::{now, per_second};

/// `CKA_EC_PARAMS`: the curves' identifiers in DER, and the name of Ed25519's, as libraries want it.
const P256: &[u8] = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
const P384: &[u8] = b"\x06\x05\x2b\x81\x04\x00\x22";
const P521: &[u8] = b"\x06\x05\x2b\x81\x04\x00\x23";
const ED25519: &[u8] = b"\x13\x0cedwards25519";

/// A token that somebody has initialised.
pub(super) struct Bare {
    library: Pkcs11,
    slot: Slot,
    pin: AuthPin,
}

/// A pair in the token.
struct Pair {
    public: ObjectHandle,
    private: ObjectHandle,
}

impl Bare {
    pub(super) fn open(library: &Path, label: &str, pin: &str) -> Result<Self> {
        let library = Pkcs11::new(library)?;
        match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(error.into()),
        }
        let slots = library.get_slots_with_initialized_token()?;
        let named = slots.into_iter().find(|slot| {
            let told = library.get_token_info(*slot);
            told.is_ok_and(|told| told.label().trim_end() == label)
        });
        Ok(Self {
            slot: named.context("the token isn't there")?,
            library,
            pin: AuthPin::from(pin.to_owned()),
        })
    }

    /// A session that may sign. The login is the whole program's, so that another one may have come first.
    fn session(&self) -> Result<Session> {
        let session = self.library.open_rw_session(self.slot)?;
        match session.login(UserType::User, Some(&self.pin)) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(error) => Err(error.into()),
        }
    }

    /// Signatures a second with so many sessions, a thread for each; nothing when the token makes no such key.
    pub(super) fn rate(&self, alg: KeyAlg, sessions: usize, span: Duration) -> Result<Option<f64>> {
        let first = self.session()?;
        let Some(pair) = pair(&first, alg) else {
            return Ok(None);
        };
        let all = (0..sessions).map(|_| self.session());
        let all: Vec<Session> = all.collect::<Result<_>>()?;
        let begun = now();
        let count = std::thread::scope(|scope| {
            let threads: Vec<_> = all
                .into_iter()
                .map(|session| {
                    let key = pair.private;
                    scope.spawn(move || {
                        let (how, data) = signing(alg)?;
                        let mut count = 0_usize;
                        while begun.elapsed() < span {
                            session.sign(&how, key, &data).ok()?;
                            count += 1;
                        }
                        Some(count)
                    })
                })
                .collect();
            let counts = threads.into_iter().map(|t| t.join().ok().flatten());
            counts.sum::<Option<usize>>()
        });
        let elapsed = begun.elapsed();
        first.destroy_object(pair.private)?;
        first.destroy_object(pair.public)?;
        let count = count.context("the token refused to sign")?;
        Ok(Some(per_second(count, elapsed)))
    }
}

/// How a key of this kind signs, and something for it to sign.
fn signing(alg: KeyAlg) -> Option<(Mechanism<'static>, Vec<u8>)> {
    let how = match alg {
        KeyAlg::P256 | KeyAlg::P384 | KeyAlg::P521 => Mechanism::Ecdsa,
        KeyAlg::Ed25519 => Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519)),
        KeyAlg::Rsa2048 | KeyAlg::Rsa3072 | KeyAlg::Rsa4096 => Mechanism::Sha256RsaPkcs,
        KeyAlg::MlDsa65 | KeyAlg::MlDsa87 => return None,
    };
    let hash = match alg {
        KeyAlg::P384 => HashAlg::Sha384,
        KeyAlg::P521 => HashAlg::Sha512,
        _ => HashAlg::Sha256,
    };
    Some((how, hash.digest(b"bench")))
}

fn pair(session: &Session, alg: KeyAlg) -> Option<Pair> {
    let curve = |params: &[u8]| vec![Attribute::EcParams(params.to_vec())];
    let (make, kind) = match alg {
        KeyAlg::P256 => (Mechanism::EccKeyPairGen, curve(P256)),
        KeyAlg::P384 => (Mechanism::EccKeyPairGen, curve(P384)),
        KeyAlg::P521 => (Mechanism::EccKeyPairGen, curve(P521)),
        KeyAlg::Ed25519 => (Mechanism::EccEdwardsKeyPairGen, curve(ED25519)),
        KeyAlg::Rsa2048 | KeyAlg::Rsa3072 | KeyAlg::Rsa4096 => {
            let bits = Attribute::ModulusBits(u64::from(alg.bits()).into());
            let kind = vec![bits, Attribute::PublicExponent(vec![1, 0, 1])];
            (Mechanism::RsaPkcsKeyPairGen, kind)
        }
        KeyAlg::MlDsa65 | KeyAlg::MlDsa87 => return None,
    };
    let mut public = vec![Attribute::Token(true), Attribute::Verify(true)];
    public.extend(kind);
    let private = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Sign(true),
    ];
    let (public, private) = session.generate_key_pair(&make, &public, &private).ok()?;
    Some(Pair { public, private })
}
