//! Which algorithms may sign, and until when: a table that is data (`III-3-2-approved-algorithms`).
//!
//! The table that comes with the program holds dates that its authors think prudent for the strength of each algorithm
//! (112 bits: sign to the end of 2030; 128 bits: 2040; 192 bits: 2050); the operator compares them with the current CRYPTREC list and
//! gives the module a table of their own where they differ. An algorithm that isn't in the table is not approved.

use jose::{Jwk, SigningKey};

use core_types::{Digest32, KeyAlg, SigAlg, UnixTime, sha256};
use serde::Deserialize;
use time::Date;
use time::macros::format_description;

/// The table that comes with the program.
const BUILT_IN: &str = include_str!("policy.json");

/// `typ` of a signed table.
pub const TYP_ALGORITHMS: &str = "natsuin-algorithms+jws";

/// A policy in force.
#[derive(Debug, Clone)]
pub struct Policy {
    version: String,
    rows: Vec<Row>,
    digest: Digest32,
    experiments: bool,
}

#[derive(Debug, Clone)]
struct Row {
    key: KeyAlg,
    algs: Vec<SigAlg>,
    sign_until: UnixTime,
    verify_until: UnixTime,
    experimental: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: String,
    approved: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    key: KeyAlg,
    algs: Vec<SigAlg>,
    sign_until: String,
    verify_until: String,
    /// Only with the experimental switch.
    #[serde(default)]
    experimental: bool,
}

/// The policy can't be used; the operator's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not JSON of the prescribed form.
    #[error("the policy can't be read: {0}")]
    Malformed(String),
    /// A date that isn't one.
    #[error("the policy has a date that isn't YYYY-MM-DD: {0:?}")]
    Date(String),
    /// No security officer signed it.
    #[error("the policy isn't signed by a security officer of this module")]
    Unsigned,
    /// Rows that contradict themselves or each other.
    #[error("the policy contradicts itself about {0}")]
    Contradiction(KeyAlg),
}

impl Policy {
    /// Reads a table (JSON).
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let file: File =
            serde_json::from_str(text).map_err(|e| PolicyError::Malformed(e.to_string()))?;
        let mut rows: Vec<Row> = Vec::new();
        for entry in file.approved {
            let row = Row {
                key: entry.key,
                sign_until: end_of(&entry.sign_until)?,
                verify_until: end_of(&entry.verify_until)?,
                algs: entry.algs,
                experimental: entry.experimental,
            };
            let possible = row.key.sig_algs();
            if rows.iter().any(|r| r.key == row.key)
                || row.verify_until < row.sign_until
                || row.algs.is_empty()
                || (row.key.experimental() && !row.experimental)
                || !row.algs.iter().all(|a| possible.contains(a))
            {
                return Err(PolicyError::Contradiction(row.key));
            }
            rows.push(row);
        }
        Ok(Self {
            version: file.version,
            rows,
            digest: sha256(&[text.as_bytes()]),
            experiments: false,
        })
    }

    /// With the rows that are experimental, or without them.
    #[must_use]
    pub fn experiments(self, on: bool) -> Self {
        let digest = sha256(&[&self.digest.0, &[u8::from(on)]]);
        Self {
            experiments: on,
            digest,
            ..self
        }
    }

    /// Reads a table that a security officer has signed, compact JWS of type [`TYP_ALGORITHMS`].
    ///
    /// # Errors
    /// [`PolicyError`]; one that no officer signed isn't looked at.
    pub fn signed(jws: &str, officers: &[Jwk]) -> Result<Self, PolicyError> {
        let kid = jose::kid_of(jws, TYP_ALGORITHMS).map_err(|_| PolicyError::Unsigned)?;
        let officer = officers.iter().find(|o| o.kid() == kid);
        let officer = officer.ok_or(PolicyError::Unsigned)?;
        let text = jose::verify(jws, TYP_ALGORITHMS, officer).map_err(|_| PolicyError::Unsigned)?;
        let text = String::from_utf8(text).map_err(|e| PolicyError::Malformed(e.to_string()))?;
        Self::parse(&text)
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
        Self::parse(BUILT_IN)
    }

    /// Whether keys of this kind may be made now.
    pub fn may_generate(&self, key: KeyAlg, now: UnixTime) -> bool {
        self.row(key).is_some_and(|row| now < row.sign_until)
    }

    /// Whether a key of this kind may sign with this algorithm now.
    pub fn may_sign(&self, key: KeyAlg, alg: SigAlg, now: UnixTime) -> bool {
        self.row(key)
            .is_some_and(|row| row.algs.contains(&alg) && now < row.sign_until)
    }

    /// First second at which a signature of such a key is no longer to be trusted without other proof of its time.
    pub fn verify_until(&self, key: KeyAlg) -> Option<UnixTime> {
        self.row(key).map(|row| row.verify_until)
    }

    /// Version as its author named it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// SHA-256 of the table's text, as the audit log has it.
    pub fn digest(&self) -> Digest32 {
        self.digest
    }

    fn row(&self, key: KeyAlg) -> Option<&Row> {
        let mut rows = self.rows.iter();
        rows.find(|row| row.key == key && (self.experiments || !row.experimental))
    }
}

/// The first second after this day, UTC.
fn end_of(day: &str) -> Result<UnixTime, PolicyError> {
    let parsed = Date::parse(day, format_description!("[year]-[month]-[day]")).ok();
    let next = parsed.and_then(Date::next_day);
    next.map(|d| UnixTime(d.midnight().assume_utc().unix_timestamp()))
        .ok_or_else(|| PolicyError::Date(day.to_owned()))
}

#[cfg(test)]
mod tests {
    use core_types::HashAlg;

    use super::*;

    // shows: III-3-2-approved-algorithms, III-3-16-keygen-L1
    #[test]
    fn approval_ends_with_its_last_day() {
        let policy = Policy::built_in().unwrap();
        let last = end_of("2040-12-31").unwrap();
        assert_eq!(last, UnixTime(2_240_611_200));
        let p256 = SigAlg::Ecdsa(HashAlg::Sha256);
        assert!(policy.may_sign(KeyAlg::P256, p256, last.plus(-1)));
        assert!(!policy.may_sign(KeyAlg::P256, p256, last));
        assert!(!policy.may_generate(KeyAlg::P256, last));
        assert!(policy.verify_until(KeyAlg::P256) > Some(last));
        let now = UnixTime(1_780_000_000);
        assert!(!policy.may_sign(KeyAlg::P384, p256, now), "not its hash");
        for key in KeyAlg::ALL {
            assert_eq!(policy.may_generate(key, now), !key.experimental(), "{key}");
        }
        let policy = policy.experiments(true);
        assert!(KeyAlg::ALL.iter().all(|k| policy.may_generate(*k, now)));
        let rsa = KeyAlg::Rsa2048;
        assert!(!policy.may_generate(rsa, end_of("2030-12-31").unwrap()));
    }

    #[test]
    fn tables_that_make_no_sense_are_refused() {
        let table = |key: &str, alg: &str, sign: &str, verify: &str| {
            Policy::parse(&format!(
                r#"{{"version":"1","approved":[{{"key":"{key}","algs":["{alg}"],"sign_until":"{sign}","verify_until":"{verify}"}}]}}"#
            ))
        };
        let good = table("p-256", "ecdsa-sha256", "2030-12-31", "2031-12-31").unwrap();
        assert!(
            !good.may_generate(KeyAlg::Rsa3072, UnixTime(0)),
            "absent is not approved"
        );
        assert!(table("rsa-1024", "rsa-pkcs1-sha256", "2030-12-31", "2031-12-31").is_err());
        assert!(table("p-256", "rsa-pkcs1-sha256", "2030-12-31", "2031-12-31").is_err());
        assert!(table("p-256", "ecdsa-sha256", "2030-12-31", "2029-12-31").is_err());
        assert!(table("p-256", "ecdsa-sha256", "2030-02-30", "2031-12-31").is_err());
        assert!(Policy::parse(r#"{"version":"1","approved":[],"extra":1}"#).is_err());
    }

    // shows: III-3-2-approved-algorithms, T-INS-OPERATOR
    #[test]
    fn a_signed_table_counts_only_from_an_officer_and_unaltered() {
        let (officer, _) = SigningKey::generate().unwrap();
        let (stranger, _) = SigningKey::generate().unwrap();
        let officers = [officer.public().clone()];
        let jws = Policy::sign(BUILT_IN, &officer).unwrap();
        let policy = Policy::signed(&jws, &officers).unwrap();
        assert_eq!(policy.digest(), Policy::built_in().unwrap().digest());
        let unsigned = Err(PolicyError::Unsigned);
        let told = |jws: &str| Policy::signed(jws, &officers).map(|_| ());
        assert_eq!(told(BUILT_IN), unsigned);
        assert_eq!(told(&Policy::sign(BUILT_IN, &stranger).unwrap()), unsigned);
        let later = Policy::sign(&BUILT_IN.replace("2030", "2040"), &stranger).unwrap();
        let (head, tail) = (
            jws.rsplit_once('.').unwrap(),
            later.split('.').nth(1).unwrap(),
        );
        let first = head.0.split('.').next().unwrap();
        assert_eq!(told(&format!("{first}.{tail}.{}", head.1)), unsigned);
        assert!(Policy::sign("{}", &officer).is_err(), "no table");
    }
}
