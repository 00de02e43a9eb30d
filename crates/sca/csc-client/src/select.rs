//! Which algorithm to sign with, from what a credential says about its key.

use core_types::{HashAlg, PssParams, SigAlg};
use csc_types::KeyInfo;
use csc_types::algorithm::{EC_PUBLIC_KEY, RSA_ENCRYPTION};

use crate::error::ClientError;

/// A signature algorithm in the words of `signHash`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireAlg {
    /// `signAlgo`.
    pub sign_algo: String,
    /// `hashAlgorithmOID`; always sent, because some services want it beside a combined identifier too.
    pub hash_algorithm_oid: String,
    /// `signAlgoParams`, DER.
    pub sign_algo_params: Option<Vec<u8>>,
}

/// Chooses the algorithm: RSA with SHA-256 (PKCS#1 v1.5 before PSS, which older viewers don't know), ECDSA
/// with the hash of the curve's size; Ed25519 and ML-DSA for keys that can do nothing else.
///
/// # Errors
/// [`ClientError::Unsupported`] when the key offers nothing approved.
pub fn choose_alg(key: &KeyInfo) -> Result<SigAlg, ClientError> {
    let curve_hash = match key.curve.as_deref() {
        Some("1.3.132.0.34") => HashAlg::Sha384,
        Some("1.3.132.0.35") => HashAlg::Sha512,
        _ => HashAlg::Sha256,
    };
    let ecdsa = [
        curve_hash,
        HashAlg::Sha256,
        HashAlg::Sha384,
        HashAlg::Sha512,
    ]
    .map(SigAlg::Ecdsa);
    let pkcs1 = HashAlg::ALL.map(SigAlg::RsaPkcs1);
    let pss = HashAlg::ALL.map(SigAlg::RsaPss);
    let usable = |alg: &SigAlg| wire_alg(*alg, key).is_some();
    let messages = [SigAlg::Ed25519, SigAlg::MlDsa65, SigAlg::MlDsa87];
    [ecdsa.as_slice(), &pkcs1, &pss, &messages]
        .concat()
        .into_iter()
        .find(usable)
        .ok_or(ClientError::Unsupported(
            "a signature algorithm that is approved here",
        ))
}

/// Writes the algorithm so that `signAlgo` is one of the values the key lists; `None` when it can't be used.
pub fn wire_alg(alg: SigAlg, key: &KeyInfo) -> Option<WireAlg> {
    let plain = match alg {
        SigAlg::RsaPkcs1(_) => Some(RSA_ENCRYPTION),
        SigAlg::RsaPss(_)
        | SigAlg::RsaPssLongest(..)
        | SigAlg::Ed25519
        | SigAlg::MlDsa65
        | SigAlg::MlDsa87 => None,
        SigAlg::Ecdsa(_) => Some(EC_PUBLIC_KEY),
    };
    let lists = |oid: &str| key.algo.iter().any(|a| a == oid);
    let sign_algo = [Some(alg.oid()), plain]
        .into_iter()
        .flatten()
        .find(|oid| lists(oid))?;
    Some(WireAlg {
        sign_algo: sign_algo.to_owned(),
        hash_algorithm_oid: alg.hash().oid().to_owned(),
        sign_algo_params: PssParams::of(alg).map(PssParams::to_der),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use csc_types::algorithm::RSASSA_PSS;

    fn key(algo: &[&str], curve: Option<&str>) -> KeyInfo {
        KeyInfo {
            status: "enabled".to_owned(),
            algo: algo.iter().map(|a| (*a).to_owned()).collect(),
            len: 0,
            curve: curve.map(str::to_owned),
            origin: None,
            one_time: false,
        }
    }

    #[test]
    fn the_choice_is_among_what_the_key_lists() {
        let chosen = |algo: &[&str], curve| {
            let key = key(algo, curve);
            let alg = choose_alg(&key).unwrap();
            (alg.name(), wire_alg(alg, &key).unwrap().sign_algo)
        };
        assert_eq!(
            chosen(&["1.2.840.113549.1.1.13", RSA_ENCRYPTION], None),
            ("rsa-pkcs1-sha256", RSA_ENCRYPTION.to_owned())
        );
        assert_eq!(
            chosen(&["1.2.840.113549.1.1.12"], None).0,
            "rsa-pkcs1-sha384"
        );
        assert_eq!(chosen(&[RSASSA_PSS], None).0, "rsa-pss-sha256");
        assert_eq!(
            chosen(&[EC_PUBLIC_KEY], Some("1.3.132.0.34")).0,
            "ecdsa-sha384"
        );
        assert_eq!(
            chosen(
                &["1.2.840.10045.4.3.2", "1.2.840.10045.4.3.3"],
                Some("1.3.132.0.34")
            )
            .0,
            "ecdsa-sha384"
        );
        assert_eq!(chosen(&["1.3.101.112"], None).0, "ed25519");
        assert!(choose_alg(&key(&["1.2.840.113549.1.1.5"], None)).is_err());
    }

    #[test]
    fn pss_carries_its_parameters() {
        let key = key(&[RSASSA_PSS], None);
        let alg = SigAlg::RsaPss(HashAlg::Sha512);
        let wire = wire_alg(alg, &key).unwrap();
        let params = PssParams::read(&wire.sign_algo_params.unwrap()).unwrap();
        assert_eq!(params.alg(), Ok(alg));
    }
}
