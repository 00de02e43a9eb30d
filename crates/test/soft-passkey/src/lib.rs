//! A passkey in software, for tests, benchmarks and the demonstration. It answers without asking anybody, so it
//! must never stand for a person: nothing but test kits and development programs may depend on it.
//!
//! Whatever a hostile browser or authenticator could send is settable, so that each check of the verifier can be
//! shown to bite.

mod attester;

use std::sync::Arc;

pub use attester::Attester;
use aws_lc_rs::encoding::AsBigEndian as _;
use aws_lc_rs::encoding::EcPublicKeyUncompressedBin;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use core_types::{B64, Digest32, Random, SecretBytes, sha256};
use sap::Proof;
use sap::enrol::PasskeyRegistration;

/// The library couldn't make a key or a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the software passkey couldn't make a key or a signature")]
pub struct Broken;

/// A P-256 passkey (COSE −7).
pub struct SoftPasskey {
    /// Credential id.
    pub id: Vec<u8>,
    /// What it says of itself and of its browser.
    pub behaviour: Behaviour,
    /// Whoever attests it at registration; nobody by default.
    pub attester: Option<Arc<Attester>>,
    /// Name of the attestation's format, instead of the right one.
    pub format: Option<String>,
    pair: EcdsaKeyPair,
}

/// What browser and authenticator say. The default of [`Behaviour::honest`] is that of a synced passkey in a good
/// browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behaviour {
    /// `origin` of the client data.
    pub origin: String,
    /// RP ID that is hashed into the authenticator data.
    pub rp_id: String,
    /// UP flag.
    pub user_present: bool,
    /// UV flag.
    pub user_verified: bool,
    /// BE flag.
    pub backup_eligible: bool,
    /// BS flag.
    pub backed_up: bool,
    /// Value of the signature counter; raised by one after each use unless 0.
    pub counter: u32,
    /// `type` of the client data, instead of the right one.
    pub kind: Option<String>,
    /// `crossOrigin`, if written at all.
    pub cross_origin: Option<bool>,
    /// Members added to the client data, as JSON text beginning with a comma.
    pub more_members: String,
    /// Extension data in CBOR, announced by the ED flag.
    pub extensions: Option<Vec<u8>>,
    /// Bytes after the end of the authenticator data, not announced by anything.
    pub trailing: Vec<u8>,
}

impl Behaviour {
    /// A good browser at `origin` with a synced passkey that doesn't count.
    pub fn honest(origin: &str, rp_id: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            rp_id: rp_id.to_owned(),
            user_present: true,
            user_verified: true,
            backup_eligible: true,
            backed_up: true,
            counter: 0,
            kind: None,
            cross_origin: Some(false),
            more_members: String::new(),
            extensions: None,
            trailing: Vec::new(),
        }
    }
}

impl SoftPasskey {
    /// Makes a credential.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn new(behaviour: Behaviour, random: &dyn Random) -> Result<Self, Broken> {
        let mut id = vec![0; 16];
        random.fill(&mut id);
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| Broken)?;
        Ok(Self {
            id,
            behaviour,
            attester: None,
            format: None,
            pair,
        })
    }

    /// The private key (PKCS#8), for a development program that keeps the passkey between its starts.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn private(&self) -> Result<SecretBytes, Broken> {
        let document = self.pair.to_pkcs8v1().map_err(|_| Broken)?;
        Ok(SecretBytes::new(document.as_ref().to_vec()))
    }

    /// A credential that was kept.
    ///
    /// # Errors
    /// [`Broken`] when the bytes aren't such a key.
    pub fn restore(
        behaviour: Behaviour,
        id: Vec<u8>,
        private: &SecretBytes,
    ) -> Result<Self, Broken> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, private.expose());
        Ok(Self {
            id,
            behaviour,
            attester: None,
            format: None,
            pair: pair.map_err(|_| Broken)?,
        })
    }

    /// Makes a credential that stays in its authenticator, of a model that `attester` vouches for.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn attested(
        behaviour: Behaviour,
        attester: Arc<Attester>,
        random: &dyn Random,
    ) -> Result<Self, Broken> {
        let bound = Behaviour {
            backup_eligible: false,
            backed_up: false,
            ..behaviour
        };
        let mut made = Self::new(bound, random)?;
        made.attester = Some(attester);
        Ok(made)
    }

    /// Registers for the act with this digest; attestation `packed` by the attester, or `none` without one.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn register(&mut self, act: Digest32) -> Result<PasskeyRegistration, Broken> {
        let client_data = self.client_data("webauthn.create", act);
        let auth_data = self.auth_data(Some(self.cose_key()?));
        let mut object = vec![0xa3];
        text(&mut object, "fmt");
        let format = self.attester.as_ref().map_or("none", |_| "packed");
        text(&mut object, self.format.as_deref().unwrap_or(format));
        text(&mut object, "attStmt");
        match &self.attester {
            None => object.push(0xa0),
            Some(attester) => {
                let mut signed = auth_data.clone();
                signed.extend_from_slice(&sha256(&[&client_data]).0);
                object.push(0xa3);
                text(&mut object, "alg");
                object.push(0x26);
                text(&mut object, "sig");
                bytes(&mut object, &attester.sign(&signed)?);
                text(&mut object, "x5c");
                object.push(0x81);
                bytes(&mut object, &attester.leaf);
            }
        }
        text(&mut object, "authData");
        bytes(&mut object, &auth_data);
        self.count();
        Ok(PasskeyRegistration {
            id: B64(self.id.clone()),
            client_data: B64(client_data),
            attestation: B64(object),
            transports: vec!["internal".to_owned()],
        })
    }

    /// Proves the act with this digest.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn prove(&mut self, act: Digest32) -> Result<Proof, Broken> {
        let client_data = self.client_data("webauthn.get", act);
        let auth_data = self.auth_data(None);
        let mut signed = auth_data.clone();
        signed.extend_from_slice(&sha256(&[&client_data]).0);
        let sig = self
            .pair
            .sign(&SystemRandom::new(), &signed)
            .map_err(|_| Broken)?;
        self.count();
        Ok(Proof::Passkey {
            act,
            id: B64(self.id.clone()),
            auth_data: B64(auth_data),
            client_data: B64(client_data),
            sig: B64(sig.as_ref().to_vec()),
        })
    }

    fn count(&mut self) {
        if self.behaviour.counter != 0 {
            self.behaviour.counter = self.behaviour.counter.saturating_add(1);
        }
    }

    fn client_data(&self, kind: &str, challenge: Digest32) -> Vec<u8> {
        let b = &self.behaviour;
        let kind = b.kind.as_deref().unwrap_or(kind);
        let origin = serde_json::Value::from(b.origin.as_str());
        let cross = b
            .cross_origin
            .map_or_else(String::new, |c| format!(",\"crossOrigin\":{c}"));
        let more = &b.more_members;
        format!(r#"{{"type":"{kind}","challenge":"{challenge}","origin":{origin}{cross}{more}}}"#)
            .into_bytes()
    }

    fn auth_data(&self, credential: Option<Vec<u8>>) -> Vec<u8> {
        let b = &self.behaviour;
        let flags = [
            (b.user_present, 0),
            (b.user_verified, 2),
            (b.backup_eligible, 3),
            (b.backed_up, 4),
            (credential.is_some(), 6),
            (b.extensions.is_some(), 7),
        ];
        let flags = flags
            .into_iter()
            .fold(0, |acc, (set, bit)| acc | (u8::from(set) << bit));
        let mut out = sha256(&[b.rp_id.as_bytes()]).0.to_vec();
        out.push(flags);
        out.extend_from_slice(&b.counter.to_be_bytes());
        if let Some(key) = credential {
            out.extend_from_slice(&self.attester.as_ref().map_or([0; 16], |a| a.aaguid));
            out.extend_from_slice(&[0, 16]);
            out.extend_from_slice(&self.id);
            out.extend_from_slice(&key);
        }
        out.extend_from_slice(b.extensions.as_deref().unwrap_or_default());
        out.extend_from_slice(&b.trailing);
        out
    }

    fn cose_key(&self) -> Result<Vec<u8>, Broken> {
        let point: EcPublicKeyUncompressedBin<'_> =
            self.pair.public_key().as_be_bytes().map_err(|_| Broken)?;
        let point = point.as_ref();
        // {1: 2, 3: -7, -1: 1, -2: x, -3: y}
        let mut key = vec![0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21];
        bytes(&mut key, &point[1..33]);
        key.push(0x22);
        bytes(&mut key, &point[33..65]);
        Ok(key)
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    head(out, 3, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    head(out, 2, bytes.len());
    out.extend_from_slice(bytes);
}

fn head(out: &mut Vec<u8>, major: u8, length: usize) {
    let length = u16::try_from(length).unwrap_or(u16::MAX);
    let [high, low] = length.to_be_bytes();
    match length {
        0..=23 => out.push(major << 5 | low),
        24..=255 => out.extend_from_slice(&[major << 5 | 24, low]),
        _ => out.extend_from_slice(&[major << 5 | 25, high, low]),
    }
}
