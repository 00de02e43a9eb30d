//! `natsuin verify`: what the signatures in files prove, without any account and any server of ours.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use core_types::clock::SystemClock;
use core_types::{Approvals, Clock as _, HashAlg};
use serde_json::{Value, json};
use signing_job::{HttpFetch, Trust, Verdict};
use web_ui::{Arg, Messages, clean};

use crate::output::{Exit, Failure, Out, findings, shown_time};

/// RFC 7468 §6.
pub const CRL_LABEL: &str = "X509 CRL";

/// The provider's table of approved algorithms, as its officers have signed it.
#[derive(Debug, Default, clap::Args)]
pub struct Algorithms {
    /// Judge by this table of approved algorithms (what `natsuin-cm sign-algorithms` printed, a line for each officer) and not
    /// by the one that comes with the program. One that approves more than that has to be signed by two officers.
    #[arg(long, value_name = "FILE", requires = "officer")]
    pub algorithms: Option<PathBuf>,
    /// Public key (JWK) of an officer of the provider, known from before; given as often as there are officers.
    #[arg(long, value_name = "JWK", requires = "algorithms")]
    pub officer: Vec<PathBuf>,
}

impl Algorithms {
    fn read(&self) -> Result<Option<Approvals>, Failure> {
        let Some(path) = &self.algorithms else {
            return Ok(None);
        };
        let wrong = |path: &Path, what: &dyn std::fmt::Display, remedy: &'static str| {
            let what = format!("{}: {what}", path.display());
            Failure::new(Exit::Input, "algorithms", what, remedy)
        };
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|e| wrong(path, &e, "check the path"))
        };
        let mut officers = Vec::new();
        for path in &self.officer {
            let key: jose::Jwk = serde_json::from_str(&read(path)?)
                .map_err(|e| wrong(path, &e, "give an officer's public key as a JWK (JSON)"))?;
            officers.push(key);
        }
        let table = cm_core::Policy::for_verifying(&read(path)?, &officers);
        let remedy = "get the signed table and the officers' keys from the provider again";
        table.map(Some).map_err(|e| wrong(path, &e, remedy))
    }
}

/// Verifies files. `crls`: revocation lists beside those that are fetched.
///
/// # Errors
/// [`Failure`] when trust anchors, revocation lists or the table of algorithms can't be used; what is wrong with a file shows in
/// its result.
pub async fn run(
    files: &[PathBuf],
    trust: &[PathBuf],
    crls: &[PathBuf],
    algorithms: &Algorithms,
    out: Out,
) -> Result<Exit, Failure> {
    let approvals = algorithms.read()?;
    let table = approvals.as_ref().map(|a| (a.version(), a.digest()));
    let pem = read_pem(trust)?;
    let trust = Trust::from_pem(&pem).map_err(|e| {
        Failure::new(
            Exit::Input,
            "trust-file",
            format!("the trust anchors can't be read: {e}"),
            "give PEM certificates",
        )
    })?;
    let trust = trust.with_crls(read_crls(crls)?);
    let trust = match approvals {
        Some(approvals) => trust.with_approvals(approvals),
        None => trust,
    };
    let options = csc_client::HttpOptions {
        extra_roots_pem: Some(pem.into_bytes()),
        ..Default::default()
    };
    let http = options.build().map_err(|e| anyhow::anyhow!("{e}"))?;
    let fetch = HttpFetch::new(http, true);
    let (mut passed, mut undetermined, mut failed) = (0_u64, 0_u64, 0_u64);
    let mut results = Vec::new();
    for file in files {
        let (verdict, value, line) = one(file, &trust, &fetch, out.m()).await;
        match verdict {
            Some(Verdict::Passed) => passed += 1,
            Some(Verdict::Undetermined) => undetermined += 1,
            Some(Verdict::Failed) | None => failed += 1,
        }
        out.say(&line);
        results.push(value);
    }
    let counted = [
        ("passed", Arg::Num(passed)),
        ("undetermined", Arg::Num(undetermined)),
        ("failed", Arg::Num(failed)),
    ];
    out.say(&out.m().f("cli-verified-count", &counted));
    let ok = undetermined == 0 && failed == 0;
    let mut told = json!({"schema": "natsuin.verify/1", "ok": ok, "results": results});
    if let Some((version, digest)) = table {
        let digest = digest.to_string();
        told["algorithms"] = json!({"version": version, "sha256": digest});
        let named = [
            ("version", Arg::Num(version)),
            ("digest", Arg::Text(&digest)),
        ];
        out.say(&out.m().f("cli-verified-table", &named));
    }
    out.object(&told);
    Ok(match (failed, undetermined) {
        (0, 0) => Exit::Good,
        (0, _) => Exit::Undetermined,
        _ => Exit::Negative,
    })
}

/// PEM files, one after another.
///
/// # Errors
/// [`Failure`] when one can't be read.
pub fn read_pem(files: &[PathBuf]) -> Result<String, Failure> {
    let mut pem = String::new();
    for file in files {
        let text = std::fs::read_to_string(file).map_err(|e| {
            let what = format!("{} can't be read: {e}", file.display());
            Failure::new(
                Exit::Input,
                "trust-file",
                what,
                "name a file with CA certificates in PEM",
            )
        })?;
        pem.push_str(&text);
        pem.push('\n');
    }
    Ok(pem)
}

fn read_crls(files: &[PathBuf]) -> Result<Vec<Vec<u8>>, Failure> {
    let mut lists = Vec::new();
    for file in files {
        let unusable = |why: String| {
            let what = format!("{} is no revocation list: {why}", file.display());
            Failure::new(
                Exit::Input,
                "crl-file",
                what,
                "name a file with X.509 CRLs, PEM or DER",
            )
        };
        let bytes = std::fs::read(file).map_err(|e| unusable(e.to_string()))?;
        let found = match std::str::from_utf8(&bytes) {
            Ok(text) => {
                pki::pem::decode_all(CRL_LABEL, text).map_err(|e| unusable(e.to_string()))?
            }
            Err(_) => vec![bytes],
        };
        if found.is_empty() {
            return Err(unusable("nothing of that kind in it".to_owned()));
        }
        for list in &found {
            pki::crl::Crl::parse(list).map_err(|e| unusable(e.to_string()))?;
        }
        lists.extend(found);
    }
    Ok(lists)
}

async fn one(
    file: &Path,
    trust: &Trust,
    fetch: &HttpFetch,
    m: Messages,
) -> (Option<Verdict>, Value, String) {
    let (name, path) = (
        clean(&file.display().to_string()),
        file.display().to_string(),
    );
    let checked = match signing_job::check(file, trust, fetch, SystemClock.now()).await {
        Ok(checked) => checked,
        Err(error) => {
            let line = format!("NG  {name}   {}", clean(&error.to_string()));
            let value = json!({"file": path, "verdict": "failed", "reasons": [{"code": error.code(), "what": error.to_string()}]});
            return (None, value, line);
        }
    };
    let signatures = &checked.report.signatures;
    // A time-stamp over a document says when it was there, not who signed it.
    if !signatures.iter().any(|s| s.kind == "signature") {
        let reason = json!({"code": "no-signature", "what": "the file has no signature"});
        let value = json!({"file": path, "verdict": "failed", "sha256": checked.sha256, "signatures": [], "reasons": [reason]});
        return (
            None,
            value,
            format!("NG  {name}   {}", m.t("cli-no-signature")),
        );
    }
    let verdict = checked.report.verdict;
    let word = match verdict {
        Verdict::Passed => "OK",
        Verdict::Undetermined => "??",
        Verdict::Failed => "NG",
    };
    let count = m.n(
        "cli-signatures",
        u64::try_from(signatures.len()).unwrap_or(u64::MAX),
    );
    let mut lines = vec![format!("{word}  {name}   {count}")];
    for signature in signatures {
        lines.push(format!("    {}", sentence(m, signature)));
        let counters = signature.counter_signatures.iter();
        lines.extend(counters.map(|counter| format!("      {}", counter_sentence(m, counter))));
        lines.extend(
            signature
                .reasons
                .iter()
                .map(|reason| format!("      {}: {}", reason.code, clean(&reason.what))),
        );
    }
    let value = json!({
        "file": path,
        "verdict": verdict,
        "sha256": checked.sha256,
        "signatures": checked.report.signatures,
        "reasons": signatures.iter().flat_map(|s| s.reasons.iter()).collect::<Vec<_>>(),
    });
    (Some(verdict), value, lines.join("\n"))
}

/// One signature in one line.
fn sentence(m: Messages, s: &pades::SignatureReport) -> String {
    let who = s.signer_subject.as_deref().or(s.signer.as_deref());
    let when = s.signing_time.as_deref();
    let by = match s.tsa.as_deref() {
        Some(tsa) => format!("{}, {}", m.t("sca-time-tsa"), clean(tsa)),
        None => m.t("cli-time-own"),
    };
    let check = serde_json::to_value(s).unwrap_or_default();
    format!(
        "{}, {} ({by}): {}",
        who.map_or_else(|| m.t("cli-unknown-signer"), clean),
        when.map_or_else(|| m.t("cli-no-time"), |t| shown_time(m, t)),
        findings(m, &check)
    )
}

/// What a counter-signature shows: where the signature was made.
fn counter_sentence(m: Messages, of: &pades::CounterSignatureReport) -> String {
    let who = of.signer.as_deref();
    let who = who.map_or_else(|| m.t("cli-unknown-signer"), clean);
    let Some(reason) = &of.reason else {
        return m.f("cli-counter-good", &[("who", Arg::Text(&who))]);
    };
    let message = match of.verdict {
        Verdict::Failed => "cli-counter-bad",
        _ => "cli-counter-undetermined",
    };
    let said = m.f(message, &[("who", Arg::Text(&who))]);
    format!("{said} {}: {}", reason.code, clean(&reason.what))
}

/// Whether the file has this SHA-256 (hexadecimal): what was downloaded is what was verified.
///
/// # Errors
/// When it can't be read or differs.
pub fn same_file(path: &Path, sha256: &str) -> anyhow::Result<()> {
    use std::io::Read as _;
    let mut file =
        std::fs::File::open(path).with_context(|| format!("{} can't be read", path.display()))?;
    let mut context = aws_lc_rs::digest::Context::new(HashAlg::Sha256.aws());
    let mut chunk = vec![0; 1 << 20];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            n => context.update(&chunk[..n]),
        }
    }
    if core_types::bytes::hex(context.finish().as_ref()) != sha256 {
        bail!("{} is not the file that was verified", path.display());
    }
    Ok(())
}
