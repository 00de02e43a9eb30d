//! Keys in the token: templates, what is read back of them, finding them, signing with them.

use std::sync::atomic::{AtomicBool, Ordering};

use cm_core::backend::{Fault, NO_SUCH_KEY};
use core_types::{DtbsForm, HashAlg, KeyAlg, PssParams, SigAlg};
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, SessionState};

use crate::attempts::Connection;
use crate::encode;
use crate::fault::{Cure, Failure};

/// Whether the token can do this, and what is to be signed has the right form.
pub(crate) fn fits(algs: &[SigAlg], alg: SigAlg, dtbs: &[u8]) -> Result<(), Fault> {
    if !algs.contains(&alg) {
        return Err(Fault::Unfit("algorithm"));
    }
    if alg.form() == DtbsForm::Digest && dtbs.len() != alg.hash().len() {
        return Err(Fault::Unfit("digest length"));
    }
    Ok(())
}

/// Signs, unless the call was given up by then.
pub(crate) fn sign_with(
    c: &mut Connection,
    alg: SigAlg,
    key: ObjectHandle,
    data: &[u8],
) -> Result<Vec<u8>, Failure> {
    let info;
    let unfit = || Failure::plain(Fault::Unfit("algorithm"));
    let (mechanism, data) = match alg {
        SigAlg::RsaPkcs1(hash) => {
            info = encode::digest_info(hash, data);
            (Mechanism::RsaPkcs, info.as_slice())
        }
        SigAlg::RsaPss(_) | SigAlg::RsaPssLongest(..) => {
            let params = PssParams::of(alg).map(pss).ok_or_else(unfit)?;
            (Mechanism::RsaPkcsPss(params), data)
        }
        SigAlg::Ecdsa(_) => (Mechanism::Ecdsa, data),
        SigAlg::Ed25519 => {
            let pure = EddsaParams::new(EddsaSignatureScheme::Ed25519);
            (Mechanism::Eddsa(pure), data)
        }
        SigAlg::MlDsa65 | SigAlg::MlDsa87 => return Err(unfit()),
    };
    c.begin_signing(&mechanism, key)?;
    let made = c.session.sign(&mechanism, key, data);
    made.map_err(|e| Failure::of("signing", &e))
}

/// The value as the module wants it, verified: a faulty one of RSA or of Ed25519, which is deterministic, would betray the
/// key, and a device that gives a faulty one of ECDSA has to be known here, where it is taken out of use. The SAM
/// verifies once more.
pub(crate) fn verified(
    spki: &[u8],
    alg: SigAlg,
    dtbs: &[u8],
    value: Vec<u8>,
) -> Result<Vec<u8>, Fault> {
    let value = match alg {
        SigAlg::Ecdsa(_) => {
            encode::ecdsa_value(&value).ok_or(Fault::Broken("signature encoding"))?
        }
        _ => value,
    };
    let signed = match alg.form() {
        DtbsForm::Digest => pki::Signed::Digest(dtbs),
        DtbsForm::Message => pki::Signed::Message(dtbs),
    };
    pki::verify_signature(spki, alg, signed, &value)
        .map(|()| value)
        .map_err(|_| Fault::Broken("a value that doesn't verify"))
}

/// Nothing for ML-DSA, whose mechanism (PKCS#11 3.2) no token at hand has.
pub(crate) fn mechanism_of(alg: SigAlg) -> Option<MechanismType> {
    match alg {
        SigAlg::RsaPkcs1(_) => Some(MechanismType::RSA_PKCS),
        SigAlg::RsaPss(_) | SigAlg::RsaPssLongest(..) => Some(MechanismType::RSA_PKCS_PSS),
        SigAlg::Ecdsa(_) => Some(MechanismType::ECDSA),
        SigAlg::Ed25519 => Some(MechanismType::EDDSA),
        SigAlg::MlDsa65 | SigAlg::MlDsa87 => None,
    }
}

fn pss(params: PssParams) -> PkcsPssParams {
    let (hash_alg, mgf) = match params.hash {
        HashAlg::Sha256 => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
        HashAlg::Sha384 => (MechanismType::SHA384, PkcsMgfType::MGF1_SHA384),
        HashAlg::Sha512 => (MechanismType::SHA512, PkcsMgfType::MGF1_SHA512),
    };
    PkcsPssParams {
        hash_alg,
        mgf,
        s_len: u64::from(params.salt).into(),
    }
}

/// What every public key gets.
pub(crate) fn public_template(id: &[u8]) -> Vec<Attribute> {
    vec![
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Verify(true),
        Attribute::Id(id.to_vec()),
    ]
}

/// What every private key gets: it signs, does nothing else, and doesn't leave.
pub(crate) fn private_template(id: &[u8]) -> Vec<Attribute> {
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

/// Mechanism and attributes of a pair that lives in the session only, to be wrapped at once.
pub(crate) fn key_pair_template(
    alg: KeyAlg,
) -> Result<(Mechanism<'static>, Vec<Attribute>, Vec<Attribute>), Failure> {
    let (mechanism, kind) = kind(alg)?;
    let mut public = vec![
        Attribute::Token(false),
        Attribute::Private(false),
        Attribute::Verify(true),
    ];
    public.extend(kind);
    let private = vec![
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        // Otherwise it couldn't be wrapped.
        Attribute::Extractable(true),
        Attribute::Sign(true),
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
    ];
    Ok((mechanism, public, private))
}

/// The mechanism that makes a kind of pair, and what it has to be told.
pub(crate) fn kind(alg: KeyAlg) -> Result<(Mechanism<'static>, Vec<Attribute>), Failure> {
    let curve = |params: &[u8]| vec![Attribute::EcParams(params.to_vec())];
    match alg {
        KeyAlg::P256 | KeyAlg::P384 | KeyAlg::P521 => {
            let params = encode::curve(alg).unwrap_or_default();
            Ok((Mechanism::EccKeyPairGen, curve(params)))
        }
        KeyAlg::Ed25519 => Ok((Mechanism::EccEdwardsKeyPairGen, curve(&encode::ED25519))),
        KeyAlg::Rsa2048 | KeyAlg::Rsa3072 | KeyAlg::Rsa4096 => Ok((
            Mechanism::RsaPkcsKeyPairGen,
            vec![
                Attribute::ModulusBits(u64::from(alg.bits()).into()),
                Attribute::PublicExponent(vec![1, 0, 1]),
            ],
        )),
        KeyAlg::MlDsa65 | KeyAlg::MlDsa87 => Err(Failure::plain(Fault::Unfit("algorithm"))),
    }
}

/// Makes a pair with this id; answers the private half.
pub(crate) fn make(c: &Connection, alg: KeyAlg, id: &[u8]) -> Result<ObjectHandle, Failure> {
    let (mechanism, kind) = kind(alg)?;
    let mut public = public_template(id);
    public.extend(kind);
    c.begin()?;
    let made = c
        .session
        .generate_key_pair(&mechanism, &public, &private_template(id));
    let (_, private) = made.map_err(|e| Failure::of("key generation", &e))?;
    Ok(private)
}

/// Destroys whatever has this id in the token, and looks that it is gone.
pub(crate) fn destroy(c: &mut Connection, id: &[u8]) -> Result<(), Failure> {
    c.keys.remove(id);
    logged_in(&c.session)?;
    let named = [Attribute::Id(id.to_vec()), Attribute::Token(true)];
    for object in find_all(&c.session, &named)? {
        let gone = c.session.destroy_object(object);
        gone.map_err(|e| Failure::of("erasing the key", &e))?;
    }
    if find_all(&c.session, &named)?.is_empty() {
        logged_in(&c.session)
    } else {
        Err(Failure::plain(Fault::Broken("a key that can't be erased")))
    }
}

/// Makes objects under an id that is new, in tries of which each begins with nothing under it: an error may come after the
/// deed. Also what is made after it was given up doesn't stay.
pub(crate) fn afresh<T>(
    c: &mut Connection,
    id: &[u8],
    tried: &AtomicBool,
    make: impl FnOnce(&mut Connection) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if tried.swap(true, Ordering::SeqCst) {
        destroy(c, id)?;
    }
    let made = make(c);
    if !c.awaited() {
        destroy(c, id)?;
    }
    made
}

/// What the token says of the key must be what was asked; an attribute that doesn't come back counts as wrong. `made`:
/// in the token, so that it was never outside either.
pub(crate) fn check(session: &Session, key: ObjectHandle, made: bool) -> Result<(), Failure> {
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

pub(crate) fn public_key(
    session: &Session,
    alg: KeyAlg,
    key: ObjectHandle,
) -> Result<Vec<u8>, Failure> {
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
pub(crate) fn logged_in(session: &Session) -> Result<(), Failure> {
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
pub(crate) fn private_key(connection: &mut Connection, id: &[u8]) -> Result<ObjectHandle, Failure> {
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

pub(crate) fn find(
    session: &Session,
    class: ObjectClass,
    id: &[u8],
) -> Result<ObjectHandle, Failure> {
    let template = [
        Attribute::Class(class),
        Attribute::Id(id.to_vec()),
        Attribute::Token(true),
    ];
    match find_all(session, &template)?.as_slice() {
        [one] => Ok(*one),
        [] => Err(Failure::plain(NO_SUCH_KEY)),
        _ => Err(Failure::plain(Fault::Unfit("two keys of one name"))),
    }
}

pub(crate) fn find_all(
    session: &Session,
    template: &[Attribute],
) -> Result<Vec<ObjectHandle>, Failure> {
    let found = session.find_objects(template);
    found.map_err(|e| Failure::of("finding the key", &e))
}
