//! A private key in PKCS#8 to the attributes of a token's object. The token's own import mechanisms differ from maker to
//! maker; this one every token has. The key is in this process's memory for as long as that takes, and wiped then.

use cm_core::backend::Fault;
use core_types::{KeyAlg, SecretBytes};
use cryptoki::object::{Attribute, KeyType};
use pki::asn1::{BIT_STRING, INTEGER, OCTET_STRING, SEQUENCE, Tlv, Walker};
use zeroize::Zeroize as _;

use crate::encode;

const WHAT: &str = "private key";

/// Attributes of the public and of the private object, apart from those that every key gets.
pub(crate) type Pair = (Vec<Attribute>, Private);

/// Attributes of a private key. The binding keeps their values as they are; here they are wiped when nobody needs them any
/// more. It can't be cloned, and nothing in it is printed.
pub(crate) struct Private(Vec<Attribute>);

impl Private {
    /// With attributes that are no secret.
    fn of(known: Vec<Attribute>) -> Self {
        Self(known)
    }

    /// What every key gets, before the key's own.
    pub(crate) fn with(mut self, more: Vec<Attribute>) -> Self {
        self.0.extend(more);
        self
    }

    /// For the call that brings the key into the token.
    pub(crate) fn expose(&self) -> &[Attribute] {
        &self.0
    }

    /// Overwrites the values that are secret.
    fn wipe(&mut self) {
        for attribute in &mut self.0 {
            match attribute {
                Attribute::Value(secret)
                | Attribute::PrivateExponent(secret)
                | Attribute::Prime1(secret)
                | Attribute::Prime2(secret)
                | Attribute::Exponent1(secret)
                | Attribute::Exponent2(secret)
                | Attribute::Coefficient(secret) => secret.zeroize(),
                _ => {}
            }
        }
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        self.wipe();
    }
}

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
    let mut private = Private::of(vec![
        Attribute::KeyType(KeyType::RSA),
        Attribute::Modulus(n),
        Attribute::PublicExponent(e),
    ]);
    // One after the other, so that what was read is wiped also if the next can't be.
    let secret: [fn(Vec<u8>) -> Attribute; 6] = [
        Attribute::PrivateExponent,
        Attribute::Prime1,
        Attribute::Prime2,
        Attribute::Exponent1,
        Attribute::Exponent2,
        Attribute::Coefficient,
    ];
    for attribute in secret {
        private.0.push(attribute(next()?));
    }
    Some((public, private))
}

fn ec(alg: KeyAlg, pkcs8: &[u8], spki: &[u8]) -> Option<Pair> {
    let params = encode::curve(alg)?;
    let mut key = inner(pkcs8)?;
    key.expect(INTEGER, WHAT).ok()?;
    let value = key.expect(OCTET_STRING, WHAT).ok()?.value;
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
    let mut private = Private::of(kind().to_vec());
    private.0.push(Attribute::Value(value.to_vec()));
    Some((public, private))
}

#[cfg(test)]
mod tests {
    use super::*;

    // shows: T-KEY-DISCLOSE, III-A1.4-intermediate-values
    #[test]
    fn a_key_on_its_way_into_the_token_is_wiped() {
        let number = || vec![0x5a; 32];
        let mut private = Private::of(vec![Attribute::Modulus(number())]).with(vec![
            Attribute::Value(number()),
            Attribute::PrivateExponent(number()),
            Attribute::Prime1(number()),
            Attribute::Prime2(number()),
            Attribute::Exponent1(number()),
            Attribute::Exponent2(number()),
            Attribute::Coefficient(number()),
        ]);
        private.wipe();
        let left = private.0.iter().filter(|attribute| {
            let told = format!("{attribute:?}");
            told.contains("90")
        });
        let left: Vec<_> = left.collect();
        assert!(
            matches!(left.as_slice(), [Attribute::Modulus(_)]),
            "the public part alone: {left:?}"
        );
    }
}
