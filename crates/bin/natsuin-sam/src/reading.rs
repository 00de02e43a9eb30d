//! What an auditor gets at the machine of the SAM: its log, and the evidence of single acts. The SAM isn't started for it, only its
//! log is opened; each reading is an entry there before anything is handed out.

use std::path::PathBuf;

use audit_log::{AuditLog, Sequencer};
use audit_service::{ExportLog, record_reading, store_trouble, trouble as audit_trouble};
use clap::Args;
use core_types::{Digest32, PersonName, SecretBytes, UnixTime};
use jose::Jwk;
use sam_service::{ReceiptError, bundle, proposal_bundle};
use serde_json::{Value, json};
use service_kit::{Answer, Trouble};
use store_kit::Store;

use crate::ceremony::{Command, trouble, write_new};

/// Options of `export-evidence`: everything a checker needs about one act, or about what officers approved, goes to a file.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExportEvidence {
    /// Person that the act is of; of another tenant's person, TENANT/ID.
    #[arg(
        long,
        allow_hyphen_values = true,
        requires = "act",
        required_unless_present = "proposal"
    )]
    person: Option<String>,
    /// Digest of the act, as entries of the log name it.
    #[arg(long, allow_hyphen_values = true, requires = "person")]
    act: Option<String>,
    /// Digest of a proposal instead, as entries of the log and the signer's page name it: all approvals of it.
    #[arg(long, allow_hyphen_values = true, conflicts_with = "person")]
    proposal: Option<String>,
    /// Where the file goes; it must be new.
    #[arg(long)]
    out: PathBuf,
}

/// A command that reads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reading<'c> {
    Log(&'c ExportLog),
    Evidence(&'c ExportEvidence),
}

/// The command, if it is one that reads.
pub(crate) fn of(command: &Command) -> Option<Reading<'_>> {
    match command {
        Command::ExportLog(command) => Some(Reading::Log(command)),
        Command::ExportEvidence(command) => Some(Reading::Evidence(command)),
        _ => None,
    }
}

impl Reading<'_> {
    /// Does it; answers what was done. `root`: the module's root key, which stands in evidence.
    ///
    /// # Errors
    /// [`Trouble`]; nothing is handed out that isn't recorded.
    pub(crate) async fn run(
        self,
        log: &AuditLog,
        (sequencer, store): (&Sequencer, &Store),
        root: &Jwk,
        now: UnixTime,
    ) -> Result<Answer, Trouble> {
        match self {
            Self::Log(command) => command.run(log, (sequencer, store), now).await,
            Self::Evidence(command) => command.run(log, (sequencer, store), root, now).await,
        }
    }
}

/// What there is evidence of.
enum About {
    /// An act of a person.
    Act(PersonName, Digest32),
    /// What officers approved.
    Proposal(Digest32),
}

fn unfit(what: String) -> Trouble {
    let remedy = "give act or proposal as an entry of the log names it, and the person as a search for auditors does";
    trouble("evidence", what, remedy)
}

impl ExportEvidence {
    fn about(&self) -> Result<About, Trouble> {
        let digest = |text: &Option<String>, name: &str| {
            let digest = Digest32::parse(text.as_deref().unwrap_or_default());
            digest.map_err(|_| unfit(format!("--{name} isn't a digest")))
        };
        let Some(person) = &self.person else {
            return Ok(About::Proposal(digest(&self.proposal, "proposal")?));
        };
        let person = PersonName::parse(person.as_str()).map_err(|e| unfit(e.to_string()))?;
        Ok(About::Act(person, digest(&self.act, "act")?))
    }

    async fn run(
        &self,
        log: &AuditLog,
        (sequencer, store): (&Sequencer, &Store),
        root: &Jwk,
        now: UnixTime,
    ) -> Result<Answer, Trouble> {
        let about = self.about()?;
        // So that the log has a checkpoint over everything that there is.
        let placed = sequencer.sequence(store, now).await;
        placed.map_err(|e| audit_trouble(&e))?;
        let (named, made) = match &about {
            About::Act(person, act) => {
                let made = bundle(store, root, person.as_str(), *act).await;
                (*act, made.map(Some))
            }
            About::Proposal(proposal) => (*proposal, proposal_bundle(store, root, *proposal).await),
        };
        let made = made.map_err(|error| match error {
            ReceiptError::Store(error) => store_trouble(&error),
            error => unfit(error.to_string()),
        })?;
        let nobody = || unfit("the log names nobody who approved such a proposal".to_owned());
        let text = made.ok_or_else(nobody)?;
        let shown = serde_json::from_str(&text).unwrap_or_default();
        record_reading(log, store, ("evidence", named), entries(&shown), now).await?;
        let placed = sequencer.sequence(store, now).await;
        placed.map_err(|e| audit_trouble(&e))?;
        write_new(&self.out, &SecretBytes::from(text))?;
        let out = self.out.display().to_string();
        Ok(Answer::new(out.as_str(), json!({ "file": out })))
    }
}

/// How many entries a bundle has, or all that are in it.
fn entries(shown: &Value) -> u64 {
    let own = shown["entries"].as_array().map_or(0, Vec::len) as u64;
    let approvals = shown["approvals"].as_array();
    let approvals: u64 = approvals.map_or(0, |all| all.iter().map(entries).sum());
    own + approvals
}
