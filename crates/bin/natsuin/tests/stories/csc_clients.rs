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
async fn pyhanko_signs_through_version_1_with_pin_and_code() {
    let clock = Arc::new(Ahead::default());
    let key = KeyAlg::P256;
    let mut story = Story::at(key, StoreChoice::Embedded, false, clock.clone()).await;
    let of = NewSigner {
        login: "hanako",
        name: "髙橋 花子",
        keys: &[key],
        collected: false,
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
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/python/csc_sign.py");
    let contract = sample::contract().unwrap();
    for credential in collected {
        assert_eq!(credential.level, 1);
        let seed = SecretBytes::from(credential.totp_secret.clone().unwrap());
        let totp = Totp::from_base32(&seed).unwrap();
        // One file, then several with one authorization.
        for batch in [1, 3] {
            clock.advance(60);
            let files: Vec<_> = (0..batch)
                .map(|n| {
                    let name = |what: &str| {
                        let name = format!("{}-{batch}-{n}-{what}.pdf", credential.algo);
                        story.dir.path().join(name)
                    };
                    std::fs::write(name("in"), &contract).unwrap();
                    [name("in"), name("out")]
                })
                .collect();
            let job = json!({
                "service_url": story.stack.ssa_url,
                "token": token.expose(),
                "credential": credential.credential_id,
                "pin": credential.pin,
                "otp": String::from_utf8(totp.code(clock.now()).expose().to_vec()).unwrap(),
                "anchors": story.anchors(),
                "files": files,
            });
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
            let done = child.wait_with_output().unwrap();
            assert!(done.status.success(), "{}", text(&done));
        }
    }
    story.stack.stop().await;
}
