//! `voucher` (`sap.md` §8.1): an invitation by an RA, or by the SSA at level 1.

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::{Level, UnixTime, VoucherId, sha256};
use sam_api::Refusal;
use sam_api::ssa::{VoucherAnswer, VoucherRequest};
use sam_core::act::return_uri_allowed;
use sam_core::enrol::{Voucher, VoucherPhase, check_invite, check_ra_invite};
use sam_core::{Reason, import};
use sap::enrol::InvitedBy;
use sap::office::is_account;
use store_kit::transaction;

use crate::audit;
use crate::failed::Failed;
use crate::rows;
use crate::sam::Sam;

impl<C: CryptoModule> Sam<C> {
    /// Registers a voucher that `service` brought; the same again is answered the same.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn voucher(
        &self,
        service: &str,
        request: VoucherRequest,
    ) -> Result<VoucherAnswer, Refusal> {
        match self.try_voucher(service, request).await {
            Ok(answer) => Ok(answer),
            Err(failed) => {
                let reason = self.explain(&failed).await;
                self.refused_voucher(None, &reason).await;
                Err(reason.to_ssa())
            }
        }
    }

    pub(crate) async fn refused_voucher(&self, voucher: Option<VoucherId>, reason: &Reason) {
        self.record(Event::VoucherRefused {
            voucher,
            reason: audit::reason(reason),
        })
        .await;
    }

    async fn try_voucher(
        &self,
        service: &str,
        request: VoucherRequest,
    ) -> Result<VoucherAnswer, Failed> {
        let now = self.clock.now();
        let (voucher, authority) = self.check(service, request, now)?;
        let answer = VoucherAnswer {
            voucher: voucher.invite.voucher.clone(),
            person: voucher.invite.person.clone(),
            exp: voucher.invite.exp,
        };
        transaction!(self.store, "voucher", |tx| {
            self.goes_on(tx).await?;
            let id = voucher.invite.voucher.as_str();
            if !rows::insert(tx, &self.sealer, id, &voucher).await? {
                let known = rows::get::<Voucher>(tx, &self.sealer, id)
                    .await?
                    // Another tenant's, of which nothing is told.
                    .ok_or(Reason::Used)?
                    .body;
                let same = known.source == voucher.source && known.service == voucher.service;
                return if same {
                    Ok(answer.clone())
                } else {
                    Err(Reason::Used.into())
                };
            }
            let event = Event::VoucherMade {
                voucher: voucher.invite.voucher.clone(),
                authority,
                ceiling: voucher.ceiling(),
            };
            self.audit.append(tx, event, now).await?;
            Ok::<_, Failed>(answer.clone())
        })
    }

    /// The voucher to be stored, and a digest that names who invited.
    fn check(
        &self,
        service: &str,
        request: VoucherRequest,
        now: UnixTime,
    ) -> Result<(Voucher, core_types::Digest32), Reason> {
        let ras = &self.config.registration_authorities;
        let (invite, source, by, return_uri) = match request {
            VoucherRequest::Ra {
                invite: jws,
                return_uri,
            } => (
                check_ra_invite(&jws, ras, now)?,
                jws,
                InvitedBy::Ra,
                return_uri,
            ),
            VoucherRequest::Ssa { invite, return_uri } => {
                check_invite(&invite, now)?;
                if invite.replaces.is_some() {
                    return Err(Reason::Invalid("replaces"));
                }
                // It would name one that it reads itself.
                if invite.codes.is_some() {
                    return Err(Reason::Invalid("codes"));
                }
                if invite.notices.is_some() {
                    return Err(Reason::Invalid("notices"));
                }
                let source = serde_json::to_string(&invite).map_err(|_| Reason::Malformed)?;
                (*invite, source, InvitedBy::Ssa, return_uri)
            }
        };
        if is_account(&invite.person) {
            return Err(Reason::Invalid("person"));
        }
        if invite.tenant != self.config.tenant {
            return Err(Reason::Invalid("tenant"));
        }
        if !return_uri_allowed(&return_uri, &self.config.return_prefixes) {
            return Err(Reason::Invalid("return"));
        }
        let authority = match by {
            InvitedBy::Ra => {
                let kid = jose::kid_of(&source, sap::TYP_INVITE).map_err(|_| Reason::Malformed)?;
                core_types::Digest32::parse(&kid).map_err(|_| Reason::Malformed)?
            }
            InvitedBy::Ssa | InvitedBy::Office => {
                sha256(&[b"natsuin-service-v1\n", service.as_bytes()])
            }
        };
        for alg in &invite.keys {
            self.config.policy.check_alg(*alg)?;
        }
        if invite.exportable {
            let ceiling = match by {
                InvitedBy::Ra | InvitedBy::Office => invite.ceiling,
                InvitedBy::Ssa => Level::One,
            };
            import::check_exportable(&self.service, ceiling, &invite.keys)?;
        }
        let voucher = Voucher {
            invite,
            source,
            by,
            service: service.to_owned(),
            return_uri,
            phase: VoucherPhase::Open,
            tries: 0,
            act: None,
            seed: None,
            enrolled: None,
            rebinds: None,
        };
        Ok((voucher, authority))
    }
}
