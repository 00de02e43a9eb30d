//! Which signature algorithm a request means (CSC 11.13 with RFC 4055 §3.1), as a pure function.

use core_types::{HashAlg, KeyAlg, SigAlg};

use crate::error::{CscError, PssRefusal};

/// Object identifier of plain RSA keys; as `signAlgo` it needs `hashAlgorithmOID`.
pub const RSA_ENCRYPTION: &str = "1.2.840.113549.1.1.1";
/// Object identifier of RSASSA-PSS; needs `signAlgoParams`.
pub const RSASSA_PSS: &str = "1.2.840.113549.1.1.10";
/// Object identifier of plain elliptic keys; as `signAlgo` it needs `hashAlgorithmOID`.
pub const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";

/// Decides the algorithm of a `signHash` for a key.
///
/// `params` is the DER of `signAlgoParams`. PSS is accepted only with MGF1 over the same hash and a salt as
/// long as the digest.
///
/// # Errors
/// The CSC error to answer with: unknown or unsuited algorithm, missing hash or parameters, a hash that
/// contradicts the algorithm, PSS parameters outside the rule.
pub fn decide(
    key: KeyAlg,
    sign_algo: &str,
    hash_oid: Option<&str>,
    params: Option<&[u8]>,
) -> Result<SigAlg, CscError> {
    let named = match hash_oid {
        None => None,
        Some(oid) => {
            Some(HashAlg::from_oid(oid).ok_or(CscError::InvalidParameter("hashAlgorithmOID"))?)
        }
    };
    let rsa = key.is_rsa();
    let alg = match sign_algo {
        RSA_ENCRYPTION if rsa => {
            SigAlg::RsaPkcs1(named.ok_or(CscError::MissingString("hashAlgorithmOID"))?)
        }
        EC_PUBLIC_KEY if key.curve_oid().is_some() => {
            SigAlg::Ecdsa(named.ok_or(CscError::MissingString("hashAlgorithmOID"))?)
        }
        RSASSA_PSS if rsa => {
            let der = params.ok_or(CscError::MissingString("signAlgoParams"))?;
            SigAlg::RsaPss(read_pss_params(der).map_err(CscError::PssParams)?)
        }
        oid => SigAlg::all()
            .find(|alg| alg.oid() == oid && oid != RSASSA_PSS)
            .ok_or(CscError::InvalidParameter("signAlgo"))?,
    };
    if named.is_some_and(|hash| hash != alg.hash()) {
        return Err(CscError::HashContradiction);
    }
    if !key.sig_algs().contains(&alg) {
        let combined = sign_algo == alg.oid();
        return Err(CscError::InvalidParameter(if combined {
            "signAlgo"
        } else {
            "hashAlgorithmOID"
        }));
    }
    Ok(alg)
}

/// Checks that every digest is as long as the hash of `alg` gives.
///
/// # Errors
/// [`CscError::InvalidDigestLength`].
pub fn check_digests(alg: SigAlg, hashes: &[Vec<u8>]) -> Result<(), CscError> {
    let right = hashes.iter().all(|h| h.len() == alg.hash().len());
    if right {
        Ok(())
    } else {
        Err(CscError::InvalidDigestLength)
    }
}

/// `key.algo` for a key: combined identifiers first, then RSASSA-PSS, then the key's own identifier, because
/// clients either take the first or look for an exact one.
pub fn algo_list(key: KeyAlg) -> Vec<String> {
    let mut list: Vec<&str> = Vec::new();
    for oid in key.sig_algs().into_iter().map(SigAlg::oid) {
        if !list.contains(&oid) {
            list.push(oid);
        }
    }
    if key.curve_oid().is_some() {
        list.push(EC_PUBLIC_KEY);
    } else if key.is_rsa() {
        list.push(RSA_ENCRYPTION);
    }
    list.into_iter().map(str::to_owned).collect()
}

/// DER of `RSASSA-PSS-params` with this hash, MGF1 over the same hash and a salt as long as the digest.
pub fn pss_params(hash: HashAlg) -> Vec<u8> {
    let salt = [0x02, 0x01, u8::try_from(hash.len()).unwrap_or(u8::MAX)];
    let identifier = tlv(
        0x30,
        &[hash_oid_der(hash).as_slice(), &[0x05, 0x00]].concat(),
    );
    let mgf = tlv(0x30, &[MGF1_DER, &identifier].concat());
    let fields = [tlv(0xa0, &identifier), tlv(0xa1, &mgf), tlv(0xa2, &salt)].concat();
    tlv(0x30, &fields)
}

/// Object identifier 1.2.840.113549.1.1.8 in DER.
const MGF1_DER: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08,
];

/// Object identifier of the hash in DER: the SHA-2 arc 2.16.840.1.101.3.4.2 and one last byte.
fn hash_oid_der(hash: HashAlg) -> Vec<u8> {
    let last = match hash {
        HashAlg::Sha256 => 1,
        HashAlg::Sha384 => 2,
        HashAlg::Sha512 => 3,
    };
    vec![
        0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, last,
    ]
}

/// Everything in these parameters is shorter than 128 bytes, so one length byte is DER.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag, u8::try_from(content.len()).unwrap_or(u8::MAX)];
    out.extend_from_slice(content);
    out
}

/// Takes one element off the front: its tag, its content and what follows.
fn take(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&len, rest) = rest.split_first()?;
    // Lengths of 128 bytes and more don't occur in these parameters.
    if len >= 0x80 {
        return None;
    }
    let (content, rest) = rest.split_at_checked(usize::from(len))?;
    Some((tag, content, rest))
}

/// Takes one element with this tag that must fill the whole input.
fn only(input: &[u8], tag: u8) -> Option<&[u8]> {
    take(input)
        .filter(|(t, _, rest)| *t == tag && rest.is_empty())
        .map(|(_, content, _)| content)
}

/// Reads `AlgorithmIdentifier` of a hash; parameters absent or NULL (RFC 4055 §2.1).
fn read_hash(element: &[u8]) -> Result<HashAlg, PssRefusal> {
    let content = only(element, 0x30).ok_or(PssRefusal::Encoding)?;
    let find = |hash: &HashAlg| {
        content
            .strip_prefix(hash_oid_der(*hash).as_slice())
            .is_some_and(|rest| matches!(rest, [] | [5, 0]))
    };
    HashAlg::ALL.into_iter().find(find).ok_or(PssRefusal::Hash)
}

fn read_pss_params(der: &[u8]) -> Result<HashAlg, PssRefusal> {
    let mut rest = only(der, 0x30).ok_or(PssRefusal::Encoding)?;
    // Absent fields mean SHA-1, MGF1 with SHA-1 and a salt of 20 bytes: refused under the field's name.
    let (mut hash, mut mask, mut salt, mut last) = (None, None, None, 0);
    while !rest.is_empty() {
        let (tag, content, after) = take(rest).ok_or(PssRefusal::Encoding)?;
        if tag <= last {
            return Err(PssRefusal::Encoding);
        }
        match tag {
            0xa0 => hash = Some(read_hash(content)?),
            0xa1 => {
                let mgf = only(content, 0x30).ok_or(PssRefusal::Encoding)?;
                let inner = mgf.strip_prefix(MGF1_DER).ok_or(PssRefusal::MaskFunction)?;
                mask = Some(read_hash(inner).map_err(|e| match e {
                    PssRefusal::Hash => PssRefusal::MaskHash,
                    other => other,
                })?);
            }
            0xa2 => salt = Some(only(content, 0x02).ok_or(PssRefusal::Encoding)?),
            0xa3 if only(content, 0x02) == Some(&[1]) => {}
            0xa3 => return Err(PssRefusal::Trailer),
            _ => return Err(PssRefusal::Encoding),
        }
        (rest, last) = (after, tag);
    }
    let hash = hash.ok_or(PssRefusal::Hash)?;
    if mask != Some(hash) {
        return Err(PssRefusal::MaskHash);
    }
    match salt {
        Some([n]) if usize::from(*n) == hash.len() => Ok(hash),
        _ => Err(PssRefusal::SaltLength),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core_types::bytes::from_b64;

    const SHA256: &str = "2.16.840.1.101.3.4.2.1";
    const SHA512: &str = "2.16.840.1.101.3.4.2.3";

    #[test]
    fn the_rules_for_rsa() {
        let rsa = |algo, hash, params: Option<&[u8]>| decide(KeyAlg::Rsa3072, algo, hash, params);
        let pkcs1 = SigAlg::RsaPkcs1(HashAlg::Sha256);
        assert_eq!(rsa(RSA_ENCRYPTION, Some(SHA256), None), Ok(pkcs1));
        assert_eq!(
            rsa(RSA_ENCRYPTION, None, None),
            Err(CscError::MissingString("hashAlgorithmOID"))
        );
        assert_eq!(rsa("1.2.840.113549.1.1.11", None, None), Ok(pkcs1));
        assert_eq!(
            rsa("1.2.840.113549.1.1.11", Some(SHA256), Some(b"ignored")),
            Ok(pkcs1)
        );
        assert_eq!(
            rsa("1.2.840.113549.1.1.11", Some(SHA512), None),
            Err(CscError::HashContradiction)
        );
        assert_eq!(
            rsa(RSASSA_PSS, None, None),
            Err(CscError::MissingString("signAlgoParams"))
        );
        let params = pss_params(HashAlg::Sha512);
        assert_eq!(
            rsa(RSASSA_PSS, None, Some(&params)),
            Ok(SigAlg::RsaPss(HashAlg::Sha512))
        );
        assert_eq!(
            rsa(RSASSA_PSS, Some(SHA256), Some(&params)),
            Err(CscError::HashContradiction)
        );
    }

    #[test]
    fn weak_unknown_and_unsuited_algorithms_are_refused() {
        let sha1 = Some("1.3.14.3.2.26");
        let hash = CscError::InvalidParameter("hashAlgorithmOID");
        let algo = CscError::InvalidParameter("signAlgo");
        assert_eq!(
            decide(KeyAlg::Rsa3072, RSA_ENCRYPTION, sha1, None),
            Err(hash.clone())
        );
        assert_eq!(
            decide(KeyAlg::Rsa3072, "1.2.840.113549.1.1.5", None, None),
            Err(algo.clone())
        );
        assert_eq!(
            decide(KeyAlg::Rsa3072, "1.2.840.10045.4.3.2", None, None),
            Err(algo.clone())
        );
        assert_eq!(
            decide(KeyAlg::P256, "1.2.840.113549.1.1.11", None, None),
            Err(algo.clone())
        );
        assert_eq!(
            decide(KeyAlg::P256, RSASSA_PSS, None, None),
            Err(algo.clone())
        );
        assert_eq!(
            decide(KeyAlg::P256, "1.2.840.10045.4.3.4", None, None),
            Err(algo)
        );
        assert_eq!(
            decide(KeyAlg::P256, EC_PUBLIC_KEY, Some(SHA512), None),
            Err(hash)
        );
        assert_eq!(
            decide(KeyAlg::P256, EC_PUBLIC_KEY, Some(SHA256), None),
            Ok(SigAlg::Ecdsa(HashAlg::Sha256))
        );
    }

    #[test]
    fn pss_parameters_are_those_that_openssl_writes() {
        // openssl asn1parse of a PSS certificate request, SHA-256, salt 32.
        let known = "MDSgDzANBglghkgBZQMEAgEFAKEcMBoGCSqGSIb3DQEBCDANBglghkgBZQMEAgEFAKIDAgEg";
        assert_eq!(pss_params(HashAlg::Sha256), from_b64(known).unwrap());
        for hash in HashAlg::ALL {
            assert_eq!(read_pss_params(&pss_params(hash)), Ok(hash));
        }
    }

    #[test]
    fn other_pss_parameters_are_refused_by_name() {
        let good = pss_params(HashAlg::Sha256);
        let changed = |at: usize, to: u8| {
            let mut der = good.clone();
            der[at] = to;
            read_pss_params(&der)
        };
        assert_eq!(changed(good.len() - 1, 20), Err(PssRefusal::SaltLength));
        assert_eq!(
            changed(16, 2),
            Err(PssRefusal::MaskHash),
            "hash SHA-384, MGF1 SHA-256"
        );
        assert_eq!(changed(16, 7), Err(PssRefusal::Hash));
        assert_eq!(changed(33, 9), Err(PssRefusal::MaskFunction));
        assert_eq!(
            read_pss_params(&[0x30, 0x00]),
            Err(PssRefusal::Hash),
            "the defaults are SHA-1"
        );
        assert_eq!(
            read_pss_params(&good[..good.len() - 1]),
            Err(PssRefusal::Encoding)
        );
        let mut trailer = good.clone();
        trailer.extend([0xa3, 3, 2, 1, 2]);
        trailer[1] += 5;
        assert_eq!(read_pss_params(&trailer), Err(PssRefusal::Trailer));
        let n = trailer.len();
        trailer[n - 1] = 1;
        assert_eq!(read_pss_params(&trailer), Ok(HashAlg::Sha256));
    }

    #[test]
    fn lists_start_with_a_combined_identifier() {
        assert_eq!(
            algo_list(KeyAlg::Rsa3072),
            [
                "1.2.840.113549.1.1.11",
                "1.2.840.113549.1.1.12",
                "1.2.840.113549.1.1.13",
                RSASSA_PSS,
                RSA_ENCRYPTION
            ]
        );
        assert_eq!(
            algo_list(KeyAlg::P384),
            ["1.2.840.10045.4.3.3", EC_PUBLIC_KEY]
        );
    }

    #[test]
    fn digests_must_have_the_length_of_the_hash() {
        let alg = SigAlg::Ecdsa(HashAlg::Sha256);
        assert!(check_digests(alg, &[vec![0; 32]]).is_ok());
        assert_eq!(
            check_digests(alg, &[vec![0; 32], vec![0; 20]]),
            Err(CscError::InvalidDigestLength)
        );
    }
}
