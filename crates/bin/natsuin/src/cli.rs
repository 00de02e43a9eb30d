//! Commands and their options.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use core_types::clock::SystemClock;
use web_ui::Lang;

use crate::bench::BenchArgs;
use crate::client::{self, ClientCommand};
use crate::officer::{self, ApprovalCommand, OfficerCommand};
use crate::output::{Exit, Failure, Out};
use crate::{
    archive, audit, backup, bench, config, courier, csc, demo, dev, device, evidence, key, sign,
    statement, verify, worker,
};

/// Remote signatures that only their signers can make.
#[derive(Debug, Parser)]
#[command(name = "natsuin", version, about, long_about = None)]
pub struct Cli {
    /// Answer with exactly one JSON object on standard output.
    #[arg(long, global = true)]
    pub json: bool,
    /// Language of what is shown; default: the terminal's (LC_ALL, LC_MESSAGES, LANG).
    #[arg(long, global = true, value_enum)]
    pub lang: Option<CliLang>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// A language of the command line.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum CliLang {
    /// Japanese.
    Ja,
    /// English.
    En,
}

impl From<CliLang> for Lang {
    fn from(lang: CliLang) -> Self {
        match lang {
            CliLang::Ja => Self::Ja,
            CliLang::En => Self::En,
        }
    }
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start everything, sign files with a demo signer's key, verify them and show the result.
    Demo {
        /// PDF files; without any, a Japanese sample contract is made and signed.
        files: Vec<PathBuf>,
        /// Where signed files go.
        #[arg(long, default_value = "natsuin-out")]
        out: PathBuf,
        /// PKCS#11 module (shared library) in which the key is made and kept.
        #[arg(long, value_name = "MODULE")]
        pkcs11: Option<PathBuf>,
        /// Add the provider's counter-signature, which shows where the signature was made.
        #[arg(long)]
        counter_sign: bool,
    },
    /// Keep the whole service running on this machine, for development.
    Dev(dev::DevArgs),
    /// Sign PDF files with your key at a CSC service: hashed here, approved in your browser.
    Sign(sign::SignArgs),
    /// Measure raw library signing, signing through the service, and PDF signing, in one run.
    Bench(BenchArgs),
    /// Verify signed PDF files: signature, chain, revocation, time-stamp, and what was changed after signing.
    Verify {
        /// PDF files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// CA certificates to trust, PEM; may be given more than once.
        #[arg(long)]
        trust: Vec<PathBuf>,
        /// Revocation lists that are at hand, PEM or DER, for checks without the network; may be given more than once.
        #[arg(long, value_name = "FILE")]
        crl: Vec<PathBuf>,
        /// The provider's table of algorithms.
        #[command(flatten)]
        algorithms: verify::Algorithms,
    },
    /// Check what the cryptographic module signed about a key: its origin, or its destruction.
    Statement {
        /// File with the statement.
        file: PathBuf,
        /// The module's root key, a JWK in a file.
        #[arg(long, value_name = "JWK")]
        root: PathBuf,
        /// Certificate (PEM) that the statement has to be about.
        #[arg(long, value_name = "PEM")]
        cert: Option<PathBuf>,
    },
    /// Call the CSC API of any provider, or check what it does.
    #[command(subcommand)]
    Csc(csc::CscCommand),
    /// Bring one-time codes from the SAM to signers, by mail and short message; runs in the SAM's zone.
    Courier {
        /// Configuration file; see config/natsuin-courier.toml.
        #[arg(long, default_value = "/etc/natsuin-courier/courier.toml")]
        config: PathBuf,
    },
    /// Sign documents for `signatures/signDoc`; a process of its own, for a sandbox.
    ScaWorker {
        /// Configuration file; see config/natsuin-sca-worker.toml.
        #[arg(long, default_value = "/etc/natsuin-sca-worker/worker.toml")]
        config: PathBuf,
    },
    /// Sign the configuration of a SAM's nodes, and look at what was signed.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Bring a key of your own to a service, and receive one that is handed over.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// A key on this machine that approves signatures together with a PIN, without a browser.
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// Officers of a development stack: who they are, and what they propose. Elsewhere they do it on their page, where their passkey is.
    Officer {
        /// An officer's file, as the ready file of `natsuin dev` names it.
        #[arg(
            long = "as",
            value_name = "FILE",
            global = true,
            default_value = "officer.json"
        )]
        who: PathBuf,
        /// What to do.
        #[command(subcommand)]
        command: OfficerCommand,
    },
    /// Proposals of a development stack's officers, and their approvals.
    Approval {
        /// An officer's file, as the ready file of `natsuin dev` names it.
        #[arg(
            long = "as",
            value_name = "FILE",
            global = true,
            default_value = "officer.json"
        )]
        who: PathBuf,
        /// What to do.
        #[command(subcommand)]
        command: ApprovalCommand,
    },
    /// Clients of an SSA: what is agreed with them, their secrets, and whether they may come.
    Client {
        /// File that names the SSA's listener for officers and your certificate.
        #[arg(
            long = "as",
            value_name = "FILE",
            global = true,
            default_value = "client-officer.json"
        )]
        who: PathBuf,
        /// What to do.
        #[command(subcommand)]
        command: ClientCommand,
    },
    /// Export, search and check audit logs.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Write exported logs to a medium of their own, signed, and check such an archive.
    #[command(subcommand)]
    Archive(archive::ArchiveCommand),
    /// Back up the stores of all zones, check a backup, and restore one.
    #[command(subcommand)]
    Backup(Box<backup::BackupCommand>),
    /// Export and check the evidence of a single act: who approved what.
    #[command(subcommand)]
    Evidence(evidence::EvidenceCommand),
}

/// Runs a command.
///
/// # Errors
/// [`Failure`]: what happened, what to do, and the exit code.
pub async fn run(command: Command, out: Out) -> Result<Exit, Failure> {
    match command {
        Command::Demo {
            files,
            out: out_dir,
            pkcs11,
            counter_sign,
        } => {
            demo::run(
                demo::Demo {
                    files,
                    out_dir,
                    pkcs11,
                    counter_sign,
                },
                out,
            )
            .await
        }
        Command::Dev(args) => dev::run(args, out).await,
        Command::Sign(args) => sign::run(args.into(), out).await,
        Command::Bench(args) => bench::run(args, out).await,
        Command::ScaWorker { config } => worker::run(&config, out).await,
        Command::Courier { config } => courier::run(&config, out).await,
        Command::Csc(command) => csc::run(command, out).await,
        Command::Verify {
            files,
            trust,
            crl,
            algorithms,
        } => verify::run(&files, &trust, &crl, &algorithms, out).await,
        Command::Statement { file, root, cert } => {
            statement::run(&file, &root, cert.as_deref(), out)
        }
        Command::Config(command) => config::run(command, out),
        Command::Officer { who, command } => officer::officer(command, &who, out).await,
        Command::Client { who, command } => client::run(command, &who, out).await,
        Command::Approval { who, command } => officer::approval(command, &who, out).await,
        Command::Evidence(command) => evidence::run(command, out).await,
        Command::Key(command) => key::run(command, out).await,
        Command::Device(command) => device::run(command, out),
        Command::Audit(command) => audit::run(command, out).await,
        Command::Archive(command) => archive::run(&command, &SystemClock, out),
        Command::Backup(command) => backup::run(*command, &SystemClock, out).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_arguments_or_commands_have_one_name() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    /// Names of keys, acts, backups and proposals are base64url: one in 64 begins with a hyphen.
    #[test]
    fn names_may_begin_with_a_hyphen() {
        for line in [
            "sign a.pdf --url https://a.example --key -k",
            "audit search --data d --key -k --person -p",
            "approval show -p",
            "approval give -p --yes",
            "backup approve --key k --office o --backup -b --target -t --reason r --exp 1",
        ] {
            let words = std::iter::once("natsuin").chain(line.split(' '));
            let parsed = Cli::try_parse_from(words);
            // What is missing beside them is another matter.
            let refused = parsed.err().map(|e| e.kind());
            assert_ne!(
                refused,
                Some(clap::error::ErrorKind::UnknownArgument),
                "{line}"
            );
        }
    }
}
