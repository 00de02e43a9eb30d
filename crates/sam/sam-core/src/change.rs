//! Acts about a registration: which proof they need, and what they do to keys and factors (`sap.md` §9).

use core_types::{Digest32, FactorId, KeyAlg, KeyId, Level, Random, UnixTime, VoucherId, sha256};
use sap::Act;
use sap::act::{ActKey, MAX_LIFE, Person, Since, Version1};
use sap::manage::{FactorAct, FactorChange, KeyAct, LeaveAct};
use serde::{Deserialize, Serialize};

use crate::Reason;
use crate::act::Issuer;
use crate::enrol::{Factor, FactorBody, MAX_FAILS, PinTotp, Rules};

/// Most factors of one registration.
pub const MAX_FACTORS: usize = 16;

/// What an act changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Change {
    /// A key stops.
    Suspend {
        /// Key.
        key: KeyId,
        /// [`crate::life::Life::changes`] when the act was minted.
        changes: u32,
    },
    /// A key may be used again.
    Resume {
        /// Key.
        key: KeyId,
        /// As above.
        changes: u32,
    },
    /// A key is destroyed.
    Destroy {
        /// Key.
        key: KeyId,
        /// As above.
        changes: u32,
    },
    /// The registration ends. Digest of the keys and factors it had when the act was minted.
    Leave {
        /// Over the ids of keys and factors.
        of: Digest32,
    },
    /// Factors change.
    Factor {
        /// How.
        change: FactorChange,
    },
}

impl Change {
    /// The level at which the proof has to count. `key`: level of the key the act is about; `highest`: of the
    /// registration's living keys. Stopping is easy, everything else needs the full proof.
    pub fn proof_level(&self, key: Level, highest: Level) -> Level {
        match self {
            Self::Suspend { .. } => Level::One,
            Self::Resume { .. } | Self::Destroy { .. } => key,
            Self::Leave { .. } | Self::Factor { .. } => highest,
        }
    }

    /// The key it is about, with the number of changes the person saw.
    pub fn key(&self) -> Option<(&KeyId, u32)> {
        match self {
            Self::Suspend { key, changes }
            | Self::Resume { key, changes }
            | Self::Destroy { key, changes } => Some((key, *changes)),
            Self::Leave { .. } | Self::Factor { .. } => None,
        }
    }

    /// Whether `proving` may prove this change of `registration`, whose factors are `all`.
    ///
    /// # Errors
    /// [`Reason::ForeignFactor`] for a factor of another registration, [`Reason::NotAllowed`] for one that is
    /// too weak or is itself what is unlocked, [`Reason::NotFound`] when the factor it is about isn't there any more.
    pub fn check_prover(
        &self,
        rules: Rules<'_>,
        registration: &VoucherId,
        proving: &Factor,
        all: &[Factor],
    ) -> Result<(), Reason> {
        if proving.voucher != *registration {
            return Err(Reason::ForeignFactor);
        }
        let Self::Factor { change } = self else {
            return Ok(());
        };
        let Some(id) = change.factor() else {
            return Ok(());
        };
        let touched = find(all, id)?;
        if matches!(change, FactorChange::Unlock { .. }) && proving.id == *id {
            return Err(Reason::NotAllowed("weaker-factor"));
        }
        at_least(rules, proving, touched)
    }
}

/// Everything an act of this kind says beside its issuer.
#[derive(Debug, Clone)]
pub struct ChangeContent {
    /// What changes.
    pub change: Change,
    /// Registration.
    pub registration: VoucherId,
    /// Level at which the proof has to count.
    pub level: Level,
    /// The signer.
    pub person: Person,
    /// The key that `change` is about, with its kind.
    pub key: Option<(ActKey, KeyAlg)>,
    /// With `leave`: keys that will be destroyed.
    pub keys: Vec<ActKey>,
    /// With `leave`: factors that will be removed.
    pub factors: Vec<FactorId>,
    /// RP ID of the SIC.
    pub rp_id: String,
    /// What the signer should remember.
    pub since: Since,
    /// Where the page goes afterwards.
    pub return_uri: String,
    /// End of the request; the act doesn't outlive it.
    pub until: UnixTime,
}

macro_rules! filled {
    ($type:ident, $issuer:ident, $c:ident, $now:ident, $random:ident, $($field:ident: $value:expr),*) => {
        $type {
            v: Version1,
            sam: $issuer.sam.to_owned(),
            tenant: $issuer.tenant.clone(),
            nonce: $random.digest32(),
            iat: $now,
            exp: $now.plus(MAX_LIFE).min($c.until),
            epoch: $issuer.epoch,
            policy: $issuer.policy,
            level: $c.level,
            person: $c.person,
            $($field: $value,)*
            since: $c.since,
            return_uri: $c.return_uri,
        }
    };
}

/// Mints the act of a change at `now`.
///
/// # Errors
/// [`Reason::Expired`] when the request has ended, [`Reason::NotFound`] when a key is missing.
pub fn mint(
    issuer: Issuer<'_>,
    content: ChangeContent,
    now: UnixTime,
    random: &dyn Random,
) -> Result<Act, Reason> {
    let c = content;
    if now >= c.until {
        return Err(Reason::Expired);
    }
    let kind = match &c.change {
        Change::Suspend { .. } => Act::Suspend,
        Change::Resume { .. } => Act::Resume,
        Change::Destroy { .. } => Act::Destroy,
        Change::Leave { .. } => {
            let act = filled!(LeaveAct, issuer, c, now, random, registration: c.registration, keys: c.keys, factors: c.factors);
            return Ok(Act::Leave(act));
        }
        Change::Factor { change } => {
            let change = change.clone();
            let act = filled!(FactorAct, issuer, c, now, random, registration: c.registration, change: change, rp_id: c.rp_id);
            return Ok(Act::Factor(act));
        }
    };
    let (key, alg) = c.key.ok_or(Reason::NotFound)?;
    Ok(kind(
        filled!(KeyAct, issuer, c, now, random, key: key, alg: alg),
    ))
}

/// Digest of what a registration consists of: an act to leave is void when it has changed since.
pub fn registration_digest<'a>(
    keys: impl Iterator<Item = &'a KeyId>,
    factors: impl Iterator<Item = &'a FactorId>,
) -> Digest32 {
    let mut names: Vec<String> = keys.map(|k| format!("key {k}\n")).collect();
    names.extend(factors.map(|f| format!("factor {f}\n")));
    names.sort();
    sha256(&[b"natsuin-registration-v1\n", names.concat().as_bytes()])
}

/// A weaker factor never touches a stronger one.
///
/// # Errors
/// [`Reason::NotAllowed`].
pub fn at_least(rules: Rules<'_>, proving: &Factor, touched: &Factor) -> Result<(), Reason> {
    if rules.strength(proving) >= rules.strength(touched) {
        Ok(())
    } else {
        Err(Reason::NotAllowed("weaker-factor"))
    }
}

/// Whether a factor may be added to `all`.
///
/// # Errors
/// [`Reason::NotAllowed`] when the proving one is weaker, when there are too many, or a
/// second one with PIN.
pub fn check_add(
    rules: Rules<'_>,
    proving: &Factor,
    new: &Factor,
    all: &[Factor],
) -> Result<(), Reason> {
    at_least(rules, proving, new)?;
    let second_pin = matches!(new.body, FactorBody::PinTotp(_))
        && all.iter().any(|f| matches!(f.body, FactorBody::PinTotp(_)));
    if all.len() >= MAX_FACTORS || second_pin {
        return Err(Reason::NotAllowed("factor-count"));
    }
    Ok(())
}

/// Whether `gone` may be removed from `all`: what is left must still be able to use keys of `highest` level. Who wants
/// none any more leaves.
///
/// # Errors
/// [`Reason::NotAllowed`] for the last one that counts, [`Reason::NotFound`] when it isn't there.
pub fn check_remove(
    rules: Rules<'_>,
    gone: &FactorId,
    highest: Level,
    all: &[Factor],
) -> Result<(), Reason> {
    find(all, gone)?;
    let left = all
        .iter()
        .any(|f| f.id != *gone && rules.admits(highest, f));
    if left {
        Ok(())
    } else {
        Err(Reason::NotAllowed("last-factor"))
    }
}

/// Whether a factor is locked at `now`, and until when: the end of time if only another
/// factor unlocks it.
pub fn locked_until(factor: &Factor, now: UnixTime) -> Option<UnixTime> {
    let FactorBody::PinTotp(secrets) = &factor.body else {
        return None;
    };
    if secrets.fails >= MAX_FAILS {
        return Some(UnixTime(i64::MAX));
    }
    (now < secrets.wait_until).then_some(secrets.wait_until)
}

/// A locked factor counts again. Only a full proof with another factor leads here: nothing else takes failures back.
///
/// # Errors
/// [`Reason::NotAllowed`] when it has no failures or can't be locked at all.
pub fn unlock(body: &FactorBody) -> Result<FactorBody, Reason> {
    match body {
        FactorBody::PinTotp(secrets) if secrets.fails > 0 => Ok(FactorBody::PinTotp(PinTotp {
            fails: 0,
            wait_until: UnixTime(0),
            ..secrets.clone()
        })),
        _ => Err(Reason::NotAllowed("not-locked")),
    }
}

fn find<'a>(all: &'a [Factor], id: &FactorId) -> Result<&'a Factor, Reason> {
    all.iter().find(|f| f.id == *id).ok_or(Reason::NotFound)
}
