//! Keys that people bring, with other programs' files and this command line, and keys that they have handed over.

use std::path::{Path, PathBuf};
use std::process::Command;

use core_types::KeyAlg;
use core_types::random::SystemRandom;
use natsuin::stack::{Device, Factors, NewFactors, NewSigner};
use reqwest::{Method, Url};
use serde_json::Value;

use crate::kit::{Story, natsuin, run, text, until};

const PASSWORD: &str = "パスワード 1";

fn openssl(dir: &Path, args: &[&str]) {
    let said = run(Command::new("openssl").current_dir(dir).args(args));
    assert!(said.status.success(), "{args:?}: {}", text(&said));
}

/// Runs `natsuin --json key …`; answers exit code and object.
fn key(dir: &Path, args: &[&str]) -> (i32, Value) {
    let mut command = natsuin();
    let said = run(command.current_dir(dir).args(["--json", "key"]).args(args));
    let object = serde_json::from_slice(&said.stdout);
    (said.status.code().unwrap(), object.unwrap_or_default())
}

impl Story {
    /// A page of the portal, logged in.
    pub async fn portal(&mut self, path: &str) -> String {
        let home = self.stack.ssa_url.clone();
        let factors = Factors::Passkey(&mut self.device);
        let url = format!("{home}{path}");
        // The login's own page is the portal's too: the first visit goes on until it is through.
        let until = match path {
            "/signing" => &url,
            _ => &home,
        };
        self.agent
            .visit(&url, until, &self.signer, factors)
            .await
            .unwrap();
        let url = Url::parse(&url).unwrap();
        let request = self.agent.request(Method::GET, &url);
        self.agent
            .send(&url, request)
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    }

    /// Sends a form of the portal, and approves what it leads to; answers the digest of the act.
    async fn approve_form(&mut self, path: &str, fields: &[(&str, &str)]) -> String {
        let home = self.stack.ssa_url.clone();
        let url = Url::parse(&format!("{home}{path}")).unwrap();
        let request = self.agent.request(Method::POST, &url);
        let request = request.header("origin", &home).form(fields);
        let answer = self.agent.send(&url, request).await.unwrap();
        let to = answer.headers()["location"].to_str().unwrap().to_owned();
        assert!(to.starts_with(&self.stack.sic_url), "{to}");
        let factors = Factors::Passkey(&mut self.device);
        self.agent
            .visit(&to, &home, &self.signer, factors)
            .await
            .unwrap();
        let page = self.portal("/signing").await;
        // What happened, newest first, stands after the signatures.
        let history = page.rsplit("<h2>").next().unwrap();
        between(history, "/signing/receipt/", "\"").unwrap()
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("data/root.jwk")
    }

    /// `natsuin key import` under an approval.
    fn bring(&self, file: &str, act: &str, more: &[&str]) -> (i32, Value) {
        let (sic, root) = (self.stack.sic_url.clone(), self.root());
        let mut args = vec!["import", file, "--act", act, "--sic", &sic, "--root"];
        args.push(root.to_str().unwrap());
        args.extend(more);
        key(self.dir.path(), &args)
    }
}

pub fn between(text: &str, from: &str, to: &str) -> Option<String> {
    let rest = text.split(from).nth(1)?;
    rest.split(to).next().map(str::to_owned)
}

// shows: I-4.2.2a-existing-key, I-3.5.1-import-L1
#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_a_pkcs12_file_comes_in_gets_its_certificate_and_signs() {
    let mut story = Story::begin(KeyAlg::P256).await;
    let dir = story.dir.path().to_owned();
    std::fs::write(dir.join("pw"), format!("{PASSWORD}\n")).unwrap();
    let secret = format!("pass:{PASSWORD}");
    let curve = "ec_paramgen_curve:P-256";
    for name in ["own", "other"] {
        let (pem, cert) = (format!("{name}.pem"), format!("{name}.cert"));
        openssl(
            &dir,
            &[
                "genpkey",
                "-algorithm",
                "EC",
                "-pkeyopt",
                curve,
                "-out",
                &pem,
            ],
        );
        openssl(
            &dir,
            &[
                "req", "-x509", "-new", "-key", &pem, "-subj", "/CN=x", "-out", &cert,
            ],
        );
        let p12 = format!("{name}.p12");
        openssl(
            &dir,
            &[
                "pkcs12", "-export", "-inkey", &pem, "-in", &cert, "-out", &p12, "-passout",
                &secret,
            ],
        );
    }
    let with = ["--password-file", "pw"];
    let (_, told) = key(&dir, &["import", "own.p12", with[0], with[1]]);
    assert_eq!(told["alg"], "p-256", "{told}");
    let public = told["public"].as_str().unwrap().to_owned();

    let page = story.portal("/signing").await;
    let registration = between(&page, "/signing/import/", "\"").unwrap();
    let token = between(&page, "name=\"token\" value=\"", "\"").unwrap();
    let form = [
        ("token", token.as_str()),
        ("of", &registration),
        ("key", &public),
        ("case", "3-i"),
    ];
    let act = story.approve_form("/signing/import", &form).await;
    // Another key than the one that was approved doesn't even leave this machine.
    assert_eq!(story.bring("other.p12", &act, &with).0, 6);
    let wrong = ["--password-file", "own.pem"];
    let (code, told) = story.bring("own.p12", &act, &wrong);
    assert_eq!(code, 6, "{told}");
    let (code, told) = story.bring("own.p12", &act, &with);
    assert_eq!(code, 0, "{told}");
    let id = told["key"].as_str().unwrap().to_owned();
    assert_eq!(story.bring("own.p12", &act, &with).0, 3, "used");

    story.portal(&format!("/enrolled/{registration}")).await;
    let keys = story.portal("/keys").await;
    assert!(keys.contains(&id), "{keys}");
    let imported = natsuin::stack::DevCredential {
        credential_id: id,
        ..story.signer.credentials[0].clone()
    };
    story.signer.credentials.insert(0, imported);
    let input = dir.join("契約書.pdf");
    std::fs::write(&input, natsuin::sample::contract().unwrap()).unwrap();
    let (signed, result) = story.sign(&input, "signed.pdf").await.unwrap();
    assert_eq!(
        result["verification_result"]["verdict"], "passed",
        "{result}"
    );
    // The key in the signature is the one that was brought.
    let said = run(Command::new("pdfsig").arg(&signed));
    assert!(
        text(&said).contains("Signature is Valid."),
        "{}",
        text(&said)
    );

    // A CA's key, sent by the CA; the same key for nobody a second time.
    let secret = ["other.p12", with[0], with[1]];
    let (_, told) = key(&dir, &["import", secret[0], secret[1], secret[2]]);
    let public = told["public"].as_str().unwrap().to_owned();
    let form = [form[0], form[1], ("key", &public), ("case", "2-i")];
    let act = story.approve_form("/signing/import", &form).await;
    let (code, told) = story.bring("other.p12", &act, &with);
    assert_eq!(code, 3);
    assert!(
        told["what"]
            .as_str()
            .unwrap()
            .contains("III-3-15-import-L2"),
        "{told}"
    );
    let ca = dir.join("data/ca/ra.key.pem");
    let as_ca = [&with[..], &["--as-ca", ca.to_str().unwrap()]].concat();
    let (code, told) = story.bring("other.p12", &act, &as_ca);
    assert_eq!(code, 0, "{told}");
    let again = story.approve_form("/signing/import", &form).await;
    let (code, told) = story.bring("other.p12", &again, &as_ca);
    assert_eq!(code, 3);
    let what = told["what"].as_str().unwrap();
    assert!(what.contains("I-4.2.2a-existing-key"), "{told}");
    story.stack.stop().await;
}

// shows: III-3-9-attributed-keys, III-A1.5-export-encrypted
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_made_to_leave_is_opened_by_its_receiver_with_openssl() {
    let mut story = Story::begin(KeyAlg::P256).await;
    let dir = story.dir.path().to_owned();
    let mut device = Device::new(&story.stack.sic_url, &SystemRandom).unwrap();
    let new = NewSigner {
        login: "taro",
        name: "山田 太郎",
        keys: &[KeyAlg::Rsa2048],
        collected: false,
        exportable: true,
        one_time: false,
    };
    let enrolled = story
        .stack
        .enrol(&new, NewFactors::Passkey(&mut device))
        .await;
    story.signer = enrolled.unwrap().shown;
    story.device = device;
    let (code, told) = key(&dir, &["receive", "--new", "receiver.key"]);
    assert_eq!(code, 0, "{told}");
    let (again, _) = key(&dir, &["receive", "--new", "receiver.key"]);
    assert_eq!(again, 6, "an existing key isn't written over");
    let receiver = told["receiver"].to_string();
    let id = story.signer.credentials[0].credential_id.clone();
    let page = story.portal("/signing").await;
    assert!(page.contains(&format!("/signing/hand-over/{id}")), "{page}");
    let token = between(&page, "name=\"token\" value=\"", "\"").unwrap();
    let form = [
        ("token", token.as_str()),
        ("of", &id),
        ("receiver", &receiver),
    ];
    let act = story.approve_form("/signing/hand-over", &form).await;
    // The module seals it at once, in the background.
    let url = format!("{}/signing/handed-over/{act}", story.stack.ssa_url);
    let url = Url::parse(&url).unwrap();
    let mut bundle = String::new();
    until("the key in its seal", async || {
        let request = story.agent.request(Method::GET, &url);
        let answer = story.agent.send(&url, request).await.unwrap();
        match answer.status().as_u16() {
            200 => bundle = answer.text().await.unwrap(),
            other => assert_eq!(other, 404),
        }
        !bundle.is_empty()
    })
    .await;
    std::fs::write(dir.join("bundle.json"), bundle).unwrap();
    key(&dir, &["receive", "--new", "stranger.key"]);
    let open = |with| {
        key(
            &dir,
            &[
                "receive",
                "bundle.json",
                "--with",
                with,
                "--out",
                "mine.pem",
            ],
        )
    };
    assert_eq!(open("stranger.key").0, 6);
    let (code, told) = open("receiver.key");
    assert_eq!(code, 0, "{told}");
    assert_eq!(told["alg"], "rsa-2048");
    openssl(&dir, &["pkey", "-in", "mine.pem", "-check", "-noout"]);
    let page = story.portal("/signing").await;
    assert!(
        !page.contains(&format!("/signing/hand-over/{id}")),
        "{page}"
    );
    story.stack.stop().await;
}

// shows: III-3-6-reauthorization-limits, III-A1.6-destroy-at-end
#[tokio::test(flavor = "multi_thread")]
async fn a_key_for_one_approval_signs_once_is_destroyed_and_shown_as_such() {
    let mut story = Story::begin(KeyAlg::P256).await;
    let mut device = Device::new(&story.stack.sic_url, &SystemRandom).unwrap();
    let new = NewSigner {
        login: "taro",
        name: "山田 太郎",
        keys: &[KeyAlg::P256],
        collected: false,
        exportable: false,
        one_time: true,
    };
    let enrolled = story
        .stack
        .enrol(&new, NewFactors::Passkey(&mut device))
        .await;
    story.signer = enrolled.unwrap().shown;
    story.device = device;
    let page = story.portal("/signing").await;
    assert!(page.contains("一度の承認のための鍵です"), "{page}");

    let file = story.dir.path().join("contract.pdf");
    std::fs::write(&file, natsuin::sample::contract().unwrap()).unwrap();
    let (signed, _) = story.sign(&file, "signed.pdf").await.unwrap();
    let anchors = story.anchors();
    let mut command = natsuin();
    command
        .arg("verify")
        .arg(&signed)
        .arg("--trust")
        .arg(&anchors);
    let said = run(&mut command);
    assert!(said.status.success(), "{}", text(&said));
    // Judged by what the provider's officers have signed: the same file, where such keys aren't trusted any more.
    let built_in = core_types::Approvals::built_in().unwrap();
    let mut table: Value = serde_json::from_str(built_in.text()).unwrap();
    table["version"] = (built_in.version() + 1).into();
    let judged = |table: &Value, by: &[&jose::SigningKey], pinned: &jose::SigningKey| {
        let lines = by
            .iter()
            .map(|key| cm_core::Policy::sign(&table.to_string(), key).unwrap());
        let (signed_table, officer) =
            (story.dir.path().join("table"), story.dir.path().join("jwk"));
        std::fs::write(&signed_table, lines.collect::<Vec<_>>().join("\n")).unwrap();
        std::fs::write(&officer, serde_json::to_vec(pinned.public()).unwrap()).unwrap();
        let mut command = natsuin();
        command.args(["--json", "verify"]).arg(&signed);
        command
            .arg("--trust")
            .arg(&anchors)
            .arg("--algorithms")
            .arg(&signed_table);
        let said = run(command.arg("--officer").arg(&officer));
        let object: Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
        (said.status.code().unwrap(), object)
    };
    let [officer, stranger] = [0; 2].map(|_| jose::SigningKey::generate().unwrap().0);
    let (code, told) = judged(&table, &[&officer], &officer);
    assert_eq!(
        (code, &told["algorithms"]["version"]),
        (0, &table["version"]),
        "{told}"
    );
    for row in table["approved"].as_array_mut().unwrap() {
        row["sign_until"] = "2020-12-31".into();
        row["verify_until"] = "2020-12-31".into();
    }
    let (code, told) = judged(&table, &[&officer], &officer);
    assert_ne!(code, 0, "{told}");
    let reason = &told["results"][0]["reasons"][0]["code"];
    assert_eq!(reason, "CRYPTO_CONSTRAINTS_FAILURE_NO_POE", "{told}");
    assert_eq!(judged(&table, &[&stranger], &officer).0, 6, "not theirs");
    assert!(story.sign(&file, "again.pdf").await.is_err());
    let page = story.portal("/signing").await;
    assert!(page.contains("その署名が終わったため"), "{page}");
    story.stack.stop().await;
}
