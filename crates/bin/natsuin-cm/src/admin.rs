//! What administrators do beside the running daemon: dealing shares of the root secret, backup, restore, comparison with
//! the audit log. On an embedded store the daemon is stopped first.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use audit_archive::Archive;
use audit_service::{DeleteArchived, ForgetPerson};
use clap::Subcommand;
use cm_api::rpc::{Empty, SelfTest, SwitchModule, SwitchRequest};
use cm_api::switch::Switch;
use cm_core::backend::Backend;
use cm_core::backup::{self, BackupError};
use cm_core::{Ledger, Module, Policy, RootSecret};
use core_types::random::SystemRandom;
use core_types::{Clock as _, SecretBytes, clock::SystemClock};
use core_types::{Digest32, UnixTime};
use jose::SigningKey;
use service_kit::http::HttpOptions;
use service_kit::{Client, Identity, Trouble, daemon};
use shares::Share;
use store_kit::Store;

use crate::passphrase;

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
        /// End of the approval, Unix time, at most a day from now; the same for both officers.
        #[arg(long)]
        exp: i64,
    },
    /// Give every entry of the audit log its place, sign a checkpoint, and write the log to a directory for archive, check
    /// and restore.
    ExportLog {
        /// The directory.
        #[arg(long)]
        out: PathBuf,
    },
    /// Delete from the module's live log what an archive has, as two officers approved.
    DeleteArchived(DeleteArchived),
    /// Forget who somebody was, as two officers approved, once nothing has to be kept of them.
    ForgetPerson(ForgetPerson),
    /// Compare every key's row with the audit log.
    Scrub,
    /// Change the key under which the token wraps: every wrapped key anew, then the end of the old wrapping keys.
    ChangeWrapping,
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
    /// Run the self-tests of the running module now, as its administrator, and tell its state. In the state *error* officers want
    /// to see them pass before they approve `recovered`.
    SelfTest {
        /// Address of the module, such as `https://cm.internal.example.jp:8501`.
        #[arg(long)]
        url: String,
        /// The administrator's certificate chain (PEM).
        #[arg(long)]
        chain: PathBuf,
        /// Its private key (PEM).
        #[arg(long)]
        key: PathBuf,
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
        /// End of the approval, Unix time, at most an hour from now; the same for both officers.
        #[arg(long)]
        exp: i64,
        /// With `--to recovered`: the error that is left, as `self-test` names it.
        #[arg(long, required_if_eq("to", "recovered"))]
        error: Option<String>,
    },
    /// Bring two officers' approvals to the running module, as its administrator.
    Switch {
        /// Address of the module, such as `https://cm.internal.example.jp:8501`.
        #[arg(long)]
        url: String,
        /// The administrator's certificate chain (PEM).
        #[arg(long)]
        chain: PathBuf,
        /// Its private key (PEM).
        #[arg(long)]
        key: PathBuf,
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
        /// End of the approval, Unix time, at most an hour from now; the same for both officers.
        #[arg(long)]
        exp: i64,
        /// What is approved.
        #[command(subcommand)]
        what: crate::ceremony::What,
    },
    /// Bring two officers' approvals of a key of the provider to the running module, as its administrator.
    HoldCeremony {
        /// Address of the module, such as `https://cm.internal.example.jp:8501`.
        #[arg(long)]
        url: String,
        /// The administrator's certificate chain (PEM).
        #[arg(long)]
        chain: PathBuf,
        /// Its private key (PEM).
        #[arg(long)]
        key: PathBuf,
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

pub(crate) fn trouble(
    code: &'static str,
    what: impl std::fmt::Display,
    remedy: &'static str,
) -> Trouble {
    Trouble::new(code, what.to_string(), remedy)
}

fn bad_backup(error: &BackupError) -> Trouble {
    let remedy = match error {
        BackupError::File(_) => "check the path and the space on the disk",
        BackupError::Store(_) => "check the store; stop the daemon first if it is an embedded one",
        BackupError::Tampered => "run natsuin-cm scrub and look for who changed the store",
        BackupError::Malformed(_) => "take another copy of the backup",
        BackupError::WrongRoot => "use the shares that were dealt for this module",
        BackupError::NotEmpty => "restore into a new store",
        BackupError::NotApproved => {
            "have two officers of the backup's time approve it for this store (restore-target, approve-restore)"
        }
        BackupError::OldLog => "export the log up to its last checkpoint, and restore with that",
    };
    trouble("backup", error, remedy)
}

/// The root secret's file: made if it isn't there, by nobody else's leave to read.
pub(crate) fn ceremony(
    secret: &Path,
    passphrase: Option<&Path>,
    out: &Path,
    need: u8,
    of: u8,
) -> Result<String, Trouble> {
    let numbers = |e| trouble("shares", e, "choose how many of how many");
    if !secret.exists() {
        let mut bytes = [0; 32];
        core_types::Random::fill(&SystemRandom, &mut bytes);
        write_new(secret, &bytes)?;
    }
    let secret = passphrase::read(secret, passphrase)?;
    let dealt = shares::deal(&secret, need, of, &SystemRandom).map_err(numbers)?;
    fs::create_dir(out).map_err(|e| file(out, &e))?;
    for share in &dealt {
        let path = out.join(format!("share-{}.txt", share.number()));
        write_new(&path, share.text().expose())?;
    }
    Ok(format!(
        "{of} shares in {}, of which {need} are needed; hand each to one person and delete them here",
        out.display()
    ))
}

pub(crate) async fn backup(module: &Module, out: &Path) -> Result<String, Trouble> {
    let target = new_file(out)?;
    let mut target = BufWriter::new(target);
    let made = module.backup(&mut target).await;
    let report = made.map_err(|e| bad_backup(&e))?;
    let written = target.into_inner().map_err(|e| file(out, e.error()))?;
    written.sync_all().map_err(|e| file(out, &e))?;
    Ok(format!(
        "{} keys, {} rows in {}; backup {}",
        report.keys,
        report.rows,
        out.display(),
        report.id
    ))
}

pub(crate) fn check(from: &Path, root: &RootSecret) -> Result<String, Trouble> {
    let mut source = BufReader::new(File::open(from).map_err(|e| file(from, &e))?);
    let report = backup::check(&mut source, root).map_err(|e| bad_backup(&e))?;
    Ok(format!(
        "whole and unaltered: {} keys, {} rows, made {}, backup {}",
        report.keys, report.rows, report.made, report.id
    ))
}

/// What a restore is made of.
pub(crate) struct Restore<'r> {
    pub(crate) from: &'r Path,
    pub(crate) shares: &'r [PathBuf],
    pub(crate) log: &'r Path,
    pub(crate) log_key: &'r Path,
    pub(crate) witness: &'r Path,
    pub(crate) archives: &'r [PathBuf],
    pub(crate) approvals: &'r [PathBuf],
    /// Where the root secret belongs on this machine.
    pub(crate) root_secret: &'r Path,
    /// What opens it, where a sealed one is there.
    pub(crate) passphrase: Option<&'r Path>,
    pub(crate) node: &'r str,
    pub(crate) copies_kept_days: u32,
    pub(crate) backend: &'r dyn Backend,
}

pub(crate) async fn restore(store: &Store, r: Restore<'_>) -> Result<String, Trouble> {
    let mut given = Vec::new();
    for path in r.shares {
        let text = SecretBytes::from(daemon::text(path)?);
        let text = std::str::from_utf8(text.expose()).unwrap_or_default();
        let share = Share::parse(text).map_err(|e| {
            trouble(
                "shares",
                format!("{}: {e}", path.display()),
                "check the share's text",
            )
        })?;
        given.push(share);
    }
    let secret = shares::join(&given).map_err(|e| {
        trouble(
            "shares",
            e,
            "ask for shares of one dealing, as many as needed",
        )
    })?;
    let ledger = ledger(r.log, r.log_key, r.witness, r.archives)?;
    let root = RootSecret::new(secret.clone())
        .ok_or_else(|| trouble("shares", "no root secret", "use shares of a root secret"))?;
    if r.root_secret.exists() {
        let there = passphrase::read(r.root_secret, r.passphrase)?;
        if !there.ct_eq(secret.expose()) {
            let remedy = "name a root_secret that doesn't exist yet";
            return Err(trouble(
                "shares",
                "another root secret is there already",
                remedy,
            ));
        }
    }
    let mut source = BufReader::new(File::open(r.from).map_err(|e| file(r.from, &e))?);
    let now = SystemClock.now();
    let approvals = read_approvals(r.approvals)?;
    let done = backup::restore(
        store,
        &mut source,
        &root,
        &ledger,
        &backup::Restoring {
            node: r.node,
            now,
            copies_kept_days: r.copies_kept_days,
            backend: r.backend,
            random: &SystemRandom,
            approvals: &approvals,
        },
    )
    .await;
    let report = done.map_err(|e| bad_backup(&e))?;
    if !r.root_secret.exists() {
        write_new(r.root_secret, secret.expose())?;
    }
    let mut lines = vec![format!(
        "{} keys are usable again; {} orders stay spent",
        report.keys, report.orders
    )];
    let names = |keys: &[core_types::KeyId]| {
        let names: Vec<_> = keys.iter().map(core_types::KeyId::as_str).collect();
        names.join(" ")
    };
    if !report.refused_destroyed.is_empty() {
        let keys = names(&report.refused_destroyed);
        lines.push(format!("refused, since destroyed after the backup: {keys}"));
    }
    if !report.set_forward.is_empty() {
        let keys = names(&report.set_forward);
        lines.push(format!("counters set forward to the audit log's: {keys}"));
    }
    if !report.lost.is_empty() {
        lines.push(format!(
            "made after the backup and lost: {}",
            report.lost.join(" ")
        ));
    }
    Ok(lines.join("\n"))
}

pub(crate) async fn restore_target(store: &Store) -> Result<String, Trouble> {
    let target = backup::target(store).await;
    let target = target.map_err(|e| trouble("store", e, "check the store"))?;
    Ok(target.to_string())
}

pub(crate) fn approve_restore(
    sam: &str,
    key: &Path,
    root: &Path,
    (backup, target): (&str, &str),
    exp: i64,
) -> Result<String, Trouble> {
    let digest = |text: &str| {
        let read = serde_json::from_value::<Digest32>(text.into());
        read.map_err(|e| trouble("bad-value", e, "give the name as it was told"))
    };
    let wanted = cm_api::restore::Restore {
        sam: sam.to_owned(),
        root: read_root(root)?.kid(),
        backup: digest(backup)?,
        target: digest(target)?,
        exp: UnixTime(exp),
    };
    let approval = wanted.approve(&officer(key)?);
    approval.map_err(|e| trouble("keys", e, "use a key that officer-key has made"))
}

/// The log's facts, if the export is whole up to what the witness has seen.
fn ledger(log: &Path, key: &Path, witness: &Path, archives: &[PathBuf]) -> Result<Ledger, Trouble> {
    let remedy = "export the log again, up to the witness's last checkpoint";
    let key = daemon::text(key)?;
    let archives: Vec<PathBuf> = archives
        .iter()
        .map(|dir| Archive::logs(dir).join("cm"))
        .collect();
    let archives: Vec<&Path> = archives.iter().map(PathBuf::as_path).collect();
    let known = audit_verify::Known {
        key: key.trim(),
        witness: Some(witness),
        zone: Some("cm"),
        archives: &archives,
        ..audit_verify::Known::default()
    };
    let (mut ledger, mut read) = (Ledger::default(), Ok(()));
    let report = audit_verify::verify_each(log, known, |_, text| {
        if read.is_ok() {
            read = ledger.read(text);
        }
    });
    let report = report.map_err(|e| trouble("audit", e, remedy))?;
    if !report.ok || report.witnesses.agreeing == 0 {
        return Err(trouble("audit", "the audit log doesn't verify", remedy));
    }
    // What was executed and destroyed before the cut counts as much.
    if let Some(part) = report.archived.iter().find(|part| !part.read) {
        let what = format!(
            "entries up to {} lie in archive {}",
            part.size, part.archive
        );
        return Err(trouble("audit", what, "give that archive too (--archive)"));
    }
    read.map_err(|e| trouble("audit", e, remedy))?;
    Ok(ledger)
}

pub(crate) async fn scrub(module: &Module) -> Result<String, Trouble> {
    let done = module.scrub().await;
    let done = done.map_err(|e| trouble("store", e, "check the store"))?;
    let good = done.set_back.is_empty() && done.revived.is_empty() && done.missing.is_empty();
    if good {
        return Ok(format!("{} keys agree with the audit log", done.keys));
    }
    let what = format!(
        "of {} keys, set back or altered: {:?}; destroyed and there again: {:?}; gone: {:?}",
        done.keys, done.set_back, done.revived, done.missing
    );
    Err(trouble(
        "tampered",
        what,
        "keep the store as it is, find out who changed it, restore a backup",
    ))
}

pub(crate) fn officer_key(out: &Path, public: &Path) -> Result<String, Trouble> {
    let made = SigningKey::generate();
    let (key, pkcs8) = made.map_err(|e| trouble("keys", e, "try again"))?;
    let jwk = serde_json::to_vec(key.public()).map_err(|e| trouble("keys", e, "try again"))?;
    write_new(out, pkcs8.expose())?;
    write_new(public, &jwk)?;
    Ok(format!(
        "{} is the officer's alone; {} belongs into officers",
        out.display(),
        public.display()
    ))
}

pub(crate) fn officer(key: &Path) -> Result<SigningKey, Trouble> {
    let pkcs8 = SecretBytes::new(fs::read(key).map_err(|e| file(key, &e))?);
    let remedy = "use a key that officer-key has made";
    SigningKey::from_pkcs8(&pkcs8).map_err(|e| trouble("keys", e, remedy))
}

pub(crate) fn sign_algorithms(key: &Path, table: &Path) -> Result<String, Trouble> {
    let signed = Policy::sign(&daemon::text(table)?, &officer(key)?);
    signed.map_err(|e| trouble("bad-config", e, "correct the table"))
}

pub(crate) fn approve(
    sam: &str,
    key: &Path,
    root: &Path,
    to: To,
    (serial, error): (u64, Option<String>),
    exp: i64,
) -> Result<String, Trouble> {
    let officer = officer(key)?;
    let wanted = Switch {
        sam: sam.to_owned(),
        root: read_root(root)?.kid(),
        enabled: to != To::Disabled,
        recover: to == To::Recovered,
        error: error.filter(|_| to == To::Recovered),
        serial,
        exp: UnixTime(exp),
    };
    let approval = wanted.approve(&officer);
    approval.map_err(|e| trouble("keys", e, "use a key that officer-key has made"))
}

/// The module's root key, as others pin it.
pub(crate) fn read_root(path: &Path) -> Result<jose::Jwk, Trouble> {
    serde_json::from_str(&daemon::text(path)?)
        .map_err(|e| trouble("keys", e, "give the module's root key as a JWK"))
}

/// The way to the running module.
pub(crate) fn client(url: &str, identity: Identity, ca_pem: String) -> Result<Client, Trouble> {
    let options = HttpOptions {
        ca_pem: Some(ca_pem),
        identity: Some(identity),
        ..HttpOptions::default()
    };
    Client::new(url, &options)
}

/// Approvals, one in each file.
pub(crate) fn read_approvals(paths: &[PathBuf]) -> Result<Vec<String>, Trouble> {
    let read = |path: &PathBuf| Ok(daemon::text(path)?.trim().to_owned());
    paths.iter().map(read).collect()
}

pub(crate) async fn switch(client: &Client, approvals: Vec<String>) -> Result<String, Trouble> {
    let request = SwitchRequest { approvals };
    let health = client.call::<SwitchModule>(&request).await;
    let remedy = "two different officers approve the same bytes, with the next serial, within the hour; to leave the state error, \
                  natsuin-cm self-test has to pass first";
    let health = health.map_err(|e| trouble("switch", format!("{e:?}"), remedy))?;
    Ok(format!(
        "the module is {:?}; switched {} times",
        health.state, health.switched
    ))
}

pub(crate) async fn self_test(client: &Client) -> Result<String, Trouble> {
    let health = client.call::<SelfTest>(&Empty {}).await;
    let remedy = "a module that is locked or disabled isn't tested; else look at its log";
    let health = health.map_err(|e| trouble("self-test", format!("{e:?}"), remedy))?;
    let tested = match (health.operational, health.tested) {
        (true, _) => "; the tests passed".to_owned(),
        (false, Some(at)) => format!("; the tests passed at {at}"),
        (false, None) => "; the tests didn't pass".to_owned(),
    };
    let error = health.error.map(|error| format!("; its error is {error}"));
    Ok(format!(
        "the module is {:?}; switched {} times{tested}{}",
        health.state,
        health.switched,
        error.unwrap_or_default()
    ))
}

pub(crate) async fn change_wrapping(module: &Module) -> Result<String, Trouble> {
    let done = module.change_wrapping().await;
    let done = done.map_err(|e| trouble("wrapping", e, "check the token, then run it again"))?;
    Ok(format!(
        "{} keys wrapped anew, {} wrapping keys destroyed",
        done.keys, done.retired
    ))
}

fn new_file(path: &Path) -> Result<File, Trouble> {
    let mut options = OpenOptions::new();
    let opened = options.create_new(true).write(true).mode(0o600).open(path);
    opened.map_err(|e| file(path, &e))
}

pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Trouble> {
    let mut target = new_file(path)?;
    let done = target.write_all(bytes).and_then(|()| target.sync_all());
    done.map_err(|e| file(path, &e))
}

fn file(path: &Path, error: &std::io::Error) -> Trouble {
    let remedy = "check the path, who may read it, and that a new file isn't there yet";
    trouble("file", format!("{}: {error}", path.display()), remedy)
}
