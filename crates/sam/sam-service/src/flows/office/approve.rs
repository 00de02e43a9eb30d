//! Accepting an officer's proof: the checks of `sap.md` §6 in their order, against the officer's own records and origin.

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::{B64, Digest32, OfficerId, sha256};
use sam_core::enrol::{Factor, FactorBody};
use sam_core::evidence::{Approval, Evidence, PublicProof};
use sam_core::office::proposal::{Given, Phase};
use sam_core::office::{Account, Proposal};
use sam_core::passkey::{Asserted, Assertion, verify_assertion};
use sam_core::state::{Now, Subject};
use sam_core::{ActState, Reason};
use sap::Proof;
use sap::office::calls::{OfficeRefusal, ProofRequest, ProposalInfo};
use store_kit::{Tx, transaction};

use super::{About, Person};
use crate::audit;
use crate::failed::{Failed, readable};
use crate::rows::{self, Row};
use crate::sam::Sam;

/// A proof that was good.
pub(crate) struct Proved {
    pub(crate) act: Row<ActState>,
    text: String,
    factor: Row<Factor>,
    asserted: Asserted,
    proof: Proof,
    now: Now,
}

impl Proved {
    pub(crate) fn digest(&self) -> Digest32 {
        self.proof.act()
    }
}

/// Evidence of an approval, with its name.
pub(crate) struct Written {
    pub(crate) digest: Digest32,
    proof: Digest32,
    bytes: Vec<u8>,
}

impl<C: CryptoModule> Sam<C> {
    /// Approves a proposal by a proof over this officer's act of it. The last approval brings it about.
    ///
    /// # Errors
    /// [`OfficeRefusal`].
    pub async fn proposal_approve(
        &self,
        request: ProofRequest,
    ) -> Result<ProposalInfo, OfficeRefusal> {
        let mut about = About::default();
        match self.try_proposal_approve(&request, &mut about).await {
            Ok(info) => {
                self.tenants().for_each(|tenant| tenant.finish_soon());
                Ok(info)
            }
            Err(failed) => Err(self
                .refused_office("proposal/approve", about, &failed)
                .await),
        }
    }

    async fn try_proposal_approve(
        &self,
        request: &ProofRequest,
        about: &mut About,
    ) -> Result<ProposalInfo, Failed> {
        let proved = self.prove_office(&request.proof, about).await?;
        let Subject::Officer {
            proposal: Some(proposal),
        } = proved.act.body.subject
        else {
            return Err(Reason::OtherKind.into());
        };
        about.digest = Some(proposal);
        let evidence = self.office_evidence(&proved).await?;
        let switch = request.switch.clone();
        let approved = transaction!(self.store, "proposal-approve", |tx| {
            let now = self.now(tx).await?;
            let person = self.person(tx, &proved.act.body.person).await?;
            let row = rows::get::<Proposal>(tx, &self.sealer, &proposal.to_string()).await?;
            let row = row.ok_or(Reason::NotFound)?;
            let given = Given {
                officer: person.officer.body.id.clone(),
                name: person.officer.body.name.clone(),
                account: person.account.body.id.clone(),
                act: proved.digest(),
                evidence: evidence.digest,
                at: now.time,
                switch: super::effects::check_switch(
                    row.body.measure(),
                    &row.body.document.facts,
                    switch.as_deref(),
                )?,
            };
            // Only the act minted last for this account.
            if row.body.acts.get(&given.account) != Some(&proved.digest()) {
                return Err(Reason::Withdrawn.into());
            }
            let still = self.still_may(tx, &row.body, now).await?;
            let who = person.as_approver();
            let next = row
                .body
                .approved(who, given, |id| still.contains(id), now.time)?;
            let mut events = self
                .accept_office(tx, &proved, &evidence, &person, now)
                .await?;
            events.push(Event::ProposalApproved {
                proposal,
                act: proved.digest(),
                account: person.account.body.id.clone(),
                officer: person.officer.body.id.clone(),
                given: u32::try_from(next.approvals.len()).unwrap_or(u32::MAX),
                needs: u32::from(sam_core::office::proposal::takes(next.measure()).persons),
            });
            let mut theirs = Vec::new();
            if next.phase != Phase::Open {
                self.check_requester(tx, &next, now).await?;
                self.carry_out(tx, &next, proposal, &mut events, &mut theirs, now)
                    .await?;
                events.push(Event::ProposalAdmitted {
                    proposal,
                    what: next.measure().code().into(),
                    state: next.phase.name().into(),
                });
            }
            rows::save(tx, &self.sealer, &row, &next).await?;
            self.audit.append_all(tx, &events, now.time).await?;
            for (log, events) in theirs {
                log.append_all(tx, &events, now.time).await?;
            }
            Ok::<_, Failed>(next)
        })?;
        let info = super::proposals::info(&approved, proposal, None, self.clock.now());
        if approved.phase == Phase::Done {
            self.after_approval(&approved).await?;
        }
        Ok(info)
    }

    /// Those who approved before and still may; whose row is refused may not.
    async fn still_may(
        &self,
        tx: &mut Tx,
        proposal: &Proposal,
        now: Now,
    ) -> Result<Vec<OfficerId>, Failed> {
        let mut still = Vec::new();
        for given in &proposal.approvals {
            let person = match readable(self.person(tx, &given.account).await) {
                Ok(Some(person)) => person,
                Ok(None) | Err(Failed::No(_)) => continue,
                Err(failed) => return Err(failed),
            };
            let approve = sam_core::office::proposal::takes(proposal.measure()).approve;
            let may = person.as_approver().check_role(approve, now.time).is_ok();
            if may && person.officer.body.id == given.officer {
                still.push(given.officer.clone());
            }
        }
        Ok(still)
    }

    /// Who asked must still be somebody who may ask: a proposal doesn't outlive the office it was asked in.
    async fn check_requester(
        &self,
        tx: &mut Tx,
        proposal: &Proposal,
        now: Now,
    ) -> Result<(), Failed> {
        let person = self.person(tx, &proposal.requester().account).await?;
        Ok(person
            .as_approver()
            .check_ask(proposal.measure(), now.time)?)
    }

    /// Steps 1 to 4: act, account, factor, and the proof itself at the officers' origin.
    pub(crate) async fn prove_office(
        &self,
        proof: &Proof,
        about: &mut About,
    ) -> Result<Proved, Failed> {
        if !proof.fits() {
            return Err(Reason::Malformed.into());
        }
        let digest = proof.act();
        about.digest = Some(digest);
        let Proof::Passkey {
            id,
            auth_data,
            client_data,
            sig,
            ..
        } = proof
        else {
            return Err(Reason::NotAllowed("method-not-admitted").into());
        };
        let mut tx = self.store.read("office-prove").await?;
        let now = Now {
            time: self.clock.now(),
            epoch: sha256(&[&tx.epoch_source().await?]),
            policy: self.config.policy.version,
        };
        let act = rows::get::<ActState>(&mut tx, &self.sealer, &digest.to_string()).await?;
        let act = act.ok_or(Reason::NotFound)?;
        if !matches!(act.body.subject, Subject::Officer { .. }) {
            return Err(Reason::OtherKind.into());
        }
        about.account = Some(act.body.person.clone());
        act.body.check_open(now)?;
        let person = self.person(&mut tx, &act.body.person).await?;
        let factors = self.office_factors(&mut tx, &person.account.body).await?;
        let is = |f: &Row<Factor>, id: &B64| matches!(&f.body.body, FactorBody::Passkey(p) if p.id == *id);
        let factor = factors.into_iter().find(|f| is(f, id));
        let factor = factor.ok_or(Reason::ForeignFactor)?;
        let attesters = self.attesters();
        let rules = self.rules(&attesters);
        rules.check(act.body.level, &factor.body)?;
        let text = self.act_text(&mut tx, digest).await?;
        drop(tx);
        let FactorBody::Passkey(passkey) = &factor.body.body else {
            return Err(Reason::ForeignFactor.into());
        };
        let assertion = Assertion {
            id: &id.0,
            auth_data: &auth_data.0,
            client_data: &client_data.0,
            sig: &sig.0,
        };
        let rp = &self.config.office.relying_party;
        let asserted = verify_assertion(rp, digest, passkey, assertion).map_err(Reason::from)?;
        Ok(Proved {
            act,
            text,
            factor,
            asserted,
            proof: proof.clone(),
            now,
        })
    }

    pub(crate) async fn office_evidence(&self, proved: &Proved) -> Result<Written, Failed> {
        let public = PublicProof::of(
            &proved.proof,
            &proved.factor.body.id,
            &self.config.providers,
        );
        let proof = public.digest()?;
        let Now {
            epoch,
            time,
            policy,
        } = proved.now;
        let evidence = Evidence::Approval(Box::new(Approval {
            statement: self.statement_of(epoch, time, &proved.text).await?,
            act: proved.text.clone(),
            proof: public,
            factor: proved.factor.body.public(),
            at: time,
            policy,
            policy_digest: Some(self.config.policy.digest()),
            made: None,
            clock: self.clock_state(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
        }));
        let bytes = evidence.bytes()?;
        Ok(Written {
            digest: sha256(&[&bytes]),
            proof,
            bytes,
        })
    }

    /// What every accepted proof of an officer does, in the transaction of its effect: the act is used up, the factor and the
    /// account take note, the evidence is there. The caller appends the events.
    pub(crate) async fn accept_office(
        &self,
        tx: &mut Tx,
        proved: &Proved,
        evidence: &Written,
        person: &Person,
        now: Now,
    ) -> Result<Vec<Event>, Failed> {
        let digest = proved.digest();
        let act = rows::get::<ActState>(tx, &self.sealer, &digest.to_string()).await?;
        let act = act.ok_or(Reason::NotFound)?;
        let factor = rows::get::<Factor>(tx, &self.sealer, &proved.factor.id).await?;
        let registration = person.account.body.usable()?;
        let factor = factor
            .filter(|f| f.body.removed.is_none() && f.body.voucher == *registration)
            .ok_or(Reason::ForeignFactor)?;
        let FactorBody::Passkey(passkey) = &factor.body.body else {
            return Err(Reason::ForeignFactor.into());
        };
        let method = proved.proof.method();
        let id = factor.body.id.clone();
        let next = act
            .body
            .approve(evidence.proof, evidence.digest, method, id.clone(), now)?;
        let account = person.account.body.id.clone();
        let mut events = vec![
            Event::SapAuthenticated {
                act: digest,
                person: account.clone(),
                factor: id,
                method: audit::method(method),
            },
            Event::ActApproved {
                act: digest,
                person: account.clone(),
                proof: evidence.proof,
                evidence: evidence.digest,
                sign_until: now.time,
            },
        ];
        if proved.asserted.counter_went_back {
            events.push(Event::Alarm {
                what: "passkey-counter-went-back".into(),
            });
        }
        let mut passkey = passkey.clone();
        passkey.counter = passkey.counter.max(proved.asserted.counter);
        let used = Factor {
            body: FactorBody::Passkey(passkey),
            ..factor.body.clone()
        };
        let active = Account {
            last_act: Some(now.time),
            ..person.account.body.clone()
        };
        rows::save(tx, &self.sealer, &act, &next).await?;
        rows::save(tx, &self.sealer, &factor, &used).await?;
        rows::save(tx, &self.sealer, &person.account, &active).await?;
        self.put_evidence(tx, evidence.digest, &evidence.bytes)
            .await?;
        Ok(events)
    }
}
