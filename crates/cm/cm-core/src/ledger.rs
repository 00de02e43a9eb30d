//! What the audit log says of every key, and its comparison with the rows: a row that was set back, taken away or put
//! back is found here even if this process has never seen the newer one (`sap.md` §9).
//!
//! The log is protected by what lies outside the database: signed checkpoints and their witness. A restore takes the
//! same facts from a verified export.

use std::collections::HashMap;

use cm_api::Refusal;
use core_types::{Digest32, KeyId, UnixTime};
use serde::Deserialize;
use store_kit::{Seen, Tx, sql};

use crate::module::Module;
use crate::store::{self, Failed};
use crate::switch::Switched;

/// Facts from the log. Feed it every entry, in any order.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    keys: HashMap<String, Life>,
    orders: HashMap<Digest32, UnixTime>,
    backups: Vec<Digest32>,
    switched: Option<Switched>,
}

/// What was done with a key.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Life {
    pub(crate) made: bool,
    pub(crate) signatures: u64,
    pub(crate) csr: bool,
    pub(crate) handed_over: bool,
    pub(crate) destroyed: bool,
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
    backup: Option<Digest32>,
    serial: Option<u64>,
    to: Option<String>,
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
        if entry.kind == "cm.switched" {
            let serial = entry.detail.serial.ok_or(NotAnEntry)?;
            let enabled = entry.detail.to.as_deref() == Some("enabled");
            if self.switched.is_none_or(|s| s.serial <= serial) {
                self.switched = Some(Switched { serial, enabled });
            }
        }
        if entry.kind == "cm.backup-made" {
            self.backups.extend(entry.detail.backup);
        }
        let Some(key) = entry.detail.key else {
            return Ok(());
        };
        let life = self.keys.entry(key).or_default();
        match entry.kind.as_str() {
            "key.generated" | "key.imported" => life.made = true,
            "key.used" => life.signatures += entry.detail.count.ok_or(NotAnEntry)?,
            "key.csr-signed" => life.csr = true,
            "key.handed-over" => life.handed_over = true,
            "key.destroyed" => life.destroyed = true,
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

    /// Whether this backup was made by the module whose log this is, before its end.
    pub(crate) fn has_backup(&self, id: Digest32) -> bool {
        self.backups.contains(&id)
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
    /// Compares every row with the audit log in this store. What is found wrong is stopped and alarmed. To be run at
    /// start and now and then; reads the whole log.
    ///
    /// # Errors
    /// [`Refusal::NotOperational`] when the store can't be read.
    pub async fn scrub(&self) -> Result<Scrubbed, Refusal> {
        let done = self.try_scrub().await.map_err(|failed| self.fail(failed))?;
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

    async fn try_scrub(&self) -> Result<Scrubbed, Failed> {
        // The log first: a row may be newer than what was read of the log, and never older.
        let ledger = self.own_ledger().await?;
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

    /// What this store's own log says.
    async fn own_ledger(&self) -> Result<Ledger, Failed> {
        let mut ledger = Ledger::default();
        let (mut node, mut n) = (String::new(), 0);
        loop {
            let mut tx = self.store.read("cm-ledger").await?;
            let query = sql(
                "SELECT node, n, body FROM audit_entry WHERE (kind LIKE 'key.%' OR kind = 'cm.switched') AND (node > $1 OR (node = $1 AND n > $2)) \
                 ORDER BY node, n LIMIT $3",
            );
            let rows = tx
                .fetch_all(query.bind(node.as_str()).bind(n).bind(PAGE))
                .await?;
            let Some(last) = rows.last() else {
                return Ok(ledger);
            };
            (node, n) = (last.text("node")?, last.int("n")?);
            for row in &rows {
                let read = ledger.read(&row.text("body")?);
                read.map_err(|_| Failed::Tampered)?;
            }
        }
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
}
