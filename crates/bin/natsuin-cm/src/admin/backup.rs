//! Shares of the root secret, backups, restores, and the comparison of rows with the audit log.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use audit_archive::Archive;
use cm_core::backend::Backend;
use cm_core::backup::{self, BackupError, BackupReport, RestoreReport};
use cm_core::{Ledger, Module, RootSecret};
use core_types::random::SystemRandom;
use core_types::{Clock as _, Digest32, SecretBytes, UnixTime, clock::SystemClock};
use serde_json::json;
use service_kit::{Answer, Trouble, daemon};
use shares::Share;
use store_kit::Store;

use super::officers::{checked, officer, read_approvals, read_root};
use super::{file, new_file, trouble, write_new};
use crate::passphrase;

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
        BackupError::NoOfficers => {
            "restore it into a module of level 1, name two officers there, and raise the level then"
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

/// What there is to know of a backup, in words and for programs.
fn told(words: String, report: &BackupReport) -> Answer {
    let members = json!({
        "backup": report.id, "made": report.made.rfc3339(), "keys": report.keys, "rows": report.rows, "officers": report.officers,
    });
    Answer::new(words, members)
}

pub(crate) async fn backup(module: &Module, out: &Path) -> Result<Answer, Trouble> {
    let target = new_file(out)?;
    let mut target = BufWriter::new(target);
    let made = module.backup(&mut target).await;
    let report = made.map_err(|e| bad_backup(&e))?;
    let written = target.into_inner().map_err(|e| file(out, e.error()))?;
    written.sync_all().map_err(|e| file(out, &e))?;
    let words = format!(
        "{} keys, {} rows in {}; {}; backup {}",
        report.keys,
        report.rows,
        out.display(),
        who_approves(&report),
        report.id
    );
    Ok(told(words, &report))
}

pub(crate) fn check(from: &Path, root: &RootSecret) -> Result<Answer, Trouble> {
    let mut source = BufReader::new(File::open(from).map_err(|e| file(from, &e))?);
    let report = backup::check(&mut source, root).map_err(|e| bad_backup(&e))?;
    let words = format!(
        "whole and unaltered: {} keys, {} rows, made {}; {}; backup {}",
        report.keys,
        report.rows,
        report.made,
        who_approves(&report),
        report.id
    );
    Ok(told(words, &report))
}

/// Whom a restore of this backup takes beside the shares.
fn who_approves(report: &BackupReport) -> String {
    match report.officers {
        0 | 1 => "NO OFFICER approves its restore: the module has fewer than two".to_owned(),
        officers => format!("two of {officers} officers approve its restore"),
    }
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

pub(crate) async fn restore(store: &Store, r: Restore<'_>) -> Result<Answer, Trouble> {
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
    // Before the store is filled: keys that nothing on this machine opens are worse than none.
    let made = !r.root_secret.exists();
    if made {
        write_new(r.root_secret, secret.expose())?;
    }
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
    let report = match done {
        Ok(report) => report,
        Err(error) => {
            // After a failure of the store nobody knows whether it was filled: then it stays, and the next try accepts it.
            if made && !matches!(error, BackupError::Store(_)) {
                fs::remove_file(r.root_secret).map_err(|e| file(r.root_secret, &e))?;
            }
            return Err(bad_backup(&error));
        }
    };
    let mut lines = vec![format!(
        "{} keys are usable again; {} orders stay spent",
        report.usable(),
        report.orders
    )];
    let names = |keys: &[core_types::KeyId]| {
        let names: Vec<_> = keys.iter().map(core_types::KeyId::as_str).collect();
        names.join(" ")
    };
    if !report.unusable.is_empty() {
        let (count, keys) = (report.unusable.len(), names(&report.unusable));
        lines.push(format!(
            "{count} keys are LOST, since the device has neither them nor the wrapping key of the backup's day; restore the device from its \
             maker's backup, or take a newer backup of the module: {keys}"
        ));
    }
    if report.unasked > 0 {
        lines.push(format!(
            "{} keys may be lost: the device is away, and couldn't be asked for them",
            report.unasked
        ));
    }
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
    Ok(Answer::new(lines.join("\n"), restored(&report)))
}

/// What a restore did, for programs: as much as the words say.
fn restored(report: &RestoreReport) -> serde_json::Value {
    json!({
        "keys": report.keys, "usable": report.usable(), "unusable": report.unusable, "unasked": report.unasked,
        "orders": report.orders, "refused_destroyed": report.refused_destroyed, "set_forward": report.set_forward,
        "lost": report.lost,
    })
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
    reason: &str,
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
        reason: checked(reason)?,
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

pub(crate) async fn scrub(module: &Module) -> Result<Answer, Trouble> {
    let done = module.scrub().await;
    let done = done.map_err(|e| trouble("store", e, "check the store"))?;
    if done.agrees() {
        let words = format!("{} keys agree with the audit log", done.keys);
        return Ok(Answer::new(words, json!({"keys": done.keys})));
    }
    let what = format!(
        "of {} keys, set back or altered: {:?}; destroyed and there again: {:?}; gone: {:?}; with a public half in common: {:?}; \
         public keys that were missing in the table of duplicates, and were put back: {}",
        done.keys, done.set_back, done.revived, done.missing, done.twice, done.unlisted
    );
    Err(trouble(
        "tampered",
        what,
        "keep the store as it is, find out who changed it, restore a backup",
    ))
}

#[cfg(test)]
mod tests {
    use core_types::KeyId;

    use super::*;

    // shows: III-3-10-backup
    #[test]
    fn a_program_hears_of_every_key_that_a_restore_lost() {
        let report = RestoreReport {
            keys: 5,
            unusable: vec![KeyId::parse("k1").unwrap(), KeyId::parse("k2").unwrap()],
            unasked: 1,
            lost: vec!["k3".to_owned()],
            orders: 7,
            ..RestoreReport::default()
        };
        let told = json!({
            "keys": 5, "usable": 2, "unusable": ["k1", "k2"], "unasked": 1, "orders": 7,
            "refused_destroyed": [], "set_forward": [], "lost": ["k3"],
        });
        assert_eq!(restored(&report), told);
    }
}
