//! The module's listener: the SAM over mutual TLS, and nobody else.

use std::sync::Arc;

use axum::Router;
use cm_api::Refusal;
use cm_api::rpc::{Execute, PinMac, Root, RowKey, Statement, Status};
use service_kit::{Peer, Routes};

use crate::module::Module;

/// Longest request: an order over 10,000 SHA-512 digests is about 2 MB as a JWS.
const LIMIT: usize = 4 * 1024 * 1024;

struct Door {
    module: Arc<Module>,
    caller: String,
}

impl Door {
    /// `III-3-4-authenticate-application`: the name in the caller's certificate must be the SAM's.
    fn admit(&self, peer: &Peer) -> Result<&Module, Refusal> {
        if peer.name == self.caller {
            return Ok(&self.module);
        }
        tracing::warn!(peer = %peer.name, "a caller that isn't the SAM was refused");
        Err(Refusal::NotAuthentic)
    }
}

/// Routes of the module for a mutual TLS listener. `caller`: DNS name in the SAM's client certificate.
pub fn router(module: Arc<Module>, caller: impl Into<String>) -> Router {
    let door = Arc::new(Door {
        module,
        caller: caller.into(),
    });
    Routes::new(door, LIMIT)
        .method::<Root, _, _>(|d, peer, _| async move { Ok(d.admit(&peer)?.root_answer()) })
        .method::<Status, _, _>(|d, peer, _| async move { Ok(d.admit(&peer)?.health()) })
        .method::<Statement, _, _>(|d, peer, request| async move {
            d.admit(&peer)?.statement(request).await
        })
        .method::<RowKey, _, _>(|d, peer, request| async move { d.admit(&peer)?.row_key(&request) })
        .method::<PinMac, _, _>(|d, peer, request| async move { d.admit(&peer)?.pin_mac(&request) })
        .method::<Execute, _, _>(|d, peer, request| async move {
            d.admit(&peer)?.execute(&request).await
        })
        .into_router()
}
