//! The catalogue's tables of levels as data: `level_matrix`, `pattern_admission`, `level_note`. A test compares them
//! with `specs/requirements.toml`, so that neither can change alone.

use core_types::Level;
use sam_api::ssa::LevelPart;

/// What one part of the matrix demands at one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Row of the matrix.
    pub part: LevelPart,
    /// Level.
    pub level: Level,
    /// Requirements behind it; the first names the rule in refusals.
    pub requirements: &'static [&'static str],
    /// Numbers of the catalogue's notes that belong to it.
    pub notes: &'static [u8],
    /// Only a certificate can prove it: it rests on the operator's declaration, and is shown as declared.
    pub declared: bool,
}

const fn rule(
    part: LevelPart,
    level: Level,
    requirements: &'static [&'static str],
    notes: &'static [u8],
    declared: bool,
) -> Rule {
    Rule {
        part,
        level,
        requirements,
        notes,
        declared,
    }
}

use Level::{One, Three, Two};
use LevelPart::{Authorization, Generation, Import, Retention};

/// The matrix, row by row.
pub const MATRIX: [Rule; 12] = [
    rule(
        Generation,
        One,
        &["I-3.5.1-keygen-L1", "III-3-16-keygen-L1"],
        &[],
        false,
    ),
    rule(
        Generation,
        Two,
        &[
            "I-3.5.1-keygen-L2",
            "III-3-16-keygen-L1",
            "III-3-16-keygen-L2",
        ],
        &[1, 2],
        true,
    ),
    rule(
        Generation,
        Three,
        &[
            "I-3.5.1-keygen-L3",
            "III-3-16-keygen-L1",
            "III-3-16-keygen-L3",
        ],
        &[1, 3],
        true,
    ),
    rule(
        Import,
        One,
        &[
            "I-3.5.1-import-L1",
            "III-3-15-import-L1",
            "III-3-9-protected-import-export",
        ],
        &[],
        false,
    ),
    rule(
        Import,
        Two,
        &[
            "I-3.5.1-import-L2",
            "I-3.5.1-import-L2-ca-keygen",
            "III-3-15-import-L1",
            "III-3-15-import-L2",
            "III-3-9-protected-import-export",
        ],
        &[4],
        false,
    ),
    rule(
        Import,
        Three,
        &["I-3.5.1-import-L3", "III-3-15-import-L3"],
        &[],
        false,
    ),
    rule(
        Retention,
        One,
        &["I-3.5.1-retention-L1", "III-3-17-retention-L1"],
        &[],
        false,
    ),
    rule(
        Retention,
        Two,
        &[
            "I-3.5.1-retention-L2",
            "III-3-17-retention-L2-inside",
            "III-3-17-retention-L2-no-export",
        ],
        &[5],
        true,
    ),
    rule(
        Retention,
        Three,
        &[
            "I-3.5.1-retention-L3",
            "III-3-17-retention-L2-inside",
            "III-3-17-retention-L2-no-export",
        ],
        &[5],
        true,
    ),
    rule(
        Authorization,
        One,
        &[
            "I-3.5.1-keyauth-L1",
            "I-3.5.2-L1-user-auth",
            "I-3.5.2-L1-key-auth-direct",
            "I-3.5.2-L1-key-auth-delegated",
            "II-3.2-keyauth-L1",
            "II-3.2-keyauth-L1-by-login",
        ],
        &[],
        false,
    ),
    rule(
        Authorization,
        Two,
        &[
            "I-3.5.1-keyauth-L2",
            "I-3.5.2-L2-patterns",
            "II-3.2-keyauth-L2-mfa",
            "II-3.2-keyauth-L2-separate",
        ],
        &[],
        false,
    ),
    rule(
        Authorization,
        Three,
        &[
            "I-3.5.1-keyauth-L3",
            "I-3.5.2-L3-pattern",
            "II-3.2-keyauth-L2-mfa",
            "II-3.2-keyauth-L2-separate",
            "II-3.2-keyauth-L3-certified-sam",
        ],
        &[6],
        true,
    ),
];

/// The rule of a part at a level; none for parts that aren't rows of the matrix.
pub fn rule_of(part: LevelPart, level: Level) -> Option<&'static Rule> {
    MATRIX.iter().find(|r| r.part == part && r.level == level)
}

/// The requirement that names a refusal at this level because of this part.
pub fn requirement(part: LevelPart, level: Level) -> &'static str {
    let rule = rule_of(part, level).and_then(|r| r.requirements.first());
    rule.copied().unwrap_or(match part {
        LevelPart::Enrolment => "II-3.1.3-csr-person-content-checked",
        _ => "I-3.5-level-definitions",
    })
}

/// Which patterns of key authorization a level admits (`keyauth_pattern`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// Level.
    pub level: Level,
    /// Patterns: 1 signer directly, 2 through the SCA, 3 through the SSA, 4 signer through the SAM.
    pub patterns: &'static [u8],
    /// Login may count as key authorization; here it does at no level.
    pub login_counts: bool,
}

/// The patterns by level.
pub const ADMISSIONS: [Admission; 3] = [
    Admission {
        level: One,
        patterns: &[1, 2, 3, 4],
        login_counts: true,
    },
    Admission {
        level: Two,
        patterns: &[1, 4],
        login_counts: false,
    },
    Admission {
        level: Three,
        patterns: &[4],
        login_counts: false,
    },
];

/// Whether a level admits a pattern of key authorization.
pub fn admits_pattern(level: Level, pattern: u8) -> bool {
    let of_level = |a: &&Admission| a.level == level;
    let found = ADMISSIONS.iter().find(of_level);
    found.is_some_and(|a| a.patterns.contains(&pattern))
}

/// Kinds of element that a proof consists of; two different kinds make it multi-factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Something the person has.
    Possession,
    /// Something the person knows, compared by the SAM.
    Knowledge,
    /// Something the person knows or is, compared by their own device, which then says so under signature.
    Verified,
}

/// A kind of factor, as far as levels are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FactorKind {
    /// A passkey of a model with a known compromise: whoever has it may not need to be its owner.
    PasskeyCompromised,
    /// A passkey that may be copied to other devices (BE flag).
    PasskeySynced,
    /// A passkey that stays in its authenticator, whose model nobody vouches for.
    PasskeyBound,
    /// A passkey that stays in its authenticator, with an attestation on the operator's list.
    PasskeyAttested,
    /// PIN and one-time code.
    PinTotp,
    /// PIN and one-time code that an application collects and passes on: the person saw no act.
    Collected,
    /// A key in the person's own program, and a PIN: no look-alike page gets the key to sign, and nobody vouches for where
    /// it is kept.
    Device,
    /// An identity provider's word for one factor.
    ProviderSingle,
    /// An identity provider's word for two factors of different kinds, as the operator declares.
    ProviderMulti,
}

/// What a kind of factor is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worth {
    /// The kind.
    pub kind: FactorKind,
    /// What it consists of.
    pub elements: &'static [Element],
    /// Pattern of key authorization by which its proof reaches the key.
    pub pattern: u8,
    /// Whoever shows a look-alike page can use what is typed there.
    pub phishable: bool,
    /// Bound to one device whose model is vouched for.
    pub vouched: bool,
}

/// Which combination counts as what.
pub const WORTH: [Worth; 9] = [
    Worth {
        kind: FactorKind::PasskeyCompromised,
        elements: &[Element::Possession],
        pattern: 4,
        phishable: false,
        vouched: false,
    },
    Worth {
        kind: FactorKind::PasskeySynced,
        elements: &[Element::Possession, Element::Verified],
        pattern: 4,
        phishable: false,
        vouched: false,
    },
    Worth {
        kind: FactorKind::PasskeyBound,
        elements: &[Element::Possession, Element::Verified],
        pattern: 4,
        phishable: false,
        vouched: false,
    },
    Worth {
        kind: FactorKind::PasskeyAttested,
        elements: &[Element::Possession, Element::Verified],
        pattern: 4,
        phishable: false,
        vouched: true,
    },
    Worth {
        kind: FactorKind::PinTotp,
        elements: &[Element::Knowledge, Element::Possession],
        pattern: 4,
        phishable: true,
        vouched: false,
    },
    Worth {
        kind: FactorKind::Collected,
        elements: &[Element::Knowledge, Element::Possession],
        pattern: 2,
        phishable: true,
        vouched: false,
    },
    Worth {
        kind: FactorKind::Device,
        elements: &[Element::Possession, Element::Knowledge],
        pattern: 4,
        phishable: false,
        vouched: false,
    },
    // What the person shows there is the provider's business, so it may be something that a look-alike page can use.
    Worth {
        kind: FactorKind::ProviderSingle,
        elements: &[Element::Verified],
        pattern: 4,
        phishable: true,
        vouched: false,
    },
    Worth {
        kind: FactorKind::ProviderMulti,
        elements: &[Element::Possession, Element::Verified],
        pattern: 4,
        phishable: true,
        vouched: false,
    },
];

impl Worth {
    /// Two elements of different kinds (`II-3.2-keyauth-L2-mfa`).
    pub fn is_multi_factor(&self) -> bool {
        self.elements
            .iter()
            .any(|e| self.elements.first().is_some_and(|first| first != e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue() -> toml::Table {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../../specs/requirements.toml");
        std::fs::read_to_string(path).unwrap().parse().unwrap()
    }

    fn rows<'t>(table: &'t toml::Table, name: &str) -> &'t [toml::Value] {
        table[name].as_array().unwrap()
    }

    fn number(row: &toml::Value, name: &str) -> u8 {
        u8::try_from(row[name].as_integer().unwrap()).unwrap()
    }

    // shows: I-3.5-level-definitions
    #[test]
    fn the_matrix_is_the_catalogues() {
        let table = catalogue();
        let rows = rows(&table, "level_matrix");
        assert_eq!(rows.len(), MATRIX.len());
        for (row, rule) in rows.iter().zip(MATRIX) {
            let part = match row["item"].as_str().unwrap() {
                "key-generation" => Generation,
                "key-import" => Import,
                "key-retention" => Retention,
                "key-authorization" => Authorization,
                other => panic!("{other}"),
            };
            assert_eq!((part, number(row, "level")), (rule.part, rule.level.into()));
            let ids = row["requirements"].as_array().unwrap().iter();
            let ids: Vec<_> = ids.map(|id| id.as_str().unwrap()).collect();
            assert_eq!(ids, rule.requirements, "{:?} {}", rule.part, rule.level);
        }
    }

    #[test]
    fn every_note_belongs_to_a_rule() {
        let table = catalogue();
        let mut used: Vec<u8> = MATRIX.iter().flat_map(|r| r.notes).copied().collect();
        used.sort_unstable();
        used.dedup();
        let notes: Vec<u8> = rows(&table, "level_note")
            .iter()
            .map(|r| number(r, "n"))
            .collect();
        assert_eq!(used, notes);
    }

    // shows: I-3.5.2-L2-patterns, I-3.5.2-L3-pattern
    #[test]
    fn the_admitted_patterns_are_the_catalogues() {
        let table = catalogue();
        let rows = rows(&table, "pattern_admission");
        assert_eq!(rows.len(), ADMISSIONS.len());
        for (row, admission) in rows.iter().zip(ADMISSIONS) {
            assert_eq!(number(row, "level"), u8::from(admission.level));
            let patterns = row["keyauth_patterns"].as_array().unwrap().iter();
            let patterns: Vec<_> = patterns
                .map(|p| u8::try_from(p.as_integer().unwrap()).unwrap())
                .collect();
            assert_eq!(patterns, admission.patterns);
            let login = row["user_auth_may_be_key_auth"].as_bool().unwrap();
            assert_eq!(login, admission.login_counts);
        }
        assert!(admits_pattern(Level::One, 3) && !admits_pattern(Level::Two, 3));
        // A permission that isn't used: no kind of proof is the SSA's, so it authorizes at no level.
        assert!(WORTH.iter().all(|w| w.pattern != 3));
        assert!(admits_pattern(Level::Two, 1) && !admits_pattern(Level::Three, 1));
    }

    #[test]
    fn every_name_of_a_refusal_is_a_requirement() {
        let table = catalogue();
        let known: Vec<_> = rows(&table, "requirement")
            .iter()
            .map(|r| r["id"].as_str().unwrap())
            .collect();
        for part in [
            Generation,
            Import,
            Retention,
            Authorization,
            LevelPart::Enrolment,
            LevelPart::Service,
        ] {
            for level in [One, Two, Three] {
                let id = requirement(part, level);
                assert!(known.contains(&id), "{id}");
            }
        }
        let enrolment = requirement(LevelPart::Enrolment, Two);
        assert_eq!(enrolment, "II-3.1.3-csr-person-content-checked");
    }

    // shows: II-3.2-keyauth-L2-mfa
    #[test]
    fn two_of_one_kind_are_one_factor() {
        let with = |elements| Worth {
            elements,
            ..WORTH[0]
        };
        let single = WORTH.iter().filter(|w| !w.is_multi_factor());
        let single: Vec<_> = single.map(|w| w.kind).collect();
        let alone = [FactorKind::PasskeyCompromised, FactorKind::ProviderSingle];
        assert_eq!(single, alone);
        assert!(!with(&[Element::Knowledge]).is_multi_factor());
        assert!(!with(&[Element::Knowledge, Element::Knowledge]).is_multi_factor());
        assert!(!with(&[]).is_multi_factor());
    }
}
