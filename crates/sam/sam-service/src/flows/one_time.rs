//! Keys for one act (`III-3-6-reauthorization-limits`): from the moment in which the right of that act is spent the key is good
//! for no other, and when the act is over it is destroyed, whatever came of it. The module holds to the same by itself.

use cm_api::CryptoModule;
use core_types::{Digest32, UnixTime};
use sam_api::ssa::{Happened, StopCause};
use store_kit::{StoreError, transaction};

use super::change::{key_event, key_note};
use super::taken::Taken;
use crate::failed::Failed;
use crate::records::KeyRecord;
use crate::rows::{self, Walk};
use crate::sam::Sam;

impl<C: CryptoModule> Sam<C> {
    /// The act of a key for one act is over. What can't be written now, maintenance does.
    pub(crate) async fn end_if_one_time(&self, key: &KeyRecord, act: Digest32) {
        if !key.one_time {
            return;
        }
        match self.end_used(key.key.as_str(), act).await {
            Ok(()) => self.finish_soon(),
            Err(failed) => {
                self.explain(&failed).await;
            }
        }
    }

    /// Ends keys whose one act can't bring anything any more, after a crash in the midst of it.
    pub(crate) async fn end_spent(&self, now: UnixTime) -> Result<(), StoreError> {
        let mut over = Walk::new(rows::SPENT, &self.sealer, now);
        while let Some(id) = over.next(&self.store).await? {
            let ended = self.end_one_spent(&id).await;
            self.go_on(&mut over, ended).await?;
        }
        Ok(())
    }

    async fn end_one_spent(&self, id: &str) -> Result<(), Failed> {
        let mut tx = self.store.read("spent").await?;
        let row = rows::get::<KeyRecord>(&mut tx, &self.sealer, id).await?;
        drop(tx);
        match row.and_then(|key| key.body.spent) {
            Some(spent) => self.end_used(id, spent.act).await,
            None => Ok(()),
        }
    }

    async fn end_used(&self, id: &str, act: Digest32) -> Result<(), Failed> {
        transaction!(self.store, "one-time", |tx| {
            let now = self.clock.now();
            let Some(row) = rows::get::<KeyRecord>(tx, &self.sealer, id).await? else {
                return Ok(());
            };
            let by_this = row.body.spent.as_ref().is_some_and(|s| s.act == act);
            let Ok(life) = row.body.life.destroyed(StopCause::Used, Some(act), now) else {
                return Ok(());
            };
            if !by_this {
                return Ok(());
            }
            let next = row.body.with_life(life);
            rows::save(tx, &self.sealer, &row, &next).await?;
            let note = key_note(&next, Happened::Destroyed, now);
            self.note(tx, &next.owner, vec![note]).await?;
            self.audit.append(tx, key_event(&next, act), now).await?;
            Ok::<_, Failed>(())
        })
    }

    /// Signs with what T1 took, and ends the key if that was its one act.
    pub(crate) async fn execute_once(
        &self,
        taken: Taken,
        client: &core_types::ClientId,
    ) -> Result<sam_api::ssa::SignAnswer, Failed> {
        let (key, act) = (taken.key.clone(), taken.found.digest);
        let done = self.execute(taken, client).await;
        self.end_if_one_time(&key, act).await;
        done
    }
}
