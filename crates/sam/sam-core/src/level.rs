//! Levels: which level a key has, what the service can be vouched for, and which proof counts where (`sap.md` §11,
//! `I-3.5.1-*`). Decisions over the one table of [`table`].

pub mod table;

use std::collections::BTreeMap;

use cm_api::Health;
use core_types::{Digest32, DtbsForm, KeyAlg, Level, sha256};
use sam_api::ssa::{Declared, KeyLevel, LevelPart};
use sap::Item;
use sap::act::{MAX_ITEMS, MAX_LIFE};
use sap::proof::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Reason;
use crate::state::SIGN_WINDOW;
pub use table::FactorKind;
use table::{WORTH, Worth, admits_pattern, requirement};

/// What the operator decides. A new `version` makes open acts of the old one void.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Version, raised at every change: it names one policy for good.
    pub version: u32,
    /// PIN and one-time code through the SIC count at level 2. Off by default: a look-alike page defeats them.
    /// Named in the conformity report when on.
    pub pin_totp_at_level_2: bool,
    /// The word of identity providers for two factors counts at level 2. Off by default: how they found out is theirs to know.
    #[serde(default)]
    pub provider_at_level_2: bool,
    /// Level of the service: no key is above it, and the SAM doesn't start when it can't be reached.
    #[serde(default = "lowest")]
    pub ceiling: Level,
    /// Reference of the evaluation that this SAM and its tamper-resistant place were certified under; without it no
    /// key is above level 2. The operator's word.
    #[serde(default)]
    pub sam_declaration: Option<String>,
    /// Keys of level 3 sign hashes of unknown origin too, and not only documents that the SAM binds itself.
    #[serde(default)]
    pub bare_hashes_at_level_3: bool,
    /// Keys for algorithms that are experimental (ML-DSA) are made; the module has a switch of its own.
    #[serde(default)]
    pub experimental_algorithms: bool,
    /// How many signatures one act may ask for. The guideline's ideal, and so the default, is one
    /// (`II-A1-sad-each-time`); never more than [`MAX_ITEMS`].
    #[serde(default = "each_time")]
    pub max_items: u32,
    /// How many signatures one approval may be for whose data nobody was shown (`sign-open`, CSC SCAL 1). 0, and so by default, none.
    /// Keys of level 1 only; never more than [`MAX_ITEMS`].
    #[serde(default)]
    pub sign_open: u32,
    /// Seconds from the approval page on after which such an approval is over, 60 to 600.
    #[serde(default = "ten_minutes")]
    pub sign_open_seconds: i64,
}

fn lowest() -> Level {
    Level::One
}

fn ten_minutes() -> i64 {
    MAX_LIFE + SIGN_WINDOW
}

fn each_time() -> u32 {
    1
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            version: 1,
            pin_totp_at_level_2: false,
            provider_at_level_2: false,
            ceiling: lowest(),
            sam_declaration: None,
            bare_hashes_at_level_3: false,
            experimental_algorithms: false,
            max_items: each_time(),
            sign_open: 0,
            sign_open_seconds: ten_minutes(),
        }
    }
}

impl Policy {
    /// What its version names: the digest of its members in JSON, by name, without those that are at their default. So a build that
    /// knows more of them names the same policy alike; what a default means is never changed.
    pub fn digest(&self) -> Digest32 {
        let members = |policy: &Self| -> BTreeMap<String, Value> {
            let value = serde_json::to_value(policy).unwrap_or_default();
            let members = value.as_object().cloned().unwrap_or_default();
            members.into_iter().collect()
        };
        let usual = members(&Self::default());
        let own = members(self).into_iter();
        let own: BTreeMap<_, _> = own
            .filter(|(name, value)| usual.get(name) != Some(value))
            .collect();
        let text = serde_json::to_string(&own).unwrap_or_default();
        sha256(&[b"natsuin-policy-v1\n", text.as_bytes()])
    }

    /// Whether a proof with this kind of factor counts at `level`.
    pub fn admits(&self, level: Level, factor: FactorKind) -> bool {
        level <= self.strength(factor)
    }

    /// As [`Self::admits`].
    ///
    /// # Errors
    /// [`Reason::Level`] naming the requirement that the factor doesn't meet.
    pub fn check(&self, level: Level, factor: FactorKind) -> Result<(), Reason> {
        if self.admits(level, factor) {
            return Ok(());
        }
        Err(Reason::Level(requirement(LevelPart::Authorization, level)))
    }

    /// Whether keys of this kind are made or taken.
    ///
    /// # Errors
    /// [`Reason::AlgorithmNotApproved`] for experimental ones without the switch.
    pub fn check_alg(&self, alg: KeyAlg) -> Result<(), Reason> {
        if alg.experimental() && !self.experimental_algorithms {
            return Err(Reason::AlgorithmNotApproved);
        }
        Ok(())
    }

    /// How many signatures one act may ask for, whatever was configured.
    pub fn max_items(&self) -> usize {
        usize::try_from(self.max_items).map_or(MAX_ITEMS, |most| most.min(MAX_ITEMS))
    }

    /// Whether a key of this kind and `level` may sign these items: no more than the operator lets one act ask for; at level 3 the person approves documents, and the SAM
    /// sees that nothing else is signed; and a key that signs messages needs one, not its hash.
    ///
    /// # Errors
    /// [`Reason::Invalid`], [`Reason::Level`], [`Reason::BareHash`].
    pub fn check_items(&self, alg: KeyAlg, level: Level, items: &[Item]) -> Result<(), Reason> {
        if items.len() > self.max_items() {
            return Err(Reason::Invalid("items"));
        }
        let bare = items.iter().any(|i| matches!(i, Item::Hash { .. }));
        if bare && alg.form() == DtbsForm::Message {
            return Err(Reason::BareHash);
        }
        if bare && level == Level::Three && !self.bare_hashes_at_level_3 {
            return Err(Reason::Level("II-3.3.1-dtbsr-integrity"));
        }
        Ok(())
    }

    /// How many signatures an approval may be for whose data nobody was shown; 0: none.
    pub fn max_open(&self) -> u32 {
        self.sign_open
            .min(u32::try_from(MAX_ITEMS).unwrap_or(u32::MAX))
    }

    /// Seconds from the minting on after which an act without items is over.
    pub fn open_seconds(&self) -> i64 {
        self.sign_open_seconds.clamp(60, ten_minutes())
    }

    /// Whether a key of this kind and `level` may sign `count` things that nobody was shown. Above level 1 signer, data and key are
    /// linked in the proof, so never.
    ///
    /// # Errors
    /// [`Reason::Level`] naming the requirement, [`Reason::NotAllowed`] when it is off, [`Reason::Invalid`] for more than it
    /// allows, [`Reason::BareHash`].
    pub fn check_open(&self, alg: KeyAlg, level: Level, count: u32) -> Result<(), Reason> {
        if level > Level::One {
            return Err(Reason::Level("II-3.3.1-sad-verified"));
        }
        if self.max_open() == 0 {
            return Err(Reason::NotAllowed("sign-open"));
        }
        if alg.form() == DtbsForm::Message {
            return Err(Reason::BareHash);
        }
        if count == 0 || count > self.max_open() {
            return Err(Reason::Invalid("open"));
        }
        Ok(())
    }

    /// The highest level at which this kind of factor counts.
    pub fn strength(&self, factor: FactorKind) -> Level {
        let Some(worth) = WORTH.iter().find(|w| w.kind == factor) else {
            return Level::One;
        };
        let reached = |level: &Level| self.reaches(worth, *level);
        let levels = [Level::Three, Level::Two];
        levels.into_iter().find(reached).unwrap_or(Level::One)
    }

    fn reaches(&self, worth: &Worth, level: Level) -> bool {
        let switched = match worth.kind {
            FactorKind::PinTotp => self.pin_totp_at_level_2,
            FactorKind::ProviderMulti => self.provider_at_level_2,
            _ => false,
        };
        let phished = worth.phishable && !(switched && level == Level::Two);
        admits_pattern(level, worth.pattern)
            && worth.is_multi_factor()
            && !phished
            && (level < Level::Three || worth.vouched)
    }

    /// Methods a person may enrol under a voucher with this ceiling.
    pub fn enrolment_methods(&self, ceiling: Level) -> Vec<Method> {
        if self.admits(ceiling, FactorKind::PinTotp) {
            vec![Method::Passkey, Method::PinTotp]
        } else {
            vec![Method::Passkey]
        }
    }
}

/// A configuration whose parts contradict each other, or what a device says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("level {level} is configured, but {what} ({requirement})")]
pub struct Contradiction {
    /// The level that isn't reached.
    pub level: Level,
    /// What stands against it.
    pub what: &'static str,
    /// The requirement.
    pub requirement: &'static str,
}

/// What this service can be vouched for now: by facts where software can tell, by named declarations where it can't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Highest level the module makes and keeps keys for.
    pub module: Level,
    /// Highest level this SAM can authorize at.
    pub sam: Level,
    /// Ceiling of the operator.
    pub ceiling: Level,
    /// Whether the module makes keys that their owners can have handed over.
    pub exports: bool,
    /// What rests on the operator's word.
    pub declared: Vec<Declared>,
}

impl Service {
    /// Judges the module's report and the operator's policy.
    ///
    /// # Errors
    /// [`Contradiction`]: a software module above level 1, a level above 1 without a declaration, or a ceiling that
    /// isn't reached. Such a service doesn't start.
    pub fn judge(health: &Health, policy: &Policy) -> Result<Self, Contradiction> {
        let against = |part, level, what| Contradiction {
            level,
            what,
            requirement: requirement(part, level),
        };
        let mut declared = Vec::new();
        if health.ceiling > Level::One {
            let level = health.ceiling;
            if health.device.is_none() {
                let what = "the module keeps keys in software";
                return Err(against(LevelPart::Generation, level, what));
            }
            let reference = named(health.declaration.as_deref());
            let what = "nothing declares the device evaluated";
            let reference = reference.ok_or(against(LevelPart::Generation, level, what))?;
            for part in [LevelPart::Generation, LevelPart::Retention] {
                declared.push(Declared {
                    part,
                    level,
                    reference: reference.clone(),
                });
            }
        }
        let certified = named(policy.sam_declaration.as_deref());
        if let Some(reference) = certified.clone() {
            declared.push(Declared {
                part: LevelPart::Authorization,
                level: Level::Three,
                reference,
            });
        }
        let service = Self {
            module: health.ceiling,
            sam: certified.map_or(Level::Two, |_| Level::Three),
            ceiling: policy.ceiling,
            exports: health.exports,
            declared,
        };
        if service.ceiling > service.module {
            let what = "the module isn't good for it";
            return Err(against(LevelPart::Generation, service.ceiling, what));
        }
        if service.ceiling > service.sam {
            let what = "nothing declares this SAM certified";
            return Err(against(LevelPart::Authorization, service.ceiling, what));
        }
        Ok(service.witnessed(health.witness_declaration.as_deref()))
    }

    /// With what is declared of where the witness's file of a zone's log lies: above level 1 all that the service vouches for rests
    /// on it, for an old database would bring back rights that are spent.
    #[must_use]
    pub fn witnessed(mut self, declaration: Option<&str>) -> Self {
        let (part, level) = (LevelPart::Service, self.ceiling);
        let reference = named(declaration).filter(|_| level > Level::One);
        self.declared.extend(reference.map(|reference| Declared {
            part,
            level,
            reference,
        }));
        self
    }

    /// Whether a key made for `level` may be used by what this service is now.
    ///
    /// # Errors
    /// [`Reason::Level`] naming the requirement that isn't met any more.
    pub fn vouch(&self, level: Level) -> Result<(), Reason> {
        let parts = [
            (self.module, LevelPart::Generation),
            (self.sam, LevelPart::Authorization),
            (self.ceiling, LevelPart::Service),
        ];
        match parts.into_iter().find(|(reached, _)| level > *reached) {
            Some((_, part)) => Err(Reason::Level(requirement(part, level))),
            None => Ok(()),
        }
    }

    /// Declarations that a key of `level` rests on.
    pub fn declared_for(&self, level: Level) -> Vec<Declared> {
        let rests = |d: &&Declared| match d.part {
            LevelPart::Service => level > Level::One,
            part => table::rule_of(part, level).is_some_and(|r| r.declared),
        };
        self.declared.iter().filter(rests).cloned().collect()
    }
}

fn named(reference: Option<&str>) -> Option<String> {
    let text = reference.map(str::trim).filter(|t| !t.is_empty());
    text.map(str::to_owned)
}

/// What a key's level is computed from, fixed when the key is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFacts {
    /// Highest level the module generates keys for.
    pub generation: Level,
    /// Highest level its import allows; nothing is lost by a key that was made here.
    pub import: Level,
    /// Highest level the module keeps keys for.
    pub retention: Level,
    /// Highest level one of the person's factors counts at, and this SAM.
    pub authorization: Level,
    /// Ceiling of the voucher.
    pub enrolment: Level,
    /// Ceiling of the service.
    pub service: Level,
}

impl KeyFacts {
    /// Facts of a key that this service generates.
    pub fn generated(service: &Service, authorization: Level, enrolment: Level) -> Self {
        Self {
            generation: service.module,
            import: Level::Three,
            retention: service.module,
            authorization: authorization.min(service.sam),
            enrolment,
            service: service.ceiling,
        }
    }

    /// The parts in the order in which they are named as the cause.
    pub fn parts(&self) -> [(LevelPart, Level); 6] {
        [
            (LevelPart::Generation, self.generation),
            (LevelPart::Import, self.import),
            (LevelPart::Retention, self.retention),
            (LevelPart::Authorization, self.authorization),
            (LevelPart::Enrolment, self.enrolment),
            (LevelPart::Service, self.service),
        ]
    }

    /// The key's level and the first part that holds it down.
    pub fn level(&self) -> (Level, LevelPart) {
        let mut lowest = (self.generation, LevelPart::Generation);
        for (part, level) in self.parts() {
            if level < lowest.0 {
                lowest = (level, part);
            }
        }
        lowest
    }

    /// The key's level with everything that people are told about it.
    pub fn told(&self, service: &Service) -> KeyLevel {
        let (level, because) = self.level();
        let next = Level::try_from(u8::from(level) + 1).ok();
        let holding = self.parts().into_iter().filter(|(_, l)| *l == level);
        KeyLevel {
            level,
            because,
            needs: next.map_or_else(Vec::new, |next| {
                holding
                    .map(|(part, _)| requirement(part, next).to_owned())
                    .collect()
            }),
            declared: service.declared_for(level),
        }
    }
}

#[cfg(test)]
mod tests;
