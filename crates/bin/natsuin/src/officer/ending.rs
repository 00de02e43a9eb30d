//! `natsuin officer end-keys` and `officer ended`: ending all keys at the provider's side, and the report of it.

use std::path::{Path, PathBuf};

use clap::Args;
use core_types::TenantId;
use sam_keys::Destruction;
use sap::office::ending::{Destroyed, Part, Progress};
use sap::office::{EndCause, Measure};
use serde_json::json;
use web_ui::{Arg, Messages};

use super::{digest, input, refused, show, write_new};
use crate::office::{Officer, OfficerFile};
use crate::output::{Exit, Failure, Out};

/// For so long it can be approved, in seconds.
const TTL: i64 = 24 * 3600;

/// `natsuin officer end-keys`.
#[derive(Debug, Args)]
pub struct EndKeys {
    /// Of this tenant.
    #[arg(
        long,
        required_unless_present = "whole_service",
        conflicts_with = "whole_service"
    )]
    tenant: Option<String>,
    /// Of all tenants, the provider's own included.
    #[arg(long)]
    whole_service: bool,
    /// Because of what. Keys that leave by their owners' approval are waited for, unless there is an incident.
    #[arg(long, value_enum)]
    cause: CliCause,
    /// Why.
    #[arg(long)]
    reason: String,
}

/// Because of what, on the command line.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum CliCause {
    /// The service ends.
    EndOfService,
    /// Something happened, such as a leak.
    Incident,
}

/// `natsuin officer ended`.
#[derive(Debug, Args)]
pub struct EndedReport {
    /// Digest of the proposal.
    #[arg(allow_hyphen_values = true)]
    proposal: String,
    /// New file for the module's certificates of destruction, one a line, each checked with the module's root key. Written once
    /// every key is destroyed; before, the exit code is 8.
    #[arg(long, value_name = "FILE")]
    certificates: Option<PathBuf>,
}

/// Proposes to end all keys.
///
/// # Errors
/// [`Failure`] when the tenant isn't one, or the SAM refuses.
pub(super) async fn propose(
    officer: &mut Officer,
    what: EndKeys,
    out: Out,
) -> Result<Exit, Failure> {
    let tenant = what.tenant.map(TenantId::parse).transpose();
    let todo = "give a tenant's name as in the configuration of natsuin-sam";
    let tenant = tenant.map_err(|e| input("tenant", &e.to_string(), todo))?;
    let cause = match what.cause {
        CliCause::EndOfService => EndCause::EndOfService,
        CliCause::Incident => EndCause::Incident,
    };
    let measure = Measure::EndKeys { tenant, cause };
    let made = officer.propose(measure, &what.reason, TTL).await;
    let made = made.map_err(refused)?;
    show(&made, out);
    out.object(&made);
    Ok(Exit::Good)
}

/// Says how far it is, and, once every key is destroyed, writes down what the module has certified: a list that lacks some would
/// be taken for the whole one.
///
/// # Errors
/// [`Failure`] when the SAM refuses, a certificate isn't the module's or the file can't be written.
pub(super) async fn report(
    officer: &mut Officer,
    who: &Path,
    what: EndedReport,
    out: Out,
) -> Result<Exit, Failure> {
    let proposal = digest(&what.proposal)?;
    let progress = officer.progress(proposal).await.map_err(refused)?;
    lines(&progress, out.m()).iter().for_each(|l| out.say(l));
    let exit = exit(&progress, what.certificates.is_some());
    let mut written = None;
    if let Some(file) = &what.certificates
        && exit == Exit::Partly
    {
        let name = file.display().to_string();
        let args = [("file", Arg::Text(&name))];
        out.note(&out.m().f("office-ending-unwritten", &args));
    } else if let Some(file) = &what.certificates {
        let all = officer.certificates(proposal).await.map_err(refused)?;
        let known = OfficerFile::read(who).map_err(refused)?;
        let mut text = String::new();
        for one in &all {
            let told = Destruction::verify(&one.certificate, std::slice::from_ref(&known.root));
            let good = told.is_ok_and(|told| told.key == one.key && told.act == proposal);
            if !good {
                return Err(foreign(one));
            }
            text.push_str(&one.certificate);
            text.push('\n');
        }
        write_new(file, text.as_bytes())?;
        let n = u64::try_from(all.len()).unwrap_or(u64::MAX);
        let name = file.display().to_string();
        let args = [("file", Arg::Text(&name)), ("n", Arg::Num(n))];
        out.say(&out.m().f("office-ending-certificates", &args));
        written = Some(n);
    }
    out.object(&json!({"progress": progress, "certificates": written}));
    Ok(exit)
}

/// What a report ends with. `wanted`: a file with all certificates, which there isn't yet while one is missing.
fn exit(progress: &Progress, wanted: bool) -> Exit {
    match wanted && !progress.complete {
        true => Exit::Partly,
        false => Exit::Good,
    }
}

fn foreign(one: &Destroyed) -> Failure {
    let what = format!(
        "the certificate of key {} isn't the module's word that it was destroyed with this proposal",
        one.key
    );
    let todo = "keep what you have, and have the auditor look at it: this is an incident";
    Failure::new(Exit::Negative, "certificate", what, todo)
}

fn lines(progress: &Progress, m: Messages) -> Vec<String> {
    let mut lines = vec![m.t(match progress.complete {
        true => "office-ending-complete",
        false => "office-ending-going-on",
    })];
    for part in &progress.parts {
        lines.extend(part_lines(part, m));
    }
    lines
}

fn part_lines(part: &Part, m: Messages) -> Vec<String> {
    let at = m.time(part.at);
    let of = [
        ("name", Arg::Text(part.tenant.as_str())),
        ("at", Arg::Own(&at)),
    ];
    let mut lines = vec![m.f("office-ending-of", &of)];
    for (id, n) in [
        ("keys", part.keys),
        ("marked", part.ended),
        ("destroyed", part.destroyed),
        ("waiting", part.waiting),
        ("told", part.told),
    ] {
        lines.push(format!("    {}", m.n(&format!("office-ending-{id}"), n)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_certificates_that_lacks_some_is_not_written() {
        let progress = |complete| Progress {
            cause: EndCause::Incident,
            parts: Vec::new(),
            complete,
        };
        assert_eq!(exit(&progress(false), true), Exit::Partly);
        assert_eq!(exit(&progress(true), true), Exit::Good);
        // Whoever only wants to know how far it is has been told.
        assert_eq!(exit(&progress(false), false), Exit::Good);
    }
}
