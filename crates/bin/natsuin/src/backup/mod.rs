//! `natsuin backup`: the stores of all zones with what belongs to them, sealed for several persons, signed, checked by being
//! restored, and restored by a system operator with a security officer's approval.

mod create;
mod needed;
mod restore;
mod scratch;
mod secrets;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ::backup::{Authority, BackupError, Identity, Office, Restore};
use clap::{Args, Subcommand};
use core_types::random::SystemRandom;
use core_types::words::is_reason;
use core_types::{Clock, Digest32, SecretBytes, UnixTime};
use jose::{Jwk, SigningKey};
use sam_core::backups::BackupReport;
use serde_json::json;
use service_kit::daemon;
use shares::Share;
use store_kit::StoreUrl;

use crate::audit::ZONES;
use crate::output::{Exit, Failure, Out};
use crate::stores::address;

/// Commands of `natsuin backup`.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Make a recipient whose backups several persons open together; prints its public key. A recipient for one person is
    /// made with `age-keygen`.
    Recipient {
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
    /// Write a backup; the zones go on meanwhile.
    Create(Box<create::CreateArgs>),
    /// Check a backup to its last byte, and by a restore into a place of its own that is removed afterwards.
    Verify(Box<TrialArgs>),
    /// Tell by what name a restore into these blank stores is approved; makes them.
    Target {
        /// The stores.
        #[command(flatten)]
        stores: Stores,
    },
    /// Approve a restore, as a system operator or as a security officer; prints the approval.
    Approve {
        /// Your private key, as `natsuin-cm officer-key` makes it.
        #[arg(long)]
        key: PathBuf,
        /// Your office.
        #[arg(long, value_enum)]
        office: AsWhat,
        /// Name of the backup, as `backup verify` told.
        #[arg(long, allow_hyphen_values = true)]
        backup: String,
        /// Name of the stores, as `backup target` told.
        #[arg(long, allow_hyphen_values = true)]
        target: String,
        /// Why; it is signed and kept with the approval.
        #[arg(long)]
        reason: String,
        /// End of the approval, Unix time, at most a day from now.
        #[arg(long)]
        exp: i64,
    },
    /// Restore a backup into blank stores, after the same check.
    Restore(Box<restore::RestoreArgs>),
}

/// Offices in which somebody approves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum AsWhat {
    /// Who restores.
    Operator,
    /// Who agrees to it.
    Officer,
}

/// Which stores.
#[derive(Debug, Args)]
pub struct Stores {
    /// Directory of a development stack.
    #[arg(long, required_unless_present = "zones")]
    data: Option<PathBuf>,
    /// `postgres://…` if the stack keeps its rows there, or `@FILE` with it.
    #[arg(long, value_name = "URL", requires = "data")]
    store: Option<String>,
    /// A zone (cm, sam, ssa) and where its store is: `sam=@/etc/natsuin/sam.toml` as its configuration says, or an address without
    /// a password; may be given more than once.
    #[arg(long = "zone", value_name = "NAME=@FILE", conflicts_with = "data")]
    zones: Vec<String>,
}

/// A trial, and who hears of it.
#[derive(Debug, Args)]
pub struct TrialArgs {
    /// How it is opened and judged.
    #[command(flatten)]
    verify: VerifyArgs,
    /// Folder for the report that the console shows: `verified.json` there tells which backup was good.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

/// What a backup is opened and judged with.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The backup.
    file: PathBuf,
    /// File with the identity of a recipient, as `age-keygen` writes it.
    #[arg(long, required_unless_present = "shares")]
    identity: Option<PathBuf>,
    /// File with a share of a recipient's identity; given as often as shares are needed.
    #[arg(long = "share", conflicts_with = "identity")]
    shares: Vec<PathBuf>,
    /// Public key (JWK) that backups are signed with, known from before.
    #[arg(long, value_name = "JWK")]
    key: PathBuf,
    /// Directory with the logs' public keys, `ZONE.pub`.
    #[arg(long)]
    keys: PathBuf,
    /// Directory with the witness's files, `ZONE.txt`: how much was recorded after the backup.
    #[arg(long)]
    witness: Option<PathBuf>,
}

/// Runs a command.
///
/// # Errors
/// [`Failure`] when files, keys or stores can't be used, or a restore isn't approved.
pub async fn run(command: BackupCommand, clock: &dyn Clock, out: Out) -> Result<Exit, Failure> {
    match command {
        BackupCommand::Recipient { out: dir, need, of } => recipient(&dir, need, of, out),
        BackupCommand::Create(create) => create::run(&create, clock.now(), out).await,
        BackupCommand::Verify(trial) => {
            scratch::run(&trial.verify, trial.report.as_deref(), clock.now(), out).await
        }
        BackupCommand::Target { stores } => restore::target(&stores, out).await,
        BackupCommand::Approve {
            key,
            office,
            backup,
            target,
            reason,
            exp,
        } => {
            if !is_reason(&reason) {
                return Err(Failure::new(
                    Exit::Input,
                    "backup",
                    "the reason is empty, longer than 200 characters, or has hidden characters",
                    "say in a few plain words why",
                ));
            }
            let digest = |text: &str| {
                Digest32::parse(text).map_err(|_| {
                    let what = format!("{text:?} is no name of a backup or of stores");
                    Failure::new(
                        Exit::Input,
                        "backup",
                        what,
                        "copy it from the command that told it",
                    )
                })
            };
            let restore = Restore {
                backup: digest(&backup)?,
                target: digest(&target)?,
                office: match office {
                    AsWhat::Operator => Office::SystemOperator,
                    AsWhat::Officer => Office::SecurityOfficer,
                },
                reason,
                exp: UnixTime(exp),
            };
            let approval = restore.approve(&signing_key(&key)?);
            let approval = approval.map_err(|e| unusable(&key, &e))?;
            out.say(&approval);
            out.object(
                &json!({"schema": "natsuin.backup-approval/1", "ok": true, "approval": approval}),
            );
            Ok(Exit::Good)
        }
        BackupCommand::Restore(restore) => restore::run(&restore, clock.now(), out).await,
    }
}

fn recipient(dir: &Path, need: u8, of: u8, out: Out) -> Result<Exit, Failure> {
    let identity = Identity::generate();
    let dealt = identity.deal(need, of, &SystemRandom).map_err(|e| {
        Failure::new(
            Exit::Input,
            "shares",
            e.to_string(),
            "choose how many of how many",
        )
    })?;
    fs::create_dir(dir).map_err(|e| unusable(dir, &e))?;
    for share in &dealt {
        let path = dir.join(format!("share-{}.txt", share.number()));
        write_new(&path, share.text().expose())?;
    }
    let public = identity.recipient().to_string();
    out.say(&public);
    out.note(&format!(
        "{of} shares in {}, of which {need} are needed; hand each to one person and delete them here",
        dir.display()
    ));
    out.object(&json!({"schema": "natsuin.backup-recipient/1", "ok": true, "recipient": public}));
    Ok(Exit::Good)
}

impl Stores {
    /// The zones and where their stores are.
    fn all(&self) -> Result<Vec<(&'static str, StoreUrl)>, Failure> {
        let mut named = Vec::new();
        for zone in ZONES {
            let prefix = format!("{zone}=");
            match &self.data {
                Some(data) => named.push((
                    zone,
                    match &self.store {
                        Some(word) => address(word)?,
                        None => {
                            let file = data.join(zone).join(format!("{zone}.db"));
                            format!("sqlite:{}", file.display())
                        }
                    },
                )),
                None => {
                    let given = self.zones.iter().filter_map(|z| z.strip_prefix(&prefix));
                    for word in given {
                        named.push((zone, address(word)?));
                    }
                }
            }
        }
        let known = |z: &String| ZONES.iter().any(|zone| z.starts_with(&format!("{zone}=")));
        if let Some(strange) = self.zones.iter().find(|z| !known(z)) {
            // What comes behind may be a secret.
            let name = strange.split('=').next().unwrap_or_default();
            let what = format!("{name:?} names no zone");
            return Err(Failure::new(
                Exit::Input,
                "zone",
                what,
                "say cm=, sam= or ssa=, and its address",
            ));
        }
        let twice = |zone: &&str| named.iter().filter(|(of, _)| of == zone).count() > 1;
        if let Some(zone) = ZONES.iter().copied().find(twice) {
            let what = format!("{zone} is named twice");
            let remedy = "each tenant's natsuin-ssa has a backup of its own: make one for each";
            return Err(Failure::new(Exit::Input, "zone", what, remedy));
        }
        let parsed = named.into_iter().map(|(zone, url)| {
            let parsed = StoreUrl::parse(&url).map_err(|e| {
                Failure::new(
                    Exit::Input,
                    "store",
                    format!("{zone}: {e}"),
                    "check the address",
                )
            });
            Ok((zone, parsed?))
        });
        parsed.collect()
    }
}

impl VerifyArgs {
    fn identity(&self) -> Result<Identity, Failure> {
        let remedy =
            "give the identity of a recipient of this backup, or as many shares as are needed";
        let bad = |e: BackupError| Failure::new(Exit::Input, "identity", e.to_string(), remedy);
        if let Some(path) = &self.identity {
            let text = SecretBytes::from(daemon::text(path)?);
            return Identity::parse(&text).map_err(bad);
        }
        let mut given = Vec::new();
        for path in &self.shares {
            let text = SecretBytes::from(daemon::text(path)?);
            let text = std::str::from_utf8(text.expose()).unwrap_or_default();
            let share = Share::parse(text).map_err(|e| unusable(path, &e))?;
            given.push(share);
        }
        Identity::join(&given).map_err(bad)
    }

    fn signer(&self) -> Result<Jwk, Failure> {
        public_key(&self.key)
    }
}

/// Tells the SAM, which reads the folder as another user, of a backup; the file is whole at any time, holds no secret, and may be
/// read by all whatever the job's umask is.
fn report(
    dir: &Path,
    name: &str,
    backup: Digest32,
    made: UnixTime,
    now: UnixTime,
) -> Result<(), Failure> {
    let report = BackupReport {
        backup,
        made,
        at: now,
    };
    let (path, new) = (dir.join(name), dir.join(format!("{name}.new")));
    let written = || {
        fs::write(&new, report.text())?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
        fs::rename(&new, &path)
    };
    written().map_err(|e| {
        let what = format!("{}: {e}; the backup itself is good", path.display());
        Failure::new(Exit::Input, "report", what, "check the folder of --report")
    })
}

/// Keys of operators and officers, from their files.
fn authority(operators: &[PathBuf], officers: &[PathBuf]) -> Result<Authority, Failure> {
    let keys = |paths: &[PathBuf]| {
        paths
            .iter()
            .map(|p| public_key(p))
            .collect::<Result<_, _>>()
    };
    Ok(Authority {
        operators: keys(operators)?,
        officers: keys(officers)?,
    })
}

fn public_key(path: &Path) -> Result<Jwk, Failure> {
    let text = fs::read(path).map_err(|e| unusable(path, &e))?;
    serde_json::from_slice(&text).map_err(|e| unusable(path, &e))
}

fn signing_key(path: &Path) -> Result<SigningKey, Failure> {
    let pkcs8 = SecretBytes::new(fs::read(path).map_err(|e| unusable(path, &e))?);
    SigningKey::from_pkcs8(&pkcs8).map_err(|e| unusable(path, &e))
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    use std::io::Write as _;
    let written = new_file(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|e| unusable(path, &e))
}

/// A file that wasn't there, for this user only.
fn new_file(path: &Path) -> std::io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    let what = format!("{}: {error}", path.display());
    let remedy = "check the path; what is written must not be there yet";
    Failure::new(Exit::Input, "backup", what, remedy)
}
