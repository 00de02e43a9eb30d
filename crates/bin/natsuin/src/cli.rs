//! Commands and their options.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use core_types::clock::SystemClock;
use web_ui::Lang;

use crate::bench::BenchArgs;
use crate::client::{self, ClientCommand};
use crate::officer::{self, ApprovalCommand, OfficerCommand};
use crate::output::{Exit, Failure, Out};
use crate::stack::{Options, StoreChoice};
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
    Dev(DevArgs),
    /// Sign PDF files with your key at a CSC service: hashed here, approved in your browser.
    Sign(SignArgs),
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
    Config(ConfigCommand),
    /// Bring a key of your own to a service, and receive one that is handed over.
    #[command(subcommand)]
    Key(KeyCommand),
    /// A key on this machine that approves signatures together with a PIN, without a browser.
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Officers: who they are, and what they propose.
    Officer {
        /// Your officer's file.
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
    /// Proposals of officers, and their approvals.
    Approval {
        /// Your officer's file.
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
    Audit(AuditCommand),
    /// Write exported logs to a medium of their own, signed, and check such an archive.
    #[command(subcommand)]
    Archive(archive::ArchiveCommand),
    /// Back up the stores of all zones, check a backup, and restore one.
    #[command(subcommand)]
    Backup(Box<backup::BackupCommand>),
    /// Export and check the evidence of a single act: who approved what.
    #[command(subcommand)]
    Evidence(EvidenceCommand),
}

/// Commands of `natsuin config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Sign a new configuration (with --serial), or add a signature to what another officer has signed.
    Sign {
        /// Configuration files of `natsuin-sam`, one for each node.
        #[arg(required = true)]
        configs: Vec<PathBuf>,
        /// File of signatures; goes beside each node's configuration as `….toml.sig`.
        #[arg(long)]
        sig: PathBuf,
        /// Your private key, as `natsuin-cm officer-key` makes it.
        #[arg(long)]
        key: PathBuf,
        /// Number of the configuration, above the last one's.
        #[arg(long, requires_all = ["need", "signers"])]
        serial: Option<u64>,
        /// How many have to sign the next one.
        #[arg(long, requires = "serial")]
        need: Option<u8>,
        /// Public key (JWK) of somebody who may sign the next one; may be given more than once.
        #[arg(long = "signer", value_name = "JWK", requires = "serial")]
        signers: Vec<PathBuf>,
    },
    /// Show what was signed and by whom, and whether these are the files.
    Verify {
        /// Configuration files of `natsuin-sam`, one for each node.
        #[arg(required = true)]
        configs: Vec<PathBuf>,
        /// File of signatures.
        #[arg(long)]
        sig: PathBuf,
    },
}

/// Commands of `natsuin evidence`.
#[derive(Debug, Subcommand)]
pub enum EvidenceCommand {
    /// Write the evidence of an act of a stopped development stack to a file. Signers get theirs in the portal.
    Export {
        /// Directory of the stack.
        #[arg(long, default_value = "natsuin-dev")]
        data: PathBuf,
        /// `postgres://…` if the stack keeps its rows there.
        #[arg(long, value_name = "URL")]
        store: Option<String>,
        /// The module's root key, a JWK in a file.
        #[arg(long, value_name = "JWK")]
        root: PathBuf,
        /// Person that the act is of.
        #[arg(long, allow_hyphen_values = true)]
        person: String,
        /// Digest of the act.
        #[arg(long, allow_hyphen_values = true)]
        act: String,
        /// Where the file goes.
        #[arg(long)]
        out: PathBuf,
    },
    /// Check a bundle of evidence offline.
    Verify {
        /// The bundle.
        file: PathBuf,
        /// The module's root key, a JWK in a file, known from before.
        #[arg(long, value_name = "JWK")]
        root: PathBuf,
        /// The SAM's log key, known from before.
        #[arg(long, value_name = "PUB")]
        log: PathBuf,
        /// Identity providers that you know (JSON array: issuer, client, keys, acr, amr), had from them. The word of any other is the service's only.
        #[arg(long)]
        providers: Option<PathBuf>,
        /// Certificate (PEM) of the issuer of signers' certificates.
        #[arg(long, value_name = "PEM")]
        issuer: Option<PathBuf>,
    },
}

/// Commands of `natsuin key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Show what a key file holds, for the portal; or, with an approval, seal the key and bring it.
    Import {
        /// The key: PKCS#8 (PEM or DER) or PKCS#12.
        file: PathBuf,
        /// File with its password on the first line.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// Number of the approval, as the approval page shows it.
        #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, requires_all = ["sic", "root"])]
        act: Option<String>,
        /// Origin of the approval page, such as `https://sign-example.jp`.
        #[arg(long, value_name = "URL")]
        sic: Option<String>,
        /// The module's root key, a JWK in a file, known from before.
        #[arg(long, value_name = "JWK")]
        root: Option<PathBuf>,
        /// CA certificates for HTTPS, PEM; may be given more than once.
        #[arg(long)]
        trust: Vec<PathBuf>,
        /// Send it as the certification authority with this key (PKCS#8, P-256), which the service trusts.
        #[arg(long, value_name = "KEY")]
        as_ca: Option<PathBuf>,
    },
    /// Make a receiver's key; or open a key that was handed over.
    Receive {
        /// The file that the portal handed out.
        #[arg(required_unless_present = "new")]
        file: Option<PathBuf>,
        /// Make a receiver's key in this file, and show its public half for the portal.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["file", "with", "out"])]
        new: Option<PathBuf>,
        /// The receiver's key.
        #[arg(long, value_name = "FILE", required_unless_present = "new")]
        with: Option<PathBuf>,
        /// Where the private key goes, PKCS#8 in PEM.
        #[arg(long, value_name = "FILE", required_unless_present = "new")]
        out: Option<PathBuf>,
    },
}

/// Commands of `natsuin device`.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// Make a device key, and show what to add in the portal and to compare on the approval page.
    Enrol {
        /// Where the key goes, sealed under a passphrase.
        file: PathBuf,
        /// Origin of the approval page, such as `https://sign-example.jp`.
        #[arg(long, value_name = "URL")]
        sic: String,
        /// The module's root key, a JWK in a file, from the one who enrolled you.
        #[arg(long, value_name = "JWK")]
        root: PathBuf,
        /// File with the passphrase on the first line, which only you can read; default: it is asked for.
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Show the public half of a device key and its code.
    Show {
        /// The device key.
        file: PathBuf,
    },
}

/// Options of `natsuin dev`.
#[derive(Debug, clap::Args)]
pub struct DevArgs {
    /// Write URLs, clients and signers to this file (JSON) when everything answers.
    #[arg(long, value_name = "F")]
    pub ready_file: Option<PathBuf>,
    /// First of four ports; 0 takes free ones.
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Directory of the stack.
    #[arg(long, default_value = "natsuin-dev")]
    pub data: PathBuf,
    /// `postgres://…` instead of embedded SQLite files.
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// PKCS#11 module (shared library) in which signers' keys are made and kept, such as SoftHSM2's.
    #[arg(long, value_name = "MODULE")]
    pub pkcs11: Option<PathBuf>,
    /// Add the provider's counter-signature to each signature, which shows where it was made.
    #[arg(long)]
    pub counter_sign: bool,
    /// Port of a mail server on this machine that gets codes and notices to signers; without one they land in files.
    #[arg(long, value_name = "PORT")]
    pub mail_port: Option<u16>,
    /// Serve everything over HTTPS with the development CA.
    #[arg(long)]
    pub tls: bool,
}

/// Options of `natsuin sign`.
#[derive(Debug, clap::Args)]
pub struct SignArgs {
    /// PDF files.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// The service, such as `https://rssp.example.jp` or `https://rssp.example.jp/csc/v2`.
    #[arg(long)]
    pub url: String,
    /// Registered client id.
    #[arg(long, default_value = "natsuin-cli")]
    pub client: String,
    /// File with the client's secret, if it has one.
    #[arg(long, value_name = "FILE")]
    pub client_secret_file: Option<PathBuf>,
    /// Key to sign with, when you have several.
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    pub key: Option<String>,
    /// Where signed files go; default: beside the originals.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// CA certificates to trust, PEM; may be given more than once.
    #[arg(long)]
    pub trust: Vec<PathBuf>,
    /// RFC 3161 time-stamp authority.
    #[arg(long, value_name = "URL")]
    pub tsa: Option<String>,
    /// Signature field to fill in, for files with several empty ones.
    #[arg(long, value_name = "NAME")]
    pub field: Option<String>,
    /// Print the addresses instead of starting a browser.
    #[arg(long)]
    pub no_browser: bool,
    /// Approve here instead of in a browser, with the device key in this file and its PIN.
    #[arg(long, value_name = "FILE")]
    pub device_key: Option<PathBuf>,
    /// File with the device key's passphrase on the first line, which only you can read; default: it is asked for.
    #[arg(long, value_name = "FILE", requires = "device_key")]
    pub passphrase_file: Option<PathBuf>,
    /// File with the PIN on the first line, which only you can read; default: it is asked for.
    #[arg(long, value_name = "FILE", requires = "device_key")]
    pub pin_file: Option<PathBuf>,
    /// Your login name, when the client has a contract that names you and needs no login of yours.
    #[arg(
        long,
        value_name = "NAME",
        requires = "client_secret_file",
        requires = "device_key"
    )]
    pub user: Option<String>,
}

/// Commands of `natsuin audit`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Write the logs of a stopped development stack to a directory, for checking elsewhere.
    Export {
        /// Directory of the stack.
        #[arg(long, default_value = "natsuin-dev")]
        data: PathBuf,
        /// `postgres://…` if the stack keeps its rows there.
        #[arg(long, value_name = "URL")]
        store: Option<String>,
        /// Where the export goes; one folder a zone.
        #[arg(long)]
        out: PathBuf,
    },
    /// Check an export offline: edits, deletions, reordering and truncation are found.
    Verify {
        /// Directory of the export.
        dir: PathBuf,
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
    Search(Box<audit::SearchArgs>),
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
        Command::Dev(args) => {
            let store = store_choice(args.store);
            let options = Options {
                port: args.port,
                store,
                tls: args.tls,
                pkcs11: args.pkcs11,
                counter_sign: args.counter_sign,
                mail_port: args.mail_port,
                ..Options::new(args.data)
            };
            dev::run(&options, args.ready_file, out).await
        }
        Command::Sign(args) => {
            let sign = sign::Sign {
                files: args.files,
                url: args.url,
                client: args.client,
                secret_file: args.client_secret_file,
                key: args.key,
                out_dir: args.out,
                trust: args.trust,
                tsa: args.tsa,
                field: args.field,
                browser: !args.no_browser,
                device: args.device_key.map(|file| sign::DeviceKey {
                    file,
                    passphrase_file: args.passphrase_file,
                    pin_file: args.pin_file,
                }),
                user: args.user,
            };
            sign::run(sign, out).await
        }
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
        Command::Config(ConfigCommand::Sign {
            configs,
            sig,
            key,
            serial,
            need,
            signers,
        }) => {
            let new = serial
                .zip(need)
                .map(|(serial, need)| (serial, need, signers));
            let sign = config::Sign {
                configs,
                sig,
                key,
                new,
            };
            config::sign(&sign, out)
        }
        Command::Config(ConfigCommand::Verify { configs, sig }) => {
            config::verify(&configs, &sig, out)
        }
        Command::Officer { who, command } => officer::officer(command, &who, out).await,
        Command::Client { who, command } => client::run(command, &who, out).await,
        Command::Approval { who, command } => officer::approval(command, &who, out).await,
        Command::Evidence(EvidenceCommand::Export {
            data,
            store,
            root,
            person,
            act,
            out: file,
        }) => {
            let export = evidence::Export {
                data,
                store: store_choice(store),
                root,
                person,
                act,
                out: file,
            };
            evidence::export(export, out).await
        }
        Command::Evidence(EvidenceCommand::Verify {
            file,
            root,
            log,
            issuer,
            providers,
        }) => {
            let (issuer, providers) = (issuer.as_deref(), providers.as_deref());
            evidence::verify(&file, &root, &log, issuer, providers, out)
        }
        Command::Key(command) => key_command(command, out).await,
        Command::Device(DeviceCommand::Enrol {
            file,
            sic,
            root,
            passphrase_file,
        }) => device::enrol(&file, (&sic, &root), passphrase_file.as_deref(), out),
        Command::Device(DeviceCommand::Show { file }) => device::show(&file, out),
        Command::Audit(AuditCommand::Export {
            data,
            store,
            out: dir,
        }) => audit::export(&data, store_choice(store), &dir, out).await,
        Command::Audit(AuditCommand::Verify {
            dir,
            witness,
            keys,
            cosigners,
            archives,
            time_stamps,
            tsa_trust,
        }) => {
            let verify = audit::Verify {
                dir,
                witness,
                keys,
                cosigners,
                archives,
                stamps: time_stamps.zip(tsa_trust),
            };
            audit::verify(&verify, out)
        }
        Command::Archive(command) => archive::run(&command, &SystemClock, out),
        Command::Backup(command) => backup::run(*command, &SystemClock, out).await,
        Command::Audit(AuditCommand::Search(args)) => audit::search(*args, out).await,
        Command::Audit(AuditCommand::Alert { config }) => audit::alert(&config, out).await,
        Command::Audit(AuditCommand::Witness { config }) => audit::witness(&config, out).await,
    }
}

async fn key_command(command: KeyCommand, out: Out) -> Result<Exit, Failure> {
    match command {
        KeyCommand::Import {
            file,
            password_file,
            act,
            sic,
            root,
            trust,
            as_ca,
        } => {
            // The parser has seen to it that they come together.
            let bring = match (act, sic, root) {
                (Some(act), Some(sic), Some(root)) => Some(key::Bring {
                    act,
                    sic,
                    root,
                    trust,
                    as_ca,
                }),
                _ => None,
            };
            let import = key::Import {
                file,
                password_file,
                bring,
            };
            key::import(import, out).await
        }
        KeyCommand::Receive {
            file,
            new,
            with,
            out: to,
        } => match (new, file, with, to) {
            (Some(new), ..) => key::receiver(&new, out),
            (None, Some(file), Some(with), Some(to)) => key::receive(&file, &with, &to, out),
            _ => Err(Failure::new(
                Exit::Input,
                "usage",
                "a file, --with and --out are needed",
                "see: natsuin key receive --help",
            )),
        },
    }
}

fn store_choice(url: Option<String>) -> StoreChoice {
    url.map_or(StoreChoice::Embedded, StoreChoice::Postgres)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of keys, acts, backups and proposals are base64url: one in 64 begins with a hyphen.
    #[test]
    fn names_may_begin_with_a_hyphen() {
        for line in [
            "sign a.pdf --url https://a.example --key -k",
            "audit search --data d --key -k --person -p",
            "approval show -p",
            "approval give -p --yes",
            "backup approve --key k --office o --backup -b --target -t --exp 1",
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
