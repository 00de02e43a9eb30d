//! What time does to proposals: those that waited long enough come about, and those that nobody approved or took are over.

use std::sync::atomic::Ordering;

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::UnixTime;
use sam_core::Reason;
use sam_core::office::{Phase, Proposal};
use sap::office::Measure;
use store_kit::{StoreError, Tx, sql, transaction};

use super::factors::NO_COURIER;
use crate::failed::{Failed, readable};
use crate::rows;
use crate::sam::Sam;

impl<C: CryptoModule> Sam<C> {
    /// Lets come about what has waited long enough. What a node without a courier can't do waits for one, which another node may have:
    /// whoever starts such a node ends nobody's measure.
    pub(crate) async fn end_waiting(&self, now: UnixTime) -> Result<(), StoreError> {
        let select =
            sql("SELECT id FROM office_proposal WHERE state = $1 ORDER BY stamp LIMIT 200");
        let mut tx = self.store.read("waiting").await?;
        let waiting = tx.fetch_all(select.bind("waiting")).await?;
        drop(tx);
        let mut missed = false;
        for row in waiting {
            let id = row.text("id")?;
            let done: Result<bool, Failed> = transaction!(self.store, "waited", |tx| {
                let row = rows::get::<Proposal>(tx, &self.sealer, &id).await?;
                let row = row.filter(|r| {
                    r.body.phase == Phase::Waiting && r.body.due.is_some_and(|due| now >= due)
                });
                let Some(row) = row else { return Ok(true) };
                let digest = row.body.digest();
                let mut events = Vec::new();
                let next = match self.come_about(tx, &row.body, &mut events, now).await {
                    Ok(()) => {
                        events.push(Event::ProposalAdmitted {
                            proposal: digest,
                            what: row.body.measure().code().into(),
                            state: "done".into(),
                        });
                        Proposal {
                            phase: Phase::Done,
                            ..row.body.clone()
                        }
                    }
                    Err(Failed::No(Reason::NotAllowed(NO_COURIER))) => return Ok(false),
                    Err(Failed::No(reason)) => {
                        events.clear();
                        events.push(Event::ProposalEnded {
                            proposal: digest,
                            account: None,
                            reason: reason.code().into(),
                        });
                        row.body.void(None)
                    }
                    Err(failed) => return Err(failed),
                };
                rows::save(tx, &self.sealer, &row, &next).await?;
                self.audit.append_all(tx, &events, now).await?;
                Ok::<_, Failed>(true)
            });
            missed |= matches!(done, Ok(false));
            self.survive(done.map(drop)).await?;
        }
        // Once for each start: a node has its courier from the start, or none.
        if missed && !self.courier_missed.swap(true, Ordering::Relaxed) {
            self.record(Event::Alarm {
                what: NO_COURIER.into(),
            })
            .await;
        }
        Ok(())
    }

    async fn come_about(
        &self,
        tx: &mut Tx,
        record: &Proposal,
        events: &mut Vec<Event>,
        now: UnixTime,
    ) -> Result<(), Failed> {
        match record.measure() {
            Measure::Factors { .. } => self.factors_due(tx, record, events, now).await,
            Measure::Account { .. } => self.account_due(tx, record, events, now).await,
            _ => Err(Reason::OtherKind.into()),
        }
    }

    /// Ends what nobody approved or took in its time, so that what isn't over stays as few as officers may have open.
    pub(crate) async fn end_overdue(&self, now: UnixTime) -> Result<(), StoreError> {
        let overdue = match self.overdue(now).await {
            Ok(overdue) => overdue,
            Err(failed) => return self.survive(Err(failed)).await,
        };
        for id in overdue {
            let done: Result<(), Failed> = transaction!(self.store, "overdue", |tx| {
                let row = rows::get::<Proposal>(tx, &self.sealer, &id).await?;
                let Some(row) = row else { return Ok(()) };
                let Some(next) = row.body.overdue(now) else {
                    return Ok(());
                };
                rows::save(tx, &self.sealer, &row, &next).await?;
                let event = Event::ProposalEnded {
                    proposal: row.body.digest(),
                    account: None,
                    reason: "expired".into(),
                };
                self.audit.append(tx, event, now).await?;
                Ok::<_, Failed>(())
            });
            self.survive(done).await?;
        }
        Ok(())
    }

    /// Ids of those whose time ran out, by their sealed copies. Of one that is refused the comparison with the log tells.
    async fn overdue(&self, now: UnixTime) -> Result<Vec<String>, Failed> {
        let select = sql(
            "SELECT id, version, sealed FROM office_proposal WHERE state IN ('open', 'approved') ORDER BY stamp, id",
        );
        let mut tx = self.store.read("overdue").await?;
        let mut overdue = Vec::new();
        for row in &tx.fetch_all(select).await? {
            let opened = readable(rows::open::<Proposal>(&mut tx, &self.sealer, row))?.flatten();
            overdue.extend(
                opened
                    .filter(|r| r.body.overdue(now).is_some())
                    .map(|r| r.id),
            );
        }
        Ok(overdue)
    }
}
