//! Decisions of enrolment: vouchers, factors and what the RA approves (`sap.md` §8).

mod factor;

use core_types::{
    Digest32, KeyAlg, KeyId, Level, OriginCase, SecretBytes, UnixTime, VoucherId, sha256,
};
use jose::Jwk;
use sap::enrol::{Certify, EnrolmentRecord, Invite, InvitedBy};
use sap::{TYP_CERTIFY, TYP_INVITE};
use serde::{Deserialize, Serialize};

pub use factor::{
    Device, Factor, FactorBody, Guessable, PinTotp, PublicFactor, Rules, factors_digest,
};

use crate::{FactorKind, Policy, Reason, csr, sent};

/// Tries with the secret of a voucher.
pub const MAX_VOUCHER_TRIES: u8 = 5;
/// Failures after which PIN and one-time code are locked.
pub const MAX_FAILS: u8 = 10;
/// Longest life of a voucher in seconds.
pub const MAX_VOUCHER_LIFE: i64 = 90 * 24 * 3600;
/// Most keys of one voucher.
pub const MAX_KEYS: usize = 8;

/// Where a voucher stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VoucherPhase {
    /// Waits for the person.
    Open,
    /// Factors were enrolled with it.
    Used,
    /// Too many wrong secrets.
    Dead,
    /// The registration that began with it has ended: no key is made for it any more.
    Ended,
}

/// A voucher as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Voucher {
    /// The invitation.
    pub invite: Invite,
    /// The RA's JWS, or the JSON of the SSA's invitation.
    pub source: String,
    /// Who invited.
    pub by: InvitedBy,
    /// Service identity that brought it.
    pub service: String,
    /// Where the page goes.
    pub return_uri: String,
    /// Where it stands.
    pub phase: VoucherPhase,
    /// Tries with the secret so far.
    pub tries: u8,
    /// The act minted last.
    pub act: Option<Digest32>,
    /// Seed handed out for this enrolment, base64url in the sealed row only.
    pub seed: Option<Seed>,
    /// What the enrolment made.
    pub enrolled: Option<Enrolled>,
    /// Officers let the person enrol new factors for keys they have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebinds: Option<Rebinds>,
}

/// Which registration gets new factors in the place of its lost ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rebinds {
    /// The registration.
    pub registration: VoucherId,
    /// Digest of its keys and factors as the officers saw them: void when they change.
    pub of: Digest32,
    /// When the officers approved: void when an old factor proves anything after that.
    pub since: UnixTime,
}

/// A seed that was handed out and isn't confirmed yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    /// Act for which it was handed out.
    pub act: Digest32,
    /// 20 bytes.
    pub seed: SecretBytes,
}

impl PartialEq for Seed {
    fn eq(&self, other: &Self) -> bool {
        self.act == other.act && self.seed.ct_eq(other.seed.expose())
    }
}

impl Eq for Seed {}

/// What an enrolment made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolled {
    /// The act.
    pub act: Digest32,
    /// Time.
    pub at: UnixTime,
    /// Digest of the factor set.
    pub factors: Digest32,
    /// Highest level one of the factors counts at.
    pub authorization: Level,
    /// Keys made so far, in the order of the invitation.
    pub keys: Vec<KeyId>,
}

impl Voucher {
    /// Ceiling of levels: what the SSA invites stays at level 1, whatever it says.
    pub fn ceiling(&self) -> Level {
        match self.by {
            InvitedBy::Ra | InvitedBy::Office => self.invite.ceiling,
            InvitedBy::Ssa => Level::One,
        }
    }

    /// The registration to which the factors of this enrolment belong.
    pub fn registration(&self) -> &VoucherId {
        match &self.rebinds {
            Some(rebinds) => &rebinds.registration,
            None => &self.invite.voucher,
        }
    }

    /// A key came in or was made for this registration.
    ///
    /// # Errors
    /// [`Reason::Withdrawn`] when the registration has ended, [`Reason::NotNow`] while keys of the invitation are missing,
    /// [`Reason::NotAllowed`] when it has too many.
    pub fn with_imported(&self, key: KeyId) -> Result<Self, Reason> {
        self.takes_imports()?;
        let mut next = self.clone();
        let enrolled = next.enrolled.as_mut().ok_or(Reason::NotFound)?;
        enrolled.keys.push(key);
        Ok(next)
    }

    /// Whether a key from elsewhere may join this registration.
    ///
    /// # Errors
    /// As [`Self::with_imported`].
    pub fn takes_imports(&self) -> Result<&Enrolled, Reason> {
        let enrolled = match (self.phase, &self.enrolled) {
            (VoucherPhase::Used, Some(enrolled)) => enrolled,
            (VoucherPhase::Ended, _) => return Err(Reason::Withdrawn),
            _ => return Err(Reason::NotFound),
        };
        // Secrets that applications collect prove nothing on the page; an officer's account signs nothing.
        if self.invite.collected || self.by == InvitedBy::Office {
            return Err(Reason::ForeignFactor);
        }
        if enrolled.keys.len() < self.invite.keys.len() {
            return Err(Reason::NotNow);
        }
        if enrolled.keys.len() >= sap::manage::MAX_KEYS {
            return Err(Reason::NotAllowed("key-count"));
        }
        Ok(enrolled)
    }

    /// Digest of the invitation as it was brought.
    pub fn invite_digest(&self) -> Digest32 {
        sha256(&[self.source.as_bytes()])
    }

    /// Whether the voucher can be used.
    ///
    /// # Errors
    /// [`Reason`] saying why not.
    pub fn check_open(&self, now: UnixTime) -> Result<(), Reason> {
        match self.phase {
            VoucherPhase::Open if now < self.invite.exp => Ok(()),
            VoucherPhase::Open => Err(Reason::Expired),
            VoucherPhase::Used => Err(Reason::Used),
            VoucherPhase::Dead => Err(Reason::TooManyTries),
            VoucherPhase::Ended => Err(Reason::Withdrawn),
        }
    }

    /// Counts a try before the secret is compared. The fifth failure leaves the voucher dead.
    ///
    /// # Errors
    /// As [`Self::check_open`].
    pub fn try_secret(&self, now: UnixTime) -> Result<Self, Reason> {
        self.check_open(now)?;
        let mut next = self.clone();
        next.tries = next.tries.saturating_add(1);
        if next.tries > MAX_VOUCHER_TRIES {
            return Err(Reason::TooManyTries);
        }
        Ok(next)
    }

    /// Ends a voucher whose tries are used up after the last one failed.
    pub fn after_failure(&self) -> Option<Self> {
        let over = self.phase == VoucherPhase::Open && self.tries >= MAX_VOUCHER_TRIES;
        over.then(|| Self {
            phase: VoucherPhase::Dead,
            ..self.clone()
        })
    }

    /// The registration has ended.
    #[must_use]
    pub fn ended(&self) -> Self {
        Self {
            phase: VoucherPhase::Ended,
            seed: None,
            ..self.clone()
        }
    }

    /// Compares the secret: base64url of 16 bytes, whose digest stands in the invitation.
    pub fn secret_matches(&self, text: &SecretBytes) -> bool {
        let bytes = std::str::from_utf8(text.expose())
            .ok()
            .and_then(|t| core_types::bytes::from_b64u(t).ok())
            .map(SecretBytes::new);
        bytes.is_some_and(|b| b.len() == 16 && sha256(&[b.expose()]).ct_eq(&self.invite.secret))
    }
}

/// Checks an RA's invitation.
///
/// # Errors
/// [`Reason::Registration`] when no registered RA signed it, [`Reason::Invalid`] when members are wrong.
pub fn check_ra_invite(jws: &str, ras: &[Jwk], now: UnixTime) -> Result<Invite, Reason> {
    let (payload, _) = verify_by(jws, TYP_INVITE, ras)?;
    let invite = serde_json::from_slice(&payload).map_err(|_| Reason::Invalid("invite"))?;
    check_invite(&invite, now)?;
    Ok(invite)
}

/// Checks the members of an invitation.
///
/// # Errors
/// [`Reason::Invalid`] naming the member, [`Reason::Expired`].
pub fn check_invite(invite: &Invite, now: UnixTime) -> Result<(), Reason> {
    csr::check_subject(&invite.subject)?;
    if now >= invite.exp {
        return Err(Reason::Expired);
    }
    if invite.exp > now.plus(MAX_VOUCHER_LIFE) {
        return Err(Reason::Invalid("exp"));
    }
    if invite.collected {
        // No policy lifts what the pattern doesn't admit.
        Policy::default().check(invite.ceiling, FactorKind::Collected)?;
    }
    match &invite.codes {
        Some(address) if !invite.collected || !sent::deliverable(address) => {
            return Err(Reason::Invalid("codes"));
        }
        _ => {}
    }
    if let Some(address) = &invite.notices
        && !sent::is_mail(&address.mail)
    {
        return Err(Reason::Invalid("notices"));
    }
    // What applications collect proves no hand-over.
    if invite.exportable && invite.collected {
        return Err(Reason::Invalid("exportable"));
    }
    // What is destroyed after one act isn't handed over.
    if invite.one_time && invite.exportable {
        return Err(Reason::Invalid("one_time"));
    }
    if invite.keys.is_empty() || invite.keys.len() > MAX_KEYS {
        return Err(Reason::Invalid("keys"));
    }
    if invite.replaces.as_ref() == Some(&invite.voucher) {
        return Err(Reason::Invalid("replaces"));
    }
    let assurance = invite.assurance.chars();
    if invite.assurance.is_empty()
        || assurance.clone().count() > 64
        || assurance.clone().any(char::is_control)
    {
        return Err(Reason::Invalid("assurance"));
    }
    Ok(())
}

/// A key that was made for an enrolment.
#[derive(Debug, Clone, Copy)]
pub struct MadeKey<'a> {
    /// Key.
    pub key: &'a KeyId,
    /// Kind of key.
    pub alg: KeyAlg,
    /// SubjectPublicKeyInfo, DER.
    pub spki: &'a [u8],
    /// Certification request, DER.
    pub csr: &'a [u8],
    /// Level.
    pub level: Level,
    /// Where it was made and how it got here.
    pub origin: OriginCase,
}

/// The record for one key, to be signed and approved by the RA.
#[must_use]
pub fn record(
    sam: &str,
    voucher: &Voucher,
    enrolled: &Enrolled,
    made: MadeKey<'_>,
) -> EnrolmentRecord {
    EnrolmentRecord {
        sam: sam.to_owned(),
        voucher: voucher.invite.voucher.clone(),
        by: voucher.by,
        invite: voucher.invite_digest(),
        person: voucher.invite.person.clone(),
        subject: voucher.invite.subject.clone(),
        key: made.key.clone(),
        alg: made.alg,
        spki: sha256(&[made.spki]),
        csr: sha256(&[made.csr]),
        factors: enrolled.factors,
        level: made.level,
        origin: made.origin,
        at: enrolled.at,
    }
}

/// Checks the RA's approval of one enrolment record.
///
/// # Errors
/// [`Reason::Registration`] when no registered RA signed it, or it approves something else.
pub fn check_certify(
    jws: &str,
    ras: &[Jwk],
    enrolment_jws: &str,
    record: &EnrolmentRecord,
) -> Result<Certify, Reason> {
    let (payload, _) = verify_by(jws, TYP_CERTIFY, ras)?;
    let certify: Certify = serde_json::from_slice(&payload)
        .map_err(|_| Reason::Registration("the approval is malformed"))?;
    let same = certify.enrolment == sha256(&[enrolment_jws.as_bytes()])
        && certify.subject == record.subject
        && certify.spki == record.spki
        && certify.factors == record.factors;
    if same {
        Ok(certify)
    } else {
        Err(Reason::Registration(
            "the approval is for another key or factor set",
        ))
    }
}

/// The payload of a JWS by one of these authorities, and which.
pub(crate) fn verify_by<'a>(
    jws: &str,
    typ: &str,
    ras: &'a [Jwk],
) -> Result<(Vec<u8>, &'a Jwk), Reason> {
    let unknown = Reason::Registration("not signed by a registered authority");
    let kid = jose::kid_of(jws, typ).map_err(|_| unknown.clone())?;
    let ra = ras
        .iter()
        .find(|ra| ra.kid() == kid)
        .ok_or(unknown.clone())?;
    let payload = jose::verify(jws, typ, ra).map_err(|_| unknown)?;
    Ok((payload, ra))
}
