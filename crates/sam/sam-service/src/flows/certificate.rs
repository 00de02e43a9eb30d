//! `certificate` (`sap.md` §8.5, §8.6): the RA's approval and the CA's certificate make a key usable.

use audit_log::Event;
use cm_api::CryptoModule;
use sam_api::Refusal;
use sam_api::ssa::{CertificateRequest, Empty, KeyState};
use sam_core::enrol::check_certify;
use sam_core::{Reason, certificate};
use store_kit::transaction;

use crate::audit;
use crate::failed::Failed;
use crate::records::KeyRecord;
use crate::rows;
use crate::sam::Sam;

impl<C: CryptoModule> Sam<C> {
    /// Accepts a certificate for a key of an enrolment that `service` brought; the same again is answered the same.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn certificate(
        &self,
        service: &str,
        request: CertificateRequest,
    ) -> Result<Empty, Refusal> {
        let key = request.key.clone();
        match self.try_certificate(service, request).await {
            Ok(()) => Ok(Empty {}),
            Err(failed) => {
                let reason = self.explain(&failed).await;
                self.record(Event::CertificateRefused {
                    key,
                    reason: audit::reason(&reason),
                })
                .await;
                Err(reason.to_ssa())
            }
        }
    }

    async fn try_certificate(
        &self,
        service: &str,
        request: CertificateRequest,
    ) -> Result<(), Failed> {
        let now = self.clock.now();
        let mut tx = self.store.read("certificate-read").await?;
        let row = rows::get::<KeyRecord>(&mut tx, &self.sealer, request.key.as_str()).await?;
        drop(tx);
        let key = row
            .filter(|r| r.body.service == service)
            .ok_or(Reason::NotFound)?
            .body;
        let ras = &self.config.registration_authorities;
        check_certify(&request.certify, ras, &key.enrolment, &key.record)?;
        let chain: Vec<Vec<u8>> = request.chain.iter().map(|c| c.0.clone()).collect();
        let (issuers, spki, subject) = (
            self.config.issuers.clone(),
            key.spki.clone(),
            key.record.subject.clone(),
        );
        let accepted = self
            .blocking(move || certificate::accept(&chain, &spki.0, &subject, &issuers, now))
            .await?;
        transaction!(self.store, "certificate", |tx| {
            let row = rows::get::<KeyRecord>(tx, &self.sealer, request.key.as_str())
                .await?
                .ok_or(Reason::NotFound)?;
            if row.body.life.state == KeyState::Active && row.body.chain == request.chain {
                return Ok(());
            }
            self.stays_so(tx).await?;
            let next = KeyRecord {
                life: row.body.life.certified(accepted.until)?,
                certify: Some(request.certify.clone()),
                chain: request.chain.clone(),
                subject_text: accepted.subject.clone(),
                ..row.body.clone()
            };
            rows::save(tx, &self.sealer, &row, &next).await?;
            self.remind_later(tx, &next, accepted.until, now).await?;
            let event = Event::CertificateAccepted {
                key: next.key,
                person: next.owner,
                certificate: accepted.digest,
            };
            self.audit.append(tx, event, now).await?;
            Ok::<_, Failed>(())
        })
    }
}
