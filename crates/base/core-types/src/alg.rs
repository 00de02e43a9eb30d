//! Algorithms that Natsuin knows, under the names and identifiers of the standards.
//!
//! RSA of 2048 bits and more, P-256, P-384 and P-521, Ed25519, SHA-2; and ML-DSA, which is experimental. Whether one of them
//! may be used and until when is the module's table of approved algorithms (`III-3-2-approved-algorithms`). SHA-1 and
//! shorter keys have no value here, so they can't be asked for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A hash function of the SHA-2 family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HashAlg {
    /// SHA-256, 32 bytes.
    #[serde(rename = "sha256")]
    Sha256,
    /// SHA-384, 48 bytes.
    #[serde(rename = "sha384")]
    Sha384,
    /// SHA-512, 64 bytes.
    #[serde(rename = "sha512")]
    Sha512,
}

impl HashAlg {
    /// All of them, shortest first.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// Output length in bytes.
    #[expect(
        clippy::len_without_is_empty,
        reason = "the output of a hash is never empty"
    )]
    pub fn len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Dotted object identifier (RFC 5754 §2).
    pub fn oid(self) -> &'static str {
        match self {
            Self::Sha256 => "2.16.840.1.101.3.4.2.1",
            Self::Sha384 => "2.16.840.1.101.3.4.2.2",
            Self::Sha512 => "2.16.840.1.101.3.4.2.3",
        }
    }

    /// Finds the hash with this object identifier.
    pub fn from_oid(oid: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|h| h.oid() == oid)
    }

    /// Computes the hash of `data`.
    pub fn digest(self, data: &[u8]) -> Vec<u8> {
        aws_lc_rs::digest::digest(self.aws(), data)
            .as_ref()
            .to_vec()
    }

    /// The same function in `aws-lc-rs`.
    pub fn aws(self) -> &'static aws_lc_rs::digest::Algorithm {
        match self {
            Self::Sha256 => &aws_lc_rs::digest::SHA256,
            Self::Sha384 => &aws_lc_rs::digest::SHA384,
            Self::Sha512 => &aws_lc_rs::digest::SHA512,
        }
    }
}

/// Kind and size of a key pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KeyAlg {
    /// RSA, 2048 bits, e = 65537.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// RSA, 3072 bits, e = 65537.
    #[serde(rename = "rsa-3072")]
    Rsa3072,
    /// RSA, 4096 bits, e = 65537.
    #[serde(rename = "rsa-4096")]
    Rsa4096,
    /// NIST P-256.
    #[serde(rename = "p-256")]
    P256,
    /// NIST P-384.
    #[serde(rename = "p-384")]
    P384,
    /// NIST P-521.
    #[serde(rename = "p-521")]
    P521,
    /// Ed25519 (RFC 8032).
    #[serde(rename = "ed25519")]
    Ed25519,
    /// ML-DSA-65 (FIPS 204); experimental.
    #[serde(rename = "ml-dsa-65")]
    MlDsa65,
    /// ML-DSA-87 (FIPS 204); experimental.
    #[serde(rename = "ml-dsa-87")]
    MlDsa87,
}

impl KeyAlg {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
        Self::P256,
        Self::P384,
        Self::P521,
        Self::Ed25519,
        Self::MlDsa65,
        Self::MlDsa87,
    ];

    /// Name as in JSON and on pages, such as `rsa-3072`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
            Self::P256 => "p-256",
            Self::P384 => "p-384",
            Self::P521 => "p-521",
            Self::Ed25519 => "ed25519",
            Self::MlDsa65 => "ml-dsa-65",
            Self::MlDsa87 => "ml-dsa-87",
        }
    }

    /// Key length in bits as CSC reports it; of ML-DSA that of the encoded public key.
    pub fn bits(self) -> u32 {
        match self {
            Self::Rsa2048 => 2048,
            Self::Rsa3072 => 3072,
            Self::Rsa4096 => 4096,
            Self::P256 | Self::Ed25519 => 256,
            Self::P384 => 384,
            Self::P521 => 521,
            Self::MlDsa65 => 1952 * 8,
            Self::MlDsa87 => 2592 * 8,
        }
    }

    /// Security strength in bits (SP 800-57 part 1, table 2; FIPS 204 §4).
    pub fn strength(self) -> u32 {
        match self {
            Self::Rsa2048 => 112,
            Self::Rsa3072 | Self::Rsa4096 | Self::P256 | Self::Ed25519 => 128,
            Self::P384 | Self::MlDsa65 => 192,
            Self::P521 | Self::MlDsa87 => 256,
        }
    }

    /// Object identifier of the curve, for elliptic keys in Weierstrass form.
    pub fn curve_oid(self) -> Option<&'static str> {
        match self {
            Self::P256 => Some("1.2.840.10045.3.1.7"),
            Self::P384 => Some("1.3.132.0.34"),
            Self::P521 => Some("1.3.132.0.35"),
            _ => None,
        }
    }

    /// Whether it is RSA.
    pub fn is_rsa(self) -> bool {
        self.rsa_size().is_some()
    }

    /// Size of its modulus, if it is RSA.
    pub fn rsa_size(self) -> Option<RsaSize> {
        match self {
            Self::Rsa2048 => Some(RsaSize::Bits2048),
            Self::Rsa3072 => Some(RsaSize::Bits3072),
            Self::Rsa4096 => Some(RsaSize::Bits4096),
            _ => None,
        }
    }

    /// Whether such keys are made only with the module's experimental switch.
    pub fn experimental(self) -> bool {
        matches!(self, Self::MlDsa65 | Self::MlDsa87)
    }

    /// What such a key signs.
    pub fn form(self) -> DtbsForm {
        self.csr_alg().form()
    }

    /// The algorithm with which such a key signs a request for its own certificate.
    pub fn csr_alg(self) -> SigAlg {
        match self {
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => SigAlg::RsaPkcs1(HashAlg::Sha256),
            Self::P256 => SigAlg::Ecdsa(HashAlg::Sha256),
            Self::P384 => SigAlg::Ecdsa(HashAlg::Sha384),
            Self::P521 => SigAlg::Ecdsa(HashAlg::Sha512),
            Self::Ed25519 => SigAlg::Ed25519,
            Self::MlDsa65 => SigAlg::MlDsa65,
            Self::MlDsa87 => SigAlg::MlDsa87,
        }
    }

    /// Signature algorithms this key may be used with. The curve fixes the hash of ECDSA, because the
    /// software module joins them.
    pub fn sig_algs(self) -> Vec<SigAlg> {
        let Some(size) = self.rsa_size() else {
            return vec![self.csr_alg()];
        };
        let longest = |hash| SigAlg::RsaPssLongest(hash, size);
        let pkcs1 = HashAlg::ALL.into_iter().map(SigAlg::RsaPkcs1);
        pkcs1
            .chain(HashAlg::ALL.into_iter().map(SigAlg::RsaPss))
            .chain(HashAlg::ALL.into_iter().map(longest))
            .collect()
    }
}

/// Size of an RSA modulus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RsaSize {
    /// 2048 bits.
    Bits2048,
    /// 3072 bits.
    Bits3072,
    /// 4096 bits.
    Bits4096,
}

impl RsaSize {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bits2048, Self::Bits3072, Self::Bits4096];

    /// Length of the modulus in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::Bits2048 => 256,
            Self::Bits3072 => 384,
            Self::Bits4096 => 512,
        }
    }

    /// Longest salt in bytes that a signature has room for (RFC 8017 §9.1.1).
    pub fn longest_salt(self, hash: HashAlg) -> usize {
        self.bytes() - hash.len() - 2
    }
}

/// What an algorithm signs (DTBS/R): there is exactly one form for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DtbsForm {
    /// A digest made with [`SigAlg::hash`].
    Digest,
    /// The message itself.
    Message,
}

impl fmt::Display for KeyAlg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A signature algorithm with all its parameters. Text form such as `rsa-pss-sha256`.
///
/// PSS always means MGF1 with the same hash and trailer field 1 (RFC 4055 §3.1); the salt is as long as the hash, or the
/// longest that the modulus has room for, which FIPS 186-5 doesn't know and some clients ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SigAlg {
    /// RSASSA-PKCS1-v1_5 (RFC 8017 §8.2).
    RsaPkcs1(HashAlg),
    /// RSASSA-PSS (RFC 8017 §8.1), salt as long as the hash.
    RsaPss(HashAlg),
    /// RSASSA-PSS with the longest salt for a modulus of this size.
    RsaPssLongest(HashAlg, RsaSize),
    /// ECDSA, DER-encoded value (RFC 3279 §2.2.3).
    Ecdsa(HashAlg),
    /// Pure Ed25519 (RFC 8032 §5.1), 64 bytes.
    Ed25519,
    /// Pure ML-DSA-65 with an empty context (FIPS 204).
    MlDsa65,
    /// Pure ML-DSA-87 with an empty context (FIPS 204).
    MlDsa87,
}

impl SigAlg {
    /// The hash that is signed; for algorithms that sign messages the one that goes with them in CMS (RFC 8419 §2.3,
    /// RFC 9882 §3.3).
    pub fn hash(self) -> HashAlg {
        match self {
            Self::RsaPkcs1(h) | Self::RsaPss(h) | Self::RsaPssLongest(h, _) | Self::Ecdsa(h) => h,
            Self::Ed25519 | Self::MlDsa65 | Self::MlDsa87 => HashAlg::Sha512,
        }
    }

    /// What is signed.
    pub fn form(self) -> DtbsForm {
        match self {
            Self::RsaPkcs1(_) | Self::RsaPss(_) | Self::RsaPssLongest(..) | Self::Ecdsa(_) => {
                DtbsForm::Digest
            }
            Self::Ed25519 | Self::MlDsa65 | Self::MlDsa87 => DtbsForm::Message,
        }
    }

    /// What a key needs for signing this message: its digest, or itself.
    pub fn dtbs(self, message: &[u8]) -> Vec<u8> {
        match self.form() {
            DtbsForm::Digest => self.hash().digest(message),
            DtbsForm::Message => message.to_vec(),
        }
    }

    /// Text form.
    pub fn name(self) -> &'static str {
        use HashAlg::{Sha256, Sha384, Sha512};
        use RsaSize::{Bits2048, Bits3072, Bits4096};
        match self {
            Self::RsaPkcs1(Sha256) => "rsa-pkcs1-sha256",
            Self::RsaPkcs1(Sha384) => "rsa-pkcs1-sha384",
            Self::RsaPkcs1(Sha512) => "rsa-pkcs1-sha512",
            Self::RsaPss(Sha256) => "rsa-pss-sha256",
            Self::RsaPss(Sha384) => "rsa-pss-sha384",
            Self::RsaPss(Sha512) => "rsa-pss-sha512",
            Self::RsaPssLongest(Sha256, Bits2048) => "rsa-pss-sha256-salt222",
            Self::RsaPssLongest(Sha384, Bits2048) => "rsa-pss-sha384-salt206",
            Self::RsaPssLongest(Sha512, Bits2048) => "rsa-pss-sha512-salt190",
            Self::RsaPssLongest(Sha256, Bits3072) => "rsa-pss-sha256-salt350",
            Self::RsaPssLongest(Sha384, Bits3072) => "rsa-pss-sha384-salt334",
            Self::RsaPssLongest(Sha512, Bits3072) => "rsa-pss-sha512-salt318",
            Self::RsaPssLongest(Sha256, Bits4096) => "rsa-pss-sha256-salt478",
            Self::RsaPssLongest(Sha384, Bits4096) => "rsa-pss-sha384-salt462",
            Self::RsaPssLongest(Sha512, Bits4096) => "rsa-pss-sha512-salt446",
            Self::Ecdsa(Sha256) => "ecdsa-sha256",
            Self::Ecdsa(Sha384) => "ecdsa-sha384",
            Self::Ecdsa(Sha512) => "ecdsa-sha512",
            Self::Ed25519 => "ed25519",
            Self::MlDsa65 => "ml-dsa-65",
            Self::MlDsa87 => "ml-dsa-87",
        }
    }

    /// Object identifier of the combined algorithm, or id-RSASSA-PSS, whose parameters carry the hash.
    pub fn oid(self) -> &'static str {
        use HashAlg::{Sha256, Sha384, Sha512};
        match self {
            Self::RsaPkcs1(Sha256) => "1.2.840.113549.1.1.11",
            Self::RsaPkcs1(Sha384) => "1.2.840.113549.1.1.12",
            Self::RsaPkcs1(Sha512) => "1.2.840.113549.1.1.13",
            Self::RsaPss(_) | Self::RsaPssLongest(..) => "1.2.840.113549.1.1.10",
            Self::Ecdsa(Sha256) => "1.2.840.10045.4.3.2",
            Self::Ecdsa(Sha384) => "1.2.840.10045.4.3.3",
            Self::Ecdsa(Sha512) => "1.2.840.10045.4.3.4",
            Self::Ed25519 => "1.3.101.112",
            Self::MlDsa65 => "2.16.840.1.101.3.4.3.18",
            Self::MlDsa87 => "2.16.840.1.101.3.4.3.19",
        }
    }

    /// Every combination that has a name.
    pub fn all() -> impl Iterator<Item = Self> {
        HashAlg::ALL
            .into_iter()
            .flat_map(|h| {
                let longest = RsaSize::ALL.map(|size| Self::RsaPssLongest(h, size));
                [Self::RsaPkcs1(h), Self::RsaPss(h), Self::Ecdsa(h)]
                    .into_iter()
                    .chain(longest)
            })
            .chain([Self::Ed25519, Self::MlDsa65, Self::MlDsa87])
    }
}

impl fmt::Display for SigAlg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<SigAlg> for String {
    fn from(alg: SigAlg) -> Self {
        alg.name().to_owned()
    }
}

/// A signature algorithm that Natsuin doesn't know or allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown or not approved signature algorithm {0:?}")]
pub struct UnknownAlg(pub String);

impl TryFrom<String> for SigAlg {
    type Error = UnknownAlg;

    fn try_from(name: String) -> Result<Self, UnknownAlg> {
        Self::all()
            .find(|a| a.name() == name)
            .ok_or(UnknownAlg(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for alg in SigAlg::all() {
            assert_eq!(SigAlg::try_from(alg.name().to_owned()).unwrap(), alg);
            if let SigAlg::RsaPssLongest(hash, size) = alg {
                let salt = format!("-salt{}", size.longest_salt(hash));
                assert!(alg.name().ends_with(&salt), "{alg}");
            }
        }
        assert!(SigAlg::try_from("rsa-pkcs1-sha1".to_owned()).is_err());
    }

    #[test]
    fn a_key_lists_only_algorithms_of_its_kind() {
        for key in KeyAlg::ALL {
            assert!(key.sig_algs().contains(&key.csr_alg()));
            for alg in key.sig_algs() {
                assert_eq!(matches!(alg, SigAlg::Ecdsa(_)), key.curve_oid().is_some());
                assert_eq!(alg.form(), key.form());
            }
        }
    }
}
