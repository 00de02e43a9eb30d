//! Who brings one-time codes and notices to signers, past the SSA.

use std::future::Future;
use std::pin::Pin;

use sam_api::Refusal;
use sam_api::delivery::{Deliver, DeliverRequest, Tell, TellRequest};
use service_kit::CallError;

/// A code or notice that didn't go out, or of which nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// Another try may help.
    #[error("not delivered now")]
    Later,
    /// It can't be brought there.
    #[error("it can't be delivered there")]
    Never,
}

/// What comes of bringing something.
pub type Delivering<'a> = Pin<Box<dyn Future<Output = Result<(), Undelivered>> + Send + 'a>>;

/// Brings codes and notices to signers: a process of the SAM's own zone, never the SSA.
pub trait Courier: Send + Sync {
    /// Brings one code to one address, once.
    fn deliver<'a>(&'a self, request: &'a DeliverRequest) -> Delivering<'a>;

    /// Tells one person what happened, once.
    fn tell<'a>(&'a self, request: &'a TellRequest) -> Delivering<'a>;
}

impl Courier for service_kit::Client {
    fn deliver<'a>(&'a self, request: &'a DeliverRequest) -> Delivering<'a> {
        Box::pin(async move { self.call::<Deliver>(request).await.map(drop).map_err(why) })
    }

    fn tell<'a>(&'a self, request: &'a TellRequest) -> Delivering<'a> {
        Box::pin(async move { self.call::<Tell>(request).await.map(drop).map_err(why) })
    }
}

fn why(error: CallError<Refusal>) -> Undelivered {
    tracing::error!(%error, "the courier brought nothing");
    match error {
        CallError::Refused(Refusal::Invalid { .. }) => Undelivered::Never,
        _ => Undelivered::Later,
    }
}
