//! What a backup says of itself, and who may restore it.

use std::collections::{BTreeMap, BTreeSet};

use core_types::words::is_reason;
use core_types::{Digest32, UnixTime};
use jose::{Jwk, SigningKey};
use serde::{Deserialize, Serialize};

use crate::BackupError;

/// `schema` of the list.
pub const SCHEMA: &str = "natsuin.backup/1";
/// `typ` of the signature over the list.
pub const TYP_BACKUP: &str = "natsuin-backup+jws";
/// `typ` of an approval.
pub const TYP_RESTORE: &str = "natsuin-restore+jws";
/// Longest life of an approval in seconds.
pub const LONGEST_APPROVAL: i64 = 86_400;

/// The list of a backup, its last file but one. Its SHA-256 is the backup's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: String,
    /// Made at.
    pub made: UnixTime,
    /// The stores in it, by zone.
    pub zones: BTreeMap<String, ZoneListed>,
    /// Each file, by path.
    pub files: BTreeMap<String, Listed>,
    /// Who may restore it, as its maker was told; counts only where the restorer was told the same.
    pub authority: Authority,
}

/// A store as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneListed {
    /// Random id of the store.
    pub system: String,
    /// Component and name of each step of its schema.
    pub migrations: Vec<(String, String)>,
    /// Number of rows of each table.
    pub rows: BTreeMap<String, u64>,
}

/// A file as it was put in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Bytes.
    pub size: u64,
    /// SHA-256.
    pub sha256: Digest32,
}

/// Whose approvals a restore takes, as of the time of the backup: a system operator's and a security officer's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// Keys of system operators.
    pub operators: Vec<Jwk>,
    /// Keys of security officers.
    pub officers: Vec<Jwk>,
}

impl Authority {
    /// One of each at least, and nobody in both.
    ///
    /// # Errors
    /// [`BackupError::Authority`].
    pub fn check(&self) -> Result<(), BackupError> {
        let both = self.operators.iter().any(|o| self.officers.contains(o));
        match both || self.operators.is_empty() || self.officers.is_empty() {
            true => Err(BackupError::Authority),
            false => Ok(()),
        }
    }

    /// Whether the same keys are named in the same offices, in any order.
    fn is(&self, other: &Self) -> bool {
        let same = |a: &[Jwk], b: &[Jwk]| {
            let all = |keys: &[Jwk]| keys.iter().map(Jwk::kid).collect::<BTreeSet<_>>();
            all(a) == all(b)
        };
        same(&self.operators, &other.operators) && same(&self.officers, &other.officers)
    }
}

/// That a restore was approved, with all that shows it: what each zone judges by its own settings and records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Approved {
    /// Name of the backup.
    pub backup: Digest32,
    /// The stores that are filled, a line each: zone and name. The SHA-256 of this text is the target.
    pub stores: String,
    /// Signature of the backup.
    pub signature: String,
    /// The operator's approval, and the officer's.
    pub approvals: [String; 2],
}

/// What is signed of a backup.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signed {
    pub(crate) manifest: Digest32,
}

/// In what office somebody approves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Office {
    /// Who restores.
    SystemOperator,
    /// Who agrees to it.
    SecurityOfficer,
}

/// What is approved: this backup, into these blank stores, for a while. Blank stores have a name that nothing has twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// Name of the backup.
    pub backup: Digest32,
    /// Name of the stores.
    pub target: Digest32,
    /// Of the one who approves.
    pub office: Office,
    /// Why, in the words of the one who approves: [`is_reason`].
    pub reason: String,
    /// Not accepted at or after this time.
    pub exp: UnixTime,
}

impl Restore {
    /// Somebody's approval.
    ///
    /// # Errors
    /// [`BackupError::Damaged`] when the key can't sign.
    pub fn approve(&self, key: &SigningKey) -> Result<String, BackupError> {
        let payload = serde_json::to_vec(self).unwrap_or_default();
        let signed = key.sign(TYP_RESTORE, &payload);
        signed.map_err(|e| BackupError::Damaged(e.to_string()))
    }
}

impl Manifest {
    /// Whether a system operator and a security officer approved the restore of this backup into `target`; the approvals of both.
    /// Whose keys those are is `known` from elsewhere: the list is signed by nobody but the key that makes backups without
    /// people, every day.
    ///
    /// # Errors
    /// [`BackupError::OtherAuthority`] when the backup names others; [`BackupError::NotApproved`] with the office that is missing.
    pub fn approved(
        &self,
        known: &Authority,
        name: Digest32,
        target: Digest32,
        approvals: &[String],
        now: UnixTime,
    ) -> Result<[String; 2], BackupError> {
        known.check()?;
        if !self.authority.is(known) {
            return Err(BackupError::OtherAuthority);
        }
        let good = |approval: &str, key: &Jwk, office| {
            let payload = jose::verify(approval, TYP_RESTORE, key).ok();
            let told = payload.and_then(|p| serde_json::from_slice::<Restore>(&p).ok());
            told.is_some_and(|told| {
                (told.backup, told.target, told.office) == (name, target, office)
                    && is_reason(&told.reason)
                    && told.exp > now
                    && told.exp.0 - now.0 <= LONGEST_APPROVAL
            })
        };
        let by = |office, keys: &[Jwk]| {
            let mut approvals = approvals.iter().map(|a| a.trim());
            let found = approvals.find(|a| keys.iter().any(|key| good(a, key, office)));
            found
                .map(str::to_owned)
                .ok_or(BackupError::NotApproved(office))
        };
        Ok([
            by(Office::SystemOperator, &known.operators)?,
            by(Office::SecurityOfficer, &known.officers)?,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::generate().unwrap().0
    }

    #[test]
    fn it_takes_an_operator_and_an_officer_and_each_only_in_their_own_office() {
        let (operator, officer, other) = (key(), key(), key());
        let manifest = Manifest {
            schema: SCHEMA.to_owned(),
            made: UnixTime(0),
            zones: BTreeMap::new(),
            files: BTreeMap::new(),
            authority: Authority {
                operators: vec![operator.public().clone()],
                officers: vec![officer.public().clone()],
            },
        };
        let (name, target) = (Digest32([1; 32]), Digest32([2; 32]));
        let good = |office| Restore {
            backup: name,
            target,
            office,
            reason: "the disk failed".to_owned(),
            exp: UnixTime(1100),
        };
        let mine = good(Office::SystemOperator).approve(&operator).unwrap();
        let theirs = good(Office::SecurityOfficer).approve(&officer).unwrap();
        let judged = |approvals: &[&String], target, now| {
            let approvals: Vec<String> = approvals.iter().map(|a| (*a).clone()).collect();
            let known = manifest.authority.clone();
            manifest.approved(&known, name, target, &approvals, UnixTime(now))
        };
        for both in [[&mine, &theirs], [&theirs, &mine]] {
            let approved = judged(&both, target, 1000).unwrap();
            assert_eq!(approved, [mine.clone(), theirs.clone()]);
        }
        let both = good(Office::SecurityOfficer).approve(&operator).unwrap();
        let strange = good(Office::SecurityOfficer).approve(&other).unwrap();
        let wrong = Restore {
            backup: target,
            ..good(Office::SecurityOfficer)
        };
        let wrong = wrong.approve(&officer).unwrap();
        let silent = Restore {
            reason: " ".to_owned(),
            ..good(Office::SecurityOfficer)
        };
        let silent = silent.approve(&officer).unwrap();
        for missing in [
            vec![&mine],
            vec![&theirs],
            vec![&mine, &mine],
            vec![&mine, &both],
            vec![&mine, &strange],
            vec![&mine, &wrong],
            vec![&mine, &silent],
            vec![],
        ] {
            let refused = judged(&missing, target, 1000);
            assert!(matches!(refused, Err(BackupError::NotApproved(_))));
        }
        let two = [&mine, &theirs];
        assert!(
            judged(&two, Digest32([3; 32]), 1000).is_err(),
            "another store"
        );
        assert!(judged(&two, target, 1100).is_err(), "too late");
        assert!(
            judged(&two, target, 1099 - LONGEST_APPROVAL).is_err(),
            "for too long"
        );
        // Who makes backups names whom they like; that makes nobody an operator or an officer.
        let mut made = manifest.clone();
        made.authority.operators = vec![other.public().clone()];
        let approvals = [
            good(Office::SystemOperator).approve(&other).unwrap(),
            theirs.clone(),
        ];
        let known = &manifest.authority;
        let refused = made.approved(known, name, target, &approvals, UnixTime(1000));
        assert!(matches!(refused, Err(BackupError::OtherAuthority)));
        let mut alone = manifest.authority.clone();
        alone.officers.push(operator.public().clone());
        assert!(matches!(alone.check(), Err(BackupError::Authority)));
    }
}
