//! The command line as its user meets it: results, exit codes, and errors in pairs.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use core_types::KeyAlg;
use natsuin::agent::Agent;
use natsuin::sample;
use natsuin::stack::Factors;
use pkcs11_faults::softhsm::{Library, SoftHsm};
use serde_json::Value;

use crate::kit::{Story, natsuin, run, text};

fn json(command: &mut Command) -> (i32, Value) {
    let output = run(command);
    let value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("one JSON object: {}", text(&output)));
    (output.status.code().unwrap(), value)
}

#[test]
fn the_demonstration_signs_and_shows_table_a1() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let (code, shown) = json(natsuin().args(["demo", "--json", "--out"]).arg(&out));
    assert_eq!((code, &shown["ok"]), (0, &Value::Bool(true)), "{shown}");
    let result = &shown["results"][0];
    for item in [
        "result",
        "signer_id",
        "signed_object",
        "signed_document",
        "signing_time",
        "signer_name",
        "verification_result",
    ] {
        assert!(!result[item].is_null(), "{item} in {result}");
    }
    assert_eq!(result["time_source"], "timestamp");
    let signed = out.join("契約書-signed.pdf");
    assert!(signed.exists());

    // A person reads it in the language of the terminal, with the same words as the pages have.
    for (locale, words) in [
        (
            "ja_JP.UTF-8",
            [
                "署名し、検証しました",
                "署名者ID",
                "改ざんなし・証明書は有効",
            ],
        ),
        (
            "C",
            [
                "signed and verified",
                "Signer ID",
                "unchanged · certificate good",
            ],
        ),
    ] {
        let said = run(natsuin()
            .env("LC_ALL", locale)
            .args(["demo", "--out"])
            .arg(&out));
        let said = String::from_utf8(said.stdout).unwrap();
        for word in words {
            assert!(said.contains(word), "{locale}: {word} in {said}");
        }
    }

    // Without the stack nobody answers for revocation: nothing failed, and not everything can be said.
    let trust = out.join("trust-anchors.pem");
    let (code, verdict) = json(
        natsuin()
            .args(["verify", "--json", "--trust"])
            .arg(&trust)
            .arg(&signed),
    );
    assert_eq!(
        (code, verdict["results"][0]["verdict"].as_str()),
        (7, Some("undetermined")),
        "{verdict}"
    );

    // With the lists that the demonstration left everything can be said, as the line it ends with promises.
    let lists = out.join("revocation-lists.pem");
    let (code, verdict) = json(
        natsuin()
            .args(["verify", "--json", "--trust"])
            .arg(&trust)
            .arg("--crl")
            .arg(&lists)
            .arg(&signed),
    );
    assert_eq!(
        (code, verdict["results"][0]["verdict"].as_str()),
        (0, Some("passed")),
        "{verdict}"
    );
    let (code, verdict) = json(
        natsuin()
            .args(["verify", "--json", "--trust"])
            .arg(&trust)
            .arg("--crl")
            .arg(&trust)
            .arg(&signed),
    );
    assert_eq!(
        (code, verdict["code"].as_str()),
        (6, Some("crl-file")),
        "{verdict}"
    );

    let mut pdf = std::fs::read(&signed).unwrap();
    let at = pdf.windows(9).position(|w| w == b"/MediaBox").unwrap();
    pdf[at + 12] ^= 1;
    let forged = out.join("forged.pdf");
    std::fs::write(&forged, &pdf).unwrap();
    let (code, verdict) = json(
        natsuin()
            .args(["verify", "--json", "--trust"])
            .arg(&trust)
            .arg(&forged),
    );
    assert_eq!(
        (code, verdict["results"][0]["verdict"].as_str()),
        (1, Some("failed")),
        "{verdict}"
    );

    let other = dir.path().join("letter.txt");
    std::fs::write(&other, "no PDF").unwrap();
    let (code, shown) = json(
        natsuin()
            .args(["demo", "--json", "--out"])
            .arg(&out)
            .arg(&other),
    );
    assert_eq!(
        (code, &shown["results"][0]["result"]),
        (1, &Value::from("failed")),
        "{shown}"
    );
}

// shows: I-3.5.1-retention-L2
#[test]
fn a_key_in_a_softhsm2_token_signs_just_the_same() {
    a_key_in_a_token_signs(Library::SoftHsm2);
}

// shows: I-3.5.1-retention-L2
#[test]
fn a_key_in_a_kryoptic_token_signs_just_the_same() {
    a_key_in_a_token_signs(Library::Kryoptic);
}

fn a_key_in_a_token_signs(library: Library) {
    let (dir, token) = (tempfile::tempdir().unwrap(), SoftHsm::new().unwrap());
    let mut demo = natsuin();
    token.configure(&mut demo);
    demo.args(["demo", "--json", "--pkcs11"])
        .arg(library.path().unwrap())
        .arg("--out");
    let before = token.bytes().unwrap();
    let (code, shown) = json(demo.arg(dir.path().join("out")));
    assert_eq!((code, &shown["ok"]), (0, &Value::Bool(true)), "{shown}");
    let result = &shown["results"][0];
    assert_eq!(result["level"], 2, "{result}");
    let declared = result["level_declared"].as_array().unwrap();
    assert_eq!(declared.len(), 4, "making, keeping, two logs' witnesses");
    for declared in declared {
        assert_eq!(declared["reference"], "test, not evaluated", "{result}");
    }
    assert!(token.bytes().unwrap() > before, "the key lies in the token");
}

#[test]
fn the_module_is_measured_beside_its_keys() {
    let args = ["bench", "cm", "--json", "--seconds", "1", "--keys", "3"];
    let (code, shown) = json(natsuin().args(args));
    assert_eq!(code, 0, "{shown}");
    let lines = shown["scale"]["latency"].as_array().unwrap();
    let keys: Vec<_> = lines.iter().map(|line| line["keys"].as_u64()).collect();
    assert_eq!(keys, [Some(1), Some(3)], "{shown}");
    for line in lines {
        assert!(line["p50_ms"].as_f64().unwrap() > 0.0, "{shown}");
    }
    assert!(shown["scale"]["compare_seconds"].is_number(), "{shown}");
}

#[test]
fn kinds_of_key_are_measured_beside_the_library_and_experimental_ones_where_they_are_on() {
    let of = |more: &[&str]| {
        let args = [
            "bench",
            "cm",
            "--json",
            "--seconds",
            "1",
            "--kinds",
            "ml-dsa-65",
        ];
        let (code, shown) = json(natsuin().args(args).args(more));
        assert_eq!(code, 0, "{shown}");
        shown["rows"].as_array().unwrap().clone()
    };
    assert!(of(&[]).is_empty(), "the module makes none");
    let rows = of(&["--experimental"]);
    let [row] = rows.as_slice() else {
        panic!("one back end and one kind: {rows:?}")
    };
    assert_eq!(row["backend"], "software", "{row}");
    assert_eq!(row["key"], "ml-dsa-65", "{row}");
    for figure in [
        "alone_one",
        "alone_all",
        "daemon_one",
        "daemon_batch",
        "ratio_batch",
    ] {
        assert!(row[figure].as_f64().unwrap() > 0.0, "{figure}: {row}");
    }
}

#[test]
fn the_modules_decisions_are_measured_beside_bare_cryptography() {
    let args = ["bench", "sam", "--json", "--seconds", "1"];
    let (code, shown) = json(natsuin().args(args));
    assert_eq!(code, 0, "{shown}");
    let passkey = &shown["passkey"];
    for figure in ["verify_us", "ecdsa_us", "ratio"] {
        assert!(passkey[figure].as_f64().unwrap() > 0.0, "{figure}: {shown}");
    }
    let acts = shown["acts"].as_array().unwrap();
    let items: Vec<_> = acts.iter().map(|act| act["items"].as_u64()).collect();
    assert_eq!(items, [Some(1), Some(100), Some(10_000)], "{shown}");
    for act in acts {
        for figure in ["mint_us", "use_us", "sha256_us", "ecdsa_sign_verify_us"] {
            assert!(act[figure].as_f64().unwrap() > 0.0, "{figure}: {act}");
        }
    }
}

#[test]
fn the_api_is_measured_and_what_an_idle_connection_holds() {
    let args = [
        "bench",
        "csc",
        "--json",
        "--seconds",
        "1",
        "--connections",
        "2",
    ];
    let (code, shown) = json(natsuin().args(args));
    assert_eq!(code, 0, "{shown}");
    let calls = shown["calls"].as_array().unwrap();
    let what: Vec<_> = calls.iter().map(|call| call["what"].as_str()).collect();
    let wanted = ["info", "credentials/info", "authorize, token, signHash"];
    assert_eq!(what, wanted.map(Some), "{shown}");
    for call in calls {
        assert_eq!(call["connections"], 2, "{call}");
        assert!(call["requests"].as_u64().unwrap() >= 2, "{call}");
        let (p50, p99) = (call["p50_ms"].as_f64(), call["p99_ms"].as_f64());
        assert!(p50 > Some(0.0) && p99 >= p50, "{call}");
    }
    let (code, shown) = json(natsuin().args(["bench", "csc", "--json", "--idle", "50"]));
    assert_eq!(code, 0, "{shown}");
    // The service keeps them, and `info` is answered meanwhile.
    for (figure, value) in [
        ("connections", Value::from(50)),
        ("kept", Value::from(50)),
        ("tls", Value::from(false)),
    ] {
        assert_eq!(shown[figure], value, "{shown}");
    }
    assert!(shown["info_ms"].as_f64().unwrap() > 0.0, "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_measured_on_both_stores() {
    let postgres = store_kit::testing::postgres_database().await;
    let store_kit::StoreUrl::Postgres(url) = postgres else {
        panic!("a PostgreSQL database was asked for");
    };
    let mut command = natsuin();
    command.args(["bench", "audit", "--json", "--seconds", "1"]);
    command.args([
        "--entries",
        "3000",
        "--keys",
        "20",
        "--postgres",
        url.as_str(),
    ]);
    let (code, shown) = json(&mut command);
    assert_eq!(code, 0, "{shown}");
    for store in shown["stores"].as_array().unwrap() {
        assert_eq!(store["appends"].as_array().unwrap().len(), 2, "{shown}");
        assert!(store["entries"].as_u64().unwrap() > 3000, "{shown}");
        for search in store["searches"].as_array().unwrap() {
            assert_eq!(
                search["found"] == 0,
                search["by"] == "rare type",
                "{search}"
            );
        }
        assert_eq!(store["backup"]["keys"], 20, "{shown}");
    }
    assert_eq!(shown["stores"].as_array().map(Vec::len), Some(2));
}

/// Runs `natsuin sign --json` and does in the browser what it asks for.
async fn sign(story: &mut Story, agent: &mut Agent, options: &[&str]) -> (i32, Value) {
    let url = story.stack.ssa_url.clone();
    sign_at(&url, story, agent, options).await
}

/// The same at this address.
async fn sign_at(
    url: &str,
    story: &mut Story,
    agent: &mut Agent,
    options: &[&str],
) -> (i32, Value) {
    let mut command = natsuin();
    command
        .args(["sign", "--no-browser", "--json", "--url", url])
        .args(options);
    in_browser(story, agent, &mut command).await
}

/// A program that ends with its test.
struct Ended(Option<std::process::Child>);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a command and does in the browser what it asks for.
pub async fn in_browser(
    story: &mut Story,
    agent: &mut Agent,
    command: &mut Command,
) -> (i32, Value) {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A test that fails in between leaves no program behind that waits for its browser.
    let mut child = Ended(Some(child));
    let told = BufReader::new(child.0.as_mut().unwrap().stderr.take().unwrap()).lines();
    for line in told.map(Result::unwrap) {
        let Some((_, address)) = line.split_once("open: ") else {
            continue;
        };
        let factors = Factors::Passkey(&mut story.device);
        let back = agent
            .until(address, "http://127.0.0.1:", &story.signer, factors)
            .await
            .unwrap();
        let answer = story.stack.http.get(back).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    let output = child.0.take().unwrap().wait_with_output().unwrap();
    let value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("one JSON object: {}", text(&output)));
    (output.status.code().unwrap(), value)
}

// shows: I-5.2.3-flow,
// I-5.2.3-hash-in-app
#[tokio::test(flavor = "multi_thread")]
async fn files_are_signed_and_verified_against_a_running_service() {
    let mut story = Story::begin(KeyAlg::P256).await;
    let mut agent = Agent::new(&story.stack);
    let dir = story.dir.path().to_owned();
    let place = |name: &str| dir.join(name).display().to_string();
    let (first, second) = (place("契約書.pdf"), place("付属書.pdf"));
    for file in [&first, &second] {
        std::fs::write(file, sample::contract().unwrap()).unwrap();
    }
    let trust = story.anchors().display().to_string();
    let tsa = story.stack.ca.urls().tsa.clone();

    let options = ["--trust", &trust, "--tsa", &tsa, &first, &second];
    let (code, done) = sign(&mut story, &mut agent, &options).await;
    assert_eq!((code, &done["ok"]), (0, &Value::Bool(true)), "{done}");
    for result in done["results"].as_array().unwrap() {
        assert_eq!(result["verification_result"]["verdict"], "passed");
        assert_eq!(result["time_source"], "timestamp");
    }
    let signed = story.dir.path().join("契約書-signed.pdf");
    let mut verify = natsuin();
    verify
        .args(["verify", "--json", "--trust", &trust])
        .arg(&signed);
    let (code, verdict) = tokio::task::spawn_blocking(move || json(&mut verify))
        .await
        .unwrap();
    assert_eq!(
        (code, verdict["results"][0]["verdict"].as_str()),
        (0, Some("passed")),
        "{verdict}"
    );

    // Signed, but by somebody of whom this machine knows nothing: that isn't called good.
    let out = place("elsewhere");
    std::fs::create_dir(&out).unwrap();
    let options = ["--out", &out, &first];
    let (code, done) = sign(&mut story, &mut agent, &options).await;
    assert_eq!((code, &done["ok"]), (7, &Value::Bool(false)), "{done}");
    assert_eq!(done["results"][0]["result"], "signed");

    // An authority that gives no time costs the time-stamp, not the approval.
    let nobody = format!("{}/nobody", story.stack.ca_url);
    let out = place("without-time");
    std::fs::create_dir(&out).unwrap();
    let options = ["--trust", &trust, "--tsa", &nobody, "--out", &out, &first];
    let (code, done) = sign(&mut story, &mut agent, &options).await;
    assert_eq!(
        (code, &done["results"][0]["result"]),
        (0, &Value::from("signed")),
        "{done}"
    );
    assert_eq!(done["results"][0]["time_source"], "system");

    // The same service by version 1 alone.
    let out = place("version-1");
    std::fs::create_dir(&out).unwrap();
    let old = format!("{}/csc/v1", story.stack.ssa_url);
    let options = ["--trust", &trust, "--out", &out, &first];
    let (code, done) = sign_at(&old, &mut story, &mut agent, &options).await;
    assert_eq!((code, &done["ok"]), (0, &Value::Bool(true)), "{done}");
    story.stack.stop().await;
}

#[test]
fn a_stack_that_cannot_start_says_why_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |command: &mut Command, code: &str| {
        let (exit, error) = json(command.arg("--json"));
        assert_eq!((exit, error["code"].as_str()), (4, Some(code)), "{error}");
        assert!(!error["do"].as_str().unwrap_or_default().is_empty());
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let data = dir.path().join("a");
    refused(
        natsuin()
            .args(["dev", "--port", &port, "--data"])
            .arg(&data),
        "port-in-use",
    );

    let file = dir.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    refused(
        natsuin().args(["dev", "--data"]).arg(file.join("below")),
        "data-dir",
    );

    let damaged = dir.path().join("damaged");
    std::fs::create_dir_all(damaged.join("cm")).unwrap();
    std::fs::write(
        damaged.join("cm/cm.db"),
        "this is no database, whatever its name says",
    )
    .unwrap();
    refused(natsuin().args(["dev", "--data"]).arg(&damaged), "store");
}

// shows: T-INS-OPERATOR
#[test]
fn a_password_of_a_store_is_on_no_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let url = "postgres://sam:hunter2@localhost/natsuin";
    for words in [
        &["backup", "target", "--zone"][..],
        &["audit", "export", "--out", "/nowhere", "--store"],
        &["audit", "search", "--store"],
        &["dev", "--store"],
    ] {
        let word = match words.contains(&"--zone") {
            true => format!("sam={url}"),
            false => url.to_owned(),
        };
        let (code, told) = json(natsuin().arg("--json").args(words).arg(word));
        assert_eq!(
            (code, told["code"].as_str()),
            (6, Some("store-password")),
            "{told}"
        );
        assert!(!told.to_string().contains("hunter2"), "{told}");
    }
    // As the zone's own configuration has it.
    let config = dir.path().join("sam.toml");
    let store = dir.path().join("sam.db");
    let text = format!("node = 'a'\nstore = 'sqlite:{}'\n", store.display());
    std::fs::write(&config, text).unwrap();
    let zone = format!("sam=@{}", config.display());
    let (code, told) = json(natsuin().args(["--json", "backup", "target", "--zone", &zone]));
    assert_eq!(code, 0, "{told}");
    assert!(store.exists());
}
