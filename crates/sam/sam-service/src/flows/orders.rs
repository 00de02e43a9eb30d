//! Orders to the CM, signed by `K_act` and carried with the statement of the day.

use std::time::Duration;

use cm_api::order::MAX_ORDER_LIFE;
use cm_api::rpc::Execute;
use cm_api::{CryptoModule, ExecuteRequest, Executed, ModuleError, Order, OrderBody, OrderKind};
use core_types::{Digest32, UnixTime};

use crate::failed::Failed;
use crate::sam::Sam;
use sam_core::Reason;

/// How long an answer is waited for: nothing can begin after the order's own end.
const PATIENCE: Duration = Duration::from_secs(MAX_ORDER_LIFE as u64 + 10);

/// What became of an order.
pub(crate) enum Ordered {
    /// It was executed.
    Done(Executed),
    /// Definite: nothing was done.
    Refused(cm_api::Refusal),
    /// Nobody knows.
    Unknown,
}

impl<C: CryptoModule> Sam<C> {
    /// Sends an order that ends at `exp`.
    ///
    /// # Errors
    /// [`Failed`] before the order was sent: nothing was done.
    pub(crate) async fn order(
        &self,
        name: Digest32,
        epoch: Digest32,
        exp: UnixTime,
        kind: OrderKind,
    ) -> Result<Ordered, Failed> {
        self.check_clock()?;
        let ring = self.ring(epoch, self.clock.now()).await?;
        let items = match &kind {
            OrderKind::Sign { items, .. } => items.len(),
            _ => 1,
        };
        let body = OrderBody {
            sam: self.config.sam.clone(),
            order: name,
            epoch,
            exp,
            kind,
        };
        let request = self
            .by_size(items, move || {
                let order = Order::seal(&body, &ring.act).map_err(|_| Reason::NotNow)?;
                Ok(ExecuteRequest {
                    statement: ring.statement.clone(),
                    order,
                })
            })
            .await?;
        let call = self.module.call::<Execute>(&request);
        Ok(match tokio::time::timeout(PATIENCE, call).await {
            Ok(Ok(executed)) => Ordered::Done(executed),
            Ok(Err(ModuleError::Refused(refusal))) => Ordered::Refused(refusal),
            Ok(Err(ModuleError::Unknown)) | Err(_) => Ordered::Unknown,
        })
    }
}
