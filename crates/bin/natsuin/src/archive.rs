//! `natsuin archive`: exported logs on a medium of their own, signed, with the time of archiving, and checked after writing.
//! `audit_archive` has the form.

use std::fs;
use std::path::{Path, PathBuf};

use audit_archive::Archive;
use clap::Subcommand;
use core_types::{Clock, SecretBytes, UnixTime};
use jose::{Jwk, SigningKey};
use serde_json::{Value, json};
use web_ui::{Arg, clean};

use crate::audit::{self, ZONES, meant};
use crate::output::{Exit, Failure, Out};

/// Commands of `natsuin archive`.
#[derive(Debug, Subcommand)]
pub enum ArchiveCommand {
    /// Write exported logs to a medium that is mounted, signed and checked; nothing there is overwritten.
    Create {
        /// Directory of the export. It has to pass `natsuin audit verify`.
        export: PathBuf,
        /// Zone (cm, sam or ssa) whose log is in it; may be given more than once. Default: all have to be.
        #[arg(long = "zone", value_parser = ZONES)]
        zones: Vec<String>,
        /// Directory of the new archive; must not exist.
        #[arg(long)]
        to: PathBuf,
        /// Private key that signs archives, as `natsuin-cm officer-key` makes it.
        #[arg(long)]
        key: PathBuf,
        /// Directory with the logs' public keys, `ZONE.pub`.
        #[arg(long)]
        keys: PathBuf,
        /// Directory with the witness's files, `ZONE.txt`.
        #[arg(long)]
        witness: Option<PathBuf>,
    },
    /// Check an archive on any machine: every byte against the signed list, then the logs in it.
    Verify {
        /// Directory of the archive.
        dir: PathBuf,
        /// Zone (cm, sam or ssa) whose log is in it; may be given more than once. Default: all have to be.
        #[arg(long = "zone", value_parser = ZONES)]
        zones: Vec<String>,
        /// Public key (JWK) that archives are signed with, known from before.
        #[arg(long, value_name = "JWK")]
        key: PathBuf,
        /// Directory with the logs' public keys, `ZONE.pub`.
        #[arg(long)]
        keys: PathBuf,
        /// Directory with the witness's files, `ZONE.txt`.
        #[arg(long)]
        witness: Option<PathBuf>,
    },
}

/// Runs a command.
///
/// # Errors
/// [`Failure`] when files, keys or the medium can't be used.
pub fn run(command: &ArchiveCommand, clock: &dyn Clock, out: Out) -> Result<Exit, Failure> {
    match command {
        ArchiveCommand::Create {
            export,
            zones,
            to,
            key,
            keys,
            witness,
        } => {
            let checks = checks(export, zones, keys, witness.as_ref());
            create(&checks, to, key, clock.now(), out)
        }
        ArchiveCommand::Verify {
            dir,
            zones,
            key,
            keys,
            witness,
        } => {
            let checks = checks(&Archive::logs(dir), zones, keys, witness.as_ref());
            verify(dir, key, &checks, out)
        }
    }
}

fn checks(dir: &Path, zones: &[String], keys: &Path, witness: Option<&PathBuf>) -> audit::Verify {
    audit::Verify {
        dir: dir.to_owned(),
        zones: meant(zones),
        witness: witness.cloned(),
        keys: Some(keys.to_owned()),
        cosigners: Vec::new(),
        archives: Vec::new(),
        stamps: None,
    }
}

fn create(
    checks: &audit::Verify,
    to: &Path,
    key: &Path,
    now: UnixTime,
    out: Out,
) -> Result<Exit, Failure> {
    let pkcs8 = SecretBytes::new(fs::read(key).map_err(|e| unusable(key, &e))?);
    let key = SigningKey::from_pkcs8(&pkcs8).map_err(|e| unusable(key, &e))?;
    // What is archived is what was judged.
    for found in fs::read_dir(&checks.dir).map_err(|e| unusable(&checks.dir, &e))? {
        let path = found.map_err(|e| unusable(&checks.dir, &e))?.path();
        if !checks.zones.iter().any(|zone| path.ends_with(zone)) {
            let what = "it is none of the logs that are archived";
            return Err(unusable(&path, &what));
        }
    }
    let judged = audit::judge(checks, out.m())?;
    if judged.verdict == Exit::Negative {
        judged.tell(out);
        let what = "the export isn't what the logs wrote; nothing was archived";
        let remedy = "keep it as it is, and find out what happened";
        return Err(Failure::new(Exit::Negative, "audit-export", what, remedy));
    }
    let written = Archive::write(&checks.dir, to, judged.entries(), &key, now);
    written.map_err(|e| unusable(&e.path, &e.what))?;
    // What is on the medium counts, not what was sent to it.
    verify_with(to, key.public(), &checks_of(to, checks), out)
}

fn checks_of(to: &Path, of: &audit::Verify) -> audit::Verify {
    audit::Verify {
        dir: Archive::logs(to),
        zones: of.zones.clone(),
        witness: of.witness.clone(),
        keys: of.keys.clone(),
        cosigners: Vec::new(),
        archives: Vec::new(),
        stamps: None,
    }
}

fn verify(dir: &Path, key: &Path, checks: &audit::Verify, out: Out) -> Result<Exit, Failure> {
    let text = fs::read(key).map_err(|e| unusable(key, &e))?;
    let public: Jwk = serde_json::from_slice(&text).map_err(|e| unusable(key, &e))?;
    verify_with(dir, &public, checks, out)
}

fn verify_with(dir: &Path, key: &Jwk, checks: &audit::Verify, out: Out) -> Result<Exit, Failure> {
    let m = out.m();
    let archive = match Archive::open(dir, key) {
        Ok(archive) => archive,
        Err(why) => {
            out.say(&format!("NG  {}", clean(&why)));
            out.object(&json!({"schema": "natsuin.archive-verify/1", "ok": false, "bad": why}));
            return Ok(Exit::Negative);
        }
    };
    let judged = audit::judge(checks, m)?;
    let (at, count) = (m.time(archive.archived()), archive.files());
    let told = [
        ("at", Arg::Own(&at)),
        ("n", Arg::Num(u64::try_from(count).unwrap_or(u64::MAX))),
    ];
    out.say(&format!("OK  {}", m.f("archive-intact", &told)));
    out.say(&format!("    {}", archive.name()));
    judged.tell(out);
    let verdict = match *archive.entries() == judged.entries() {
        true => judged.verdict,
        false => Exit::Negative,
    };
    out.object(&json!({
        "schema": "natsuin.archive-verify/1",
        "ok": verdict == Exit::Good,
        "name": archive.name().to_string(),
        "archived": archive.archived().rfc3339(),
        "files": count,
        "zones": Value::Object(judged.zones),
    }));
    Ok(verdict)
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    let what = format!("{}: {error}", path.display());
    let remedy = "check the path; an archive goes into a directory of its own that isn't there yet";
    Failure::new(Exit::Input, "archive", what, remedy)
}
