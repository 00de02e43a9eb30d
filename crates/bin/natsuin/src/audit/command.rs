//! Options of `natsuin audit`.

use std::path::PathBuf;

use clap::Subcommand;

use super::{
    FetchArgs, PagesArgs, SearchArgs, Verify, ZONES, alert, export, fetch, meant, pages, search,
    verify, witness,
};
use crate::output::{Exit, Failure, Out};
use crate::stores::choice;

/// Commands of `natsuin audit`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Write the logs of a stopped development stack to a directory, for checking elsewhere.
    Export {
        /// Directory of the stack.
        #[arg(long, default_value = "natsuin-dev")]
        data: PathBuf,
        /// `postgres://…` if the stack keeps its rows there, or `@FILE` with it.
        #[arg(long, value_name = "URL")]
        store: Option<String>,
        /// Where the export goes; one folder a zone.
        #[arg(long)]
        out: PathBuf,
    },
    /// Take a running zone's log from its listener for auditors, as an export to be verified.
    Fetch(FetchArgs),
    /// Check an export offline: edits, deletions, reordering and truncation are found.
    Verify {
        /// Directory of the export.
        dir: PathBuf,
        /// Zone (cm, sam or ssa) whose log is in it; may be given more than once. Default: all have to be.
        #[arg(long = "zone", value_parser = ZONES)]
        zones: Vec<String>,
        /// Directory with the witness's files, `ZONE.txt`, kept by the auditor. Without it a cut tail isn't found.
        #[arg(long)]
        witness: Option<PathBuf>,
        /// Directory with the logs' public keys, `ZONE.pub`, taken when the logs began. Default: those in the export.
        #[arg(long)]
        keys: Option<PathBuf>,
        /// Directory of an archive with entries that were deleted from the logs since; may be given more than once.
        #[arg(long = "archive", value_name = "DIR")]
        archives: Vec<PathBuf>,
        /// File with the public key of a witness that cosigns checkpoints; may be given more than once.
        #[arg(long = "cosigner", value_name = "VKEY")]
        cosigners: Vec<PathBuf>,
        /// Directory of a witness that has checkpoints time-stamped.
        #[arg(long, value_name = "DIR", requires = "tsa_trust")]
        time_stamps: Option<PathBuf>,
        /// Certificates (PEM) that authorities of time have to lead to.
        #[arg(long, value_name = "PEM", requires = "time_stamps")]
        tsa_trust: Option<PathBuf>,
    },
    /// Find entries by date, type, person, key and outcome, in words, as JSON lines or as CSV.
    Search(Box<SearchArgs>),
    /// Check that the approval page's host serves what was declared, as browsers get it; for a timer, on a machine of the auditor's.
    Pages(Box<PagesArgs>),
    /// Watch running zones' logs and tell what somebody has to know of: by mail, webhook and metrics.
    Alert {
        /// Configuration file; see config/natsuin-alert.toml.
        #[arg(long, default_value = "/etc/natsuin-alert/alert.toml")]
        config: PathBuf,
    },
    /// Run a witness: cosign the checkpoints of logs that only grow.
    Witness {
        /// Configuration file; see config/natsuin-witness.toml.
        #[arg(long, default_value = "/etc/natsuin-witness/witness.toml")]
        config: PathBuf,
    },
}

/// Runs a command.
///
/// # Errors
/// [`Failure`].
pub async fn run(command: AuditCommand, out: Out) -> Result<Exit, Failure> {
    match command {
        AuditCommand::Export {
            data,
            store,
            out: dir,
        } => export(&data, choice(store.as_deref())?, &dir, out).await,
        AuditCommand::Fetch(args) => fetch(args, out).await,
        AuditCommand::Verify {
            dir,
            zones,
            witness,
            keys,
            cosigners,
            archives,
            time_stamps,
            tsa_trust,
        } => {
            let what = Verify {
                dir,
                zones: meant(&zones),
                witness,
                keys,
                cosigners,
                archives,
                stamps: time_stamps.zip(tsa_trust),
            };
            verify(&what, out)
        }
        AuditCommand::Search(args) => search(*args, out).await,
        AuditCommand::Pages(args) => pages(*args, out).await,
        AuditCommand::Alert { config } => alert(&config, out).await,
        AuditCommand::Witness { config } => witness(&config, out).await,
    }
}
