//! From an invitation to a signed file in a real browser.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use core_types::clock::SystemClock;
use core_types::{Clock as _, Digest32, KeyAlg};
use natsuin::sample;
use natsuin::stack::{NewFactors, NewSigner};
use sam_core::backups::BackupReport;
use serde_json::{Value, json};

use crate::kit::{natsuin, run, text};
use crate::providers::Elsewhere;

// shows: T-USE-SAP-BYPASS,
// I-5.2.2-flow, I-5.2.2-login-at-rssp-ui, I-5.2.2-authorization-credential
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

// shows: I-7.1.1.8-appointed-and-trained
#[test]
fn officers_see_what_their_role_needs_and_propose_approve_and_take_with_their_passkeys() {
    let dir = tempfile::tempdir().unwrap();
    let shots =
        std::env::var_os("NATSUIN_SCREENSHOTS").map_or_else(|| dir.path().to_owned(), Into::into);
    std::fs::create_dir_all(&shots).unwrap();
    let ready = dir.path().join("ready.json");
    // A backup of an hour ago, and one of forty days ago that was tried out.
    let reports = dir.path().join("data/backup-reports");
    std::fs::create_dir_all(&reports).unwrap();
    let now = SystemClock.now();
    for (name, age) in [("made.json", 3600), ("verified.json", 40 * 24 * 3600)] {
        let report = BackupReport {
            backup: Digest32([1; 32]),
            made: now.plus(-age),
            at: now,
        };
        std::fs::write(reports.join(name), report.text()).unwrap();
    }
    let mut stack = natsuin();
    stack.args(["dev", "--data"]).arg(dir.path().join("data"));
    stack.arg("--ready-file").arg(&ready);
    let mut stack = stack.stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(stack.stderr.take().unwrap()).lines();
    let mut told = told.by_ref().map(Result::unwrap);
    assert!(told.any(|line| line.starts_with("Ready in")));

    let known: Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
    assert!(known["console"].as_str().unwrap().ends_with("/o"));
    let officers = known["officers"].as_array().unwrap();
    let sato = officers.iter().find(|o| o["officer"] == "sato").unwrap();
    let until = now.plus(100 * 24 * 3600).rfc3339();
    let proposed = run(natsuin()
        .args(["officer", "appoint", "nanami", "--name", "新人 七海"])
        .args(["--identity", "staff 7", "--role", "system-operator"])
        .args(["--until", &until, "--reason", "夜間の運用 =1+1"])
        .args(["--json", "--as"])
        .arg(sato["file"].as_str().unwrap()));
    let made: Value = serde_json::from_slice(&proposed.stdout).unwrap();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/browser");
    let play = |script: &str, what: &str| {
        let mut node = Command::new("node");
        node.current_dir(&scripts).arg(script).arg(&ready);
        run(node.arg(what).arg(&shots))
    };
    let looked = play("console.mjs", made["proposal"].as_str().unwrap());
    let key = known["signers"][0]["credentials"][0]["credentialID"].as_str();
    let proposed = play("propose.mjs", key.unwrap());
    stack.kill().unwrap();
    stack.wait().unwrap();
    for said in [looked, proposed] {
        assert!(said.status.success(), "{}", text(&said));
    }
}

// shows: I-4.2.2b-authenticate-with-rsc, I-3.5.1-keyauth-L1
#[tokio::test(flavor = "multi_thread")]
async fn a_card_logs_its_person_in_and_a_provider_answers_beside_the_approval_page() {
    let dir = tempfile::tempdir().unwrap();
    let shots =
        std::env::var_os("NATSUIN_SCREENSHOTS").map_or_else(|| dir.path().to_owned(), Into::into);
    std::fs::create_dir_all(&shots).unwrap();
    let elsewhere = Elsewhere::begin().await;
    let (stack, mut ask) = (&elsewhere.stack, elsewhere.ask());
    let new = NewSigner {
        login: "hanako",
        name: "髙橋 花子",
        keys: &[KeyAlg::P256],
        collected: false,
        exportable: false,
        one_time: false,
    };
    let enrolled = stack.enrol(&new, NewFactors::Provider(&mut ask)).await;
    let signer = enrolled.unwrap().shown;
    let card = |name: &str| {
        let made = stack.ca.person_cert(name).unwrap();
        let (cert, key) = (
            dir.path().join(format!("{name}.crt")),
            dir.path().join(format!("{name}.key")),
        );
        std::fs::write(&cert, made.chain_pem).unwrap();
        std::fs::write(&key, made.key_pem.expose()).unwrap();
        json!({ "cert": cert, "key": key })
    };
    let job = json!({
        "portal": stack.ssa_url, "sic": stack.sic_url, "asking": stack.asking_url,
        "issuer": elsewhere.issuer, "user": signer.user, "password": signer.password,
        "seed": signer.login_totp_secret, "card": card("hanako"), "other": card("jiro"),
    });
    let file = dir.path().join("job.json");
    std::fs::write(&file, job.to_string()).unwrap();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/browser");
    let said = tokio::task::spawn_blocking(move || {
        let mut node = Command::new("node");
        node.current_dir(&scripts).arg("elsewhere.mjs");
        run(node.arg(&file).arg(&shots))
    });
    let said = said.await.unwrap();
    elsewhere.stack.stop().await;
    assert!(said.status.success(), "{}", text(&said));
}
