//! The one table of levels: which proof counts where, and which level a key has (`sap.md` §11, `I-3.5.1-*`).

use core_types::Level;
use sam_api::ssa::LevelPart;
use sap::proof::Method;
use serde::{Deserialize, Serialize};

/// What the operator decides. A new `version` makes open acts of the old one void.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Version, raised at every change.
    pub version: u32,
    /// PIN and one-time code through the SIC count at level 2. Off by default: a look-alike page defeats them.
    /// Named in the conformity report when on.
    pub pin_totp_at_level_2: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            version: 1,
            pin_totp_at_level_2: false,
        }
    }
}

/// What of a factor matters for levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactorKind {
    /// A passkey with user verification.
    Passkey {
        /// It may be copied to other devices (BE flag).
        backup_eligible: bool,
        /// Its attestation is on the operator's list.
        attested: bool,
    },
    /// PIN and one-time code.
    PinTotp,
}

impl Policy {
    /// Whether a proof with this kind of factor counts at `level`.
    pub fn admits(&self, level: Level, factor: FactorKind) -> bool {
        level <= self.strength(factor)
    }

    /// The highest level at which this kind of factor counts.
    pub fn strength(&self, factor: FactorKind) -> Level {
        match factor {
            FactorKind::Passkey {
                backup_eligible: false,
                attested: true,
            } => Level::Three,
            FactorKind::Passkey { .. } => Level::Two,
            FactorKind::PinTotp if self.pin_totp_at_level_2 => Level::Two,
            FactorKind::PinTotp => Level::One,
        }
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

/// What a key's level is computed from. Keys are never imported here, so nothing is lost by import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFacts {
    /// Highest level the module generates keys for.
    pub generation: Level,
    /// Highest level the module keeps keys for.
    pub retention: Level,
    /// Highest level one of the person's factors counts at.
    pub authorization: Level,
    /// Ceiling of the voucher.
    pub enrolment: Level,
}

impl KeyFacts {
    /// The key's level and the first part that holds it down.
    pub fn level(&self) -> (Level, LevelPart) {
        let parts = [
            (self.generation, LevelPart::Generation),
            (self.retention, LevelPart::Retention),
            (self.authorization, LevelPart::Authorization),
            (self.enrolment, LevelPart::Enrolment),
        ];
        let mut lowest = parts[0];
        for part in parts {
            if part.0 < lowest.0 {
                lowest = part;
            }
        }
        lowest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNCED: FactorKind = FactorKind::Passkey {
        backup_eligible: true,
        attested: false,
    };
    const BOUND: FactorKind = FactorKind::Passkey {
        backup_eligible: false,
        attested: true,
    };

    // shows: II-3.2-keyauth-L1, II-3.2-keyauth-L2-mfa
    #[test]
    fn the_table_of_proofs() {
        let policy = Policy::default();
        let on = Policy {
            pin_totp_at_level_2: true,
            ..Policy::default()
        };
        let row = |p: &Policy, f| [Level::One, Level::Two, Level::Three].map(|l| p.admits(l, f));
        assert_eq!(row(&policy, SYNCED), [true, true, false]);
        assert_eq!(row(&policy, BOUND), [true, true, true]);
        assert_eq!(row(&policy, FactorKind::PinTotp), [true, false, false]);
        assert_eq!(row(&on, FactorKind::PinTotp), [true, true, false]);
        let unattested = FactorKind::Passkey {
            backup_eligible: false,
            attested: false,
        };
        assert_eq!(row(&policy, unattested), [true, true, false]);
        assert_eq!(policy.enrolment_methods(Level::Two), [Method::Passkey]);
    }

    // shows: I-3.5.1-keygen-L1
    #[test]
    fn a_key_is_as_good_as_its_worst_part() {
        let best = KeyFacts {
            generation: Level::Three,
            retention: Level::Three,
            authorization: Level::Three,
            enrolment: Level::Three,
        };
        assert_eq!(best.level().0, Level::Three);
        let software = KeyFacts {
            generation: Level::One,
            retention: Level::One,
            ..best
        };
        assert_eq!(software.level(), (Level::One, LevelPart::Generation));
        let invited = KeyFacts {
            enrolment: Level::One,
            authorization: Level::Two,
            ..best
        };
        assert_eq!(invited.level(), (Level::One, LevelPart::Enrolment));
    }
}
