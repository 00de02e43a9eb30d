//! The provider's counter-signature, from two officers' ceremony to a relying party's screen.

use std::path::Path;
use std::process::Command;

use core_types::KeyAlg;
use natsuin::sample;
use serde_json::Value;

use crate::kit::{Story, natsuin, python, run, text};

// shows: III-A1.8-rssp-counter-signature, III-A1.8-effects
#[tokio::test(flavor = "multi_thread")]
async fn a_counter_signature_shows_where_a_signature_was_made_and_disturbs_no_validator() {
    for key in [KeyAlg::P256, KeyAlg::Rsa3072] {
        let mut story = Story::counter_signed(key).await;
        let input = story.dir.path().join("契約書.pdf");
        std::fs::write(&input, sample::contract().unwrap()).unwrap();
        story.sign(&input, "first.pdf").await.unwrap();
        // At its start the module compares its rows with its log, in which the seal key has signed by now.
        story = story.counter_signed_again().await;
        let (signed, result) = story.sign(&input, "signed.pdf").await.unwrap();
        assert_eq!(
            result["verification_result"]["verdict"], "passed",
            "{result}"
        );

        let verify = |more: &[&str]| {
            let mut command = natsuin();
            command.args(more).arg("verify").arg(&signed);
            run(command.arg("--trust").arg(story.anchors()))
        };
        let said = verify(&["--json"]);
        let json: Value = serde_json::from_slice(&said.stdout).unwrap();
        let signature = &json["results"][0]["signatures"][0];
        assert_eq!(signature["verdict"], "passed", "{json}");
        let counter = &signature["counter_signatures"][0];
        assert_eq!(counter["verdict"], "passed", "{json}");
        let who = counter["signer"].as_str().unwrap();
        assert!(who.contains("Natsuin (development)"), "{who}");
        for (language, words) in [
            ("en", "this signature was made there"),
            ("ja", "カウンタ署名"),
        ] {
            let said = text(&verify(&["--lang", language]));
            assert!(said.contains(words), "{said}");
        }

        let poppler = text(&run(Command::new("pdfsig").arg(&signed)));
        assert!(poppler.contains("Signature is Valid."), "{poppler}");
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/python");
        for checker in ["validate.py", "counter.py"] {
            let mut checked = Command::new(python());
            checked.arg(scripts.join(checker));
            let said = run(checked.arg(story.anchors()).arg(&signed));
            assert!(said.status.success(), "{checker}: {}", text(&said));
        }
        story.stack.stop().await;
    }
}
