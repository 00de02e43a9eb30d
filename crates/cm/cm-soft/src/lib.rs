//! Software back end of the CM, on AWS-LC: level 1 only, and it says so.
//!
//! Private keys exist in the memory of this process while they are used; at rest the module seals them. Nothing in
//! here knows of orders, owners or attributes.

use aws_lc_rs::digest::Digest;
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1,
    ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding, UnparsedPublicKey, VerificationAlgorithm,
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
        known_answer()?;
        // One pair of each fast kind; RSA pairs are tested whenever one is made.
        for alg in [KeyAlg::P256, KeyAlg::P384] {
            self.generate(alg)?;
        }
        Ok(())
    }

    fn generate(&self, alg: KeyAlg) -> Result<NewKey, Fault> {
        let key = match alg {
            KeyAlg::Rsa3072 => Key::generate_rsa(KeySize::Rsa3072)?,
            KeyAlg::Rsa4096 => Key::generate_rsa(KeySize::Rsa4096)?,
            KeyAlg::P256 => Key::generate_ec(&ECDSA_P256_SHA256_ASN1_SIGNING)?,
            KeyAlg::P384 => Key::generate_ec(&ECDSA_P384_SHA384_ASN1_SIGNING)?,
        };
        key.0.pairwise_test(alg)?;
        Ok(NewKey {
            spki: key.0.spki()?,
            material: key.1,
        })
    }

    fn load(&self, alg: KeyAlg, material: &SecretBytes) -> Result<Box<dyn PrivateKey>, Fault> {
        Ok(Box::new(Key::load(alg, material)?))
    }
}

enum Key {
    Rsa(rsa::KeyPair),
    Ec(EcdsaKeyPair, HashAlg),
}

impl Key {
    fn generate_rsa(size: KeySize) -> Result<(Self, SecretBytes), Fault> {
        let pair = rsa::KeyPair::generate(size).map_err(|_| Fault("RSA key generation"))?;
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| Fault("RSA key encoding"))?;
        let material = SecretBytes::new(pkcs8.as_ref().to_vec());
        Ok((Self::Rsa(pair), material))
    }

    fn generate_ec(alg: &'static EcdsaSigningAlgorithm) -> Result<(Self, SecretBytes), Fault> {
        let document = EcdsaKeyPair::generate_pkcs8(alg, &SystemRandom::new())
            .map_err(|_| Fault("EC key generation"))?;
        let material = SecretBytes::new(document.as_ref().to_vec());
        let pair = EcdsaKeyPair::from_pkcs8(alg, material.expose())
            .map_err(|_| Fault("EC key encoding"))?;
        Ok((Self::Ec(pair, curve_hash(alg)), material))
    }

    fn load(alg: KeyAlg, material: &SecretBytes) -> Result<Self, Fault> {
        let ec = |curve| {
            let pair = EcdsaKeyPair::from_pkcs8(curve, material.expose())
                .map_err(|_| Fault("key loading"))?;
            Ok(Self::Ec(pair, curve_hash(curve)))
        };
        match alg {
            KeyAlg::Rsa3072 | KeyAlg::Rsa4096 => rsa::KeyPair::from_pkcs8(material.expose())
                .map(Self::Rsa)
                .map_err(|_| Fault("key loading")),
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
            .map_err(|_| Fault("public key encoding"))
    }

    /// FIPS 186-5: a new pair must sign and verify before anyone sees it.
    fn pairwise_test(&self, alg: KeyAlg) -> Result<(), Fault> {
        for sig in alg.sig_algs() {
            let digest = sig.hash().digest(b"pairwise test");
            let value = self.sign(sig, &digest)?;
            let verifier = verifier(sig).ok_or(Fault("pairwise test"))?;
            let imported = import(sig.hash(), &digest)?;
            UnparsedPublicKey::new(verifier, self.spki()?)
                .verify_digest(&imported, &value)
                .map_err(|_| Fault("pairwise test"))?;
        }
        Ok(())
    }
}

impl PrivateKey for Key {
    fn sign(&self, alg: SigAlg, digest: &[u8]) -> Result<Vec<u8>, Fault> {
        let digest = import(alg.hash(), digest)?;
        match (self, alg) {
            (Self::Rsa(pair), SigAlg::RsaPkcs1(_) | SigAlg::RsaPss(_)) => {
                let mut value = vec![0; pair.public_modulus_len()];
                pair.sign_digest(padding(alg).ok_or(Fault("algorithm"))?, &digest, &mut value)
                    .map_err(|_| Fault("RSA signing"))?;
                Ok(value)
            }
            (Self::Ec(pair, hash), SigAlg::Ecdsa(h)) if *hash == h => pair
                .sign_digest(&digest)
                .map(|v| v.as_ref().to_vec())
                .map_err(|_| Fault("ECDSA signing")),
            _ => Err(Fault("algorithm")),
        }
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
    Digest::import_less_safe(digest, hash.aws()).map_err(|_| Fault("digest length"))
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

fn verifier(alg: SigAlg) -> Option<&'static dyn VerificationAlgorithm> {
    use HashAlg::{Sha256, Sha384, Sha512};
    Some(match alg {
        SigAlg::RsaPkcs1(Sha256) => &RSA_PKCS1_2048_8192_SHA256,
        SigAlg::RsaPkcs1(Sha384) => &RSA_PKCS1_2048_8192_SHA384,
        SigAlg::RsaPkcs1(Sha512) => &RSA_PKCS1_2048_8192_SHA512,
        SigAlg::RsaPss(Sha256) => &RSA_PSS_2048_8192_SHA256,
        SigAlg::RsaPss(Sha384) => &RSA_PSS_2048_8192_SHA384,
        SigAlg::RsaPss(Sha512) => &RSA_PSS_2048_8192_SHA512,
        SigAlg::Ecdsa(Sha256) => &ECDSA_P256_SHA256_ASN1,
        SigAlg::Ecdsa(Sha384) => &ECDSA_P384_SHA384_ASN1,
        SigAlg::Ecdsa(Sha512) => return None,
    })
}

/// SHA-2 of "abc" (FIPS 180-4, appendix): the hash under everything else.
fn known_answer() -> Result<(), Fault> {
    let expected = [
        (
            HashAlg::Sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            HashAlg::Sha384,
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
        ),
        (
            HashAlg::Sha512,
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
    ];
    let good = expected
        .iter()
        .all(|(hash, hex)| core_types::bytes::hex(hash.digest(b"abc")) == *hex);
    if good {
        Ok(())
    } else {
        Err(Fault("SHA-2 known answer"))
    }
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
                    let digest = import(sig.hash(), &digest).unwrap();
                    UnparsedPublicKey::new(verifier(sig).unwrap(), &made.spki)
                        .verify_digest(&digest, &value)
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
