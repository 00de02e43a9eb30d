//! Factors: what proves a person's will, how much it counts, and what may be shown of it.

use core_types::{
    B64, Digest32, FactorId, Level, PersonId, SecretBytes, UnixTime, VoucherId, sha256,
};
use jose::Jwk;
use sap::proof::Method;
use serde::{Deserialize, Serialize};

use super::MAX_FAILS;
use crate::Reason;
use crate::attest::Attesters;
use crate::level::{FactorKind, Policy};
use crate::passkey::Passkey;
use crate::provider::{Identity, Providers};
use crate::sent::Sent;

/// A factor as stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Factor {
    /// Id.
    pub id: FactorId,
    /// Owner.
    pub person: PersonId,
    /// Voucher it was enrolled with: it counts for the keys of that voucher only, so that a later, weaker
    /// invitation can't reach older keys.
    pub voucher: VoucherId,
    /// Digest of the act that made it.
    pub act: Digest32,
    /// Made at.
    pub created: UnixTime,
    /// What it is.
    pub body: FactorBody,
    /// When it was removed. The row stays, so that a credential never comes back under another owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<UnixTime>,
}

/// Kinds of factor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FactorBody {
    /// A passkey.
    Passkey(Passkey),
    /// PIN and one-time code.
    PinTotp(PinTotp),
    /// Device key and PIN.
    Device(Device),
    /// An identity provider's word.
    Idp(Identity),
}

/// PIN and one-time code.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinTotp {
    /// Salt of the PIN's hash.
    pub salt: B64,
    /// Keyed hash of the PIN.
    pub mac: SecretBytes,
    /// Seed of the codes.
    pub seed: SecretBytes,
    /// Step of the last code accepted.
    pub last_step: i64,
    /// Failures since the last success.
    pub fails: u8,
    /// Nothing is compared before this time.
    pub wait_until: UnixTime,
    /// An application collects them; then they are never accepted from a SIC, nor the reverse.
    #[serde(default)]
    pub collected: bool,
    /// Codes that were sent to the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Sent>,
}

impl PinTotp {
    /// The factor after a success with the code of `step`.
    ///
    /// # Errors
    /// [`Reason::SecretWrong`] when a later code was accepted meanwhile: a code counts once.
    pub fn succeeded(&self, step: i64) -> Result<Self, Reason> {
        if step <= self.last_step {
            return Err(Reason::SecretWrong {
                tries_left: MAX_FAILS.saturating_sub(self.fails),
            });
        }
        Ok(Self {
            fails: 0,
            wait_until: UnixTime(0),
            last_step: step,
            ..self.clone()
        })
    }
}

/// Device key and PIN.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Public half of the key.
    pub key: Jwk,
    /// Salt of the PIN's hash.
    pub salt: B64,
    /// Keyed hash of the PIN.
    pub mac: SecretBytes,
    /// Failures since the last success.
    pub fails: u8,
    /// Nothing is compared before this time.
    pub wait_until: UnixTime,
}

impl Device {
    /// Checks the signature of a proof: by this key, over the digest of the act.
    ///
    /// # Errors
    /// [`Reason::DeviceSignature`].
    pub fn verify(&self, act: Digest32, signature: &[u8]) -> Result<(), Reason> {
        jose::verify_bytes(&act.0, signature, &self.key).map_err(|_| Reason::DeviceSignature)
    }
}

/// The guessable part of a factor.
#[derive(Debug, Clone, Copy)]
pub struct Guessable<'a> {
    /// Salt of the PIN's hash.
    pub salt: &'a B64,
    /// Keyed hash of the PIN.
    pub mac: &'a SecretBytes,
    /// Failures since the last success.
    pub fails: u8,
    /// Nothing is compared before this time.
    pub wait_until: UnixTime,
}

impl FactorBody {
    /// What of it can be guessed, if anything.
    pub fn guessable(&self) -> Option<Guessable<'_>> {
        let (salt, mac, fails, wait_until) = match self {
            Self::Passkey(_) | Self::Idp(_) => return None,
            Self::PinTotp(f) => (&f.salt, &f.mac, f.fails, f.wait_until),
            Self::Device(f) => (&f.salt, &f.mac, f.fails, f.wait_until),
        };
        Some(Guessable {
            salt,
            mac,
            fails,
            wait_until,
        })
    }

    /// Counts a failure before anything is compared; a success takes it back.
    ///
    /// # Errors
    /// [`Reason::Locked`] when waiting or locked, [`Reason::ForeignFactor`] when nothing can be guessed.
    pub fn try_secret(&self, now: UnixTime) -> Result<Self, Reason> {
        let secret = self.guessable().ok_or(Reason::ForeignFactor)?;
        if secret.fails >= MAX_FAILS || now < secret.wait_until {
            return Err(Reason::Locked);
        }
        let fails = secret.fails + 1;
        // From the fifth failure on: one minute, doubled each time.
        let wait = if fails < 5 { 0 } else { 60_i64 << (fails - 5) };
        Ok(self.with_fails(fails, now.plus(wait)))
    }

    /// The same with another count of failures. Nothing changes where nothing can be guessed.
    #[must_use]
    pub fn with_fails(&self, fails: u8, wait_until: UnixTime) -> Self {
        let mut next = self.clone();
        match &mut next {
            Self::Passkey(_) | Self::Idp(_) => {}
            Self::PinTotp(f) => (f.fails, f.wait_until) = (fails, wait_until),
            Self::Device(f) => (f.fails, f.wait_until) = (fails, wait_until),
        }
        next
    }

    /// The same with another PIN; nothing for a factor without one.
    pub fn with_pin(&self, salt: &B64, mac: &SecretBytes) -> Option<Self> {
        let (salt, mac) = (salt.clone(), mac.clone());
        match self {
            Self::Passkey(_) | Self::Idp(_) => None,
            Self::PinTotp(f) => Some(Self::PinTotp(PinTotp {
                salt,
                mac,
                ..f.clone()
            })),
            Self::Device(f) => Some(Self::Device(Device {
                salt,
                mac,
                ..f.clone()
            })),
        }
    }
}

impl Factor {
    /// Its end: it proves nothing any more, and its secrets are forgotten.
    #[must_use]
    pub fn removed(&self, at: UnixTime) -> Self {
        let body = match &self.body {
            FactorBody::PinTotp(secrets) => FactorBody::PinTotp(PinTotp {
                mac: SecretBytes::new(Vec::new()),
                seed: SecretBytes::new(Vec::new()),
                sent: None,
                ..secrets.clone()
            }),
            FactorBody::Device(device) => FactorBody::Device(Device {
                mac: SecretBytes::new(Vec::new()),
                ..device.clone()
            }),
            body @ (FactorBody::Passkey(_) | FactorBody::Idp(_)) => body.clone(),
        };
        Self {
            body,
            removed: Some(at),
            ..self.clone()
        }
    }

    /// The method of proofs with it.
    pub fn method(&self) -> Method {
        match &self.body {
            FactorBody::Passkey(_) => Method::Passkey,
            FactorBody::PinTotp(secrets) if secrets.collected => Method::Collected,
            FactorBody::PinTotp(_) => Method::PinTotp,
            FactorBody::Device(_) => Method::Device,
            FactorBody::Idp(_) => Method::Idp,
        }
    }

    /// What of it matters for levels, by what is known of its model or provider today.
    fn kind(&self, rules: Rules<'_>) -> FactorKind {
        match &self.body {
            FactorBody::Passkey(passkey) => rules.attesters.kind(passkey),
            FactorBody::PinTotp(secrets) if secrets.collected => FactorKind::Collected,
            FactorBody::PinTotp(_) => FactorKind::PinTotp,
            FactorBody::Device(_) => FactorKind::Device,
            // Without its provider it proves nothing; it counts as the least meanwhile.
            FactorBody::Idp(identity) => {
                let kind = rules.providers.kind(&identity.issuer);
                kind.unwrap_or(FactorKind::ProviderSingle)
            }
        }
    }

    /// The public part, for evidence and the RA: id, act, of a passkey everything but its changing counter, of a device its
    /// key.
    pub fn public(&self) -> PublicFactor {
        PublicFactor {
            device: match &self.body {
                FactorBody::Device(device) => Some(device.key.clone()),
                FactorBody::Passkey(_) | FactorBody::PinTotp(_) | FactorBody::Idp(_) => None,
            },
            provider: match &self.body {
                FactorBody::Idp(identity) => Some(identity.clone()),
                _ => None,
            },
            id: self.id.clone(),
            act: self.act,
            created: self.created,
            passkey: match &self.body {
                FactorBody::Passkey(passkey) => Some(Passkey {
                    counter: 0,
                    ..passkey.clone()
                }),
                FactorBody::PinTotp(_) | FactorBody::Device(_) | FactorBody::Idp(_) => None,
            },
        }
    }
}

/// What decides how much a factor counts: the operator's policy and what is known of authenticators.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Policy of levels.
    pub policy: &'a Policy,
    /// Authenticators that are vouched for.
    pub attesters: &'a Attesters,
    /// Identity providers whose word counts.
    pub providers: &'a Providers,
}

impl Rules<'_> {
    /// The highest level at which this factor counts.
    pub fn strength(&self, factor: &Factor) -> Level {
        self.policy.strength(factor.kind(*self))
    }

    /// Whether a proof with this factor counts at `level`.
    pub fn admits(&self, level: Level, factor: &Factor) -> bool {
        let gone = match &factor.body {
            FactorBody::Idp(identity) => self.providers.of(&identity.issuer).is_none(),
            _ => false,
        };
        !gone && level <= self.strength(factor)
    }

    /// As [`Self::admits`].
    ///
    /// # Errors
    /// [`Reason::Level`] naming the requirement that the factor doesn't meet.
    pub fn check(&self, level: Level, factor: &Factor) -> Result<(), Reason> {
        self.policy.check(level, factor.kind(*self))
    }
}

/// The public part of a factor. Without a passkey, device key or provider it is PIN and one-time code, of which nothing can be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicFactor {
    /// Id.
    pub id: FactorId,
    /// Digest of the act that made it.
    pub act: Digest32,
    /// Made at.
    pub created: UnixTime,
    /// The passkey.
    pub passkey: Option<Passkey>,
    /// The device key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Jwk>,
    /// The person at an identity provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Identity>,
}

/// Digest of a set of factors: over the JSON of their public parts, ordered by id.
///
/// # Errors
/// [`Reason::NotNow`] when they can't be written.
pub fn factors_digest(factors: &[Factor]) -> Result<Digest32, Reason> {
    let mut public: Vec<_> = factors.iter().map(Factor::public).collect();
    public.sort_by(|a, b| a.id.cmp(&b.id));
    let json = serde_json::to_vec(&public).map_err(|_| Reason::NotNow)?;
    Ok(sha256(&[b"natsuin-factors-v1\n", &json]))
}
