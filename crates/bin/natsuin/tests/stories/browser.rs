//! From an invitation to a signed file in a real browser.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use natsuin::sample;

use crate::kit::{natsuin, run, text};

// shows: T-USE-SAP-BYPASS
#[test]
fn a_person_signs_up_and_signs_with_passkey_or_pin() {
    let dir = tempfile::tempdir().unwrap();
    // For looking at the pages: NATSUIN_SCREENSHOTS=DIR keeps them.
    let shots =
        std::env::var_os("NATSUIN_SCREENSHOTS").map_or_else(|| dir.path().to_owned(), Into::into);
    std::fs::create_dir_all(&shots).unwrap();
    let (ready, pdf) = (dir.path().join("ready.json"), dir.path().join("契約書.pdf"));
    std::fs::write(&pdf, sample::contract().unwrap()).unwrap();
    let mut stack = natsuin();
    stack
        .args(["dev", "--data"])
        .arg(dir.path().join("data"))
        .arg("--ready-file")
        .arg(&ready);
    let mut stack = stack.stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(stack.stderr.take().unwrap()).lines();
    assert!(
        told.by_ref()
            .map(Result::unwrap)
            .any(|line| line.starts_with("Ready in"))
    );

    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/browser");
    let mut node = Command::new("node");
    node.current_dir(&scripts)
        .arg("first-signature.mjs")
        .arg(&ready)
        .arg(&pdf)
        .arg(&shots);
    let said = run(&mut node);
    let verdicts = ["signed-ja.pdf", "signed-en.pdf"].map(|name| {
        let trust = dir.path().join("data/ca/trust-anchors.pem");
        let mut verify = natsuin();
        run(verify
            .arg("verify")
            .arg("--trust")
            .arg(trust)
            .arg(shots.join(name)))
    });
    stack.kill().unwrap();
    stack.wait().unwrap();
    assert!(said.status.success(), "{}", text(&said));
    for verdict in verdicts {
        assert!(verdict.status.success(), "{}", text(&verdict));
    }
}
