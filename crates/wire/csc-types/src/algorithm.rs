//! Which signature algorithm a request means (CSC 11.13 with RFC 4055 §3.1), as a pure function.

use core_types::{HashAlg, KeyAlg, PssParams, SigAlg};

use crate::error::CscError;

/// Object identifier of plain RSA keys; as `signAlgo` it needs `hashAlgorithmOID`.
pub const RSA_ENCRYPTION: &str = "1.2.840.113549.1.1.1";
/// Object identifier of RSASSA-PSS; needs `signAlgoParams`.
pub const RSASSA_PSS: &str = "1.2.840.113549.1.1.10";
/// Object identifier of plain elliptic keys; as `signAlgo` it needs `hashAlgorithmOID`.
pub const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";

/// Decides the algorithm of a `signHash` for a key.
///
/// `params` is the DER of `signAlgoParams`. PSS is accepted only with MGF1 over the same hash and a salt as
/// long as the digest, or the longest that the key allows.
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
            let params = PssParams::read(der).and_then(|params| params.alg_for(key));
            params.map_err(CscError::PssParams)?
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

#[cfg(test)]
mod tests {
    use super::*;
    use core_types::PssRefusal;

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
        // BSI TR-03111 has another encoding of the value: r and s side by side. There is one here, DER.
        for n in 3..=5 {
            let plain = format!("0.4.0.127.0.7.1.1.4.1.{n}");
            assert_eq!(
                decide(KeyAlg::P256, &plain, None, None),
                Err(CscError::InvalidParameter("signAlgo"))
            );
            assert!(!algo_list(KeyAlg::P256).contains(&plain));
        }
        let params = PssParams::of(SigAlg::RsaPss(HashAlg::Sha512));
        let params = params.unwrap().to_der();
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
    fn pss_takes_two_salts_and_names_what_it_refuses() {
        let asked = |key, salt| {
            let hash = HashAlg::Sha256;
            let der = PssParams { hash, salt }.to_der();
            decide(key, RSASSA_PSS, None, Some(&der))
        };
        assert_eq!(
            asked(KeyAlg::Rsa3072, 32),
            Ok(SigAlg::RsaPss(HashAlg::Sha256))
        );
        assert_eq!(
            asked(KeyAlg::Rsa3072, 350).map(SigAlg::name),
            Ok("rsa-pss-sha256-salt350")
        );
        let salt = Err(CscError::PssParams(PssRefusal::SaltLength));
        // Any other, and the longest of another key.
        for (key, length) in [
            (KeyAlg::Rsa3072, 20),
            (KeyAlg::Rsa3072, 222),
            (KeyAlg::Rsa2048, 350),
            (KeyAlg::Rsa4096, 0),
        ] {
            assert_eq!(asked(key, length), salt);
        }
        let encoding = Err(CscError::PssParams(PssRefusal::Encoding));
        assert_eq!(
            decide(KeyAlg::Rsa3072, RSASSA_PSS, None, Some(b"x")),
            encoding
        );
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
