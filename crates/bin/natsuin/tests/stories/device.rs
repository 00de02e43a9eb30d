//! A device key: added in the portal and on the approval page, then the command line signs without a browser.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use core_types::{Digest32, KeyAlg, SecretBytes};
use natsuin::sample;
use natsuin::stack::Factors;
use reqwest::{Method, Url};
use serde_json::Value;

use crate::keys::between;
use crate::kit::{Story, natsuin, run, text};

const PASSPHRASE: &str = "canary seven grey herons";
const PIN: &str = "canary-pin-red-ibis";

/// A file that only its owner reads.
fn secret(dir: &Path, name: &str, content: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, format!("{content}\n")).unwrap();
    mode(&path, 0o600);
    path
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn json(command: &mut Command) -> (i32, Value) {
    let said = run(command);
    let value = serde_json::from_slice(&said.stdout);
    let value = value.unwrap_or_else(|_| panic!("one JSON object: {}", text(&said)));
    assert!(!text(&said).contains("canary"), "{}", text(&said));
    (said.status.code().unwrap(), value)
}

impl Story {
    /// Adds the device key in the portal and approves it on the approval page, after comparing the code.
    async fn add_device(&mut self, told: &Value) {
        let page = self.portal("/signing").await;
        let registration = between(&page, "/signing/device/", "\"").unwrap();
        let token = between(&page, "name=\"token\" value=\"", "\"").unwrap();
        let key = told["key"].to_string();
        let home = self.stack.ssa_url.clone();
        let url = Url::parse(&format!("{home}/signing/device")).unwrap();
        let form = [
            ("token", token.as_str()),
            ("of", &registration),
            ("key", &key),
        ];
        let request = self.agent.request(Method::POST, &url);
        let request = request.header("origin", &home).form(&form);
        let answer = self.agent.send(&url, request).await.unwrap();
        let to = answer.headers()["location"].to_str().unwrap();
        let (sic, rid) = to.split_once("/a#").unwrap();
        assert_eq!(sic, self.stack.sic_url);
        let pin = SecretBytes::from(PIN.to_owned());
        let factors = Factors::Passkey(&mut self.device);
        let (sic, rid) = (self.stack.sic(), Digest32::parse(rid).unwrap());
        let approved = sic.approve_new(rid, Some(&pin), factors);
        assert!(approved.await.unwrap().starts_with(&home));
    }
}

// shows: T-USE-CAPTURE
#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_signed_with_a_device_key_and_a_pin_and_no_browser() {
    let mut story = Story::begin(KeyAlg::P256).await;
    let dir = story.dir.path().to_owned();
    let (device, passphrase) = (
        dir.join("device.json"),
        secret(&dir, "passphrase", PASSPHRASE),
    );
    let enrol = |sic: &str, root: &Path| {
        let mut command = natsuin();
        command.args(["--json", "device", "enrol"]).arg(&device);
        command.args(["--sic", sic]).arg("--root").arg(root);
        json(command.arg("--passphrase-file").arg(&passphrase))
    };
    let (code, told) = enrol(&story.stack.sic_url, &story.root());
    assert_eq!(code, 0, "{told}");
    assert_eq!(
        enrol(&story.stack.sic_url, &story.root()).0,
        6,
        "not written over"
    );
    let (_, again) = json(natsuin().args(["--json", "device", "show"]).arg(&device));
    assert_eq!(
        (&again["key"], &again["code"]),
        (&told["key"], &told["code"])
    );

    let original = dir.join("契約書.pdf");
    std::fs::write(&original, sample::contract().unwrap()).unwrap();
    let client = story.stack.client("hanako-program").unwrap();
    let client = secret(&dir, "client", client.client_secret.as_deref().unwrap());
    let (url, trust) = (story.stack.ssa_url.clone(), story.anchors());
    let (pin, wrong) = (
        secret(&dir, "pin", PIN),
        secret(&dir, "wrong", "canary-wrong"),
    );
    let sign = |passphrase: &Path, pin: &Path| {
        let mut command = natsuin();
        command.args(["--json", "sign"]).arg(&original);
        command.args([
            "--url",
            &url,
            "--client",
            "hanako-program",
            "--user",
            "hanako",
        ]);
        command.arg("--client-secret-file").arg(&client);
        command.arg("--trust").arg(&trust);
        command.arg("--device-key").arg(&device);
        command.arg("--passphrase-file").arg(passphrase);
        json(command.arg("--pin-file").arg(pin))
    };
    // Made, and not added yet.
    let (code, refused) = sign(&passphrase, &pin);
    assert_eq!(
        (code, &refused["code"]),
        (3, &Value::from("device")),
        "{refused}"
    );
    story.add_device(&told).await;

    let (code, refused) = sign(&passphrase, &wrong);
    assert_eq!(
        (code, &refused["code"]),
        (3, &Value::from("declined")),
        "{refused}"
    );
    assert!(refused["what"].as_str().unwrap().contains('4'), "{refused}");
    let (code, refused) = sign(&wrong, &pin);
    assert_eq!(
        (code, &refused["code"]),
        (6, &Value::from("device-file")),
        "{refused}"
    );
    mode(&pin, 0o644);
    assert_eq!(sign(&passphrase, &pin).0, 6, "others may read the PIN");
    mode(&pin, 0o600);
    let (code, signed) = sign(&passphrase, &pin);
    assert_eq!((code, &signed["ok"]), (0, &Value::Bool(true)), "{signed}");
    assert_eq!(signed["results"][0]["result"], "signed", "{signed}");
    assert!(dir.join("契約書-signed.pdf").exists());
    mode(&device, 0o640);
    assert_eq!(sign(&passphrase, &pin).0, 6, "others may read the key");
    story.stack.stop().await;
}
