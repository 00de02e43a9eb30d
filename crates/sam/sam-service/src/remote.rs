//! The CM behind its mutual TLS listener.

use cm_api::rpc::Refusal;
use cm_api::{CryptoModule, ModuleError};
use core_types::rpc::Method;
use service_kit::{CallError, Client};

/// The way to the module over mutual TLS.
#[derive(Debug, Clone)]
pub struct RemoteModule(Client);

impl RemoteModule {
    /// Calls the module with the SAM's own client certificate.
    pub fn new(client: Client) -> Self {
        Self(client)
    }
}

impl CryptoModule for RemoteModule {
    async fn call<M>(&self, request: &M::Request) -> Result<M::Response, ModuleError>
    where
        M: Method<Refusal = Refusal>,
    {
        self.0
            .call::<M>(request)
            .await
            .map_err(|error| match error {
                CallError::Refused(refusal) => ModuleError::Refused(refusal),
                // Nothing was sent, which is as definite as the module's own word.
                CallError::Unreachable => ModuleError::Refused(Refusal::NotOperational),
                CallError::Unknown => ModuleError::Unknown,
            })
    }
}
