//! `natsuin audit`: take the logs out, and check them anywhere.

use std::path::Path;

use core_types::random::SystemRandom;
use serde_json::{Map, json};
use service_kit::Trouble;
use store_kit::{Store, StoreUrl};

use crate::output::{Exit, Failure, Out};
use crate::stack::{StoreChoice, log_key};

/// The zones that keep a log.
const ZONES: [&str; 3] = ["cm", "sam", "ssa"];

/// Exports the logs of a stopped stack.
///
/// # Errors
/// [`Failure`] when stack or target can't be used.
pub async fn export(
    data: &Path,
    store: StoreChoice,
    target: &Path,
    out: Out,
) -> Result<Exit, Failure> {
    let mut counts = Map::new();
    for zone in ZONES {
        let url = match &store {
            StoreChoice::Embedded => format!(
                "sqlite:{}",
                data.join(zone).join(format!("{zone}.db")).display()
            ),
            StoreChoice::Postgres(url) => url.clone(),
        };
        let open = async {
            let url = StoreUrl::parse(&url)?;
            Store::open(&url, zone, tables(zone), &SystemRandom).await
        };
        let store = open.await.map_err(|e| {
            Trouble::new(
                "store",
                format!("the store of {zone} can't be used: {e}"),
                "stop the stack first; check --data",
            )
        })?;
        let public = log_key(data, zone)?.public();
        let exported = audit_log::export(&store, &target.join(zone), &public).await;
        let count = exported.map_err(|e| {
            Trouble::new(
                "audit",
                format!("the log of {zone} can't be exported: {e}"),
                "check the target directory",
            )
        })?;
        out.say(&format!("{zone}   {count} entries"));
        counts.insert(zone.to_owned(), count.into());
        store.close().await;
    }
    out.object(&json!({"schema": "natsuin.audit-export/1", "ok": true, "entries": counts}));
    Ok(Exit::Good)
}

fn tables(zone: &str) -> &'static [store_kit::Migrations] {
    match zone {
        "cm" => cm_core::MIGRATIONS,
        "sam" => sam_service::MIGRATIONS,
        _ => ssa_service::MIGRATIONS,
    }
}

/// Checks an export.
///
/// # Errors
/// [`Failure`] when the files aren't there.
pub fn verify(
    dir: &Path,
    witness: Option<&Path>,
    keys: Option<&Path>,
    out: Out,
) -> Result<Exit, Failure> {
    let mut reports = Map::new();
    let mut good = true;
    for zone in ZONES {
        let export = dir.join(zone);
        let key_file =
            keys.map_or_else(|| export.join("log.pub"), |k| k.join(format!("{zone}.pub")));
        let key = std::fs::read_to_string(&key_file).map_err(|e| {
            let what = format!("{} can't be read: {e}", key_file.display());
            Failure::new(
                Exit::Input,
                "log-key",
                what,
                "give the directory that `natsuin audit export` wrote",
            )
        })?;
        let witness = witness.map(|w| w.join(format!("{zone}.txt")));
        let report =
            audit_verify::verify(&export, witness.as_deref(), key.trim()).map_err(|e| {
                Failure::new(
                    Exit::Input,
                    "audit-export",
                    format!("{zone}: {e}"),
                    "check that the export is whole",
                )
            })?;
        good &= report.ok;
        let word = if report.ok { "OK" } else { "NG" };
        let witnesses = format!(
            "witnesses {}/{}",
            report.witnesses.agreeing, report.witnesses.given
        );
        out.say(&format!(
            "{word}  {zone}   entries {} · checkpoints {} · {witnesses}",
            report.entries, report.checkpoints
        ));
        if let Some(bad) = &report.first_bad {
            let place = bad
                .node
                .as_ref()
                .zip(bad.n)
                .map_or_else(String::new, |(node, n)| format!("{node} #{n} "));
            let kind = bad.kind.as_deref().unwrap_or("unknown type");
            out.say(&format!(
                "    first bad entry: {place}({kind}): {}",
                bad.what
            ));
        }
        reports.insert(
            zone.to_owned(),
            serde_json::to_value(&report).unwrap_or_default(),
        );
    }
    out.object(&json!({"schema": "natsuin.audit-verify/1", "ok": good, "zones": reports}));
    Ok(if good { Exit::Good } else { Exit::Negative })
}
