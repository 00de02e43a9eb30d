//! `explicit` (`sap.md` §10): an application collected PIN and one-time code, and one call prepares, mints, checks and binds.
//!
//! Nothing here is easier than elsewhere: it is the same request, act, counter, approval and binding. What differs is that
//! the person saw no act, so that the evidence says *collected by the application*, and that only a factor made for this
//! counts, whose keys stay at level 1.

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::Digest32;
use sam_api::Refusal;
use sam_api::ssa::{BindAnswer, BindRequest, ExplicitRequest, PrepareRequest, request_id};
use sam_core::evidence::PublicProof;
use sap::act_digest;
use sap::proof::Method;

use super::approve::{Proved, Wanted};
use crate::audit;
use crate::failed::Failed;
use crate::sam::Sam;

/// Life of the request in seconds: it is approved at once or not at all.
const LIFE: i64 = 60;

impl<C: CryptoModule> Sam<C> {
    /// Authorizes the items by collected secrets and binds the token.
    ///
    /// # Errors
    /// [`Refusal`]; of the secrets only that they are wrong together, or locked.
    pub async fn explicit(
        &self,
        service: &str,
        request: ExplicitRequest,
    ) -> Result<BindAnswer, Refusal> {
        let prepare = PrepareRequest {
            person: request.person.clone(),
            key: request.key.clone(),
            client: request.client.clone(),
            client_name: request.client_name.clone(),
            items: request.items.clone(),
            client_jws: None,
            open: None,
            renew: request.renew,
            // Nobody goes anywhere afterwards; acts have a place to go to.
            return_uri: self
                .config
                .return_prefixes
                .first()
                .cloned()
                .unwrap_or_default(),
            ttl: LIFE,
        };
        let rid = self.prepare_for(service, prepare, true).await?.rid;
        let (person, grant) = (request.person.clone(), request.grant);
        let mut act = None;
        if let Err(failed) = self.try_explicit(rid, request, &mut act).await {
            let reason = self.explain(&failed).await;
            self.record(Event::SapRefused {
                act,
                person: Some(person),
                method: Some(audit::method(Method::Collected)),
                reason: audit::reason(&reason),
            })
            .await;
            return Err(reason.to_ssa());
        }
        self.bind(service, BindRequest { rid, grant }).await
    }

    async fn try_explicit(
        &self,
        rid: Digest32,
        request: ExplicitRequest,
        act: &mut Option<Digest32>,
    ) -> Result<(), Failed> {
        let opened = self.try_open(request_id(rid)).await?;
        let digest = act_digest(&opened.act);
        *act = Some(digest);
        let loaded = self.count_try(digest, Wanted::Collected).await?;
        let compared = self.compare(&loaded, request.pin, &request.otp).await;
        let success = match compared {
            Ok(success) => success,
            Err(failed) => {
                self.after_wrong_secret(digest, &loaded).await?;
                return Err(failed);
            }
        };
        let proved = Proved {
            act: digest,
            method: Method::Collected,
            public: PublicProof::Collected {
                act: digest,
                factor: loaded.factor.body.id.clone(),
                client: request.client,
            },
        };
        self.accept(proved, &loaded, &success, None).await.map(drop)
    }
}
