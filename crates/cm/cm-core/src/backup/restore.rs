//! A restore: into an empty store, in one transaction, by what the old log says.

use std::collections::HashSet;
use std::io::BufRead;
use std::sync::Arc;

use audit_log::{AuditLog, Event};
use cm_api::restore::{MAX_RESTORE_LIFE, TYP_RESTORE};
use cm_api::switch::OFFICERS;
use core_types::random::SystemRandom;
use core_types::words::is_reason;
use core_types::{Digest32, KeyId, Level, Random, UnixTime, sha256};
use serde::Serialize;
use store_kit::{Store, StoreError, Tx, sql, transaction};

use super::{BackupError, Head, Item, ROOT, read, root_key, there};
use crate::admit::CLOCKS_DIFFER;
use crate::approvals;
use crate::attributes::{KeyAttributes, Tree};
use crate::backend::Backend;
use crate::destroy::{self, Burial};
use crate::ledger::Ledger;
use crate::mark;
use crate::office::{Keeper, Office, can_approve};
use crate::officers::by_two;
use crate::store::{self, Failed, KeyRow};
use crate::switch::{self, Switched};
use crate::vault::{RootSecret, Vault};

/// What a restore did, and what it refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// Keys that came back.
    pub keys: u64,
    /// Those of them that the device can't use: it hasn't the key, or not the wrapping key that it is under.
    pub unusable: Vec<KeyId>,
    /// How many of them the device was asked for in vain, since it is away.
    pub unasked: u64,
    /// Keys that were destroyed after the backup, or while it was made, and stay so.
    pub refused_destroyed: Vec<KeyId>,
    /// Keys whose counters were set forward to what the log says.
    pub set_forward: Vec<KeyId>,
    /// Keys made after the backup: they can't be brought back.
    pub lost: Vec<String>,
    /// Orders that are spent.
    pub orders: u64,
}

impl RestoreReport {
    /// How many keys are usable again, by what the device says.
    pub fn usable(&self) -> u64 {
        let unusable = u64::try_from(self.unusable.len()).unwrap_or(u64::MAX);
        self.keys
            .saturating_sub(unusable)
            .saturating_sub(self.unasked)
    }
}

/// What a restore needs beside backup, root secret and log.
pub struct Restoring<'r> {
    /// Name of the node in the new audit log.
    pub node: &'r str,
    /// Time.
    pub now: UnixTime,
    /// Days for which copies are kept, as in [`crate::ModuleConfig`].
    pub copies_kept_days: u32,
    /// The back end that the module is going to have. Its device is asked in the end for each key that came back, and does nothing
    /// else.
    pub backend: &'r dyn Backend,
    /// Randomness.
    pub random: &'r dyn Random,
    /// Approvals of two officers, where the module had officers when the backup was made.
    pub approvals: &'r [String],
}

/// What an approval names an empty store by: another one when the store is made anew or copied.
///
/// # Errors
/// [`StoreError`].
pub async fn target(store: &Store) -> Result<Digest32, StoreError> {
    Ok(target_of(&store.epoch_source().await?))
}

fn target_of(source: &[u8]) -> Digest32 {
    sha256(&[b"natsuin-cm-target-v1\n", source])
}

/// Whether two officers of the module approved this; answers what is to be recorded.
fn approved(
    head: &Head,
    backup: Digest32,
    target: Digest32,
    with: &Restoring<'_>,
) -> Result<Option<(Digest32, [Digest32; OFFICERS])>, BackupError> {
    if !can_approve(&head.officers) {
        // Above level 1 no module runs so, and so no backup of one is like that.
        return match with.backend.ceiling() > Level::One {
            true => Err(BackupError::NoOfficers),
            false => Ok(None),
        };
    }
    let no = |_| BackupError::NotApproved;
    let approved = by_two(&head.officers, with.approvals, TYP_RESTORE).map_err(no)?;
    let payload = approved.payload;
    let wanted: cm_api::restore::Restore =
        serde_json::from_slice(&payload).map_err(|_| BackupError::NotApproved)?;
    let this = wanted.sam == head.sam
        && wanted.root == head.root.kid()
        && wanted.backup == backup
        && wanted.target == target
        && is_reason(&wanted.reason)
        && with.now < wanted.exp
        && wanted.exp <= with.now.plus(MAX_RESTORE_LIFE);
    let act = sha256(&[b"natsuin-cm-restore-v1\n", &payload]);
    this.then_some(Some((act, approved.officers)))
        .ok_or(BackupError::NotApproved)
}

/// Restores a backup into an empty store that has the module's tables, in one transaction. `root`: from the shares;
/// `ledger`: from the log up to the end, verified against its witness. The module is started afterwards with the same
/// root secret, and its new log begins with what the old one said of each key.
///
/// # Errors
/// [`BackupError`]; nothing was restored.
pub async fn restore(
    store: &Store,
    from: &mut (dyn BufRead + Send),
    root: &RootSecret,
    ledger: &Ledger,
    with: &Restoring<'_>,
) -> Result<RestoreReport, BackupError> {
    let vault = Vault::new(root).map_err(|_| BackupError::WrongRoot)?;
    let mut items = Vec::new();
    let (head, made) = read(from, &vault, |item| {
        items.push(item);
        Ok(())
    })?;
    // The backup stands in the log that comes with it; a log that ends before can't say what happened since.
    let digest = ledger.backup(made.id).ok_or(BackupError::OldLog)?;
    if digest != made.sha256 {
        return Err(BackupError::Malformed(
            "the audit log tells of other rows under this name",
        ));
    }
    let buried = items.iter().filter_map(|item| match item {
        Item::Tombstone { id, .. } => Some(id.as_str()),
        _ => None,
    });
    let root = items.iter().find_map(|item| match item {
        Item::Secret { id, sealed } if id == ROOT => Some(root_key(&vault, &sealed.0)),
        _ => None,
    });
    let put = Put {
        ledger,
        with,
        buried: buried.collect(),
        burial: Burial {
            sam: &head.sam,
            root: &root.ok_or(BackupError::Malformed("the module's root key is missing"))??,
            vault: &vault,
            random: with.random,
            copies_kept_days: with.copies_kept_days,
        },
        audit: AuditLog::new("cm", with.node, vault.audit_key(), Arc::new(SystemRandom)),
    };
    let done: Result<RestoreReport, Ended> = transaction!(store, "cm-restore", |tx| {
        let count = tx
            .fetch_one(sql("SELECT count(*) AS n FROM cm_key"))
            .await?;
        let secrets = tx
            .fetch_one(sql("SELECT count(*) AS n FROM cm_secret"))
            .await?;
        if count.int("n")? + secrets.int("n")? > 0 {
            return Err(BackupError::NotEmpty.into());
        }
        // Used up with the same commit: the store it was good for isn't empty any more.
        let target = target_of(&tx.epoch_source().await?);
        if let Some((approval, [officer, second])) = approved(&head, made.id, target, with)? {
            if !store::take_name(tx, approval, with.now).await? {
                return Err(BackupError::NotApproved.into());
            }
            let event = Event::RestoreApproved {
                approval,
                backup: made.id,
                officer,
                second,
            };
            put.audit.append(tx, event, with.now).await?;
            approvals::keep(tx, &vault, with.random, approval, with.approvals, with.now).await?;
        }
        let mut report = RestoreReport::default();
        let mut told = HashSet::new();
        for item in &items {
            put.item(tx, item, &mut report, &mut told).await?;
        }
        put.others(tx, &items, &told, &mut report).await?;
        for (order, at) in ledger.orders() {
            let query = sql("INSERT INTO cm_order (id, at) VALUES ($1, $2) ON CONFLICT DO NOTHING");
            tx.execute(query.bind(order.to_string()).bind(at.0)).await?;
        }
        let spent = tx
            .fetch_one(sql("SELECT count(*) AS n FROM cm_order"))
            .await?;
        report.orders = u64::try_from(spent.int("n")?).unwrap_or(0);
        put.officers(tx, &head).await?;
        put.keeper().restored(tx, ledger).await?;
        put.keeper().sam_keys_by_log(tx, ledger).await?;
        // The mark of the backup may be older than what the log says, which the new log has to know.
        if let Some(last) = ledger.algorithms() {
            let event = Event::AlgorithmsInForce {
                version: last.version,
                table: last.table,
                officers: last.officers,
            };
            put.audit.append(tx, event, with.now).await?;
        }
        let event = Event::BackupRestored {
            backup: made.id,
            keys: report.keys,
            refused: u64::try_from(report.refused_destroyed.len()).unwrap_or(u64::MAX),
            lost: u64::try_from(report.lost.len()).unwrap_or(u64::MAX),
        };
        put.audit.append(tx, event, with.now).await?;
        Ok::<_, Ended>(report)
    });
    let mut report = done.map_err(|ended| ended.0)?;
    let came = items.iter().filter(|item| match item {
        Item::Key { id, .. } => put.comes_back(id),
        _ => false,
    });
    let found = there::look(with.backend, &vault, &came.collect::<Vec<_>>());
    (report.unusable, report.unasked) = (found.unusable, found.unasked);
    if !report.unusable.is_empty() {
        let told: Result<(), Failed> = transaction!(store, "cm-restored", |tx| {
            let event = Event::Alarm {
                what: "cm-restored-keys-unusable".into(),
            };
            put.audit.append(tx, event, with.now).await?;
            Ok::<_, Failed>(())
        });
        // The restore is done all the same, and the report says it.
        if let Err(failed) = told {
            tracing::error!(?failed, "that keys are unusable couldn't be recorded");
        }
    }
    Ok(report)
}

/// An end of the transaction, for the conversion from a store's error.
struct Ended(BackupError);

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self(BackupError::Store(error))
    }
}

impl From<BackupError> for Ended {
    fn from(error: BackupError) -> Self {
        Self(error)
    }
}

impl From<Failed> for Ended {
    fn from(failed: Failed) -> Self {
        Self(failed.into())
    }
}

/// What a restore puts rows into the store with.
struct Put<'r> {
    ledger: &'r Ledger,
    with: &'r Restoring<'r>,
    /// Keys of which the backup has a tombstone.
    buried: HashSet<&'r str>,
    burial: Burial<'r>,
    audit: AuditLog,
}

impl Put<'_> {
    fn keeper(&self) -> Keeper<'_> {
        Keeper {
            vault: self.burial.vault,
            random: self.with.random,
            audit: &self.audit,
            now: self.with.now,
        }
    }

    /// Whether a key of the backup lives.
    fn comes_back(&self, id: &str) -> bool {
        let destroyed = self.ledger.life(id).destroyed;
        !destroyed && !self.buried.contains(id)
    }

    /// What the old log tells of keys that the backup doesn't have: none of them comes back, and none comes in again. `told`: all
    /// others.
    async fn others(
        &self,
        tx: &mut Tx,
        items: &[Item],
        told: &HashSet<String>,
        report: &mut RestoreReport,
    ) -> Result<(), Ended> {
        let listed = items.iter().filter_map(|item| match item {
            Item::PublicKey { spki, .. } => Digest32::parse(spki).ok(),
            _ => None,
        });
        let listed: HashSet<Digest32> = listed.collect();
        let mut keys: Vec<_> = self.ledger.keys().collect();
        keys.sort_unstable_by_key(|(key, _)| *key);
        let mut events = Vec::new();
        for (id, life) in keys {
            if let Some(spki) = life.spki.filter(|spki| !listed.contains(spki)) {
                store::first_of_its_kind(tx, spki, id).await?;
            }
            if told.contains(id) {
                continue;
            }
            if !life.destroyed {
                report.lost.push(id.to_owned());
            }
            let key = KeyId::parse(id).map_err(|_| BackupError::Tampered)?;
            let spki = life.spki;
            events.push(Event::KeyNotRestored { key, spki });
        }
        if !events.is_empty() {
            self.audit.append_all(tx, &events, self.with.now).await?;
        }
        Ok(())
    }

    /// The officers of the backup, and that there were others since, if the old log tells: then the module starts with these only.
    async fn officers(&self, tx: &mut Tx, head: &Head) -> Result<(), Ended> {
        let (vault, random) = (self.burial.vault, self.with.random);
        let kept = mark::read::<Office>(tx, vault, mark::OFFICERS).await?;
        let (kept, row) = kept.unzip();
        // None: a backup of a build that kept no list.
        let mut office = match &kept {
            Some(office) => office.clone(),
            None => Office::unsigned(1, &head.officers),
        };
        // Whoever follows those of whom nobody could approve it comes in unsigned, and has to be the last that the log tells of.
        if let Some(last) = self.ledger.officers()
            && !can_approve(&office.officers)
        {
            let same = office.in_office().list == last.list;
            let least = match same {
                true => last.version,
                false => last.version.saturating_sub(1),
            };
            office.version = office.version.max(least);
        }
        if kept.as_ref() != Some(&office) {
            mark::write(tx, vault, random, mark::OFFICERS, &office, row).await?;
        }
        let held = office.in_office();
        let since = self.ledger.officers().filter(|o| o.version > held.version);
        for told in [held].into_iter().chain(since) {
            let event = told.event(None);
            self.audit.append(tx, event, self.with.now).await?;
        }
        Ok(())
    }

    async fn item(
        &self,
        tx: &mut Tx,
        item: &Item,
        report: &mut RestoreReport,
        told: &mut HashSet<String>,
    ) -> Result<(), Ended> {
        let (vault, random) = (self.burial.vault, self.with.random);
        match item {
            Item::Key {
                id,
                version,
                attributes,
                sealed,
            } => {
                let key = KeyId::parse(id.as_str()).map_err(|_| BackupError::Tampered)?;
                let row = store::open_key(vault, &key, *version, attributes, &sealed.0)?;
                told.insert(id.clone());
                if self.buried.contains(id.as_str()) {
                    // Destroyed while a backup was made that read keys first and tombstones later.
                    report.refused_destroyed.push(key);
                    return Ok(());
                }
                let life = self.ledger.life(id);
                let mut next = forward(&row, life);
                self.record(tx, &next, life.destroyed).await?;
                if life.destroyed {
                    // Of one that ended before an earlier restore somebody put the row back; its end was certified then.
                    if let Some(end) = life.end {
                        let remains = self.with.backend.elsewhere(&row.material);
                        let now = self.with.now;
                        self.burial.again(tx, next, end, remains, now).await?;
                    }
                    report.refused_destroyed.push(key);
                    return Ok(());
                }
                if next.used != row.attributes.used {
                    report.set_forward.push(key);
                }
                // The SAM's clock may be ahead.
                next.used.restored = Some(self.with.now.plus(CLOCKS_DIFFER));
                // An older copy of the row still opens. What tells it apart is what was just recorded.
                let version = row.row_version + 1_000_000;
                store::insert_key_at(tx, vault, random, &next, &row.material, version).await?;
                report.keys += 1;
            }
            Item::Tombstone {
                id,
                version,
                pending,
                sealed,
            } => {
                let key = KeyId::parse(id.as_str()).map_err(|_| BackupError::Tampered)?;
                told.insert(id.clone());
                let buried = destroy::open(vault, &key, *version, &sealed.0)?;
                self.record(tx, &buried.attributes, true).await?;
                let query = "INSERT INTO cm_tombstone (id, version, pending, sealed) VALUES ($1, $2, $3, $4)";
                let query = sql(query).bind(id).bind(*version).bind(*pending);
                tx.execute(query.bind(sealed.0.as_slice())).await?;
            }
            Item::PublicKey { spki, key } => {
                // The table has no seal: what is no digest is no key's.
                if let Ok(spki) = Digest32::parse(spki) {
                    store::first_of_its_kind(tx, spki, key).await?;
                }
            }
            Item::Secret { id, sealed } => {
                let query = sql("INSERT INTO cm_secret (id, sealed) VALUES ($1, $2)");
                tx.execute(query.bind(id).bind(sealed.0.as_slice())).await?;
            }
            Item::Switch { serial, enabled } => {
                let held = Switched {
                    serial: *serial,
                    enabled: *enabled,
                };
                let last = self.ledger.switched().filter(|s| s.serial > held.serial);
                switch::insert(tx, vault, random, last.unwrap_or(held)).await?;
            }
            Item::Mark {
                id,
                version,
                sealed,
            } => mark::put(tx, id, *version, sealed).await?,
            Item::Approval { id, at, sealed } => approvals::put(tx, id, *at, &sealed.0).await?,
            Item::Order { id, at } => {
                let query =
                    sql("INSERT INTO cm_order (id, at) VALUES ($1, $2) ON CONFLICT DO NOTHING");
                tx.execute(query.bind(id).bind(*at)).await?;
            }
        }
        Ok(())
    }

    /// What the old log says of a key, for the new one.
    async fn record(
        &self,
        tx: &mut Tx,
        key: &KeyAttributes,
        destroyed: bool,
    ) -> Result<(), StoreError> {
        let event = Event::KeyRestored {
            key: key.key.clone(),
            owner: key.owner.clone(),
            signatures: key.used.signatures,
            csr: key.used.csr,
            handed_over: key.used.handed_over,
            wrong: key.used.wrong,
            destroyed,
            spki: key.spki,
        };
        self.audit.append(tx, event, self.with.now).await?;
        if let Some(Tree { size, root }) = key.used.checkpoint {
            let key = key.key.clone();
            let event = Event::CheckpointSigned { key, size, root };
            self.audit.append(tx, event, self.with.now).await?;
        }
        Ok(())
    }
}

/// Counters never go back.
fn forward(row: &KeyRow, life: crate::ledger::Life) -> KeyAttributes {
    let mut next = row.attributes.clone();
    next.used.signatures = next.used.signatures.max(life.signatures);
    next.used.csr |= life.csr;
    next.used.handed_over |= life.handed_over;
    next.used.wrong |= life.wrong;
    next.used.checkpoint = Tree::later(next.used.checkpoint, life.checkpoint);
    next
}
