//! `natsuin verify`: what the signatures in files prove, without any account and any server of ours.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use core_types::clock::SystemClock;
use core_types::{Clock as _, HashAlg};
use serde_json::{Value, json};
use signing_job::{HttpFetch, Trust, Verdict};

use crate::output::{Exit, Failure, Out};

/// Verifies files.
///
/// # Errors
/// [`Failure`] when the trust anchors can't be used; what is wrong with a file shows in its result.
pub async fn run(files: &[PathBuf], trust: &[PathBuf], out: Out) -> Result<Exit, Failure> {
    let pem = read_pem(trust)?;
    let trust = Trust::from_pem(&pem).map_err(|e| {
        Failure::new(
            Exit::Input,
            "trust-file",
            format!("the trust anchors can't be read: {e}"),
            "give PEM certificates",
        )
    })?;
    let options = csc_client::HttpOptions {
        extra_roots_pem: Some(pem.into_bytes()),
        ..Default::default()
    };
    let http = options.build().map_err(|e| anyhow::anyhow!("{e}"))?;
    let fetch = HttpFetch::new(http, true);
    let (mut passed, mut undetermined, mut failed) = (0, 0, 0);
    let mut results = Vec::new();
    for file in files {
        let (verdict, value, line) = one(file, &trust, &fetch).await;
        match verdict {
            Some(Verdict::Passed) => passed += 1,
            Some(Verdict::Undetermined) => undetermined += 1,
            Some(Verdict::Failed) | None => failed += 1,
        }
        out.say(&line);
        results.push(value);
    }
    out.say(&format!(
        "{passed} confirmed, {undetermined} undetermined, {failed} failed"
    ));
    let ok = undetermined == 0 && failed == 0;
    out.object(&json!({"schema": "natsuin.verify/1", "ok": ok, "results": results}));
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

async fn one(file: &Path, trust: &Trust, fetch: &HttpFetch) -> (Option<Verdict>, Value, String) {
    let name = file.display().to_string();
    let checked = match signing_job::check(file, trust, fetch, SystemClock.now()).await {
        Ok(checked) => checked,
        Err(error) => {
            let line = format!("NG  {name}   {error}");
            let value = json!({"file": name, "verdict": "failed", "reasons": [{"code": error.code(), "what": error.to_string()}]});
            return (None, value, line);
        }
    };
    let signatures = &checked.report.signatures;
    if signatures.is_empty() {
        let reason = json!({"code": "no-signature", "what": "the file has no signature"});
        let value = json!({"file": name, "verdict": "failed", "sha256": checked.sha256, "signatures": [], "reasons": [reason]});
        return (
            None,
            value,
            format!("NG  {name}   no signature in this file"),
        );
    }
    let verdict = checked.report.verdict;
    let word = match verdict {
        Verdict::Passed => "OK",
        Verdict::Undetermined => "??",
        Verdict::Failed => "NG",
    };
    let count = if signatures.len() == 1 {
        "1 signature".to_owned()
    } else {
        format!("{} signatures", signatures.len())
    };
    let mut lines = vec![format!("{word}  {name}   {count}")];
    for signature in signatures {
        lines.push(format!("    {}", sentence(signature)));
        lines.extend(
            signature
                .reasons
                .iter()
                .map(|reason| format!("      {}: {}", reason.code, reason.what)),
        );
    }
    let value = json!({
        "file": name,
        "verdict": verdict,
        "sha256": checked.sha256,
        "signatures": checked.report.signatures,
        "reasons": signatures.iter().flat_map(|s| s.reasons.iter()).collect::<Vec<_>>(),
    });
    (Some(verdict), value, lines.join("\n"))
}

/// One signature in one line.
fn sentence(s: &pades::SignatureReport) -> String {
    let unchanged = if s.unchanged {
        "unchanged"
    } else {
        "CHANGED after signing"
    };
    let who = s
        .signer_subject
        .as_deref()
        .or(s.signer.as_deref())
        .unwrap_or("unknown signer");
    let when = s.signing_time.as_deref().unwrap_or("no time");
    let by = s.tsa.as_deref().map_or_else(
        || "signer's clock".to_owned(),
        |tsa| format!("time-stamp, {tsa}"),
    );
    format!(
        "{who}, {when} ({by}): {unchanged} · certificate {} · revocation {} · time-stamp {}",
        s.certificate, s.revocation, s.time
    )
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
