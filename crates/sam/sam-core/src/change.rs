//! Acts about a registration: which proof they need, and what they do to keys and factors (`sap.md` §9).

use core_types::{Digest32, FactorId, KeyAlg, KeyId, Level, Random, UnixTime, VoucherId, sha256};
use jose::Jwk;
use sam_api::ssa::LevelPart;
use sap::Act;
use sap::act::{ActKey, MAX_LIFE, Person, Since, Version1};
use sap::manage::{FactorAct, FactorChange, HandOverAct, KeyAct, LeaveAct};
use serde::{Deserialize, Serialize};

use crate::Reason;
use crate::act::Issuer;
use crate::enrol::{Factor, FactorBody, MAX_FAILS, Rules};
use crate::level::table::requirement;

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
    /// A key leaves.
    HandOver {
        /// Key.
        key: KeyId,
        /// As above.
        changes: u32,
        /// Key of the receiver.
        receiver: Jwk,
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
            Self::Resume { .. } | Self::Destroy { .. } | Self::HandOver { .. } => key,
            Self::Leave { .. } | Self::Factor { .. } => highest,
        }
    }

    /// The key it is about, with the number of changes the person saw.
    pub fn key(&self) -> Option<(&KeyId, u32)> {
        match self {
            Self::Suspend { key, changes }
            | Self::Resume { key, changes }
            | Self::Destroy { key, changes }
            | Self::HandOver { key, changes, .. } => Some((key, *changes)),
            Self::Leave { .. } | Self::Factor { .. } => None,
        }
    }

    /// Whether `proving` may prove this change of `registration`, whose factors are `all`.
    ///
    /// # Errors
    /// [`Reason::ForeignFactor`] for a factor of another registration, [`Reason::Weaker`] for one that is too weak,
    /// [`Reason::NotAllowed`] for one that is itself what is unlocked, [`Reason::NotFound`] when the factor it is about isn't there any more.
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
            return Err(Reason::NotAllowed("unlocks-itself"));
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
            brand: $issuer.brand.cloned(),
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
        Change::HandOver { receiver, .. } => {
            let receiver = receiver.clone();
            let (key, alg) = c.key.ok_or(Reason::NotFound)?;
            let act = filled!(HandOverAct, issuer, c, now, random, key: key, alg: alg, receiver: receiver);
            return Ok(Act::HandOver(act));
        }
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
/// [`Reason::Weaker`].
pub fn at_least(rules: Rules<'_>, proving: &Factor, touched: &Factor) -> Result<(), Reason> {
    let demanded = rules.strength(touched);
    if rules.strength(proving) >= demanded {
        Ok(())
    } else {
        let missed = requirement(LevelPart::Authorization, demanded);
        Err(Reason::Weaker(missed))
    }
}

/// Whether a factor may be added to `all`.
///
/// # Errors
/// [`Reason::Weaker`] when the proving one is, [`Reason::NotAllowed`] when there are too many, or a
/// second one with PIN; [`Reason::CredentialKnown`] for an account at a provider that is there already.
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
    let known = match &new.body {
        FactorBody::Idp(identity) => all
            .iter()
            .any(|f| matches!(&f.body, FactorBody::Idp(known) if known == identity)),
        _ => false,
    };
    if known {
        return Err(Reason::CredentialKnown);
    }
    Ok(())
}

/// Whether `gone` may be removed from `all`: what is left must still be able to use keys of `highest` level. Who wants
/// none any more leaves.
///
/// # Errors
/// [`Reason::NotAllowed`] for the last one that counts, [`Reason::Level`] when what is left doesn't count at that level,
/// [`Reason::NotFound`] when it isn't there.
pub fn check_remove(
    rules: Rules<'_>,
    gone: &FactorId,
    highest: Level,
    all: &[Factor],
) -> Result<(), Reason> {
    find(all, gone)?;
    let mut left = all.iter().filter(|f| f.id != *gone).peekable();
    let alone = left.peek().is_none() || highest == Level::One;
    match left.any(|f| rules.admits(highest, f)) {
        true => Ok(()),
        false if alone => Err(Reason::NotAllowed("last-factor")),
        false => Err(Reason::Level(requirement(
            LevelPart::Authorization,
            highest,
        ))),
    }
}

/// Whether a factor is locked at `now`, and until when: the end of time if only another
/// factor unlocks it.
pub fn locked_until(factor: &Factor, now: UnixTime) -> Option<UnixTime> {
    let secrets = factor.body.guessable()?;
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
    match body.guessable() {
        Some(secrets) if secrets.fails > 0 => Ok(body.with_fails(0, UnixTime(0))),
        _ => Err(Reason::NotAllowed("not-locked")),
    }
}

fn find<'a>(all: &'a [Factor], id: &FactorId) -> Result<&'a Factor, Reason> {
    all.iter().find(|f| f.id == *id).ok_or(Reason::NotFound)
}

#[cfg(test)]
mod tests {
    use crate::attest::Attesters;
    use core_types::{B64, PersonId, SecretBytes};
    use sap::proof::Method;

    use super::*;
    use crate::Policy;
    use crate::enrol::PinTotp;
    use crate::provider::{Identity, Provider, Providers};

    fn pin(id: &str, fails: u8) -> Factor {
        Factor {
            id: FactorId::parse(id).unwrap(),
            person: PersonId::parse("p").unwrap(),
            voucher: VoucherId::parse("v").unwrap(),
            act: Digest32([1; 32]),
            created: UnixTime(0),
            body: FactorBody::PinTotp(PinTotp {
                collected: false,
                sent: None,
                salt: B64(vec![]),
                mac: SecretBytes::new(vec![1]),
                seed: SecretBytes::new(vec![2]),
                last_step: 7,
                fails,
                wait_until: UnixTime(100),
            }),
            removed: None,
        }
    }

    fn change(change: FactorChange) -> Change {
        Change::Factor { change }
    }

    fn v() -> VoucherId {
        VoucherId::parse("v").unwrap()
    }

    // shows: T-TERM-NOT-OWNER
    #[test]
    fn stopping_is_easy_and_everything_else_takes_the_full_proof() {
        let key = || KeyId::parse("k").unwrap();
        let at = |c: Change| c.proof_level(Level::Two, Level::Three);
        assert_eq!(
            at(Change::Suspend {
                key: key(),
                changes: 1
            }),
            Level::One
        );
        assert_eq!(
            at(Change::Resume {
                key: key(),
                changes: 1
            }),
            Level::Two
        );
        assert_eq!(
            at(Change::Destroy {
                key: key(),
                changes: 1
            }),
            Level::Two
        );
        assert_eq!(
            at(Change::Leave {
                of: Digest32([1; 32])
            }),
            Level::Three
        );
        let method = Method::Passkey;
        assert_eq!(at(change(FactorChange::Add { method })), Level::Three);
    }

    #[test]
    fn a_factor_is_of_its_registration_and_unlocks_only_others() {
        let (policy, attesters) = (Policy::default(), Attesters::default());
        let providers = Providers::default();
        let rules = Rules {
            policy: &policy,
            attesters: &attesters,
            providers: &providers,
        };
        let (a, b) = (pin("a", 0), pin("b", 10));
        let all = [a.clone(), b.clone()];
        let unlock_b = change(FactorChange::Unlock {
            factor: b.id.clone(),
        });
        assert_eq!(unlock_b.check_prover(rules, &v(), &a, &all), Ok(()));
        let itself = unlock_b.check_prover(rules, &v(), &b, &all);
        assert_eq!(itself, Err(Reason::NotAllowed("unlocks-itself")));
        let other = VoucherId::parse("w").unwrap();
        assert_eq!(
            unlock_b.check_prover(rules, &other, &a, &all),
            Err(Reason::ForeignFactor)
        );
        let gone = change(FactorChange::Pin {
            factor: b.id.clone(),
        });
        assert_eq!(
            gone.check_prover(rules, &v(), &a, &all[..1]),
            Err(Reason::NotFound)
        );
        assert_eq!(gone.check_prover(rules, &v(), &b, &all), Ok(()));
        let leave = Change::Leave {
            of: Digest32([1; 32]),
        };
        assert_eq!(leave.check_prover(rules, &v(), &a, &all), Ok(()));
    }

    #[test]
    fn one_pin_few_factors_and_never_none() {
        let (policy, attesters) = (Policy::default(), Attesters::default());
        let providers = Providers::default();
        let rules = Rules {
            policy: &policy,
            attesters: &attesters,
            providers: &providers,
        };
        let (a, b) = (pin("a", 0), pin("b", 0));
        let second = check_add(rules, &a, &b, std::slice::from_ref(&a));
        assert_eq!(second, Err(Reason::NotAllowed("factor-count")));
        assert_eq!(check_add(rules, &a, &b, &[]), Ok(()));
        let all = [a.clone(), b.clone()];
        assert_eq!(check_remove(rules, &a.id, Level::One, &all), Ok(()));
        let last = check_remove(rules, &a.id, Level::One, &all[..1]);
        assert_eq!(last, Err(Reason::NotAllowed("last-factor")));
        // A provider that isn't configured any more proves nothing.
        let known = Provider {
            name: "OP".into(),
            issuer: "https://op.example".into(),
            client: "sam.test".into(),
            authorize: "https://op.example/authorize".into(),
            keys: Vec::new(),
            acr: Vec::new(),
            amr: Vec::new(),
            multi_factor: false,
        };
        let mut word = pin("c", 0);
        word.body = FactorBody::Idp(Identity {
            issuer: known.issuer.clone(),
            subject: "s".into(),
        });
        let with_word = [a.clone(), word];
        let gone = check_remove(rules, &a.id, Level::One, &with_word);
        assert_eq!(gone, Err(Reason::NotAllowed("last-factor")));
        let providers = Providers(vec![known]);
        let believing = Rules {
            providers: &providers,
            ..rules
        };
        let left = check_remove(believing, &a.id, Level::One, &with_word);
        assert_eq!(left, Ok(()));
        let twice = check_add(believing, &a, &with_word[1], &with_word);
        assert_eq!(twice, Err(Reason::CredentialKnown));
        let first = check_add(believing, &a, &with_word[1], &with_word[..1]);
        assert_eq!(first, Ok(()));
        // What is left must count at the level of the keys.
        let weak = check_remove(rules, &a.id, Level::Two, &all);
        assert_eq!(weak, Err(Reason::Level("I-3.5.1-keyauth-L2")));
        let last = check_remove(rules, &a.id, Level::Two, &all[..1]);
        assert_eq!(last, Err(Reason::NotAllowed("last-factor")));
        assert_eq!(
            check_remove(rules, &b.id, Level::One, &all[..1]),
            Err(Reason::NotFound)
        );
    }

    // shows: T-USE-CRED-FORGE
    #[test]
    fn a_lock_ends_in_time_or_by_another_factor_and_leaves_the_rest_as_it_was() {
        assert_eq!(
            locked_until(&pin("a", 5), UnixTime(99)),
            Some(UnixTime(100))
        );
        assert_eq!(locked_until(&pin("a", 5), UnixTime(100)), None);
        let forever = locked_until(&pin("a", MAX_FAILS), UnixTime(100));
        assert_eq!(forever, Some(UnixTime(i64::MAX)));
        assert!(unlock(&pin("a", 0).body).is_err());
        let FactorBody::PinTotp(free) = unlock(&pin("a", 10).body).unwrap() else {
            panic!("another kind")
        };
        assert_eq!(
            (free.fails, free.wait_until, free.last_step),
            (0, UnixTime(0), 7)
        );
    }

    #[test]
    fn a_registration_is_named_by_what_it_consists_of() {
        let key = |id: &str| KeyId::parse(id).unwrap();
        let factor = |id: &str| FactorId::parse(id).unwrap();
        let name =
            |keys: &[KeyId], factors: &[FactorId]| registration_digest(keys.iter(), factors.iter());
        let whole = name(&[key("a"), key("b")], &[factor("c")]);
        assert_eq!(whole, name(&[key("b"), key("a")], &[factor("c")]));
        assert_ne!(whole, name(&[key("a")], &[factor("c")]));
        assert_ne!(name(&[key("a")], &[]), name(&[], &[factor("a")]));
    }
}
