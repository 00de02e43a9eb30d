//! How levels are told: which one a key has, why not a higher one, and what of it rests on somebody's word.

use core_types::{Level, OriginCase};
use serde::{Deserialize, Serialize};

/// A key's level: the lowest of its parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyLevel {
    /// The level.
    pub level: Level,
    /// The first part that holds it down.
    pub because: LevelPart,
    /// Requirements that the next level would need met, one for each part that holds it down.
    pub needs: Vec<String>,
    /// What of it rests on the operator's word.
    pub declared: Vec<Declared>,
}

/// What only a certificate can prove, as the operator declares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// Part of the matrix that rests on it; the service, if all of it does.
    pub part: LevelPart,
    /// Level it is declared good for.
    pub level: Level,
    /// The evaluation, or what else the operator names.
    pub reference: String,
}

/// A part of the level matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LevelPart {
    /// `I-3.5.1-keygen-*`
    Generation,
    /// `I-3.5.1-import-*`
    Import,
    /// `I-3.5.1-retention-*`
    Retention,
    /// `I-3.5.1-keyauth-*`
    Authorization,
    /// The voucher's ceiling (identity proofing).
    Enrolment,
    /// The ceiling of the service.
    Service,
}

/// What whoever decides about a key is told of its strength.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyAssurance {
    /// Level as computed, and why it isn't higher.
    pub level: KeyLevel,
    /// Back end of the module that holds it, such as `software`.
    pub origin: String,
    /// Where it was made and how it got here.
    pub case: OriginCase,
}

/// The references of declarations, each once, in their order.
pub fn references(declared: &[Declared]) -> Vec<String> {
    let mut references: Vec<String> = Vec::new();
    for one in declared {
        if !references.contains(&one.reference) {
            references.push(one.reference.clone());
        }
    }
    references
}
