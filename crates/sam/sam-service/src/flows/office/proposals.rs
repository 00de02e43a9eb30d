//! Proposals: asked for, shown, opened for approval, ended, taken.

use audit_log::Event;
use cm_api::CryptoModule;
use core_types::{Digest32, OfficerId, UnixTime};
use sam_core::Reason;
use sam_core::act::{OfficerContent, mint_officer};
use sam_core::office::proposal::{
    self, TAKE_WITHIN, check_asking, check_measure, check_room, takes, words,
};
use sam_core::office::{Deed, Phase, Proposal};
use sam_core::state::Subject;
use sap::Act;
use sap::act::{Person as Named, Version1};
use sap::office::calls::{
    ApprovalInfo, OfficeAct, OfficeRefusal, ProposalInfo, ProposalRequest, ProposalState,
    ProposalsAnswer, ProposeRequest, SessionRequest, TakenProposal,
};
use sap::office::{Document, Requester, TYP_WARRANT, Warrant};
use store_kit::{Tx, sql, transaction};

use super::log_in::minted;
use super::{About, Person};
use crate::failed::{Failed, readable};
use crate::flows::open::passkey_hints;
use crate::rows;
use crate::sam::Sam;

impl<C: CryptoModule> Sam<C> {
    /// Stores a proposal that an officer asks for. It has no power.
    ///
    /// # Errors
    /// [`OfficeRefusal`].
    pub async fn propose(&self, request: ProposeRequest) -> Result<ProposalInfo, OfficeRefusal> {
        let mut about = About::default();
        match self.try_propose(request, &mut about).await {
            Ok(info) => Ok(info),
            Err(failed) => Err(self.refused_office("ask", about, &failed).await),
        }
    }

    /// Proposals: all that aren't over, then the newest of the others.
    ///
    /// # Errors
    /// [`OfficeRefusal`].
    pub async fn proposals(
        &self,
        request: SessionRequest,
    ) -> Result<ProposalsAnswer, OfficeRefusal> {
        let mut about = About::default();
        match self.try_proposals(&request, &mut about).await {
            Ok(proposals) => Ok(ProposalsAnswer { proposals }),
            Err(failed) => Err(self.refused_office("proposals", about, &failed).await),
        }
    }

    /// Mints the act with which this officer approves a proposal.
    ///
    /// # Errors
    /// [`OfficeRefusal`].
    pub async fn proposal_open(
        &self,
        request: ProposalRequest,
    ) -> Result<OfficeAct, OfficeRefusal> {
        let mut about = About {
            account: None,
            digest: Some(request.proposal),
        };
        match self.try_proposal_open(&request, &mut about).await {
            Ok(act) => Ok(act),
            Err(failed) => Err(self.refused_office("proposal/open", about, &failed).await),
        }
    }

    /// Ends a proposal.
    ///
    /// # Errors
    /// [`OfficeRefusal`].
    pub async fn proposal_end(
        &self,
        request: ProposalRequest,
    ) -> Result<ProposalInfo, OfficeRefusal> {
        let mut about = About {
            account: None,
            digest: Some(request.proposal),
        };
        match self.try_proposal_end(&request, &mut about).await {
            Ok(info) => Ok(info),
            Err(failed) => Err(self.refused_office("proposal/end", about, &failed).await),
        }
    }

    /// Takes an approved proposal, once, with the evidence.
    ///
    /// # Errors
    /// [`OfficeRefusal`].
    pub async fn proposal_take(
        &self,
        request: ProposalRequest,
    ) -> Result<TakenProposal, OfficeRefusal> {
        let mut about = About {
            account: None,
            digest: Some(request.proposal),
        };
        match self.try_proposal_take(&request, &mut about).await {
            Ok(taken) => Ok(taken),
            Err(failed) => Err(self.refused_office("proposal/take", about, &failed).await),
        }
    }

    async fn try_propose(
        &self,
        request: ProposeRequest,
        about: &mut About,
    ) -> Result<ProposalInfo, Failed> {
        let present = self.present(&request.session, about).await?;
        let now = self.clock.now();
        present.session.body.check_fresh(now)?;
        check_asking(&request.reason, request.ttl)?;
        check_measure(&request.measure, now)?;
        let who = present.person.as_approver();
        who.check_ask(&request.measure, now)?;
        let exp = now.plus(request.ttl);
        let (facts, exp) = self.facts(&request.measure, &request.reason, exp).await?;
        let (officer, account) = (&present.person.officer.body, &present.person.account.body);
        let record = Proposal::new(Document {
            v: Version1,
            sam: self.config.sam.clone(),
            tenant: self.config.tenant.clone(),
            nonce: self.random.digest32(),
            measure: request.measure,
            facts,
            reason: request.reason,
            requester: Requester {
                account: account.id.clone(),
                officer: officer.id.clone(),
                name: officer.name.clone(),
            },
            at: now,
            exp,
        })?;
        let digest = record.digest();
        transaction!(self.store, "proposal-ask", |tx| {
            let asks = self.person(tx, &account.id).await?;
            asks.as_approver().check_ask(record.measure(), now)?;
            check_room(self.open_of(tx, &officer.id, now).await?)?;
            // Of two at a time one has to count again.
            rows::save(tx, &self.sealer, &asks.account, &asks.account.body).await?;
            if !rows::insert(tx, &self.sealer, &digest.to_string(), &record).await? {
                return Err(Reason::NotNow.into());
            }
            self.put_evidence(tx, digest, record.text.as_bytes())
                .await?;
            let event = Event::ProposalMade {
                evidence: digest,
                what: record.measure().code().into(),
                account: account.id.clone(),
                officer: officer.id.clone(),
            };
            self.audit.append(tx, event, now).await?;
            Ok::<_, Failed>(())
        })?;
        Ok(info(&record, digest, Some(&present.person), now))
    }

    async fn try_proposals(
        &self,
        request: &SessionRequest,
        about: &mut About,
    ) -> Result<Vec<ProposalInfo>, Failed> {
        let present = self.present(&request.session, about).await?;
        let now = self.clock.now();
        check_deed(&present.person, Deed::SeeProposals, now)?;
        let mut tx = self.store.read("proposals").await?;
        let mut found = Vec::new();
        // Whoever has much to propose pushes nothing off the page that waits for others: none of it is left out.
        for select in [
            "SELECT id, version, sealed FROM office_proposal WHERE state IN ('open', 'waiting', 'approved') \
             ORDER BY stamp DESC, id",
            "SELECT id, version, sealed FROM office_proposal WHERE state NOT IN ('open', 'waiting', 'approved') \
             ORDER BY stamp DESC, id LIMIT 100",
        ] {
            found.extend(tx.fetch_all(sql(select)).await?);
        }
        let mut proposals = Vec::with_capacity(found.len());
        for row in &found {
            // One that is refused, of which the scrub tells, keeps nobody from the others.
            let opened = rows::open::<Proposal>(&mut tx, &self.sealer, row);
            if let Some(row) = readable(opened)?.flatten() {
                let digest = row.body.digest();
                proposals.push(info(&row.body, digest, Some(&present.person), now));
            }
        }
        Ok(proposals)
    }

    /// How many proposals of an officer wait for approvals.
    async fn open_of(
        &self,
        tx: &mut Tx,
        officer: &OfficerId,
        now: UnixTime,
    ) -> Result<usize, Failed> {
        let select =
            "SELECT id, version, sealed FROM office_proposal WHERE owner = $1 AND state = 'open'";
        let found = tx.fetch_all(sql(select).bind(officer.as_str())).await?;
        let mut open = 0;
        for row in &found {
            let opened = rows::open::<Proposal>(tx, &self.sealer, row);
            let opened = readable(opened)?.flatten();
            open += usize::from(opened.is_some_and(|row| row.body.check_open(now).is_ok()));
        }
        Ok(open)
    }

    async fn try_proposal_open(
        &self,
        request: &ProposalRequest,
        about: &mut About,
    ) -> Result<OfficeAct, Failed> {
        self.check_clock()?;
        let present = self.present(&request.session, about).await?;
        let epoch = self.epoch().await?;
        let ring = self.ring(epoch, self.clock.now()).await?;
        let id = request.proposal.to_string();
        transaction!(self.store, "proposal-open", |tx| {
            let now = self.now(tx).await?;
            if now.epoch != epoch {
                return Err(Reason::NotNow.into());
            }
            let person = self.person(tx, &present.person.account.body.id).await?;
            let row = rows::get::<Proposal>(tx, &self.sealer, &id).await?;
            let row = row.ok_or(Reason::NotFound)?;
            row.body.check_approver(person.as_approver(), now.time)?;
            let factors = self.office_factors(tx, &person.account.body).await?;
            let account = person.account.body.id.clone();
            let content = OfficerContent {
                level: self.office_level(),
                person: Named {
                    id: account.clone(),
                    name: person.officer.body.name.clone(),
                },
                what: row.body.measure().code().to_owned(),
                document: request.proposal,
                text: words(&row.body.document),
                needs: takes(row.body.measure()).persons,
                since: person.since(),
                return_uri: self.office_return(),
                until: row.body.document.exp,
            };
            let act = mint_officer(self.issuer(epoch), content, now.time, self.random.as_ref())?;
            let subject = Subject::Officer {
                proposal: Some(request.proposal),
            };
            let (jws, digest) = self
                .put_office_act(tx, Act::Officer(act), subject, &ring.act)
                .await?;
            let mut next = row.body.clone();
            let before = next.acts.insert(account.clone(), digest);
            rows::save(tx, &self.sealer, &row, &next).await?;
            let mut events = Vec::from_iter(self.end_act(tx, before, "superseded").await?);
            events.push(minted(digest, account, self.office_level()));
            self.audit.append_all(tx, &events, now.time).await?;
            Ok::<_, Failed>(OfficeAct {
                act: jws,
                document: next.text,
                passkeys: passkey_hints(factors.iter().map(|f| &f.body)),
            })
        })
    }

    async fn try_proposal_end(
        &self,
        request: &ProposalRequest,
        about: &mut About,
    ) -> Result<ProposalInfo, Failed> {
        let present = self.present(&request.session, about).await?;
        let id = request.proposal.to_string();
        let ended = transaction!(self.store, "proposal-end", |tx| {
            let now = self.now(tx).await?;
            let person = self.person(tx, &present.person.account.body.id).await?;
            let row = rows::get::<Proposal>(tx, &self.sealer, &id).await?;
            let row = row.ok_or(Reason::NotFound)?;
            let next = row.body.ended(person.as_approver(), now.time)?;
            rows::save(tx, &self.sealer, &row, &next).await?;
            let mut events = Vec::new();
            for act in next.acts.values() {
                events.extend(self.end_act(tx, Some(*act), "proposal-ended").await?);
            }
            events.push(Event::ProposalEnded {
                proposal: request.proposal,
                account: Some(person.account.body.id),
                reason: "refused".into(),
            });
            self.audit.append_all(tx, &events, now.time).await?;
            Ok::<_, Failed>(next)
        })?;
        let now = self.clock.now();
        Ok(info(&ended, request.proposal, Some(&present.person), now))
    }

    async fn try_proposal_take(
        &self,
        request: &ProposalRequest,
        about: &mut About,
    ) -> Result<TakenProposal, Failed> {
        let present = self.present(&request.session, about).await?;
        let looked = self.clock.now();
        present.session.body.check_fresh(looked)?;
        let id = request.proposal.to_string();
        // Whatever can fail comes before it is done: nobody can take it a second time.
        let mut tx = self.store.read("proposal-look").await?;
        let ready = rows::get::<Proposal>(&mut tx, &self.sealer, &id).await?;
        drop(tx);
        let ready = ready.ok_or(Reason::NotFound)?;
        ready.body.taken(present.person.as_approver(), looked)?;
        let mut approvals = Vec::new();
        for given in &ready.body.approvals {
            let evidence = self.evidence(given.evidence).await?.ok_or(Reason::NotNow)?;
            approvals.push(String::from_utf8(evidence).map_err(|_| Reason::NotNow)?);
        }
        let epoch = self.epoch().await?;
        let ring = self.ring(epoch, looked).await?;
        let (document, warrant) = transaction!(self.store, "proposal-take", |tx| {
            let now = self.now(tx).await?;
            let person = self.person(tx, &present.person.account.body.id).await?;
            let row = rows::get::<Proposal>(tx, &self.sealer, &id).await?;
            let row = row.ok_or(Reason::NotFound)?;
            let next = row.body.taken(person.as_approver(), now.time)?;
            if now.epoch != epoch || row.version != ready.version {
                return Err(Reason::NotNow.into());
            }
            let warrant = Warrant {
                v: Version1,
                sam: self.config.sam.clone(),
                epoch,
                proposal: request.proposal,
                evidence: next.approvals.iter().map(|g| g.evidence).collect(),
                officers: next.approvals.iter().map(|g| g.officer.clone()).collect(),
                at: now.time,
                exp: now.time.plus(TAKE_WITHIN),
            };
            let payload = serde_json::to_vec(&warrant).map_err(|_| Reason::NotNow)?;
            let warrant = ring.act.sign(TYP_WARRANT, &payload);
            let warrant = warrant.map_err(|_| Reason::NotNow)?;
            rows::save(tx, &self.sealer, &row, &next).await?;
            let event = Event::ProposalTaken {
                proposal: request.proposal,
                account: person.account.body.id,
                officer: person.officer.body.id,
            };
            self.audit.append(tx, event, now.time).await?;
            Ok::<_, Failed>((next.text, warrant))
        })?;
        Ok(TakenProposal {
            document,
            approvals,
            warrant,
            statement: ring.statement.clone(),
        })
    }
}

/// Whether somebody's roles allow this now.
pub(crate) fn check_deed(person: &Person, deed: Deed, now: UnixTime) -> Result<(), Reason> {
    let who = person.as_approver();
    who.check_role(proposal::ANY, now)?;
    match person.officer.body.roles(now).is_some_and(|r| r.may(deed)) {
        true => Ok(()),
        false => Err(Reason::NotAllowed("role")),
    }
}

/// A proposal as this officer sees it.
pub(crate) fn info(
    record: &Proposal,
    proposal: Digest32,
    who: Option<&Person>,
    now: UnixTime,
) -> ProposalInfo {
    let late = |until: Option<UnixTime>| until.is_none_or(|until| now >= until);
    ProposalInfo {
        proposal,
        document: record.text.clone(),
        state: match record.phase {
            Phase::Open if now >= record.document.exp => ProposalState::Expired,
            Phase::Open => ProposalState::Open,
            Phase::Waiting => ProposalState::Waiting,
            Phase::Approved if late(record.due) => ProposalState::Expired,
            Phase::Approved => ProposalState::Approved,
            Phase::Done => ProposalState::Done,
            Phase::Ended => ProposalState::Ended,
            Phase::Expired => ProposalState::Expired,
        },
        needs: takes(record.measure()).persons,
        approvals: record
            .approvals
            .iter()
            .map(|g| ApprovalInfo {
                officer: g.officer.clone(),
                name: g.name.clone(),
                at: g.at,
                evidence: g.evidence,
            })
            .collect(),
        due: record.due.filter(|_| record.phase == Phase::Waiting),
        yours: who.is_some_and(|w| record.check_approver(w.as_approver(), now).is_ok()),
    }
}
