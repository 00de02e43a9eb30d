//! The comparison of the module's rows with what its log says of them.

use audit_log::{AuditError, Summary as _};
use cm_api::Refusal;
use core_types::{Digest32, KeyId};
use store_kit::{Seen, StoreError, Tx, sql, transaction};

use super::{Ledger, Life};
use crate::attributes::{KeyUse, Tree};
use crate::module::Module;
use crate::store::{self, Failed};

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
    /// Public keys that weren't where duplicates are looked for, and are there again.
    pub unlisted: u64,
    /// Keys that have their public half in common with another one; they aren't used any more.
    pub twice: Vec<KeyId>,
}

impl Scrubbed {
    /// Whether all is as the log says.
    pub fn agrees(&self) -> bool {
        let keys = [&self.set_back, &self.revived, &self.twice];
        self.missing.is_empty() && self.unlisted == 0 && keys.iter().all(|k| k.is_empty())
    }
}

const PAGE: i64 = 500;
/// Public keys that are put back with one commit.
const AT_ONCE: usize = 500;

impl Ledger {
    /// The row or the tombstone of a key was met, with this public half: so it is known also of keys of which no entry tells it.
    fn meet(&mut self, key: &str, spki: Option<Digest32>) {
        if let Some(life) = self.keys.get_mut(key) {
            life.met = true;
            life.spki = life.spki.or(spki);
        }
    }

    /// Where duplicates are looked for, this public half is this key's.
    fn list(&mut self, spki: Digest32, key: &str) {
        if let Some(life) = self.keys.get_mut(key) {
            life.listed |= life.spki == Some(spki);
        }
    }

    /// Keys that live and have no row, and those of whose public half nothing is known yet.
    fn absent(&self) -> Vec<String> {
        let absent = |l: &Life| !l.met && (!l.destroyed || l.spki.is_none());
        let absent = self.keys().filter(|(_, life)| absent(life));
        absent.map(|(key, _)| key.to_owned()).collect()
    }

    /// Whether the log says that this public half is this key's.
    fn has(&self, key: &str, spki: Digest32) -> bool {
        let life = self.keys.get(key);
        life.is_some_and(|life| life.spki == Some(spki))
    }

    /// Public halves that don't stand where duplicates are looked for.
    fn unlisted(&self) -> Vec<(String, Digest32)> {
        let unlisted = self.keys().filter(|(_, life)| !life.listed);
        unlisted
            .filter_map(|(key, life)| Some((key.to_owned(), life.spki?)))
            .collect()
    }
}

impl Module {
    /// Checks the audit log in this store, and compares every row with it. What is found wrong is stopped and alarmed. The
    /// version of every row is remembered, so that an older one that is put back after this is refused at once. To be run
    /// before serving and now and then; reads the whole log.
    ///
    /// # Errors
    /// [`Refusal::NotOperational`] when the store can't be read, and when the log was altered; then the module is in its
    /// error state.
    pub async fn scrub(&self) -> Result<Scrubbed, Refusal> {
        let before = self.sam_version().await;
        // The log first: a row may be newer than what was read of the log, and never older.
        let mut ledger = match self.own_ledger().await {
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
        let errors = self.errors_are_kept(&ledger).await;
        self.whole(errors, "cm-errors-altered").await?;
        self.look_at_kept().await;
        let sam = match before {
            Ok(before) => self.sam_keys_are_kept(&ledger, before).await,
            Err(failed) => Err(failed),
        };
        self.whole(sam, "cm-sam-keys-altered").await?;
        self.logged(ledger.last_order);
        let done = match self.compare(&mut ledger).await {
            Ok(done) => done,
            Err(Failed::Tampered) => return Err(self.altered("cm-rows-altered").await),
            Err(failed) => return Err(self.fail(failed)),
        };
        let stopped = done.set_back.iter().chain(&done.revived);
        for key in stopped.chain(&done.twice) {
            self.seen.note(key.as_str(), Seen::NEVER);
        }
        for (found, what) in [
            (done.set_back.len(), "cm-row-set-back"),
            (done.revived.len(), "cm-row-revived"),
            (done.missing.len(), "cm-row-missing"),
            (
                usize::try_from(done.unlisted).unwrap_or(usize::MAX),
                "cm-public-key-missing",
            ),
            (done.twice.len(), "cm-public-key-twice"),
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

    /// Whether a mark is what the log says.
    async fn whole(&self, kept: Result<bool, Failed>, what: &'static str) -> Result<(), Refusal> {
        match kept {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.altered(what).await),
            Err(Failed::Tampered) => Err(self.altered("cm-rows-altered").await),
            Err(failed) => Err(self.fail(failed)),
        }
    }

    async fn compare(&self, ledger: &mut Ledger) -> Result<Scrubbed, Failed> {
        if let Some(last) = ledger.switched()
            && self.switch.now().serial < last.serial
        {
            self.switch.note(last, last.serial, self.clock.now());
            self.alarm("cm-switch-set-back").await;
        }
        let mut done = Scrubbed::default();
        self.compare_rows(ledger, &mut done).await?;
        self.compare_public_keys(ledger, &mut done).await?;
        Ok(done)
    }

    async fn compare_rows(&self, ledger: &mut Ledger, done: &mut Scrubbed) -> Result<(), Failed> {
        let mut after = String::new();
        loop {
            let mut tx = self.store.read("cm-scrub").await?;
            let ids = page(&mut tx, &after).await?;
            let Some(last) = ids.last().cloned() else {
                break;
            };
            for id in ids {
                let key = KeyId::parse(id.as_str()).map_err(|_| Failed::Tampered)?;
                let life = ledger.life(&id);
                done.keys += 1;
                let mut spki = None;
                if life.destroyed {
                    done.revived.push(key);
                } else {
                    match self.newest(&mut tx, &key).await {
                        Ok(row) if !older(&row.attributes.used, life) => {
                            spki = Some(row.attributes.spki);
                        }
                        // Destroyed since the page was read.
                        Err(Failed::Refused(_)) => {}
                        Err(Failed::Store(error)) => return Err(error.into()),
                        Ok(_) | Err(Failed::Tampered) => done.set_back.push(key),
                    }
                }
                ledger.meet(&id, spki);
            }
            after = last;
        }
        let mut tx = self.store.read("cm-scrub").await?;
        for id in ledger.absent() {
            let key = KeyId::parse(id.as_str()).map_err(|_| Failed::Tampered)?;
            match self.tombstone(&mut tx, &key).await? {
                Some(row) => ledger.meet(&id, Some(row.attributes().spki)),
                None if ledger.life(&id).destroyed => {}
                None => done.missing.push(id),
            }
        }
        Ok(())
    }

    /// The table by which duplicates are refused has no seal. What the log knows and the table doesn't is put back; of two keys
    /// that have one public half neither is anybody's alone.
    async fn compare_public_keys(
        &self,
        ledger: &mut Ledger,
        done: &mut Scrubbed,
    ) -> Result<(), Failed> {
        let mut after = String::new();
        loop {
            let mut tx = self.store.read("cm-scrub").await?;
            let query =
                sql("SELECT spki, key FROM cm_public_key WHERE spki > $1 ORDER BY spki LIMIT $2");
            let rows = tx.fetch_all(query.bind(after.as_str()).bind(PAGE)).await?;
            let Some(last) = rows.last() else {
                break;
            };
            after = last.text("spki")?;
            for row in &rows {
                // What is no digest is no key's.
                if let Ok(spki) = Digest32::parse(&row.text("spki")?) {
                    ledger.list(spki, &row.text("key")?);
                }
            }
        }
        let ledger: &Ledger = ledger;
        for some in ledger.unlisted().chunks(AT_ONCE) {
            let listed: Result<(u64, Vec<String>), Failed> =
                transaction!(self.store, "cm-public-keys", |tx| {
                    let (mut put, mut twice) = (0, Vec::new());
                    for (key, spki) in some {
                        match list(tx, ledger, key, *spki).await? {
                            Some(other) => twice.extend([key.clone(), other]),
                            None => put += 1,
                        }
                    }
                    Ok::<_, Failed>((put, twice))
                });
            let (put, twice) = listed?;
            done.unlisted += put;
            for key in twice {
                let key = KeyId::parse(key).map_err(|_| Failed::Tampered)?;
                if !done.twice.contains(&key) {
                    done.twice.push(key);
                }
            }
        }
        Ok(())
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

/// Has the table by which duplicates are refused say that this public half is this key's. Answers the other key of which it says
/// so, if the log does too.
async fn list(
    tx: &mut Tx,
    ledger: &Ledger,
    key: &str,
    spki: Digest32,
) -> Result<Option<String>, StoreError> {
    match store::holder(tx, spki).await? {
        Some(other) if ledger.has(&other, spki) => return Ok(Some(other)),
        // The table names a key of which the log knows nothing of the kind.
        Some(_) => store::hold(tx, spki, key).await?,
        None => {
            store::first_of_its_kind(tx, spki, key).await?;
        }
    }
    Ok(None)
}

fn older(used: &KeyUse, life: Life) -> bool {
    used.signatures < life.signatures
        || (life.csr && !used.csr)
        || (life.handed_over && !used.handed_over)
        || (life.wrong && !used.wrong)
        || Tree::later(used.checkpoint, life.checkpoint) != used.checkpoint
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
