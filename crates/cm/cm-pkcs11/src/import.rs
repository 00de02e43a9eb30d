//! A private key in PKCS#8 to the attributes of a token's object. The token's own import mechanisms differ from maker to
//! maker; this one every token has. The key is in this process's memory for as long as that takes.

use cm_core::backend::Fault;
use core_types::{KeyAlg, SecretBytes};
use cryptoki::object::{Attribute, KeyType};
use pki::asn1::{BIT_STRING, INTEGER, OCTET_STRING, SEQUENCE, Tlv, Walker};

use crate::encode;

const WHAT: &str = "private key";

/// Attributes of the public and of the private object, apart from those that every key gets.
pub(crate) type Pair = (Vec<Attribute>, Vec<Attribute>);

/// Reads RSA and elliptic keys; others can't be imported into a token.
///
/// # Errors
/// [`Fault::Unfit`].
pub(crate) fn pair(alg: KeyAlg, pkcs8: &SecretBytes, spki: &[u8]) -> Result<Pair, Fault> {
    let read = || {
        if alg.is_rsa() {
            rsa(pkcs8.expose())
        } else {
            ec(alg, pkcs8.expose(), spki)
        }
    };
    read().ok_or(Fault::Unfit(
        "a private key that can't be imported into a token",
    ))
}

/// The OCTET STRING of a PrivateKeyInfo (RFC 5208 §5).
fn inner(pkcs8: &[u8]) -> Option<Walker<'_>> {
    let mut info = Tlv::single(pkcs8, WHAT).ok()?.open(SEQUENCE, WHAT).ok()?;
    info.expect(INTEGER, WHAT).ok()?;
    info.expect(SEQUENCE, WHAT).ok()?;
    let key = info.expect(OCTET_STRING, WHAT).ok()?.value;
    Tlv::single(key, WHAT).ok()?.open(SEQUENCE, WHAT).ok()
}

fn rsa(pkcs8: &[u8]) -> Option<Pair> {
    let mut key = inner(pkcs8)?;
    let mut next = || {
        let number = key.expect(INTEGER, WHAT).ok()?.as_uint(WHAT).ok()?;
        Some(number.to_vec())
    };
    next()?;
    let (n, e) = (next()?, next()?);
    let public = vec![
        Attribute::KeyType(KeyType::RSA),
        Attribute::Modulus(n.clone()),
        Attribute::PublicExponent(e.clone()),
    ];
    let private = vec![
        Attribute::KeyType(KeyType::RSA),
        Attribute::Modulus(n),
        Attribute::PublicExponent(e),
        Attribute::PrivateExponent(next()?),
        Attribute::Prime1(next()?),
        Attribute::Prime2(next()?),
        Attribute::Exponent1(next()?),
        Attribute::Exponent2(next()?),
        Attribute::Coefficient(next()?),
    ];
    Some((public, private))
}

fn ec(alg: KeyAlg, pkcs8: &[u8], spki: &[u8]) -> Option<Pair> {
    let params = encode::curve(alg)?;
    let mut key = inner(pkcs8)?;
    key.expect(INTEGER, WHAT).ok()?;
    let value = key.expect(OCTET_STRING, WHAT).ok()?.value.to_vec();
    let mut outer = Tlv::single(spki, WHAT).ok()?.open(SEQUENCE, WHAT).ok()?;
    outer.expect(SEQUENCE, WHAT).ok()?;
    let point = outer.expect(BIT_STRING, WHAT).ok()?.as_bits(WHAT).ok()?;
    let kind = || {
        [
            Attribute::KeyType(KeyType::EC),
            Attribute::EcParams(params.to_vec()),
        ]
    };
    let mut public = kind().to_vec();
    public.push(Attribute::EcPoint(pki::asn1::tlv(OCTET_STRING, &[point])));
    let mut private = kind().to_vec();
    private.push(Attribute::Value(value));
    Some((public, private))
}
