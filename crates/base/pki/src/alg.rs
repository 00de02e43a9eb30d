//! Algorithm identifiers to and from [`SigAlg`], and signature verification.

use aws_lc_rs::digest::Digest;
use aws_lc_rs::signature as aws;
use aws_lc_rs::signature::{ParsedPublicKey, VerificationAlgorithm};
use core_types::{DtbsForm, HashAlg, KeyAlg, PssParams, PssRefusal, RsaSize, SigAlg};

use crate::asn1::{self, DerError, NULL, SEQUENCE, Tlv, Walker};
use crate::oid;

/// What a signature is made over.
#[derive(Debug, Clone, Copy)]
pub enum Signed<'a> {
    /// The message; it is hashed here.
    Message(&'a [u8]),
    /// The message's hash under the hash function of the signature algorithm.
    Digest(&'a [u8]),
}

/// A signature was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The key isn't RSA of 2048 bits or more, P-256, P-384, P-521, Ed25519 or ML-DSA.
    #[error("the public key is of a kind that is not accepted")]
    UnsupportedKey,
    /// The algorithm doesn't belong to that kind of key.
    #[error("{0} can't be used with this public key")]
    Mismatch(SigAlg),
    /// The value isn't the key's signature over this content.
    #[error("the signature is not by this key over this content")]
    NotAuthentic,
}

/// Kind of a public key, wider than [`KeyAlg`]: other people's keys are verified too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicKeyKind {
    /// RSA with a modulus of so many bits.
    Rsa(u32),
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// NIST P-521.
    P521,
    /// Ed25519.
    Ed25519,
    /// ML-DSA-65.
    MlDsa65,
    /// ML-DSA-87.
    MlDsa87,
}

/// Verifies a signature by the key in a DER SubjectPublicKeyInfo.
///
/// # Errors
/// [`VerifyError`]; the caller can't tell a damaged value from one by another key.
pub fn verify_signature(
    spki_der: &[u8],
    alg: SigAlg,
    signed: Signed<'_>,
    value: &[u8],
) -> Result<(), VerifyError> {
    Verifier::new(spki_der, alg)?.verify(signed, value)
}

/// A public key read once, for many signatures by it.
#[derive(Debug, Clone)]
pub struct Verifier {
    key: ParsedPublicKey,
    alg: SigAlg,
}

impl Verifier {
    /// Reads a DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub fn new(spki_der: &[u8], alg: SigAlg) -> Result<Self, VerifyError> {
        let kind = public_key_kind(spki_der).ok_or(VerifyError::UnsupportedKey)?;
        let key = ParsedPublicKey::new(verification(kind, alg)?, spki_der);
        let key = key.map_err(|_| VerifyError::NotAuthentic)?;
        Ok(Self { key, alg })
    }

    /// Verifies one signature.
    ///
    /// # Errors
    /// [`VerifyError`]; the caller can't tell a damaged value from one by another key.
    pub fn verify(&self, signed: Signed<'_>, value: &[u8]) -> Result<(), VerifyError> {
        match signed {
            Signed::Message(message) => self.key.verify_sig(message, value),
            Signed::Digest(_) if self.alg.form() == DtbsForm::Message => {
                return Err(VerifyError::Mismatch(self.alg));
            }
            Signed::Digest(digest) => {
                let digest = Digest::import_less_safe(digest, self.alg.hash().aws());
                digest.and_then(|d| self.key.verify_digest_sig(&d, value))
            }
        }
        .map_err(|_| VerifyError::NotAuthentic)
    }
}

static LONGEST_SHA256: aws::RsaParameters =
    aws::RSA_PSS_2048_8192_SHA256.with_pss_salt_length(aws::RsaPssSaltLength::Max);
static LONGEST_SHA384: aws::RsaParameters =
    aws::RSA_PSS_2048_8192_SHA384.with_pss_salt_length(aws::RsaPssSaltLength::Max);
static LONGEST_SHA512: aws::RsaParameters =
    aws::RSA_PSS_2048_8192_SHA512.with_pss_salt_length(aws::RsaPssSaltLength::Max);

fn is_size(bits: u32, size: RsaSize) -> bool {
    usize::try_from(bits).is_ok_and(|bits| bits == size.bytes() * 8)
}

fn verification(
    kind: PublicKeyKind,
    alg: SigAlg,
) -> Result<&'static dyn VerificationAlgorithm, VerifyError> {
    use HashAlg::{Sha256, Sha384, Sha512};
    use PublicKeyKind::{Ed25519, MlDsa65, MlDsa87, P256, P384, P521, Rsa};
    Ok(match (kind, alg) {
        (Rsa(bits), _) if bits < 2048 => return Err(VerifyError::UnsupportedKey),
        (Rsa(_), SigAlg::RsaPkcs1(Sha256)) => &aws::RSA_PKCS1_2048_8192_SHA256,
        (Rsa(_), SigAlg::RsaPkcs1(Sha384)) => &aws::RSA_PKCS1_2048_8192_SHA384,
        (Rsa(_), SigAlg::RsaPkcs1(Sha512)) => &aws::RSA_PKCS1_2048_8192_SHA512,
        (Rsa(_), SigAlg::RsaPss(Sha256)) => &aws::RSA_PSS_2048_8192_SHA256,
        (Rsa(_), SigAlg::RsaPss(Sha384)) => &aws::RSA_PSS_2048_8192_SHA384,
        (Rsa(_), SigAlg::RsaPss(Sha512)) => &aws::RSA_PSS_2048_8192_SHA512,
        (Rsa(bits), SigAlg::RsaPssLongest(hash, size)) if is_size(bits, size) => match hash {
            Sha256 => &LONGEST_SHA256,
            Sha384 => &LONGEST_SHA384,
            Sha512 => &LONGEST_SHA512,
        },
        (P256, SigAlg::Ecdsa(Sha256)) => &aws::ECDSA_P256_SHA256_ASN1,
        (P256, SigAlg::Ecdsa(Sha384)) => &aws::ECDSA_P256_SHA384_ASN1,
        (P256, SigAlg::Ecdsa(Sha512)) => &aws::ECDSA_P256_SHA512_ASN1,
        (P384, SigAlg::Ecdsa(Sha256)) => &aws::ECDSA_P384_SHA256_ASN1,
        (P384, SigAlg::Ecdsa(Sha384)) => &aws::ECDSA_P384_SHA384_ASN1,
        (P384, SigAlg::Ecdsa(Sha512)) => &aws::ECDSA_P384_SHA512_ASN1,
        (P521, SigAlg::Ecdsa(Sha256)) => &aws::ECDSA_P521_SHA256_ASN1,
        (P521, SigAlg::Ecdsa(Sha384)) => &aws::ECDSA_P521_SHA384_ASN1,
        (P521, SigAlg::Ecdsa(Sha512)) => &aws::ECDSA_P521_SHA512_ASN1,
        (Ed25519, SigAlg::Ed25519) => &aws::ED25519,
        (MlDsa65, SigAlg::MlDsa65) => &aws::ML_DSA_65,
        (MlDsa87, SigAlg::MlDsa87) => &aws::ML_DSA_87,
        _ => return Err(VerifyError::Mismatch(alg)),
    })
}

/// Kind of the key in a DER SubjectPublicKeyInfo, if it is one that can be verified with at all.
pub fn public_key_kind(spki_der: &[u8]) -> Option<PublicKeyKind> {
    let what = "public key";
    let mut spki = Tlv::single(spki_der, what)
        .ok()?
        .open(SEQUENCE, what)
        .ok()?;
    let mut algorithm = spki.sequence(what).ok()?;
    let kind = algorithm.next(what).ok()?.as_oid(what).ok()?;
    let key = spki.next(what).ok()?.as_bits(what).ok()?;
    spki.finish(what).ok()?;
    match kind.as_str() {
        oid::RSA => {
            algorithm.expect(NULL, what).ok()?;
            let mut rsa = Tlv::single(key, what).ok()?.open(SEQUENCE, what).ok()?;
            let modulus = rsa.next(what).ok()?.as_uint(what).ok()?;
            let top = modulus.first()?.leading_zeros();
            u32::try_from(modulus.len())
                .ok()?
                .checked_mul(8)?
                .checked_sub(top)
                .map(PublicKeyKind::Rsa)
        }
        oid::EC_PUBLIC_KEY => {
            let curve = algorithm.next(what).ok()?.as_oid(what).ok()?;
            [
                (KeyAlg::P256.curve_oid(), PublicKeyKind::P256),
                (KeyAlg::P384.curve_oid(), PublicKeyKind::P384),
                (KeyAlg::P521.curve_oid(), PublicKeyKind::P521),
            ]
            .into_iter()
            .find_map(|(oid, kind)| (oid == Some(curve.as_str())).then_some(kind))
        }
        // These are named by one identifier for key and signature, without parameters (RFC 8410 §3, RFC 9881 §4).
        id => {
            algorithm.finish(what).ok()?;
            [
                (SigAlg::Ed25519.oid(), PublicKeyKind::Ed25519),
                (SigAlg::MlDsa65.oid(), PublicKeyKind::MlDsa65),
                (SigAlg::MlDsa87.oid(), PublicKeyKind::MlDsa87),
            ]
            .into_iter()
            .find_map(|(oid, kind)| (oid == id).then_some(kind))
        }
    }
}

/// The signing key algorithm of a DER SubjectPublicKeyInfo, if it is one that Natsuin signs with.
pub fn key_alg(spki_der: &[u8]) -> Option<KeyAlg> {
    match public_key_kind(spki_der)? {
        PublicKeyKind::Rsa(2048) => Some(KeyAlg::Rsa2048),
        PublicKeyKind::Rsa(3072) => Some(KeyAlg::Rsa3072),
        PublicKeyKind::Rsa(4096) => Some(KeyAlg::Rsa4096),
        PublicKeyKind::Rsa(_) => None,
        PublicKeyKind::P256 => Some(KeyAlg::P256),
        PublicKeyKind::P384 => Some(KeyAlg::P384),
        PublicKeyKind::P521 => Some(KeyAlg::P521),
        PublicKeyKind::Ed25519 => Some(KeyAlg::Ed25519),
        PublicKeyKind::MlDsa65 => Some(KeyAlg::MlDsa65),
        PublicKeyKind::MlDsa87 => Some(KeyAlg::MlDsa87),
    }
}

/// DER AlgorithmIdentifier of a signature algorithm, as in certificates, CSRs and SignerInfos.
pub fn encode_sig_alg(alg: SigAlg) -> Vec<u8> {
    let id = asn1::oid(alg.oid());
    match alg {
        SigAlg::RsaPkcs1(_) => asn1::sequence(&[&id, &[NULL, 0]]),
        SigAlg::Ecdsa(_) | SigAlg::Ed25519 | SigAlg::MlDsa65 | SigAlg::MlDsa87 => {
            asn1::sequence(&[&id])
        }
        SigAlg::RsaPss(_) | SigAlg::RsaPssLongest(..) => {
            let params = PssParams::of(alg).map(PssParams::to_der);
            asn1::sequence(&[&id, &params.unwrap_or_default()])
        }
    }
}

/// DER AlgorithmIdentifier of a hash function, without parameters (RFC 5754 §2).
pub fn encode_hash_alg(hash: HashAlg) -> Vec<u8> {
    asn1::sequence(&[&asn1::oid(hash.oid())])
}

/// Reads a DER AlgorithmIdentifier of a signature. `digest` is the hash named elsewhere (a SignerInfo's
/// digestAlgorithm): only with it are `rsaEncryption` and `id-ecPublicKey` accepted in this place.
///
/// # Errors
/// [`AlgError::Unknown`] with the identifier for algorithms that aren't approved here, such as any with SHA-1;
/// [`AlgError::Malformed`] for wrong parameters.
pub fn decode_sig_alg(der: &[u8], digest: Option<HashAlg>) -> Result<SigAlg, AlgError> {
    let what = "signature algorithm";
    let mut walker = Tlv::single(der, what)?.open(SEQUENCE, what)?;
    let id = walker.next(what)?.as_oid(what)?;
    if id == oid::RSA_PSS {
        let params = walker.next(what)?;
        walker.finish(what)?;
        return Ok(PssParams::read(params.raw)?.alg()?);
    }
    no_parameters(walker, what)?;
    if id == oid::RSA
        && let Some(hash) = digest
    {
        return Ok(SigAlg::RsaPkcs1(hash));
    }
    if id == oid::EC_PUBLIC_KEY
        && let Some(hash) = digest
    {
        return Ok(SigAlg::Ecdsa(hash));
    }
    SigAlg::all()
        .find(|a| a.oid() == id)
        .ok_or(AlgError::Unknown(id))
}

/// Reads a DER AlgorithmIdentifier of a hash function.
///
/// # Errors
/// As [`decode_sig_alg`].
pub fn decode_hash_alg(der: &[u8]) -> Result<HashAlg, AlgError> {
    let what = "hash algorithm";
    let mut walker = Tlv::single(der, what)?.open(SEQUENCE, what)?;
    let id = walker.next(what)?.as_oid(what)?;
    no_parameters(walker, what)?;
    HashAlg::from_oid(&id).ok_or(AlgError::Unknown(id))
}

/// Parameters absent or NULL: old encoders disagree about which.
fn no_parameters(mut walker: Walker<'_>, what: &'static str) -> Result<(), AlgError> {
    walker.optional(NULL, what)?;
    Ok(walker.finish(what)?)
}

impl From<PssRefusal> for AlgError {
    fn from(refusal: PssRefusal) -> Self {
        match refusal {
            PssRefusal::Encoding => DerError("RSASSA-PSS parameters").into(),
            PssRefusal::Hash => Self::Unknown(oid::RSA_PSS.to_owned()),
            _ => Self::PssParameters,
        }
    }
}

/// An algorithm identifier was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlgError {
    /// Not DER, or parameters where none belong.
    #[error(transparent)]
    Malformed(#[from] DerError),
    /// Unknown here, or not approved.
    #[error("the algorithm {0} is unknown or not approved")]
    Unknown(String),
    /// RSASSA-PSS with a mask function or a salt that isn't in use.
    #[error(
        "RSASSA-PSS is accepted only with MGF1 under the same hash and a salt as long as the hash, or the longest"
    )]
    PssParameters,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_round_trips() {
        for alg in SigAlg::all() {
            assert_eq!(decode_sig_alg(&encode_sig_alg(alg), None), Ok(alg));
        }
        for hash in HashAlg::ALL {
            assert_eq!(decode_hash_alg(&encode_hash_alg(hash)), Ok(hash));
        }
    }

    #[test]
    fn sha1_and_bare_pss_are_refused() {
        let sha1_rsa =
            asn1::sequence(&[&asn1::try_oid("1.2.840.113549.1.1.5").unwrap(), &[NULL, 0]]);
        assert!(matches!(
            decode_sig_alg(&sha1_rsa, None),
            Err(AlgError::Unknown(_))
        ));
        let bare_pss = asn1::sequence(&[&asn1::oid(oid::RSA_PSS), &asn1::sequence(&[])]);
        assert!(matches!(
            decode_sig_alg(&bare_pss, None),
            Err(AlgError::Unknown(_))
        ));
        let mut short_salt = encode_sig_alg(SigAlg::RsaPss(HashAlg::Sha256));
        *short_salt.last_mut().unwrap() = 20;
        assert_eq!(
            decode_sig_alg(&short_salt, None),
            Err(AlgError::PssParameters)
        );
    }

    #[test]
    fn rsa_encryption_needs_the_hash_from_elsewhere() {
        let id = asn1::sequence(&[&asn1::oid(oid::RSA), &[NULL, 0]]);
        assert!(decode_sig_alg(&id, None).is_err());
        assert_eq!(
            decode_sig_alg(&id, Some(HashAlg::Sha384)),
            Ok(SigAlg::RsaPkcs1(HashAlg::Sha384))
        );
    }
}
