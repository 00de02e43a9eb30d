//! A maker of authenticators for tests: a root of its own, an attesting certificate for one model, and metadata that
//! say whatever a test wants.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use core_types::UnixTime;
use core_types::bytes::{b64, b64u};
use pki::asn1::{self, BOOLEAN, context_constructed, octets, sequence, tlv, uint};
use serde_json::{Value, json};

use crate::Broken;

/// A maker with one model.
pub struct Attester {
    /// The model's AAGUID.
    pub aaguid: [u8; 16],
    /// The root certificate, DER.
    pub root: Vec<u8>,
    /// The attesting certificate, DER.
    pub leaf: Vec<u8>,
    leaf_pair: EcdsaKeyPair,
    root_pair: EcdsaKeyPair,
    /// The root's key once more, for JWS signatures.
    root_jws: EcdsaKeyPair,
}

impl Attester {
    /// Makes root and attesting certificate, valid for ten years from `now`; the latter names `named` as its model.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn new(aaguid: [u8; 16], named: [u8; 16], now: UnixTime) -> Result<Self, Broken> {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
                .map_err(|_| Broken)?;
        let load = |kind| EcdsaKeyPair::from_pkcs8(kind, pkcs8.as_ref()).map_err(|_| Broken);
        let root_pair = load(&ECDSA_P256_SHA256_ASN1_SIGNING)?;
        let root_jws = load(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        let leaf_pair =
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| Broken)?;
        let root_name = name("Test Attestation CA")?;
        let ca = sequence(&[&tlv(BOOLEAN, &[&[0xff]])]);
        let root_extensions = [extension("2.5.29.19", true, &ca)?];
        let root = Template {
            issuer: &root_name,
            subject: &root_name,
            key: &spki(&root_pair)?,
            extensions: &root_extensions,
        };
        let leaf_extensions = [
            extension("2.5.29.19", true, &sequence(&[]))?,
            extension("1.3.6.1.4.1.45724.1.1.4", false, &octets(&named))?,
        ];
        let subject = name("Authenticator Attestation")?;
        let leaf = Template {
            issuer: &root_name,
            subject: &subject,
            key: &spki(&leaf_pair)?,
            extensions: &leaf_extensions,
        };
        Ok(Self {
            aaguid,
            root: root.signed(&root_pair, now)?,
            leaf: leaf.signed(&root_pair, now)?,
            leaf_pair,
            root_pair,
            root_jws,
        })
    }

    /// The attesting key's signature.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Broken> {
        let signed = self.leaf_pair.sign(&SystemRandom::new(), message);
        signed.map(|s| s.as_ref().to_vec()).map_err(|_| Broken)
    }

    /// AAGUID in its usual form.
    pub fn model(&self) -> String {
        let hex = core_types::bytes::hex(self.aaguid);
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
        format!(
            "{}-{}-{}-{}-{}",
            part(0, 8),
            part(8, 12),
            part(12, 16),
            part(16, 20),
            part(20, 32)
        )
    }

    /// A metadata BLOB by this maker's root about its model, with these status reports and protection: issue 7.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn metadata(
        &self,
        status: &[&str],
        protection: &str,
        next_update: &str,
    ) -> Result<String, Broken> {
        self.metadata_issue(7, status, protection, next_update)
    }

    /// The same as another issue.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn metadata_issue(
        &self,
        number: u64,
        status: &[&str],
        protection: &str,
        next_update: &str,
    ) -> Result<String, Broken> {
        let header = json!({ "alg": "ES256", "typ": "JWT", "x5c": [b64(&self.root)] });
        let payload = self.payload(number, status, protection, next_update);
        let signed = format!("{}.{}", b64u(header.to_string()), b64u(payload.to_string()));
        let value = self.root_jws.sign(&SystemRandom::new(), signed.as_bytes());
        let value = value.map_err(|_| Broken)?;
        Ok(format!("{signed}.{}", b64u(value.as_ref())))
    }

    /// The same about a sound model, signed by an RSA key that this maker's root certified at `now`.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn rsa_metadata(&self, next_update: &str, now: UnixTime) -> Result<String, Broken> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| Broken)?;
        let key: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| Broken)?;
        let signer = Template {
            issuer: &name("Test Attestation CA")?,
            subject: &name("Metadata Signing")?,
            key: key.as_ref(),
            extensions: &[extension("2.5.29.19", true, &sequence(&[]))?],
        };
        let chain = [signer.signed(&self.root_pair, now)?, self.root.clone()].map(b64);
        let header = json!({ "alg": "RS256", "typ": "JWT", "x5c": chain });
        let payload = self.payload(7, &[], "hardware", next_update);
        let signed = format!("{}.{}", b64u(header.to_string()), b64u(payload.to_string()));
        let mut value = vec![0; pair.public_modulus_len()];
        let random = SystemRandom::new();
        let done = pair.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut value);
        done.map_err(|_| Broken)?;
        Ok(format!("{signed}.{}", b64u(value)))
    }

    fn payload(&self, number: u64, status: &[&str], protection: &str, next_update: &str) -> Value {
        let reports: Vec<_> = status.iter().map(|s| json!({ "status": s })).collect();
        json!({
            "legalHeader": "test",
            "no": number,
            "nextUpdate": next_update,
            "entries": [{
                "aaguid": self.model(),
                "metadataStatement": {
                    "attestationRootCertificates": [b64(&self.root)],
                    "keyProtection": [protection],
                },
                "statusReports": reports,
                "timeOfLastStatusChange": "2026-01-01",
            }, { "aaid": "1234#5678", "statusReports": [] }],
        })
    }
}

struct Template<'a> {
    issuer: &'a [u8],
    subject: &'a [u8],
    /// SubjectPublicKeyInfo, DER.
    key: &'a [u8],
    extensions: &'a [Vec<u8>],
}

impl Template<'_> {
    fn signed(&self, by: &EcdsaKeyPair, now: UnixTime) -> Result<Vec<u8>, Broken> {
        // ecdsa-with-SHA256
        let alg = asn1::try_oid("1.2.840.10045.4.3.2").map_err(|_| Broken)?;
        let alg = sequence(&[&alg]);
        let years = |n: i64| asn1::time(now.plus(n * 365 * 86_400));
        let extensions: Vec<&[u8]> = self.extensions.iter().map(Vec::as_slice).collect();
        let tbs = sequence(&[
            &tlv(context_constructed(0), &[&uint(&[2])]),
            &uint(&[1]),
            &alg,
            self.issuer,
            &sequence(&[&years(-1), &years(10)]),
            self.subject,
            self.key,
            &tlv(context_constructed(3), &[&sequence(&extensions)]),
        ]);
        let value = by.sign(&SystemRandom::new(), &tbs).map_err(|_| Broken)?;
        Ok(sequence(&[&tbs, &alg, &asn1::bits(value.as_ref())]))
    }
}

fn spki(pair: &EcdsaKeyPair) -> Result<Vec<u8>, Broken> {
    let key: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| Broken)?;
    Ok(key.as_ref().to_vec())
}

fn name(unit: &str) -> Result<Vec<u8>, Broken> {
    pki::name::encode(&[
        ("2.5.4.6", "JP"),
        ("2.5.4.10", "Natsuin tests"),
        ("2.5.4.11", unit),
        ("2.5.4.3", unit),
    ])
    .map_err(|_| Broken)
}

fn extension(oid: &str, critical: bool, value: &[u8]) -> Result<Vec<u8>, Broken> {
    let oid = asn1::try_oid(oid).map_err(|_| Broken)?;
    let critical = if critical {
        tlv(BOOLEAN, &[&[0xff]])
    } else {
        Vec::new()
    };
    Ok(sequence(&[&oid, &critical, &octets(value)]))
}
