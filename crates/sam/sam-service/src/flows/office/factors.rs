//! New factors for a signer whose own are lost, by officers (`sap.md` §9): after a waiting time in which the signer is told, and
//! void as soon as an old factor shows that it isn't lost.

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::{Digest32, Level, PersonId, UnixTime, VoucherId};
use sam_api::ssa::{Happened, HistoryEntry};
use sam_core::Reason;
use sam_core::enrol::{Rebinds, Voucher, VoucherPhase};
use sam_core::office::Proposal;
use sam_core::office::proposal::{FACTORS_OPEN, FACTORS_WAIT};
use sap::enrol::{Invite, InvitedBy};
use sap::office::{Facts, Measure};
use store_kit::Tx;

use super::effects::proposal_voucher;
use crate::failed::Failed;
use crate::flows::change::Registration;
use crate::records::PersonRecord;
use crate::rows;
use crate::sam::Sam;

/// Why nothing can be told past the SSA from this node. Another node may have a courier.
pub(super) const NO_COURIER: &str = "no-courier";

impl<C: CryptoModule> Sam<C> {
    /// What approvers have to know; refuses what can't be done: the registration must have a key, and none above level 2, and its
    /// signer must be told on a way that isn't the SSA's.
    pub(crate) async fn factor_facts(
        &self,
        tx: &mut Tx,
        person: &PersonId,
        registration: &VoucherId,
    ) -> Result<Facts, Failed> {
        let (of, voucher) = self.rebindable(tx, person, registration).await?;
        Ok(Facts {
            person: Some(person.clone()),
            name: Some(voucher.invite.subject.common_name),
            of: Some(of.digest()),
            wait: Some(FACTORS_WAIT),
            ..Facts::default()
        })
    }

    async fn rebindable(
        &self,
        tx: &mut Tx,
        person: &PersonId,
        registration: &VoucherId,
    ) -> Result<(Registration, Voucher), Failed> {
        let row = rows::get::<Voucher>(tx, &self.sealer, registration.as_str()).await?;
        let voucher = row.filter(|v| v.body.invite.person == *person);
        let voucher = voucher.ok_or(Reason::NotFound)?.body;
        let of = self.registration(tx, person, registration).await?;
        if of.living().next().is_none() || voucher.invite.collected {
            return Err(Reason::NotFound.into());
        }
        if of.highest() == Level::Three {
            return Err(Reason::Level("I-3.5.1-keyauth-L3").into());
        }
        self.reaches(tx, person).await?;
        Ok((of, voucher))
    }

    /// Without an address of an authority's and a courier the portal alone would tell, which is the SSA's.
    async fn reaches(&self, tx: &mut Tx, person: &PersonId) -> Result<(), Failed> {
        let row = rows::get::<PersonRecord>(tx, &self.sealer, person.as_str()).await?;
        let rule = match row.ok_or(Reason::NotFound)?.body.notices {
            None => "no-notice-address",
            Some(_) if self.courier.get().is_none() => NO_COURIER,
            Some(_) => return Ok(()),
        };
        Err(Reason::NotAllowed(rule).into())
    }

    /// Approved: the signer is told, and the waiting begins.
    pub(crate) async fn announce_factors(
        &self,
        tx: &mut Tx,
        record: &Proposal,
        digest: Digest32,
        at: UnixTime,
    ) -> Result<(), Failed> {
        let Measure::Factors {
            person,
            registration,
            ..
        } = record.measure()
        else {
            return Err(Reason::OtherKind.into());
        };
        let (of, _) = self.rebindable(tx, person, registration).await?;
        if record.document.facts.of != Some(of.digest()) {
            return Err(Reason::Withdrawn.into());
        }
        let told = HistoryEntry {
            act: None,
            proposal: Some(digest),
            ..note(Happened::FactorsOrdered, digest, at)
        };
        self.note(tx, person, vec![told]).await.map(drop)
    }

    /// It has waited long enough: the signer is invited within their tenant.
    pub(crate) async fn factors_due(
        &self,
        tx: &mut Tx,
        record: &Proposal,
        events: &mut Vec<Event>,
        at: UnixTime,
    ) -> Result<(), Failed> {
        let Measure::Factors { registration, .. } = record.measure() else {
            return Err(Reason::OtherKind.into());
        };
        let of = self.of_registration(tx, registration).await?;
        let voucher = of.invite_signer(tx, record, at).await?;
        events.push(Event::VoucherMade {
            voucher,
            authority: record.digest(),
            ceiling: Level::Two,
        });
        Ok(())
    }

    async fn invite_signer(
        &self,
        tx: &mut Tx,
        record: &Proposal,
        now: UnixTime,
    ) -> Result<VoucherId, Failed> {
        let Measure::Factors {
            person,
            registration,
            secret,
        } = record.measure()
        else {
            return Err(Reason::OtherKind.into());
        };
        let since = record.approvals.last().map_or(now, |given| given.at);
        let (of, voucher) = self.rebindable(tx, person, registration).await?;
        let rebinds = Rebinds {
            registration: registration.clone(),
            of: record.document.facts.of.ok_or(Reason::Malformed)?,
            since,
        };
        self.check_lost(tx, person, &of, &rebinds).await?;
        let id = proposal_voucher(record.digest())?;
        let made = Voucher {
            invite: Invite {
                voucher: id.clone(),
                ceiling: of.highest(),
                keys: Vec::new(),
                exp: now.plus(FACTORS_OPEN),
                secret: *secret,
                replaces: None,
                ..voucher.invite
            },
            source: record.text.clone(),
            by: InvitedBy::Office,
            phase: VoucherPhase::Open,
            tries: 0,
            act: None,
            seed: None,
            enrolled: None,
            rebinds: Some(rebinds),
            ..voucher
        };
        match rows::insert(tx, &self.sealer, id.as_str(), &made).await? {
            true => Ok(id),
            false => Err(Reason::Used.into()),
        }
    }

    /// Nothing may have changed since it was proposed, and no old factor may have proved anything since it was approved: whoever
    /// still has one needs no officers.
    pub(crate) async fn check_lost(
        &self,
        tx: &mut Tx,
        person: &PersonId,
        of: &Registration,
        rebinds: &Rebinds,
    ) -> Result<(), Failed> {
        let row = rows::get::<PersonRecord>(tx, &self.sealer, person.as_str()).await?;
        let last = row.ok_or(Reason::NotFound)?.body.last_act;
        if last.is_some_and(|at| at >= rebinds.since) {
            return Err(Reason::NotAllowed("factor-not-lost").into());
        }
        match of.digest() == rebinds.of {
            true => Ok(()),
            false => Err(Reason::Withdrawn.into()),
        }
    }

    /// The signer has enrolled: the old factors end.
    pub(crate) async fn rebind(
        &self,
        tx: &mut Tx,
        voucher: &Voucher,
        rebinds: &Rebinds,
        at: UnixTime,
        events: &mut Vec<Event>,
    ) -> Result<Vec<HistoryEntry>, Failed> {
        let person = &voucher.invite.person;
        let of = self.registration(tx, person, &rebinds.registration).await?;
        self.check_lost(tx, person, &of, rebinds).await?;
        let act = voucher.act.ok_or(Reason::Malformed)?;
        let mut notes = Vec::new();
        for row in &of.factors {
            rows::save(tx, &self.sealer, row, &row.body.removed(at)).await?;
            events.push(Event::FactorRemoved {
                person: person.clone(),
                factor: row.body.id.clone(),
                act,
            });
            notes.push(HistoryEntry {
                factor: Some(row.body.id.clone()),
                ..note(Happened::FactorRemoved, act, at)
            });
        }
        Ok(notes)
    }
}

fn note(what: Happened, act: Digest32, at: UnixTime) -> HistoryEntry {
    HistoryEntry {
        at,
        what,
        key: None,
        factor: None,
        act: Some(act),
        proposal: None,
        cause: None,
    }
}
