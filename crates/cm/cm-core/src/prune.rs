//! Names of orders are kept for a day, and a time before which none is admitted any more for good.
//!
//! An order that is older than a day is refused by its own times: its end, and the time for which an act lasts. That holds as
//! long as the clock isn't set back. So a sealed mark says before which time this module's clock can't be any more; it only
//! goes forward, and names are forgotten that are a day older than that. The mark follows the orders that were executed, since
//! there the SAM's clock agreed, and never runs ahead of the log, which says the same to a process that starts.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use cm_api::{OrderBody, OrderKind, Refusal};
use core_types::{Random, UnixTime};
use serde::{Deserialize, Serialize};
use store_kit::{Tx, sql, transaction};

use crate::mark;
use crate::module::Module;
use crate::store::{self, Failed};
use crate::vault::Vault;

/// How long the name of an order is kept, in seconds: longer than anything lasts that comes in with an order or a ceremony.
pub(crate) const ORDERS_KEPT: i64 = 86_400;
/// Longest time for which an act lasts, whatever a key's attributes say, in seconds: with it goes the last use of a name.
pub(crate) const LONGEST_ACT: i64 = ORDERS_KEPT / 2;
/// Seconds by which the clock may go back without a halt, as when it is corrected.
const BACK: i64 = 3600;
/// Names that are forgotten with one commit.
const AT_ONCE: i64 = 2_000;

/// The mark's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Barrier {
    not_before: UnixTime,
}

/// What this process knows of time.
pub(crate) struct Times {
    not_before: AtomicI64,
    told: AtomicBool,
}

impl Times {
    pub(crate) fn new() -> Self {
        Self {
            not_before: AtomicI64::new(0),
            told: AtomicBool::new(false),
        }
    }

    /// At this time an order was executed: the SAM's clock and this one agreed.
    fn agreed(&self, at: UnixTime) {
        self.not_before.fetch_max(at.0 - BACK, Ordering::SeqCst);
    }

    fn not_before(&self) -> UnixTime {
        UnixTime(self.not_before.load(Ordering::SeqCst))
    }
}

/// Makes the first mark, which says nothing.
pub(crate) async fn begin(tx: &mut Tx, vault: &Vault, random: &dyn Random) -> Result<(), Failed> {
    if mark::read::<Barrier>(tx, vault, mark::ORDERS)
        .await?
        .is_none()
    {
        let first = Barrier {
            not_before: UnixTime(0),
        };
        mark::write(tx, vault, random, mark::ORDERS, &first, None).await?;
    }
    Ok(())
}

async fn read(tx: &mut Tx, vault: &Vault) -> Result<(Barrier, i64), Failed> {
    let read = mark::read(tx, vault, mark::ORDERS).await?;
    read.ok_or_else(|| {
        tracing::error!("the mark of time is gone; somebody wrote to the module's store");
        Refusal::NotOperational.into()
    })
}

impl Module {
    /// Refuses when the clock is before what it can be, or beyond what is declared of it. One that was set and is within its bound
    /// executes orders: the times that they bring, and the mark, hold all the same.
    pub(crate) async fn look_at_clock(&self) -> Result<(), Refusal> {
        if self.clock.now() >= self.times.not_before() {
            return match self.clock_watch.judged().is_good() {
                true => Ok(()),
                false => Err(Refusal::NotNow),
            };
        }
        if !self.times.told.swap(true, Ordering::SeqCst) {
            tracing::error!("this machine's clock was set back; no order is executed");
            self.alarm("cm-clock-set-back").await;
        }
        Err(Refusal::NotNow)
    }

    /// An order was executed that the log knows by its name.
    pub(crate) fn executed(&self, order: &OrderBody, at: UnixTime) {
        if let OrderKind::Sign { .. } | OrderKind::Generate { .. } = order.kind {
            self.times.agreed(at);
        }
    }

    /// The log's last order, for a process that has seen none.
    pub(crate) fn logged(&self, last: Option<UnixTime>) {
        if let Some(last) = last {
            self.times.agreed(last);
        }
    }

    /// Takes the name of an order, as [`store::take_order`], at a time that can be.
    pub(crate) async fn take_order(
        &self,
        tx: &mut Tx,
        order: &OrderBody,
        now: UnixTime,
    ) -> Result<(), Failed> {
        store::take_order(tx, order, now).await?;
        self.can_be(tx, now).await
    }

    /// To be asked after a name was taken: if it was free only because another node has forgotten it, that node's mark is
    /// seen here.
    pub(crate) async fn can_be(&self, tx: &mut Tx, now: UnixTime) -> Result<(), Failed> {
        let (Barrier { not_before }, _) = read(tx, &self.vault).await?;
        let known = self
            .times
            .not_before
            .fetch_max(not_before.0, Ordering::SeqCst);
        if now.0 < known.max(not_before.0) {
            return Err(Refusal::NotNow.into());
        }
        Ok(())
    }

    /// Forgets the names of orders that can't be admitted any more; answers how many. To be called again and again.
    ///
    /// # Errors
    /// [`Refusal::NotOperational`] when the store can't be written.
    pub async fn forget_orders(&self) -> Result<u64, Refusal> {
        let until = self.times.not_before();
        let mut forgotten = 0;
        loop {
            let done: Result<u64, Failed> = transaction!(self.store, "cm-forget", |tx| {
                let (held, row) = read(tx, &self.vault).await?;
                let next = Barrier {
                    not_before: held.not_before.max(until),
                };
                let oldest = next.not_before.plus(-ORDERS_KEPT);
                let query = "DELETE FROM cm_order WHERE id IN \
                             (SELECT id FROM cm_order WHERE at < $1 ORDER BY at LIMIT $2)";
                let query = sql(query).bind(oldest.0).bind(AT_ONCE);
                let gone = tx.execute(query).await?;
                if gone > 0 && next != held {
                    let random = self.random.as_ref();
                    let row = Some(row);
                    mark::write(tx, &self.vault, random, mark::ORDERS, &next, row).await?;
                }
                Ok::<_, Failed>(gone)
            });
            let gone = done.map_err(|failed| self.fail(failed))?;
            forgotten += gone;
            if gone < AT_ONCE.unsigned_abs() {
                return Ok(forgotten);
            }
        }
    }
}
