//! `natsuin audit`: take the logs out, search them, check them anywhere, and hold what is served against them.

mod alert;
mod command;
mod fetch;
mod pages;
mod search;
mod witness;

use std::path::{Path, PathBuf};

use audit_archive::Archive;
use audit_verify::witness::State;
use audit_verify::{Archived, Bad, Deletions, Known, Place, Reconciled, Reconciler, Unmatched};
use audit_witness::{Anchor, AnchorFault};
use core_types::bytes::hex;
use core_types::random::SystemRandom;
use core_types::{UnixTime, sha256};
use serde_json::{Map, json};
use service_kit::Trouble;
use store_kit::{Store, StoreUrl};
use web_ui::{Arg, Messages, clean};

use crate::output::{Exit, Failure, Out};
use crate::stack::{StoreChoice, log_key};

pub use alert::run as alert;
pub use command::{AuditCommand, run};
pub use fetch::{FetchArgs, run as fetch};
pub use pages::{PagesArgs, run as pages};
pub use search::{Format, SearchArgs, run as search};
pub use witness::run as witness;

/// The zones that keep a log.
pub(crate) const ZONES: [&str; 3] = ["cm", "sam", "ssa"];

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
        let store = opened(data, &store, zone).await?;
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

/// The store of a zone of a stopped stack.
async fn opened(data: &Path, choice: &StoreChoice, zone: &'static str) -> Result<Store, Failure> {
    let unusable = |what: String| {
        let what = format!("the store of {zone} can't be used: {what}");
        Trouble::new("store", what, "stop the stack first; check --data")
    };
    let url = match choice {
        StoreChoice::Embedded => {
            let file = data.join(zone).join(format!("{zone}.db"));
            if !file.exists() {
                return Err(unusable(format!("{} is not there", file.display())).into());
            }
            format!("sqlite:{}", file.display())
        }
        StoreChoice::Postgres(url) => url.clone(),
    };
    let open = async {
        let url = StoreUrl::parse(&url)?;
        Store::open(&url, zone, tables(zone), &SystemRandom).await
    };
    Ok(open.await.map_err(|e| unusable(e.to_string()))?)
}

pub(crate) fn tables(zone: &str) -> &'static [store_kit::Migrations] {
    match zone {
        "cm" => cm_core::MIGRATIONS,
        "sam" => sam_service::MIGRATIONS,
        _ => ssa_service::MIGRATIONS,
    }
}

/// The zones whose logs are meant: those that were named, or all.
pub(crate) fn meant(named: &[String]) -> Vec<&'static str> {
    let meant = |zone: &&str| named.is_empty() || named.iter().any(|name| name == zone);
    ZONES.into_iter().filter(meant).collect()
}

/// What an auditor checks an export with.
#[derive(Debug)]
pub struct Verify {
    /// Directory of the export.
    pub dir: PathBuf,
    /// Zones whose logs have to be in it.
    pub zones: Vec<&'static str>,
    /// Directory with the witness's files.
    pub witness: Option<PathBuf>,
    /// Directory with the logs' public keys.
    pub keys: Option<PathBuf>,
    /// Files with public keys of witnesses that cosign.
    pub cosigners: Vec<PathBuf>,
    /// Directories of archives, which have entries that were deleted from the logs since.
    pub archives: Vec<PathBuf>,
    /// Directory of a witness with its time-stamps, and the certificates (PEM) that authorities of time have to lead to.
    pub stamps: Option<(PathBuf, PathBuf)>,
}

/// What an export turned out to be.
#[derive(Debug)]
pub struct Judged {
    /// Good, undetermined where witnesses are silent, or negative.
    pub verdict: Exit,
    /// For a person, line by line; the notes aren't part of the result.
    lines: Vec<String>,
    notes: Vec<String>,
    /// For a program, by zone.
    pub zones: Map<String, serde_json::Value>,
    /// The SAM's log against the module's, where both are good.
    pub reconciled: Option<Reconciled>,
}

impl Judged {
    /// Shows it to a person.
    pub fn tell(&self, out: Out) {
        for line in &self.lines {
            out.say(line);
        }
        for note in &self.notes {
            out.note(note);
        }
    }

    /// How many entries each zone's log has.
    pub fn entries(&self) -> std::collections::BTreeMap<String, u64> {
        let each = self.zones.iter();
        each.map(|(zone, of)| (zone.clone(), of["entries"].as_u64().unwrap_or(0)))
            .collect()
    }
}

/// Checks an export and shows what came of it.
///
/// # Errors
/// [`Failure`] when the files aren't there.
pub fn verify(verify: &Verify, out: Out) -> Result<Exit, Failure> {
    let judged = judge(verify, out.m())?;
    judged.tell(out);
    let verdict = judged.verdict;
    out.object(&json!({
        "schema": "natsuin.audit-verify/1", "ok": verdict == Exit::Good, "zones": judged.zones,
        "reconciled": judged.reconciled,
    }));
    Ok(verdict)
}

/// Checks an export.
///
/// # Errors
/// [`Failure`] when the files aren't there.
pub fn judge(verify: &Verify, m: Messages) -> Result<Judged, Failure> {
    let (mut lines, mut notes) = (Vec::new(), Vec::new());
    let Verify { dir, keys, .. } = verify;
    let cosigners = verify.cosigners.iter().map(|path| {
        let read = std::fs::read_to_string(path).map_err(|e| {
            let what = format!("{} can't be read: {e}", path.display());
            let remedy = "give a file with the public key that the witness shows";
            Failure::new(Exit::Input, "cosigner", what, remedy)
        })?;
        Ok(read.trim().to_owned())
    });
    let cosigners: Vec<String> = cosigners.collect::<Result<_, Failure>>()?;
    let cosigners: Vec<&str> = cosigners.iter().map(String::as_str).collect();
    let mut reports = Map::new();
    let (mut good, mut sure) = (true, true);
    let (mut reconciler, mut believed) = (Reconciler::default(), 0);
    let (mut deletions, mut sam_whole) = (Deletions::default(), false);
    for zone in verify.zones.iter().copied() {
        let export = dir.join(zone);
        let key_file = keys
            .as_ref()
            .map_or_else(|| export.join("log.pub"), |k| k.join(format!("{zone}.pub")));
        let key = std::fs::read_to_string(&key_file).map_err(|e| {
            let what = format!("{} can't be read: {e}", key_file.display());
            Failure::new(
                Exit::Input,
                "log-key",
                what,
                "give the directory that `natsuin audit export` wrote",
            )
        })?;
        let stamped = match &verify.stamps {
            Some((dir, trusted)) => time_stamps(dir, trusted, key.trim())?,
            None => Ok(Vec::new()),
        };
        let certain = stamped.iter().flatten().map(|a| State {
            size: a.size,
            root: a.root,
        });
        let certain: Vec<State> = certain.collect();
        let witness = verify
            .witness
            .as_ref()
            .map(|w| w.join(format!("{zone}.txt")));
        let archives: Vec<PathBuf> = verify
            .archives
            .iter()
            .map(|archive| Archive::logs(archive).join(zone))
            .collect();
        let archives: Vec<&Path> = archives.iter().map(PathBuf::as_path).collect();
        let known = Known {
            archives: &archives,
            key: key.trim(),
            witness: witness.as_deref(),
            cosigners: &cosigners,
            certain: &certain,
            zone: Some(zone),
        };
        let each = |seq, text: &str| {
            reconciler.take(zone, seq, text);
            deletions.take(zone, seq, text);
        };
        let report = audit_verify::verify_each(&export, known, each).map_err(|e| {
            let what = format!("{zone}: {e}");
            let remedy = "check that the export is whole";
            Failure::new(Exit::Input, "audit-export", what, remedy)
        })?;
        if report.ok {
            let listed = std::fs::read_to_string(export.join("checkpoints.txt"));
            deletions.take_checkpoints(zone, &listed.unwrap_or_default());
        }
        let zone_good = report.ok && stamped.is_ok();
        let zone_sure = report.witnesses.agreeing == report.witnesses.given;
        (good, sure) = (good && zone_good, sure && zone_sure);
        believed += usize::from(report.ok && ["cm", "sam"].contains(&zone));
        let word = match (zone_good, zone_sure) {
            (false, _) => "NG",
            (true, false) => "??",
            (true, true) => "OK",
        };
        let witnesses = format!(
            "witnesses {}/{}",
            report.witnesses.agreeing, report.witnesses.given
        );
        lines.push(format!(
            "{word}  {zone}   entries {} · checkpoints {} · {witnesses}",
            report.entries, report.checkpoints
        ));
        if let Some(bad) = &report.first_bad {
            lines.push(format!("    first bad {}: {}", place(bad), bad.what));
        }
        sam_whole |= zone == "sam" && report.ok && report.archived.iter().all(|part| part.read);
        lines.extend(report.archived.iter().map(|part| in_archive(part, m)));
        for cosigned in &report.witnesses.cosigned {
            let at = m.time(UnixTime(cosigned.at));
            lines.push(format!(
                "    {} cosigned {} entries, {at}",
                cosigned.name, cosigned.size
            ));
        }
        if !zone_sure {
            lines.push(format!("    {}", m.t("audit-witness-silent")));
        }
        if keys.is_none() {
            notes.push(format!("    {}", m.t("audit-key-of-export")));
        }
        let mut shown = serde_json::to_value(&report).unwrap_or_default();
        shown["key"] = if keys.is_some() { "given" } else { "export" }.into();
        match &stamped {
            Ok(anchors) => {
                if let Some(last) = anchors.last().filter(|_| report.ok) {
                    let at = m.time(last.at);
                    lines.push(format!("    time-stamped {} entries, {at}", last.size));
                }
                let list = anchors.iter().map(|a| json!({"size": a.size, "at": a.at}));
                shown["time_stamps"] = list.collect();
            }
            Err(fault) => {
                lines.push(format!("    time-stamps: {fault}"));
                shown["time_stamp_fault"] = fault.to_string().into();
            }
        }
        reports.insert(zone.to_owned(), shown);
    }
    let reconciled = (believed == 2).then(|| reconciler.judge());
    if let Some(told) = &reconciled {
        good &= told.ok;
        let word = if told.ok { "OK" } else { "NG" };
        lines.push(format!("{word}  sam/cm   orders {}", told.orders));
        lines.extend(told.first_bad.as_ref().map(unmatched));
    }
    let audit_verify::Judged {
        told,
        unapproved,
        open,
    } = deletions.judge();
    if told > 0 && sam_whole {
        good &= unapproved.is_none();
        let word = if unapproved.is_none() { "OK" } else { "NG" };
        lines.push(format!("{word}  {}", m.n("audit-deletions", told)));
        lines.extend(unapproved.as_ref().map(unmatched));
    } else if told > 0 {
        // The approvals may stand in what lies in an archive.
        sure = false;
        lines.push(format!("??  {}", m.t("audit-deletions-open")));
    }
    if open > 0 {
        sure = false;
        lines.push(format!("??  {}", m.n("audit-forgotten-open", open)));
    }
    let verdict = match (good, sure) {
        (false, _) => Exit::Negative,
        (true, false) => Exit::Undetermined,
        (true, true) => Exit::Good,
    };
    Ok(Judged {
        verdict,
        lines,
        notes,
        zones: reports,
        reconciled,
    })
}

fn unmatched(bad: &Unmatched) -> String {
    let (zone, seq, kind) = (bad.zone, bad.seq, bad.kind);
    format!("    first bad {zone} entry {seq} ({kind}): {}", bad.what)
}

/// A range that lies in an archive, and whether it was given.
fn in_archive(part: &Archived, m: Messages) -> String {
    let id = match part.read {
        true => "audit-archived-read",
        false => "audit-archived",
    };
    let told = [
        ("from", Arg::Num(part.from)),
        ("last", Arg::Num(part.size - 1)),
        ("archive", Arg::Text(&part.archive)),
    ];
    format!("    {}", m.f(id, &told))
}

/// The time-stamps that a witness has of the log with this key.
fn time_stamps(
    dir: &Path,
    trusted: &Path,
    key: &str,
) -> Result<Result<Vec<Anchor>, AnchorFault>, Failure> {
    let unusable = |what: String| {
        let remedy = "give a file with the certificates of authorities of time (PEM)";
        Failure::new(Exit::Input, "time-stamps", what, remedy)
    };
    let pem = std::fs::read_to_string(trusted);
    let pem = pem.map_err(|e| unusable(format!("{}: {e}", trusted.display())))?;
    let parsed = pki::Certificate::parse_pem(&pem);
    let parsed = parsed.map_err(|e| unusable(format!("{}: {e}", trusted.display())))?;
    let trusted: Vec<_> = parsed.iter().map(|c| c.der().to_vec()).collect();
    let origin = key.split('+').next().unwrap_or_default();
    let folder = dir.join(hex(sha256(&[origin.as_bytes()]).0));
    Ok(audit_witness::anchors(&folder, &trusted))
}

/// Which entry, as exactly as it is known.
fn place(bad: &Bad) -> String {
    let what = match bad.place {
        Place::Entry => "entry",
        Place::Tile => "tile",
        Place::Checkpoint => "checkpoint",
        Place::Witness => "checkpoint of the witness",
        Place::Key => "key",
        Place::File => "file",
    };
    let mut text = what.to_owned();
    match (bad.seq, bad.until) {
        (Some(seq), Some(until)) => text.push_str(&format!(" {seq} to {until}")),
        (Some(seq), None) => text.push_str(&format!(" {seq}")),
        _ => {}
    }
    if let Some(file) = &bad.file {
        text.push_str(&format!(" {}", clean(file)));
    }
    if let (Some(node), Some(n), Some(kind)) = (&bad.node, bad.n, &bad.kind) {
        // What a damaged log says about itself goes to a terminal.
        text.push_str(&format!(" ({} #{n}, {})", clean(node), clean(kind)));
    }
    text
}
