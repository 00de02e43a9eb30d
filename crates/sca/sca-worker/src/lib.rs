//! The worker behind `signatures/signDoc`: a process of its own that reads the documents of strangers, so that the service needn't.
//!
//! It has the caller's token for one call and does what any client would: reads the credential, computes what is to be signed, and
//! asks `signatures/signHash` for it. What the signer didn't approve it can't have signed. It keeps nothing, writes nothing, and
//! reaches the service and a time-stamping authority only. Must never know a key, the SAM, or a token for longer than a call.
//!
//! CAdES (attached or detached) of documents and of digests, and PAdES signatures of digests: what a signer approved is the digest of the
//! prepared file, which only who prepared it knows.

mod sign;

use std::sync::Arc;

use axum::Router;
use core_types::Random;
use csc_client::Client;
use csc_types::WorkerSignDoc;
use pki::fetch::Fetch;
use service_kit::{Peer, Routes};

pub use csc_types::{WorkerRefusal, WorkerRequest};

/// Longest request in bytes.
const LIMIT: usize = 32 << 20;

/// An authority for time-stamps.
pub struct TimeStamper {
    /// Where it is asked.
    pub url: String,
    /// Certificates (DER) that its own has to lead to.
    pub anchors: Vec<Vec<u8>>,
}

/// What the worker works with.
pub struct Worker {
    /// The service whose worker it is, as its client.
    pub service: Client,
    /// Names in the certificates of those who may hand it work: the service's nodes.
    pub callers: Vec<String>,
    /// For level B-T; asked in this order.
    pub time_stampers: Vec<TimeStamper>,
    /// The way to them.
    pub fetch: Arc<dyn Fetch>,
    /// For nonces.
    pub random: Arc<dyn Random>,
}

/// The one method there is, for a listener with mutual TLS.
pub fn router(worker: Worker) -> Router {
    Routes::new(Arc::new(worker), LIMIT)
        .method::<WorkerSignDoc, _, _>(|worker, peer, request| async move {
            worker.admit(&peer)?;
            worker.sign_doc(request).await
        })
        .into_router()
}

impl Worker {
    fn admit(&self, peer: &Peer) -> Result<(), WorkerRefusal> {
        if self.callers.contains(&peer.name) {
            return Ok(());
        }
        tracing::warn!(peer = peer.name, "somebody else wanted documents signed");
        Err(csc_types::CscError::AccessDenied.into())
    }
}
