//! An officer's side over HTTP: calls to the officers' gateway, as their page makes them. Every act is checked before it is
//! proved.

use std::path::Path;

use anyhow::Result;
use core_types::{B64, Digest32, PersonId, SecretBytes};
use jose::Jwk;
use sap::office::calls::{
    EvidenceOfProposal, LogIn, LogInOpen, LogInOpenRequest, LogOut, LoggedIn, People, PeopleAnswer,
    ProposalApprove, ProposalCertificates, ProposalEnd, ProposalInfo, ProposalOpen,
    ProposalProgress, ProposalRequest, ProposalTake, Proposals, Propose, ProposeRequest,
    SessionRequest, State, StateAnswer, TakenProposal,
};
use sap::office::ending::{CertificatesRequest, Destroyed, Progress};
use sap::office::{Document, Measure};
use serde::{Deserialize, Serialize};

use crate::stack::{Device, Sic};

/// What an officer of a development stack holds: a passkey in software, and whom to believe. In production a passkey lies in an
/// authenticator, and its owner uses the officers' page.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfficerFile {
    /// Form of the file.
    pub schema: String,
    /// Origin of the officers' page.
    pub url: String,
    /// Account.
    pub account: PersonId,
    /// The module's root key.
    pub root: Jwk,
    /// Certificates to trust beside the system's, PEM.
    pub trust: String,
    /// Credential id of the passkey.
    pub id: B64,
    /// Its private key, PKCS#8.
    pub key: SecretBytes,
}

/// For so many seconds a passkey can be confirmed.
const CONFIRM: i64 = 7 * 24 * 3600;

/// Value of [`OfficerFile::schema`].
pub const OFFICER_FILE: &str = "natsuin.officer/1";

impl OfficerFile {
    /// Reads a file.
    ///
    /// # Errors
    /// When it can't be read, or is something else.
    pub fn read(path: &Path) -> Result<Self> {
        let file: Self = serde_json::from_slice(&std::fs::read(path)?)?;
        anyhow::ensure!(file.schema == OFFICER_FILE, "another kind of file");
        Ok(file)
    }
}

/// An officer at work.
pub struct Officer {
    /// Their way to the gateway.
    pub sic: Sic,
    /// Account.
    pub account: PersonId,
    /// What holds the passkey.
    pub device: Device,
}

impl Officer {
    /// Logs in: a proof, and a session that lives in memory only.
    ///
    /// # Errors
    /// When the act isn't genuine, or the SAM refuses.
    pub async fn log_in(&mut self) -> Result<LoggedIn> {
        let request = LogInOpenRequest {
            account: self.account.clone(),
        };
        let answer = self.sic.call::<LogInOpen>(&request).await?;
        let sam = self.sic.sam().await?;
        let now = self.sic.clock.now();
        let review = sam.officer_act(answer, now)?;
        anyhow::ensure!(review.document().is_none(), "this is no log-in");
        let proof = review.confirm().passkey(&mut self.device, now)?;
        self.sic.call::<LogIn>(&proof).await
    }

    /// Ends the session.
    ///
    /// # Errors
    /// When the SAM refuses.
    pub async fn log_out(&self, session: SecretBytes) -> Result<()> {
        self.sic.call::<LogOut>(&SessionRequest { session }).await?;
        Ok(())
    }

    /// Proposes something.
    ///
    /// # Errors
    /// When the SAM refuses.
    pub async fn propose(
        &mut self,
        measure: Measure,
        reason: &str,
        ttl: i64,
    ) -> Result<ProposalInfo> {
        let session = self.log_in().await?.session;
        self.propose_in(session, measure, reason, ttl).await
    }

    /// Asks that the passkey of this account be confirmed as its officer's; nothing where it counts already.
    ///
    /// # Errors
    /// When the SAM refuses.
    pub async fn ask_confirm(&mut self, reason: &str) -> Result<Option<ProposalInfo>> {
        let known = self.log_in().await?;
        let Some(passkey) = known.unconfirmed else {
            self.log_out(known.session).await?;
            return Ok(None);
        };
        let measure = Measure::Confirm {
            officer: known.officer,
            account: self.account.clone(),
            passkey,
        };
        let asked = self.propose_in(known.session, measure, reason, CONFIRM);
        asked.await.map(Some)
    }

    /// Proposes within a session that has just begun, and ends it.
    async fn propose_in(
        &self,
        session: SecretBytes,
        measure: Measure,
        reason: &str,
        ttl: i64,
    ) -> Result<ProposalInfo> {
        let request = ProposeRequest {
            session: session.clone(),
            measure,
            reason: reason.to_owned(),
            ttl,
        };
        let info = self.sic.call::<Propose>(&request).await;
        self.log_out(session).await?;
        info
    }

    /// Approves a proposal, after `look` has seen what it says.
    ///
    /// # Errors
    /// When `look` says no, the act isn't genuine, or the SAM refuses.
    pub async fn approve(
        &mut self,
        proposal: Digest32,
        look: impl FnOnce(&Document, &str) -> Result<()> + Send,
        switch: Option<String>,
    ) -> Result<ProposalInfo> {
        let session = self.log_in().await?.session;
        let request = ProposalRequest {
            session: session.clone(),
            proposal,
        };
        let opened = self.sic.call::<ProposalOpen>(&request).await;
        self.log_out(session).await?;
        let now = self.sic.clock.now();
        let review = self.sic.sam().await?.officer_act(opened?, now)?;
        let document = review.document();
        look(
            document.ok_or_else(|| anyhow::anyhow!("this is a log-in"))?,
            review.text(),
        )?;
        let mut proof = review.confirm().passkey(&mut self.device, now)?;
        proof.switch = switch;
        self.sic.call::<ProposalApprove>(&proof).await
    }

    /// Proposals: all that are not over, then the newest of the others.
    ///
    /// # Errors
    /// When the SAM refuses.
    pub async fn proposals(&mut self) -> Result<Vec<ProposalInfo>> {
        let session = self.log_in().await?.session;
        let request = SessionRequest {
            session: session.clone(),
        };
        let answer = self.sic.call::<Proposals>(&request).await;
        self.log_out(session).await?;
        Ok(answer?.proposals)
    }

    /// Ends a proposal.
    ///
    /// # Errors
    /// When the SAM refuses.
    pub async fn end(&mut self, proposal: Digest32) -> Result<ProposalInfo> {
        let session = self.log_in().await?.session;
        let request = ProposalRequest {
            session: session.clone(),
            proposal,
        };
        let answer = self.sic.call::<ProposalEnd>(&request).await;
        self.log_out(session).await?;
        answer
    }

    /// The evidence of a proposal's approvals. It is to be verified.
    ///
    /// # Errors
    /// When the SAM refuses.
    pub async fn evidence(&mut self, proposal: Digest32) -> Result<String> {
        let session = self.log_in().await?.session;
        let request = ProposalRequest {
            session: session.clone(),
            proposal,
        };
        let answer = self.sic.call::<EvidenceOfProposal>(&request).await;
        self.log_out(session).await?;
        Ok(answer?.bundle)
    }

    /// Takes an approved proposal with its evidence.
    ///
    /// # Errors
    /// When the SAM refuses.
    pub async fn take(&mut self, proposal: Digest32) -> Result<TakenProposal> {
        let session = self.log_in().await?.session;
        let request = ProposalRequest {
            session: session.clone(),
            proposal,
        };
        let answer = self.sic.call::<ProposalTake>(&request).await;
        self.log_out(session).await?;
        answer
    }

    /// How far it is with a proposal to end all keys.
    ///
    /// # Errors
    /// When the SAM refuses.
    pub async fn progress(&mut self, proposal: Digest32) -> Result<Progress> {
        let session = self.log_in().await?.session;
        let request = ProposalRequest {
            session: session.clone(),
            proposal,
        };
        let answer = self.sic.call::<ProposalProgress>(&request).await;
        self.log_out(session).await?;
        answer
    }

    /// The module's certificates of all keys that were destroyed with it. They are to be verified.
    ///
    /// # Errors
    /// When the SAM refuses, or its answers don't come to an end.
    pub async fn certificates(&mut self, proposal: Digest32) -> Result<Vec<Destroyed>> {
        let session = self.log_in().await?.session;
        let mut request = CertificatesRequest {
            session: session.clone(),
            proposal,
            after: None,
        };
        let mut all = Vec::new();
        loop {
            let answer = self.sic.call::<ProposalCertificates>(&request).await?;
            all.extend(answer.keys);
            let Some(next) = answer.next else { break };
            anyhow::ensure!(
                request.after.as_ref().is_none_or(|last| *last < next),
                "the SAM gives the same keys again"
            );
            request.after = Some(next);
        }
        self.log_out(session).await?;
        Ok(all)
    }

    /// Who holds which office.
    ///
    /// # Errors
    /// When the SAM refuses.
    pub async fn people(&mut self) -> Result<PeopleAnswer> {
        let session = self.log_in().await?.session;
        let request = SessionRequest {
            session: session.clone(),
        };
        let answer = self.sic.call::<People>(&request).await;
        self.log_out(session).await?;
        answer
    }

    /// How the SAM is.
    ///
    /// # Errors
    /// When the SAM refuses.
    pub async fn state(&mut self) -> Result<StateAnswer> {
        let session = self.log_in().await?.session;
        let request = SessionRequest {
            session: session.clone(),
        };
        let answer = self.sic.call::<State>(&request).await;
        self.log_out(session).await?;
        answer
    }
}
