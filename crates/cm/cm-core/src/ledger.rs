//! What the audit log says of every key, and its comparison with the rows: a row that was set back, taken away or put
//! back is found here even if this process has never seen the newer one (`sap.md` §9).
//!
//! The log is protected by what lies outside the database: signed checkpoints and their witness. A restore takes the
//! same facts from a verified export.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cm_api::Order;
use cm_api::order::MAX_ATTEMPTS;
use core_types::{DestroyCause, Digest32, UnixTime};
use serde::{Deserialize, Serialize};

use crate::attributes::Tree;
use crate::office::InOffice;
use crate::switch::Switched;

mod compare;
mod sam;
mod summary;

pub use compare::Scrubbed;
pub(crate) use sam::SamTold;

/// Facts from the log. Feed it every entry, in any order.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    keys: HashMap<String, Life>,
    orders: HashMap<Digest32, UnixTime>,
    /// When the last order was executed that the log knows by its name.
    last_order: Option<UnixTime>,
    /// Names of backups, and the digests over them.
    backups: HashMap<Digest32, Option<Digest32>>,
    switched: Option<Switched>,
    algorithms: Option<InForce>,
    /// Every list of officers that was in force, by its version; two under one version are one too many.
    officers: BTreeMap<u64, BTreeSet<InOffice>>,
    sam: SamTold,
    /// Errors that outlast the process: how often more each began than it ended.
    errors: BTreeMap<Digest32, i64>,
}

/// A table of algorithms that was in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InForce {
    pub(crate) version: u64,
    pub(crate) table: Digest32,
    pub(crate) officers: u64,
}

/// What was done with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Life {
    pub(crate) made: bool,
    pub(crate) signatures: u64,
    pub(crate) csr: bool,
    pub(crate) handed_over: bool,
    pub(crate) wrong: bool,
    pub(crate) destroyed: bool,
    /// The last tree that it signed as a log key.
    pub(crate) checkpoint: Option<Tree>,
    /// How it was destroyed, if that was in the time of this log.
    pub(crate) end: Option<End>,
    /// SHA-256 of its SubjectPublicKeyInfo; nothing where only what an earlier build noted tells of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) spki: Option<Digest32>,
    /// Of one comparison: its row was met.
    #[serde(skip)]
    met: bool,
    /// Of one comparison: its public key stands where duplicates are looked for.
    #[serde(skip)]
    listed: bool,
}

/// The end of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct End {
    pub(crate) at: UnixTime,
    pub(crate) act: Digest32,
    pub(crate) cause: DestroyCause,
}

/// An entry of a log that isn't one of this module's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an entry of a module's audit log")]
pub struct NotAnEntry;

#[derive(Deserialize)]
struct Entry {
    zone: String,
    at: UnixTime,
    kind: String,
    #[serde(default)]
    detail: Detail,
}

#[derive(Default, Deserialize)]
struct Detail {
    key: Option<String>,
    count: Option<u64>,
    order: Option<Digest32>,
    ceremony: Option<Digest32>,
    act: Option<Digest32>,
    step: Option<u32>,
    attempt: Option<u32>,
    backup: Option<Digest32>,
    digest: Option<Digest32>,
    reason: Option<serde_json::Value>,
    spki: Option<Digest32>,
    signatures: Option<u64>,
    #[serde(default)]
    csr: bool,
    #[serde(default)]
    handed_over: bool,
    #[serde(default)]
    wrong: bool,
    #[serde(default)]
    destroyed: bool,
    serial: Option<u64>,
    to: Option<String>,
    /// A number for a table of algorithms, a text for a program.
    version: Option<serde_json::Value>,
    table: Option<Digest32>,
    #[serde(default)]
    officers: u64,
    list: Option<Digest32>,
    persons: Option<u64>,
    size: Option<u64>,
    root: Option<Digest32>,
    error: Option<Digest32>,
    act_key: Option<Digest32>,
    by: Option<serde_json::Value>,
}

impl Ledger {
    /// Takes note of an entry: its text, as the log has it.
    ///
    /// # Errors
    /// [`NotAnEntry`].
    pub fn read(&mut self, body: &str) -> Result<(), NotAnEntry> {
        let entry: Entry = serde_json::from_str(body).map_err(|_| NotAnEntry)?;
        if entry.zone != "cm" {
            return Err(NotAnEntry);
        }
        if let Some(order) = entry.detail.order {
            self.orders.insert(order, entry.at);
        }
        // A name that is taken as those of orders are.
        if let Some(ceremony) = entry.detail.ceremony {
            self.orders.insert(ceremony, entry.at);
        }
        if matches!(entry.kind.as_str(), "key.used" | "cm.order-admitted") {
            self.last_order = self.last_order.max(Some(entry.at));
        }
        if entry.kind == "cm.switched" {
            let serial = entry.detail.serial.ok_or(NotAnEntry)?;
            let enabled = matches!(entry.detail.to.as_deref(), Some("enabled" | "recovered"));
            if self.switched.is_none_or(|s| s.serial <= serial) {
                self.switched = Some(Switched { serial, enabled });
            }
        }
        if entry.kind == "cm.algorithms-in-force" {
            let version = entry.detail.version.as_ref();
            let told = InForce {
                version: version.and_then(|v| v.as_u64()).ok_or(NotAnEntry)?,
                table: entry.detail.table.ok_or(NotAnEntry)?,
                officers: entry.detail.officers,
            };
            if self
                .algorithms
                .is_none_or(|last| last.version < told.version)
            {
                self.algorithms = Some(told);
            }
        }
        if entry.kind == "cm.officers-in-force" {
            let version = entry.detail.version.as_ref();
            let told = InOffice {
                version: version.and_then(|v| v.as_u64()).ok_or(NotAnEntry)?,
                list: entry.detail.list.ok_or(NotAnEntry)?,
                persons: entry.detail.persons.ok_or(NotAnEntry)?,
            };
            self.officers.entry(told.version).or_default().insert(told);
        }
        if let Some(key) = entry.detail.act_key {
            match entry.kind.as_str() {
                "cm.sam-key-taken" => {
                    let vouched = entry.detail.by.is_some();
                    self.sam.take(key, entry.at, vouched);
                }
                "cm.statement-signed" => self.sam.sign(key, entry.at),
                _ => {}
            }
        }
        if let Some(error) = entry.detail.error {
            let begun = self.errors.entry(error).or_default();
            match entry.kind.as_str() {
                "cm.error-kept" => *begun += 1,
                "cm.error-ended" => *begun -= 1,
                _ => {}
            }
        }
        // With an order went the names of all earlier attempts.
        if let (Some(act), Some(step), Some(attempt)) =
            (entry.detail.act, entry.detail.step, entry.detail.attempt)
        {
            for earlier in 0..attempt.min(MAX_ATTEMPTS) {
                self.orders
                    .insert(Order::name(act, step, earlier), entry.at);
            }
        }
        if entry.kind == "cm.backup-made" {
            let backup = entry.detail.backup.ok_or(NotAnEntry)?;
            self.backups.insert(backup, entry.detail.digest);
        }
        let detail = entry.detail;
        let Some(key) = detail.key else {
            return Ok(());
        };
        let life = self.keys.entry(key).or_default();
        life.spki = life.spki.or(detail.spki);
        match entry.kind.as_str() {
            "key.generated" | "key.imported" => life.made = true,
            "key.used" => life.signatures += detail.count.ok_or(NotAnEntry)?,
            "key.csr-signed" => life.csr = true,
            "key.handed-over" => life.handed_over = true,
            "key.suspended" => life.wrong = true,
            "cm.checkpoint-signed" => {
                let tree = Tree {
                    size: detail.size.ok_or(NotAnEntry)?,
                    root: detail.root.ok_or(NotAnEntry)?,
                };
                life.checkpoint = Tree::later(life.checkpoint, Some(tree));
            }
            "key.destroyed" => {
                let cause = serde_json::from_value(detail.reason.ok_or(NotAnEntry)?);
                life.destroyed = true;
                life.end = Some(End {
                    at: entry.at,
                    act: detail.act.ok_or(NotAnEntry)?,
                    cause: cause.map_err(|_| NotAnEntry)?,
                });
            }
            "key.not-restored" => life.destroyed = true,
            "key.restored" if detail.destroyed => life.destroyed = true,
            "key.restored" => {
                life.made = true;
                life.signatures += detail.signatures.ok_or(NotAnEntry)?;
                life.csr |= detail.csr;
                life.handed_over |= detail.handed_over;
                life.wrong |= detail.wrong;
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn life(&self, key: &str) -> Life {
        self.keys.get(key).copied().unwrap_or_default()
    }

    /// What two officers decided last.
    pub(crate) fn switched(&self) -> Option<Switched> {
        self.switched
    }

    /// The last table of algorithms that was in force.
    pub(crate) fn algorithms(&self) -> Option<InForce> {
        self.algorithms
    }

    /// The last list of officers; none if there were two under one version, which no module writes.
    pub(crate) fn officers(&self) -> Option<InOffice> {
        let one = |lists: &BTreeSet<InOffice>| lists.len() == 1;
        let (_, last) = self.officers.last_key_value()?;
        let good = self.officers.values().all(one);
        last.first().filter(|_| good).copied()
    }

    /// Act keys of the SAM.
    pub(crate) fn sam(&self) -> &SamTold {
        &self.sam
    }

    /// Errors that nobody has ended.
    pub(crate) fn errors(&self) -> impl Iterator<Item = Digest32> {
        let open = self.errors.iter().filter(|(_, begun)| **begun > 0);
        open.map(|(error, _)| *error)
    }

    /// Whether this error is over.
    pub(crate) fn ended(&self, error: Digest32) -> bool {
        self.errors.get(&error).is_some_and(|begun| *begun <= 0)
    }

    /// The digest over this backup, if it was made by the module whose log this is, before its end.
    pub(crate) fn backup(&self, id: Digest32) -> Option<Digest32> {
        self.backups.get(&id).copied().flatten()
    }

    /// Every key that was made, whatever became of it.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&str, &Life)> {
        let made = self.keys.iter().filter(|(_, l)| l.made || l.destroyed);
        made.map(|(key, life)| (key.as_str(), life))
    }

    /// Orders that were admitted, and when.
    pub(crate) fn orders(&self) -> impl Iterator<Item = (&Digest32, &UnixTime)> {
        self.orders.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // shows: T-USE-SAP-REPLAY
    #[test]
    fn an_order_in_the_log_spends_the_attempts_before_it() {
        let mut ledger = Ledger::default();
        let (act, other) = (Digest32([1; 32]), Digest32([2; 32]));
        let entry = format!(
            r#"{{"zone":"cm","at":7,"kind":"key.used","detail":{{"key":"k","count":1,"act":"{act}","order":"{other}","step":3,"attempt":1}}}}"#
        );
        ledger.read(&entry).unwrap();
        let spent: Vec<_> = ledger.orders().map(|(order, _)| *order).collect();
        assert_eq!(spent.len(), 2);
        assert!(spent.contains(&Order::name(act, 3, 0)) && spent.contains(&other));
    }

    // shows: T-REG-IMP-DUPLICATE
    #[test]
    fn the_public_half_of_every_key_is_known_whatever_became_of_it() {
        let spki = Digest32([7; 32]);
        let told = [
            ("key.generated", ""),
            ("key.imported", ""),
            ("key.restored", r#""signatures":0,"destroyed":true,"#),
            ("key.restored", r#""signatures":0,"#),
            ("key.not-restored", ""),
        ];
        for (kind, more) in told {
            let mut ledger = Ledger::default();
            let entry = format!(
                r#"{{"zone":"cm","at":7,"kind":"{kind}","detail":{{{more}"key":"k","spki":"{spki}"}}}}"#
            );
            ledger.read(&entry).unwrap();
            let keys: Vec<_> = ledger.keys().collect();
            assert!(
                matches!(keys[..], [("k", life)] if life.spki == Some(spki)),
                "{kind}"
            );
        }
        let mut ledger = Ledger::default();
        let entry = format!(
            r#"{{"zone":"cm","at":7,"kind":"key.not-restored","detail":{{"key":"k","spki":"{spki}"}}}}"#
        );
        ledger.read(&entry).unwrap();
        let gone = ledger.life("k").destroyed;
        assert!(gone, "its row, if somebody has it, is none");
    }
}
