//! Whose a call is. The SSA's services are known by their certificates. The signers' gateway serves all tenants: there a
//! request, an act or a voucher is its tenant's, whose row it is, and nobody says so beside it.

use cm_api::CryptoModule;
use core_types::{Digest32, KeyId, TenantId, VoucherId};
use sam_api::ssa::request_id;
use sam_core::enrol::Voucher;
use sam_core::{ActState, Reason};
use store_kit::Tx;

use crate::failed::Failed;
use crate::records::{KeyRecord, RequestRecord};
use crate::rows::{self, Noun};
use crate::sam::Sam;

impl<C: CryptoModule> Sam<C> {
    /// This SAM in the hands of the tenant with this name.
    pub fn of(&self, tenant: &TenantId) -> Option<Self> {
        self.tenants().find(|sam| sam.config.tenant == *tenant)
    }

    /// In the hands of the tenant to whom the service with this name in its certificate belongs.
    pub(crate) fn serving(&self, service: &str) -> Option<Self> {
        self.tenants()
            .find(|sam| sam.config.services.iter().any(|name| name == service))
    }

    /// In the hands of whose request this is.
    pub(crate) async fn at_request(&self, rid: Digest32) -> Self {
        self.holding::<RequestRecord>(&request_id(rid).to_string())
            .await
    }

    /// In the hands of whose act this is.
    pub(crate) async fn at_act(&self, act: Digest32) -> Self {
        self.holding::<ActState>(&act.to_string()).await
    }

    /// In the hands of whose voucher this is.
    pub(crate) async fn at_voucher(&self, voucher: &VoucherId) -> Self {
        self.holding::<Voucher>(voucher.as_str()).await
    }

    /// Where nobody's is named, or it can't be looked at, the call goes on with the provider's own tenant, which doesn't find
    /// it either.
    async fn holding<T: Noun>(&self, id: &str) -> Self {
        if self.config.tenants.is_empty() {
            return self.clone();
        }
        let found = async {
            let mut tx = self.store.read("tenant").await?;
            self.whose::<T>(&mut tx, id).await
        };
        found.await.unwrap_or_else(|_| self.clone())
    }

    /// In the hands of whose key this is; for officers and guards, who are there for all.
    pub(crate) async fn of_key(&self, tx: &mut Tx, key: &KeyId) -> Result<Self, Failed> {
        self.whose::<KeyRecord>(tx, key.as_str()).await
    }

    /// In the hands of whose registration this is.
    pub(crate) async fn of_registration(
        &self,
        tx: &mut Tx,
        registration: &VoucherId,
    ) -> Result<Self, Failed> {
        self.whose::<Voucher>(tx, registration.as_str()).await
    }

    async fn whose<T: Noun>(&self, tx: &mut Tx, id: &str) -> Result<Self, Failed> {
        let whose = rows::whose::<T>(tx, id).await?.ok_or(Reason::NotFound)?;
        Ok(self.of_row(whose.as_ref()).ok_or(Reason::NotFound)?)
    }

    /// In the hands of the tenant that a row names; nothing: the provider's own. Nobody's, if that tenant isn't served here any
    /// more: then nothing of it can be used.
    pub(crate) fn of_row(&self, whose: Option<&TenantId>) -> Option<Self> {
        match whose {
            Some(tenant) => self
                .tenants()
                .skip(1)
                .find(|sam| sam.config.tenant == *tenant),
            None => self.tenants().next(),
        }
    }
}
