//! Software back end of the CM, on AWS-LC: level 1 only, and it says so.
//!
//! Private keys exist in the memory of this process while they are used; at rest the module seals them. Nothing in
//! here knows of orders, owners or attributes.

use aws_lc_rs::digest::Digest;
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
    RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
};
use cm_core::backend::{Backend, Fault, NewKey, PrivateKey};
use core_types::{HashAlg, KeyAlg, Level, SecretBytes, SigAlg};

/// The software back end.
#[derive(Debug, Clone, Copy, Default)]
pub struct SoftBackend;

impl Backend for SoftBackend {
    fn name(&self) -> &'static str {
        "software"
    }

    fn ceiling(&self) -> Level {
        Level::One
    }

    fn self_test(&self) -> Result<(), Fault> {
        known_answers()?;
        // One pair of each fast kind; RSA pairs are tested whenever one is made.
        for alg in [KeyAlg::P256, KeyAlg::P384] {
            self.generate(alg)?;
        }
        Ok(())
    }

    fn generate(&self, alg: KeyAlg) -> Result<NewKey, Fault> {
        let key = match alg {
            KeyAlg::Rsa3072 => Pair::generate_rsa(KeySize::Rsa3072)?,
            KeyAlg::Rsa4096 => Pair::generate_rsa(KeySize::Rsa4096)?,
            KeyAlg::P256 => Pair::generate_ec(&ECDSA_P256_SHA256_ASN1_SIGNING)?,
            KeyAlg::P384 => Pair::generate_ec(&ECDSA_P384_SHA384_ASN1_SIGNING)?,
        };
        let (pair, material) = key;
        let key = Key::new(pair)?;
        key.pairwise_test(alg)?;
        Ok(NewKey {
            spki: key.spki,
            material,
        })
    }

    fn load(&self, alg: KeyAlg, material: &SecretBytes) -> Result<Box<dyn PrivateKey>, Fault> {
        Ok(Box::new(Key::load(alg, material)?))
    }

    fn elsewhere(&self, _: &SecretBytes) -> Option<SecretBytes> {
        None
    }

    fn erase(&self, _: &SecretBytes) -> Result<(), Fault> {
        Ok(())
    }
}

/// A pair with its public half in X.509's encoding.
struct Key {
    pair: Pair,
    spki: Vec<u8>,
}

enum Pair {
    Rsa(rsa::KeyPair),
    Ec(EcdsaKeyPair, HashAlg),
}

impl Pair {
    fn generate_rsa(size: KeySize) -> Result<(Self, SecretBytes), Fault> {
        let pair = rsa::KeyPair::generate(size).map_err(|_| Fault::Broken("RSA key generation"))?;
        let pkcs8: Pkcs8V1Der<'_> = pair
            .as_der()
            .map_err(|_| Fault::Broken("RSA key encoding"))?;
        let material = SecretBytes::new(pkcs8.as_ref().to_vec());
        Ok((Self::Rsa(pair), material))
    }

    fn generate_ec(alg: &'static EcdsaSigningAlgorithm) -> Result<(Self, SecretBytes), Fault> {
        let document = EcdsaKeyPair::generate_pkcs8(alg, &SystemRandom::new())
            .map_err(|_| Fault::Broken("EC key generation"))?;
        let material = SecretBytes::new(document.as_ref().to_vec());
        let pair = EcdsaKeyPair::from_pkcs8(alg, material.expose())
            .map_err(|_| Fault::Broken("EC key encoding"))?;
        Ok((Self::Ec(pair, curve_hash(alg)), material))
    }

    fn load(alg: KeyAlg, material: &SecretBytes) -> Result<Self, Fault> {
        let ec = |curve| {
            let pair = EcdsaKeyPair::from_pkcs8(curve, material.expose())
                .map_err(|_| Fault::Unfit("key loading"))?;
            Ok(Self::Ec(pair, curve_hash(curve)))
        };
        match alg {
            KeyAlg::Rsa3072 | KeyAlg::Rsa4096 => rsa::KeyPair::from_pkcs8(material.expose())
                .map(Self::Rsa)
                .map_err(|_| Fault::Unfit("key loading")),
            KeyAlg::P256 => ec(&ECDSA_P256_SHA256_ASN1_SIGNING),
            KeyAlg::P384 => ec(&ECDSA_P384_SHA384_ASN1_SIGNING),
        }
    }

    fn spki(&self) -> Result<Vec<u8>, Fault> {
        let der: Result<PublicKeyX509Der<'_>, _> = match self {
            Self::Rsa(pair) => pair.public_key().as_der(),
            Self::Ec(pair, _) => pair.public_key().as_der(),
        };
        der.map(|d| d.as_ref().to_vec())
            .map_err(|_| Fault::Broken("public key encoding"))
    }

    fn sign(&self, alg: SigAlg, digest: &[u8]) -> Result<Vec<u8>, Fault> {
        let digest = import(alg.hash(), digest)?;
        match (self, alg) {
            (Self::Rsa(pair), SigAlg::RsaPkcs1(_) | SigAlg::RsaPss(_)) => {
                let mut value = vec![0; pair.public_modulus_len()];
                let padding = padding(alg).ok_or(Fault::Unfit("algorithm"))?;
                pair.sign_digest(padding, &digest, &mut value)
                    .map_err(|_| Fault::Broken("RSA signing"))?;
                Ok(value)
            }
            (Self::Ec(pair, hash), SigAlg::Ecdsa(h)) if *hash == h => pair
                .sign_digest(&digest)
                .map(|v| v.as_ref().to_vec())
                .map_err(|_| Fault::Broken("ECDSA signing")),
            _ => Err(Fault::Unfit("algorithm")),
        }
    }
}

impl Key {
    fn new(pair: Pair) -> Result<Self, Fault> {
        Ok(Self {
            spki: pair.spki()?,
            pair,
        })
    }

    fn load(alg: KeyAlg, material: &SecretBytes) -> Result<Self, Fault> {
        Self::new(Pair::load(alg, material)?)
    }

    fn sign_value(&self, alg: SigAlg, digest: &[u8]) -> Result<Vec<u8>, Fault> {
        self.pair.sign(alg, digest)
    }

    fn verifies(&self, alg: SigAlg, digest: &[u8], value: &[u8]) -> bool {
        pki::verify_signature(&self.spki, alg, pki::Signed::Digest(digest), value).is_ok()
    }

    /// FIPS 186-5: a new pair must sign and verify before anyone sees it.
    fn pairwise_test(&self, alg: KeyAlg) -> Result<(), Fault> {
        for sig in alg.sig_algs() {
            let digest = sig.hash().digest(b"pairwise test");
            if !self.verifies(sig, &digest, &self.sign_value(sig, &digest)?) {
                return Err(Fault::Broken("pairwise test"));
            }
        }
        Ok(())
    }
}

impl PrivateKey for Key {
    fn spki(&self) -> &[u8] {
        &self.spki
    }

    fn sign(&self, alg: SigAlg, digest: &[u8]) -> Result<Vec<u8>, Fault> {
        self.sign_value(alg, digest)
    }
}

fn curve_hash(curve: &'static EcdsaSigningAlgorithm) -> HashAlg {
    if *curve == ECDSA_P384_SHA384_ASN1_SIGNING {
        HashAlg::Sha384
    } else {
        HashAlg::Sha256
    }
}

fn import(hash: HashAlg, digest: &[u8]) -> Result<Digest, Fault> {
    Digest::import_less_safe(digest, hash.aws()).map_err(|_| Fault::Unfit("digest length"))
}

fn padding(alg: SigAlg) -> Option<&'static dyn RsaEncoding> {
    use HashAlg::{Sha256, Sha384, Sha512};
    match alg {
        SigAlg::RsaPkcs1(Sha256) => Some(&RSA_PKCS1_SHA256),
        SigAlg::RsaPkcs1(Sha384) => Some(&RSA_PKCS1_SHA384),
        SigAlg::RsaPkcs1(Sha512) => Some(&RSA_PKCS1_SHA512),
        SigAlg::RsaPss(Sha256) => Some(&RSA_PSS_SHA256),
        SigAlg::RsaPss(Sha384) => Some(&RSA_PSS_SHA384),
        SigAlg::RsaPss(Sha512) => Some(&RSA_PSS_SHA512),
        SigAlg::Ecdsa(_) => None,
    }
}

/// What was signed with the known keys, by another implementation.
const KNOWN_MESSAGE: &[u8] = b"natsuin known answer";

/// A key that everybody knows, and signatures by it over [`KNOWN_MESSAGE`].
struct Known {
    alg: KeyAlg,
    pkcs8: &'static [u8],
    signatures: &'static [(SigAlg, &'static [u8])],
}

const KNOWN: [Known; 3] = [
    Known {
        alg: KeyAlg::Rsa3072,
        pkcs8: include_bytes!("../known/rsa-3072.p8"),
        signatures: &[
            (
                SigAlg::RsaPkcs1(HashAlg::Sha256),
                include_bytes!("../known/rsa-3072-pkcs1.sig"),
            ),
            (
                SigAlg::RsaPss(HashAlg::Sha256),
                include_bytes!("../known/rsa-3072-pss.sig"),
            ),
        ],
    },
    Known {
        alg: KeyAlg::P256,
        pkcs8: include_bytes!("../known/p-256.p8"),
        signatures: &[(
            SigAlg::Ecdsa(HashAlg::Sha256),
            include_bytes!("../known/p-256.sig"),
        )],
    },
    Known {
        alg: KeyAlg::P384,
        pkcs8: include_bytes!("../known/p-384.p8"),
        signatures: &[(
            SigAlg::Ecdsa(HashAlg::Sha384),
            include_bytes!("../known/p-384.sig"),
        )],
    },
];

/// Verifies the known signatures, refuses them over another message, signs with the known keys, and compares what is
/// deterministic: PKCS#1 v1.5. RSA-4096 runs through the same code as RSA-3072.
fn known_answers() -> Result<(), Fault> {
    for known in &KNOWN {
        let material = SecretBytes::new(known.pkcs8.to_vec());
        let key =
            Key::load(known.alg, &material).map_err(|_| Fault::Broken("known key doesn't load"))?;
        for (sig, value) in known.signatures {
            let digest = sig.hash().digest(KNOWN_MESSAGE);
            let other = sig.hash().digest(b"another message");
            let good = key.verifies(*sig, &digest, value)
                && !key.verifies(*sig, &other, value)
                && match (sig, key.sign_value(*sig, &digest)?) {
                    (SigAlg::RsaPkcs1(_), made) => made == *value,
                    (_, made) => key.verifies(*sig, &digest, &made),
                };
            if !good {
                return Err(Fault::Broken("known answer of a signature"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // shows: III-3-13-detect-software, III-3-2-approved-algorithms
    #[test]
    fn keys_of_every_kind_sign_with_their_algorithms_and_no_other() {
        let backend = SoftBackend;
        backend.self_test().unwrap();
        for alg in [KeyAlg::P256, KeyAlg::P384, KeyAlg::Rsa3072] {
            let made = backend.generate(alg).unwrap();
            let key = backend.load(alg, &made.material).unwrap();
            for sig in SigAlg::all() {
                let digest = sig.hash().digest(b"document");
                let value = key.sign(sig, &digest);
                assert_eq!(value.is_ok(), alg.sig_algs().contains(&sig), "{alg} {sig}");
                if let Ok(value) = value {
                    pki::verify_signature(&made.spki, sig, pki::Signed::Digest(&digest), &value)
                        .unwrap();
                    assert!(key.sign(sig, &[0; 20]).is_err(), "a SHA-1 sized digest");
                }
            }
        }
    }

    #[test]
    fn material_of_another_kind_is_refused() {
        let backend = SoftBackend;
        let made = backend.generate(KeyAlg::P256).unwrap();
        for alg in [KeyAlg::P384, KeyAlg::Rsa3072] {
            assert!(backend.load(alg, &made.material).is_err());
        }
        assert!(
            backend
                .load(KeyAlg::P256, &SecretBytes::new(vec![1, 2, 3]))
                .is_err()
        );
    }
}
