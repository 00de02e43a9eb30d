//! How long each fault of a token costs: the drill of the tests, against the daemon behind its socket.
//!
//! The module that misbehaves (`pkcs11-faults`, built with the tests) and its real one are named by variables, which a program
//! can't set for itself: this program starts itself again with them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cm_pkcs11::Pkcs11Backend;
use core_types::KeyAlg;
use serde::{Deserialize, Serialize};

use super::super::measure::{millis, now};
use super::daemon::Daemon;
use crate::output::Out;

/// Variables of `pkcs11-faults`.
const REAL: &str = "NATSUIN_FAULTS_MODULE";
const CONTROL: &str = "NATSUIN_FAULTS";

/// What happens, and the line for the module that misbehaves.
const FAULTS: [(&str, &str); 14] = [
    ("session handle invalid", "C_SignInit rv:0xb3 1"),
    ("session closed", "C_SignInit rv:0xb0 1"),
    ("key handle invalid", "C_SignInit rv:0x60 1"),
    ("device error", "C_Sign rv:0x30 1"),
    ("device error after the value", "C_Sign late:0x30 1"),
    ("device error for good", "C_Sign rv:0x30"),
    ("token removed for a moment", "* rv:0xe0 1"),
    ("token removed", "* rv:0xe0"),
    ("not initialised", "* rv:0x190 1"),
    ("all sessions closed", "C_SignInit closeall 1"),
    ("no room for sessions", "C_OpenSession rv:0xb1"),
    ("hang at C_SignInit", "C_SignInit hang"),
    ("hang at C_Sign", "C_Sign hang"),
    ("hang at all", "* hang"),
];
/// Orders after which a service that doesn't work again is given up.
const TRIES: usize = 1000;

/// One fault.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::bench) struct Recovery {
    fault: String,
    /// Whether the order that met it was signed all the same.
    signed: bool,
    /// How long that order took.
    answered_ms: f64,
    /// From the end of the fault to the next signature.
    works_again_ms: f64,
}

/// Runs the drill in a process of its own, with `faulty` before the real library.
pub(super) fn run(faulty: &Path, real: &Path, out: Out) -> Result<Vec<Recovery>> {
    let scratch = tempfile::Builder::new()
        .prefix("natsuin-drill-")
        .tempdir()?;
    let control = scratch.path().join("faults");
    std::fs::write(&control, "")?;
    let said = Command::new(std::env::current_exe()?)
        .args(["--json", "bench", "cm", "--drill"])
        .arg(&control)
        .arg("--pkcs11")
        .arg(faulty)
        .env(REAL, real)
        .env(CONTROL, &control)
        .output()?;
    if !said.status.success() {
        bail!("the drill: {}", String::from_utf8_lossy(&said.stderr));
    }
    let rows: Vec<Recovery> = serde_json::from_slice(&said.stdout).context("the drill's rows")?;
    for row in &rows {
        out.say(&format!(
            "drill {:<30} {:<10} answer {:>9.2} ms, works again after {:>9.2} ms",
            row.fault,
            if row.signed { "signed" } else { "not signed" },
            row.answered_ms,
            row.works_again_ms
        ));
    }
    Ok(rows)
}

/// The drill itself, in that process.
pub(super) async fn here(dir: &Path, control: &Path, library: PathBuf) -> Result<Vec<Recovery>> {
    let options = super::token(library);
    Pkcs11Backend::initialise(&options)?;
    let backend = Pkcs11Backend::open(&options)?;
    let daemon = Daemon::start(dir, Arc::new(backend), None, false).await?;
    let key = daemon.key(KeyAlg::P256).await?.context("a key of P-256")?;
    let keys = [key];
    let once = async || {
        let begun = now();
        let alg = KeyAlg::P256.csr_alg();
        let done = daemon.once(&keys[0], alg).await;
        (done.is_ok(), begun.elapsed())
    };
    let mut rows = Vec::new();
    for (fault, line) in FAULTS {
        write(control, line)?;
        let (signed, answered) = once().await;
        write(control, "")?;
        let begun = now();
        let mut works: Option<Duration> = None;
        for _ in 0..TRIES {
            if once().await.0 {
                works = Some(begun.elapsed());
                break;
            }
        }
        rows.push(Recovery {
            fault: fault.to_owned(),
            signed,
            answered_ms: millis(answered),
            works_again_ms: millis(
                works.with_context(|| format!("after {fault:?} nothing works"))?,
            ),
        });
    }
    daemon.stop().await;
    Ok(rows)
}

/// In one step, so that no call reads half of it.
fn write(control: &Path, lines: &str) -> Result<()> {
    let fresh = control.with_extension("new");
    std::fs::write(&fresh, lines)?;
    Ok(std::fs::rename(&fresh, control)?)
}
