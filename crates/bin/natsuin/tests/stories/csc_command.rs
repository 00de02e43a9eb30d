//! `natsuin csc` against this service: single calls in both versions, and the check of a provider.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use core_types::KeyAlg;
use core_types::bytes::b64;
use natsuin::agent::Agent;
use natsuin::stack::{NewFactors, NewSigner, StoreChoice};
use serde_json::Value;

use crate::bad_input::Ahead;
use crate::command_line::in_browser;
use crate::kit::{Story, natsuin, run, text};

pub struct Caller {
    pub dir: PathBuf,
    pub trust: PathBuf,
    pub url: String,
}

impl Caller {
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.join(name);
        std::fs::write(&path, format!("{content}\n")).unwrap();
        path
    }

    /// Exit code and the one JSON object.
    pub fn call(&self, version: u8, command: &str, more: &[(&str, &Path)]) -> (i32, Value) {
        let mut natsuin = natsuin();
        natsuin
            .args(["csc", command, "--json", "--url"])
            .arg(format!("{}/csc/v{version}", self.url))
            .arg("--trust")
            .arg(&self.trust);
        for (name, value) in more {
            natsuin.arg(name).arg(value);
        }
        let output = run(&mut natsuin);
        let value = serde_json::from_slice(&output.stdout);
        let value = value.unwrap_or_else(|_| panic!("one JSON object: {}", text(&output)));
        (output.status.code().unwrap(), value)
    }
}

/// Names of what a check couldn't try, in order.
pub fn untested(report: &Value) -> Vec<&str> {
    let cases = report["cases"].as_array().unwrap().iter();
    let cases = cases.filter(|case| case["outcome"] == "not-tested");
    let mut names: Vec<_> = cases.map(|case| case["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_speaks_both_versions_and_our_own_service_passes_the_check() {
    // Codes of the enrolment are of the half minute before, so that those of the command line count.
    let clock = Arc::new(Ahead::default());
    clock.advance(-30);
    let key = KeyAlg::P256;
    let story = Story::at(key, StoreChoice::Embedded, false, clock.clone()).await;
    let of = |login| NewSigner {
        login,
        name: "髙橋 花子",
        keys: &[KeyAlg::P256],
        collected: false,
        exportable: false,
        one_time: false,
    };
    let mut signer = story.signer.clone();
    story
        .stack
        .enrol_collected(&of("hanako"), &mut signer)
        .await
        .unwrap();
    let pin = core_types::SecretBytes::from("another pin".to_owned());
    let taro = story
        .stack
        .enrol(
            &NewSigner {
                one_time: true,
                ..of("taro")
            },
            NewFactors::PinTotp(&pin),
        )
        .await;
    let taro = taro.unwrap().shown;
    let jiro = story
        .stack
        .enrol(&of("jiro"), NewFactors::PinTotp(&pin))
        .await;
    let jiro = jiro.unwrap().shown;
    clock.advance(30);

    let caller = Caller {
        dir: story.dir.path().to_owned(),
        trust: story.anchors(),
        url: story.stack.ssa_url.clone(),
    };
    let (code, info) = caller.call(1, "info", &[]);
    assert_eq!(
        (code, &info["answer"]["specs"]),
        (0, &Value::from("1.0.3.0"))
    );
    let mut tokens = Vec::new();
    for (version, who) in [(1, &signer), (2, &taro)] {
        let password = caller.file(&format!("{}.password", who.user), &who.password);
        let seed = caller.file(&format!("{}.seed", who.user), &who.login_totp_secret);
        let name = PathBuf::from(&who.user);
        let given = [
            ("--user", name.as_path()),
            ("--password-file", &password),
            ("--totp-secret-file", &seed),
        ];
        let (code, login) = caller.call(version, "login", &given);
        assert_eq!(code, 0, "{login}");
        let token = login["answer"]["access_token"].as_str().unwrap();
        tokens.push(caller.file(&format!("{}.token", who.user), token));
        // A wrong password is a result too, and says nothing of the rest.
        let wrong = caller.file("wrong", "wrong");
        let given = [("--user", name.as_path()), ("--password-file", &wrong)];
        let (code, refused) = caller.call(version, "login", &given);
        assert_eq!(
            (code, &refused["status"]),
            (3, &Value::from(400)),
            "{refused}"
        );
    }
    let (token, other) = (tokens[0].as_path(), tokens[1].as_path());
    let (code, list) = caller.call(2, "list", &[("--token-file", token)]);
    let ids = list["answer"]["credentialIDs"].as_array().unwrap();
    assert_eq!((code, ids.len()), (0, 3), "{list}");
    let once = |list: &Value| list["answer"]["credentialInfos"][0]["key"]["natsuinOneTime"].clone();
    let (_, theirs) = caller.call(2, "list", &[("--token-file", other)]);
    assert_eq!(
        (once(&list), once(&theirs)),
        (Value::Null, Value::from(true)),
        "{theirs}"
    );

    let collected: Vec<_> = signer
        .credentials
        .iter()
        .filter(|c| c.auth_mode == "explicit")
        .collect();
    let [rsa, ec] = collected.as_slice() else {
        panic!("two credentials of applications")
    };
    // By hand, in version 1.
    let pin = caller.file("rsa.pin", rsa.pin.as_ref().unwrap());
    let seed = caller.file("rsa.seed", rsa.totp_secret.as_ref().unwrap());
    let hash = PathBuf::from(b64([7; 32]));
    let id = PathBuf::from(&rsa.credential_id);
    let given = [
        ("--token-file", token),
        ("--key", &id),
        ("--hash", &hash),
        ("--pin-file", &pin),
        ("--totp-secret-file", &seed),
    ];
    let (code, granted) = caller.call(1, "authorize", &given);
    assert_eq!(code, 0, "{granted}");
    let sad = caller.file("sad", granted["answer"]["SAD"].as_str().unwrap());
    let algo = PathBuf::from("1.2.840.113549.1.1.11");
    let given = [
        ("--token-file", token),
        ("--sad-file", &sad),
        ("--key", &id),
        ("--hash", &hash),
        ("--sign-algo", &algo),
    ];
    let (code, signed) = caller.call(1, "sign-hash", &given);
    assert_eq!(
        (
            code,
            signed["answer"]["signatures"].as_array().map(Vec::len)
        ),
        (0, Some(1)),
        "{signed}"
    );
    let (code, again) = caller.call(1, "sign-hash", &given);
    assert_eq!((code, &again["status"]), (3, &Value::from(400)), "{again}");

    // With a code that the SAM sends, past the service that is called.
    let codes = story.stack.codes_file();
    let (code, sent) = caller.call(1, "send-otp", &[("--token-file", token), ("--key", &id)]);
    assert_eq!((code, &sent["status"]), (0, &Value::from(204)), "{sent}");
    let letters = std::fs::read_to_string(&codes).unwrap();
    let letter: Value = serde_json::from_str(letters.trim()).unwrap();
    assert_eq!(letter["to"]["mail"], "hanako@example.jp");
    let otp = caller.file("otp", letter["code"].as_str().unwrap());
    let with_code = [
        ("--token-file", token),
        ("--key", &id),
        ("--hash", &hash),
        ("--pin-file", &pin),
        ("--otp-file", &otp),
    ];
    let (code, granted) = caller.call(2, "authorize", &with_code);
    assert_eq!(code, 0, "{granted}");
    let (code, again) = caller.call(2, "authorize", &with_code);
    assert_eq!((code, &again["status"]), (3, &Value::from(400)), "{again}");

    // The check with everything it can use, and with less.
    let pin = caller.file("ec.pin", ec.pin.as_ref().unwrap());
    let seed = caller.file("ec.seed", ec.totp_secret.as_ref().unwrap());
    let (junit, id) = (
        story.dir.path().join("junit.xml"),
        PathBuf::from(&ec.credential_id),
    );
    let client = story.stack.client("test-client").unwrap();
    let secret = caller.file("client.secret", client.client_secret.as_deref().unwrap());
    let (client, back) = (
        PathBuf::from("test-client"),
        PathBuf::from("http://localhost/callback"),
    );
    // Somebody whose one-time codes nobody has used yet.
    let (name, password, login_seed) = (
        PathBuf::from("jiro"),
        caller.file("jiro.password", &jiro.password),
        caller.file("jiro.seed", &jiro.login_totp_secret),
    );
    let given = [
        ("--token-file", token),
        ("--other-token-file", other),
        ("--key", &id),
        ("--client", &client),
        ("--client-secret-file", &secret),
        ("--redirect-uri", &back),
        ("--pin-file", &pin),
        ("--totp-secret-file", &seed),
        ("--user", &name),
        ("--password-file", &password),
        ("--login-totp-secret-file", &login_seed),
        ("--junit", &junit),
    ];
    let (code, report) = caller.call(2, "check", &given);
    assert_eq!((code, &report["failed"]), (0, &Value::from(0)), "{report}");
    // A check sends no codes, asks nobody elsewhere, and makes and ends no keys.
    assert_eq!(
        untested(&report),
        [
            "a challenge is sent",
            "a credential is created",
            "a credential is deleted",
            "a document is signed",
            "a one-time code is sent",
            "a transaction is extended",
            "an authorization is decided elsewhere",
            "signatures of an asynchronous call are fetched",
        ],
        "{report}"
    );
    assert!(report["passed"].as_u64().unwrap() > 85, "{report}");
    let xml = std::fs::read_to_string(&junit).unwrap();
    for name in [
        "a SAD works once",
        "another user's SAD is refused",
        "PKCE with plain is refused",
    ] {
        assert!(xml.contains(name), "{name}: {xml}");
    }
    assert!(xml.contains("failures=\"0\""), "{xml}");
    let (code, report) = caller.call(1, "check", &given[..6]);
    assert_eq!((code, &report["failed"]), (0, &Value::from(0)), "{report}");
    let untested = untested(&report);
    for name in ["authorize and sign", "PKCE with plain is refused"] {
        assert!(untested.contains(&name), "{name}: {report}");
    }
    // In a browser: a token to read with, and one that the signer approved.
    clock.advance(60);
    let mut story = story;
    let mut agent = Agent::new(&story.stack);
    let with_browser = |command: &str, more: &[&str]| {
        let mut natsuin = natsuin();
        natsuin
            .args([
                "csc",
                command,
                "--json",
                "--no-browser",
                "--client",
                "natsuin-cli",
                "--url",
            ])
            .arg(format!("{}/csc/v2", caller.url))
            .arg("--trust")
            .arg(&caller.trust)
            .args(more);
        natsuin
    };
    let mut login = with_browser("login", &[]);
    let (code, told) = in_browser(&mut story, &mut agent, &mut login).await;
    assert_eq!(code, 0, "{told}");
    let by_browser = caller.file(
        "browser.token",
        told["answer"]["access_token"].as_str().unwrap(),
    );
    let (code, list) = caller.call(2, "list", &[("--token-file", &by_browser)]);
    assert_eq!(code, 0, "{list}");
    let (own, digest) = (
        story.signer.credentials[0].credential_id.clone(),
        b64([9; 32]),
    );
    let mut approve = with_browser("authorize", &["--key", &own, "--hash", &digest]);
    let (code, told) = in_browser(&mut story, &mut agent, &mut approve).await;
    assert_eq!(code, 0, "{told}");
    let signing = caller.file(
        "signing.token",
        told["answer"]["access_token"].as_str().unwrap(),
    );
    let (own, digest, algo) = (
        PathBuf::from(own),
        PathBuf::from(digest),
        PathBuf::from("1.2.840.10045.4.3.2"),
    );
    let given = [
        ("--token-file", signing.as_path()),
        ("--key", &own),
        ("--hash", &digest),
        ("--sign-algo", &algo),
    ];
    let (code, signed) = caller.call(2, "sign-hash", &given);
    assert_eq!(code, 0, "{signed}");

    // Against somebody who is no provider.
    let sca = Caller {
        url: story.stack.sca_url.clone(),
        ..caller
    };
    let (code, report) = sca.call(2, "check", &[]);
    assert_eq!(code, 1, "{report}");
    story.stack.stop().await;
}
