//! The evidence of what officers approved, for an officer to keep and to hand to whoever has to judge it. That is a reading of the
//! log too: what isn't recorded isn't handed out.

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::PeerId;
use sam_core::Reason;
use sam_core::office::{Deed, Proposal};
use sap::office::calls::{OfficeRefusal, ProposalEvidence, ProposalRequest};
use serde_json::Value;
use store_kit::transaction;

use super::About;
use super::proposals::check_deed;
use crate::failed::Failed;
use crate::receipt::{ReceiptError, bundle, proposal_text};
use crate::rows;
use crate::sam::Sam;

impl<C: CryptoModule> Sam<C> {
    /// The bundles of all approvals of a proposal, for whoever may see proposals. Recorded before they leave.
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
        let now = self.clock.now();
        check_deed(&present.person, Deed::SeeProposals, now)?;
        let mut tx = self.store.read("proposal-evidence").await?;
        let id = request.proposal.to_string();
        let row = rows::get::<Proposal>(&mut tx, &self.sealer, &id).await?;
        drop(tx);
        let approvals = row.ok_or(Reason::NotFound)?.body.approvals;
        if approvals.is_empty() {
            return Err(Reason::NotAllowed("no-approval").into());
        }
        let (mut bundles, mut entries) = (Vec::with_capacity(approvals.len()), 0);
        for given in &approvals {
            let account = self.sealer.name(given.account.as_str());
            let made = bundle(&self.store, &self.root, &account, given.act).await;
            let text = made.map_err(|error| match error {
                // It was approved: what is missing is its place in the log.
                ReceiptError::NotFound | ReceiptError::NotYet => Failed::No(Reason::NotNow),
                ReceiptError::Store(error) => Failed::Store(error),
            })?;
            let one: Value = serde_json::from_str(&text).map_err(|_| Reason::NotNow)?;
            entries += one["entries"].as_array().map_or(0, Vec::len);
            bundles.push(one);
        }
        let reader = PeerId::parse(present.person.account.body.id.as_str());
        let read = Event::AuditRead {
            reader: reader.map_err(|_| Reason::Invalid("account"))?,
            what: "evidence".into(),
            query: request.proposal,
            entries: u32::try_from(entries).unwrap_or(u32::MAX),
        };
        transaction!(self.store, "audit-read", |tx| {
            self.audit.append(tx, read.clone(), now).await?;
            Ok::<_, Failed>(())
        })?;
        Ok(proposal_text(request.proposal, bundles))
    }
}
