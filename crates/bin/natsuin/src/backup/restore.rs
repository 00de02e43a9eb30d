//! Restoring a backup into blank stores.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use ::backup::BackupError;
use clap::Args;
use core_types::random::SystemRandom;
use core_types::{Digest32, UnixTime, sha256};
use serde_json::json;
use store_kit::Store;
use web_ui::Arg;

use super::scratch::{self, Judged};
use super::{Stores, VerifyArgs, authority, unusable, write_new};
use crate::audit::tables;
use crate::output::{Exit, Failure, Out};

/// What is restored, where to, and who approved it.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The backup, and what it is judged with; wants the witness.
    #[command(flatten)]
    from: VerifyArgs,
    /// The stores.
    #[command(flatten)]
    stores: Stores,
    /// Public key (JWK) of a system operator, known from elsewhere than the backup; all that it names, each once.
    #[arg(long = "operator", required = true, value_name = "JWK")]
    operators: Vec<PathBuf>,
    /// Public key (JWK) of a security officer, likewise.
    #[arg(long = "officer", required = true, value_name = "JWK")]
    officers: Vec<PathBuf>,
    /// File with an approval: a system operator's, and a security officer's.
    #[arg(long = "approval", required = true)]
    approvals: Vec<PathBuf>,
    /// Directory for the files that are in it beside the stores; must not exist.
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// Restore although the witness knows of more than is in it. The zones don't start until the auditor has dealt with that.
    #[arg(long)]
    older: bool,
}

pub(super) async fn target(stores: &Stores, out: Out) -> Result<Exit, Failure> {
    let (name, opened) = open(stores).await?;
    for store in opened.values() {
        store.close().await;
    }
    let name = sha256(&[name.as_bytes()]).to_string();
    out.say(&name);
    out.object(&json!({"schema": "natsuin.backup-target/1", "ok": true, "target": name}));
    Ok(Exit::Good)
}

pub(super) async fn run(restore: &RestoreArgs, now: UnixTime, out: Out) -> Result<Exit, Failure> {
    let refused = |what: String, remedy: &'static str| {
        Failure::new(Exit::Negative, "backup-refused", what, remedy)
    };
    if restore.from.witness.is_none() {
        let what = "nobody says how far the logs had come";
        return Err(Failure::new(
            Exit::Input,
            "backup",
            what,
            "give the auditor's files with --witness",
        ));
    }
    let known = authority(&restore.operators, &restore.officers)?;
    let identity = restore.from.identity()?;
    let (backup, zones) = match scratch::judge(&restore.from, &identity).await? {
        Judged::Good(backup, zones) => (*backup, zones),
        Judged::Bad(why) => return Err(refused(why, "take another copy of the backup")),
    };
    scratch::tell(&backup, &zones, out);
    let (target, stores) = open(&restore.stores).await?;
    let wanted = |zone: &str| stores.contains_key(zone);
    let judged: Vec<_> = zones.iter().filter(|z| wanted(z.zone)).collect();
    let older = match judged.iter().any(|z| z.older == Some(true)) {
        true => Some(true),
        false if judged.iter().any(|z| z.older.is_none()) => None,
        false => Some(false),
    };
    if older != Some(false) && !restore.older {
        let what = match older {
            Some(_) => {
                "the backup is older than the service was: the witness knows of more entries"
            }
            None => {
                "nobody knows whether the backup is older than the service was: the witness's file is empty, or ends before it"
            }
        };
        let remedy = "take a newer one, or the auditor's whole file; or, if there is none, say --older and have the auditor deal with the logs";
        return Err(refused(what.to_owned(), remedy));
    }
    let mut approvals = Vec::new();
    for path in &restore.approvals {
        approvals.push(fs::read_to_string(path).map_err(|e| unusable(path, &e))?);
    }
    let approved = backup.approved(&known, &target, &approvals, now);
    let approved = approved.map_err(|e| {
        let remedy = match e {
            BackupError::OtherAuthority => {
                "find out who made it and for whom; give --operator and --officer as they were at its time"
            }
            _ => "have both approve this backup for these stores (backup target, backup approve)",
        };
        refused(e.to_string(), remedy)
    })?;
    let names: Vec<String> = stores.keys().cloned().collect();
    let filled = backup.fill(stores, Some(&approved)).await;
    let filled = filled.map_err(|e| refused(e.to_string(), "begin again with new stores"))?;
    for store in filled.values() {
        store.close().await;
    }
    if let Some(dir) = &restore.files {
        fs::create_dir(dir).map_err(|e| unusable(dir, &e))?;
        let took = backup.files(|path, bytes| {
            let to = dir.join(path);
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder)?;
            }
            write_new(&to, bytes).map_err(|e| BackupError::Damaged(e.to_string()))
        });
        took.map_err(|e| unusable(dir, &e))?;
    }
    let shown = names.join(", ");
    out.say(&out.m().f("backup-restored", &[("zones", Arg::Own(&shown))]));
    out.object(&json!({
        "schema": "natsuin.backup-restore/1", "ok": true, "name": backup.name().to_string(), "zones": names,
    }));
    Ok(Exit::Good)
}

/// Opens the stores that are to be filled, and the text whose SHA-256 is their name. The module's isn't among them: its restore is
/// a ceremony of its own, in which destroyed keys stay destroyed.
async fn open(stores: &Stores) -> Result<(String, BTreeMap<String, Store>), Failure> {
    let mut all = stores.all()?;
    if stores.data.is_some() {
        all.retain(|(zone, _)| *zone != "cm");
    }
    if all.iter().any(|(zone, _)| *zone == "cm") {
        let what = "the module's store isn't restored here";
        let remedy = "take module/keys out of the backup, and restore it with natsuin-cm restore";
        return Err(Failure::new(Exit::Input, "backup", what, remedy));
    }
    let (mut opened, mut names) = (BTreeMap::new(), String::from("natsuin-backup-target\n"));
    for (zone, url) in all {
        let unusable = |e: store_kit::StoreError| {
            let what = format!("the store of {zone} can't be used: {e}");
            Failure::new(Exit::Input, "store", what, "restore into a new store")
        };
        let store = Store::open(&url, zone, tables(zone), &SystemRandom).await;
        let store = store.map_err(unusable)?;
        let mut tx = store.read("target").await.map_err(unusable)?;
        let own = store_kit::store_names(&mut tx).await.map_err(unusable)?;
        let own = own.last().map(Digest32::to_string).unwrap_or_default();
        drop(tx);
        names += &format!("{zone} {own}\n");
        opened.insert(zone.to_owned(), store);
    }
    Ok((names, opened))
}
