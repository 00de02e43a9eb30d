//! Other people's CSC clients, unchanged.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use core_types::{Clock as _, KeyAlg, SecretBytes};
use csc_types::Purpose;
use natsuin::agent::Agent;
use natsuin::sample;
use natsuin::stack::{NewSigner, StoreChoice};
use serde_json::json;
use sic_core::Totp;

use crate::bad_input::Ahead;
use crate::kit::{Story, python, text};
use crate::spend::Spender;

// shows: I-3.5.2-L1-key-auth-delegated
#[tokio::test(flavor = "multi_thread")]
async fn pyhanko_signs_thirty_files_through_version_1_with_pin_and_code() {
    let clock = Arc::new(Ahead::default());
    let key = KeyAlg::P256;
    let mut story = Story::at(key, StoreChoice::Embedded, false, clock.clone()).await;
    let of = NewSigner {
        login: "hanako",
        name: "髙橋 花子",
        keys: &[key],
        collected: false,
        exportable: false,
        one_time: false,
    };
    let mut signer = story.signer.clone();
    story.stack.enrol_collected(&of, &mut signer).await.unwrap();
    let spender = Spender::new(&story.stack, "test-client").await;
    let mut agent = Agent::new(&story.stack);
    let token = spender
        .token(&mut story, &mut agent, Purpose::Service)
        .await;
    let collected: Vec<_> = signer
        .credentials
        .iter()
        .filter(|c| c.auth_mode == "explicit")
        .collect();
    assert_eq!(collected.len(), 2, "RSA and P-256");
    let contract = story.dir.path().join("contract.pdf");
    std::fs::write(&contract, sample::contract().unwrap()).unwrap();
    let all = VARIANTS.len();
    let mut signed = 0;
    for credential in collected {
        assert_eq!(credential.level, 1);
        let seed = SecretBytes::from(credential.totp_secret.clone().unwrap());
        let totp = Totp::from_base32(&seed).unwrap();
        let rsa = credential.algo.starts_with("rsa");
        for pss in [false, true] {
            if pss && !rsa {
                continue;
            }
            // Five files with one authorization, four with another, one by itself and with the longest hash.
            let batches = [
                (&VARIANTS[..5], "sha256"),
                (&VARIANTS[5..all - 1], "sha256"),
                (&VARIANTS[all - 1..], if rsa { "sha512" } else { "sha256" }),
            ];
            for (variants, hash) in batches {
                clock.advance(60);
                // The code of the next step: good from now on, and long enough for a busy machine to start Python and make the files.
                let code = totp.code(clock.now().plus(30));
                let files: Vec<_> = variants
                    .iter()
                    .map(|variant| {
                        let name = format!("{}-{pss}-{variant}.pdf", credential.algo);
                        json!([variant, story.dir.path().join(name)])
                    })
                    .collect();
                let job = json!({
                    "service_url": story.stack.ssa_url,
                    "token": token.expose(),
                    "credential": credential.credential_id,
                    "pin": credential.pin,
                    "otp": String::from_utf8(code.expose().to_vec()).unwrap(),
                    "anchors": story.anchors(),
                    "pss": pss,
                    "hash": hash,
                    "contract": contract,
                    "files": files,
                });
                let done = pyhanko(&job);
                assert!(done.status.success(), "{}", text(&done));
                signed += variants.len();
            }
        }
    }
    assert_eq!(signed, 30);
    story.stack.stop().await;
}

/// Kinds of files; the script makes them.
const VARIANTS: [&str; 10] = [
    "as it is",
    "cross-reference streams",
    "cross-reference table",
    "one page",
    "forty pages",
    "updated before",
    "a field that waits",
    "a field to be seen",
    "certified",
    "PAdES",
];

fn pyhanko(job: &serde_json::Value) -> std::process::Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/python/csc_sign.py");
    let mut child = Command::new(python())
        .arg(&script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(job.to_string().as_bytes()).unwrap();
    drop(input);
    child.wait_with_output().unwrap()
}
