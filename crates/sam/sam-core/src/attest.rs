//! Which authenticators are vouched for (`sap.md` §8.3, §11): the operator's lists of models and formats, roots of makers,
//! and FIDO metadata read from a file. Nothing is fetched, and nothing is believed but what leads to a configured root.
//!
//! Level 3 wants a passkey that stays in one authenticator of a listed model. A model with a known compromise counts
//! as one factor wherever it was registered, from the moment the metadata say so.

use std::collections::{BTreeMap, BTreeSet};

use core_types::bytes::{from_b64, from_b64u};
use core_types::{HashAlg, SigAlg, UnixTime};
use pki::path::{Purpose, validate};
use pki::{Certificate, Signed, asn1, verify_signature};
use serde::Deserialize;
pub use webauthn::Format;
use webauthn::{Attestation, Passkey, Statement};

use crate::level::FactorKind;

/// Longest metadata file in bytes; the published one has some 6 MB.
pub const MAX_METADATA: usize = 64 * 1024 * 1024;

/// Status reports after which a model is no second factor any more.
const COMPROMISED: [&str; 5] = [
    "REVOKED",
    "USER_VERIFICATION_BYPASS",
    "ATTESTATION_KEY_COMPROMISE",
    "USER_KEY_REMOTE_COMPROMISE",
    "USER_KEY_PHYSICAL_COMPROMISE",
];

/// A model of authenticators (AAGUID).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Model([u8; 16]);

impl Model {
    /// Reads the usual form of a UUID.
    pub fn parse(text: &str) -> Option<Self> {
        let shape = text.len() == 36
            && text.bytes().enumerate().all(|(i, b)| {
                if matches!(i, 8 | 13 | 18 | 23) {
                    b == b'-'
                } else {
                    b.is_ascii_hexdigit()
                }
            });
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
        let mut model = [0; 16];
        let (pairs, []) = digits.as_chunks::<2>() else {
            return None;
        };
        for (byte, pair) in model.iter_mut().zip(pairs) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        shape.then_some(Self(model))
    }

    fn of(passkey: &Passkey) -> Option<Self> {
        passkey.aaguid.0.as_slice().try_into().ok().map(Self)
    }
}

/// What the operator admits. The default vouches for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttestationPolicy {
    /// Models that are vouched for.
    pub models: BTreeSet<Model>,
    /// Formats of attestation that count.
    pub formats: BTreeSet<Format>,
    /// Roots of makers, DER, that the operator trusts beside the metadata.
    pub roots: Vec<Vec<u8>>,
}

/// The operator's policy, and what is known of the models today.
#[derive(Debug, Clone, Default)]
pub struct Attesters {
    /// The policy.
    pub policy: AttestationPolicy,
    /// FIDO metadata.
    pub metadata: Option<Metadata>,
}

/// Why a passkey isn't vouched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotVouched {
    /// It may be copied to other devices.
    #[error("the passkey may be copied to other devices")]
    Synced,
    /// No certificates came along.
    #[error("the authenticator wasn't attested")]
    Missing,
    /// Its model isn't on the list.
    #[error("the authenticator's model isn't on the list")]
    Model,
    /// Attestations of its format don't count here.
    #[error("attestations of this format don't count here")]
    Format,
    /// The chain leads to no configured root.
    #[error("the attestation leads to no configured root")]
    Root,
    /// Its model is compromised.
    #[error("the authenticator's model is compromised")]
    Compromised,
    /// Metadata say that its keys aren't protected by hardware.
    #[error("the authenticator's keys aren't protected by hardware")]
    Software,
    /// The metadata are out of date.
    #[error("the metadata are out of date")]
    Stale,
}

impl NotVouched {
    /// The fixed word for the audit log.
    pub fn code(self) -> &'static str {
        match self {
            Self::Synced => "attestation-synced",
            Self::Missing => "attestation-missing",
            Self::Model => "attestation-model",
            Self::Format => "attestation-format",
            Self::Root => "attestation-root",
            Self::Compromised => "attestation-compromised",
            Self::Software => "attestation-software",
            Self::Stale => "attestation-stale",
        }
    }
}

impl Attesters {
    /// Judges a new passkey.
    ///
    /// # Errors
    /// [`NotVouched`]: it can be registered all the same where the level allows, except when compromised.
    pub fn judge(
        &self,
        passkey: &Passkey,
        statement: &Statement,
        now: UnixTime,
    ) -> Result<(), NotVouched> {
        let model = Model::of(passkey).ok_or(NotVouched::Model)?;
        if self.compromised(passkey) {
            return Err(NotVouched::Compromised);
        }
        if passkey.backup_eligible {
            return Err(NotVouched::Synced);
        }
        let (leaf, rest) = statement.chain.split_first().ok_or(NotVouched::Missing)?;
        if !self.policy.models.contains(&model) {
            return Err(NotVouched::Model);
        }
        if !self.policy.formats.contains(&statement.format) {
            return Err(NotVouched::Format);
        }
        let entry = self.metadata.as_ref().and_then(|m| m.entry(model));
        if let Some((metadata, entry)) = entry {
            if now >= metadata.next_update {
                return Err(NotVouched::Stale);
            }
            if !entry.hardware {
                return Err(NotVouched::Software);
            }
        }
        let mut roots = self.policy.roots.clone();
        roots.extend(entry.into_iter().flat_map(|(_, e)| e.roots.clone()));
        // A maker may publish the attesting certificate itself as the root.
        let direct = roots.contains(leaf);
        if direct || validate(leaf, rest, &roots, now, Purpose::Any).is_ok() {
            Ok(())
        } else {
            Err(NotVouched::Root)
        }
    }

    /// Whether something is known against the model that this passkey says it is.
    pub fn compromised(&self, passkey: &Passkey) -> bool {
        let model = Model::of(passkey);
        let entry = self.metadata.as_ref().zip(model);
        entry.is_some_and(|(m, model)| m.entry(model).is_some_and(|(_, e)| e.compromised))
    }

    /// What a registered passkey is worth by what is known today.
    pub fn kind(&self, passkey: &Passkey) -> FactorKind {
        if self.compromised(passkey) {
            return FactorKind::PasskeyCompromised;
        }
        let listed = Model::of(passkey).is_some_and(|m| self.policy.models.contains(&m));
        match (passkey.backup_eligible, passkey.attestation) {
            (true, _) => FactorKind::PasskeySynced,
            (false, Attestation::Vouched) if listed => FactorKind::PasskeyAttested,
            (false, _) => FactorKind::PasskeyBound,
        }
    }
}

/// Verified FIDO metadata (FIDO Metadata Service v3), as far as they are used.
#[derive(Debug, Clone)]
pub struct Metadata {
    entries: BTreeMap<Model, Entry>,
    /// Number of this issue, rising: an earlier issue may lack what has become known since.
    pub number: u64,
    /// A newer issue should exist from this day on; after it no new passkey is vouched for.
    pub next_update: UnixTime,
}

#[derive(Debug, Clone)]
struct Entry {
    roots: Vec<Vec<u8>>,
    hardware: bool,
    compromised: bool,
}

/// A metadata file that can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the metadata can't be used: {0}")]
pub struct BadMetadata(&'static str);

#[derive(Deserialize)]
struct Header {
    alg: String,
    x5c: Vec<String>,
}

#[derive(Deserialize)]
struct Payload {
    no: u64,
    #[serde(rename = "nextUpdate")]
    next_update: String,
    entries: Vec<RawEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEntry {
    aaguid: Option<String>,
    metadata_statement: Option<RawStatement>,
    #[serde(default)]
    status_reports: Vec<RawReport>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawStatement {
    #[serde(default)]
    attestation_root_certificates: Vec<String>,
    #[serde(default)]
    key_protection: Vec<String>,
}

#[derive(Deserialize)]
struct RawReport {
    status: String,
}

impl Metadata {
    /// Reads a BLOB: signed by a certificate that leads to `root` (DER) at `now`.
    ///
    /// # Errors
    /// [`BadMetadata`]. An outdated BLOB is read; see [`Self::next_update`].
    pub fn read(blob: &str, root: &[u8], now: UnixTime) -> Result<Self, BadMetadata> {
        if blob.len() > MAX_METADATA {
            return Err(BadMetadata("too large"));
        }
        let parts: Vec<&str> = blob.trim().split('.').collect();
        let [header, payload, signature] = parts.as_slice() else {
            return Err(BadMetadata("not a compact JWS"));
        };
        let bytes = |part: &str| from_b64u(part).map_err(|_| BadMetadata("not base64url"));
        let parsed: Header =
            serde_json::from_slice(&bytes(header)?).map_err(|_| BadMetadata("header"))?;
        let certificate = |text: &String| from_b64(text).map_err(|_| BadMetadata("x5c"));
        let chain: Vec<Vec<u8>> = parsed
            .x5c
            .iter()
            .map(certificate)
            .collect::<Result<_, _>>()?;
        let (leaf, rest) = chain.split_first().ok_or(BadMetadata("x5c"))?;
        validate(leaf, rest, &[root.to_vec()], now, Purpose::Any)
            .map_err(|_| BadMetadata("its signer doesn't lead to the configured root"))?;
        let signed = blob
            .trim()
            .rsplit_once('.')
            .map_or("", |(signed, _)| signed);
        let leaf = Certificate::parse(leaf).map_err(|_| BadMetadata("x5c"))?;
        check_signature(&leaf, &parsed.alg, signed.as_bytes(), &bytes(signature)?)
            .ok_or(BadMetadata("the signature is wrong"))?;
        let payload: Payload =
            serde_json::from_slice(&bytes(payload)?).map_err(|_| BadMetadata("payload"))?;
        let midnight = format!("{}T00:00:00Z", payload.next_update);
        Ok(Self {
            number: payload.no,
            next_update: UnixTime::from_rfc3339(&midnight).ok_or(BadMetadata("nextUpdate"))?,
            entries: entries(payload.entries)?,
        })
    }

    fn entry(&self, model: Model) -> Option<(&Self, &Entry)> {
        self.entries.get(&model).map(|entry| (self, entry))
    }
}

/// Entries of authenticators that have an AAGUID; those of U2F and UAF can't be used here.
fn entries(raw: Vec<RawEntry>) -> Result<BTreeMap<Model, Entry>, BadMetadata> {
    let mut entries = BTreeMap::new();
    for raw in raw {
        let Some(model) = raw.aaguid.as_deref().map(Model::parse) else {
            continue;
        };
        let model = model.ok_or(BadMetadata("aaguid"))?;
        let mut roots = Vec::new();
        let mut hardware = false;
        if let Some(statement) = raw.metadata_statement {
            for text in &statement.attestation_root_certificates {
                let plain: String = text.split_whitespace().collect();
                roots.push(from_b64(&plain).map_err(|_| BadMetadata("root certificate"))?);
            }
            hardware = statement.key_protection.iter().any(|p| p == "hardware");
        }
        let bad = |r: &RawReport| COMPROMISED.contains(&r.status.as_str());
        let entry = Entry {
            roots,
            hardware,
            compromised: raw.status_reports.iter().any(bad),
        };
        if entries.insert(model, entry).is_some() {
            return Err(BadMetadata("a model stands there twice"));
        }
    }
    Ok(entries)
}

/// JWS signatures: RSA as it is, ECDSA as two halves that X.509 has in DER.
fn check_signature(leaf: &Certificate, alg: &str, signed: &[u8], value: &[u8]) -> Option<()> {
    let (alg, value) = match alg {
        "RS256" => (SigAlg::RsaPkcs1(HashAlg::Sha256), value.to_vec()),
        "ES256" if value.len() == 64 => {
            let (r, s) = value.split_at(32);
            let der = asn1::sequence(&[&asn1::uint(r), &asn1::uint(s)]);
            (SigAlg::Ecdsa(HashAlg::Sha256), der)
        }
        _ => return None,
    };
    verify_signature(leaf.spki(), alg, Signed::Message(signed), &value).ok()
}
