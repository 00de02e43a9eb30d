//! `keys`, `refuse` and `outcome` (`sap.md` §5, messages 3 and 6).

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::Digest32;
use sam_core::{ActState, Reason};
use sap::messages::{
    ActOutcome, Done, KeysAnswer, OutcomeAnswer, OutcomeRequest, RefuseRequest, SapRefusal,
};
use store_kit::transaction;

use crate::audit;
use crate::failed::Failed;
use crate::records::{RequestPhase, RequestRecord};
use crate::rows;
use crate::sam::Sam;

impl<C: CryptoModule> Sam<C> {
    /// The current `sam-keys` statement.
    ///
    /// # Errors
    /// [`SapRefusal`] when the module can't vouch for new keys.
    pub async fn statement(&self) -> Result<KeysAnswer, SapRefusal> {
        match self.current_statement().await {
            Ok(statement) => Ok(KeysAnswer { statement }),
            Err(failed) => Err(self.explain(&failed).await.to_sap()),
        }
    }

    pub(crate) async fn current_statement(&self) -> Result<String, Failed> {
        let epoch = self.epoch().await?;
        Ok(self.ring(epoch, self.clock.now()).await?.statement.clone())
    }

    /// The person says no: act and request are dead.
    ///
    /// # Errors
    /// [`SapRefusal`].
    pub async fn refuse(&self, request: RefuseRequest) -> Result<Done, SapRefusal> {
        match self.try_refuse(&request).await {
            Ok(done) => Ok(done),
            Err(failed) => {
                let reason = self.explain(&failed).await;
                let (act, reason_code) = (Some(request.act), audit::reason(&reason));
                self.record(Event::SapRefused {
                    act,
                    person: None,
                    method: None,
                    reason: reason_code,
                })
                .await;
                Err(reason.to_sap())
            }
        }
    }

    /// What became of an act.
    ///
    /// # Errors
    /// [`SapRefusal`].
    pub async fn outcome(&self, request: OutcomeRequest) -> Result<OutcomeAnswer, SapRefusal> {
        match self.try_outcome(request.act).await {
            Ok(answer) => Ok(answer),
            Err(failed) => Err(self.explain(&failed).await.to_sap()),
        }
    }

    async fn try_refuse(&self, request: &RefuseRequest) -> Result<Done, Failed> {
        transaction!(self.store, "refuse", |tx| {
            let now = self.now(tx).await?;
            let row = rows::get::<ActState>(tx, &self.sealer, &request.act.to_string()).await?;
            let row = row.ok_or(Reason::NotFound)?;
            let next = row.body.refuse(now)?;
            // Request before act, as everywhere: two flows must not lock them in opposite order.
            if let Some(id) = next.subject.request()
                && let Some(owner) =
                    rows::get::<RequestRecord>(tx, &self.sealer, &id.to_string()).await?
            {
                let refused = RequestRecord {
                    phase: RequestPhase::Refused,
                    ..owner.body.clone()
                };
                rows::save(tx, &self.sealer, &owner, &refused).await?;
            }
            rows::save(tx, &self.sealer, &row, &next).await?;
            let mut events = vec![Event::ActRefused {
                act: request.act,
                person: next.person.clone(),
            }];
            if request.unknown {
                events.push(Event::Alarm {
                    what: "request-unknown-to-signer".into(),
                });
            }
            self.audit.append_all(tx, &events, now.time).await?;
            Ok::<_, Failed>(Done {
                return_uri: next.return_uri,
            })
        })
    }

    async fn try_outcome(&self, act: Digest32) -> Result<OutcomeAnswer, Failed> {
        let epoch = self.epoch().await?;
        let mut tx = self.store.read("outcome").await?;
        let row = rows::get::<ActState>(&mut tx, &self.sealer, &act.to_string()).await?;
        let row = row.ok_or(Reason::NotFound)?;
        let state = row.body.outcome(self.at(epoch));
        let decided = matches!(state, ActOutcome::Approved | ActOutcome::Refused);
        Ok(OutcomeAnswer {
            state,
            return_uri: decided.then_some(row.body.return_uri),
        })
    }
}
