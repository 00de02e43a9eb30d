//! What the audit log says of every key, and its comparison with the rows: a row that was set back, taken away or put
//! back is found here even if this process has never seen the newer one (`sap.md` §9).
//!
//! The log is protected by what lies outside the database: signed checkpoints and their witness. A restore takes the
//! same facts from a verified export.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use audit_log::{AuditError, Summary as _};
use cm_api::order::MAX_ATTEMPTS;
use cm_api::{Order, Refusal};
use core_types::{DestroyCause, Digest32, KeyId, UnixTime};
use serde::{Deserialize, Serialize};
use store_kit::{Seen, Tx, sql};

use crate::attributes::Tree;
use crate::module::Module;
use crate::office::InOffice;
use crate::store::{self, Failed};
use crate::switch::Switched;

mod summary;

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
    /// Act keys of the SAM, and when each was taken.
    sam_keys: HashMap<Digest32, UnixTime>,
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
        if entry.kind == "cm.sam-key-taken" {
            let key = entry.detail.act_key.ok_or(NotAnEntry)?;
            self.sam_keys.insert(key, entry.at);
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

    pub(crate) fn life(&self, key: &KeyId) -> Life {
        self.keys.get(key.as_str()).copied().unwrap_or_default()
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

    /// Act keys of the SAM, the newest last.
    pub(crate) fn sam_keys(&self) -> impl Iterator<Item = Digest32> {
        let mut keys: Vec<_> = self.sam_keys.iter().collect();
        keys.sort_unstable_by_key(|(key, at)| (**at, **key));
        keys.into_iter().map(|(key, _)| *key)
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

    /// Names of keys that were made and not destroyed.
    pub(crate) fn alive(&self) -> impl Iterator<Item = &str> {
        let alive = self.keys.iter().filter(|(_, l)| l.made && !l.destroyed);
        alive.map(|(key, _)| key.as_str())
    }

    /// Orders that were admitted, and when.
    pub(crate) fn orders(&self) -> impl Iterator<Item = (&Digest32, &UnixTime)> {
        self.orders.iter()
    }
}

/// What the comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Rows that were compared.
    pub keys: u64,
    /// Rows that don't open, or are older than the log says; these keys aren't used any more.
    pub set_back: Vec<KeyId>,
    /// Rows of keys that are destroyed.
    pub revived: Vec<KeyId>,
    /// Keys whose row is gone.
    pub missing: Vec<String>,
}

const PAGE: i64 = 500;

impl Module {
    /// Checks the audit log in this store, and compares every row with it. What is found wrong is stopped and alarmed. To
    /// be run before serving and now and then; reads the whole log.
    ///
    /// # Errors
    /// [`Refusal::NotOperational`] when the store can't be read, and when the log was altered; then the module is in its
    /// error state.
    pub async fn scrub(&self) -> Result<Scrubbed, Refusal> {
        // The log first: a row may be newer than what was read of the log, and never older.
        let ledger = match self.own_ledger().await {
            Ok(ledger) => ledger,
            Err(AuditError::Store(error)) => return Err(self.fail(error.into())),
            Err(error) => {
                tracing::error!(%error, "the module's audit log isn't what the module wrote");
                return Err(self.altered("cm-log-altered").await);
            }
        };
        // The mark that refuses an older table was set back or taken away, or another node has a later table since.
        let own = (self.policy.version(), self.policy.table());
        let last = ledger.algorithms().map(|last| (last.version, last.table));
        if last != Some(own) {
            return Err(self.altered("cm-algorithms-older").await);
        }
        // The same of the officers: their row was set back or taken away, or another node has a later list since.
        if ledger.officers() != Some(self.in_office) {
            return Err(self.altered("cm-officers-altered").await);
        }
        match self.errors_are_kept(&ledger).await {
            Ok(true) => {}
            Ok(false) => return Err(self.altered("cm-errors-altered").await),
            Err(Failed::Tampered) => return Err(self.altered("cm-rows-altered").await),
            Err(failed) => return Err(self.fail(failed)),
        }
        self.logged(ledger.last_order);
        let done = match self.compare(&ledger).await {
            Ok(done) => done,
            Err(Failed::Tampered) => return Err(self.altered("cm-rows-altered").await),
            Err(failed) => return Err(self.fail(failed)),
        };
        for key in done.set_back.iter().chain(&done.revived) {
            self.seen.note(key.as_str(), Seen::NEVER);
        }
        for (found, what) in [
            (done.set_back.len(), "cm-row-set-back"),
            (done.revived.len(), "cm-row-revived"),
            (done.missing.len(), "cm-row-missing"),
        ] {
            if found > 0 {
                tracing::error!(
                    found,
                    what,
                    "rows of the module don't agree with its audit log"
                );
                self.alarm(what).await;
            }
        }
        Ok(done)
    }

    async fn compare(&self, ledger: &Ledger) -> Result<Scrubbed, Failed> {
        if let Some(last) = ledger.switched()
            && self.switch.now().serial < last.serial
        {
            self.switch.note(last, last.serial, self.clock.now());
            self.alarm("cm-switch-set-back").await;
        }
        let mut done = Scrubbed::default();
        let mut here = std::collections::HashSet::new();
        let mut after = String::new();
        loop {
            let mut tx = self.store.read("cm-scrub").await?;
            let ids = page(&mut tx, &after).await?;
            let Some(last) = ids.last().cloned() else {
                break;
            };
            for id in ids {
                let key = KeyId::parse(id.as_str()).map_err(|_| Failed::Tampered)?;
                let life = ledger.life(&key);
                done.keys += 1;
                if life.destroyed {
                    done.revived.push(key);
                } else {
                    match store::load_key(&mut tx, &self.vault, &key).await {
                        Ok(row) if !older(&row.attributes.used, life) => {}
                        // Destroyed since the page was read.
                        Err(Failed::Refused(_)) => {}
                        Err(Failed::Store(error)) => return Err(error.into()),
                        Ok(_) | Err(Failed::Tampered) => done.set_back.push(key),
                    }
                }
                here.insert(id);
            }
            after = last;
        }
        let mut tx = self.store.read("cm-scrub").await?;
        for id in ledger.alive().filter(|id| !here.contains(*id)) {
            let key = KeyId::parse(id).map_err(|_| Failed::Tampered)?;
            if self.tombstone(&mut tx, &key).await?.is_none() {
                done.missing.push(id.to_owned());
            }
        }
        Ok(done)
    }

    /// What this store's own log says, with every chain code and the tree computed anew. Which columns beside the entries
    /// claim what isn't looked at.
    async fn own_ledger(&self) -> Result<Ledger, AuditError> {
        let mut ledger = Ledger::default();
        let read = audit_log::read_back(&self.audit, &self.store, |told| ledger.take(told));
        read.await?;
        Ok(ledger)
    }

    /// Something that is written by the module alone was written by somebody else: nothing can be told any more, so that
    /// nothing is executed until a restart finds all in order.
    async fn altered(&self, what: &'static str) -> Refusal {
        self.alarm(what).await;
        self.latch_here(what).await;
        Refusal::NotOperational
    }
}

async fn page(tx: &mut Tx, after: &str) -> Result<Vec<String>, Failed> {
    let query = sql("SELECT id FROM cm_key WHERE id > $1 ORDER BY id LIMIT $2");
    let rows = tx.fetch_all(query.bind(after).bind(PAGE)).await?;
    rows.iter().map(|row| Ok(row.text("id")?)).collect()
}

fn older(used: &crate::attributes::KeyUse, life: Life) -> bool {
    used.signatures < life.signatures
        || (life.csr && !used.csr)
        || (life.handed_over && !used.handed_over)
        || (life.wrong && !used.wrong)
        || Tree::later(used.checkpoint, life.checkpoint) != used.checkpoint
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::KeyUse;

    // shows: T-KEY-ATTR-ALTER, III-3-3-key-attribute-integrity
    #[test]
    fn a_row_that_knows_less_than_the_log_is_older() {
        let (used, life) = (KeyUse::default(), Life::default());
        assert!(!older(&used, life));
        for newer in [
            Life {
                signatures: 1,
                ..life
            },
            Life { csr: true, ..life },
            Life {
                handed_over: true,
                ..life
            },
            Life {
                wrong: true,
                ..life
            },
            Life {
                checkpoint: Some(Tree {
                    size: 0,
                    root: Digest32([1; 32]),
                }),
                ..life
            },
        ] {
            assert!(older(&used, newer), "{newer:?}");
        }
    }

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
}
