//! What administrators do beside the running daemon, or ask of it. On an embedded store the daemon is stopped first.

mod backup;
mod beside;
mod officers;

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use audit_service::{DeleteArchived, ExportLog, ForgetPerson};
use clap::Subcommand;
use cm_api::rpc::{ChangeWrapping, WrappingRequest};
use core_types::SecretBytes;
use core_types::random::SystemRandom;
use serde::Deserialize;
use serde_json::json;
use service_kit::http::HttpOptions;
use service_kit::{Answer, Client, Identity, Trouble, daemon};

use crate::backend::Missing;
use crate::config::Config;
use crate::{backend, ceremony, open_store, passphrase};

pub(crate) use officers::{checked, officer, read_root, tell};

/// Administrators' commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Deal the root secret to shares, of which several persons' are needed for a restore; makes the secret if there is
    /// none yet.
    Ceremony {
        /// Directory for the shares, one file each, for handing out; it must be new.
        #[arg(long)]
        out: PathBuf,
        /// How many shares are needed.
        #[arg(long)]
        need: u8,
        /// How many shares there are.
        #[arg(long)]
        of: u8,
    },
    /// Seal the root secret's file with a passphrase (`--passphrase-file`), which every start then needs. For machines that can't
    /// seal it themselves.
    SealRoot,
    /// Write a backup of all keys.
    Backup {
        /// The file; it must be new.
        #[arg(long)]
        out: PathBuf,
    },
    /// Check a backup to its last line.
    CheckBackup {
        /// The file.
        #[arg(long)]
        from: PathBuf,
    },
    /// Restore a backup into an empty store, with the shares of several persons and the audit log up to its end.
    Restore {
        /// The backup.
        #[arg(long)]
        from: PathBuf,
        /// A share; given as often as shares are needed.
        #[arg(long = "share", required = true)]
        shares: Vec<PathBuf>,
        /// Export of the module's audit log.
        #[arg(long)]
        log: PathBuf,
        /// Public key of the log, as taken when it began.
        #[arg(long)]
        log_key: PathBuf,
        /// The witness's file: without it nobody knows where the log ends.
        #[arg(long)]
        witness: PathBuf,
        /// Directory of an archive with entries that were deleted from the log; as many as the log names.
        #[arg(long = "archive")]
        archives: Vec<PathBuf>,
        /// File with an officer's approval; two, where the module had officers when the backup was made.
        #[arg(long = "approval")]
        approvals: Vec<PathBuf>,
    },
    /// Tell by what name officers approve a restore into this empty store.
    RestoreTarget,
    /// Approve, as an officer, that a backup is restored into one store; prints the approval.
    ApproveRestore {
        /// The officer's private key.
        #[arg(long)]
        key: PathBuf,
        /// The module's root key (JWK).
        #[arg(long)]
        root: PathBuf,
        /// Name of the backup, as told when it was made and checked.
        #[arg(long, allow_hyphen_values = true)]
        backup: String,
        /// Name of the store, as `restore-target` tells.
        #[arg(long, allow_hyphen_values = true)]
        target: String,
        /// Why; the same words for both officers.
        #[arg(long)]
        reason: String,
        /// End of the approval, Unix time, at most a day from now; the same for both officers.
        #[arg(long)]
        exp: i64,
    },
    /// Give every entry of the audit log its place, sign a checkpoint, and write the log to a directory for archive, check
    /// and restore.
    ExportLog(ExportLog),
    /// Print the public key of the module's log, as witnesses and auditors keep it (cm.pub), from its name and seed; nothing is started.
    LogKey,
    /// Delete from the module's live log what an archive has, as two officers approved.
    DeleteArchived(DeleteArchived),
    /// Forget who somebody was, as two officers approved, once nothing has to be kept of them.
    ForgetPerson(ForgetPerson),
    /// Write what officers approved (switching, keys of the provider, restores), as they signed it, to a file of JSON lines: evidence, by the
    /// digests that the log has.
    ExportApprovals {
        /// The file; it must be new.
        #[arg(long)]
        out: PathBuf,
    },
    /// Compare every key's row with the audit log.
    Scrub,
    /// End the error in which the module starts, once its cause is found and gone; for a module of level 1 with fewer than two officers, where
    /// nobody can approve it. Runs all that a start tests.
    Recover,
    /// Let a SAM follow that has lost its keys; for a module of level 1 with fewer than two officers, who approve it elsewhere (`approve-key
    /// new-sam`). Its next keys are taken within the hour.
    NewSam,
    /// Have the running module change the key under which the token wraps, as its administrator: every wrapped key anew while
    /// keys are used, then the end of the old wrapping keys, and with them of all that earlier backups of the module have of
    /// wrapped keys. Waits for the end; if it is interrupted the module goes on.
    ChangeWrapping {
        /// The running module, and who calls it.
        #[command(flatten)]
        at: Running,
    },
    /// Make an officer's key: the private half in a file of the officer's, the public half for `officers`.
    OfficerKey {
        /// File for the private key; it must be new.
        #[arg(long)]
        out: PathBuf,
        /// File for the public key (JWK); it must be new.
        #[arg(long)]
        public: PathBuf,
    },
    /// Sign a table of approved algorithms, as a security officer; prints what `algorithms` has to contain, a line for each
    /// officer. Its version must be higher than before, and two officers sign what approves more than before.
    SignAlgorithms {
        /// The officer's private key.
        #[arg(long)]
        key: PathBuf,
        /// The table (JSON).
        #[arg(long)]
        table: PathBuf,
    },
    /// Sign, as an officer of the list before, who the module's officers are from here on; prints a line for the file that
    /// `officer_changes` names, to which two officers' lines belong and all earlier ones.
    ApproveOfficers {
        /// The officer's private key.
        #[arg(long)]
        key: PathBuf,
        /// The module's root key (JWK).
        #[arg(long)]
        root: PathBuf,
        /// One more than the version of the list before (`cm.officers-in-force` in the log).
        #[arg(long)]
        version: u64,
        /// Why; the same words for both officers.
        #[arg(long)]
        reason: String,
        /// Public key (JWK) of an officer from here on; given for each of them, by both officers in the same order.
        #[arg(long = "officer", required = true)]
        officers: Vec<PathBuf>,
    },
    /// Ask the running module, as its administrator, how it is.
    Status {
        /// The running module, and who calls it.
        #[command(flatten)]
        at: Running,
    },
    /// Run the self-tests of the running module now, as its administrator, and tell its state. In the state *error* officers want
    /// to see them pass before they approve `recovered`.
    SelfTest {
        /// The running module, and who calls it.
        #[command(flatten)]
        at: Running,
    },
    /// Approve, as an officer, that the module is enabled, disabled, or leaves the state *error*; prints the approval.
    Approve {
        /// The officer's private key.
        #[arg(long)]
        key: PathBuf,
        /// The module's root key (JWK).
        #[arg(long)]
        root: PathBuf,
        /// What is approved.
        #[arg(long, value_enum)]
        to: To,
        /// One more than the number of the last switching, as the module's state tells.
        #[arg(long)]
        serial: u64,
        /// Why; the same words for both officers.
        #[arg(long)]
        reason: String,
        /// End of the approval, Unix time, at most an hour from now; the same for both officers.
        #[arg(long)]
        exp: i64,
        /// With `--to recovered`: the error that is left, as `self-test` names it.
        #[arg(long, required_if_eq("to", "recovered"))]
        error: Option<String>,
    },
    /// Bring two officers' approvals to the running module, as its administrator.
    Switch {
        /// The running module, and who calls it.
        #[command(flatten)]
        at: Running,
        /// File with an approval; given twice.
        #[arg(long = "approval", required = true)]
        approvals: Vec<PathBuf>,
    },
    /// Approve, as an officer, that a key of the provider is made or destroyed; prints the approval.
    ApproveKey {
        /// The officer's private key.
        #[arg(long)]
        key: PathBuf,
        /// The module's root key (JWK).
        #[arg(long)]
        root: PathBuf,
        /// Why; the same words for both officers.
        #[arg(long)]
        reason: String,
        /// End of the approval, Unix time, at most an hour from now; the same for both officers.
        #[arg(long)]
        exp: i64,
        /// What is approved.
        #[command(subcommand)]
        what: crate::ceremony::What,
    },
    /// Bring two officers' approvals of a key of the provider to the running module, as its administrator.
    HoldCeremony {
        /// The running module, and who calls it.
        #[command(flatten)]
        at: Running,
        /// File with an approval; given twice.
        #[arg(long = "approval", required = true)]
        approvals: Vec<PathBuf>,
        /// New file for the certification request of a seal key (PEM).
        #[arg(long)]
        request: Option<PathBuf>,
    },
}

/// What officers decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum To {
    Enabled,
    Disabled,
    /// Out of the state *error*, and enabled.
    Recovered,
}

/// The running module, and as whom it is called.
#[derive(Debug, clap::Args)]
pub(crate) struct Running {
    /// Address of the module, such as `https://cm.internal.example.jp:8501`.
    #[arg(long)]
    url: String,
    /// The administrator's certificate chain (PEM).
    #[arg(long)]
    chain: PathBuf,
    /// Its private key (PEM).
    #[arg(long)]
    key: PathBuf,
}

impl Running {
    /// The way to it.
    fn client(&self, config: &Config) -> Result<Client, Trouble> {
        let options = HttpOptions {
            identity: Some(Identity {
                chain_pem: daemon::text(&self.chain)?,
                key_pem: SecretBytes::from(daemon::text(&self.key)?),
            }),
            ca_pem: Some(config.tls.ca_pem()?),
            ..HttpOptions::default()
        };
        Client::new(&self.url, &options)
    }
}

/// Where the settings are. Officers work at home, where the module's configuration isn't: what they do reads no more of it than the
/// name of the SAM, or nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) config: &'a Path,
    pub(crate) passphrase_file: Option<&'a Path>,
}

#[derive(Deserialize)]
struct Named {
    sam: String,
}

impl At<'_> {
    fn config(self) -> Result<Config, Trouble> {
        let mut config = Config::load(self.config)?;
        config.passphrase_file = self.passphrase_file.map(Path::to_owned);
        // Shares, the root secret and opened rows are as secret in a command.
        service_kit::harden_command(config.lock_memory)?;
        Ok(config)
    }

    fn sam(self) -> Result<String, Trouble> {
        let named: Named = daemon::load(self.config)?;
        Ok(named.sam)
    }
}

/// Does what an administrator or an officer wants; answers what was done.
///
/// # Errors
/// [`Trouble`]: what happened, and what to do.
pub(crate) async fn run(at: At<'_>, command: &Command) -> Result<Answer, Trouble> {
    service_kit::harden_command(false)?;
    let approval = |text| Answer::of("approval", text);
    let signed = |text| Answer::of("signed", text);
    match command {
        Command::Ceremony { out, need, of } => {
            let config = at.config()?;
            let (secret, passphrase) = (&config.root_secret, config.passphrase());
            backup::ceremony(secret, passphrase, out, *need, *of).map(Answer::from)
        }
        Command::CheckBackup { from } => backup::check(from, &at.config()?.root()?),
        Command::SealRoot => {
            let config = at.config()?;
            let (secret, passphrase) = (&config.root_secret, config.passphrase());
            passphrase::seal(secret, passphrase, &SystemRandom).map(Answer::from)
        }
        Command::Restore {
            from,
            shares,
            log,
            log_key,
            witness,
            archives,
            approvals,
        } => {
            let config = at.config()?;
            // Of several tokens one may be what was lost.
            let backend = backend::open(&config.backend, Missing::Waits);
            let backend = backend.map_err(|not| not.trouble)?;
            let restore = backup::Restore {
                from,
                shares,
                log,
                log_key,
                witness,
                archives,
                approvals,
                root_secret: &config.root_secret,
                passphrase: config.passphrase(),
                node: &config.node,
                copies_kept_days: config.copies_kept_days,
                backend: backend.as_ref(),
            };
            backup::restore(&open_store(&config.store).await?, restore).await
        }
        Command::RestoreTarget => {
            let target = backup::restore_target(&open_store(&at.config()?.store).await?).await;
            target.map(|target| Answer::of("target", target))
        }
        Command::ApproveRestore {
            key,
            root,
            backup,
            target,
            reason,
            exp,
        } => {
            let of = (backup.as_str(), target.as_str());
            backup::approve_restore(&at.sam()?, key, root, of, reason, *exp).map(approval)
        }
        Command::SignAlgorithms { key, table } => officers::sign_algorithms(key, table).map(signed),
        Command::OfficerKey { out, public } => officers::officer_key(out, public).map(Answer::from),
        Command::ApproveOfficers {
            key,
            root,
            version,
            reason,
            officers,
        } => {
            let of = (*version, reason.as_str());
            officers::approve_officers(&at.sam()?, key, root, of, officers).map(signed)
        }
        Command::Approve {
            key,
            root,
            to,
            serial,
            reason,
            exp,
            error,
        } => {
            let decision = officers::Decision {
                to: *to,
                serial: *serial,
                error: error.clone(),
                reason,
                exp: *exp,
            };
            officers::approve(&at.sam()?, key, root, decision).map(approval)
        }
        Command::Switch {
            at: running,
            approvals,
        } => {
            let client = running.client(&at.config()?)?;
            officers::switch(&client, officers::read_approvals(approvals)?).await
        }
        Command::Status { at: running } => officers::status(&running.client(&at.config()?)?).await,
        Command::SelfTest { at: running } => {
            officers::self_test(&running.client(&at.config()?)?).await
        }
        Command::ChangeWrapping { at: running } => {
            change_wrapping(&running.client(&at.config()?)?).await
        }
        Command::ApproveKey {
            key,
            root,
            reason,
            exp,
            what,
        } => {
            let (why, what) = ((reason.as_str(), *exp), what.clone());
            ceremony::approve(&at.sam()?, key, root, why, what).map(approval)
        }
        Command::HoldCeremony {
            at: running,
            approvals,
            request,
        } => {
            let client = running.client(&at.config()?)?;
            let approvals = officers::read_approvals(approvals)?;
            let held = ceremony::hold(&client, approvals, request.as_ref()).await;
            held.map(Answer::from)
        }
        Command::LogKey => {
            let key = at.config()?.audit.public_key();
            key.map(|key| Answer::of("log_key", key))
        }
        Command::Backup { .. }
        | Command::ExportLog(_)
        | Command::DeleteArchived(_)
        | Command::ForgetPerson(_)
        | Command::ExportApprovals { .. }
        | Command::Scrub
        | Command::Recover
        | Command::NewSam => beside::run(at.config()?, command).await,
    }
}

/// After which time it is asked first how far the change is, and after which most seldom.
const ASK: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

async fn change_wrapping(client: &Client) -> Result<Answer, Trouble> {
    let (mut begin, [mut pause, longest]) = (true, ASK);
    loop {
        let asked = client
            .call::<ChangeWrapping>(&WrappingRequest { begin })
            .await;
        let remedy = "look at the module's state and at the token, then run it again: it goes on";
        let told = asked.map_err(|e| trouble("wrapping", format!("{e:?}"), remedy))?;
        if !told.running {
            let (keys, retired) = (told.keys, told.retired);
            let words = format!(
                "{keys} keys wrapped anew, {retired} wrapping keys destroyed; NO BACKUP of the module from before gives a wrapped key \
                 back: make a new one now (natsuin-cm backup)"
            );
            let members = json!({"keys": keys, "retired": retired});
            return Ok(Answer::new(words, members));
        }
        begin = false;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

pub(crate) fn trouble(
    code: &'static str,
    what: impl std::fmt::Display,
    remedy: &'static str,
) -> Trouble {
    Trouble::new(code, what.to_string(), remedy)
}

fn new_file(path: &Path) -> Result<File, Trouble> {
    let mut options = OpenOptions::new();
    let opened = options.create_new(true).write(true).mode(0o600).open(path);
    opened.map_err(|e| file(path, &e))
}

pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Trouble> {
    let mut target = new_file(path)?;
    let done = target.write_all(bytes).and_then(|()| target.sync_all());
    if done.is_err() {
        // Half a secret would be in the way of the whole one.
        let _ = std::fs::remove_file(path);
    }
    done.map_err(|e| file(path, &e))
}

fn file(path: &Path, error: &std::io::Error) -> Trouble {
    let remedy = "check the path, who may read it, and that a new file isn't there yet";
    trouble("file", format!("{}: {error}", path.display()), remedy)
}
