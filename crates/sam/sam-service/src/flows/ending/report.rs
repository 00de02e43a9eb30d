//! What officers are told of how far the end of all keys is.

use cm_api::CryptoModule;
use core_types::Digest32;
use sam_core::Reason;
use sam_core::office::{Deed, Proposal};
use sap::office::calls::{OfficeRefusal, ProposalRequest};
use sap::office::ending::{Certificates, CertificatesRequest, Destroyed, Part, Progress};
use sap::office::{EndCause, Measure};
use store_kit::{Tx, sql};

use super::PAGE;
use crate::failed::Failed;
use crate::flows::office::{About, check_deed};
use crate::records::KeyRecord;
use crate::rows::{self, Noun as _};
use crate::sam::Sam;

impl<C: CryptoModule> Sam<C> {
    /// How far it is with a proposal to end all keys.
    ///
    /// # Errors
    /// [`OfficeRefusal`]; when it hasn't been approved, there is nothing to tell.
    pub async fn proposal_progress(
        &self,
        request: ProposalRequest,
    ) -> Result<Progress, OfficeRefusal> {
        let mut about = About {
            digest: Some(request.proposal),
            ..About::default()
        };
        match self.try_progress(&request, &mut about).await {
            Ok(progress) => Ok(progress),
            Err(failed) => Err(self
                .refused_office("proposal/progress", about, &failed)
                .await),
        }
    }

    /// Certificates of the keys that were destroyed with such a proposal.
    ///
    /// # Errors
    /// [`OfficeRefusal`].
    pub async fn proposal_certificates(
        &self,
        request: CertificatesRequest,
    ) -> Result<Certificates, OfficeRefusal> {
        let mut about = About {
            digest: Some(request.proposal),
            ..About::default()
        };
        match self.try_certificates(&request, &mut about).await {
            Ok(certificates) => Ok(certificates),
            Err(failed) => Err(self
                .refused_office("proposal/certificates", about, &failed)
                .await),
        }
    }

    async fn try_progress(
        &self,
        request: &ProposalRequest,
        about: &mut About,
    ) -> Result<Progress, Failed> {
        let present = self.present(&request.session, about).await?;
        check_deed(&present.person, Deed::SeeProposals, self.clock.now())?;
        let mut tx = self.store.read("ending-progress").await?;
        let cause = self.end_cause(&mut tx, request.proposal).await?;
        let mut parts = Vec::new();
        let mut complete = true;
        let mut joined = false;
        for tenant in self.tenants() {
            let row = tenant.standing(&mut tx).await?;
            joined |= row.body.whole().is_some_and(|w| w.by == request.proposal);
            let Some(ended) = row.body.ended.filter(|e| e.by == request.proposal) else {
                continue;
            };
            complete &= ended.is_complete();
            parts.push(Part {
                tenant: tenant.config.tenant.clone(),
                at: ended.at,
                keys: ended.keys,
                ended: ended.marked,
                destroyed: ended.destroyed,
                waiting: ended.marked.saturating_sub(ended.destroyed),
                told: ended.told,
                all_seen: ended.all_seen,
            });
        }
        // Where all had ended before, it has no part of its own.
        if parts.is_empty() && !joined {
            return Err(Reason::NotApproved.into());
        }
        Ok(Progress {
            cause,
            parts,
            complete,
        })
    }

    async fn try_certificates(
        &self,
        request: &CertificatesRequest,
        about: &mut About,
    ) -> Result<Certificates, Failed> {
        let present = self.present(&request.session, about).await?;
        // They name the owners.
        check_deed(&present.person, Deed::SeeKeys, self.clock.now())?;
        let mut tx = self.store.read("ending-certificates").await?;
        self.end_cause(&mut tx, request.proposal).await?;
        let after = request.after.as_deref().unwrap_or_default();
        let page = sql(KeyRecord::PAGE).bind(after).bind(PAGE);
        let page = tx.fetch_all(page).await?;
        let mut keys = Vec::new();
        for row in &page {
            // Whosever it is: officers are there for all tenants.
            let Ok(key) = rows::unseal::<KeyRecord>(&self.sealer, row) else {
                continue;
            };
            let stop = key
                .body
                .life
                .stop
                .filter(|s| s.by == Some(request.proposal));
            if let Some(gone) = stop.and_then(|stop| stop.gone) {
                keys.push(Destroyed {
                    key: key.body.key,
                    certificate: gone.certificate,
                });
            }
        }
        let next = match page.last() {
            Some(last) if i64::try_from(page.len()).is_ok_and(|n| n == PAGE) => {
                Some(last.text("id")?)
            }
            _ => None,
        };
        Ok(Certificates { keys, next })
    }

    async fn end_cause(&self, tx: &mut Tx, proposal: Digest32) -> Result<EndCause, Failed> {
        let id = proposal.to_string();
        let row = rows::get::<Proposal>(tx, &self.sealer, &id).await?;
        match row.ok_or(Reason::NotFound)?.body.measure() {
            Measure::EndKeys { cause, .. } => Ok(*cause),
            _ => Err(Reason::OtherKind.into()),
        }
    }
}
