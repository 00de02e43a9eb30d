//! What a daemon does with its log instead of serving, at the machine of its zone: the same commands in every zone that has them.

use std::fmt::Display;
use std::path::PathBuf;

use audit_archive::{Files, Forget, Forgetting, Source, bring_up};
use audit_log::{AuditError, AuditLog, Event, Sequencer, Summary};
use clap::Args;
use core_types::{Digest32, PeerId, UnixTime, sha256};
use serde_json::json;
use service_kit::{Answer, Trouble};
use store_kit::{Store, StoreError, transaction};

use crate::{AuditConfig, trouble};

/// Options of `bring-up-log`: after the restore of a backup that is older than the log, entries that the store lacks are put back.
#[derive(Debug, Clone, Args)]
pub struct BringUpLog {
    /// Directory of this zone's export.
    #[arg(long)]
    log: PathBuf,
    /// Directory of an archive with entries that were deleted from the log; as many as it names.
    #[arg(long = "archive")]
    archives: Vec<PathBuf>,
}

/// Options of `export-log`: every entry gets its place, a checkpoint is signed, and the whole log goes to a directory.
#[derive(Debug, Clone, Args)]
pub struct ExportLog {
    /// The directory; what an earlier export left in it is replaced.
    #[arg(long)]
    out: PathBuf,
}

/// Options of `delete-archived`: what an archive has is deleted from the live log, as two officers approved.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct DeleteArchived {
    /// Directory of the archive.
    #[arg(long)]
    archive: PathBuf,
    /// Public key (JWK) that archives are signed with.
    #[arg(long, value_name = "JWK")]
    archive_key: PathBuf,
    /// What `natsuin approval take` wrote.
    #[arg(long)]
    taken: PathBuf,
}

/// Options of `forget-person`: the zone forgets who somebody was, as two officers approved.
#[derive(Debug, Clone, Args)]
#[group(skip)]
pub struct ForgetPerson {
    /// Id of the person.
    #[arg(long, allow_hyphen_values = true)]
    person: String,
    /// File with the salt that `natsuin officer forget` made.
    #[arg(long)]
    salt: PathBuf,
    /// What `natsuin approval take` wrote.
    #[arg(long)]
    taken: PathBuf,
}

impl BringUpLog {
    /// Puts the entries back into `log`, the log of `zone` in a store that isn't in use; answers what was done, in words.
    ///
    /// # Errors
    /// [`Trouble`] `bring-up-log`, or when the log's key can't be used.
    pub async fn run(
        &self,
        zone: &'static str,
        config: &AuditConfig,
        log: &AuditLog,
        store: &Store,
        now: UnixTime,
    ) -> Result<String, Trouble> {
        let source = Source {
            zone,
            export: &self.log,
            witness: config.witness(),
            archives: &self.archives,
        };
        let done = bring_up(source, log, &config.log_key()?, store, now).await;
        let done = done.map_err(|e| {
            let remedy = "use the last export of this log and the witness's own file, on a store that was just restored";
            Trouble::new("bring-up-log", e.to_string(), remedy)
        })?;
        Ok(format!(
            "the log had {} entries and has {}; {} persons are known from lost rows only",
            done.from, done.size, done.strangers
        ))
    }
}

impl ExportLog {
    /// Exports a log, which its daemon may go on writing; answers what was done. That it was read is an entry
    /// (`audit.read`) before anything is handed out, and part of the export.
    ///
    /// # Errors
    /// [`Trouble`] when the log can't be read or written, or the directory not used.
    pub async fn run(
        &self,
        log: &AuditLog,
        (sequencer, store): (&Sequencer, &Store),
        now: UnixTime,
    ) -> Result<Answer, Trouble> {
        let known = audit_log::status(store).await;
        let known = known.map_err(|e| trouble(&e.into()))?;
        // With the entry that says so.
        let entries = u64::try_from(known.entries + known.new + 1).unwrap_or(0);
        let whole = sha256(&[b"export"]);
        record_reading(log, store, ("export", whole), entries, now).await?;
        let done = async {
            sequencer.sequence(store, now).await?;
            audit_log::export(store, &self.out, &sequencer.public()).await
        };
        let entries = done.await.map_err(|e| trouble(&e))?;
        let out = self.out.display().to_string();
        let words = format!("{entries} entries in {out}");
        let members = json!({"entries": entries, "out": out});
        Ok(Answer::new(words, members))
    }
}

/// Records that a command at the zone's machine reads entries of the log, by the name of the node as which it writes. `what`: how
/// they are read, and the digest of what was asked for. What isn't recorded isn't handed out.
///
/// # Errors
/// [`Trouble`]; nothing may be read then.
pub async fn record_reading(
    log: &AuditLog,
    store: &Store,
    (what, query): (&'static str, Digest32),
    entries: u64,
    now: UnixTime,
) -> Result<(), Trouble> {
    let reader = PeerId::parse(log.node()).map_err(|e| {
        let remedy = "give the node a shorter name, of letters, digits, dot, hyphen and underscore";
        Trouble::new("node", format!("{}: {e}", log.node()), remedy)
    })?;
    let event = Event::AuditRead {
        reader,
        what: what.into(),
        query,
        entries: u32::try_from(entries).unwrap_or(u32::MAX),
    };
    let written: Result<(), StoreError> = transaction!(store, "audit-read", |tx| {
        log.append(tx, event.clone(), now).await.map(drop)
    });
    written.map_err(|e| trouble(&AuditError::from(e)))
}

impl DeleteArchived {
    /// Deletes from the live log of `zone`; answers what was done, in words. `root`: the module's root key as a JWK (JSON).
    /// `summary`: what the zone has to know of the entries afterwards.
    ///
    /// # Errors
    /// [`Trouble`] `delete-archived`; the log is as it was.
    pub async fn run(
        &self,
        zone: &'static str,
        config: &AuditConfig,
        root: &str,
        (sequencer, store): (&Sequencer, &Store),
        summary: &mut dyn Summary,
        now: UnixTime,
    ) -> Result<String, Trouble> {
        let files = Files {
            zone,
            archive: &self.archive,
            archive_key: &self.archive_key,
            taken: &self.taken,
            root,
            keep_days: config.keep_days(),
        };
        let done = files.delete(sequencer, store, summary, now).await;
        done.map_err(|e| Trouble::new("delete-archived", e.to_string(), e.remedy()))
    }
}

impl ForgetPerson {
    /// What was approved, if it was for this person. `root`: the module's root key as a JWK (JSON).
    ///
    /// # Errors
    /// [`Trouble`] `forget-person`.
    pub fn check(
        &self,
        config: &AuditConfig,
        root: &str,
        now: UnixTime,
    ) -> Result<Forget, Trouble> {
        let order = Forgetting {
            taken: &self.taken,
            person: &self.person,
            salt: &self.salt,
            root,
            keep_days: config.keep_persons_days(),
        };
        order.check(now).map_err(|e| Self::refused(&e))
    }

    /// What is told of it when the zone is done: whether it knew the person.
    ///
    /// # Errors
    /// [`Trouble`] `forget-person`.
    pub fn told<E: Display>(done: Result<bool, E>) -> Result<String, Trouble> {
        let said = match done.map_err(|e| Self::refused(&e))? {
            true => "forgotten; destroy the salt when all zones have done so",
            false => "this zone knows nothing of this person",
        };
        Ok(said.to_owned())
    }

    /// That nobody is forgotten, and why.
    pub fn refused(why: &dyn Display) -> Trouble {
        let remedy = "have two officers approve it for this person, and wait until nothing has to be kept of them";
        Trouble::new("forget-person", why.to_string(), remedy)
    }
}
