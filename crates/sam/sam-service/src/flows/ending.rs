//! Ending all keys at the provider's side (`I-A4.4-provider-end`): decided by officers in one transaction, from whose commit on no
//! signature starts and no key is made on any node; then key after key is marked as gone, its owner told and the module ordered to
//! destroy it, as often as it takes.

use std::collections::BTreeMap;

use audit_log::{AuditLog, Event};
use cm_api::CryptoModule;
use core_types::{Digest32, PersonId, TenantId, UnixTime};
use sam_api::ssa::{Happened, HistoryEntry, KeyState, StopCause};
use sam_core::Reason;
use sam_core::office::{Deed, Ended, Proposal, Standing};
use sap::office::calls::{OfficeRefusal, ProposalRequest};
use sap::office::ending::{Certificates, CertificatesRequest, Destroyed, Part, Progress};
use sap::office::{EndCause, Facts, Measure};
use store_kit::{StoreError, Tx, share_lock, sql, transaction};

use super::change::{key_event, key_note};
use super::office::{About, check_deed};
use crate::failed::{Failed, readable};
use crate::records::KeyRecord;
use crate::rows::{self, Columns, Noun as _, Row, noun};
use crate::sam::Sam;
use crate::scrub::Scrubbed;

/// Keys that are looked at in one go.
const PAGE: i64 = 200;

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
    /// Makes the rows of tenants that are here for the first time. `found`: what the comparison of rows and log has just said; where
    /// one is missing that was there, none is made, and that tenant's keys stay stopped.
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
        transaction!(self.store, "standing", |tx| {
            let id = self.config.tenant.as_str();
            let known = rows::get::<Standing>(tx, &self.sealer, id).await?;
            if known.is_some() {
                return Ok(());
            }
            let first = match house.config.tenant == self.config.tenant {
                true => Standing::default(),
                false => Standing::of_newcomer(&house.standing(tx).await?.body),
            };
            if rows::insert(tx, &self.sealer, id, &first).await? {
                self.rows_changed(tx, "standing-made").await?;
            }
            Ok::<_, Failed>(())
        })
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
        let statement = share_lock!(tx, "SELECT id, version, sealed FROM standing WHERE id = $1");
        let statement = statement.bind(self.config.tenant.as_str());
        let row = match tx.fetch_optional(statement).await? {
            Some(row) => rows::open::<Standing>(tx, &self.sealer, &row)?,
            None => None,
        };
        let row = row.ok_or(Failed::Tampered(Standing::TABLE))?;
        Ok(row.body.goes_on()?)
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
            if part.standing(tx).await?.body.ended.is_none() {
                open = true;
                keys += part.living_keys(tx).await?;
            }
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
        let mut any = false;
        for part in self.in_scope(tenant)? {
            let row = part.standing(tx).await?;
            if row.body.ended.is_some() {
                continue;
            }
            any = true;
            let keys = part.living_keys(tx).await?;
            let next = row.body.end(by, (cause, tenant.is_none()), keys, at)?;
            rows::save(tx, &part.sealer, &row, &next).await?;
            let event = Event::KeysEnded {
                proposal: by,
                keys,
                reason: cause.code().into(),
            };
            theirs.push((part.audit.clone(), vec![event]));
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
        for tenant in self.tenants() {
            let mut tx = self.store.read("ending").await?;
            let standing = tenant.standing(&mut tx).await;
            drop(tx);
            let ended = match standing {
                Ok(row) => row.body.ended,
                Err(failed) => {
                    self.survive(Err(failed)).await?;
                    None
                }
            };
            let Some(ended) = ended.filter(|ended| !ended.is_complete()) else {
                continue;
            };
            if !ended.all_seen {
                tenant.mark_all(&ended).await?;
            }
            while tenant.destroy_doomed().await? > 0 {}
        }
        Ok(())
    }

    /// Looks at every key by its sealed row, and not by what the columns say of it.
    async fn mark_all(&self, ended: &Ended) -> Result<(), StoreError> {
        let mut after = String::new();
        let mut left = false;
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
                    Err(failed) => unreadable.push(failed),
                }
            }
            drop(tx);
            left |= !unreadable.is_empty();
            for failed in unreadable {
                self.survive(Err(failed)).await?;
            }
            for (owner, ids) in owners {
                let marked = self.mark_of(&owner, &ids).await;
                left |= marked.is_err();
                self.survive(marked).await?;
            }
        }
        if left {
            return Ok(());
        }
        let seen: Result<(), Failed> = transaction!(self.store, "ending-seen", |tx| {
            let row = self.standing(tx).await?;
            rows::save(tx, &self.sealer, &row, &row.body.all_seen()).await?;
            Ok(self.rows_changed(tx, "all-keys-ended").await?)
        });
        self.survive(seen).await
    }

    /// Marks all keys of one person, these among them, and tells them once.
    async fn mark_of(&self, owner: &PersonId, ids: &[String]) -> Result<(), Failed> {
        transaction!(self.store, "ending-person", |tx| {
            let now = self.clock.now();
            let standing = self.standing(tx).await?;
            let Some(ended) = &standing.body.ended else {
                return Ok(());
            };
            let mut keys = rows::by_owner::<KeyRecord>(tx, &self.sealer, owner.as_str()).await?;
            for id in ids {
                // Of somebody with more keys than are read at once.
                if keys.iter().all(|key| key.id != *id) {
                    keys.extend(rows::get::<KeyRecord>(tx, &self.sealer, id).await?);
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
                    act: Some(ended.by),
                    ..key_note(&next, Happened::Destroyed, now)
                });
            }
            if events.is_empty() {
                return Ok(());
            }
            // Where nobody is there to be told, the keys end all the same.
            let told = match self.note(tx, owner, notes).await {
                Ok(()) => true,
                Err(failed @ (Failed::Store(_) | Failed::Changed)) => return Err(failed),
                Err(_) => false,
            };
            let count = u64::try_from(events.len()).unwrap_or(u64::MAX);
            let next = standing.body.marked(count, told && !before);
            rows::save(tx, &self.sealer, &standing, &next).await?;
            self.audit.append_all(tx, &events, now).await?;
            Ok::<_, Failed>(())
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

    /// How far it is with a proposal to end all keys.
    ///
    /// # Errors
    /// [`OfficeRefusal`]; when it hasn't been approved, there is nothing to tell.
    pub async fn proposal_progress(
        &self,
        request: ProposalRequest,
    ) -> Result<Progress, OfficeRefusal> {
        let mut about = About {
            digest: Some(request.proposal),
            ..About::default()
        };
        match self.try_progress(&request, &mut about).await {
            Ok(progress) => Ok(progress),
            Err(failed) => Err(self
                .refused_office("proposal/progress", about, &failed)
                .await),
        }
    }

    /// Certificates of the keys that were destroyed with such a proposal.
    ///
    /// # Errors
    /// [`OfficeRefusal`].
    pub async fn proposal_certificates(
        &self,
        request: CertificatesRequest,
    ) -> Result<Certificates, OfficeRefusal> {
        let mut about = About {
            digest: Some(request.proposal),
            ..About::default()
        };
        match self.try_certificates(&request, &mut about).await {
            Ok(certificates) => Ok(certificates),
            Err(failed) => Err(self
                .refused_office("proposal/certificates", about, &failed)
                .await),
        }
    }

    async fn try_progress(
        &self,
        request: &ProposalRequest,
        about: &mut About,
    ) -> Result<Progress, Failed> {
        let present = self.present(&request.session, about).await?;
        check_deed(&present.person, Deed::SeeProposals, self.clock.now())?;
        let mut tx = self.store.read("ending-progress").await?;
        let cause = self.end_cause(&mut tx, request.proposal).await?;
        let mut parts = Vec::new();
        let mut complete = true;
        for tenant in self.tenants() {
            let row = tenant.standing(&mut tx).await?;
            let Some(ended) = row.body.ended.filter(|e| e.by == request.proposal) else {
                continue;
            };
            complete &= ended.is_complete();
            parts.push(Part {
                tenant: tenant.config.tenant.clone(),
                at: ended.at,
                keys: ended.keys,
                ended: ended.marked,
                destroyed: ended.destroyed,
                waiting: ended.marked.saturating_sub(ended.destroyed),
                told: ended.told,
                all_seen: ended.all_seen,
            });
        }
        if parts.is_empty() {
            return Err(Reason::NotApproved.into());
        }
        Ok(Progress {
            cause,
            parts,
            complete,
        })
    }

    async fn try_certificates(
        &self,
        request: &CertificatesRequest,
        about: &mut About,
    ) -> Result<Certificates, Failed> {
        let present = self.present(&request.session, about).await?;
        // They name the owners.
        check_deed(&present.person, Deed::SeeKeys, self.clock.now())?;
        let mut tx = self.store.read("ending-certificates").await?;
        self.end_cause(&mut tx, request.proposal).await?;
        let after = request.after.as_deref().unwrap_or_default();
        let page = sql(KeyRecord::PAGE).bind(after).bind(PAGE);
        let page = tx.fetch_all(page).await?;
        let mut keys = Vec::new();
        for row in &page {
            // Whosever it is: officers are there for all tenants.
            let Ok(key) = rows::unseal::<KeyRecord>(&self.sealer, row) else {
                continue;
            };
            let stop = key
                .body
                .life
                .stop
                .filter(|s| s.by == Some(request.proposal));
            if let Some(gone) = stop.and_then(|stop| stop.gone) {
                keys.push(Destroyed {
                    key: key.body.key,
                    certificate: gone.certificate,
                });
            }
        }
        let next = match page.last() {
            Some(last) if i64::try_from(page.len()).is_ok_and(|n| n == PAGE) => {
                Some(last.text("id")?)
            }
            _ => None,
        };
        Ok(Certificates { keys, next })
    }

    async fn end_cause(&self, tx: &mut Tx, proposal: Digest32) -> Result<EndCause, Failed> {
        let id = proposal.to_string();
        let row = rows::get::<Proposal>(tx, &self.sealer, &id).await?;
        match row.ok_or(Reason::NotFound)?.body.measure() {
            Measure::EndKeys { cause, .. } => Ok(*cause),
            _ => Err(Reason::OtherKind.into()),
        }
    }
}
