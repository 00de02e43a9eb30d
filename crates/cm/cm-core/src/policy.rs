//! The table of approved algorithms in force: who signed it, and that it only goes forward (`III-3-2-approved-algorithms`).
//!
//! Without a table of the operator's own it is the one that comes with the program. A table that was in force is remembered
//! in a sealed row and in the log. One with a lower version, or another one with the same, is refused: an old table put
//! back brings no broken algorithm back. Going back is a new version, and one that approves more than the table before wants
//! two officers.

use core_types::{ApprovalError, Approvals, Digest32, KeyAlg, SigAlg, UnixTime, sha256};
use jose::{Jwk, SigningKey};
use serde::{Deserialize, Serialize};

/// `typ` of a signed table.
pub const TYP_ALGORITHMS: &str = "natsuin-algorithms+jws";
/// How many officers have to sign a table that approves more than the one before.
const TO_LOOSEN: usize = 2;

/// A table in force.
#[derive(Debug, Clone)]
pub struct Policy {
    table: Approvals,
    experiments: bool,
    by: By,
}

/// Who answers for a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum By {
    /// The authors of the program.
    Program,
    /// So many officers; none where there aren't any.
    Officers(usize),
}

/// The table that was last in force, as the module remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Held {
    pub(crate) version: u64,
    pub(crate) table: String,
    pub(crate) by: By,
}

/// The table can't be used; the operator's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not a table.
    #[error(transparent)]
    Table(#[from] ApprovalError),
    /// No security officer signed it, or two that signed different ones.
    #[error("the table of algorithms isn't signed by a security officer of this module")]
    Unsigned,
    /// A later one was in force.
    #[error("the table of algorithms has version {given}, and version {held} was in force already")]
    Older {
        /// Of the table.
        given: u64,
        /// Of the one that was in force.
        held: u64,
    },
    /// Another one with this version was in force.
    #[error("another table of algorithms was in force with version {0}")]
    Other(u64),
    /// More is approved than before.
    #[error(
        "the table of algorithms approves more than the one before: two security officers have to sign it"
    )]
    Loosens,
}

impl Policy {
    /// A table (JSON) that nobody has signed: where there are no officers.
    ///
    /// # Errors
    /// [`PolicyError::Table`].
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        Ok(Self {
            table: Approvals::parse(text)?,
            experiments: false,
            by: By::Officers(0),
        })
    }

    /// With the rows that are experimental, or without them.
    #[must_use]
    pub fn experiments(self, on: bool) -> Self {
        Self {
            experiments: on,
            ..self
        }
    }

    /// Reads a table that security officers have signed: a compact JWS of type [`TYP_ALGORITHMS`] a line, each over the
    /// same text by another officer.
    ///
    /// # Errors
    /// [`PolicyError`]; one that no officer signed isn't looked at.
    pub fn signed(lines: &str, officers: &[Jwk]) -> Result<Self, PolicyError> {
        let mut text: Option<Vec<u8>> = None;
        let mut signers = Vec::new();
        for jws in lines.lines().filter(|line| !line.trim().is_empty()) {
            let kid = jose::kid_of(jws, TYP_ALGORITHMS).map_err(|_| PolicyError::Unsigned)?;
            let officer = officers.iter().find(|o| o.kid() == kid);
            let officer = officer.ok_or(PolicyError::Unsigned)?;
            let payload =
                jose::verify(jws, TYP_ALGORITHMS, officer).map_err(|_| PolicyError::Unsigned)?;
            let officer = officer.thumbprint();
            if text.get_or_insert_with(|| payload.clone()) != &payload || signers.contains(&officer)
            {
                return Err(PolicyError::Unsigned);
            }
            signers.push(officer);
        }
        let text = String::from_utf8(text.ok_or(PolicyError::Unsigned)?)
            .map_err(|e| ApprovalError::Malformed(e.to_string()))?;
        Ok(Self {
            by: By::Officers(signers.len()),
            ..Self::parse(&text)?
        })
    }

    /// A provider's table for judging signatures by, under the rules that the module itself has for its first one: signed by an
    /// officer, and by two if it approves more than the program's own.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn for_verifying(lines: &str, officers: &[Jwk]) -> Result<Approvals, PolicyError> {
        let policy = Self::signed(lines, officers)?;
        policy.follows(None, true)?;
        Ok(policy.table)
    }

    /// Signs a table, as a security officer, after reading it.
    ///
    /// # Errors
    /// [`PolicyError`] for a table that can't be used.
    pub fn sign(text: &str, officer: &SigningKey) -> Result<String, PolicyError> {
        Self::parse(text)?;
        let signed = officer.sign(TYP_ALGORITHMS, text.as_bytes());
        signed.map_err(|_| PolicyError::Unsigned)
    }

    /// The table that comes with the program.
    ///
    /// # Errors
    /// [`PolicyError`] never, as long as its test passes.
    pub fn built_in() -> Result<Self, PolicyError> {
        Ok(Self {
            table: Approvals::built_in()?,
            experiments: false,
            by: By::Program,
        })
    }

    /// Whether keys of this kind may be made now.
    pub fn may_generate(&self, key: KeyAlg, now: UnixTime) -> bool {
        let end = self.table.sign_until(key, None, self.experiments);
        end.is_some_and(|end| now < end)
    }

    /// Whether a key of this kind may sign with this algorithm now.
    pub fn may_sign(&self, key: KeyAlg, alg: SigAlg, now: UnixTime) -> bool {
        let end = self.table.sign_until(key, Some(alg), self.experiments);
        end.is_some_and(|end| now < end)
    }

    /// Version of the table.
    pub fn version(&self) -> u64 {
        self.table.version()
    }

    /// SHA-256 of the table's text.
    pub fn table(&self) -> Digest32 {
        self.table.digest()
    }

    /// Digest over table and switch, as the audit log has it.
    pub fn digest(&self) -> Digest32 {
        sha256(&[&self.table.digest().0, &[u8::from(self.experiments)]])
    }

    /// How many officers signed it.
    pub(crate) fn signers(&self) -> u64 {
        match self.by {
            By::Program => 0,
            By::Officers(n) => u64::try_from(n).unwrap_or(u64::MAX),
        }
    }

    /// Whether it may follow the table that was last in force; answers what is to be remembered now, if that is something
    /// else. `officers`: whether the module has any.
    pub(crate) fn follows(
        &self,
        held: Option<&Held>,
        officers: bool,
    ) -> Result<Option<Held>, PolicyError> {
        let given = self.version();
        if let Some(held) = held {
            if given < held.version {
                return Err(PolicyError::Older {
                    given,
                    held: held.version,
                });
            }
            if given == held.version {
                let same = held.table == self.table.text();
                return same.then_some(None).ok_or(PolicyError::Other(given));
            }
        }
        // Before the first table there was the program's own.
        let before = match held {
            Some(held) => Approvals::parse(&held.table).ok(),
            None => Some(Approvals::default()),
        };
        let by_before = held.map_or(By::Program, |held| held.by);
        let free = match (self.by, by_before) {
            (By::Program, By::Program) => true,
            (By::Officers(n), _) if n >= TO_LOOSEN => true,
            (_, By::Officers(n)) if n > 0 => false,
            _ => !officers,
        };
        // One that can't be read any more says nothing of what it approved.
        if !free && before.is_none_or(|before| self.table.loosens(&before)) {
            return Err(PolicyError::Loosens);
        }
        Ok(Some(Held {
            version: given,
            table: self.table.text().to_owned(),
            by: self.by,
        }))
    }
}

#[cfg(test)]
mod tests {
    use core_types::HashAlg;

    use super::*;

    fn table(version: u64, sign_until: &str) -> String {
        format!(
            r#"{{"version":{version},"approved":[{{"key":"p-256","basis":"a list","algs":["ecdsa-sha256"],"sign_until":"{sign_until}","verify_until":"2050-12-31"}}]}}"#
        )
    }

    // shows: III-3-2-approved-algorithms, III-3-16-keygen-L1
    #[test]
    fn what_signs_and_what_is_made_ends_with_its_approval() {
        let policy = Policy::built_in().unwrap();
        let last = UnixTime(2_240_611_200);
        let p256 = SigAlg::Ecdsa(HashAlg::Sha256);
        assert!(policy.may_sign(KeyAlg::P256, p256, last.plus(-1)));
        assert!(!policy.may_sign(KeyAlg::P256, p256, last));
        assert!(!policy.may_generate(KeyAlg::P256, last));
        let now = UnixTime(1_780_000_000);
        assert!(!policy.may_sign(KeyAlg::P384, p256, now), "not its hash");
        for key in KeyAlg::ALL {
            assert_eq!(policy.may_generate(key, now), !key.experimental(), "{key}");
        }
        let policy = policy.experiments(true);
        assert!(KeyAlg::ALL.iter().all(|k| policy.may_generate(*k, now)));
    }

    // shows: III-3-2-approved-algorithms, T-INS-OPERATOR
    #[test]
    fn a_signed_table_counts_only_from_officers_and_unaltered() {
        let key = || SigningKey::generate().unwrap().0;
        let (officer, second, stranger) = (key(), key(), key());
        let officers = [officer.public().clone(), second.public().clone()];
        let text = table(7, "2030-12-31");
        let jws = Policy::sign(&text, &officer).unwrap();
        let policy = Policy::signed(&jws, &officers).unwrap();
        assert_eq!(policy.table(), sha256(&[text.as_bytes()]));
        assert_eq!(policy.signers(), 1);
        let both = format!("{jws}\n{}\n", Policy::sign(&text, &second).unwrap());
        assert_eq!(Policy::signed(&both, &officers).unwrap().signers(), 2);
        let unsigned = Err(PolicyError::Unsigned);
        let told = |jws: &str| Policy::signed(jws, &officers).map(|_| ());
        let other = table(7, "2031-12-31");
        for wrong in [
            text.clone(),
            String::new(),
            Policy::sign(&text, &stranger).unwrap(),
            format!("{jws}\n{jws}"),
            format!("{jws}\n{}", Policy::sign(&text, &stranger).unwrap()),
            format!("{jws}\n{}", Policy::sign(&other, &second).unwrap()),
        ] {
            assert_eq!(told(&wrong), unsigned, "{wrong}");
        }
        let later = Policy::sign(&other, &stranger).unwrap();
        let (head, tail) = (
            jws.rsplit_once('.').unwrap(),
            later.split('.').nth(1).unwrap(),
        );
        let first = head.0.split('.').next().unwrap();
        assert_eq!(told(&format!("{first}.{tail}.{}", head.1)), unsigned);
        assert!(Policy::sign("{}", &officer).is_err(), "no table");
    }

    // shows: III-3-2-approved-algorithms, T-INS-OPERATOR
    #[test]
    fn a_table_only_goes_forward_and_two_officers_loosen_it() {
        let of = |version, until: &str, n| Policy {
            by: By::Officers(n),
            ..Policy::parse(&table(version, until)).unwrap()
        };
        let held = of(9, "2030-12-31", 1).follows(None, true).unwrap();
        let told = |next: &Policy| next.follows(held.as_ref(), true);
        assert_eq!(told(&of(9, "2030-12-31", 1)), Ok(None), "the same");
        let older = PolicyError::Older { given: 8, held: 9 };
        assert_eq!(told(&of(8, "2030-12-31", 2)), Err(older));
        assert_eq!(told(&of(9, "2029-12-31", 2)), Err(PolicyError::Other(9)));
        assert!(told(&of(10, "2029-12-31", 1)).unwrap().is_some(), "tighter");
        let loosens = Err(PolicyError::Loosens);
        assert_eq!(told(&of(10, "2031-12-31", 1)), loosens);
        assert!(told(&of(10, "2031-12-31", 2)).unwrap().is_some());
        // Neither by taking the officers away, nor by going back to what comes with the program.
        let unsigned = of(10, "2031-12-31", 0);
        assert_eq!(unsigned.follows(held.as_ref(), false), loosens);
        let mut program = Policy::built_in().unwrap();
        let held = of(1, "2030-12-31", 1).follows(None, true).unwrap();
        assert_eq!(program.follows(held.as_ref(), true), loosens);
        // A later program may know better than the one before.
        program.table = Approvals::parse(&table(1, "2030-12-31")).unwrap();
        let held = program.follows(None, true).unwrap();
        let program = Policy::built_in().unwrap();
        assert!(program.follows(held.as_ref(), true).unwrap().is_some());
        // The first one is compared with the program's own.
        assert_eq!(of(9, "2041-12-31", 1).follows(None, true), loosens);
        // By which signatures are judged, too.
        let key = || SigningKey::generate().unwrap().0;
        let keys = [key(), key()];
        let officers = keys.each_ref().map(|k| k.public().clone());
        let loose = table(9, "2041-12-31");
        let lines = keys.each_ref().map(|k| Policy::sign(&loose, k).unwrap());
        let judged = |lines: &str| Policy::for_verifying(lines, &officers);
        assert_eq!(judged(&lines[0]).map(|_| ()), Err(PolicyError::Loosens));
        assert_eq!(judged(&lines.join("\n")).unwrap().text(), loose);
        let tight = Policy::sign(&table(9, "2029-12-31"), &keys[0]).unwrap();
        assert_eq!(judged(&tight).unwrap().version(), 9);
        assert!(of(9, "2041-12-31", 0).follows(None, false).is_ok());
    }
}
