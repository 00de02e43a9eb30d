//! Keys that leave (`III-3-9-attributed-keys`): approved by their owner like any other change; then the module seals the key
//! to its receiver, once, and what is left of it here is destroyed.

use audit_log::Event;
use cm_api::{CryptoModule, Executed, OrderKind};
use core_types::{B64, Digest32, UnixTime};
use sam_api::Refusal;
use sam_api::ssa::{HandedOverAnswer, HandedOverRequest, Happened, StopCause};
use sam_core::Reason;
use store_kit::{StoreError, transaction};

use super::change::{key_event, key_note};
use super::orders::Ordered;
use super::sign::result_id;
use crate::failed::Failed;
use crate::records::{KeyRecord, ResultRecord};
use crate::rows::{self, Walk};
use crate::sam::Sam;

/// How long the sealed key is kept for its owner to fetch, in seconds.
const KEPT: i64 = 7 * 24 * 3600;

impl<C: CryptoModule> Sam<C> {
    /// A key that its owner had handed over, sealed to the receiver.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] unless it is there: not yet, not any more, or not this person's.
    pub async fn handed_over(
        &self,
        request: HandedOverRequest,
    ) -> Result<HandedOverAnswer, Refusal> {
        match self.try_handed_over(&request).await {
            Ok(answer) => Ok(answer),
            Err(failed) => Err(self.explain(&failed).await.to_ssa()),
        }
    }

    async fn try_handed_over(
        &self,
        request: &HandedOverRequest,
    ) -> Result<HandedOverAnswer, Failed> {
        let mut tx = self.store.read("handed-over").await?;
        let id = result_id(request.act, 0);
        let kept = rows::get::<ResultRecord>(&mut tx, &self.sealer, &id).await?;
        let now = self.clock.now();
        let kept = kept.filter(|kept| now < kept.body.until);
        let kept = kept.ok_or(Reason::NotFound)?.body;
        let owner = request.person.as_str();
        let keys = rows::by_owner::<KeyRecord>(&mut tx, &self.sealer, owner).await?;
        let by_this = |key: &KeyRecord| {
            let stop = key.life.stop.as_ref();
            stop.is_some_and(|s| s.cause == StopCause::HandedOver && s.by == Some(request.act))
        };
        let key = keys.into_iter().map(|k| k.body).find(by_this);
        let key = key.ok_or(Reason::NotFound)?;
        let sealed = kept.values.into_iter().next().ok_or(Reason::NotFound)?;
        Ok(HandedOverAnswer {
            key: key.key,
            sealed: String::from_utf8(sealed.0).map_err(|_| Failed::Tampered("result"))?,
            until: kept.until,
        })
    }

    /// Has the module give away every key that leaves. Asked again by the same act for the same receiver, it does the same
    /// again.
    pub(crate) async fn hand_over_leaving(&self) -> Result<(), StoreError> {
        let mut leaving = Walk::new(rows::LEAVING, &self.sealer, UnixTime(i64::MAX));
        while let Some(id) = leaving.next(&self.store).await? {
            let done = self.hand_over_one(&id).await;
            self.go_on(&mut leaving, done).await?;
        }
        Ok(())
    }

    async fn hand_over_one(&self, id: &str) -> Result<(), Failed> {
        let mut tx = self.store.read("leaving-key").await?;
        let row = rows::get::<KeyRecord>(&mut tx, &self.sealer, id).await?;
        drop(tx);
        let Some(key) = row.map(|r| r.body).filter(|k| k.life.is_leaving()) else {
            return Ok(());
        };
        let act = key.life.stop.as_ref().and_then(|s| s.by);
        let (Some(act), Some(receiver)) = (act, key.receiver.clone()) else {
            return Err(Failed::Tampered("signing_key"));
        };
        let kind = OrderKind::HandOver {
            key: key.key.clone(),
            version: key.version,
            spki: key.spki_digest(),
            receiver,
            act,
        };
        let epoch = self.epoch().await?;
        let exp = self.clock.now().plus(cm_api::order::MAX_ORDER_LIFE);
        let name = self.random.digest32();
        match self.order(name, epoch, exp, kind).await? {
            Ordered::Done(Executed::HandedOver(sealed)) => self.handed(id, act, sealed).await,
            Ordered::Refused(cm_api::Refusal::NotAllowed(why)) => {
                tracing::error!(%why, "the module refused to hand a key over; it stays, stopped");
                self.keep(id, act).await
            }
            Ordered::Done(_) | Ordered::Refused(_) | Ordered::Unknown => Err(Reason::NotNow.into()),
        }
    }

    /// It left: what is here is to be destroyed.
    async fn handed(&self, id: &str, act: Digest32, sealed: String) -> Result<(), Failed> {
        transaction!(self.store, "handed-over", |tx| {
            let now = self.clock.now();
            let row = rows::get::<KeyRecord>(tx, &self.sealer, id).await?;
            let row = row.ok_or(Reason::NotFound)?;
            if !row.body.life.is_leaving() {
                // Another node was faster.
                return Ok(());
            }
            let cause = StopCause::HandedOver;
            let next = row
                .body
                .with_life(row.body.life.destroyed(cause, Some(act), now)?);
            rows::save(tx, &self.sealer, &row, &next).await?;
            let kept = ResultRecord {
                values: vec![B64(sealed.clone().into_bytes())],
                counter: None,
                until: now.plus(KEPT),
            };
            rows::insert(tx, &self.sealer, &result_id(act, 0), &kept).await?;
            self.audit.append(tx, key_event(&next, act), now).await?;
            Ok::<_, Failed>(())
        })
    }

    async fn keep(&self, id: &str, act: Digest32) -> Result<(), Failed> {
        transaction!(self.store, "not-handed-over", |tx| {
            let now = self.clock.now();
            let row = rows::get::<KeyRecord>(tx, &self.sealer, id).await?;
            let row = row.ok_or(Reason::NotFound)?;
            let Ok(life) = row.body.life.stays(now) else {
                return Ok(());
            };
            let next = KeyRecord {
                receiver: None,
                ..row.body.with_life(life)
            };
            rows::save(tx, &self.sealer, &row, &next).await?;
            let note = key_note(&next, Happened::Suspended, now);
            self.note(tx, &next.owner, vec![note]).await?;
            let event: Event = key_event(&next, act);
            self.audit.append(tx, event, now).await?;
            Ok::<_, Failed>(())
        })
    }
}
