//! What other zones show officers: the clients of an SSA, the log of a zone, and how the zone is. Only at the officers' gateway, and only if the operator
//! names such zones.
//!
//! The SAM decides whether the account may look, and records that it did, before anything is asked of the other zone; it doesn't hear
//! what that zone says, and believes none of it. The page shows it as the other zone's word. This gateway's own certificate opens
//! those doors, so whoever holds its key can look there, too; the other zone records each reading.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use core_types::rpc::Method as _;
use sap::office::calls::{Beside, BesideRequest, Looked};
use serde::Serialize;
use service_kit::Peer;

use crate::Gateway;
use crate::forward::{Forward, relayed, unwanted};

/// Where an SSA lists its clients.
const CLIENTS: &str = "/ssa/v1/client/list";
/// Where a zone searches its log.
const LOG: &str = "/search";
/// Where it says how it is.
const STATE: &str = "/state";

/// A zone that is shown beside the SAM.
pub struct Neighbour<F> {
    /// What it is called, such as `ssa`, or the tenant's name.
    pub name: String,
    /// The way to an SSA's listener for officers, if its clients are shown.
    pub clients: Option<F>,
    /// The way to the zone's listener for auditors, if its log is searched and its state shown.
    pub log: Option<F>,
}

/// The same, as the page knows it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NeighbourShown {
    name: String,
    clients: bool,
    log: bool,
}

impl<F> Neighbour<F> {
    pub(crate) fn shown(&self) -> NeighbourShown {
        NeighbourShown {
            name: self.name.clone(),
            clients: self.clients.is_some(),
            log: self.log.is_some(),
        }
    }
}

pub(crate) async fn look<F: Forward>(
    State(gateway): State<Arc<Gateway<F>>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(refused) = unwanted(&gateway, peer.as_deref(), &headers) {
        return refused;
    }
    let Ok(request) = serde_json::from_slice::<BesideRequest>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let zone = gateway
        .beside
        .iter()
        .find(|zone| zone.name == request.zone.as_str());
    let way = zone.and_then(|zone| match request.what {
        Looked::Clients => zone.clients.as_ref().map(|way| (way, CLIENTS)),
        Looked::Log => zone.log.as_ref().map(|way| (way, LOG)),
        Looked::State => zone.log.as_ref().map(|way| (way, STATE)),
    });
    let Some((way, path)) = way else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    // Nobody is asked before the SAM has said yes.
    let said = gateway.forward.forward(Beside::PATH, body.to_vec()).await;
    if !matches!(said, Ok((200, _))) {
        return relayed(Beside::PATH, said);
    }
    let question = match request.what {
        Looked::Clients | Looked::State => b"{}".to_vec(),
        Looked::Log => request.search.into_bytes(),
    };
    relayed(path, way.forward(path, question).await)
}
