//! Whether an order may be executed at all: pure decisions over statement, order and time.

use cm_api::order::{MAX_ATTEMPTS, MAX_ORDER_LIFE};
use cm_api::{ExecuteRequest, OrderBody, OrderKind, Refusal};
use core_types::UnixTime;
use jose::Jwk;
use sam_keys::{SamKeys, StatementError};

use crate::items::Items;

/// Seconds by which the SAM's clock may be ahead.
pub(crate) const CLOCKS_DIFFER: i64 = 60;

/// Whether statement and order are the SAM's, from the outside in (`III-3-4-authenticate-application`).
///
/// # Errors
/// [`Refusal`], saying the first check that failed.
pub(crate) fn authentic(
    request: &ExecuteRequest,
    root: &Jwk,
    sam: &str,
    now: UnixTime,
) -> Result<OrderBody, Refusal> {
    let keys = SamKeys::verify(&request.statement, std::slice::from_ref(root), now).map_err(
        |e| match e {
            StatementError::NotNow { .. } => Refusal::NotNow,
            _ => Refusal::NotAuthentic,
        },
    )?;
    let order = request
        .order
        .verify(&keys.act)
        .map_err(|_| Refusal::NotAuthentic)?;
    if keys.sam != sam || order.sam != sam || order.epoch != keys.epoch {
        return Err(Refusal::NotAuthentic);
    }
    Ok(order)
}

/// Whether an authentic order may be executed now.
///
/// # Errors
/// [`Refusal`], saying the first check that failed.
pub(crate) fn admit(order: &OrderBody, now: UnixTime) -> Result<(), Refusal> {
    if now >= order.exp || order.exp > now.plus(MAX_ORDER_LIFE) {
        return Err(Refusal::NotNow);
    }
    if let OrderKind::Sign {
        alg,
        items,
        approved,
        renewable,
        step,
        attempt,
        ..
    } = &order.kind
    {
        let whole = items.iter().all(|item| item.fits(*alg));
        let place = *attempt < MAX_ATTEMPTS && (*renewable || *step == 0);
        if Items::of(items).is_none() || !whole || !place {
            return Err(Refusal::Malformed);
        }
        if *approved > now.plus(CLOCKS_DIFFER) {
            return Err(Refusal::NotNow);
        }
    }
    // The name is what makes an order unique, so that it isn't left to the sender.
    if order.kind.name().is_some_and(|name| name != order.order) {
        return Err(Refusal::Malformed);
    }
    Ok(())
}
