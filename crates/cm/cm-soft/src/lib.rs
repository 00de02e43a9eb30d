//! Software back end of the CM, on AWS-LC: level 1 only, and it says so.
//!
//! Private keys exist in the memory of this process while they are used; at rest the module seals them. Nothing in
//! here knows of orders, owners or attributes.

use aws_lc_rs::digest::Digest;
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, ML_DSA_65_SIGNING,
    ML_DSA_87_SIGNING, PqdsaKeyPair, PqdsaSigningAlgorithm, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
    RsaPssSaltLength, RsaSignatureEncoding,
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
        for alg in KeyAlg::ALL.into_iter().filter(|alg| !alg.is_rsa()) {
            self.generate(alg)?;
        }
        Ok(())
    }

    fn generate(&self, alg: KeyAlg) -> Result<NewKey, Fault> {
        let (pair, material) = match kind(alg) {
            Kind::Rsa(size) => Pair::generate_rsa(size)?,
            Kind::Ec(curve, hash) => Pair::generate_ec(curve, hash)?,
            Kind::Ed25519 => Pair::generate_ed25519()?,
            Kind::MlDsa(set, alg) => Pair::generate_ml_dsa(set, alg)?,
        };
        let key = Key::new(pair)?;
        key.pairwise_test(alg)?;
        Ok(NewKey {
            spki: key.spki,
            material,
        })
    }

    fn import(&self, alg: KeyAlg, pkcs8: &SecretBytes, spki: &[u8]) -> Result<NewKey, Fault> {
        let key = Key::load(alg, pkcs8)?;
        if key.spki != spki {
            return Err(Fault::Unfit("another public key"));
        }
        key.pairwise_test(alg)
            .map_err(|_| Fault::Unfit("a pair that doesn't fit together"))?;
        Ok(NewKey {
            spki: key.spki,
            material: pkcs8.clone(),
        })
    }

    fn exports(&self) -> bool {
        true
    }

    fn export(&self, _: KeyAlg, material: &SecretBytes) -> Result<SecretBytes, Fault> {
        Ok(material.clone())
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
    Ed25519(Ed25519KeyPair),
    MlDsa(PqdsaKeyPair, SigAlg),
}

/// What the library calls a kind of key.
enum Kind {
    Rsa(KeySize),
    Ec(&'static EcdsaSigningAlgorithm, HashAlg),
    Ed25519,
    MlDsa(&'static PqdsaSigningAlgorithm, SigAlg),
}

fn kind(alg: KeyAlg) -> Kind {
    match alg {
        KeyAlg::Rsa2048 => Kind::Rsa(KeySize::Rsa2048),
        KeyAlg::Rsa3072 => Kind::Rsa(KeySize::Rsa3072),
        KeyAlg::Rsa4096 => Kind::Rsa(KeySize::Rsa4096),
        KeyAlg::P256 => Kind::Ec(&ECDSA_P256_SHA256_ASN1_SIGNING, HashAlg::Sha256),
        KeyAlg::P384 => Kind::Ec(&ECDSA_P384_SHA384_ASN1_SIGNING, HashAlg::Sha384),
        KeyAlg::P521 => Kind::Ec(&ECDSA_P521_SHA512_ASN1_SIGNING, HashAlg::Sha512),
        KeyAlg::Ed25519 => Kind::Ed25519,
        KeyAlg::MlDsa65 => Kind::MlDsa(&ML_DSA_65_SIGNING, SigAlg::MlDsa65),
        KeyAlg::MlDsa87 => Kind::MlDsa(&ML_DSA_87_SIGNING, SigAlg::MlDsa87),
    }
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

    fn generate_ec(
        curve: &'static EcdsaSigningAlgorithm,
        hash: HashAlg,
    ) -> Result<(Self, SecretBytes), Fault> {
        let document = EcdsaKeyPair::generate_pkcs8(curve, &SystemRandom::new())
            .map_err(|_| Fault::Broken("EC key generation"))?;
        let material = SecretBytes::new(document.as_ref().to_vec());
        let pair = EcdsaKeyPair::from_pkcs8(curve, material.expose())
            .map_err(|_| Fault::Broken("EC key encoding"))?;
        Ok((Self::Ec(pair, hash), material))
    }

    fn generate_ed25519() -> Result<(Self, SecretBytes), Fault> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| Fault::Broken("Ed25519 key generation"))?;
        let material = SecretBytes::new(document.as_ref().to_vec());
        let pair = Ed25519KeyPair::from_pkcs8(material.expose())
            .map_err(|_| Fault::Broken("Ed25519 key encoding"))?;
        Ok((Self::Ed25519(pair), material))
    }

    fn generate_ml_dsa(
        set: &'static PqdsaSigningAlgorithm,
        alg: SigAlg,
    ) -> Result<(Self, SecretBytes), Fault> {
        let pair =
            PqdsaKeyPair::generate(set).map_err(|_| Fault::Broken("ML-DSA key generation"))?;
        let document = pair
            .to_pkcs8v1()
            .map_err(|_| Fault::Broken("ML-DSA key encoding"))?;
        let material = SecretBytes::new(document.as_ref().to_vec());
        Ok((Self::MlDsa(pair, alg), material))
    }

    fn load(alg: KeyAlg, material: &SecretBytes) -> Result<Self, Fault> {
        let pkcs8 = material.expose();
        let loaded = match kind(alg) {
            Kind::Rsa(_) => rsa::KeyPair::from_pkcs8(pkcs8).map(Self::Rsa),
            Kind::Ec(curve, hash) => {
                EcdsaKeyPair::from_pkcs8(curve, pkcs8).map(|pair| Self::Ec(pair, hash))
            }
            // Version 1 of the form, which has no public key to compare with, is that of most other programs.
            Kind::Ed25519 => Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map(Self::Ed25519),
            Kind::MlDsa(set, alg) => {
                PqdsaKeyPair::from_pkcs8(set, pkcs8).map(|pair| Self::MlDsa(pair, alg))
            }
        };
        loaded.map_err(|_| Fault::Unfit("key loading"))
    }

    fn spki(&self) -> Result<Vec<u8>, Fault> {
        let der: Result<PublicKeyX509Der<'_>, _> = match self {
            Self::Rsa(pair) => pair.public_key().as_der(),
            Self::Ec(pair, _) => pair.public_key().as_der(),
            Self::Ed25519(pair) => pair.public_key().as_der(),
            Self::MlDsa(pair, _) => pair.public_key().as_der(),
        };
        der.map(|d| d.as_ref().to_vec())
            .map_err(|_| Fault::Broken("public key encoding"))
    }

    fn sign(&self, alg: SigAlg, dtbs: &[u8]) -> Result<Vec<u8>, Fault> {
        match (self, alg) {
            (
                Self::Rsa(pair),
                SigAlg::RsaPkcs1(_) | SigAlg::RsaPss(_) | SigAlg::RsaPssLongest(..),
            ) => {
                // The longest salt of another modulus.
                if matches!(alg, SigAlg::RsaPssLongest(_, size) if size.bytes() != pair.public_modulus_len())
                {
                    return Err(Fault::Unfit("algorithm"));
                }
                let digest = import(alg.hash(), dtbs)?;
                let mut value = vec![0; pair.public_modulus_len()];
                let padding = padding(alg).ok_or(Fault::Unfit("algorithm"))?;
                pair.sign_digest(padding, &digest, &mut value)
                    .map_err(|_| Fault::Broken("RSA signing"))?;
                Ok(value)
            }
            (Self::Ec(pair, hash), SigAlg::Ecdsa(h)) if *hash == h => {
                let value = pair.sign_digest(&import(h, dtbs)?);
                value
                    .map(|v| v.as_ref().to_vec())
                    .map_err(|_| Fault::Broken("ECDSA signing"))
            }
            (Self::Ed25519(pair), SigAlg::Ed25519) => pair
                .try_sign(dtbs)
                .map(|v| v.as_ref().to_vec())
                .map_err(|_| Fault::Broken("Ed25519 signing")),
            (Self::MlDsa(pair, own), alg) if *own == alg => {
                let mut value = vec![0; pair.algorithm().signature_len()];
                let len = pair
                    .sign(dtbs, &mut value)
                    .map_err(|_| Fault::Broken("ML-DSA signing"))?;
                value.truncate(len);
                Ok(value)
            }
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

    fn verifies(&self, alg: SigAlg, message: &[u8], value: &[u8]) -> bool {
        pki::verify_signature(&self.spki, alg, pki::Signed::Message(message), value).is_ok()
    }

    /// FIPS 186-5: a new pair must sign and verify before anyone sees it.
    fn pairwise_test(&self, alg: KeyAlg) -> Result<(), Fault> {
        for sig in alg.sig_algs() {
            let message = b"pairwise test";
            let value = self.pair.sign(sig, &sig.dtbs(message))?;
            if !self.verifies(sig, message, &value) {
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

    fn sign(&self, alg: SigAlg, dtbs: &[u8]) -> Result<Vec<u8>, Fault> {
        self.pair.sign(alg, dtbs)
    }
}

fn import(hash: HashAlg, digest: &[u8]) -> Result<Digest, Fault> {
    Digest::import_less_safe(digest, hash.aws()).map_err(|_| Fault::Unfit("digest length"))
}

static LONGEST_SHA256: RsaSignatureEncoding =
    RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Max);
static LONGEST_SHA384: RsaSignatureEncoding =
    RSA_PSS_SHA384.with_pss_salt_length(RsaPssSaltLength::Max);
static LONGEST_SHA512: RsaSignatureEncoding =
    RSA_PSS_SHA512.with_pss_salt_length(RsaPssSaltLength::Max);

fn padding(alg: SigAlg) -> Option<&'static dyn RsaEncoding> {
    use HashAlg::{Sha256, Sha384, Sha512};
    match alg {
        SigAlg::RsaPkcs1(Sha256) => Some(&RSA_PKCS1_SHA256),
        SigAlg::RsaPkcs1(Sha384) => Some(&RSA_PKCS1_SHA384),
        SigAlg::RsaPkcs1(Sha512) => Some(&RSA_PKCS1_SHA512),
        SigAlg::RsaPss(Sha256) => Some(&RSA_PSS_SHA256),
        SigAlg::RsaPss(Sha384) => Some(&RSA_PSS_SHA384),
        SigAlg::RsaPss(Sha512) => Some(&RSA_PSS_SHA512),
        SigAlg::RsaPssLongest(Sha256, _) => Some(&LONGEST_SHA256),
        SigAlg::RsaPssLongest(Sha384, _) => Some(&LONGEST_SHA384),
        SigAlg::RsaPssLongest(Sha512, _) => Some(&LONGEST_SHA512),
        _ => None,
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

const KNOWN: [Known; 5] = [
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
    Known {
        alg: KeyAlg::P521,
        pkcs8: include_bytes!("../known/p-521.p8"),
        signatures: &[(
            SigAlg::Ecdsa(HashAlg::Sha512),
            include_bytes!("../known/p-521.sig"),
        )],
    },
    Known {
        alg: KeyAlg::Ed25519,
        pkcs8: include_bytes!("../known/ed25519.p8"),
        signatures: &[(SigAlg::Ed25519, include_bytes!("../known/ed25519.sig"))],
    },
];

/// Verifies the known signatures, refuses them over another message, signs with the known keys, and compares what is
/// deterministic: PKCS#1 v1.5 and Ed25519. The other sizes of RSA run through the same code as RSA-3072; for ML-DSA the
/// library's own known answers and a pair made here stand.
fn known_answers() -> Result<(), Fault> {
    for known in &KNOWN {
        let material = SecretBytes::new(known.pkcs8.to_vec());
        let key =
            Key::load(known.alg, &material).map_err(|_| Fault::Broken("known key doesn't load"))?;
        for (sig, value) in known.signatures {
            let good = key.verifies(*sig, KNOWN_MESSAGE, value)
                && !key.verifies(*sig, b"another message", value)
                && match (sig, key.pair.sign(*sig, &sig.dtbs(KNOWN_MESSAGE))?) {
                    (SigAlg::RsaPkcs1(_) | SigAlg::Ed25519, made) => made == *value,
                    (_, made) => key.verifies(*sig, KNOWN_MESSAGE, &made),
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
    use core_types::DtbsForm;

    use super::*;

    // shows: III-3-13-detect-software, III-3-2-approved-algorithms
    #[test]
    fn keys_of_every_kind_sign_with_their_algorithms_and_no_other() {
        let backend = SoftBackend;
        backend.self_test().unwrap();
        for alg in KeyAlg::ALL {
            let made = backend.generate(alg).unwrap();
            assert_eq!(pki::key_alg(&made.spki), Some(alg));
            let key = backend.load(alg, &made.material).unwrap();
            for sig in SigAlg::all() {
                let value = key.sign(sig, &sig.dtbs(b"document"));
                assert_eq!(value.is_ok(), alg.sig_algs().contains(&sig), "{alg} {sig}");
                if let Ok(value) = value {
                    let signed = pki::Signed::Message(b"document");
                    pki::verify_signature(&made.spki, sig, signed, &value).unwrap();
                    let short = key.sign(sig, &[0; 20]);
                    assert_eq!(short.is_ok(), sig.form() == DtbsForm::Message, "{sig}");
                }
            }
        }
    }

    #[test]
    fn material_of_another_kind_is_refused() {
        let backend = SoftBackend;
        let made = backend.generate(KeyAlg::P256).unwrap();
        for alg in [
            KeyAlg::P384,
            KeyAlg::Rsa3072,
            KeyAlg::Ed25519,
            KeyAlg::MlDsa65,
        ] {
            assert!(backend.load(alg, &made.material).is_err());
        }
        assert!(
            backend
                .load(KeyAlg::P256, &SecretBytes::new(vec![1, 2, 3]))
                .is_err()
        );
    }
}
