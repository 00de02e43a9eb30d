//! Who brings one-time codes to signers, past the SSA.

use std::future::Future;
use std::pin::Pin;

use sam_api::delivery::{Deliver, DeliverRequest};

/// A code that didn't go out, or of which nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the code was not delivered")]
pub struct Undelivered;

/// What comes of bringing a code.
pub type Delivering<'a> = Pin<Box<dyn Future<Output = Result<(), Undelivered>> + Send + 'a>>;

/// Brings codes to signers: a process of the SAM's own zone, never the SSA.
pub trait Courier: Send + Sync {
    /// Brings one code to one address, once.
    fn deliver<'a>(&'a self, request: &'a DeliverRequest) -> Delivering<'a>;
}

impl Courier for service_kit::Client {
    fn deliver<'a>(&'a self, request: &'a DeliverRequest) -> Delivering<'a> {
        Box::pin(async move {
            let done = self.call::<Deliver>(request).await;
            done.map(drop).map_err(|error| {
                tracing::error!(%error, "the courier brought no code");
                Undelivered
            })
        })
    }
}
