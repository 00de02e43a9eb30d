//! What a credential and a signature value are, looked at with the certificate: nothing that a provider says about itself is believed.

use core_types::bytes::{from_b64, hex};
use core_types::{PssParams, SigAlg, UnixTime};
use csc_types::algorithm::{EC_PUBLIC_KEY, RSA_ENCRYPTION, RSASSA_PSS};
use csc_types::decide;
use pki::alg::{PublicKeyKind, public_key_kind};
use pki::{Certificate, Signed, key_alg, verify_signature};
use serde_json::Value;

/// SHA-256.
pub(super) const SHA256: &str = "2.16.840.1.101.3.4.2.1";

/// The certificates of a credential, parsed.
pub(super) fn certificates(seen: &Value) -> Result<Vec<Certificate>, String> {
    let texts = seen["cert"]["certificates"].as_array();
    let texts = texts.filter(|all| !all.is_empty());
    let texts = texts.ok_or("cert.certificates is missing or empty")?;
    let parsed = texts.iter().enumerate().map(|(n, text)| {
        let der = from_b64(text.as_str().unwrap_or_default());
        let der = der.map_err(|_| format!("certificate {n} is not base64 without line breaks"))?;
        Certificate::parse(&der).map_err(|e| format!("certificate {n}: {e}"))
    });
    parsed.collect()
}

/// What is wrong with the order: the signer's comes first, and each is signed by the next.
pub(super) fn order(chain: &[Certificate]) -> Option<String> {
    let mut links = chain.iter().zip(chain.iter().skip(1)).enumerate();
    links.find_map(|(n, (one, next))| {
        let signed = one.verify_signed_by(next.spki());
        let fault = signed.err().map(|e| e.to_string());
        fault.map(|why| format!("certificate {n} is not signed by the next: {why}"))
    })
}

/// What is wrong with `key` against the key in the certificate.
pub(super) fn key(seen: &Value, certificate: &Certificate) -> Option<String> {
    let Some(kind) = public_key_kind(certificate.spki()) else {
        return Some("the certificate has a key of an unknown kind".to_owned());
    };
    let (bits, curve) = match kind {
        PublicKeyKind::Rsa(bits) => (bits, None),
        PublicKeyKind::P256 => (256, Some("1.2.840.10045.3.1.7")),
        PublicKeyKind::P384 => (384, Some("1.3.132.0.34")),
        PublicKeyKind::P521 => (521, Some("1.3.132.0.35")),
        // Their length and algorithms are named by nobody yet.
        PublicKeyKind::Ed25519 | PublicKeyKind::MlDsa65 | PublicKeyKind::MlDsa87 => return None,
    };
    let key = &seen["key"];
    if key["len"].as_u64() != Some(bits.into()) {
        return Some(format!(
            "key.len is {} and the key has {bits} bits",
            key["len"]
        ));
    }
    if key["curve"].as_str() != curve {
        return Some(format!(
            "key.curve is {} and the key's {curve:?}",
            key["curve"]
        ));
    }
    let ours = |oid: &str| match curve {
        None => oid.starts_with("1.2.840.113549.1.1."),
        Some(_) => {
            oid == EC_PUBLIC_KEY
                || oid.starts_with("1.2.840.10045.4.")
                || oid.starts_with("0.4.0.127.0.7.1.1.4.1.")
        }
    };
    let algo = key["algo"].as_array().into_iter().flatten();
    let other = algo.filter_map(Value::as_str).find(|oid| !ours(oid));
    other.map(|oid| format!("key.algo has {oid}, which a key of this kind can't do"))
}

/// What is wrong with the members about the certificate.
pub(super) fn names(seen: &Value, certificate: &Certificate) -> Option<String> {
    let cert = &seen["cert"];
    let compact = |time: UnixTime| -> String {
        let all = time.rfc3339();
        all.chars().filter(|c| !"-:T".contains(*c)).collect()
    };
    for (name, real) in [
        ("validFrom", compact(certificate.not_before())),
        ("validTo", compact(certificate.not_after())),
    ] {
        if cert[name] != real.as_str() {
            return Some(format!("cert.{name} is {} and not {real}", cert[name]));
        }
    }
    let real = hex(certificate.serial());
    let told = cert["serialNumber"].as_str().unwrap_or_default();
    let same = |text: &str| text.trim_start_matches('0').to_ascii_lowercase();
    (same(told) != same(&real))
        .then(|| format!("cert.serialNumber is {told:?} and not {real} (hexadecimal)"))
}

/// An algorithm as it is asked for and as it is verified.
pub(super) struct Algorithm {
    pub(super) sign_algo: String,
    /// `signAlgoParams`, DER.
    pub(super) params: Option<Vec<u8>>,
    /// Absent when this program can't verify with it.
    pub(super) alg: Option<SigAlg>,
}

impl Algorithm {
    /// The wanted one, or the first of the key's that goes with SHA-256.
    pub(super) fn choose(
        seen: &Value,
        certificate: Option<&Certificate>,
        wanted: Option<&str>,
    ) -> Self {
        let key = certificate.and_then(|certificate| key_alg(certificate.spki()));
        let pss = PssParams::of(SigAlg::RsaPss(core_types::HashAlg::Sha256)).map(PssParams::to_der);
        let of = |oid: &str| {
            let params = pss.clone().filter(|_| oid == RSASSA_PSS);
            let alg = key.and_then(|key| decide(key, oid, Some(SHA256), params.as_deref()).ok());
            Self {
                sign_algo: oid.to_owned(),
                params,
                alg,
            }
        };
        if let Some(wanted) = wanted {
            return of(wanted);
        }
        let listed = seen["key"]["algo"].as_array().into_iter().flatten();
        let listed: Vec<&str> = listed.filter_map(Value::as_str).collect();
        let good = listed
            .iter()
            .map(|oid| of(oid))
            .find(|one| one.alg.is_some());
        good.unwrap_or_else(|| of(listed.first().copied().unwrap_or(RSA_ENCRYPTION)))
    }
}

/// What is wrong with a signature value: its length and encoding by name, then whether the certificate's key made it over the hash.
pub(super) fn signature(
    value: &[u8],
    hash: &[u8],
    alg: SigAlg,
    certificate: &Certificate,
) -> Option<String> {
    match public_key_kind(certificate.spki()) {
        Some(PublicKeyKind::Rsa(bits)) => {
            let block = usize::try_from(bits.div_ceil(8)).unwrap_or(usize::MAX);
            if value.len() != block {
                return Some(format!(
                    "{} bytes and not the {block} of the modulus",
                    value.len()
                ));
            }
        }
        Some(PublicKeyKind::P256 | PublicKeyKind::P384 | PublicKeyKind::P521)
            if pki::asn1::Tlv::single(value, "signature").is_err() =>
        {
            let plain = matches!(value.len(), 64 | 96 | 132);
            let seems = if plain {
                ", as r and s side by side would be"
            } else {
                ""
            };
            return Some(format!("{} bytes that are no DER{seems}", value.len()));
        }
        _ => {}
    }
    let verified = verify_signature(certificate.spki(), alg, Signed::Digest(hash), value);
    verified.err().map(|e| {
        format!(
            "the certificate's key did not make it: {e} ({})",
            alg.name()
        )
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rand::SystemRandom as Entropy;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{
        KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
    };
    use core_types::bytes::b64;
    use core_types::clock::SystemClock;
    use core_types::random::SystemRandom;
    use core_types::{HashAlg, sha256};
    use dev_ca::{DevCa, Urls};
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_of_rsa_are_verified_as_what_they_were_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let urls = Urls::under("http://localhost:1");
        let ca = DevCa::open(dir.path(), urls, clock, random).unwrap();
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let spki = pair.public_key().as_der().unwrap();
        let subject = pki::name::encode(&[(pki::oid::COMMON_NAME, "rsa")]).unwrap();
        let chain = ca.issue_for_key(spki.as_ref(), &subject, 30).unwrap();
        let signer = &chain[0];
        let made = |padding: &'static dyn RsaEncoding| {
            let mut value = vec![0; pair.public_modulus_len()];
            pair.sign(padding, &Entropy::new(), b"x", &mut value)
                .unwrap();
            value
        };
        let certificates: Vec<_> = chain.iter().map(|c| b64(c.der())).collect();
        let mut seen = json!({ "key": { "len": 2048, "algo": ["1.2.840.113549.1.1.11", RSASSA_PSS, RSA_ENCRYPTION] },
            "cert": { "certificates": certificates } });
        assert_eq!(super::certificates(&seen).as_ref(), Ok(&chain));
        assert_eq!((order(&chain), key(&seen, signer)), (None, None));

        let hash = sha256(&[b"x"]).0;
        let first = Algorithm::choose(&seen, Some(signer), None);
        assert_eq!(first.alg, Some(SigAlg::RsaPkcs1(HashAlg::Sha256)));
        let pss = Algorithm::choose(&seen, Some(signer), Some(RSASSA_PSS));
        assert!(pss.params.is_some());
        let (pkcs1, pss) = (first.alg.unwrap(), pss.alg.unwrap());
        assert_eq!(
            signature(&made(&RSA_PKCS1_SHA256), &hash, pkcs1, signer),
            None
        );
        assert_eq!(signature(&made(&RSA_PSS_SHA256), &hash, pss, signer), None);
        let other = signature(&made(&RSA_PKCS1_SHA256), &hash, pss, signer).unwrap();
        assert!(other.contains("did not make it"), "{other}");
        let short = signature(&[1; 255], &hash, pkcs1, signer).unwrap();
        assert!(short.contains("255 bytes and not the 256"), "{short}");

        seen["key"]["algo"] = json!([EC_PUBLIC_KEY]);
        assert!(key(&seen, signer).unwrap().contains(EC_PUBLIC_KEY));
        let reversed: Vec<_> = chain.iter().rev().cloned().collect();
        assert!(order(&reversed).unwrap().contains("certificate 0"));
        seen["cert"]["certificates"] = json!(["AAAA"]);
        assert!(
            super::certificates(&seen)
                .unwrap_err()
                .contains("certificate 0")
        );
    }
}
