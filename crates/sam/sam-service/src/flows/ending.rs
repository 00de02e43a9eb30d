//! Ending all keys at the provider's side (`I-A4.4-provider-end`): decided by officers in one transaction, from whose commit on no
//! signature starts and no key is made on any node; then key after key is marked as gone, its owner told and the module ordered to
//! destroy it, as often as it takes.

mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use audit_log::{AuditLog, Event};
use cm_api::CryptoModule;
use core_types::{Digest32, PersonId, TenantId, UnixTime, sha256};
use sam_api::ssa::{Happened, HistoryEntry, KeyState, StopCause};
use sam_core::Reason;
use sam_core::office::{Ended, Standing, Whole};
use sap::office::{EndCause, Facts};
use store_kit::{Dialect, StoreError, Tx, sql, transaction};

use super::change::{key_event, key_note};
use crate::failed::{Failed, readable};
use crate::records::KeyRecord;
use crate::rows::{self, Columns, Noun as _, Row, noun};
use crate::sam::Sam;
use crate::scrub::Scrubbed;

/// Keys that are looked at in one go.
const PAGE: i64 = 200;
/// Where only keys are left that can't be marked now, all are looked at again after so many seconds.
const AGAIN: i64 = 600;

/// What a node remembers of ending keys since its start.
#[derive(Default)]
pub(crate) struct Endings(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    /// Rows that are refused, by table and id, of which the log was told.
    told: BTreeSet<(&'static str, String)>,
    /// When the keys of a tenant are looked at again.
    again: BTreeMap<TenantId, UnixTime>,
}

impl Endings {
    /// Whether this refused row hasn't been told of by this process. It counts as told from here on.
    pub(crate) fn is_news(&self, table: &'static str, id: &str) -> bool {
        self.remembered().told.insert((table, id.to_owned()))
    }

    fn rest(&self, tenant: &TenantId, until: UnixTime) {
        self.remembered().again.insert(tenant.clone(), until);
    }

    fn rests(&self, tenant: &TenantId, now: UnixTime) -> bool {
        let again = self.remembered().again.get(tenant).copied();
        again.is_some_and(|again| now < again)
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a transaction holds on to whether a tenant's keys have ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hold {
    /// It must stay so; many do this at once.
    Shared,
    /// This transaction ends them.
    Alone,
}

noun!(Standing, "standing", |s| Columns {
    owner: String::new(),
    link: String::new(),
    state: match s.ended {
        None => "",
        Some(_) => "ended",
    },
    stamp: s.ended.as_ref().map_or(0, |ended| ended.at.0),
});

impl<C: CryptoModule> Sam<C> {
    /// Makes the rows of tenants that are here for the first time, and ends those that weren't here when the whole service ended.
    /// `found`: what the comparison of rows and log has just said; where one is missing that was there, none is made, and that
    /// tenant's keys stay stopped.
    pub(crate) async fn make_standings(&self, found: &Scrubbed) -> Result<(), StoreError> {
        if found.names(Standing::TABLE) {
            return Ok(());
        }
        for tenant in self.tenants() {
            let made = tenant.make_standing().await;
            self.survive(made).await?;
        }
        Ok(())
    }

    async fn make_standing(&self) -> Result<(), Failed> {
        let house = self.tenants().next().unwrap_or_else(|| self.clone());
        let is_house = house.config.tenant == self.config.tenant;
        transaction!(self.store, "standing", |tx| {
            // The end of the whole service doesn't know of a row that is made meanwhile.
            house.hold(tx, Hold::Shared).await?;
            let id = self.config.tenant.as_str();
            let known = rows::get::<Standing>(tx, &self.sealer, id).await?;
            let is_open = known.as_ref().is_none_or(|row| row.body.ended.is_none());
            if !is_open || (is_house && known.is_some()) {
                return Ok(());
            }
            let of_house = match is_house {
                true => Standing::default(),
                false => house.standing(tx).await?.body,
            };
            if known.is_some() {
                return match of_house.whole() {
                    Some(whole) => self.end_late(tx, whole).await,
                    None => Ok(()),
                };
            }
            let first = Standing::of_newcomer(&of_house);
            if rows::insert(tx, &self.sealer, id, &first).await? {
                self.rows_changed(tx, "standing-made").await?;
            }
            Ok::<_, Failed>(())
        })
    }

    /// A tenant wasn't served where and when the whole service ended: its keys end now, by the same decision.
    async fn end_late(&self, tx: &mut Tx, whole: Whole) -> Result<(), Failed> {
        self.hold(tx, Hold::Alone).await?;
        let row = self.standing(tx).await?;
        if row.body.ended.is_some() {
            return Ok(());
        }
        let now = self.clock.now();
        let keys = self.living_keys(tx).await?;
        let next = row.body.end(whole.by, (whole.cause, true), keys, now)?;
        rows::save(tx, &self.sealer, &row, &next).await?;
        let event = keys_ended(whole.by, keys, whole.cause);
        Ok(self.audit.append(tx, event, now).await.map(drop)?)
    }

    /// Until this writing transaction ends, nobody ends this tenant's keys, or, [alone](Hold::Alone), uses or makes any. The row
    /// itself is read after this: transactions that write are READ COMMITTED, so a statement that begins when the lock is there sees
    /// what its last holder committed. A share lock on the row wouldn't do: PostgreSQL lets new ones past an update that waits, and
    /// signatures would hold off the measure for ever. This lock has a queue.
    ///
    /// In this order everywhere: this lock, the house's before others'; keys; the row; the log.
    pub(crate) async fn hold(&self, tx: &mut Tx, hold: Hold) -> Result<(), Failed> {
        let lock = match (tx.dialect(), hold) {
            // One writer at a time.
            (Dialect::Sqlite, _) => return Ok(()),
            (Dialect::Postgres, Hold::Shared) => {
                "SELECT 1 AS got FROM pg_advisory_xact_lock_shared($1)"
            }
            (Dialect::Postgres, Hold::Alone) => "SELECT 1 AS got FROM pg_advisory_xact_lock($1)",
        };
        let lock = sql(lock).bind(lock_key(self.store.schema(), &self.config.tenant));
        tx.fetch_one(lock).await?;
        Ok(())
    }

    async fn standing(&self, tx: &mut Tx) -> Result<Row<Standing>, Failed> {
        let id = self.config.tenant.as_str();
        let row = rows::get::<Standing>(tx, &self.sealer, id).await?;
        // It is there from the first start on.
        row.ok_or(Failed::Tampered(Standing::TABLE))
    }

    /// Whether this tenant's keys may be used and made, as far as can be read now; for an early answer.
    pub(crate) async fn goes_on(&self, tx: &mut Tx) -> Result<(), Failed> {
        Ok(self.standing(tx).await?.body.goes_on()?)
    }

    /// The same, and it stays so until this writing transaction ends: keys that are used or made in it were there before the end.
    pub(crate) async fn stays_so(&self, tx: &mut Tx) -> Result<(), Failed> {
        self.hold(tx, Hold::Shared).await?;
        self.goes_on(tx).await
    }

    /// What officers have to know of this: how many keys there are.
    pub(crate) async fn end_facts(
        &self,
        tx: &mut Tx,
        tenant: Option<&TenantId>,
    ) -> Result<Facts, Failed> {
        let mut keys = 0;
        let mut open = false;
        for part in self.in_scope(tenant)? {
            let standing = part.standing(tx).await?.body;
            if standing.ended.is_none() {
                open = true;
                keys += part.living_keys(tx).await?;
            }
            // What ended by itself isn't closed to tenants that come later.
            open |= tenant.is_none() && standing.whole().is_none();
        }
        if !open {
            return Err(Reason::Ended.into());
        }
        if tenant.is_none() {
            self.check_all_served(tx).await?;
        }
        Ok(Facts {
            keys: Some(keys),
            ..Facts::default()
        })
    }

    /// The tenants that are meant, in whose hands their rows open.
    fn in_scope(&self, tenant: Option<&TenantId>) -> Result<Vec<Self>, Reason> {
        match tenant {
            Some(tenant) => Ok(vec![self.of(tenant).ok_or(Reason::Invalid("tenant"))?]),
            None => Ok(self.tenants().collect()),
        }
    }

    /// How many keys of this tenant aren't gone.
    async fn living_keys(&self, tx: &mut Tx) -> Result<u64, Failed> {
        let prefix = self.sealer.prefix();
        let statement = match &prefix {
            None => sql(
                "SELECT COUNT(*) AS n FROM signing_key WHERE state NOT IN ('doomed', 'destroyed') AND owner NOT LIKE '%/%'",
            ),
            Some(prefix) => sql(
                "SELECT COUNT(*) AS n FROM signing_key WHERE state NOT IN ('doomed', 'destroyed') \
                 AND substr(owner, 1, CAST($1 AS INTEGER)) = $2",
            )
            .bind(i64::try_from(prefix.len()).unwrap_or(i64::MAX))
            .bind(prefix.as_str()),
        };
        let n = tx.fetch_one(statement).await?.int("n")?;
        Ok(u64::try_from(n).unwrap_or(0))
    }

    /// Keys of a tenant that was taken out of the configuration are closed to everybody; with it back in they can be ended.
    async fn check_all_served(&self, tx: &mut Tx) -> Result<(), Failed> {
        let all =
            "SELECT COUNT(*) AS n FROM signing_key WHERE state NOT IN ('doomed', 'destroyed')";
        let all = tx.fetch_one(sql(all)).await?.int("n")?;
        let mut served = 0;
        for tenant in self.tenants() {
            served += tenant.living_keys(tx).await?;
        }
        match u64::try_from(all).unwrap_or(0) > served {
            true => Err(Reason::NotAllowed("tenant-not-served").into()),
            false => Ok(()),
        }
    }

    /// The decision, in the transaction of its last approval.
    pub(crate) async fn end_all(
        &self,
        tx: &mut Tx,
        (tenant, cause): (Option<&TenantId>, EndCause),
        by: Digest32,
        theirs: &mut Vec<(AuditLog, Vec<Event>)>,
        at: UnixTime,
    ) -> Result<(), Failed> {
        let mut parts = self.in_scope(tenant)?;
        if let [_, others @ ..] = parts.as_mut_slice() {
            others.sort_by(|a, b| a.config.tenant.cmp(&b.config.tenant));
        }
        for part in &parts {
            part.hold(tx, Hold::Alone).await?;
        }
        if tenant.is_none() {
            // Again: others may serve more tenants than the node where it was proposed.
            self.check_all_served(tx).await?;
        }
        let mut any = false;
        for part in &parts {
            let row = part.standing(tx).await?;
            if row.body.ended.is_some() {
                let joined = row.body.join(Whole { by, cause, at });
                if let Some(next) = joined.filter(|_| tenant.is_none()) {
                    any = true;
                    rows::save(tx, &part.sealer, &row, &next).await?;
                }
                continue;
            }
            any = true;
            let keys = part.living_keys(tx).await?;
            let next = row.body.end(by, (cause, tenant.is_none()), keys, at)?;
            rows::save(tx, &part.sealer, &row, &next).await?;
            theirs.push((part.audit.clone(), vec![keys_ended(by, keys, cause)]));
        }
        match any {
            true => Ok(()),
            false => Err(Reason::Ended.into()),
        }
    }

    /// Carries on with what officers decided about all keys, as far as it goes: marks what is left, and has the module destroy it.
    /// Safe at any time on any node; the composition root calls it every few seconds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn finish_ending(&self) -> Result<(), StoreError> {
        let mut whole = false;
        for tenant in self.tenants() {
            let name = &tenant.config.tenant;
            let mut tx = self.store.read("ending").await?;
            let standing = tenant.standing(&mut tx).await;
            drop(tx);
            let standing = match standing {
                Ok(row) => row.body,
                Err(failed) => {
                    self.survive_once(Standing::TABLE, name.as_str(), failed)
                        .await?;
                    continue;
                }
            };
            // The house's is the first.
            whole |= standing.whole().is_some();
            if whole && standing.ended.is_none() {
                // Where the service was ended, this tenant isn't configured.
                let made = tenant.make_standing().await;
                self.survive(made).await?;
                continue;
            }
            let Some(ended) = standing.ended.filter(|ended| !ended.is_complete()) else {
                continue;
            };
            if !ended.all_seen && !self.endings.rests(name, self.clock.now()) {
                tenant.mark_all(&ended).await?;
            }
            while tenant.destroy_doomed().await? > 0 {}
        }
        Ok(())
    }

    /// As [`Self::survive`], which alarms once of a row that is refused each time.
    async fn survive_once(
        &self,
        table: &'static str,
        id: &str,
        failed: Failed,
    ) -> Result<(), StoreError> {
        match failed.alarm() {
            Some(_) if !self.endings.is_news(table, id) => Ok(()),
            _ => self.survive(Err(failed)).await,
        }
    }

    /// Looks at every key by its sealed row, and not by what the columns say of it.
    async fn mark_all(&self, ended: &Ended) -> Result<(), StoreError> {
        let mut after = String::new();
        let mut left = false;
        // Something moved, or may do so the next time.
        let mut moves = false;
        loop {
            let mut tx = self.store.read("ending-keys").await?;
            let page = sql(KeyRecord::PAGE).bind(after.as_str()).bind(PAGE);
            let page = tx.fetch_all(page).await?;
            let Some(last) = page.last() else { break };
            after = last.text("id")?;
            let mut owners = BTreeMap::new();
            let mut unreadable = Vec::new();
            for row in &page {
                match rows::open::<KeyRecord>(&mut tx, &self.sealer, row) {
                    Ok(Some(key)) if ended.takes(&key.body.life) => {
                        let ids: &mut Vec<String> = owners.entry(key.body.owner).or_default();
                        ids.push(key.id);
                    }
                    Ok(Some(key)) => left |= key.body.life.state != KeyState::Destroyed,
                    Ok(None) => {}
                    Err(failed) => unreadable.push((row.text("id")?, failed)),
                }
            }
            drop(tx);
            left |= !unreadable.is_empty();
            for (id, failed) in unreadable {
                self.survive_once(KeyRecord::TABLE, &id, failed).await?;
            }
            for (owner, ids) in owners {
                match self.mark_of(&owner, &ids).await {
                    Ok(all) => {
                        left |= !all;
                        moves = true;
                    }
                    Err(failed) => {
                        left = true;
                        moves |= failed.alarm().is_none();
                        self.survive_once("person-keys", owner.as_str(), failed)
                            .await?;
                    }
                }
            }
        }
        if left {
            if !moves {
                let again = self.clock.now().plus(AGAIN);
                self.endings.rest(&self.config.tenant, again);
            }
            return Ok(());
        }
        let seen: Result<(), Failed> = transaction!(self.store, "ending-seen", |tx| {
            let row = self.standing(tx).await?;
            rows::save(tx, &self.sealer, &row, &row.body.all_seen()).await?;
            Ok(self.rows_changed(tx, "all-keys-ended").await?)
        });
        self.survive(seen).await
    }

    /// Marks all keys of one person, these among them, and tells them once. `false`: some are refused, which save no other.
    async fn mark_of(&self, owner: &PersonId, ids: &[String]) -> Result<bool, Failed> {
        transaction!(self.store, "ending-person", |tx| {
            let now = self.clock.now();
            let standing = self.standing(tx).await?;
            let Some(ended) = &standing.body.ended else {
                return Ok(true);
            };
            let (mut keys, mut refused) =
                rows::readable_by_owner::<KeyRecord>(tx, &self.sealer, owner.as_str()).await?;
            for id in ids {
                // Where a column names somebody else.
                if keys.iter().all(|key| key.id != *id) {
                    match readable(rows::get::<KeyRecord>(tx, &self.sealer, id).await)? {
                        Some(key) => keys.extend(key),
                        None => refused += 1,
                    }
                }
            }
            let by_this = |key: &KeyRecord| {
                let stop = key.life.stop.as_ref();
                key.life.state == KeyState::Destroyed
                    && stop.is_some_and(|s| s.by == Some(ended.by))
            };
            let before = keys.iter().any(|key| by_this(&key.body));
            let (mut events, mut notes) = (Vec::new(), Vec::new());
            for row in keys.iter().filter(|key| ended.takes(&key.body.life)) {
                let gone = row
                    .body
                    .life
                    .destroyed(StopCause::Provider, Some(ended.by), now)?;
                let next = row.body.with_life(gone);
                rows::save(tx, &self.sealer, row, &next).await?;
                events.push(key_event(&next, ended.by));
                notes.push(HistoryEntry {
                    proposal: Some(ended.by),
                    ..key_note(&next, Happened::Destroyed, now)
                });
            }
            if events.is_empty() {
                return Ok(refused == 0);
            }
            // Where nobody is there to be told, the keys end all the same.
            let told = match self.note(tx, owner, notes).await {
                Ok(noted) => noted,
                Err(failed @ (Failed::Store(_) | Failed::Changed)) => return Err(failed),
                Err(_) => false,
            };
            let count = u64::try_from(events.len()).unwrap_or(u64::MAX);
            let next = standing.body.marked(count, told && !before);
            rows::save(tx, &self.sealer, &standing, &next).await?;
            self.audit.append_all(tx, &events, now).await?;
            Ok::<_, Failed>(refused == 0)
        })
    }

    /// Counts a key that the module has destroyed for good, by the act that decided it. The caller writes the entry.
    pub(crate) async fn count_destroyed(
        &self,
        tx: &mut Tx,
        by: Option<Digest32>,
    ) -> Result<(), Failed> {
        // The owner gets the certificate whatever became of the count.
        let Some(row) = readable(self.standing(tx).await)? else {
            return Ok(());
        };
        match row.body.destroyed(by) {
            Some(next) => rows::save(tx, &self.sealer, &row, &next).await,
            None => Ok(()),
        }
    }
}

fn keys_ended(by: Digest32, keys: u64, cause: EndCause) -> Event {
    Event::KeysEnded {
        proposal: by,
        keys,
        reason: cause.code().into(),
    }
}

/// The same on every node of this store.
fn lock_key(schema: &str, tenant: &TenantId) -> i64 {
    let Digest32(digest) = sha256(&[
        b"natsuin-standing-v1\n",
        schema.as_bytes(),
        b"\n",
        tenant.as_str().as_bytes(),
    ]);
    digest.first_chunk().copied().map_or(0, i64::from_be_bytes)
}
