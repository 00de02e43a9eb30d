//! Attestation statements (W3C WebAuthn L3 §8): what an authenticator's maker says of it, checked as far as the
//! statement goes. Whom to believe is the caller's policy: chains are handed out, their path isn't judged here.
//!
//! `packed`, `fido-u2f`, `tpm` and `apple` are verified; the other registered formats are refused by name.

use core_types::{HashAlg, SigAlg, sha256};
use pki::asn1::{OCTET_STRING, SEQUENCE, Tlv, context_constructed};
use pki::{Certificate, Signed, oid, verify_signature};

use crate::cbor::Cbor;
use crate::cose::CoseKey;
use crate::tpm;
use crate::verify::PasskeyError;

/// Extension with the AAGUID in attestation certificates (id-fido-gen-ce-aaguid).
const FIDO_AAGUID: &str = "1.3.6.1.4.1.45724.1.1.4";
/// Extension with the nonce in Apple's certificates.
const APPLE_NONCE: &str = "1.2.840.113635.100.8.2";
/// Most certificates of a chain, and most bytes of one.
const MAX_CHAIN: usize = 8;
const MAX_CERTIFICATE: usize = 16 * 1024;

/// Format of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// Nothing is said.
    None,
    /// `packed`.
    Packed,
    /// `fido-u2f`.
    FidoU2f,
    /// `tpm`.
    Tpm,
    /// `apple`.
    Apple,
}

impl Format {
    /// The format with this registered name, among those that are verified and in which a maker says something.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "packed" => Some(Self::Packed),
            "fido-u2f" => Some(Self::FidoU2f),
            "tpm" => Some(Self::Tpm),
            "apple" => Some(Self::Apple),
            _ => None,
        }
    }
}

/// A statement that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its format.
    pub format: Format,
    /// Certificates in DER, the attesting one first; empty when the credential's own key signed, or nobody.
    pub chain: Vec<Vec<u8>>,
}

/// What a statement is about.
pub(crate) struct About<'a> {
    pub(crate) rp_id_hash: &'a [u8],
    pub(crate) aaguid: &'a [u8],
    pub(crate) id: &'a [u8],
    pub(crate) key: &'a CoseKey,
    /// `authenticatorData ‖ SHA-256(clientDataJSON)`.
    pub(crate) signed: &'a [u8],
}

const BAD: PasskeyError = PasskeyError::Attestation;

/// Checks the statement of an attestation object.
pub(crate) fn check(object: &Cbor, about: &About<'_>) -> Result<Statement, PasskeyError> {
    let statement = object.get("attStmt").ok_or(BAD)?;
    let members = statement.map().ok_or(BAD)?.len();
    let Some(Cbor::Text(format)) = object.get("fmt") else {
        return Err(BAD);
    };
    match format.as_str() {
        "none" if members == 0 => Ok(Statement {
            format: Format::None,
            chain: Vec::new(),
        }),
        "packed" => packed(statement, members, about),
        "fido-u2f" if members == 2 => fido_u2f(statement, about),
        "tpm" if members == 6 => tpm_statement(statement, about),
        "apple" if members == 1 => apple(statement, about),
        "android-key" => Err(PasskeyError::Format("passkey-format-android-key")),
        "android-safetynet" => Err(PasskeyError::Format("passkey-format-android-safetynet")),
        "compound" => Err(PasskeyError::Format("passkey-format-compound")),
        _ => Err(BAD),
    }
}

fn packed(statement: &Cbor, members: usize, about: &About<'_>) -> Result<Statement, PasskeyError> {
    let (sig, alg) = (bytes(statement, "sig")?, int(statement, "alg")?);
    let chain = match (statement.get("x5c"), members) {
        (None, 2) if alg == about.key.cose_alg() && about.key.verifies(about.signed, sig) => {
            Vec::new()
        }
        (Some(_), 3) => {
            let (chain, leaf) = x5c(statement)?;
            verified(&leaf, alg, about.signed, sig)?;
            check_leaf(&leaf, about)?;
            let unit = pki::name::attribute(leaf.subject(), oid::ORGANIZATIONAL_UNIT);
            let named = |attribute| pki::name::attribute(leaf.subject(), attribute).is_some();
            let complete = [oid::COUNTRY, oid::ORGANIZATION, oid::COMMON_NAME];
            if unit.as_deref() != Some("Authenticator Attestation")
                || !complete.into_iter().all(named)
            {
                return Err(BAD);
            }
            chain
        }
        _ => return Err(BAD),
    };
    Ok(Statement {
        format: Format::Packed,
        chain,
    })
}

/// U2F authenticators can't verify their user, so that none of them gets as far as this with our flags; the check is
/// here so that the format is judged and not guessed.
fn fido_u2f(statement: &Cbor, about: &About<'_>) -> Result<Statement, PasskeyError> {
    let (chain, leaf) = x5c(statement)?;
    let CoseKey::Es256 { x, y } = about.key else {
        return Err(BAD);
    };
    if chain.len() != 1 || pki::key_alg(leaf.spki()) != Some(core_types::KeyAlg::P256) {
        return Err(BAD);
    }
    let client_data_hash = client_data_hash(about)?;
    let parts = [
        &[0][..],
        about.rp_id_hash,
        client_data_hash,
        about.id,
        &[4],
        &x.0,
        &y.0,
    ];
    verified(&leaf, -7, &parts.concat(), bytes(statement, "sig")?)?;
    Ok(Statement {
        format: Format::FidoU2f,
        chain,
    })
}

fn tpm_statement(statement: &Cbor, about: &About<'_>) -> Result<Statement, PasskeyError> {
    if statement.get("ver") != Some(&Cbor::Text("2.0".to_owned())) {
        return Err(BAD);
    }
    let (chain, leaf) = x5c(statement)?;
    let alg = int(statement, "alg")?;
    let (info, area) = (bytes(statement, "certInfo")?, bytes(statement, "pubArea")?);
    let hash = sig_alg(alg).ok_or(BAD)?.hash();
    let vouched = tpm::Certified {
        area,
        info,
        key: about.key,
        extra: &hash.digest(about.signed),
    };
    vouched.check().ok_or(BAD)?;
    verified(&leaf, alg, info, bytes(statement, "sig")?)?;
    check_leaf(&leaf, about)?;
    tpm::check_certificate(&leaf).ok_or(BAD)?;
    Ok(Statement {
        format: Format::Tpm,
        chain,
    })
}

fn apple(statement: &Cbor, about: &About<'_>) -> Result<Statement, PasskeyError> {
    let (chain, leaf) = x5c(statement)?;
    let what = "apple nonce";
    let extension = leaf.extension(APPLE_NONCE).ok_or(BAD)?;
    let nonce = (|| {
        let mut outer = Tlv::single(&extension.value, what)
            .ok()?
            .open(SEQUENCE, what)
            .ok()?;
        let explicit = outer.expect(context_constructed(1), what).ok()?;
        let inner = Tlv::single(explicit.value, what).ok()?;
        (inner.tag == OCTET_STRING && outer.is_empty()).then_some(inner.value)
    })();
    let same_key = about.key.spki().is_some_and(|spki| spki == leaf.spki());
    if nonce != Some(&sha256(&[about.signed]).0[..]) || !same_key {
        return Err(BAD);
    }
    Ok(Statement {
        format: Format::Apple,
        chain,
    })
}

/// The attesting certificate is no CA's, and its AAGUID, if it names one, is the authenticator's.
fn check_leaf(leaf: &Certificate, about: &About<'_>) -> Result<(), PasskeyError> {
    if leaf.basic_constraints().map_or(true, |b| b.ca) {
        return Err(BAD);
    }
    let Some(extension) = leaf.extension(FIDO_AAGUID) else {
        return Ok(());
    };
    let named = Tlv::single(&extension.value, "aaguid").ok();
    let same = named.is_some_and(|t| t.tag == OCTET_STRING && t.value == about.aaguid);
    if same && !extension.critical {
        Ok(())
    } else {
        Err(BAD)
    }
}

fn x5c(statement: &Cbor) -> Result<(Vec<Vec<u8>>, Certificate), PasskeyError> {
    let Some(Cbor::List(list)) = statement.get("x5c") else {
        return Err(BAD);
    };
    let small = |c: &&[u8]| c.len() <= MAX_CERTIFICATE;
    let chain: Option<Vec<Vec<u8>>> = list
        .iter()
        .map(|c| c.bytes().filter(small).map(<[u8]>::to_vec))
        .collect();
    let chain = chain.filter(|c| c.len() <= MAX_CHAIN).ok_or(BAD)?;
    let leaf = Certificate::parse(chain.first().ok_or(BAD)?).map_err(|_| BAD)?;
    Ok((chain, leaf))
}

fn verified(leaf: &Certificate, alg: i64, message: &[u8], sig: &[u8]) -> Result<(), PasskeyError> {
    let alg = sig_alg(alg).ok_or(BAD)?;
    verify_signature(leaf.spki(), alg, Signed::Message(message), sig).map_err(|_| BAD)
}

/// COSE algorithms of attestation keys. SHA-1, which some TPMs still use, isn't among them.
fn sig_alg(cose: i64) -> Option<SigAlg> {
    Some(match cose {
        -7 => SigAlg::Ecdsa(HashAlg::Sha256),
        -35 => SigAlg::Ecdsa(HashAlg::Sha384),
        -36 => SigAlg::Ecdsa(HashAlg::Sha512),
        -257 => SigAlg::RsaPkcs1(HashAlg::Sha256),
        -258 => SigAlg::RsaPkcs1(HashAlg::Sha384),
        -259 => SigAlg::RsaPkcs1(HashAlg::Sha512),
        -37 => SigAlg::RsaPss(HashAlg::Sha256),
        _ => return None,
    })
}

fn client_data_hash<'a>(about: &About<'a>) -> Result<&'a [u8], PasskeyError> {
    let start = about.signed.len().checked_sub(32).ok_or(BAD)?;
    about.signed.get(start..).ok_or(BAD)
}

fn bytes<'c>(statement: &'c Cbor, name: &str) -> Result<&'c [u8], PasskeyError> {
    statement.get(name).and_then(Cbor::bytes).ok_or(BAD)
}

fn int(statement: &Cbor, name: &str) -> Result<i64, PasskeyError> {
    match statement.get(name) {
        Some(Cbor::Int(n)) => Ok(*n),
        _ => Err(BAD),
    }
}

#[cfg(test)]
mod tests {
    use core_types::UnixTime;
    use pki::path::{Purpose, validate};

    use super::*;

    struct Vector {
        object: Cbor,
        client_data: Vec<u8>,
        root: Vec<u8>,
    }

    fn hex(value: &serde_json::Value) -> Vec<u8> {
        let text = value.as_str().unwrap();
        let byte = |i| u8::from_str_radix(&text[i..i + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(byte).collect()
    }

    /// One of W3C's test vectors.
    fn vector(name: &str) -> Vector {
        let file: serde_json::Value =
            serde_json::from_str(include_str!("../tests/vectors/w3c-l3.json")).unwrap();
        let vector = &file["vectors"][name];
        Vector {
            object: Cbor::read_whole(&hex(&vector["attestation_object"])).unwrap(),
            client_data: hex(&vector["client_data"]),
            root: hex(&file["attestation_ca"]),
        }
    }

    impl Vector {
        fn check(&self) -> Result<Statement, PasskeyError> {
            self.check_with(&self.object, |_| {})
        }

        /// Checks with another object, or other signed bytes.
        fn check_with(
            &self,
            object: &Cbor,
            change: impl Fn(&mut Vec<u8>),
        ) -> Result<Statement, PasskeyError> {
            let auth_data = self.object.get("authData").unwrap().bytes().unwrap();
            let length = usize::from(auth_data[54]);
            let (id, key) = auth_data[55..].split_at(length);
            let key = CoseKey::from_cbor(&Cbor::read(key).unwrap().0).unwrap();
            let mut signed = auth_data.to_vec();
            signed.extend_from_slice(&sha256(&[&self.client_data]).0);
            change(&mut signed);
            let about = About {
                rp_id_hash: &auth_data[..32],
                aaguid: &auth_data[37..53],
                id,
                key: &key,
                signed: &signed,
            };
            super::check(object, &about)
        }

        /// The object with one member of its statement changed.
        fn with(&self, name: &str, change: impl Fn(&mut Cbor)) -> Cbor {
            let mut object = self.object.clone();
            let Cbor::Map(members) = &mut object else {
                panic!("map")
            };
            for (key, value) in members {
                let Cbor::Map(statement) = value else {
                    continue;
                };
                assert_eq!(*key, Cbor::Text("attStmt".into()));
                for (key, value) in statement {
                    if *key == Cbor::Text(name.into()) {
                        change(value);
                    }
                }
            }
            assert_ne!(object, self.object, "{name}");
            object
        }
    }

    #[test]
    fn the_vectors_of_the_w3c_are_verified_and_lead_to_their_root() {
        for (name, format, certified) in [
            ("none", Format::None, false),
            ("packed-self", Format::Packed, false),
            ("packed", Format::Packed, true),
            ("packed-eddsa", Format::Packed, true),
            ("packed-rs256", Format::Packed, true),
            ("tpm", Format::Tpm, true),
            ("apple", Format::Apple, true),
            ("fido-u2f", Format::FidoU2f, true),
        ] {
            let vector = vector(name);
            let statement = vector.check().expect(name);
            assert_eq!(statement.format, format, "{name}");
            assert_eq!(!statement.chain.is_empty(), certified, "{name}");
            if let Some((leaf, rest)) = statement.chain.split_first() {
                let root = [vector.root.clone()];
                let at = UnixTime(1_800_000_000);
                let path = validate(leaf, rest, &root, at, Purpose::Any);
                assert!(path.is_ok(), "{name}: {path:?}");
            }
        }
    }

    // shows: T-REG-IMPERSONATE
    #[test]
    fn a_statement_for_other_data_is_refused_in_every_format() {
        for name in [
            "packed-self",
            "packed",
            "packed-eddsa",
            "tpm",
            "apple",
            "fido-u2f",
        ] {
            let vector = vector(name);
            let last = |signed: &mut Vec<u8>| *signed.last_mut().unwrap() ^= 1;
            assert_eq!(vector.check_with(&vector.object, last), Err(BAD), "{name}");
        }
    }

    // shows: T-REG-IMPERSONATE
    #[test]
    fn each_part_of_a_statement_is_checked() {
        let flip = |at: usize| {
            move |value: &mut Cbor| match value {
                Cbor::Bytes(bytes) => bytes[at] ^= 1,
                Cbor::Int(n) => *n = -258,
                Cbor::Text(t) => t.push('1'),
                Cbor::List(list) => list.clear(),
                _ => panic!("{value:?}"),
            }
        };
        for (name, member, at) in [
            ("packed", "sig", 20),
            ("packed", "alg", 0),
            ("packed", "x5c", 0),
            ("packed-self", "alg", 0),
            ("fido-u2f", "sig", 20),
            ("tpm", "ver", 0),
            ("tpm", "sig", 20),
            ("tpm", "alg", 0),
            // The key, its curve, its name; magic, kind, nonce and trailing bytes of what was certified.
            ("tpm", "pubArea", 30),
            ("tpm", "pubArea", 15),
            ("tpm", "pubArea", 3),
            ("tpm", "certInfo", 0),
            ("tpm", "certInfo", 5),
            ("tpm", "certInfo", 12),
            ("tpm", "certInfo", 80),
        ] {
            let vector = vector(name);
            let object = vector.with(member, flip(at));
            assert_eq!(
                vector.check_with(&object, |_| {}),
                Err(BAD),
                "{name} {member} {at}"
            );
        }
    }

    #[test]
    fn what_is_not_verified_is_refused_by_name() {
        let vector = vector("android-key");
        let refused = vector.check().unwrap_err();
        assert_eq!(refused.code(), "passkey-format-android-key");
    }
}
