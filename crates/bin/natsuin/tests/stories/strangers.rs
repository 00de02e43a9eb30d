//! Programs that know the API by its documents and standards only: schemathesis and an OAuth client library.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use core_types::bytes::b64;
use core_types::{HashAlg, KeyAlg};
use csc_types::Purpose;
use natsuin::agent::Agent;
use natsuin::stack::Factors;
use serde_json::{Value, json};

use crate::clients::officer;
use crate::kit::{Story, python, run, text};
use crate::spend::{Spender, credential, hashes};

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_meets_no_answer_that_the_documents_do_not_have() {
    let mut story = Story::begin(KeyAlg::P256).await;
    let spender = Spender::new(&story.stack, "test-client").await;
    let mut agent = Agent::new(&story.stack);
    let token = spender
        .token(&mut story, &mut agent, Purpose::Service)
        .await;
    for version in [1, 2] {
        let mut schemathesis = schemathesis(&story, version);
        schemathesis.args([
            "--header",
            &format!("Authorization: Bearer {}", token.expose()),
        ]);
        finds_nothing(schemathesis.args(["--max-examples", "30"]));
    }
    story.stack.stop().await;
}

/// What every answer has to be, whatever was asked. Not `ignored_auth`: without a token CSC has status 400.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,unsupported_method";

/// schemathesis with the document of a version.
pub fn schemathesis(story: &Story, version: u8) -> Command {
    let documents = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/api");
    let mut schemathesis = Command::new(python().with_file_name("schemathesis"));
    schemathesis
        .current_dir(story.dir.path())
        .arg("run")
        .arg(documents.join(format!("openapi-v{version}.json")))
        .args(["--url", &format!("{}/csc/v{version}", story.stack.ssa_url)])
        .args(["--checks", CHECKS])
        .args(["--phases", "coverage,fuzzing", "--generation-deterministic"])
        // A busy machine is no fault of the service's.
        .args(["--request-timeout", "60"])
        .args(["--suppress-health-check", "too_slow"])
        .arg("--no-color");
    schemathesis
}

/// Runs it to its end.
pub fn finds_nothing(schemathesis: &mut Command) {
    let done = tokio::task::block_in_place(|| run(schemathesis));
    let said = text(&done);
    assert!(done.status.success(), "{said}");
    assert!(
        said.contains(" passed") && !said.contains("Rate limited"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_library_with_strict_checks_goes_all_the_way() {
    let mut story = Story::begin(KeyAlg::P256).await;
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/browser");
    let mut node = Command::new("node")
        .current_dir(&scripts)
        .arg("oauth.mjs")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut say = node.stdin.take().unwrap();
    let mut said = BufReader::new(node.stdout.take().unwrap()).lines();
    let mut hear = || -> Value {
        let line = said
            .next()
            .expect("the script ended early; its reason is above");
        serde_json::from_str(&line.unwrap()).unwrap()
    };
    let mut tell = |what: Value| writeln!(say, "{what}").unwrap();

    // Registered as any client is: an administrator says what is agreed, a security officer takes in the key.
    let redirect = "http://127.0.0.1:8080/callback";
    let key = story.dir.path().join("key.jwk");
    std::fs::write(&key, hear()["key"].to_string()).unwrap();
    let settings = story.dir.path().join("settings.json");
    std::fs::write(&settings, json!({ "bound_tokens": true }).to_string()).unwrap();
    let (key, settings) = (key.display().to_string(), settings.display().to_string());
    tokio::task::block_in_place(|| {
        let add = [
            "add",
            "strict-app",
            "--name",
            "Strict",
            "--redirect-uri",
            redirect,
            "--settings",
            &settings,
        ];
        assert_eq!(officer(&story.stack, "tanaka", &add).0, 0);
        let rotate = ["rotate", "strict-app", "--key", &key];
        assert_eq!(officer(&story.stack, "sato", &rotate).0, 0);
    });

    let hash = hashes(1).remove(0);
    tell(json!({
        "issuer": story.stack.ssa_url,
        "csc": format!("{}/csc/v2", story.stack.ssa_url),
        "client_id": "strict-app",
        "redirect_uri": redirect,
        "credential": credential(&story),
        "hash": b64(&hash),
        "hash_algorithm": HashAlg::Sha256.oid(),
        "sign_algorithm": "1.2.840.10045.4.3.2",
    }));
    let mut agent = Agent::new(&story.stack);
    for _ in ["service", "credential"] {
        let open = hear();
        let factors = Factors::Passkey(&mut story.device);
        let url = open["open"].as_str().unwrap();
        let back = agent.until(url, redirect, &story.signer, factors).await;
        tell(json!({ "callback": back.unwrap().as_str() }));
    }
    assert!(hear()["signature"].is_string());
    assert!(node.wait().unwrap().success());
    story.stack.stop().await;
}
