//! `renew` (`sap.md` §7): a new token takes the place of the current one.

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::{Digest32, sha256};
use sam_api::Refusal;
use sam_api::ssa::{BindAnswer, RenewRequest};
use sam_core::state::{ItemState, Renewal};
use sam_core::{ActState, Reason};
use store_kit::transaction;

use super::prepare::is_bare;
use crate::audit;
use crate::failed::Failed;
use crate::records::KeyRecord;
use crate::rows::{self, KeyLock};
use crate::sam::Sam;

impl<C: CryptoModule> Sam<C> {
    /// Renews the right of the token, for items of its act that are left.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn renew(&self, service: &str, request: RenewRequest) -> Result<BindAnswer, Refusal> {
        let mut act = None;
        let failed = match self.try_renew(service, &request, &mut act).await {
            Ok(answer) => return Ok(answer),
            Err(failed) => failed,
        };
        let reason = self.explain(&failed).await;
        if let Some(act) = act {
            self.count_failure(act, &reason).await;
        }
        let event = Event::SadRefused {
            act,
            client: Some(request.client),
            person: None,
            reason: audit::reason(&reason),
        };
        self.record(event).await;
        Err(reason.to_ssa())
    }

    async fn try_renew(
        &self,
        service: &str,
        request: &RenewRequest,
        seen: &mut Option<Digest32>,
    ) -> Result<BindAnswer, Failed> {
        let grant = sha256(&[request.token.expose()]);
        let found = match self.find(grant, None).await {
            // The call may have been done and its answer lost: then the new token is bound by now.
            Err(Failed::No(Reason::NotFound)) => self.find(request.grant, None).await?,
            found => found?,
        };
        if found.service != service {
            return Err(Reason::NotFound.into());
        }
        *seen = Some(found.digest);
        let asked = Renewal {
            grant,
            next: request.grant,
            client: &request.client,
            key: &request.key,
            hashes: &request.hashes,
        };
        let id = found.digest.to_string();
        transaction!(self.store, "renew", |tx| {
            let now = self.now(tx).await?;
            self.check_not_set()?;
            let row = rows::get::<ActState>(tx, &self.sealer, &id)
                .await?
                .ok_or(Reason::NotFound)?;
            let next = row.body.renew(&found.act, asked, now)?;
            let key =
                rows::get_key(tx, &self.sealer, request.key.as_str(), KeyLock::Shared).await?;
            let good = |k: &rows::Row<KeyRecord>| k.body.is_active(now.time);
            if !key.as_ref().is_some_and(good) {
                return Err(Reason::KeyNotActive.into());
            }
            if next != row.body {
                let event = Event::SadRenewed {
                    act: found.digest,
                    client: request.client.clone(),
                    person: next.person.clone(),
                    step: next.step,
                    grant: request.grant,
                };
                rows::save(tx, &self.sealer, &row, &next).await?;
                self.audit.append(tx, event, now.time).await?;
            }
            let count = u32::try_from(next.items.len()).unwrap_or(u32::MAX);
            let left = (0..count).filter(|i| next.items.get(*i) == ItemState::Free);
            Ok::<_, Failed>(BindAnswer {
                sign_until: next.check_right(now)?.sign_until,
                key: request.key.clone(),
                count: u32::try_from(left.count()).unwrap_or(u32::MAX),
                bare: is_bare(&found.act.items),
            })
        })
    }
}
