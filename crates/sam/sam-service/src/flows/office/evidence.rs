//! The evidence of what officers approved, for an officer to keep and to hand to whoever has to judge it.

use cm_api::CryptoModule;
use sam_core::Reason;
use sam_core::office::{Deed, Proposal};
use sap::office::calls::{OfficeRefusal, ProposalEvidence, ProposalRequest};
use serde_json::{Value, json};

use super::About;
use super::proposals::check_deed;
use crate::failed::Failed;
use crate::receipt::{ReceiptError, bundle};
use crate::rows;
use crate::sam::Sam;

impl<C: CryptoModule> Sam<C> {
    /// The bundles of all approvals of a proposal, for whoever may see proposals.
    ///
    /// # Errors
    /// [`OfficeRefusal`]: `not-now` until all of it has its place under a checkpoint of the log, and once that was deleted after
    /// archiving; rule `no-approval` while nobody has approved.
    pub async fn proposal_evidence(
        &self,
        request: ProposalRequest,
    ) -> Result<ProposalEvidence, OfficeRefusal> {
        let mut about = About {
            account: None,
            digest: Some(request.proposal),
        };
        match self.try_proposal_evidence(&request, &mut about).await {
            Ok(bundle) => Ok(ProposalEvidence { bundle }),
            Err(failed) => Err(self
                .refused_office("proposal/evidence", about, &failed)
                .await),
        }
    }

    async fn try_proposal_evidence(
        &self,
        request: &ProposalRequest,
        about: &mut About,
    ) -> Result<String, Failed> {
        let present = self.present(&request.session, about).await?;
        check_deed(&present.person, Deed::SeeProposals, self.clock.now())?;
        let mut tx = self.store.read("proposal-evidence").await?;
        let id = request.proposal.to_string();
        let row = rows::get::<Proposal>(&mut tx, &self.sealer, &id).await?;
        drop(tx);
        let approvals = row.ok_or(Reason::NotFound)?.body.approvals;
        if approvals.is_empty() {
            return Err(Reason::NotAllowed("no-approval").into());
        }
        let mut bundles = Vec::with_capacity(approvals.len());
        for given in &approvals {
            let account = self.sealer.name(given.account.as_str());
            let made = bundle(&self.store, &self.root, &account, given.act).await;
            let text = made.map_err(|error| match error {
                // It was approved: what is missing is its place in the log.
                ReceiptError::NotFound | ReceiptError::NotYet => Failed::No(Reason::NotNow),
                ReceiptError::Store(error) => Failed::Store(error),
            })?;
            let one: Value = serde_json::from_str(&text).map_err(|_| Reason::NotNow)?;
            bundles.push(one);
        }
        let all = json!({
            "format": "natsuin-proposal/1",
            "proposal": request.proposal,
            "approvals": bundles,
        });
        Ok(all.to_string())
    }
}
