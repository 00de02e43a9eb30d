//! Checking a backup by restoring it into a place of its own: rows go in, and their logs are judged by the program that shares
//! nothing with the one that wrote them.

use std::collections::BTreeMap;
use std::path::Path;

use ::backup::{Backup, BackupError};
use audit_verify::Known;
use core_types::UnixTime;
use core_types::random::SystemRandom;
use serde_json::json;
use store_kit::{Store, StoreUrl};
use web_ui::{Arg, clean};

use super::{VerifyArgs, unusable};
use crate::audit::{ZONES, tables};
use crate::output::{Exit, Failure, Out};

/// What a backup turned out to be.
pub(super) enum Judged<'i> {
    /// Whole and consistent.
    Good(Box<Backup<'i>>, Vec<ZoneJudged>),
    /// Not what it should be.
    Bad(String),
}

/// A zone's log in a backup.
#[derive(Debug, serde::Serialize)]
pub(super) struct ZoneJudged {
    pub(super) zone: &'static str,
    /// Rows of all tables.
    rows: u64,
    /// Entries in its log.
    entries: u64,
    /// Whether the witness knows of more: then it is older than the service was. Unknown without a witness, or when its file is
    /// empty or ends before the backup does.
    pub(super) older: Option<bool>,
}

pub(super) async fn run(
    verify: &VerifyArgs,
    report: Option<&Path>,
    now: UnixTime,
    out: Out,
) -> Result<Exit, Failure> {
    let identity = verify.identity()?;
    match judge(verify, &identity).await? {
        Judged::Bad(why) => {
            out.say(&format!("NG  {}", clean(&why)));
            out.object(&json!({"schema": "natsuin.backup-verify/1", "ok": false, "bad": why}));
            Ok(Exit::Negative)
        }
        Judged::Good(backup, zones) => {
            tell(&backup, &zones, out);
            if let Some(dir) = report {
                let made = backup.manifest().made;
                super::report(dir, "verified.json", backup.name(), made, now)?;
            }
            out.object(&json!({
                "schema": "natsuin.backup-verify/1", "ok": true, "name": backup.name().to_string(),
                "made": backup.manifest().made.rfc3339(), "zones": zones,
                "module_keys": backup.manifest().files.contains_key("module/keys"),
            }));
            Ok(Exit::Good)
        }
    }
}

/// Shows it to a person.
pub(super) fn tell(backup: &Backup<'_>, zones: &[ZoneJudged], out: Out) {
    let m = out.m();
    let (name, at) = (backup.name().to_string(), m.time(backup.manifest().made));
    let told = [("name", Arg::Own(&name)), ("at", Arg::Own(&at))];
    out.say(&format!("OK  {}", m.f("backup-intact", &told)));
    for of in zones {
        out.say(&format!(
            "    {}   rows {} · entries {}",
            of.zone, of.rows, of.entries
        ));
        match of.older {
            Some(true) => out.say(&format!("    ! {}", m.t("backup-older"))),
            None => out.say(&format!("    ? {}", m.t("backup-age-unknown"))),
            Some(false) => {}
        }
    }
    if !backup.manifest().files.contains_key("module/keys") {
        out.note(&m.t("backup-no-keys"));
    }
}

pub(super) async fn judge<'i>(
    verify: &VerifyArgs,
    identity: &'i ::backup::Identity,
) -> Result<Judged<'i>, Failure> {
    let key = verify.signer()?;
    let backup = match Backup::open(&verify.file, identity, &key) {
        Ok(backup) => backup,
        Err(BackupError::File(error)) => return Err(unusable(&verify.file, &error)),
        Err(error) => return Ok(Judged::Bad(error.to_string())),
    };
    // For this user only, and gone with this value.
    let scratch = tempfile::tempdir().map_err(|e| unusable(&std::env::temp_dir(), &e))?;
    let mut stores = BTreeMap::new();
    for zone in ZONES {
        if !backup.manifest().zones.contains_key(zone) {
            continue;
        }
        let url = StoreUrl::Sqlite(scratch.path().join(format!("{zone}.db")));
        let store = Store::open(&url, zone, tables(zone), &SystemRandom).await;
        let store = store.map_err(|e| unusable(scratch.path(), &e))?;
        stores.insert(zone.to_owned(), store);
    }
    if stores.len() != backup.manifest().zones.len() {
        return Ok(Judged::Bad(
            "it has a store that this program doesn't know".to_owned(),
        ));
    }
    let filled = match backup.fill(stores, None).await {
        Ok(filled) => filled,
        Err(error) => return Ok(Judged::Bad(error.to_string())),
    };
    let mut zones = Vec::new();
    for zone in ZONES {
        let Some(store) = filled.get(zone) else {
            continue;
        };
        let rows = backup.manifest().zones[zone].rows.values().sum();
        match log(verify, zone, store, &scratch.path().join("log").join(zone)).await? {
            Ok((entries, older)) => zones.push(ZoneJudged {
                zone,
                rows,
                entries,
                older,
            }),
            Err(why) => return Ok(Judged::Bad(why)),
        }
        store.close().await;
    }
    Ok(Judged::Good(Box::new(backup), zones))
}

/// The log in a restored store: whole, and whether the witness knows of more.
async fn log(
    verify: &VerifyArgs,
    zone: &'static str,
    store: &Store,
    dir: &Path,
) -> Result<Result<(u64, Option<bool>), String>, Failure> {
    let key = verify.keys.join(format!("{zone}.pub"));
    let public = std::fs::read_to_string(&key).map_err(|e| unusable(&key, &e))?;
    let public = public.trim();
    if let Err(error) = audit_log::export(store, dir, public).await {
        return Ok(Err(format!("the log of {zone}: {error}")));
    }
    let witness = verify
        .witness
        .as_ref()
        .map(|w| w.join(format!("{zone}.txt")));
    let check = |witness: Option<&Path>| {
        let known = Known {
            key: public,
            witness,
            zone: Some(zone),
            ..Known::default()
        };
        audit_verify::verify(dir, known).map_err(|e| unusable(dir, &e))
    };
    let alone = check(None)?;
    if let Some(bad) = &alone.first_bad {
        return Ok(Err(format!("the log of {zone}: {}", bad.what)));
    }
    let older = match &witness {
        None => None,
        Some(path) => {
            let report = check(Some(path))?;
            // A file that ends before the backup itself was emptied or cut: it contradicts nothing, and says nothing.
            let says = |last: u64| last >= report.proven;
            match report.witnesses.filed.is_some_and(says) {
                _ if !report.ok => Some(true),
                true => Some(false),
                false => None,
            }
        }
    };
    Ok(Ok((alone.entries, older)))
}
