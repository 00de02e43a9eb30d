//! Making a backup.

use std::ffi::OsStr;
use std::fs;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use ::backup::{BackupError, Recipient, Writer};
use clap::Args;
use core_types::{Digest32, SecretBytes, UnixTime};
use jose::SigningKey;
use serde_json::json;
use store_kit::Dump;
use web_ui::Arg;

use super::secrets::Secrets;
use super::{Stores, authority, needed, new_file, signing_key, unusable};
use crate::output::{Exit, Failure, Out};

/// What goes in, and who may open and restore it.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The file; it must be new.
    #[arg(long)]
    to: PathBuf,
    /// Private key that signs backups, as `natsuin-cm officer-key` makes it.
    #[arg(long)]
    key: PathBuf,
    /// Public key of somebody who may open it (age1…), or of several together; may be given more than once.
    #[arg(long = "recipient", required = true, value_name = "AGE1")]
    recipients: Vec<String>,
    /// Public key (JWK) of a system operator who may restore it; may be given more than once.
    #[arg(long = "operator", required = true, value_name = "JWK")]
    operators: Vec<PathBuf>,
    /// Public key (JWK) of a security officer who may approve that; may be given more than once.
    #[arg(long = "officer", required = true, value_name = "JWK")]
    officers: Vec<PathBuf>,
    /// The stores.
    #[command(flatten)]
    stores: Stores,
    /// The module's own backup, as `natsuin-cm backup` wrote it.
    #[arg(long, value_name = "FILE")]
    cm_keys: Option<PathBuf>,
    /// A file or folder to put in beside, such as of the configuration; may be given more than once. A root secret or PIN that a
    /// configuration among them names is refused, and in a folder every file of 32 bytes.
    #[arg(long = "file", value_name = "PATH")]
    files: Vec<PathBuf>,
    /// What a zone can't come back without and that is kept elsewhere: ZONE/MEMBER as a refusal names it (`ssa/chain_key`), or ZONE for
    /// all that it needs; may be given more than once. Otherwise a backup that lacks it isn't made.
    #[arg(long = "without", value_name = "ZONE/MEMBER", conflicts_with = "data")]
    without: Vec<String>,
    /// Folder for the report that the console shows: `made.json` there tells of this backup.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

pub(super) async fn run(create: &CreateArgs, now: UnixTime, out: Out) -> Result<Exit, Failure> {
    let mut recipients = Vec::new();
    for text in &create.recipients {
        recipients.push(Recipient::parse(text).map_err(|e| {
            let what = format!("{text:?}: {e}");
            Failure::new(
                Exit::Input,
                "recipient",
                what,
                "make one with age-keygen, or with natsuin backup recipient",
            )
        })?);
    }
    let authority = authority(&create.operators, &create.officers)?;
    authority.check().map_err(|e| failed(&create.to, &e))?;
    let key = signing_key(&create.key)?;
    let stores = create.stores.all()?;
    needed::check(&create.stores, &create.files, &create.without)?;
    let mut secrets = Secrets::default();
    for path in &create.files {
        secrets.look(path).map_err(|e| unusable(path, &e))?;
    }
    let file = new_file(&create.to).map_err(|e| unusable(&create.to, &e))?;
    let done = write(create, &recipients, &stores, &secrets, BufWriter::new(file)).await;
    let made = done.and_then(|writer| {
        let made = writer
            .finish(now, authority, &key)
            .map_err(|e| failed(&create.to, &e))?;
        let file = made
            .out
            .into_inner()
            .map_err(|e| unusable(&create.to, e.error()))?;
        file.sync_all().map_err(|e| unusable(&create.to, &e))?;
        Ok((made.name, made.manifest, made.signature))
    });
    let (name, manifest, signature) = match made {
        Ok(made) => made,
        Err(failure) => {
            // Nobody takes half a backup for one.
            let _ = fs::remove_file(&create.to);
            return Err(failure);
        }
    };
    let untold = leave_word(&stores, name, &signature, &key).await;
    if let Some(dir) = &create.report {
        super::report(dir, "made.json", name, now, now)?;
    }
    let rows: u64 = manifest.zones.values().flat_map(|z| z.rows.values()).sum();
    let (name, files) = (name.to_string(), manifest.files.len() as u64);
    let told = [
        ("name", Arg::Own(&name)),
        ("n", Arg::Num(files)),
        ("rows", Arg::Num(rows)),
    ];
    out.say(&out.m().f("backup-made", &told));
    if create.cm_keys.is_none() {
        out.note(&out.m().t("backup-no-keys"));
    }
    if !create.without.is_empty() {
        let named = create.without.join(" ");
        let named = [("names", Arg::Own(&named))];
        out.note(&out.m().f("backup-without", &named));
    }
    let zones: Vec<_> = untold.iter().map(|(zone, _)| *zone).collect();
    if !zones.is_empty() {
        for (zone, why) in &untold {
            out.note(&format!("{zone}: {why}"));
        }
        let named = zones.join(" ");
        let named = [("zones", Arg::Own(&named))];
        out.note(&out.m().f("backup-untold", &named));
    }
    out.object(&json!({
        "schema": "natsuin.backup-create/1", "ok": true, "name": name, "files": files, "rows": rows,
        "module_keys": create.cm_keys.is_some(), "without": create.without, "untold": zones,
    }));
    Ok(match zones.is_empty() {
        true => Exit::Good,
        false => Exit::Partly,
    })
}

/// Leaves word of the backup in each store, which its zone records as soon as it runs. Answers which couldn't be told: the backup
/// is whole and others have word of it, so it stays.
async fn leave_word(
    stores: &[(&'static str, store_kit::StoreUrl)],
    name: Digest32,
    signature: &str,
    key: &SigningKey,
) -> Vec<(&'static str, store_kit::StoreError)> {
    let note = json!({ "backup": name, "key": key.public(), "signature": signature }).to_string();
    let name = name.to_string();
    let mut untold = Vec::new();
    for (zone, url) in stores {
        if let Err(error) = store_kit::leave_dumped(url, zone, &name, &note).await {
            untold.push((*zone, error));
        }
    }
    untold
}

type ToFile = Writer<BufWriter<fs::File>>;

async fn write(
    create: &CreateArgs,
    recipients: &[Recipient],
    stores: &[(&'static str, store_kit::StoreUrl)],
    secrets: &Secrets,
    file: BufWriter<fs::File>,
) -> Result<ToFile, Failure> {
    let fault = |e: BackupError| failed(&create.to, &e);
    let mut writer = Writer::begin(recipients, file).map_err(fault)?;
    // The module's last: then it knows every key that the SAM knows.
    for (zone, url) in stores.iter().rev() {
        let dump = Dump::open(url, zone).await;
        let dump = dump.map_err(|e| failed(&create.to, &BackupError::Store(e)))?;
        writer.zone(zone, dump).await.map_err(fault)?;
    }
    if let Some(keys) = &create.cm_keys {
        let bytes = fs::read(keys).map_err(|e| unusable(keys, &e))?;
        writer.file("module/keys", &bytes).map_err(fault)?;
    }
    if let Some(data) = &create.stores.data {
        let wanted = |path: &Path, _: &[u8]| Ok(of_a_stack(path));
        put(&mut writer, data, "files/data", &wanted).map_err(|e| unusable(data, &e))?;
    }
    for path in &create.files {
        let name = path.file_name().and_then(OsStr::to_str);
        let name = name.ok_or_else(|| unusable(path, &"it has no name"))?;
        let wanted = |found: &Path, bytes: &[u8]| {
            let judged = secrets.refuse(found, bytes, found == path);
            judged.map(|()| true)
        };
        put(&mut writer, path, &format!("files/{name}"), &wanted).map_err(|e| match e {
            BackupError::Secret(what) => {
                let remedy = "leave it out, and keep it where no backup goes";
                Failure::new(Exit::Input, "backup-secret", what, remedy)
            }
            other => unusable(path, &other),
        })?;
    }
    Ok(writer)
}

/// Of a stack's folder everything but the stores, what the witness has, and the module's root secret, which lies with nothing
/// that it opens.
fn of_a_stack(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let store = [".db", ".db-wal", ".db-shm", ".lock", ".new"];
    let witness = path.parent().is_some_and(|p| p.ends_with("witness")) && name.ends_with(".txt");
    !(store.iter().any(|s| name.ends_with(s)) || witness || path.ends_with("cm/root.key"))
}

/// Whether a file with these bytes goes into the backup, or why the backup is refused.
type Wanted<'a> = &'a dyn Fn(&Path, &[u8]) -> Result<bool, BackupError>;

fn put(
    writer: &mut ToFile,
    path: &Path,
    name: &str,
    wanted: Wanted<'_>,
) -> Result<(), BackupError> {
    let kind = fs::symlink_metadata(path)?.file_type();
    if kind.is_file() {
        let bytes = SecretBytes::new(fs::read(path)?);
        return match wanted(path, bytes.expose())? {
            true => writer.file(name, bytes.expose()),
            false => Ok(()),
        };
    }
    if !kind.is_dir() {
        return Err(BackupError::Damaged(
            "it is neither file nor folder".to_owned(),
        ));
    }
    let entries = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name()));
    let mut entries: Vec<_> = entries.collect::<std::io::Result<_>>()?;
    entries.sort_unstable();
    for entry in entries {
        let text = entry.to_str();
        let text = text.ok_or_else(|| BackupError::Damaged("a name isn't text".to_owned()))?;
        put(writer, &path.join(text), &format!("{name}/{text}"), wanted)?;
    }
    Ok(())
}

fn failed(path: &Path, error: &BackupError) -> Failure {
    let what = format!("{}: {error}", path.display());
    Failure::new(
        Exit::Input,
        "backup",
        what,
        "check stores, space and keys; nothing was kept",
    )
}
