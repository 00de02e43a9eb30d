//! Which algorithms are approved, and until when: a table that is data (`III-3-2-approved-algorithms`).
//!
//! The table that comes with the programs holds dates that its authors think prudent for the strength of each algorithm
//! (112 bits: sign to the end of 2030; 128 bits: 2040; 192 bits: 2050); who relies on it compares them with the current
//! CRYPTREC list. An algorithm that isn't in the table is not approved.

use serde::Deserialize;
use time::Date;
use time::macros::format_description;

use crate::{Digest32, KeyAlg, SigAlg, UnixTime, sha256};

/// The table that comes with the programs.
const BUILT_IN: &str = include_str!("approval.json");
/// Longest table in bytes: the one that comes with the programs takes a twentieth.
const LONGEST: usize = 64 * 1024;

/// A table of approved algorithms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approvals {
    version: u64,
    rows: Vec<Row>,
    text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
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
    version: u64,
    approved: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    key: KeyAlg,
    algs: Vec<SigAlg>,
    sign_until: String,
    verify_until: String,
    /// What the approval rests on: law, list and its date. For those who read the table; the module only sees that it is there.
    basis: String,
    /// Only with the experimental switch.
    #[serde(default)]
    experimental: bool,
}

/// A table that can't be used; its author's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// Not JSON of the prescribed form.
    #[error("the table of algorithms can't be read: {0}")]
    Malformed(String),
    /// A date that isn't one.
    #[error("the table of algorithms has a date that isn't YYYY-MM-DD: {0:?}")]
    Date(String),
    /// Rows that contradict themselves or each other.
    #[error("the table of algorithms contradicts itself about {0}")]
    Contradiction(KeyAlg),
    /// A row that doesn't say what it rests on.
    #[error("the table of algorithms doesn't say what the approval of {0} rests on (basis)")]
    NoBasis(KeyAlg),
}

/// The table that comes with the programs. If it couldn't be read, nothing would be approved.
impl Default for Approvals {
    fn default() -> Self {
        Self::built_in().unwrap_or(Self {
            version: 0,
            rows: Vec::new(),
            text: String::new(),
        })
    }
}

impl Approvals {
    /// The table that comes with the programs.
    ///
    /// # Errors
    /// [`ApprovalError`] never, as long as its test passes.
    pub fn built_in() -> Result<Self, ApprovalError> {
        Self::parse(BUILT_IN)
    }

    /// Reads a table (JSON).
    ///
    /// # Errors
    /// [`ApprovalError`].
    pub fn parse(text: &str) -> Result<Self, ApprovalError> {
        if text.len() > LONGEST {
            return Err(ApprovalError::Malformed("it is too long".to_owned()));
        }
        let file: File =
            serde_json::from_str(text).map_err(|e| ApprovalError::Malformed(e.to_string()))?;
        let mut rows: Vec<Row> = Vec::new();
        for entry in file.approved {
            if entry.basis.trim().is_empty() {
                return Err(ApprovalError::NoBasis(entry.key));
            }
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
                return Err(ApprovalError::Contradiction(row.key));
            }
            rows.push(row);
        }
        Ok(Self {
            version: file.version,
            rows,
            text: text.to_owned(),
        })
    }

    /// Version; a later table has a higher one.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The table's text, as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the text.
    pub fn digest(&self) -> Digest32 {
        sha256(&[self.text.as_bytes()])
    }

    /// First second at which keys of this kind don't sign any more, with any of these algorithms or with `alg`. With
    /// `experiments` rows that are experimental count, too.
    pub fn sign_until(
        &self,
        key: KeyAlg,
        alg: Option<SigAlg>,
        experiments: bool,
    ) -> Option<UnixTime> {
        let row = self.row(key)?;
        let good = (experiments || !row.experimental) && alg.is_none_or(|a| row.algs.contains(&a));
        good.then_some(row.sign_until)
    }

    /// First second at which a signature of such a key is no longer to be trusted without other proof of its time.
    pub fn verify_until(&self, key: KeyAlg) -> Option<UnixTime> {
        self.row(key).map(|row| row.verify_until)
    }

    /// Whether a signature of such a key that is proved to have existed at `time` is to be trusted.
    pub fn may_verify(&self, key: KeyAlg, time: UnixTime) -> bool {
        self.verify_until(key).is_some_and(|end| time < end)
    }

    /// Whether this table approves anything that `before` doesn't, or for longer.
    pub fn loosens(&self, before: &Self) -> bool {
        self.rows.iter().any(|row| {
            before.row(row.key).is_none_or(|old| {
                row.sign_until > old.sign_until
                    || row.verify_until > old.verify_until
                    || (old.experimental && !row.experimental)
                    || row.algs.iter().any(|alg| !old.algs.contains(alg))
            })
        })
    }

    fn row(&self, key: KeyAlg) -> Option<&Row> {
        self.rows.iter().find(|row| row.key == key)
    }
}

/// The first second after this day, UTC.
fn end_of(day: &str) -> Result<UnixTime, ApprovalError> {
    let parsed = Date::parse(day, format_description!("[year]-[month]-[day]")).ok();
    let next = parsed.and_then(Date::next_day);
    next.map(|d| UnixTime(d.midnight().assume_utc().unix_timestamp()))
        .ok_or_else(|| ApprovalError::Date(day.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HashAlg;

    // shows: III-3-2-approved-algorithms
    #[test]
    fn approval_ends_with_its_last_day() {
        let table = Approvals::built_in().unwrap();
        assert_eq!(Approvals::default(), table);
        let last = end_of("2040-12-31").unwrap();
        assert_eq!(last, UnixTime(2_240_611_200));
        let p256 = SigAlg::Ecdsa(HashAlg::Sha256);
        assert_eq!(
            table.sign_until(KeyAlg::P256, Some(p256), false),
            Some(last)
        );
        assert_eq!(table.sign_until(KeyAlg::P384, Some(p256), false), None);
        for key in KeyAlg::ALL {
            let usual = table.sign_until(key, None, false);
            assert_eq!(usual.is_none(), key.experimental(), "{key}");
            assert!(table.sign_until(key, None, true).is_some());
        }
        let end = end_of("2050-12-31").unwrap();
        assert!(table.may_verify(KeyAlg::P256, end.plus(-1)));
        assert!(!table.may_verify(KeyAlg::P256, end));
    }

    fn table(key: &str, alg: &str, sign: &str, verify: &str) -> Result<Approvals, ApprovalError> {
        Approvals::parse(&format!(
            r#"{{"version":1,"approved":[{{"key":"{key}","basis":"a list","algs":["{alg}"],"sign_until":"{sign}","verify_until":"{verify}"}}]}}"#
        ))
    }

    #[test]
    fn tables_that_make_no_sense_are_refused() {
        let good = table("p-256", "ecdsa-sha256", "2030-12-31", "2031-12-31").unwrap();
        assert_eq!(good.sign_until(KeyAlg::Rsa3072, None, true), None);
        assert!(!good.may_verify(KeyAlg::Rsa3072, UnixTime(0)), "absent");
        assert!(table("rsa-1024", "rsa-pkcs1-sha256", "2030-12-31", "2031-12-31").is_err());
        assert!(table("p-256", "rsa-pkcs1-sha256", "2030-12-31", "2031-12-31").is_err());
        assert!(table("p-256", "ecdsa-sha256", "2030-12-31", "2029-12-31").is_err());
        assert!(table("p-256", "ecdsa-sha256", "2030-02-30", "2031-12-31").is_err());
        assert!(Approvals::parse(r#"{"version":1,"approved":[],"extra":1}"#).is_err());
        let row =
            r#""algs":["ecdsa-sha256"],"sign_until":"2030-12-31","verify_until":"2031-12-31""#;
        let said = |basis: &str| {
            Approvals::parse(&format!(
                r#"{{"version":1,"approved":[{{"key":"p-256",{basis}{row}}}]}}"#
            ))
        };
        assert!(said(r#""basis":"a law","#).is_ok());
        let none = Err(ApprovalError::NoBasis(KeyAlg::P256));
        assert_eq!(said(r#""basis":" ","#), none);
        assert!(said("").is_err(), "missing");
        assert!(Approvals::parse(r#"{"version":-1,"approved":[]}"#).is_err());
        let long = format!(r#"{{"version":1,"approved":[]}}{}"#, " ".repeat(LONGEST));
        assert!(Approvals::parse(&long).is_err());
    }

    #[test]
    fn what_a_table_allows_more_is_seen() {
        let of = |sign, verify| table("p-256", "ecdsa-sha256", sign, verify).unwrap();
        let before = of("2030-12-31", "2040-12-31");
        assert!(!before.loosens(&before));
        assert!(!of("2029-12-31", "2040-12-31").loosens(&before));
        assert!(!of("2030-12-31", "2039-12-31").loosens(&before));
        assert!(of("2031-12-31", "2040-12-31").loosens(&before));
        assert!(of("2030-12-31", "2041-12-31").loosens(&before));
        assert!(
            Approvals::built_in().unwrap().loosens(&before),
            "other keys"
        );
        let experimental = BUILT_IN.replace(
            "\"2040-12-31\", \"verify",
            "\"2040-12-31\", \"experimental\": true, \"verify",
        );
        let experimental = Approvals::parse(&experimental).unwrap();
        assert!(Approvals::default().loosens(&experimental));
        assert!(!experimental.loosens(&Approvals::default()));
        let fewer = BUILT_IN.replacen("\"rsa-pkcs1-sha256\", ", "", 1);
        assert!(Approvals::default().loosens(&Approvals::parse(&fewer).unwrap()));
    }
}
