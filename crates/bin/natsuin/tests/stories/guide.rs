//! The guide for application developers, as it stands: its shell blocks one after the other against a development stack, a signer's
//! browser in place of the reader's.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use core_types::SecretBytes;
use natsuin::agent::Agent;
use natsuin::stack::{DevSigner, Factors};
use sic_core::Totp;

use crate::bad_input::Ahead;
use crate::crash::Dev;

/// Shell blocks of a page.
fn blocks(page: &str) -> Vec<String> {
    let parts = page.split("\n```sh\n").skip(1);
    parts
        .map(|part| part.split_once("\n```").unwrap().0.to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_guide_tells_developers_to_type_works() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path(), None);
    let clock = Arc::new(Ahead::default());
    let pem = std::fs::read_to_string(dev.url("trust_anchors")).unwrap();
    let mut agent = Agent::with(dev.sic(dir.path(), &pem, clock.clone()));
    let signer: DevSigner = serde_json::from_value(dev.ready["signers"][0].clone()).unwrap();
    let (pin, seed) = (
        SecretBytes::from(signer.pin.clone()),
        SecretBytes::from(signer.totp_secret.clone()),
    );
    let totp = Totp::from_base32(&seed).unwrap();

    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/api/README.md");
    let blocks = blocks(&std::fs::read_to_string(page).unwrap());
    assert!(blocks.len() >= 5, "the guide has blocks");
    // The reader's browser isn't started here.
    let no_browser = dir.path().join("xdg-open");
    std::fs::write(&no_browser, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&no_browser, std::fs::Permissions::from_mode(0o755)).unwrap();
    let script = format!("set -eu -o pipefail; exec 2>&1\n{}\n", blocks.join("\n"));
    std::fs::write(dir.path().join("guide.sh"), script).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_natsuin")).parent().unwrap();
    let path = [dir.path(), program]
        .map(|at| at.display().to_string())
        .join(":");
    let mut shell = Command::new("bash")
        .arg("guide.sh")
        .current_dir(dir.path())
        .env("LC_ALL", "C")
        .env("PATH", format!("{path}:{}", std::env::var("PATH").unwrap()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut typed = shell.stdin.take().unwrap();
    let told = BufReader::new(shell.stdout.take().unwrap()).lines();
    let (mut all, mut trips) = (String::new(), 0);
    let page = format!("{}/oauth2/authorize?", dev.url("oauth2"));
    for line in told.map(Result::unwrap) {
        all.push_str(&line);
        all.push('\n');
        let Some(at) = line.find(&page) else {
            continue;
        };
        trips += 1;
        let factors = Factors::PinTotp {
            pin: &pin,
            totp: &totp,
        };
        let by_command = line.contains("client_id=natsuin-cli");
        let target = match by_command {
            true => "http://127.0.0.1:",
            false => "http://localhost/callback",
        };
        let back = agent
            .until(&line[at..], target, &signer, factors)
            .await
            .unwrap_or_else(|e| panic!("{e:#}: {all}"));
        if trips == 2 {
            // A code counts once, and two of the trips end in an approval.
            clock.advance(30);
        }
        if by_command {
            let answer = reqwest::Client::new().get(back).send().await.unwrap();
            assert_eq!(answer.status(), 200);
        } else {
            let code = back.query_pairs().find(|(name, _)| name == "code");
            let (_, code) = code.unwrap_or_else(|| panic!("a code: {back}"));
            writeln!(typed, "{code}").unwrap();
        }
    }
    assert!(shell.wait().unwrap().success(), "{all}");
    assert_eq!(trips, 4, "{all}");
    for proof in ["Verified OK", "\"signatures\""] {
        assert!(all.contains(proof), "{proof}: {all}");
    }
}
