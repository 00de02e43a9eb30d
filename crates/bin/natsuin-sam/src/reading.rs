//! What an auditor gets at the machine of the SAM: its log, and the evidence of single acts. The SAM isn't started for it, only its
//! log is opened; each reading is an entry there before anything is handed out.

use std::path::PathBuf;

use audit_log::{AuditLog, Sequencer};
use audit_service::{ExportLog, record_reading, store_trouble, trouble as audit_trouble};
use clap::Args;
use core_types::{Digest32, PersonName, SecretBytes, UnixTime};
use jose::Jwk;
use sam_service::{ReceiptError, bundle};
use service_kit::Trouble;
use store_kit::Store;

use crate::ceremony::{Command, trouble, write_new};

/// Options of `export-evidence`: everything a checker needs about one act goes to a file.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExportEvidence {
    /// Person that the act is of; of another tenant's person, TENANT/ID.
    #[arg(long, allow_hyphen_values = true)]
    person: String,
    /// Digest of the act, as entries of the log name it.
    #[arg(long, allow_hyphen_values = true)]
    act: String,
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
    /// Does it; answers what was done, in words. `root`: the module's root key, which stands in evidence.
    ///
    /// # Errors
    /// [`Trouble`]; nothing is handed out that isn't recorded.
    pub(crate) async fn run(
        self,
        log: &AuditLog,
        (sequencer, store): (&Sequencer, &Store),
        root: &Jwk,
        now: UnixTime,
    ) -> Result<String, Trouble> {
        match self {
            Self::Log(command) => command.run(log, (sequencer, store), now).await,
            Self::Evidence(command) => command.run(log, (sequencer, store), root, now).await,
        }
    }
}

impl ExportEvidence {
    async fn run(
        &self,
        log: &AuditLog,
        (sequencer, store): (&Sequencer, &Store),
        root: &Jwk,
        now: UnixTime,
    ) -> Result<String, Trouble> {
        let unfit = |what: String| {
            let remedy = "give the act as an entry of the log names it, and the person as a search for auditors does";
            trouble("evidence", what, remedy)
        };
        let person = PersonName::parse(self.person.as_str()).map_err(|e| unfit(e.to_string()))?;
        let act = Digest32::parse(&self.act).map_err(|_| unfit("--act isn't a digest".into()))?;
        // So that the log has a checkpoint over everything that there is.
        let placed = sequencer.sequence(store, now).await;
        placed.map_err(|e| audit_trouble(&e))?;
        let made = bundle(store, root, person.as_str(), act).await;
        let text = made.map_err(|error| match error {
            ReceiptError::Store(error) => store_trouble(&error),
            error => unfit(error.to_string()),
        })?;
        let shown: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let entries = shown["entries"].as_array().map_or(0, Vec::len) as u64;
        record_reading(log, store, ("evidence", act), entries, now).await?;
        let placed = sequencer.sequence(store, now).await;
        placed.map_err(|e| audit_trouble(&e))?;
        write_new(&self.out, &SecretBytes::from(text))?;
        Ok(self.out.display().to_string())
    }
}
